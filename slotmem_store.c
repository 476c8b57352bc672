/* Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

/*
 * slotmem_store.c: write the persisted file of a segment; slotmem_restore.c
 * reads it. What a crash leaves and who may call what stands in
 * slotmem_store.h, the layout of the file in slotmem_format.h.
 *
 * A store passes over the segment and writes what it copies to path.tmp. If the
 * file that stands at the path is known, a pass before that compares the two,
 * up to the first difference; without one there is nothing to write.
 *
 * Digests are computed over private copies, never over live memory.
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_portable.h"
#include "apr_strings.h"

#include "slotmem_store.h"
#include "slotmem_stream.h"

#define CHUNK SLOTMEM_CHUNK
/* Files that are open at the same time. */
#define BATCH 64

/* Files that are being stored together. */
typedef struct run_t {
    slotmem_store_t *stores;
    int num;
    const slotmem_store_watch_t *watch;     /* or NULL */
    slotmem_stream_t stream;                /* of the store at work */
    apr_pool_t *pool;               /* for results */
    apr_pool_t *scratch;            /* cleared after each batch */
} run_t;

static void tell(const run_t *run, const slotmem_store_t *store)
{
    if (run->watch) {
        run->watch->tell(run->watch->data, (int)(store - run->stores));
    }
}

/* One byte a slot: 1 where used has a bit and except (if not NULL) has none;
 * used NULL: all 0. */
static void put_flags(slotmem_stream_t *stream, apr_uint32_t num,
                       const slotmem_word_t *in_use,
                       const slotmem_word_t *except)
{
    unsigned char bytes[SLOTMEM_MAP_WORD_BITS];
    apr_uint32_t word;

    for (word = 0; word < slotmem_map_words(num); word++) {
        apr_uint32_t left = num - word * SLOTMEM_MAP_WORD_BITS;
        apr_uint32_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        slotmem_word_t bits = in_use ? in_use[word] : 0;
        apr_uint32_t i;

        if (except) {
            bits &= ~except[word];
        }
        for (i = 0; i < n; i++) {
            bytes[i] = (unsigned char)(bits >> i & 1);
        }
        slotmem_stream_put(stream, bytes, n);
    }
}

/* What comes before the slots. The map is taken first, so that what is in use
 * in the file was claimed before its slot was copied. */
static void put_head(slotmem_stream_t *stream, slotmem_store_t *store)
{
    apr_uint32_t num = store->segment->geometry.item_num;
    apr_uint32_t words = slotmem_map_words(num);
    apr_uint32_t head[2] = { num, 0 };
    apr_uint32_t word;

    slotmem_map_copy(&store->segment->map, store->in_use);
    for (word = 0; word < words && !store->config_claims; word++) {
        head[0] -= (apr_uint32_t)__builtin_popcountll(store->in_use[word]);
    }
    slotmem_stream_put(stream, head, sizeof(head));
}

static void put_chunk(slotmem_stream_t *stream, apr_uint32_t tag,
                      const void *bytes, apr_size_t len)
{
    slotmem_chunk_t chunk = { tag, 0, len };

    slotmem_stream_put(stream, &chunk, sizeof(chunk));
    if (bytes) {
        slotmem_stream_put(stream, bytes, len);
    }
}

/* Our section: the run-time claims, what else the caller has, and the end. */
static void put_section(slotmem_stream_t *stream, const slotmem_store_t *store)
{
    const slotmem_geometry_t *geometry = &store->segment->geometry;
    slotmem_section_t head = { SLOTMEM_FILE_MAGIC, SLOTMEM_FILE_VERSION };
    slotmem_end_t end = { .magic = SLOTMEM_FILE_MAGIC,
                          .version = SLOTMEM_FILE_VERSION,
                          .item_size = geometry->item_size,
                          .item_num = geometry->item_num,
                          .type = geometry->type };

    slotmem_stream_put(stream, &head, sizeof(head));
    put_chunk(stream, SLOTMEM_FILE_CLAIMS, NULL, geometry->item_num);
    put_flags(stream, geometry->item_num, store->in_use, store->config_claims);
    if (store->words_len) {
        put_chunk(stream, SLOTMEM_FILE_WORDS, store->words, store->words_len);
    }
    if (store->labels_len) {
        put_chunk(stream, SLOTMEM_FILE_LABELS, store->labels,
                  store->labels_len);
    }
    end.length = (apr_uint64_t)stream->len + sizeof(end);
    slotmem_stream_put(stream, &end, offsetof(slotmem_end_t, digest));
    slotmem_stream_put_digest(stream);
}

/* What comes after the slots: in-use flags, MD5, descriptor; and our section if
 * it is CLEARINUSE. */
static void put_tail(slotmem_stream_t *stream, const slotmem_store_t *store)
{
    slotmem_descriptor_t descriptor =
        slotmem_descriptor_of(&store->segment->geometry);

    put_flags(stream, store->segment->geometry.item_num,
              store->config_claims ? NULL : store->in_use, NULL);
    slotmem_stream_put_digest(stream);
    slotmem_stream_put(stream, &descriptor, sizeof(descriptor));
    if (store->config_claims) {
        put_section(stream, store);
    }
}

/* One pass over a segment, or up to the first difference. */
static void put_segment(slotmem_stream_t *stream, slotmem_store_t *store)
{
    if (!store->segment) {
        slotmem_stream_put(stream, store->image, store->image_len);
        return;
    }
    put_head(stream, store);
    slotmem_stream_put(stream, store->segment->slots,
                       store->segment->layout.slots_len);
    put_tail(stream, store);
}

/* A step of a store failed: what stood at the path before stays there. */
static void fail(run_t *run, slotmem_store_t *store,
                 const char *step, apr_status_t status)
{
    store->step = step;
    store->status = status;
    if (store->file) {
        apr_file_close(store->file);
        store->file = NULL;
    }
    apr_file_remove(store->tmp, run->scratch);
    tell(run, store);
}

/* Does what is known of the file at the path still hold? */
static int is_same_file(const slotmem_store_t *store, apr_pool_t *scratch)
{
    const slotmem_file_state_t *state = &store->file_state;
    apr_finfo_t info;

    return state->verified && !store->set_aside
           && apr_stat(&info, store->path,
                       APR_FINFO_LINK | APR_FINFO_TYPE | APR_FINFO_IDENT
                       | APR_FINFO_SIZE | APR_FINFO_MTIME | APR_FINFO_CTIME,
                       scratch) == APR_SUCCESS
           && info.filetype == APR_REG && info.inode == state->inode
           && info.device == state->device && info.size == state->size
           && info.mtime == state->mtime && info.ctime == state->ctime;
}

/* Is there a known file to compare with? One that cannot be opened is not. */
static int open_verified_file(run_t *run, slotmem_store_t *store)
{
    if (!is_same_file(store, run->scratch)
        || apr_file_open(&store->file, store->path,
                         APR_FOPEN_READ | APR_FOPEN_BINARY
                         | APR_FOPEN_NONBLOCK, APR_OS_DEFAULT, run->scratch)
           != APR_SUCCESS) {
        store->file = NULL;
        return 0;
    }
    slotmem_stream_init(&run->stream, store->file, 1);
    return 1;
}

static apr_status_t open_new(run_t *run, slotmem_store_t *store)
{
    return apr_file_open(&store->file, store->tmp,
                         APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL
                         | APR_FOPEN_BINARY,
                         APR_FPROT_UREAD | APR_FPROT_UWRITE, run->scratch);
}

static int create_new_file(run_t *run, slotmem_store_t *store)
{
    apr_status_t rv = open_new(run, store);

    if (APR_STATUS_IS_EEXIST(rv)) {         /* what a killed store left */
        apr_file_remove(store->tmp, run->scratch);
        rv = open_new(run, store);
    }
    if (rv != APR_SUCCESS) {
        store->file = NULL;
        fail(run, store, "create a new file", rv);
        return 0;
    }
    store->file_state.verified = 0;        /* until the new file is in place */
    slotmem_stream_init(&run->stream, store->file, 0);
    return 1;
}

/* The comparing pass is over: does the file have all bytes, and no more, and is
 * it still the one at the path? */
static int is_unchanged(run_t *run, slotmem_store_t *store)
{
    const slotmem_stream_t *stream = &run->stream;

    apr_file_close(store->file);
    store->file = NULL;
    store->unchanged = !stream->differs && stream->len == store->file_state.size
                       && is_same_file(store, run->scratch);
    if (store->unchanged && !store->file_state.synced) {
        apr_file_remove(store->tmp, run->scratch);  /* a killed store's */
    }
    return store->unchanged;
}

static int begin_store(run_t *run, slotmem_store_t *store)
{
    store->tmp = apr_pstrcat(run->scratch, store->path, ".tmp", NULL);
    if (!store->segment) {
        return 1;
    }
    store->in_use = slotmem_calloc(run->scratch, sizeof(*store->in_use)
                                 * slotmem_map_words(
                                     store->segment->geometry.item_num));
    if (!store->in_use) {
        fail(run, store, "find memory", APR_ENOMEM);
        return 0;
    }
    return 1;
}

/* The file is on its way to the disk from now on, while the next ones of the
 * batch are written; the flush then has less to wait for. */
static void start_writeback(apr_file_t *file)
{
#ifdef SYNC_FILE_RANGE_WRITE
    apr_os_file_t fd;

    apr_os_file_get(&fd, file);
    sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)file;
#endif
}

/* Writes the new file, unless it would be as the old one. */
static void write_new_file(run_t *run, slotmem_store_t *store)
{
    if (!begin_store(run, store)) {
        return;
    }
    if (open_verified_file(run, store)) {
        put_segment(&run->stream, store);
        if (is_unchanged(run, store)) {
            tell(run, store);
            return;
        }
    }
    if (!create_new_file(run, store)) {
        return;
    }
    put_segment(&run->stream, store);
    slotmem_stream_flush(&run->stream);
    if (run->stream.status != APR_SUCCESS) {
        fail(run, store, "write", run->stream.status);
        return;
    }
    start_writeback(store->file);
}

/* Notes which file it is, as it was written: see record_file_state(). */
static void sync_and_close(run_t *run, slotmem_store_t *store)
{
    apr_finfo_t info;
    apr_status_t rv = apr_file_sync(store->file);

    if (rv != APR_SUCCESS) {
        fail(run, store, "flush", rv);
        return;
    }
    store->file_state.inode = 0;        /* no file's */
    if (apr_file_info_get(&info, APR_FINFO_IDENT | APR_FINFO_SIZE
                                 | APR_FINFO_MTIME, store->file)
        == APR_SUCCESS) {
        store->file_state.inode = info.inode;
        store->file_state.device = info.device;
        store->file_state.size = info.size;
        store->file_state.mtime = info.mtime;
    }
    rv = apr_file_close(store->file);
    store->file = NULL;
    if (rv != APR_SUCCESS) {
        fail(run, store, "close", rv);
    }
}

/* Keep the refused file under the first free name, else in place of the one
 * that has been kept longest (which its change time tells). */
static apr_status_t set_aside(slotmem_store_t *store, apr_pool_t *pool)
{
    apr_time_t oldest = 0;
    apr_status_t rv;
    int n;

    store->aside = NULL;
    for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
        const char *name = apr_psprintf(pool, "%s.bad-%d", store->path, n);
        apr_finfo_t info;

        rv = apr_stat(&info, name, APR_FINFO_LINK | APR_FINFO_CTIME, pool);
        if (APR_STATUS_IS_ENOENT(rv)) {
            store->aside = name;
            store->aside_replaced = 0;
            break;
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        if (!store->aside || info.ctime < oldest) {
            store->aside = name;
            store->aside_replaced = 1;
            oldest = info.ctime;
        }
    }
    rv = apr_file_rename(store->path, store->aside, pool);
    if (APR_STATUS_IS_ENOENT(rv)) {     /* gone meanwhile: nothing to keep */
        store->aside = NULL;
        rv = APR_SUCCESS;
    }
    return rv;
}

/* By what the new file can be told from now on: what it was when it was closed,
 * and the change time that the rename gave it. */
static void record_file_state(slotmem_file_state_t *state, const char *path,
                      apr_pool_t *scratch)
{
    apr_finfo_t info;

    state->verified = apr_stat(&info, path, APR_FINFO_LINK | APR_FINFO_CTIME,
                             scratch) == APR_SUCCESS;
    state->ctime = state->verified ? info.ctime : 0;
    state->synced = 0;
}

/* Give a file mode 0600, if it is a regular one: not through a symbolic link,
 * as APR would. */
static apr_status_t make_private(const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat info;
    apr_status_t rv = APR_SUCCESS;

    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        rv = APR_EINVAL;
    }
    else if (fchmod(fd, S_IRUSR | S_IWUSR) != 0) {
        rv = errno;
    }
    close(fd);
    return rv;
}

/* Keep the file that stands at the path, under a second name: it is never
 * missing at its own. */
static apr_status_t make_backup(slotmem_store_t *store, apr_pool_t *scratch)
{
    const char *backup = apr_pstrcat(scratch, store->path,
                                     SLOTMEM_BACKUP_SUFFIX, NULL);
    apr_status_t rv = apr_file_remove(backup, scratch);

    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
        return rv;
    }
    rv = apr_file_link(store->path, backup);
    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_SUCCESS;         /* gone meanwhile: nothing to keep */
    }
    return rv == APR_SUCCESS ? make_private(backup) : rv;
}

static void install_file(run_t *run, slotmem_store_t *store)
{
    apr_status_t rv;

    tell(run, store);
    if (store->backup) {
        rv = make_backup(store, run->scratch);
        if (rv != APR_SUCCESS) {
            fail(run, store, "keep the old file", rv);
            return;
        }
    }
    if (store->set_aside) {
        rv = set_aside(store, run->pool);
        if (rv != APR_SUCCESS) {
            store->aside = NULL;
            fail(run, store, "set the refused file aside", rv);
            return;
        }
        tell(run, store);
    }
    rv = apr_file_rename(store->tmp, store->path, run->scratch);
    if (rv != APR_SUCCESS) {
        if (store->aside) {
            apr_file_rename(store->aside, store->path, run->scratch);
            store->aside = NULL;
        }
        fail(run, store, "rename the new file", rv);
        return;
    }
    store->set_aside = 0;
    store->backup = 0;
    record_file_state(&store->file_state, store->path, run->scratch);
    store->installed = 1;
    tell(run, store);
}

static apr_status_t sync_directory(const char *directory, apr_pool_t *scratch)
{
    apr_file_t *file;
    apr_status_t rv = apr_file_open(&file, directory, APR_FOPEN_READ,
                                    APR_OS_DEFAULT, scratch);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_sync(file);
    apr_file_close(file);
    return APR_STATUS_IS_EINVAL(rv) ? APR_SUCCESS : rv; /* has no such thing */
}

/* Make the renames last: each directory is flushed once. */
static void sync_directories(run_t *run)
{
    apr_hash_t *synced = apr_hash_make(run->scratch);
    slotmem_store_t *store;

    for (store = run->stores; store < run->stores + run->num; store++) {
        const char *slash = strrchr(store->path, '/');
        apr_size_t len = slash ? (apr_size_t)(slash - store->path) + 1 : 0;
        const char *directory = len ? apr_pstrmemdup(run->scratch, store->path,
                                                     len) : ".";
        apr_status_t *rv = apr_hash_get(synced, directory,
                                        APR_HASH_KEY_STRING);

        if (store->step || store->file_state.synced) {
            continue;
        }
        if (!rv) {
            rv = apr_palloc(run->scratch, sizeof(*rv));
            *rv = sync_directory(directory, run->scratch);
            apr_hash_set(synced, directory, APR_HASH_KEY_STRING, rv);
        }
        if (*rv != APR_SUCCESS) {
            store->step = "flush the directory";
            store->status = *rv;
        }
        else {
            store->file_state.synced = 1;
        }
        tell(run, store);
    }
}

/* What is done to each store of a batch before the next is done to any. */
static void (*const steps[])(run_t *, slotmem_store_t *) = {
    write_new_file, sync_and_close, install_file
};
#define STEPS (sizeof(steps) / sizeof(*steps))

static void reset(slotmem_store_t *store)
{
    store->status = APR_SUCCESS;
    store->step = NULL;
    store->unchanged = 0;
    store->installed = 0;
    store->aside = NULL;
    store->aside_replaced = 0;
    store->tmp = NULL;
    store->file = NULL;
    store->in_use = NULL;
}

static int lacks_descriptors(const slotmem_store_t *store)
{
    return store->step && (APR_STATUS_IS_EMFILE(store->status)
                           || APR_STATUS_IS_ENFILE(store->status));
}

/* Stores from first on, BATCH of them at most. When there is no descriptor for
 * one of them while others of the batch have theirs open, the batch ends before
 * it, and it begins the next one. Returns the first of the next batch. */
static int run_batch(run_t *run, int first)
{
    int end = run->num - first < BATCH ? run->num : first + BATCH;
    size_t step;
    int i;

    for (step = 0; step < STEPS; step++) {
        for (i = first; i < end; i++) {
            slotmem_store_t *store = &run->stores[i];

            if (!store->step && !store->unchanged) {
                steps[step](run, store);
            }
            if (step == 0 && i > first && lacks_descriptors(store)) {
                reset(store);
                end = i;
            }
        }
    }
    apr_pool_clear(run->scratch);
    return end;
}

void slotmem_store(slotmem_store_t *stores, int num,
                   const slotmem_store_watch_t *watch, apr_pool_t *pool)
{
    run_t run = { .stores = stores, .num = num, .watch = watch, .pool = pool };
    int i;

    for (i = 0; i < num; i++) {
        reset(&stores[i]);
    }
    run.stream.buffer = apr_palloc(pool, CHUNK);
    apr_pool_create(&run.scratch, pool);
    for (i = 0; i < num; ) {
        i = run_batch(&run, i);
    }
    sync_directories(&run);
    apr_pool_destroy(run.scratch);
}

apr_status_t slotmem_store_to_memory(slotmem_store_t *store,
                                     unsigned char **bytes, apr_size_t *len)
{
    slotmem_stream_t stream;

    store->in_use = calloc(slotmem_map_words(
                               store->segment->geometry.item_num) + 1,
                           sizeof(*store->in_use));
    if (!store->in_use) {
        return APR_ENOMEM;
    }
    slotmem_stream_init(&stream, NULL, 0);
    put_segment(&stream, store);
    free(store->in_use);
    store->in_use = NULL;
    if (stream.status != APR_SUCCESS) {
        free(stream.buffer);
        return stream.status;
    }
    *bytes = stream.buffer;
    *len = stream.fill;
    return APR_SUCCESS;
}

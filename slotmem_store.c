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
 * slotmem_restore.h, the layout of the file in mod_slotmem_shm.h.
 *
 * A store passes over the segment and writes what it copies to path.tmp. If the
 * file that stands at the path is known, a pass before that compares the two,
 * up to the first difference; without one there is nothing to write. A pass may
 * stop after any chunk and go on later: the slots of the file are then as old
 * as their chunk, which is no new thing, since others write them all the time.
 *
 * Digests are computed over private copies, never over live memory.
 */

#include <fcntl.h>
#include <string.h>

#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_portable.h"
#include "apr_strings.h"

#include "slotmem_restore.h"

#define CHUNK SLOTMEM_CHUNK
/* Files that are open at the same time. */
#define BATCH 64

/* Process-local: the bytes of a file, on their way out, or those that it has
 * beside those that it would get. */
typedef struct writer_t {
    apr_file_t *file;
    int compares;                   /* 1: nothing is written */
    int differs;                    /* ... and a difference was found */
    apr_off_t len;                  /* of all bytes so far */
    apr_md5_ctx_t md5;              /* of all bytes so far, if written */
    unsigned char *buffer;          /* CHUNK bytes */
    apr_size_t fill;                /* of them in use */
    apr_size_t compared;            /* of these compared */
    apr_status_t status;            /* the first failure, which stays */
} writer_t;

struct slotmem_store_run_t {
    slotmem_store_t *stores;
    int num;
    int first;                      /* of the batch at work */
    int end;                        /* the first store after it */
    int next;                       /* the store at work in it */
    int step;                       /* what is done to it: index in steps[] */
    apr_time_t deadline;
    writer_t writer;                /* of the store at work */
    apr_pool_t *pool;               /* for results */
    apr_pool_t *scratch;            /* cleared after each batch */
};

static int is_late(const slotmem_store_run_t *run)
{
    return run->deadline && apr_time_now() >= run->deadline;
}

static void start_writer(writer_t *writer, apr_file_t *file, int compares)
{
    writer->file = file;
    writer->compares = compares;
    writer->differs = 0;
    writer->len = 0;
    writer->fill = 0;
    writer->compared = 0;
    writer->status = APR_SUCCESS;
    apr_md5_init(&writer->md5);
}

static void drain(writer_t *writer)
{
    if (writer->status == APR_SUCCESS && writer->fill) {
        writer->status = apr_file_write_full(writer->file, writer->buffer,
                                             writer->fill, NULL);
    }
    writer->fill = 0;
}

/* Copy bytes, which others may be writing, to private memory; the digest is
 * over the copy. */
static void emit(writer_t *writer, const void *data, apr_size_t len)
{
    const unsigned char *from = data;

    writer->len += (apr_off_t)len;
    while (len) {
        apr_size_t room = CHUNK - writer->fill;
        apr_size_t n = len < room ? len : room;

        if (!room) {
            drain(writer);
            continue;
        }
        memcpy(writer->buffer + writer->fill, from, n);
        apr_md5_update(&writer->md5, writer->buffer + writer->fill, n);
        writer->fill += n;
        from += n;
        len -= n;
    }
}

/* Compare bytes with the next ones of the file; data NULL: pass these by. What
 * cannot be read differs. */
static void compare(writer_t *writer, const void *data, apr_size_t len)
{
    const unsigned char *from = data;

    writer->len += (apr_off_t)len;
    while (len && !writer->differs) {
        apr_size_t left = writer->fill - writer->compared;
        apr_size_t n = len < left ? len : left;

        if (!left) {
            writer->fill = CHUNK;
            writer->compared = 0;
            writer->differs = apr_file_read(writer->file, writer->buffer,
                                            &writer->fill) != APR_SUCCESS;
            continue;
        }
        if (from) {
            writer->differs = memcmp(writer->buffer + writer->compared, from,
                                     n) != 0;
            from += n;
        }
        writer->compared += n;
        len -= n;
    }
}

static void pass_on(writer_t *writer, const void *data, apr_size_t len)
{
    if (writer->compares) {
        compare(writer, data, len);
    }
    else {
        emit(writer, data, len);
    }
}

/* The MD5 of all bytes so far. In a file that is known it fits the bytes before
 * it, so that there is nothing to compare. */
static void pass_on_digest(writer_t *writer)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];
    apr_md5_ctx_t copy = writer->md5;

    if (writer->compares) {
        compare(writer, NULL, sizeof(digest));
        return;
    }
    apr_md5_final(digest, &copy);
    emit(writer, digest, sizeof(digest));
}

/* One byte a slot: 1 where used has a bit and except (if not NULL) has none;
 * used NULL: all 0. */
static void pass_on_marks(writer_t *writer, apr_uint32_t num,
                       const slotmem_word_t *used,
                       const slotmem_word_t *except)
{
    unsigned char bytes[SLOTMEM_MAP_WORD_BITS];
    apr_uint32_t word;

    for (word = 0; word < slotmem_map_words(num); word++) {
        apr_uint32_t left = num - word * SLOTMEM_MAP_WORD_BITS;
        apr_uint32_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        slotmem_word_t bits = used ? used[word] : 0;
        apr_uint32_t i;

        if (except) {
            bits &= ~except[word];
        }
        for (i = 0; i < n; i++) {
            bytes[i] = (unsigned char)(bits >> i & 1);
        }
        pass_on(writer, bytes, n);
    }
}

/* What comes before the slots. The map is taken first, so that what is in use
 * in the file was claimed before its slot was copied. */
static void pass_on_head(writer_t *writer, slotmem_store_t *store)
{
    apr_uint32_t num = store->segment->geometry.item_num;
    apr_uint32_t words = slotmem_map_words(num);
    apr_uint32_t head[2] = { num, 0 };
    apr_uint32_t word;

    slotmem_map_copy(&store->segment->map, store->used);
    for (word = 0; word < words && !store->configured; word++) {
        head[0] -= (apr_uint32_t)__builtin_popcountll(store->used[word]);
    }
    pass_on(writer, head, sizeof(head));
}

/* What comes after the slots: in-use marks, MD5, description; and the run-time
 * claims if it is CLEARINUSE. */
static void pass_on_tail(writer_t *writer, const slotmem_store_t *store)
{
    slotmem_description_t description =
        slotmem_describe(&store->segment->geometry);
    apr_uint32_t num = store->segment->geometry.item_num;
    apr_uint32_t head[2] = {
        SLOTMEM_FILE_CLAIMS_MAGIC, SLOTMEM_FILE_CLAIMS_VERSION
    };

    pass_on_marks(writer, num, store->configured ? NULL : store->used, NULL);
    pass_on_digest(writer);
    pass_on(writer, &description, sizeof(description));
    if (store->configured) {
        pass_on(writer, head, sizeof(head));
        pass_on_marks(writer, num, store->used, store->configured);
        pass_on_digest(writer);
    }
}

/* One pass over a segment, or the next part of one. Returns 1 at its end, or at
 * the first difference. */
static int pass_on_segment(slotmem_store_run_t *run, slotmem_store_t *store)
{
    const slotmem_segment_t *segment = store->segment;
    writer_t *writer = &run->writer;

    if (!store->slots_done) {
        pass_on_head(writer, store);
    }
    while (store->slots_done < segment->layout.slots_len && !writer->differs) {
        apr_size_t left = segment->layout.slots_len - store->slots_done;
        apr_size_t n = left < CHUNK ? left : CHUNK;

        pass_on(writer, segment->slots + store->slots_done, n);
        store->slots_done += n;
        if (is_late(run)) {
            return 0;
        }
    }
    pass_on_tail(writer, store);
    store->slots_done = 0;
    return 1;
}

/* A step of a store failed: what stood at the path before stays there. */
static void fail(slotmem_store_run_t *run, slotmem_store_t *store,
                 const char *step, apr_status_t status)
{
    store->step = step;
    store->status = status;
    if (store->file) {
        apr_file_close(store->file);
        store->file = NULL;
    }
    apr_file_remove(store->tmp, run->scratch);
}

/* Does what is known of the file at the path still hold? */
static int is_same_file(const slotmem_store_t *store, apr_pool_t *scratch)
{
    const slotmem_stored_t *stored = &store->stored;
    apr_finfo_t info;

    return stored->known && !store->set_aside
           && apr_stat(&info, store->path,
                       APR_FINFO_LINK | APR_FINFO_TYPE | APR_FINFO_IDENT
                       | APR_FINFO_SIZE | APR_FINFO_MTIME | APR_FINFO_CTIME,
                       scratch) == APR_SUCCESS
           && info.filetype == APR_REG && info.inode == stored->inode
           && info.device == stored->device && info.size == stored->size
           && info.mtime == stored->mtime && info.ctime == stored->ctime;
}

/* Is there a known file to compare with? One that cannot be opened is not. */
static int open_known_file(slotmem_store_run_t *run, slotmem_store_t *store)
{
    if (!is_same_file(store, run->scratch)
        || apr_file_open(&store->file, store->path,
                         APR_FOPEN_READ | APR_FOPEN_BINARY
                         | APR_FOPEN_NONBLOCK, APR_OS_DEFAULT, run->scratch)
           != APR_SUCCESS) {
        store->file = NULL;
        return 0;
    }
    store->pass = SLOTMEM_STORE_COMPARES;
    start_writer(&run->writer, store->file, 1);
    return 1;
}

static apr_status_t open_new(slotmem_store_run_t *run, slotmem_store_t *store)
{
    return apr_file_open(&store->file, store->tmp,
                         APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL
                         | APR_FOPEN_BINARY,
                         APR_FPROT_UREAD | APR_FPROT_UWRITE, run->scratch);
}

static int create_new_file(slotmem_store_run_t *run, slotmem_store_t *store)
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
    store->pass = SLOTMEM_STORE_WRITES;
    store->stored.known = 0;        /* until the new file is in place */
    start_writer(&run->writer, store->file, 0);
    return 1;
}

/* The comparing pass is over: does the file have all bytes, and no more, and is
 * it still the one at the path? */
static int is_unchanged(slotmem_store_run_t *run, slotmem_store_t *store)
{
    const writer_t *writer = &run->writer;

    apr_file_close(store->file);
    store->file = NULL;
    store->unchanged = !writer->differs && writer->len == store->stored.size
                       && is_same_file(store, run->scratch);
    if (store->unchanged && !store->stored.flushed) {
        apr_file_remove(store->tmp, run->scratch);  /* a killed store's */
    }
    return store->unchanged;
}

static int begin_store(slotmem_store_run_t *run, slotmem_store_t *store)
{
    store->tmp = apr_pstrcat(run->scratch, store->path, ".tmp", NULL);
    store->used = slotmem_calloc(run->scratch, sizeof(*store->used)
                                 * slotmem_map_words(
                                     store->segment->geometry.item_num));
    if (!store->used) {
        fail(run, store, "find memory", APR_ENOMEM);
        return 0;
    }
    return open_known_file(run, store) || create_new_file(run, store);
}

/* The file is on its way to the disk from now on, while the next ones of the
 * batch are written; the flush then has less to wait for. */
static void begin_flush(apr_file_t *file)
{
#ifdef SYNC_FILE_RANGE_WRITE
    apr_os_file_t fd;

    apr_os_file_get(&fd, file);
    sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)file;
#endif
}

/* Writes the new file, unless it would be as the old one. Returns 0 when it
 * is late. */
static int write_new_file(slotmem_store_run_t *run, slotmem_store_t *store)
{
    if (store->pass == SLOTMEM_STORE_NEW && !begin_store(run, store)) {
        return 1;
    }
    if (store->pass == SLOTMEM_STORE_COMPARES) {
        if (!pass_on_segment(run, store)) {
            return 0;
        }
        if (is_unchanged(run, store) || !create_new_file(run, store)) {
            return 1;
        }
    }
    if (!pass_on_segment(run, store)) {
        return 0;
    }
    drain(&run->writer);
    if (run->writer.status != APR_SUCCESS) {
        fail(run, store, "write", run->writer.status);
    }
    else {
        begin_flush(store->file);
    }
    return 1;
}

/* Notes which file it is, as it was written: see know_file(). */
static int flush_and_close(slotmem_store_run_t *run, slotmem_store_t *store)
{
    apr_finfo_t info;
    apr_status_t rv = apr_file_sync(store->file);

    if (rv != APR_SUCCESS) {
        fail(run, store, "flush", rv);
        return 1;
    }
    store->stored.inode = 0;        /* no file's */
    if (apr_file_info_get(&info, APR_FINFO_IDENT | APR_FINFO_SIZE
                                 | APR_FINFO_MTIME, store->file)
        == APR_SUCCESS) {
        store->stored.inode = info.inode;
        store->stored.device = info.device;
        store->stored.size = info.size;
        store->stored.mtime = info.mtime;
    }
    rv = apr_file_close(store->file);
    store->file = NULL;
    if (rv != APR_SUCCESS) {
        fail(run, store, "close", rv);
    }
    return 1;
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
static void know_file(slotmem_stored_t *stored, const char *path,
                      apr_pool_t *scratch)
{
    apr_finfo_t info;

    stored->known = apr_stat(&info, path, APR_FINFO_LINK | APR_FINFO_CTIME,
                             scratch) == APR_SUCCESS;
    stored->ctime = stored->known ? info.ctime : 0;
    stored->flushed = 0;
}

static int put_in_place(slotmem_store_run_t *run, slotmem_store_t *store)
{
    apr_status_t rv;

    if (store->set_aside) {
        rv = set_aside(store, run->pool);
        if (rv != APR_SUCCESS) {
            store->aside = NULL;
            fail(run, store, "set the refused file aside", rv);
            return 1;
        }
    }
    rv = apr_file_rename(store->tmp, store->path, run->scratch);
    if (rv != APR_SUCCESS) {
        if (store->aside) {
            apr_file_rename(store->aside, store->path, run->scratch);
            store->aside = NULL;
        }
        fail(run, store, "rename the new file", rv);
        return 1;
    }
    store->set_aside = 0;
    know_file(&store->stored, store->path, run->scratch);
    return 1;
}

static apr_status_t flush_directory(const char *directory, apr_pool_t *scratch)
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
static void flush_directories(slotmem_store_t *stores, int num,
                              apr_pool_t *scratch)
{
    apr_hash_t *flushed = apr_hash_make(scratch);
    int i;

    for (i = 0; i < num; i++) {
        const char *slash = strrchr(stores[i].path, '/');
        apr_size_t len = slash ? (apr_size_t)(slash - stores[i].path) + 1 : 0;
        const char *directory = len ? apr_pstrmemdup(scratch, stores[i].path,
                                                     len) : ".";
        apr_status_t *rv = apr_hash_get(flushed, directory,
                                        APR_HASH_KEY_STRING);

        if (stores[i].step || stores[i].stored.flushed) {
            continue;
        }
        if (!rv) {
            rv = apr_palloc(scratch, sizeof(*rv));
            *rv = flush_directory(directory, scratch);
            apr_hash_set(flushed, directory, APR_HASH_KEY_STRING, rv);
        }
        if (*rv != APR_SUCCESS) {
            stores[i].step = "flush the directory";
            stores[i].status = *rv;
        }
        else {
            stores[i].stored.flushed = 1;
        }
    }
}

/* What is done to each store of a batch before the next is done to any. */
static int (*const steps[])(slotmem_store_run_t *, slotmem_store_t *) = {
    write_new_file, flush_and_close, put_in_place
};
#define STEPS ((int)(sizeof(steps) / sizeof(*steps)))

static void reset(slotmem_store_t *store)
{
    store->status = APR_SUCCESS;
    store->step = NULL;
    store->unchanged = 0;
    store->aside = NULL;
    store->aside_replaced = 0;
    store->tmp = NULL;
    store->file = NULL;
    store->used = NULL;
    store->slots_done = 0;
    store->pass = SLOTMEM_STORE_NEW;
}

/* Was there no file descriptor for the store at work, while others of its
 * batch have theirs open? Then the batch ends before it, and it begins the
 * next one. */
static int ends_batch(slotmem_store_run_t *run, slotmem_store_t *store)
{
    if (!store->step || run->next == run->first
        || !(APR_STATUS_IS_EMFILE(store->status)
             || APR_STATUS_IS_ENFILE(store->status))) {
        return 0;
    }
    run->end = run->next;
    reset(store);
    return 1;
}

/* Returns 0 when it is late: the store at work goes on, or the next begins. */
static int continue_batch(slotmem_store_run_t *run)
{
    for (; run->step < STEPS; run->step++, run->next = run->first) {
        while (run->next < run->end) {
            slotmem_store_t *store = &run->stores[run->next];

            if (!store->step && !store->unchanged) {
                if (!steps[run->step](run, store)) {
                    return 0;
                }
                if (run->step == 0 && ends_batch(run, store)) {
                    break;
                }
            }
            run->next++;
            if (is_late(run)) {
                return 0;
            }
        }
    }
    return 1;
}

static void begin_batch(slotmem_store_run_t *run, int first)
{
    run->first = first;
    run->next = first;
    run->end = run->num - first < BATCH ? run->num : first + BATCH;
    run->step = 0;
    apr_pool_clear(run->scratch);
}

slotmem_store_run_t *slotmem_store_begin(slotmem_store_t *stores, int num,
                                         apr_pool_t *pool)
{
    slotmem_store_run_t *run = apr_pcalloc(pool, sizeof(*run));
    int i;

    for (i = 0; i < num; i++) {
        reset(&stores[i]);
    }
    run->stores = stores;
    run->num = num;
    run->pool = pool;
    run->writer.buffer = apr_palloc(pool, CHUNK);
    apr_pool_create(&run->scratch, pool);
    begin_batch(run, 0);
    return run;
}

int slotmem_store_continue(slotmem_store_run_t *run, apr_time_t deadline)
{
    run->deadline = deadline;
    while (run->first < run->num) {
        if (!continue_batch(run)) {
            return 0;
        }
        begin_batch(run, run->end);
    }
    flush_directories(run->stores, run->num, run->scratch);
    return 1;
}

void slotmem_store_abandon(slotmem_store_run_t *run)
{
    int i;

    for (i = run->first; i < run->end; i++) {
        slotmem_store_t *store = &run->stores[i];

        if (store->tmp && !store->step && !store->unchanged) {
            fail(run, store, "go on", APR_EINTR);
        }
    }
}

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
 * slotmem_store.c: write the persisted file of a segment; slotmem_persist.c
 * reads it. What a crash leaves and who may call what stands in
 * slotmem_persist.h, the layout of the file in mod_slotmem_shm.h.
 *
 * A store passes over the segment once if the file that stands at the path is
 * not known: what it copies goes to path.tmp. If the file is known, the first
 * pass only compares, and the second one writes if there is something to write;
 * for a segment that fits one chunk both are one. A pass may stop after any
 * chunk and go on later: the slots of the file are then as old as their chunk,
 * which is no new thing, since others write them all the time.
 *
 * Digests are computed over private copies, never over live memory.
 */

#include <string.h>

#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_persist.h"

#define CHUNK SLOTMEM_CHUNK
/* Files that are open at the same time. */
#define BATCH 64

/* Process-local: the bytes of a file, on their way out. */
typedef struct writer_t {
    apr_file_t *file;               /* NULL: they go nowhere */
    apr_md5_ctx_t md5;              /* of all bytes so far */
    unsigned char *buffer;          /* CHUNK bytes */
    apr_size_t fill;                /* of them not yet drained */
    int drained;                    /* 1: some were */
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

static void start_writer(writer_t *writer, apr_file_t *file)
{
    writer->file = file;
    writer->fill = 0;
    writer->drained = 0;
    writer->status = APR_SUCCESS;
    apr_md5_init(&writer->md5);
}

static void drain(writer_t *writer)
{
    if (writer->status == APR_SUCCESS && writer->fill && writer->file) {
        writer->status = apr_file_write_full(writer->file, writer->buffer,
                                             writer->fill, NULL);
    }
    writer->fill = 0;
    writer->drained = 1;
}

/* Copy bytes, which others may be writing, to private memory; the digest is
 * over the copy. */
static void emit(writer_t *writer, const void *data, apr_size_t len)
{
    const unsigned char *from = data;

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

static void digest_so_far(const writer_t *writer, unsigned char *digest)
{
    apr_md5_ctx_t copy = writer->md5;

    apr_md5_final(digest, &copy);
}

static void emit_digest(writer_t *writer)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];

    digest_so_far(writer, digest);
    emit(writer, digest, sizeof(digest));
}

/* One byte a slot: 1 where used has a bit and except (if not NULL) has none;
 * used NULL: all 0. */
static void emit_marks(writer_t *writer, apr_uint32_t num,
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
        emit(writer, bytes, n);
    }
}

/* What comes before the slots. The map is taken first, so that what is in use
 * in the file was claimed before its slot was copied. */
static void emit_head(writer_t *writer, slotmem_store_t *store)
{
    apr_uint32_t num = store->segment->geometry.item_num;
    apr_uint32_t words = slotmem_map_words(num);
    apr_uint32_t head[2] = { num, 0 };
    apr_uint32_t word;

    slotmem_map_copy(&store->segment->map, store->used);
    for (word = 0; word < words && !store->configured; word++) {
        head[0] -= (apr_uint32_t)__builtin_popcountll(store->used[word]);
    }
    emit(writer, head, sizeof(head));
}

/* What comes after the slots: in-use marks, MD5, description; and the run-time
 * claims if it is CLEARINUSE. */
static void emit_tail(writer_t *writer, const slotmem_store_t *store)
{
    slotmem_description_t description =
        slotmem_describe(&store->segment->geometry);
    apr_uint32_t num = store->segment->geometry.item_num;
    apr_uint32_t head[2] = {
        SLOTMEM_FILE_CLAIMS_MAGIC, SLOTMEM_FILE_CLAIMS_VERSION
    };

    emit_marks(writer, num, store->configured ? NULL : store->used, NULL);
    emit_digest(writer);
    emit(writer, &description, sizeof(description));
    if (store->configured) {
        emit(writer, head, sizeof(head));
        emit_marks(writer, num, store->used, store->configured);
        emit_digest(writer);
    }
}

/* One pass over a segment, or the next part of one. Returns 1 at its end. */
static int emit_segment(slotmem_store_run_t *run, slotmem_store_t *store)
{
    const slotmem_segment_t *segment = store->segment;
    writer_t *writer = &run->writer;

    if (!store->slots_done) {
        emit_head(writer, store);
    }
    while (store->slots_done < segment->layout.slots_len) {
        apr_size_t left = segment->layout.slots_len - store->slots_done;
        apr_size_t n = left < CHUNK ? left : CHUNK;

        emit(writer, segment->slots + store->slots_done, n);
        store->slots_done += n;
        if (is_late(run)) {
            return 0;
        }
    }
    emit_tail(writer, store);
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
                       | APR_FINFO_SIZE | APR_FINFO_MTIME, scratch)
              == APR_SUCCESS
           && info.filetype == APR_REG && info.inode == stored->inode
           && info.device == stored->device && info.size == stored->size
           && info.mtime == stored->mtime;
}

static int create_new_file(slotmem_store_run_t *run, slotmem_store_t *store)
{
    apr_status_t rv;

    apr_file_remove(store->tmp, run->scratch);  /* what a killed store left */
    rv = apr_file_open(&store->file, store->tmp,
                       APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL
                       | APR_FOPEN_BINARY,
                       APR_FPROT_UREAD | APR_FPROT_UWRITE, run->scratch);
    if (rv != APR_SUCCESS) {
        store->file = NULL;
        store->step = "create a new file";
        store->status = rv;
        return 0;
    }
    store->pass = SLOTMEM_STORE_WRITES;
    store->stored.known = 0;        /* until the new file is in place */
    return 1;
}

/* The comparing pass is over: is there something to write? If all bytes are
 * still in the buffer there is no need for a second pass. */
static int has_changed(slotmem_store_run_t *run, slotmem_store_t *store)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];

    digest_so_far(&run->writer, digest);
    if (memcmp(digest, store->stored.digest, sizeof(digest)) == 0) {
        store->unchanged = 1;
        return 0;
    }
    return create_new_file(run, store);
}

/* Writes the new file, unless it would be as the old one. Returns 0 when it
 * is late. */
static int write_new_file(slotmem_store_run_t *run, slotmem_store_t *store)
{
    writer_t *writer = &run->writer;
    apr_uint32_t num = store->segment->geometry.item_num;

    if (store->pass == SLOTMEM_STORE_NEW) {
        store->tmp = apr_pstrcat(run->scratch, store->path, ".tmp", NULL);
        store->used = slotmem_calloc(run->scratch, sizeof(*store->used)
                                     * slotmem_map_words(num));
        if (!store->used) {
            fail(run, store, "find memory", APR_ENOMEM);
            return 1;
        }
        if (is_same_file(store, run->scratch)) {
            store->pass = SLOTMEM_STORE_COMPARES;
        }
        else if (!create_new_file(run, store)) {
            return 1;
        }
        start_writer(writer, store->file);
    }
    if (!emit_segment(run, store)) {
        return 0;
    }
    if (store->pass == SLOTMEM_STORE_COMPARES) {
        if (!has_changed(run, store)) {
            return 1;
        }
        if (writer->drained) {
            start_writer(writer, store->file);
            return write_new_file(run, store);
        }
        writer->file = store->file;
    }
    drain(writer);
    if (writer->status != APR_SUCCESS) {
        fail(run, store, "write", writer->status);
    }
    digest_so_far(writer, store->stored.digest);
    return 1;
}

/* Learns on the way by what the file can be told. */
static int flush_and_close(slotmem_store_run_t *run, slotmem_store_t *store)
{
    slotmem_stored_t *stored = &store->stored;
    apr_finfo_t info;
    apr_status_t rv = apr_file_sync(store->file);

    if (rv != APR_SUCCESS) {
        fail(run, store, "flush", rv);
        return 1;
    }
    stored->size = -1;              /* matches no file */
    if (apr_file_info_get(&info, APR_FINFO_IDENT | APR_FINFO_SIZE
                                 | APR_FINFO_MTIME, store->file)
        == APR_SUCCESS) {
        stored->inode = info.inode;
        stored->device = info.device;
        stored->size = info.size;
        stored->mtime = info.mtime;
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
    store->stored.known = 1;
    store->stored.flushed = 0;
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

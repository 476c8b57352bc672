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
 * slotmem_persist.c: the persisted file of a segment. What a crash leaves and
 * who may call what stands in slotmem_persist.h, the layout of the file in
 * mod_slotmem_shm.h.
 *
 * Which files are restored. A file is an image of n slots when it is long
 * enough, the description at the offset that n gives names the size, number
 * and type, and the MD5 there fits all bytes before it. What comes after it is
 * ours (the run-time claims) or left over (the distributed module stores in
 * place and does not truncate). The image of the number asked for is tried
 * first, then, in one pass, all smaller ones; the largest that verifies is
 * restored, and its slots are the first of a segment that has grown.
 *
 * Digests are computed over the bytes that were read or will be written, in
 * private memory or in a segment that nobody else has, never over live slots.
 */

#include <errno.h>
#include <string.h>

#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "mod_slotmem_shm.h"
#include "slotmem_persist.h"

/* Bytes copied, checksummed and written, or read, at a time. */
#define CHUNK ((apr_size_t)65536)
/* Files that are open at the same time during a store. */
#define BATCH 64

_Static_assert(APR_MD5_DIGESTSIZE == SLOTMEM_FILE_DIGEST,
               "the persisted file has an MD5 where APR-util has one");

static slotmem_description_t describe(const slotmem_geometry_t *geometry)
{
    slotmem_description_t description;

    memset(&description, 0, sizeof(description));
    description.item_size = geometry->item_size;
    description.item_num = geometry->item_num;
    description.type = geometry->type;
    return description;
}

/* ---- restore ---- */

/* Process-local: a file that is being verified, read through a window. */
typedef struct reader_t {
    apr_file_t *file;
    apr_off_t len;                  /* of the file, when it was opened */
    apr_status_t status;            /* the first failure, which stays */
    apr_off_t window_at;            /* the window holds window_len bytes */
    apr_size_t window_len;          /* from this offset of the file */
    unsigned char *window;          /* CHUNK bytes */
    int digest_differs;             /* an image was read whole, but ... */
    unsigned char computed[APR_MD5_DIGESTSIZE];
    unsigned char stored[APR_MD5_DIGESTSIZE];
} reader_t;

static int seek_and_read(reader_t *reader, apr_off_t offset, void *buffer,
                         apr_size_t len)
{
    if (reader->status == APR_SUCCESS) {
        reader->status = apr_file_seek(reader->file, APR_SET, &offset);
    }
    if (reader->status == APR_SUCCESS) {
        reader->status = apr_file_read_full(reader->file, buffer, len, NULL);
    }
    return reader->status == APR_SUCCESS;
}

/* The bytes at an offset, at most CHUNK of them, or NULL: the file has no such
 * bytes, or they cannot be read (then reader->status says why). */
static const unsigned char *bytes_at(reader_t *reader, apr_off_t offset,
                                     apr_size_t len)
{
    if (offset < 0 || offset > reader->len
        || (apr_off_t)len > reader->len - offset) {
        return NULL;
    }
    if (offset < reader->window_at
        || offset + (apr_off_t)len
           > reader->window_at + (apr_off_t)reader->window_len) {
        apr_off_t left = reader->len - offset;

        reader->window_at = offset;
        reader->window_len = left < (apr_off_t)CHUNK ? (apr_size_t)left
                                                     : CHUNK;
        if (!seek_and_read(reader, offset, reader->window,
                           reader->window_len)) {
            reader->window_len = 0;
            return NULL;
        }
    }
    return reader->window + (offset - reader->window_at);
}

/* Add the bytes from one offset to another to a digest, and copy them to a
 * buffer that is not NULL. */
static int digest_bytes(reader_t *reader, apr_md5_ctx_t *md5, apr_off_t from,
                        apr_off_t to, unsigned char *copy)
{
    while (from < to) {
        apr_size_t n = to - from < (apr_off_t)CHUNK ? (apr_size_t)(to - from)
                                                    : CHUNK;
        const unsigned char *bytes = bytes_at(reader, from, n);

        if (!bytes) {
            return 0;
        }
        apr_md5_update(md5, bytes, n);
        if (copy) {
            memcpy(copy, bytes, n);
            copy += n;
        }
        from += (apr_off_t)n;
    }
    return 1;
}

/* Read the slots straight into the segment, with the digest on the way. */
static int read_slots(reader_t *reader, apr_md5_ctx_t *md5, char *slots,
                      apr_size_t len)
{
    apr_size_t done = 0;

    while (done < len) {
        apr_size_t n = len - done < CHUNK ? len - done : CHUNK;

        if (!seek_and_read(reader, SLOTMEM_FILE_HEAD + (apr_off_t)done,
                           slots + done, n)) {
            return 0;
        }
        apr_md5_update(md5, slots + done, n);
        done += n;
    }
    return 1;
}

/* Is this the MD5 that stands in the file? Leaves md5 as it was. */
static int digest_fits(reader_t *reader, const apr_md5_ctx_t *md5,
                       apr_off_t offset)
{
    apr_md5_ctx_t copy = *md5;
    const unsigned char *stored = bytes_at(reader, offset,
                                           SLOTMEM_FILE_DIGEST);

    if (!stored) {
        return 0;
    }
    apr_md5_final(reader->computed, &copy);
    memcpy(reader->stored, stored, sizeof(reader->stored));
    return memcmp(reader->computed, reader->stored,
                  sizeof(reader->stored)) == 0;
}

static int description_fits(reader_t *reader, const slotmem_layout_t *layout,
                            const slotmem_geometry_t *geometry)
{
    slotmem_description_t expected = describe(geometry);
    const unsigned char *found = bytes_at(reader, layout->file_description,
                                          sizeof(expected));

    return found && memcmp(found, &expected, sizeof(expected)) == 0;
}

/* Restore the image of geometry->item_num slots if it verifies, else leave
 * the slots zero.
 * marks: one byte a slot, filled in; md5: that of all bytes up to the image's
 * own MD5 */
static int load(reader_t *reader, slotmem_segment_t *segment,
                const slotmem_geometry_t *geometry, unsigned char *marks,
                apr_md5_ctx_t *md5)
{
    slotmem_layout_t layout;

    if (slotmem_layout(&layout, geometry) != APR_SUCCESS
        || layout.file_description > reader->len) {
        return 0;
    }
    /* Releases before 2.4.34 wrote no description: the file ends there. */
    if (layout.file_description != reader->len
        && !description_fits(reader, &layout, geometry)) {
        return 0;
    }
    apr_md5_init(md5);
    if (digest_bytes(reader, md5, 0, SLOTMEM_FILE_HEAD, NULL)
        && read_slots(reader, md5, segment->slots, layout.slots_len)
        && digest_bytes(reader, md5,
                        SLOTMEM_FILE_HEAD + (apr_off_t)layout.slots_len,
                        layout.file_digest, marks)) {
        if (digest_fits(reader, md5, layout.file_digest)) {
            return 1;
        }
        reader->digest_differs = 1;
    }
    memset(segment->slots, 0, layout.slots_len);
    return 0;
}

/* In one pass, the largest number of slots below geometry->item_num of which
 * the file holds a whole image. Returns 0 when there is none. */
static int find_smaller(reader_t *reader, const slotmem_geometry_t *asked,
                        apr_uint32_t *item_num)
{
    slotmem_geometry_t candidate = *asked;
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;
    apr_off_t digested = 0;
    int found = 0;

    apr_md5_init(&md5);
    for (candidate.item_num = 0; candidate.item_num < asked->item_num;
         candidate.item_num++) {
        if (slotmem_layout(&layout, &candidate) != APR_SUCCESS
            || layout.file_image_len > reader->len) {
            break;
        }
        if (!description_fits(reader, &layout, &candidate)) {
            continue;
        }
        if (!digest_bytes(reader, &md5, digested, layout.file_digest, NULL)) {
            break;
        }
        digested = layout.file_digest;
        if (digest_fits(reader, &md5, layout.file_digest)) {
            *item_num = candidate.item_num;
            found = 1;
        }
    }
    return found;
}

/* Set the run-time claims that stand after the description, if they do.
 * Anything that does not fit is none of ours, or left over: no claims.
 * md5: as load() left it */
static apr_uint32_t load_claims(reader_t *reader, slotmem_segment_t *segment,
                                const slotmem_layout_t *layout,
                                apr_uint32_t item_num, unsigned char *marks,
                                apr_md5_ctx_t *md5)
{
    static const apr_uint32_t head[2] = {
        SLOTMEM_FILE_CLAIMS_MAGIC, SLOTMEM_FILE_CLAIMS_VERSION
    };
    apr_off_t claims = layout->file_image_len + SLOTMEM_FILE_CLAIMS_HEAD;
    apr_off_t end = claims + (apr_off_t)item_num;
    const unsigned char *found = bytes_at(reader, layout->file_image_len,
                                          SLOTMEM_FILE_CLAIMS_HEAD);
    apr_uint32_t set = 0;
    apr_uint32_t id;

    if (!found || memcmp(found, head, sizeof(head)) != 0) {
        return 0;
    }
    if (!digest_bytes(reader, md5, layout->file_digest, claims, NULL)
        || !digest_bytes(reader, md5, claims, end, marks)
        || !digest_fits(reader, md5, end)) {
        return 0;
    }
    for (id = 0; id < item_num; id++) {
        if (marks[id]) {
            set += (apr_uint32_t)slotmem_map_set(&segment->map, id);
        }
    }
    return set;
}

/* A description that stands where the shape it names says it should: what
 * the file holds, when that is not what was asked for. Looks at the last CHUNK
 * bytes. */
static int find_description(reader_t *reader, slotmem_geometry_t *found)
{
    apr_off_t size = sizeof(slotmem_description_t);
    apr_off_t first = reader->len > (apr_off_t)CHUNK
                      ? reader->len - (apr_off_t)CHUNK : 0;
    apr_off_t offset;

    for (offset = reader->len - size; offset >= first; offset--) {
        const unsigned char *bytes =
            bytes_at(reader, first, (apr_size_t)(reader->len - first));
        slotmem_description_t description;
        slotmem_layout_t layout;

        if (!bytes) {
            return 0;
        }
        memcpy(&description, bytes + (offset - first), sizeof(description));
        found->item_size = description.item_size;
        found->item_num = description.item_num;
        found->type = description.type;
        /* A run of zeros names no slots, and would fit near any start. */
        if ((found->item_num || offset + size == reader->len)
            && slotmem_layout(&layout, found) == APR_SUCCESS
            && layout.file_description == offset) {
            return 1;
        }
    }
    return 0;
}

static const char *hex(const unsigned char *digest, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 2 * APR_MD5_DIGESTSIZE + 1);
    int i;

    for (i = 0; i < APR_MD5_DIGESTSIZE; i++) {
        apr_snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    return text;
}

/* Why no image in the file was restored: expected and found. */
static const char *why_refused(reader_t *reader,
                               const slotmem_segment_t *segment,
                               apr_pool_t *pool)
{
    const slotmem_geometry_t *asked = &segment->geometry;
    slotmem_geometry_t found;
    const char *shape = apr_psprintf(pool, "expected %u slots of %"
                                     APR_SIZE_T_FMT " bytes, type 0x%x",
                                     asked->item_num, asked->item_size,
                                     asked->type);

    if (reader->status != APR_SUCCESS) {
        return "it cannot be read";
    }
    if (reader->digest_differs) {
        return apr_psprintf(pool, "its MD5 does not fit its content: expected "
                            "%s, found %s", hex(reader->computed, pool),
                            hex(reader->stored, pool));
    }
    if (find_description(reader, &found)
        && (found.item_num != asked->item_num
            || found.item_size != asked->item_size
            || found.type != asked->type)) {
        return apr_psprintf(pool, "%s, found %u slots of %" APR_SIZE_T_FMT
                            " bytes, type 0x%x", shape, found.item_num,
                            found.item_size, found.type);
    }
    return apr_psprintf(pool, "%s, in %" APR_OFF_T_FMT " bytes or more; found "
                        "%" APR_OFF_T_FMT " bytes without a description that "
                        "fits", shape, segment->layout.file_image_len,
                        reader->len);
}

static int lacks_resources(apr_status_t status)
{
    return APR_STATUS_IS_EMFILE(status) || APR_STATUS_IS_ENOMEM(status)
           || status == ENFILE;
}

static int refuse(slotmem_restore_t *result, apr_status_t status,
                  const char *why)
{
    result->outcome = lacks_resources(status) ? SLOTMEM_RESTORE_UNREAD
                                              : SLOTMEM_RESTORE_REFUSED;
    result->status = status;
    result->why = why;
    return 0;
}

/* Open a persisted file to read it, if it is a regular file: anything else
 * is not touched, since opening a FIFO would block the start. */
static int open_regular(slotmem_restore_t *result, reader_t *reader,
                        const char *path, apr_pool_t *scratch)
{
    static const apr_int32_t wanted = APR_FINFO_TYPE | APR_FINFO_IDENT;
    apr_finfo_t before;
    apr_finfo_t opened;
    apr_status_t rv = apr_stat(&before, path, wanted | APR_FINFO_LINK,
                               scratch);

    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv)) {
        result->outcome = SLOTMEM_RESTORE_NO_FILE;
        return 0;
    }
    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return refuse(result, rv, "its type cannot be found out");
    }
    if (before.filetype != APR_REG) {
        return refuse(result, APR_SUCCESS,
                      before.filetype == APR_DIR
                      ? "expected a regular file, found a directory"
                      : before.filetype == APR_LNK
                      ? "expected a regular file, found a symbolic link"
                      : before.filetype == APR_PIPE
                      ? "expected a regular file, found a FIFO"
                      : "expected a regular file, found something else");
    }
    rv = apr_file_open(&reader->file, path,
                       APR_FOPEN_READ | APR_FOPEN_BINARY | APR_FOPEN_NONBLOCK,
                       APR_OS_DEFAULT, scratch);
    if (rv != APR_SUCCESS) {
        return refuse(result, rv, "it cannot be opened");
    }
    rv = apr_file_info_get(&opened, wanted | APR_FINFO_SIZE, reader->file);
    if (rv != APR_SUCCESS) {
        return refuse(result, rv, "its length cannot be found out");
    }
    if (opened.filetype != APR_REG || opened.inode != before.inode
        || opened.device != before.device) {
        return refuse(result, APR_SUCCESS,
                      "it was exchanged while it was being opened");
    }
    reader->len = opened.size;
    return 1;
}

/* Restore the image asked for, or the largest smaller one. */
static int load_best(slotmem_restore_t *result, reader_t *reader,
                     slotmem_segment_t *segment, int with_claims,
                     apr_pool_t *scratch)
{
    slotmem_geometry_t geometry = segment->geometry;
    unsigned char *marks = apr_palloc(scratch, geometry.item_num);
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;
    apr_uint32_t id;

    if (!load(reader, segment, &geometry, marks, &md5)
        && (!find_smaller(reader, &segment->geometry, &geometry.item_num)
            || !load(reader, segment, &geometry, marks, &md5))) {
        return 0;
    }
    for (id = 0; id < geometry.item_num; id++) {
        if (marks[id]) {
            slotmem_map_set(&segment->map, id);
        }
    }
    result->item_num = geometry.item_num;
    if (with_claims && slotmem_layout(&layout, &geometry) == APR_SUCCESS) {
        result->claims = load_claims(reader, segment, &layout,
                                     geometry.item_num, marks, &md5);
    }
    return 1;
}

void slotmem_restore(slotmem_restore_t *result, slotmem_segment_t *segment,
                     int with_claims, const char *path, apr_pool_t *pool)
{
    apr_pool_t *scratch;
    reader_t reader;

    memset(result, 0, sizeof(*result));
    memset(&reader, 0, sizeof(reader));
    apr_pool_create(&scratch, pool);
    reader.window = apr_palloc(scratch, CHUNK);
    if (open_regular(result, &reader, path, scratch)) {
        if (load_best(result, &reader, segment, with_claims, scratch)) {
            result->outcome = SLOTMEM_RESTORE_DONE;
        }
        else {
            refuse(result, reader.status,
                   why_refused(&reader, segment, pool));
        }
    }
    apr_pool_destroy(scratch);
}

/* ---- store ---- */

/* Process-local: a file that is being written. */
typedef struct writer_t {
    apr_file_t *file;
    apr_md5_ctx_t md5;              /* of all bytes so far */
    unsigned char *buffer;          /* CHUNK bytes */
    apr_size_t fill;                /* of them not yet written */
    apr_status_t status;            /* the first failure, which stays */
} writer_t;

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

    while (len) {
        apr_size_t room = CHUNK - writer->fill;
        apr_size_t n = len < room ? len : room;

        memcpy(writer->buffer + writer->fill, from, n);
        apr_md5_update(&writer->md5, writer->buffer + writer->fill, n);
        writer->fill += n;
        from += n;
        len -= n;
        if (writer->fill == CHUNK) {
            drain(writer);
        }
    }
}

static void emit_digest(writer_t *writer)
{
    apr_md5_ctx_t copy = writer->md5;
    unsigned char digest[APR_MD5_DIGESTSIZE];

    apr_md5_final(digest, &copy);
    emit(writer, digest, sizeof(digest));
}

/* One byte a slot: 1 where used has a bit and except (if not NULL) has none;
 * used NULL: all 0. */
static void emit_marks(writer_t *writer, apr_uint32_t num,
                       const uint64_t *used, const uint64_t *except)
{
    unsigned char bytes[SLOTMEM_MAP_WORD_BITS];
    apr_uint32_t word;

    for (word = 0; word < slotmem_map_words(num); word++) {
        apr_uint32_t left = num - word * SLOTMEM_MAP_WORD_BITS;
        apr_uint32_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        uint64_t bits = used ? used[word] : 0;
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

/* The image of a segment, and its run-time claims if it is CLEARINUSE. The
 * map is taken first, so that what is in use in the file was claimed before
 * its slot was copied. */
static void emit_segment(writer_t *writer, const slotmem_store_t *store,
                         apr_pool_t *scratch)
{
    const slotmem_segment_t *segment = store->segment;
    slotmem_description_t description = describe(&segment->geometry);
    apr_uint32_t num = segment->geometry.item_num;
    apr_uint32_t words = slotmem_map_words(num);
    uint64_t *used = apr_palloc(scratch, words * sizeof(*used));
    apr_uint32_t head[2] = { num, 0 };
    apr_uint32_t word;

    slotmem_map_copy(&segment->map, used);
    for (word = 0; word < words && !store->configured; word++) {
        head[0] -= (apr_uint32_t)__builtin_popcountll(used[word]);
    }
    emit(writer, head, sizeof(head));
    emit(writer, segment->slots, segment->layout.slots_len);
    emit_marks(writer, num, store->configured ? NULL : used, NULL);
    emit_digest(writer);
    emit(writer, &description, sizeof(description));
    if (store->configured) {
        head[0] = SLOTMEM_FILE_CLAIMS_MAGIC;
        head[1] = SLOTMEM_FILE_CLAIMS_VERSION;
        emit(writer, head, sizeof(head));
        emit_marks(writer, num, used, store->configured);
        emit_digest(writer);
    }
    drain(writer);
}

/* A step of a store failed: what stood at the path before stays there. */
static void fail(slotmem_store_t *store, const char *step,
                 apr_status_t status, apr_pool_t *scratch)
{
    store->step = step;
    store->status = status;
    if (store->file) {
        apr_file_close(store->file);
        store->file = NULL;
    }
    apr_file_remove(store->tmp, scratch);
}

static void write_new_file(slotmem_store_t *store, unsigned char *buffer,
                           apr_pool_t *scratch)
{
    writer_t writer;
    apr_status_t rv;

    memset(&writer, 0, sizeof(writer));
    writer.buffer = buffer;
    apr_md5_init(&writer.md5);

    store->tmp = apr_pstrcat(scratch, store->path, ".tmp", NULL);
    apr_file_remove(store->tmp, scratch);   /* what a killed store left */
    rv = apr_file_open(&store->file, store->tmp,
                       APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL
                       | APR_FOPEN_BINARY,
                       APR_FPROT_UREAD | APR_FPROT_UWRITE, scratch);
    if (rv != APR_SUCCESS) {
        store->file = NULL;
        store->step = "create a new file";
        store->status = rv;
        return;
    }
    writer.file = store->file;
    emit_segment(&writer, store, scratch);
    if (writer.status != APR_SUCCESS) {
        fail(store, "write", writer.status, scratch);
    }
}

static void flush_and_close(slotmem_store_t *store, apr_pool_t *scratch)
{
    apr_status_t rv = apr_file_sync(store->file);

    if (rv != APR_SUCCESS) {
        fail(store, "flush", rv, scratch);
        return;
    }
    rv = apr_file_close(store->file);
    store->file = NULL;
    if (rv != APR_SUCCESS) {
        fail(store, "close", rv, scratch);
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

static void put_in_place(slotmem_store_t *store, apr_pool_t *pool,
                         apr_pool_t *scratch)
{
    apr_status_t rv;

    if (store->set_aside) {
        rv = set_aside(store, pool);
        if (rv != APR_SUCCESS) {
            store->aside = NULL;
            fail(store, "set the refused file aside", rv, scratch);
            return;
        }
    }
    rv = apr_file_rename(store->tmp, store->path, scratch);
    if (rv != APR_SUCCESS) {
        if (store->aside) {
            apr_file_rename(store->aside, store->path, scratch);
            store->aside = NULL;
        }
        fail(store, "rename the new file", rv, scratch);
        return;
    }
    store->set_aside = 0;
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

        if (stores[i].step) {
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
    }
}

static void store_batch(slotmem_store_t *stores, int num,
                        unsigned char *buffer, apr_pool_t *pool,
                        apr_pool_t *scratch)
{
    int i;

    for (i = 0; i < num; i++) {
        stores[i].status = APR_SUCCESS;
        stores[i].step = NULL;
        stores[i].aside = NULL;
        stores[i].file = NULL;
        write_new_file(&stores[i], buffer, scratch);
    }
    for (i = 0; i < num; i++) {
        if (!stores[i].step) {
            flush_and_close(&stores[i], scratch);
        }
    }
    for (i = 0; i < num; i++) {
        if (!stores[i].step) {
            put_in_place(&stores[i], pool, scratch);
        }
    }
}

void slotmem_store(slotmem_store_t *stores, int num, apr_pool_t *pool)
{
    apr_pool_t *scratch;
    apr_pool_t *batch_scratch;
    unsigned char *buffer;
    int first;

    apr_pool_create(&scratch, pool);
    apr_pool_create(&batch_scratch, scratch);
    buffer = apr_palloc(scratch, CHUNK);
    for (first = 0; first < num; first += BATCH) {
        store_batch(stores + first, num - first < BATCH ? num - first : BATCH,
                    buffer, pool, batch_scratch);
        apr_pool_clear(batch_scratch);
    }
    flush_directories(stores, num, scratch);
    apr_pool_destroy(scratch);
}

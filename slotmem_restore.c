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
 * slotmem_restore.c: verify the persisted file of a segment, and restore it;
 * slotmem_store.c writes it. What a crash leaves and who may call what stands
 * in slotmem_restore.h, the layout of the file in slotmem_format.h.
 *
 * Which files are restored. A file is an image of n slots when it is long
 * enough, the description at the offset that n gives names the size, number
 * and type, and the MD5 there fits all bytes before it. What comes after it is
 * ours (the run-time claims) or left over (the distributed module stores in
 * place and does not truncate). A file that is as a whole an image of the
 * number asked for is restored; one of more slots is refused, also when bytes
 * in its slots look like an image of fewer. In any other, one pass finds the
 * largest image of up to the number asked for; it fills the first slots.
 *
 * Digests are computed over the bytes that were read, in private memory or in
 * a segment that nobody else has yet.
 */

#include <errno.h>
#include <string.h>

#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_reader.h"
#include "slotmem_restore.h"

#define CHUNK SLOTMEM_CHUNK

_Static_assert(APR_MD5_DIGESTSIZE == SLOTMEM_FILE_DIGEST,
               "the persisted file has an MD5 where APR-util has one");

slotmem_descriptor_t slotmem_descriptor_of(const slotmem_geometry_t *geometry)
{
    slotmem_descriptor_t descriptor;

    memset(&descriptor, 0, sizeof(descriptor));
    descriptor.item_size = geometry->item_size;
    descriptor.item_num = geometry->item_num;
    descriptor.type = geometry->type;
    return descriptor;
}

/* Mark a slot in use for each byte that is not 0, from an offset on, with the
 * digest on the way. Returns 0 when they cannot be read. */
static int read_flags(slotmem_reader_t *reader, apr_md5_ctx_t *md5,
                      apr_off_t from, slotmem_map_t *map, apr_uint32_t num,
                      apr_uint32_t *flagged)
{
    apr_uint32_t id = 0;

    while (id < num) {
        apr_uint32_t n = num - id < CHUNK ? num - id : (apr_uint32_t)CHUNK;
        const unsigned char *bytes
            = slotmem_reader_bytes(reader, from + (apr_off_t)id, n);
        apr_uint32_t i;

        if (!bytes) {
            return 0;
        }
        apr_md5_update(md5, bytes, n);
        for (i = 0; i < n; i++, id++) {
            if (bytes[i]) {
                *flagged += (apr_uint32_t)slotmem_map_set(map, id);
            }
        }
    }
    return 1;
}

/* Read the slots straight into the segment, with the digest on the way. */
static int read_slots(slotmem_reader_t *reader, apr_md5_ctx_t *md5, char *slots,
                      apr_size_t len)
{
    apr_size_t done = 0;

    while (done < len) {
        apr_size_t n = len - done < CHUNK ? len - done : CHUNK;

        if (!slotmem_reader_fill(reader, SLOTMEM_FILE_HEADER + (apr_off_t)done,
                           slots + done, n)) {
            return 0;
        }
        apr_md5_update(md5, slots + done, n);
        done += n;
    }
    return 1;
}

static int descriptor_matches(slotmem_reader_t *reader,
                              const slotmem_layout_t *layout,
                              const slotmem_geometry_t *geometry)
{
    slotmem_descriptor_t expected = slotmem_descriptor_of(geometry);
    const unsigned char *found = slotmem_reader_bytes(
        reader, layout->descriptor_offset, sizeof(expected));

    return found && memcmp(found, &expected, sizeof(expected)) == 0;
}

/* The segment is as new again. */
static void clear_segment(slotmem_segment_t *segment,
                          const slotmem_layout_t *layout)
{
    memset(segment->slots, 0, layout->slots_len);
    memset((char *)segment->header + segment->layout.map, 0,
           slotmem_map_size(segment->map.num));
}

/* Restore the image of geometry->item_num slots, with a description or (in
 * releases before 2.4.34) without one, if its MD5 fits; else leave the segment
 * empty. md5: that of all bytes up to the image's own */
static int load_image(slotmem_reader_t *reader, slotmem_segment_t *segment,
                const slotmem_geometry_t *geometry,
                const slotmem_layout_t *layout, apr_md5_ctx_t *md5)
{
    apr_off_t flags = SLOTMEM_FILE_HEADER + (apr_off_t)layout->slots_len;
    apr_uint32_t flagged = 0;

    apr_md5_init(md5);
    if (slotmem_reader_digest(reader, md5, 0, SLOTMEM_FILE_HEADER)
        && read_slots(reader, md5, segment->slots, layout->slots_len)
        && read_flags(reader, md5, flags, &segment->map, geometry->item_num,
                      &flagged)) {
        if (slotmem_reader_digest_matches(reader, md5, layout->digest_offset)) {
            return 1;
        }
        reader->digest_differs = 1;
    }
    clear_segment(segment, layout);
    return 0;
}

/* The number of slots of which the file has just the length, in one of the
 * three forms that exist, or -1. */
static apr_int64_t num_by_length(const slotmem_reader_t *reader, int form,
                                 apr_size_t item_size)
{
    apr_off_t image = SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST;
    /* A slot that is longer than the file is as good as one of its length. */
    apr_off_t slot = item_size < (apr_uint64_t)reader->len
                     ? (apr_off_t)item_size + 1 : reader->len + 1;

    if (form > 0) {
        image += (apr_off_t)sizeof(slotmem_descriptor_t);
    }
    if (form > 1) {
        image += SLOTMEM_FILE_CLAIMS_HEADER + SLOTMEM_FILE_DIGEST;
        slot++;
    }
    return reader->len >= image && (reader->len - image) % slot == 0
           ? (reader->len - image) / slot : -1;
}

static const apr_uint32_t claims_head[2] = {
    SLOTMEM_FILE_CLAIMS_MAGIC, SLOTMEM_FILE_CLAIMS_VERSION
};

/* Does the file end with a section of ours? Its MD5 would pass for the one that
 * ends a file without a description. */
static int ends_with_claims(slotmem_reader_t *reader)
{
    apr_off_t rest = sizeof(slotmem_descriptor_t) + SLOTMEM_FILE_CLAIMS_HEADER
                     + SLOTMEM_FILE_DIGEST;
    apr_off_t at;

    for (at = SLOTMEM_FILE_HEADER; at <= reader->len - rest; at++) {
        const unsigned char *bytes =
            slotmem_reader_bytes(reader, at, sizeof(slotmem_descriptor_t)
                                 + sizeof(claims_head));
        slotmem_descriptor_t descriptor;

        if (!bytes) {
            return 0;
        }
        memcpy(&descriptor, bytes, sizeof(descriptor));
        if (descriptor.item_num == (apr_uint64_t)(reader->len - rest - at)
            && memcmp(bytes + sizeof(descriptor), claims_head,
                      sizeof(claims_head)) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Is the file as a whole an image of the number asked for? Its MD5 is not
 * looked at. */
static int matches_requested(slotmem_reader_t *reader,
                             const slotmem_geometry_t *requested,
                             const slotmem_layout_t *layout)
{
    int form;

    for (form = 0; form < 3; form++) {
        if (num_by_length(reader, form, requested->item_size)
            == (apr_int64_t)requested->item_num) {
            return form == 0 ? !ends_with_claims(reader)
                             : descriptor_matches(reader, layout, requested);
        }
    }
    return 0;
}

/* Is the file as a whole an image of more slots than asked for? */
static int holds_more_slots(slotmem_reader_t *reader,
                            const slotmem_geometry_t *requested)
{
    int form;

    for (form = 1; form < 3; form++) {
        apr_int64_t num = num_by_length(reader, form, requested->item_size);
        slotmem_geometry_t larger = *requested;
        slotmem_layout_t layout;
        apr_md5_ctx_t md5;

        if (num <= (apr_int64_t)requested->item_num || num > APR_UINT32_MAX) {
            continue;
        }
        larger.item_num = (apr_uint32_t)num;
        apr_md5_init(&md5);
        if (slotmem_layout(&layout, &larger) == APR_SUCCESS
            && descriptor_matches(reader, &layout, &larger)
            && slotmem_reader_digest(reader, &md5, 0, layout.digest_offset)
            && slotmem_reader_digest_matches(reader, &md5,
                                             layout.digest_offset)) {
            return 1;
        }
    }
    return 0;
}

/* In one pass, the largest number of slots up to that asked for of which the
 * file begins with an image. Returns 0 when there is none. */
static int find_largest(slotmem_reader_t *reader,
                        const slotmem_geometry_t *requested,
                        slotmem_geometry_t *largest)
{
    slotmem_geometry_t candidate = *requested;
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;
    apr_off_t digested = 0;
    apr_uint64_t num;
    int found = 0;

    apr_md5_init(&md5);
    for (num = 0; num <= requested->item_num; num++) {
        candidate.item_num = (apr_uint32_t)num;
        if (slotmem_layout(&layout, &candidate) != APR_SUCCESS
            || layout.image_len > reader->len) {
            break;
        }
        if (!descriptor_matches(reader, &layout, &candidate)) {
            continue;
        }
        if (!slotmem_reader_digest(reader, &md5, digested,
                                   layout.digest_offset)) {
            return 0;
        }
        digested = layout.digest_offset;
        if (slotmem_reader_digest_matches(reader, &md5, layout.digest_offset)) {
            *largest = candidate;
            found = 1;
        }
        else {
            reader->digest_differs = 1;
        }
    }
    return found;
}

/* Set the run-time claims that stand after the description. Returns 0 when
 * they do not: what is there is none of ours, or left over, and says nothing.
 * image: the MD5 as load_image() left it */
static int load_claims(slotmem_reader_t *reader, slotmem_segment_t *segment,
                       const slotmem_layout_t *layout, apr_uint32_t item_num,
                       const apr_md5_ctx_t *image, apr_uint32_t *set)
{
    apr_off_t claims = layout->image_len + SLOTMEM_FILE_CLAIMS_HEADER;
    apr_off_t end = claims + (apr_off_t)item_num;
    const unsigned char *found = slotmem_reader_bytes(reader, layout->image_len,
                                          SLOTMEM_FILE_CLAIMS_HEADER);
    apr_md5_ctx_t md5 = *image;

    return found && memcmp(found, claims_head, sizeof(claims_head)) == 0
           && slotmem_reader_digest(reader, &md5, layout->digest_offset, end)
           && slotmem_reader_digest_matches(reader, &md5, end)
           && read_flags(reader, &md5, claims, &segment->map, item_num, set);
}

/* The description at an offset, if the shape that it names puts it there. */
static int descriptor_at(slotmem_reader_t *reader, apr_off_t offset,
                          slotmem_geometry_t *found, slotmem_layout_t *layout)
{
    slotmem_descriptor_t descriptor;
    const unsigned char *bytes
        = slotmem_reader_bytes(reader, offset, sizeof(descriptor));

    if (!bytes) {
        return 0;
    }
    memcpy(&descriptor, bytes, sizeof(descriptor));
    if ((apr_off_t)descriptor.item_num > offset) { /* most bytes end here */
        return 0;
    }
    found->item_size = descriptor.item_size;
    found->item_num = descriptor.item_num;
    found->type = descriptor.type;
    return slotmem_layout(layout, found) == APR_SUCCESS
           && layout->descriptor_offset == offset
           && descriptor_matches(reader, layout, found);
}

/* A description that stands where the shape it names says it should: what
 * the file holds, when that is not what was asked for. Looks at the last CHUNK
 * bytes. */
static int find_descriptor(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    apr_off_t size = sizeof(slotmem_descriptor_t);
    apr_off_t first = reader->len > (apr_off_t)CHUNK
                      ? reader->len - (apr_off_t)CHUNK : 0;
    apr_off_t offset;

    for (offset = reader->len - size; offset >= first; offset--) {
        slotmem_layout_t layout;

        if (!slotmem_reader_bytes(reader, first,
                                  (apr_size_t)(reader->len - first))) {
            return 0;
        }
        /* A run of zeros names no slots, and would fit near any start. */
        if (descriptor_at(reader, offset, found, &layout)
            && (found->item_num || offset + size == reader->len)) {
            return 1;
        }
    }
    return 0;
}

/* In one pass, the largest image that the file begins with, of whatever shape;
 * if there is none, the last description that stands where it should. Returns
 * 0 when there is none either. */
static int find_any_image(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    apr_off_t last = reader->len - (apr_off_t)sizeof(slotmem_descriptor_t);
    apr_off_t digested = 0;
    apr_off_t offset;
    apr_md5_ctx_t md5;
    int verified = 0;
    int any = 0;

    apr_md5_init(&md5);
    for (offset = SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST; offset <= last;
         offset++) {
        slotmem_geometry_t candidate;
        slotmem_layout_t layout;
        int this_verified;

        if (!descriptor_at(reader, offset, &candidate, &layout)) {
            continue;
        }
        if (!slotmem_reader_digest(reader, &md5, digested,
                                   layout.digest_offset)) {
            break;
        }
        digested = layout.digest_offset;
        this_verified = slotmem_reader_digest_matches(reader, &md5, digested);
        /* A run of zeros names no slots. */
        if (this_verified || (!verified && candidate.item_num)) {
            *found = candidate;
            any = 1;
        }
        verified |= this_verified;
    }
    return any && reader->status == APR_SUCCESS;
}

static const char *hex_digest(const unsigned char *digest, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 2 * APR_MD5_DIGESTSIZE + 1);
    apr_size_t i;

    for (i = 0; i < APR_MD5_DIGESTSIZE; i++) {
        apr_snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    return text;
}

/* Why no image in the file was restored: expected and found. */
static const char *rejection_reason(slotmem_reader_t *reader,
                               const slotmem_segment_t *segment,
                               apr_pool_t *pool)
{
    const slotmem_geometry_t *requested = &segment->geometry;
    slotmem_geometry_t found;
    const char *shape = apr_psprintf(pool, "expected %u slots of %"
                                     APR_SIZE_T_FMT " bytes, type 0x%x",
                                     requested->item_num, requested->item_size,
                                     requested->type);

    if (reader->status != APR_SUCCESS) {
        return "it cannot be read";
    }
    if (find_descriptor(reader, &found)
        && (found.item_num > requested->item_num
            || found.item_size != requested->item_size
            || found.type != requested->type)) {
        return apr_psprintf(pool, "%s, found %u slots of %" APR_SIZE_T_FMT
                            " bytes, type 0x%x", shape, found.item_num,
                            found.item_size, found.type);
    }
    if (reader->digest_differs) {
        return apr_psprintf(pool, "its MD5 does not fit its content: expected "
                            "%s, found %s", hex_digest(reader->computed, pool),
                            hex_digest(reader->stored, pool));
    }
    return apr_psprintf(pool, "%s, in %" APR_OFF_T_FMT " bytes or more; found "
                        "%" APR_OFF_T_FMT " bytes without a description that "
                        "fits", shape, segment->layout.image_len,
                        reader->len);
}

static int lacks_resources(apr_status_t status)
{
    return APR_STATUS_IS_EMFILE(status) || APR_STATUS_IS_ENOMEM(status)
           || status == ENFILE;
}

static int reject(slotmem_restore_result_t *result, apr_status_t status,
                  const char *reason)
{
    result->outcome = lacks_resources(status) ? SLOTMEM_RESTORE_UNAVAILABLE
                                              : SLOTMEM_RESTORE_REJECTED;
    result->status = status;
    result->reason = reason;
    return 0;
}

/* Of a file that was opened. */
static void reject_content(slotmem_restore_result_t *result,
                           const slotmem_reader_t *reader, const char *reason)
{
    reject(result, reader->status, reason);
    result->reason_kind = reader->status == APR_SUCCESS
                       ? SLOTMEM_REASON_CONTENT : SLOTMEM_REASON_UNREADABLE;
}

static const char *not_regular(apr_filetype_e type)
{
    return type == APR_DIR ? "expected a regular file, found a directory"
         : type == APR_LNK ? "expected a regular file, found a symbolic link"
         : type == APR_PIPE ? "expected a regular file, found a FIFO"
         : "expected a regular file, found something else";
}

/* Is what was opened what was looked at before? Notes by what it can be told,
 * and its length. */
static int check_opened_file(slotmem_restore_result_t *result,
                             slotmem_reader_t *reader,
                             const apr_finfo_t *before)
{
    apr_finfo_t opened;
    apr_status_t rv = apr_file_info_get(&opened, APR_FINFO_TYPE
                                        | APR_FINFO_IDENT | APR_FINFO_SIZE
                                        | APR_FINFO_MTIME | APR_FINFO_CTIME,
                                        reader->file);

    if (rv != APR_SUCCESS) {
        return reject(result, rv, "its length cannot be found out");
    }
    if (opened.filetype != APR_REG || opened.inode != before->inode
        || opened.device != before->device) {
        return reject(result, APR_SUCCESS,
                      "it was exchanged while it was being opened");
    }
    reader->len = opened.size;
    result->file_state.size = opened.size;
    result->file_state.mtime = opened.mtime;
    result->file_state.ctime = opened.ctime;
    result->file_state.inode = opened.inode;
    result->file_state.device = opened.device;
    return 1;
}

/* Open a persisted file to read it, if it is a regular file: anything else
 * is not touched, since opening a FIFO would block the start. */
static int open_regular(slotmem_restore_result_t *result,
                        slotmem_reader_t *reader, const char *path,
                        apr_pool_t *scratch)
{
    apr_finfo_t before;
    apr_status_t rv = apr_stat(&before, path, APR_FINFO_LINK | APR_FINFO_TYPE
                                              | APR_FINFO_IDENT, scratch);

    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv)) {
        result->outcome = SLOTMEM_RESTORE_NO_FILE;
        return 0;
    }
    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return reject(result, rv, "its type cannot be found out");
    }
    if (before.filetype != APR_REG) {
        return reject(result, APR_SUCCESS, not_regular(before.filetype));
    }
    rv = apr_file_open(&reader->file, path,
                       APR_FOPEN_READ | APR_FOPEN_BINARY | APR_FOPEN_NONBLOCK,
                       APR_OS_DEFAULT, scratch);
    if (rv != APR_SUCCESS) {
        return reject(result, rv, "it cannot be opened");
    }
    return check_opened_file(result, reader, &before);
}

/* Restore the image that the file holds, if the segment has room for it. */
static int restore_image(slotmem_restore_result_t *result,
                         slotmem_reader_t *reader, slotmem_segment_t *segment,
                         int with_claims)
{
    slotmem_geometry_t geometry = segment->geometry;
    slotmem_layout_t layout = segment->layout;
    apr_md5_ctx_t md5;

    if ((!matches_requested(reader, &geometry, &layout)
         || !load_image(reader, segment, &geometry, &layout, &md5))
        && (holds_more_slots(reader, &segment->geometry)
            || !find_largest(reader, &segment->geometry, &geometry)
            || slotmem_layout(&layout, &geometry) != APR_SUCCESS
            || !load_image(reader, segment, &geometry, &layout, &md5))) {
        return 0;
    }
    result->item_num = geometry.item_num;
    result->file_state.verified = !with_claims
                           || load_claims(reader, segment, &layout,
                                          geometry.item_num, &md5,
                                          &result->runtime_claims);
    if (reader->status != APR_SUCCESS) {
        clear_segment(segment, &layout);
        return 0;
    }
    return 1;
}

static void restore_from(slotmem_restore_result_t *result,
                         slotmem_reader_t *reader, slotmem_segment_t *segment,
                         int with_claims, apr_pool_t *pool)
{
    if (restore_image(result, reader, segment, with_claims)) {
        result->outcome = SLOTMEM_RESTORE_DONE;
    }
    else {
        reject_content(result, reader,
                       rejection_reason(reader, segment, pool));
    }
}

void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const char *path, apr_pool_t *pool)
{
    apr_pool_t *scratch;
    slotmem_reader_t reader;

    memset(result, 0, sizeof(*result));
    memset(&reader, 0, sizeof(reader));
    apr_pool_create(&scratch, pool);
    reader.window = apr_palloc(scratch, CHUNK);
    if (open_regular(result, &reader, path, scratch)) {
        restore_from(result, &reader, segment, with_claims, pool);
    }
    apr_pool_destroy(scratch);
}

void slotmem_restore_memory(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const unsigned char *bytes, apr_size_t len,
                            apr_pool_t *pool)
{
    apr_pool_t *scratch;
    slotmem_reader_t reader;

    memset(result, 0, sizeof(*result));
    memset(&reader, 0, sizeof(reader));
    apr_pool_create(&scratch, pool);
    reader.window = apr_palloc(scratch, CHUNK);
    reader.memory = bytes;
    reader.len = (apr_off_t)len;
    restore_from(result, &reader, segment, with_claims, pool);
    result->file_state.verified = 0;
    apr_pool_destroy(scratch);
}

void slotmem_identify(slotmem_restore_result_t *result,
                      slotmem_geometry_t *geometry, const char *path,
                      apr_pool_t *pool)
{
    apr_pool_t *scratch;
    slotmem_reader_t reader;

    memset(result, 0, sizeof(*result));
    memset(&reader, 0, sizeof(reader));
    apr_pool_create(&scratch, pool);
    reader.window = apr_palloc(scratch, CHUNK);
    if (open_regular(result, &reader, path, scratch)) {
        if (find_any_image(&reader, geometry)) {
            result->outcome = SLOTMEM_RESTORE_DONE;
        }
        else {
            reject_content(result, &reader, reader.status != APR_SUCCESS
                           ? "it cannot be read"
                           : apr_psprintf(pool, "expected a description where "
                                          "the shape that it names puts it, "
                                          "found none in %" APR_OFF_T_FMT
                                          " bytes", reader.len));
        }
    }
    apr_pool_destroy(scratch);
}

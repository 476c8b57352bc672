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
 * slotmem_restore.c: file to segment: opens the file, and says why it was not
 * restored. slotmem_image.c decides what it holds. When this is called, and
 * what a crash leaves, stands in slotmem_restore.h.
 */

#include <errno.h>
#include <string.h>

#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_restore.h"

#define CHUNK SLOTMEM_CHUNK

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
                                    const slotmem_geometry_t *requested,
                                    apr_pool_t *pool)
{
    slotmem_geometry_t found;
    slotmem_layout_t layout;
    const char *shape = apr_psprintf(pool, "expected %u slots of %"
                                     APR_SIZE_T_FMT " bytes, type 0x%x",
                                     requested->item_num, requested->item_size,
                                     requested->type);

    if (reader->status != APR_SUCCESS) {
        return "it cannot be read";
    }
    if (slotmem_image_describe(reader, &found)
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
    slotmem_layout(&layout, requested);
    return apr_psprintf(pool, "%s, in %" APR_OFF_T_FMT " bytes or more; found "
                        "%" APR_OFF_T_FMT " bytes without a description that "
                        "fits", shape, layout.image_len, reader->len);
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

/* Read what the reader has opened. */
static void restore_from(slotmem_restore_result_t *result,
                         slotmem_image_target_t *target,
                         slotmem_reader_t *reader,
                         const slotmem_geometry_t *requested,
                         apr_pool_t *scratch)
{
    slotmem_geometry_t found;

    reader->window = apr_palloc(scratch, CHUNK);
    if (!slotmem_image_load(target, reader, requested, &found, scratch)) {
        reject_content(result, reader,
                       rejection_reason(reader, requested, target->pool));
        return;
    }
    result->outcome = SLOTMEM_RESTORE_DONE;
    result->item_num = found.item_num;
    result->runtime_claims = target->runtime_claims;
    result->file_state.verified = !reader->memory
                                  && (target->section.claims
                                      || !target->with_claims);
}

/* bytes NULL: a file; else memory. */
static void restore(slotmem_restore_result_t *result,
                    slotmem_image_target_t *target,
                    const slotmem_geometry_t *requested, const char *path,
                    const unsigned char *bytes, apr_size_t len,
                    apr_pool_t *scratch)
{
    slotmem_reader_t reader;

    memset(result, 0, sizeof(*result));
    memset(&reader, 0, sizeof(reader));
    if (bytes) {
        reader.memory = bytes;
        reader.len = (apr_off_t)len;
    }
    if (bytes || open_regular(result, &reader, path, scratch)) {
        restore_from(result, target, &reader, requested, scratch);
    }
}

static void restore_segment(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const char *path, const unsigned char *bytes,
                            apr_size_t len, apr_pool_t *pool)
{
    slotmem_image_target_t target = { .segment = segment,
                                      .with_claims = with_claims,
                                      .pool = pool };
    apr_pool_t *scratch;

    apr_pool_create(&scratch, pool);
    restore(result, &target, &segment->geometry, path, bytes, len, scratch);
    apr_pool_destroy(scratch);
}

void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const char *path, apr_pool_t *pool)
{
    restore_segment(result, segment, with_claims, path, NULL, 0, pool);
}

void slotmem_restore_memory(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const unsigned char *bytes, apr_size_t len,
                            apr_pool_t *pool)
{
    restore_segment(result, segment, with_claims, NULL, bytes, len, pool);
}

static void restore_image(slotmem_restore_result_t *result,
                          slotmem_image_t *image,
                          const slotmem_geometry_t *requested,
                          const char *path, const unsigned char *bytes,
                          apr_size_t len, apr_pool_t *pool)
{
    slotmem_image_target_t target = { .segment = &image->segment,
                                      .image = image,
                                      .with_claims = 1,
                                      .pool = pool };

    memset(image, 0, sizeof(*image));
    restore(result, &target, requested, path, bytes, len, pool);
    image->has_section = target.section.claims != NULL;
    image->words = target.section.words;
    image->words_len = target.section.words_len;
    image->labels = target.section.labels;
    image->labels_len = target.section.labels_len;
}

void slotmem_restore_image(slotmem_restore_result_t *result,
                           slotmem_image_t *image,
                           const slotmem_geometry_t *requested,
                           const char *path, apr_pool_t *pool)
{
    restore_image(result, image, requested, path, NULL, 0, pool);
}

void slotmem_restore_image_memory(slotmem_restore_result_t *result,
                                  slotmem_image_t *image,
                                  const slotmem_geometry_t *requested,
                                  const unsigned char *bytes, apr_size_t len,
                                  apr_pool_t *pool)
{
    restore_image(result, image, requested, NULL, bytes, len, pool);
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
        if (slotmem_image_identify(&reader, geometry)) {
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

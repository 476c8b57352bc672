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
 * slotmem_restore.c: opens a persisted file, restores it, and says why a file
 * was not restored; see slotmem_restore.h. slotmem_image.c reads its content.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_md5.h"
#include "apr_portable.h"
#include "apr_strings.h"

#include "slotmem_restore.h"

#define CHUNK SLOTMEM_CHUNK

/* A file, or its bytes in memory. */
typedef struct source_t {
    const slotmem_directory_t *directory;
    const char *path;
    const unsigned char *bytes;     /* or NULL: a file */
    apr_size_t len;
} source_t;

static const char *hex_digest(const unsigned char *digest, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 2 * APR_MD5_DIGESTSIZE + 1);
    apr_size_t i;

    for (i = 0; i < APR_MD5_DIGESTSIZE; i++) {
        apr_snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    return text;
}

/* Why no image in the file was restored: what was expected and found. */
static const char *refusal_reason(slotmem_reader_t *reader,
                                  const slotmem_geometry_t *requested,
                                  apr_pool_t *pool)
{
    slotmem_geometry_t found;
    slotmem_file_layout_t layout;
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
        return apr_psprintf(pool, "its MD5 does not match its content: "
                            "expected %s, found %s",
                            hex_digest(reader->computed, pool),
                            hex_digest(reader->stored, pool));
    }
    slotmem_file_layout(&layout, requested->item_size, requested->item_num);
    return apr_psprintf(pool, "%s, in %" APR_OFF_T_FMT " bytes or more; found "
                        "%" APR_OFF_T_FMT " bytes without a matching "
                        "descriptor", shape, layout.image_len, reader->len);
}

static int lacks_resources(apr_status_t status)
{
    return APR_STATUS_IS_EMFILE(status) || APR_STATUS_IS_ENOMEM(status)
           || status == ENFILE;
}

static int refuse(slotmem_restore_result_t *result, apr_status_t status,
                  const char *reason)
{
    result->outcome = lacks_resources(status) ? SLOTMEM_RESTORE_UNAVAILABLE
                                              : SLOTMEM_RESTORE_REFUSED;
    result->status = status;
    result->reason = reason;
    return 0;
}

void slotmem_restore_refuse(slotmem_restore_result_t *result,
                            apr_status_t status, const char *reason)
{
    memset(result, 0, sizeof(*result));
    refuse(result, status, reason);
    if (APR_STATUS_IS_ENOENT(status) || APR_STATUS_IS_ENOTDIR(status)) {
        result->outcome = SLOTMEM_RESTORE_NO_FILE;
    }
}

static void refuse_content(slotmem_restore_result_t *result,
                           const slotmem_reader_t *reader, const char *reason)
{
    refuse(result, reader->status, reason);
    result->reason_kind = reader->status == APR_SUCCESS
                       ? SLOTMEM_REASON_CONTENT : SLOTMEM_REASON_UNREADABLE;
}

static const char *not_regular(mode_t mode)
{
    return S_ISDIR(mode)    ? "expected a regular file, found a directory"
           : S_ISLNK(mode)  ? "expected a regular file, found a symbolic link"
           : S_ISFIFO(mode) ? "expected a regular file, found a FIFO"
                            : "expected a regular file, found something else";
}

apr_time_t slotmem_time_of(const struct timespec *time)
{
    return apr_time_from_sec(time->tv_sec) + time->tv_nsec / 1000;
}

void slotmem_file_state_set(slotmem_file_state_t *state,
                            const struct stat *info)
{
    memset(state, 0, sizeof(*state));
    state->known = 1;
    state->size = info->st_size;
    state->mtime = slotmem_time_of(&info->st_mtim);
    state->ctime = slotmem_time_of(&info->st_ctim);
    state->inode = info->st_ino;
    state->device = info->st_dev;
}

/* Is the opened file the one that was examined before, is its owner trusted,
 * and is it small enough? Sets its identity and length. requested NULL: of any
 * size */
static int check_opened_file(slotmem_restore_result_t *result,
                             slotmem_reader_t *reader,
                             const slotmem_directory_t *directory,
                             const struct stat *before,
                             const slotmem_geometry_t *requested,
                             apr_pool_t *pool)
{
    slotmem_file_layout_t layout;
    struct stat opened;
    apr_off_t most;
    apr_os_file_t fd;

    apr_os_file_get(&fd, reader->file);
    if (fstat(fd, &opened) != 0) {
        return refuse(result, errno, "its size cannot be determined");
    }
    if (!S_ISREG(opened.st_mode) || opened.st_ino != before->st_ino
        || opened.st_dev != before->st_dev) {
        return refuse(result, APR_SUCCESS,
                      "it was replaced while it was being opened");
    }
    slotmem_file_state_set(&result->file_state, &opened);
    if (directory && !slotmem_directory_trusts_owner(directory, &opened)) {
        return refuse(result, APR_SUCCESS,
                      apr_psprintf(pool, "it belongs to user %u, group %u; "
                                   "expected user %u or root: if its content "
                                   "is yours, stop the server and chown it",
                                   (unsigned)opened.st_uid,
                                   (unsigned)opened.st_gid,
                                   (unsigned)geteuid()));
    }
    reader->len = opened.st_size;
    if (requested) {
        slotmem_file_layout(&layout, requested->item_size,
                            requested->item_num);
        /* The claims, one byte per slot, may exceed the spare bytes. */
        most = layout.image_len + requested->item_num;
        if (reader->len > SLOTMEM_FILE_EXCESS
            && reader->len - SLOTMEM_FILE_EXCESS > most) {
            return refuse(result, APR_SUCCESS,
                          apr_psprintf(pool, "expected %" APR_OFF_T_FMT
                                       " bytes and at most 16 MiB more, found "
                                       "%" APR_OFF_T_FMT, most, reader->len));
        }
    }
    return 1;
}

static apr_status_t close_file(void *file)
{
    return apr_file_close(file);
}

/* Open a persisted file if it is a regular file: opening a FIFO, for example,
 * would block the start of the server. */
static int open_regular(slotmem_restore_result_t *result,
                        slotmem_reader_t *reader, const source_t *source,
                        const slotmem_geometry_t *requested, apr_pool_t *pool,
                        apr_pool_t *scratch)
{
    const char *name;
    int at = slotmem_directory_fd(source->directory, source->path, &name);
    struct stat before;
    apr_os_file_t fd;

    if (fstatat(at, name, &before, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            result->outcome = SLOTMEM_RESTORE_NO_FILE;
            return 0;
        }
        return refuse(result, errno, "its type cannot be determined");
    }
    if (!S_ISREG(before.st_mode)) {
        return refuse(result, APR_SUCCESS, not_regular(before.st_mode));
    }
    fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        result->outcome = SLOTMEM_RESTORE_NO_FILE;      /* removed meanwhile */
        return 0;
    }
    if (fd < 0) {
        return refuse(result, errno, "it cannot be opened");
    }
    apr_os_file_put(&reader->file, &fd, APR_FOPEN_READ | APR_FOPEN_BINARY,
                    scratch);
    apr_pool_cleanup_register(scratch, reader->file, close_file,
                              apr_pool_cleanup_null);
    return check_opened_file(result, reader, source->directory, &before,
                             requested, pool);
}

/* Start reading a source. requested NULL: a file of any size */
static int start(slotmem_restore_result_t *result, slotmem_reader_t *reader,
                 const source_t *source, const slotmem_geometry_t *requested,
                 apr_pool_t *pool, apr_pool_t *scratch)
{
    memset(result, 0, sizeof(*result));
    memset(reader, 0, sizeof(*reader));
    reader->window = apr_palloc(scratch, CHUNK);
    if (source->bytes) {
        reader->memory = source->bytes;
        reader->len = (apr_off_t)source->len;
        return 1;
    }
    return open_regular(result, reader, source, requested, pool, scratch);
}

static void restore(slotmem_restore_result_t *result,
                    slotmem_image_target_t *target,
                    const slotmem_geometry_t *requested,
                    const source_t *source, apr_pool_t *scratch)
{
    slotmem_geometry_t found;
    slotmem_reader_t reader;

    if (!start(result, &reader, source, requested, target->pool, scratch)) {
        return;
    }
    if (!slotmem_image_load(target, &reader, requested, &found, scratch)) {
        refuse_content(result, &reader,
                       refusal_reason(&reader, requested, target->pool));
        return;
    }
    result->outcome = SLOTMEM_RESTORE_DONE;
    result->item_num = found.item_num;
    result->runtime_claims = target->runtime_claims;
    result->file_state.verified = !source->bytes
                                  && (target->section.claims
                                      || !target->with_claims);
}

static void restore_segment(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const source_t *source, apr_pool_t *pool)
{
    slotmem_image_target_t target = { .segment = segment,
                                      .with_claims = with_claims,
                                      .pool = pool };
    apr_pool_t *scratch;

    apr_pool_create(&scratch, pool);
    restore(result, &target, &segment->geometry, source, scratch);
    apr_pool_destroy(scratch);
}

void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const slotmem_directory_t *directory, const char *path,
                     apr_pool_t *pool)
{
    source_t source = { .directory = directory, .path = path };

    restore_segment(result, segment, with_claims, &source, pool);
}

void slotmem_restore_memory(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const unsigned char *bytes, apr_size_t len,
                            apr_pool_t *pool)
{
    source_t source = { .bytes = bytes, .len = len };

    restore_segment(result, segment, with_claims, &source, pool);
}

static void restore_image(slotmem_restore_result_t *result,
                          slotmem_image_t *image,
                          const slotmem_geometry_t *requested,
                          const source_t *source, apr_pool_t *pool)
{
    slotmem_image_target_t target = { .segment = &image->segment,
                                      .image = image,
                                      .with_claims = 1,
                                      .pool = pool };

    memset(image, 0, sizeof(*image));
    restore(result, &target, requested, source, pool);
    image->has_section = target.section.claims != NULL;
    image->words = target.section.words;
    image->words_len = target.section.words_len;
    image->labels = target.section.labels;
    image->labels_len = target.section.labels_len;
}

void slotmem_restore_image(slotmem_restore_result_t *result,
                           slotmem_image_t *image,
                           const slotmem_geometry_t *requested,
                           const slotmem_directory_t *directory,
                           const char *path, apr_pool_t *pool)
{
    source_t source = { .directory = directory, .path = path };

    restore_image(result, image, requested, &source, pool);
}

void slotmem_restore_image_memory(slotmem_restore_result_t *result,
                                  slotmem_image_t *image,
                                  const slotmem_geometry_t *requested,
                                  const unsigned char *bytes, apr_size_t len,
                                  apr_pool_t *pool)
{
    source_t source = { .bytes = bytes, .len = len };

    restore_image(result, image, requested, &source, pool);
}

void slotmem_identify(slotmem_restore_result_t *result,
                      slotmem_geometry_t *geometry, const char *path,
                      apr_pool_t *pool)
{
    source_t source = { .path = path };
    slotmem_reader_t reader;
    apr_pool_t *scratch;

    apr_pool_create(&scratch, pool);
    if (!start(result, &reader, &source, NULL, pool, scratch)) {
        /* the result has the reason */
    }
    else if (slotmem_image_identify(&reader, geometry)) {
        result->outcome = SLOTMEM_RESTORE_DONE;
    }
    else {
        refuse_content(result, &reader, reader.status != APR_SUCCESS
                       ? "it cannot be read"
                       : "not a slotmem file, or damaged");
    }
    apr_pool_destroy(scratch);
}

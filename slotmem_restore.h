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
 * slotmem_restore.h: restores a segment from its persisted file.
 * slotmem_image.h decides which bytes are valid; slotmem_format.h has the
 * layout.
 *
 * Lifecycle: a restore fills a new segment that no other process can access
 * yet. It changes no file. slotmem_identify() needs no segment, and may be
 * called on any file at any time.
 *
 * A crash leaves nothing behind.
 *
 * Concurrency: the file may be replaced meanwhile; the one that was opened is
 * read.
 */

#ifndef SLOTMEM_RESTORE_H
#define SLOTMEM_RESTORE_H

#include "apr_file_io.h"

#include "slotmem_directory.h"
#include "slotmem_image.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** A file may be this many bytes longer than the requested segment and its
 *  claims need. A larger one is not read (contract B7). */
#define SLOTMEM_FILE_EXCESS ((apr_off_t)16 << 20)

/** Process-local: the identity of the file at a path. */
typedef struct slotmem_file_state_t {
    int known;                      /**< 1: this server has read or written it.
                                         0: the rest is unset */
    int verified;                   /**< 1: each MD5 in it matches the bytes
                                         before it */
    int synced;                     /**< 1: it and its directory were fsynced
                                         since it was put there */
    /* These tell whether it is still the same file, unchanged; mtime alone
     * could have been reset. */
    apr_off_t size;
    apr_time_t mtime;
    apr_time_t ctime;
    apr_ino_t inode;
    apr_dev_t device;
} slotmem_file_state_t;

/** Set the identity of a file that is neither verified nor synced. */
void slotmem_file_state_set(slotmem_file_state_t *state,
                            const struct stat *info);

/** @return the time in microseconds since 1970 */
apr_time_t slotmem_time_of(const struct timespec *time);

/** Process-local: how a restore went. */
typedef struct slotmem_restore_result_t {
    enum {
        SLOTMEM_RESTORE_NO_FILE,    /**< nothing to restore */
        SLOTMEM_RESTORE_DONE,       /**< restored: item_num slots */
        SLOTMEM_RESTORE_REFUSED,    /**< a file that cannot be restored: the
                                         first store sets it aside */
        SLOTMEM_RESTORE_UNAVAILABLE /**< not read, for lack of memory or
                                         descriptors: it must not be replaced */
    } outcome;
    apr_status_t status;            /**< the failing call's, or APR_SUCCESS */
    const char *reason;             /**< expected and found; NULL if done */
    enum {
        SLOTMEM_REASON_UNOPENED,    /**< not a regular file, or it could not be
                                         opened */
        SLOTMEM_REASON_UNREADABLE,  /**< reading failed */
        SLOTMEM_REASON_CONTENT      /**< its MD5 or its descriptor does not
                                         match */
    } reason_kind;                  /**< unset if done */
    apr_uint32_t item_num;          /**< slots in the file, if done */
    apr_uint32_t runtime_claims;    /**< how many of them are run-time claims */
    slotmem_file_state_t file_state; /**< of the file, if it was opened */
} slotmem_restore_result_t;

/**
 * Restore a new segment from its persisted file (contract E2 to E5).
 * @param segment all bytes zero, and no other process has it. Unless the
 *        outcome is SLOTMEM_RESTORE_DONE, all bytes are zero afterwards.
 * @param with_claims restore the run-time claims too, as in-use flags
 * @param directory of the file, open; the file's owner must be trusted there.
 *        NULL: use path as it is, and trust any owner
 * @param path the persisted file
 * @param pool for the texts of the result; scratch memory is freed
 */
void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const slotmem_directory_t *directory, const char *path,
                     apr_pool_t *pool);

/**
 * Read an image of any number of slots (contract E6).
 * @param image filled in if the outcome is SLOTMEM_RESTORE_DONE
 * @param requested the file must have its item_size and type
 * @param pool for the image and everything else
 */
void slotmem_restore_image(slotmem_restore_result_t *result,
                           slotmem_image_t *image,
                           const slotmem_geometry_t *requested,
                           const slotmem_directory_t *directory,
                           const char *path, apr_pool_t *pool);

/**
 * Set the result for a file whose directory could not be opened.
 * @param status the system's code; APR_SUCCESS if there is only the reason
 */
void slotmem_restore_refuse(slotmem_restore_result_t *result,
                            apr_status_t status, const char *reason);

/** The same from the bytes of a file in memory. The file_state is left
 *  unset. */
void slotmem_restore_memory(slotmem_restore_result_t *result,
                            slotmem_segment_t *segment, int with_claims,
                            const unsigned char *bytes, apr_size_t len,
                            apr_pool_t *pool);
void slotmem_restore_image_memory(slotmem_restore_result_t *result,
                                  slotmem_image_t *image,
                                  const slotmem_geometry_t *requested,
                                  const unsigned char *bytes, apr_size_t len,
                                  apr_pool_t *pool);

/**
 * Find out the geometry of a file: that of the largest image that the file
 * starts with or, if no MD5 matches, that of the last descriptor at an offset
 * that fits its own geometry. The caller verifies it with slotmem_restore().
 * Reads the whole file.
 * @param result its outcome is SLOTMEM_RESTORE_DONE if a descriptor was found;
 *        item_num and runtime_claims are unset
 * @param geometry undefined unless the outcome is SLOTMEM_RESTORE_DONE
 * @param pool for the texts of the result; scratch memory is freed
 */
void slotmem_identify(slotmem_restore_result_t *result,
                      slotmem_geometry_t *geometry, const char *path,
                      apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_RESTORE_H */

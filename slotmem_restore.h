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
 * slotmem_restore.h: file to segment: which persisted file is restored, and
 * how. Its layout stands in slotmem_format.h.
 *
 * Lifecycle: a restore fills a new segment that no other process has yet. It
 * changes no file. slotmem_identify() needs no segment, and may be called on
 * any file at any time.
 *
 * A crash leaves nothing.
 *
 * Concurrency: the segment is the caller's alone. The file may be replaced
 * meanwhile: what was opened is what is read.
 */

#ifndef SLOTMEM_RESTORE_H
#define SLOTMEM_RESTORE_H

#include "apr_file_io.h"

#include "slotmem_directory.h"
#include "slotmem_image.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** So many bytes more than the segment that is asked for and its claims may a
 *  file have; what is larger is not read (contract B7). */
#define SLOTMEM_FILE_SPARE ((apr_off_t)16 << 20)

/** Process-local: which file stands at a path. */
typedef struct slotmem_file_state_t {
    int known;                      /**< 1: this server has read or written it.
                                         0: the rest is unset */
    int verified;                   /**< 1: each MD5 in it was seen to fit the
                                         bytes before it */
    int synced;                     /**< 1: it and its directory went through
                                         fsync() since it was put there */
    apr_off_t size;                 /**< with the next four, how to tell */
    apr_time_t mtime;               /**< that it is still the same file, as */
    apr_time_t ctime;               /**< it was: mtime can be put back */
    apr_ino_t inode;
    apr_dev_t device;
} slotmem_file_state_t;

/** Know a file: not verified, not synced. */
void slotmem_file_state_set(slotmem_file_state_t *state,
                            const struct stat *info);

/** @return the time in microseconds since 1970 */
apr_time_t slotmem_time_of(const struct timespec *time);

/** Process-local: how a restore went. */
typedef struct slotmem_restore_result_t {
    enum {
        SLOTMEM_RESTORE_NO_FILE,    /**< nothing to restore */
        SLOTMEM_RESTORE_DONE,       /**< restored: item_num slots */
        SLOTMEM_RESTORE_REJECTED,   /**< a file that cannot be restored: it is
                                         set aside by the first store */
        SLOTMEM_RESTORE_UNAVAILABLE /**< not read for want of resources: it
                                         must not be replaced */
    } outcome;
    apr_status_t status;            /**< the failing call's, or APR_SUCCESS */
    const char *reason;             /**< expected and found; NULL if done */
    enum {
        SLOTMEM_REASON_UNOPENED,    /**< not read: no regular file, or one that
                                         could not be opened */
        SLOTMEM_REASON_UNREADABLE,  /**< opened, and reading failed */
        SLOTMEM_REASON_CONTENT      /**< read, and its MD5 or its description
                                         does not fit */
    } reason_kind;                  /**< the kind of reason; unset if done */
    apr_uint32_t item_num;          /**< slots that the file held, if done */
    apr_uint32_t runtime_claims;          /**< of them, claimed at run time */
    slotmem_file_state_t file_state; /**< what the file is, if it was opened */
} slotmem_restore_result_t;

/**
 * Restore a new segment from its persisted file (contract E2 to E5).
 * @param segment new: all bytes zero, no other process has it. It is that
 *        again unless the outcome is SLOTMEM_RESTORE_DONE.
 * @param with_claims restore the run-time claims too, as in use
 * @param directory of the file, open. The file's owner must be one that is
 *        trusted there. NULL: path says it all, and anybody is
 * @param path the persisted file
 * @param pool for the texts of the result; scratch memory is given back
 */
void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const slotmem_directory_t *directory, const char *path,
                     apr_pool_t *pool);

/**
 * Read an image of any number of slots (contract E6).
 * @param image filled in if the outcome is SLOTMEM_RESTORE_DONE
 * @param requested item_size and type must be the file's
 * @param pool for the image and all else
 */
void slotmem_restore_image(slotmem_restore_result_t *result,
                           slotmem_image_t *image,
                           const slotmem_geometry_t *requested,
                           const slotmem_directory_t *directory,
                           const char *path, apr_pool_t *pool);

/**
 * The result for a file that could not even be looked for.
 * @param status why; APR_SUCCESS: reason says it all
 */
void slotmem_restore_reject(slotmem_restore_result_t *result,
                            apr_status_t status, const char *reason);

/**
 * The two from memory that has the bytes of a file. Nothing is known of any
 * file then: verified is 0.
 */
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
 * What segment a persisted file describes, for those who were not told: the
 * largest image that the file begins with; if no MD5 fits, the last description
 * that stands where the shape it names puts it. To be verified by
 * slotmem_restore(). Reads the whole file.
 * @param result how that went; in it outcome SLOTMEM_RESTORE_DONE says that
 *        there is a description, and item_num and claims are unset
 * @param geometry the shape; undefined unless the outcome is
 *        SLOTMEM_RESTORE_DONE
 * @param pool for the texts of the result; scratch memory is given back
 */
void slotmem_identify(slotmem_restore_result_t *result,
                      slotmem_geometry_t *geometry, const char *path,
                      apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_RESTORE_H */

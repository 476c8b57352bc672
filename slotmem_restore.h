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
 * slotmem_restore.h: the persisted file of a segment: verify, restore, store.
 * Its layout stands in mod_slotmem_shm.h.
 *
 * Lifecycle: a restore fills a new segment that no other process has yet. A
 * store may run at any time while others write the slots: it writes to a new
 * file, P.tmp, flushes it, and renames it to P.
 *
 * A crash: P is the old state or the new one, whole, at every instruction. A
 * P.tmp that is left is removed by the next store of the same file. A kill
 * between setting a refused P aside and the rename leaves it as P.bad-N alone.
 *
 * Concurrency: one process at a time stores a file; the caller sees to that.
 * The memory is only read by a store, copied piece by piece, and the digest is
 * over the copy: it fits the bytes in the file whatever the others write.
 */

#ifndef SLOTMEM_RESTORE_H
#define SLOTMEM_RESTORE_H

#include "apr_file_io.h"

#include "mod_slotmem_shm.h"
#include "slotmem_segment.h"

#ifndef APR_FOPEN_NONBLOCK      /* early APR: a regular file needs it not */
#define APR_FOPEN_NONBLOCK 0
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: which file stands at a path. */
typedef struct slotmem_file_state_t {
    int verified;                   /**< 1: one of which each MD5 was seen to
                                         fit the bytes before it. 0: not known,
                                         and the rest is unset */
    int synced;                     /**< 1: its folder was flushed since it was
                                         put there */
    apr_off_t size;                 /**< with the next four, how to tell */
    apr_time_t mtime;               /**< that it is still the same file, as */
    apr_time_t ctime;               /**< it was: mtime can be put back */
    apr_ino_t inode;
    apr_dev_t device;
} slotmem_file_state_t;

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
    slotmem_file_state_t file_state; /**< what the file is, if done */
} slotmem_restore_result_t;

/** The description of a geometry, as it stands in a file. */
slotmem_descriptor_t slotmem_descriptor_of(const slotmem_geometry_t *geometry);

/**
 * Restore a new segment from its persisted file (contract E2 to E5).
 * @param segment new: all bytes zero, no other process has it. It is that
 *        again unless the outcome is SLOTMEM_RESTORE_DONE.
 * @param with_claims restore the run-time claims too, as in use
 * @param path the persisted file
 * @param pool for the texts of the result; scratch memory is given back
 */
void slotmem_restore(slotmem_restore_result_t *result,
                     slotmem_segment_t *segment, int with_claims,
                     const char *path, apr_pool_t *pool);

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

/** Bytes read, or copied, checksummed and written, at a time. */
#define SLOTMEM_CHUNK ((apr_size_t)65536)

/** A refused file is kept as path.bad-1 to path.bad-SLOTMEM_BAD_FILES. */
#define SLOTMEM_BAD_FILES 4

/** Process-local: one file to store, and how that went. */
typedef struct slotmem_store_t {
    const slotmem_segment_t *segment;
    const char *path;               /**< the persisted file */
    const slotmem_word_t *config_claims; /**< NULL: store the in-use flags as
                                         they are. Else CLEARINUSE: store none,
                                         and as run-time claims the slots in use
                                         that have no bit here */
    int set_aside;                  /**< what stands at path was refused: move
                                         it away first; 0 once that is done */
    slotmem_file_state_t file_state; /**< what stands at path; kept up to date.
                                         A file that is known and would get
                                         the bytes it has is only read */
    /* how it went; set by slotmem_store_continue() */
    apr_status_t status;
    const char *step;               /**< what failed, or NULL: then what stood
                                         at path stays there, unless it is the
                                         flush of the directory that failed */
    int unchanged;                  /**< 1: nothing had to be written */
    const char *aside;              /**< where the refused file went, or NULL */
    int aside_replaced;             /**< ... and replaced an older one there */
    /* scratch */
    const char *tmp;
    apr_file_t *file;               /* compared with, or written; or NULL */
    slotmem_word_t *in_use;          /* the map, as it was first seen */
    apr_size_t slots_done;          /* bytes of the slots passed so far */
    enum { SLOTMEM_STORE_NEW, SLOTMEM_STORE_COMPARES, SLOTMEM_STORE_WRITES }
        pass;
} slotmem_store_t;

/** Process-local: files that are being stored together. */
typedef struct slotmem_store_run_t slotmem_store_run_t;

/**
 * Begin to store segments to their persisted files. Nothing is touched yet.
 * @param stores filled in by the caller down to stored; they must last as
 *        long as the run
 * @param pool for the run, the texts of the results and scratch memory
 */
slotmem_store_run_t *slotmem_store_begin(slotmem_store_t *stores, int num,
                                         apr_pool_t *pool);

/**
 * Go on with a run. In batches, all files are written before the first is
 * flushed, and flushed before the first is renamed; a directory is flushed
 * once a run: many files share their flushes. A store that fails has its
 * status and step set, and the others go on.
 * @param deadline when to return with work left, checked after every chunk
 *        and every file; 0: never
 * @return 1 when the run is over, 0 when there is work left
 */
int slotmem_store_continue(slotmem_store_run_t *run, apr_time_t deadline);

/** Give a run up that is not over: its new files are removed. */
void slotmem_store_abandon(slotmem_store_run_t *run);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_RESTORE_H */

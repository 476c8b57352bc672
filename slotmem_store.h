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
 * slotmem_store.h: writes segments to their files, if something has changed.
 * slotmem_serialize.h says which bytes a file gets.
 *
 * Lifecycle: a store may run at any time, while other processes write the
 * slots. It writes a new file P.tmp-T, fsyncs it, and renames it to P. T is
 * unique to the server.
 *
 * The file at P is only replaced if this server has read or written it.
 * Otherwise it is first set aside: renamed to P.bad-N.
 *
 * After a crash at any instruction P is whole, with the old state or the new.
 * slotmem_store_clean() removes a P.tmp-T that is left behind. After a kill
 * between setting P aside and renaming the new file there is only P.bad-N.
 *
 * Concurrency: the caller ensures that only one process at a time stores a
 * file. A store only reads the segment.
 */

#ifndef SLOTMEM_STORE_H
#define SLOTMEM_STORE_H

#include "slotmem_restore.h"
#include "slotmem_serialize.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** A refused file is kept as path.bad-1 to path.bad-SLOTMEM_BAD_FILES. */
#define SLOTMEM_BAD_FILES 4

/** What can fail in a store. */
typedef enum slotmem_step_e {
    SLOTMEM_STEP_NONE,              /**< nothing has failed */
    SLOTMEM_STEP_MEMORY,
    SLOTMEM_STEP_OPEN_DIRECTORY,
    SLOTMEM_STEP_TRUST_DIRECTORY,
    SLOTMEM_STEP_CREATE,
    SLOTMEM_STEP_WRITE,
    SLOTMEM_STEP_SYNC,
    SLOTMEM_STEP_CLOSE,
    SLOTMEM_STEP_SET_ASIDE,
    SLOTMEM_STEP_KEEP,
    SLOTMEM_STEP_RENAME,
    SLOTMEM_STEP_SYNC_DIRECTORY,
    SLOTMEM_STEPS,
    /* for callers of slotmem_store() */
    SLOTMEM_STEP_FINISH = SLOTMEM_STEPS, /**< the process that stored ended
                                         early */
    SLOTMEM_STEP_EARLIER            /**< it failed before the restart */
} slotmem_step_e;

/** @return the step in words that complete "cannot " */
const char *slotmem_step_text(slotmem_step_e step);

/** Process-local: one file to store, and how that went. */
typedef struct slotmem_store_t {
    slotmem_content_t content;
    const slotmem_directory_t *directory; /**< of the file, open; or NULL: use
                                         path as it is */
    const char *path;               /**< the persisted file */
    int backup;                     /**< 1: keep the file at path as path.bak;
                                         0 once that is done */
    int set_aside;                  /**< 1: the file at path was refused: move
                                         it away first; 0 once that is done */
    slotmem_file_state_t file_state; /**< the file at path; kept up to date. If
                                         it is verified and has the right bytes
                                         already, it is only read. A file that
                                         is neither this one nor new_state is
                                         set aside */
    slotmem_file_state_t new_state; /**< on entry: a file that may be at path
                                         instead, because an earlier store ended
                                         between its rename and its report;
                                         during the store: the new file */
    /* how it went; set by slotmem_store() */
    apr_status_t status;
    slotmem_step_e step;            /**< what failed. The old file is still at
                                         path, unless fsync of the directory is
                                         what failed */
    int unchanged;                  /**< 1: nothing had to be written */
    int installed;                  /**< 1: the new file is at path */
    const char *aside;              /**< where the refused file went, or NULL */
    int aside_replaced;             /**< 1: aside replaced an older file */
    /* scratch */
    const char *tmp;
    apr_file_t *file;               /* being compared or written; or NULL */
    slotmem_word_t *in_use;         /* memory for a copy of the map */
} slotmem_store_t;

/** Process-local: a caller that follows the progress of its stores. */
typedef struct slotmem_store_watch_t {
    const char *token;              /**< for temporary names: unique to this
                                         server */
    void (*tell)(void *data, int index); /**< called just before a store puts
                                         its new file in place, and whenever
                                         the result of a store has changed */
    void *data;
} slotmem_store_watch_t;

/**
 * Store segments to their persisted files: write all files, fsync all, rename
 * all, then fsync each directory once. Only one file is open at a time. If a
 * store fails, its status and step are set, and the others continue.
 * @param stores filled in by the caller down to new_state
 * @param watch or NULL: do not report, and use the pid as token
 * @param pool for the texts of the results and scratch memory; running out of
 *        memory is fatal
 */
void slotmem_store(slotmem_store_t *stores, int num,
                   const slotmem_store_watch_t *watch, apr_pool_t *pool);

/**
 * Remove the temporary files that dead servers left beside files that this
 * server may store.
 * @param directory open
 * @param stores only their directory and path are used
 * @param token of this server, whose own temporary files stay
 */
void slotmem_store_clean(const slotmem_directory_t *directory,
                         const slotmem_store_t *stores, int num,
                         const char *token);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STORE_H */

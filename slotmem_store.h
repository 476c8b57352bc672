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
 * slotmem_store.h: segment to file. Its layout stands in slotmem_format.h.
 *
 * Lifecycle: a store may run at any time while others write the slots: it
 * writes to a new file, P.tmp, flushes it, and renames it to P.
 *
 * A crash: P is the old state or the new one, whole, at every instruction. A
 * P.tmp that is left is removed by the next store of the same file. A kill
 * between setting a refused P aside and the rename leaves it as P.bad-N alone.
 *
 * Concurrency: one process at a time stores a file; the caller sees to that.
 * The memory is only read by a store, copied piece by piece, and the digest is
 * over the copy: it fits the bytes in the file whatever the others write.
 */

#ifndef SLOTMEM_STORE_H
#define SLOTMEM_STORE_H

#include "slotmem_restore.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

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
    const char *words;              /**< with config_claims, for our section: */
    apr_size_t words_len;           /**< SLOTMEM_FILE_WORDS and */
    const char *labels;             /**< SLOTMEM_FILE_LABELS, each if its */
    apr_size_t labels_len;          /**< length is not 0; in bytes */
    int backup;                     /**< what stands at path is to be kept as
                                         path.bak; 0 once that is done */
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

#endif /* SLOTMEM_STORE_H */

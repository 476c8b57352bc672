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
 * writes to a new file, calls fsync() for it, and renames it to P. The new file
 * is called P.tmp-T, where T is the server's alone.
 *
 * What stands at P is only replaced if this server has read or written it. Else
 * it is set aside: renamed to P.bad-N.
 *
 * A crash: P is the old state or the new one, whole, at every instruction. A
 * P.tmp-T that is left is removed by slotmem_store_clean(). A kill between
 * setting P aside and the rename leaves it as P.bad-N alone.
 *
 * Concurrency: one process at a time stores a file; the caller sees to that.
 * The memory is only read by a store, copied piece by piece, and the digest is
 * over the copy: it fits the bytes in the file whatever the others write.
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

/** Process-local: one file to store, and how that went. */
typedef struct slotmem_store_t {
    slotmem_content_t content;
    const slotmem_directory_t *directory; /**< of the file, open; or NULL: path
                                         says it all */
    const char *path;               /**< the persisted file */
    int backup;                     /**< what stands at path is to be kept as
                                         path.bak; 0 once that is done */
    int set_aside;                  /**< what stands at path was refused: move
                                         it away first; 0 once that is done */
    slotmem_file_state_t file_state; /**< what stands at path; kept up to date.
                                         A verified file that would get the
                                         bytes it has is only read. One that is
                                         neither this nor the next is set
                                         aside */
    slotmem_file_state_t new_state; /**< what may stand there instead, because
                                         a store has ended between its rename
                                         and its report; then: the new file */
    /* how it went; set by slotmem_store() */
    apr_status_t status;
    const char *step;               /**< what failed, or NULL: then what stood
                                         at path stays there, unless it is the
                                         flush of the directory that failed */
    int unchanged;                  /**< 1: nothing had to be written */
    int installed;                  /**< 1: the new file stands at path */
    const char *aside;              /**< where the refused file went, or NULL */
    int aside_replaced;             /**< ... and replaced an older one there */
    /* scratch */
    const char *tmp;
    apr_file_t *file;               /* compared with, or written; or NULL */
    slotmem_word_t *in_use;          /* the map, as it was first seen */
} slotmem_store_t;

/** Process-local: who wants to know how it goes. */
typedef struct slotmem_store_watch_t {
    const char *token;              /**< for temporary names: no other server
                                         has it */
    void (*tell)(void *data, int index); /**< called just before a store puts
                                         its new file in place, and each time
                                         that the result of one has changed */
    void *data;
} slotmem_store_watch_t;

/**
 * Store segments to their persisted files. All files are written before fsync()
 * is called for the first, and that is called for all before the first is
 * renamed; it is called once for a directory. A store that fails has its status
 * and step set, and the others go on. One file is open at a time.
 * @param stores filled in by the caller down to file_state
 * @param watch or NULL: nobody, and the process is known by its pid
 * @param pool for the texts of the results and scratch memory; not enough of
 *        it is fatal
 */
void slotmem_store(slotmem_store_t *stores, int num,
                   const slotmem_store_watch_t *watch, apr_pool_t *pool);

/**
 * Remove the temporary files that dead servers have left beside files which
 * this one may store.
 * @param directory that is open
 * @param stores their directory and path count
 * @param token of this server; its own files stay
 */
void slotmem_store_clean(const slotmem_directory_t *directory,
                         const slotmem_store_t *stores, int num,
                         const char *token);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STORE_H */

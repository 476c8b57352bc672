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
 * slotmem_carried.h: what outlives a generation: the images of segments that
 * it could not store, copies of those that it has stored, and the process that
 * may still be storing.
 *
 * Lifecycle: an image is added when a generation ends at a restart. The next
 * generation may restore a segment from it, and frees it on reaching the MPM.
 * An image that is not stored, and that no segment takes, stays until it is.
 * All this is found through httpd's retained data, and has no cleanup, because
 * a restart may unload the module and load it again. It is malloc()ed, except
 * for the bytes of the copies: they are in one mapping, so that all of it goes
 * back to the system, and so that no process of another module inherits it.
 *
 * A crash of the parent loses the images.
 *
 * Concurrency: called only by the parent's main thread. Children inherit all
 * but the bytes of the copies, and do not use it.
 */

#ifndef SLOTMEM_CARRIED_H
#define SLOTMEM_CARRIED_H

#include "apr_hash.h"

#include "slotmem_process.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: the state of a segment, as the bytes of its file. */
typedef struct slotmem_carried_t {
    struct slotmem_carried_t *next;
    struct slotmem_carried_t *prev;
    const char *path;               /**< the persisted file */
    const char *name;               /**< of the segment; for the log */
    unsigned char *bytes;
    apr_size_t len;
    int set_aside;                  /**< 1: when storing it, set the file at
                                         path aside */
    int backup;                     /**< 1: when storing it, keep the file at
                                         path as path.bak */
    int checked;                    /**< 1: path is in SlotmemPersistDir */
    slotmem_file_state_t file_state; /**< see slotmem_store_t */
    slotmem_file_state_t new_state;
    int note;                       /**< index of its note, or -1 */
    int stored;                     /**< 1: a copy of what the file holds, to
                                         save the next generation from reading
                                         it; it has no digests and is not
                                         stored again */
    int taken;                      /**< 1: a segment was restored from it */
    int refused;                    /**< 1: it did not fit the segment: store
                                         it first; the store of the segment then
                                         sets it aside */
    int failed;                     /**< 1: a failure to store it was logged */
} slotmem_carried_t;

/** Process-local: found again after a restart. */
typedef struct slotmem_retained_t {
    pid_t owner;                    /**< the parent; 0: nothing was carried */
    int generation;                 /**< of the configuration that ended */
    slotmem_carried_t *images;      /**< oldest first */
    slotmem_carried_t *last;        /**< of them */
    apr_hash_t *by_path;            /**< all images; NULL: there was none yet */
    unsigned char *copies;          /**< the bytes of the copies; or NULL */
    apr_size_t copies_len;
    slotmem_process_t process;      /**< that stores */
    char token[12];                 /**< for temporary files of token_owner */
    pid_t token_owner;              /**< the parent; 0: there is no token */
    apr_time_t all_stored_at;       /**< when the last generation ended with all
                                         files stored; 0: it did not */
} slotmem_retained_t;

/** @return what outlives generations; never NULL. Not before pre_config. */
slotmem_retained_t *slotmem_retained(void);

/**
 * Carry an image. It replaces an older one for the same path.
 * @param bytes malloc()ed, unless it is a copy; the caller gives them up, even
 *        on failure
 * @param stored 1: it is a copy of what the file holds
 * @return NULL: there is no memory
 */
slotmem_carried_t *slotmem_carried_add(const char *path, const char *name,
                                       unsigned char *bytes, apr_size_t len,
                                       int stored);

/** Map memory for the bytes of all copies.
 *  @return NULL: len is 0, there is no memory, or too little would be left */
unsigned char *slotmem_carried_map_copies(apr_size_t len);

/** Remove and free all copies. */
void slotmem_carried_free_copies(void);

/** @return the image to restore a segment from: that for the path; else that
 *  for the name, whose file was in another directory before the restart; else
 *  NULL */
slotmem_carried_t *slotmem_carried_find(const char *path, const char *name);

/** Remove and free an image. */
void slotmem_carried_free(slotmem_carried_t *image);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_CARRIED_H */

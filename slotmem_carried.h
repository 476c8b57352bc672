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
 * slotmem_carried.h: what outlives a generation: the images of segments that it
 * could not store, and the process that may still be at it.
 *
 * Lifecycle: an image is added when a generation ends at a restart. The next
 * configuration pass may take it, to restore a segment from it, and it goes
 * when that generation has reached the MPM; one that nobody takes stays until
 * it has been stored. All this is malloc()ed, found again by httpd's retained
 * data, and has no cleanup: the module may have been loaded anew in between.
 *
 * A crash of the parent loses the images.
 *
 * Concurrency: called by the parent's one thread alone. Children have a copy.
 */

#ifndef SLOTMEM_CARRIED_H
#define SLOTMEM_CARRIED_H

#include "slotmem_process.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: the state of a segment, as the bytes of its file. */
typedef struct slotmem_carried_t {
    struct slotmem_carried_t *next;
    const char *path;               /**< the persisted file */
    const char *name;               /**< of the segment; for the log */
    unsigned char *bytes;
    apr_size_t len;
    int set_aside;                  /**< what stands at path was refused */
    int backup;                     /**< ... or is to be kept as path.bak */
    int checked;                    /**< path is in SlotmemPersistDir */
    slotmem_file_state_t file_state; /**< see slotmem_store_t */
    slotmem_file_state_t new_state;
    int note;                       /**< of the process, or -1 */
    int taken;                      /**< 1: a segment was restored from it */
    int refused;                    /**< 1: it did not fit the segment: it is
                                         stored, and then set aside */
    int failed;                     /**< 1: the log says that it could not be
                                         stored */
} slotmem_carried_t;

/** Process-local: found again after a restart. */
typedef struct slotmem_outliving_t {
    pid_t owner;                    /**< the parent; 0: nothing was carried */
    int generation;                 /**< of the configuration that ended */
    slotmem_carried_t *images;      /**< oldest first */
    slotmem_process_t process;      /**< that stores */
    char token[12];                 /**< for the temporary files of owner; "":
                                         not made yet */
    pid_t token_owner;
    apr_time_t all_stored;          /**< when the last generation had stored all
                                         files; 0: not all */
} slotmem_outliving_t;

/** @return what outlives generations; never NULL. After pre_config only. */
slotmem_outliving_t *slotmem_outliving(void);

/**
 * Carry an image. An older one for the same path goes.
 * @param bytes malloc()ed; this room's from now on, whatever happens
 * @return NULL: there is no memory
 */
slotmem_carried_t *slotmem_carried_add(const char *path, const char *name,
                                       unsigned char *bytes, apr_size_t len);

/** @return the image to restore a segment from: it was carried when the last
 *  configuration ended; or NULL. One of that path, or else one of that name:
 *  its file was in another directory then */
slotmem_carried_t *slotmem_carried_find(const char *path, const char *name);

/** Give an image up. */
void slotmem_carried_free(slotmem_carried_t *image);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_CARRIED_H */

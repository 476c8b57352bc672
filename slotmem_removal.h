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
 * slotmem_removal.h: workers that the next restart removes. mod_proxy_balancer
 * cannot remove a worker that was added at run time, so an operator requests it
 * with slotmem-file, which writes P.remove beside the persisted file P:
 *
 *     slotmem-removal 1
 *     ID URL                       one line per worker
 *
 * ID is that of slotmem_worker_identify(), in hex. URL is only for people.
 *
 * Lifecycle: slotmem-file writes the file at any time. A restore leaves out the
 * workers that it names, unless the configuration has them. After the next
 * successful store the file is removed, if it is still the one that was read.
 *
 * A crash before that leaves the file, and the next restore applies it again.
 *
 * Concurrency: one thread; the process that stores has a copy.
 */

#ifndef SLOTMEM_REMOVAL_H
#define SLOTMEM_REMOVAL_H

#include "apr_tables.h"

#include "slotmem_beside.h"
#include "slotmem_workers.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: a worker to be removed. */
typedef struct slotmem_removal_worker_t {
    unsigned char id[SLOTMEM_WORKER_ID];
    const char *url;                /**< only for people */
    enum {
        SLOTMEM_REMOVAL_NOT_FOUND,
        SLOTMEM_REMOVAL_DONE,
        SLOTMEM_REMOVAL_CONFIGURED  /**< stays: the configuration has it */
    } outcome;
} slotmem_removal_worker_t;

/** Process-local: the request beside one persisted file. */
typedef struct slotmem_removal_t {
    slotmem_directory_t *directory; /**< or NULL */
    const char *path;               /**< P.remove */
    apr_array_header_t *workers;    /**< of slotmem_removal_worker_t */
    struct stat info;               /**< of the file that was read */
} slotmem_removal_t;

/**
 * Read a removal request.
 * @param directory of the persisted file, open; or NULL
 * @param path the persisted file
 * @param status set to the code of the call that failed, or APR_SUCCESS
 * @param reason set to why the request is not valid, or NULL
 * @return NULL: there is none, or it is not valid
 */
slotmem_removal_t *slotmem_removal_read(slotmem_directory_t *directory,
                                        const char *path,
                                        apr_status_t *status,
                                        const char **reason, apr_pool_t *pool);

/** Make a removal request without workers. Parameters as above. */
slotmem_removal_t *slotmem_removal_make(slotmem_directory_t *directory,
                                        const char *path, apr_pool_t *pool);

/** Write the file, or remove it if there are no workers. @param token see
 *  slotmem_beside_write() */
apr_status_t slotmem_removal_write(const slotmem_removal_t *removal,
                                   const char *token, apr_pool_t *pool);

/** @param removal or NULL. @return the worker in that slot if it is to be
 *  removed, or NULL */
slotmem_removal_worker_t *slotmem_removal_find(const slotmem_removal_t *removal,
                                               const void *slot);

/** The state without those workers is stored: remove the file, unless it was
 *  replaced. Opens the directory if it is closed. */
void slotmem_removal_retire(const slotmem_removal_t *removal);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_REMOVAL_H */

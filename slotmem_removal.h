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
 * slotmem_removal.h: workers that go at the next restart. For a worker that was
 * added at run time mod_proxy_balancer has no way to remove it, so an operator
 * asks for it with slotmem-file, in a file beside the persisted one, P.remove.
 *
 *     slotmem-removal 1
 *     ID URL                       a line for each worker
 *
 * ID is that of slotmem_worker_identify(), in hex: what was added anew under
 * another name stays. URL is for people alone.
 *
 * Lifecycle: the tool writes the file at any time. A restore leaves out the
 * workers that it names, unless the configuration has them; the first store
 * after it that succeeds removes the file, if it is still the one that was
 * read.
 *
 * A crash: until then the file is there, and the next restore does the same.
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

/** Process-local: a worker that is to go. */
typedef struct slotmem_removal_worker_t {
    unsigned char id[SLOTMEM_WORKER_ID];
    const char *url;                /**< for people */
    enum {
        SLOTMEM_REMOVAL_NOT_FOUND,
        SLOTMEM_REMOVAL_DONE,
        SLOTMEM_REMOVAL_CONFIGURED  /**< the configuration has it: it stays */
    } outcome;
} slotmem_removal_worker_t;

/** Process-local: what is asked for beside one persisted file. */
typedef struct slotmem_removal_t {
    slotmem_directory_t *directory; /**< or NULL */
    const char *path;               /**< of the removal */
    apr_array_header_t *workers;    /**< of slotmem_removal_worker_t */
    struct stat info;               /**< which file was read */
} slotmem_removal_t;

/**
 * Read what is asked for.
 * @param directory of the persisted file, open; or NULL
 * @param path the persisted file
 * @param status set to the failing call's, or APR_SUCCESS
 * @param reason set to why the removal does not count; or NULL
 * @return it; NULL: there is none, or it does not count
 */
slotmem_removal_t *slotmem_removal_read(slotmem_directory_t *directory,
                                        const char *path,
                                        apr_status_t *status,
                                        const char **reason, apr_pool_t *pool);

/** A removal of nobody, to be written. Parameters as before. */
slotmem_removal_t *slotmem_removal_make(slotmem_directory_t *directory,
                                        const char *path, apr_pool_t *pool);

/** Write it; if it names nobody, remove it. @param token see
 *  slotmem_beside_write() */
apr_status_t slotmem_removal_write(const slotmem_removal_t *removal,
                                   const char *token, apr_pool_t *pool);

/** @return the worker of that slot if it is to go; else NULL, also without a
 *          removal */
slotmem_removal_worker_t *slotmem_removal_find(const slotmem_removal_t *removal,
                                               const void *slot);

/** It was applied, and the state without those workers is stored: remove the
 *  file, unless it is another one now. The directory may be closed. */
void slotmem_removal_retire(const slotmem_removal_t *removal);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_REMOVAL_H */

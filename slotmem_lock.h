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
 * slotmem_lock.h: which server stores a persisted file.
 *
 * One server at a time has the right to store a file: it holds a POSIX record
 * lock on one byte of the file LOCK beside it, at an offset that the name of
 * the persisted file gives. So one open file serves all names in a folder, and
 * servers with other names in the same folder do not meet.
 *
 * Lifecycle: taken by the parent once it has detached; kept, with its open
 * file, over restarts; given up when the process ends. The file is
 * close-on-exec, and each process that the parent forks closes its copy with
 * slotmem_lock_close_all(), which leaves the parent's locks alone.
 *
 * A crash gives the lock up: the kernel does. Children do not inherit it, so
 * those that outlive a killed parent hold nothing. LOCK stays behind, empty.
 *
 * Concurrency: called by the parent's one thread alone.
 */

#ifndef SLOTMEM_LOCK_H
#define SLOTMEM_LOCK_H

#include <sys/types.h>

#include "apr_pools.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Name of the lock file in the folder of the persisted files. */
#define SLOTMEM_LOCK_FILE "slotmem-shm.lock"

/**
 * Take the lock of a persisted file, or find that it is held already.
 * @param path the persisted file
 * @param other set to the pid that holds the lock if APR_EBUSY
 * @param process_pool where the open lock file is found again; the first call
 *        for a directory takes memory from it
 * @return APR_SUCCESS: this process holds it; APR_EBUSY: another one does;
 *         else the system's code: the folder takes no lock file, or its file
 *         system no locks
 */
apr_status_t slotmem_lock(const char *path, pid_t *other,
                          apr_pool_t *process_pool);

/** In a process that the parent has forked: close its copies of the lock
 *  files. @param process_pool as for slotmem_lock() */
void slotmem_lock_close_all(apr_pool_t *process_pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_LOCK_H */

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
 * lock on one byte of the lock file beside it, at an offset that the name of
 * the persisted file gives. So one open file serves all names in a directory,
 * and servers with other names in the same directory do not meet.
 *
 * The lock file counts only if nobody but the user who runs the server can have
 * made it: an empty regular file with one link, with owner and mode as the
 * persisted files (contract E8). Anything else is replaced.
 *
 * Lifecycle: a lock is taken by the parent once it has detached, and is kept,
 * with the open file, over restarts. slotmem_lock_begin() and
 * slotmem_lock_end() give those up that are no longer asked for. The file is
 * close-on-exec, and each process that the parent forks closes its copy with
 * slotmem_lock_close_all(), which leaves the parent's locks alone.
 *
 * A crash gives the lock up: the kernel does. Children do not inherit it, so
 * those that outlive a killed parent hold nothing. The lock file stays behind,
 * empty.
 *
 * Concurrency: called by the parent's one thread alone. The process that stores
 * calls slotmem_lock_make() and slotmem_lock_is_held().
 */

#ifndef SLOTMEM_LOCK_H
#define SLOTMEM_LOCK_H

#include <sys/types.h>

#include "slotmem_directory.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Name of the lock file in the directory of the persisted files. */
#define SLOTMEM_LOCK_FILE "slotmem-shm.lock"

/** A generation begins: a lock that is held is asked for again; if it is still
 *  held, so are the others in that file. */
void slotmem_lock_begin(apr_pool_t *process_pool);

/** Give up the locks that nobody has asked for since slotmem_lock_begin(). */
void slotmem_lock_end(apr_pool_t *process_pool);

/**
 * Take the lock of a persisted file, or find that it is held already. A lock
 * that was taken stays while its lock file stands in the directory, which is
 * looked at once for each time that the directory was opened.
 * @param directory that is open; its lock_problem is set
 * @param path the persisted file in it
 * @param other set to the pid that holds the lock if APR_EBUSY; not above 0: a
 *        process that has no pid here
 * @param process_pool where the open lock files are found again; the first call
 *        of a process takes memory from it, none later
 * @return APR_SUCCESS: this process holds it; APR_EBUSY: another one does;
 *         else the system's code: the directory takes no lock file, or its file
 *         system no locks
 */
apr_status_t slotmem_lock(slotmem_directory_t *directory, const char *path,
                          pid_t *other, apr_pool_t *process_pool);

/**
 * The same without making a lock file: that would wait for a disk that stands
 * still. While none that counts stands in the directory, a lock that was taken
 * stays.
 * @return as slotmem_lock(); or APR_INCOMPLETE: there is none
 */
apr_status_t slotmem_lock_existing(slotmem_directory_t *directory,
                                   const char *path, pid_t *other,
                                   apr_pool_t *process_pool);

/** Make the lock file of an open directory, if none that counts is there. Not
 *  for a process that holds locks: it would give those in the file up. */
void slotmem_lock_make(slotmem_directory_t *directory);

/**
 * Who else holds the lock of a file in an open directory?
 * @return 1: somebody does
 */
int slotmem_lock_is_held(const slotmem_directory_t *directory,
                         const char *path);

/** In a process that the parent has forked: close its copies of the lock
 *  files. @param process_pool as for slotmem_lock() */
void slotmem_lock_close_all(apr_pool_t *process_pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_LOCK_H */

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
 * slotmem_lock.h: ensures that only one server stores a persisted file.
 *
 * The server that may store a file holds a POSIX record lock on one byte of
 * the lock file in the same directory. The offset of the byte is derived from
 * the name of the persisted file. One open lock file therefore serves all
 * names in a directory, and servers that use other names there do not affect
 * each other.
 *
 * The lock file is only used if nobody but the user who runs the server can
 * have made it: an empty regular file with one link, with the owner and mode
 * of the persisted files (contract E8). Anything else is replaced.
 *
 * Lifecycle: the parent takes the locks after it has detached, and keeps them,
 * with the open lock file, over restarts. slotmem_lock_start_generation() and
 * slotmem_lock_release_unwanted() release those that are no longer requested.
 * The descriptor is close-on-exec, and each process that the parent forks
 * closes its copy with slotmem_lock_close_all(), which does not affect the
 * parent's locks.
 *
 * After a crash the kernel releases the locks. Children do not inherit them, so
 * children that outlive a killed parent hold none. The empty lock file stays.
 *
 * Concurrency: called only by the parent's main thread, except that the process
 * that stores calls slotmem_lock_make() and slotmem_lock_is_held().
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

/** A generation starts. The kernel may have dropped locks of this process (a
 *  network file system does so after a lost lease). So the first lock of each
 *  file that this process believes it holds is requested again; if it is still
 *  held, the others in that file are taken to be held. */
void slotmem_lock_start_generation(apr_pool_t *process_pool);

/** Release the locks that were not requested in this generation. */
void slotmem_lock_release_unwanted(apr_pool_t *process_pool);

/**
 * Take the lock of a persisted file, if this process does not hold it yet. Once
 * each time the directory is opened, the lock file in it is checked: if another
 * one has replaced it, the lock is taken again in that one.
 * @param directory open; its lock_problem is set
 * @param path the persisted file in it
 * @param other set to the pid that holds the lock if APR_EBUSY; 0 or less: a
 *        process that has no pid here
 * @param process_pool has the list of open lock files, which the first call of
 *        a process allocates
 * @return APR_SUCCESS: this process holds the lock; APR_EBUSY: another one
 *        does; else the system's code: the lock file cannot be opened or made,
 *        or the file system has no locks
 */
apr_status_t slotmem_lock(slotmem_directory_t *directory, const char *path,
                          pid_t *other, apr_pool_t *process_pool);

/**
 * The same without making a lock file, because that would wait for a frozen
 * disk. While the directory has no valid lock file, a lock that was taken
 * stays.
 * @return as slotmem_lock(); or APR_INCOMPLETE: there is no valid lock file
 */
apr_status_t slotmem_lock_existing(slotmem_directory_t *directory,
                                   const char *path, pid_t *other,
                                   apr_pool_t *process_pool);

/** Make the lock file of an open directory, if it has no valid one. Not for a
 *  process that holds locks: it would release those in the file. */
void slotmem_lock_make(slotmem_directory_t *directory);

/** @return 1: another process holds the lock of a file in an open directory */
int slotmem_lock_is_held(const slotmem_directory_t *directory,
                         const char *path);

/** In a process that the parent has forked: close its copies of the lock
 *  files. @param process_pool as for slotmem_lock() */
void slotmem_lock_close_all(apr_pool_t *process_pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_LOCK_H */

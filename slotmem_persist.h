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
 * slotmem_persist.h: keeps segments in their persisted files: when they are
 * restored and stored, and what the log says of it. slotmem_restore.h has
 * the file, slotmem_lock.h which of two servers may store it, slotmem_process.h
 * the process that stores, slotmem_carried.h what could not be stored.
 *
 * Lifecycle: empty at pre_config; each persisted segment is added, and with
 * that restored, when it is created; locks are taken when the generation has
 * reached the MPM, and only from then on is anything stored: by checkpoints
 * from the monitor hook, when the first child of a graceful stop ends, and when
 * the generation ends. While it serves, the parent never waits for a file. At
 * a restart it waits for a second and a half, and carries what is not stored by
 * then to the next generation in memory. At stop it stores, however long that
 * takes.
 *
 * A crash loses what changed since the last checkpoint.
 *
 * Concurrency: called by the parent's one thread alone, but for
 * slotmem_persist_forget(). At most one process stores at a time.
 */

#ifndef SLOTMEM_PERSIST_H
#define SLOTMEM_PERSIST_H

#include "slotmem_files.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Start anew, with no segment. @param pool lasts until slotmem_persist_end();
 *  NULL: the generation has ended */
void slotmem_persist_reset(apr_pool_t *pool);

/** @return 1: this configuration pass is that of a restart */
int slotmem_persist_is_restart(void);

/** Keep a new segment: restore it now, store it from now on. A failure is
 *  logged, and the segment is as new. */
void slotmem_persist_add(slotmem_persist_entry_t *entry);

/** The generation has reached the MPM: what is kept may be stored. */
void slotmem_persist_enable(void);

/**
 * Store what has changed, if it is time: a process begins to. Takes no memory
 * from a pool.
 * @param interval from the begin of one checkpoint to the next; 0: none
 */
void slotmem_persist_checkpoint(apr_interval_time_t interval);

/** A child has ended and the server is stopping: the same, whatever the
 *  interval, once a second at most. */
void slotmem_persist_stopping(void);

/** In a process that the parent has forked: give up what only the parent
 *  needs: descriptors, and the memory that the process writes to. */
void slotmem_persist_forget(void);

/**
 * The generation ends. If it was enabled, all that has changed is stored; if
 * not, what an earlier one has carried over is stored when there is no next.
 * @param restarts 1: there is one
 * @param starting 1: if it was not enabled, a start or a restart has failed
 */
void slotmem_persist_end(int restarts, int starting);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PERSIST_H */

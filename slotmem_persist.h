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
 * slotmem_persist.h: when segments are restored and stored. slotmem_files.h
 * stores them, in a process of slotmem_process.h; slotmem_carried.h keeps what
 * could not be stored.
 *
 * Lifecycle: empty at pre_config. A persisted segment is added, and restored,
 * when it is created. Locks are taken when the generation reaches the MPM;
 * nothing is stored before that. From then on segments are stored at
 * checkpoints (from the monitor hook), when children end during a graceful
 * stop, and when the generation ends. While it serves, the parent never waits
 * for a file. At a restart it waits for a second and a half. The next
 * generation gets the state from memory, whether it was stored by then or not.
 * When the server stops, the parent stores everything, however long that takes.
 *
 * A crash loses the changes since the last checkpoint.
 *
 * Concurrency: called only by the parent's main thread, except for
 * slotmem_persist_drop_in_child(). At most one process stores at a time.
 */

#ifndef SLOTMEM_PERSIST_H
#define SLOTMEM_PERSIST_H

#include "slotmem_files.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Reset to no segments. @param pool must last until slotmem_persist_end();
 *  NULL: the generation has ended */
void slotmem_persist_reset(apr_pool_t *pool);

/** @return 1: this configuration pass belongs to a restart */
int slotmem_persist_is_restart(void);

/** Restore a new segment now, and store it from now on. If it cannot be
 *  restored, that is logged and the segment stays empty. */
void slotmem_persist_add(slotmem_persist_entry_t *entry);

/** The generation has reached the MPM: segments may be stored from now on. */
void slotmem_persist_enable(void);

/**
 * If it is time, start a process that stores what has changed. Allocates
 * nothing from a pool, because it is called again and again.
 * @param interval between the starts of two checkpoints; 0: no checkpoints
 */
void slotmem_persist_checkpoint(apr_interval_time_t interval);

/** The same when a child has ended during a graceful stop: at most once a
 *  second, regardless of the interval. */
void slotmem_persist_stopping(void);

/** In a child of the parent: give up descriptors and memory that only the
 *  parent needs. */
void slotmem_persist_drop_in_child(void);

/**
 * The generation ends. If it was enabled, everything that has changed is
 * stored. If it was not, and no generation follows, the images carried over
 * from an earlier one are stored.
 * @param restarts 1: another generation follows
 * @param serves 1: this pass was meant to serve (it was neither the first pass
 *        nor -t): if it was not enabled, a start or a restart has failed
 */
void slotmem_persist_end(int restarts, int serves);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PERSIST_H */

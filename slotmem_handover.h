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
 * slotmem_handover.h: hands the state of all persisted segments to the next
 * generation over a restart, in memory: images of the segments that could not
 * be stored, and copies of those that were. slotmem_recover.h restores them,
 * and slotmem_carried.h keeps them.
 *
 * Lifecycle: slotmem_handover_copy() and then slotmem_handover_carry() when a
 * generation ends at a restart; slotmem_handover_done() when the next one has
 * reached the MPM, or has failed.
 *
 * A crash of the parent loses what is only in memory.
 *
 * Concurrency: called only by the parent's main thread.
 */

#ifndef SLOTMEM_HANDOVER_H
#define SLOTMEM_HANDOVER_H

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Copy the segments, up to 64 MiB in all. Called while a process stores them:
 *  the next generation restores the copies of those that it stores, and reads
 *  no file. Without memory there are no copies, and it reads the files. */
void slotmem_handover_copy(void);

/** Carry over the copies of the segments that are stored, and images of those
 *  that are not. If there is no memory for an image, that is logged. */
void slotmem_handover_carry(void);

/** Free all that the next store does not need: the copies, and the images that
 *  segments were restored from. */
void slotmem_handover_done(void);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HANDOVER_H */

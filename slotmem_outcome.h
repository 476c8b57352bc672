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
 * slotmem_outcome.h: what became of each file of a generation: what is known of
 * it from now on, the line in the log, the report for the status page.
 *
 * Lifecycle: called when a store has ended, or when nobody waits for it any
 * longer.
 *
 * A crash leaves nothing of this room.
 *
 * Concurrency: the parent's one thread.
 */

#ifndef SLOTMEM_OUTCOME_H
#define SLOTMEM_OUTCOME_H

#include "slotmem_files.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Which line says that a store has failed: the next one tries again; there is
 * none; or the next one follows at once, and will say it. */
typedef enum slotmem_failure_e {
    SLOTMEM_TRIES_AGAIN,
    SLOTMEM_IS_LOST,
    SLOTMEM_SAY_NOTHING
} slotmem_failure_e;

/** Take over what the notes of a process say, and log it. What it does not say
 *  has failed, if it has ended by itself. */
void slotmem_outcome_read(const slotmem_process_t *process,
                          slotmem_failure_e kind);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_OUTCOME_H */

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
 * slotmem_outcome.h: takes over the result of a store: updates what the parent
 * knows of each file, logs failures, and reports to the status page.
 *
 * Lifecycle: called when a store has ended, or when a restart stops waiting for
 * it.
 *
 * A crash leaves nothing behind.
 *
 * Concurrency: the parent's main thread.
 */

#ifndef SLOTMEM_OUTCOME_H
#define SLOTMEM_OUTCOME_H

#include "slotmem_files.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** How a failed store is logged. */
typedef enum slotmem_failure_e {
    SLOTMEM_FAILURE_RETRIED,        /**< the next store tries again */
    SLOTMEM_FAILURE_LOST,           /**< there is no next store */
    SLOTMEM_FAILURE_SILENT          /**< not logged: the next store follows at
                                         once, and logs its own failure */
} slotmem_failure_e;

/** Take over and log what the notes of a process say. A file without an outcome
 *  has failed if the process has ended on its own. If the process was killed or
 *  is still running, that file is left for the next store; only its file_state
 *  and new_state are taken over. */
void slotmem_outcome_read(const slotmem_process_t *process,
                          slotmem_failure_e kind);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_OUTCOME_H */

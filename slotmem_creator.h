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
 * slotmem_creator.h: the process that created a run-time segment: does it still
 * run? A pid alone does not identify a process, because pids are reused, so its
 * start time is compared as well. That comes from /proc; without it (as in most
 * directories for ChrootDir) the pid decides.
 *
 * Lifecycle, crash: nothing is kept.
 *
 * Concurrency: any process and thread. A process can end right after it was
 * found to run.
 */

#ifndef SLOTMEM_CREATOR_H
#define SLOTMEM_CREATOR_H

#include "slotmem_segment.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** @return this process */
slotmem_creator_t slotmem_creator_self(void);

/** @return 1: the process exists and is no zombie. If its start time is not
 *  known, another process with its pid is taken for it. */
int slotmem_creator_is_alive(const slotmem_creator_t *creator);

/** @return 1: it is alive, and not stopped by a signal or a debugger */
int slotmem_creator_is_running(const slotmem_creator_t *creator);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_CREATOR_H */

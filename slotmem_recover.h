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
 * slotmem_recover.h: restores a new segment: from memory, if the last
 * generation could not store it; else from its file; else from its fallback,
 * the file in DefaultRuntimeDir. Logs the result.
 *
 * Concurrency: the parent's main thread.
 */

#ifndef SLOTMEM_RECOVER_H
#define SLOTMEM_RECOVER_H

#include "slotmem_files.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Reset. @param pool lasts as long as the generation; NULL: it has ended */
void slotmem_recover_reset(apr_pool_t *pool);

/** Restore a new segment. A failure is logged, and leaves the segment empty. */
void slotmem_recover(slotmem_persist_entry_t *entry);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_RECOVER_H */

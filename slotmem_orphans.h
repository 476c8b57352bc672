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
 * slotmem_orphans.h: persisted files that belong to no segment: of a virtual
 * host or balancer that was renamed or removed, or set aside. Nothing is done
 * with them here: one line of the log says how many there are, and for a new
 * name that one of them fits, how to use it. slotmem-file does the rest, and
 * needs to know which files are a server's: slotmem_names.h.
 *
 * Lifecycle: slotmem_orphans_look() once the generation has reached the MPM,
 * in the parent; slotmem_orphans_list() after each store, by whoever stored.
 *
 * A crash: see slotmem_names.h.
 *
 * Concurrency: the parent's one thread, and the process that stores.
 */

#ifndef SLOTMEM_ORPHANS_H
#define SLOTMEM_ORPHANS_H

#include "slotmem_files.h"
#include "slotmem_names.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Log what there is. @param pool for temporary use */
void slotmem_orphans_look(apr_pool_t *pool);

/** @return how many there were then. In children as well. */
int slotmem_orphans_num(void);

/** Write the names of this server's files beside them. */
void slotmem_orphans_list(apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_ORPHANS_H */

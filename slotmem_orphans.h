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
 * slotmem_orphans.h: persisted files that belong to no segment, because a
 * virtual host or balancer was renamed or removed, or because they were set
 * aside. They are only logged: how many there are, and which of them has the
 * state of a segment with a new name. slotmem-file can adopt or remove them. To
 * tell which files are in use, both read the lists of slotmem_names.h; this
 * source writes the lists of its own server.
 *
 * Lifecycle: the parent calls slotmem_orphans_find() when the generation has
 * reached the MPM. The process that stores, or the parent when the server
 * stops, calls slotmem_orphans_write_names() after each store.
 *
 * A crash: see slotmem_names.h.
 *
 * Concurrency: the parent's main thread, and the process that stores.
 */

#ifndef SLOTMEM_ORPHANS_H
#define SLOTMEM_ORPHANS_H

#include "slotmem_files.h"
#include "slotmem_names.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Count and log the orphans. @param pool for temporary use */
void slotmem_orphans_find(apr_pool_t *pool);

/** @return how many slotmem_orphans_find() found. Also valid in children. */
int slotmem_orphans_num(void);

/** Write the lists of this server's files, which are in use. */
void slotmem_orphans_write_names(apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_ORPHANS_H */

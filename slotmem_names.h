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
 * slotmem_names.h: which persisted files in a directory belong to a server.
 * Each server lists the names of its files in slotmem-shm-SERVER.names in the
 * same directory. SERVER is a digest of a text that identifies the server.
 *
 *     slotmem-names 1
 *     NAME                         one line per file
 *
 * A persisted file that is in no list belongs to no segment. slotmem-file also
 * checks that no server holds the lock of the file.
 *
 * Lifecycle: after a store the list is written if it has changed. It stays
 * when the server stops.
 *
 * A crash: as in slotmem_beside.h.
 */

#ifndef SLOTMEM_NAMES_H
#define SLOTMEM_NAMES_H

#include "apr_hash.h"
#include "apr_tables.h"

#include "slotmem_beside.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Is this the name of a list? */
int slotmem_names_is_list(const char *name);

/** @return the name of the list of the server that @a text identifies */
const char *slotmem_names_list(const char *text, apr_pool_t *pool);

/**
 * Add the names in a list to a table.
 * @param names both key and value are the name
 * @param directory, path, reason: see slotmem_beside_read()
 * @return as slotmem_beside_read()
 */
apr_status_t slotmem_names_read(apr_hash_t *names,
                                const slotmem_directory_t *directory,
                                const char *path, const char **reason,
                                apr_pool_t *pool);

/**
 * Write a list, if it has changed.
 * @param names of const char *; names with a control character are left out
 * @param token see slotmem_beside_write()
 */
void slotmem_names_write(const slotmem_directory_t *directory,
                         const char *path, const apr_array_header_t *names,
                         const char *token, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_NAMES_H */

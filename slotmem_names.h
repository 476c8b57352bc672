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
 * slotmem_names.h: the names of the module's files in a directory, and which
 * persisted files belong to a server.
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

/** The kind of a file, by its name. P is the name of a persisted file. */
typedef enum slotmem_name_e {
    SLOTMEM_NAME_OTHER,             /**< not a file of the module */
    SLOTMEM_NAME_PERSISTED,         /**< P */
    SLOTMEM_NAME_KEPT,              /**< P.bad-N, P.bak or P.old */
    SLOTMEM_NAME_TEMPORARY,         /**< P.tmp-T, of a store */
    SLOTMEM_NAME_REMOVAL,           /**< P.remove */
    SLOTMEM_NAME_LIST,              /**< of the names of a server's files */
    SLOTMEM_NAME_BESIDE             /**< P.remove.tmp-T or LIST.tmp-T: of
                                         slotmem_beside_write() */
} slotmem_name_e;

/** @param owner_len set to the length of P or LIST at the start of the name,
 *         unless it is not a file of the module */
slotmem_name_e slotmem_names_kind(const char *name, apr_size_t *owner_len);

/**
 * Does a file exist that belongs to no server? This includes all files that are
 * kept. Does not check locks. A temporary file of slotmem_beside_write() counts
 * if it is older than a minute: its writer was killed.
 * @param names of slotmem_names_read()
 * @param directory open
 */
int slotmem_names_is_orphan(apr_hash_t *names,
                            const slotmem_directory_t *directory,
                            const char *name);

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

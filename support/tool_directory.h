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
 * tool_directory.h: the files of a directory that the module writes, and what
 * each is.
 *
 * Concurrency: a server may create and replace files meanwhile: a name that has
 * gone by the time it is looked at is left out.
 */

#ifndef TOOL_DIRECTORY_H
#define TOOL_DIRECTORY_H

#include "apr_pools.h"
#include "apr_tables.h"
#include "apr_time.h"

/** What a file is. */
typedef enum tool_kind_e {
    TOOL_PERSISTED,
    TOOL_KEPT,                      /**< .bad-N, .bak or .old */
    TOOL_TEMPORARY,                 /**< of a store */
    TOOL_REMOVAL,                   /**< SLOTMEM_REMOVAL_SUFFIX */
    TOOL_NAMES,                     /**< the names of a server's files */
    TOOL_OTHER                      /**< none of the module's */
} tool_kind_e;

/** Process-local: a file of the module's. */
typedef struct tool_entry_t {
    const char *path;
    const char *name;
    const char *owner;              /**< the persisted file that it is of: its
                                         own name, if it is one */
    tool_kind_e kind;
    apr_time_t mtime;
} tool_entry_t;

/**
 * Read a directory.
 * @param entries set to an array of tool_entry_t, in order of their names
 * @return APR_SUCCESS, or why it cannot be read
 */
apr_status_t tool_directory_read(apr_array_header_t **entries, const char *dir,
                                 apr_pool_t *pool);

/**
 * The paths of the persisted files in a directory.
 * @return an array that NULL ends; or NULL: it cannot be read, and stderr says
 *         why
 */
const char *const *tool_directory_paths(const char *dir, apr_pool_t *pool);

/** Write to stderr that something is wrong with a path. @return TOOL_TROUBLE */
int tool_path_error(const char *path, const char *reason, apr_status_t status);

#endif /* TOOL_DIRECTORY_H */

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
 * tool_directory.h: lists the module's files in a directory.
 *
 * Concurrency: a server may create and replace files meanwhile. A file that is
 * gone before it can be examined is left out.
 */

#ifndef TOOL_DIRECTORY_H
#define TOOL_DIRECTORY_H

#include "apr_pools.h"
#include "apr_tables.h"
#include "apr_time.h"

#include "slotmem_names.h"

/** Process-local: a file of the module. */
typedef struct tool_entry_t {
    const char *path;
    const char *name;
    const char *owner;              /**< the name of the persisted file or list
                                         that it belongs to; may be itself */
    slotmem_name_e kind;
    apr_time_t mtime;
} tool_entry_t;

/**
 * Read a directory.
 * @param entries set to an array of tool_entry_t, sorted by name
 * @return APR_SUCCESS, or why it cannot be read
 */
apr_status_t tool_directory_read(apr_array_header_t **entries, const char *dir,
                                 apr_pool_t *pool);

/**
 * List the paths of the persisted files in a directory.
 * @return an array that ends with NULL; or NULL: it cannot be read, and stderr
 *         says why
 */
const char *const *tool_directory_paths(const char *dir, apr_pool_t *pool);

/** Is the name longer than the suffix, and does it end in it? */
int tool_ends_with(const char *name, const char *suffix);

#endif /* TOOL_DIRECTORY_H */

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
 * tool_directory.c: the files of a directory; see tool_directory.h.
 */

#include "tool_directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apr_file_info.h"
#include "apr_strings.h"

#include "tool_output.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

int tool_ends_with(const char *name, const char *suffix)
{
    apr_size_t len = strlen(name);
    apr_size_t end = strlen(suffix);

    return len > end && strcmp(name + len - end, suffix) == 0;
}

/* @return 1 if the module writes files with such a name */
static int classify(tool_entry_t *entry, const char *name, apr_pool_t *pool)
{
    apr_size_t len;

    entry->kind = slotmem_names_kind(name, &len);
    if (entry->kind == SLOTMEM_NAME_OTHER) {
        return 0;
    }
    entry->name = apr_pstrdup(pool, name);
    entry->owner = apr_pstrmemdup(pool, name, len);
    return 1;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const tool_entry_t *)a)->name,
                  ((const tool_entry_t *)b)->name);
}

apr_status_t tool_directory_read(apr_array_header_t **entries, const char *dir,
                                 apr_pool_t *pool)
{
    apr_dir_t *stream;
    apr_finfo_t info;
    apr_status_t rv = apr_dir_open(&stream, dir, pool);

    *entries = apr_array_make(pool, 16, sizeof(tool_entry_t));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, stream) == APR_SUCCESS) {
        tool_entry_t entry;

        if (!classify(&entry, info.name, pool)) {
            continue;
        }
        entry.path = apr_pstrcat(pool, dir, tool_ends_with(dir, "/") ? "" : "/",
                                 entry.name, NULL);
        if (apr_stat(&info, entry.path, APR_FINFO_LINK | APR_FINFO_TYPE
                                        | APR_FINFO_MTIME, pool)
            == APR_SUCCESS && info.filetype != APR_DIR) {
            entry.mtime = info.mtime;
            APR_ARRAY_PUSH(*entries, tool_entry_t) = entry;
        }
    }
    apr_dir_close(stream);
    qsort((*entries)->elts, (size_t)(*entries)->nelts, sizeof(tool_entry_t),
          compare);
    return APR_SUCCESS;
}

const char *const *tool_directory_paths(const char *dir, apr_pool_t *pool)
{
    apr_array_header_t *entries;
    apr_array_header_t *paths = apr_array_make(pool, 16, sizeof(const char *));
    apr_status_t rv = tool_directory_read(&entries, dir, pool);
    int i;

    if (rv != APR_SUCCESS) {
        tool_path_error(dir, "the directory cannot be read", rv);
        return NULL;
    }
    for (i = 0; i < entries->nelts; i++) {
        const tool_entry_t *entry = &APR_ARRAY_IDX(entries, i, tool_entry_t);

        if (entry->kind == SLOTMEM_NAME_PERSISTED) {
            APR_ARRAY_PUSH(paths, const char *) = entry->path;
        }
    }
    APR_ARRAY_PUSH(paths, const char *) = NULL;
    return (const char *const *)(void *)paths->elts;
}

/* NOLINTEND(cert-err33-c) */

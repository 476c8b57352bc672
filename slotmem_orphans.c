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
 * slotmem_orphans.c: persisted files that belong to no segment; see
 * slotmem_orphans.h.
 */

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "mpm_common.h"

#include "slotmem_log.h"
#include "slotmem_orphans.h"
#include "slotmem_proxy_merge.h"

/* Limits that keep a start fast whatever is in a directory: the entries that
 * are examined, and the files that are read for each new name. */
#define MOST_ENTRIES 10000
#define MOST_CANDIDATES 64

/* Process-local: what is found in a directory. */
typedef struct search_t {
    slotmem_directory_t *directory;
    apr_hash_t *names;              /* of files that belong to a server */
    apr_array_header_t *orphans;    /* of const char *: names of files; in the
                                       end only of persisted ones */
    int num;                        /* all files, of whatever kind */
    apr_pool_t *pool;
} search_t;

static const char *name_in(const slotmem_directory_t *directory,
                           const char *path)
{
    const char *name;

    slotmem_directory_fd(directory, path, &name);
    return name;
}

static const char *path_of(const slotmem_directory_t *directory,
                           const char *name, apr_pool_t *pool)
{
    return apr_pstrcat(pool, directory->path,
                       directory->path[1] ? "/" : "", name, NULL);
}

/* ServerRoot, DefaultRuntimeDir and PidFile identify a server. */
static const char *list_name(apr_pool_t *pool)
{
    return slotmem_names_list(
        apr_pstrcat(pool, ap_server_root_relative(pool, ""), "\n",
                    ap_runtime_dir_relative(pool, ""), "\n",
                    ap_pid_fname ? ap_pid_fname : "", NULL), pool);
}

/* The names of this generation's files in a directory. */
static apr_array_header_t *own_names(const slotmem_directory_t *directory,
                                     apr_pool_t *pool)
{
    apr_array_header_t *names = apr_array_make(pool, 16, sizeof(const char *));
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        if (entry->directory == directory) {
            APR_ARRAY_PUSH(names, const char *) = name_in(directory,
                                                          entry->path);
        }
    }
    return names;
}

void slotmem_orphans_write_names(apr_pool_t *pool)
{
    slotmem_directory_t *directory;
    const char *list = list_name(pool);

    for (directory = slotmem_directories(); directory;
         directory = directory->next) {
        apr_array_header_t *names = own_names(directory, pool);
        slotmem_distrust_t distrust;

        if (names->nelts && slotmem_directory_open(directory, 0, &distrust)
                            == APR_SUCCESS) {
            slotmem_names_write(directory, path_of(directory, list, pool),
                                names, slotmem_files.retained->token, pool);
        }
    }
}

/* ---- finding orphans ---- */

static void classify(search_t *search, const char *name, const char *own_list)
{
    apr_size_t len;
    slotmem_name_e kind = slotmem_names_kind(name, &len);
    const char *reason;

    if (kind == SLOTMEM_NAME_LIST && strcmp(name, own_list) != 0) {
        slotmem_names_read(search->names, search->directory, name, &reason,
                           search->pool);
    }
    if (kind != SLOTMEM_NAME_LIST && kind != SLOTMEM_NAME_OTHER) {
        APR_ARRAY_PUSH(search->orphans, const char *)
            = apr_pstrdup(search->pool, name);
    }
}

/* Find the files in a directory that belong to no server. The lists
 * may come after the files that they name, so the files are checked
 * afterwards. */
static void read_directory(search_t *search, const char *own_list)
{
    int fd = dup(search->directory->fd);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    int left = MOST_ENTRIES;
    int kept = 0;
    int i;

    if (!stream) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    rewinddir(stream);
    while (left-- && (entry = readdir(stream)) != NULL) {
        classify(search, entry->d_name, own_list);
    }
    closedir(stream);
    for (i = 0; i < search->orphans->nelts; i++) {
        const char *name = APR_ARRAY_IDX(search->orphans, i, const char *);
        apr_size_t len;

        if (!slotmem_names_is_orphan(search->names, search->directory, name)) {
            continue;
        }
        search->num++;
        if (slotmem_names_kind(name, &len) == SLOTMEM_NAME_PERSISTED) {
            APR_ARRAY_IDX(search->orphans, kept++, const char *) = name;
        }
    }
    search->orphans->nelts = kept;
}

static int fits(const slotmem_persist_entry_t *entry, const search_t *search,
                const char *path, apr_pool_t *scratch)
{
    slotmem_restore_result_t result;
    slotmem_image_t image;

    slotmem_restore_image(&result, &image, &entry->segment->geometry,
                          search->directory, path, scratch);
    return result.outcome == SLOTMEM_RESTORE_DONE
           && slotmem_proxy_fits(entry->proxy, &image, scratch);
}

/* If the state of a new segment is in an orphan, log that. */
static void suggest(const slotmem_persist_entry_t *entry,
                    const search_t *search)
{
    apr_pool_t *scratch;
    int i;

    apr_pool_create(&scratch, search->pool);
    for (i = 0; i < search->orphans->nelts && i < MOST_CANDIDATES; i++) {
        const char *path;

        apr_pool_clear(scratch);
        path = path_of(search->directory,
                       APR_ARRAY_IDX(search->orphans, i, const char *),
                       scratch);
        if (fits(entry, search, path, scratch)) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(59)
                         "segment %s starts empty, but %s, which belongs to no "
                         "segment, has everything that its configuration "
                         "names; to use it, stop the server and run: "
                         "slotmem-file adopt %s %s", entry->name, path, path,
                         entry->path);
            break;
        }
    }
    apr_pool_destroy(scratch);
}

/* Process-local; constant in the children. */
static int orphans_num;

int slotmem_orphans_num(void)
{
    return orphans_num;
}

static void search_directory(slotmem_directory_t *directory,
                             const char *own_list, apr_pool_t *pool)
{
    search_t search = { .directory = directory, .names = apr_hash_make(pool),
                        .orphans = apr_array_make(pool, 4,
                                                  sizeof(const char *)),
                        .pool = pool };
    apr_array_header_t *own = own_names(directory, pool);
    int i;

    for (i = 0; i < own->nelts; i++) {
        apr_hash_set(search.names, APR_ARRAY_IDX(own, i, const char *),
                     APR_HASH_KEY_STRING, directory);
    }
    read_directory(&search, own_list);
    if (!own->nelts || !search.num) {
        return;
    }
    orphans_num += search.num;
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                 SLOTMEM_TAG(58)
                 "%s has %d files that belong to no segment; to see what they "
                 "hold, run: slotmem-file orphans %s", directory->path,
                 search.num, directory->path);
    for (i = 0; search.orphans->nelts && i < slotmem_files.entries->nelts;
         i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        if (entry->directory == directory && entry->proxy
            && entry->restored.outcome == SLOTMEM_RESTORE_NO_FILE) {
            suggest(entry, &search);
        }
    }
}

void slotmem_orphans_find(apr_pool_t *pool)
{
    slotmem_directory_t *directory;
    apr_pool_t *scratch;

    orphans_num = 0;
    apr_pool_create(&scratch, pool);
    for (directory = slotmem_directories(); directory;
         directory = directory->next) {
        slotmem_distrust_t distrust;

        if (slotmem_directory_open(directory, 0, &distrust) == APR_SUCCESS) {
            search_directory(directory, list_name(scratch), scratch);
        }
    }
    slotmem_directory_close_all();
    apr_pool_destroy(scratch);
}

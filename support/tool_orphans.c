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
 * tool_orphans.c: "orphans", which lists the files in a directory that belong
 * to no segment. slotmem_names.h describes how they are found.
 *
 * Crash: a file is removed or not.
 *
 * Concurrency: servers may start, stop and store meanwhile. Before a file is
 * removed, its lock is taken and the directory is read again.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_hash.h"
#include "apr_strings.h"

#include "slotmem_lock.h"
#include "slotmem_names.h"
#include "tool_change.h"
#include "tool_command.h"
#include "tool_directory.h"
#include "tool_members.h"
#include "tool_output.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* Process-local: a directory and its orphans. */
typedef struct orphans_t {
    const char *dir;
    slotmem_directory_t *directory;
    apr_hash_t *names;              /* files that a server's list names */
    int lists;                      /* number of these lists */
    apr_array_header_t *entries;    /* of tool_entry_t */
    apr_array_header_t *found;      /* of tool_entry_t: orphans */
    apr_pool_t *pool;
} orphans_t;

/* Read all lists of names. @return 0: one is not valid, and stderr says why */
static int read_lists(orphans_t *orphans)
{
    int i;

    for (i = 0; i < orphans->entries->nelts; i++) {
        const tool_entry_t *entry = &APR_ARRAY_IDX(orphans->entries, i,
                                                   tool_entry_t);
        const char *reason;
        apr_status_t rv;

        if (entry->kind != SLOTMEM_NAME_LIST) {
            continue;
        }
        rv = slotmem_names_read(orphans->names, orphans->directory, entry->path,
                                &reason, orphans->pool);
        if (rv == APR_SUCCESS) {
            orphans->lists++;
        }
        else if (!APR_STATUS_IS_ENOENT(rv)) {
            tool_path_error(entry->path, reason, rv == APR_EGENERAL
                                                 ? APR_SUCCESS : rv);
            return 0;
        }
    }
    if (!orphans->lists) {
        tool_path_error(orphans->dir, "no server has left a list of its files "
                        "here (slotmem-shm-*.names), so it is not known which "
                        "of them are orphans", APR_SUCCESS);
    }
    return orphans->lists > 0;
}

static int is_orphan(const orphans_t *orphans, const tool_entry_t *entry)
{
    const char *owner = apr_pstrcat(orphans->pool, orphans->dir, "/",
                                    entry->owner, NULL);

    return slotmem_names_is_orphan(orphans->names, orphans->directory,
                                   entry->name)
           && (entry->kind == SLOTMEM_NAME_KEPT
               || entry->kind == SLOTMEM_NAME_BESIDE
               || !slotmem_lock_is_held(orphans->directory, owner));
}

/* Read the directory. @return 0: it cannot be read, and stderr says why */
static int find_orphans(orphans_t *orphans)
{
    apr_status_t rv = tool_directory_read(&orphans->entries, orphans->dir,
                                          orphans->pool);
    int i;

    if (rv != APR_SUCCESS) {
        tool_path_error(orphans->dir, "the directory cannot be read", rv);
        return 0;
    }
    orphans->names = apr_hash_make(orphans->pool);
    orphans->lists = 0;
    if (!read_lists(orphans)) {
        return 0;
    }
    orphans->found = apr_array_make(orphans->pool, 8, sizeof(tool_entry_t));
    for (i = 0; i < orphans->entries->nelts; i++) {
        tool_entry_t *entry = &APR_ARRAY_IDX(orphans->entries, i,
                                             tool_entry_t);

        if (is_orphan(orphans, entry)) {
            APR_ARRAY_PUSH(orphans->found, tool_entry_t) = *entry;
        }
    }
    return 1;
}

/* ---- what they hold ---- */

static const char *age_of(const tool_entry_t *entry, apr_pool_t *pool)
{
    apr_int64_t seconds = apr_time_sec(apr_time_now() - entry->mtime);

    return seconds < 120 ? apr_psprintf(pool, "%ds", (int)seconds)
           : seconds < 7200 ? apr_psprintf(pool, "%dm", (int)(seconds / 60))
           : seconds < 172800 ? apr_psprintf(pool, "%dh",
                                             (int)(seconds / 3600))
           : apr_psprintf(pool, "%dd", (int)(seconds / 86400));
}

static const char *content_of(const tool_entry_t *entry, apr_pool_t *pool)
{
    tool_members_t members;
    tool_file_t file;

    if (entry->kind == SLOTMEM_NAME_REMOVAL) {
        return "requests the removal of workers";
    }
    if (entry->kind == SLOTMEM_NAME_TEMPORARY) {
        return "left by a store that was killed";
    }
    if (entry->kind == SLOTMEM_NAME_BESIDE) {
        return "left by a process that was killed";
    }
    if (tool_file_read(&file, entry->path, &tool_as_file_says, pool)
            != TOOL_GOOD
        || !tool_members_read(&members, &file)) {
        return apr_pstrcat(pool, "cannot be restored: ", file.reason, NULL);
    }
    return tool_members_summary(&members);
}

static void report_one(const tool_entry_t *entry, apr_pool_t *pool)
{
    const char *kept_of = entry->kind == SLOTMEM_NAME_PERSISTED
                          ? NULL : entry->owner;
    const char *content = content_of(entry, pool);

    if (!tool_output_is_json()) {
        tool_print_text(stdout, entry->path);
        printf("  %s  ", age_of(entry, pool));
        tool_print_text(stdout, content);
        putchar('\n');
        return;
    }
    tool_begin_object();
    tool_text_field("file", entry->path);
    tool_number_field("modified", (apr_uint64_t)apr_time_sec(entry->mtime));
    tool_text_field("of", kept_of ? kept_of : "");
    tool_text_field("holds", content);
    tool_end_object();
}

static void report(const orphans_t *orphans)
{
    apr_pool_t *scratch;
    int i;

    apr_pool_create(&scratch, orphans->pool);
    tool_output_if_json("[");
    for (i = 0; i < orphans->found->nelts; i++) {
        apr_pool_clear(scratch);
        report_one(&APR_ARRAY_IDX(orphans->found, i, tool_entry_t), scratch);
    }
    tool_output_if_json("]\n");
    apr_pool_destroy(scratch);
}

/* ---- removing them ---- */

/* On stderr: stdout can be JSON. */
static int ask(int num)
{
    char answer[8] = "";

    fflush(stdout);
    fprintf(stderr, "Remove %d file%s? [y/N] ", num, num == 1 ? "" : "s");
    return fgets(answer, sizeof(answer), stdin)
           && (answer[0] == 'y' || answer[0] == 'Y');
}

/* Is this still the orphan that was listed? */
static int is_still_orphan(orphans_t *orphans, const tool_entry_t *entry)
{
    int i;

    for (i = 0; i < orphans->found->nelts; i++) {
        const tool_entry_t *now = &APR_ARRAY_IDX(orphans->found, i,
                                                 tool_entry_t);

        if (strcmp(now->name, entry->name) == 0) {
            return now->mtime == entry->mtime;
        }
    }
    return 0;
}

static int remove_one(const orphans_t *orphans, const tool_entry_t *entry)
{
    const char *reason = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (entry->kind == SLOTMEM_NAME_PERSISTED) {
        reason = tool_change_lock(entry->path, &rv, orphans->pool);
    }
    if (!reason
        && unlinkat(orphans->directory->fd, entry->name, 0) != 0) {
        rv = errno;
        reason = "cannot be removed";
    }
    return reason ? tool_path_error(entry->path, reason, rv) : TOOL_GOOD;
}

static int remove_all(orphans_t *orphans)
{
    const apr_array_header_t *asked = orphans->found; /* what was reported:
                                       find_orphans() makes a new array */
    int worst = TOOL_GOOD;
    int i;

    if (!find_orphans(orphans)) {
        return TOOL_TROUBLE;
    }
    for (i = 0; i < asked->nelts; i++) {
        const tool_entry_t *entry = &APR_ARRAY_IDX(asked, i, tool_entry_t);
        int verdict = is_still_orphan(orphans, entry)
            ? remove_one(orphans, entry)
            : tool_path_error(entry->path, "not removed: it has changed "
                              "meanwhile", APR_SUCCESS);

        worst = verdict > worst ? verdict : worst;
    }
    return worst;
}

static int orphans(const tool_options_t *options, apr_pool_t *pool)
{
    int removes = options->given & TOOL_OPT_REMOVE;
    orphans_t at = { .dir = options->paths[0], .pool = pool };
    const char *reason;
    apr_status_t rv;

    if ((options->given & TOOL_OPT_YES) && !removes) {
        return tool_usage_error("--yes goes with --remove");
    }
    /* The directory can be a link: systemd's StateDirectory is one. These
     * functions take a file; any name in the directory will do. */
    reason = tool_change_begin(apr_pstrcat(pool, at.dir, "/.", NULL), pool);
    if (reason) {
        return tool_path_error(at.dir, reason, APR_SUCCESS);
    }
    at.directory = tool_change_directory(apr_pstrcat(pool, at.dir, "/x", NULL),
                                         &rv);
    if (!at.directory) {
        return tool_path_error(at.dir, "the directory cannot be opened", rv);
    }
    if (!find_orphans(&at)) {
        return TOOL_TROUBLE;
    }
    report(&at);
    if (!removes || !at.found->nelts) {
        return TOOL_GOOD;
    }
    return (options->given & TOOL_OPT_YES) || ask(at.found->nelts)
           ? remove_all(&at) : TOOL_REFUSED;
}

const tool_command_t tool_orphans = {
    .name = "orphans",
    .arguments = "[--json] [--remove [--yes]] DIR",
    .summary = "files that belong to no segment of a running or stopped server",
    .num_paths = 1,
    .takes = TOOL_OPT_REMOVE | TOOL_OPT_YES,
    .run = orphans
};

/* NOLINTEND(cert-err33-c) */

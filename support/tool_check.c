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
 * tool_check.c: "check", a Nagios plugin: one line and an exit code tell
 * whether the state in a directory is safe.
 */

#include <stdio.h>
#include <string.h>

#include "apr_strings.h"

#include "tool_command.h"
#include "tool_directory.h"
#include "tool_members.h"
#include "tool_output.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

enum { CHECK_OK, CHECK_WARNING, CHECK_CRITICAL, CHECK_UNKNOWN };
static const char *const levels[] = { "OK", "WARNING", "CRITICAL", "UNKNOWN" };

/* Process-local: the findings. */
typedef struct check_t {
    int files;
    int refused;
    int unread;                     /* files that cannot be read */
    int aside;                      /* files .bad-N, which a start refused */
    const char *first[CHECK_UNKNOWN + 1]; /* the first problem of each level, or
                                       NULL */
    tool_count_t count;
    apr_pool_t *pool;
} check_t;

/* Nagios takes what follows a | for performance data. */
static void print_text(const char *text, apr_pool_t *pool)
{
    const char *bar;

    while ((bar = strchr(text, '|')) != NULL) {
        text = apr_pstrcat(pool, apr_pstrmemdup(pool, text,
                                                (apr_size_t)(bar - text)),
                           "\\x7c", bar + 1, NULL);
    }
    tool_print_text(stdout, text);
}

static void add_problem(check_t *check, int level, const char *path,
                        const char *problem)
{
    if (!check->first[level]) {
        check->first[level] = apr_pstrcat(check->pool, path, problem, NULL);
    }
}

static void check_file(check_t *check, const char *path)
{
    tool_members_t members;
    tool_file_t file;
    apr_pool_t *scratch;

    apr_pool_create(&scratch, check->pool);
    check->files++;
    if (tool_file_read(&file, path, &tool_as_file_says, scratch) == TOOL_GOOD
        && tool_members_read(&members, &file)) {
        tool_members_count(&check->count, &members);
    }
    else if (file.verdict == TOOL_REFUSED) {
        check->refused++;
        add_problem(check, CHECK_CRITICAL, path,
                    apr_pstrcat(scratch, ": ", file.reason, NULL));
    }
    else {
        check->unread++;
        add_problem(check, CHECK_UNKNOWN, path,
                    apr_pstrcat(scratch, ": ", tool_file_why(&file), NULL));
    }
    apr_pool_destroy(scratch);
}

/* Count the files in a directory that were set aside. */
static void count_aside(check_t *check, const char *dir)
{
    apr_array_header_t *entries;
    int i;

    if (tool_directory_read(&entries, dir, check->pool) != APR_SUCCESS) {
        return;
    }
    for (i = 0; i < entries->nelts; i++) {
        const tool_entry_t *entry = &APR_ARRAY_IDX(entries, i, tool_entry_t);

        if (entry->kind == SLOTMEM_NAME_KEPT && strstr(entry->name, ".bad-")) {
            check->aside++;
            add_problem(check, CHECK_WARNING, entry->path, " was set aside");
        }
    }
}

static int report(const check_t *check)
{
    int level = check->refused ? CHECK_CRITICAL
                : check->unread || !check->files ? CHECK_UNKNOWN
                : check->aside ? CHECK_WARNING : CHECK_OK;
    const tool_count_t *count = &check->count;

    printf("SLOTMEM %s - ", levels[level]);
    if (check->first[level]) {
        print_text(check->first[level], check->pool);
        fputs("; ", stdout);
    }
    printf("%d files, %u workers, %u of them drained | files=%d refused=%d "
           "aside=%d workers=%u drained=%u unusable=%u run_time=%u unread=%d\n",
           check->files, count->workers, count->drained, check->files,
           check->refused, check->aside, count->workers, count->drained,
           count->unusable, count->run_time, check->unread);
    return level;
}

static int check(const tool_options_t *options, apr_pool_t *pool)
{
    const char *const *path = options->paths;
    check_t seen = { .pool = pool };

    if (options->dir) {
        path = tool_directory_paths(options->dir, pool);
        if (!path) {
            printf("SLOTMEM UNKNOWN - ");
            print_text(options->dir, pool);
            puts(" cannot be read");
            return CHECK_UNKNOWN;
        }
    }
    for (; *path; path++) {
        check_file(&seen, *path);
    }
    if (options->dir) {
        count_aside(&seen, options->dir);
    }
    return report(&seen);
}

const tool_command_t tool_check = {
    .name = "check",
    .arguments = "--dir DIR | FILE...",
    .summary = "whether the state is safe, as a Nagios plugin",
    .takes = TOOL_OPT_DIR,
    .wrong_use = CHECK_UNKNOWN,
    .run = check
};

/* NOLINTEND(cert-err33-c) */

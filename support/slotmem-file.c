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
 * slotmem-file.c: the command that examines and repairs persisted files;
 * slotmem-file.8 is its manual. This source has the table of commands, and runs
 * the one on the command line.
 *
 *     slotmem-file.c                  the table
 *     tool_verify.c, tool_show.c,     one command each (tool_command.h)
 *     tool_workers.c, tool_dump.c,
 *     tool_remove.c, tool_release.c,
 *     tool_orphans.c, tool_adopt.c,
 *     tool_check.c
 *     tool_report.c                   what commands write about a file
 *     tool_change.c                   the right to change a file, and its lock
 *     tool_members.c                  the workers in a file
 *     tool_options.c                  the command line
 *     tool_directory.c                the files of a directory
 *     tool_file.c                     a file, read as the module reads it
 *     tool_output.c, tool_types.c     text and JSON; names of the type flags
 *
 * A source calls only those below it, and the module's sources that read and
 * store a file.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apr_general.h"
#include "apr_pools.h"

#include "mod_slotmem_shm.h"
#include "tool_change.h"
#include "tool_command.h"
#include "tool_options.h"
#include "tool_output.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

static const tool_command_t *const commands[] = {
    &tool_verify,
    &tool_show,
    &tool_workers,
    &tool_dump,
    &tool_remove,
    &tool_release,
    &tool_orphans,
    &tool_adopt,
    &tool_check,
    NULL
};

static const char usage_of_options[] =
    "\n"
    "  SHAPE    --size N --num N --type T: the requested segment; values that\n"
    "           are not given come from the file. T is a number, or a list of\n"
    "           persist,notmpsafe,pregrab,clearinuse\n"
    "  --dir D  all persisted files in a directory\n"
    "  --json   as JSON\n"
    "  --version\n"
    "\n"
    "Exit code: 0 good, 1 not good, 2 trouble; for check: 0 OK, 1 warning,\n"
    "2 critical, 3 unknown.\n";

static void print_usage(void)
{
    const tool_command_t *const *at;

    for (at = commands; *at; at++) {
        printf("%s" TOOL_NAME " %s %s\n", at == commands ? "Usage: "
                                                         : "       ",
               (*at)->name, (*at)->arguments);
    }
    putchar('\n');
    for (at = commands; *at; at++) {
        printf("  %-8s %s\n", (*at)->name, (*at)->summary);
    }
    fputs(usage_of_options, stdout);
}

static const tool_command_t *find_command(const char *name)
{
    const tool_command_t *const *at = commands;

    while (*at && strcmp((*at)->name, name) != 0) {
        at++;
    }
    return *at;
}

static int has_paths(const tool_options_t *options,
                     const tool_command_t *command)
{
    return options->dir ? options->num_paths == 0
           : command->num_paths ? options->num_paths == command->num_paths
                                : options->num_paths > 0;
}

static int run_command(const tool_options_t *options, apr_pool_t *pool)
{
    const tool_command_t *command = find_command(options->command);
    int wrong_use = command && command->wrong_use ? command->wrong_use
                                                  : TOOL_TROUBLE;

    if (!command) {
        return tool_usage_error("unknown command %s", options->command);
    }
    if (options->given & ~command->takes) {
        tool_usage_error("%s does not take %s", command->name,
                         tool_options_name(options->given & ~command->takes));
        return wrong_use;
    }
    if (!has_paths(options, command)) {
        tool_usage_error("%s takes %s%s", command->name,
                         command->num_paths == 1 ? "one path"
                         : command->num_paths ? "two paths"
                                              : "one file or more",
                         command->takes & TOOL_OPT_DIR ? ", or --dir" : "");
        return wrong_use;
    }
    tool_output_set_json(options->json);
    return command->run(options, pool);
}

int main(int argc, const char *const *argv)
{
    tool_options_t options;
    apr_pool_t *pool;
    int verdict;

    if (apr_app_initialize(&argc, &argv, NULL) != APR_SUCCESS) {
        return tool_usage_error("cannot initialize APR");
    }
    atexit(apr_terminate);
    apr_pool_create(&pool, NULL);
    if (tool_options_parse(&options, argc, argv, pool) != TOOL_GOOD) {
        return TOOL_TROUBLE;
    }
    if (options.version) {
        puts(TOOL_NAME " " SLOTMEM_VERSION);
        return tool_output_close(TOOL_GOOD);
    }
    if (options.help) {
        print_usage();
        return tool_output_close(TOOL_GOOD);
    }
    verdict = run_command(&options, pool);
    tool_change_end();
    return tool_output_close(verdict);
}

/* NOLINTEND(cert-err33-c) */

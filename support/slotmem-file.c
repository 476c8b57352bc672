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
 * slotmem-file.c: the command that examines persisted files; slotmem-file.8 is
 * its manual. This source has the table of commands, and calls the one that the
 * command line names.
 *
 *     slotmem-file.c                  the table
 *     tool_verify.c, tool_show.c,     a command each (tool_command.h)
 *     tool_dump.c, tool_release.c
 *     tool_report.c                   what commands write about a file
 *     tool_options.c                  the command line
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

#include "tool_command.h"
#include "tool_options.h"
#include "tool_output.h"

/* See tool_output_close(). NOLINTBEGIN(cert-err33-c) */

static const tool_command_t *const commands[] = {
    &tool_verify,
    &tool_show,
    &tool_dump,
    &tool_release,
    NULL
};

static const char usage_of_options[] =
    "\n"
    "  SHAPE    --size N --num N --type T: the segment that is asked for;\n"
    "           what is not given is as the file says. T is a number, or of\n"
    "           persist,notmpsafe,pregrab,clearinuse\n"
    "  --json   as JSON\n"
    "\n"
    "Exit code: 0 good, 1 not, 2 trouble.\n";

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

static int run_command(const tool_options_t *options, apr_pool_t *pool)
{
    const tool_command_t *command = find_command(options->command);

    if (!command) {
        return tool_usage_error("there is no command %s", options->command);
    }
    if (options->num_paths == 0
        || (options->num_paths > 1 && !command->takes_many_files)) {
        return tool_usage_error("%s takes one file%s", command->name,
                                command->takes_many_files ? " or more" : "");
    }
    if (options->has_slot && !command->takes_slot) {
        return tool_usage_error("%s takes no --slot", command->name);
    }
    tool_output_set_json(options->json);
    return command->run(options, pool);
}

int main(int argc, const char *const *argv)
{
    tool_options_t options;
    apr_pool_t *pool;

    if (apr_app_initialize(&argc, &argv, NULL) != APR_SUCCESS) {
        return tool_usage_error("APR cannot be started");
    }
    atexit(apr_terminate);
    apr_pool_create(&pool, NULL);
    if (tool_options_parse(&options, argc, argv, pool) != TOOL_GOOD) {
        return TOOL_TROUBLE;
    }
    if (options.help) {
        print_usage();
        return tool_output_close(TOOL_GOOD);
    }
    return tool_output_close(run_command(&options, pool));
}

/* NOLINTEND(cert-err33-c) */

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
 * tool_workers.c: "workers", which lists the members of balancers: their
 * settings, and which of them were added in the balancer-manager.
 */

#include <stdio.h>
#include <string.h>

#include "tool_command.h"
#include "tool_directory.h"
#include "tool_members.h"
#include "tool_output.h"
#include "tool_report.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* is_named: 0: the file comes from --dir, where a file without workers is not
 * an error; is_only: 1: it is the only file */
static int list_workers(const char *path, int is_named, int is_only,
                        int *with_heads, apr_pool_t *pool)
{
    tool_members_t members;
    tool_file_t file;

    memset(&members, 0, sizeof(members));
    if (tool_file_read(&file, path, &tool_as_file_says, pool) == TOOL_GOOD
        && tool_members_read(&members, &file)) {
        if (members.foreign) {
            tool_file_set_verdict(&file, TOOL_TROUBLE, APR_SUCCESS,
                                  members.foreign);
        }
        else if (members.slots != SLOTMEM_SLOTS_WORKERS && is_named) {
            tool_file_set_verdict(&file, TOOL_REFUSED, APR_SUCCESS,
                                  members.slots == SLOTMEM_SLOTS_BALANCERS
                                  ? "it has the balancers of a server, not "
                                    "workers"
                                  : "it does not belong to "
                                    "mod_proxy_balancer");
        }
    }
    if (file.verdict == TOOL_GOOD && members.slots != SLOTMEM_SLOTS_WORKERS) {
        return TOOL_GOOD;
    }
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_verdict(&file);
    }
    if (file.verdict == TOOL_GOOD) {
        tool_members_report(&members, *with_heads, !is_only);
        *with_heads = 0;
    }
    tool_end_object();
    if (file.verdict != TOOL_GOOD) {
        tool_report_error(&file);
    }
    return file.verdict;
}

static int workers(const tool_options_t *options, apr_pool_t *pool)
{
    const char *const *path = options->dir
                              ? tool_directory_paths(options->dir, pool)
                              : options->paths;
    int is_only = !options->dir && !options->paths[1];
    int with_heads = 1;
    int worst = TOOL_GOOD;

    if (!path) {
        return TOOL_TROUBLE;
    }
    tool_output_if_json("[");
    for (; *path; path++) {
        apr_pool_t *scratch;
        int verdict;

        apr_pool_create(&scratch, pool);
        verdict = list_workers(*path, !options->dir, is_only, &with_heads,
                               scratch);
        worst = verdict > worst ? verdict : worst;
        apr_pool_destroy(scratch);
    }
    tool_output_if_json("]\n");
    return worst;
}

const tool_command_t tool_workers = {
    .name = "workers",
    .arguments = "[--json] [--dir DIR | FILE...]",
    .summary = "the workers of balancers: status, factor, route, origin",
    .takes = TOOL_OPT_DIR,
    .run = workers
};

/* NOLINTEND(cert-err33-c) */

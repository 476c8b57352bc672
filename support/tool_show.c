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
 * tool_show.c: "show", which prints all about a file except its slots.
 */

#include "tool_command.h"
#include "tool_members.h"
#include "tool_output.h"
#include "tool_report.h"

static int show(const tool_options_t *options, apr_pool_t *pool)
{
    tool_members_t members;
    tool_file_t file;
    int is_read;

    is_read = tool_file_read(&file, *options->paths, &options->request, pool)
              == TOOL_GOOD && tool_members_read(&members, &file);
    tool_begin_object();
    if (tool_output_is_json() || file.verdict != TOOL_TROUBLE) {
        tool_report_file(&file);
    }
    if (is_read) {
        tool_members_report(&members, 1, 0);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (file.verdict == TOOL_TROUBLE) {
        tool_report_error(&file);
    }
    return file.verdict;
}

const tool_command_t tool_show = {
    .name = "show",
    .arguments = "[--json] [SHAPE] FILE",
    .summary = "its shape, which slots are in use, and its workers",
    .num_paths = 1,
    .takes = TOOL_OPT_SHAPE,
    .run = show
};

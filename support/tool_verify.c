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
 * tool_verify.c: "verify", which tells for each file whether the module would
 * restore it, and if not, why.
 */

#include <stdio.h>

#include "tool_command.h"
#include "tool_directory.h"
#include "tool_output.h"
#include "tool_report.h"
#include "tool_types.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

static void print_verify_line(const tool_file_t *file)
{
    tool_print_text(stdout, file->path);
    if (file->verdict == TOOL_REFUSED) {
        printf(": not restored: %s\n", file->reason);
        return;
    }
    printf(": good: %u of %u slots of %" APR_SIZE_T_FMT " bytes, type 0x%x "
           "(%s), %u in use",
           file->result.item_num, file->geometry.item_num,
           file->geometry.item_size, file->geometry.type,
           tool_type_names(file->geometry.type, file->pool),
           file->geometry.item_num
               - slotmem_map_count_free(&file->segment.map));
    if (file->ignored) {
        printf("; %" APR_OFF_T_FMT " bytes after them are ignored",
               file->ignored);
    }
    putchar('\n');
}

static void report_verified(const tool_file_t *file)
{
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_file(file);
    }
    else if (file->verdict != TOOL_TROUBLE) {
        print_verify_line(file);
    }
    tool_end_object();
}

/* Returns the worst verdict. */
static int verify(const tool_options_t *options, apr_pool_t *pool)
{
    const char *const *path = options->dir
                              ? tool_directory_paths(options->dir, pool)
                              : options->paths;
    int worst = TOOL_GOOD;

    if (!path) {
        return TOOL_TROUBLE;
    }
    tool_output_if_json("[");
    for (; *path; path++) {
        apr_pool_t *scratch;
        tool_file_t file;
        int verdict;

        apr_pool_create(&scratch, pool);
        verdict = tool_file_read(&file, *path, &options->request, scratch);
        report_verified(&file);
        if (verdict == TOOL_TROUBLE) {
            tool_report_error(&file);
        }
        worst = verdict > worst ? verdict : worst;
        apr_pool_destroy(scratch);
    }
    tool_output_if_json("]\n");
    return worst;
}

const tool_command_t tool_verify = {
    .name = "verify",
    .arguments = "[--json] [SHAPE] [--dir DIR | FILE...]",
    .summary = "whether each file would be restored, and if not, why",
    .takes = TOOL_OPT_SHAPE | TOOL_OPT_DIR,
    .run = verify
};

/* NOLINTEND(cert-err33-c) */

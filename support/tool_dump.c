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
 * tool_dump.c: "dump", which prints the bytes of one slot or of all.
 */

#include <stdio.h>

#include "tool_command.h"
#include "tool_output.h"
#include "tool_report.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* Bytes of a slot in each line of text. */
#define BYTES_PER_LINE 16u

static void print_hex(const unsigned char *bytes, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; i++) {
        printf("%02x", bytes[i]);
    }
}

static void dump_line(const unsigned char *bytes, apr_size_t at,
                      apr_size_t len)
{
    apr_size_t i;

    printf("  %08" APR_UINT64_T_HEX_FMT " ", (apr_uint64_t)at);
    for (i = 0; i < BYTES_PER_LINE; i++) {
        if (i < len) {
            printf(" %02x", bytes[at + i]);
        }
        else {
            fputs("   ", stdout);
        }
    }
    fputs("  |", stdout);
    for (i = 0; i < len; i++) {
        unsigned char byte = bytes[at + i];

        putchar(byte >= 0x20 && byte < 0x7f ? byte : '.');
    }
    fputs("|\n", stdout);
}

static void dump_slot(const tool_file_t *file, apr_uint32_t id)
{
    apr_size_t size = file->geometry.item_size;
    const unsigned char *bytes = tool_file_slot(file, id);
    int used = slotmem_map_test(&file->segment.map, id);
    apr_size_t at;

    if (tool_output_is_json()) {
        tool_begin_object();
        tool_number_field("slot", id);
        tool_begin_field("in_use");
        fputs(used ? "true" : "false", stdout);
        tool_begin_field("hex");
        putchar('"');
        print_hex(bytes, size);
        putchar('"');
        tool_end_object();
        return;
    }
    if (tool_file_slot_is_zero(file, id)) {
        printf("slot %u: %s, all zero\n", id, used ? "in use" : "free");
        return;
    }
    printf("slot %u: %s\n", id, used ? "in use" : "free");
    for (at = 0; at < size; at += BYTES_PER_LINE) {
        dump_line(bytes, at, size - at < BYTES_PER_LINE ? size - at
                                                        : BYTES_PER_LINE);
    }
}

static void dump_slots(const tool_file_t *file, const tool_options_t *options)
{
    apr_uint32_t first = options->has_slot ? options->slot : 0;
    apr_uint32_t end = options->has_slot ? first + 1
                                         : file->result.item_num;
    apr_uint32_t id;

    tool_begin_list("dump");
    for (id = first; id < end; id++) {
        dump_slot(file, id);
    }
    tool_end_list();
}

static int dump(const tool_options_t *options, apr_pool_t *pool)
{
    tool_file_t file;
    int good = tool_file_read(&file, *options->paths, &options->request, pool)
                   == TOOL_GOOD
               && (!options->has_slot
                   || tool_file_check_slot(&file, options->slot));

    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_file(&file);
    }
    if (good) {
        dump_slots(&file, options);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (!good) {
        tool_report_error(&file);
    }
    return file.verdict;
}

const tool_command_t tool_dump = {
    .name = "dump",
    .arguments = "[--json] [SHAPE] [--slot N] FILE",
    .summary = "all slots in hex, or one; they may contain secrets",
    .num_paths = 1,
    .takes = TOOL_OPT_SHAPE | TOOL_OPT_SLOT,
    .run = dump
};

/* NOLINTEND(cert-err33-c) */

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
 * tool_report.c: the fields that describe a file, and the line that says what
 * is wrong with it; see tool_report.h.
 */

#include "tool_report.h"

#include "apr_strings.h"
#include "apr_time.h"

#include "tool_output.h"
#include "tool_types.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

static const char *verdict_name(int verdict)
{
    return verdict == TOOL_GOOD ? "good"
           : verdict == TOOL_REFUSED ? "refused" : "trouble";
}

void tool_report_verdict(const tool_file_t *file)
{
    tool_text_field("file", file->path);
    tool_text_field("status", verdict_name(file->verdict));
    if (file->reason) {
        tool_text_field("why", tool_file_why(file));
    }
}

static void report_content(const tool_file_t *file)
{
    const slotmem_map_t *map = &file->segment.map;
    char modified[APR_RFC822_DATE_LEN];

    apr_rfc822_date(modified, file->result.file_state.mtime);
    tool_number_field("bytes", (apr_uint64_t)file->result.file_state.size);
    tool_number_field("bytes_ignored", (apr_uint64_t)file->ignored);
    tool_text_field("modified", modified);
    tool_number_field("slots_stored", file->result.item_num);
    tool_number_field("free", slotmem_map_count_free(map));
    tool_number_field("run_time_claims", file->result.runtime_claims);
    tool_ids_field("in_use", map);
}

void tool_report_file(const tool_file_t *file)
{
    tool_report_verdict(file);
    if (file->has_geometry) {
        tool_number_field("slot_size", file->geometry.item_size);
        tool_number_field("slots", file->geometry.item_num);
        tool_number_field("type", file->geometry.type);
        tool_text_field("type_names", tool_type_names(file->geometry.type,
                                                      file->pool));
    }
    if (file->verdict == TOOL_GOOD) {
        report_content(file);
    }
}

void tool_report_error(const tool_file_t *file)
{
    tool_path_error(file->path, file->reason, file->status);
}

/* NOLINTEND(cert-err33-c) */

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
 * tool_output.h: what the command writes, and the code it exits with. A result
 * is written as fields: lines of text, or the members of a JSON object. Errors
 * go to stderr, as text.
 *
 * Lifecycle: tool_output_set_json() comes before the first output, and fields
 * between tool_begin_object() and tool_end_object(). tool_output_close() comes
 * last: until then no function here says whether its write failed.
 *
 * Concurrency: one thread. The format, and whether a comma is due, are state of
 * the process.
 */

#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include <stdio.h>

#include "apr.h"

#include "slotmem_map.h"

#define TOOL_NAME "slotmem-file"

/** The verdict on a file, which is also the exit code, with grep's meanings. */
enum { TOOL_GOOD = 0, TOOL_REFUSED = 1, TOOL_TROUBLE = 2 };

/** Choose the format: 1 for JSON, 0 for text, which is the default. */
void tool_output_set_json(int json);
int tool_output_is_json(void);

/** Write text as it is if the format is JSON, and nothing otherwise. */
void tool_output_if_json(const char *text);

/** Write text for people, with its control characters escaped. */
void tool_print_text(FILE *stream, const char *text);

/** Begin and end a JSON object. Objects that follow one another are separated
 *  by commas. In text these write nothing. */
void tool_begin_object(void);
void tool_end_object(void);

/** Begin and end a field that is an array of objects. In text these write
 *  nothing. */
void tool_begin_list(const char *name);
void tool_end_list(void);

/** Begin and end a field whose value the caller writes between them. */
void tool_begin_field(const char *name);
void tool_end_field(void);

/** Write a whole field. */
void tool_text_field(const char *name, const char *value);
void tool_number_field(const char *name, apr_uint64_t value);

/** Write the ids of the slots in use: each of them in JSON, ranges in text. */
void tool_ids_field(const char *name, const slotmem_map_t *map);

/** Write to stderr what is wrong with the command line. @return TOOL_TROUBLE */
int tool_usage_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/**
 * Close stdout. Nothing may be written to it any more.
 * @return the verdict, or TOOL_TROUBLE if some output could not be written;
 *         stderr then says why
 */
int tool_output_close(int verdict);

#endif /* TOOL_OUTPUT_H */

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
 * tool_output.h: the output of the command, and its exit code. A result is
 * written as fields: lines of text, or members of a JSON object. Errors go to
 * stderr as text.
 *
 * Lifecycle: call tool_output_set_json() before the first output. Fields come
 * between tool_begin_object() and tool_end_object(). Call tool_output_close()
 * last: only that reports whether a write failed.
 *
 * Concurrency: one thread. The format, and whether a comma is due, are static.
 */

#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include <stdio.h>

#include "apr_errno.h"

#include "slotmem_map.h"

#define TOOL_NAME "slotmem-file"

/** The verdict on a file and the exit code, with the meanings of grep's. */
enum { TOOL_GOOD = 0, TOOL_REFUSED = 1, TOOL_TROUBLE = 2 };

/** Choose the format: 1 for JSON, 0 for text, which is the default. */
void tool_output_set_json(int json);
int tool_output_is_json(void);

/** Write text as it is if the format is JSON, and nothing otherwise. */
void tool_output_if_json(const char *text);

/** Write text with its control characters escaped. */
void tool_print_text(FILE *stream, const char *text);

/** Start and end a JSON object, with a comma between objects. Write nothing in
 *  text. */
void tool_begin_object(void);
void tool_end_object(void);

/** Start and end a field that is an array of objects. Write nothing in text. */
void tool_begin_list(const char *name);
void tool_end_list(void);

/** Start and end a field; the caller writes its value in between. */
void tool_begin_field(const char *name);
void tool_end_field(void);

/** Write a whole field. */
void tool_text_field(const char *name, const char *value);
void tool_number_field(const char *name, apr_uint64_t value);

/** Write the ids of the slots in use: all of them in JSON, as ranges in text.
 *  */
void tool_ids_field(const char *name, const slotmem_map_t *map);

/** Write to stderr that something is wrong with a path.
 *  @param status of the call that failed, or APR_SUCCESS
 *  @return TOOL_TROUBLE */
int tool_path_error(const char *path, const char *reason, apr_status_t status);

/** Write to stderr what is wrong with the command line. @return TOOL_TROUBLE */
int tool_usage_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/**
 * Close stdout. Nothing may be written to it after that.
 * @return the verdict; TOOL_TROUBLE if a write failed, with the reason on
 *         stderr
 */
int tool_output_close(int verdict);

#endif /* TOOL_OUTPUT_H */

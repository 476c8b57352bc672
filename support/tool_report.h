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
 * tool_report.h: the output about a file that was read.
 *
 * All functions take a file after tool_file_read(). Call those that write
 * fields between tool_begin_object() and tool_end_object().
 */

#ifndef TOOL_REPORT_H
#define TOOL_REPORT_H

#include "tool_file.h"

/** Write the fields of every command: the path, the verdict and the reason. */
void tool_report_verdict(const tool_file_t *file);

/** Write those, and all other fields except the slots. */
void tool_report_file(const tool_file_t *file);

/** Write to stderr why a file is not TOOL_GOOD. */
void tool_report_error(const tool_file_t *file);

#endif /* TOOL_REPORT_H */

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
 * tool_command.h: the commands, each in its own source. A new one needs that
 * source, a declaration below, a line in the table in slotmem-file.c and a
 * place in the manual.
 *
 * A command's run() is called at most once in a process, after the command line
 * was parsed and the output format was set.
 */

#ifndef TOOL_COMMAND_H
#define TOOL_COMMAND_H

#include "apr_pools.h"

#include "tool_options.h"

/** Process-local: an entry of the table of commands. */
typedef struct tool_command_t {
    const char *name;
    const char *arguments;          /**< for --help */
    const char *summary;            /**< for --help; lines after the first one
                                         are indented by 11 */
    int num_paths;                  /**< how many it takes; 0: one or more, or
                                         those of --dir */
    int takes;                      /**< TOOL_OPT_*, besides --json */
    int wrong_use;                  /**< exit code for a wrong command line; 0:
                                         TOOL_TROUBLE */
    /** Run the command. The number of paths and the options were checked
     *  against num_paths and takes. @return the exit code: TOOL_GOOD,
     *  TOOL_REFUSED or TOOL_TROUBLE */
    int (*run)(const tool_options_t *options, apr_pool_t *pool);
} tool_command_t;

extern const tool_command_t tool_verify;
extern const tool_command_t tool_show;
extern const tool_command_t tool_dump;
extern const tool_command_t tool_workers;
extern const tool_command_t tool_remove;
extern const tool_command_t tool_release;
extern const tool_command_t tool_orphans;
extern const tool_command_t tool_adopt;
extern const tool_command_t tool_check;

#endif /* TOOL_COMMAND_H */

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
 * tool_options.h: parses the command line: the command, its files and options.
 *
 * tool_options_parse() is called once, before any output. It knows neither the
 * commands nor which options each of them takes.
 */

#ifndef TOOL_OPTIONS_H
#define TOOL_OPTIONS_H

#include "apr_pools.h"

#include "tool_file.h"

/** Process-local: the parsed command line. */
typedef struct tool_options_t {
    const char *command;            /**< its name, not looked up yet */
    const char *const *paths;       /**< NULL ends them */
    int num_paths;
    int help;                       /**< 1: the rest may be unset */
    int version;                    /**< the same */
    int given;                      /**< TOOL_OPT_* */
    int json;
    int has_slot;
    apr_uint32_t slot;              /**< if has_slot */
    const char *worker;             /**< a URL, or NULL */
    const char *dir;                /**< or NULL */
    tool_geometry_request_t request;
} tool_options_t;

/** Options that not every command takes. */
enum {
    TOOL_OPT_SHAPE = 1,             /**< --size, --num, --type */
    TOOL_OPT_SLOT = 2,
    TOOL_OPT_WORKER = 4,
    TOOL_OPT_DIR = 8,               /**< instead of files */
    TOOL_OPT_FORCE = 16,
    TOOL_OPT_CANCEL = 32,
    TOOL_OPT_LIST = 64,
    TOOL_OPT_REMOVE = 128,
    TOOL_OPT_YES = 256
};

/** @return the name of the first option in @a set */
const char *tool_options_name(int set);

/**
 * Parse the command line.
 * @param options lasts as long as argv and pool
 * @return TOOL_GOOD, or TOOL_TROUBLE; stderr then says why
 */
int tool_options_parse(tool_options_t *options, int argc,
                       const char *const *argv, apr_pool_t *pool);

#endif /* TOOL_OPTIONS_H */

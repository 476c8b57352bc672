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
 * tool_options.c: parsing the command line; see tool_options.h.
 */

#include "tool_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "apr_getopt.h"
#include "apr_strings.h"

#include "tool_output.h"
#include "tool_types.h"

/* Only digits, and 0x in front of hexadecimal ones: no sign, no space. */
static int parse_number(const char *text, apr_uint64_t max,
                        apr_uint64_t *number)
{
    int base = strncmp(text, "0x", 2) == 0 ? 16 : 10;
    const char *digits = text + (base == 16 ? 2 : 0);

    if (!*digits || digits[strspn(digits, base == 16
                                  ? "0123456789abcdefABCDEF"
                                  : "0123456789")]) {
        return 0;
    }
    errno = 0;
    *number = strtoull(digits, NULL, base);
    return errno == 0 && *number <= max;
}

static int parse_type(const char *text, apr_uint64_t *type, apr_pool_t *pool)
{
    char *list = apr_pstrdup(pool, text);
    char *state;
    char *word;

    if (parse_number(text, APR_UINT32_MAX, type)) {
        return 1;
    }
    *type = 0;
    for (word = apr_strtok(list, ",", &state); word;
         word = apr_strtok(NULL, ",", &state)) {
        apr_uint32_t flag = tool_type_flag(word);

        if (!flag) {
            return 0;
        }
        *type |= flag;
    }
    return *type != 0;
}

enum { OPT_JSON = 256, OPT_SLOT, OPT_SIZE, OPT_NUM, OPT_TYPE };

static const apr_getopt_option_t long_options[] = {
    { "help", 'h', 0, NULL },
    { "json", OPT_JSON, 0, NULL },
    { "slot", OPT_SLOT, 1, NULL },
    { "size", OPT_SIZE, 1, NULL },
    { "num", OPT_NUM, 1, NULL },
    { "type", OPT_TYPE, 1, NULL },
    { NULL, 0, 0, NULL }
};

/* Return 1, or 0 if the option's value is not valid. */
static int set_option(tool_options_t *options, int option, const char *value,
                      apr_pool_t *pool)
{
    apr_uint64_t number = 0;

    switch (option) {
    case OPT_JSON:
        options->json = 1;
        return 1;
    case OPT_SLOT:
        options->has_slot = 1;
        if (!parse_number(value, APR_UINT32_MAX, &number)) {
            return 0;
        }
        options->slot = (apr_uint32_t)number;
        return 1;
    case OPT_SIZE:
        options->request.has_size = 1;
        if (!parse_number(value, APR_SIZE_MAX, &number)) {
            return 0;
        }
        options->request.geometry.item_size = (apr_size_t)number;
        return 1;
    case OPT_NUM:
        options->request.has_num = 1;
        if (!parse_number(value, APR_UINT32_MAX, &number)) {
            return 0;
        }
        options->request.geometry.item_num = (apr_uint32_t)number;
        return 1;
    default:
        options->request.has_type = 1;
        if (!parse_type(value, &number, pool)) {
            return 0;
        }
        options->request.geometry.type = (apr_uint32_t)number;
        return 1;
    }
}

int tool_options_parse(tool_options_t *options, int argc,
                       const char *const *argv, apr_pool_t *pool)
{
    apr_getopt_t *parser;
    apr_status_t rv;
    int option;
    const char *value;

    memset(options, 0, sizeof(*options));
    apr_getopt_init(&parser, pool, argc, argv);
    parser->interleave = 1;
    while ((rv = apr_getopt_long(parser, long_options, &option, &value))
           == APR_SUCCESS) {
        if (option == 'h') {
            options->help = 1;
            return TOOL_GOOD;
        }
        if (!set_option(options, option, value, pool)) {
            tool_usage_error("no such number or type: %s", value);
            return TOOL_TROUBLE;
        }
    }
    if (!APR_STATUS_IS_EOF(rv)) {
        return TOOL_TROUBLE;        /* apr_getopt_long() said why */
    }
    if (parser->ind == argc) {
        tool_usage_error("no command");
        return TOOL_TROUBLE;
    }
    options->command = parser->argv[parser->ind];
    options->paths = (const char *const *)parser->argv + parser->ind + 1;
    options->num_paths = argc - parser->ind - 1;
    return TOOL_GOOD;
}

int tool_options_has_geometry(const tool_options_t *options)
{
    return options->request.has_size || options->request.has_num
           || options->request.has_type;
}

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

/* Only digits, with 0x before hexadecimal ones: no sign, no blanks. */
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

enum {
    OPT_JSON = 256, OPT_SLOT, OPT_SIZE, OPT_NUM, OPT_TYPE, OPT_WORKER, OPT_DIR,
    OPT_FORCE, OPT_CANCEL, OPT_LIST, OPT_REMOVE, OPT_YES, OPT_VERSION
};

static const apr_getopt_option_t long_options[] = {
    { "help", 'h', 0, NULL },
    { "json", OPT_JSON, 0, NULL },
    { "slot", OPT_SLOT, 1, NULL },
    { "size", OPT_SIZE, 1, NULL },
    { "num", OPT_NUM, 1, NULL },
    { "type", OPT_TYPE, 1, NULL },
    { "worker", OPT_WORKER, 1, NULL },
    { "dir", OPT_DIR, 1, NULL },
    { "force", OPT_FORCE, 0, NULL },
    { "cancel", OPT_CANCEL, 0, NULL },
    { "list", OPT_LIST, 0, NULL },
    { "remove", OPT_REMOVE, 0, NULL },
    { "yes", OPT_YES, 0, NULL },
    { "version", OPT_VERSION, 0, NULL },
    { NULL, 0, 0, NULL }
};

/* The options that not every command takes. */
static const struct {
    int option;
    int bit;
    const char *name;
} special_options[] = {
    { OPT_SIZE, TOOL_OPT_SHAPE, "--size" },
    { OPT_NUM, TOOL_OPT_SHAPE, "--num" },
    { OPT_TYPE, TOOL_OPT_SHAPE, "--type" },
    { OPT_SLOT, TOOL_OPT_SLOT, "--slot" },
    { OPT_WORKER, TOOL_OPT_WORKER, "--worker" },
    { OPT_DIR, TOOL_OPT_DIR, "--dir" },
    { OPT_FORCE, TOOL_OPT_FORCE, "--force" },
    { OPT_CANCEL, TOOL_OPT_CANCEL, "--cancel" },
    { OPT_LIST, TOOL_OPT_LIST, "--list" },
    { OPT_REMOVE, TOOL_OPT_REMOVE, "--remove" },
    { OPT_YES, TOOL_OPT_YES, "--yes" }
};
#define NUM_SPECIAL (sizeof(special_options) / sizeof(*special_options))

const char *tool_options_name(int set)
{
    apr_size_t i = 0;

    while (i < NUM_SPECIAL - 1 && !(special_options[i].bit & set)) {
        i++;
    }
    return special_options[i].name;
}

static int bit_of(int option)
{
    apr_size_t i;

    for (i = 0; i < NUM_SPECIAL; i++) {
        if (special_options[i].option == option) {
            return special_options[i].bit;
        }
    }
    return 0;
}

/* Set an option whose value is a number or a type. Returns 0 if it is not. */
static int set_number(tool_options_t *options, int option, const char *value,
                      apr_pool_t *pool)
{
    tool_geometry_request_t *request = &options->request;
    apr_uint64_t number = 0;

    if (option == OPT_TYPE ? !parse_type(value, &number, pool)
        : !parse_number(value, option == OPT_SIZE ? APR_SIZE_MAX
                                                  : APR_UINT32_MAX, &number)) {
        return 0;
    }
    switch (option) {
    case OPT_SLOT:
        options->has_slot = 1;
        options->slot = (apr_uint32_t)number;
        break;
    case OPT_SIZE:
        request->has_size = 1;
        request->geometry.item_size = (apr_size_t)number;
        break;
    case OPT_NUM:
        request->has_num = 1;
        request->geometry.item_num = (apr_uint32_t)number;
        break;
    default:
        request->has_type = 1;
        request->geometry.type = (apr_uint32_t)number;
    }
    return 1;
}

/* Returns 0 if the option's value is not valid. */
static int set_option(tool_options_t *options, int option, const char *value,
                      apr_pool_t *pool)
{
    options->given |= bit_of(option);
    switch (option) {
    case OPT_JSON:
        options->json = 1;
        return 1;
    case OPT_WORKER:
        options->worker = value;
        return *value != '\0';
    case OPT_DIR:
        options->dir = value;
        return *value != '\0';
    case OPT_SLOT:
    case OPT_SIZE:
    case OPT_NUM:
    case OPT_TYPE:
        return set_number(options, option, value, pool);
    default:
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
        if (option == 'h' || option == OPT_VERSION) {
            options->help = option == 'h';
            options->version = option == OPT_VERSION;
            return TOOL_GOOD;
        }
        if (!set_option(options, option, value, pool)) {
            tool_usage_error("invalid value: %s", value);
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

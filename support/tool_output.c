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
 * tool_output.c: lines of text or JSON, and errors; see tool_output.h.
 */

#include "tool_output.h"

#include <stdarg.h>
#include <string.h>

#include "apr_pools.h"

#include "slotmem_escape.h"

/* These writes are not checked one by one: tool_output_close() checks whether
 * any of them failed. NOLINTBEGIN(cert-err33-c) */

static int is_json;
static int is_first_field;
static int is_first_object = 1;

void tool_output_set_json(int json)
{
    is_json = json;
}

int tool_output_is_json(void)
{
    return is_json;
}

void tool_output_if_json(const char *text)
{
    if (is_json) {
        fputs(text, stdout);
    }
}

/* Print a text, escaped by a function of slotmem_escape.h. */
static void print_escaped(FILE *stream, const char *text,
                          const char *(*escape)(const char *, apr_pool_t *))
{
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    fputs(escape(text, pool), stream);
    apr_pool_destroy(pool);
}

static void print_json_string(const char *text)
{
    putchar('"');
    print_escaped(stdout, text, slotmem_escape_json);
    putchar('"');
}

/* The name of a file can have control characters, which a terminal would
 * execute. */
void tool_print_text(FILE *stream, const char *text)
{
    print_escaped(stream, text, slotmem_escape_line);
}

void tool_begin_object(void)
{
    if (is_json) {
        fputs(is_first_object ? "{" : ",\n {", stdout);
    }
    is_first_object = 0;
    is_first_field = 1;
}

void tool_end_object(void)
{
    if (is_json) {
        putchar('}');
    }
}

void tool_begin_list(const char *name)
{
    if (is_json) {
        tool_begin_field(name);
        putchar('[');
        is_first_object = 1;
    }
}

void tool_end_list(void)
{
    if (is_json) {
        putchar(']');
        is_first_field = 0;
        is_first_object = 0;
    }
}

void tool_begin_field(const char *name)
{
    if (is_json) {
        printf("%s\"%s\":", is_first_field ? "" : ",", name);
        is_first_field = 0;
    }
    else {
        printf("%s:%*s", name, (int)(16 - strlen(name)), "");
    }
}

void tool_end_field(void)
{
    if (!is_json) {
        putchar('\n');
    }
}

void tool_text_field(const char *name, const char *value)
{
    tool_begin_field(name);
    if (is_json) {
        print_json_string(value);
    }
    else {
        tool_print_text(stdout, value);
    }
    tool_end_field();
}

void tool_number_field(const char *name, apr_uint64_t value)
{
    tool_begin_field(name);
    printf("%" APR_UINT64_T_FMT, value);
    tool_end_field();
}

void tool_ids_field(const char *name, const slotmem_map_t *map)
{
    apr_uint32_t id = slotmem_map_next(map, 0);
    int first = 1;

    tool_begin_field(name);
    fputs(is_json ? "[" : id < map->num ? "" : "none", stdout);
    while (id < map->num) {
        apr_uint32_t last = id;

        while (!is_json && last + 1 < map->num
               && slotmem_map_test(map, last + 1)) {
            last++;
        }
        printf(first ? "%u" : is_json ? ",%u" : " %u", id);
        if (last > id) {
            printf("-%u", last);
        }
        first = 0;
        id = last + 1 < map->num ? slotmem_map_next(map, last + 1) : map->num;
    }
    fputs(is_json ? "]" : "", stdout);
    tool_end_field();
}

int tool_usage_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs(TOOL_NAME ": ", stderr);
    vfprintf(stderr, format, args);
    fputs("; see " TOOL_NAME " --help\n", stderr);
    va_end(args);
    return TOOL_TROUBLE;
}

int tool_path_error(const char *path, const char *reason, apr_status_t status)
{
    char text[256];

    fputs(TOOL_NAME ": ", stderr);
    tool_print_text(stderr, path);
    fprintf(stderr, ": %s", reason);
    if (status != APR_SUCCESS) {
        fprintf(stderr, ": %s", apr_strerror(status, text, sizeof(text)));
    }
    putc('\n', stderr);
    return TOOL_TROUBLE;
}

int tool_output_close(int verdict)
{
    if (ferror(stdout) || fclose(stdout) != 0) {
        perror(TOOL_NAME ": cannot write");
        return TOOL_TROUBLE;
    }
    return verdict;
}

/* NOLINTEND(cert-err33-c) */

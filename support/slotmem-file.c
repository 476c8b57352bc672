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
 * slotmem-file.c: the command that examines persisted files; slotmem-file.8 is
 * its manual. It restores a file with the module's own code into memory of this
 * process, and reports what is then in that memory.
 *
 * Crash: a command that reads leaves nothing behind. "release" stores the file
 * as the module does, so the file is the old one or the new one, and complete,
 * whenever the process dies.
 *
 * Concurrency: a server replaces its files by rename, so each pass over a file
 * reads one open file from beginning to end. There are two passes, one for the
 * geometry and one for the content, and both are repeated if the file was
 * replaced between them. "release" first takes the lock by which a server
 * claims the right to store the file.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apr_file_info.h"
#include "apr_general.h"
#include "apr_getopt.h"
#include "apr_pools.h"
#include "apr_strings.h"
#include "apr_time.h"

#include "ap_slotmem.h"

#include "slotmem_lock.h"
#include "slotmem_store.h"

/* The results of these writes need no check: tool_output_close() asks whether
 * any of them failed. NOLINTBEGIN(cert-err33-c) */

#define TOOL_NAME "slotmem-file"
/* How many times to read a file that is replaced each time. */
#define READ_ATTEMPTS 100
/* Bytes of a slot in each line of text. */
#define BYTES_PER_LINE 16u

/* The verdict on a file, which is also the exit code, with grep's meanings. */
enum { TOOL_GOOD = 0, TOOL_REFUSED = 1, TOOL_TROUBLE = 2 };

/* ---- output: lines of text, or JSON ---- */

static int is_json;
static int is_first_field;
static int is_first_object = 1;

static void tool_output_set_json(int json)
{
    is_json = json;
}

static int tool_output_is_json(void)
{
    return is_json;
}

/* Write text as it is if the format is JSON, and nothing otherwise. */
static void tool_output_if_json(const char *text)
{
    if (is_json) {
        fputs(text, stdout);
    }
}

/* The length of the UTF-8 character at text, or 0 if it is not a valid one. */
static int utf8_len(const unsigned char *text)
{
    int len = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2
              : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
    int i;

    for (i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((text[0] == 0xe0 && text[1] < 0xa0)         /* overlong */
        || (text[0] == 0xf0 && text[1] < 0x90)
        || (text[0] == 0xed && text[1] > 0x9f)      /* a surrogate */
        || (text[0] == 0xf4 && text[1] > 0x8f)) {   /* past U+10FFFF */
        return 0;
    }
    return len;
}

/* Bytes that are not UTF-8 are written as U+FFFD, the replacement character. */
static void print_json_string(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    putchar('"');
    while (*at) {
        int len = utf8_len(at);

        if (*at < 0x20 || *at == 0x7f) {
            printf("\\u%04x", *at);
        }
        else if (*at == '"' || *at == '\\') {
            printf("\\%c", *at);
        }
        else if (len) {
            fwrite(at, 1, (size_t)len, stdout);
        }
        else {
            fputs("\\ufffd", stdout);
        }
        at += len ? len : 1;
    }
    putchar('"');
}

/* The name of a file can have control characters, which a terminal would
 * obey. */
static void tool_print_text(FILE *stream, const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            fprintf(stream, "\\x%02x", (unsigned char)*text);
        }
        else {
            putc(*text, stream);
        }
    }
}

static void tool_begin_object(void)
{
    if (is_json) {
        fputs(is_first_object ? "{" : ",\n {", stdout);
    }
    is_first_object = 0;
    is_first_field = 1;
}

static void tool_end_object(void)
{
    if (is_json) {
        putchar('}');
    }
}

static void tool_begin_field(const char *name)
{
    if (is_json) {
        printf("%s\"%s\":", is_first_field ? "" : ",", name);
        is_first_field = 0;
    }
    else {
        printf("%s:%*s", name, (int)(16 - strlen(name)), "");
    }
}

static void tool_end_field(void)
{
    if (!is_json) {
        putchar('\n');
    }
}

static void tool_text_field(const char *name, const char *value)
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

static void tool_number_field(const char *name, apr_uint64_t value)
{
    tool_begin_field(name);
    printf("%" APR_UINT64_T_FMT, value);
    tool_end_field();
}

/* The ids of the slots in use: each of them in JSON, ranges in text. */
static void tool_ids_field(const char *name, const slotmem_map_t *map)
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

static int tool_usage_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs(TOOL_NAME ": ", stderr);
    vfprintf(stderr, format, args);
    fputs("; see " TOOL_NAME " --help\n", stderr);
    va_end(args);
    return TOOL_TROUBLE;
}

/* Output that could not be written is trouble, whatever the verdict was. */
static int tool_output_close(int verdict)
{
    if (ferror(stdout) || fclose(stdout) != 0) {
        perror(TOOL_NAME ": cannot write");
        return TOOL_TROUBLE;
    }
    return verdict;
}

/* ---- the type flags ---- */

static const struct {
    const char *name;
    apr_uint32_t flag;
} type_flags[] = {
    { "persist", AP_SLOTMEM_TYPE_PERSIST },
    { "notmpsafe", AP_SLOTMEM_TYPE_NOTMPSAFE },
    { "pregrab", AP_SLOTMEM_TYPE_PREGRAB },
    { "clearinuse", AP_SLOTMEM_TYPE_CLEARINUSE }
};
#define NUM_TYPE_FLAGS (sizeof(type_flags) / sizeof(*type_flags))

static const char *tool_type_names(apr_uint32_t type, apr_pool_t *pool)
{
    const char *names = "";
    apr_size_t i;

    for (i = 0; i < NUM_TYPE_FLAGS; i++) {
        if (type & type_flags[i].flag) {
            names = apr_pstrcat(pool, names, *names ? "," : "",
                                type_flags[i].name, NULL);
            type &= ~type_flags[i].flag;
        }
    }
    return type || !*names ? apr_psprintf(pool, "%s%s0x%x", names,
                                          *names ? "," : "", type) : names;
}

/* The flag of a name, or 0 if there is none of that name. */
static apr_uint32_t tool_type_flag(const char *name)
{
    apr_size_t i;

    for (i = 0; i < NUM_TYPE_FLAGS; i++) {
        if (strcmp(name, type_flags[i].name) == 0) {
            return type_flags[i].flag;
        }
    }
    return 0;
}

/* ---- a file ---- */

/* Process-local: the geometry to restore a file with, as far as the user says
 * it. The rest is as the file describes itself. */
typedef struct tool_geometry_request_t {
    int has_size;                   /* 1: geometry.item_size is set, */
    int has_num;                    /* ... geometry.item_num, */
    int has_type;                   /* ... geometry.type */
    slotmem_geometry_t geometry;
} tool_geometry_request_t;

/* Process-local: a persisted file, as far as it could be read. */
typedef struct tool_file_t {
    const char *path;
    apr_pool_t *pool;
    int verdict;                    /* TOOL_GOOD: the module would restore
                                       it; TOOL_REFUSED: it would not, for
                                       its content; TOOL_TROUBLE: not known */
    const char *reason;             /* NULL if TOOL_GOOD */
    apr_status_t status;            /* of the call that failed, or
                                       APR_SUCCESS */
    int has_geometry;               /* 1: geometry is set */
    slotmem_geometry_t geometry;    /* as requested; otherwise the file's */
    slotmem_restore_result_t result;
    slotmem_segment_t segment;      /* the restored slots, if TOOL_GOOD */
    apr_off_t ignored;              /* bytes after the last one that the
                                       module reads, if TOOL_GOOD */
} tool_file_t;

static int tool_file_set_verdict(tool_file_t *file, int verdict,
                                 apr_status_t status, const char *reason)
{
    file->verdict = verdict;
    file->status = status;
    file->reason = reason;
    return verdict;
}

/* A file whose content the module would refuse is refused. One that is not
 * there or that could not be read is trouble: its content is not known. */
static int set_verdict_from_result(tool_file_t *file)
{
    const slotmem_restore_result_t *result = &file->result;

    switch (result->outcome) {
    case SLOTMEM_RESTORE_DONE:
        return tool_file_set_verdict(file, TOOL_GOOD, APR_SUCCESS, NULL);
    case SLOTMEM_RESTORE_NO_FILE:
        return tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                                     "there is no such file");
    default:
        return tool_file_set_verdict(file, result->status == APR_SUCCESS
                                               ? TOOL_REFUSED : TOOL_TROUBLE,
                                     result->status, result->reason);
    }
}

/* The geometry to restore with: as requested, and where nothing was requested
 * as the file describes itself. */
static int choose_geometry(tool_file_t *file,
                           const tool_geometry_request_t *request)
{
    int all_given = request->has_size && request->has_num && request->has_type;

    slotmem_identify(&file->result, &file->geometry, file->path, file->pool);
    file->has_geometry = file->result.outcome == SLOTMEM_RESTORE_DONE;
    if (!file->has_geometry && !all_given) {
        return set_verdict_from_result(file);
    }
    if (request->has_size) {
        file->geometry.item_size = request->geometry.item_size;
    }
    if (request->has_num) {
        file->geometry.item_num = request->geometry.item_num;
    }
    if (request->has_type) {
        file->geometry.type = request->geometry.type;
    }
    file->has_geometry = 1;
    return TOOL_GOOD;
}

/* Can a file of this type have run-time claims? */
static int tool_file_has_claims(const slotmem_geometry_t *geometry)
{
    return (geometry->type & AP_SLOTMEM_TYPE_PERSIST)
           && (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE);
}

/* How many bytes at the end of the file the module does not read. */
static apr_off_t count_ignored_bytes(const tool_file_t *file)
{
    slotmem_geometry_t stored = file->geometry;
    slotmem_layout_t layout;
    apr_off_t end;

    stored.item_num = file->result.item_num;
    slotmem_layout(&layout, &stored);
    end = layout.image_len;
    if (tool_file_has_claims(&stored) && file->result.file_state.verified) {
        end += SLOTMEM_FILE_CLAIMS_HEADER + (apr_off_t)stored.item_num
               + SLOTMEM_FILE_DIGEST;
    }
    /* A file without a descriptor is shorter than that. */
    return file->result.file_state.size > end
               ? file->result.file_state.size - end
               : 0;
}

static int is_same_file(const slotmem_file_state_t *a,
                        const slotmem_file_state_t *b)
{
    return a->inode == b->inode && a->device == b->device && a->size == b->size
           && a->ctime == b->ctime;
}

/* Did all passes read the same file, or was it replaced between them? If the
 * file was restored, identified is the one that its geometry came from. */
static int saw_one_file(const tool_file_t *file, int was_restored,
                        const slotmem_file_state_t *identified)
{
    const slotmem_file_state_t *last = &file->result.file_state;
    apr_finfo_t info;

    if (was_restored) {
        return is_same_file(identified, last);
    }
    return apr_stat(&info, file->path, APR_FINFO_LINK | APR_FINFO_TYPE
                                       | APR_FINFO_IDENT, file->pool)
           != APR_SUCCESS || info.filetype != APR_REG
           || (info.inode == last->inode && info.device == last->device);
}

/* Restore the file into memory of this process, as the module does. */
static int restore_segment(tool_file_t *file)
{
    apr_status_t rv = slotmem_segment_create(&file->segment, &file->geometry,
                                             NULL, file->pool);

    if (rv != APR_SUCCESS) {
        return tool_file_set_verdict(file, TOOL_TROUBLE, rv,
                                     apr_psprintf(file->pool,
                                                  "cannot have %u slots of %"
                                                  APR_SIZE_T_FMT " bytes",
                                                  file->geometry.item_num,
                                                  file->geometry.item_size));
    }
    slotmem_restore(&file->result, &file->segment,
                    tool_file_has_claims(&file->geometry), file->path,
                    file->pool);
    return set_verdict_from_result(file);
}

static int restore_one_file(tool_file_t *file,
                            const tool_geometry_request_t *request)
{
    int i;

    for (i = 0; i < READ_ATTEMPTS; i++) {
        int restorable = choose_geometry(file, request) == TOOL_GOOD;
        slotmem_file_state_t identified = file->result.file_state;

        if (restorable) {
            restore_segment(file);
        }
        if (saw_one_file(file, restorable, &identified)) {
            break;
        }
    }
    if (file->verdict == TOOL_GOOD) {
        file->ignored = count_ignored_bytes(file);
    }
    return file->verdict;
}

static int tool_file_read(tool_file_t *file, const char *path,
                          const tool_geometry_request_t *request,
                          apr_pool_t *pool)
{
    memset(file, 0, sizeof(*file));
    file->path = path;
    file->pool = pool;
    return restore_one_file(file, request);
}

/* Return 1, or 0 with a verdict if there is no such slot. */
static int tool_file_check_slot(tool_file_t *file, apr_uint32_t slot)
{
    if (slot < file->result.item_num) {
        return 1;
    }
    tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                          apr_psprintf(file->pool,
                                       "there is no slot %u: it holds %u",
                                       slot, file->result.item_num));
    return 0;
}

static const unsigned char *tool_file_slot(const tool_file_t *file,
                                           apr_uint32_t slot)
{
    return (const unsigned char *)file->segment.slots
           + file->geometry.item_size * slot;
}

static int tool_file_slot_is_zero(const tool_file_t *file, apr_uint32_t slot)
{
    const unsigned char *bytes = tool_file_slot(file, slot);
    apr_size_t size = file->geometry.item_size;
    apr_size_t i;

    for (i = 0; i < size && !bytes[i]; i++)
        ;
    return i == size;
}

/* ---- the command line ---- */

/* Process-local: what the command line asks for. */
typedef struct tool_options_t {
    const char *command;            /* its name, not looked up yet */
    const char *const *paths;       /* after the last one: NULL */
    int num_paths;
    int help;                       /* 1: the rest may be unset */
    int json;
    int has_slot;
    apr_uint32_t slot;              /* if has_slot */
    tool_geometry_request_t request;
} tool_options_t;

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

static int tool_options_parse(tool_options_t *options, int argc,
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

static int tool_options_has_geometry(const tool_options_t *options)
{
    return options->request.has_size || options->request.has_num
           || options->request.has_type;
}

/* ---- what commands write about a file ---- */

static const char *status_text(apr_status_t status, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 256);

    return apr_strerror(status, text, 256);
}

static const char *verdict_name(int verdict)
{
    return verdict == TOOL_GOOD ? "good"
           : verdict == TOOL_REFUSED ? "refused" : "trouble";
}

/* The fields that every command writes about a file. */
static void tool_report_verdict(const tool_file_t *file)
{
    tool_text_field("file", file->path);
    tool_text_field("status", verdict_name(file->verdict));
    if (file->reason) {
        tool_text_field("why", file->status == APR_SUCCESS ? file->reason
                        : apr_pstrcat(file->pool, file->reason, ": ",
                                      status_text(file->status, file->pool),
                                      NULL));
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

static void tool_report_file(const tool_file_t *file)
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

/* Write to stderr why a file is not good. In JSON the field "why" says it as
 * well. */
static void tool_report_error(const tool_file_t *file)
{
    fputs(TOOL_NAME ": ", stderr);
    tool_print_text(stderr, file->path);
    fprintf(stderr, ": %s", file->reason);
    if (file->status != APR_SUCCESS) {
        fprintf(stderr, ": %s", status_text(file->status, file->pool));
    }
    putc('\n', stderr);
}

/* ---- the commands ---- */

/* Process-local: a command, as the table has it. */
typedef struct tool_command_t {
    const char *name;
    const char *arguments;          /* for --help */
    const char *summary;            /* for --help; lines after the first one
                                       are indented by 11 */
    int takes_many_files;           /* 1: one file or more; 0: one file */
    int takes_slot;                 /* 1: --slot is accepted */
    /* Do it. The paths are as many as takes_many_files says, and --slot is
     * only given if takes_slot; a command checks what else it needs. @return
     * the exit code, TOOL_GOOD, TOOL_REFUSED or TOOL_TROUBLE */
    int (*run)(const tool_options_t *options, apr_pool_t *pool);
} tool_command_t;

static void print_verify_line(const tool_file_t *file)
{
    tool_print_text(stdout, file->path);
    if (file->verdict == TOOL_REFUSED) {
        printf(": not restored: %s\n", file->reason);
        return;
    }
    printf(": good: %u of %u slots of %" APR_SIZE_T_FMT " bytes, type 0x%x "
           "(%s), %u in use",
           file->result.item_num, file->geometry.item_num,
           file->geometry.item_size, file->geometry.type,
           tool_type_names(file->geometry.type, file->pool),
           file->geometry.item_num
               - slotmem_map_count_free(&file->segment.map));
    if (file->ignored) {
        printf("; %" APR_OFF_T_FMT " bytes after them are ignored",
               file->ignored);
    }
    putchar('\n');
}

static void report_verified(const tool_file_t *file)
{
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_file(file);
    }
    else if (file->verdict != TOOL_TROUBLE) {
        print_verify_line(file);
    }
    tool_end_object();
}

/* Return the worst verdict: trouble with one file is trouble. */
static int verify(const tool_options_t *options, apr_pool_t *pool)
{
    const char *const *path;
    int worst = TOOL_GOOD;

    tool_output_if_json("[");
    for (path = options->paths; *path; path++) {
        apr_pool_t *scratch;
        tool_file_t file;
        int verdict;

        apr_pool_create(&scratch, pool);
        verdict = tool_file_read(&file, *path, &options->request, scratch);
        report_verified(&file);
        if (verdict == TOOL_TROUBLE) {
            tool_report_error(&file);
        }
        worst = verdict > worst ? verdict : worst;
        apr_pool_destroy(scratch);
    }
    tool_output_if_json("]\n");
    return worst;
}

static const tool_command_t tool_verify = {
    .name = "verify",
    .arguments = "[--json] [SHAPE] FILE...",
    .summary = "whether each would be restored, and if not why",
    .takes_many_files = 1,
    .run = verify
};

static int show(const tool_options_t *options, apr_pool_t *pool)
{
    tool_file_t file;

    tool_file_read(&file, *options->paths, &options->request, pool);
    tool_begin_object();
    if (tool_output_is_json() || file.verdict != TOOL_TROUBLE) {
        tool_report_file(&file);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (file.verdict == TOOL_TROUBLE) {
        tool_report_error(&file);
    }
    return file.verdict;
}

static const tool_command_t tool_show = {
    .name = "show",
    .arguments = "[--json] [SHAPE] FILE",
    .summary = "what it describes, and which slots are in use",
    .run = show
};

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

static void dump_slot(const tool_file_t *file, apr_uint32_t id, int is_first)
{
    apr_size_t size = file->geometry.item_size;
    const unsigned char *bytes = tool_file_slot(file, id);
    int used = slotmem_map_test(&file->segment.map, id);
    apr_size_t at;

    if (tool_output_is_json()) {
        printf("%s{\"slot\":%u,\"in_use\":%s,\"hex\":\"",
               is_first ? "" : ",\n  ", id, used ? "true" : "false");
        print_hex(bytes, size);
        fputs("\"}", stdout);
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

    if (tool_output_is_json()) {
        tool_begin_field("dump");
        putchar('[');
    }
    for (id = first; id < end; id++) {
        dump_slot(file, id, id == first);
    }
    tool_output_if_json("]");
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

static const tool_command_t tool_dump = {
    .name = "dump",
    .arguments = "[--json] [SHAPE] [--slot N] FILE",
    .summary = "the slots in hex, or one: they may hold secrets",
    .takes_slot = 1,
    .run = dump
};

/* A store creates a new file, which belongs to the user who runs the command.
 * Refuse all but the owner of the old one: the server might not be able to read
 * a file of another user. */
static int check_owner(tool_file_t *file)
{
    apr_finfo_t info;

    if (apr_stat(&info, file->path, APR_FINFO_LINK | APR_FINFO_OWNER,
                 file->pool) == APR_SUCCESS && info.user == geteuid()) {
        return 1;
    }
    tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                          "only the file's owner can release a slot of it: "
                          "run this as that user");
    return 0;
}

/* Take the file's lock. No server starts to store the file from then on until
 * this process ends. */
static int lock_file(tool_file_t *file)
{
    pid_t holder = 0;
    apr_status_t rv = slotmem_lock(file->path, &holder, file->pool);

    if (rv == APR_EBUSY) {
        tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                              apr_psprintf(file->pool,
                                           "a server, process %" APR_PID_T_FMT
                                           ", stores it: stop that first",
                                           holder));
    }
    else if (rv != APR_SUCCESS) {
        tool_file_set_verdict(file, TOOL_TROUBLE, rv, "cannot take its lock in "
                              SLOTMEM_LOCK_FILE " beside it");
    }
    return rv == APR_SUCCESS;
}

/* Is a slot as it would be in a new segment? */
static int is_free_and_empty(const tool_file_t *file, apr_uint32_t slot)
{
    return !slotmem_map_test(&file->segment.map, slot)
           && tool_file_slot_is_zero(file, slot);
}

static int check_releasable(tool_file_t *file, apr_uint32_t slot)
{
    if (!tool_file_check_slot(file, slot)) {
        return 0;
    }
    if (!(file->geometry.type & AP_SLOTMEM_TYPE_PERSIST)) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              "it is not of the type persist");
    }
    else if (file->ignored) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              apr_psprintf(file->pool, "%" APR_OFF_T_FMT
                                           " bytes after its slots are of "
                                           "another segment: start and stop "
                                           "the server, which stores it anew",
                                           file->ignored));
    }
    else if (is_free_and_empty(file, slot)) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              apr_psprintf(file->pool,
                                           "slot %u is free and empty already",
                                           slot));
    }
    return file->verdict == TOOL_GOOD;
}

/* Store the segment with one slot as it would be in a new segment. It is free,
 * so the next grab can have it. Its data is zero, because a consumer that looks
 * at every slot would otherwise make the same object of it again. If the file
 * had run-time claims, every other slot in use now is stored as one; a file
 * that had none gets none. */
static void store_released(tool_file_t *file, apr_uint32_t slot)
{
    slotmem_segment_t *segment = &file->segment;
    apr_size_t size = file->geometry.item_size;
    slotmem_store_t store;

    memset(&store, 0, sizeof(store));
    store.segment = segment;
    store.path = file->path;
    if (tool_file_has_claims(&file->geometry)
        && file->result.file_state.verified) {
        store.config_claims = apr_pcalloc(file->pool, sizeof(slotmem_word_t)
                                       * slotmem_map_words(segment->map.num));
    }
    slotmem_map_clear(&segment->map, slot);
    memset(segment->slots + size * slot, 0, size);
    slotmem_store_continue(slotmem_store_begin(&store, 1, file->pool), 0);
    if (store.step) {
        tool_file_set_verdict(file, TOOL_TROUBLE, store.status,
                              apr_psprintf(file->pool, "cannot %s",
                                           store.step));
    }
}

/* The file is read before the lock is taken, so that no lock file is created
 * beside a file that cannot be released, and again under the lock, because only
 * then nobody else stores it. */
static int release(const tool_options_t *options, apr_pool_t *pool)
{
    const tool_geometry_request_t *request = &options->request;
    const char *path = *options->paths;
    tool_file_t file;

    if (!options->has_slot || tool_options_has_geometry(options)) {
        return tool_usage_error("release takes --slot, and no shape");
    }
    if (tool_file_read(&file, path, request, pool) == TOOL_GOOD
        && check_owner(&file) && lock_file(&file)
        && tool_file_read(&file, path, request, pool) == TOOL_GOOD
        && check_releasable(&file, options->slot)) {
        store_released(&file, options->slot);
    }
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_verdict(&file);
        tool_number_field("slot", options->slot);
    }
    else if (file.verdict == TOOL_GOOD) {
        tool_print_text(stdout, path);
        printf(": slot %u is free and empty\n", options->slot);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (file.verdict != TOOL_GOOD) {
        tool_report_error(&file);
    }
    return file.verdict;
}

static const tool_command_t tool_release = {
    .name = "release",
    .arguments = "[--json] --slot N FILE",
    .summary = "makes a slot free and empty, while the server is stopped",
    .takes_slot = 1,
    .run = release
};

/* ---- the table ---- */

static const tool_command_t *const commands[] = {
    &tool_verify,
    &tool_show,
    &tool_dump,
    &tool_release,
    NULL
};

static const char usage_of_options[] =
    "\n"
    "  SHAPE    --size N --num N --type T: the segment that is asked for;\n"
    "           what is not given is as the file says. T is a number, or of\n"
    "           persist,notmpsafe,pregrab,clearinuse\n"
    "  --json   as JSON\n"
    "\n"
    "Exit code: 0 good, 1 not, 2 trouble.\n";

static void print_usage(void)
{
    const tool_command_t *const *at;

    for (at = commands; *at; at++) {
        printf("%s" TOOL_NAME " %s %s\n", at == commands ? "Usage: "
                                                         : "       ",
               (*at)->name, (*at)->arguments);
    }
    putchar('\n');
    for (at = commands; *at; at++) {
        printf("  %-8s %s\n", (*at)->name, (*at)->summary);
    }
    fputs(usage_of_options, stdout);
}

static const tool_command_t *find_command(const char *name)
{
    const tool_command_t *const *at = commands;

    while (*at && strcmp((*at)->name, name) != 0) {
        at++;
    }
    return *at;
}

static int run_command(const tool_options_t *options, apr_pool_t *pool)
{
    const tool_command_t *command = find_command(options->command);

    if (!command) {
        return tool_usage_error("there is no command %s", options->command);
    }
    if (options->num_paths == 0
        || (options->num_paths > 1 && !command->takes_many_files)) {
        return tool_usage_error("%s takes one file%s", command->name,
                                command->takes_many_files ? " or more" : "");
    }
    if (options->has_slot && !command->takes_slot) {
        return tool_usage_error("%s takes no --slot", command->name);
    }
    tool_output_set_json(options->json);
    return command->run(options, pool);
}

int main(int argc, const char *const *argv)
{
    tool_options_t options;
    apr_pool_t *pool;

    if (apr_app_initialize(&argc, &argv, NULL) != APR_SUCCESS) {
        return tool_usage_error("APR cannot be started");
    }
    atexit(apr_terminate);
    apr_pool_create(&pool, NULL);
    if (tool_options_parse(&options, argc, argv, pool) != TOOL_GOOD) {
        return TOOL_TROUBLE;
    }
    if (options.help) {
        print_usage();
        return tool_output_close(TOOL_GOOD);
    }
    return tool_output_close(run_command(&options, pool));
}

/* NOLINTEND(cert-err33-c) */

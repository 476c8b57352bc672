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
 * slotmem-file.c: the command that looks at persisted files; slotmem-file.8
 * is its manual. A file is restored, by the module's own code, into memory of
 * this process; what is said of the file is what stands there then.
 *
 * A crash leaves nothing of a command that reads. A release is a store like the
 * module's: the file is the old one or the new one, whole, at every
 * instruction.
 *
 * Concurrency: a server replaces its files by rename, so each is read whole
 * from one open file. A file is looked at twice, for its shape and for its
 * content: again if it was replaced in between. A release holds the lock that
 * says which server stores the file.
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
#include "apr_strings.h"
#include "apr_time.h"

#include "ap_slotmem.h"

#include "slotmem_lock.h"
#include "slotmem_store.h"

/* finish() finds out whether stdout took everything.
 * NOLINTBEGIN(cert-err33-c) */

#define NAME "slotmem-file"
/* How often to look at a file that is replaced all the time. */
#define ATTEMPTS 100
/* Bytes of a slot in a line of a dump. */
#define LINE 16u

/* Exit codes: those of grep. */
enum { GOOD = 0, NOT = 1, TROUBLE = 2 };

typedef struct options_t {
    int json;
    int has_slot;
    apr_uint32_t slot;
    int has_size;                   /* which of asked are given */
    int has_num;
    int has_type;
    slotmem_geometry_t asked;
} options_t;

/* A file, as far as it could be verified. */
typedef struct image_t {
    const char *path;
    apr_pool_t *pool;
    int code;                       /* an exit code */
    const char *reason;             /* NULL if GOOD */
    apr_status_t status;            /* the failing call's, or APR_SUCCESS */
    int described;                  /* is geometry set? */
    slotmem_geometry_t geometry;    /* what the file says, or what was asked */
    slotmem_restore_result_t result;
    slotmem_segment_t segment;      /* restored, if GOOD */
    apr_off_t rest;                 /* bytes after the image, if GOOD */
} image_t;

/* ---- output: lines for people, or JSON ---- */

static int json;
static int first_in_object;
static int first_object = 1;

/* The length of the UTF-8 character at text, or 0: there is none. */
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
    if ((text[0] == 0xe0 && text[1] < 0xa0)         /* too long a form */
        || (text[0] == 0xf0 && text[1] < 0x90)
        || (text[0] == 0xed && text[1] > 0x9f)      /* a surrogate */
        || (text[0] == 0xf4 && text[1] > 0x8f)) {   /* past the last one */
        return 0;
    }
    return len;
}

/* What is no UTF-8 comes out as the character that stands for that. */
static void put_json_text(const char *text)
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

/* A file's name may hold what moves a terminal's cursor. */
static void put_text(FILE *stream, const char *text)
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

static void begin_object(void)
{
    if (json) {
        fputs(first_object ? "{" : ",\n {", stdout);
    }
    first_object = 0;
    first_in_object = 1;
}

static void end_object(void)
{
    if (json) {
        putchar('}');
    }
}

/* The beginning of a field. */
static void key(const char *name)
{
    if (json) {
        printf("%s\"%s\":", first_in_object ? "" : ",", name);
        first_in_object = 0;
    }
    else {
        printf("%s:%*s", name, (int)(16 - strlen(name)), "");
    }
}

static void end_line(void)
{
    if (!json) {
        putchar('\n');
    }
}

static void text_field(const char *name, const char *value)
{
    key(name);
    if (json) {
        put_json_text(value);
    }
    else {
        put_text(stdout, value);
    }
    end_line();
}

static void number_field(const char *name, apr_uint64_t value)
{
    key(name);
    printf("%" APR_UINT64_T_FMT, value);
    end_line();
}

/* The ids in use: JSON has each of them, a line has ranges. */
static void ids_field(const char *name, const slotmem_map_t *map)
{
    apr_uint32_t id = slotmem_map_next(map, 0);
    int first = 1;

    key(name);
    fputs(json ? "[" : id < map->num ? "" : "none", stdout);
    while (id < map->num) {
        apr_uint32_t last = id;

        while (!json && last + 1 < map->num
               && slotmem_map_test(map, last + 1)) {
            last++;
        }
        printf(first ? "%u" : json ? ",%u" : " %u", id);
        if (last > id) {
            printf("-%u", last);
        }
        first = 0;
        id = last + 1 < map->num ? slotmem_map_next(map, last + 1) : map->num;
    }
    fputs(json ? "]" : "", stdout);
    end_line();
}

static const char *strerror_of(apr_status_t status, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 256);

    return apr_strerror(status, text, 256);
}

/* To where errors go; with JSON, the field "why" has it too. */
static void say_trouble(const image_t *image)
{
    fputs(NAME ": ", stderr);
    put_text(stderr, image->path);
    fprintf(stderr, ": %s", image->reason);
    if (image->status != APR_SUCCESS) {
        fprintf(stderr, ": %s", strerror_of(image->status, image->pool));
    }
    putc('\n', stderr);
}

/* ---- the types ---- */

static const struct {
    const char *name;
    apr_uint32_t bit;
} types[] = {
    { "persist", AP_SLOTMEM_TYPE_PERSIST },
    { "notmpsafe", AP_SLOTMEM_TYPE_NOTMPSAFE },
    { "pregrab", AP_SLOTMEM_TYPE_PREGRAB },
    { "clearinuse", AP_SLOTMEM_TYPE_CLEARINUSE }
};
#define TYPES (sizeof(types) / sizeof(*types))

static const char *type_names(apr_uint32_t type, apr_pool_t *pool)
{
    const char *names = "";
    apr_size_t i;

    for (i = 0; i < TYPES; i++) {
        if (type & types[i].bit) {
            names = apr_pstrcat(pool, names, *names ? "," : "", types[i].name,
                                NULL);
            type &= ~types[i].bit;
        }
    }
    return type || !*names ? apr_psprintf(pool, "%s%s0x%x", names,
                                          *names ? "," : "", type) : names;
}

/* ---- a file ---- */

static int ends(image_t *image, int code, apr_status_t status, const char *why)
{
    image->code = code;
    image->status = status;
    image->reason = why;
    return code;
}

/* What the module would say of the file; a file that could not be looked at
 * is trouble. */
static int take_result(image_t *image)
{
    const slotmem_restore_result_t *result = &image->result;

    switch (result->outcome) {
    case SLOTMEM_RESTORE_DONE:
        return ends(image, GOOD, APR_SUCCESS, NULL);
    case SLOTMEM_RESTORE_NO_FILE:
        return ends(image, TROUBLE, APR_SUCCESS, "there is no such file");
    default:
        return ends(image, result->status == APR_SUCCESS ? NOT : TROUBLE,
                    result->status, result->reason);
    }
}

/* The shape to ask for: the file's own, where none was given. */
static int find_shape(image_t *image, const options_t *options)
{
    int given = options->has_size && options->has_num && options->has_type;

    slotmem_identify(&image->result, &image->geometry, image->path,
                     image->pool);
    image->described = image->result.outcome == SLOTMEM_RESTORE_DONE;
    if (!image->described && !given) {
        return take_result(image);
    }
    if (options->has_size) {
        image->geometry.item_size = options->asked.item_size;
    }
    if (options->has_num) {
        image->geometry.item_num = options->asked.item_num;
    }
    if (options->has_type) {
        image->geometry.type = options->asked.type;
    }
    image->described = 1;
    return GOOD;
}

static int has_claims(const slotmem_geometry_t *geometry)
{
    return (geometry->type & AP_SLOTMEM_TYPE_PERSIST)
           && (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE);
}

/* How many bytes of the file are of no account. */
static apr_off_t rest_of(const image_t *image)
{
    slotmem_geometry_t held = image->geometry;
    slotmem_layout_t layout;
    apr_off_t end;

    held.item_num = image->result.item_num;
    slotmem_layout(&layout, &held);
    end = layout.image_len;
    if (has_claims(&held) && image->result.file_state.verified) {
        return 0;               /* a file of ours has its exact length */
    }
    /* A file without a descriptor ends before that. */
    return image->result.file_state.size > end
               ? image->result.file_state.size - end
               : 0;
}

static int is_same_file(const slotmem_file_state_t *a,
                        const slotmem_file_state_t *b)
{
    return a->inode == b->inode && a->device == b->device && a->size == b->size
           && a->ctime == b->ctime;
}

/* Was nothing put in the file's place while it was looked at? before: what its
 * shape was found in */
static int is_settled(const image_t *image, int shaped,
                      const slotmem_file_state_t *before)
{
    const slotmem_file_state_t *stored = &image->result.file_state;
    apr_finfo_t info;

    if (shaped) {
        return is_same_file(before, stored);
    }
    return apr_stat(&info, image->path, APR_FINFO_LINK | APR_FINFO_TYPE
                                        | APR_FINFO_IDENT, image->pool)
           != APR_SUCCESS || info.filetype != APR_REG
           || (info.inode == stored->inode && info.device == stored->device);
}

/* Restore the file into memory of our own, as the module does. */
static int restore_once(image_t *image)
{
    apr_status_t rv = slotmem_segment_create(&image->segment, &image->geometry,
                                             NULL, image->pool);

    if (rv != APR_SUCCESS) {
        return ends(image, TROUBLE, rv,
                    apr_psprintf(image->pool, "cannot have %u slots of %"
                                 APR_SIZE_T_FMT " bytes",
                                 image->geometry.item_num,
                                 image->geometry.item_size));
    }
    slotmem_restore(&image->result, &image->segment,
                    has_claims(&image->geometry), image->path, image->pool);
    return take_result(image);
}

static int restore(image_t *image, const options_t *options)
{
    int i;

    for (i = 0; i < ATTEMPTS; i++) {
        int shaped = find_shape(image, options) == GOOD;
        slotmem_file_state_t before = image->result.file_state;

        if (shaped) {
            restore_once(image);
        }
        if (is_settled(image, shaped, &before)) {
            break;
        }
    }
    if (image->code == GOOD) {
        image->rest = rest_of(image);
    }
    return image->code;
}

static int open_image(image_t *image, const char *path,
                      const options_t *options, apr_pool_t *pool)
{
    memset(image, 0, sizeof(*image));
    image->path = path;
    image->pool = pool;
    return restore(image, options);
}

/* ---- verify and show ---- */

static const char *code_name(int code)
{
    return code == GOOD ? "good" : code == NOT ? "refused" : "trouble";
}

/* What all commands say of a file. */
static void verdict_fields(const image_t *image)
{
    text_field("file", image->path);
    text_field("status", code_name(image->code));
    if (image->reason) {
        text_field("why", image->status == APR_SUCCESS ? image->reason
                   : apr_pstrcat(image->pool, image->reason, ": ",
                                 strerror_of(image->status, image->pool),
                                 NULL));
    }
}

static void restored_fields(const image_t *image)
{
    const slotmem_map_t *map = &image->segment.map;
    char modified[APR_RFC822_DATE_LEN];

    apr_rfc822_date(modified, image->result.file_state.mtime);
    number_field("bytes", (apr_uint64_t)image->result.file_state.size);
    number_field("bytes_ignored", (apr_uint64_t)image->rest);
    text_field("modified", modified);
    number_field("slots_stored", image->result.item_num);
    number_field("free", slotmem_map_count_free(map));
    number_field("run_time_claims", image->result.runtime_claims);
    ids_field("in_use", map);
}

static void all_fields(const image_t *image)
{
    verdict_fields(image);
    if (image->described) {
        number_field("slot_size", image->geometry.item_size);
        number_field("slots", image->geometry.item_num);
        number_field("type", image->geometry.type);
        text_field("type_names", type_names(image->geometry.type,
                                            image->pool));
    }
    if (image->code == GOOD) {
        restored_fields(image);
    }
}

static void verify_line(const image_t *image)
{
    put_text(stdout, image->path);
    if (image->code == NOT) {
        printf(": not restored: %s\n", image->reason);
        return;
    }
    printf(": good: %u of %u slots of %" APR_SIZE_T_FMT " bytes, type 0x%x "
           "(%s), %u in use",
           image->result.item_num, image->geometry.item_num,
           image->geometry.item_size, image->geometry.type,
           type_names(image->geometry.type, image->pool),
           image->geometry.item_num
               - slotmem_map_count_free(&image->segment.map));
    if (image->rest) {
        printf("; %" APR_OFF_T_FMT " bytes after them are ignored",
               image->rest);
    }
    putchar('\n');
}

static void verify_one(const image_t *image, const options_t *options)
{
    begin_object();
    if (options->json) {
        all_fields(image);
    }
    else if (image->code != TROUBLE) {
        verify_line(image);
    }
    end_object();
}

/* Trouble with one file is what is told of all. */
static int verify(const char *const *paths, const options_t *options,
                  apr_pool_t *pool)
{
    int worst = GOOD;

    fputs(json ? "[" : "", stdout);
    for (; *paths; paths++) {
        apr_pool_t *scratch;
        image_t image;
        int code;

        apr_pool_create(&scratch, pool);
        code = open_image(&image, *paths, options, scratch);
        verify_one(&image, options);
        if (code == TROUBLE) {
            say_trouble(&image);
        }
        worst = code > worst ? code : worst;
        apr_pool_destroy(scratch);
    }
    fputs(json ? "]\n" : "", stdout);
    return worst;
}

static int show(const char *path, const options_t *options, apr_pool_t *pool)
{
    image_t image;

    open_image(&image, path, options, pool);
    begin_object();
    if (options->json || image.code != TROUBLE) {
        all_fields(&image);
    }
    end_object();
    fputs(json ? "\n" : "", stdout);
    if (image.code == TROUBLE) {
        say_trouble(&image);
    }
    return image.code;
}

/* ---- dump ---- */

static void put_hex(const unsigned char *bytes, apr_size_t len)
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
    for (i = 0; i < LINE; i++) {
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

static int is_zero(const unsigned char *bytes, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len && !bytes[i]; i++)
        ;
    return i == len;
}

static void dump_slot(const image_t *image, apr_uint32_t id, int is_first)
{
    apr_size_t size = image->geometry.item_size;
    const unsigned char *bytes =
        (const unsigned char *)image->segment.slots + size * id;
    int used = slotmem_map_test(&image->segment.map, id);
    apr_size_t at;

    if (json) {
        printf("%s{\"slot\":%u,\"in_use\":%s,\"hex\":\"", is_first ? "" : ",\n"
               "  ", id, used ? "true" : "false");
        put_hex(bytes, size);
        fputs("\"}", stdout);
        return;
    }
    if (is_zero(bytes, size)) {
        printf("slot %u: %s, all zero\n", id, used ? "in use" : "free");
        return;
    }
    printf("slot %u: %s\n", id, used ? "in use" : "free");
    for (at = 0; at < size; at += LINE) {
        dump_line(bytes, at, size - at < LINE ? size - at : LINE);
    }
}

static int has_slot(image_t *image, const options_t *options)
{
    if (options->has_slot && options->slot >= image->result.item_num) {
        ends(image, TROUBLE, APR_SUCCESS,
             apr_psprintf(image->pool, "there is no slot %u: it holds %u",
                          options->slot, image->result.item_num));
        return 0;
    }
    return 1;
}

static void dump_slots(const image_t *image, const options_t *options)
{
    apr_uint32_t first = options->has_slot ? options->slot : 0;
    apr_uint32_t end = options->has_slot ? first + 1
                                         : image->result.item_num;
    apr_uint32_t id;

    if (json) {
        key("dump");
        putchar('[');
    }
    for (id = first; id < end; id++) {
        dump_slot(image, id, id == first);
    }
    fputs(json ? "]" : "", stdout);
}

static int dump(const char *path, const options_t *options, apr_pool_t *pool)
{
    image_t image;
    int good = open_image(&image, path, options, pool) == GOOD
               && has_slot(&image, options);

    begin_object();
    if (json) {
        all_fields(&image);
    }
    if (good) {
        dump_slots(&image, options);
    }
    end_object();
    fputs(json ? "\n" : "", stdout);
    if (!good) {
        say_trouble(&image);
    }
    return image.code;
}

/* ---- release ---- */

/* A store makes a new file: it must not end up as another user's, whom the
 * server may not be able to read. */
static int is_own(image_t *image)
{
    apr_finfo_t info;

    if (apr_stat(&info, image->path, APR_FINFO_LINK | APR_FINFO_OWNER,
                 image->pool) == APR_SUCCESS && info.user == geteuid()) {
        return 1;
    }
    ends(image, TROUBLE, APR_SUCCESS, "only the file's owner can release a "
         "slot of it: run this as that user");
    return 0;
}

/* From now on no server begins to store the file. */
static int lock(image_t *image)
{
    pid_t other = 0;
    apr_status_t rv = slotmem_lock(image->path, &other, image->pool);

    if (rv == APR_EBUSY) {
        ends(image, TROUBLE, APR_SUCCESS,
             apr_psprintf(image->pool, "a server, process %" APR_PID_T_FMT
                          ", stores it: stop that first", other));
    }
    else if (rv != APR_SUCCESS) {
        ends(image, TROUBLE, rv, "cannot take its lock in "
             SLOTMEM_LOCK_FILE " beside it");
    }
    return rv == APR_SUCCESS;
}

/* Is a slot as in a new segment? */
static int is_new(const image_t *image, apr_uint32_t id)
{
    apr_size_t size = image->geometry.item_size;

    return !slotmem_map_test(&image->segment.map, id)
           && is_zero((const unsigned char *)image->segment.slots + size * id,
                      size);
}

static int may_release(image_t *image, const options_t *options)
{
    if (!has_slot(image, options)) {
        return 0;
    }
    if (!(image->geometry.type & AP_SLOTMEM_TYPE_PERSIST)) {
        ends(image, NOT, APR_SUCCESS, "it is not of the type persist");
    }
    else if (image->rest) {
        ends(image, NOT, APR_SUCCESS,
             apr_psprintf(image->pool, "%" APR_OFF_T_FMT " bytes after its "
                          "slots are of another segment: start and stop the "
                          "server, which stores it anew", image->rest));
    }
    else if (is_new(image, options->slot)) {
        ends(image, NOT, APR_SUCCESS,
             apr_psprintf(image->pool, "slot %u is free and empty already",
                          options->slot));
    }
    return image->code == GOOD;
}

/* Store the segment with one slot as in a new one: not in use, so that the
 * next grab gives it out, and without its data, of which a consumer that looks
 * at all slots would make the same thing again. In a file with run-time claims,
 * what is in use now was claimed at run time; one without gets none. */
static void store_without(image_t *image, apr_uint32_t slot)
{
    slotmem_segment_t *segment = &image->segment;
    apr_size_t size = image->geometry.item_size;
    slotmem_store_t store;

    memset(&store, 0, sizeof(store));
    store.segment = segment;
    store.path = image->path;
    if (has_claims(&image->geometry) && image->result.file_state.verified) {
        store.config_claims = apr_pcalloc(image->pool, sizeof(slotmem_word_t)
                                       * slotmem_map_words(segment->map.num));
    }
    slotmem_map_clear(&segment->map, slot);
    memset(segment->slots + size * slot, 0, size);
    slotmem_store(&store, 1, NULL, image->pool);
    if (store.step) {
        ends(image, TROUBLE, store.status,
             apr_psprintf(image->pool, "cannot %s", store.step));
    }
}

/* Looked at before the lock, so that nothing is made beside what cannot be
 * released; and again with it, since only then nobody else writes it. */
static int release(const char *path, const options_t *options,
                   apr_pool_t *pool)
{
    image_t image;

    if (open_image(&image, path, options, pool) == GOOD && is_own(&image)
        && lock(&image) && open_image(&image, path, options, pool) == GOOD
        && may_release(&image, options)) {
        store_without(&image, options->slot);
    }
    begin_object();
    if (options->json) {
        verdict_fields(&image);
        number_field("slot", options->slot);
    }
    else if (image.code == GOOD) {
        put_text(stdout, path);
        printf(": slot %u is free and empty\n", options->slot);
    }
    end_object();
    fputs(json ? "\n" : "", stdout);
    if (image.code != GOOD) {
        say_trouble(&image);
    }
    return image.code;
}

/* ---- the command line ---- */

static const char usage[] =
    "Usage: " NAME " verify [--json] [SHAPE] FILE...\n"
    "       " NAME " show [--json] [SHAPE] FILE\n"
    "       " NAME " dump [--json] [SHAPE] [--slot N] FILE\n"
    "       " NAME " release [--json] --slot N FILE\n"
    "\n"
    "  verify   whether each would be restored, and if not why\n"
    "  show     what it describes, and which slots are in use\n"
    "  dump     the slots in hex, or one: they may hold secrets\n"
    "  release  makes a slot free and empty, while the server is stopped\n"
    "\n"
    "  SHAPE    --size N --num N --type T: the segment that is asked for;\n"
    "           what is not given is as the file says. T is a number, or of\n"
    "           persist,notmpsafe,pregrab,clearinuse\n"
    "  --json   as JSON\n"
    "\n"
    "Exit code: 0 good, 1 not, 2 trouble.\n";

static int wrong(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs(NAME ": ", stderr);
    vfprintf(stderr, format, args);
    fputs("; see " NAME " --help\n", stderr);
    va_end(args);
    return TROUBLE;
}

/* Digits alone; 0x before hexadecimal ones. */
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
        apr_size_t i;

        for (i = 0; i < TYPES && strcmp(word, types[i].name) != 0; i++)
            ;
        if (i == TYPES) {
            return 0;
        }
        *type |= types[i].bit;
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

/* Returns 0 when the option's value is none. */
static int take_option(options_t *options, int option, const char *value,
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
        options->has_size = 1;
        if (!parse_number(value, APR_SIZE_MAX, &number)) {
            return 0;
        }
        options->asked.item_size = (apr_size_t)number;
        return 1;
    case OPT_NUM:
        options->has_num = 1;
        if (!parse_number(value, APR_UINT32_MAX, &number)) {
            return 0;
        }
        options->asked.item_num = (apr_uint32_t)number;
        return 1;
    default:
        options->has_type = 1;
        if (!parse_type(value, &number, pool)) {
            return 0;
        }
        options->asked.type = (apr_uint32_t)number;
        return 1;
    }
}

static int has_shape(const options_t *options)
{
    return options->has_size || options->has_num || options->has_type;
}

static int run(const char *command, const char *const *paths, int num,
               const options_t *options, apr_pool_t *pool)
{
    int releases = strcmp(command, "release") == 0;
    int dumps = strcmp(command, "dump") == 0;
    int verifies = strcmp(command, "verify") == 0;

    if (!releases && !dumps && !verifies && strcmp(command, "show") != 0) {
        return wrong("there is no command %s", command);
    }
    if (num == 0 || (num > 1 && !verifies)) {
        return wrong("%s takes one file%s", command,
                     verifies ? " or more" : "");
    }
    if (options->has_slot && !dumps && !releases) {
        return wrong("%s takes no --slot", command);
    }
    if (releases && (!options->has_slot || has_shape(options))) {
        return wrong("release takes --slot, and no shape");
    }
    json = options->json;
    return verifies ? verify(paths, options, pool)
         : dumps ? dump(*paths, options, pool)
         : releases ? release(*paths, options, pool)
         : show(*paths, options, pool);
}

/* What could not be written is trouble, whatever the file is. */
static int finish(int code)
{
    if (ferror(stdout) || fclose(stdout) != 0) {
        perror(NAME ": cannot write");
        return TROUBLE;
    }
    return code;
}

int main(int argc, const char *const *argv)
{
    options_t options;
    apr_pool_t *pool;
    apr_getopt_t *parser;
    apr_status_t rv;
    int option;
    const char *value;

    if (apr_app_initialize(&argc, &argv, NULL) != APR_SUCCESS) {
        return wrong("APR cannot be started");
    }
    atexit(apr_terminate);
    apr_pool_create(&pool, NULL);
    memset(&options, 0, sizeof(options));
    apr_getopt_init(&parser, pool, argc, argv);
    parser->interleave = 1;
    while ((rv = apr_getopt_long(parser, long_options, &option, &value))
           == APR_SUCCESS) {
        if (option == 'h') {
            fputs(usage, stdout);
            return finish(GOOD);
        }
        if (!take_option(&options, option, value, pool)) {
            return wrong("no such number or type: %s", value);
        }
    }
    if (!APR_STATUS_IS_EOF(rv)) {
        return TROUBLE;             /* said by apr_getopt_long() */
    }
    if (parser->ind == argc) {
        return wrong("no command");
    }
    return finish(run(parser->argv[parser->ind],
                      (const char *const *)parser->argv + parser->ind + 1,
                      argc - parser->ind - 1, &options, pool));
}

/* NOLINTEND(cert-err33-c) */

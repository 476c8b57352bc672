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
 * campaign.h: code that the campaigns share: contents of segments, their
 * persisted files, which the campaigns write independently, and the figures.
 */

#ifndef SLOTMEM_CAMPAIGN_H
#define SLOTMEM_CAMPAIGN_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_general.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_store.h"

#define ELEMENTS(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* AP_SLOTMEM_TYPE_*, from httpd's ap_slotmem.h */
#define TYPE_CLEARINUSE 0x8u

/* Shared with the child processes of a campaign. */
static struct figures_t {
    unsigned long cases, faults, kills, states, lost;
} *figures;
static char context[256];       /* the current case, for messages */

/* Reports a failure once per case, at most 20 times. */
static void lost(const char *format, ...)
{
    static char said[sizeof(context)];
    static int times;
    va_list arguments;

    figures->lost++;
    if (strcmp(said, context) && times++ < 20) {
        strcpy(said, context);
        va_start(arguments, format);
        printf("NOT SO: %s: ", context);
        vprintf(format, arguments);
        putchar('\n');
        va_end(arguments);
        fflush(stdout);
    }
}

static void need(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "campaign: cannot %s: %s\n", what, strerror(errno));
        exit(2);
    }
}

static void campaign_start(void)
{
    need(apr_initialize() == APR_SUCCESS, "start APR");
    figures = mmap(NULL, sizeof(*figures), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(figures != MAP_FAILED, "share memory");
}

/* ---- contents ---- */

/* The content of a segment, and its persisted file. */
typedef struct content_t {
    slotmem_geometry_t geometry;
    unsigned char *slots;
    unsigned char *used;        /* one byte per slot */
    unsigned char *bytes;       /* the file */
    size_t len;
    size_t image;               /* length of the image, before the section */
} content_t;

/* The configuration claims every third slot. */
static int is_configured(apr_uint32_t id)
{
    return id % 3 == 0;
}

static void put(content_t *content, const void *from, size_t len)
{
    memcpy(content->bytes + content->len, from, len);
    content->len += len;
}

static void put_flags(content_t *content, int in_use, int claims)
{
    apr_uint32_t id;

    for (id = 0; id < content->geometry.item_num; id++) {
        char byte = in_use && content->used[id]
                    && !(claims && is_configured(id));

        put(content, &byte, 1);
    }
}

static void put_md5(content_t *content)
{
    unsigned char digest[16];

    apr_md5(digest, content->bytes, content->len);
    put(content, digest, sizeof(digest));
}

/* The end of a file with a section. */
static void put_end(content_t *content)
{
    static const apr_uint32_t head[2] = { 0x534c4d43, 2 };
    apr_uint64_t size = content->geometry.item_size;
    apr_uint64_t len = content->len + 48;

    put(content, head, 8);
    put(content, &size, 8);
    put(content, &content->geometry.item_num, 4);
    put(content, &content->geometry.type, 4);
    put(content, &len, 8);
    put_md5(content);
}

/* Random slots, half of them in use; a seed always gives the same slots. */
static content_t make_content(apr_pool_t *pool, slotmem_geometry_t geometry,
                              unsigned seed)
{
    apr_uint32_t num = geometry.item_num;
    size_t area = geometry.item_size * num;
    content_t content = { geometry, apr_palloc(pool, area + 1),
                          apr_palloc(pool, num + 1),
                          apr_palloc(pool, area + 2 * num + 200), 0, 0 };
    int clear = (geometry.type & TYPE_CLEARINUSE) != 0;
    apr_uint32_t head[2] = { num, 0 };
    static const apr_uint32_t section[2] = { 0x534c4d43, 2 };
    static const apr_uint32_t tag[2] = { 0x534d4c43, 0 };
    apr_uint64_t claims = num;
    size_t i;

    srandom(seed + 1);          /* srandom treats 0 as 1 */
    for (i = 0; i < area; i++) {
        content.slots[i] = (unsigned char)(random() >> 7);
    }
    for (i = 0; i < num; i++) {
        content.used[i] = random() >> 9 & 1;
        head[0] -= !clear && content.used[i];
    }
    put(&content, head, 8);
    put(&content, content.slots, area);
    put_flags(&content, !clear, 0);
    put_md5(&content);
    put(&content, &geometry.item_size, sizeof(geometry.item_size));
    put(&content, &num, 4);
    put(&content, &geometry.type, 4);
    if (sizeof(geometry.item_size) == 4) {
        put(&content, &head[1], 4);
    }
    content.image = content.len;
    if (clear) {
        put(&content, section, 8);
        put(&content, tag, 8);
        put(&content, &claims, 8);
        put_flags(&content, 1, 1);
        put_end(&content);
    }
    return content;
}

static slotmem_word_t *make_configured(apr_pool_t *pool,
                                       slotmem_geometry_t geometry)
{
    slotmem_word_t *words = apr_pcalloc(pool, geometry.item_num / 8 + 16);
    apr_uint32_t id;

    for (id = 0; id < geometry.item_num; id++) {
        if (is_configured(id)) {
            slotmem_bit_set(words, id);
        }
    }
    return geometry.type & TYPE_CLEARINUSE ? words : NULL;
}

static void fill_segment(slotmem_segment_t *segment, const content_t *content)
{
    apr_uint32_t id;

    memcpy(segment->slots, content->slots, segment->layout.slots_len);
    for (id = 0; id < segment->geometry.item_num; id++) {
        if (content->used[id]) {
            slotmem_map_set(&segment->map, id);
        }
        else {
            slotmem_map_clear(&segment->map, id);
        }
    }
}

/* Is the segment exactly as after a restore of the content? NULL: is it as new?
 */
static int holds(const slotmem_segment_t *segment, const content_t *content,
                 int claims)
{
    int clear = (segment->geometry.type & TYPE_CLEARINUSE) != 0;
    size_t i;

    for (i = 0; i < segment->layout.slots_len; i++) {
        if (segment->slots[i] != (content ? (char)content->slots[i] : 0)) {
            return 0;
        }
    }
    for (i = 0; i < segment->geometry.item_num; i++) {
        int in_use = content && content->used[i]
                     && (!clear || (claims && !is_configured(i)));

        if (slotmem_map_test(&segment->map, (apr_uint32_t)i) != in_use) {
            return 0;
        }
    }
    return 1;
}

/* ---- files ---- */

static void put_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    need(fd >= 0 && write(fd, bytes, len) == (ssize_t)len, path);
    close(fd);
}

static unsigned char found[1 << 18];   /* the last file that was read */

/* Reads a file into found. Returns its length, or -1. */
static ssize_t get_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    ssize_t len = fd < 0 ? -1 : read(fd, found, sizeof(found));

    if (fd >= 0) {
        close(fd);
    }
    return len;
}

static int file_is(const char *path, const void *bytes, size_t len)
{
    return get_file(path) == (ssize_t)len && memcmp(found, bytes, len) == 0;
}

static int exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

static void empty_directory(const char *path)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    char name[1024];

    need(stream != NULL, path);
    while ((entry = readdir(stream))) {
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")
            && unlink(name) != 0) {
            need(rmdir(name) == 0, "empty a directory");
        }
    }
    closedir(stream);
}

#endif /* SLOTMEM_CAMPAIGN_H */

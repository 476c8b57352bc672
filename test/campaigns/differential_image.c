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
 * differential_image.c: see differential_image.h.
 */

#include "differential_image.h"

#include "apr_md5.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (2 * AREA_MAX)

void path_of(char *path, size_t len, int side, int name,
             const char *suffix)
{
    if (name == NAME_ABSOLUTE || name == NAME_ABSOLUTE_2) {
        snprintf(path, len, "%s.persist%s", name_of(side, name), suffix);
    }
    else {
        snprintf(path, len, "%s/slotmem-shm-%s.shm.persist%s",
                 dso[side]->runtime_dir, name_of(side, name), suffix);
    }
}

content_t content_read_path(const char *path)
{
    content_t content = { 0, 0, 0, NULL };
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    if (fd < 0) {
        return content;
    }
    content.bytes = malloc(FILE_MAX);
    len = read(fd, content.bytes, FILE_MAX);
    content.exists = 1;
    content.len = len > 0 ? (apr_size_t)len : 0;
    content.mode = fstat(fd, &info) == 0 ? info.st_mode & 0777u : 0;
    close(fd);
    return content;
}

content_t content_read(int side, int name)
{
    char path[600];

    path_of(path, sizeof(path), side, name, "");
    return content_read_path(path);
}

void content_drop(content_t *content)
{
    free(content->bytes);
    memset(content, 0, sizeof(*content));
}

void content_write(int side, int name, const content_t *content)
{
    char path[600];
    int fd;

    path_of(path, sizeof(path), side, name, "");
    unlink(path);
    if (!content->exists) {
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0
        || write(fd, content->bytes, content->len) != (ssize_t)content->len) {
        differ("cannot write %s", path);
    }
    close(fd);
}

int content_same(const content_t *one, const content_t *other)
{
    return one->exists == other->exists && one->len == other->len
           && (!one->len || memcmp(one->bytes, other->bytes, one->len) == 0);
}

/* ---- the content of a file ---- */

apr_size_t image_len(apr_size_t size, apr_size_t num)
{
    return HEAD + size * num + num + DIGEST + DESCRIPTION;
}

static int digest_fits(const content_t *content, apr_size_t at)
{
    unsigned char digest[DIGEST];

    if (content->len < at + DIGEST) {
        return 0;
    }
    apr_md5(digest, content->bytes, at);
    return memcmp(digest, content->bytes + at, DIGEST) == 0;
}

int is_image(const content_t *content, apr_size_t size, uint32_t num,
             uint32_t type)
{
    apr_size_t at = HEAD + size * num + num;
    uint64_t found_size;
    uint32_t found[2];

    if (!digest_fits(content, at)) {
        return 0;
    }
    if (content->len == at + DIGEST) {
        return 1;
    }
    if (content->len < at + DIGEST + DESCRIPTION) {
        return 0;
    }
    memcpy(&found_size, content->bytes + at + DIGEST, 8);
    memcpy(found, content->bytes + at + DIGEST + 8, 8);
    return found_size == size && found[0] == num && found[1] == type;
}

apr_size_t section_len(apr_size_t num)
{
    return SECTION_HEAD + CLAIMS_HEAD + num + SECTION_END;
}

/* Does the section start here? */
static int is_magic(const content_t *content, apr_size_t at)
{
    uint32_t magic;

    memcpy(&magic, content->bytes + at, sizeof(magic));
    return magic == SECTION_MAGIC;
}

/* The end of a file with a section, without the MD5. */
static int end_fits(const content_t *content, apr_size_t size, uint32_t num)
{
    static const uint32_t head[2] = { SECTION_MAGIC, SECTION_VERSION };
    const unsigned char *end = content->bytes + content->len - SECTION_END;
    uint64_t len = content->len;
    uint64_t item_size = size;

    return memcmp(end, head, 8) == 0 && memcmp(end + 8, &item_size, 8) == 0
           && memcmp(end + 16, &num, 4) == 0 && memcmp(end + 24, &len, 8) == 0;
}

const unsigned char *claims_of(const content_t *content, apr_size_t size,
                               uint32_t num)
{
    static const uint32_t tag[2] = { CLAIMS_TAG, 0 };
    apr_size_t at = image_len(size, num);
    uint64_t len = num;

    if (content->len != at + section_len(num) || !is_magic(content, at)
        || !end_fits(content, size, num)
        || !digest_fits(content, content->len - DIGEST)) {
        return NULL;
    }
    at += SECTION_HEAD;
    return memcmp(content->bytes + at, tag, 8) == 0
           && memcmp(content->bytes + at + 8, &len, 8) == 0
           ? content->bytes + at + CLAIMS_HEAD : NULL;
}

/* If so, the last 16 bytes are not the MD5 of an image without a description.
 * Bytes of the slots may look like a description: hence the magic. */
apr_size_t description_at(const content_t *content)
{
    apr_size_t at;

    for (at = HEAD + DIGEST; at + DESCRIPTION <= content->len; at++) {
        apr_size_t end = at + DESCRIPTION;
        uint64_t size;
        uint32_t num;

        memcpy(&size, content->bytes + at, sizeof(size));
        memcpy(&num, content->bytes + at + sizeof(size), sizeof(num));
        if (size <= AREA_MAX && num <= SLOTS_MAX
            && HEAD + size * num + num + DIGEST == at
            && (content->len == end
                || (content->len == end + section_len(num)
                    && is_magic(content, end)))) {
            return at;
        }
    }
    return 0;
}

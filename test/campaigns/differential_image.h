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
 * differential_image.h: reads and writes a persisted file, and interprets it.
 */

#ifndef DIFFERENTIAL_IMAGE_H
#define DIFFERENTIAL_IMAGE_H

#include "differential.h"

#define HEAD 8
#define DIGEST 16
#define DESCRIPTION 16
#define SECTION_HEAD 8
#define SECTION_MAGIC 0x534c4d43u
#define SECTION_VERSION 2u
#define CLAIMS_HEAD 16
#define CLAIMS_TAG 0x534d4c43u
#define SECTION_END 48

typedef struct content_t {
    int exists;
    apr_size_t len;
    unsigned mode;
    unsigned char *bytes;
} content_t;

void path_of(char *path, size_t len, int side, int name, const char *suffix);

content_t content_read_path(const char *path);
content_t content_read(int side, int name);
void content_drop(content_t *content);

/* The file has not changed, or still does not exist. */
void content_write(int side, int name, const content_t *content);

int content_same(const content_t *one, const content_t *other);

/* The length up to the end of the description. */
apr_size_t image_len(apr_size_t size, apr_size_t num);

/* The length of a section that has only run-time claims. */
apr_size_t section_len(apr_size_t num);

/* Is this the image of a segment with this geometry? */
int is_image(const content_t *content, apr_size_t size, uint32_t num,
             uint32_t type);

/* The run-time claims, one byte per slot; NULL: there are none. */
const unsigned char *claims_of(const content_t *content, apr_size_t size,
                               uint32_t num);

/* The offset of the description if the whole file is an image with one, of any
 * shape; otherwise 0. */
apr_size_t description_at(const content_t *content);

#endif

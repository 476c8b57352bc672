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
 * slotmem_carried.c: what outlives a generation; see slotmem_carried.h.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "httpd.h"
#include "http_core.h"

#include "slotmem_carried.h"

/* Raise the number whenever one of these structs changes: a restart may load
 * another version of the module. */
#define KEY "slotmem_shm:retained:6"
/* Address space that copies must leave. They are only meant to save time, and a
 * configuration that finds no memory ends httpd. */
#define SPARE ((apr_size_t)16 * 1024 * 1024)

slotmem_retained_t *slotmem_retained(void)
{
    slotmem_retained_t *found = ap_retained_data_get(KEY);

    return found ? found : ap_retained_data_create(KEY, sizeof(*found));
}

static slotmem_carried_t *find(const char *path)
{
    const slotmem_retained_t *retained = slotmem_retained();

    return retained->by_path ? apr_hash_get(retained->by_path, path,
                                            APR_HASH_KEY_STRING) : NULL;
}

/* Append an image. The hash has a pool of its own, which has no parent. */
static void insert(slotmem_carried_t *image)
{
    slotmem_retained_t *retained = slotmem_retained();
    apr_pool_t *pool;

    if (!retained->by_path) {
        apr_pool_create(&pool, NULL);
        retained->by_path = apr_hash_make(pool);
    }
    apr_hash_set(retained->by_path, image->path, APR_HASH_KEY_STRING, image);
    image->prev = retained->last;
    *(image->prev ? &image->prev->next : &retained->images) = image;
    retained->last = image;
}

static void free_bytes(unsigned char *bytes, int stored)
{
    if (!stored) {
        free(bytes);
    }
}

slotmem_carried_t *slotmem_carried_add(const char *path, const char *name,
                                       unsigned char *bytes, apr_size_t len,
                                       int stored)
{
    size_t path_size = strlen(path) + 1;
    size_t name_size = strlen(name) + 1;
    slotmem_carried_t *image = malloc(sizeof(*image) + path_size + name_size);
    slotmem_carried_t *older = find(path);

    if (!image) {
        free_bytes(bytes, stored);
        return NULL;
    }
    if (older) {
        slotmem_carried_free(older);
    }
    memset(image, 0, sizeof(*image));
    image->path = memcpy(image + 1, path, path_size);
    image->name = memcpy((char *)(image + 1) + path_size, name, name_size);
    image->bytes = bytes;
    image->len = len;
    image->note = -1;
    image->stored = stored;
    insert(image);
    return image;
}

/* The newest one: the directory may have been changed more than once. */
static slotmem_carried_t *find_name(const char *name)
{
    slotmem_carried_t *image = slotmem_retained()->images;
    slotmem_carried_t *found = NULL;

    for (; image; image = image->next) {
        if (!image->taken && strcmp(image->name, name) == 0) {
            found = image;
        }
    }
    return found;
}

slotmem_carried_t *slotmem_carried_find(const char *path, const char *name)
{
    const slotmem_retained_t *retained = slotmem_retained();
    slotmem_carried_t *image;

    if (retained->owner != getpid()
        || retained->generation + 1 != ap_state_query(AP_SQ_CONFIG_GEN)) {
        return NULL;
    }
    image = find(path);
    return image ? image : find_name(name);
}

void slotmem_carried_free(slotmem_carried_t *image)
{
    slotmem_retained_t *retained = slotmem_retained();

    apr_hash_set(retained->by_path, image->path, APR_HASH_KEY_STRING, NULL);
    *(image->prev ? &image->prev->next : &retained->images) = image->next;
    *(image->next ? &image->next->prev : &retained->last) = image->prev;
    free_bytes(image->bytes, image->stored);
    free(image);
}

unsigned char *slotmem_carried_map_copies(apr_size_t len)
{
    slotmem_retained_t *retained = slotmem_retained();
    apr_size_t page = (apr_size_t)sysconf(_SC_PAGESIZE);
    apr_size_t rounded = (len + page - 1) / page * page;
    unsigned char *copies;

    slotmem_carried_free_copies();
    if (!len) {
        return NULL;
    }
    copies = mmap(NULL, rounded + SPARE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copies == MAP_FAILED) {
        return NULL;
    }
    munmap(copies + rounded, SPARE);
#ifdef MADV_DONTFORK
    madvise(copies, rounded, MADV_DONTFORK);
#endif
    retained->copies = copies;
    retained->copies_len = rounded;
    return copies;
}

void slotmem_carried_free_copies(void)
{
    slotmem_retained_t *retained = slotmem_retained();
    slotmem_carried_t *image, *next;

    for (image = retained->images; image; image = next) {
        next = image->next;
        if (image->stored) {
            slotmem_carried_free(image);
        }
    }
    if (retained->copies) {
        munmap(retained->copies, retained->copies_len);
        retained->copies = NULL;
    }
}

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
 * fuzz.h: code that the fuzz targets share.
 *
 * It replaces functions so that AddressSanitizer sees every length: an
 * allocation from a pool comes from the heap (linked with --wrap=apr_palloc),
 * and so does shared memory, where a segment ends exactly at the end of its
 * block. Named shared memory is a list in this file; that of the system is not
 * used. fsync() does nothing.
 *
 * It also has a second, simple implementation of the persisted file, from
 * section E of docs/contract.md: which image a file has, and what bytes a store
 * writes.
 */

#ifndef SLOTMEM_FUZZ_H
#define SLOTMEM_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sanitizer/asan_interface.h>

#include "apr_file_io.h"
#include "apr_general.h"
#include "apr_md5.h"
#include "apr_pools.h"
#include "apr_shm.h"
#include "apr_strings.h"

#define UNUSED __attribute__((unused))

/* A condition that must hold; libFuzzer keeps the input if it does not. */
#define MUST(expression) \
    do { \
        if (!(expression)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
                    #expression); \
            abort(); \
        } \
    } while (0)

/* libFuzzer's functions; it has no header for them. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned int seed);

/* ---- replaced functions ---- */

static apr_status_t fuzz_give_back(void *memory)
{
    free(memory);
    return APR_SUCCESS;
}

void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size);
void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    void *memory = malloc(size ? size : 1);

    MUST(memory);
    memset(memory, 0xbe, size);
    apr_pool_cleanup_register(pool, memory, fuzz_give_back,
                              apr_pool_cleanup_null);
    return memory;
}

apr_status_t apr_file_sync(apr_file_t *file)
{
    (void)file;
    return APR_SUCCESS;
}

/* A segment aligns its memory to 64 itself, and asks for 64 bytes more than it
 * needs. A base one byte past an aligned address makes it use all of them. */
#define FUZZ_ALIGN 64
#define FUZZ_SHM_LIMIT ((apr_size_t)8 << 20)

struct apr_shm_t {
    apr_shm_t *next;
    char *name;                     /* NULL: anonymous, or removed */
    unsigned char *block;
    unsigned char *used;            /* the first byte that may be touched */
    apr_size_t len;                 /* of the block */
    apr_size_t asked;
    apr_pool_t *pool;
};

static apr_shm_t *fuzz_shms;

static apr_status_t fuzz_shm_end(void *data)
{
    apr_shm_t *shm = data;
    apr_shm_t **at = &fuzz_shms;

    while (*at != shm) {
        at = &(*at)->next;
    }
    *at = shm->next;
    ASAN_UNPOISON_MEMORY_REGION(shm->block, shm->len);
    free(shm->block);
    free(shm->name);
    free(shm);
    return APR_SUCCESS;
}

apr_status_t apr_shm_create(apr_shm_t **m, apr_size_t reqsize,
                            const char *filename, apr_pool_t *pool)
{
    apr_shm_t *shm;

    if (reqsize > FUZZ_SHM_LIMIT) {
        return APR_ENOMEM;
    }
    for (shm = fuzz_shms; filename && shm; shm = shm->next) {
        if (shm->name && strcmp(shm->name, filename) == 0) {
            return APR_EEXIST;
        }
    }
    shm = calloc(1, sizeof(*shm));
    MUST(shm);
    shm->len = shm->asked = reqsize;
    MUST(posix_memalign((void **)&shm->block, FUZZ_ALIGN, reqsize) == 0);
    memset(shm->block, 0, reqsize);
    shm->used = shm->block;
    if (reqsize >= 2 * FUZZ_ALIGN) {
        shm->used += FUZZ_ALIGN;
        ASAN_POISON_MEMORY_REGION(shm->block, FUZZ_ALIGN);
    }
    shm->name = filename ? strdup(filename) : NULL;
    shm->pool = pool;
    shm->next = fuzz_shms;
    fuzz_shms = shm;
    apr_pool_cleanup_register(pool, shm, fuzz_shm_end, apr_pool_cleanup_null);
    *m = shm;
    return APR_SUCCESS;
}

apr_status_t apr_shm_destroy(apr_shm_t *m)
{
    return apr_pool_cleanup_run(m->pool, m, fuzz_shm_end);
}

apr_status_t apr_shm_detach(apr_shm_t *m)
{
    return apr_shm_destroy(m);
}

apr_status_t apr_shm_attach(apr_shm_t **m, const char *filename,
                            apr_pool_t *pool)
{
    (void)m;
    (void)filename;
    (void)pool;
    return APR_ENOENT;      /* the only process knows its own segments */
}

apr_status_t apr_shm_remove(const char *filename, apr_pool_t *pool)
{
    apr_shm_t *shm;

    (void)pool;
    for (shm = fuzz_shms; shm; shm = shm->next) {
        if (shm->name && strcmp(shm->name, filename) == 0) {
            free(shm->name);
            shm->name = NULL;
            return APR_SUCCESS;
        }
    }
    return APR_ENOENT;
}

void *apr_shm_baseaddr_get(const apr_shm_t *m)
{
    return m->used == m->block ? m->block : m->block + 1;
}

apr_size_t apr_shm_size_get(const apr_shm_t *m)
{
    return m->asked;
}

/* ---- a directory ---- */

static char fuzz_dir[256];

static void fuzz_remove_dir(void)
{
    char command[300];

    snprintf(command, sizeof(command), "rm -rf '%s'", fuzz_dir);
    if (system(command) != 0) {
        perror(fuzz_dir);
    }
}

static void fuzz_start(void)
{
    const char *tmp = getenv("TMPDIR");

    MUST(apr_initialize() == APR_SUCCESS);
    snprintf(fuzz_dir, sizeof(fuzz_dir), "%s/slotmem-fuzz-XXXXXX",
             tmp ? tmp : "/tmp");
    MUST(mkdtemp(fuzz_dir));
    atexit(fuzz_remove_dir);
}

/* The lowest free file descriptor: each leaked one raises it. */
static int fuzz_lowest_fd(void)
{
    int fd = open("/dev/null", O_RDONLY);

    MUST(fd >= 0);
    close(fd);
    return fd;
}

static void fuzz_write(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    MUST(fd >= 0);
    MUST(write(fd, data, len) == (ssize_t)len);
    close(fd);
}

/* The bytes of a file, on the heap, or NULL if there is no file. */
static uint8_t *fuzz_read(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY);
    struct stat info;
    uint8_t *data;

    *len = 0;
    if (fd < 0) {
        return NULL;
    }
    MUST(fstat(fd, &info) == 0);
    *len = (size_t)info.st_size;
    data = malloc(*len + 1);
    MUST(data);
    MUST(read(fd, data, *len) == (ssize_t)*len);
    close(fd);
    return data;
}

/* ---- the persisted file, the simple implementation ---- */

typedef struct fuzz_shape_t {
    uint64_t size;
    uint32_t num;
    uint32_t type;
} fuzz_shape_t;

#define FUZZ_MAGIC   0x534c4d43u
#define FUZZ_CLAIMS  0x534d4c43u
#define FUZZ_WORDS   0x53445257u
#define FUZZ_LABELS  0x534c424cu
#define FUZZ_SECTION 8          /* bytes of a section's head */
#define FUZZ_CHUNK   16         /* bytes of a chunk's head */
#define FUZZ_END     48         /* bytes of the end with its MD5 */

/* The offsets; num slots must be far from overflow. */
static size_t fuzz_digest_at(uint64_t size, uint64_t num)
{
    return (size_t)(8 + size * num + num);
}

static int fuzz_digest_fits(const uint8_t *file, size_t at)
{
    unsigned char digest[16];

    apr_md5(digest, file, at);
    return memcmp(digest, file + at, 16) == 0;
}

static void fuzz_describe(uint8_t *to, uint64_t size, uint32_t num,
                          uint32_t type)
{
    memcpy(to, &size, 8);
    memcpy(to + 8, &num, 4);
    memcpy(to + 12, &type, 4);
}

/* Does the file start with an image of num slots (E4)? */
static int fuzz_is_image(const uint8_t *file, size_t len, fuzz_shape_t shape,
                         uint64_t num)
{
    uint8_t description[16];
    size_t at;

    if (num > len || (num && shape.size > len / num)) {
        return 0;
    }
    at = fuzz_digest_at(shape.size, num);
    if (at + 32 > len) {
        return 0;
    }
    fuzz_describe(description, shape.size, (uint32_t)num, shape.type);
    return memcmp(file + at + 16, description, 16) == 0
           && fuzz_digest_fits(file, at);
}

static uint32_t fuzz_u32(const uint8_t *at)
{
    uint32_t n;

    memcpy(&n, at, sizeof(n));
    return n;
}

static uint64_t fuzz_u64(const uint8_t *at)
{
    uint64_t n;

    memcpy(&n, at, sizeof(n));
    return n;
}

/* Does a file end as ours do, whatever its content? */
static int fuzz_has_end(const uint8_t *file, size_t len)
{
    return len >= FUZZ_END && fuzz_u32(file + len - FUZZ_END) == FUZZ_MAGIC;
}

/* Is this one of our files, whose end covers each byte (E12)?
 * shape: set to the shape in its end */
static int fuzz_is_ours(const uint8_t *file, size_t len, fuzz_shape_t *shape)
{
    const uint8_t *end = file + len - FUZZ_END;
    uint8_t description[16];
    uint64_t at;

    if (!fuzz_has_end(file, len) || fuzz_u32(end + 4) != 2
        || fuzz_u64(end + 24) != len) {
        return 0;
    }
    shape->size = fuzz_u64(end + 8);
    shape->num = fuzz_u32(end + 16);
    shape->type = fuzz_u32(end + 20);
    if (shape->size > len || shape->num > len
        || (shape->num && shape->size > len / shape->num)) {
        return 0;
    }
    at = fuzz_digest_at(shape->size, shape->num);
    if (at + 32 + FUZZ_SECTION + FUZZ_END > len) {
        return 0;
    }
    fuzz_describe(description, shape->size, shape->num, shape->type);
    return memcmp(file + at + 16, description, 16) == 0
           && fuzz_digest_fits(file, len - 16);
}

/* How many slots a segment of that shape gets from a file, or -1 if the file is
 * refused (E4, E5). any: for a reader that accepts any number (E6) */
static int64_t fuzz_expected(const uint8_t *file, size_t len,
                             fuzz_shape_t shape, int any)
{
    uint64_t whole = fuzz_digest_at(shape.size, shape.num) + 16;
    uint64_t most = any ? len : shape.num;
    fuzz_shape_t ours;
    int64_t best = -1;
    uint64_t num;

    if (fuzz_is_ours(file, len, &ours)) {
        return ours.size == shape.size && ours.type == shape.type
               && ours.num <= most
               && fuzz_is_image(file, len, shape, ours.num)
               ? (int64_t)ours.num : -1;
    }

    if (len == whole && fuzz_digest_fits(file, len - 16)
        && !fuzz_has_end(file, len)) {
        return shape.num;           /* a release before 2.4.34 */
    }
    if (len == whole + 16
        && fuzz_is_image(file, len, shape, shape.num)) {
        return shape.num;
    }
    for (num = (uint64_t)shape.num + 1; !any && num <= len; num++) {
        if ((shape.size == 0 || num <= len / shape.size)
            && len == fuzz_digest_at(shape.size, num) + 32
            && fuzz_is_image(file, len, shape, num)) {
            return -1;              /* the whole file of a larger segment */
        }
    }
    for (num = 0; num <= most; num++) {
        if (fuzz_is_image(file, len, shape, num)) {
            best = (int64_t)num;
        }
    }
    return best;
}

/* Bytes of a file; NULL and 0 if there are none. */
typedef struct fuzz_bytes_t {
    const uint8_t *data;
    size_t len;
} fuzz_bytes_t;

/* The content of a file's section. */
typedef struct fuzz_chunks_t {
    fuzz_bytes_t claims;
    fuzz_bytes_t words;
    fuzz_bytes_t labels;
} fuzz_chunks_t;

static void fuzz_take(fuzz_bytes_t *to, const uint8_t *data, size_t len)
{
    to->data = data;
    to->len = len;
}

/* Returns 0 if there is no section, or a wrong one (E2, E12). */
static int fuzz_read_chunks(const uint8_t *file, size_t len,
                            fuzz_chunks_t *chunks)
{
    fuzz_shape_t ours;
    size_t at;

    memset(chunks, 0, sizeof(*chunks));
    if (!fuzz_is_ours(file, len, &ours)) {
        return 0;
    }
    at = fuzz_digest_at(ours.size, ours.num) + 32;
    len -= FUZZ_END;
    if (fuzz_u32(file + at) != FUZZ_MAGIC || fuzz_u32(file + at + 4) != 2) {
        return 0;
    }
    for (at += FUZZ_SECTION; at < len;) {
        uint64_t n;

        if (len - at < FUZZ_CHUNK || fuzz_u32(file + at + 4)) {
            return 0;
        }
        n = fuzz_u64(file + at + 8);
        if (n > len - at - FUZZ_CHUNK) {
            return 0;
        }
        switch (fuzz_u32(file + at)) {
        case FUZZ_CLAIMS:
            if (n != ours.num) {
                return 0;
            }
            fuzz_take(&chunks->claims, file + at + FUZZ_CHUNK, (size_t)n);
            break;
        case FUZZ_WORDS:
            fuzz_take(&chunks->words, file + at + FUZZ_CHUNK, (size_t)n);
            break;
        case FUZZ_LABELS:
            fuzz_take(&chunks->labels, file + at + FUZZ_CHUNK, (size_t)n);
            break;
        default:
            break;
        }
        at += FUZZ_CHUNK + (size_t)n;
    }
    return chunks->claims.data != NULL;
}

/* The bytes of the run-time claims in a file, or NULL. */
static const uint8_t *fuzz_claims(const uint8_t *file, size_t len)
{
    fuzz_chunks_t chunks;

    return fuzz_read_chunks(file, len, &chunks) ? chunks.claims.data : NULL;
}

/* Writes the end of one of our files. Returns the address after it. */
static uint8_t *fuzz_put_end(uint8_t *file, uint8_t *to, fuzz_shape_t shape)
{
    static const uint32_t head[2] = { FUZZ_MAGIC, 2 };
    uint64_t len = (uint64_t)(to - file) + FUZZ_END;

    memcpy(to, head, 8);
    memcpy(to + 8, &shape.size, 8);
    memcpy(to + 16, &shape.num, 4);
    memcpy(to + 20, &shape.type, 4);
    memcpy(to + 24, &len, 8);
    apr_md5(to + 32, file, (apr_size_t)(to + 32 - file));
    return to + FUZZ_END;
}

static uint8_t *fuzz_put_chunk(uint8_t *to, uint32_t tag, uint64_t len)
{
    const uint32_t head[2] = { tag, 0 };

    memcpy(to, head, 8);
    memcpy(to + 8, &len, 8);
    return to + FUZZ_CHUNK;
}

/* Put the head and chunks around the claims, which are already in place, and
 * add words, labels and the end. Returns the length of the file. */
static size_t fuzz_seal(uint8_t *file, fuzz_shape_t shape, fuzz_bytes_t words,
                        fuzz_bytes_t labels)
{
    static const uint32_t head[2] = { FUZZ_MAGIC, 2 };
    uint8_t *to = file + fuzz_digest_at(shape.size, shape.num) + 32;

    memcpy(to, head, 8);
    to = fuzz_put_chunk(to + 8, FUZZ_CLAIMS, shape.num) + shape.num;
    if (words.len) {
        to = fuzz_put_chunk(to, FUZZ_WORDS, words.len);
        memcpy(to, words.data, words.len);
        to += words.len;
    }
    if (labels.len) {
        to = fuzz_put_chunk(to, FUZZ_LABELS, labels.len);
        memcpy(to, labels.data, labels.len);
        to += labels.len;
    }
    return (size_t)(fuzz_put_end(file, to, shape) - file);
}

/* The bytes that a store writes, on the heap. used: one byte per slot;
 * configured: the same, or NULL without CLEARINUSE */
static uint8_t *fuzz_encode(fuzz_shape_t shape, const uint8_t *slots,
                            const uint8_t *used, const uint8_t *configured,
                            fuzz_bytes_t words, fuzz_bytes_t labels,
                            size_t *len)
{
    size_t area = (size_t)(shape.size * shape.num);
    size_t at = fuzz_digest_at(shape.size, shape.num);
    uint8_t *file = calloc(1, at + 32 + FUZZ_SECTION + 3 * FUZZ_CHUNK
                              + shape.num + words.len + labels.len + FUZZ_END);
    uint32_t free_num = shape.num;
    uint32_t i;

    MUST(file);
    *len = at + 32;
    for (i = 0; i < shape.num && !configured; i++) {
        free_num -= used[i];
        file[8 + area + i] = used[i];
    }
    memcpy(file, &free_num, 4);
    if (area) {
        memcpy(file + 8, slots, area);
    }
    apr_md5(file + at, file, at);
    fuzz_describe(file + at + 16, shape.size, shape.num, shape.type);
    if (configured) {
        for (i = 0; i < shape.num; i++) {
            file[at + 32 + FUZZ_SECTION + FUZZ_CHUNK + i] =
                used[i] && !configured[i];
        }
        *len = fuzz_seal(file, shape, words, labels);
    }
    return file;
}

#endif /* SLOTMEM_FUZZ_H */

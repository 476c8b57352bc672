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
 * unit_file.h: persisted files, written and read independently by the tests,
 * and the calls by which the code under test reaches the file system.
 *
 * Linked with --wrap for each function below: a test can make a call fail, or
 * end the process at a call; and it can count the calls.
 */

#ifndef SLOTMEM_UNIT_FILE_H
#define SLOTMEM_UNIT_FILE_H

#include "unit_apr.h"

#include "apr_file_io.h"
#include "apr_md5.h"

#include "slotmem_store.h"

/* AP_SLOTMEM_TYPE_*, from httpd's ap_slotmem.h */
#define TYPE_PERSIST    0x1u
#define TYPE_PREGRAB    0x4u
#define TYPE_CLEARINUSE 0x8u

/* The file at the path is the server's, and was not verified. */
UNUSED static void know_file(slotmem_store_t *store)
{
    struct stat info;

    memset(&store->file_state, 0, sizeof(store->file_state));
    if (lstat(store->path, &info) == 0) {
        slotmem_file_state_set(&store->file_state, &info);
    }
}

static void tell_nobody(void *data, int index)
{
    (void)data;
    (void)index;
}

/* All stores, also those in a child, use the temporary names of one server. */
#define TOKEN "unit-1"
#define TMP ".tmp-" TOKEN
UNUSED static const slotmem_store_watch_t nobody = { TOKEN, tell_nobody, NULL };

/* ---- directories ---- */

static apr_pool_t *directory_pool;      /* of the current test */

UNUSED static int file_setup(void **state)
{
    int failed = apr_pool_create(&directory_pool, NULL) != APR_SUCCESS;

    slotmem_directory_reset(directory_pool);
    return failed || unit_setup(state);
}

UNUSED static int file_teardown(void **state)
{
    slotmem_directory_reset(NULL);
    apr_pool_destroy(directory_pool);
    return unit_teardown(state);
}

/* The directory of a file, open. */
UNUSED static slotmem_directory_t *directory_open(const char *file)
{
    slotmem_directory_t *directory = slotmem_directory_of(file);
    slotmem_distrust_t distrust;

    assert_int_equal(slotmem_directory_open(directory, 0, &distrust),
                     APR_SUCCESS);
    return directory;
}

/* Store right away, whatever is known of the files: they are the server's. */
UNUSED static void store_now(slotmem_store_t *stores, int num, apr_pool_t *pool)
{
    int i;

    for (i = 0; i < num; i++) {
        know_file(&stores[i]);
    }
    slotmem_store(stores, num, &nobody, pool);
}

/* ---- faults ---- */

#define FAULT_EXIT 42

static struct faults_t {
    uint32_t calls;             /* since unit_faults() */
    uint32_t from;              /* these calls fail, from 1; 0: none */
    uint32_t to;
    apr_status_t status;        /* their error; 0: the process ends */
    char log[32768];            /* one letter per call */
    uint64_t bytes_read;
    uint64_t bytes_digested;
} faults;

UNUSED static void unit_faults(uint32_t from, uint32_t to, apr_status_t status)
{
    memset(&faults, 0, sizeof(faults));
    faults.from = from;
    faults.to = to;
    faults.status = status;
}

static apr_status_t fault(char letter)
{
    if (faults.calls < sizeof(faults.log) - 1) {
        faults.log[faults.calls] = letter;
    }
    faults.calls++;
    if (faults.calls < faults.from || faults.calls > faults.to) {
        return APR_SUCCESS;
    }
    if (faults.status == APR_SUCCESS) {
        _exit(FAULT_EXIT);
    }
    return faults.status;
}

#define WRAP(name, parameters, letter, call) \
    apr_status_t __real_##name parameters; \
    apr_status_t __wrap_##name parameters; \
    apr_status_t __wrap_##name parameters \
    { \
        apr_status_t rv = fault(letter); \
        return rv != APR_SUCCESS ? rv : __real_##name call; \
    }

WRAP(apr_file_seek, (apr_file_t *file, apr_seek_where_t where,
                     apr_off_t *offset), '>', (file, where, offset))
WRAP(apr_file_read, (apr_file_t *file, void *buffer, apr_size_t *len), 'r',
     (file, buffer, len))
WRAP(apr_file_sync, (apr_file_t *file), 's', (file))

#define WRAP_SYSTEM(name, parameters, letter, call) \
    int __real_##name parameters; \
    int __wrap_##name parameters; \
    int __wrap_##name parameters \
    { \
        errno = fault(letter); \
        return errno ? -1 : __real_##name call; \
    }

WRAP_SYSTEM(fstatat, (int at, const char *path, struct stat *info, int flags),
            '?', (at, path, info, flags))
WRAP_SYSTEM(fstat, (int fd, struct stat *info), 'i', (fd, info))
WRAP_SYSTEM(linkat, (int from, const char *old, int to, const char *new,
                     int flags), 'l', (from, old, to, new, flags))
WRAP_SYSTEM(unlinkat, (int at, const char *path, int flags), 'x',
            (at, path, flags))
WRAP_SYSTEM(fsync, (int fd), 's', (fd))

int __real_openat(int at, const char *path, int flags, mode_t mode);
int __wrap_openat(int at, const char *path, int flags, mode_t mode);
int __wrap_openat(int at, const char *path, int flags, mode_t mode)
{
    errno = fault('o');
    return errno ? -1 : __real_openat(at, path, flags, mode);
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
    errno = fault('m');
    return errno ? -1 : __real_fchmod(fd, mode);
}

/* What others do to a file just before and just after it is renamed. */
static struct {
    void (*before)(const char *path);
    void (*after)(const char *path);
} renames;

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
    int rv;

    errno = fault('n');
    if (errno) {
        return -1;
    }
    if (renames.before) {
        renames.before(old);
    }
    rv = __real_renameat(from, old, to, new);
    if (renames.after) {
        renames.after(new);
    }
    return rv;
}

/* A failing read of len bytes returns half of them. */
apr_status_t __real_apr_file_read_full(apr_file_t *file, void *buffer,
                                       apr_size_t len, apr_size_t *done);
apr_status_t __wrap_apr_file_read_full(apr_file_t *file, void *buffer,
                                       apr_size_t len, apr_size_t *done);
apr_status_t __wrap_apr_file_read_full(apr_file_t *file, void *buffer,
                                       apr_size_t len, apr_size_t *done)
{
    apr_status_t rv = fault('r');

    faults.bytes_read += len;
    if (rv != APR_SUCCESS) {
        __real_apr_file_read_full(file, buffer, len / 2, done);
        return rv;
    }
    return __real_apr_file_read_full(file, buffer, len, done);
}

/* A failing write of len bytes writes half of them. */
apr_status_t __real_apr_file_write_full(apr_file_t *file, const void *buffer,
                                        apr_size_t len, apr_size_t *done);
apr_status_t __wrap_apr_file_write_full(apr_file_t *file, const void *buffer,
                                        apr_size_t len, apr_size_t *done);
apr_status_t __wrap_apr_file_write_full(apr_file_t *file, const void *buffer,
                                        apr_size_t len, apr_size_t *done)
{
    apr_status_t rv;
    int fails = faults.calls + 1 >= faults.from && faults.calls < faults.to;

    if (fails) {
        __real_apr_file_write_full(file, buffer, len / 2, done);
    }
    rv = fault('w');
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return __real_apr_file_write_full(file, buffer, len, done);
}

/* A failing close still closes the file, as the system does. */
apr_status_t __real_apr_file_close(apr_file_t *file);
apr_status_t __wrap_apr_file_close(apr_file_t *file);
apr_status_t __wrap_apr_file_close(apr_file_t *file)
{
    apr_status_t rv = fault('c');
    apr_status_t closed = __real_apr_file_close(file);

    return rv != APR_SUCCESS ? rv : closed;
}

apr_status_t __real_apr_md5_update(apr_md5_ctx_t *context, const void *data,
                                   apr_size_t len);
apr_status_t __wrap_apr_md5_update(apr_md5_ctx_t *context, const void *data,
                                   apr_size_t len);
apr_status_t __wrap_apr_md5_update(apr_md5_ctx_t *context, const void *data,
                                   apr_size_t len)
{
    faults.bytes_digested += len;
    return __real_apr_md5_update(context, data, len);
}

/* ---- bytes and files ---- */

typedef struct bytes_t {
    unsigned char *data;
    size_t len;
} bytes_t;

UNUSED static bytes_t bytes_make(apr_pool_t *pool, size_t len)
{
    bytes_t bytes = { apr_palloc(pool, len), len };

    memset(bytes.data, 0, len);
    return bytes;
}

UNUSED static bytes_t bytes_join(apr_pool_t *pool, bytes_t a, bytes_t b)
{
    bytes_t both = bytes_make(pool, a.len + b.len);

    memcpy(both.data, a.data, a.len);
    memcpy(both.data + a.len, b.data, b.len);
    return both;
}

UNUSED static bytes_t bytes_copy(apr_pool_t *pool, bytes_t a)
{
    bytes_t copy = bytes_make(pool, a.len);

    memcpy(copy.data, a.data, a.len);
    return copy;
}

/* Random bytes: their meaning does not matter to a store or a restore. */
UNUSED static bytes_t bytes_random(apr_pool_t *pool, size_t len)
{
    static unit_random_t random = { 20250 };
    bytes_t bytes = bytes_make(pool, len);

    unit_fill(&random, bytes.data, len);
    return bytes;
}

UNUSED static bytes_t bytes_of(apr_pool_t *pool, const char *text)
{
    bytes_t bytes = bytes_make(pool, strlen(text));

    memcpy(bytes.data, text, bytes.len);
    return bytes;
}

UNUSED static void write_file(const char *path, bytes_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.data, bytes.len), bytes.len);
    close(fd);
}

/* The bytes of a file; data is NULL if it does not exist. */
UNUSED static bytes_t read_file(const char *path, apr_pool_t *pool)
{
    bytes_t bytes = { NULL, 0 };
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    struct stat info;

    if (fd >= 0) {
        assert_int_equal(__real_fstat(fd, &info), 0);
        bytes = bytes_make(pool, (size_t)info.st_size);
        assert_int_equal(read(fd, bytes.data, bytes.len), bytes.len);
        close(fd);
    }
    return bytes;
}

UNUSED static int bytes_same(bytes_t a, bytes_t b)
{
    return a.data && b.data && a.len == b.len
           && memcmp(a.data, b.data, a.len) == 0;
}

UNUSED static void assert_file_is(const char *path, bytes_t expected,
                                  apr_pool_t *pool)
{
    bytes_t found = read_file(path, pool);
    size_t at = 0;

    if (!bytes_same(found, expected)) {
        while (at < found.len && at < expected.len
               && found.data[at] == expected.data[at]) {
            at++;
        }
        fail_msg("%s: expected %zu bytes, found %zu; they differ at %zu", path,
                 expected.len, found.len, at);
    }
}

UNUSED static int exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

/* ---- the persisted file, written by the tests themselves ---- */

/* The content of a file. */
typedef struct content_t {
    slotmem_geometry_t geometry;
    unsigned char *slots;
    unsigned char *in_use;      /* one byte per slot */
    unsigned char *claims;      /* one byte per slot; NULL: no section */
    const char *words;          /* of the section, if it has any */
    size_t words_len;
    const char *labels;
    size_t labels_len;
} content_t;

/* Random slots; about every third is in use, or claimed with CLEARINUSE. */
UNUSED static content_t content_make(apr_pool_t *pool, apr_size_t size,
                                     apr_uint32_t num, apr_uint32_t type)
{
    static unit_random_t random = { 20240 };
    content_t content = { .geometry = unit_geometry(size, num, type) };
    unsigned char *flags;
    apr_uint32_t id;

    content.slots = bytes_make(pool, size * num).data;
    unit_fill(&random, content.slots, size * num);
    content.in_use = flags = bytes_make(pool, num).data;
    if (type & TYPE_CLEARINUSE) {
        content.claims = flags = bytes_make(pool, num).data;
    }
    for (id = 0; id < num; id++) {
        flags[id] = unit_below(&random, 3) == 0;
    }
    return content;
}

static void put(unsigned char **to, const void *from, size_t len)
{
    memcpy(*to, from, len);
    *to += len;
}

static void put_md5(unsigned char **to, const unsigned char *start)
{
    unsigned char digest[16];

    apr_md5(digest, start, (apr_size_t)(*to - start));
    put(to, digest, sizeof(digest));
}

#define SECTION_LEN 8           /* magic and version */
#define CHUNK_LEN 16            /* the head of a chunk */
#define END_LEN 48              /* the last 16 bytes are the MD5 */

#define TAG_CLAIMS 0x534d4c43u
#define TAG_WORDS  0x53445257u
#define TAG_LABELS 0x534c424cu

static void put_chunk(unsigned char **to, uint32_t tag, const void *bytes,
                      uint64_t len)
{
    uint32_t head[2] = { tag, 0 };

    put(to, head, 8);
    put(to, &len, 8);
    put(to, bytes, (size_t)len);
}

/* The end of one of our files: its shape, its length, and an MD5 of everything.
 * start: the first byte of the file */
static void put_end(unsigned char **to, unsigned char *start,
                    const slotmem_geometry_t *geometry)
{
    static const uint32_t head[2] = { 0x534c4d43, 2 };
    uint64_t size = geometry->item_size;
    uint64_t len = (uint64_t)(*to - start) + END_LEN;

    put(to, head, 8);
    put(to, &size, 8);
    put(to, &geometry->item_num, 4);
    put(to, &geometry->type, 4);
    put(to, &len, 8);
    put_md5(to, start);
}

/* The bytes of the section with its end; 0: there is no section. */
UNUSED static size_t section_len(const content_t *content)
{
    return content->claims
           ? SECTION_LEN + CHUNK_LEN + content->geometry.item_num
             + (content->words_len ? CHUNK_LEN + content->words_len : 0)
             + (content->labels_len ? CHUNK_LEN + content->labels_len : 0)
             + END_LEN : 0;
}

/* The file as in the diagram of slotmem_format.h.
 * num_free: the number to write at offset 0 */
UNUSED static bytes_t encode_with(apr_pool_t *pool, const content_t *content,
                                  uint32_t num_free)
{
    static const uint32_t zero = 0;
    static const uint32_t head[2] = { 0x534c4d43, 2 };
    uint32_t num = content->geometry.item_num;
    size_t area = content->geometry.item_size * num;
    bytes_t bytes = bytes_make(pool, 8 + area + num + 16 + 16
                                     + section_len(content));
    unsigned char *to = bytes.data;

    put(&to, &num_free, 4);
    put(&to, &zero, 4);
    put(&to, content->slots, area);
    put(&to, content->in_use, num);
    put_md5(&to, bytes.data);
    put(&to, &content->geometry.item_size, sizeof(size_t));
    put(&to, &num, 4);
    put(&to, &content->geometry.type, 4);
    if (sizeof(size_t) == 4) {
        put(&to, &zero, 4);
    }
    if (content->claims) {
        put(&to, head, 8);
        put_chunk(&to, TAG_CLAIMS, content->claims, num);
        if (content->words_len) {
            put_chunk(&to, TAG_WORDS, content->words, content->words_len);
        }
        if (content->labels_len) {
            put_chunk(&to, TAG_LABELS, content->labels, content->labels_len);
        }
        put_end(&to, bytes.data, &content->geometry);
    }
    assert_int_equal(to - bytes.data, bytes.len);
    return bytes;
}

UNUSED static bytes_t encode(apr_pool_t *pool, const content_t *content)
{
    uint32_t num_free = content->geometry.item_num;
    uint32_t id;

    for (id = 0; id < content->geometry.item_num; id++) {
        num_free -= content->in_use[id] != 0;
    }
    return encode_with(pool, content, num_free);
}

/* The offsets of the parts of a content's file. */
UNUSED static size_t digest_at(const content_t *content)
{
    return 8 + content->geometry.item_size * content->geometry.item_num
           + content->geometry.item_num;
}

UNUSED static size_t description_at(const content_t *content)
{
    return digest_at(content) + 16;
}

UNUSED static size_t image_end(const content_t *content)
{
    return digest_at(content) + 32;
}

/* Make the end of one of our files fit again, including the length, after a
 * change of the bytes before it. */
UNUSED static void end_again(bytes_t bytes, const content_t *content)
{
    unsigned char *to = bytes.data + bytes.len - END_LEN;

    put_end(&to, bytes.data, &content->geometry);
}

/* Make only the MD5 at the end of one of our files fit again. */
UNUSED static void digest_again(bytes_t bytes)
{
    unsigned char *to = bytes.data + bytes.len - 16;

    put_md5(&to, bytes.data);
}

/* ---- segments ---- */

UNUSED static slotmem_segment_t segment_new(apr_pool_t *pool,
                                            slotmem_geometry_t geometry)
{
    slotmem_segment_t segment;

    assert_int_equal(slotmem_segment_create(&segment, &geometry, NULL, pool),
                     APR_SUCCESS);
    return segment;
}

/* A segment with the slots, in-use flags and claims of a content. */
UNUSED static slotmem_segment_t segment_of(apr_pool_t *pool,
                                           const content_t *content)
{
    slotmem_segment_t segment = segment_new(pool, content->geometry);
    uint32_t id;

    memcpy(segment.slots, content->slots, segment.layout.slots_len);
    for (id = 0; id < content->geometry.item_num; id++) {
        if (content->in_use[id] || (content->claims && content->claims[id])) {
            slotmem_map_set(&segment.map, id);
        }
    }
    return segment;
}

/* The segment has the content in its first slots, and nothing else.
 * with_claims: the claimed slots are in use too */
UNUSED static void assert_holds(const slotmem_segment_t *segment,
                                const content_t *content, int with_claims)
{
    apr_size_t len = content ? content->geometry.item_size
                               * content->geometry.item_num : 0;
    apr_uint32_t num = content ? content->geometry.item_num : 0;
    apr_size_t i;

    assert_true(len <= segment->layout.slots_len);
    if (len) {
        assert_memory_equal(segment->slots, content->slots, len);
    }
    for (i = len; i < segment->layout.slots_len; i++) {
        if (segment->slots[i]) {
            fail_msg("byte %zu of the slots: expected 0", (size_t)i);
        }
    }
    for (i = 0; i < segment->geometry.item_num; i++) {
        int expected = i < num && (content->in_use[i]
                                   || (with_claims && content->claims
                                       && content->claims[i]));

        if (slotmem_map_test(&segment->map, (uint32_t)i) != expected) {
            fail_msg("slot %zu: expected in use: %d", (size_t)i, expected);
        }
    }
    assert_int_equal(unit_walk(&segment->map, NULL), 0);
}

#endif /* SLOTMEM_UNIT_FILE_H */

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
 * test_restore.c: the bytes of a persisted file, and which files are restored.
 *
 * unit_file.h makes the expected bytes from the layout in slotmem_format.h,
 * without any code of slotmem_restore.c.
 */

#include "unit_file.h"

#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *path_of(unit_place_t *place)
{
    return apr_pstrcat(place->pool, place->dir, "/p.persist", NULL);
}

/* Restore the file at the test's path. Whatever the result, nothing in the file
 * system may change, and the segment must be zero unless it is restored. */
static slotmem_restore_result_t restore(unit_place_t *place,
                                 slotmem_segment_t *segment,
                                 slotmem_geometry_t asked, int with_claims)
{
    uint32_t entries = unit_count_entries(place->dir);
    slotmem_restore_result_t result;

    memset(&result, 0x77, sizeof(result));
    *segment = segment_new(place->pool, asked);
    slotmem_restore(&result, segment, with_claims, NULL, path_of(place),
                    place->pool);
    assert_int_equal(unit_count_entries(place->dir), entries);
    if (result.outcome != SLOTMEM_RESTORE_DONE) {
        assert_holds(segment, NULL, 0);
    }
    return result;
}

/* The same for a file with these bytes. */
static slotmem_restore_result_t restore_bytes(unit_place_t *place,
                                       slotmem_segment_t *segment,
                                       slotmem_geometry_t asked, bytes_t bytes)
{
    slotmem_restore_result_t result;

    write_file(path_of(place), bytes);
    result = restore(place, segment, asked, 1);
    assert_file_is(path_of(place), bytes, place->pool);
    return result;
}

static void assert_done(const slotmem_restore_result_t *result,
                        apr_uint32_t num, apr_uint32_t claims)
{
    if (result->outcome != SLOTMEM_RESTORE_DONE) {
        fail_msg("not restored: %s (%d)", result->reason, result->status);
    }
    assert_int_equal(result->status, APR_SUCCESS);
    assert_null(result->reason);
    assert_int_equal(result->item_num, num);
    assert_int_equal(result->runtime_claims, claims);
}

static void assert_refused(const slotmem_restore_result_t *result)
{
    assert_int_equal(result->outcome, SLOTMEM_RESTORE_REFUSED);
    assert_non_null(result->reason);
}

/* The file is refused, and the reason has the words of `words`, up to a NULL,
 * in order. */
static void assert_reason(const slotmem_restore_result_t *result,
                       const char **words)
{
    const char *at = result->reason;

    assert_refused(result);
    for (; *words; words++) {
        at = strstr(at, *words);
        if (!at) {
            fail_msg("'%s' lacks '%s'", result->reason, *words);
        }
        at += strlen(*words);
    }
}

#define ASSERT_REASON(result, kind, ...) \
    do { \
        assert_reason((result), (const char *[]){ __VA_ARGS__, NULL }); \
        assert_int_equal((result)->reason_kind, SLOTMEM_REASON_##kind); \
    } while (0)

static apr_uint32_t count_set(const unsigned char *flags, apr_uint32_t num)
{
    apr_uint32_t count = 0;

    while (num--) {
        count += flags[num] != 0;
    }
    return count;
}

/* ---- bytes ---- */

static const struct {
    apr_size_t size;
    apr_uint32_t num;
} shapes[] = {
    { 0, 0 }, { 0, 5 }, { 8, 0 }, { 1, 1 }, { 3, 7 }, { 5, 64 }, { 2, 65 },
    { 544, 3 }, { 1456, 16 }, { 65528, 1 }, { 65527, 1 }, { 70000, 3 },
    { 1, 70000 }, { 16, 4096 }
};

static const apr_uint32_t types[] = {
    TYPE_PERSIST, TYPE_PERSIST | TYPE_PREGRAB, TYPE_PERSIST | TYPE_CLEARINUSE
};

/* Store a content, check the file, and restore it. */
static void check_bytes(unit_place_t *place, const content_t *content)
{
    apr_uint32_t num = content->geometry.item_num;
    slotmem_segment_t segment = segment_of(place->pool, content);
    slotmem_store_t store = { .content.segment = &segment,
                              .path = path_of(place) };
    apr_uint32_t used = num - slotmem_map_count_free(&segment.map);
    slotmem_restore_result_t result;
    struct stat info;

    if (content->claims) {      /* slots in use were claimed at run time */
        store.content.config_claims = (slotmem_word_t *)(void *)
            bytes_make(place->pool, num / 8 + 8).data;
    }
    store_now(&store, 1, place->pool);
    assert_int_equal(store.step, SLOTMEM_STEP_NONE);
    assert_int_equal(store.status, APR_SUCCESS);
    assert_null(store.aside);
    assert_file_is(path_of(place), encode(place->pool, content), place->pool);
    assert_int_equal(lstat(path_of(place), &info), 0);
    assert_int_equal(info.st_mode, S_IFREG | 0600);
    assert_int_equal(unit_count_entries(place->dir), 1);
    /* [E2] The live memory has not changed. */
    assert_holds(&segment, content, 1);

    result = restore(place, &segment, content->geometry, 1);
    assert_done(&result, num, content->claims ? used : 0);
    assert_holds(&segment, content, 1);
    result = restore(place, &segment, content->geometry, 0);
    assert_done(&result, num, 0);
    assert_holds(&segment, content, 0);
}

/* [B2][E1][E2] Each byte of the file, its length and its mode 0600, for each
 * type; then the restore. */
static void test_bytes(void **state)
{
    unit_place_t *place = *state;
    mode_t mask = umask(0);
    size_t i;
    size_t k;

    for (i = 0; i < ELEMENTS(shapes); i++) {
        for (k = 0; k < ELEMENTS(types); k++) {
            content_t content = content_make(place->pool, shapes[i].size,
                                             shapes[i].num, types[k]);

            check_bytes(place, &content);
        }
    }
    umask(mask);
}

/* Two slots of three bytes, the second in use, type PERSIST: written out byte
 * by byte. LE and BE: 32 bits in that byte order. */
#define LE(byte) (byte), 0, 0, 0
#define BE(byte) 0, 0, 0, (byte)
#define ZERO 0, 0, 0, 0

static const unsigned char table[] = {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    LE(1), ZERO, 'a', 'b', 'c', 'd', 'e', 'f', 0, 1,
    0x96, 0x64, 0x62, 0x50, 0x7a, 0x94, 0x0b, 0xc5,
    0x04, 0x04, 0xcc, 0x51, 0x8f, 0x8d, 0x51, 0xba,
#if __SIZEOF_POINTER__ == 8
    LE(3), ZERO, LE(2), LE(1)
#else
    LE(3), LE(2), LE(1), ZERO
#endif
#else
    BE(1), ZERO, 'a', 'b', 'c', 'd', 'e', 'f', 0, 1,
    0x0f, 0xb5, 0x55, 0xd3, 0xd6, 0x8f, 0xf7, 0xff,
    0x2c, 0x96, 0x6e, 0xce, 0xc8, 0x64, 0x25, 0x55,
#if __SIZEOF_POINTER__ == 8
    ZERO, BE(3), BE(2), BE(1)
#else
    BE(3), BE(2), BE(1), ZERO
#endif
#endif
};

/* [E1] Stored and restored in this machine's byte order and word size. */
static void test_byte_table(void **state)
{
    unit_place_t *place = *state;
    bytes_t bytes = bytes_make(place->pool, sizeof(table));
    slotmem_geometry_t geometry = unit_geometry(3, 2, TYPE_PERSIST);
    slotmem_segment_t segment;
    slotmem_store_t store = { .content.segment = &segment,
                              .path = path_of(place) };
    slotmem_restore_result_t result;

    memcpy(bytes.data, table, sizeof(table));
    result = restore_bytes(place, &segment, geometry, bytes);
    assert_done(&result, 2, 0);
    assert_memory_equal(segment.slots, "abcdef", 6);
    assert_int_equal(slotmem_map_test(&segment.map, 0), 0);
    assert_int_equal(slotmem_map_test(&segment.map, 1), 1);

    unlink(path_of(place));
    store_now(&store, 1, place->pool);
    assert_file_is(path_of(place), bytes, place->pool);
}

/* [E2] CLEARINUSE: a slot that the configuration claimed is not stored as
 * claimed at run time, in use or not. */
static void test_configured_claims(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 10, 100,
                                     TYPE_PERSIST | TYPE_CLEARINUSE);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    slotmem_word_t configured[2] = { 0, 0 };
    slotmem_store_t store = {
        .content.segment = &segment, .path = path_of(place),
        .content.config_claims = configured
    };
    slotmem_restore_result_t result;
    apr_uint32_t id;

    for (id = 0; id < 100; id += 2) {
        slotmem_bit_set(configured, id);
        content.claims[id] = 0;
    }
    store_now(&store, 1, place->pool);
    assert_file_is(path_of(place), encode(place->pool, &content),
                   place->pool);
    result = restore(place, &segment, content.geometry, 1);
    assert_done(&result, 100, count_set(content.claims, 100));
    assert_holds(&segment, &content, 1);
}

/* ---- what is refused ---- */

/* [E3] No file: nothing to restore, and nothing to report. */
static void test_no_file(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t asked = unit_geometry(4, 4, TYPE_PERSIST);
    slotmem_segment_t segment;
    slotmem_restore_result_t result = restore(place, &segment, asked, 1);

    assert_int_equal(result.outcome, SLOTMEM_RESTORE_NO_FILE);
    assert_int_equal(result.status, APR_SUCCESS);
    slotmem_restore(&result, &segment, 1, NULL, "/nonexistent/dir/p.persist",
                    place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_NO_FILE);
}

/* [D1][E3] No slots, of any size: an existing file is refused, or restored. */
static void test_no_slots(void **state)
{
    static const apr_size_t sizes[] = {
        0, 4, PTRDIFF_MAX, (apr_size_t)PTRDIFF_MAX + 1, SIZE_MAX - 1, SIZE_MAX
    };
    unit_place_t *place = *state;
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    size_t i;

    for (i = 0; i < ELEMENTS(sizes); i++) {
        result = restore_bytes(place, &segment,
                               unit_geometry(sizes[i], 0, TYPE_PERSIST),
                               bytes_make(place->pool, 100));
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
    }
}

/* Restore from the path: the file there, or its target, must not be opened. */
static slotmem_restore_result_t restore_unopened(unit_place_t *place,
                                          const char *watched)
{
    slotmem_geometry_t asked = unit_geometry(4, 4, TYPE_PERSIST);
    int watch = inotify_init1(IN_NONBLOCK);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    char events[4096];

    assert_true(inotify_add_watch(watch, watched, IN_OPEN) >= 0);
    memset(&result, 0x77, sizeof(result));
    segment = segment_new(place->pool, asked);
    slotmem_restore(&result, &segment, 1, NULL, path_of(place), place->pool);
    assert_int_equal(read(watch, events, sizeof(events)), -1);
    assert_int_equal(errno, EAGAIN);
    close(watch);
    assert_holds(&segment, NULL, 0);
    return result;
}

/* [E3] A FIFO, a directory, a symbolic link and a socket are never opened. */
static void test_no_regular_file(void **state)
{
    unit_place_t *place = *state;
    const char *path = path_of(place);
    const char *target = apr_pstrcat(place->pool, place->dir, "/target", NULL);
    content_t content = content_make(place->pool, 4, 4, TYPE_PERSIST);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    slotmem_restore_result_t result;
    int listener;

    assert_int_equal(mkfifo(path, 0600), 0);
    result = restore_unopened(place, path);
    ASSERT_REASON(&result, UNOPENED, "expected a regular file", "found a FIFO");
    unlink(path);

    assert_int_equal(mkdir(path, 0700), 0);
    result = restore_unopened(place, path);
    ASSERT_REASON(&result, UNOPENED, "expected a regular file",
               "found a directory");
    rmdir(path);

    write_file(target, encode(place->pool, &content));
    assert_int_equal(symlink(target, path), 0);
    result = restore_unopened(place, target);
    ASSERT_REASON(&result, UNOPENED, "expected a regular file",
               "found a symbolic link");
    unlink(path);

    if (strlen(path) >= sizeof(address.sun_path)) {
        return;
    }
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    apr_cpystrn(address.sun_path, path, sizeof(address.sun_path));
    assert_int_equal(bind(listener, (struct sockaddr *)&address,
                          sizeof(address)), 0);
    result = restore_unopened(place, path);
    ASSERT_REASON(&result, UNOPENED, "expected a regular file", "found");
    close(listener);
}

static void check_truncated(unit_place_t *place, apr_uint32_t type)
{
    content_t content = content_make(place->pool, 5, 3, type);
    bytes_t whole = encode(place->pool, &content);
    bytes_t part = whole;

    for (part.len = 0; part.len < whole.len; part.len++) {
        slotmem_segment_t segment;
        slotmem_restore_result_t result = restore_bytes(place, &segment,
                                                 content.geometry, part);

        if (part.len == description_at(&content)
            || part.len >= image_end(&content)) {
            assert_done(&result, 3, 0);
            assert_holds(&segment, &content, 0);
        }
        else {
            assert_refused(&result);
        }
    }
}

/* [E3][E4] Cut at each length: refused, except at the lengths of complete
 * files: up to the MD5 (releases before 2.4.34), and without our section. */
static void test_truncated(void **state)
{
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        int filler = unit_filler;

        check_truncated(*state, types[i]);
        unit_filler = 0;        /* the buffer may hold the missing bytes */
        check_truncated(*state, types[i]);
        unit_filler = filler;
    }
}

static void check_flipped(unit_place_t *place, apr_uint32_t type)
{
    static const unsigned char changes[] = { 0x01, 0x80, 0xff };
    content_t content = content_make(place->pool, 5, 3, type);
    bytes_t bytes = encode(place->pool, &content);
    size_t at;
    size_t i;

    for (at = 0; at < bytes.len; at++) {
        for (i = 0; i < ELEMENTS(changes); i++) {
            slotmem_segment_t segment;
            slotmem_restore_result_t result;

            bytes.data[at] ^= changes[i];
            result = restore_bytes(place, &segment, content.geometry, bytes);
            bytes.data[at] ^= changes[i];
            if (at < image_end(&content)) {
                assert_refused(&result);
                assert_non_null(strstr(result.reason, "expected"));
                assert_non_null(strstr(result.reason, "found"));
            }
            else {
                assert_done(&result, 3, 0);
                assert_holds(&segment, &content, 0);
            }
        }
    }
}

/* [E2][E3] Each byte changed in three ways. In the image: the file is refused.
 * In our section: the image is restored without run-time claims. */
static void test_flipped(void **state)
{
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        check_flipped(*state, types[i]);
    }
}

/* [E3][E5] The reason says what was expected and what was found: more slots,
 * other slots, another type, another MD5, an empty file, a short file. */
static void test_why(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 24, 10, TYPE_PERSIST);
    bytes_t bytes = encode(place->pool, &content);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;

    result = restore_bytes(place, &segment,
                           unit_geometry(24, 9, TYPE_PERSIST), bytes);
    ASSERT_REASON(&result, CONTENT, "expected 9 slots of 24 bytes, type 0x1",
               "found 10 slots of 24 bytes, type 0x1");
    result = restore_bytes(place, &segment,
                           unit_geometry(23, 10, TYPE_PERSIST), bytes);
    ASSERT_REASON(&result, CONTENT, "expected 10 slots of 23 bytes, type 0x1",
               "found 10 slots of 24 bytes, type 0x1");
    result = restore_bytes(place, &segment,
                           unit_geometry(24, 10, TYPE_PERSIST | TYPE_PREGRAB),
                           bytes);
    ASSERT_REASON(&result, CONTENT, "expected 10 slots of 24 bytes, type 0x5",
               "found 10 slots of 24 bytes, type 0x1");
    bytes.data[20] ^= 1;
    result = restore_bytes(place, &segment, content.geometry, bytes);
    ASSERT_REASON(&result, CONTENT, "MD5", "expected", "found");
    bytes.len = 0;
    result = restore_bytes(place, &segment, content.geometry, bytes);
    ASSERT_REASON(&result, CONTENT, "expected 10 slots of 24 bytes, type 0x1",
               "found 0 bytes");
    bytes.len = 100;
    result = restore_bytes(place, &segment, content.geometry, bytes);
    ASSERT_REASON(&result, CONTENT, "expected 10 slots of 24 bytes, type 0x1",
               "found 100 bytes");
}

static void restore_as_nobody(void *data)
{
    unit_place_t *place = data;
    slotmem_segment_t segment = segment_new(place->pool,
                                            unit_geometry(1, 1, TYPE_PERSIST));
    slotmem_restore_result_t result;

    if (geteuid() == 0) {
        CHILD_CHECK(seteuid(65534) == 0);
    }
    slotmem_restore(&result, &segment, 1, NULL, path_of(place), place->pool);
    CHILD_CHECK(result.outcome == SLOTMEM_RESTORE_REFUSED);
    CHILD_CHECK(APR_STATUS_IS_EACCES(result.status));
    CHILD_CHECK(result.reason != NULL);
    CHILD_CHECK(result.reason_kind == SLOTMEM_REASON_UNOPENED);
}

/* [E3] A file that the server may not read is refused, with the system's
 * reason. / */
static void test_no_permission(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 1, 1, TYPE_PERSIST);

    write_file(path_of(place), encode(place->pool, &content));
    assert_int_equal(chmod(path_of(place), 0), 0);
    assert_int_equal(chmod(place->dir, 0755), 0);
    assert_int_equal(unit_in_child(restore_as_nobody, place), 0);
}

/* [E3] No file descriptor left: the file is not read, but not refused either.
 * */
static void test_too_many_open_files(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 4, 4, TYPE_PERSIST);
    slotmem_segment_t segment = segment_new(place->pool, content.geometry);
    slotmem_restore_result_t result;
    struct rlimit limit;
    struct rlimit none;
    int fd;

    write_file(path_of(place), encode(place->pool, &content));
    fd = open("/dev/null", O_RDONLY);
    close(fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = (rlim_t)fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    slotmem_restore(&result, &segment, 1, NULL, path_of(place), place->pool);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_UNAVAILABLE);
    assert_true(APR_STATUS_IS_EMFILE(result.status));
    assert_non_null(result.reason);
    assert_int_equal(result.reason_kind, SLOTMEM_REASON_UNOPENED);
    assert_holds(&segment, NULL, 0);
}

/* Make call 1, 2, ... of a restore fail, until there is no such call. */
static void check_faults(unit_place_t *place, apr_status_t status, int outcome)
{
    content_t content = content_make(place->pool, 70000, 2,
                                     TYPE_PERSIST | TYPE_CLEARINUSE);
    bytes_t bytes = encode(place->pool, &content);
    uint32_t unreadable = 0;
    uint32_t call;

    for (call = 1;; call++) {
        slotmem_geometry_t asked = content.geometry;
        slotmem_segment_t segment;
        slotmem_restore_result_t result;

        asked.item_num += 1;    /* so that a smaller image is looked for */
        unit_faults(call, call, status);
        result = restore_bytes(place, &segment, asked, bytes);
        if (faults.calls < call) {
            assert_done(&result, 2, count_set(content.claims, 2));
            assert_holds(&segment, &content, 1);
            break;
        }
        if (faults.log[call - 1] == 'c') {  /* everything was read by then */
            assert_done(&result, 2, count_set(content.claims, 2));
            continue;
        }
        assert_int_equal(result.outcome, outcome);
        assert_int_equal(result.status, status);
        assert_non_null(result.reason);
        assert_int_equal(result.reason_kind,
                         strcmp(result.reason, "it cannot be read") == 0
                         ? SLOTMEM_REASON_UNREADABLE : SLOTMEM_REASON_UNOPENED);
        unreadable += result.reason_kind == SLOTMEM_REASON_UNREADABLE;
    }
    assert_true(call > 5);
    assert_true(unreadable > 1 && unreadable < call - 2);
    unit_faults(0, 0, 0);
}

/* [E3] Each call that a restore makes fails once: the file is refused, or not
 * read for lack of resources; the segment stays zero. */
static void test_fault_at_each_call(void **state)
{
    check_faults(*state, EIO, SLOTMEM_RESTORE_REFUSED);
    check_faults(*state, APR_EOF, SLOTMEM_RESTORE_REFUSED);
    check_faults(*state, EMFILE, SLOTMEM_RESTORE_UNAVAILABLE);
    check_faults(*state, ENFILE, SLOTMEM_RESTORE_UNAVAILABLE);
    check_faults(*state, ENOMEM, SLOTMEM_RESTORE_UNAVAILABLE);
}

/* ---- what is trusted ---- */

/* [E1][E4] Bytes after the image are ignored: junk, zeros, or the end of a
 * larger file that was overwritten in place. */
static void test_stale_tail(void **state)
{
    unit_place_t *place = *state;
    content_t large = content_make(place->pool, 12, 40, TYPE_PERSIST);
    bytes_t old = encode(place->pool, &large);
    unit_random_t random = { 5 };
    apr_uint32_t num;

    for (num = 0; num < 40; num++) {
        content_t content = content_make(place->pool, 12, num, TYPE_PERSIST);
        bytes_t image = encode(place->pool, &content);
        bytes_t junk = bytes_make(place->pool, 1 + unit_below(&random, 100));
        bytes_t in_place = old;
        slotmem_segment_t segment;
        slotmem_restore_result_t result;

        result = restore_bytes(place, &segment, content.geometry,
                               bytes_join(place->pool, image, junk));
        assert_done(&result, num, 0);
        assert_holds(&segment, &content, 1);
        unit_fill(&random, junk.data, junk.len);
        result = restore_bytes(place, &segment, content.geometry,
                               bytes_join(place->pool, image, junk));
        assert_done(&result, num, 0);

        memcpy(in_place.data, image.data, image.len);
        result = restore_bytes(place, &segment, content.geometry, in_place);
        assert_done(&result, num, 0);
        assert_holds(&segment, &content, 1);
        /* The larger number again: its description is still in the file. */
        result = restore_bytes(place, &segment, large.geometry, in_place);
        assert_done(&result, num, 0);
        assert_holds(&segment, &content, 1);
    }
}

/* [E2] Our section no longer fits after the distributed module has overwritten
 * the file in place: no run-time claims, but no damage. The same goes for
 * another version or magic. */
static void test_claims_that_do_not_fit(void **state)
{
    unit_place_t *place = *state;
    content_t ours = content_make(place->pool, 8, 6,
                                  TYPE_PERSIST | TYPE_CLEARINUSE);
    content_t theirs = content_make(place->pool, 8, 6,
                                    TYPE_PERSIST | TYPE_CLEARINUSE);
    bytes_t bytes = encode(place->pool, &ours);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    bytes_t image;
    size_t i;

    theirs.claims = NULL;
    image = encode(place->pool, &theirs);
    memcpy(bytes.data, image.data, image.len);
    result = restore_bytes(place, &segment, theirs.geometry, bytes);
    assert_done(&result, 6, 0);
    assert_holds(&segment, &theirs, 0);

    for (i = 0; i < 2; i++) {
        bytes = encode(place->pool, &ours);
        bytes.data[image_end(&ours) + 4 * i]++;
        digest_again(bytes);
        result = restore_bytes(place, &segment, ours.geometry, bytes);
        assert_done(&result, 6, 0);
        assert_holds(&segment, &ours, 0);
    }
}

/* [E12] Bytes after the end of one of our files make it a file without a
 * section: the image is restored without run-time claims. */
static void test_tail_after_claims(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 8, 60,
                                     TYPE_PERSIST | TYPE_CLEARINUSE);
    bytes_t bytes = encode(place->pool, &content);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    bytes_t end;
    size_t len;

    for (len = 1; len < 130; len++) {
        result = restore_bytes(place, &segment, content.geometry,
                               bytes_join(place->pool, bytes,
                                          bytes_make(place->pool, len)));
        assert_done(&result, 60, 0);
        assert_holds(&segment, &content, 0);
    }
    /* Its own end once more, which says another length. */
    end = bytes;
    end.data += bytes.len - END_LEN;
    end.len = END_LEN;
    result = restore_bytes(place, &segment, content.geometry,
                           bytes_join(place->pool, bytes, end));
    assert_done(&result, 60, 0);
    assert_holds(&segment, &content, 0);
}

/* [E4] A file that ends after the MD5 is restored for the requested geometry
 * only; a file that ends before the MD5 is not restored. */
static void test_no_description(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 16, 10, TYPE_PERSIST);
    slotmem_geometry_t asked = content.geometry;
    bytes_t bytes = encode(place->pool, &content);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;

    bytes.len = description_at(&content);
    result = restore_bytes(place, &segment, asked, bytes);
    assert_done(&result, 10, 0);
    assert_holds(&segment, &content, 1);

    /* It does not contain the type. */
    asked.type = TYPE_PERSIST | TYPE_PREGRAB;
    result = restore_bytes(place, &segment, asked, bytes);
    assert_done(&result, 10, 0);
    asked.item_num = 11;
    result = restore_bytes(place, &segment, asked, bytes);
    assert_refused(&result);
    asked.item_num = 9;
    result = restore_bytes(place, &segment, asked, bytes);
    assert_refused(&result);
    asked = unit_geometry(15, 10, TYPE_PERSIST);
    result = restore_bytes(place, &segment, asked, bytes);
    assert_refused(&result);

    bytes.len = digest_at(&content);
    result = restore_bytes(place, &segment, content.geometry, bytes);
    assert_refused(&result);
    /* Without an MD5, but with a description where it should be. */
    bytes = encode(place->pool, &content);
    memset(bytes.data + digest_at(&content), 0, 16);
    result = restore_bytes(place, &segment, content.geometry, bytes);
    assert_refused(&result);
}

/* [E4][E5][E12] The MD5 at the end of our section covers all bytes before it,
 * just as the MD5 at the end of a file without a description does. If one of
 * our files has the length of such a file, its end tells them apart, and if the
 * end does not fit, its description. */
static void test_claims_like_an_old_file(void **state)
{
    static const struct {
        apr_size_t size;
        apr_uint32_t holds;
        apr_uint32_t asked;
    } cases[] = {
        { 24, 12, 16 }, { 3, 0, 22 }, { 10, 0, 8 }, { 1, 20, 74 }
    };
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(cases); i++) {
        content_t content = content_make(place->pool, cases[i].size,
                                         cases[i].holds,
                                         TYPE_PERSIST | TYPE_CLEARINUSE);
        bytes_t bytes = encode(place->pool, &content);
        slotmem_geometry_t more = content.geometry;
        slotmem_segment_t segment;
        slotmem_restore_result_t result;

        more.item_num = cases[i].asked;
        assert_int_equal(bytes.len,
                         8 + (more.item_size + 1) * more.item_num + 16);
        result = restore_bytes(place, &segment, more, bytes);
        assert_done(&result, cases[i].holds,
                    count_set(content.claims, cases[i].holds));
        assert_holds(&segment, &content, 1);

        bytes.data[image_end(&content)]++;
        digest_again(bytes);
        result = restore_bytes(place, &segment, more, bytes);
        assert_done(&result, cases[i].holds, 0);
        assert_holds(&segment, &content, 0);
    }
}

/* [E4] The in-use flags decide, whatever the count says; any value except 0
 * means in use. */
static void test_flags_decide(void **state)
{
    static const uint32_t counts[] = { 0, 1, 7, 8, UINT32_MAX };
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 4, 7, TYPE_PERSIST);
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    size_t i;

    content.in_use[1] = 2;
    content.in_use[2] = 0;
    content.in_use[4] = 0xff;
    content.in_use[6] = 0x80;
    for (i = 0; i < ELEMENTS(counts); i++) {
        result = restore_bytes(place, &segment, content.geometry,
                               encode_with(place->pool, &content, counts[i]));
        assert_done(&result, 7, 0);
        assert_int_equal(slotmem_map_count_free(&segment.map),
                         7 - count_set(content.in_use, 7));
        assert_int_equal(slotmem_map_test(&segment.map, 1), 1);
        assert_int_equal(slotmem_map_test(&segment.map, 2), 0);
        assert_int_equal(slotmem_map_test(&segment.map, 4), 1);
        assert_int_equal(slotmem_map_test(&segment.map, 6), 1);
    }
}

/* [E2][E5] From each smaller number: slots, in-use flags and run-time claims
 * return to their places, and the new slots are free and zero. */
static void test_grow(void **state)
{
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        apr_uint32_t num;

        for (num = 0; num < 130; num++) {
            content_t content = content_make(place->pool, 13, num, types[i]);
            slotmem_segment_t segment;
            slotmem_restore_result_t result = restore_bytes(
                place, &segment, unit_geometry(13, 130, types[i]),
                encode(place->pool, &content));

            assert_done(&result, num, content.claims
                        ? count_set(content.claims, num) : 0);
            assert_holds(&segment, &content, 1);
        }
    }
}

/* [E5] Slots that are larger than a single read, and slots without bytes. */
static void test_grow_extremes(void **state)
{
    static const apr_size_t item_sizes[] = { 0, 65536, 200001 };
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(item_sizes); i++) {
        content_t content = content_make(place->pool, item_sizes[i], 3,
                                         TYPE_PERSIST);
        slotmem_segment_t segment;
        slotmem_restore_result_t result = restore_bytes(
            place, &segment, unit_geometry(item_sizes[i], 5, TYPE_PERSIST),
            encode(place->pool, &content));

        assert_done(&result, 3, 0);
        assert_holds(&segment, &content, 1);
    }
}

/* [E5] A file with more slots is never restored, whatever its number, not even
 * in part. */
static void test_shrink(void **state)
{
    unit_place_t *place = *state;
    apr_uint32_t asked;
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        content_t content = content_make(place->pool, 13, 70, types[i]);
        bytes_t bytes = encode(place->pool, &content);

        for (asked = 0; asked < 70; asked++) {
            slotmem_segment_t segment;
            slotmem_restore_result_t result = restore_bytes(
                place, &segment, unit_geometry(13, asked, types[i]), bytes);

            assert_refused(&result);
            assert_non_null(
                strstr(result.reason, "found 70 slots of 13 bytes"));
        }
    }
}

/* Put a complete image of `small` into the slots of `large`, whose first slots
 * are those of `small`. Their files start with the same number of free slots.
 * */
static void nest(apr_pool_t *pool, content_t *large, const content_t *small)
{
    bytes_t inner;
    uint32_t num_free = large->geometry.item_num
                        - count_set(large->in_use, large->geometry.item_num);

    inner = encode_with(pool, small, num_free);
    memcpy(large->slots, inner.data + 8, inner.len - 8);
}

/* [E5][E12] In an image of ten slots a child has written what looks like an
 * image of two: the file still has ten slots, and a segment with fewer starts
 * fresh. */
static void test_two_images(void **state)
{
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        content_t small = content_make(place->pool, 40, 2, types[i]);
        content_t large = content_make(place->pool, 40, 10, types[i]);
        apr_uint32_t asked;
        bytes_t bytes;

        small.claims = NULL;
        nest(place->pool, &large, &small);
        bytes = encode(place->pool, &large);
        for (asked = 0; asked < 13; asked++) {
            slotmem_segment_t segment;
            slotmem_restore_result_t result = restore_bytes(
                place, &segment, unit_geometry(40, asked, types[i]), bytes);

            if (asked < 10) {
                assert_refused(&result);
                assert_non_null(strstr(result.reason,
                                       "found 10 slots of 40 bytes"));
            }
            else {
                assert_done(&result, 10, large.claims
                            ? count_set(large.claims, 10) : 0);
                assert_holds(&segment, &large, 1);
            }
        }
    }
}

/* A file that has a description but no MD5 for each number of slots. */
static bytes_t full_of_descriptions(apr_pool_t *pool, apr_size_t size,
                                    apr_uint32_t num)
{
    bytes_t bytes = bytes_make(pool, 8 + (size + 1) * num + 32);
    apr_uint32_t n;

    for (n = 0; n <= num; n++) {
        unsigned char *to = bytes.data + 8 + (size + 1) * n + 16;
        uint32_t type = TYPE_PERSIST;

        put(&to, &size, sizeof(size));
        put(&to, &n, 4);
        put(&to, &type, 4);
    }
    return bytes;
}

/* [E3][E5] A file with a description for each number of slots is refused after
 * reading its length a few times, not once for each number. */
static void test_bogus_descriptions(void **state)
{
    static const struct {
        apr_size_t size;
        apr_uint32_t num;
    } traps[] = {
        { 15, 200000 }, { 16, 5000 }, { 1000, 3000 }, { 65535, 40 },
        { 65536, 40 }, { 100000, 40 }
    };
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(traps); i++) {
        bytes_t bytes = full_of_descriptions(place->pool, traps[i].size,
                                             traps[i].num);
        slotmem_segment_t segment;
        slotmem_restore_result_t result;

        unit_faults(0, 0, 0);
        result = restore_bytes(place, &segment,
                               unit_geometry(traps[i].size, traps[i].num + 1,
                                             TYPE_PERSIST), bytes);
        assert_refused(&result);
        assert_true(faults.bytes_read <= 5 * bytes.len + 1000000);
        assert_true(faults.bytes_digested <= 3 * bytes.len);
    }
}

/* ---- length and owner ---- */

/* A file of this length that starts with these bytes and continues with a hole.
 */
static void write_sparse(const char *path, bytes_t bytes, off_t len)
{
    write_file(path, bytes);
    assert_int_equal(truncate(path, len), 0);
}

/* [B7][E3] A file that is longer than the segment, its claims and 16 MiB is
 * refused without reading a byte, whatever its first bytes. A file of exactly
 * that length is read. */
static void test_too_long(void **state)
{
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(types); i++) {
        content_t content = content_make(place->pool, 40, 10, types[i]);
        bytes_t bytes = encode(place->pool, &content);
        off_t most = (off_t)image_end(&content) + 10 + ((off_t)16 << 20);
        const off_t lengths[] = { most + 1, 5500000000, INT64_MAX / 4 };
        slotmem_restore_result_t result;
        slotmem_segment_t segment;
        slotmem_image_t image;
        apr_pool_t *pool;
        size_t k;

        for (k = 0; k < ELEMENTS(lengths); k++) {
            write_file(path_of(place), bytes);
            if (truncate(path_of(place), lengths[k]) != 0) {
                assert_int_equal(errno, EFBIG);     /* of this file system */
                continue;
            }
            unit_faults(0, 0, 0);
            result = restore(place, &segment, content.geometry, 1);
            assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
            ASSERT_REASON(&result, UNOPENED, "expected",
                          apr_off_t_toa(place->pool, most - ((off_t)16 << 20)),
                          "16 MiB", "found",
                          apr_off_t_toa(place->pool, lengths[k]));
            assert_int_equal(result.file_state.known, 1);
            apr_pool_create(&pool, place->pool);
            slotmem_restore_image(&result, &image, &content.geometry, NULL,
                                  path_of(place), pool);
            apr_pool_destroy(pool);         /* closes the file */
            assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
            assert_int_equal(faults.bytes_digested, 0);
            assert_int_equal(faults.bytes_read, 0);
            assert_null(strchr(faults.log, 'r'));
        }
        write_sparse(path_of(place), bytes, most);
        unit_faults(0, 0, 0);
        result = restore(place, &segment, content.geometry, 1);
        content.claims = NULL;              /* no end, so no section */
        assert_done(&result, 10, 0);
        assert_holds(&segment, &content, 1);
        assert_in_range(faults.bytes_digested, 1, 3 * most);
    }
}

/* [E2] Claims are part of the segment, and not of the 16 MiB that a file may
 * have besides: a file with more than 16 MiB of claims is restored. */
static void test_many_claims(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = unit_geometry(
        0, 17000000, TYPE_PERSIST | TYPE_CLEARINUSE);
    slotmem_segment_t segment = segment_new(place->pool, geometry);
    slotmem_store_t store = { .content.segment = &segment,
                              .path = path_of(place) };
    slotmem_restore_result_t result;
    slotmem_segment_t copy;

    store.content.config_claims = (slotmem_word_t *)(void *)
        bytes_make(place->pool, 17000000 / 8 + 8).data;
    slotmem_map_set(&segment.map, 16999999);
    slotmem_store(&store, 1, &nobody, place->pool);
    assert_int_equal(store.step, SLOTMEM_STEP_NONE);
    copy = segment_new(place->pool, geometry);
    slotmem_restore(&result, &copy, 1, NULL, path_of(place), place->pool);
    assert_done(&result, 17000000, 1);
    assert_int_equal(slotmem_map_test(&copy.map, 16999999), 1);
}

/* [E3][E8] A file of another user is refused and not read. Without a directory
 * that says whom to trust, every user is trusted. */
static void test_foreign_owner(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 40, 10, TYPE_PERSIST);
    slotmem_directory_t *directory = directory_open(path_of(place));
    slotmem_segment_t segment = segment_new(place->pool, content.geometry);
    slotmem_restore_result_t result;

    if (geteuid() != 0) {
        fputs("skipped: needs root, to give a file away\n", stderr);
        skip();
    }
    write_file(path_of(place), encode(place->pool, &content));
    assert_int_equal(chown(path_of(place), 65534, 12345), 0);
    unit_faults(0, 0, 0);
    slotmem_restore(&result, &segment, 1, directory, path_of(place),
                    place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
    ASSERT_REASON(&result, UNOPENED, "belongs to user 65534, group 12345",
                  "expected user 0", "chown");
    assert_null(strchr(faults.log, 'r'));
    assert_holds(&segment, NULL, 0);
    slotmem_restore(&result, &segment, 1, NULL, path_of(place), place->pool);
    assert_done(&result, 10, 0);
    assert_int_equal(chown(path_of(place), 0, 12345), 0);
    segment = segment_new(place->pool, content.geometry);
    slotmem_restore(&result, &segment, 1, directory, path_of(place),
                    place->pool);
    assert_done(&result, 10, 0);
    assert_holds(&segment, &content, 1);
}

/* ---- our section ---- */

#define WORDS_TEXT "0011223344556677\0lbset\0" "1\0route\0a\0"
#define LABELS_TEXT "balancer\0balancer://one\0"

/* A content that also has words and labels, each with an empty string at the
 * end (the 0 byte of the literal). */
static content_t content_with_words(apr_pool_t *pool)
{
    content_t content = content_make(pool, 8, 6,
                                     TYPE_PERSIST | TYPE_CLEARINUSE);

    content.words = WORDS_TEXT;
    content.words_len = sizeof(WORDS_TEXT);
    content.labels = LABELS_TEXT;
    content.labels_len = sizeof(LABELS_TEXT);
    content.claims[1] = 1;
    return content;
}

/* Restored as a file without a section: the image but no run-time claims. */
static void assert_no_section(unit_place_t *place, const content_t *content,
                              bytes_t bytes)
{
    slotmem_segment_t segment;
    slotmem_image_t image;
    slotmem_restore_result_t result = restore_bytes(place, &segment,
                                                    content->geometry, bytes);
    apr_pool_t *pool;

    assert_done(&result, content->geometry.item_num, 0);
    assert_holds(&segment, content, 0);
    apr_pool_create(&pool, place->pool);    /* for the image and its file */
    slotmem_restore_image(&result, &image, &content->geometry, NULL,
                          path_of(place), pool);
    assert_done(&result, content->geometry.item_num, 0);
    assert_holds(&image.segment, content, 0);
    assert_int_equal(image.has_section, 0);
    assert_null(image.words);
    assert_int_equal(image.words_len, 0);
    apr_pool_destroy(pool);
}

/* Restored with its section. */
static void assert_section(unit_place_t *place, const content_t *content,
                           bytes_t bytes)
{
    apr_uint32_t num = content->geometry.item_num;
    apr_uint32_t claims = count_set(content->claims, num);
    slotmem_segment_t segment;
    slotmem_image_t image;
    slotmem_restore_result_t result = restore_bytes(place, &segment,
                                                    content->geometry, bytes);
    apr_pool_t *pool;
    apr_uint32_t id;

    assert_done(&result, num, claims);
    assert_holds(&segment, content, 1);
    apr_pool_create(&pool, place->pool);
    slotmem_restore_image(&result, &image, &content->geometry, NULL,
                          path_of(place), pool);
    assert_done(&result, num, claims);
    assert_holds(&image.segment, content, 0);
    assert_int_equal(image.has_section, 1);
    for (id = 0; id < num; id++) {
        assert_int_equal(slotmem_bit_test(image.claims, id),
                         content->claims[id] != 0);
    }
    assert_int_equal(image.words_len, content->words_len);
    if (content->words_len) {
        assert_memory_equal(image.words, content->words, content->words_len);
    }
    assert_int_equal(image.labels_len, content->labels_len);
    if (content->labels_len) {
        assert_memory_equal(image.labels, content->labels,
                            content->labels_len);
    }
    apr_pool_destroy(pool);
}

/* [E12] Words and labels come out as they went in. */
static void test_words(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    slotmem_word_t none[1] = { 0 };
    slotmem_store_t store = { .content.segment = &segment,
                              .path = path_of(place),
                              .content.config_claims = none };
    int with;

    for (with = 0; with < 4; with++) {
        content.words_len = with & 1 ? sizeof(WORDS_TEXT) : 0;
        content.labels_len = with & 2 ? sizeof(LABELS_TEXT) : 0;
        store.content.words = content.words;
        store.content.words_len = content.words_len;
        store.content.labels = content.labels;
        store.content.labels_len = content.labels_len;
        store_now(&store, 1, place->pool);
        assert_int_equal(store.step, SLOTMEM_STEP_NONE);
        assert_file_is(path_of(place), encode(place->pool, &content),
                       place->pool);
        assert_section(place, &content, encode(place->pool, &content));
    }
}

/* [E12] An end with any field or an MD5 that does not fit is not an end. The
 * MD5 fits the changed bytes, except in the last case. */
static void test_end_that_does_not_fit(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    size_t at;
    int bit;

    for (at = 0; at < END_LEN; at++) {
        for (bit = 0; bit < 8; bit++) {
            bytes_t bytes = encode(place->pool, &content);

            bytes.data[bytes.len - END_LEN + at] ^= (unsigned char)(1 << bit);
            if (at < END_LEN - 16) {
                digest_again(bytes);
            }
            assert_no_section(place, &content, bytes);
        }
    }
}

/* [E12] Cut at each length after the image, and longer: no section. */
static void test_section_cut(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    bytes_t whole = encode(place->pool, &content);
    bytes_t part = whole;

    for (part.len = image_end(&content); part.len < whole.len; part.len++) {
        assert_no_section(place, &content, part);
    }
    assert_section(place, &content, whole);
    for (part.len = 1; part.len < 100; part.len++) {
        assert_no_section(place, &content,
                          bytes_join(place->pool, whole,
                                     bytes_make(place->pool, part.len)));
    }
}

/* [E12] Cut at each length, with an end that fits the rest: it has a section if
 * the cut is at the end of a chunk and the claims are among the chunks. */
static void test_section_cut_with_end(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    bytes_t whole = encode(place->pool, &content);
    size_t claims = image_end(&content) + SECTION_LEN + CHUNK_LEN
                    + content.geometry.item_num;
    size_t words = claims + CHUNK_LEN + content.words_len;
    size_t len;

    for (len = image_end(&content); len < whole.len - END_LEN; len++) {
        bytes_t bytes = bytes_make(place->pool, len + END_LEN);
        content_t left = content;

        memcpy(bytes.data, whole.data, len);
        end_again(bytes, &content);
        left.words_len = len < words ? 0 : content.words_len;
        left.labels_len = 0;
        if (len == claims || len == words) {
            assert_section(place, &left, bytes);
        }
        else {
            assert_no_section(place, &content, bytes);
        }
    }
}

/* Change a field of a chunk, with an end that fits. */
static bytes_t lie(unit_place_t *place, const content_t *content, size_t at,
                   const void *value, size_t len)
{
    bytes_t bytes = encode(place->pool, content);

    memcpy(bytes.data + at, value, len);
    end_again(bytes, content);
    return bytes;
}

/* [E12] Chunks with wrong fields, and an end that fits: no section. */
static void test_chunks_that_lie(void **state)
{
    static const uint64_t lengths[] = {
        0, 1, 5, 7, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
        INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 64, UINT64_MAX - 47,
        UINT64_MAX - 16, UINT64_MAX - 8, UINT64_MAX - 1, UINT64_MAX
    };
    static const uint32_t one = 1;
    static const uint32_t versions[] = { 0, 1, 3, UINT32_MAX };
    static const uint32_t unknown = 0x20202020;
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    size_t section = image_end(&content);
    size_t chunks[] = { section + SECTION_LEN, 0, 0 };
    size_t i, c;

    chunks[1] = chunks[0] + CHUNK_LEN + content.geometry.item_num;
    chunks[2] = chunks[1] + CHUNK_LEN + content.words_len;
    for (c = 0; c < ELEMENTS(chunks); c++) {
        assert_no_section(place, &content, lie(place, &content, chunks[c] + 4,
                                               &one, 4));
        for (i = 0; i < ELEMENTS(lengths); i++) {
            /* If it is shorter, its last bytes become the next chunk's head. */
            assert_no_section(place, &content,
                              lie(place, &content, chunks[c] + 8, &lengths[i],
                                  8));
        }
    }
    for (i = 0; i < ELEMENTS(versions); i++) {
        assert_no_section(place, &content, lie(place, &content, section + 4,
                                               &versions[i], 4));
    }
    assert_no_section(place, &content, lie(place, &content, section, &one, 4));
    /* Claims under another name do not count. */
    assert_no_section(place, &content, lie(place, &content, chunks[0],
                                           &unknown, 4));
}

/* [E12] Unknown and empty chunks are skipped, wherever they are. */
static void test_unknown_chunks(void **state)
{
    static const size_t lens[] = { 0, 1, 47, 48, 1000 };
    unit_place_t *place = *state;
    content_t content = content_with_words(place->pool);
    bytes_t whole = encode(place->pool, &content);
    size_t places[4];
    size_t i, p;

    places[0] = image_end(&content) + SECTION_LEN;
    places[1] = places[0] + CHUNK_LEN + content.geometry.item_num;
    places[2] = places[1] + CHUNK_LEN + content.words_len;
    places[3] = places[2] + CHUNK_LEN + content.labels_len;
    for (p = 0; p < ELEMENTS(places); p++) {
        for (i = 0; i < ELEMENTS(lens); i++) {
            bytes_t junk = bytes_make(place->pool, lens[i]);
            bytes_t bytes = bytes_make(place->pool, whole.len + CHUNK_LEN
                                                    + lens[i]);
            unsigned char *to = bytes.data;

            put(&to, whole.data, places[p]);
            put_chunk(&to, 0x454e4f4e, junk.data, junk.len);
            put(&to, whole.data + places[p],
                whole.len - END_LEN - places[p]);
            end_again(bytes, &content);
            assert_section(place, &content, bytes);
        }
    }
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, file_setup, file_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bytes),
        TEST(test_byte_table),
        TEST(test_configured_claims),
        TEST(test_no_file),
        TEST(test_no_slots),
        TEST(test_no_regular_file),
        TEST(test_truncated),
        TEST(test_flipped),
        TEST(test_why),
        TEST(test_no_permission),
        TEST(test_too_many_open_files),
        TEST(test_fault_at_each_call),
        TEST(test_stale_tail),
        TEST(test_claims_that_do_not_fit),
        TEST(test_tail_after_claims),
        TEST(test_no_description),
        TEST(test_claims_like_an_old_file),
        TEST(test_flags_decide),
        TEST(test_grow),
        TEST(test_grow_extremes),
        TEST(test_shrink),
        TEST(test_two_images),
        TEST(test_bogus_descriptions),
        TEST(test_too_long),
        TEST(test_many_claims),
        TEST(test_foreign_owner),
        TEST(test_words),
        TEST(test_end_that_does_not_fit),
        TEST(test_section_cut),
        TEST(test_section_cut_with_end),
        TEST(test_chunks_that_lie),
        TEST(test_unknown_chunks)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

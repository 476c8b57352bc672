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
 * test_image.c: files with a section of ours, whole and damaged [E12], and
 * images of any number of slots [E6].
 */

#include "unit_file.h"

#define TYPE_CLAIMS (TYPE_PERSIST | TYPE_CLEARINUSE)

static const char words[] = "0011223344556677\0loadfactor\0" "300\0\0";
static const char labels[] = "server\0www.example.org\0port\0" "80\0\0";

static const char *path_of(const unit_place_t *place)
{
    return apr_pstrcat(place->pool, place->dir, "/f.persist", NULL);
}

static content_t sample(apr_pool_t *pool, apr_uint32_t num)
{
    content_t content = content_make(pool, 16, num, TYPE_CLAIMS);

    content.words = words;
    content.words_len = sizeof(words) - 1;
    content.labels = labels;
    content.labels_len = sizeof(labels) - 1;
    return content;
}

/* Restore the bytes as a segment of so many slots; returns its claims. */
static apr_uint32_t claims_of(unit_place_t *place, bytes_t bytes,
                              apr_uint32_t num)
{
    slotmem_segment_t segment =
        segment_new(place->pool, unit_geometry(16, num, TYPE_CLAIMS));
    slotmem_restore_result_t result;

    write_file(path_of(place), bytes);
    slotmem_restore(&result, &segment, 1, path_of(place), place->pool);
    return result.outcome == SLOTMEM_RESTORE_DONE ? result.runtime_claims
                                                  : UINT32_MAX;
}

static apr_uint32_t count_set(const unsigned char *bytes, apr_uint32_t num)
{
    apr_uint32_t set = 0;

    while (num--) {
        set += bytes[num] != 0;
    }
    return set;
}

static bytes_t copy_of(apr_pool_t *pool, bytes_t bytes)
{
    bytes_t copy = bytes_make(pool, bytes.len);

    memcpy(copy.data, bytes.data, bytes.len);
    return copy;
}

/* Each byte of the section and of its end is covered by the end's MD5: with one
 * of them changed there is no section, and the image is restored all the same.
 */
static void test_each_byte(void **state)
{
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    bytes_t bytes = encode(place->pool, &content);
    size_t i;

    assert_int_equal(claims_of(place, bytes, 7), count_set(content.claims, 7));
    for (i = image_end(&content); i < bytes.len; i++) {
        bytes_t changed = copy_of(place->pool, bytes);

        changed.data[i] ^= 1;
        assert_int_equal(claims_of(place, changed, 7), 0);
    }
    for (i = image_end(&content); i < bytes.len; i++) {
        bytes_t cut = bytes;

        cut.len = i;
        assert_int_equal(claims_of(place, cut, 7), 0);
    }
    bytes = bytes_make(place->pool, bytes.len + 1);
    memcpy(bytes.data, encode(place->pool, &content).data, bytes.len - 1);
    assert_int_equal(claims_of(place, bytes, 7), 0);
}

/* Ends that name another shape, version or length, with an MD5 that fits. */
static void test_lying_ends(void **state)
{
    static const size_t fields[] = { 0, 4, 8, 16, 20, 24 };
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    size_t i;

    for (i = 0; i < ELEMENTS(fields); i++) {
        bytes_t bytes = encode(place->pool, &content);

        bytes.data[bytes.len - 48 + fields[i]]++;
        digest_again(bytes);
        assert_int_equal(claims_of(place, bytes, 7), 0);
    }
}

/* Chunks that lie, with an MD5 that fits: no section. */
static void test_lying_chunks(void **state)
{
    static const struct {
        size_t at;                  /* offset in the section */
        uint64_t value;
        size_t len;
    } lies[] = {
        { 0, 0x12345678, 4 },       /* magic */
        { 4, 3, 4 },                /* version */
        { 8, 0x12345678, 4 },       /* no claims: an unknown chunk */
        { 12, 1, 4 },               /* what is to be 0 */
        { 16, 6, 8 },               /* the claims' length */
        { 16, 8, 8 },
        { 16, UINT64_MAX, 8 },
        { 16, UINT64_MAX - 15, 8 },
        { 24 + 7 + 8, UINT64_MAX, 8 },  /* the words' length */
        { 24 + 7 + 8, sizeof(words) + 200, 8 },
        { 24 + 7 + 8, 0, 8 }
    };
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    size_t i;

    for (i = 0; i < ELEMENTS(lies); i++) {
        bytes_t bytes = encode(place->pool, &content);

        memcpy(bytes.data + image_end(&content) + lies[i].at, &lies[i].value,
               lies[i].len);
        digest_again(bytes);
        assert_int_equal(claims_of(place, bytes, 7), 0);
    }
}

/* A chunk that nobody knows is skipped. */
static void test_unknown_chunk(void **state)
{
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    bytes_t bytes = encode(place->pool, &content);
    uint32_t tag = 0x12345678;

    memcpy(bytes.data + image_end(&content) + 24 + 7, &tag, sizeof(tag));
    digest_again(bytes);
    assert_int_equal(claims_of(place, bytes, 7), count_set(content.claims, 7));
}

/* An image has the shape of the file, whatever is requested, and its words. */
static void test_image_of_any_number(void **state)
{
    static const apr_uint32_t requested[] = { 1, 6, 7, 8, 200 };
    unit_place_t *place = *state;
    size_t i;
    int ours;

    for (i = 0; i < 2 * ELEMENTS(requested); i++) {
        content_t content = sample(place->pool, 7);
        slotmem_geometry_t geometry =
            unit_geometry(16, requested[i / 2], TYPE_CLAIMS);
        slotmem_restore_result_t result;
        slotmem_image_t image;
        apr_pool_t *pool;
        apr_uint32_t id;

        apr_pool_create(&pool, place->pool);
        ours = i % 2;
        if (!ours) {
            content.claims = NULL;
        }
        write_file(path_of(place), encode(place->pool, &content));
        slotmem_restore_image(&result, &image, &geometry, path_of(place),
                              pool);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
        assert_int_equal(image.segment.geometry.item_num, 7);
        assert_memory_equal(image.segment.slots, content.slots, 7 * 16);
        assert_int_equal(image.has_section, ours);
        assert_int_equal(image.words_len, ours ? sizeof(words) - 1 : 0);
        for (id = 0; ours && id < 7; id++) {
            assert_int_equal(slotmem_bit_test(image.claims, id),
                             content.claims[id]);
        }
        if (ours) {
            assert_memory_equal(image.words, words, sizeof(words) - 1);
        }
        apr_pool_destroy(pool);
    }
}

/* [E6] What a store must keep of the old file is P.bak, for its owner alone. */
static void test_backup(void **state)
{
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    const char *backup = apr_pstrcat(place->pool, path_of(place), ".bak", NULL);
    bytes_t old = bytes_make(place->pool, 100);
    slotmem_store_t store = { .segment = &segment, .path = path_of(place),
                              .backup = 1 };
    apr_finfo_t info;
    int round;

    write_file(backup, bytes_make(place->pool, 5));
    for (round = 0; round < 2; round++) {
        old.data[0] = (unsigned char)round;
        write_file(path_of(place), old);
        apr_file_perms_set(path_of(place), 0x644);
        store.backup = 1;
        slotmem_store(&store, 1, NULL, place->pool);
        assert_null(store.step);
        assert_int_equal(store.backup, 0);
        assert_true(bytes_same(read_file(backup, place->pool), old));
        assert_int_equal(apr_stat(&info, backup, APR_FINFO_PROT, place->pool),
                         APR_SUCCESS);
        assert_int_equal(info.protection, 0x600);
    }
    apr_file_remove(path_of(place), place->pool);
    store.backup = 1;
    memset(&store.file_state, 0, sizeof(store.file_state));
    slotmem_store(&store, 1, NULL, place->pool);
    assert_null(store.step);        /* nothing was there to keep */
}

/* Where it cannot be kept the store fails, and the old file stays. */
static void test_no_backup(void **state)
{
    unit_place_t *place = *state;
    content_t content = sample(place->pool, 7);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    const char *backup = apr_pstrcat(place->pool, path_of(place), ".bak", NULL);
    bytes_t old = bytes_make(place->pool, 100);
    slotmem_store_t store = { .segment = &segment, .path = path_of(place),
                              .backup = 1 };

    assert_int_equal(apr_dir_make(backup, APR_OS_DEFAULT, place->pool),
                     APR_SUCCESS);
    write_file(path_of(place), old);
    slotmem_store(&store, 1, NULL, place->pool);
    assert_string_equal(store.step, "keep the old file");
    assert_int_equal(store.backup, 1);
    assert_true(bytes_same(read_file(path_of(place), place->pool), old));
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_byte),
        TEST(test_lying_ends),
        TEST(test_lying_chunks),
        TEST(test_unknown_chunk),
        TEST(test_image_of_any_number),
        TEST(test_backup),
        TEST(test_no_backup)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

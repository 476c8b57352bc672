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
 * test_image.c: our section in a persisted file, and reading an image of any
 * number of slots.
 *
 * unit_file.h makes the expected bytes, from the layout in slotmem_format.h.
 */

#include "unit_file.h"

#define MAGIC 0x534c4d43u
#define VERSION 2u
#define BOTH (TYPE_PERSIST | TYPE_CLEARINUSE)
#define MOST_SECTION ((size_t)16 * 1024 * 1024)

static const char *path_of(unit_place_t *place)
{
    return apr_pstrcat(place->pool, place->dir, "/p.persist", NULL);
}

static void set_words(content_t *content, bytes_t words)
{
    content->words = (const char *)words.data;
    content->words_len = words.len;
}

static void set_labels(content_t *content, bytes_t labels)
{
    content->labels = (const char *)labels.data;
    content->labels_len = labels.len;
}

static content_t section_content(apr_pool_t *pool, apr_size_t size,
                                 apr_uint32_t num)
{
    content_t content = content_make(pool, size, num, BOTH);

    if (num) {
        content.claims[num - 1] = 1;
    }
    set_words(&content, bytes_random(pool, 70));
    set_labels(&content, bytes_random(pool, 30));
    return content;
}

static apr_uint32_t count_claims(const content_t *content)
{
    apr_uint32_t count = 0;
    apr_uint32_t id;

    for (id = 0; content->claims && id < content->geometry.item_num; id++) {
        count += content->claims[id] != 0;
    }
    return count;
}

/* The part of a content's file that the distributed module understands. */
static content_t without_section(content_t content)
{
    content.claims = NULL;
    content.words_len = content.labels_len = 0;
    return content;
}

/* ---- chunks and sections, written by the tests themselves ---- */

/* A chunk whose header says that it has len bytes. */
static bytes_t chunk_with(apr_pool_t *pool, uint32_t tag, uint64_t len,
                          bytes_t content)
{
    bytes_t bytes = bytes_make(pool, CHUNK_LEN + content.len);
    unsigned char *to = bytes.data;

    put_chunk(&to, tag, content.data, content.len);
    memcpy(bytes.data + 8, &len, 8);
    return bytes;
}

static bytes_t chunk(apr_pool_t *pool, uint32_t tag, bytes_t content)
{
    return chunk_with(pool, tag, content.len, content);
}

static bytes_t claims_chunk(apr_pool_t *pool, const content_t *content)
{
    bytes_t claims = { content->claims, content->geometry.item_num };

    return chunk(pool, TAG_CLAIMS, claims);
}

static bytes_t words_chunk(apr_pool_t *pool, const content_t *content)
{
    bytes_t words = { (void *)(uintptr_t)content->words, content->words_len };

    return chunk(pool, TAG_WORDS, words);
}

static bytes_t labels_chunk(apr_pool_t *pool, const content_t *content)
{
    bytes_t labels = { (void *)(uintptr_t)content->labels,
                       content->labels_len };

    return chunk(pool, TAG_LABELS, labels);
}

/* Only the image of a content, as the distributed module stores it. */
static bytes_t encode_image(apr_pool_t *pool, const content_t *content)
{
    bytes_t bytes = encode(pool, content);

    bytes.len = image_end(content);
    return bytes;
}

/* A file that consists of an image and of arbitrary chunks. */
static bytes_t with_section(apr_pool_t *pool, const content_t *content,
                            bytes_t chunks)
{
    static const uint32_t head[2] = { MAGIC, VERSION };
    bytes_t image = encode_image(pool, content);
    bytes_t bytes = bytes_make(pool, image.len + SECTION_LEN + chunks.len
                                     + END_LEN);
    unsigned char *to = bytes.data;

    put(&to, image.data, image.len);
    put(&to, head, SECTION_LEN);
    put(&to, chunks.data, chunks.len);
    put_end(&to, bytes.data, &content->geometry);
    return bytes;
}

/* ---- reading ---- */

/* For the last image: its file stays open until its pool is destroyed. */
static apr_pool_t *image_pool;

static int section_setup(void **state)
{
    return unit_setup(state) || apr_pool_create(&image_pool, NULL);
}

static int section_teardown(void **state)
{
    apr_pool_destroy(image_pool);
    return unit_teardown(state);
}

/* Read a file with these bytes as an image, for a geometry. The file must not
 * change. */
static slotmem_restore_result_t read_image(unit_place_t *place,
                                           slotmem_image_t *image,
                                           slotmem_geometry_t asked,
                                           bytes_t bytes)
{
    slotmem_restore_result_t result;

    write_file(path_of(place), bytes);
    memset(&result, 0x77, sizeof(result));
    memset(image, 0x77, sizeof(*image));
    apr_pool_clear(image_pool);
    slotmem_restore_image(&result, image, &asked, NULL, path_of(place),
                          image_pool);
    assert_file_is(path_of(place), bytes, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 1);
    return result;
}

static void assert_text(const char *found, apr_size_t len,
                        const char *expected, size_t expected_len)
{
    assert_int_equal(len, expected_len);
    if (len) {
        assert_non_null(found);
        assert_memory_equal(found, expected, len);
    }
}

/* An image has this content, and its section if there is one. */
static void assert_image(const slotmem_restore_result_t *result,
                         const slotmem_image_t *image,
                         const content_t *content)
{
    apr_uint32_t id;

    if (result->outcome != SLOTMEM_RESTORE_DONE) {
        fail_msg("not read: %s (%d)", result->reason, result->status);
    }
    assert_int_equal(result->item_num, content->geometry.item_num);
    assert_int_equal(result->runtime_claims, count_claims(content));
    assert_int_equal(image->segment.geometry.item_num,
                     content->geometry.item_num);
    assert_int_equal(image->segment.geometry.item_size,
                     content->geometry.item_size);
    assert_holds(&image->segment, content, 0);
    assert_int_equal(image->has_section, content->claims != NULL);
    for (id = 0; id < content->geometry.item_num; id++) {
        assert_int_equal(slotmem_bit_test(image->claims, id),
                         content->claims && content->claims[id]);
    }
    assert_text(image->words, image->words_len, content->words,
                content->words_len);
    assert_text(image->labels, image->labels_len, content->labels,
                content->labels_len);
}

/* Restored in both ways, for its own number of slots and for more: the slots,
 * and the claims if `content` has a section. */
static void assert_restores(unit_place_t *place, const content_t *content,
                            bytes_t bytes)
{
    apr_uint32_t more;

    for (more = 0; more < 3; more++) {
        slotmem_geometry_t asked = content->geometry;
        slotmem_restore_result_t result;
        slotmem_segment_t segment;
        slotmem_image_t image;

        asked.item_num += more;
        result = read_image(place, &image, asked, bytes);
        assert_image(&result, &image, content);
        segment = segment_new(place->pool, asked);
        slotmem_restore(&result, &segment, 1, NULL, path_of(place),
                        place->pool);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
        assert_int_equal(result.item_num, content->geometry.item_num);
        assert_int_equal(result.runtime_claims, count_claims(content));
        assert_int_equal(result.file_state.verified, content->claims != NULL);
        assert_holds(&segment, content, 1);
    }
}

/* ---- what comes out ---- */

/* Words and labels of these lengths, if any. */
static const struct {
    size_t words;
    size_t labels;
} lengths[] = {
    { 0, 0 }, { 1, 0 }, { 0, 1 }, { 7, 9 }, { 65536, 3 }, { 200001, 70000 }
};

/* [E11][E12] Words and labels come out of a file as they went in, whatever
 * their bytes; the file has exactly the right length. */
static void test_words_and_labels(void **state)
{
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(lengths); i++) {
        content_t content = section_content(place->pool, 24, 70);
        slotmem_segment_t segment = segment_of(place->pool, &content);
        slotmem_word_t none[2] = { 0, 0 };
        slotmem_store_t store = { .content.segment = &segment,
                                  .path = path_of(place),
                                  .content.config_claims = none };

        set_words(&content, bytes_random(place->pool, lengths[i].words));
        set_labels(&content, bytes_random(place->pool, lengths[i].labels));
        store.content.words = content.words;
        store.content.words_len = content.words_len;
        store.content.labels = content.labels;
        store.content.labels_len = content.labels_len;
        store_now(&store, 1, place->pool);
        assert_int_equal(store.step, SLOTMEM_STEP_NONE);
        assert_file_is(store.path, encode(place->pool, &content), place->pool);
        assert_int_equal(read_file(store.path, place->pool).len,
                         image_end(&content) + 8 + 16 + 70 + 48
                         + (lengths[i].words ? 16 + lengths[i].words : 0)
                         + (lengths[i].labels ? 16 + lengths[i].labels : 0));
        assert_restores(place, &content, encode(place->pool, &content));
    }
}

/* [E12] Unknown chunks are skipped, wherever they are and whatever their bytes.
 * The order of the chunks does not matter. */
static void test_unknown_chunks(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 10, 20);
    apr_pool_t *pool = place->pool;
    const bytes_t known[] = {
        claims_chunk(pool, &content),
        words_chunk(pool, &content),
        labels_chunk(pool, &content)
    };
    const bytes_t unknown[] = {
        chunk(pool, 0, bytes_make(pool, 0)),
        chunk(pool, UINT32_MAX, bytes_random(pool, 100000)),
        chunk(pool, MAGIC, claims_chunk(pool, &content)),
        chunk(pool, TAG_CLAIMS + 1, bytes_make(pool, 20))
    };
    size_t i, k;

    for (i = 0; i < ELEMENTS(unknown); i++) {
        for (k = 0; k < 4 * 3; k++) {
            bytes_t chunks = bytes_make(pool, 0);
            size_t at;

            for (at = 0; at < 3; at++) {
                if (at == k % 4) {
                    chunks = bytes_join(pool, chunks, unknown[i]);
                }
                chunks = bytes_join(pool, chunks, known[(at + k / 4) % 3]);
            }
            if (k % 4 == 3) {
                chunks = bytes_join(pool, chunks, unknown[i]);
            }
            assert_restores(place, &content,
                            with_section(pool, &content, chunks));
        }
    }
}

/* ---- what is trusted ---- */

/* Put bytes into a chunk that make the whole file also start with an image of
 * `num` slots: its MD5 and its description, at the offsets for these. */
static bytes_t with_larger_image(apr_pool_t *pool, const content_t *content,
                                 uint32_t num)
{
    content_t larger = *content;
    size_t start = image_end(content) + SECTION_LEN + 2 * CHUNK_LEN
                   + content->geometry.item_num;
    bytes_t words;
    bytes_t bytes;
    unsigned char *to;
    size_t at;

    larger.geometry.item_num = num;
    at = digest_at(&larger);
    assert_true(at >= start);
    words = bytes_random(pool, at + 40 - start);
    bytes = with_section(pool, content,
                         bytes_join(pool, claims_chunk(pool, content),
                                    chunk(pool, TAG_WORDS, words)));
    to = bytes.data + at;
    put_md5(&to, bytes.data);
    put(&to, &larger.geometry.item_size, sizeof(size_t));
    put(&to, &num, 4);
    put(&to, &larger.geometry.type, 4);
    if (sizeof(size_t) == 4) {
        memset(to, 0, 4);
    }
    digest_again(bytes);
    return bytes;
}

/* [E12] An end that fits is trusted, and nothing else is tried: the file also
 * starts with an image of more slots, and is long enough for it. Without a
 * fitting end that image is the content. */
static void test_end_is_believed(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    bytes_t bytes = with_larger_image(place->pool, &content, 16);
    slotmem_geometry_t asked = content.geometry;
    slotmem_geometry_t found;
    slotmem_restore_result_t result;
    slotmem_segment_t segment;
    slotmem_image_t image;

    for (asked.item_num = 0; asked.item_num < 20; asked.item_num++) {
        unit_faults(0, 0, 0);
        result = read_image(place, &image, asked, bytes);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
        assert_int_equal(result.item_num, 10);
        assert_int_equal(image.has_section, 1);
        assert_holds(&image.segment, &content, 0);
        assert_true(faults.bytes_digested <= bytes.len);
        segment = segment_new(place->pool, asked);
        slotmem_restore(&result, &segment, 1, NULL, path_of(place),
                        place->pool);
        assert_int_equal(result.outcome, asked.item_num < 10
                         ? SLOTMEM_RESTORE_REFUSED : SLOTMEM_RESTORE_DONE);
        assert_holds(&segment, asked.item_num < 10 ? NULL : &content, 1);
    }
    slotmem_identify(&result, &found, path_of(place), place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
    assert_int_equal(found.item_num, 10);

    bytes.data[bytes.len - 1] ^= 1;
    result = read_image(place, &image, asked, bytes);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
    assert_int_equal(result.item_num, 16);
    assert_int_equal(image.has_section, 0);
    slotmem_identify(&result, &found, path_of(place), place->pool);
    assert_int_equal(found.item_num, 16);
}

/* [E12] The end fits but the MD5 of the image does not: nothing else is tried,
 * not even the smaller image within the slots. */
static void test_image_is_damaged(void **state)
{
    unit_place_t *place = *state;
    content_t small = content_make(place->pool, 40, 2, BOTH);
    content_t large = section_content(place->pool, 40, 10);
    slotmem_restore_result_t result;
    slotmem_segment_t segment;
    slotmem_image_t image;
    bytes_t bytes;

    small.claims = NULL;
    bytes = encode_with(place->pool, &small, 10);
    memcpy(large.slots, bytes.data + 8, bytes.len - 8);
    bytes = encode_with(place->pool, &large, 10);
    bytes.data[digest_at(&large)] ^= 1;
    digest_again(bytes);
    result = read_image(place, &image, large.geometry, bytes);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
    assert_non_null(strstr(result.reason, "MD5"));
    segment = segment_new(place->pool, large.geometry);
    slotmem_restore(&result, &segment, 1, NULL, path_of(place), place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
    assert_holds(&segment, NULL, 0);
}

/* A number in the last 48 bytes: its offset there, and its size. */
static const struct {
    size_t at;
    size_t len;
} numbers[] = {
    { 0, 4 }, { 4, 4 }, { 8, 8 }, { 16, 4 }, { 20, 4 }, { 24, 8 }
};

/* Add to such a number. Returns 0 if that leaves it unchanged. */
static int add(unsigned char *at, size_t len, uint64_t change)
{
    uint64_t wide;
    uint32_t narrow;

    if (len == 4) {
        memcpy(&narrow, at, 4);
        narrow += (uint32_t)change;
        memcpy(at, &narrow, 4);
        return (uint32_t)change != 0;
    }
    memcpy(&wide, at, 8);
    wide += change;
    memcpy(at, &wide, 8);
    return 1;
}

static const uint64_t changes[] = {
    1, 2, 3, 15, 16, 63, 64, 0x7fffffff, 0x80000000u, 0xffffffff,
    (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX - 47, UINT64_MAX - 7,
    UINT64_MAX
};

/* [E2][E12] An end with another magic, version, item_size, item_num, type or
 * length, and an MD5 that fits: there is no section. The bytes before it are
 * restored as a file of the distributed module. */
static void test_end_that_lies(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    content_t theirs = without_section(content);
    bytes_t whole = encode(place->pool, &content);
    size_t i, k;

    for (i = 0; i < ELEMENTS(numbers); i++) {
        for (k = 0; k < 2 * ELEMENTS(changes); k++) {
            bytes_t bytes = bytes_copy(place->pool, whole);
            unsigned char *at = bytes.data + bytes.len - 48 + numbers[i].at;
            uint64_t change = k % 2 ? changes[k / 2] : 0 - changes[k / 2];

            if (!add(at, numbers[i].len, change)) {
                continue;
            }
            digest_again(bytes);
            assert_restores(place, &theirs, bytes);
        }
    }
}

/* [E12] An end whose item_size and item_num have a product that wraps, or do
 * not fit the length of the file. */
static void test_end_that_overflows(void **state)
{
    static const struct {
        uint64_t size;
        uint32_t num;
    } cases[] = {
        { 0, UINT32_MAX }, { 1, UINT32_MAX }, { UINT64_MAX, 1 },
        { UINT64_MAX, UINT32_MAX }, { (uint64_t)1 << 63, 2 },
        { ((uint64_t)1 << 62) + 1, 4 }, { (uint64_t)1 << 32, 1u << 31 },
        { 0, 0 }, { 400, 1 }, { 80, 5 }, { 39, 10 }, { 1000, 10 }
    };
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    content_t theirs = without_section(content);
    size_t i;

    for (i = 0; i < ELEMENTS(cases); i++) {
        bytes_t bytes = encode(place->pool, &content);

        memcpy(bytes.data + bytes.len - 40, &cases[i].size, 8);
        memcpy(bytes.data + bytes.len - 32, &cases[i].num, 4);
        digest_again(bytes);
        assert_restores(place, &theirs, bytes);
    }
}

/* [E12] A section without a head, or with one of another version or magic; with
 * chunks of a wrong length, or without their zero; without claims, or with
 * claims of another length: it does not count, whatever else it has. */
static void test_section_that_lies(void **state)
{
    static const uint64_t lengths_that_lie[] = {
        1, 15, 16, 31, 1000, UINT32_MAX, (uint64_t)1 << 32,
        (uint64_t)1 << 63, UINT64_MAX - 15, UINT64_MAX
    };
    unit_place_t *place = *state;
    apr_pool_t *pool = place->pool;
    content_t content = section_content(pool, 40, 10);
    content_t theirs = without_section(content);
    bytes_t image = encode_image(pool, &content);
    bytes_t claims = claims_chunk(pool, &content);
    bytes_t words = words_chunk(pool, &content);
    bytes_t bytes;
    size_t i;

#define NO_SECTION(chunks) \
    assert_restores(place, &theirs, \
                    with_section(pool, &content, (chunks)))

    /* Without claims: no chunks at all, or other chunks. */
    NO_SECTION(bytes_make(pool, 0));
    NO_SECTION(words);
    /* Claims of another length. */
    for (i = 0; i < 24; i++) {
        if (i != 10) {
            bytes = chunk(pool, TAG_CLAIMS, bytes_make(pool, i));
            NO_SECTION(bytes_join(pool, bytes, words));
            NO_SECTION(bytes_join(pool, words, bytes));
            NO_SECTION(bytes_join(pool, claims, bytes));
        }
    }
    /* The last chunk, then the first one, extends past the end. */
    for (i = 0; i < ELEMENTS(lengths_that_lie); i++) {
        bytes = chunk_with(pool, TAG_WORDS, lengths_that_lie[i],
                           bytes_make(pool, 0));
        NO_SECTION(bytes_join(pool, claims, bytes));
        bytes = chunk_with(pool, 7, lengths_that_lie[i], bytes_make(pool, 0));
        NO_SECTION(bytes_join(pool, claims, bytes));
        if (lengths_that_lie[i] > 1000) {
            NO_SECTION(bytes_join(pool, bytes, claims));
        }
        bytes = chunk_with(pool, TAG_CLAIMS, 10 + lengths_that_lie[i],
                           (bytes_t){ content.claims, 10 });
        NO_SECTION(bytes);
    }
    /* Fewer bytes than the head of a chunk. */
    for (i = 1; i < 16; i++) {
        NO_SECTION(bytes_join(pool, claims, bytes_make(pool, i)));
    }
    /* The field that must be 0. */
    for (i = 4; i < 8; i++) {
        bytes = bytes_join(pool, words, claims);
        bytes.data[words.len + i] = 1;
        NO_SECTION(bytes);
        bytes = bytes_join(pool, claims, words);
        bytes.data[claims.len + i] = 1;
        NO_SECTION(bytes);
    }
    /* Another head, with an MD5 that fits. */
    for (i = 0; i < 8; i++) {
        bytes = with_section(pool, &content, bytes_join(pool, claims, words));
        bytes.data[image.len + i] ^= 1;
        digest_again(bytes);
        assert_restores(place, &theirs, bytes);
    }
    /* No head: the end follows the image, or part of a head. */
    for (i = 0; i < 8; i++) {
        bytes = bytes_join(pool, image, bytes_random(pool, i + END_LEN));
        end_again(bytes, &content);
        assert_restores(place, &theirs, bytes);
    }
#undef NO_SECTION
}

/* [E12] Cut anywhere, and with anything appended: no section. */
static void test_section_cut_or_longer(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    content_t theirs = without_section(content);
    bytes_t whole = encode(place->pool, &content);
    bytes_t part = whole;
    size_t i;

    for (part.len = image_end(&content); part.len < whole.len; part.len++) {
        assert_restores(place, &theirs, part);
    }
    assert_restores(place, &content, part);
    for (i = 1; i < 100; i++) {
        assert_restores(place, &theirs,
                        bytes_join(place->pool, whole,
                                   bytes_make(place->pool, i)));
    }
    /* The end twice: the last one is in the wrong place. */
    part = whole;
    part.data += image_end(&content);
    part.len -= image_end(&content);
    assert_restores(place, &theirs, bytes_join(place->pool, whole, part));
}

/* [E12] Each byte of the section changed: no section, as its MD5 does not fit.
 * */
static void test_section_flipped(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    content_t theirs = without_section(content);
    bytes_t bytes = encode(place->pool, &content);
    size_t at;

    for (at = image_end(&content); at < bytes.len; at++) {
        bytes.data[at] ^= 0x81;
        assert_restores(place, &theirs, bytes);
        bytes.data[at] ^= 0x81;
    }
    assert_restores(place, &content, bytes);
}

/* [E12] A section can have 16 MiB besides its claims, and no more. */
static void test_longest_section(void **state)
{
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 40, 10);
    content_t theirs = without_section(content);
    slotmem_restore_result_t result;
    slotmem_geometry_t asked;
    slotmem_image_t image;
    bytes_t bytes;

    content.labels_len = 0;
    set_words(&content, bytes_make(place->pool,
                                   MOST_SECTION - SECTION_LEN - 2 * CHUNK_LEN
                                   - END_LEN));
    assert_restores(place, &content, encode(place->pool, &content));
    set_words(&content, bytes_make(place->pool, content.words_len + 1));
    bytes = encode(place->pool, &content);
    asked = content.geometry;
    result = read_image(place, &image, asked, bytes);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
    asked.item_num++;
    result = read_image(place, &image, asked, bytes);
    assert_image(&result, &image, &theirs);
}

/* ---- any number of slots ---- */

enum form_t { OURS, THEIRS, WITHOUT_DESCRIPTION, FORMS };

/* [E5][E6] An image is read from both modules' files whatever number of slots
 * is requested: fewer, the same and more. A file without a description does not
 * say how many slots it has. */
static void test_any_number(void **state)
{
    static const apr_uint32_t held[] = { 0, 1, 7, 64, 65 };
    static const apr_uint32_t asked[] = { 0, 1, 6, 7, 8, 64, 65, 100 };
    unit_place_t *place = *state;
    size_t i, k;
    int form;

    for (i = 0; i < ELEMENTS(held); i++) {
        for (k = 0; k < ELEMENTS(asked); k++) {
            for (form = OURS; form < FORMS; form++) {
                content_t content = section_content(place->pool, 40, held[i]);
                slotmem_geometry_t geometry = content.geometry;
                slotmem_restore_result_t result;
                slotmem_image_t image;
                bytes_t bytes;

                if (form != OURS) {
                    content = without_section(content);
                }
                bytes = encode(place->pool, &content);
                if (form == WITHOUT_DESCRIPTION) {
                    bytes.len = description_at(&content);
                }
                geometry.item_num = asked[k];
                result = read_image(place, &image, geometry, bytes);
                if (form == WITHOUT_DESCRIPTION && asked[k] != held[i]) {
                    assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
                    assert_non_null(result.reason);
                }
                else {
                    assert_image(&result, &image, &content);
                }
            }
        }
    }
}

/* [E6] Slots of another size or type are not read, whatever their number. */
static void test_other_slots(void **state)
{
    unit_place_t *place = *state;
    int form;

    for (form = OURS; form < WITHOUT_DESCRIPTION; form++) {
        content_t content = section_content(place->pool, 40, 10);
        slotmem_geometry_t asked = content.geometry;
        slotmem_restore_result_t result;
        slotmem_image_t image;
        bytes_t bytes = encode(place->pool, &content);

        if (form == THEIRS) {
            bytes.len = image_end(&content);
        }
        asked.item_size = 41;
        result = read_image(place, &image, asked, bytes);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
        assert_non_null(strstr(result.reason, "found 10 slots of 40 bytes"));
        assert_int_equal(image.has_section, 0);
        assert_null(image.words);
        asked = content.geometry;
        asked.type |= TYPE_PREGRAB;
        result = read_image(place, &image, asked, bytes);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_REFUSED);
        assert_non_null(strstr(result.reason, "type 0x9"));
    }
}

/* [E4] The distributed module stored fewer slots over more: the image is what
 * it stored, and the bytes left over after it do not count. */
static void test_left_over(void **state)
{
    unit_place_t *place = *state;
    content_t large = section_content(place->pool, 40, 10);
    content_t small = without_section(section_content(place->pool, 40, 4));
    bytes_t bytes = encode(place->pool, &large);
    bytes_t image = encode(place->pool, &small);
    slotmem_geometry_t asked = large.geometry;

    memcpy(bytes.data, image.data, image.len);
    for (asked.item_num = 0; asked.item_num < 12; asked.item_num++) {
        slotmem_restore_result_t result;
        slotmem_image_t found;

        result = read_image(place, &found, asked, bytes);
        assert_image(&result, &found, &small);
    }
}

/* [E3] There is no file: nothing is read. */
static void test_no_file(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t asked = unit_geometry(40, 10, BOTH);
    slotmem_restore_result_t result;
    slotmem_image_t image;

    slotmem_restore_image(&result, &image, &asked, NULL, path_of(place),
                          image_pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_NO_FILE);
    assert_int_equal(image.has_section, 0);
    assert_null(image.words);
}

/* [E3] Each call made while reading an image fails once: nothing is read, and a
 * lack of resources is reported as such. */
static void test_fault_at_each_call(void **state)
{
    static const struct {
        apr_status_t status;
        int outcome;
    } cases[] = {
        { EIO, SLOTMEM_RESTORE_REFUSED },
        { APR_EOF, SLOTMEM_RESTORE_REFUSED },
        { EMFILE, SLOTMEM_RESTORE_UNAVAILABLE },
        { ENOMEM, SLOTMEM_RESTORE_UNAVAILABLE }
    };
    unit_place_t *place = *state;
    content_t content = section_content(place->pool, 70000, 3);
    bytes_t bytes = encode(place->pool, &content);
    size_t i;

    for (i = 0; i < ELEMENTS(cases); i++) {
        uint32_t call;

        for (call = 1;; call++) {
            slotmem_geometry_t asked = content.geometry;
            slotmem_restore_result_t result;
            slotmem_image_t image;

            asked.item_num = 2;
            apr_pool_clear(image_pool);
            unit_faults(call, call, cases[i].status);
            result = read_image(place, &image, asked, bytes);
            if (faults.calls < call) {
                assert_image(&result, &image, &content);
                break;
            }
            assert_int_equal(result.outcome, cases[i].outcome);
            assert_int_equal(result.status, cases[i].status);
        }
        assert_true(call > 8);
    }
    unit_faults(0, 0, 0);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, section_setup, section_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_words_and_labels),
        TEST(test_unknown_chunks),
        TEST(test_end_is_believed),
        TEST(test_image_is_damaged),
        TEST(test_end_that_lies),
        TEST(test_end_that_overflows),
        TEST(test_section_that_lies),
        TEST(test_section_cut_or_longer),
        TEST(test_section_flipped),
        TEST(test_longest_section),
        TEST(test_any_number),
        TEST(test_other_slots),
        TEST(test_left_over),
        TEST(test_no_file),
        TEST(test_fault_at_each_call)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

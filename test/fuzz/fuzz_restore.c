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
 * fuzz_restore.c: a libFuzzer target for verify and restore [E3][E4][E5][E12].
 *
 * Input: item_size (u16), item_num (u16), type (u8), flags (u8: 1 with run-time
 * claims, 2 the store has words and labels), and the content of the persisted
 * file. The mutator seals half of its inputs: it corrects the descriptor, the
 * MD5s and the chunks, which it would never guess; or all except one number of
 * the section.
 *
 * For each input: the segment has what the simple implementation reads from the
 * file (slots, in-use flags, run-time claims, zeros after them), or it is all
 * zero; so does an image of any number of slots, with its words and labels; the
 * map grants the lowest free slot; a store writes the right bytes, and does not
 * change memory; the stored file is restored, and not written again.
 *
 * Built with a chunk of 64 bytes, so that small files have many.
 */

#include "fuzz.h"

#include "ap_slotmem.h"
#include "slotmem_store.h"

#define HEAD 6
#define MEMORY_LIMIT ((size_t)1 << 20)

typedef struct input_t {
    fuzz_shape_t shape;
    int with_claims;
    const uint8_t *file;
    size_t len;
    fuzz_bytes_t words;             /* for the store */
    fuzz_bytes_t labels;
} input_t;

static char path[300];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_start();
    snprintf(path, sizeof(path), "%s/f.persist", fuzz_dir);
    return 0;
}

static input_t read_input(const uint8_t *data, size_t size)
{
    input_t input;
    uint16_t number[2];

    memcpy(number, data, 4);
    input.shape.size = number[0];
    input.shape.num = number[1];
    input.shape.type = data[4];
    input.with_claims = data[5] & 1;
    input.file = data + HEAD;
    input.len = size - HEAD;
    memset(&input.words, 0, sizeof(input.words));
    input.labels = input.words;
    if (input.with_claims && (data[5] & 2)) {
        fuzz_take(&input.words, input.file, input.len / 2);
        fuzz_take(&input.labels, input.file + input.len / 3, input.len / 4);
    }
    return input;
}

/* ---- the mutator ---- */

static uint32_t rng;

static uint32_t draw(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 17;
    rng ^= rng << 5;
    return below ? rng % below : 0;
}

/* Change a number of a section, 8 bytes at a random offset, and correct its
 * MD5. / */
static void tell_a_lie(uint8_t *file, size_t section, size_t len)
{
    static const uint64_t lies[] = {
        0, 1, 2, FUZZ_MAGIC, FUZZ_CLAIMS, FUZZ_WORDS, 0x7fffffff, UINT32_MAX,
        (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 15
    };
    size_t at = section + draw((uint32_t)(len - 16 - section - 7));
    uint64_t value = fuzz_u64(file + at);

    value = draw(2) ? lies[draw(sizeof(lies) / sizeof(*lies))]
                    : value + draw(5) - 2;
    memcpy(file + at, &value, draw(2) ? 8 : 4);
    apr_md5(file + len - 16, file, len - 16);
}

/* Use some bytes of a file that has room for them as words and labels. */
static fuzz_bytes_t draw_words(const uint8_t *file, size_t len)
{
    fuzz_bytes_t words = { file, draw(41) };

    if (words.len > len) {
        words.len = 0;
    }
    return words;
}

/* Correct the descriptor, chunks and MD5s for an image of num slots. */
static size_t seal(uint8_t *data, size_t size, size_t max, uint64_t num)
{
    static const fuzz_bytes_t none;
    input_t input = read_input(data, size);
    uint8_t *file = data + HEAD;
    uint64_t at = 8 + input.shape.size * num + num;
    uint64_t end = at + 32;
    uint32_t form = draw(6);
    fuzz_bytes_t words = form > 2 ? draw_words(file, (size_t)at) : none;
    fuzz_bytes_t labels = form > 2 ? draw_words(file, (size_t)at) : none;

    if (form > 1) {
        end += FUZZ_SECTION + FUZZ_CHUNK + num + FUZZ_END
               + (words.len ? FUZZ_CHUNK + words.len : 0)
               + (labels.len ? FUZZ_CHUNK + labels.len : 0);
    }
    if (end + HEAD > max) {
        return size;
    }
    if (end > input.len) {
        memset(data + size, 0, (size_t)end - input.len);
        input.len = (size_t)end;
    }
    else if (draw(8)) {
        input.len = (size_t)end;    /* else other bytes follow it */
    }
    apr_md5(file + at, file, (size_t)at);
    fuzz_describe(file + at + 16, input.shape.size, (uint32_t)num,
                  input.shape.type);
    if (form > 1) {
        fuzz_shape_t shape = { input.shape.size, (uint32_t)num,
                               input.shape.type };

        MUST(fuzz_seal(file, shape, words, labels) == end);
    }
    if (form == 5) {
        tell_a_lie(file, (size_t)at + 32, (size_t)end);
    }
    if (form == 0 && draw(2)) {
        input.len = (size_t)at + 16;
    }
    return HEAD + input.len;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned int seed)
{
    uint32_t num;

    rng = seed | 1;
    if (max < HEAD) {
        return LLVMFuzzerMutate(data, size, max);
    }
    if (size < HEAD || draw(16) == 0) {
        uint16_t number[2] = { (uint16_t)draw(20), (uint16_t)draw(140) };

        memset(data, 0, max < 4096 ? max : 4096);
        memcpy(data, number, 4);
        data[4] = (uint8_t)draw(16);
        data[5] = (uint8_t)draw(4);
        size = HEAD;
    }
    else {
        size = LLVMFuzzerMutate(data, size, max);
    }
    if (size < HEAD || draw(2)) {
        return size;
    }
    num = read_input(data, size).shape.num;
    switch (draw(4)) {
    case 0:
        num = draw(num + 1);
        break;
    case 1:
        num += 1 + draw(3);
        break;
    default:
        break;
    }
    return seal(data, size, max, num);
}

/* ---- the target ---- */

/* The content that the segment should have. */
typedef struct model_t {
    int64_t num;                    /* number of restored slots, or -1 */
    uint8_t *slots;
    uint8_t *used;
    uint32_t claims;
} model_t;

static model_t read_plainly(const input_t *input)
{
    fuzz_shape_t shape = input->shape;
    size_t area = (size_t)shape.size * shape.num;
    model_t model;
    const uint8_t *claims;
    int64_t i;

    memset(&model, 0, sizeof(model));
    model.slots = calloc(1, area + 1);
    model.used = calloc(1, shape.num + 1);
    model.num = fuzz_expected(input->file, input->len, shape, 0);
    if (model.num < 0) {
        return model;
    }
    area = (size_t)(shape.size * (uint64_t)model.num);
    memcpy(model.slots, input->file + 8, area);
    claims = input->with_claims
             ? fuzz_claims(input->file, input->len) : NULL;
    for (i = 0; i < model.num; i++) {
        model.used[i] = input->file[8 + area + (size_t)i] != 0;
        if (claims && claims[i] && !model.used[i]) {
            model.used[i] = 1;
            model.claims++;
        }
    }
    return model;
}

static void compare(slotmem_segment_t *segment, const model_t *model)
{
    uint32_t num = segment->geometry.item_num;
    uint32_t lowest = num;
    uint32_t free_num = 0;
    uint32_t i;

    MUST(memcmp(segment->slots, model->slots, segment->layout.slots_len) == 0);
    for (i = num; i-- > 0; ) {
        MUST(slotmem_map_test(&segment->map, i) == model->used[i]);
        if (!model->used[i]) {
            free_num++;
            lowest = i;
        }
    }
    MUST(slotmem_map_count_free(&segment->map) == free_num);
    MUST(slotmem_map_grab(&segment->map, &i) == (lowest < num));
    MUST(i == lowest);
    if (lowest < num) {
        MUST(slotmem_map_clear(&segment->map, lowest));
    }
}

static int is_same(const char *found, size_t len, fuzz_bytes_t expected)
{
    return len == expected.len
           && (!len || memcmp(found, expected.data, len) == 0);
}

/* Read the file as an image of any number of slots (E6). */
static void check_image(const input_t *input, const slotmem_geometry_t *shape)
{
    int64_t num = fuzz_expected(input->file, input->len, input->shape, 1);
    size_t area = (size_t)(shape->item_size * (uint64_t)(num < 0 ? 0 : num));
    slotmem_restore_result_t result;
    slotmem_image_t image;
    fuzz_chunks_t chunks;
    apr_pool_t *pool;
    int64_t i;
    int has_section = fuzz_read_chunks(input->file, input->len, &chunks);

    apr_pool_create(&pool, NULL);
    slotmem_restore_image(&result, &image, shape, NULL, path, pool);
    if (num < 0) {
        MUST(result.outcome == SLOTMEM_RESTORE_REFUSED && result.reason);
        MUST(!image.has_section && !image.words && !image.labels);
        apr_pool_destroy(pool);
        return;
    }
    MUST(result.outcome == SLOTMEM_RESTORE_DONE);
    MUST(result.item_num == (uint64_t)num);
    MUST(image.segment.geometry.item_num == (uint64_t)num);
    MUST(image.segment.layout.slots_len == area);
    MUST(memcmp(image.segment.slots, input->file + 8, area) == 0);
    MUST(image.has_section == has_section);
    for (i = 0; i < num; i++) {
        MUST(slotmem_map_test(&image.segment.map, (uint32_t)i)
             == (input->file[8 + area + (size_t)i] != 0));
        MUST(slotmem_bit_test(image.claims, (uint32_t)i)
             == (has_section && chunks.claims.data[i]));
    }
    if (has_section) {
        MUST(is_same(image.words, image.words_len, chunks.words));
        MUST(is_same(image.labels, image.labels_len, chunks.labels));
    }
    else {
        MUST(!image.words && !image.words_len);
        MUST(!image.labels && !image.labels_len);
    }
    apr_pool_destroy(pool);
}

static void create(slotmem_segment_t *segment, const slotmem_geometry_t *shape,
                   apr_pool_t *pool)
{
    MUST(slotmem_segment_create(segment, shape, NULL, pool) == APR_SUCCESS);
}

/* Store the restored segment and check the file. Every third slot counts as
 * claimed by the configuration. */
static void store(slotmem_segment_t *segment, const input_t *input,
                  model_t *model, slotmem_restore_result_t *restored,
                  apr_pool_t *pool)
{
    uint32_t num = input->shape.num;
    slotmem_word_t *words = calloc(slotmem_map_words(num) + 1,
                                   sizeof(*words));
    uint8_t *configured = calloc(1, num + 1);
    slotmem_store_t stores;
    uint8_t *expected;
    uint8_t *found;
    size_t expected_len;
    size_t len;
    uint32_t i;

    for (i = 0; i < num; i += 3) {
        configured[i] = 1;
        slotmem_bit_set(words, i);
    }
    memset(&stores, 0, sizeof(stores));
    stores.content.segment = segment;
    stores.path = path;
    stores.content.config_claims = input->with_claims ? words : NULL;
    stores.content.words = (const char *)input->words.data;
    stores.content.words_len = input->words.len;
    stores.content.labels = (const char *)input->labels.data;
    stores.content.labels_len = input->labels.len;
    stores.file_state = restored->file_state;
    stores.set_aside = restored->outcome == SLOTMEM_RESTORE_REFUSED;
    slotmem_store(&stores, 1, NULL, pool);
    MUST(!stores.step && stores.file_state.verified);
    if (restored->outcome == SLOTMEM_RESTORE_REFUSED) {
        MUST(stores.aside && !stores.aside_replaced);
        found = fuzz_read(stores.aside, &len);
        MUST(len == input->len && memcmp(found, input->file, len) == 0);
        free(found);
        unlink(stores.aside);
    }
    compare(segment, model);
    expected = fuzz_encode(input->shape, model->slots, model->used,
                           input->with_claims ? configured : NULL,
                           input->words, input->labels, &expected_len);
    found = fuzz_read(path, &len);
    MUST(len == expected_len && memcmp(found, expected, len) == 0);
    if (stores.unchanged) {
        MUST(len == input->len && memcmp(input->file, found, len) == 0);
    }
    slotmem_store(&stores, 1, NULL, pool);
    MUST(!stores.step && stores.unchanged);
    for (i = 0; input->with_claims && i < num; i++) {
        model->used[i] = model->used[i] && !configured[i];
    }
    free(found);
    free(expected);
    free(configured);
    free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest_fd = fuzz_lowest_fd();
    input_t input;
    slotmem_geometry_t shape;
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    unsigned char header[sizeof(slotmem_header_t)];
    model_t model;
    apr_pool_t *pool;

    if (size < HEAD) {
        return -1;
    }
    input = read_input(data, size);
    if (input.shape.size * input.shape.num > MEMORY_LIMIT) {
        return -1;
    }
    shape.item_size = (apr_size_t)input.shape.size;
    shape.item_num = input.shape.num;
    shape.type = input.shape.type;
    fuzz_write(path, input.file, input.len);
    apr_pool_create(&pool, NULL);
    create(&segment, &shape, pool);
    memcpy(header, segment.header, sizeof(header));

    model = read_plainly(&input);
    slotmem_restore(&result, &segment, input.with_claims, NULL, path, pool);
    MUST(memcmp(header, segment.header, sizeof(header)) == 0);
    MUST(fuzz_lowest_fd() == lowest_fd);
    if (model.num < 0) {
        MUST(result.outcome == SLOTMEM_RESTORE_REFUSED && result.reason);
    }
    else {
        MUST(result.outcome == SLOTMEM_RESTORE_DONE);
        MUST(result.item_num == (uint64_t)model.num);
        MUST(result.runtime_claims == model.claims);
    }
    compare(&segment, &model);
    check_image(&input, &shape);
    store(&segment, &input, &model, &result, pool);

    create(&segment, &shape, pool);
    slotmem_restore(&result, &segment, input.with_claims, NULL, path, pool);
    MUST(result.outcome == SLOTMEM_RESTORE_DONE);
    MUST(result.item_num == input.shape.num);
    compare(&segment, &model);

    apr_pool_destroy(pool);
    MUST(!fuzz_shms);
    MUST(fuzz_lowest_fd() == lowest_fd);
    unlink(path);
    free(model.slots);
    free(model.used);
    return 0;
}

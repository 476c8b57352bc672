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
 * test_map.c: the in-use map in one thread, compared with a simple model.
 */

#include "unit.h"

#include <sys/mman.h>

/* Numbers around each one that adds a word or a level: 16 words have no
 * summary, 16 * 64 words have one level of it, 16 * 64 * 64 words have two. */
static const uint32_t sizes[] = {
    0, 1, 63, 64, 65, 1023, 1024, 1025, 4096, 65536, 65537, 300000
};

/* A map and its model. */
typedef struct pair_t {
    slotmem_map_t map;
    void *memory;               /* exactly the size that the map asks for */
    unsigned char *used;        /* the model: one byte per slot */
    uint32_t num;
    unit_random_t random;
} pair_t;

static void pair_make(pair_t *pair, uint32_t num)
{
    size_t size = slotmem_map_size(num);

    pair->num = num;
    pair->random.state = UINT64_C(0x9e3779b97f4a7c15) + num;
    assert_int_equal(posix_memalign(&pair->memory, 64, size ? size : 1), 0);
    memset(pair->memory, 0, size);
    pair->used = calloc(1, (size_t)num + 1);
    assert_non_null(pair->used);
    slotmem_map_view(&pair->map, pair->memory, num);
}

static void pair_free(pair_t *pair)
{
    free(pair->memory);
    free(pair->used);
}

/* What grab must return, by a linear search. */
static uint32_t lowest(const pair_t *pair)
{
    const unsigned char *found = pair->num ? memchr(pair->used, 0, pair->num)
                                           : NULL;

    return found ? (uint32_t)(found - pair->used) : pair->num;
}

static uint32_t grab(pair_t *pair)
{
    uint32_t expected = lowest(pair);
    uint32_t id = unit_grab(&pair->map);

    assert_int_equal(id, expected);
    if (id < pair->num) {
        pair->used[id] = 1;
    }
    return id;
}

static void set(pair_t *pair, uint32_t id)
{
    assert_int_equal(slotmem_map_set(&pair->map, id), !pair->used[id]);
    pair->used[id] = 1;
}

static void clear(pair_t *pair, uint32_t id)
{
    assert_int_equal(slotmem_map_clear(&pair->map, id), pair->used[id]);
    pair->used[id] = 0;
}

/* Claim or release random slots until this share, in 256ths, is in use. */
static void bring_to(pair_t *pair, uint32_t share)
{
    uint32_t id;

    for (id = 0; id < pair->num; id++) {
        if ((unit_random(&pair->random) & 0xff) < share) {
            set(pair, id);
        }
        else {
            clear(pair, id);
        }
    }
}

static void fill(pair_t *pair)
{
    bring_to(pair, 256);
}

/* Do what a hostile process can: change bits that belong to no slot, or to no
 * word, at every level. */
static void scribble_past_the_end(pair_t *pair)
{
    uint32_t k;

    for (k = 0; k < pair->map.levels; k++) {
        uint32_t words = slotmem_map_words(pair->map.bits[k]);

        if (words) {
            uint64_t junk = (uint64_t)unit_random(&pair->random) << 32
                            | unit_random(&pair->random);

            pair->map.level[k][words - 1] ^=
                (unit_random(&pair->random) & 1 ? UINT64_MAX : junk)
                & ~unit_valid(pair->map.bits[k], words - 1);
        }
    }
}

/* Write every hint of a map, including the bits past the end of a level. */
static void write_hints(pair_t *pair, int value)
{
    uint32_t k;

    for (k = 1; k < pair->map.levels; k++) {
        memset((void *)pair->map.level[k], value,
               slotmem_map_words(pair->map.bits[k]) * sizeof(uint64_t));
    }
}

/* Flip a few random hints. */
static void flip_hints(pair_t *pair)
{
    uint32_t k;

    for (k = 1; k < pair->map.levels; k++) {
        uint32_t bit = unit_below(&pair->random, pair->map.bits[k]);

        pair->map.level[k][bit / 64] ^= UINT64_C(1) << bit % 64;
    }
}

/* Make random calls, and compare each with the model. */
static void churn(pair_t *pair, uint32_t calls, int hostile)
{
    while (calls--) {
        uint32_t what = unit_below(&pair->random, 16);
        uint32_t id = pair->num ? unit_below(&pair->random, pair->num) : 0;

        if (hostile && what < 4) {
            scribble_past_the_end(pair);
        }
        if (what < 7 || pair->num == 0) {
            grab(pair);
        }
        else if (what < 8) {
            set(pair, id);
        }
        else if (what < 14) {
            clear(pair, id);
        }
        else if (what < 15) {
            assert_int_equal(slotmem_map_test(&pair->map, id), pair->used[id]);
        }
        else {
            const unsigned char *next = memchr(pair->used + id, 1,
                                               pair->num - id);

            assert_int_equal(slotmem_map_next(&pair->map, id),
                             next ? (uint32_t)(next - pair->used)
                                   : pair->num);
        }
    }
    assert_int_equal(unit_walk(&pair->map, pair->used), 0);
}

/* Nearly empty, half full, nearly full (a word fills and empties all the time),
 * and completely full. */
static void churn_at_every_share(uint32_t num, int hostile)
{
    static const uint32_t shares[] = { 0, 128, 250, 256 };
    uint32_t calls = num > 100000 ? 5000 : 20000;
    pair_t pair;
    size_t i;

    pair_make(&pair, num);
    for (i = 0; i < ELEMENTS(shares); i++) {
        bring_to(&pair, shares[i]);
        assert_int_equal(unit_walk(&pair.map, pair.used), 0);
        churn(&pair, calls, hostile);
    }
    pair_free(&pair);
}

/* [D6][D7][D9] grab returns the lowest free id, or the number of slots if there
 * is none; set, clear, test, next and the count agree with the model. */
static void test_model(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        churn_at_every_share(sizes[i], 0);
    }
}

/* [D6][D7][D9] The same with four levels and nearly full: words of each level
 * fill and empty. */
static void test_model_four_levels(void **state)
{
    pair_t pair;

    (void)state;
    pair_make(&pair, 4194305);
    fill(&pair);
    churn(&pair, 1000, 0);
    pair_free(&pair);
}

/* [D6][D11] Junk past the last slot, or past the last hint, in shared memory
 * never becomes an id, is never counted, and is never copied. */
static void test_junk_past_the_end(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        churn_at_every_share(sizes[i], 1);
    }
}

/* [D1] The levels are those in the diagram of slotmem_map.h; they are adjacent
 * and take as many bytes as the map says. */
static void test_levels(void **state)
{
    static const struct {
        uint32_t num;
        uint32_t levels;
        size_t size;
    } expected[] = {
        { 0, 1, 0 },
        { 1, 1, 8 },
        { 64, 1, 8 },
        { 65, 1, 16 },
        { 1024, 1, 16 * 8 },
        { 1025, 2, (1 + 17 + 1) * 8 },
        { 65536, 2, (1 + 1024 + 16) * 8 },
        { 65537, 3, (1 + 1025 + 17 + 1) * 8 },
        { 4194304, 3, (3 + 65536 + 1024 + 16) * 8 },
        { 4194305, 4, (3 + 65537 + 1025 + 17 + 1) * 8 },
        { UINT32_MAX, 5,
          (2049 + 67108864 + 1048576 + 16384 + 256 + 4) * 8 }
    };
    static _Atomic uint64_t base[1];
    slotmem_map_t map;
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(expected); i++) {
        _Atomic uint64_t *next = base;
        uint32_t k;

        slotmem_map_view(&map, base, expected[i].num);
        assert_int_equal(map.num, expected[i].num);
        assert_int_equal(map.levels, expected[i].levels);
        assert_int_equal(slotmem_map_size(expected[i].num), expected[i].size);
        if (map.levels > 1) {
            assert_ptr_equal(map.touched, base);
            next = map.level[0];
            assert_true(next > base);
        }
        else {
            assert_null((void *)map.touched);
        }
        for (k = 0; k < map.levels; k++) {
            assert_ptr_equal(map.level[k], next);
            next += slotmem_map_words(map.bits[k]);
        }
        assert_int_equal((char *)next - (char *)base, expected[i].size);
        assert_true(slotmem_map_words(map.bits[map.levels - 1])
                    <= SLOTMEM_MAP_PLAIN_WORDS);
    }
}

/* The pages of a range of shared memory that exist. */
static size_t pages_of(void *memory, size_t len)
{
    size_t pages = len / (size_t)getpagesize();
    unsigned char *in_core = malloc(pages);
    size_t count = 0;
    size_t i;

    assert_non_null(in_core);
    assert_int_equal(mincore(memory, len, in_core), 0);
    for (i = 0; i < pages; i++) {
        count += in_core[i] & 1;
    }
    free(in_core);
    return count;
}

static void *shared(size_t *len)
{
    size_t page = (size_t)getpagesize();
    void *memory;

    *len = (*len + page - 1) / page * page;
    memory = mmap(NULL, *len, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* [D1][D9] Counting, searching and copying read no page of shared memory that
 * was never written, except the notes about written pages. Claims in a page,
 * made in either way, are counted wherever the map starts in its page. */
static void test_untouched_pages(void **state)
{
    enum { NUM = 1 << 24, LEN = NUM / 8 };  /* level 0: 2 MiB */
    static const size_t places[] = { 0, 64, 128, 4088, 4096 };
    uint32_t size = LEN / (uint32_t)getpagesize();
    uint64_t *copy = malloc(LEN);
    size_t i;

    (void)state;
    assert_non_null(copy);
    for (i = 0; i < ELEMENTS(places); i++) {
        size_t len = slotmem_map_size(NUM) + places[i];
        char *memory = shared(&len);
        uint32_t used = 0;
        slotmem_map_t map;
        size_t pages;
        uint32_t id;

        slotmem_map_view(&map, memory + places[i], NUM);
        assert_int_equal(slotmem_map_count_free(&map), NUM);
        assert_int_equal(slotmem_map_next(&map, 0), NUM);
        slotmem_map_copy(&map, copy);
        assert_true(pages_of(memory, len) <= 2);
        for (id = 77; id < NUM; id += NUM / 9) {
            assert_int_equal(slotmem_map_set(&map, id), 1);
            used++;
        }
        assert_int_equal(unit_grab(&map), 0);
        assert_int_equal(slotmem_map_set(&map, NUM - 1), 1);
        pages = pages_of(memory, len);
        assert_true(pages < size / 4);
        assert_int_equal(slotmem_map_count_free(&map), NUM - used - 2);
        assert_int_equal(slotmem_map_next(&map, 78), 77 + NUM / 9);
        assert_int_equal(slotmem_map_next(&map, NUM - 1), NUM - 1);
        memset(copy, 0xee, LEN);
        slotmem_map_copy(&map, copy);
        for (id = 0; id < NUM; id++) {
            assert_int_equal(slotmem_bit_test(copy, id),
                             !id || id == NUM - 1 || id % (NUM / 9) == 77);
        }
        assert_int_equal(pages_of(memory, len), pages);
        munmap(memory, len);
    }
    free(copy);
}

/* [D1][D9] Looking at the largest segment needs hardly any memory. */
static void test_count_largest(void **state)
{
    size_t len = slotmem_map_size(UINT32_MAX);
    char *memory = shared(&len);
    slotmem_map_t map;

    (void)state;
    slotmem_map_view(&map, memory, UINT32_MAX);
    assert_int_equal(slotmem_map_count_free(&map), UINT32_MAX);
    assert_true(pages_of(memory, len) <= 5);
    assert_int_equal(slotmem_map_set(&map, UINT32_MAX - 1), 1);
    assert_int_equal(slotmem_map_count_free(&map), UINT32_MAX - 1);
    assert_true(pages_of(memory, len) <= 10);
    munmap(memory, len);
}

/* [D6][D7] Set and clear say whether they changed the slot. A second call of
 * either writes nothing: it works on read-only memory. */
static void test_second_call_writes_nothing(void **state)
{
    size_t len = 65536;
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    slotmem_map_t map;

    (void)state;
    assert_true(memory != MAP_FAILED);
    slotmem_map_view(&map, memory, 4096);
    assert_int_equal(slotmem_map_set(&map, 77), 1);
    assert_int_equal(mprotect(memory, len, PROT_READ), 0);
    assert_int_equal(slotmem_map_set(&map, 77), 0);
    assert_int_equal(slotmem_map_test(&map, 77), 1);
    assert_int_equal(slotmem_map_clear(&map, 78), 0);
    assert_int_equal(slotmem_map_next(&map, 0), 77);
    assert_int_equal(slotmem_map_count_free(&map), 4095);
    assert_int_equal(mprotect(memory, len, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(slotmem_map_clear(&map, 77), 1);
    assert_int_equal(slotmem_map_clear(&map, 77), 0);
    munmap(memory, len);
}

/* [D6] A claim that fills a word, whether a grab or by id, sets the hint above
 * it, and so on upwards as long as that fills a word. */
static void test_hints_when_filled(void **state)
{
    enum { NUM = 70000 };
    uint64_t *memory = calloc(1, slotmem_map_size(NUM));
    slotmem_map_t map;
    uint32_t id;

    (void)state;
    assert_non_null(memory);
    slotmem_map_view(&map, memory, NUM);
    assert_int_equal(map.levels, 3);
    for (id = 0; id < NUM; id++) {
        uint32_t word = id / 64;

        if (word % 2) {
            assert_int_equal(unit_grab(&map), id);
        }
        else {
            assert_int_equal(slotmem_map_set(&map, id), 1);
        }
        if (id % 64 < 63 && id + 1 < NUM) {
            continue;
        }
        assert_int_equal(map.level[1][word / 64] >> word % 64, 1);
        if (word % 64 == 63) {
            assert_int_equal(map.level[2][0] >> word / 64, 1);
        }
    }
    free(memory);
}

/* A full map stays full, however often grab is called; a released slot is the
 * next one granted. */
static void check_full(pair_t *pair)
{
    uint32_t i;

    for (i = 0; i < 3; i++) {
        assert_int_equal(unit_grab(&pair->map), pair->num);
    }
    assert_int_equal(slotmem_map_count_free(&pair->map), 0);
    for (i = 0; i < 100 && pair->num; i++) {
        uint32_t id = i == 0 ? pair->num - 1
                             : unit_below(&pair->random, pair->num);

        clear(pair, id);
        assert_int_equal(slotmem_map_count_free(&pair->map), 1);
        assert_int_equal(grab(pair), id);
        assert_int_equal(unit_grab(&pair->map), pair->num);
    }
}

/* [D6][D7][D9] Grabs grant every id in order, until the map is full. */
static void test_full(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        pair_t pair;
        uint32_t id;

        pair_make(&pair, sizes[i]);
        for (id = 0; id < pair.num; id++) {
            if (unit_grab(&pair.map) != id) {
                fail_msg("%u slots: slot %u was not granted", pair.num, id);
            }
            pair.used[id] = 1;
        }
        check_full(&pair);
        assert_int_equal(unit_walk(&pair.map, pair.used), 0);
        pair_free(&pair);
    }
}

/* [D8] The search for slots in use can start at any id, including the last one
 * and the one after it, and misses no slot. */
static void test_next(void **state)
{
    pair_t pair;
    uint32_t from;

    (void)state;
    pair_make(&pair, 200);
    for (from = 0; from <= 200; from++) {
        assert_int_equal(slotmem_map_next(&pair.map, from), 200);
    }
    set(&pair, 0);
    set(&pair, 63);
    set(&pair, 64);
    set(&pair, 199);
    assert_int_equal(slotmem_map_next(&pair.map, 0), 0);
    assert_int_equal(slotmem_map_next(&pair.map, 1), 63);
    assert_int_equal(slotmem_map_next(&pair.map, 63), 63);
    assert_int_equal(slotmem_map_next(&pair.map, 64), 64);
    assert_int_equal(slotmem_map_next(&pair.map, 65), 199);
    assert_int_equal(slotmem_map_next(&pair.map, 199), 199);
    assert_int_equal(slotmem_map_next(&pair.map, 200), 200);
    pair_free(&pair);
}

/* [E1] A copy, as a store makes it, writes the words of the slots and no more.
 * */
static void test_copy_stays_in_its_words(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        uint32_t words = slotmem_map_words(sizes[i]);
        uint64_t *copy = malloc((words + 1) * sizeof(*copy));
        pair_t pair;

        assert_non_null(copy);
        copy[words] = UINT64_C(0x5a5a5a5a5a5a5a5a);
        pair_make(&pair, sizes[i]);
        fill(&pair);
        slotmem_map_copy(&pair.map, copy);
        assert_int_equal(copy[words], UINT64_C(0x5a5a5a5a5a5a5a5a));
        pair_free(&pair);
        free(copy);
    }
}

/* [D6][D11] Missing hints, as a killed process may leave them: every answer is
 * right, and the searches correct the hints. */
static void test_hints_too_low(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        pair_t pair;
        uint32_t round;

        pair_make(&pair, sizes[i]);
        fill(&pair);
        for (round = 0; round < 20; round++) {
            write_hints(&pair, 0);
            if (pair.num) {
                clear(&pair, unit_below(&pair.random, pair.num));
            }
            grab(&pair);
            write_hints(&pair, 0);
            assert_int_equal(grab(&pair), pair.num);
            if (pair.map.levels > 1) {
                assert_int_equal(pair.map.level[1][0],
                                 unit_valid(pair.map.bits[1], 0));
            }
        }
        churn(&pair, 200, 0);
        pair_free(&pair);
    }
}

/* Grab until the map is full: each free slot is granted once. */
static void drain(pair_t *pair)
{
    uint32_t left = slotmem_map_count_free(&pair->map);

    for (; left; left--) {
        uint32_t id = unit_grab(&pair->map);

        if (id >= pair->num || pair->used[id]) {
            fail_msg("%u slots, %u free: grab says %u", pair->num, left, id);
        }
        pair->used[id] = 1;
    }
    assert_int_equal(unit_grab(&pair->map), pair->num);
    assert_int_equal(lowest(pair), pair->num);
}

/* [D6][D11] Hints that say "full" although slots are free: grab never says full
 * before the whole map is, and grants every slot once. */
static void test_hints_stale_full(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(sizes); i++) {
        pair_t pair;

        pair_make(&pair, sizes[i]);
        write_hints(&pair, 0xff);
        drain(&pair);
        assert_int_equal(unit_walk(&pair.map, pair.used), 0);
        bring_to(&pair, 200);
        write_hints(&pair, 0xff);
        drain(&pair);
        assert_int_equal(unit_walk(&pair.map, pair.used), 0);
        pair_free(&pair);
    }
}

/* [D11] A stale hint hides a word: grabs skip it until a release in that word
 * corrects the hint. */
static void test_release_heals(void **state)
{
    pair_t pair;

    (void)state;
    pair_make(&pair, 65537);
    set(&pair, 130);
    pair.map.level[1][0] |= UINT64_C(1) << 2;   /* word 2: ids 128 to 191 */
    pair.map.level[2][0] |= 1;                  /* words 0 to 63 */
    assert_int_equal(unit_walk(&pair.map, pair.used), 2);
    assert_int_equal(unit_grab(&pair.map), 64 * 64);
    pair.used[64 * 64] = 1;
    clear(&pair, 130);
    assert_int_equal(unit_walk(&pair.map, pair.used), 0);
    for (uint32_t id = 0; id < 200; id++) {
        assert_int_equal(grab(&pair), id);
    }
    pair_free(&pair);
}

/* [D6][D11] Hints that are wrong in any way, at any time: no slot is granted
 * twice, none is withheld in the end, and an emptied map is in order. */
static void test_hints_at_random(void **state)
{
    static const uint32_t summarised[] = { 1025, 4096, 65537, 300000 };
    size_t i;

    (void)state;
    for (i = 0; i < ELEMENTS(summarised); i++) {
        pair_t pair;
        uint32_t call;

        pair_make(&pair, summarised[i]);
        bring_to(&pair, 250);
        for (call = 0; call < 3000; call++) {
            flip_hints(&pair);
            if (unit_random(&pair.random) & 1) {
                uint32_t id = unit_grab(&pair.map);

                assert_true(id < pair.num ? !pair.used[id]
                                          : lowest(&pair) == pair.num);
                pair.used[id] = id < pair.num;
            }
            else {
                clear(&pair, unit_below(&pair.random, pair.num));
            }
        }
        drain(&pair);
        assert_int_equal(unit_walk(&pair.map, pair.used), 0);
        pair_free(&pair);
    }
}

/* [D6] The largest possible number of slots: the last id is granted, and an
 * untouched map needs no memory except for the hints that this test writes. */
static void test_largest(void **state)
{
    size_t size = slotmem_map_size(UINT32_MAX);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint32_t last = UINT32_MAX - 1;
    slotmem_map_t map;
    uint32_t word;
    uint32_t i;
    uint32_t k;

    (void)state;
    assert_true(memory != MAP_FAILED);
    slotmem_map_view(&map, memory, UINT32_MAX);
    assert_int_equal(unit_grab(&map), 0);
    assert_int_equal(slotmem_map_set(&map, last), 1);
    assert_int_equal(slotmem_map_test(&map, last), 1);
    assert_int_equal(slotmem_map_clear(&map, last), 1);
    assert_int_equal(slotmem_map_next(&map, last - 1000), UINT32_MAX);

    /* The hints leave only the last word to search. */
    word = last;
    for (k = 1; k < map.levels; k++) {
        memset((void *)map.level[k], 0xff,
               slotmem_map_words(map.bits[k]) * sizeof(uint64_t));
        word /= 64;
        map.level[k][word / 64] &= ~(UINT64_C(1) << word % 64);
    }
    for (i = 0; i < 63; i++) {
        assert_int_equal(unit_grab(&map), UINT32_MAX - 63 + i);
    }
    assert_int_equal(unit_grab(&map), 1);
    munmap(memory, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_untouched_pages),
        cmocka_unit_test(test_count_largest),
        cmocka_unit_test(test_second_call_writes_nothing),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_copy_stays_in_its_words),
        cmocka_unit_test(test_hints_when_filled),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_model_four_levels),
        cmocka_unit_test(test_junk_past_the_end),
        cmocka_unit_test(test_hints_too_low),
        cmocka_unit_test(test_hints_stale_full),
        cmocka_unit_test(test_release_heals),
        cmocka_unit_test(test_hints_at_random),
        cmocka_unit_test(test_largest)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

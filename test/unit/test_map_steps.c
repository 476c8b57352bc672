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
 * test_map_steps.c: calls of the in-use map that are interrupted by others, or
 * killed, before each of their accesses to shared memory.
 *
 * The map is compiled into this file with a hook before each atomic operation.
 * At chosen accesses of the first call the hook makes up to two complete calls
 * of "other processes". To kill the first call it ends it by longjmp: the steps
 * so far stay in memory, as those of a killed process do.
 *
 * The calls aim at one word. This word and those around it have at most one
 * free slot, so that each call touches the hints.
 */

#include <stdatomic.h>
#include <stdint.h>

#define UNUSED __attribute__((unused))

static void access_point(void);

UNUSED static inline uint64_t real_load(const _Atomic uint64_t *word)
{
    return atomic_load(word);
}

UNUSED static inline uint64_t real_or(_Atomic uint64_t *word, uint64_t bits)
{
    return atomic_fetch_or(word, bits);
}

UNUSED static inline uint64_t real_and(_Atomic uint64_t *word, uint64_t bits)
{
    return atomic_fetch_and(word, bits);
}

UNUSED static inline int real_exchange(_Atomic uint64_t *word, uint64_t *seen,
                                       uint64_t bits)
{
    return atomic_compare_exchange_strong(word, seen, bits);
}

UNUSED static inline void real_store(_Atomic uint64_t *word, uint64_t bits)
{
    atomic_store(word, bits);
}

#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_fetch_or
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak(word, seen, bits) \
    (access_point(), real_exchange(word, seen, bits))
#define atomic_compare_exchange_weak_explicit(word, seen, bits, won, lost) \
    atomic_compare_exchange_weak(word, seen, bits)
#define atomic_load(word) (access_point(), real_load(word))
#define atomic_load_explicit(word, order) atomic_load(word)
#define atomic_store(word, bits) (access_point(), real_store(word, bits))
#define atomic_store_explicit(word, bits, order) atomic_store(word, bits)
#define atomic_fetch_or(word, bits) (access_point(), real_or(word, bits))
#define atomic_fetch_or_explicit(word, bits, order) atomic_fetch_or(word, bits)
#define atomic_fetch_and(word, bits) (access_point(), real_and(word, bits))
#define atomic_fetch_and_explicit(word, bits, order) \
    atomic_fetch_and(word, bits)

#include "slotmem_map.c"

#include "unit.h"

typedef struct act_t {
    enum { NOTHING, GRAB, SET, CLEAR } call;
    uint32_t id;                /* for SET and CLEAR */
    uint32_t at;                /* access of the first call; 0: is the first */
    uint32_t result;            /* NONE: not called, or did not return */
} act_t;

#define NONE        UINT32_MAX
#define NEVER       UINT32_MAX
#define WORD        2           /* the calls aim at it: slots 128 to 191 */
#define HOLE        130         /* the slot in it that may be free */
#define WORDS       1100        /* enough for the maps here */

/* A grab looks at each word before it says full, which would take too long
 * here. So a map with more slots than this has free ones at its end. */
#define MANY_SLOTS  10000
#define SPARE       3u

typedef struct scene_t {
    slotmem_map_t map;
    _Atomic uint64_t memory[WORDS];
    uint64_t before[WORDS];     /* the memory before the calls */
    uint64_t expected[WORDS];
    act_t acts[3];              /* the others interrupt the first */
    uint32_t kill_at;           /* access of the first call, or NEVER */
    uint32_t accesses;          /* of the first call so far */
    uint32_t least_free;        /* lowest number free at any moment */
    int hooked;                 /* the first call is running */
    jmp_buf killed;
    /* totals of all runs */
    uint64_t runs;
    uint64_t stale_by_release;  /* kills that left a stale hint */
    uint64_t stale_by_claim;
} scene_t;

static scene_t scene;

static uint32_t perform(act_t act)
{
    switch (act.call) {
    case GRAB:
        return unit_grab(&scene.map);
    case SET:
        return (uint32_t)slotmem_map_set(&scene.map, act.id);
    case CLEAR:
        return (uint32_t)slotmem_map_clear(&scene.map, act.id);
    default:
        return 0;
    }
}

static void note_free(void)
{
    uint32_t num_free = slotmem_map_count_free(&scene.map);

    if (num_free < scene.least_free) {
        scene.least_free = num_free;
    }
}

/* A complete call of another process. Its grab says full if and only if no slot
 * is free, whatever the first call has not finished. */
static void interrupt(act_t *act)
{
    uint32_t num_free = slotmem_map_count_free(&scene.map);

    act->result = perform(*act);
    if (act->call == GRAB) {
        assert_int_equal(act->result < scene.map.num, num_free > 0);
    }
    note_free();
}

static void access_point(void)
{
    size_t i;

    if (!scene.hooked) {
        return;
    }
    scene.hooked = 0;
    scene.accesses++;
    for (i = 1; i < ELEMENTS(scene.acts); i++) {
        if (scene.acts[i].at == scene.accesses) {
            interrupt(&scene.acts[i]);
        }
    }
    if (scene.kill_at == scene.accesses) {
        longjmp(scene.killed, 1);
    }
    scene.hooked = 1;
}

/* Level 0 in one of the copies of the memory. */
static uint64_t *slots_of(uint64_t *memory)
{
    return memory + (scene.map.level[0] - scene.memory);
}

/* The change that a call made to a slot: 1, 0 or -1. */
static int change(const act_t *act, uint32_t id)
{
    if (act->result == NONE) {
        return 0;
    }
    if (act->call == GRAB) {
        return act->result == id && id < scene.map.num;
    }
    return act->id != id || !act->result ? 0
           : act->call == SET ? 1 : act->call == CLEAR ? -1 : 0;
}

/* Compute a slot's state from the results of the calls. The result is neither 0
 * nor 1 for a slot that was granted, or released, once too often. */
static void expect(uint32_t id)
{
    int state;
    size_t i;

    if (id >= scene.map.num) {
        return;
    }
    state = slotmem_bit_test(slots_of(scene.before), id);
    for (i = 0; i < ELEMENTS(scene.acts); i++) {
        state += change(&scene.acts[i], id);
    }
    /* A killed call may or may not have had its effect. */
    if (scene.kill_at != NEVER) {
        int found = slotmem_map_test(&scene.map, id);
        const act_t *first = &scene.acts[0];

        if (state != found && (first->call == GRAB || first->id == id)) {
            state += first->call == CLEAR ? -1 : 1;
        }
    }
    if (state != 0 && state != 1) {
        fail_msg("slot %u: %d owners; %u slots, calls %d %d %d at 0 %u %u, "
                 "kill at %u", id, state, scene.map.num, scene.acts[0].call,
                 scene.acts[1].call, scene.acts[2].call, scene.acts[1].at,
                 scene.acts[2].at, scene.kill_at);
    }
    slots_of(scene.expected)[id / 64] &= ~(UINT64_C(1) << id % 64);
    slots_of(scene.expected)[id / 64] |= (uint64_t)state << id % 64;
}

/* The slots agree with the results. */
static void check_slots(void)
{
    size_t words = slotmem_map_words(scene.map.num)
                   + (size_t)(scene.map.level[0] - scene.memory);
    uint32_t id;
    size_t i;

    memcpy(scene.expected, scene.before, words * sizeof(uint64_t));
    for (id = WORD * 64; id < WORD * 64 + 64; id++) {
        expect(id);
    }
    for (id = scene.map.num - SPARE; id < scene.map.num; id++) {
        expect(id);
    }
    for (i = 0; i < ELEMENTS(scene.acts); i++) {
        if (scene.acts[i].call == GRAB && scene.acts[i].result != NONE) {
            expect(scene.acts[i].result);
        }
    }
    assert_memory_equal(scene.memory, scene.expected,
                        words * sizeof(uint64_t));
}

static uint32_t stale_hints(void)
{
    uint64_t words[WORDS];

    slotmem_map_copy(&scene.map, words);
    return unit_stale_hints(&scene.map, words);
}

/* Every free slot is granted once, then the map is full; no hint is stale. */
static void drain(void)
{
    uint32_t left = slotmem_map_count_free(&scene.map);

    for (; left; left--) {
        assert_true(unit_grab(&scene.map) < scene.map.num);
    }
    assert_int_equal(unit_grab(&scene.map), scene.map.num);
    assert_int_equal(slotmem_map_count_free(&scene.map), 0);
    assert_int_equal(stale_hints(), 0);
}

static void check_killed(void)
{
    uint64_t copy[WORDS];
    size_t len = slotmem_map_size(scene.map.num);

    if (!stale_hints()) {
        return;
    }
    /* A kill alone must not do that. */
    assert_true(scene.acts[1].call != NOTHING
                || scene.acts[2].call != NOTHING);
    if (scene.acts[0].call == CLEAR) {
        scene.stale_by_release++;
    }
    else {
        scene.stale_by_claim++;
    }
    memcpy(copy, scene.memory, len);
    drain();
    /* Another release in the word corrects the hint. */
    memcpy(scene.memory, copy, len);
    assert_int_equal(slotmem_map_clear(&scene.map, WORD * 64 + 40), 1);
    assert_int_equal(stale_hints(), 0);
}

static void check_returned(void)
{
    const act_t *first = &scene.acts[0];

    if (first->call == GRAB && first->result >= scene.map.num) {
        assert_int_equal(first->result, scene.map.num);
        assert_int_equal(scene.least_free, 0);
    }
    assert_int_equal(stale_hints(), 0);
}

/* Returns 0 if the first call made too few accesses for this plan. */
static int run(uint32_t at_second, uint32_t at_third, uint32_t kill_at)
{
    memcpy(scene.memory, scene.before, slotmem_map_size(scene.map.num));
    scene.acts[0].result = scene.acts[1].result = scene.acts[2].result = NONE;
    scene.acts[1].at = at_second;
    scene.acts[2].at = at_third;
    scene.kill_at = kill_at;
    scene.accesses = 0;
    scene.least_free = UINT32_MAX;
    note_free();
    scene.runs++;
    if (setjmp(scene.killed) == 0) {
        scene.hooked = 1;
        scene.acts[0].result = perform(scene.acts[0]);
        scene.hooked = 0;
        if (scene.accesses < at_second || scene.accesses < at_third
            || kill_at != NEVER) {
            return 0;
        }
        check_slots();
        check_returned();
        return 1;
    }
    check_slots();
    check_killed();
    return 1;
}

/* The second call is made at every access, the third at every later one, and
 * the kill at every access after both. */
static void run_all(void)
{
    int has_third = scene.acts[2].call != NOTHING;
    uint32_t second;
    uint32_t third;
    uint32_t kill_at;

    for (second = 1; run(second, second, NEVER); second++) {
        for (third = second; run(second, third, NEVER); third++) {
            for (kill_at = third; run(second, third, kill_at); kill_at++) {
            }
            if (!has_third) {
                break;
            }
        }
    }
    assert_true(second > 1);
}

static void scene_make(uint32_t num, int with_hole)
{
    uint32_t id;

    memset(&scene, 0, sizeof(scene));
    slotmem_map_view(&scene.map, scene.memory, num);
    assert_true(slotmem_map_size(num) <= sizeof(scene.memory));
    for (id = 0; id < num; id++) {
        if ((id != HOLE || !with_hole)
            && (num < MANY_SLOTS || id < num - SPARE)) {
            slotmem_map_set(&scene.map, id);
        }
    }
    memcpy(scene.before, scene.memory, slotmem_map_size(num));
}

/* Each call, interrupted by each pair of calls. */
static void check_calls(uint32_t num, int with_hole)
{
    const act_t calls[] = {
        { NOTHING, 0, 0, 0 }, { GRAB, 0, 0, 0 }, { SET, HOLE, 0, 0 },
        { CLEAR, HOLE, 0, 0 }, { CLEAR, HOLE + 1, 0, 0 }
    };
    size_t i;
    size_t k;
    size_t m;

    scene_make(num, with_hole);
    for (i = 1; i < ELEMENTS(calls); i++) {
        for (k = 0; k < ELEMENTS(calls); k++) {
            for (m = 0; m < ELEMENTS(calls); m++) {
                scene.acts[0] = calls[i];
                scene.acts[1] = calls[k];
                scene.acts[2] = calls[m];
                run_all();
            }
        }
    }
    printf("steps: %u slots, %d free in the word: %llu runs; stale hints left "
           "by %llu kills in a release, %llu in a claim\n", num, with_hole,
           (unsigned long long)scene.runs,
           (unsigned long long)scene.stale_by_release,
           (unsigned long long)scene.stale_by_claim);
}

/* [D6][D7][D11] No hints. */
static void test_plain(void **state)
{
    (void)state;
    check_calls(192, 1);
    check_calls(192, 0);
}

/* [D6][D7][D11] One summary level. */
static void test_one_summary(void **state)
{
    (void)state;
    check_calls(1088, 1);
    check_calls(1088, 0);
}

/* [D6][D7][D11] Two summary levels: fills and releases update both. */
static void test_two_summaries(void **state)
{
    (void)state;
    check_calls(65600, 1);
    check_calls(65600, 0);
}

#if defined(__x86_64__) && !defined(__POPCNT__)
/* [D9] Both ways to count agree for any number of slots. */
static void test_counts(void **state)
{
    static const uint32_t nums[] = { 0, 1, 63, 64, 65, 255, 256, 1000, 70000 };
    size_t i;
    uint32_t k;

    (void)state;
    if (!__builtin_cpu_supports("popcnt")) {
        skip();
    }
    for (i = 0; i < ELEMENTS(nums); i++) {
        for (k = 0; k < WORDS; k++) {
            scene.memory[k] = k * 0x9e3779b97f4a7c15u;
        }
        assert_int_equal(free_in_baseline(scene.memory, nums[i]),
                         free_in_popcnt(scene.memory, nums[i]));
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__) && !defined(__POPCNT__)
        cmocka_unit_test(test_counts),
#endif
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_one_summary),
        cmocka_unit_test(test_two_summaries)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
 * stress_map_kill.c: processes that grab and release slots of one map in shared
 * memory, and are killed at any instruction.
 *
 * Each slot has an owner word beside the map. A worker sets it from 0 to its
 * own number after a grab, and clears it before the release. A worker that
 * finds it already set was granted a slot that has an owner. A slot that is in
 * use and has no owner is the result of a kill between the two steps; each kill
 * can leave one.
 *
 * Resident slots stay in use from start to end, so that few slots are free and
 * words fill and empty all the time.
 */

#include "unit.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define WORKERS         4
#define HELD            6       /* maximum of slots that a worker holds */
#define KILLS_A_ROUND   40
#define SECONDS         1.8     /* per number of slots */
#define RESIDENT        1u      /* owner: in use from start to end */

/* Shared memory. */
typedef struct shared_t {
    _Atomic uint64_t grants;
    _Atomic uint64_t double_grants;
    _Atomic uint64_t bad_answers;
    _Atomic uint32_t owner[];   /* one per slot: a worker's number, or 0 */
} shared_t;

/* The parent's own memory. */
typedef struct arena_t {
    slotmem_map_t map;          /* in shared memory */
    shared_t *shared;
    unit_random_t random;
    pid_t pid[WORKERS];
    uint32_t number[WORKERS];
    uint32_t last_number;
    uint32_t resident;          /* number of resident slots */
    uint32_t kills;
    uint32_t orphans;           /* in use, with no owner */
    uint32_t stale;             /* hints that hid a free slot after a round */
} arena_t;

static void *share(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- the workers ---- */

static uint32_t claim(arena_t *arena, uint32_t number, unit_random_t *random)
{
    shared_t *shared = arena->shared;
    uint32_t id = unit_grab(&arena->map);
    uint32_t none = 0;

    if (unit_below(random, 8) == 0 && id == arena->map.num) {
        /* Full: try to claim one by id, as fgrab does. */
        id = unit_below(random, arena->map.num);
        if (!slotmem_map_set(&arena->map, id)) {
            return arena->map.num;
        }
    }
    if (id >= arena->map.num) {
        shared->bad_answers += id > arena->map.num;
        return arena->map.num;
    }
    if (!atomic_compare_exchange_strong(&shared->owner[id], &none, number)) {
        shared->double_grants++;
        return arena->map.num;
    }
    shared->grants++;
    return id;
}

/* The parent uses it too, for slots of workers that have ended. */
static void release(arena_t *arena, uint32_t number, uint32_t id)
{
    shared_t *shared = arena->shared;

    if (!atomic_compare_exchange_strong(&shared->owner[id], &number, 0)) {
        shared->double_grants++;
        return;
    }
    shared->bad_answers += !slotmem_map_clear(&arena->map, id);
}

static void work(arena_t *arena, uint32_t number)
{
    unit_random_t random = { number };
    uint32_t held[HELD];
    uint32_t num_held = 0;

    for (;;) {
        uint32_t pick = unit_below(&random, HELD);

        if (pick >= num_held) {
            uint32_t id = claim(arena, number, &random);

            if (id < arena->map.num) {
                held[num_held++] = id;
                continue;
            }
            pick = 0;
        }
        if (num_held) {
            release(arena, number, held[pick]);
            held[pick] = held[--num_held];
        }
    }
}

/* ---- the parent ---- */

static void start(arena_t *arena, int i)
{
    pid_t parent = getpid();

    arena->number[i] = ++arena->last_number;
    arena->pid[i] = fork();
    assert_true(arena->pid[i] >= 0);
    if (arena->pid[i] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            work(arena, arena->number[i]);
        }
        _exit(1);
    }
}

/* Kill a worker at a random instruction and release the slots that it owned. */
static void end(arena_t *arena, int i)
{
    uint32_t id;

    kill(arena->pid[i], SIGKILL);
    assert_int_equal(unit_wait(arena->pid[i]), -SIGKILL);
    arena->pid[i] = 0;
    arena->kills++;
    for (id = 0; id < arena->map.num; id++) {
        if (arena->shared->owner[id] == arena->number[i]) {
            release(arena, arena->number[i], id);
        }
    }
}

/* All workers have ended: account for each slot. */
static void account(arena_t *arena, uint32_t kills)
{
    uint32_t orphans = 0;
    uint32_t id;

    for (id = 0; id < arena->map.num; id++) {
        uint32_t owner = arena->shared->owner[id];
        int in_use = slotmem_map_test(&arena->map, id);

        if (owner && !in_use) {
            fail_msg("slot %u of %u is free but owned", id, arena->map.num);
        }
        assert_true(owner == 0 || owner == RESIDENT);
        orphans += in_use && !owner;
    }
    assert_true(orphans <= kills);
    arena->stale += unit_walk(&arena->map, NULL);
    assert_int_equal(slotmem_map_count_free(&arena->map),
                     arena->map.num - arena->resident - orphans);
    for (id = 0; id < arena->map.num; id++) {
        if (!arena->shared->owner[id]) {
            slotmem_map_clear(&arena->map, id);
        }
    }
    arena->orphans += orphans;
}

static void one_round(arena_t *arena)
{
    uint64_t grants = arena->shared->grants;
    uint32_t kills = arena->kills;
    int i;

    for (i = 0; i < WORKERS; i++) {
        start(arena, i);
    }
    for (i = 0; i < KILLS_A_ROUND; i++) {
        struct timespec pause = {
            0, 200000 + unit_below(&arena->random, 1500000)
        };
        int victim = (int)unit_below(&arena->random, WORKERS);

        nanosleep(&pause, NULL);
        end(arena, victim);
        start(arena, victim);
    }
    for (i = 0; i < WORKERS; i++) {
        end(arena, i);
    }
    /* Nobody waits for the killed workers. */
    assert_true(arena->shared->grants > grants);
    account(arena, arena->kills - kills);
}

/* Grab until the map is full: each free slot must be granted once.
 * in_order: no hint is stale, so the ids must ascend */
static void drain(arena_t *arena, int in_order)
{
    uint32_t left = arena->map.num - arena->resident;
    uint32_t id;
    uint32_t last = 0;

    for (; left; left--, last = id) {
        id = unit_grab(&arena->map);
        if (id >= arena->map.num || arena->shared->owner[id]
            || (in_order && id < last)) {
            fail_msg("%u slots, %u free: grab says %u after %u",
                     arena->map.num, left, id, last);
        }
        arena->shared->owner[id] = RESIDENT + 1;
    }
    assert_int_equal(unit_grab(&arena->map), arena->map.num);
    assert_int_equal(slotmem_map_count_free(&arena->map), 0);
    assert_int_equal(unit_walk(&arena->map, NULL), 0);
}

/* One slot in every `stride` is not resident. */
static void stress(uint32_t num, uint32_t stride)
{
    size_t map_len = slotmem_map_size(num);
    size_t shared_len = sizeof(shared_t) + num * sizeof(_Atomic uint32_t);
    void *memory = share(map_len);
    arena_t arena = { .last_number = RESIDENT + 1, .random = { num } };
    double until = now() + SECONDS;
    uint32_t id;

    arena.shared = share(shared_len);
    slotmem_map_view(&arena.map, memory, num);
    for (id = 0; id < num; id++) {
        if (id % stride) {
            slotmem_map_set(&arena.map, id);
            arena.shared->owner[id] = RESIDENT;
            arena.resident++;
        }
    }
    while (now() < until) {
        one_round(&arena);
    }
    printf("kill stress: %u slots, %llu grants, %u kills, %llu double grants, "
           "%u slots left in use by a kill, %u stale hints\n", num,
           (unsigned long long)arena.shared->grants, arena.kills,
           (unsigned long long)arena.shared->double_grants, arena.orphans,
           arena.stale);
    assert_int_equal(arena.shared->double_grants, 0);
    assert_int_equal(arena.shared->bad_answers, 0);
    assert_true(arena.shared->grants > 1000);

    drain(&arena, 0);
    for (id = 0; id < num; id++) {
        if (arena.shared->owner[id] == RESIDENT + 1) {
            release(&arena, RESIDENT + 1, id);
        }
    }
    assert_int_equal(unit_walk(&arena.map, NULL), 0);
    drain(&arena, 1);
    munmap(memory, map_len);
    munmap(arena.shared, shared_len);
}

/* [D6][D10][D11] One word. */
static void test_one_word(void **state)
{
    (void)state;
    stress(64, 4);
}

/* [D6][D10][D11] One summary level; each word has at most one free slot. */
static void test_one_summary(void **state)
{
    (void)state;
    stress(4096, 256);
}

/* [D6][D10][D11] Two summary levels; each claim fills a word of hints. */
static void test_two_summaries(void **state)
{
    (void)state;
    stress(65537, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_word),
        cmocka_unit_test(test_one_summary),
        cmocka_unit_test(test_two_summaries)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
 * stress_map_threads.c: threads that grab and release slots of one map. Built
 * with -fsanitize=thread.
 *
 * The threads write to their slots without atomics: ThreadSanitizer reports a
 * race if a slot has two owners, or if a claim does not see what the last owner
 * wrote before it released the slot.
 */

#include "unit.h"

#include <pthread.h>

#define THREADS 4
#define HELD    8               /* maximum of slots that a thread holds */

typedef struct arena_t {
    slotmem_map_t map;
    unsigned int *owner;        /* one per slot: a thread's number, or 0 */
    unsigned char *resident;    /* one per slot: in use all the time */
    uint32_t rounds;
    pthread_barrier_t start;
} arena_t;

typedef struct thread_t {
    arena_t *arena;
    pthread_t id;
    unsigned int number;        /* from 1 */
    uint32_t held[HELD];
    uint32_t num_held;
    uint32_t grants;
    uint32_t full;              /* grabs that found no free slot */
    uint32_t double_grants;
    uint32_t bad_answers;
} thread_t;

static void own(thread_t *thread, uint32_t id)
{
    unsigned int *owner = &thread->arena->owner[id];

    thread->double_grants += *owner != 0;
    *owner = thread->number;
    thread->held[thread->num_held++] = id;
    thread->grants++;
}

static void release(thread_t *thread, uint32_t which)
{
    arena_t *arena = thread->arena;
    uint32_t id = thread->held[which];

    thread->held[which] = thread->held[--thread->num_held];
    thread->double_grants += arena->owner[id] != thread->number;
    arena->owner[id] = 0;
    thread->bad_answers += !slotmem_map_test(&arena->map, id);
    thread->bad_answers += !slotmem_map_clear(&arena->map, id);
}

static void grab(thread_t *thread)
{
    arena_t *arena = thread->arena;
    uint32_t id = unit_grab(&arena->map);

    thread->bad_answers += id > arena->map.num;
    if (id < arena->map.num) {
        own(thread, id);
    }
    else {
        thread->full++;
    }
}

static void look(thread_t *thread, unit_random_t *random)
{
    slotmem_map_t *map = &thread->arena->map;
    uint32_t from = unit_below(random, map->num + 1);
    uint32_t next = slotmem_map_next(map, from);

    thread->bad_answers += next < from || next > map->num;
    thread->bad_answers += slotmem_map_count_free(map) > map->num;
}

static void *work(void *data)
{
    thread_t *thread = data;
    arena_t *arena = thread->arena;
    unit_random_t random = { 4711 + thread->number };
    uint32_t round;

    pthread_barrier_wait(&arena->start);
    for (round = 0; round < arena->rounds; round++) {
        uint32_t what = unit_below(&random, 256);
        uint32_t id = unit_below(&random, arena->map.num);

        if (what == 0) {
            look(thread, &random);
        }
        else if (what < 20 && thread->num_held < HELD) {
            if (slotmem_map_set(&arena->map, id)) {
                own(thread, id);
            }
        }
        else if (what < 140 && thread->num_held < HELD) {
            grab(thread);
        }
        else if (thread->num_held) {
            release(thread, unit_below(&random, thread->num_held));
        }
    }
    while (thread->num_held) {
        release(thread, thread->num_held - 1);
    }
    return NULL;
}

/* The threads share the few slots that are not resident: one in `stride`. */
static void stress(uint32_t num, uint32_t stride, uint32_t rounds)
{
    arena_t arena = { .rounds = rounds };
    thread_t threads[THREADS];
    void *memory = calloc(1, slotmem_map_size(num));
    uint32_t grants = 0;
    uint32_t double_grants = 0;
    uint32_t bad_answers = 0;
    uint32_t full = 0;
    uint32_t i;

    arena.owner = calloc(num, sizeof(*arena.owner));
    arena.resident = calloc(num, 1);
    assert_true(memory && arena.owner && arena.resident);
    slotmem_map_view(&arena.map, memory, num);
    for (i = 0; i < num; i++) {
        arena.resident[i] = i % stride != 0;
        if (arena.resident[i]) {
            slotmem_map_set(&arena.map, i);
        }
    }

    pthread_barrier_init(&arena.start, NULL, THREADS);
    for (i = 0; i < THREADS; i++) {
        threads[i] = (thread_t){ .arena = &arena, .number = i + 1 };
        assert_int_equal(pthread_create(&threads[i].id, NULL, work,
                                        &threads[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i].id, NULL), 0);
        grants += threads[i].grants;
        full += threads[i].full;
        double_grants += threads[i].double_grants;
        bad_answers += threads[i].bad_answers;
    }
    pthread_barrier_destroy(&arena.start);

    printf("thread stress: %u slots, %u grants, %u times full, %u double "
           "grants\n", num, grants, full, double_grants);
    assert_true(grants > 1000);
    assert_int_equal(double_grants, 0);
    assert_int_equal(bad_answers, 0);
    assert_int_equal(unit_walk(&arena.map, arena.resident), 0);
    free(memory);
    free(arena.owner);
    free(arena.resident);
}

/* [D11] One word, often full. */
static void test_one_word(void **state)
{
    (void)state;
    stress(20, 1, 150000);
}

/* [D6][D11] One summary level; each word of slots has one free slot, so that
 * each claim fills a word and each release empties one. */
static void test_one_summary(void **state)
{
    (void)state;
    stress(1100, 64, 150000);
}

/* [D6][D11] Two summary levels; each word of hints has one free slot below it,
 * so that each claim goes up two levels. */
static void test_two_summaries(void **state)
{
    (void)state;
    stress(65537, 4096, 150000);
}

/* [D11] Two summary levels, many free slots. */
static void test_sparse(void **state)
{
    (void)state;
    stress(65537, 2, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_word),
        cmocka_unit_test(test_one_summary),
        cmocka_unit_test(test_two_summaries),
        cmocka_unit_test(test_sparse)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

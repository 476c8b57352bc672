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
 * unit.h: the functions that the unit tests share. None of them needs httpd.
 */

#ifndef SLOTMEM_UNIT_H
#define SLOTMEM_UNIT_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "slotmem_map.h"

#undef UNUSED
#define UNUSED __attribute__((unused))
#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* The slot that grab returns, or the number of slots. */
UNUSED static uint32_t unit_grab(slotmem_map_t *map)
{
    uint32_t id = UINT32_MAX;
    int claimed = slotmem_map_grab(map, &id);

    return claimed == (id < map->num) ? id : UINT32_MAX;
}

/* ---- random numbers: the same in every run, so that a failure repeats ---- */

typedef struct unit_random_t {
    uint64_t state;             /* not 0 */
} unit_random_t;

UNUSED static uint32_t unit_random(unit_random_t *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (uint32_t)(random->state >> 32);
}

/* 0 to limit - 1 */
UNUSED static uint32_t unit_below(unit_random_t *random, uint32_t limit)
{
    return (uint32_t)((uint64_t)unit_random(random) * limit >> 32);
}

UNUSED static void unit_fill(unit_random_t *random, void *bytes, size_t len)
{
    unsigned char *to = bytes;

    while (len--) {
        *to++ = (unsigned char)unit_random(random);
    }
}

/* ---- child processes: cmocka's asserts do not work there ---- */

#define UNIT_SKIP 77

/* In a child: end it, and so fail the test, if the condition is false. */
#define CHILD_CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: child: not true: %s (errno %d)\n", \
                    __FILE__, __LINE__, #condition, errno); \
            _exit(1); \
        } \
    } while (0)

/* The exit code of a child, or minus the signal that ended it. */
UNUSED static int unit_wait(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Run a function in a child; 0 if it returned. */
UNUSED static int unit_in_child(void (*function)(void *), void *argument)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60);
        function(argument);
        _exit(0);
    }
    return unit_wait(pid);
}

/* ---- the in-use map ---- */

/* The bits of word `word` that belong to a level of `bits` bits. */
UNUSED static uint64_t unit_valid(uint32_t bits, uint32_t word)
{
    uint64_t first = (uint64_t)word * 64;

    return bits >= first + 64 ? UINT64_MAX
                              : (UINT64_C(1) << (bits - first)) - 1;
}

/* Make level k + 1 in private words from those of level k, in place: one bit
 * per word, set if the word is not 0. */
UNUSED static void unit_level_up(uint64_t *words, uint32_t num)
{
    uint32_t from;
    uint64_t bits = 0;

    for (from = 0; from < num; from++) {
        bits |= (uint64_t)(words[from] != 0) << from % 64;
        if (from % 64 == 63 || from + 1 == num) {
            words[from / 64] = bits;
            bits = 0;
        }
    }
}

/* The number of hints that say "full" although a slot below is free.
 * words: level 0 as slotmem_map_copy() gives it; overwritten */
UNUSED static uint32_t unit_stale_hints(const slotmem_map_t *map,
                                        uint64_t *words)
{
    uint32_t stale = 0;
    uint32_t word;
    uint32_t k;

    for (word = 0; word < slotmem_map_words(map->num); word++) {
        words[word] = ~words[word] & unit_valid(map->num, word);
    }
    for (k = 1; k < map->levels; k++) {
        unit_level_up(words, map->bits[k]);
        for (word = 0; word < slotmem_map_words(map->bits[k]); word++) {
            stale += (uint32_t)__builtin_popcountll(words[word]
                                                    & map->level[k][word]);
        }
    }
    return stale;
}

/* The integrity walker. Fails the test if two views of the map disagree: each
 * bit, the count, the search, the copy, and the model.
 * used: NULL, or one byte per slot, 1 if it must be in use
 * Returns the number of hints that say "full" although a slot below is free. */
UNUSED static uint32_t unit_walk(const slotmem_map_t *map,
                                 const unsigned char *used)
{
    uint32_t words = slotmem_map_words(map->num);
    uint64_t *copy = malloc(words * sizeof(*copy) + 1);
    uint32_t next = slotmem_map_next(map, 0);
    uint32_t in_use = 0;
    uint32_t stale;
    uint32_t id;

    assert_non_null(copy);
    slotmem_map_copy(map, copy);
    for (id = 0; id < map->num; id++) {
        int bit = slotmem_map_test(map, id);

        if (slotmem_bit_test(copy, id) != bit || (used && used[id] != bit)
            || bit != (id == next)) {
            fail_msg("slot %u of %u: test says %d, copy %d, model %d, next %u",
                     id, map->num, bit, slotmem_bit_test(copy, id),
                     used ? used[id] : -1, next);
        }
        if (bit) {
            in_use++;
            next = slotmem_map_next(map, id + 1);
        }
    }
    assert_int_equal(next, map->num);
    assert_int_equal(slotmem_map_count_free(map), map->num - in_use);
    if (words) {
        assert_int_equal(copy[words - 1] & ~unit_valid(map->num, words - 1),
                         0);
    }
    stale = unit_stale_hints(map, copy);
    free(copy);
    return stale;
}

#endif /* SLOTMEM_UNIT_H */

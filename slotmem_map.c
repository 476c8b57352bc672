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
 * slotmem_map.c: the in-use map of a segment; see slotmem_map.h.
 *
 * Order. A claim that fills a word sets its hint and then reads the word again;
 * a release clears its bit and then reads the hint again. All four operations
 * are sequentially consistent, so at least one side sees the other and clears
 * the hint: unless a process is killed, no word with a free slot has the hint
 * "full" once all calls have returned. The release also clears the hint before
 * it clears the bit, so that a kill between these two steps leaves a hint that
 * is missing, which is harmless.
 *
 * The claim is an acquire and the release is a release on the same word, so a
 * process that grabs a slot sees everything that the last owner wrote before it
 * released the slot.
 *
 * An empty word may be in a page that was never written, so its page is noted
 * before a claim. If a word has a slot in use, its page was noted before that
 * claim.
 */

#include "slotmem_map.h"

#define NO_BIT SLOTMEM_MAP_NO_BIT
#define ALL_BITS ((slotmem_word_t)-1)

/* Precedes a loop. Old versions of clang do not accept gcc's pragma. */
#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define UNROLL(times) PRAGMA(unroll times)
#else
#define UNROLL(times) PRAGMA(GCC unroll times)
#endif

/* The bits of a word that belong to the level. The last word may have others.
 * */
static inline slotmem_word_t valid_bits(uint32_t bits, uint32_t word)
{
    uint32_t left = bits - word * SLOTMEM_MAP_WORD_BITS;

    return left >= SLOTMEM_MAP_WORD_BITS ? ALL_BITS
                                         : ((slotmem_word_t)1 << left) - 1;
}

/* Number of words with a bit for each page of level 0; 0 if there is only one
 * level. The first and the last page may also have other data: hence + 2. */
static uint32_t touched_words(uint32_t num)
{
    uint32_t words = slotmem_map_words(num);

    return words <= SLOTMEM_MAP_PLAIN_WORDS
           ? 0 : slotmem_map_words(words / SLOTMEM_MAP_PAGE_WORDS + 2);
}

size_t slotmem_map_size(uint32_t num)
{
    slotmem_map_t map;
    size_t words = touched_words(num);
    uint32_t k;

    slotmem_map_view(&map, NULL, num);
    for (k = 0; k < map.levels; k++) {
        words += slotmem_map_words(map.bits[k]);
    }
    return words * sizeof(slotmem_word_t);
}

/* Compute where the levels are, starting at an address; NULL: only count. */
static void view_levels(slotmem_map_t *map, _Atomic slotmem_word_t *next)
{
    uint32_t bits = map->num;

    for (;;) {
        uint32_t words = slotmem_map_words(bits);

        map->bits[map->levels] = bits;
        map->level[map->levels++] = next;
        if (words <= SLOTMEM_MAP_PLAIN_WORDS) {
            map->top_words = words;
            return;
        }
        next = next ? next + words : NULL;
        bits = words;
    }
}

void slotmem_map_view(slotmem_map_t *map, void *memory, uint32_t num)
{
    _Atomic slotmem_word_t *words = memory;
    uint32_t touched = touched_words(num);

    *map = (slotmem_map_t){ .num = num };
    view_levels(map, words ? words + touched : NULL);
    if (touched) {
        map->touched = words;
        map->words_before =
            (uint32_t)((uintptr_t)map->level[0] % SLOTMEM_MAP_PAGE
                                / sizeof(slotmem_word_t));
    }
}

/* ---- pages of level 0 that were touched ---- */

static inline uint32_t page_of(const slotmem_map_t *map, uint32_t word)
{
    return (uint32_t)(((uint64_t)map->words_before + word)
                      / SLOTMEM_MAP_PAGE_WORDS);
}

/* The first word of level 0 after the page of this word, or after the last one.
 * */
static inline uint32_t end_of_page(const slotmem_map_t *map, uint32_t word)
{
    uint32_t words = slotmem_map_words(map->num);
    uint32_t left = SLOTMEM_MAP_PAGE_WORDS
                    - (map->words_before + word) % SLOTMEM_MAP_PAGE_WORDS;

    return map->touched && left < words - word ? word + left : words;
}

/* Relaxed: a caller that sees a claim also sees the note, which was written
 * before the claim. */
static inline int is_touched(const slotmem_map_t *map, uint32_t word)
{
    uint32_t page = page_of(map, word);

    return !map->touched
           || atomic_load_explicit(&map->touched[page / SLOTMEM_MAP_WORD_BITS],
                                   memory_order_relaxed)
              & slotmem_map_bit(page);
}

/* Call this before the first claim in a word. That is rare, so it is not
 * inlined. */
SLOTMEM_NOINLINE
static void mark_touched(slotmem_map_t *map, uint32_t word)
{
    uint32_t page = page_of(map, word);

    if (!is_touched(map, word)) {
        atomic_fetch_or(&map->touched[page / SLOTMEM_MAP_WORD_BITS],
                        slotmem_map_bit(page));
    }
}

/* ---- claims and releases ---- */

/* The lowest 0 bit of a level in the words first <= word < end, or NO_BIT. Bits
 * past the end of the level are the highest of the last word: if the lowest 0
 * is one of them, there is no other. Relaxed: the result is only a hint. */
static uint32_t first_zero(const slotmem_map_t *map, uint32_t level,
                           uint32_t first, uint32_t end)
{
    const _Atomic slotmem_word_t *words = map->level[level];
    uint32_t word;

    for (word = first; word < end; word++) {
        slotmem_word_t zeros = ~atomic_load_explicit(&words[word],
                                                     memory_order_relaxed);

        if (zeros) {
            uint32_t bit = word * SLOTMEM_MAP_WORD_BITS
                           + slotmem_map_lowest(zeros);

            return bit < map->bits[level] ? bit : NO_BIT;
        }
    }
    return NO_BIT;
}

/* Clear the hints above a word that has, or is about to have, a free slot below
 * it. Pairs with mark_full(). */
static void mark_free(slotmem_map_t *map, uint32_t level, uint32_t word)
{
    for (; level + 1 < map->levels; level++) {
        _Atomic slotmem_word_t *hints =
            &map->level[level + 1][word / SLOTMEM_MAP_WORD_BITS];

        if (atomic_load(hints) & slotmem_map_bit(word)) {
            atomic_fetch_and(hints, ~slotmem_map_bit(word));
        }
        word /= SLOTMEM_MAP_WORD_BITS;
    }
}

/* Set the hints above a full word, as far up as that fills more words. Pairs
 * with mark_free(): this side sets the hint and reads the word again, the other
 * side clears the bit and reads the hint again. */
static void mark_full(slotmem_map_t *map, uint32_t level, uint32_t word)
{
    for (; level + 1 < map->levels; level++) {
        uint32_t up = word / SLOTMEM_MAP_WORD_BITS;
        slotmem_word_t valid = valid_bits(map->bits[level], word);
        slotmem_word_t hint = slotmem_map_bit(word);
        slotmem_word_t hints =
            atomic_fetch_or(&map->level[level + 1][up], hint) | hint;

        if ((atomic_load(&map->level[level][word]) & valid) != valid) {
            mark_free(map, level, word);
            return;
        }
        valid = valid_bits(map->bits[level + 1], up);
        if ((hints & valid) != valid) {
            return;
        }
        word = up;
    }
}

static int is_full(const slotmem_map_t *map, uint32_t word,
                   slotmem_word_t bits)
{
    slotmem_word_t valid = valid_bits(map->num, word);

    return (bits & valid) == valid;
}

int slotmem_map_set(slotmem_map_t *map, uint32_t id)
{
    uint32_t word = id / SLOTMEM_MAP_WORD_BITS;
    _Atomic slotmem_word_t *bits = &map->level[0][word];
    slotmem_word_t bit = slotmem_map_bit(id);
    slotmem_word_t seen = atomic_load_explicit(bits, memory_order_acquire);

    /* Pairs with the release in slotmem_map_clear(). */
    do {
        if (seen & bit) {
            return 0;
        }
        if (!seen) {
            mark_touched(map, word);
        }
    } while (!atomic_compare_exchange_weak(bits, &seen, seen | bit));
    if (map->levels > 1 && is_full(map, word, seen | bit)) {
        mark_full(map, 0, word);
    }
    return 1;
}

int slotmem_map_clear_hinted(slotmem_map_t *map, uint32_t id)
{
    uint32_t word = id / SLOTMEM_MAP_WORD_BITS;
    int cleared;

    if (!slotmem_map_test(map, id)) {
        return 0;
    }
    mark_free(map, 0, word);
    cleared = slotmem_map_clear_in(map, id);
    mark_free(map, 0, word);
    return cleared;
}

/* Claim the lowest free slot of a word whose page may not be noted yet. Not
 * inlined, since that is rare. */
SLOTMEM_NOINLINE
static uint32_t grab_in_empty(slotmem_map_t *map, uint32_t word)
{
    slotmem_word_t claimed;
    uint32_t id;

    mark_touched(map, word);
    id = slotmem_map_grab_in(map, word, &claimed);
    if (id != NO_BIT && is_full(map, word, claimed)) {
        mark_full(map, 0, word);
    }
    return id;
}

/* Claim the lowest free slot of a word, or return NO_BIT. The claim that fills
 * the word sees it full, and sets the hint. */
static inline uint32_t grab_in(slotmem_map_t *map, uint32_t word)
{
    _Atomic slotmem_word_t *bits = &map->level[0][word];
    slotmem_word_t seen = atomic_load_explicit(bits, memory_order_relaxed);
    slotmem_word_t claimed;
    uint32_t id;

    do {
        slotmem_word_t next = seen + 1; /* 0: seen is full; 1: it is empty */

        if (next <= 1) {
            return next ? grab_in_empty(map, word) : NO_BIT;
        }
        id = word * SLOTMEM_MAP_WORD_BITS + slotmem_map_lowest(~seen);
        if (id >= map->num) {
            return NO_BIT;
        }
        claimed = seen | next;
    } while (!atomic_compare_exchange_weak(bits, &seen, claimed));
    if (is_full(map, word, claimed)) {
        mark_full(map, 0, word);
    }
    return id;
}

/* Claim the lowest free slot that the hints show, or return NO_BIT. If the
 * hints lead to a full word, set its hint and start again at the top. */
static uint32_t grab_by_hints(slotmem_map_t *map)
{
    for (;;) {
        uint32_t level = map->levels - 1;
        uint32_t word = first_zero(map, level, 0, map->top_words);

        if (word == NO_BIT) {
            return NO_BIT;
        }
        while (--level > 0) {
            uint32_t below = first_zero(map, level, word, word + 1);

            if (below == NO_BIT) {
                break;
            }
            word = below;
        }
        if (level == 0) {
            uint32_t id = grab_in(map, word);

            if (id != NO_BIT) {
                return id;
            }
        }
        mark_full(map, level, word);
    }
}

/* The first word of level 0, starting at WORD, that has a free slot, or the
 * number of words. Test eight at a time, since most are full. */
static uint32_t next_not_full(const slotmem_map_t *map, uint32_t word)
{
    uint32_t words = slotmem_map_words(map->num);
    _Atomic slotmem_word_t *level = map->level[0];

    for (; word < words; word++) {
        while (words - word > 8) {
            slotmem_word_t all = ALL_BITS;
            uint32_t i;

            UNROLL(8)
            for (i = 0; i < 8; i++) {
                all &= atomic_load_explicit(&level[word + i],
                                            memory_order_relaxed);
            }
            if (all != ALL_BITS) {
                break;
            }
            word += 8;
        }
        if (!is_full(map, word, atomic_load_explicit(&level[word],
                                                     memory_order_relaxed))) {
            return word;
        }
    }
    return words;
}

/* Claim the lowest free slot without hints, by reading every word. Clear hints
 * that are wrong. */
static uint32_t grab_by_scan(slotmem_map_t *map)
{
    uint32_t words = slotmem_map_words(map->num);
    uint32_t word;

    for (word = 0; (word = next_not_full(map, word)) < words; word++) {
        uint32_t id;

        mark_free(map, 0, word);
        id = grab_in(map, word);
        if (id != NO_BIT) {
            return id;
        }
    }
    return map->num;
}

int slotmem_map_grab_hinted(slotmem_map_t *map, uint32_t *id)
{
    uint32_t found = grab_by_hints(map);

    if (found == NO_BIT) {
        found = grab_by_scan(map);
    }
    *id = found;
    return found < map->num;
}

__attribute__((always_inline))
static inline uint32_t count_bits(const _Atomic slotmem_word_t *word,
                                  slotmem_word_t mask)
{
    return (uint32_t)__builtin_popcountll(
        atomic_load_explicit(word, memory_order_relaxed) & mask);
}

/* Count the free slots among the first num slots of these words. One body for
 * both ways to count bits; always_inline, so that each caller compiles it for
 * its own target. */
__attribute__((always_inline))
static inline uint32_t free_in(const _Atomic slotmem_word_t *word, uint32_t num)
{
    uint32_t words = num / SLOTMEM_MAP_WORD_BITS;
    uint32_t left = num % SLOTMEM_MAP_WORD_BITS;
    const _Atomic slotmem_word_t *end = word + words;
    const _Atomic slotmem_word_t *fours = word + (words & ~3u);

    for (; word != fours; word += 4) {
        num -= count_bits(&word[0], ALL_BITS) + count_bits(&word[1], ALL_BITS)
               + count_bits(&word[2], ALL_BITS)
               + count_bits(&word[3], ALL_BITS);
    }
    for (; word != end; word++) {
        num -= count_bits(word, ALL_BITS);
    }
    return left ? num - count_bits(end, ((slotmem_word_t)1 << left) - 1) : num;
}

#if defined(__x86_64__) && !defined(__POPCNT__)
/* Distributions build for a baseline without POPCNT. Neither variant is
 * inlined, so that the choice between them is a jump. */
__attribute__((target("popcnt"))) SLOTMEM_NOINLINE
static uint32_t free_in_popcnt(const _Atomic slotmem_word_t *word, uint32_t num)
{
    return free_in(word, num);
}

SLOTMEM_NOINLINE
static uint32_t free_in_baseline(const _Atomic slotmem_word_t *word,
                                 uint32_t num)
{
    return free_in(word, num);
}

uint32_t slotmem_map_count_free_in(const _Atomic slotmem_word_t *word,
                                   uint32_t num)
{
    return __builtin_cpu_supports("popcnt") ? free_in_popcnt(word, num)
                                            : free_in_baseline(word, num);
}
#else
uint32_t slotmem_map_count_free_in(const _Atomic slotmem_word_t *word,
                                   uint32_t num)
{
    return free_in(word, num);
}
#endif

uint32_t slotmem_map_count_free_hinted(const slotmem_map_t *map)
{
    uint32_t words = slotmem_map_words(map->num);
    uint32_t num_free = map->num;
    uint32_t word = 0;

    while (word < words) {
        uint32_t end = end_of_page(map, word);
        uint32_t num = end < words
                       ? (end - word) * SLOTMEM_MAP_WORD_BITS
                       : map->num - word * SLOTMEM_MAP_WORD_BITS;

        if (is_touched(map, word)) {
            num_free -= num - slotmem_map_count_free_in(&map->level[0][word],
                                                        num);
        }
        word = end;
    }
    return num_free;
}

uint32_t slotmem_map_next(const slotmem_map_t *map, uint32_t from)
{
    uint32_t words = slotmem_map_words(map->num);
    uint32_t word = from / SLOTMEM_MAP_WORD_BITS;
    slotmem_word_t mask = ALL_BITS << (from % SLOTMEM_MAP_WORD_BITS);

    while (word < words) {
        uint32_t end = end_of_page(map, word);

        for (word = is_touched(map, word) ? word : end; word < end; word++) {
            /* Acquire: the caller reads the slot next. Pairs with the claim. */
            slotmem_word_t bits = atomic_load_explicit(&map->level[0][word],
                                                       memory_order_acquire)
                                  & mask;

            mask = ALL_BITS;
            if (bits) {
                uint32_t id = word * SLOTMEM_MAP_WORD_BITS
                              + slotmem_map_lowest(bits);

                return id < map->num ? id : map->num;
            }
        }
        mask = ALL_BITS;
    }
    return map->num;
}

void slotmem_map_copy(const slotmem_map_t *map, slotmem_word_t *words)
{
    uint32_t n = slotmem_map_words(map->num);
    uint32_t word = 0;

    while (word < n) {
        uint32_t end = end_of_page(map, word);
        int touched = is_touched(map, word);

        for (; word < end; word++) {
            words[word] = touched
                          ? atomic_load_explicit(&map->level[0][word],
                                                 memory_order_acquire)
                            & valid_bits(map->num, word)
                          : 0;
        }
    }
}

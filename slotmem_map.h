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
 * slotmem_map.h: the in-use map of a segment, one bit per slot.
 *
 * A bitmap in shared memory, in words of 64 bits (32 on machines without atomic
 * operations on 64). With more than SLOTMEM_MAP_PLAIN_WORDS words there are
 * summary levels: bit w of level k+1 is a hint that word w of level k is full,
 * which saves reading that word. Only level 0 decides.
 *
 *     touched   one bit per page of level 0  see is_touched()
 *     level 0   N bits, one per slot         ceil(N / 64) words
 *     level 1   one bit per word of level 0  ceil(words / 64) words
 *     ...       until a level has at most SLOTMEM_MAP_PLAIN_WORDS words
 *
 * A map with summary levels also notes which pages of level 0 were ever
 * written. Reading a page of shared memory that was never written allocates it,
 * so counting or copying the map skips such pages: for 2^32 slots they would
 * take half a gigabyte.
 *
 * Lifecycle: all zero bytes are an empty map, so there is nothing to set up or
 * destroy. slotmem_map_view() only computes where the levels are.
 *
 * A crash: each claim and each release is one atomic operation on one word of
 * level 0, which a killed process has done or not. A missing hint costs one
 * read of a full word. A wrong "full" can stay only if a process is killed
 * between two adjacent operations while another one claims or releases a slot
 * in the same word. Then grabs skip the free slot until the next release in
 * that word, or until all other slots are in use: before a grab fails it reads
 * all of level 0.
 *
 * Concurrency: any thread of any process that maps the memory may call every
 * function, without a lock. The geometry comes from the caller's private view,
 * never from shared memory; bits past the last slot are ignored.
 */

#ifndef SLOTMEM_MAP_H
#define SLOTMEM_MAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/** A word of the map: 64 bits if atomic operations on them are lock-free, which
 *  they must be to work between processes; otherwise 32. (The words of
 *  slotmem_words.h are others: those of the configuration.) */
#if ATOMIC_LLONG_LOCK_FREE == 2
typedef uint64_t slotmem_word_t;
#define SLOTMEM_MAP_WORD_BITS 64u
#elif ATOMIC_INT_LOCK_FREE == 2
typedef uint32_t slotmem_word_t;
#define SLOTMEM_MAP_WORD_BITS 32u
#else
#error "the in-use map needs lock-free atomic operations"
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** For functions that are not on the fast path: keeps them out of it. */
#define SLOTMEM_NOINLINE __attribute__((noinline))

/** A level of up to this many words is scanned word by word: a summary would
 *  cost more atomic operations than it saves. */
#define SLOTMEM_MAP_PLAIN_WORDS 16u
/** Levels that UINT32_MAX slots need. */
#define SLOTMEM_MAP_LEVELS      6
/** Bytes of a page. Larger pages are a multiple of this. */
#define SLOTMEM_MAP_PAGE        4096u
#define SLOTMEM_MAP_PAGE_WORDS \
    (SLOTMEM_MAP_PAGE / (uint32_t)sizeof(slotmem_word_t))

/** Process-local: one process's view of a map in shared memory. */
typedef struct slotmem_map_t {
    uint32_t num;                       /**< number of slots */
    uint32_t levels;                    /**< 1 to SLOTMEM_MAP_LEVELS */
    uint32_t bits[SLOTMEM_MAP_LEVELS];  /**< bits of each level */
    _Atomic slotmem_word_t *level[SLOTMEM_MAP_LEVELS];
    _Atomic slotmem_word_t *touched;    /**< NULL if there is one level. A bit
                                             is set before the first claim in
                                             its page, and never cleared */
    uint32_t top_words;                 /**< words of the highest level */
    uint32_t words_before;              /**< words of the first page that come
                                             before level 0 */
} slotmem_map_t;

/** Number of words that hold @a bits bits. */
static inline uint32_t slotmem_map_words(uint32_t bits)
{
    return bits / SLOTMEM_MAP_WORD_BITS + (bits % SLOTMEM_MAP_WORD_BITS != 0);
}

/** Bytes of shared memory that a map of @a num slots needs at any address. */
size_t slotmem_map_size(uint32_t num);

/**
 * Fill in the view of a map.
 * @param map the view, process-local
 * @param memory slotmem_map_size(num) bytes, aligned for words; not accessed.
 *        The offset in its page must be the same in each process
 * @param num number of slots, from the caller's private geometry
 */
void slotmem_map_view(slotmem_map_t *map, void *memory, uint32_t num);

/**
 * Is the slot in use?
 * @param id a slot below map->num; not checked
 * @return 1 or 0. Loads with acquire: a caller that sees a claim sees what
 *         the claimer wrote before it (pairs with slotmem_map_set()).
 */
static inline int slotmem_map_test(const slotmem_map_t *map, uint32_t id)
{
    slotmem_word_t word = atomic_load_explicit(
        &map->level[0][id / SLOTMEM_MAP_WORD_BITS], memory_order_acquire);

    return (int)(word >> (id % SLOTMEM_MAP_WORD_BITS)) & 1;
}

/** No slot: the number of slots is at most UINT32_MAX. */
#define SLOTMEM_MAP_NO_BIT UINT32_MAX

/** @return the bit of @a id in its word */
static inline slotmem_word_t slotmem_map_bit(uint32_t id)
{
    return (slotmem_word_t)1 << (id % SLOTMEM_MAP_WORD_BITS);
}

/** @return the number of the lowest bit of @a word, which is not 0 */
static inline uint32_t slotmem_map_lowest(slotmem_word_t word)
{
    return (uint32_t)__builtin_ctzll(word);
}

/**
 * Mark a slot in use.
 * @param id a slot below map->num; not checked
 * @return 1 if this call marked it; 0 if it was already in use (then the shared
 *         word was not written)
 */
int slotmem_map_set(slotmem_map_t *map, uint32_t id);

/* One word of level 0, without hints. Inlined: the call overhead would be half
 * their cost. */

/* Free a slot, if it is in use. Pairs with the claims in slotmem_map_set() and
 * slotmem_map_grab_in(). */
static inline int slotmem_map_clear_in(slotmem_map_t *map, uint32_t id)
{
    _Atomic slotmem_word_t *word = &map->level[0][id / SLOTMEM_MAP_WORD_BITS];
    slotmem_word_t bit = slotmem_map_bit(id);
    slotmem_word_t seen = atomic_load_explicit(word, memory_order_relaxed);

    while (seen & bit) {
        if (atomic_compare_exchange_weak(word, &seen, seen & ~bit)) {
            return 1;
        }
    }
    return 0;
}

/* Claim the lowest free slot of a word; claimed: set to the new word. Returns
 * SLOTMEM_MAP_NO_BIT if there is none: bits past the last slot are the highest
 * of the word. Pairs with the release in slotmem_map_clear_in(). */
static inline uint32_t slotmem_map_grab_in(slotmem_map_t *map, uint32_t word,
                                           slotmem_word_t *claimed)
{
    _Atomic slotmem_word_t *bits = &map->level[0][word];
    slotmem_word_t seen = atomic_load_explicit(bits, memory_order_relaxed);

    while (~seen) {
        uint32_t id = word * SLOTMEM_MAP_WORD_BITS + slotmem_map_lowest(~seen);

        if (id >= map->num) {
            break;
        }
        *claimed = seen | (seen + 1);   /* sets the lowest 0 bit */
        if (atomic_compare_exchange_weak(bits, &seen, *claimed)) {
            return id;
        }
    }
    return SLOTMEM_MAP_NO_BIT;
}

/* The same as the next two functions, for a map with hints. */
int slotmem_map_clear_hinted(slotmem_map_t *map, uint32_t id);
int slotmem_map_grab_hinted(slotmem_map_t *map, uint32_t *id);

/**
 * Mark a slot free.
 * @param id a slot below map->num; not checked
 * @return 1 if this call marked it; 0 if it was already free
 */
static inline int slotmem_map_clear(slotmem_map_t *map, uint32_t id)
{
    return map->levels > 1 ? slotmem_map_clear_hinted(map, id)
                           : slotmem_map_clear_in(map, id);
}

/**
 * Claim the lowest free slot.
 * @param id set to the slot, or to map->num if all slots are in use
 * @return 1 if this call claimed a slot; 0 if all slots are in use
 */
static inline int slotmem_map_grab(slotmem_map_t *map, uint32_t *id)
{
    uint32_t words = slotmem_map_words(map->num);
    slotmem_word_t claimed;
    uint32_t word;

    if (map->levels > 1) {
        return slotmem_map_grab_hinted(map, id);
    }
    for (word = 0; word < words; word++) {
        uint32_t found = slotmem_map_grab_in(map, word, &claimed);

        if (found != SLOTMEM_MAP_NO_BIT) {
            *id = found;
            return 1;
        }
    }
    *id = map->num;
    return 0;
}

/* The same as the next function, for a map with hints; and for the first num
 * slots of some words. */
uint32_t slotmem_map_count_free_hinted(const slotmem_map_t *map);
uint32_t slotmem_map_count_free_in(const _Atomic slotmem_word_t *word,
                                   uint32_t num);

/** Count the free slots. No stored count exists that could become wrong. If the
 *  map has hints, pages of level 0 that were never written are not read. */
static inline uint32_t slotmem_map_count_free(const slotmem_map_t *map)
{
    return map->touched ? slotmem_map_count_free_hinted(map)
                        : slotmem_map_count_free_in(map->level[0], map->num);
}

/**
 * Find the next slot in use.
 * @param from where to start, at most map->num
 * @return the lowest id in use that is at least @a from, or map->num
 */
uint32_t slotmem_map_next(const slotmem_map_t *map, uint32_t from);

/**
 * Copy level 0 to private memory, with 0 for bits past the last slot.
 * @param words slotmem_map_words(map->num) words
 */
void slotmem_map_copy(const slotmem_map_t *map, slotmem_word_t *words);

/** @return bit @a id of private words, 1 or 0 */
static inline int slotmem_bit_test(const slotmem_word_t *words, uint32_t id)
{
    return (int)(words[id / SLOTMEM_MAP_WORD_BITS]
                 >> (id % SLOTMEM_MAP_WORD_BITS)) & 1;
}

/** Set bit @a id of private words. */
static inline void slotmem_bit_set(slotmem_word_t *words, uint32_t id)
{
    words[id / SLOTMEM_MAP_WORD_BITS] |=
        (slotmem_word_t)1 << (id % SLOTMEM_MAP_WORD_BITS);
}

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_MAP_H */

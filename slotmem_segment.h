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
 * slotmem_segment.h: one segment, its geometry and its layout.
 *
 *     segment (shared)   offset        size
 *     header             0             64, slotmem_header_t
 *     in-use map         64            slotmem_map_size(item_num)
 *     slots              layout.slots  item_size * item_num, contiguous
 *     slack              behind them   SLOTMEM_SLACK, belongs to nothing
 *
 * Offsets count from an address that is a multiple of SLOTMEM_ALIGN, and
 * slots begin at one. The truth about the shape is slotmem_geometry_t, which
 * is private to each process and reaches the children by fork: no byte of
 * the shared memory is used as a length, an offset or a pointer. The header
 * serves slotmem_segment_attach() alone, which verifies it first.
 *
 * Lifecycle: created in a pool, unmapped with it. Anonymous memory is inherited
 * by fork and goes with its last process. A named segment is a file, mapped, in
 * a directory in memory: made by a child, attached by its siblings while the
 * creator lives, and removed by the creator. No process keeps a descriptor.
 *
 * A crash: nothing is left of anonymous memory. A creator that is killed leaves
 * its file behind; slotmem_segment_creator() tells who that was.
 *
 * Concurrency: creating and attaching one name needs a lock of the caller's
 * between processes; everything else is the map's affair.
 */

#ifndef SLOTMEM_SEGMENT_H
#define SLOTMEM_SEGMENT_H

#include "apr.h"
#include "apr_pools.h"
#include "apr_shm.h"

#include "slotmem_map.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Alignment of the slots: right for any type, and a cache line. */
#define SLOTMEM_ALIGN ((apr_size_t)64)

/** Bytes behind the last slot: a consumer is known that writes an int there,
 *  which would be past the end of a page now and then (D3). */
#define SLOTMEM_SLACK ((apr_size_t)64)

/** Opens a header that is complete: written last. */
#define SLOTMEM_HEADER_MAGIC 0x736c6f74u
/** Bytes that prove who made a named segment. */
#define SLOTMEM_PROOF_LEN 16
/** Layout of header, map and slots. A segment with another version is not
 *  attached; all processes of a generation run the same code, so it is
 *  something else that has taken the name. */
#define SLOTMEM_HEADER_VERSION 2u

/** A process. Pids come round again, so a pid alone does not name one. Process-
 *  local, or in a header. */
typedef struct slotmem_creator_t {
    uint64_t started;           /**< as the system has it; 0: not known */
    uint32_t pid;               /**< 0: none */
} slotmem_creator_t;

/** Process-local: what siblings call a segment. */
typedef struct slotmem_shm_name_t {
    const char *path;           /**< of its file */
    unsigned char proof[SLOTMEM_PROOF_LEN]; /**< who cannot work it out for
                                     this name has not made the segment */
    slotmem_creator_t creator;  /**< who creates it. Attach sets it, also when
                                     it answers APR_INCOMPLETE: then to what
                                     the file says, or to none */
} slotmem_shm_name_t;

/** Process-local: the shape of a segment. */
typedef struct slotmem_geometry_t {
    apr_size_t item_size;       /**< bytes of a slot */
    apr_uint32_t item_num;      /**< number of slots */
    apr_uint32_t type;          /**< AP_SLOTMEM_TYPE_*, as created */
} slotmem_geometry_t;

/** Process-local: offsets and lengths in memory, all in bytes. For those in the
 *  file see slotmem_format.h. */
typedef struct slotmem_layout_t {
    apr_size_t map;             /**< offset of the in-use map */
    apr_size_t slots;           /**< offset of slot 0 */
    apr_size_t slots_len;       /**< bytes of all slots */
    apr_size_t memory_len;      /**< bytes of header, map, slots and slack */
} slotmem_layout_t;

/** Shared memory. Written by the creator before the magic, then constant,
 *  but for full_logged and gone. Whatever a process writes here can mislead
 *  only those that attach the segment by name. */
typedef struct slotmem_header_t {
    _Atomic uint32_t magic;     /**< SLOTMEM_HEADER_MAGIC: written last, with
                                     release; pairs with the load in attach */
    uint32_t version;           /**< SLOTMEM_HEADER_VERSION */
    uint64_t item_size;
    uint32_t item_num;
    uint32_t type;
    unsigned char proof[SLOTMEM_PROOF_LEN]; /**< see slotmem_shm_name_t; of no
                                     use for another name */
    uint64_t started;           /**< see slotmem_creator_t */
    uint32_t creator;           /**< pid */
    _Atomic uint32_t full_logged; /**< 1: the warning that the last free slot
                                     went has been logged; set by any process,
                                     with exchange; decides over a log line,
                                     nothing else */
    _Atomic uint32_t gone;      /**< 1: the creator ends, and the name is not
                                     for this segment any more. Set by the
                                     creator; a kill leaves it 0 */
    uint32_t unused;            /**< 0 */
} slotmem_header_t;

_Static_assert(sizeof(slotmem_header_t) == SLOTMEM_ALIGN,
               "the in-use map begins at offset 64");

/** Process-local: a mapped segment. */
typedef struct slotmem_segment_t {
    char *slots;                /**< slot 0 */
    slotmem_geometry_t geometry;
    slotmem_layout_t layout;
    slotmem_map_t map;
    slotmem_header_t *header;
} slotmem_segment_t;

/**
 * Compute the layout of a segment in memory.
 * @return APR_SUCCESS; APR_EINVAL: a product or sum overflows (D1), here or in
 *         slotmem_file_layout()
 */
apr_status_t slotmem_layout(slotmem_layout_t *layout,
                            const slotmem_geometry_t *geometry);

/**
 * Create a segment of zero bytes, all slots free.
 * @param segment filled in on success only
 * @param shm_name NULL: anonymous memory, not touched, so that an unused slot
 *        costs nothing. A name: memory that siblings can attach under it; it
 *        is populated at once, so that a lack of memory is an error here and no
 *        SIGBUS later.
 * @param pool the memory is unmapped with it; the name stays
 * @return APR_SUCCESS; APR_EINVAL: slotmem_layout(); APR_EEXIST: the name is
 *         taken; APR_ENOSPC: no room for named memory; else the system's code.
 *         A create that fails leaves no name.
 */
apr_status_t slotmem_segment_create(slotmem_segment_t *segment,
                                    const slotmem_geometry_t *geometry,
                                    const slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool);

/**
 * Lay out a segment in private memory: zero bytes, all slots free.
 * @param segment filled in on success only
 * @param pool the memory goes with it
 * @return APR_SUCCESS; APR_EINVAL: slotmem_layout(); APR_ENOMEM
 */
apr_status_t slotmem_segment_private(slotmem_segment_t *segment,
                                     const slotmem_geometry_t *geometry,
                                     apr_pool_t *pool);

/**
 * Attach a named segment. Its geometry is copied to private memory, and used
 * only after it was verified against the size of the memory that is mapped.
 * @param segment filled in on success only
 * @param shm_name its creator is set
 * @param pool the memory is unmapped with this pool
 * @return APR_SUCCESS; APR_ENOENT: no such name; APR_EEXIST: something is there
 *         that is no file of ours; APR_INCOMPLETE: a file of ours, but no
 *         complete segment of this version and name; else the system's code: it
 *         says nothing about the segment (no descriptors, no memory)
 */
apr_status_t slotmem_segment_attach(slotmem_segment_t *segment,
                                    slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool);

/**
 * Who created the segment in a file, or has begun to? Verifies no proof.
 * @return APR_SUCCESS, or as slotmem_segment_attach()
 */
apr_status_t slotmem_segment_creator(slotmem_creator_t *creator,
                                     const char *path);

/**
 * Remove the name of a segment, if there is one: after its creator has gone.
 * Who has the memory keeps it. What another user has put in its place stays.
 */
void slotmem_segment_remove(const char *path);

/**
 * Private memory that may be large.
 * @return len zero bytes, which go with the pool, or NULL: there is no memory
 *         (an allocation from the pool itself would end the process)
 */
void *slotmem_calloc(apr_pool_t *pool, apr_size_t len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_SEGMENT_H */

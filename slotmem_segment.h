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
 *     slack              after them    SLOTMEM_SLACK, unused
 *
 * Offsets count from an address that is a multiple of SLOTMEM_ALIGN, and the
 * slots start at such an address. slotmem_geometry_t has the shape: each
 * process has a private copy, which reaches the children by fork. No byte of
 * the shared memory is used as a length, an offset or a pointer. Only
 * slotmem_segment_attach() uses the header, and verifies it first.
 *
 * Lifecycle: created in a pool, and unmapped with it. Anonymous memory is
 * inherited by fork and freed with its last process. A named segment is a
 * mapped file in a directory in memory: one child creates it, its siblings
 * attach it while the creator is alive, and the creator removes it. No process
 * keeps a descriptor.
 *
 * A crash leaves nothing of anonymous memory. A creator that is killed leaves
 * its file behind; slotmem_segment_creator() tells which process that was.
 *
 * Concurrency: no lock is needed to create a segment at a path that nobody else
 * uses, or to attach one. Only renaming and removing need the caller's lock.
 * For the slots and their map see slotmem_map.h.
 *
 * Ids such as (D3) are lines of docs/contract.md.
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

/** Alignment of the slots: enough for any type, and a cache line. */
#define SLOTMEM_ALIGN ((apr_size_t)64)

/** Bytes after the last slot. A consumer whose source is not public is known to
 *  write an int there, which could be past the last page (D3). */
#define SLOTMEM_SLACK ((apr_size_t)64)

/** The first word of a complete header: written last. */
#define SLOTMEM_HEADER_MAGIC 0x736c6f74u
/** Bytes that prove who made a named segment. */
#define SLOTMEM_PROOF_LEN 16
/** Version of the layout of header, map and slots. A segment with another
 *  version is not attached: all processes of a generation run the same code, so
 *  the file belongs to another program. */
#define SLOTMEM_HEADER_VERSION 2u

/** A process. Pids are reused, so a pid alone does not identify it.
 *  Process-local, or in a header. */
typedef struct slotmem_creator_t {
    uint64_t started;           /**< start time from the system; 0: not known */
    uint32_t pid;               /**< 0: none */
} slotmem_creator_t;

/** Process-local: the file of a named segment. */
typedef struct slotmem_shm_name_t {
    const char *path;
    unsigned char proof[SLOTMEM_PROOF_LEN]; /**< only processes of the
                                     generation can compute it for this name */
    slotmem_creator_t creator;  /**< Attach sets it, also if it returns
                                     APR_INCOMPLETE: then to what the file says,
                                     or to none */
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

/** Shared memory. The creator writes it before the magic; after that only
 *  full_logged and gone change. A process that writes other values here
 *  misleads only processes that attach the segment by name. */
typedef struct slotmem_header_t {
    _Atomic uint32_t magic;     /**< SLOTMEM_HEADER_MAGIC: written last, with
                                     release; pairs with the load in attach */
    uint32_t version;           /**< SLOTMEM_HEADER_VERSION */
    uint64_t item_size;
    uint32_t item_num;
    uint32_t type;
    unsigned char proof[SLOTMEM_PROOF_LEN]; /**< see slotmem_shm_name_t; it
                                     does not reveal that of another name */
    uint64_t started;           /**< see slotmem_creator_t */
    uint32_t creator;           /**< pid */
    _Atomic uint32_t full_logged; /**< 1: some process has logged that the last
                                     free slot was taken; set by exchange;
                                     decides only whether to log */
    _Atomic uint32_t gone;      /**< 1: the creator ends, so the name is free
                                     again. Set by the creator; stays 0 if the
                                     creator is killed */
    uint32_t unused;            /**< 0 */
} slotmem_header_t;

_Static_assert(sizeof(slotmem_header_t) == SLOTMEM_ALIGN,
               "the in-use map starts at offset 64");

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
 * @param shm_name NULL: anonymous memory, not touched, so that unused slots
 *        take no memory. Otherwise memory that siblings can attach; all pages
 *        are allocated now, so that a lack of memory is an error here and not a
 *        SIGBUS later.
 * @param pool the memory is unmapped with it; the name stays
 * @return APR_SUCCESS; APR_EINVAL: see slotmem_layout(); APR_EEXIST: the name
 *         is taken; APR_ENOSPC: no room for named memory; otherwise an error of
 *         the system. A create that fails leaves no name.
 */
apr_status_t slotmem_segment_create(slotmem_segment_t *segment,
                                    const slotmem_geometry_t *geometry,
                                    const slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool);

/**
 * Lay out a segment in private memory: zero bytes, all slots free.
 * @param segment filled in on success only
 * @param pool frees the memory
 * @return APR_SUCCESS; APR_EINVAL: see slotmem_layout(); APR_ENOMEM
 */
apr_status_t slotmem_segment_private(slotmem_segment_t *segment,
                                     const slotmem_geometry_t *geometry,
                                     apr_pool_t *pool);

/**
 * Attach a named segment. Copies its geometry to private memory, and verifies
 * the copy against the size of the mapped memory before use.
 * @param segment filled in on success only
 * @param shm_name its creator is set
 * @param pool the memory is unmapped with this pool
 * @return APR_SUCCESS; APR_ENOENT: no such name; APR_EEXIST: the path is not a
 *         regular file of this user; APR_INCOMPLETE: it is, but not a complete
 *         segment of this version and name; otherwise an error of the system
 *         that says nothing about the segment (no descriptors, no memory)
 */
apr_status_t slotmem_segment_attach(slotmem_segment_t *segment,
                                    slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool);

/**
 * Find out which process created the segment in a file, or started to. Does not
 * verify the proof.
 * @param creator its pid is 0 if it has marked the segment as gone
 * @return APR_SUCCESS; otherwise see slotmem_segment_attach()
 */
apr_status_t slotmem_segment_creator(slotmem_creator_t *creator,
                                     const char *path);

/**
 * Remove the name of a segment, if it exists, after its creator is gone.
 * Processes that map the memory keep it. Does not remove a file of another
 * user.
 */
void slotmem_segment_remove(const char *path);

/**
 * Allocate private memory that may be large.
 * @return len zero bytes, which the pool frees; NULL: there is no memory (an
 *         allocation from the pool itself would end the process)
 */
void *slotmem_calloc(apr_pool_t *pool, apr_size_t len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_SEGMENT_H */

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
 * slotmem_segment.c: one segment of shared memory. Its layout, what a crash
 * leaves and who may call what stands in slotmem_segment.h.
 *
 * Order. The creator of a named segment writes the header's fields, then the
 * magic with release. Who attaches loads the magic with acquire and then
 * copies the fields once: what is verified is what is used.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/statvfs.h>
#endif

#include "apr_errno.h"
#include "apr_file_info.h"
#include "slotmem_format.h"
#include "slotmem_segment.h"

/* Linux's, for each machine, from 5.14 on; not in every libc's headers (musl).
 * An older Linux answers EINVAL. */
#if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23
#endif

/* Half the address space: sums of a few such terms cannot wrap. */
#define SIZE_LIMIT ((uint64_t)PTRDIFF_MAX)

static uint64_t align_up(uint64_t n)
{
    return (n + SLOTMEM_ALIGN - 1) & ~(uint64_t)(SLOTMEM_ALIGN - 1);
}

apr_status_t slotmem_layout(slotmem_layout_t *layout,
                            const slotmem_geometry_t *geometry)
{
    uint64_t size = geometry->item_size;
    uint64_t num = geometry->item_num;
    /* Everything but the slots, in memory or in the file: below 2^34. */
    uint64_t slots = align_up(sizeof(slotmem_header_t)
                              + slotmem_map_size(geometry->item_num));
    uint64_t file = SLOTMEM_FILE_HEADER + num + SLOTMEM_FILE_DIGEST
                    + sizeof(slotmem_descriptor_t) + sizeof(slotmem_section_t)
                    + sizeof(slotmem_chunk_t) + num + sizeof(slotmem_end_t);
    uint64_t other = 2 * SLOTMEM_ALIGN + (slots > file ? slots : file);

    if (other > SIZE_LIMIT || (num && size > (SIZE_LIMIT - other) / num)) {
        return APR_EINVAL;
    }
    layout->map = sizeof(slotmem_header_t);
    layout->slots = (apr_size_t)slots;
    layout->slots_len = (apr_size_t)(size * num);
    layout->memory_len = layout->slots + layout->slots_len;
    layout->digest_offset = (apr_off_t)(SLOTMEM_FILE_HEADER + size * num + num);
    layout->descriptor_offset = layout->digest_offset + SLOTMEM_FILE_DIGEST;
    layout->image_len = layout->descriptor_offset
                             + (apr_off_t)sizeof(slotmem_descriptor_t);
    return APR_SUCCESS;
}

static char *align_pointer(char *base)
{
    apr_uintptr_t past = (apr_uintptr_t)base % SLOTMEM_ALIGN;

    return past ? base + (SLOTMEM_ALIGN - past) : base;
}

/* APR puts its own size word first, so its base is not aligned. */
static char *aligned_base(const apr_shm_t *shm)
{
    return align_pointer(apr_shm_baseaddr_get(shm));
}

static void map_segment(slotmem_segment_t *segment,
                        const slotmem_geometry_t *geometry,
                        const slotmem_layout_t *layout, char *base)
{
    segment->geometry = *geometry;
    segment->layout = *layout;
    segment->header = (slotmem_header_t *)base;
    segment->slots = base + layout->slots;
    slotmem_map_view(&segment->map, base + layout->map, geometry->item_num);
}

/* Can the system give named memory of this size? apr_shm_create() does not
 * check its mmap() of a name, and touches the first page at once, so the
 * answer has to be had before. An APR that has System V's memory needs less
 * room in /dev/shm, and this asks for more than it must. */
static apr_status_t named_memory_available(apr_size_t len, apr_pool_t *pool)
{
    apr_shm_t *probe;
    apr_status_t rv = apr_shm_create(&probe, len, NULL, pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_shm_destroy(probe);
#ifdef __linux__
    {
        struct statvfs fs;      /* f_blocks 0: a tmpfs without a limit */

        if (statvfs("/dev/shm", &fs) == 0 && fs.f_blocks
            && fs.f_bavail <= len / fs.f_frsize) {
            return APR_ENOSPC;
        }
    }
#endif
    return APR_SUCCESS;
}

/* Have every page now. Where there is none to have (a full file system behind
 * the memory, or a file that is shorter than it says) the answer is EFAULT. */
static apr_status_t populate(char *base, apr_size_t len)
{
#ifdef MADV_POPULATE_WRITE
    apr_uintptr_t past = (apr_uintptr_t)base % (apr_uintptr_t)getpagesize();

    if (madvise(base - past, len + past, MADV_POPULATE_WRITE) != 0
        && errno != EINVAL) {
        return errno == EFAULT ? APR_ENOSPC : errno;
    }
#else
    (void)base;
    (void)len;
#endif
    return APR_SUCCESS;
}

static void init_header(slotmem_header_t *header,
                        const slotmem_geometry_t *geometry,
                        const slotmem_shm_name_t *shm_name)
{
    header->version = SLOTMEM_HEADER_VERSION;
    header->item_size = geometry->item_size;
    header->item_num = geometry->item_num;
    header->type = geometry->type;
    header->creator = (uint32_t)getpid();
    if (shm_name) {
        memcpy(header->secret, shm_name->secret, sizeof(header->secret));
    }
    atomic_store_explicit(&header->magic, SLOTMEM_HEADER_MAGIC,
                          memory_order_release);
}

/* Where the name is a file's: has another user put something in its place?
 * Then it is not opened: a FIFO would block. */
static int is_foreign(const char *name, apr_pool_t *pool)
{
    apr_finfo_t info;

    return apr_stat(&info, name, APR_FINFO_LINK | APR_FINFO_TYPE
                                 | APR_FINFO_USER, pool) == APR_SUCCESS
           && (info.filetype != APR_REG || info.user != geteuid());
}

void slotmem_segment_remove(const char *name, apr_pool_t *pool)
{
    if (!is_foreign(name, pool)) {
        apr_shm_remove(name, pool);
    }
}

apr_status_t slotmem_segment_create(slotmem_segment_t *segment,
                                    const slotmem_geometry_t *geometry,
                                    const slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool)
{
    slotmem_layout_t layout;
    apr_shm_t *shm;
    apr_status_t rv = slotmem_layout(&layout, geometry);

    if (rv == APR_SUCCESS && shm_name) {
        rv = named_memory_available(layout.memory_len + SLOTMEM_ALIGN, pool);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_shm_create(&shm, layout.memory_len + SLOTMEM_ALIGN,
                        shm_name ? shm_name->name : NULL, pool);
    if (rv != APR_SUCCESS) {
        if (shm_name && !APR_STATUS_IS_EEXIST(rv)) {
            slotmem_segment_remove(shm_name->name, pool);
        }
        return rv;
    }
    if (shm_name) {
        rv = populate(aligned_base(shm), layout.memory_len);
        if (rv != APR_SUCCESS) {
            apr_shm_destroy(shm);
            return rv;
        }
    }
    map_segment(segment, geometry, &layout, aligned_base(shm));
    init_header(segment->header, geometry, shm_name);
    return APR_SUCCESS;
}

/* Does the mapped memory hold a complete segment? Copies what it says of its
 * shape and verifies the copy. (How much is mapped, APR has from the system, or
 * for System V's memory from the name's file, which the creator's user owns.)
 */
static int verify(const apr_shm_t *shm, const unsigned char *secret,
                  slotmem_geometry_t *geometry, slotmem_layout_t *layout,
                  pid_t *creator)
{
    apr_size_t mapped = apr_shm_size_get(shm);
    slotmem_header_t *shared;
    slotmem_header_t header;

    /* apr_shm_attach() does not check its mmap(): what MAP_FAILED wraps to. */
    if ((apr_uintptr_t)apr_shm_baseaddr_get(shm) < SLOTMEM_ALIGN) {
        return 0;
    }
    if (mapped < 2 * SLOTMEM_ALIGN || mapped > SIZE_LIMIT) {
        return 0;
    }
    shared = (slotmem_header_t *)aligned_base(shm);
    if (atomic_load_explicit(&shared->magic, memory_order_acquire)
        != SLOTMEM_HEADER_MAGIC) {
        return 0;
    }
    memcpy(&header, shared, sizeof(header));
    if (header.version != SLOTMEM_HEADER_VERSION
        || memcmp(header.secret, secret, sizeof(header.secret)) != 0) {
        return 0;
    }
    if (header.item_size > SIZE_LIMIT) {
        return 0;
    }
    geometry->item_size = (apr_size_t)header.item_size;
    geometry->item_num = header.item_num;
    geometry->type = header.type;
    *creator = (pid_t)header.creator;
    return slotmem_layout(layout, geometry) == APR_SUCCESS
           && layout->memory_len <= mapped - SLOTMEM_ALIGN;
}

apr_status_t slotmem_segment_attach(slotmem_segment_t *segment, pid_t *creator,
                                    const slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool)
{
    slotmem_geometry_t geometry;
    slotmem_layout_t layout;
    apr_shm_t *shm;
    apr_status_t rv;

    if (is_foreign(shm_name->name, pool)) {
        return APR_INCOMPLETE;
    }
    rv = apr_shm_attach(&shm, shm_name->name, pool);
    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_ENOENT;
    }
    if (rv != APR_SUCCESS) {
        return APR_INCOMPLETE;
    }
    if (!verify(shm, shm_name->secret, &geometry, &layout, creator)
        || populate(aligned_base(shm), layout.memory_len) != APR_SUCCESS) {
        apr_shm_detach(shm);
        return APR_INCOMPLETE;
    }
    map_segment(segment, &geometry, &layout, aligned_base(shm));
    return APR_SUCCESS;
}

apr_status_t slotmem_segment_private(slotmem_segment_t *segment,
                                     const slotmem_geometry_t *geometry,
                                     apr_pool_t *pool)
{
    slotmem_layout_t layout;
    apr_status_t rv = slotmem_layout(&layout, geometry);
    char *memory;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    memory = slotmem_calloc(pool, layout.memory_len + SLOTMEM_ALIGN);
    if (!memory) {
        return APR_ENOMEM;
    }
    map_segment(segment, geometry, &layout, align_pointer(memory));
    return APR_SUCCESS;
}

static apr_status_t free_memory(void *memory)
{
    free(memory);
    return APR_SUCCESS;
}

void *slotmem_calloc(apr_pool_t *pool, apr_size_t len)
{
    void *memory = calloc(1, len ? len : 1);

    if (memory) {
        apr_pool_cleanup_register(pool, memory, free_memory,
                                  apr_pool_cleanup_null);
    }
    return memory;
}

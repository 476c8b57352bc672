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
 * slotmem_segment.c: one segment of shared memory; see slotmem_segment.h.
 *
 * Order. The creator of a named segment writes its own pid, allocates the file,
 * writes the other fields of the header, and then the magic with release. The
 * caller may then rename the file to the path at which others look. A process
 * that attaches loads the magic with acquire and then copies the fields once,
 * so that it uses exactly what it has verified.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_errno.h"

#include "slotmem_format.h"
#include "slotmem_segment.h"

/* Linux has this from 5.14 on, with one value for all machines, but not every
 * libc defines it (musl). An older Linux returns EINVAL. */
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
    uint64_t slots = align_up(sizeof(slotmem_header_t)
                              + slotmem_map_size(geometry->item_num));
    /* All but the slots, with the bytes that align the start: below 2^34. */
    uint64_t other = 2 * SLOTMEM_ALIGN + SLOTMEM_SLACK + slots;
    slotmem_file_layout_t file;

    /* So a segment that exists has a file layout as well. */
    if (other > SIZE_LIMIT || (num && size > (SIZE_LIMIT - other) / num)
        || !slotmem_file_layout(&file, size, geometry->item_num)) {
        return APR_EINVAL;
    }
    layout->map = sizeof(slotmem_header_t);
    layout->slots = (apr_size_t)slots;
    layout->slots_len = (apr_size_t)(size * num);
    layout->memory_len = layout->slots + layout->slots_len + SLOTMEM_SLACK;
    return APR_SUCCESS;
}

static char *align_pointer(char *base)
{
    apr_uintptr_t past = (apr_uintptr_t)base % SLOTMEM_ALIGN;

    return past ? base + (SLOTMEM_ALIGN - past) : base;
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

/* Allocate every page now. If that is not possible (the file system behind the
 * memory is full, or somebody truncated the file), madvise() fails with EFAULT,
 * which becomes APR_ENOSPC. */
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
    if (shm_name) {
        memcpy(header->proof, shm_name->proof, sizeof(header->proof));
    }
    atomic_store_explicit(&header->magic, SLOTMEM_HEADER_MAGIC,
                          memory_order_release);
}

/* ---- memory with a name ---- */

static apr_status_t system_error(void)
{
    int error = errno;

    return error ? error : APR_EGENERAL;
}

/* Process-local: a mapped file. */
typedef struct mapping_t {
    char *base;
    apr_size_t len;
} mapping_t;

static apr_status_t unmap(void *data)
{
    mapping_t *mapping = data;

    munmap(mapping->base, mapping->len);
    return APR_SUCCESS;
}

/* Map a file until the pool is destroyed, or until unmap_now(). */
static apr_status_t map_file(mapping_t **mapped, int fd, apr_size_t len,
                             apr_pool_t *pool)
{
    mapping_t *mapping = apr_palloc(pool, sizeof(*mapping));

    mapping->len = len;
    mapping->base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapping->base == MAP_FAILED) {
        return system_error();
    }
    apr_pool_cleanup_register(pool, mapping, unmap, apr_pool_cleanup_null);
    *mapped = mapping;
    return APR_SUCCESS;
}

static void unmap_now(mapping_t *mapping, apr_pool_t *pool)
{
    apr_pool_cleanup_run(pool, mapping, unmap);
}

/* Set the length of a new file, and allocate all of it. */
static apr_status_t allocate_file(int fd, apr_size_t len)
{
    int error = 0;

    if (ftruncate(fd, (off_t)len) != 0) {
        return system_error();
    }
#ifdef __linux__
    do {
        error = posix_fallocate(fd, 0, (off_t)len);
    } while (error == EINTR);
#endif
    return error == EINVAL || error == EOPNOTSUPP ? APR_SUCCESS : error;
}

/* Write this first: a large file takes time to allocate, and if the creator is
 * killed meanwhile, its siblings must be able to remove the file. */
static apr_status_t record_creator(int fd, const slotmem_creator_t *creator)
{
    slotmem_header_t header;
    ssize_t done;

    memset(&header, 0, sizeof(header));
    header.version = SLOTMEM_HEADER_VERSION;
    header.started = creator->started;
    header.creator = creator->pid;
    done = pwrite(fd, &header, sizeof(header), 0);
    return done == (ssize_t)sizeof(header) ? APR_SUCCESS
           : done < 0 ? system_error() : APR_ENOSPC;
}

static apr_status_t fill_file(mapping_t **mapping, int fd, apr_size_t len,
                              const slotmem_creator_t *creator,
                              apr_pool_t *pool)
{
    apr_status_t rv = record_creator(fd, creator);

    if (rv == APR_SUCCESS) {
        rv = allocate_file(fd, len);
    }
    if (rv == APR_SUCCESS) {
        rv = map_file(mapping, fd, len, pool);
    }
    if (rv == APR_SUCCESS) {
        rv = populate((*mapping)->base, len);
        if (rv != APR_SUCCESS) {
            unmap_now(*mapping, pool);
        }
    }
    return rv;
}

static apr_status_t create_named(slotmem_segment_t *segment,
                                 const slotmem_geometry_t *geometry,
                                 const slotmem_layout_t *layout,
                                 const slotmem_shm_name_t *shm_name,
                                 apr_pool_t *pool)
{
    mapping_t *mapping = NULL;
    apr_status_t rv;
    int fd = open(shm_name->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        return system_error();
    }
    rv = fill_file(&mapping, fd, layout->memory_len, &shm_name->creator, pool);
    close(fd);
    if (rv != APR_SUCCESS) {
        unlink(shm_name->path);
        return rv;
    }
    map_segment(segment, geometry, layout, mapping->base);
    init_header(segment->header, geometry, shm_name);
    return APR_SUCCESS;
}

/* Open a file of this user. Does not follow a link or block on a FIFO. */
static apr_status_t open_named(int *opened, apr_size_t *len, const char *path)
{
    struct stat info;
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) {
        return errno == ELOOP || errno == EACCES || errno == EISDIR
                       || errno == ENXIO
                   ? APR_EEXIST : system_error();
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)
        || info.st_uid != geteuid()) {
        close(fd);
        return APR_EEXIST;
    }
    *len = info.st_size > 0 && (uint64_t)info.st_size <= SIZE_LIMIT
           ? (apr_size_t)info.st_size : 0;
    *opened = fd;
    return APR_SUCCESS;
}

void slotmem_segment_remove(const char *path)
{
    struct stat info;

    if (lstat(path, &info) == 0 && S_ISREG(info.st_mode)
        && info.st_uid == geteuid()) {
        unlink(path);
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

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (shm_name) {
        return create_named(segment, geometry, &layout, shm_name, pool);
    }
    rv = apr_shm_create(&shm, layout.memory_len + SLOTMEM_ALIGN, NULL, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    /* APR stores the size before its base, which is therefore not aligned. */
    map_segment(segment, geometry, &layout,
                align_pointer(apr_shm_baseaddr_get(shm)));
    init_header(segment->header, geometry, NULL);
    return APR_SUCCESS;
}

/* Is this the complete segment with that name? Copies the header and verifies
 * the copy. */
static int verify(const mapping_t *mapping, slotmem_shm_name_t *shm_name,
                  slotmem_geometry_t *geometry, slotmem_layout_t *layout)
{
    slotmem_header_t *shared = (slotmem_header_t *)mapping->base;
    int complete = atomic_load_explicit(&shared->magic, memory_order_acquire)
                   == SLOTMEM_HEADER_MAGIC;
    slotmem_header_t header;

    memcpy(&header, shared, sizeof(header));
    shm_name->creator.pid = header.creator;
    shm_name->creator.started = header.started;
    if (!complete || header.version != SLOTMEM_HEADER_VERSION
        || memcmp(header.proof, shm_name->proof, sizeof(header.proof)) != 0
        || header.item_size > SIZE_LIMIT) {
        return 0;
    }
    geometry->item_size = (apr_size_t)header.item_size;
    geometry->item_num = header.item_num;
    geometry->type = header.type;
    return slotmem_layout(layout, geometry) == APR_SUCCESS
           && layout->memory_len <= mapping->len;
}

apr_status_t slotmem_segment_attach(slotmem_segment_t *segment,
                                    slotmem_shm_name_t *shm_name,
                                    apr_pool_t *pool)
{
    slotmem_geometry_t geometry;
    slotmem_layout_t layout;
    mapping_t *mapping = NULL;
    apr_size_t len;
    apr_status_t rv;
    int fd;

    memset(&shm_name->creator, 0, sizeof(shm_name->creator));
    rv = open_named(&fd, &len, shm_name->path);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = len < sizeof(slotmem_header_t) ? APR_INCOMPLETE
                                        : map_file(&mapping, fd, len, pool);
    close(fd);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = verify(mapping, shm_name, &geometry, &layout)
         ? populate(mapping->base, layout.memory_len) : APR_INCOMPLETE;
    if (rv != APR_SUCCESS) {
        unmap_now(mapping, pool);
        return rv;
    }
    map_segment(segment, &geometry, &layout, mapping->base);
    return APR_SUCCESS;
}

apr_status_t slotmem_segment_creator(slotmem_creator_t *creator,
                                     const char *path)
{
    slotmem_header_t header;
    apr_size_t len = 0;
    ssize_t found;
    int fd;
    apr_status_t rv = open_named(&fd, &len, path);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    found = read(fd, &header, sizeof(header));
    close(fd);
    if (found != sizeof(header)
        || (header.magic && header.magic != SLOTMEM_HEADER_MAGIC)
        || header.version != SLOTMEM_HEADER_VERSION) {
        return APR_INCOMPLETE;
    }
    creator->pid = atomic_load(&header.gone) ? 0 : header.creator;
    creator->started = header.started;
    return APR_SUCCESS;
}

/* ---- private memory ---- */

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

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
 * test_segment.c: layout, anonymous and named memory, and what attach refuses.
 *
 * Children create and attach named segments, as with the module; a child
 * reports by its exit code.
 */

#include "unit_apr.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "slotmem_format.h"

#if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23          /* not in every libc's headers */
#endif

#define MIB ((apr_size_t)1 << 20)

/* ---- layout ---- */

static apr_status_t layout_of(slotmem_layout_t *layout, apr_size_t size,
                              apr_uint32_t num)
{
    slotmem_geometry_t geometry = unit_geometry(size, num, 0);

    memset(layout, 0xee, sizeof(*layout));
    return slotmem_layout(layout, &geometry);
}

/* Returns whether the file has a layout, and if so, stores it. */
static int file_layout_of(slotmem_file_layout_t *layout, apr_size_t size,
                          apr_uint32_t num)
{
    memset(layout, 0xee, sizeof(*layout));
    return slotmem_file_layout(layout, size, num);
}

static void check_layout(apr_size_t size, apr_uint32_t num)
{
    slotmem_layout_t layout;
    slotmem_file_layout_t file;
    apr_size_t area = size * num;

    assert_int_equal(layout_of(&layout, size, num), APR_SUCCESS);
    assert_int_equal(layout.map, 64);
    assert_int_equal(layout.slots % SLOTMEM_ALIGN, 0);
    assert_true(layout.slots >= 64 + slotmem_map_size(num));
    assert_true(layout.slots < 64 + slotmem_map_size(num) + SLOTMEM_ALIGN);
    assert_int_equal(layout.slots_len, area);
    assert_int_equal(layout.memory_len, layout.slots + area + 64);
    assert_true(file_layout_of(&file, size, num));
    assert_int_equal(file.flags_offset, 8 + area);
    assert_int_equal(file.digest_offset, 8 + area + num);
    assert_int_equal(file.descriptor_offset, 8 + area + num + 16);
    assert_int_equal(file.image_len, 8 + area + num + 32);
}

/* [D1][D3] Offsets in memory and in the file, also for no slots and for slots
 * without bytes; slot 0 is aligned and slots are contiguous. */
static void test_layout(void **state)
{
    static const apr_size_t item_sizes[] = { 0, 1, 3, 8, 544, 1456, 65536 };
    static const apr_uint32_t nums[] = { 0, 1, 63, 64, 65, 1025, 65537 };
    size_t i;
    size_t k;

    (void)state;
    for (i = 0; i < ELEMENTS(item_sizes); i++) {
        for (k = 0; k < ELEMENTS(nums); k++) {
            /* Some of these products do not fit in 32 bits. */
            if ((apr_uint64_t)item_sizes[i] * nums[k] < PTRDIFF_MAX) {
                check_layout(item_sizes[i], nums[k]);
            }
        }
    }
}

/* [D1] A product or a sum that overflows is refused; the largest ones that do
 * not overflow are right, in memory and in the file, with the run-time claims.
 */
static void test_layout_overflow(void **state)
{
    const apr_size_t most = PTRDIFF_MAX;
    slotmem_layout_t layout;
    slotmem_file_layout_t file;
    apr_size_t low = 0;
    apr_size_t high = most;

    (void)state;
    assert_false(file_layout_of(&file, APR_SIZE_MAX, 1));
    assert_false(file_layout_of(&file, APR_SIZE_MAX, UINT32_MAX));
    assert_false(file_layout_of(&file, most / 2 + 1, 2));
    assert_false(file_layout_of(&file, most - 113, 1));
    assert_int_equal(file.image_len, 0);
    assert_true(file_layout_of(&file, most - 114, 1));
    assert_true(file_layout_of(&file, APR_SIZE_MAX, 0));
    assert_int_equal(file.image_len, 40);
    assert_int_equal(layout_of(&layout, APR_SIZE_MAX, 1), APR_EINVAL);
    assert_int_equal(layout_of(&layout, APR_SIZE_MAX, 2), APR_EINVAL);
    assert_int_equal(layout_of(&layout, APR_SIZE_MAX, UINT32_MAX), APR_EINVAL);
    assert_int_equal(layout_of(&layout, APR_SIZE_MAX - 64, 1), APR_EINVAL);
    assert_int_equal(layout_of(&layout, most, 1), APR_EINVAL);
    assert_int_equal(layout_of(&layout, most / 2 + 1, 2), APR_EINVAL);
    assert_int_equal(layout_of(&layout, (apr_size_t)1 << (8 * sizeof(most) - 2),
                               4), APR_EINVAL);    /* the product wraps to 0 */
    assert_int_equal(layout_of(&layout, APR_SIZE_MAX, 0), APR_SUCCESS);
    assert_int_equal(layout.slots_len, 0);

    /* The limit for one slot: every sum stays below the limit itself. */
    while (low < high) {
        apr_size_t middle = low + (high - low + 1) / 2;

        if (layout_of(&layout, middle, 1) == APR_SUCCESS) {
            low = middle;
        }
        else {
            high = middle - 1;
        }
    }
    assert_int_equal(layout_of(&layout, low, 1), APR_SUCCESS);
    assert_true(low > most - 1024);
    assert_int_equal(layout.slots_len, low);
    assert_true(layout.memory_len + SLOTMEM_ALIGN <= most);
    assert_true(layout.memory_len >= low + 64);
    assert_true(file_layout_of(&file, low, 1));
    assert_true(file.image_len > (apr_off_t)low);
    assert_true((apr_uint64_t)file.image_len + sizeof(slotmem_section_t)
                + sizeof(slotmem_chunk_t) + 1 + sizeof(slotmem_end_t)
                <= (apr_uint64_t)most);
}

/* [D1] The largest number of slots fits a 64-bit address space; a 32-bit one
 * refuses it. */
static void test_layout_of_most_slots(void **state)
{
    slotmem_layout_t layout;

    (void)state;
#if APR_SIZEOF_VOIDP == 8
    check_layout(0, UINT32_MAX);
    check_layout(1, UINT32_MAX);
    check_layout(1000000, UINT32_MAX);
    assert_int_equal(layout_of(&layout, (apr_size_t)1 << 31, UINT32_MAX),
                     APR_EINVAL);
#else
    assert_int_equal(layout_of(&layout, 1, UINT32_MAX), APR_EINVAL);
    assert_int_equal(layout_of(&layout, 65536, 65536), APR_EINVAL);
#endif
}

/* ---- anonymous memory ---- */

static void create(slotmem_segment_t *segment, apr_size_t size,
                   apr_uint32_t num, apr_pool_t *pool)
{
    slotmem_geometry_t geometry = unit_geometry(size, num, 5);

    assert_int_equal(slotmem_segment_create(segment, &geometry, NULL, pool),
                     APR_SUCCESS);
}

/* The pages of a range that are resident. */
static size_t resident(const char *from, apr_size_t len)
{
    size_t page = (size_t)getpagesize();
    const char *start = from - (uintptr_t)from % page;
    size_t pages = (size_t)(from + len - start + page - 1) / page;
    unsigned char *in_core = malloc(pages);
    size_t count = 0;
    size_t i;

    assert_non_null(in_core);
    assert_int_equal(mincore((void *)start, (size_t)(from + len - start),
                             in_core), 0);
    for (i = 0; i < pages; i++) {
        count += in_core[i] & 1;
    }
    free(in_core);
    return count;
}

/* [D1][D3] A new segment is all zero, all free, and as large as it says.
 * Writing all slots must not touch the map, which AddressSanitizer alone cannot
 * see. */
static void test_create(void **state)
{
    static const struct {
        apr_size_t size;
        apr_uint32_t num;
    } shapes[] = {
        { 0, 0 }, { 0, 10 }, { 10, 0 }, { 1, 1 }, { 1, 64 }, { 3, 65 },
        { 544, 12 }, { 1456, 100 }, { 8, 70000 }, { 0, 70000 }
    };
    unit_place_t *place = *state;
    size_t i;

    for (i = 0; i < ELEMENTS(shapes); i++) {
        apr_size_t len = shapes[i].size * shapes[i].num;
        slotmem_segment_t segment;
        apr_size_t k;

        create(&segment, shapes[i].size, shapes[i].num, place->pool);
        assert_int_equal((uintptr_t)segment.slots % SLOTMEM_ALIGN, 0);
        assert_int_equal((uintptr_t)segment.header % SLOTMEM_ALIGN, 0);
        assert_int_equal(segment.geometry.item_size, shapes[i].size);
        assert_int_equal(segment.geometry.item_num, shapes[i].num);
        assert_int_equal(segment.geometry.type, 5);
        assert_int_equal(segment.layout.slots_len, len);
        assert_int_equal(segment.header->full_logged, 0);
        for (k = 0; k < len; k++) {
            assert_int_equal(segment.slots[k], 0);
        }
        memset(segment.slots, 0xff, len);
        assert_int_equal(slotmem_map_count_free(&segment.map), shapes[i].num);
        assert_int_equal(unit_grab(&segment.map), 0);
        while (unit_grab(&segment.map) < shapes[i].num) {
        }
        for (k = 0; k < len; k++) {
            assert_int_equal((unsigned char)segment.slots[k], 0xff);
        }
        assert_int_equal(unit_walk(&segment.map, NULL), 0);
    }
}

/* [D1] Anonymous memory is not populated: 1 GiB of slots takes a page or two,
 * and writing a slot at the end takes as much again. */
static void test_untouched(void **state)
{
    unit_place_t *place = *state;
    slotmem_segment_t segment;
    const char *start;

    create(&segment, 1024, 1 << 20, place->pool);
    start = (const char *)segment.header;
    assert_true(resident(start, segment.layout.memory_len) <= 1);
    assert_int_equal(unit_grab(&segment.map), 0);
    segment.slots[segment.layout.slots_len - 1] = 1;
    assert_true(resident(start, segment.layout.memory_len) <= 3);
}

/* Half of the address space as one slot. A 32-bit system may have that much: so
 * take it first, and then there is no other half. */
static slotmem_geometry_t half_of_all(unit_place_t *place)
{
    slotmem_geometry_t geometry = unit_geometry((apr_size_t)PTRDIFF_MAX - 65536,
                                                1, 0);
    slotmem_segment_t segment;

    if (sizeof(void *) == 4) {
        slotmem_segment_create(&segment, &geometry, NULL, place->pool);
    }
    return geometry;
}

/* [D1] More than the address space: mmap's error, and no segment. */
static void test_no_memory(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = half_of_all(place);
    slotmem_segment_t segment;

    memset(&segment, 0x77, sizeof(segment));
    assert_int_equal(slotmem_segment_create(&segment, &geometry, NULL,
                                            place->pool), APR_ENOMEM);
    geometry = unit_geometry(APR_SIZE_MAX, 3, 0);
    assert_int_equal(slotmem_segment_create(&segment, &geometry, NULL,
                                            place->pool), APR_EINVAL);
    assert_int_equal(segment.geometry.item_num, 0x77777777);
}

/* [B3][B5] The memory is unmapped with its pool. */
static void test_unmapped_with_its_pool(void **state)
{
    unit_place_t *place = *state;
    slotmem_segment_t segment;
    unsigned char in_core;
    apr_pool_t *pool;
    char *page;

    apr_pool_create(&pool, place->pool);
    create(&segment, 4096, 16, pool);
    page = segment.slots + 8192;
    page -= (uintptr_t)page % (uintptr_t)getpagesize();
    assert_int_equal(mincore(page, 1, &in_core), 0);
    apr_pool_destroy(pool);
    assert_int_equal(mincore(page, 1, &in_core), -1);
    assert_int_equal(errno, ENOMEM);
}

static void write_in_child(void *data)
{
    slotmem_segment_t *segment = data;

    CHILD_CHECK(segment->slots[0] == 7);
    CHILD_CHECK(unit_grab(&segment->map) == 1);
    segment->slots[1] = 9;
}

/* [B4] A child shares a segment that was created before the fork. */
static void test_inherited(void **state)
{
    unit_place_t *place = *state;
    slotmem_segment_t segment;

    create(&segment, 1, 8, place->pool);
    assert_int_equal(unit_grab(&segment.map), 0);
    segment.slots[0] = 7;
    assert_int_equal(unit_in_child(write_in_child, &segment), 0);
    assert_int_equal(segment.slots[1], 9);
    assert_int_equal(slotmem_map_test(&segment.map, 1), 1);
}

/* ---- named memory ---- */

static const unsigned char proof[SLOTMEM_PROOF_LEN] = "sixteen letters";

#define STARTED UINT64_C(0x123456789abc)

static slotmem_shm_name_t *name_of(const unit_place_t *place)
{
    slotmem_shm_name_t *name = apr_pcalloc(place->pool, sizeof(*name));

    name->path = apr_pstrcat(place->pool, place->dir, "/named", NULL);
    memcpy(name->proof, proof, sizeof(proof));
    name->creator.pid = (uint32_t)getpid();
    name->creator.started = STARTED;
    return name;
}

static void create_named(slotmem_segment_t *segment, apr_size_t size,
                         apr_uint32_t num, unit_place_t *place)
{
    slotmem_geometry_t geometry = unit_geometry(size, num, 5);

    assert_int_equal(slotmem_segment_create(segment, &geometry, name_of(place),
                                            place->pool), APR_SUCCESS);
}

static apr_status_t attach_named(slotmem_segment_t *segment, pid_t *creator,
                                 unit_place_t *place, apr_pool_t *pool)
{
    slotmem_shm_name_t *name = name_of(place);
    apr_status_t rv;

    memset(segment, 0x77, sizeof(*segment));
    rv = slotmem_segment_attach(segment, name, pool);
    if (rv == APR_SUCCESS) {
        assert_true(name->creator.started == STARTED);
    }
    *creator = (pid_t)name->creator.pid;
    return rv;
}

static void attach_in_child(void *data)
{
    unit_place_t *place = data;
    slotmem_segment_t segment;
    apr_pool_t *pool;
    pid_t creator = 0;

    CHILD_CHECK(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    CHILD_CHECK(attach_named(&segment, &creator, place, pool) == APR_SUCCESS);
    CHILD_CHECK(creator == getppid());
    CHILD_CHECK(segment.geometry.item_size == 100);
    CHILD_CHECK(segment.geometry.item_num == 2000);
    CHILD_CHECK(segment.geometry.type == 5);
    CHILD_CHECK((uintptr_t)segment.slots % SLOTMEM_ALIGN == 0);
    CHILD_CHECK(segment.slots[0] == 7);
    CHILD_CHECK(unit_grab(&segment.map) == 1);
    segment.slots[segment.layout.slots_len - 1] = 9;
    /* The creator must remove the name. */
    apr_pool_destroy(pool);
    CHILD_CHECK(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    CHILD_CHECK(attach_named(&segment, &creator, place, pool) == APR_SUCCESS);
}

/* [B8] A named segment: a sibling can attach it, with the creator's pid; a
 * second creator finds the name taken; it is gone once the creator removes it.
 * */
static void test_named(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = unit_geometry(1, 1, 0);
    slotmem_segment_t segment;
    slotmem_segment_t other;
    slotmem_creator_t maker;
    pid_t creator = 0;

    assert_int_equal(attach_named(&other, &creator, place, place->pool),
                     APR_ENOENT);
    assert_int_equal(creator, 0);
    create_named(&segment, 100, 2000, place);
    assert_int_equal(slotmem_map_count_free(&segment.map), 2000);
    assert_int_equal(unit_grab(&segment.map), 0);
    segment.slots[0] = 7;

    assert_int_equal(slotmem_segment_create(&other, &geometry, name_of(place),
                                            place->pool), APR_EEXIST);
    assert_int_equal(unit_in_child(attach_in_child, place), 0);
    assert_int_equal(segment.slots[segment.layout.slots_len - 1], 9);
    assert_int_equal(slotmem_map_test(&segment.map, 1), 1);

    assert_int_equal(slotmem_segment_creator(&maker, name_of(place)->path),
                     APR_SUCCESS);
    assert_int_equal(maker.pid, getpid());
    assert_true(maker.started == STARTED);
    segment.header->magic = SLOTMEM_HEADER_MAGIC + 1;
    assert_int_equal(slotmem_segment_creator(&maker, name_of(place)->path),
                     APR_INCOMPLETE);
    segment.header->magic = SLOTMEM_HEADER_MAGIC;
    atomic_store(&segment.header->gone, 1);
    assert_int_equal(slotmem_segment_creator(&maker, name_of(place)->path),
                     APR_SUCCESS);
    assert_int_equal(maker.pid, 0);

    slotmem_segment_remove(name_of(place)->path);
    assert_int_equal(attach_named(&other, &creator, place, place->pool),
                     APR_ENOENT);
    assert_int_equal(creator, 0);
    assert_int_equal(segment.slots[0], 7);
}

/* A creator that is killed after it has started to allocate the segment. */
static void create_and_be_killed(void *data)
{
    const struct rlimit least = { 4096, 4096 };
    const struct rlimit none = { 0, 0 };
    slotmem_geometry_t geometry = unit_geometry(4096, 100, 0);
    slotmem_segment_t segment;
    unit_place_t *place = data;

    CHILD_CHECK(setrlimit(RLIMIT_CORE, &none) == 0
                && setrlimit(RLIMIT_FSIZE, &least) == 0);
    signal(SIGXFSZ, SIG_DFL);
    slotmem_segment_create(&segment, &geometry, name_of(place), place->pool);
}

/* [B8] If a creator is killed before its segment is complete, the remains tell
 * whose they are: others remove them. They are never attached. */
static void test_half_made(void **state)
{
    unit_place_t *place = *state;
    slotmem_creator_t maker;
    slotmem_segment_t other;
    pid_t creator = 0;

    assert_int_equal(unit_in_child(create_and_be_killed, place), -SIGXFSZ);
    assert_int_equal(slotmem_segment_creator(&maker, name_of(place)->path),
                     APR_SUCCESS);
    assert_true(maker.pid != 0 && maker.started == STARTED);
    assert_int_equal(attach_named(&other, &creator, place, place->pool),
                     APR_INCOMPLETE);
    assert_int_equal(creator, maker.pid);
}

static void attach_without_descriptors(void *data)
{
    struct rlimit none = { 0, 0 };
    slotmem_segment_t segment;
    pid_t creator;

    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHILD_CHECK(attach_named(&segment, &creator, data,
                             ((unit_place_t *)data)->pool) == EMFILE);
    CHILD_CHECK(segment.geometry.item_num == 0x77777777);
}

static void attach_without_memory(void *data)
{
    struct rlimit none = { 0, 0 };
    slotmem_segment_t segment;
    pid_t creator;

    CHILD_CHECK(setrlimit(RLIMIT_AS, &none) == 0);
    CHILD_CHECK(attach_named(&segment, &creator, data,
                             ((unit_place_t *)data)->pool) == ENOMEM);
    CHILD_CHECK(segment.geometry.item_num == 0x77777777);
}

/* [B8] Without descriptors or memory attach returns that error, and none that
 * could mean "there is no such segment". No descriptor is left open. */
static void test_attach_without_resources(void **state)
{
    unit_place_t *place = *state;
    int before = dup(0);
    slotmem_segment_t segment;
    slotmem_segment_t other;
    pid_t creator;
    int after;

    close(before);
    create_named(&segment, 4096, 100, place);
    assert_int_equal(attach_named(&other, &creator, place, place->pool),
                     APR_SUCCESS);
    after = dup(0);
    close(after);
    assert_int_equal(after, before);
    assert_int_equal(unit_in_child(attach_without_descriptors, place), 0);
    assert_int_equal(unit_in_child(attach_without_memory, place), 0);
}

/* [D3] The last slot is followed by 64 unused bytes, in anonymous and in named
 * memory, also if the slots end at the end of a page. */
static void test_slack(void **state)
{
    enum { PAGE = 4096 };
    unit_place_t *place = *state;
    slotmem_segment_t segment;
    apr_size_t size;
    int named;

    for (named = 0; named < 2; named++) {
        for (size = PAGE - 192; size <= PAGE + 64; size++) {
            apr_pool_t *pool;
            apr_size_t i;
            char *end;

            apr_pool_create(&pool, place->pool);
            if (named) {
                slotmem_geometry_t geometry = unit_geometry(size, 1, 0);

                assert_int_equal(slotmem_segment_create(&segment, &geometry,
                                                        name_of(place), pool),
                                 APR_SUCCESS);
                slotmem_segment_remove(name_of(place)->path);
            }
            else {
                create(&segment, size, 1, pool);
            }
            end = segment.slots + size;
            for (i = 0; i < 64; i++) {
                assert_int_equal(end[i], 0);
            }
            memset(end, 0xff, 64);
            assert_int_equal(slotmem_map_count_free(&segment.map), 1);
            assert_true(end + 64 <= (char *)segment.header
                                    + segment.layout.memory_len);
            apr_pool_destroy(pool);
        }
    }
}

/* Can the system populate memory on request? (qemu's user mode accepts advice
 * that it does not know, and does nothing.) */
static int can_populate(void)
{
#ifdef MADV_POPULATE_WRITE
    size_t page = (size_t)getpagesize();
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int can;

    assert_true(memory != MAP_FAILED);
    can = madvise(memory, page, MADV_POPULATE_WRITE) == 0
          && resident(memory, page) == 1;
    munmap(memory, page);
    if (!can) {
        fputs("skipped: MADV_POPULATE_WRITE does nothing here\n", stderr);
    }
    return can;
#else
    fputs("skipped: no MADV_POPULATE_WRITE on this system\n", stderr);
    return 0;
#endif
}

/* [D1][B8] Named memory is populated at once. */
static void test_named_is_populated(void **state)
{
    unit_place_t *place = *state;
    slotmem_segment_t segment;
    apr_size_t len;

    if (!can_populate()) {
        skip();
    }
    create_named(&segment, 4096, 256, place);
    len = segment.layout.memory_len;
    assert_true(resident((const char *)segment.header, len)
                >= len / (apr_size_t)getpagesize());
}

typedef struct damage_t {
    unit_place_t *place;
    apr_status_t status;        /* what attach must return */
} damage_t;

static void attach_damaged(void *data)
{
    damage_t *damage = data;
    slotmem_segment_t segment;
    apr_status_t rv;
    pid_t creator = 0;
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    rv = attach_named(&segment, &creator, damage->place, pool);
    if (rv != damage->status) {
        fprintf(stderr, "attach: expected %d, found %d\n", damage->status, rv);
        _exit(1);
    }
    if (rv == APR_SUCCESS) {    /* then the whole segment must be usable */
        memset(segment.slots, 1, segment.layout.slots_len);
        _exit(0);
    }
    /* It is filled in on success only. */
    CHILD_CHECK(segment.geometry.item_num == 0x77777777);
    apr_pool_destroy(pool);
}

#define ATTACH_GIVES(damage, expected) \
    do { \
        (damage).status = (expected); \
        assert_int_equal(unit_in_child(attach_damaged, &(damage)), 0); \
    } while (0)

/* [B7][B8] A segment is not attached if its header is incomplete, has another
 * version, or does not fit the memory. */
static void test_attach_refuses_headers(void **state)
{
    unit_place_t *place = *state;
    damage_t damage = { place, 0 };
    slotmem_segment_t segment;
    slotmem_header_t *header;

    create_named(&segment, 100, 20, place);
    header = segment.header;
    ATTACH_GIVES(damage, APR_SUCCESS);

    header->magic = 0;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->magic = SLOTMEM_HEADER_MAGIC + 1;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->magic = SLOTMEM_HEADER_MAGIC;

    header->version = SLOTMEM_HEADER_VERSION + 1;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->version = SLOTMEM_HEADER_VERSION;

    header->proof[15] ^= 1;                    /* not created by this server */
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->proof[15] ^= 1;
    ATTACH_GIVES(damage, APR_SUCCESS);

    header->item_size = 101;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = UINT64_MAX;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = UINT64_C(1) << 62;      /* times 20 it wraps */
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = UINT64_C(1) << 32 | 100;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = 100;

    header->item_num = 21;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_num = UINT32_MAX;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = 0;                      /* the map alone is too long */
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = 100;
    header->item_num = 20;
    ATTACH_GIVES(damage, APR_SUCCESS);
}

static void cut(const char *path, off_t len)
{
    assert_int_equal(truncate(path, len), 0);
}

/* [B7][B8] An object that is shorter or longer than it says, or that contains
 * garbage: no segment and no crash, at attach or when its slots are written. */
static void test_attach_refuses_garbage(void **state)
{
    static const off_t shorter[] = { 4 * 4096, 4096, 100, 63, 4, 0 };
    unit_place_t *place = *state;
    damage_t damage = { place, 0 };
    slotmem_segment_t segment;
    unit_random_t random = { 99 };
    const char *path = name_of(place)->path;
    size_t i;

    create_named(&segment, 4096, 20, place);
    for (i = 0; i < 50; i++) {
        unit_fill(&random, segment.header, SLOTMEM_ALIGN);
        segment.header->magic = SLOTMEM_HEADER_MAGIC;
        if (i % 4 < 2) {
            segment.header->version = SLOTMEM_HEADER_VERSION;
            memcpy(segment.header->proof, proof, sizeof(proof));
        }
        ATTACH_GIVES(damage, APR_INCOMPLETE);
    }
    segment.header->item_size = 4096;
    segment.header->item_num = 20;
    segment.header->version = SLOTMEM_HEADER_VERSION;
    memcpy(segment.header->proof, proof, sizeof(proof));
    segment.header->started = STARTED;
    ATTACH_GIVES(damage, APR_SUCCESS);
    cut(path, (off_t)1 << 40);
    ATTACH_GIVES(damage, APR_SUCCESS);
    for (i = 0; i < ELEMENTS(shorter); i++) {
        cut(path, shorter[i]);
        ATTACH_GIVES(damage, APR_INCOMPLETE);
    }
}

/* [B8] An object that others may have put at the name is not opened (a FIFO
 * would block), not followed and not removed. */
static void test_attach_of_anothers(void **state)
{
    unit_place_t *place = *state;
    const slotmem_shm_name_t *name = name_of(place);
    damage_t damage = { place, 0 };
    char *aside = apr_pstrcat(place->pool, name->path, ".aside", NULL);
    slotmem_segment_t segment;
    struct stat there;

    assert_int_equal(mkfifo(name->path, 0666), 0);
    ATTACH_GIVES(damage, APR_EEXIST);
    slotmem_segment_remove(name->path);
    assert_int_equal(unlink(name->path), 0);

    assert_int_equal(mkdir(name->path, 0700), 0);
    ATTACH_GIVES(damage, APR_EEXIST);
    slotmem_segment_remove(name->path);
    assert_int_equal(rmdir(name->path), 0);

    create_named(&segment, 100, 20, place);
    assert_int_equal(lstat(name->path, &there), 0);
    assert_int_equal(there.st_mode & 07777, 0600);
    assert_int_equal(rename(name->path, aside), 0);
    assert_int_equal(symlink(aside, name->path), 0);
    ATTACH_GIVES(damage, APR_EEXIST);
    slotmem_segment_remove(name->path);
    assert_int_equal(lstat(name->path, &there), 0);
    assert_int_equal(rename(aside, name->path), 0);
    ATTACH_GIVES(damage, APR_SUCCESS);
    if (geteuid() == 0) {
        assert_int_equal(chown(name->path, 65534, 65534), 0);
        ATTACH_GIVES(damage, APR_EEXIST);
        slotmem_segment_remove(name->path);
        assert_int_equal(chown(name->path, 0, 0), 0);
    }
    ATTACH_GIVES(damage, APR_SUCCESS);
    slotmem_segment_remove(name->path);
    ATTACH_GIVES(damage, APR_ENOENT);
}

/* [D1] Named memory that is too large for any file or address space is an
 * error, not a crash, and the name is free afterwards. (Sizes that might
 * succeed are only tried where memory is limited: a mistake here would use up
 * all memory of the machine.) */
static void test_named_too_large(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = half_of_all(place);
    slotmem_segment_t segment;
    apr_status_t rv = slotmem_segment_create(&segment, &geometry,
                                             name_of(place), place->pool);

    assert_true(rv == APR_ENOSPC || rv == APR_ENOMEM || rv == EFBIG);
    assert_int_equal(access(name_of(place)->path, F_OK), -1);
    create_named(&segment, 10, 10, place);
}

/* In a tmpfs of 1 MiB. */
static void fill_small_shm(void *data)
{
    unit_place_t *place = data;
    slotmem_geometry_t small = unit_geometry(4096, 100, 0);
    slotmem_geometry_t large = unit_geometry(4096, 300, 0);
    slotmem_geometry_t huge = unit_geometry(1024 * MIB, 1, 0);
    slotmem_shm_name_t *name = name_of(place);
    slotmem_segment_t segment;
    slotmem_segment_t other;
    apr_pool_t *pool;
    int fd;

    unit_small_tmpfs("/dev/shm", "size=1m");
    name->path = "/dev/shm/named";
    apr_pool_create(&pool, place->pool);
    CHILD_CHECK(slotmem_segment_create(&segment, &huge, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_create(&segment, &large, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_SUCCESS);
    memset(segment.slots, 1, segment.layout.slots_len);
    apr_pool_clear(pool);
    slotmem_segment_remove(name->path);

    /* Another process takes the space. */
    fd = open("/dev/shm/other", O_RDWR | O_CREAT, 0600);
    CHILD_CHECK(fd >= 0 && posix_fallocate(fd, 0, 820 * 1024) == 0);
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_attach(&other, name, pool) == APR_ENOENT);
    CHILD_CHECK(ftruncate(fd, 0) == 0);
    name->creator.pid = 77;
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_SUCCESS);
    memset(segment.slots, 1, segment.layout.slots_len);

    /* Somebody has truncated the file and extended it again, and there is no
     * space for its holes. It is the creator that would get a SIGBUS. */
    CHILD_CHECK(truncate(name->path, 4096) == 0
                && truncate(name->path,
                            (off_t)segment.layout.memory_len) == 0);
    CHILD_CHECK(posix_fallocate(fd, 0, 900 * 1024) == 0);
    if (can_populate()) {
        name->creator.pid = 1;
        CHILD_CHECK(slotmem_segment_attach(&other, name, pool) == APR_ENOSPC);
        CHILD_CHECK(name->creator.pid == 77);
    }
    apr_pool_destroy(pool);
}

/* [D1][B8] A full /dev/shm: APR_ENOSPC, no SIGBUS. Needs root. */
static void test_small_shm(void **state)
{
    int code = unit_in_child(fill_small_shm, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: cannot mount a small /dev/shm\n", stderr);
        skip();
    }
    assert_int_equal(code, 0);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_layout_overflow),
        cmocka_unit_test(test_layout_of_most_slots),
        TEST(test_create),
        TEST(test_untouched),
        TEST(test_no_memory),
        TEST(test_unmapped_with_its_pool),
        TEST(test_inherited),
        TEST(test_named),
        TEST(test_half_made),
        TEST(test_named_is_populated),
        TEST(test_attach_without_resources),
        TEST(test_slack),
        TEST(test_attach_refuses_headers),
        TEST(test_attach_refuses_garbage),
        TEST(test_attach_of_anothers),
        TEST(test_named_too_large),
        TEST(test_small_shm)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

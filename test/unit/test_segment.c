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
 * A named segment is created and attached by children, as the module does it;
 * a child reports by its exit code.
 */

#include "unit_apr.h"

#include <sys/mman.h>

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

static void check_layout(apr_size_t size, apr_uint32_t num)
{
    slotmem_layout_t layout;
    apr_size_t area = size * num;

    assert_int_equal(layout_of(&layout, size, num), APR_SUCCESS);
    assert_int_equal(layout.map, 64);
    assert_int_equal(layout.slots % SLOTMEM_ALIGN, 0);
    assert_true(layout.slots >= 64 + slotmem_map_size(num));
    assert_true(layout.slots < 64 + slotmem_map_size(num) + SLOTMEM_ALIGN);
    assert_int_equal(layout.slots_len, area);
    assert_int_equal(layout.memory_len, layout.slots + area);
    assert_int_equal(layout.digest_offset, 8 + area + num);
    assert_int_equal(layout.descriptor_offset, 8 + area + num + 16);
    assert_int_equal(layout.image_len, 8 + area + num + 32);
}

/* [D1][D3] Offsets in memory and in the file, also of no slots and of slots of
 * no bytes; slot 0 is aligned and slots are contiguous. */
static void test_layout(void **state)
{
    static const apr_size_t item_sizes[] = { 0, 1, 3, 8, 544, 1456, 65536 };
    static const apr_uint32_t nums[] = { 0, 1, 63, 64, 65, 1025, 65537 };
    size_t i;
    size_t k;

    (void)state;
    for (i = 0; i < ELEMENTS(item_sizes); i++) {
        for (k = 0; k < ELEMENTS(nums); k++) {
            /* 32 bits do not hold all of these products. */
            if ((apr_uint64_t)item_sizes[i] * nums[k] < PTRDIFF_MAX) {
                check_layout(item_sizes[i], nums[k]);
            }
        }
    }
}

/* [D1] A product or a sum that overflows is refused; the largest that do not
 * are right, in memory and in the file, with the run-time claims. */
static void test_layout_overflow(void **state)
{
    const apr_size_t most = PTRDIFF_MAX;
    slotmem_layout_t layout;
    apr_size_t low = 0;
    apr_size_t high = most;

    (void)state;
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

    /* The border for one slot: every sum stays below the border itself. */
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
    assert_true(layout.memory_len > low);
    assert_true(layout.image_len > (apr_off_t)low);
    assert_true((apr_uint64_t)layout.image_len + sizeof(slotmem_section_t)
                + sizeof(slotmem_chunk_t) + 1 + sizeof(slotmem_end_t)
                <= (apr_uint64_t)most);
}

/* [D1] As many slots as there can be: fits a 64-bit address space, and is
 * refused by a 32-bit one. */
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

/* Pages of a range that are in memory. */
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

/* [D1][D3] A new segment is all zero, all free, and as long as it says:
 * AddressSanitizer aside, writing all of it must not touch the map. */
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

/* [D1] Anonymous memory is not touched: 1 GiB of slots costs a page or two, and
 * a slot at the end as much again. */
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

/* Half of the address space, as one slot. With 32 bits the system may have
 * that: then it is taken first, and there is no other half. */
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

/* [D1] More than the address space: what mmap answers, and no segment. */
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

/* [B3][B5] The memory goes with its pool. */
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

/* [B4] A segment made before a fork is shared with the child. */
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

static const unsigned char secret[SLOTMEM_SECRET_LEN] = "sixteen letters";

static const slotmem_shm_name_t *name_of(const unit_place_t *place)
{
    slotmem_shm_name_t *name = apr_palloc(place->pool, sizeof(*name));

    name->name = apr_pstrcat(place->pool, place->dir, "/named", NULL);
    name->secret = secret;
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
    memset(segment, 0x77, sizeof(*segment));
    return slotmem_segment_attach(segment, creator, name_of(place), pool);
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
    /* The name is the creator's to remove. */
    apr_pool_destroy(pool);
    CHILD_CHECK(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    CHILD_CHECK(attach_named(&segment, &creator, place, pool) == APR_SUCCESS);
}

/* [B8] A named segment: attached by a sibling, with the creator's pid; taken
 * for a second creator; gone with the creator's pool. */
static void test_named(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = unit_geometry(1, 1, 0);
    slotmem_segment_t segment;
    slotmem_segment_t other;
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

    apr_pool_clear(place->pool);
    assert_int_equal(attach_named(&other, &creator, place, place->pool),
                     APR_ENOENT);
}

/* Can the system populate memory when told to? (qemu's user mode says yes to
 * advice that it does not know, and does nothing.) */
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

/* The object behind a mapped address, from what the system says. */
static int object_path(const void *address, char *path, size_t size)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    int found = 0;

    while (maps && !found && fgets(line, sizeof(line), maps)) {
        unsigned long from;
        unsigned long to;
        char name[512];

        found = sscanf(line, "%lx-%lx %*s %*s %*s %*s %511s", &from, &to, name)
                    == 3
                && from <= (unsigned long)address
                && (unsigned long)address < to;
        if (found) {
            snprintf(path, size, "%s", name);
        }
    }
    if (maps) {
        fclose(maps);
    }
    return found;
}

typedef struct damage_t {
    unit_place_t *place;
    apr_status_t status;        /* that attach must give */
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
    if (rv == APR_SUCCESS) {    /* then all of it is there */
        memset(segment.slots, 1, segment.layout.slots_len);
        _exit(0);
    }
    /* Filled in on success only. */
    CHILD_CHECK(segment.geometry.item_num == 0x77777777);
    apr_pool_destroy(pool);
}

#define ATTACH_GIVES(damage, expected) \
    do { \
        (damage).status = (expected); \
        assert_int_equal(unit_in_child(attach_damaged, &(damage)), 0); \
    } while (0)

/* [B7][B8] A header that is not complete, of another version, or of a shape
 * that does not fit the memory, is not attached. */
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

    header->secret[15] ^= 1;                    /* somebody else made it */
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->secret[15] ^= 1;
    ATTACH_GIVES(damage, APR_SUCCESS);

    header->item_size = 101;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = UINT64_MAX;
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    header->item_size = UINT64_C(1) << 62;      /* times 20: wraps */
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

/* Cut the object, or write its first bytes: where APR keeps its length. */
static void cut(const char *path, off_t len)
{
    assert_int_equal(truncate(path, len), 0);
}

static void write_length(const char *path, apr_size_t len)
{
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &len, sizeof(len), 0), sizeof(len));
    close(fd);
}

/* [B7][B8] An object that is shorter than it says, or garbage: no crash, and
 * no segment; neither at attach nor when its slots are written. */
static void test_attach_refuses_garbage(void **state)
{
    static const apr_size_t lengths[] = {
        0, 1, 8, 64, 135, 4096, SIZE_MAX, SIZE_MAX - 8, SIZE_MAX / 4 * 3
    };
    unit_place_t *place = *state;
    damage_t damage = { place, 0 };
    slotmem_segment_t segment;
    unit_random_t random = { 99 };
    char path[512];
    apr_size_t len;
    int is_object;
    size_t i;

    create_named(&segment, 4096, 20, place);
    len = segment.layout.memory_len + SLOTMEM_ALIGN + 8;
    is_object = object_path(segment.header, path, sizeof(path))
                && strncmp(path, "/dev/shm/", 9) == 0;
    if (!is_object) {           /* System V's: a file has the length */
        snprintf(path, sizeof(path), "%s", name_of(place)->name);
    }
    if (access(path, W_OK) != 0) {
        fputs("skipped: nobody knows where APR keeps the length\n", stderr);
        skip();
    }
    for (i = 0; i < ELEMENTS(lengths); i++) {
        write_length(path, lengths[i]);
        ATTACH_GIVES(damage, APR_INCOMPLETE);
    }
    for (i = 0; i < 50; i++) {
        unit_fill(&random, segment.header, SLOTMEM_ALIGN);
        segment.header->magic = SLOTMEM_HEADER_MAGIC;
        if (i % 4 < 2) {
            segment.header->version = SLOTMEM_HEADER_VERSION;
            memcpy(segment.header->secret, secret, sizeof(secret));
        }
        write_length(path, i % 2 ? len : unit_random(&random));
        ATTACH_GIVES(damage, APR_INCOMPLETE);
    }
    segment.header->item_size = 4096;
    segment.header->item_num = 20;
    segment.header->version = SLOTMEM_HEADER_VERSION;
    memcpy(segment.header->secret, secret, sizeof(secret));
    write_length(path, len);
    ATTACH_GIVES(damage, APR_SUCCESS);

    if (!can_populate()) {
        return;
    }
    if (!is_object) {
        cut(path, 0);
        ATTACH_GIVES(damage, APR_INCOMPLETE);
        return;
    }
    cut(path, 4 * 4096);
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    cut(path, 100);
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    cut(path, 4);
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    cut(path, 0);
    ATTACH_GIVES(damage, APR_INCOMPLETE);
}

/* [B8] What others may have put where APR has a file for the name: it is not
 * opened (a FIFO would block), not followed and not removed. */
static void test_attach_of_anothers(void **state)
{
    unit_place_t *place = *state;
    const slotmem_shm_name_t *name = name_of(place);
    damage_t damage = { place, 0 };
    char *aside = apr_pstrcat(place->pool, name->name, ".aside", NULL);
    slotmem_segment_t segment;
    struct stat there;

    assert_int_equal(mkfifo(name->name, 0666), 0);
    ATTACH_GIVES(damage, APR_INCOMPLETE);
    slotmem_segment_remove(name->name, place->pool);
    assert_int_equal(unlink(name->name), 0);

    create_named(&segment, 100, 20, place);
    if (rename(name->name, aside) == 0) {
        assert_int_equal(symlink(aside, name->name), 0);
        ATTACH_GIVES(damage, APR_INCOMPLETE);
        slotmem_segment_remove(name->name, place->pool);
        assert_int_equal(lstat(name->name, &there), 0);
        assert_int_equal(rename(aside, name->name), 0);
        ATTACH_GIVES(damage, APR_SUCCESS);
        if (geteuid() == 0) {
            assert_int_equal(chown(name->name, 65534, 65534), 0);
            ATTACH_GIVES(damage, APR_INCOMPLETE);
            slotmem_segment_remove(name->name, place->pool);
            assert_int_equal(chown(name->name, 0, 0), 0);
        }
        ATTACH_GIVES(damage, APR_SUCCESS);
    }
    slotmem_segment_remove(name->name, place->pool);
    ATTACH_GIVES(damage, APR_ENOENT);
}

/* Where there is no System V segment to be had. */
static void create_without_segments(void *data)
{
    unit_place_t *place = data;
    const slotmem_shm_name_t *name = name_of(place);
    slotmem_geometry_t geometry = unit_geometry(10, 10, 0);
    slotmem_segment_t segment;
    apr_status_t rv;
    int fd;

    if (unshare(CLONE_NEWIPC) != 0) {
        _exit(UNIT_SKIP);
    }
    fd = open("/proc/sys/kernel/shmmni", O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1) {
        _exit(UNIT_SKIP);
    }
    rv = slotmem_segment_create(&segment, &geometry, name, place->pool);
    CHILD_CHECK(rv == APR_SUCCESS || access(name->name, F_OK) != 0);
    CHILD_CHECK(rv != APR_SUCCESS || access(name->name, F_OK) != 0);
    apr_pool_clear(place->pool);
}

/* [D1][B8] A create that fails leaves no file. Needs root. */
static void test_failed_create_leaves_nothing(void **state)
{
    int code = unit_in_child(create_without_segments, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: not allowed to have no segments\n", stderr);
        skip();
    }
    assert_int_equal(code, 0);
}

/* [D1] Named memory that no address space has is an error, not a crash; and
 * the name is free afterwards. (Sizes that might be had are tried where there
 * is little to have: a mistake here would take all memory of the machine.) */
static void test_named_too_large(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = half_of_all(place);
    slotmem_segment_t segment;
    apr_status_t rv = slotmem_segment_create(&segment, &geometry,
                                             name_of(place), place->pool);

    assert_true(rv == APR_ENOSPC || rv == APR_ENOMEM);
    create_named(&segment, 10, 10, place);
}

/* In a /dev/shm of 1 MiB. */
static void fill_small_shm(void *data)
{
    unit_place_t *place = data;
    slotmem_geometry_t small = unit_geometry(4096, 100, 0);
    slotmem_geometry_t large = unit_geometry(4096, 300, 0);
    slotmem_geometry_t huge = unit_geometry(1024 * MIB, 1, 0);
    const slotmem_shm_name_t *name = name_of(place);
    slotmem_segment_t segment;
    slotmem_segment_t other;
    apr_pool_t *pool;
    int fd;

    if (!can_populate()) {
        _exit(UNIT_SKIP);
    }
    unit_small_tmpfs("/dev/shm", "size=1m");
    apr_pool_create(&pool, place->pool);
    CHILD_CHECK(slotmem_segment_create(&segment, &huge, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_create(&segment, &large, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_SUCCESS);
    memset(segment.slots, 1, segment.layout.slots_len);
    apr_pool_clear(pool);

    /* Room that another process takes: 200 KiB are left of what statvfs
     * may have said before. */
    fd = open("/dev/shm/other", O_RDWR | O_CREAT, 0600);
    CHILD_CHECK(fd >= 0 && posix_fallocate(fd, 0, 820 * 1024) == 0);
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_ENOSPC);
    CHILD_CHECK(slotmem_segment_attach(&other, &(pid_t){ 0 }, name, pool)
                == APR_ENOENT);
    CHILD_CHECK(ftruncate(fd, 0) == 0);
    CHILD_CHECK(slotmem_segment_create(&segment, &small, name, pool)
                == APR_SUCCESS);
    memset(segment.slots, 1, segment.layout.slots_len);
    apr_pool_destroy(pool);
}

/* [D1][B8] A full /dev/shm: APR_ENOSPC, no SIGBUS. Needs root. */
static void test_small_shm(void **state)
{
    int code = unit_in_child(fill_small_shm, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: no small /dev/shm to be had\n", stderr);
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
        TEST(test_named_is_populated),
        TEST(test_attach_refuses_headers),
        TEST(test_attach_refuses_garbage),
        TEST(test_attach_of_anothers),
        TEST(test_failed_create_leaves_nothing),
        TEST(test_named_too_large),
        TEST(test_small_shm)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

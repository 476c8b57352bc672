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
 * unit_apr.h: the functions that the unit tests with APR share.
 *
 * Linked with --wrap=apr_palloc: each allocation from a pool comes from the
 * heap, so that AddressSanitizer sees its exact length, and that it is freed
 * with the pool. A test can choose the content of new memory.
 */

#ifndef SLOTMEM_UNIT_APR_H
#define SLOTMEM_UNIT_APR_H

#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "apr_general.h"
#include "apr_pools.h"
#include "apr_strings.h"

#include "slotmem_segment.h"

/* The value of each byte of new memory. */
static int unit_filler = 0xbe;

static apr_status_t unit_give_back(void *memory)
{
    free(memory);
    return APR_SUCCESS;
}

void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size);
void *__wrap_apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    void *memory = malloc(size);

    if (!memory) {
        abort();
    }
    memset(memory, unit_filler, size);
    apr_pool_cleanup_register(pool, memory, unit_give_back,
                              apr_pool_cleanup_null);
    return memory;
}

/* Each test has a pool and an empty directory of its own. */
typedef struct unit_place_t {
    apr_pool_t *pool;
    char dir[256];
    uint32_t open_files;        /* at the start */
} unit_place_t;

UNUSED static uint32_t unit_count_entries(const char *dir)
{
    DIR *stream = opendir(dir);
    uint32_t count = 0;

    assert_non_null(stream);
    while (readdir(stream)) {
        count++;
    }
    closedir(stream);
    return count - 2;
}

UNUSED static void unit_remove_tree(const char *dir)
{
    DIR *stream = opendir(dir);
    const struct dirent *entry;

    assert_non_null(stream);
    while ((entry = readdir(stream))) {
        char path[1024];

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) {
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (unlink(path) != 0) {
            unit_remove_tree(path);
        }
    }
    closedir(stream);
    assert_int_equal(rmdir(dir), 0);
}

UNUSED static int unit_setup(void **state)
{
    unit_place_t *place = calloc(1, sizeof(*place));
    const char *tmp = getenv("TMPDIR");

    assert_non_null(place);
    snprintf(place->dir, sizeof(place->dir), "%s/slotmem-unit-XXXXXX",
             tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(place->dir));
    assert_int_equal(apr_pool_create(&place->pool, NULL), APR_SUCCESS);
    place->open_files = unit_count_entries("/proc/self/fd");
    *state = place;
    return 0;
}

/* No file is left open, and a test leaves no files behind. */
UNUSED static int unit_teardown(void **state)
{
    unit_place_t *place = *state;

    assert_int_equal(unit_count_entries("/proc/self/fd"), place->open_files);
    apr_pool_destroy(place->pool);
    unit_remove_tree(place->dir);
    free(place);
    return 0;
}

/* In a child: mount a small tmpfs over a directory, for this process only. Ends
 * the child with UNIT_SKIP if that is not allowed. */
UNUSED static void unit_small_tmpfs(const char *dir, const char *options)
{
    if (unshare(CLONE_NEWNS) != 0
        || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
        || mount("tmpfs", dir, "tmpfs", 0, options) != 0) {
        _exit(UNIT_SKIP);
    }
}

UNUSED static slotmem_geometry_t unit_geometry(apr_size_t size,
                                               apr_uint32_t num,
                                               apr_uint32_t type)
{
    slotmem_geometry_t geometry = { size, num, type };

    return geometry;
}

#endif /* SLOTMEM_UNIT_APR_H */

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
 * test_lock.c: which of two processes may store a persisted file. Every body
 * runs in a child, since a lock file stays open as long as its process.
 */

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"
#include "unit_apr.h"

#include "slotmem_lock.h"

static const char *in_dir(unit_place_t *place, const char *name)
{
    return apr_pstrcat(place->pool, place->dir, "/", name, NULL);
}

/* What another process is answered when it asks for the lock. */
static apr_status_t ask_elsewhere(unit_place_t *place, const char *path,
                                  pid_t holder)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        pid_t other = 0;
        apr_status_t rv = slotmem_lock(path, &other, place->pool);

        _exit(rv == APR_SUCCESS ? 0 : rv == APR_EBUSY && other == holder ? 1
                                                                         : 2);
    }
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) ? APR_EBUSY : APR_SUCCESS;
}

static void exclude(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "b.persist");
    uint32_t open_files;
    pid_t other;

    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_SUCCESS);
    CHILD_CHECK(slotmem_lock(a, &other, place->pool) == APR_SUCCESS);
    open_files = unit_count_entries("/proc/self/fd");
    CHILD_CHECK(slotmem_lock(a, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_SUCCESS);
    CHILD_CHECK(slotmem_lock(b, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
}

/* [B2] A file belongs to one process, names in a folder do not meet, and all
 * of them take one open file. */
static void test_exclude(void **state)
{
    assert_int_equal(unit_in_child(exclude, *state), 0);
}

static void alias(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "/b.persist");
    pid_t other;

    CHILD_CHECK(slotmem_lock(a, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(slotmem_lock(b, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(slotmem_lock(a, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_EBUSY);
}

/* [B2] Two spellings of a folder are two open files: who asks again has the
 * locks that closing one of them gave up. */
static void test_alias(void **state)
{
    assert_int_equal(unit_in_child(alias, *state), 0);
}

static void remove_file(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "a.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    uint32_t open_files;
    pid_t other;

    CHILD_CHECK(slotmem_lock(path, &other, place->pool) == APR_SUCCESS);
    open_files = unit_count_entries("/proc/self/fd");
    CHILD_CHECK(unlink(file) == 0);
    CHILD_CHECK(slotmem_lock(path, &other, place->pool) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, path, getpid()) == APR_EBUSY);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
}

/* [B2] Somebody removes the lock file: the holder takes the new one. */
static void test_remove_file(void **state)
{
    assert_int_equal(unit_in_child(remove_file, *state), 0);
}

static void plant(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "a.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    const char *target = in_dir(place, "target");
    uint32_t open_files = unit_count_entries("/proc/self/fd");
    pid_t other;

    CHILD_CHECK(symlink(target, file) == 0);
    CHILD_CHECK(slotmem_lock(path, &other, place->pool) != APR_SUCCESS);
    CHILD_CHECK(access(target, F_OK) != 0);
    CHILD_CHECK(unlink(file) == 0 && mkfifo(file, 0600) == 0);
    CHILD_CHECK(slotmem_lock(path, &other, place->pool) == APR_EINVAL);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
    CHILD_CHECK(unlink(file) == 0);
    CHILD_CHECK(slotmem_lock(path, &other, place->pool) == APR_SUCCESS);
}

/* [B7] A symbolic link in its place is not followed, a FIFO not used. */
static void test_plant(void **state)
{
    assert_int_equal(unit_in_child(plant, *state), 0);
}

static void no_folder(void *data)
{
    unit_place_t *place = data;
    pid_t other;

    CHILD_CHECK(APR_STATUS_IS_ENOENT(
        slotmem_lock(in_dir(place, "none/a.persist"), &other, place->pool)));
}

/* [B7] A folder that is not there is an error, and no crash. */
static void test_no_folder(void **state)
{
    assert_int_equal(unit_in_child(no_folder, *state), 0);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exclude),
        TEST(test_alias),
        TEST(test_remove_file),
        TEST(test_plant),
        TEST(test_no_folder)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

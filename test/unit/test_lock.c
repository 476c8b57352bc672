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
 * runs in a child, since a lock file stays open until its process ends.
 */

#include <grp.h>
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

/* Ask for the lock of a file, as a server does: its directory is open. */
static apr_status_t ask(unit_place_t *place, const char *path, pid_t *other)
{
    slotmem_directory_t *directory = slotmem_directory_of(path);
    slotmem_distrust_t distrust;
    apr_status_t rv = slotmem_directory_open(directory, 0, &distrust);

    return rv != APR_SUCCESS ? rv : slotmem_lock(directory, path, other,
                                                 place->pool);
}

static apr_status_t take_lock(unit_place_t *place, const char *path)
{
    pid_t other;

    return ask(place, path, &other);
}

/* The same, as the server asks for it while it runs. */
static apr_status_t take_existing(unit_place_t *place, const char *path)
{
    slotmem_directory_t *directory = slotmem_directory_of(path);
    slotmem_distrust_t distrust;
    pid_t other;
    apr_status_t rv = slotmem_directory_open(directory, 0, &distrust);

    return rv != APR_SUCCESS ? rv : slotmem_lock_existing(directory, path,
                                                          &other, place->pool);
}

/* The next call opens the directories again. */
static void next_round(void)
{
    slotmem_directory_close_all();
}

/* The answer that another process gets when it asks for the lock. */
static apr_status_t ask_elsewhere(unit_place_t *place, const char *path,
                                  pid_t holder)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        pid_t other = 0;
        apr_status_t rv;

        slotmem_directory_close_all();
        slotmem_lock_close_all(place->pool);
        rv = ask(place, path, &other);
        _exit(rv == APR_SUCCESS ? 0 : rv == APR_EBUSY && other == holder ? 1
                                                                         : 2);
    }
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) ? APR_EBUSY : APR_SUCCESS;
}

static void start(unit_place_t *place)
{
    slotmem_directory_reset(place->pool);
    slotmem_lock_start_generation(place->pool);
}

/* The number of open files, not counting directories. */
static uint32_t count_open(void)
{
    slotmem_directory_close_all();
    return unit_count_entries("/proc/self/fd");
}

/* As in the process that stores, which has closed the parent's files. */
static void make_elsewhere(unit_place_t *place, const char *path)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        slotmem_directory_t *directory = slotmem_directory_of(path);
        slotmem_distrust_t distrust;

        slotmem_directory_close_all();
        slotmem_lock_close_all(place->pool);
        _exit(slotmem_directory_open(directory, 0, &distrust) != APR_SUCCESS
              || (slotmem_lock_make(directory), 0));
    }
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

/* ---- the process that holds the lock ---- */

static void exclude(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "b.persist");
    uint32_t open_files;

    start(place);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_SUCCESS);
    CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
    open_files = count_open();
    CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_SUCCESS);
    CHILD_CHECK(take_lock(place, b) == APR_SUCCESS);
    CHILD_CHECK(count_open() == open_files);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
}

/* [B2] A file belongs to one process. Names in a directory do not collide, and
 * together they need one open file. */
static void test_exclude(void **state)
{
    assert_int_equal(unit_in_child(exclude, *state), 0);
}

static void many(void *data)
{
    unit_place_t *place = data;
    uint32_t open_files = 0;
    int i;

    start(place);
    for (i = 0; i < 200; i++) {
        CHILD_CHECK(take_lock(place, in_dir(place, apr_itoa(place->pool, i)))
                    == APR_SUCCESS);
        open_files = i ? open_files : count_open();
    }
    CHILD_CHECK(count_open() == open_files);
    slotmem_lock_start_generation(place->pool);
    for (i = 0; i < 200; i += 2) {
        CHILD_CHECK(take_lock(place, in_dir(place, apr_itoa(place->pool, i)))
                    == APR_SUCCESS);
    }
    slotmem_lock_release_unwanted(place->pool);
    for (i = 0; i < 200; i++) {
        CHILD_CHECK(ask_elsewhere(place,
                                  in_dir(place, apr_itoa(place->pool, i)),
                                  getpid())
                    == (i % 2 ? APR_SUCCESS : APR_EBUSY));
    }
}

/* [B2] Out of many locks only those that are asked for again are kept. */
static void test_many(void **state)
{
    assert_int_equal(unit_in_child(many, *state), 0);
}

static void release(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "b.persist");
    uint32_t open_files = count_open();

    start(place);
    CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
    CHILD_CHECK(take_lock(place, b) == APR_SUCCESS);
    slotmem_lock_release_unwanted(place->pool);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_EBUSY);
    slotmem_lock_start_generation(place->pool);
    CHILD_CHECK(take_lock(place, b) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    slotmem_lock_release_unwanted(place->pool);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_EBUSY);
    slotmem_lock_start_generation(place->pool);
    slotmem_lock_release_unwanted(place->pool);
    CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_SUCCESS);
    CHILD_CHECK(count_open() == open_files);
}

/* [B2] A lock that nobody asks for after a restart is released. With the last
 * lock of a directory its lock file is closed. */
static void test_release(void **state)
{
    assert_int_equal(unit_in_child(release, *state), 0);
}

static void alias(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "/b.persist");
    const char *c = in_dir(place, "link/c.persist");
    uint32_t open_files;
    int round;

    CHILD_CHECK(symlink(place->dir, in_dir(place, "link")) == 0);
    start(place);
    CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
    open_files = count_open();
    for (round = 0; round < 2; round++) {
        CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
        CHILD_CHECK(take_lock(place, b) == APR_SUCCESS);
        CHILD_CHECK(take_lock(place, c) == APR_SUCCESS);
        CHILD_CHECK(count_open() == open_files);
        CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
        CHILD_CHECK(ask_elsewhere(place, b, getpid()) == APR_EBUSY);
        CHILD_CHECK(ask_elsewhere(place, c, getpid()) == APR_EBUSY);
        slotmem_lock_release_unwanted(place->pool);
        slotmem_lock_start_generation(place->pool);
    }
}

/* [B2] All spellings of a directory share one open lock file, since closing a
 * second one would release all its locks. */
static void test_alias(void **state)
{
    assert_int_equal(unit_in_child(alias, *state), 0);
}

static void forked(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    pid_t parent = getpid();
    pid_t pid;
    int status;

    start(place);
    CHILD_CHECK(take_lock(place, a) == APR_SUCCESS);
    next_round();
    pid = fork();
    if (pid == 0) {             /* the process that stores */
        slotmem_directory_t *directory = slotmem_directory_of(a);
        slotmem_distrust_t distrust;

        CHILD_CHECK(slotmem_directory_open(directory, 0, &distrust)
                    == APR_SUCCESS);
        CHILD_CHECK(slotmem_lock_is_held(directory, a));
        CHILD_CHECK(!slotmem_lock_is_held(directory, in_dir(place, "b")));
        slotmem_lock_close_all(place->pool);
        _exit(0);
    }
    CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHILD_CHECK(ask_elsewhere(place, a, parent) == APR_EBUSY);
}

/* [B2] A forked process sees the lock, and does not release it when it ends. */
static void test_forked(void **state)
{
    assert_int_equal(unit_in_child(forked, *state), 0);
}

/* ---- the lock file ---- */

static void remove_file(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "a.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    uint32_t open_files;
    int i;

    start(place);
    CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
    open_files = count_open();
    for (i = 0; i < 3; i++) {
        CHILD_CHECK(unlink(file) == 0);
        next_round();
        CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
        CHILD_CHECK(ask_elsewhere(place, path, getpid()) == APR_EBUSY);
        slotmem_lock_start_generation(place->pool);
        CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
        slotmem_lock_release_unwanted(place->pool);
        CHILD_CHECK(count_open() == open_files);
        CHILD_CHECK(ask_elsewhere(place, path, getpid()) == APR_EBUSY);
    }
}

/* [B2] Somebody removes the lock file: the holder creates a new one as soon as
 * the directory is opened again, and closes the old one at a restart. */
static void test_remove_file(void **state)
{
    assert_int_equal(unit_in_child(remove_file, *state), 0);
}

/* Is the lock file as the server creates it? */
static int is_own(const char *file)
{
    struct stat info;

    return lstat(file, &info) == 0 && info.st_mode == (S_IFREG | 0600)
           && info.st_size == 0 && info.st_nlink == 1
           && info.st_uid == geteuid();
}

static void fill(unit_place_t *place, const char *file)
{
    FILE *stream = fopen(file, "w");

    (void)place;
    CHILD_CHECK(stream && fputs("mine", stream) >= 0 && fclose(stream) == 0);
    CHILD_CHECK(chmod(file, 0600) == 0);
}

static void make_empty(const char *file, mode_t mode)
{
    int fd = open(file, O_WRONLY | O_CREAT, 0600);

    CHILD_CHECK(fd >= 0 && fchmod(fd, mode) == 0 && close(fd) == 0);
}

static void give_two_links(unit_place_t *place, const char *file)
{
    make_empty(in_dir(place, "target"), 0600);
    CHILD_CHECK(link(in_dir(place, "target"), file) == 0);
}

static void open_to_all(unit_place_t *place, const char *file)
{
    (void)place;
    make_empty(file, 0666);
}

static void give_away(unit_place_t *place, const char *file)
{
    (void)place;
    make_empty(file, 0600);
    CHILD_CHECK(geteuid() != 0 || chown(file, 65534, 65534) == 0);
}

static void put_fifo(unit_place_t *place, const char *file)
{
    (void)place;
    CHILD_CHECK(mkfifo(file, 0600) == 0);
}

static void put_link(unit_place_t *place, const char *file)
{
    make_empty(in_dir(place, "target"), 0600);
    CHILD_CHECK(symlink(in_dir(place, "target"), file) == 0);
}

static void put_dangling_link(unit_place_t *place, const char *file)
{
    CHILD_CHECK(symlink(in_dir(place, "target"), file) == 0);
}

static void (*const plants[])(unit_place_t *, const char *) = {
    fill, give_two_links, open_to_all, give_away, put_fifo, put_link,
    put_dangling_link
};

/* Before the server starts, and while it holds the lock. */
static void plant(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "a.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    const char *target = in_dir(place, "target");
    uint32_t open_files = count_open();
    size_t i;
    int held;

    umask(0);
    start(place);
    for (i = 0; i < ELEMENTS(plants); i++) {
        for (held = 0; held < 2; held++) {
            struct stat before, after;
            int has_target;

            if (held) {
                CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
                next_round();
            }
            CHILD_CHECK(unlink(file) == 0 || errno == ENOENT);
            plants[i](place, file);
            has_target = stat(target, &before) == 0;
            CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
            CHILD_CHECK(!slotmem_directory_of(path)->lock_problem);
            CHILD_CHECK(is_own(file));
            CHILD_CHECK(ask_elsewhere(place, path, getpid()) == APR_EBUSY);
            CHILD_CHECK(has_target == (stat(target, &after) == 0));
            if (has_target) {   /* neither written nor its mode changed */
                CHILD_CHECK(before.st_ino == after.st_ino
                            && before.st_mode == after.st_mode
                            && unlink(target) == 0);
            }
            slotmem_lock_start_generation(place->pool);
            slotmem_lock_release_unwanted(place->pool);
            CHILD_CHECK(count_open() == open_files);
            CHILD_CHECK(unlink(file) == 0);
        }
    }
}

/* [B7][E8] A lock file that has content, two links, or another mode or owner is
 * replaced, and so is a FIFO or a symbolic link in its place. The target of a
 * link does not change. */
static void test_plant(void **state)
{
    assert_int_equal(unit_in_child(plant, *state), 0);
}

static void in_the_way(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "a.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    uint32_t open_files = count_open();

    CHILD_CHECK(mkdir(file, 0700) == 0);
    start(place);
    CHILD_CHECK(take_lock(place, path) != APR_SUCCESS);
    CHILD_CHECK(slotmem_directory_of(path)->lock_problem != NULL);
    CHILD_CHECK(count_open() == open_files);
    CHILD_CHECK(rmdir(file) == 0);
    CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
    CHILD_CHECK(!slotmem_directory_of(path)->lock_problem);
}

/* [E8] If it cannot be replaced, the error names it, and the next round tries
 * again. */
static void test_in_the_way(void **state)
{
    assert_int_equal(unit_in_child(in_the_way, *state), 0);
}

static void group(void *data)
{
    unit_place_t *place = data;
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    const char *path = in_dir(place, "a.persist");
    const gid_t groups[] = { 54321 };
    struct stat info;

    if (geteuid() != 0) {
        _exit(UNIT_SKIP);
    }
    CHILD_CHECK(chown(place->dir, 0, 54321) == 0);
    CHILD_CHECK(chmod(place->dir, 0770) == 0);
    CHILD_CHECK(setgroups(1, groups) == 0);
    CHILD_CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    umask(077);
    start(place);
    CHILD_CHECK(take_lock(place, path) == APR_SUCCESS);
    CHILD_CHECK(stat(file, &info) == 0);
    CHILD_CHECK(info.st_mode == (S_IFREG | 0660) && info.st_gid == 54321);
    CHILD_CHECK(ask_elsewhere(place, path, getpid()) == APR_EBUSY);
}

/* [E8] Servers that share a directory through its group share its lock file. */
static void test_group(void **state)
{
    int code = unit_in_child(group, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: needs root, to become another user\n", stderr);
        skip();
    }
    assert_int_equal(code, 0);
}

static void no_directory(void *data)
{
    unit_place_t *place = data;

    start(place);
    CHILD_CHECK(APR_STATUS_IS_ENOENT(
        take_lock(place, in_dir(place, "none/a.persist"))));
}

/* [B7] A directory that does not exist is an error, not a crash. */
static void test_no_directory(void **state)
{
    assert_int_equal(unit_in_child(no_directory, *state), 0);
}

static void not_made(void *data)
{
    unit_place_t *place = data;
    const char *a = in_dir(place, "a.persist");
    const char *b = in_dir(place, "b.persist");
    const char *file = in_dir(place, SLOTMEM_LOCK_FILE);
    int how;

    start(place);
    CHILD_CHECK(take_existing(place, a) == APR_INCOMPLETE);
    CHILD_CHECK(access(file, F_OK) != 0);
    make_elsewhere(place, a);
    CHILD_CHECK(take_existing(place, a) == APR_SUCCESS);
    CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    for (how = 0; how < 2; how++) {
        next_round();
        CHILD_CHECK((how ? chmod(file, 0666) : unlink(file)) == 0);
        slotmem_lock_start_generation(place->pool);        /* a restart */
        CHILD_CHECK(take_existing(place, a) == APR_SUCCESS);
        CHILD_CHECK(take_existing(place, b) == APR_INCOMPLETE);
        slotmem_lock_release_unwanted(place->pool);
        CHILD_CHECK(how || access(file, F_OK) != 0);
        make_elsewhere(place, a);
        CHILD_CHECK(take_existing(place, a) == APR_SUCCESS);
        CHILD_CHECK(ask_elsewhere(place, a, getpid()) == APR_EBUSY);
    }
}

/* [B14][E9] While it serves, the parent neither creates nor replaces a lock
 * file: the lock file that it holds stays until another process replaces it. */
static void test_not_made(void **state)
{
    assert_int_equal(unit_in_child(not_made, *state), 0);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exclude),
        TEST(test_many),
        TEST(test_release),
        TEST(test_alias),
        TEST(test_forked),
        TEST(test_remove_file),
        TEST(test_plant),
        TEST(test_in_the_way),
        TEST(test_group),
        TEST(test_not_made),
        TEST(test_no_directory)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

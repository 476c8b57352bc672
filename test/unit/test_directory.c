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
 * test_directory.c: whom the server trusts with its directories and files.
 * Most tests need root, to give files to other users. Every body runs in a
 * child, which may become another user.
 */

#include <grp.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_apr.h"

#include "slotmem_directory.h"

#define NOBODY 65534
#define GROUP 54321             /* has no members unless a test adds one */

static const char *in_dir(unit_place_t *place, const char *name)
{
    char resolved[PATH_MAX];

    CHILD_CHECK(realpath(place->dir, resolved) != NULL);
    return apr_pstrcat(place->pool, resolved, "/", name, NULL);
}

static const char *make_dir(unit_place_t *place, const char *name, mode_t mode)
{
    const char *path = in_dir(place, name);

    CHILD_CHECK(mkdir(path, 0700) == 0 && chmod(path, mode) == 0);
    return path;
}

static slotmem_directory_t *directory_at(unit_place_t *place, const char *path)
{
    slotmem_directory_t *directory;

    slotmem_directory_reset(place->pool);
    directory = slotmem_directory_of(apr_pstrcat(place->pool, path, "/file",
                                                 NULL));
    CHILD_CHECK(strcmp(directory->path, path) == 0);
    return directory;
}

/* Open the directory as SlotmemPersistDir. */
static apr_status_t open_checked(unit_place_t *place, const char *path,
                                 int create, slotmem_distrust_t *distrust)
{
    slotmem_directory_t *directory = directory_at(place, path);

    directory->checked = 1;
    return slotmem_directory_open(directory, create, distrust);
}

static int is_trusted(unit_place_t *place, const char *path)
{
    slotmem_distrust_t distrust;

    return open_checked(place, path, 0, &distrust) == APR_SUCCESS
           && distrust.kind == SLOTMEM_TRUSTED;
}

/* The directory must be refused for this reason, and the culprit named. */
static int is_refused(unit_place_t *place, const char *path, unsigned kind,
                      const char *culprit)
{
    slotmem_distrust_t distrust;
    uint32_t open_files;

    slotmem_directory_close_all();
    open_files = unit_count_entries("/proc/self/fd");
    return open_checked(place, path, 1, &distrust) == APR_EGENERAL
           && distrust.kind == kind && distrust.len == strlen(culprit)
           && strncmp(path, culprit, distrust.len) == 0
           && unit_count_entries("/proc/self/fd") == open_files;
}

static void run_as_root(void (*body)(void *), void *place)
{
    int code;

    if (geteuid() != 0) {
        fputs("skipped: needs root, to give files to other users\n", stderr);
        skip();
    }
    code = unit_in_child(body, place);
    assert_int_equal(code, 0);
}

static void become_nobody(void)
{
    const gid_t groups[] = { GROUP };

    CHILD_CHECK(setgroups(1, groups) == 0);
    CHILD_CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

/* ---- the list of directories ---- */

static void list(void *data)
{
    unit_place_t *place = data;
    slotmem_directory_t *a;
    slotmem_distrust_t distrust;
    uint32_t open_files = unit_count_entries("/proc/self/fd");
    const char *name;

    slotmem_directory_reset(place->pool);
    a = slotmem_directory_of(in_dir(place, "one"));
    CHILD_CHECK(a == slotmem_directory_of(in_dir(place, "two")));
    CHILD_CHECK(a != slotmem_directory_of(place->dir));
    CHILD_CHECK(strcmp(slotmem_directory_of("/f")->path, "/") == 0);
    CHILD_CHECK(strcmp(slotmem_directory_of("f")->path, ".") == 0);
    CHILD_CHECK(a->fd == -1);
    CHILD_CHECK(slotmem_directory_open(a, 0, &distrust) == APR_SUCCESS);
    CHILD_CHECK(fcntl(a->fd, F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files + 1);
    CHILD_CHECK(slotmem_directory_open(a, 0, &distrust) == APR_SUCCESS);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files + 1);
    CHILD_CHECK(slotmem_directory_fd(a, "/x/y", &name) == a->fd
                && strcmp(name, "y") == 0);
    CHILD_CHECK(slotmem_directory_fd(NULL, "/x/y", &name) == AT_FDCWD
                && strcmp(name, "/x/y") == 0);
    slotmem_directory_close_all();
    CHILD_CHECK(a->fd == -1);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
    slotmem_directory_reset(NULL);
    CHILD_CHECK(slotmem_directories() == NULL);
}

/* A directory is listed once, and is open at most once. */
static void test_list(void **state)
{
    assert_int_equal(unit_in_child(list, *state), 0);
}

/* ---- SlotmemPersistDir ---- */

static void foreign_owner(void *data)
{
    unit_place_t *place = data;
    const char *above = make_dir(place, "above", 0755);
    const char *path = make_dir(place, "above/dir", 0755);
    slotmem_distrust_t distrust;

    CHILD_CHECK(is_trusted(place, path));
    CHILD_CHECK(chown(path, NOBODY, 0) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_FOREIGN_OWNER, path));
    open_checked(place, path, 0, &distrust);
    CHILD_CHECK(distrust.uid == NOBODY);
    CHILD_CHECK(chown(path, 0, 0) == 0 && chown(above, NOBODY, 0) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_FOREIGN_OWNER, above));
    CHILD_CHECK(chmod(place->dir, 0755) == 0);
    become_nobody();            /* owns it; root owns those above and below */
    CHILD_CHECK(is_trusted(place, path));
}

/* [E8] The directory and those above it must belong to the user who runs the
 * server, or to root. */
static void test_foreign_owner(void **state)
{
    run_as_root(foreign_owner, *state);
}

static void written_by_all(void *data)
{
    unit_place_t *place = data;
    const char *above = make_dir(place, "above", 0755);
    const char *path = make_dir(place, "above/dir", 0775);

    CHILD_CHECK(is_trusted(place, path));       /* the group may write */
    CHILD_CHECK(chmod(path, 0777) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_WRITTEN_BY_ALL, path));
    CHILD_CHECK(chmod(path, 01777) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_WRITTEN_BY_ALL, path));
    CHILD_CHECK(chmod(path, 0700) == 0 && chmod(above, 0777) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_WRITTEN_BY_ALL, above));
    CHILD_CHECK(chmod(above, 01777) == 0);
    CHILD_CHECK(is_trusted(place, path));
}

/* [E8] Nobody else may write to it, sticky or not. Others may write to the
 * directories above only if users can replace nothing but their own files. */
static void test_written_by_all(void **state)
{
    assert_int_equal(unit_in_child(written_by_all, *state), 0);
}

static void exchanged(void *data)
{
    unit_place_t *place = data;
    const char *above = make_dir(place, "above", 0755);
    const char *real = in_dir(place, "real");
    const char *path = make_dir(place, "above/dir", 0700);
    int fd;

    CHILD_CHECK(is_trusted(place, path));
    CHILD_CHECK(rename(above, real) == 0 && symlink(real, above) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_IS_LINK, above));
    CHILD_CHECK(unlink(above) == 0 && rename(real, above) == 0);
    CHILD_CHECK(is_trusted(place, path));
    CHILD_CHECK(rename(path, real) == 0 && symlink(real, path) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_IS_LINK, path));
    CHILD_CHECK(unlink(path) == 0 && symlink("/nonexistent", path) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_IS_LINK, path));
    CHILD_CHECK(unlink(path) == 0 && mkfifo(path, 0700) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_NO_DIRECTORY, path));
    CHILD_CHECK(rmdir(real) == 0 && unlink(path) == 0 && rmdir(above) == 0);
    fd = open(above, O_WRONLY | O_CREAT, 0600);
    CHILD_CHECK(fd >= 0 && close(fd) == 0);
    CHILD_CHECK(is_refused(place, path, SLOTMEM_NO_DIRECTORY, above));
}

/* [E8] A component that was replaced with a link is not followed. */
static void test_exchanged(void **state)
{
    assert_int_equal(unit_in_child(exchanged, *state), 0);
}

static void missing(void *data)
{
    unit_place_t *place = data;
    const char *path = in_dir(place, "new");
    const char *deeper = in_dir(place, "none/new");
    uint32_t open_files = unit_count_entries("/proc/self/fd");
    slotmem_distrust_t distrust;
    struct stat info;

    umask(0);
    CHILD_CHECK(open_checked(place, path, 0, &distrust) == ENOENT);
    CHILD_CHECK(lstat(path, &info) != 0);
    CHILD_CHECK(open_checked(place, deeper, 1, &distrust) == ENOENT);
    CHILD_CHECK(unit_count_entries(place->dir) == 0);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
    CHILD_CHECK(open_checked(place, path, 1, &distrust) == APR_SUCCESS);
    CHILD_CHECK(lstat(path, &info) == 0 && info.st_mode == (S_IFDIR | 0700)
                && info.st_uid == geteuid());
    slotmem_directory_close_all();
    CHILD_CHECK(rmdir(path) == 0);
    umask(0777);
    CHILD_CHECK(open_checked(place, path, 1, &distrust) == APR_SUCCESS);
    CHILD_CHECK(lstat(path, &info) == 0 && info.st_mode == (S_IFDIR | 0700));
    umask(0);
    slotmem_directory_close_all();
    CHILD_CHECK(rmdir(path) == 0);
    /* Only SlotmemPersistDir itself is created. */
    CHILD_CHECK(slotmem_directory_open(directory_at(place, path), 1, &distrust)
                == ENOENT);
    CHILD_CHECK(unit_count_entries("/proc/self/fd") == open_files);
}

/* [B13][E8] A missing directory is created on request, with access for its
 * owner only; the directories above it are not created. */
static void test_missing(void **state)
{
    assert_int_equal(unit_in_child(missing, *state), 0);
}

/* What the start says about a configured path. */
static const char *reason_of(unit_place_t *place, const char *path,
                             const char **resolved, const char **warning)
{
    const char *reason;

    slotmem_directory_reset(place->pool);
    *resolved = slotmem_directory_configure(path, 1, &reason, warning,
                                            place->pool);
    slotmem_directory_close_all();
    return reason;
}

static int says(const char *reason, const char *what, const char *path)
{
    return reason && strstr(reason, what) && strstr(reason, path);
}

static void trust(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0700);
    const char *link = in_dir(place, "link");
    const char *resolved, *warning;

    CHILD_CHECK(!reason_of(place, path, &resolved, &warning) && !warning);
    CHILD_CHECK(strcmp(resolved, path) == 0);
    CHILD_CHECK(symlink(path, link) == 0);
    CHILD_CHECK(!reason_of(place, link, &resolved, &warning));
    CHILD_CHECK(strcmp(resolved, path) == 0);
    CHILD_CHECK(!reason_of(place, in_dir(place, "link/new"), &resolved,
                           &warning));
    CHILD_CHECK(strcmp(resolved, in_dir(place, "dir/new")) == 0);
    CHILD_CHECK(unit_count_entries(path) == 0);
    CHILD_CHECK(chmod(path, 0777) == 0);
    CHILD_CHECK(says(reason_of(place, path, &resolved, &warning),
                     "chmod o-w", path));
    CHILD_CHECK(says(reason_of(place, link, &resolved, &warning),
                     "chmod o-w", path));
    CHILD_CHECK(chmod(path, 0700) == 0 && rmdir(path) == 0
                && mkfifo(path, 0600) == 0);
    CHILD_CHECK(says(reason_of(place, path, &resolved, &warning),
                     "is not a directory", path));
}

static void leads_to(unit_place_t *place, const char *from, const char *to)
{
    const char *resolved, *warning;

    CHILD_CHECK(!reason_of(place, from, &resolved, &warning));
    CHILD_CHECK(strcmp(resolved, to) == 0);
}

static void ways(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0700);
    const char *hop = make_dir(place, "hop", 0700);
    const char *gone = in_dir(place, "gone");
    const char *resolved, *warning;
    slotmem_distrust_t distrust;

    leads_to(place, in_dir(place, "dir/"), path);
    leads_to(place, in_dir(place, "new/"), in_dir(place, "new"));
    leads_to(place, in_dir(place, "new//deep//"), in_dir(place, "new/deep"));
    CHILD_CHECK(symlink("./hop/../dir/", in_dir(place, "link")) == 0);
    leads_to(place, in_dir(place, "link"), path);
    leads_to(place, in_dir(place, "link/new"), in_dir(place, "dir/new"));
    CHILD_CHECK(symlink("/..", in_dir(place, "root")) == 0);
    leads_to(place, in_dir(place, "root"), "/");
    CHILD_CHECK(symlink("hop/two", in_dir(place, "one")) == 0);
    CHILD_CHECK(symlink(path, in_dir(place, "hop/two")) == 0);
    leads_to(place, in_dir(place, "one"), path);
    CHILD_CHECK(chmod(hop, 0777) == 0);
    CHILD_CHECK(says(reason_of(place, in_dir(place, "one"), &resolved,
                               &warning), "chmod o-w", hop));
    CHILD_CHECK(symlink(gone, in_dir(place, "to")) == 0);
    leads_to(place, in_dir(place, "to/new/"), in_dir(place, "gone/new"));
    CHILD_CHECK(open_checked(place, in_dir(place, "gone/new"), 1, &distrust)
                == ENOENT);
    CHILD_CHECK(symlink("loop", in_dir(place, "loop")) == 0);
    CHILD_CHECK(says(reason_of(place, in_dir(place, "loop"), &resolved,
                               &warning), "symbolic link",
                     in_dir(place, "loop")));
}

/* [E8][B13] All links in the path are checked, and so are the directories that
 * contain them. A link without a target is a missing directory. */
static void test_ways(void **state)
{
    assert_int_equal(unit_in_child(ways, *state), 0);
}

/* [E8] The start resolves links; the reason names the path at fault and the
 * command that fixes it. */
static void test_trust(void **state)
{
    assert_int_equal(unit_in_child(trust, *state), 0);
}

static void trust_others(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0770);
    const char *link = in_dir(place, "link");
    const char *resolved, *warning, *reason;

    CHILD_CHECK(!reason_of(place, path, &resolved, &warning));
    CHILD_CHECK(warning && strcmp(warning, path) == 0);
    CHILD_CHECK(chmod(path, 0755) == 0);
    CHILD_CHECK(symlink(path, link) == 0 && lchown(link, NOBODY, 0) == 0);
    CHILD_CHECK(says(reason_of(place, link, &resolved, &warning),
                     "belongs to user 65534", link));
    CHILD_CHECK(!reason_of(place, path, &resolved, &warning) && !warning);
    CHILD_CHECK(chown(path, 1, 0) == 0);
    CHILD_CHECK(says(reason_of(place, path, &resolved, &warning),
                     "belongs to user 1,", path));
    CHILD_CHECK(chmod(place->dir, 0755) == 0);
    become_nobody();
    CHILD_CHECK(says(reason_of(place, path, &resolved, &warning),
                     "chown 65534", path));
    slotmem_directory_reset(place->pool);       /* httpd -t as another user */
    slotmem_directory_configure(path, 0, &reason, &warning, place->pool);
    CHILD_CHECK(!reason && !warning);
}

/* [E8] The owner of a link in the path chooses the directory. A group that may
 * write deserves a warning. Only the user who stores, root and the owner ask.
 * */
static void test_trust_others(void **state)
{
    run_as_root(trust_others, *state);
}

/* ---- files ---- */

static struct stat file_of(uid_t uid, gid_t gid, mode_t mode)
{
    struct stat info;

    memset(&info, 0, sizeof(info));
    info.st_uid = uid;
    info.st_gid = gid;
    info.st_mode = S_IFREG | mode;
    return info;
}

#define TRUSTS(directory, uid, gid) \
    slotmem_directory_trusts_owner(directory, \
                             &(struct stat){ .st_uid = uid, .st_gid = gid })

/* Open an unchecked directory that has this mode. */
static slotmem_directory_t *open_with(unit_place_t *place, const char *path,
                                      int checked)
{
    slotmem_directory_t *directory = directory_at(place, path);
    slotmem_distrust_t distrust;

    directory->checked = checked;
    CHILD_CHECK(slotmem_directory_open(directory, 0, &distrust)
                == APR_SUCCESS);
    return directory;
}

static void files(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0770);
    slotmem_directory_t *directory;
    struct stat info;
    int fd;

    CHILD_CHECK(chmod(place->dir, 0755) == 0);
    CHILD_CHECK(chown(path, 0, GROUP) == 0);
    directory = open_with(place, path, 1);      /* root shares with nobody */
    CHILD_CHECK(!directory->group_shared);
    CHILD_CHECK(slotmem_directory_mode(directory) == 0600);
    CHILD_CHECK(TRUSTS(directory, 0, GROUP));
    CHILD_CHECK(!TRUSTS(directory, NOBODY, GROUP));

    CHILD_CHECK(chmod(path, 0777) == 0);
    become_nobody();
    directory = open_with(place, path, 0);
    CHILD_CHECK(!directory->group_shared);      /* anybody may write to it */
    CHILD_CHECK(slotmem_directory_mode(directory) == 0600);
    CHILD_CHECK(TRUSTS(directory, 0, 0) && TRUSTS(directory, NOBODY, 1));
    CHILD_CHECK(!TRUSTS(directory, 1, GROUP));
    umask(0);
    fd = openat(directory->fd, "f", O_WRONLY | O_CREAT, 0666);
    CHILD_CHECK(fd >= 0);
    CHILD_CHECK(slotmem_directory_set_mode(directory, fd) == APR_SUCCESS);
    CHILD_CHECK(fstat(fd, &info) == 0 && info.st_mode == (S_IFREG | 0600));
    CHILD_CHECK(slotmem_directory_has_mode(directory, &info));
    CHILD_CHECK(slotmem_directory_has_mode(NULL, &info));
    close(fd);
}

/* [E8] A file belongs to the user who runs the server, or to root. */
static void test_files(void **state)
{
    run_as_root(files, *state);
}

static void shared(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0770);
    slotmem_directory_t *directory;
    struct stat info;
    int fd;

    CHILD_CHECK(chmod(place->dir, 0755) == 0);
    CHILD_CHECK(chown(path, 0, GROUP) == 0);
    become_nobody();
    directory = open_with(place, path, 1);
    CHILD_CHECK(directory->group_shared && directory->gid == GROUP);
    CHILD_CHECK(slotmem_directory_mode(directory) == 0660);
    CHILD_CHECK(TRUSTS(directory, 1, GROUP) && TRUSTS(directory, 0, 0));
    CHILD_CHECK(!TRUSTS(directory, 1, GROUP + 1));
    umask(077);
    fd = openat(directory->fd, "f", O_WRONLY | O_CREAT, 0600);
    CHILD_CHECK(fd >= 0 && fstat(fd, &info) == 0);
    CHILD_CHECK(!slotmem_directory_has_mode(directory, &info));
    CHILD_CHECK(slotmem_directory_set_mode(directory, fd) == APR_SUCCESS);
    CHILD_CHECK(fstat(fd, &info) == 0 && info.st_mode == (S_IFREG | 0660)
                && info.st_gid == GROUP && info.st_uid == NOBODY);
    CHILD_CHECK(slotmem_directory_has_mode(directory, &info));
    info = file_of(NOBODY, GROUP + 1, 0660);
    CHILD_CHECK(!slotmem_directory_has_mode(directory, &info));
    info = file_of(1, GROUP, 0660);
    CHILD_CHECK(!slotmem_directory_has_mode(directory, &info));
    close(fd);
}

/* [E8] If the group may write and others may not, files belong to the group and
 * have mode 0660, whatever the umask. */
static void test_shared(void **state)
{
    run_as_root(shared, *state);
}

static void foreign_group(void *data)
{
    unit_place_t *place = data;
    const char *path = make_dir(place, "dir", 0775);
    slotmem_directory_t *directory;
    struct stat info;
    int fd;

    CHILD_CHECK(chmod(place->dir, 0755) == 0);
    CHILD_CHECK(chown(path, NOBODY, GROUP + 1) == 0);
    become_nobody();
    directory = open_with(place, path, 1);
    CHILD_CHECK(TRUSTS(directory, 1, GROUP + 1));
    CHILD_CHECK(slotmem_directory_mode(directory) == 0600);
    fd = openat(directory->fd, "f", O_WRONLY | O_CREAT, 0600);
    CHILD_CHECK(fd >= 0);
    CHILD_CHECK(slotmem_directory_set_mode(directory, fd) == APR_SUCCESS);
    CHILD_CHECK(fstat(fd, &info) == 0 && info.st_mode == (S_IFREG | 0600));
    CHILD_CHECK(slotmem_directory_has_mode(directory, &info));
    close(fd);
}

/* [E8] A server that is not in the group cannot give it files, and keeps them
 * to itself. */
static void test_foreign_group(void **state)
{
    run_as_root(foreign_group, *state);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_list),
        TEST(test_foreign_owner),
        TEST(test_written_by_all),
        TEST(test_exchanged),
        TEST(test_missing),
        TEST(test_trust),
        TEST(test_ways),
        TEST(test_trust_others),
        TEST(test_files),
        TEST(test_shared),
        TEST(test_foreign_group)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

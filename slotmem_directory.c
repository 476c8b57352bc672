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
 * slotmem_directory.c: the directories of persisted files; see
 * slotmem_directory.h. APR has no *at() calls, hence those of POSIX.
 */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "slotmem_directory.h"

#ifndef O_PATH                  /* Linux: opens a directory that this user may
                                   search but not read */
#define O_PATH 0
#endif

/* Process-local; reset by slotmem_directory_reset(). */
static struct {
    apr_pool_t *pool;
    slotmem_directory_t *first;
} directories;

void slotmem_directory_reset(apr_pool_t *pool)
{
    slotmem_directory_close_all();
    memset(&directories, 0, sizeof(directories));
    directories.pool = pool;
}

slotmem_directory_t *slotmem_directories(void)
{
    return directories.first;
}

static slotmem_directory_t *find_or_add(const char *path, apr_size_t len)
{
    slotmem_directory_t *directory;

    for (directory = directories.first; directory;
         directory = directory->next) {
        if (strncmp(directory->path, path, len) == 0
            && !directory->path[len]) {
            return directory;
        }
    }
    directory = apr_pcalloc(directories.pool, sizeof(*directory));
    directory->path = apr_pstrmemdup(directories.pool, path, len);
    directory->fd = -1;
    directory->next = directories.first;
    directories.first = directory;
    return directory;
}

slotmem_directory_t *slotmem_directory_of(const char *file)
{
    const char *slash = strrchr(file, '/');

    return !slash        ? find_or_add(".", 1)
         : slash == file ? find_or_add("/", 1)
                         : find_or_add(file, (apr_size_t)(slash - file));
}

/* ---- trust ---- */

static int is_own_user(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

/* Further groups are ignored. */
#define GROUPS_MAX 1024

static int is_own_group(gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    int num = getgroups(GROUPS_MAX, groups);
    int i;

    for (i = 0; i < num; i++) {
        if (groups[i] == gid) {
            return 1;
        }
    }
    return getegid() == gid;
}

/* above: 1 for a directory above SlotmemPersistDir. If it is sticky, everybody
 * may write to it: users can only rename and remove their own files there. */
static int is_trusted(const struct stat *info, int above,
                      slotmem_distrust_t *distrust)
{
    distrust->uid = info->st_uid;
    distrust->kind = S_ISLNK(info->st_mode)     ? SLOTMEM_IS_LINK
                     : !S_ISDIR(info->st_mode)  ? SLOTMEM_NO_DIRECTORY
                     : !is_own_user(info->st_uid) ? SLOTMEM_FOREIGN_OWNER
                     : (info->st_mode & S_IWOTH)
                       && !(above && (info->st_mode & S_ISVTX))
                                                ? SLOTMEM_WRITTEN_BY_ALL
                                                : SLOTMEM_TRUSTED;
    return distrust->kind == SLOTMEM_TRUSTED;
}

int slotmem_directory_trusts_owner(const slotmem_directory_t *directory,
                                   const struct stat *file)
{
    return is_own_user(file->st_uid)
           || (directory && directory->group_shared
               && file->st_gid == directory->gid);
}

mode_t slotmem_directory_mode(const slotmem_directory_t *directory)
{
    return directory && directory->group_is_ours
           ? S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP : S_IRUSR | S_IWUSR;
}

int slotmem_directory_has_mode(const slotmem_directory_t *directory,
                               const struct stat *file)
{
    return file->st_uid == geteuid()
           && (file->st_mode & 07777) == slotmem_directory_mode(directory)
           && (!directory || !directory->group_is_ours
               || file->st_gid == directory->gid);
}

apr_status_t slotmem_directory_set_mode(const slotmem_directory_t *directory,
                                        int fd)
{
    if ((directory && directory->group_is_ours
         && fchown(fd, (uid_t)-1, directory->gid) != 0)
        || fchmod(fd, slotmem_directory_mode(directory)) != 0) {
        return errno;
    }
    return APR_SUCCESS;
}

const char *slotmem_directory_reason(const slotmem_directory_t *directory,
                                     const slotmem_distrust_t *distrust,
                                     apr_pool_t *pool)
{
    const char *path = apr_pstrmemdup(pool, directory->path, distrust->len);
    unsigned own = (unsigned)geteuid();

    switch (distrust->kind) {
    case SLOTMEM_NO_DIRECTORY:
        return apr_psprintf(pool, "%s is not a directory: move it away, then "
                            "install -d -m 700 -o %u %s", path, own,
                            directory->path);
    case SLOTMEM_IS_LINK:
        return apr_psprintf(pool, "%s is a symbolic link: expected the "
                            "directory that was there at the start", path);
    case SLOTMEM_FOREIGN_OWNER:
        return apr_psprintf(pool, "%s belongs to user %u, who could put files "
                            "in it; expected user %u or root: chown %u %s",
                            path, (unsigned)distrust->uid, own,
                            own, path);
    case SLOTMEM_WRITTEN_BY_ALL:
        return apr_psprintf(pool, "%s is writable by everybody, so anybody "
                            "could put files in it: chmod o-w %s", path, path);
    case SLOTMEM_TRUSTED:
        break;
    }
    return NULL;
}

/* ---- SlotmemPersistDir ---- */

/* The maximum number of links in a path, as in the kernel. */
#define LINKS_MAX 40

/* Process-local: a walk along a path, one component after the other. */
typedef struct walk_t {
    const char *done;           /* the path so far, without links; "": "/" */
    const char *rest;           /* what is left of the path */
    int links;                  /* number of links followed */
    int missing;                /* 1: done does not exist */
    const char *untrusted;      /* the path that is not trusted, or NULL */
    slotmem_distrust_t *distrust;
    apr_pool_t *pool;
} walk_t;

/* Record the first directory or link that is not trusted. */
static void check_component(walk_t *walk, const char *at,
                            const struct stat *info)
{
    const char *rest = walk->rest + strspn(walk->rest, "/");
    slotmem_distrust_t *distrust = walk->distrust;

    if (distrust->kind != SLOTMEM_TRUSTED) {
        return;
    }
    if (!S_ISLNK(info->st_mode)) {
        is_trusted(info, *rest != '\0', distrust);
    }
    else if (!is_own_user(info->st_uid)) {
        distrust->kind = SLOTMEM_FOREIGN_OWNER;
        distrust->uid = info->st_uid;
    }
    if (distrust->kind != SLOTMEM_TRUSTED) {
        distrust->len = strlen(at);
        walk->untrusted = apr_pstrcat(walk->pool, at,
                                      *rest && at[1] ? "/" : "", rest, NULL);
    }
}

/* Continue at the target of a link. */
static int follow(walk_t *walk, const char *link)
{
    char target[PATH_MAX];
    ssize_t len = readlink(link, target, sizeof(target) - 1);

    if (len <= 0 || ++walk->links > LINKS_MAX) {
        return 0;
    }
    target[len] = '\0';
    walk->rest = apr_pstrcat(walk->pool, target, "/", walk->rest, NULL);
    if (*target == '/') {
        walk->done = "";
    }
    return 1;
}

static void step(walk_t *walk)
{
    apr_size_t len = strcspn(walk->rest, "/");
    const char *name = apr_pstrmemdup(walk->pool, walk->rest, len);
    const char *next = apr_pstrcat(walk->pool, walk->done, "/", name, NULL);
    const char *slash = strrchr(walk->done, '/');
    struct stat info;

    walk->rest += len;
    if (strcmp(name, ".") == 0) {
        return;
    }
    if (strcmp(name, "..") == 0) {
        walk->done = slash ? apr_pstrmemdup(walk->pool, walk->done,
                                            (apr_size_t)(slash - walk->done))
                           : "";
        return;
    }
    walk->missing = walk->missing || lstat(next, &info) != 0;
    if (!walk->missing) {       /* missing: or this user cannot examine it */
        check_component(walk, next, &info);
        if (S_ISLNK(info.st_mode) && follow(walk, next)) {
            return;
        }
    }
    walk->done = next;
}

/* Resolve all links in a path, and check every directory and link on the way:
 * whoever can replace one of them chooses the directory. A missing component
 * keeps its name, so a directory that does not exist yet has a path too. */
static const char *resolve(const char *path, const char **untrusted,
                           slotmem_distrust_t *distrust, apr_pool_t *pool)
{
    walk_t walk = { .done = "", .rest = path, .distrust = distrust,
                    .pool = pool };
    struct stat info;

    if (lstat("/", &info) == 0) {
        check_component(&walk, "/", &info);
    }
    for (;;) {
        walk.rest += strspn(walk.rest, "/");
        if (!*walk.rest) {
            break;
        }
        step(&walk);
    }
    *untrusted = walk.untrusted;
    return *walk.done ? walk.done : "/";
}

/* This is only a warning: the administrator may want the group to write. */
static const char *find_group_writable(const char *path, apr_pool_t *pool)
{
    apr_size_t end = strlen(path);
    struct stat info;

    for (; end && geteuid() == 0; end--) {
        const char *prefix = apr_pstrmemdup(pool, path, end);

        if ((path[end] == '/' || !path[end]) && stat(prefix, &info) == 0
            && (info.st_mode & (S_IWGRP | S_ISVTX)) == S_IWGRP) {
            return prefix;
        }
    }
    return NULL;
}

const char *slotmem_directory_configure(const char *path, int will_store,
                                        const char **reason,
                                        const char **group_writable,
                                        apr_pool_t *pool)
{
    slotmem_directory_t untrusted = { .path = path };
    slotmem_distrust_t distrust = { .kind = SLOTMEM_TRUSTED };
    const char *resolved = apr_pstrdup(directories.pool,
                                       resolve(path, &untrusted.path, &distrust,
                                               pool));
    slotmem_directory_t *directory = find_or_add(resolved, strlen(resolved));
    struct stat info;
    int checks;

    *reason = NULL;
    *group_writable = NULL;
    directory->checked = 1;
    checks = will_store || geteuid() == 0
           || (stat(path, &info) == 0 && info.st_uid == geteuid());
    if (distrust.kind != SLOTMEM_TRUSTED
        && (checks || distrust.kind == SLOTMEM_NO_DIRECTORY)) {
        *reason = slotmem_directory_reason(&untrusted, &distrust, pool);
    }
    if (checks && !*reason
        && slotmem_directory_open(directory, 0, &distrust) == APR_EGENERAL) {
        *reason = slotmem_directory_reason(directory, &distrust, pool);
    }
    if (checks && !*reason) {
        *group_writable = find_group_writable(resolved, pool);
    }
    return resolved;
}

/* ---- open ---- */

/* Make a directory, with its mode regardless of the umask, and fsync the one
 * above it. */
static void make_directory(int above, const char *name)
{
    int fd;

    if (mkdirat(above, name, S_IRWXU) == 0) {
        fd = fchmodat(above, name, S_IRWXU, 0) != 0 ? -1
             : openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            fsync(fd);
            close(fd);
        }
    }
}

/* Open the next component of a path, which must be a trusted directory. */
static apr_status_t open_component(int *opened, int above, const char *name,
                                   int is_last, slotmem_distrust_t *distrust)
{
    struct stat info;
    int fd = openat(above, name, O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY
                                 | (is_last ? O_RDONLY : O_PATH));

    if (fd < 0) {
        int error = errno;

        if ((error == ENOTDIR || error == ELOOP)
            && fstatat(above, name, &info, AT_SYMLINK_NOFOLLOW) == 0
            && !is_trusted(&info, !is_last, distrust)) {
            return APR_EGENERAL;
        }
        return error;
    }
    if (fstat(fd, &info) != 0) {
        int error = errno;

        close(fd);
        return error;
    }
    if (!is_trusted(&info, !is_last, distrust)) {
        close(fd);
        return APR_EGENERAL;
    }
    *opened = fd;
    return APR_SUCCESS;
}

/* Open a path without links, checking each component. */
static apr_status_t open_checked(int *opened, const char *path, int create,
                                 slotmem_distrust_t *distrust)
{
    char name[NAME_MAX + 1];
    apr_status_t rv;
    int fd = -1;

    distrust->len = 1;
    rv = open_component(&fd, AT_FDCWD, "/", !path[1], distrust);
    while (rv == APR_SUCCESS && path[distrust->len]) {
        const char *at = path + distrust->len + (path[distrust->len] == '/');
        apr_size_t len = strcspn(at, "/");
        int above = fd;

        if (len >= sizeof(name)) {
            rv = ENAMETOOLONG;
            break;
        }
        memcpy(name, at, len);
        name[len] = '\0';
        distrust->len = (apr_size_t)(at - path) + len;
        rv = open_component(&fd, above, name, !at[len], distrust);
        if (rv == ENOENT && !at[len] && create) {
            make_directory(above, name);
            rv = open_component(&fd, above, name, 1, distrust);
        }
        close(above);
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    if (rv != APR_SUCCESS && fd >= 0) {
        close(fd);
    }
    *opened = fd;
    return rv;
}

apr_status_t slotmem_directory_open(slotmem_directory_t *directory, int create,
                                    slotmem_distrust_t *distrust)
{
    struct stat info;
    apr_status_t rv;
    int fd = -1;

    distrust->kind = SLOTMEM_TRUSTED;
    if (directory->fd >= 0) {
        return APR_SUCCESS;
    }
    if (directory->checked && *directory->path == '/') {
        rv = open_checked(&fd, directory->path, create, distrust);
    }
    else {
        fd = open(directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rv = fd < 0 ? errno : APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (fstat(fd, &info) != 0) {
        rv = errno;
        close(fd);
        return rv;
    }
    directory->fd = fd;
    directory->dev = info.st_dev;
    directory->ino = info.st_ino;
    directory->gid = info.st_gid;
    directory->group_shared
        = geteuid() != 0
          && (info.st_mode & (S_IWGRP | S_IWOTH)) == S_IWGRP;
    directory->group_is_ours = directory->group_shared
                               && is_own_group(info.st_gid);
    return APR_SUCCESS;
}

void slotmem_directory_mark_all_closed(void)
{
    slotmem_directory_t *directory;

    for (directory = directories.first; directory;
         directory = directory->next) {
        directory->fd = -1;
        directory->lock_file = NULL;
    }
}

void slotmem_directory_close_all(void)
{
    slotmem_directory_t *directory;

    for (directory = directories.first; directory;
         directory = directory->next) {
        if (directory->fd >= 0) {
            close(directory->fd);
        }
    }
    slotmem_directory_mark_all_closed();
}

int slotmem_directory_fd(const slotmem_directory_t *directory,
                         const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');

    *name = directory && slash ? slash + 1 : path;
    return directory ? directory->fd : AT_FDCWD;
}

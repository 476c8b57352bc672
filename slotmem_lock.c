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
 * slotmem_lock.c: which server stores a persisted file; see slotmem_lock.h.
 * APR locks whole files only and follows symbolic links, hence fcntl() and
 * open(). Nothing here takes memory from a pool but the first call for each
 * directory, when a server starts: later a lack of it would end the parent.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_errno.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_lock.h"

/* Where a process finds its lock files again, also when this module has been
 * loaded anew by a restart. To be changed with the struct. */
#define LOCK_FILES "slotmem_shm:lock-files:1"

/* Process-local: an open lock file. Close-on-exec; the parent has it, and what
 * it forks until that has called slotmem_lock_close_all(). */
typedef struct lock_file_t {
    struct lock_file_t *next;
    int fd;                     /* -1: closed */
    const char *name;
} lock_file_t;

/* The list of a process. */
static lock_file_t **lock_files(apr_pool_t *process_pool)
{
    void *found = NULL;

    apr_pool_userdata_get(&found, LOCK_FILES, process_pool);
    if (!found) {
        found = apr_pcalloc(process_pool, sizeof(lock_file_t *));
        apr_pool_userdata_set(found, LOCK_FILES, NULL, process_pool);
    }
    return found;
}

/* The entry of a lock file, which may be closed. */
static lock_file_t *entry_of(const char *name, apr_pool_t *process_pool)
{
    lock_file_t **files = lock_files(process_pool);
    lock_file_t *file = *files;

    while (file && strcmp(file->name, name) != 0) {
        file = file->next;
    }
    if (!file) {
        file = apr_pcalloc(process_pool, sizeof(*file));
        file->fd = -1;
        file->name = apr_pstrdup(process_pool, name);
        file->next = *files;
        *files = file;
    }
    return file;
}

/* Open the lock file of a directory; nothing but a regular file of that name.
 * One that is there is not asked to be created: that waits while the file
 * system is frozen. */
static apr_status_t open_lock_file(int *opened, const char *name)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = open(name, flags);
    struct stat info;

    if (fd < 0 && errno == ENOENT) {
        fd = open(name, flags | O_CREAT, S_IRUSR | S_IWUSR);
    }
    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return APR_EINVAL;
    }
    *opened = fd;
    return APR_SUCCESS;
}

/* Is this still the file that others find by its name? */
static int is_current(int fd, const char *name)
{
    struct stat opened;
    struct stat named;

    return fstat(fd, &opened) == 0 && lstat(name, &named) == 0
           && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* The one open file of a directory; closing another one would drop its locks.
 * One that somebody has removed is left for a new one. */
static apr_status_t lock_file(int *fd, const char *path, size_t dir_len,
                              apr_pool_t *process_pool)
{
    char name[PATH_MAX];
    lock_file_t *file;
    apr_status_t rv = APR_SUCCESS;

    if (snprintf(name, sizeof(name), "%.*s%s", (int)dir_len, path,
                 SLOTMEM_LOCK_FILE) >= (int)sizeof(name)) {
        return ENAMETOOLONG;
    }
    file = entry_of(name, process_pool);
    if (file->fd >= 0 && !is_current(file->fd, name)) {
        close(file->fd);
        file->fd = -1;
    }
    if (file->fd < 0) {
        rv = open_lock_file(&file->fd, name);
    }
    *fd = file->fd;
    return rv;
}

/* The byte of a name. Two names of one byte would only share a lock. */
static off_t offset_of(const char *name)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];
    uint32_t offset;

    apr_md5(digest, name, strlen(name));
    memcpy(&offset, digest, sizeof(offset));
    return (off_t)(offset & 0x7ffffffe);
}

apr_status_t slotmem_lock(const char *path, pid_t *other,
                          apr_pool_t *process_pool)
{
    const char *slash = strrchr(path, '/');
    size_t dir_len = slash ? (size_t)(slash - path) + 1 : 0;
    struct flock lock = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = offset_of(path + dir_len),
        .l_len = 1
    };
    apr_status_t rv;
    int fd;

    rv = lock_file(&fd, path, dir_len, process_pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (fcntl(fd, F_SETLK, &lock) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EACCES && errno != EAGAIN) {
            return errno;
        }
        if (fcntl(fd, F_GETLK, &lock) != 0) {
            return errno;
        }
        if (lock.l_type != F_UNLCK) {
            *other = lock.l_pid;
            return APR_EBUSY;
        }
        lock.l_type = F_WRLCK;      /* it was given up in between */
    }
    return APR_SUCCESS;
}

void slotmem_lock_close_all(apr_pool_t *process_pool)
{
    lock_file_t *file;

    for (file = *lock_files(process_pool); file; file = file->next) {
        if (file->fd >= 0) {
            close(file->fd);
            file->fd = -1;
        }
    }
}

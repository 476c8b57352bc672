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
 * open().
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_errno.h"
#include "apr_file_io.h"
#include "apr_md5.h"
#include "apr_portable.h"
#include "apr_strings.h"

#include "slotmem_lock.h"

/* Open the lock file of a folder; nothing but a regular file of that name.
 * The duplicate is APR's, which closes it with the pool: this module may have
 * been unloaded by then. */
static apr_status_t open_lock_file(apr_file_t **file, const char *name,
                                   apr_pool_t *process_pool,
                                   apr_pool_t *scratch)
{
    int fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                  S_IRUSR | S_IWUSR);
    apr_file_t *opened = NULL;
    struct stat info;
    apr_status_t rv;

    if (fd < 0) {
        return errno;
    }
    rv = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? APR_SUCCESS
                                                        : APR_EINVAL;
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_put(&opened, &fd, APR_FOPEN_READ | APR_FOPEN_WRITE,
                             scratch);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_dup(file, opened, process_pool);
    }
    close(fd);
    return rv;
}

/* Is this still the file that others find by its name? */
static int is_current(int fd, const char *name)
{
    struct stat opened;
    struct stat named;

    return fstat(fd, &opened) == 0 && lstat(name, &named) == 0
           && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* The one open file of a folder; closing another one would drop its locks. It
 * is found again after a restart, when this module has been loaded anew. One
 * that somebody has removed is left for a new one. */
static apr_status_t lock_file(int *fd, const char *path, apr_size_t dir_len,
                              apr_pool_t *process_pool, apr_pool_t *scratch)
{
    const char *name = apr_psprintf(scratch, "%.*s%s", (int)dir_len, path,
                                    SLOTMEM_LOCK_FILE);
    const char *key = apr_pstrcat(scratch, "slotmem_shm:", name, NULL);
    apr_file_t *file = NULL;
    void *found = NULL;
    apr_status_t rv;

    apr_pool_userdata_get(&found, key, process_pool);
    file = found;
    if (file && apr_os_file_get(fd, file) == APR_SUCCESS
        && is_current(*fd, name)) {
        return APR_SUCCESS;
    }
    if (file) {
        apr_file_close(file);
        apr_pool_userdata_set(NULL, key, NULL, process_pool);
    }
    rv = open_lock_file(&file, name, process_pool, scratch);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_pool_userdata_set(file, key, NULL, process_pool);
    return apr_os_file_get(fd, file);
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
    apr_size_t dir_len = slash ? (apr_size_t)(slash - path) + 1 : 0;
    struct flock lock = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = offset_of(path + dir_len),
        .l_len = 1
    };
    apr_pool_t *scratch;
    apr_status_t rv;
    int fd;

    apr_pool_create(&scratch, process_pool);
    rv = lock_file(&fd, path, dir_len, process_pool, scratch);
    apr_pool_destroy(scratch);
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

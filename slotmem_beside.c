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
 * slotmem_beside.c: small text files beside the persisted ones; see
 * slotmem_beside.h. APR follows symbolic links, so this uses openat().
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "slotmem_beside.h"

static const char *problem_of(const slotmem_directory_t *directory,
                              const struct stat *info)
{
    return !S_ISREG(info->st_mode)  ? "it is not a regular file"
           : info->st_nlink != 1    ? "it has more than one link"
           : !slotmem_directory_trusts_owner(directory, info)
                                    ? "it belongs to another user"
           : (info->st_mode & 07777 & ~slotmem_directory_mode(directory))
                                    ? "its mode lets others read or write it"
           : info->st_size > SLOTMEM_BESIDE_MAX ? "it is too large" : NULL;
}

static apr_status_t read_text(int fd, char *text, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t got = read(fd, text + done, len - done);

        if (got <= 0) {
            return got < 0 ? errno : APR_EGENERAL;
        }
        done += (size_t)got;
    }
    text[len] = '\0';
    return strlen(text) == len ? APR_SUCCESS : APR_EGENERAL;
}

apr_status_t slotmem_beside_read(const slotmem_directory_t *directory,
                                 const char *path, char **text,
                                 struct stat *info, const char **reason,
                                 apr_pool_t *pool)
{
    const char *name;
    int at = slotmem_directory_fd(directory, path, &name);
    apr_status_t rv;
    int fd;

    *reason = "it cannot be opened";
    /* Without O_NONBLOCK, opening a FIFO would block. */
    fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ELOOP) {
            *reason = "it is not a regular file";
            return APR_EGENERAL;
        }
        return errno;
    }
    *reason = "it cannot be examined";
    rv = fstat(fd, info) == 0 ? APR_SUCCESS : errno;
    if (rv == APR_SUCCESS) {
        *reason = problem_of(directory, info);
        rv = *reason ? APR_EGENERAL : APR_SUCCESS;
    }
    if (rv == APR_SUCCESS) {
        *reason = "it cannot be read as text";
        *text = apr_palloc(pool, (apr_size_t)info->st_size + 1);
        rv = read_text(fd, *text, (size_t)info->st_size);
    }
    close(fd);
    return rv;
}

static apr_status_t write_text(int fd, const slotmem_directory_t *directory,
                               const char *text)
{
    size_t len = strlen(text);
    apr_status_t rv = slotmem_directory_set_mode(directory, fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (len) {
        ssize_t done = write(fd, text, len);

        if (done < 0) {
            return errno;
        }
        text += done;
        len -= (size_t)done;
    }
    return fsync(fd) == 0 ? APR_SUCCESS : errno;
}

static void sync_directory(int at, const char *path, apr_pool_t *pool)
{
    const char *slash = strrchr(path, '/');
    const char *dir = !slash ? "." : slash == path ? "/"
                      : apr_pstrmemdup(pool, path, (apr_size_t)(slash - path));
    int fd = at != AT_FDCWD ? at : open(dir, O_RDONLY | O_DIRECTORY
                                             | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        if (fd != at) {
            close(fd);
        }
    }
}

apr_status_t slotmem_beside_write(const slotmem_directory_t *directory,
                                  const char *path, const char *text,
                                  const char *token, apr_pool_t *pool)
{
    const char *name;
    int at = slotmem_directory_fd(directory, path, &name);
    const char *tmp = apr_pstrcat(pool, name, ".tmp-", token, NULL);
    apr_status_t rv;
    int fd;

    unlinkat(at, tmp, 0);
    fd = openat(at, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return errno;
    }
    rv = write_text(fd, directory, text);
    if (close(fd) != 0 && rv == APR_SUCCESS) {
        rv = errno;
    }
    if (rv == APR_SUCCESS && renameat(at, tmp, at, name) != 0) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        unlinkat(at, tmp, 0);
        return rv;
    }
    sync_directory(at, path, pool);
    return APR_SUCCESS;
}

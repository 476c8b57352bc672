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
 * slotmem_lock.c: ensures that only one server stores a persisted file; see
 * slotmem_lock.h. APR only locks whole files and follows symbolic links, so
 * this uses fcntl() and openat(). When a process closes any descriptor of a
 * file, the kernel releases all its locks in that file. Each lock file is
 * therefore opened only once, even if its directory has several paths.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_errno.h"
#include "apr_md5.h"

#include "slotmem_lock.h"

/* The key under which a process finds its lock files, even after a restart has
 * reloaded this module. Raise the number whenever one of these structs
 * changes. */
#define LOCK_FILES "slotmem_shm:lock-files:2"

/* Process-local: one byte that is locked. */
typedef struct held_t {
    uint32_t offset;
    int wanted;                 /* 1: requested in this generation */
} held_t;

/* Process-local: an open lock file. Close-on-exec; open in the parent, and in
 * each process that it forks until that calls slotmem_lock_close_all(). */
typedef struct lock_file_t {
    struct lock_file_t *next;
    int fd;
    dev_t dev;
    ino_t ino;
    int confirmed;              /* 1: in this generation one of the locks was
                                   found to be still held */
    held_t *held;               /* malloc()ed, ordered by offset */
    size_t num;
    size_t capacity;
} lock_file_t;

/* The list of open lock files of this process. */
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

/* ---- the locks of a file ---- */

/* The index of an offset in held, or the index at which to insert it. */
static size_t place_of(const lock_file_t *file, uint32_t offset)
{
    size_t low = 0;
    size_t high = file->num;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (file->held[middle].offset < offset) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static held_t *find_held(const lock_file_t *file, uint32_t offset)
{
    size_t place = place_of(file, offset);

    return place < file->num && file->held[place].offset == offset
           ? &file->held[place] : NULL;
}

/* Without memory for the record, the lock is kept, but requested from the
 * kernel each time. */
static void note_held(lock_file_t *file, uint32_t offset)
{
    held_t *held = find_held(file, offset);
    size_t place;

    if (!held && file->num == file->capacity) {
        size_t capacity = file->capacity ? 2 * file->capacity : 16;
        held_t *larger = realloc(file->held, capacity * sizeof(*larger));

        if (!larger) {
            return;
        }
        file->held = larger;
        file->capacity = capacity;
    }
    if (!held) {
        place = place_of(file, offset);
        held = &file->held[place];
        memmove(held + 1, held, (file->num - place) * sizeof(*held));
        held->offset = offset;
        file->num++;
    }
    held->wanted = 1;
}

static struct flock record(short type, uint32_t offset)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET,
                          .l_start = (off_t)offset, .l_len = 1 };

    return lock;
}

static void release(lock_file_t *file, uint32_t offset)
{
    struct flock unlock = record(F_UNLCK, offset);

    fcntl(file->fd, F_SETLK, &unlock);
}

void slotmem_lock_start_generation(apr_pool_t *process_pool)
{
    lock_file_t *file;
    size_t i;

    for (file = *lock_files(process_pool); file; file = file->next) {
        file->confirmed = 0;
        for (i = 0; i < file->num; i++) {
            file->held[i].wanted = 0;
        }
    }
}

void slotmem_lock_release_unwanted(apr_pool_t *process_pool)
{
    lock_file_t **at = lock_files(process_pool);

    while (*at) {
        lock_file_t *file = *at;
        size_t kept = 0;
        size_t i;

        for (i = 0; i < file->num; i++) {
            if (file->held[i].wanted) {
                file->held[kept++] = file->held[i];
            }
            else {
                release(file, file->held[i].offset);
            }
        }
        file->num = kept;
        if (kept) {
            at = &file->next;
            continue;
        }
        *at = file->next;       /* its lock file may have been removed */
        close(file->fd);
        free(file->held);
        free(file);
    }
    slotmem_directory_close_all();
}

void slotmem_lock_close_all(apr_pool_t *process_pool)
{
    lock_file_t **files = lock_files(process_pool);

    while (*files) {
        lock_file_t *file = *files;

        *files = file->next;
        close(file->fd);
        free(file->held);
        free(file);
    }
}

/* ---- the file ---- */

/* Why a lock file is not valid, or NULL. */
static const char *problem_of(const slotmem_directory_t *directory,
                              const struct stat *info)
{
    return !S_ISREG(info->st_mode) ? "is not a regular file"
           : info->st_size         ? "is not empty"
           : info->st_nlink != 1   ? "has more than one link"
           : !slotmem_directory_trusts_owner(directory, info)
                                   ? "belongs to another user"
           : (info->st_mode & 07777) != slotmem_directory_mode(directory)
                                   ? "has the wrong mode" : NULL;
}

/* Open a valid lock file. O_CREAT is not used, because it would wait while the
 * file system is frozen. */
static apr_status_t open_existing(const slotmem_directory_t *directory,
                                  int *fd, struct stat *info,
                                  const char **problem)
{
    *fd = openat(directory->fd, SLOTMEM_LOCK_FILE,
                 O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) {
        if (errno == ENOENT) {
            return errno;
        }
        *problem = fstatat(directory->fd, SLOTMEM_LOCK_FILE, info,
                           AT_SYMLINK_NOFOLLOW) == 0
                   ? problem_of(directory, info) : NULL;
        *problem = *problem ? *problem : "cannot be opened";
        return errno;
    }
    *problem = fstat(*fd, info) == 0 ? problem_of(directory, info)
                                     : "cannot be examined";
    if (*problem) {
        close(*fd);
        return APR_EINVAL;
    }
    return APR_SUCCESS;
}

static apr_status_t create_file(const slotmem_directory_t *directory, int *fd,
                                struct stat *info)
{
    apr_status_t rv;

    *fd = openat(directory->fd, SLOTMEM_LOCK_FILE,
                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 S_IRUSR | S_IWUSR);
    if (*fd < 0) {
        return errno;
    }
    rv = slotmem_directory_set_mode(directory, *fd);
    if (rv == APR_SUCCESS && fstat(*fd, info) != 0) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        close(*fd);
    }
    return rv;
}

static int lacks_descriptors(apr_status_t status)
{
    return APR_STATUS_IS_EMFILE(status) || status == ENFILE;
}

/* Open or make the lock file of a directory, and replace an invalid one. If
 * the directory cannot be written, that is not logged here: the store will log
 * it. */
static apr_status_t open_file(slotmem_directory_t *directory, int *fd,
                              struct stat *info)
{
    const char *problem = NULL;
    apr_status_t rv = open_existing(directory, fd, info, &problem);

    if (rv == ENOENT) {
        rv = create_file(directory, fd, info);
        if (rv == EEXIST) {     /* another server has just made it */
            rv = open_existing(directory, fd, info, &problem);
        }
    }
    else if (problem && !lacks_descriptors(rv)) {
        rv = unlinkat(directory->fd, SLOTMEM_LOCK_FILE, 0) == 0
             ? create_file(directory, fd, info) : errno;
        if (rv != APR_SUCCESS && rv != EROFS && rv != EACCES) {
            directory->lock_problem = problem;
        }
    }
    return rv;
}

/* The open lock file that is still in the directory and valid, or NULL. */
static lock_file_t *find_current(const slotmem_directory_t *directory,
                                 lock_file_t *file)
{
    struct stat info;

    if (fstatat(directory->fd, SLOTMEM_LOCK_FILE, &info, AT_SYMLINK_NOFOLLOW)
        != 0 || problem_of(directory, &info)) {
        return NULL;
    }
    while (file && (file->dev != info.st_dev || file->ino != info.st_ino)) {
        file = file->next;
    }
    return file;
}

/* Find or open the lock file of a directory. make: 1: make it if there is no
 * valid one */
static apr_status_t lock_file(lock_file_t **found,
                              slotmem_directory_t *directory, int make,
                              apr_pool_t *process_pool)
{
    lock_file_t **files = lock_files(process_pool);
    const char *problem = NULL;
    struct stat info = { .st_size = 0 };
    apr_status_t rv;
    int fd;

    directory->lock_problem = NULL;
    *found = find_current(directory, *files);
    if (*found) {
        return APR_SUCCESS;
    }
    rv = make ? open_file(directory, &fd, &info)
              : open_existing(directory, &fd, &info, &problem);
    if (rv != APR_SUCCESS) {
        directory->lock_problem = make ? directory->lock_problem : problem;
        return make || lacks_descriptors(rv) ? rv : APR_INCOMPLETE;
    }
    *found = calloc(1, sizeof(**found));
    if (!*found) {
        close(fd);
        return APR_ENOMEM;
    }
    (*found)->fd = fd;
    (*found)->dev = info.st_dev;
    (*found)->ino = info.st_ino;
    (*found)->next = *files;
    *files = *found;
    return APR_SUCCESS;
}

/* The offset for a name, as docs/file-format.md defines it. Two names with the
 * same offset would only share a lock. */
static uint32_t offset_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    unsigned char digest[APR_MD5_DIGESTSIZE];
    uint32_t offset;

    apr_md5(digest, name, strlen(name));
    memcpy(&offset, digest, sizeof(offset));
    return offset & 0x7ffffffe;
}

static apr_status_t take(lock_file_t *file, uint32_t offset, pid_t *other)
{
    struct flock lock = record(F_WRLCK, offset);

    while (fcntl(file->fd, F_SETLK, &lock) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EACCES && errno != EAGAIN) {
            return errno;
        }
        if (fcntl(file->fd, F_GETLK, &lock) != 0) {
            return errno;
        }
        if (lock.l_type != F_UNLCK) {
            *other = lock.l_pid;
            return APR_EBUSY;
        }
        lock.l_type = F_WRLCK;      /* it was released in between */
    }
    note_held(file, offset);
    return APR_SUCCESS;
}

/* Keep a lock whose lock file is no longer in the directory. Returns 0 if it is
 * not held. */
static int keep_held(uint32_t offset, apr_pool_t *process_pool)
{
    lock_file_t *file = *lock_files(process_pool);
    held_t *held = NULL;

    for (; file && !held; file = file->next) {
        held = find_held(file, offset);
    }
    if (held) {
        held->wanted = 1;
    }
    return held != NULL;
}

static apr_status_t lock(slotmem_directory_t *directory, const char *path,
                         int make, pid_t *other, apr_pool_t *process_pool)
{
    uint32_t offset = offset_of(path);
    lock_file_t *file = directory->lock_file;
    held_t *held;
    apr_status_t rv;

    if (!file) {
        rv = lock_file(&file, directory, make, process_pool);
        if (rv == APR_INCOMPLETE && keep_held(offset, process_pool)) {
            return APR_SUCCESS;
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        directory->lock_file = file;
    }
    /* A network file system that has lost its lease loses all locks of a file,
     * so one request per file is enough. A thousand would take long. */
    held = find_held(file, offset);
    if (held && (held->wanted || file->confirmed)) {
        held->wanted = 1;
        return APR_SUCCESS;
    }
    rv = take(file, offset, other);
    if (held && rv == APR_SUCCESS) {
        file->confirmed = 1;
    }
    else if (held) {
        file->num = 0;          /* the kernel has dropped this lock, and so all
                                   others in the file: request each again */
    }
    if (rv != APR_SUCCESS && rv != APR_EBUSY) {
        directory->lock_problem = "cannot be locked";
    }
    return rv;
}

apr_status_t slotmem_lock(slotmem_directory_t *directory, const char *path,
                          pid_t *other, apr_pool_t *process_pool)
{
    return lock(directory, path, 1, other, process_pool);
}

apr_status_t slotmem_lock_existing(slotmem_directory_t *directory,
                                   const char *path, pid_t *other,
                                   apr_pool_t *process_pool)
{
    return lock(directory, path, 0, other, process_pool);
}

void slotmem_lock_make(slotmem_directory_t *directory)
{
    struct stat info;
    int fd;

    if (open_file(directory, &fd, &info) == APR_SUCCESS) {
        close(fd);
    }
}

int slotmem_lock_is_held(const slotmem_directory_t *directory,
                         const char *path)
{
    struct flock lock = record(F_WRLCK, offset_of(path));
    const char *problem = NULL;
    struct stat info;
    int is_held;
    int fd;

    if (open_existing(directory, &fd, &info, &problem) != APR_SUCCESS) {
        return 0;
    }
    is_held = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return is_held;
}

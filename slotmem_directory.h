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
 * slotmem_directory.h: the directories of persisted files, and whom the server
 * trusts in them (contract E8).
 *
 * SlotmemPersistDir is checked: it and each directory above it must belong to
 * the user who runs the server or to root, and nobody else may write it. Such a
 * directory is opened one component at a time and no link is followed, so what
 * was checked is what is used. Other directories are opened as they are; in all
 * of them the owner of each file counts. All further work goes through the
 * descriptor.
 *
 * Lifecycle: a directory is entered when the first file in it is named, and
 * lasts as long as the generation. It is opened for a round of restores or
 * stores and closed after it, since another one may be mounted there meanwhile.
 *
 * A crash leaves nothing, but perhaps a new, empty SlotmemPersistDir.
 *
 * Concurrency: the parent's one thread. The process that stores has a copy of
 * the list, and opens each directory itself.
 */

#ifndef SLOTMEM_DIRECTORY_H
#define SLOTMEM_DIRECTORY_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "apr_pools.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: a directory of persisted files. */
typedef struct slotmem_directory_t {
    struct slotmem_directory_t *next;
    const char *path;           /**< no '/' at its end, but for "/" itself */
    int checked;                /**< 1: it is SlotmemPersistDir */
    int fd;                     /**< -1: not open */
    dev_t dev;                  /**< with the next, which one it was when it */
    ino_t ino;                  /**< was open last: one may have two paths */
    int group_shared;           /**< 1: files in it belong to gid: the server
                                     does not run as root, and only its group
                                     may write the directory */
    int group_is_ours;          /**< 1: the server is in that group, and can
                                     give it files */
    gid_t gid;
    void *lock_file;            /**< of slotmem_lock.c, while it is open */
    const char *lock_problem;   /**< set by slotmem_lock(): why there is no
                                     lock, or NULL */
    int lock_logged;            /**< for the caller: 1: the log says so */
    int lock_tried;             /**< ... 1: a process was to mend it */
} slotmem_directory_t;

/** Why a directory is not used. */
typedef struct slotmem_distrust_t {
    enum {
        SLOTMEM_TRUSTED,
        SLOTMEM_NO_DIRECTORY,   /**< something else stands there */
        SLOTMEM_IS_LINK,        /**< a symbolic link has taken its place */
        SLOTMEM_FOREIGN_OWNER,
        SLOTMEM_WRITTEN_BY_ALL
    } kind;
    apr_size_t len;             /**< bytes of the path that name the culprit */
    uid_t uid;                  /**< its owner */
} slotmem_distrust_t;

/** No directory is known. @param pool lasts as long as the generation; NULL:
 *  it has ended, and what is open is closed */
void slotmem_directory_reset(apr_pool_t *pool);

/** @return the directory of a file, entered if it is new */
slotmem_directory_t *slotmem_directory_of(const char *file);

/** @return the first directory, or NULL; they are linked by next */
slotmem_directory_t *slotmem_directories(void);

/**
 * Enter SlotmemPersistDir. Links in its path are resolved now.
 * @param path absolute
 * @param must_ask 1: this process is going to store in it. 0: owner and mode
 *        are only looked at by root and by its owner
 * @param reason set to what is wrong with it and how to mend that, or to NULL
 * @param group_writable if root starts the server: set to the directory that
 *        a group can write, it or one above it; else to NULL
 * @param pool for the texts and the path
 * @return its path with all links resolved; a directory that is missing has
 *         one as well
 */
const char *slotmem_directory_trust(const char *path, int must_ask,
                                    const char **reason,
                                    const char **group_writable,
                                    apr_pool_t *pool);

/**
 * Open a directory, unless it is open.
 * @param create 1: make a checked one that is missing, with mode 0700
 * @param distrust set; its kind is not SLOTMEM_TRUSTED with APR_EGENERAL
 * @return APR_SUCCESS; APR_EGENERAL: it is not to be used; else the system's
 *         code
 */
apr_status_t slotmem_directory_open(slotmem_directory_t *directory, int create,
                                    slotmem_distrust_t *distrust);

/** @return what is wrong with it and how to mend that; for the log */
const char *slotmem_directory_reason(const slotmem_directory_t *directory,
                                     const slotmem_distrust_t *distrust,
                                     apr_pool_t *pool);

/** Close what is open. */
void slotmem_directory_close_all(void);

/** In a process whose descriptors are closed already: none is open. */
void slotmem_directory_forget_all(void);

/**
 * How *at() calls name a file.
 * @param directory that is open; or NULL: the path says it all
 * @param name set to the part of @a path that they take
 * @return their first argument
 */
int slotmem_directory_fd(const slotmem_directory_t *directory,
                         const char *path, const char **name);

/** May the content of a file with this owner be believed (E8)? */
int slotmem_directory_trusts(const slotmem_directory_t *directory,
                             const struct stat *file);

/** @return the mode of the server's files in it; directory may be NULL */
mode_t slotmem_directory_mode(const slotmem_directory_t *directory);

/** Is this file as the server makes its files: owner, group and mode? */
int slotmem_directory_is_own(const slotmem_directory_t *directory,
                             const struct stat *file);

/** Give a new file its mode and group, whatever the umask.
 *  @return APR_SUCCESS, or the system's code */
apr_status_t slotmem_directory_own(const slotmem_directory_t *directory,
                                   int fd);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_DIRECTORY_H */

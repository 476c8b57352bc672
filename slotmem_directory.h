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
 * slotmem_directory.h: the directories of persisted files, and which of them
 * and of their files the server trusts (contract E8).
 *
 * SlotmemPersistDir is checked: it and each directory above it must belong to
 * root or to the user who runs the server, and must not be writable by
 * everybody. It is opened one component at a time, without following links, so
 * the directory that was checked is the one that is used. Other directories
 * are opened without a check. In every directory the owner of each file is
 * checked. Files are accessed through the descriptor of their directory.
 *
 * Lifecycle: a directory is added to the list when its first file is named,
 * and lasts as long as the generation. It is opened for a round of restores or
 * stores and closed afterwards, because another file system may be mounted
 * there in between.
 *
 * A crash leaves at most a new, empty SlotmemPersistDir.
 *
 * Concurrency: the parent's main thread. The process that stores has a copy of
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
    const char *path;           /**< without a '/' at its end, except "/" */
    int checked;                /**< 1: it is SlotmemPersistDir, the only one
                                     that is checked */
    int fd;                     /**< -1: not open */
    dev_t dev;                  /**< this and the next identify the directory */
    ino_t ino;                  /**< that was opened last; it may have several
                                     paths */
    int group_shared;           /**< 1: files of group gid are trusted: the
                                     server does not run as root, and the group
                                     may write to the directory, but not
                                     everybody */
    int group_is_ours;          /**< 1: ... and the server is a member of that
                                     group, so its files get that group */
    gid_t gid;
    void *lock_file;            /**< for slotmem_lock.c, while fd is open */
    const char *lock_problem;   /**< set by slotmem_lock(): why there is no
                                     lock, or NULL */
    int lock_logged;            /**< used by slotmem_files.c: 1: it has logged
                                     the problem */
    int lock_tried;             /**< the same: 1: a process that stores has
                                     tried to fix the problem */
} slotmem_directory_t;

/** Why a directory is not used. */
typedef struct slotmem_distrust_t {
    enum {
        SLOTMEM_TRUSTED,
        SLOTMEM_NO_DIRECTORY,   /**< something else is at its path */
        SLOTMEM_IS_LINK,        /**< a symbolic link has replaced it */
        SLOTMEM_FOREIGN_OWNER,
        SLOTMEM_WRITTEN_BY_ALL
    } kind;
    apr_size_t len;             /**< bytes of the path up to the directory that
                                     is the reason: this one or one above it */
    uid_t uid;                  /**< owner of that one */
} slotmem_distrust_t;

/** Close all directories and empty the list. @param pool must last as long as
 *  the generation; NULL: the generation has ended */
void slotmem_directory_reset(apr_pool_t *pool);

/** @return the directory of a file; it is added to the list if it is new */
slotmem_directory_t *slotmem_directory_of(const char *file);

/** @return the first directory, or NULL; they are linked by next */
slotmem_directory_t *slotmem_directories(void);

/**
 * Add SlotmemPersistDir. Links in its path are resolved now.
 * @param path absolute
 * @param will_store 1: this process is going to store in it. 0: check owner and
 *        mode only if the caller is root or owns it
 * @param reason set to what is wrong with it and how to fix that, or to NULL
 * @param group_writable if root starts the server: set to the directory, or one
 *        above it, that its group can write; otherwise to NULL
 * @param pool for the texts
 * @return its path with all links resolved, even if the directory is missing
 */
const char *slotmem_directory_configure(const char *path, int will_store,
                                        const char **reason,
                                        const char **group_writable,
                                        apr_pool_t *pool);

/**
 * Open a directory, unless it is open.
 * @param create 1: if it is missing and is to be checked, make it, with mode
 *        0700
 * @param distrust set; if APR_EGENERAL, its kind is not SLOTMEM_TRUSTED
 * @return APR_SUCCESS; APR_EGENERAL: it is not trusted; else the system's code
 */
apr_status_t slotmem_directory_open(slotmem_directory_t *directory, int create,
                                    slotmem_distrust_t *distrust);

/** @return what is wrong with it and how to fix that; for the log */
const char *slotmem_directory_reason(const slotmem_directory_t *directory,
                                     const slotmem_distrust_t *distrust,
                                     apr_pool_t *pool);

void slotmem_directory_close_all(void);

/** Mark all directories closed, in a process whose descriptors are closed
 *  already. */
void slotmem_directory_mark_all_closed(void);

/**
 * Arguments for openat() and the like.
 * @param directory open; or NULL: use path as it is
 * @param name set to their path argument, the last component of @a path
 * @return their descriptor argument
 */
int slotmem_directory_fd(const slotmem_directory_t *directory,
                         const char *path, const char **name);

/** Is the owner of a file trusted (E8)? */
int slotmem_directory_trusts_owner(const slotmem_directory_t *directory,
                                   const struct stat *file);

/** @return the mode of the server's files in a directory, which may be NULL */
mode_t slotmem_directory_mode(const slotmem_directory_t *directory);

/** Does a file have the owner, group and mode that the server gives its
 *  files? */
int slotmem_directory_has_mode(const slotmem_directory_t *directory,
                               const struct stat *file);

/** Give a new file its mode and group, regardless of the umask.
 *  @return APR_SUCCESS or the system's code */
apr_status_t slotmem_directory_set_mode(const slotmem_directory_t *directory,
                                        int fd);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_DIRECTORY_H */

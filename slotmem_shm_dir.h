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
 * slotmem_shm_dir.h: the files of run-time segments: where they are, and which
 * name stands for which of them.
 *
 *     /dev/shm or /tmp           the first one that the children can write to;
 *                                under ChrootDir, the one inside the new root
 *       slotmem-shm-ID-DIGEST/   one per server, mode 0700, of the children's
 *                                user; the generations share it
 *         DIGEST                 one per name and generation
 *         DIGEST.N               one that is being filled, or that is about to
 *                                be removed
 *
 * Any user can make files in /dev/shm. So nobody but the server's processes can
 * know the name of the directory before it exists, and the sticky bit of
 * /dev/shm keeps others from replacing it after that. It stays when it is
 * empty. What is in it cannot be taken, listed or removed by other users.
 *
 * Lifecycle: slotmem_shm_dir_reset() in pre_config; slotmem_shm_dir_prepare()
 * in post_config, in the parent; slotmem_shm_dir_child_init() in each child.
 * The first child that creates a segment makes the directory. When the server
 * stops, slotmem_shm_dir_remove_all() removes it.
 *
 * If the parent is killed, the directory stays, with the files of children that
 * are killed as well.
 *
 * Concurrency: nothing here takes a lock. After child_init only
 * slotmem_shm_dir_make() changes something: a flag, atomically.
 */

#ifndef SLOTMEM_SHM_DIR_H
#define SLOTMEM_SHM_DIR_H

#include "slotmem_segment.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** No name has a file. */
void slotmem_shm_dir_reset(void);

/** Make the random numbers that the names of directory and files depend on.
 *  @return APR_SUCCESS, or the system's code: no random numbers */
apr_status_t slotmem_shm_dir_prepare(void);

/** In a child that has dropped its privileges: choose the place. All children
 *  of a generation choose the same, because they run as one user.
 *  @param pool must last as long as the child */
void slotmem_shm_dir_child_init(apr_pool_t *pool);

/** @return 1: there is a place where the directory is or can be made */
int slotmem_shm_dir_is_known(void);

/**
 * In a child: make the directory, if it does not exist.
 * @return APR_SUCCESS; APR_ENOENT: there is no place for it, which is logged
 *         once (SLOTMEM-50); APR_EEXIST: something else has its name; otherwise
 *         the system's code
 */
apr_status_t slotmem_shm_dir_make(void);

/**
 * Get the file and the proof of a name. They differ between generations. Only
 * if slotmem_shm_dir_is_known().
 * @param pool for the path
 * @return its creator is not set
 */
slotmem_shm_name_t slotmem_shm_dir_name(const char *name, apr_pool_t *pool);

typedef apr_status_t (*slotmem_visit_t)(const char *path, apr_pool_t *pool);

/** In a child: call a function for the path of each file in the directory,
 *  until it fails.
 *  @param pool for temporary use; the paths are in it as well
 *  @return what the function returned last, or APR_SUCCESS */
apr_status_t slotmem_shm_dir_each(apr_pool_t *pool, slotmem_visit_t visit);

/** When the server stops: remove the directory with its files. Opens no file,
 *  and follows no link. Does nothing in a process that did not run
 *  slotmem_shm_dir_prepare(); but that may have been for an earlier generation.
 *  @param pool for temporary use */
void slotmem_shm_dir_remove_all(apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_SHM_DIR_H */

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
 * slotmem_beside.h: small text files beside the persisted ones, which the tool
 * and the module write for one another. Each begins with a line that says what
 * it is.
 *
 * A file counts only if nobody but the user who runs the server, or root, can
 * have written it (contract E8): a regular file with one link, and no mode that
 * the persisted files do not have. It is data for whoever reads it.
 *
 * A crash: a file is whole, old or new, at every instruction; a temporary one
 * may be left.
 *
 * Concurrency: whoever writes last wins.
 */

#ifndef SLOTMEM_BESIDE_H
#define SLOTMEM_BESIDE_H

#include <sys/stat.h>

#include "slotmem_directory.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Bytes: a larger file does not count. */
#define SLOTMEM_BESIDE_MAX ((off_t)1 << 20)

/**
 * Read a file.
 * @param directory that is open, or NULL: path says it all
 * @param text set to the bytes, with a zero byte after them
 * @param info which file it was
 * @param reason set to what is wrong with it, if not APR_SUCCESS
 * @return APR_SUCCESS; APR_ENOENT: there is none; APR_EGENERAL: it does not
 *         count; else the system's code
 */
apr_status_t slotmem_beside_read(const slotmem_directory_t *directory,
                                 const char *path, char **text,
                                 struct stat *info, const char **reason,
                                 apr_pool_t *pool);

/**
 * Write a file, with owner and mode as the persisted ones, and call fsync() for
 * it and its directory.
 * @param directory that is open, or NULL
 * @param token no other process has it
 * @return APR_SUCCESS; else the system's code, and what stands there stays
 */
apr_status_t slotmem_beside_write(const slotmem_directory_t *directory,
                                  const char *path, const char *text,
                                  const char *token, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_BESIDE_H */

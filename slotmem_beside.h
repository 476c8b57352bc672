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
 * slotmem_beside.h: small text files in the directory of the persisted files,
 * through which slotmem-file and the module communicate. The first line names
 * the type of the file.
 *
 * A file is only read if nobody but root or the user who runs the server can
 * have written it (contract E8): a regular file with one link, and no more
 * permissions than the persisted files have. The reader checks its content.
 *
 * After a crash at any instruction a file is whole, with the old bytes or the
 * new. A temporary file may be left.
 *
 * Concurrency: the last writer wins.
 */

#ifndef SLOTMEM_BESIDE_H
#define SLOTMEM_BESIDE_H

#include <sys/stat.h>

#include "slotmem_directory.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** In bytes: a larger file is not read. A list of 65000 names of 255 bytes
 *  fits. */
#define SLOTMEM_BESIDE_MAX ((off_t)16 << 20)

/**
 * Read a file.
 * @param directory open; or NULL: use path as it is
 * @param text set to the bytes, followed by a zero byte
 * @param info set to the identity of the file
 * @param reason set to what is wrong with it, unless APR_SUCCESS
 * @return APR_SUCCESS; APR_ENOENT: there is none; APR_EGENERAL: it is not
 *        valid; else the system's code
 */
apr_status_t slotmem_beside_read(const slotmem_directory_t *directory,
                                 const char *path, char **text,
                                 struct stat *info, const char **reason,
                                 apr_pool_t *pool);

/**
 * Write a file with the owner and mode of the persisted files, and fsync it and
 * its directory.
 * @param directory open; or NULL: use path as it is
 * @param token for the name of the temporary file; unique to this process
 * @return APR_SUCCESS; else the system's code, and an old file stays
 */
apr_status_t slotmem_beside_write(const slotmem_directory_t *directory,
                                  const char *path, const char *text,
                                  const char *token, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_BESIDE_H */

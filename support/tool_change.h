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
 * tool_change.h: the right to change a file, and the lock of the server that
 * stores it.
 *
 * Lifecycle: call tool_change_begin() first, and once. A lock is held until
 * tool_change_end().
 *
 * Concurrency: no server starts to store a file while its lock is held here.
 */

#ifndef TOOL_CHANGE_H
#define TOOL_CHANGE_H

#include "slotmem_directory.h"
#include "tool_file.h"

/**
 * Become the owner of a file or directory, so that new files have the same
 * owner as if the server had written them. Only root can become another user,
 * for the rest of the process.
 * @return NULL, or why not
 */
const char *tool_change_begin(const char *path, apr_pool_t *pool);

/** Open the directory of a file. @return NULL: it cannot be opened, and status
 *  says why */
slotmem_directory_t *tool_change_directory(const char *path,
                                           apr_status_t *status);

/**
 * Take the lock of a persisted file.
 * @param status of the call that failed, or APR_SUCCESS
 * @return NULL, or why not
 */
const char *tool_change_lock(const char *path, apr_status_t *status,
                             apr_pool_t *pool);

/** Release all locks. The command must not change anything after this. */
void tool_change_end(void);

/** @return a part for names of temporary files that no other process uses */
const char *tool_change_token(apr_pool_t *pool);

#endif /* TOOL_CHANGE_H */

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
 * tool_change.c: the right to change a file, and its lock; see tool_change.h.
 */

#include "tool_change.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_strings.h"

#include "slotmem_lock.h"

static apr_pool_t *lock_pool;       /* of all locks; NULL: none was taken */

const char *tool_change_begin(const char *path, apr_pool_t *pool)
{
    struct stat info;

    slotmem_directory_reset(pool);
    if (lstat(path, &info) != 0) {
        return apr_psprintf(pool, "cannot find out its owner: %s",
                            strerror(errno));
    }
    if (info.st_uid == geteuid()) {
        return NULL;
    }
    if (geteuid() != 0) {
        return "only its owner can do that: run this as that user";
    }
    /* Root must not act in another user's directory: that user could exchange
     * names at any moment. */
    if (setgroups(1, &info.st_gid) != 0 || setgid(info.st_gid) != 0
        || setuid(info.st_uid) != 0) {
        return apr_psprintf(pool, "cannot switch to its owner: %s",
                            strerror(errno));
    }
    return NULL;
}

slotmem_directory_t *tool_change_directory(const char *path,
                                           apr_status_t *status)
{
    slotmem_directory_t *directory = slotmem_directory_of(path);
    slotmem_distrust_t distrust;

    *status = slotmem_directory_open(directory, 0, &distrust);
    return *status == APR_SUCCESS ? directory : NULL;
}

const char *tool_change_lock(const char *path, apr_status_t *status,
                             apr_pool_t *pool)
{
    slotmem_directory_t *directory = tool_change_directory(path, status);
    pid_t holder = 0;

    if (!directory) {
        return "its directory cannot be opened";
    }
    lock_pool = lock_pool ? lock_pool : pool;
    *status = slotmem_lock(directory, path, &holder, lock_pool);
    if (*status == APR_EBUSY) {
        *status = APR_SUCCESS;
        return apr_psprintf(pool, "a server, process %" APR_PID_T_FMT
                            ", stores it: stop that server first", holder);
    }
    return *status == APR_SUCCESS
           ? NULL : "cannot take its lock in " SLOTMEM_LOCK_FILE " beside it";
}

void tool_change_end(void)
{
    if (lock_pool) {
        slotmem_lock_close_all(lock_pool);
        slotmem_directory_close_all();
    }
}

const char *tool_change_token(apr_pool_t *pool)
{
    return apr_psprintf(pool, "tool-%" APR_PID_T_FMT, getpid());
}

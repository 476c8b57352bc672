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
 * slotmem_creator.c: does a process still run? See slotmem_creator.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "slotmem_creator.h"

/* Read the state and the start time, in ticks since boot, from /proc/PID/stat.
 * Returns 0 if there is no such file, or if it names another pid: then /proc is
 * that of another pid namespace. */
static int read_stat(const char *who, pid_t pid, char *state,
                     apr_uint64_t *started)
{
    char path[64];
    char text[1024];
    const char *next;
    ssize_t len;
    int field;
    int fd;

    apr_snprintf(path, sizeof(path), "/proc/%s/stat", who);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    next = strrchr(text, ')');      /* the end of field 2, which may have any
                                       bytes */
    if (!next || next[1] != ' ' || !next[2] || apr_atoi64(text) != pid) {
        return 0;
    }
    *state = next[2];
    for (field = 2; field < 22 && next; field++) {
        next = strchr(next + 1, ' ');
    }
    *started = next ? (apr_uint64_t)apr_atoi64(next + 1) : 0;
    return next != NULL;
}

slotmem_creator_t slotmem_creator_self(void)
{
    slotmem_creator_t self = { 0, (uint32_t)getpid() };
    char state;

    if (!read_stat("self", getpid(), &state, &self.started)) {
        self.started = 0;
    }
    return self;
}

/* The state as in /proc; 'X': it is gone; '?': it exists, and no more is
 * known. */
static char state_of(const slotmem_creator_t *creator)
{
    pid_t pid = (pid_t)creator->pid;
    apr_uint64_t started;
    char who[16];
    char state;

    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
        return 'X';
    }
    apr_snprintf(who, sizeof(who), "%ld", (long)pid);
    if (!read_stat(who, pid, &state, &started)) {
        return '?';
    }
    if (state == 'Z' || (creator->started && started != creator->started)) {
        return 'X';
    }
    return state;
}

int slotmem_creator_is_alive(const slotmem_creator_t *creator)
{
    return state_of(creator) != 'X';
}

int slotmem_creator_is_running(const slotmem_creator_t *creator)
{
    char state = state_of(creator);

    return state != 'X' && state != 'T' && state != 't';
}

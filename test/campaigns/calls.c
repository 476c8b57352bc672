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
 * calls.c: see calls.h. Needs glibc for its alternative names of malloc and
 * calloc.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"

#define FDS_MAX 256

calls_t *calls;
char *names[NAMES_MAX];
int inode_of[NAMES_MAX];
int inodes;
event_t *events;
int num_events;

static int logging;
static struct { int inode, directory; size_t offset; } fds[FDS_MAX];

extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t num, size_t len);

#define REAL(type, name, parameters) static type (*real_##name) parameters
REAL(int, open, (const char *, int, ...));
REAL(int, openat, (int, const char *, int, ...));
REAL(ssize_t, write, (int, const void *, size_t));
REAL(ssize_t, read, (int, void *, size_t));
REAL(int, fsync, (int));
REAL(int, renameat, (int, const char *, int, const char *));
REAL(int, unlinkat, (int, const char *, int));
REAL(int, fchmod, (int, mode_t));
REAL(int, close, (int));
REAL(off_t, lseek, (int, off_t, int));
REAL(int, stat, (const char *, struct stat *));
REAL(int, lstat, (const char *, struct stat *));
REAL(int, fstat, (int, struct stat *));
REAL(int, fstatat, (int, const char *, struct stat *, int));
REAL(void *, mmap, (void *, size_t, int, int, int, off_t));

__attribute__((constructor)) static void find_real(void)
{
#define FIND(name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)
    FIND(open); FIND(openat); FIND(write); FIND(read); FIND(fsync);
    FIND(renameat); FIND(unlinkat); FIND(fchmod); FIND(close); FIND(lseek);
    FIND(stat); FIND(lstat); FIND(fstat); FIND(fstatat); FIND(mmap);
    calls = real_mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

int calls_of_files_only;

void calls_arm(int at, effect_t effect, int error, int sticky)
{
    memset(calls, 0, sizeof(*calls));
    calls->at = at;
    calls->effect = effect;
    calls->error = error;
    calls->sticky = sticky;
    calls->armed = 1;
}

/* ---- the log ---- */

void calls_log_start(void)
{
    int i;

    for (i = 0; i < num_events; i++) {
        free(events[i].data);
    }
    for (i = 0; i < NAMES_MAX; i++) {
        free(names[i]);
        names[i] = NULL;
    }
    num_events = 0;
    inodes = 0;
    logging = 1;
}

int calls_name(const char *path)
{
    size_t len = strlen(path);
    int i;

    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    for (i = 0; names[i]; i++) {
        if (!strncmp(names[i], path, len) && !names[i][len]) {
            return i;
        }
    }
    names[i] = strndup(path, len);
    inode_of[i] = -1;
    return i;
}

void calls_event(int what, int a, int b)
{
    event_t event = { .what = what, .a = a, .b = b };

    if (num_events % 256 == 0) {
        events = realloc(events, sizeof(*events) * (num_events + 256));
    }
    events[num_events++] = event;
}

/* The name of a path that is relative to an open directory. */
static int name_at(int at, const char *path)
{
    const char *directory = at == AT_FDCWD || *path == '/'
                            ? NULL : names[fds[at].directory];
    char whole[1024];

    if (!directory) {
        return calls_name(path);
    }
    if (strcmp(path, ".") == 0) {
        return calls_name(directory);
    }
    snprintf(whole, sizeof(whole), "%s/%s",
             strcmp(directory, "/") ? directory : "", path);
    return calls_name(whole);
}

/* fsync is possible on a file that is only read, too. */
static void log_open(int at, const char *path, int flags, int fd)
{
    int name = name_at(at, path);

    fds[fd].inode = inode_of[name];
    fds[fd].directory = name;
    fds[fd].offset = 0;
    if ((flags & O_ACCMODE) == O_RDONLY) {
        return;
    }
    if (inode_of[name] < 0) {
        inode_of[name] = inodes++;
        calls_event(CREATE, name, inode_of[name]);
    }
    else if (flags & O_TRUNC) {
        calls_event(TRUNCATE, inode_of[name], 0);
    }
    fds[fd].inode = inode_of[name];
}

static void log_write(int fd, const void *data, ssize_t len)
{
    calls_event(WRITE, fds[fd].inode, 0);
    events[num_events - 1].offset = fds[fd].offset;
    events[num_events - 1].len = (size_t)len;
    events[num_events - 1].data = memcpy(malloc((size_t)len), data,
                                         (size_t)len);
    fds[fd].offset += (size_t)len;
}

static void log_fsync(int fd, int fails)
{
    if (fds[fd].inode >= 0) {
        calls_event(fails ? FSYNC_FAILS : FSYNC, fds[fd].inode, 0);
    }
    else if (!fails) {
        calls_event(FSYNC_DIRECTORY, fds[fd].directory, 0);
    }
}

static void log_rename(int from_at, const char *from, int to_at,
                       const char *to)
{
    int a = name_at(from_at, from);
    int b = name_at(to_at, to);

    calls_event(RENAME, a, b);
    inode_of[b] = inode_of[a];
    inode_of[a] = -1;
}

static void log_unlink(int at, const char *path)
{
    int name = name_at(at, path);

    calls_event(UNLINK, name, 0);
    inode_of[name] = -1;
}

/* The log's own allocations do not count as calls of the code under test. */
#define LOG(done, call) \
    do { \
        if ((done) && logging && calls->armed) { \
            calls->armed = 0; \
            call; \
            calls->armed = 1; \
        } \
    } while (0)

/* ---- the calls ---- */

static effect_t before(call_t kind)
{
    if (!calls || !calls->armed
        || (calls_of_files_only && (kind == CALL_MMAP || kind == CALL_ALLOC))) {
        return PASSES;
    }
    if (++calls->count < CALLS_MAX) {
        calls->kind[calls->count] = (unsigned char)kind;
    }
    if (!calls->at || calls->count < calls->at
        || (calls->count > calls->at
            && !(calls->sticky && kind == calls->kind[calls->at]))) {
        return PASSES;
    }
    calls->hits++;
    if (calls->effect == KILLS) {
        kill(getpid(), SIGKILL);
    }
    return calls->effect;
}

static long after(effect_t effect, long result)
{
    if (effect == KILLS_HALFWAY || effect == KILLS_AFTER) {
        kill(getpid(), SIGKILL);
    }
    if (effect == SHORT_THEN_FAILS) {
        calls->at = calls->count + 1;
        calls->effect = FAILS;
    }
    if (effect == FAILS_AFTER) {
        errno = calls->error;
        return -1;
    }
    return result;
}

#define FAIL_IF(effect, result) \
    if (effect == FAILS) { \
        errno = calls->error; \
        return result; \
    }

int open(const char *path, int flags, ...)
{
    effect_t effect = before(CALL_OPEN);
    va_list arguments;
    mode_t mode;
    int fd;

    va_start(arguments, flags);
    mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    FAIL_IF(effect, -1)
    fd = real_open(path, flags, mode);
    LOG(fd >= 0, log_open(AT_FDCWD, path, flags, fd));
    return (int)after(effect, fd);
}

int openat(int at, const char *path, int flags, ...)
{
    effect_t effect = before(CALL_OPEN);
    va_list arguments;
    mode_t mode;
    int fd;

    va_start(arguments, flags);
    mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    FAIL_IF(effect, -1)
    fd = real_openat(at, path, flags, mode);
    LOG(fd >= 0, log_open(at, path, flags, fd));
    return (int)after(effect, fd);
}

ssize_t write(int fd, const void *data, size_t len)
{
    effect_t effect = before(CALL_WRITE);
    int half = effect == SHORT || effect == SHORT_THEN_FAILS
               || effect == KILLS_HALFWAY;
    ssize_t done;

    FAIL_IF(effect, -1)
    done = real_write(fd, data, half && len > 1 ? len / 2 : len);
    LOG(done > 0, log_write(fd, data, done));
    return after(effect, done);
}

ssize_t read(int fd, void *data, size_t len)
{
    effect_t effect = before(CALL_READ);

    FAIL_IF(effect, -1)
    if (effect == ENDS) {
        return 0;
    }
    return after(effect, real_read(fd, data, effect == SHORT && len > 1
                                             ? len / 2 : len));
}

/* No real fsync is needed: no campaign cuts the power of this machine. */
int fsync(int fd)
{
    effect_t effect = before(CALL_FSYNC);

    LOG(1, log_fsync(fd, effect == FAILS));
    FAIL_IF(effect, -1)
    return (int)after(effect, calls->armed ? 0 : real_fsync(fd));
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    effect_t effect = before(CALL_RENAME);
    int result;

    FAIL_IF(effect, -1)
    result = real_renameat(from_at, from, to_at, to);
    LOG(result == 0, log_rename(from_at, from, to_at, to));
    return (int)after(effect, result);
}

int unlinkat(int at, const char *path, int flags)
{
    effect_t effect = before(CALL_UNLINK);
    int result;

    FAIL_IF(effect, -1)
    result = real_unlinkat(at, path, flags);
    LOG(result == 0, log_unlink(at, path));
    return (int)after(effect, result);
}

/* A failing close still closes the file, as the system does. */
int close(int fd)
{
    effect_t effect = before(CALL_CLOSE);
    int result = real_close(fd);

    FAIL_IF(effect, -1)
    return (int)after(effect, result);
}

#define PLAIN(type, name, kind, failed, parameters, arguments) \
    type name parameters \
    { \
        effect_t effect = before(kind); \
        FAIL_IF(effect, failed) \
        return (type)after(effect, (long)real_##name arguments); \
    }
PLAIN(off_t, lseek, CALL_SEEK, -1, (int fd, off_t offset, int whence),
      (fd, offset, whence))
PLAIN(int, stat, CALL_STAT, -1, (const char *path, struct stat *info),
      (path, info))
PLAIN(int, lstat, CALL_STAT, -1, (const char *path, struct stat *info),
      (path, info))
PLAIN(int, fstat, CALL_STAT, -1, (int fd, struct stat *info), (fd, info))
PLAIN(int, fstatat, CALL_STAT, -1,
      (int at, const char *path, struct stat *info, int flags),
      (at, path, info, flags))
PLAIN(int, fchmod, CALL_MODE, -1, (int fd, mode_t mode), (fd, mode))
PLAIN(void *, mmap, CALL_MMAP, MAP_FAILED,
      (void *at, size_t len, int prot, int flags, int fd, off_t offset),
      (at, len, prot, flags, fd, offset))

void *malloc(size_t len)
{
    effect_t effect = before(CALL_ALLOC);

    FAIL_IF(effect, NULL)
    return (void *)after(effect, (long)__libc_malloc(len));
}

void *calloc(size_t num, size_t len)
{
    effect_t effect = before(CALL_ALLOC);

    FAIL_IF(effect, NULL)
    return (void *)after(effect, (long)__libc_calloc(num, len));
}

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
 * slow_disk.c: a library to preload into one program, which simulates a disk
 * that is slow, hangs or fails. Files in the directory SLOTMEM_DISK change how
 * fsync() behaves from now on:
 *
 *     delay   each call takes the number of milliseconds in this file
 *     hold    each call waits as long as this file exists
 *     fail    the next call of the process whose pid is in this file fails with
 *             EIO, and removes this file
 *     faildir the same for the next call on a directory
 *     report  the next call of a process that stores fills its report with the
 *             byte in this file, removes this file, and ends the process
 *
 * and segments that children create:
 *
 *     fill    "PID SIGNAL": that process sends itself the signal when it fills
 *             such a segment the next time, and removes this file
 *     rename  the same for the next time it renames a file
 *     slow    the process whose pid is in this file does not finish filling a
 *             segment as long as the file exists
 *
 * and the clock:
 *
 *     ahead   the clock of the process whose pid is in this file is ten minutes
 *             ahead
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
#include <time.h>
#include <unistd.h>

#define AHEAD 600

#ifndef MADV_POPULATE_WRITE     /* older headers */
#define MADV_POPULATE_WRITE 23
#endif

static void *report;            /* the last shared mapping before a fork */
static size_t report_len;

static const char *path_of(const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", getenv("SLOTMEM_DISK"), name);
    return path;
}

/* Returns the number in a file, or 0. */
static int number_in(const char *name)
{
    char path[512];
    FILE *file = fopen(path_of(name, path), "r");
    int number = 0;

    if (file) {
        if (fscanf(file, "%d", &number) != 1) {
            number = 0;
        }
        fclose(file);
    }
    return number;
}

static void signal_at(const char *name)
{
    char path[512];
    FILE *file = getenv("SLOTMEM_DISK") ? fopen(path_of(name, path), "r")
                                        : NULL;
    int number = 0;
    int pid = 0;
    int found;

    if (!file) {
        return;
    }
    found = fscanf(file, "%d %d", &pid, &number);
    fclose(file);
    if (found == 2 && pid == getpid() && unlink(path) == 0) {
        raise(number);          /* before this thread continues */
    }
}

int rename(const char *from, const char *to)
{
    int (*next)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");

    signal_at("rename");
    return next(from, to);
}

/* The module shares the report right before it forks the process. */
int madvise(void *at, size_t len, int advice)
{
    int (*next)(void *, size_t, int) =
        (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");

    if (advice == MADV_DOFORK) {
        report = at;
        report_len = len;
    }
    if (advice == MADV_POPULATE_WRITE) {
        signal_at("fill");
        while (getenv("SLOTMEM_DISK") && number_in("slow") == getpid()) {
            usleep(10000);
        }
    }
    return next(at, len, advice);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*next)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT,
                                                     "clock_gettime");
    int rv = next(clock, now);

    if (clock == CLOCK_MONOTONIC && getenv("SLOTMEM_DISK")
        && number_in("ahead") == getpid()) {
        now->tv_sec += AHEAD;
    }
    return rv;
}

/* Shall this call fail? Only once: the file is removed. */
static int fails(const char *name)
{
    char path[512];

    return number_in(name) == getpid() && unlink(path_of(name, path)) == 0;
}

int openat64(int at, const char *name, int flags, ...)
{
    int (*next)(int, const char *, int, mode_t) =
        (int (*)(int, const char *, int, mode_t))dlsym(RTLD_NEXT, "openat64");
    static const char suffix[] = ".persist";
    size_t len = strlen(name);
    mode_t mode = 0;
    va_list args;

    if (flags & O_CREAT) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (getenv("SLOTMEM_DISK") && (flags & O_ACCMODE) == O_RDONLY
        && len >= sizeof(suffix)
        && strcmp(name + len - strlen(suffix), suffix) == 0
        && number_in("unread") == getpid()) {
        errno = EIO;
        return -1;
    }
    return next(at, name, flags, mode);
}

int openat(int at, const char *name, int flags, ...)
    __attribute__((alias("openat64")));

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int byte = number_in("report");
    struct stat info;
    char path[512];

    if (!getenv("SLOTMEM_DISK")) {
        return next(fd);
    }
    usleep((useconds_t)number_in("delay") * 1000);
    while (access(path_of("hold", path), F_OK) == 0) {
        usleep(10000);
    }
    if (fails("fail")
        || (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)
            && fails("faildir"))) {
        errno = EIO;
        return -1;
    }
    if (byte && getsid(0) == getpid()
        && unlink(path_of("report", path)) == 0) {
        memset(report, byte, report_len);
        _exit(0);
    }
    return next(fd);
}

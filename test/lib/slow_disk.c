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
 * slow_disk.c: to be preloaded: a disk that is slow, stands still or fails, for
 * one program. The folder SLOTMEM_DISK says how fsync() goes from now on:
 *
 *     delay   each takes as many milliseconds as this file says
 *     hold    each waits as long as this file is there
 *     fail    the next one of the process whose pid this file says fails with
 *             EIO, and removes this file
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", getenv("SLOTMEM_DISK"), name);
    return path;
}

/* The number in a file, or 0. */
static int number_in(const char *name)
{
    FILE *file = fopen(path_of(name), "r");
    int number = 0;

    if (file) {
        if (fscanf(file, "%d", &number) != 1) {
            number = 0;
        }
        fclose(file);
    }
    return number;
}

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

    if (!getenv("SLOTMEM_DISK")) {
        return next(fd);
    }
    usleep((useconds_t)number_in("delay") * 1000);
    while (access(path_of("hold"), F_OK) == 0) {
        usleep(10000);
    }
    if (number_in("fail") == getpid() && unlink(path_of("fail")) == 0) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}

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
 * calls.h: replaces the calls of libc by which APR and the code under test
 * reach files and memory. The definitions in the program take precedence over
 * those in libc, also for APR's library.
 *
 * While armed, it counts the calls; one of them can fail, be cut short, or end
 * the process; and it logs the successful ones for a replay.
 */

#ifndef SLOTMEM_CALLS_H
#define SLOTMEM_CALLS_H

#include <sys/types.h>

#define CALLS_MAX 4096

typedef enum call_t {
    CALL_OPEN, CALL_WRITE, CALL_FSYNC, CALL_RENAME, CALL_UNLINK, CALL_CLOSE,
    CALL_READ, CALL_SEEK, CALL_STAT, CALL_MODE, CALL_MMAP, CALL_ALLOC, CALLS
} call_t;

typedef enum effect_t {
    PASSES,
    FAILS,                      /* with "error", and does nothing */
    FAILS_AFTER,                /* with "error", but has done its work */
    SHORT,                      /* half of a read or write */
    SHORT_THEN_FAILS,           /* the same, and the next call fails */
    ENDS,                       /* a read finds the end of the file */
    KILLS, KILLS_HALFWAY, KILLS_AFTER   /* SIGKILL at that time */
} effect_t;

/* Shared with child processes. */
typedef struct calls_t {
    int armed;
    int count;                  /* calls since arming */
    int hits;                   /* calls that had the effect */
    int at;                     /* the call with the effect, from 1; 0: none */
    int sticky;                 /* all later calls of its kind too */
    effect_t effect;
    int error;
    unsigned char kind[CALLS_MAX];
} calls_t;
extern calls_t *calls;

extern int calls_of_files_only; /* 1: calls for memory are not counted */

void calls_arm(int at, effect_t effect, int error, int sticky);

/* An event that a power cut may undo. a, b: inodes, or names, see names[] */
typedef struct event_t {
    enum { CREATE, TRUNCATE, WRITE, FSYNC, FSYNC_FAILS, RENAME, UNLINK,
           FSYNC_DIRECTORY, STORED } what;
    int a, b;
    size_t offset, len;
    unsigned char *data;
} event_t;

#define NAMES_MAX 64
extern char *names[NAMES_MAX];  /* paths; their numbers never change */
extern int inode_of[NAMES_MAX]; /* the inode of a name now, or -1 */
extern int inodes;
extern event_t *events;
extern int num_events;

void calls_log_start(void);     /* forget names, inodes and events */
int calls_name(const char *path);
void calls_event(int what, int a, int b);

#endif /* SLOTMEM_CALLS_H */

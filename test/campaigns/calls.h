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
 * calls.h: stand in for the calls of libc by which APR and the code under test
 * reach files and memory. The definitions in the program come before those in
 * libc for APR's library too.
 *
 * While armed, calls are counted; one of them can fail, be cut short, or be
 * the last thing the process does; and what succeeds is logged for a replay.
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
    FAILS,                      /* with error, nothing done */
    FAILS_AFTER,                /* with error, but done */
    SHORT,                      /* half of a read or write */
    SHORT_THEN_FAILS,           /* ... and the next call fails */
    ENDS,                       /* a read finds the end of the file */
    KILLS, KILLS_HALFWAY, KILLS_AFTER   /* SIGKILL, at that time */
} effect_t;

/* Shared with child processes. */
typedef struct calls_t {
    int armed;
    int count;                  /* calls since it was armed */
    int hits;                   /* calls that had the effect */
    int at;                     /* the call with the effect, from 1; 0: none */
    int sticky;                 /* all later ones of its kind, too */
    effect_t effect;
    int error;
    unsigned char kind[CALLS_MAX];
} calls_t;
extern calls_t *calls;

extern int calls_of_files_only; /* 1: none of those for memory is counted */

void calls_arm(int at, effect_t effect, int error, int sticky);

/* What a power cut may or may not undo. a, b: inodes, or names, see names[] */
typedef struct event_t {
    enum { CREATE, TRUNCATE, WRITE, FLUSH, FLUSH_FAILS, RENAME, UNLINK,
           FLUSH_FOLDER, STORED } what;
    int a, b;
    size_t offset, len;
    unsigned char *data;
} event_t;

#define NAMES_MAX 64
extern char *names[NAMES_MAX];  /* paths; each has its number for good */
extern int inode_of[NAMES_MAX]; /* the inode of a name now, or -1 */
extern int inodes;
extern event_t *events;
extern int num_events;

void calls_log_start(void);     /* forget names, inodes and events */
int calls_name(const char *path);
void calls_event(int what, int a, int b);

#endif /* SLOTMEM_CALLS_H */

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
 * slotmem_process.h: the process that stores, and what it reports.
 *
 * While the server runs, the parent forks a process for each store, because a
 * store may wait for a disk forever or run out of memory. The process has none
 * of the server's descriptors, and dies with the parent. It reports in notes of
 * fixed size, one per file, in memory that only it and the parent share. The
 * parent uses no part of a note as a length, a path or a pointer; an incomplete
 * or invalid note means that the outcome is unknown.
 *
 * Lifecycle: the parent starts at most one at a time. It may outlive a
 * generation, so slotmem_process_t is plain data that the caller keeps, and
 * slotmem_process_watch() must be called again after a restart. After the
 * process has ended, the caller reads the notes and clears it.
 *
 * A crash of the process leaves what slotmem_store.h says, and notes of what it
 * had done. A crash of the parent ends it.
 *
 * Concurrency: called only by the parent's main thread. The process may write
 * its notes while the parent reads them.
 */

#ifndef SLOTMEM_PROCESS_H
#define SLOTMEM_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "apr_thread_proc.h"

#include "slotmem_store.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** What became of a file. */
typedef enum slotmem_outcome_e {
    SLOTMEM_OUTCOME_UNKNOWN,        /**< or not known yet */
    SLOTMEM_OUTCOME_FAILED,
    SLOTMEM_OUTCOME_UNCHANGED,      /**< the file had these bytes already */
    SLOTMEM_OUTCOME_STORED,         /**< the new file is in place */
    SLOTMEM_OUTCOMES
} slotmem_outcome_e;

/** What became of the fallback, the file in DefaultRuntimeDir. */
typedef enum slotmem_fallback_e {
    SLOTMEM_FALLBACK_UNKNOWN,
    SLOTMEM_FALLBACK_NONE,          /**< there was none */
    SLOTMEM_FALLBACK_RENAMED,
    SLOTMEM_FALLBACK_BUSY,          /**< another server holds its lock */
    SLOTMEM_FALLBACK_FAILED,
    SLOTMEM_FALLBACKS
} slotmem_fallback_e;

/** Memory shared by the process and the parent, one per file. The parent clears
 *  it before the fork; the process that stores writes it. The outcome is 0
 *  while the other fields change, and is written after them. Only fallback is
 *  written later, on its own. */
typedef struct slotmem_note_t {
    _Atomic uint32_t outcome;       /* slotmem_outcome_e */
    _Atomic uint32_t aside;         /* 1 to SLOTMEM_BAD_FILES: the N of .bad-N;
                                       0: no file was set aside */
    uint32_t aside_replaced;
    uint32_t set_aside;             /* 1: the file is still to be set aside */
    uint32_t backup;                /* 1: the backup is still to be made */
    uint32_t step;                  /* slotmem_step_e */
    int32_t status;
    _Atomic uint32_t fallback;      /* slotmem_fallback_e */
    slotmem_file_state_t file_state;
    slotmem_file_state_t new_state;
} slotmem_note_t;

/** Process-local: a note that was read and checked. */
typedef struct slotmem_result_t {
    slotmem_outcome_e outcome;
    int aside;                      /**< N of the file's .bad-N, or 0 */
    int aside_replaced;
    int set_aside;
    int backup;
    slotmem_fallback_e fallback;
    slotmem_step_e step;            /**< what failed; SLOTMEM_STEP_FINISH if the
                                         outcome is unknown */
    apr_status_t status;
    /* see slotmem_store_t; set even if the outcome is unknown */
    slotmem_file_state_t file_state;
    slotmem_file_state_t new_state;
} slotmem_result_t;

/** Process-local, in the parent: a process that stores. */
typedef struct slotmem_process_t {
    apr_proc_t proc;                /* for APR; pid 0: there is no process */
    int ended;                      /**< 1: it has been reaped */
    int lacked_memory;              /**< 1: it ended for lack of memory */
    int killed;                     /**< 1: by slotmem_process_kill() */
    int overdue;                    /**< for the caller; 0 at first */
    apr_time_t started;             /**< slotmem_monotonic_now() */
    slotmem_note_t *notes;          /* mapped; NULL: none */
    apr_size_t num;                 /* number of notes in use */
    apr_size_t capacity;            /* number of notes that fit */
    void *reserved;                 /* addresses, or NULL */
    apr_size_t reserved_size;
} slotmem_process_t;

/** Write the current state of a store to its note, in the process that
 *  stores. */
void slotmem_note_write(slotmem_note_t *note, const slotmem_store_t *store);

/** Read and check a note. @param result every field is set */
void slotmem_note_read(slotmem_result_t *result, const slotmem_note_t *note);

/** The same by the index of the note; the outcome is unknown if the process has
 *  no such note. */
void slotmem_process_read(slotmem_result_t *result,
                          const slotmem_process_t *process, int index);

/**
 * Reserve memory for storing some files, so that a server can store even when
 * it has reached its memory limit. If that fails, a store may still succeed.
 * @param process not running
 */
void slotmem_process_reserve(slotmem_process_t *process, apr_size_t num);

/** Release the reserved addresses, to store in this process. The notes stay. */
void slotmem_process_release(slotmem_process_t *process);

/**
 * Fork a process that calls a function and ends.
 * @param process not running
 * @param num number of notes, which are all zero at first
 * @param work called in the new process, which has no open files and has all
 *        signals blocked. If its pool runs out of memory, the process ends
 * @return APR_SUCCESS, or why there is no memory or no new process
 */
apr_status_t slotmem_process_start(slotmem_process_t *process, apr_size_t num,
                                   void (*work)(slotmem_note_t *notes,
                                                apr_pool_t *pool));

/** Is there a process that has not been reaped? */
int slotmem_process_is_running(const slotmem_process_t *process);

/** @return microseconds on the monotonic clock */
apr_time_t slotmem_monotonic_now(void);

/** Reap the process if it has ended. @return 1: it has, or there is none */
int slotmem_process_poll(slotmem_process_t *process);

/** Wait until it ends. @param deadline on the clock of slotmem_monotonic_now();
 *  0: none. @return 1: it has ended */
int slotmem_process_wait(slotmem_process_t *process, apr_time_t deadline);

/** Kill it. If it waits for a disk it may take long to end. */
void slotmem_process_kill(slotmem_process_t *process);

/** Clear what is known of a process that has ended. What is reserved stays. */
void slotmem_process_clear(slotmem_process_t *process);

/**
 * Have httpd report the end of the process. httpd reaps all children, and logs
 * a line for any that it does not know.
 * @param on_end called from the parent's main loop after the process has ended
 * @param pool for one record; cleared first, so that repeated calls need no
 *        further memory
 */
void slotmem_process_watch(slotmem_process_t *process, void (*on_end)(void),
                           apr_pool_t *pool);

/** Stop that: on_end may be unloaded and the pool destroyed afterwards. */
void slotmem_process_unwatch(slotmem_process_t *process);

/** In a child of the parent: give up the child's copy of the notes. */
void slotmem_process_drop_in_child(slotmem_process_t *process);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROCESS_H */

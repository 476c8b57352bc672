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
 * The parent forks one for each store of a running server, because what stores
 * may wait for a disk without end, and may fail to get memory. The process has
 * no descriptor of the server's, and dies with the parent. It reports in notes
 * of fixed size, one a file, in memory that only it and the parent have. No
 * part of a note is used as a length, a path or a pointer; one that is not
 * complete, or makes no sense, says that the outcome is not known.
 *
 * Lifecycle: started by the parent, at most one at a time; it may outlive a
 * generation, so slotmem_process_t is plain data that the caller keeps, and
 * whoever watches must say so again after a restart. Once it has ended the
 * caller reads the notes and clears it.
 *
 * A crash of the process leaves what slotmem_store.h says, and notes of what it
 * had done. A crash of the parent ends it.
 *
 * Concurrency: called by the parent's one thread alone; but for the notes,
 * which the process writes while the parent may read them.
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
    SLOTMEM_OUTCOME_UNKNOWN,        /**< not known (yet) */
    SLOTMEM_OUTCOME_FAILED,
    SLOTMEM_OUTCOME_UNCHANGED,      /**< the file had all bytes already */
    SLOTMEM_OUTCOME_STORED,         /**< the new file is in place */
    SLOTMEM_OUTCOMES
} slotmem_outcome_e;

/** What became of the file in DefaultRuntimeDir. */
typedef enum slotmem_fallback_e {
    SLOTMEM_FALLBACK_UNKNOWN,
    SLOTMEM_FALLBACK_NONE,          /**< there was none */
    SLOTMEM_FALLBACK_RENAMED,
    SLOTMEM_FALLBACK_BUSY,          /**< it is another server's */
    SLOTMEM_FALLBACK_FAILED,
    SLOTMEM_FALLBACKS
} slotmem_fallback_e;

/** Memory that the process and the parent share, one a file. Written by the
 *  process alone: outcome last, with release; 0 while the others change. */
typedef struct slotmem_note_t {
    _Atomic uint32_t outcome;       /* slotmem_outcome_e */
    _Atomic uint32_t aside;         /* 1 to SLOTMEM_BAD_FILES: the refused file
                                       is there; 0: it was not moved */
    uint32_t aside_replaced;
    uint32_t set_aside;             /* 1: that is still to be done */
    uint32_t backup;                /* 1: so is this */
    uint32_t step;                  /* what failed: index in a table, or 0 */
    int32_t status;
    _Atomic uint32_t fallback;      /* slotmem_fallback_e */
    slotmem_file_state_t file_state;
    slotmem_file_state_t new_state;
} slotmem_note_t;

/** Process-local: a note that was read and makes sense. */
typedef struct slotmem_result_t {
    slotmem_outcome_e outcome;
    int aside;                      /**< N of the file's .bad-N, or 0 */
    int aside_replaced;
    int set_aside;
    int backup;
    slotmem_fallback_e fallback;
    const char *step;               /**< if it failed */
    apr_status_t status;
    slotmem_file_state_t file_state; /**< see slotmem_store_t; these two also */
    slotmem_file_state_t new_state; /**< if the outcome is not known */
} slotmem_result_t;

/** Process-local, in the parent: a process that stores. */
typedef struct slotmem_process_t {
    apr_proc_t proc;                /* for APR; its pid is 0: there is none */
    int ended;                      /**< 1: it has been reaped */
    int lacked_memory;              /**< ... 1: for want of memory */
    int killed;                     /**< 1: by slotmem_process_kill() */
    int overdue;                    /**< for the caller; 0 at the start */
    apr_time_t begun;               /**< slotmem_monotonic_now() */
    slotmem_note_t *notes;          /* mapped; NULL: none */
    apr_size_t num;
    apr_size_t room;                /* for so many notes */
    void *spare;                    /* addresses for a store; or NULL */
    apr_size_t spare_size;
} slotmem_process_t;

/** Write down how a store stands now. */
void slotmem_note_write(slotmem_note_t *note, const slotmem_store_t *store);

/** Read a note. @param result all of it is set */
void slotmem_note_read(slotmem_result_t *result, const slotmem_note_t *note);

/** The same for a file of the process; unknown if it has no such file. */
void slotmem_process_read(slotmem_result_t *result,
                          const slotmem_process_t *process, int index);

/**
 * Have the memory for a store of some files before it is needed: a server that
 * has come to its limit can store then. Without it a store may still succeed.
 * @param process there is none in it that runs
 */
void slotmem_process_reserve(slotmem_process_t *process, apr_size_t num);

/** Give back what is reserved, for a store in this process. */
void slotmem_process_release(slotmem_process_t *process);

/**
 * Fork a process that does some work and ends.
 * @param process there is none in it
 * @param num of notes; all are zero at first
 * @param work called in the new process, which has no open file, all signals
 *        blocked, and a pool that ends it when there is no memory
 * @return APR_SUCCESS; else there is no memory, or no process to be had
 */
apr_status_t slotmem_process_start(slotmem_process_t *process, apr_size_t num,
                                   void (*work)(slotmem_note_t *notes,
                                                apr_pool_t *pool));

/** Is there a process that has not ended, as far as is known? */
int slotmem_process_is_running(const slotmem_process_t *process);

/** @return microseconds by a clock that nobody sets */
apr_time_t slotmem_monotonic_now(void);

/** Look whether it has ended. @return 1: it has, or there is none */
int slotmem_process_poll(slotmem_process_t *process);

/** Wait for its end. @param deadline as slotmem_monotonic_now(); 0:
 *  none. @return 1: it has ended */
int slotmem_process_wait(slotmem_process_t *process, apr_time_t deadline);

/** Kill it. It may take long to end when it waits for a disk. */
void slotmem_process_kill(slotmem_process_t *process);

/** After its end: there is no process then. What is reserved stays. */
void slotmem_process_clear(slotmem_process_t *process);

/**
 * Let httpd's loop tell of its end. httpd reaps all children, and would log one
 * that it does not know.
 * @param on_end called in the parent's loop when it has ended
 * @param pool takes one record; cleared first. It was made before, so that
 *        this takes no more memory
 */
void slotmem_process_watch(slotmem_process_t *process, void (*on_end)(void),
                           apr_pool_t *pool);

/** No more of that: on_end may be unloaded, and the pool go. */
void slotmem_process_unwatch(slotmem_process_t *process);

/** In a process that the parent has forked: give its copy of the notes up. */
void slotmem_process_forget(slotmem_process_t *process);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROCESS_H */

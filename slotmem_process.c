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
 * slotmem_process.c: the process that stores; see slotmem_process.h.
 *
 * The parent may have other threads (mod_watchdog's), which may hold locks at
 * the time of the fork. The new process therefore uses a pool with an allocator
 * of its own and writes no log. The C library resets its own locks.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "apr_strings.h"

#include "slotmem_process.h"

#define PAUSE_MAX 2000                  /* microseconds */
/* The exit code for lack of memory. It must not equal the number of a signal:
 * httpd's loop reports exit codes and signals in the same way. */
#define LACKED_MEMORY 112
/* Address space that a store needs, and how much more per file. It is reserved
 * with mmap(), because APR's pools may use mmap() and not malloc(). */
#define RESERVED_SIZE      ((apr_size_t)1 << 20)
#define RESERVED_PER_FILE  ((apr_size_t)4096)
/* Descriptors that are closed where there is no close_range(). */
#define FILES_MAX 65536

/* ---- notes ---- */

apr_time_t slotmem_monotonic_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_from_sec(now.tv_sec) + now.tv_nsec / 1000;
}

void slotmem_note_write(slotmem_note_t *note, const slotmem_store_t *store)
{
    uint32_t outcome = store->step        ? SLOTMEM_OUTCOME_FAILED
                       : store->unchanged ? SLOTMEM_OUTCOME_UNCHANGED
                       : store->installed ? SLOTMEM_OUTCOME_STORED
                                          : SLOTMEM_OUTCOME_UNKNOWN;
    const char *aside = store->aside ? strrchr(store->aside, '-') : NULL;

    atomic_store(&note->outcome, SLOTMEM_OUTCOME_UNKNOWN);
    note->aside_replaced = store->aside_replaced != 0;
    atomic_store(&note->aside, aside ? (uint32_t)apr_atoi64(aside + 1) : 0);
    note->set_aside = store->set_aside != 0;
    note->backup = store->backup != 0;
    note->step = store->step;
    note->status = store->status;
    note->file_state = store->file_state;
    note->new_state = store->new_state;
    atomic_store(&note->outcome, outcome);
}

/* Do the outcome and the other fields of a note make sense together? */
static int is_complete(const slotmem_note_t *note, uint32_t outcome,
                       uint32_t step)
{
    return outcome != SLOTMEM_OUTCOME_UNKNOWN && outcome < SLOTMEM_OUTCOMES
           && step < SLOTMEM_STEPS
           && (outcome == SLOTMEM_OUTCOME_FAILED) == (step != SLOTMEM_STEP_NONE)
           && note->set_aside <= 1 && note->backup <= 1;
}

void slotmem_note_read(slotmem_result_t *result, const slotmem_note_t *note)
{
    uint32_t outcome = atomic_load(&note->outcome);
    uint32_t aside = atomic_load(&note->aside);
    uint32_t step = note->step;
    uint32_t fallback = atomic_load(&note->fallback);

    memset(result, 0, sizeof(*result));
    result->file_state = note->file_state;
    result->new_state = note->new_state;
    result->fallback = fallback < SLOTMEM_FALLBACKS
                       ? (slotmem_fallback_e)fallback
                       : SLOTMEM_FALLBACK_UNKNOWN;
    if (aside >= 1 && aside <= SLOTMEM_BAD_FILES) {
        result->aside = (int)aside;
        result->aside_replaced = note->aside_replaced == 1;
    }
    if (!is_complete(note, outcome, step)) {
        result->step = SLOTMEM_STEP_FINISH;
        result->set_aside = !result->aside;
        result->backup = 1;
        return;
    }
    result->outcome = (slotmem_outcome_e)outcome;
    result->set_aside = (int)note->set_aside;
    result->backup = (int)note->backup;
    result->step = (slotmem_step_e)step;
    result->status = note->status;
}

void slotmem_process_read(slotmem_result_t *result,
                          const slotmem_process_t *process, int index)
{
    static const slotmem_note_t none;

    slotmem_note_read(result, process->notes && index >= 0
                              && (apr_size_t)index < process->num
                              ? &process->notes[index] : &none);
}

/* ---- the process ---- */

static int end_without_memory(int status)
{
    (void)status;
    _exit(LACKED_MEMORY);
}

static int close_range_from_0(void)
{
#ifdef SYS_close_range
    return syscall(SYS_close_range, 0u, ~0u, 0u) == 0;
#else
    return 0;
#endif
}

/* Close all of the parent's files, and open /dev/null as 0 to 2: otherwise a
 * library that writes a message would write to a persisted file. */
static void close_files(void)
{
    int fd;

    if (!close_range_from_0()) {
        long max = sysconf(_SC_OPEN_MAX);

        for (fd = 0; fd < (max < 0 || max > FILES_MAX ? FILES_MAX : max);
             fd++) {
            close(fd);
        }
    }
    for (fd = 0; fd < 3; fd++) {
        if (open("/dev/null", O_RDWR | O_CLOEXEC) < 0) {
            _exit(errno);
        }
    }
}

static void run(pid_t parent, slotmem_process_t *process,
                void (*work)(slotmem_note_t *, apr_pool_t *))
{
    apr_allocator_t *allocator;
    apr_pool_t *pool;

#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != parent) {
        _exit(ECHILD);
    }
    setsid();
    close_files();
    slotmem_process_release(process);
    if (apr_allocator_create(&allocator) != APR_SUCCESS
        || apr_pool_create_unmanaged_ex(&pool, end_without_memory, allocator)
           != APR_SUCCESS) {
        _exit(LACKED_MEMORY);
    }
    work(process->notes, pool);
    _exit(0);
}

static apr_size_t notes_size(apr_size_t num)
{
    return (num ? num : 1) * sizeof(slotmem_note_t);
}

/* Only the process that stores gets the notes at a fork, not the children. */
static void share_notes(const slotmem_process_t *process, int shared)
{
#ifdef MADV_DONTFORK
    madvise(process->notes, notes_size(process->capacity),
            shared ? MADV_DOFORK : MADV_DONTFORK);
#else
    (void)process;
    (void)shared;
#endif
}

static void unmap_notes(slotmem_process_t *process)
{
    if (process->notes) {
        munmap(process->notes, notes_size(process->capacity));
        process->notes = NULL;
        process->capacity = 0;
    }
}

static apr_status_t map_notes(slotmem_process_t *process, apr_size_t num)
{
    void *notes;

    if (!process->notes || num > process->capacity) {
        notes = mmap(NULL, notes_size(num), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (notes == MAP_FAILED) {
            return errno;
        }
        unmap_notes(process);
        process->notes = notes;
        process->capacity = num;
        share_notes(process, 0);
    }
    return APR_SUCCESS;
}

void slotmem_process_reserve(slotmem_process_t *process, apr_size_t num)
{
    map_notes(process, num);
    slotmem_process_release(process);
    process->reserved_size = RESERVED_SIZE + num * RESERVED_PER_FILE;
    process->reserved = mmap(NULL, process->reserved_size, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (process->reserved == MAP_FAILED) {
        process->reserved = NULL;
    }
}

void slotmem_process_release(slotmem_process_t *process)
{
    if (process->reserved) {
        munmap(process->reserved, process->reserved_size);
        process->reserved = NULL;
    }
}

void slotmem_process_clear(slotmem_process_t *process)
{
    slotmem_process_t kept = *process;

    memset(process, 0, sizeof(*process));
    process->notes = kept.notes;
    process->capacity = kept.capacity;
    process->reserved = kept.reserved;
    process->reserved_size = kept.reserved_size;
}

apr_status_t slotmem_process_start(slotmem_process_t *process, apr_size_t num,
                                   void (*work)(slotmem_note_t *notes,
                                                apr_pool_t *pool))
{
    pid_t parent = getpid();
    sigset_t all, before;
    apr_status_t rv;
    pid_t pid;

    slotmem_process_clear(process);
    rv = map_notes(process, num);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    process->num = num;
    memset(process->notes, 0, notes_size(num));
    share_notes(process, 1);
    /* httpd's handlers, in the new process, would signal the parent's
     * children. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0) {
        run(parent, process, work);
    }
    rv = pid < 0 ? errno : APR_SUCCESS;
    sigprocmask(SIG_SETMASK, &before, NULL);
    share_notes(process, 0);
    if (rv != APR_SUCCESS) {
        slotmem_process_clear(process);
        return rv;
    }
    process->proc.pid = pid;
    process->started = slotmem_monotonic_now();
    return APR_SUCCESS;
}

int slotmem_process_is_running(const slotmem_process_t *process)
{
    return process->proc.pid && !process->ended;
}

static void set_ended(slotmem_process_t *process, int lacked_memory)
{
    process->ended = 1;
    process->lacked_memory = lacked_memory;
    slotmem_process_unwatch(process);
}

int slotmem_process_poll(slotmem_process_t *process)
{
    pid_t pid;
    int status;

    if (!slotmem_process_is_running(process)) {
        return 1;
    }
    pid = waitpid(process->proc.pid, &status, WNOHANG);
    if (pid == process->proc.pid) {
        set_ended(process, WIFEXITED(status)
                           && WEXITSTATUS(status) == LACKED_MEMORY);
    }
    else if (pid < 0 && errno == ECHILD) {
        set_ended(process, 0);
    }
    return process->ended;
}

int slotmem_process_wait(slotmem_process_t *process, apr_time_t deadline)
{
    apr_interval_time_t pause = 500;

    while (!slotmem_process_poll(process)) {
        if (deadline && slotmem_monotonic_now() >= deadline) {
            return 0;
        }
        apr_sleep(pause);
        pause = pause < PAUSE_MAX ? 2 * pause : PAUSE_MAX;
    }
    return 1;
}

void slotmem_process_kill(slotmem_process_t *process)
{
    if (!slotmem_process_poll(process)) {
        kill(process->proc.pid, SIGKILL);
        process->killed = 1;
    }
}

/* With MADV_DONTFORK a child has no notes, and something else may be mapped at
 * their address by now. */
void slotmem_process_drop_in_child(slotmem_process_t *process)
{
#ifdef MADV_DONTFORK
    process->notes = NULL;
#else
    unmap_notes(process);
#endif
    slotmem_process_release(process);
}

/* ---- httpd's loop ---- */

/* Process-local. */
static struct {
    slotmem_process_t *process;     /* or NULL */
    void (*on_end)(void);
} watched;

/* APR calls this for several reasons; for two of them the process has ended. */
static void on_event(int reason, void *data, int status)
{
    void (*on_end)(void) = watched.on_end;

    if (data != watched.process
        || (reason != APR_OC_REASON_DEATH && reason != APR_OC_REASON_LOST)) {
        return;
    }
    set_ended(watched.process, reason == APR_OC_REASON_DEATH
                               && status == LACKED_MEMORY);
    on_end();
}

void slotmem_process_watch(slotmem_process_t *process, void (*on_end)(void),
                           apr_pool_t *pool)
{
    slotmem_process_unwatch(process);
    if (slotmem_process_is_running(process)) {
        apr_pool_clear(pool);
        watched.process = process;
        watched.on_end = on_end;
        apr_proc_other_child_register(&process->proc, on_event, process, NULL,
                                      pool);
    }
}

/* APR must not keep a record of a process that has ended: it would read it when
 * the next child ends. */
void slotmem_process_unwatch(slotmem_process_t *process)
{
    if (watched.process == process) {
        watched.process = NULL;
        apr_proc_other_child_unregister(process);
    }
}

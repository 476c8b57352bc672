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
 * test_process.c: the process that stores, and the notes of its results.
 */

#include "unit_file.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "slotmem_process.h"

/* Whether this process has any file open except /dev/null three times. */
static int has_files(void)
{
    int fd;

    for (fd = 3; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            return 1;
        }
    }
    return 0;
}

static void leave(slotmem_note_t *notes, uint32_t outcome, int count)
{
    int i;

    for (i = 0; i < count; i++) {
        atomic_store(&notes[i].outcome, outcome);
    }
}

/* What the work below shall do. */
static int held[2];             /* a pipe to which nobody writes */
static pid_t parent;

static void work_well(slotmem_note_t *notes, apr_pool_t *pool)
{
    sigset_t blocked;

    sigprocmask(SIG_SETMASK, NULL, &blocked);
    leave(notes, SLOTMEM_OUTCOME_STORED, 3);
    if (!pool || has_files() || getsid(0) != getpid() || getppid() != parent
        || !sigismember(&blocked, SIGTERM)) {
        leave(notes, SLOTMEM_OUTCOME_UNKNOWN, 3);
    }
}

static void work_without_memory(slotmem_note_t *notes, apr_pool_t *pool)
{
    leave(notes, SLOTMEM_OUTCOME_UNCHANGED, 1);
    apr_pool_abort_get(pool)(APR_ENOMEM);   /* as apr_palloc() does */
}

static void work_for_ever(slotmem_note_t *notes, apr_pool_t *pool)
{
    (void)pool;
    leave(notes, SLOTMEM_OUTCOME_STORED, 2);
    for (;;) {
        pause();
    }
}

static slotmem_outcome_e outcome_of(const slotmem_process_t *process, int i)
{
    slotmem_result_t result;

    slotmem_process_read(&result, process, i);
    assert_int_equal(result.step != SLOTMEM_STEP_NONE,
                     result.outcome == SLOTMEM_OUTCOME_UNKNOWN
                     || result.outcome == SLOTMEM_OUTCOME_FAILED);
    return result.outcome;
}

static void start(slotmem_process_t *process, apr_size_t num,
                  void (*work)(slotmem_note_t *, apr_pool_t *))
{
    parent = getpid();
    assert_int_equal(slotmem_process_start(process, num, work), APR_SUCCESS);
    assert_int_equal(slotmem_process_is_running(process), 1);
}

static void wait_for_note(const slotmem_process_t *process, int i)
{
    int tries;

    for (tries = 0; outcome_of(process, i) == SLOTMEM_OUTCOME_UNKNOWN;
         tries++) {
        assert_true(tries < 5000);
        usleep(1000);
    }
}

/* [B11][B14] The process has none of the parent's files, a session of its own
 * and all signals blocked; its notes are read after it has ended. */
static void test_ends(void **state)
{
    unit_place_t *place = *state;
    slotmem_process_t process = { 0 };
    int i;

    memset(&process, 0, sizeof(process));
    assert_int_equal(slotmem_process_poll(&process), 1);
    assert_int_equal(pipe(held), 0);
    start(&process, 3, work_well);
    assert_int_equal(slotmem_process_wait(&process, 0), 1);
    assert_int_equal(process.lacked_memory, 0);
    for (i = 0; i < 3; i++) {
        assert_int_equal(outcome_of(&process, i), SLOTMEM_OUTCOME_STORED);
    }
    assert_int_equal(outcome_of(&process, 3), SLOTMEM_OUTCOME_UNKNOWN);
    assert_int_equal(outcome_of(&process, -1), SLOTMEM_OUTCOME_UNKNOWN);
    slotmem_process_clear(&process);
    assert_int_equal(outcome_of(&process, 0), SLOTMEM_OUTCOME_UNKNOWN);
    assert_int_equal(slotmem_process_is_running(&process), 0);
    close(held[0]);
    close(held[1]);
    assert_int_equal(unit_count_entries("/proc/self/fd"), place->open_files);
}

/* [B14] If memory runs out, the process ends but its parent does not. The
 * stores that it completed are known. */
static void test_no_memory(void **state)
{
    slotmem_process_t process = { 0 };

    (void)state;
    start(&process, 2, work_without_memory);
    assert_int_equal(slotmem_process_wait(&process, 0), 1);
    assert_int_equal(process.lacked_memory, 1);
    assert_int_equal(outcome_of(&process, 0), SLOTMEM_OUTCOME_UNCHANGED);
    assert_int_equal(outcome_of(&process, 1), SLOTMEM_OUTCOME_UNKNOWN);
    slotmem_process_clear(&process);
}

/* [B12] The parent does not wait for a process that does not end. It can kill
 * it, and the stores that it completed are known. */
static void test_kill(void **state)
{
    slotmem_process_t process = { 0 };

    (void)state;
    start(&process, 3, work_for_ever);
    assert_int_equal(slotmem_process_wait(&process, slotmem_monotonic_now()
                                                    + 20000), 0);
    wait_for_note(&process, 1);
    slotmem_process_kill(&process);
    assert_int_equal(slotmem_process_wait(&process, 0), 1);
    assert_int_equal(process.killed, 1);
    assert_int_equal(process.lacked_memory, 0);
    assert_int_equal(outcome_of(&process, 1), SLOTMEM_OUTCOME_STORED);
    assert_int_equal(outcome_of(&process, 2), SLOTMEM_OUTCOME_UNKNOWN);
    slotmem_process_clear(&process);
}

/* [B12] Another part of the parent may reap it, as httpd's loop does. */
static void test_reaped(void **state)
{
    slotmem_process_t process = { 0 };
    int status;

    (void)state;
    start(&process, 3, work_well);
    assert_int_equal(waitpid(process.proc.pid, &status, 0), process.proc.pid);
    assert_int_equal(slotmem_process_poll(&process), 1);
    assert_int_equal(process.lacked_memory, 0);
    assert_int_equal(outcome_of(&process, 0), SLOTMEM_OUTCOME_STORED);
    slotmem_process_kill(&process);         /* there is none to kill */
    assert_int_equal(process.killed, 0);
    slotmem_process_clear(&process);
}

static void orphan(void *data)
{
    slotmem_process_t *process = data;

    if (slotmem_process_start(process, 3, work_for_ever) != APR_SUCCESS) {
        _exit(2);
    }
    while (atomic_load(&process->notes[0].outcome) == 0) {
        usleep(1000);
    }
}

#ifdef __linux__
/* [B7][B12] The process dies with its parent. */
static void test_orphan(void **state)
{
    slotmem_process_t *process = mmap(NULL, sizeof(*process),
                                      PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int tries;

    (void)state;
    assert_true(process != MAP_FAILED);
    assert_int_equal(unit_in_child(orphan, process), 0);
    assert_true(process->proc.pid > 0);
    for (tries = 0; kill(process->proc.pid, 0) == 0; tries++) {
        char path[64], text[512];
        FILE *stat;

        /* Its new parent may be a process that does not reap it. */
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)process->proc.pid);
        stat = fopen(path, "r");
        if (!stat || (fgets(text, sizeof(text), stat)
                      && strstr(text, ") Z "))) {
            tries = -1;
        }
        if (stat) {
            fclose(stat);
        }
        if (tries < 0) {
            break;
        }
        assert_true(tries < 5000);
        usleep(1000);
    }
    munmap(process, sizeof(*process));
}

static int is_mapped(const void *at)
{
    unsigned char in_core;
    uintptr_t page = (uintptr_t)at & ~(uintptr_t)(getpagesize() - 1);

    return mincore((void *)page, 1, &in_core) == 0;
}

static void look_for_notes(void *data)
{
    CHILD_CHECK(!is_mapped(data));
}

/* [B11] A child that the parent forks meanwhile has no access to the notes. */
static void test_not_inherited(void **state)
{
    slotmem_process_t process = { 0 };

    (void)state;
    start(&process, 3, work_for_ever);
    assert_true(is_mapped(process.notes));
    assert_int_equal(unit_in_child(look_for_notes, process.notes), 0);
    slotmem_process_kill(&process);
    slotmem_process_wait(&process, 0);
    slotmem_process_clear(&process);
}
#endif

static int ends_seen;

static void count_end(void)
{
    ends_seen++;
}

/* What httpd's loop does with a child that has ended. */
static apr_status_t reap(pid_t pid)
{
    apr_proc_t proc = { .pid = pid };
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return apr_proc_other_child_alert(&proc, APR_OC_REASON_DEATH, status);
}

/* [B14] httpd's loop knows the process only while it is watched. Many processes
 * in turn take no more memory than one. */
static void test_watch(void **state)
{
    unit_place_t *place = *state;
    slotmem_process_t process = { 0 };
    apr_pool_t *pool;
    pid_t pid;
    int i;

    ends_seen = 0;
    apr_pool_create(&pool, place->pool);
    for (i = 1; i <= 100; i++) {
        start(&process, 1, work_well);
        slotmem_process_watch(&process, count_end, pool);
        apr_proc_other_child_refresh_all(APR_OC_REASON_RESTART);
        if (!process.ended) {
            assert_int_equal(reap(process.proc.pid), APR_SUCCESS);
        }
        assert_int_equal(process.ended, 1);
        assert_int_equal(ends_seen, i);
        slotmem_process_clear(&process);
    }
    start(&process, 1, work_for_ever);
    pid = process.proc.pid;
    slotmem_process_watch(&process, count_end, pool);
    slotmem_process_unwatch(&process);
    apr_pool_destroy(pool);
    kill(pid, SIGKILL);
    assert_int_not_equal(reap(pid), APR_SUCCESS);
    assert_int_equal(ends_seen, 100);
    assert_int_equal(slotmem_process_poll(&process), 1);
    slotmem_process_clear(&process);
}

/* [B14] If fork fails, that is an error, and nothing is left over. */
static void no_process(void *data)
{
    struct rlimit none = { 0, 0 };
    slotmem_process_t process = { 0 };

    (void)data;
    if (geteuid() == 0) {
        CHILD_CHECK(setuid(65534) == 0);
    }
    CHILD_CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
    CHILD_CHECK(slotmem_process_start(&process, 1, work_well)
                != APR_SUCCESS);
    CHILD_CHECK(!slotmem_process_is_running(&process));
}

static void test_no_process(void **state)
{
    (void)state;
    assert_int_equal(unit_in_child(no_process, NULL), 0);
}

/* ---- notes ---- */

/* [B12] The reader gets what was written. */
static void test_notes(void **state)
{
    slotmem_store_t store;
    slotmem_result_t result;
    slotmem_note_t note;
    size_t i;

    (void)state;
    memset(&note, 0, sizeof(note));
    memset(&store, 0, sizeof(store));
    store.set_aside = 1;
    store.backup = 1;
    slotmem_note_write(&note, &store);
    slotmem_note_read(&result, &note);
    assert_int_equal(result.outcome, SLOTMEM_OUTCOME_UNKNOWN);
    assert_int_equal(result.set_aside, 1);
    assert_int_equal(result.backup, 1);
    store.aside = "/a-b/c.bad-3";
    store.aside_replaced = 1;
    slotmem_note_write(&note, &store);
    slotmem_note_read(&result, &note);
    assert_int_equal(result.aside, 3);
    assert_int_equal(result.aside_replaced, 1);
    assert_int_equal(result.set_aside, 0);      /* that much was done */
    store.set_aside = 0;
    store.backup = 0;
    store.installed = 1;
    store.file_state.size = 77;
    slotmem_note_write(&note, &store);
    slotmem_note_read(&result, &note);
    assert_int_equal(result.backup, 0);
    assert_int_equal(result.outcome, SLOTMEM_OUTCOME_STORED);
    assert_int_equal(result.file_state.size, 77);
    assert_int_equal(result.step, SLOTMEM_STEP_NONE);
    for (i = SLOTMEM_STEP_NONE + 1; i < SLOTMEM_STEPS; i++) {
        store.step = (slotmem_step_e)i;
        store.status = ENOSPC;
        slotmem_note_write(&note, &store);
        slotmem_note_read(&result, &note);
        assert_int_equal(result.outcome, SLOTMEM_OUTCOME_FAILED);
        assert_int_equal(result.step, i);
        assert_int_equal(result.status, ENOSPC);
    }
}

/* [B12] A note of any bytes gives a usable result: a valid outcome, a valid
 * step if the outcome has one, a valid name; nonsense becomes "unknown". */
static void test_nonsense(void **state)
{
    unit_random_t random = { 99 };
    slotmem_result_t result;
    int known = 0;
    int i;

    (void)state;
    for (i = 0; i < 100000; i++) {
        slotmem_note_t note;
        unsigned char bytes[sizeof(note)];
        size_t at;

        for (at = 0; at < sizeof(bytes); at++) {
            bytes[at] = (unsigned char)(at % 4 == 0 || i % 3 == 0
                                        ? unit_below(&random, 12) : 0);
        }
        memcpy(&note, bytes, sizeof(note));
        slotmem_note_read(&result, &note);
        assert_in_range(result.outcome, 0, SLOTMEM_OUTCOMES - 1);
        assert_in_range(result.aside, 0, SLOTMEM_BAD_FILES);
        assert_in_range(result.set_aside, 0, 1);
        assert_int_equal(result.step == SLOTMEM_STEP_NONE,
                         result.outcome == SLOTMEM_OUTCOME_STORED
                         || result.outcome == SLOTMEM_OUTCOME_UNCHANGED);
        known += result.outcome != SLOTMEM_OUTCOME_UNKNOWN;
        assert_in_range(result.step, SLOTMEM_STEP_NONE, SLOTMEM_STEP_FINISH);
    }
    assert_in_range(known, 1, 99999);
}

/* ---- stores in the process ---- */

/* What a process shall store, and what its parent knows by then. */
static slotmem_store_t job;

static void tell_note(void *data, int index)
{
    (void)index;
    slotmem_note_write(data, &job);
}

static void work_store(slotmem_note_t *notes, apr_pool_t *pool)
{
    const slotmem_store_watch_t watch = { TOKEN, tell_note, notes };
    slotmem_distrust_t distrust;

    slotmem_directory_mark_all_closed();
    if (job.directory) {
        slotmem_directory_open(slotmem_directory_of(job.path), 0, &distrust);
    }
    slotmem_store(&job, 1, &watch, pool);
}

static void end_here(const char *path)
{
    if (!strstr(path, ".bad-")) {
        kill(getpid(), SIGKILL);
    }
}

/* Store in a separate process; its report goes into the job. */
static slotmem_result_t store_elsewhere(void)
{
    slotmem_process_t process = { 0 };
    slotmem_result_t result;

    start(&process, 1, work_store);
    assert_int_equal(slotmem_process_wait(&process, 0), 1);
    slotmem_process_read(&result, &process, 0);
    slotmem_process_clear(&process);
    memset(&renames, 0, sizeof(renames));
    job.file_state = result.file_state;
    job.new_state = result.new_state;
    job.set_aside = job.set_aside && result.set_aside;
    job.backup = job.backup && result.backup;
    return result;
}

/* [B12][E8] A process was killed between its rename and its report, or just
 * before the rename: the file at the path is known to be the server's, and the
 * next store sets nothing aside. */
static void test_killed_at_rename(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 100, 5, TYPE_PERSIST);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    const char *path = apr_pstrcat(place->pool, place->dir, "/p.persist",
                                   NULL);
    slotmem_result_t result;
    int round;

    memset(&job, 0, sizeof(job));
    job.content.segment = &segment;
    job.path = path;
    job.directory = slotmem_directory_of(path);
    for (round = 0; round < 6; round++) {
        segment.slots[round]++;
        content.slots[round]++;
        renames.before = round % 3 == 0 ? end_here : NULL;
        renames.after = round % 3 == 1 ? end_here : NULL;
        result = store_elsewhere();
        assert_int_equal(result.outcome, round % 3 == 2
                                         ? SLOTMEM_OUTCOME_STORED
                                         : SLOTMEM_OUTCOME_UNKNOWN);
        assert_int_equal(result.aside, 0);
        assert_int_equal(result.new_state.known, round % 3 != 2);
        if (round % 3) {
            assert_file_is(path, encode(place->pool, &content), place->pool);
        }
        segment.slots[round]++;
        content.slots[round]++;
        result = store_elsewhere();
        assert_int_equal(result.outcome, SLOTMEM_OUTCOME_STORED);
        assert_int_equal(result.aside, 0);
        assert_file_is(path, encode(place->pool, &content), place->pool);
        assert_int_equal(unit_count_entries(place->dir), 1);
    }
}

/* [B12][E6] A file that was kept as .bak before such a kill is not replaced
 * with the file of the killed process. */
static void test_backup_after_kill(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 100, 5, TYPE_PERSIST);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    const char *path = apr_pstrcat(place->pool, place->dir, "/p.persist",
                                   NULL);
    bytes_t older = encode(place->pool, &content);
    int i;

    memset(&job, 0, sizeof(job));
    job.content.segment = &segment;
    job.path = path;
    job.directory = slotmem_directory_of(path);
    store_elsewhere();
    job.backup = 1;
    for (i = 0; i < 2; i++) {
        segment.slots[0]++;
        content.slots[0]++;
        renames.after = i == 0 ? end_here : NULL;
        store_elsewhere();
        assert_file_is(path, encode(place->pool, &content), place->pool);
        assert_file_is(apr_pstrcat(place->pool, path, ".bak", NULL), older,
                       place->pool);
    }
}

/* [B12][E8] After such a kill a file that somebody else puts there does not
 * count as the server's. */
static void test_replaced_after_kill(void **state)
{
    unit_place_t *place = *state;
    content_t content = content_make(place->pool, 100, 5, TYPE_PERSIST);
    slotmem_segment_t segment = segment_of(place->pool, &content);
    const char *path = apr_pstrcat(place->pool, place->dir, "/p.persist",
                                   NULL);
    bytes_t theirs = bytes_of(place->pool, "theirs");
    slotmem_result_t result;

    memset(&job, 0, sizeof(job));
    job.content.segment = &segment;
    job.path = path;
    job.directory = slotmem_directory_of(path);
    renames.after = end_here;
    result = store_elsewhere();
    assert_int_equal(result.outcome, SLOTMEM_OUTCOME_UNKNOWN);
    assert_int_equal(unlink(path), 0);
    write_file(path, theirs);
    result = store_elsewhere();
    assert_int_equal(result.outcome, SLOTMEM_OUTCOME_STORED);
    assert_int_equal(result.aside, 1);
    assert_file_is(apr_pstrcat(place->pool, path, ".bad-1", NULL), theirs,
                   place->pool);
    assert_file_is(path, encode(place->pool, &content), place->pool);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, file_setup, file_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ends),
        TEST(test_no_memory),
        TEST(test_kill),
        TEST(test_reaped),
#ifdef __linux__
        TEST(test_orphan),
        TEST(test_not_inherited),
#endif
        TEST(test_watch),
        TEST(test_no_process),
        TEST(test_killed_at_rename),
        TEST(test_backup_after_kill),
        TEST(test_replaced_after_kill),
        TEST(test_notes),
        TEST(test_nonsense)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

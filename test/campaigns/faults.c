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
 * faults.c: stores and restores that fail or are killed at any system call.
 * [B2][B7][E1][E2][E3]
 *
 * Each call fails for each possible reason, once or from then on; and the
 * process is killed before, in the middle of, and after each call. Each time,
 * every file has the complete old or new state; the state that a store reported
 * as stored is there; a refused file is kept; memory has not changed; no file
 * is left open or left over; the next store and the next server succeed.
 */

#include <fcntl.h>
#include <sys/wait.h>

#include "world.h"

static int open_files(void)
{
    int count = 0;
    int fd;

    for (fd = 0; fd < 64; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* The report of a store that returned is true. */
static void check_said(const server_t *server, int i, const fault_t *fault,
                       call_t kind)
{
    slotmem_step_e step = server->store[i].step;
    int found = classify(&file[i]);
    int before = starts_as(&file[i]);
    int new = stored_version(&file[i], 1);

    if (!step || step == SLOTMEM_STEP_SYNC_DIRECTORY) {
        before = new;
    }
    if (found != before && fault->effect != FAILS_AFTER
        && !(before == REFUSED && found == ABSENT && fault->sticky)) {
        lost("%s: found %d, expected %d: %s", file[i].path, found, before,
             step ? slotmem_step_text(step) : "stored");
    }
    if (step && server->store[i].status == APR_SUCCESS) {
        lost("%s: no reason for: %s", file[i].path, slotmem_step_text(step));
    }
    if (exists(tmp_of(&file[i], server->token)) && kind != CALL_UNLINK) {
        lost("%s was left", tmp_of(&file[i], server->token));
    }
}

/* In a child process: a store with a fault, then one without. */
static void faulty_store(int at, const fault_t *fault, call_t kind)
{
    server_t *server = start_server();
    int open_before;
    void *memory[FILES];
    int least[FILES];
    int i;

    slotmem_directory_close_all();
    open_before = open_files();
    fill(server, 1);
    for (i = 0; i < num; i++) {
        memory[i] = apr_pmemdup(server->pool, server->segment[i].header,
                                server->segment[i].layout.memory_len);
        least[i] = starts_as(&file[i]);
    }
    calls_arm(at, fault->effect, fault->error, fault->sticky);
    store(server);
    calls->armed = 0;
    slotmem_directory_close_all();
    if (open_files() != open_before) {
        lost("files are left open");
    }
    check_disk(least);
    for (i = 0; i < num; i++) {
        check_said(server, i, fault, kind);
        if (memcmp(memory[i], server->segment[i].header,
                   server->segment[i].layout.memory_len)) {
            lost("%s: the store changed memory", file[i].path);
        }
    }
    store_well(server, 1);
    store_well(server, 2);
}

static int is_lack(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* In a child process: a restore with a fault, then a store without. */
static void faulty_restore(int at, const fault_t *fault)
{
    server_t *server = new_server();
    apr_status_t rv[FILES];
    int hits[FILES];
    int open_before = open_files();
    int least[FILES];
    int i;

    calls_arm(at, fault->effect, fault->error, fault->sticky);
    for (i = 0; i < num; i++) {
        rv[i] = restore(server, i);
        hits[i] = calls->hits;
        least[i] = starts_as(&file[i]);
    }
    calls->armed = 0;
    slotmem_directory_close_all();
    if (open_files() != open_before) {
        lost("files are left open");
    }
    check_disk(least);
    for (i = 0; i < num; i++) {
        int outcome = server->restored[i].outcome;
        int hit = hits[i] > (i ? hits[i - 1] : 0);

        if (classify(&file[i]) != starts_as(&file[i])) {
            lost("%s: changed by a restore", file[i].path);
        }
        if (rv[i] != APR_SUCCESS) {             /* no segment */
            if (!hit) {
                lost("%s: no segment", file[i].path);
            }
            return;
        }
        if (!hit || outcome == SLOTMEM_RESTORE_DONE
            || outcome == SLOTMEM_RESTORE_NO_FILE) {
            check_restored(server, i);
        }
        else if (!holds(&server->segment[i], NULL, 0)
                 || !server->restored[i].reason
                 || (is_lack(fault->error) && fault->effect == FAILS
                     && outcome != SLOTMEM_RESTORE_UNAVAILABLE)) {
            lost("%s: wrong outcome %d", file[i].path, outcome);
        }
        if (outcome == SLOTMEM_RESTORE_UNAVAILABLE) {
            return;                             /* it is not stored */
        }
        set_up_store(server, i);
    }
    store_well(server, 2);
    for (i = 0; i < num; i++) {                 /* kept, if it was not read */
        int n, kept = server->restored[i].outcome != SLOTMEM_RESTORE_REFUSED
                      || starts_as(&file[i]) != 0;

        for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
            kept |= file_is(bad(&file[i], n), file[i].content[0].bytes,
                            file[i].content[0].len);
        }
        if (!kept) {
            lost("%s: a file that could not be read is gone", file[i].path);
        }
    }
}

/* Returns how often the fault occurred. */
static int run_case(int restores, int at, fault_t fault, call_t kind)
{
    int least[FILES];
    int ended;
    pid_t pid;
    int i;

    snprintf(context, sizeof(context), "%s of '%s' (%d), call %d, kind %d, "
             "effect %d, error %d%s", restores ? "restore" : "store",
             scenario->before, (int)(scenario - scenarios), at, kind,
             fault.effect, fault.error, fault.sticky ? ", sticky" : "");
    figures->cases++;
    set_up_disk();
    memset(calls, 0, sizeof(*calls));
    pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        alarm(60);
        if (restores) {
            faulty_restore(at, &fault);
        }
        else {
            faulty_store(at, &fault, kind);
        }
        _exit(0);
    }
    need(waitpid(pid, &ended, 0) == pid, "wait");
    calls->armed = 0;
    if (calls->hits && fault.effect >= KILLS) {
        figures->kills++;
        if (!WIFSIGNALED(ended) || WTERMSIG(ended) != SIGKILL) {
            lost("it was not killed");
        }
    }
    else {
        figures->faults += calls->hits != 0;
        if (ended != 0 && !(WIFEXITED(ended) && fault.error == ENOMEM
                            && WEXITSTATUS(ended) == OUT_OF_MEMORY)) {
            lost("it ended with 0x%x", ended);
        }
    }
    for (i = 0; i < num; i++) {
        least[i] = starts_as(&file[i]);
    }
    check_disk(least);
    check_next_server();
    return calls->hits;
}

/* The reasons why each kind of call may fail, the most common first. */
static const fault_t reasons[CALLS][8] = {
    [CALL_OPEN] = { { FAILS, EMFILE, 0 }, { FAILS, EACCES, 0 },
                    { FAILS, ENOSPC, 0 }, { FAILS, EROFS, 0 },
                    { FAILS, EDQUOT, 0 }, { FAILS, ENFILE, 0 },
                    { FAILS, EIO, 0 } },
    [CALL_WRITE] = { { FAILS, ENOSPC, 0 }, { SHORT, 0, 0 },
                     { SHORT_THEN_FAILS, ENOSPC, 0 }, { FAILS, EIO, 0 },
                     { FAILS, EDQUOT, 0 }, { FAILS, EINTR, 0 } },
    [CALL_FSYNC] = { { FAILS, EIO, 0 }, { FAILS, ENOSPC, 0 },
                     { FAILS, EDQUOT, 0 } },
    [CALL_RENAME] = { { FAILS, EIO, 0 }, { FAILS_AFTER, EIO, 0 },
                      { FAILS, EACCES, 0 }, { FAILS, ENOSPC, 0 },
                      { FAILS, EDQUOT, 0 } },
    [CALL_UNLINK] = { { FAILS, EACCES, 0 }, { FAILS, EIO, 0 },
                      { FAILS, EROFS, 0 } },
    [CALL_CLOSE] = { { FAILS, EIO, 0 }, { FAILS, ENOSPC, 0 },
                     { FAILS, EDQUOT, 0 } },
    [CALL_READ] = { { FAILS, EIO, 0 }, { SHORT, 0, 0 }, { ENDS, 0, 0 },
                    { FAILS, ENOMEM, 0 }, { FAILS, EINTR, 0 } },
    [CALL_SEEK] = { { FAILS, EIO, 0 } },
    [CALL_STAT] = { { FAILS, EIO, 0 }, { FAILS, EACCES, 0 },
                    { FAILS, ENOMEM, 0 } },
    [CALL_MODE] = { { FAILS, EPERM, 0 }, { FAILS, EIO, 0 } },
    [CALL_MMAP] = { { FAILS, ENOMEM, 0 } },
    [CALL_ALLOC] = { { FAILS, ENOMEM, 0 } }
};

static const fault_t kills[] = {
    { KILLS, 0, 0 }, { KILLS_AFTER, 0, 0 }, { KILLS_HALFWAY, 0, 0 }
};

/* Try every call, until a run has fewer. */
static void run_faults(int restores)
{
    static unsigned char kind[CALLS_MAX];
    int count, at, i;

    run_case(restores, 0, (fault_t) { PASSES, 0, 0 }, CALLS);
    count = calls->count;
    need(count < CALLS_MAX, "remember so many calls");
    memcpy(kind, calls->kind, sizeof(kind));
    for (at = 1; at <= count; at++) {
        for (i = 0; i < 8 && reasons[kind[at]][i].effect; i++) {
            fault_t fault = reasons[kind[at]][i];

            if (!full && i > 2) {
                break;                          /* the common reasons only */
            }
            if (!run_case(restores, at, fault, kind[at])) {
                lost("the fault did not occur");
            }
            fault.sticky = 1;
            if ((full || i == 0) && fault.effect == FAILS
                && fault.error != EINTR) {
                run_case(restores, at, fault, kind[at]);
            }
        }
        for (i = 0; i < (kind[at] == CALL_WRITE ? 3 : 2); i++) {
            run_case(restores, at, kills[i], kind[at]);
        }
    }
    if (run_case(restores, count + 1, (fault_t) { FAILS, EIO, 0 }, CALLS)) {
        lost("there are more calls");
    }
}

static void run(void)
{
    run_faults(0);
    run_faults(1);
}

int main(int argc, char **argv)
{
    run_world(argc, argv, run);
    printf("campaign faults: cases=%lu faults=%lu kills=%lu lost=%lu\n",
           figures->cases, figures->faults, figures->kills, figures->lost);
    return figures->lost != 0;
}

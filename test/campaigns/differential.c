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
 * differential.c: makes random sequences of calls to this module and to the
 * distributed one in lock-step; see differential.h.
 *
 *   differential OURS THEIRS DIRECTORY SEED SEQUENCES SECONDS JOBS
 *
 * Sequence n depends on SEED + n only. If a difference is not documented, the
 * sequence is shortened by omitting the operations that it does not need, and
 * printed with both answers to each operation. SECONDS: start no sequence after
 * that; 0: no limit. Exit 1: there was a difference.
 *
 * The named shared memory of both goes into DIRECTORY, so that nothing is left
 * behind in the system. fsync() does nothing, as no power fails here.
 */

#include "differential.h"
#include "differential_make.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

shared_t *shared;
host_dso_t *dso[SIDES];
char scratch[SIDES][200];
life_t life;

/* The totals of all workers. */
typedef struct totals_t {
    _Atomic uint64_t sequences;
    _Atomic uint64_t to_the_end;
    _Atomic uint64_t operations;
    _Atomic uint64_t calls;
    _Atomic uint64_t stores;
    _Atomic uint64_t differences;
    _Atomic uint64_t used[EXCEPTIONS];
    _Atomic uint64_t used_in[EXCEPTIONS];
} totals_t;

static totals_t *totals;

/* ---- replacements of system calls ---- */

static int shm_path(char *path, size_t len, const char *name)
{
    return snprintf(path, len, "%s/shm/%s", scratch[shared->side],
                    *name == '/' ? name + 1 : name) < (int)len;
}

int shm_open(const char *name, int flags, mode_t mode)
{
    char path[400];

    if (!shm_path(path, sizeof(path), name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_CLOEXEC, mode);
}

int shm_unlink(const char *name)
{
    char path[400];

    if (!shm_path(path, sizeof(path), name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return unlink(path);
}

int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

/* ---- what is noted ---- */

void differ(const char *fmt, ...)
{
    va_list args;

    if (!shared->failed) {
        va_start(args, fmt);
        vsnprintf(shared->what, sizeof(shared->what), fmt, args);
        va_end(args);
        shared->failed = 1;
    }
}

void use_exception(exception_t exception)
{
    shared->used[exception]++;
    shared->steps[shared->at].exception = exception;
}

/* ---- names ---- */

int is_anonymous(int name)
{
    return name < NAME_FIRST_KEPT;
}

int canonical(int name)
{
    return name == NAME_ALIAS ? NAME_FIRST_KEPT : name;
}

const char *name_of(int side, int name)
{
    static char absolute[SIDES][3][300];
    static const char *const names[NAMES] = {
        NULL, "", "none", "NoNE", "a", "b.c-d", "Third one", NULL, NULL, NULL,
        "run", "run-2", "never"
    };
    char *path;

    if (name < NAME_ABSOLUTE || name > NAME_ALIAS) {
        return names[name];
    }
    path = absolute[side][name - NAME_ABSOLUTE];
    if (name == NAME_ALIAS) {
        snprintf(path, sizeof(absolute[0][0]), "%s/slotmem-shm-%s.shm",
                 dso[side]->runtime_dir, names[NAME_FIRST_KEPT]);
    }
    else {
        snprintf(path, sizeof(absolute[0][0]), "%s/abs/%c", scratch[side],
                 name == NAME_ABSOLUTE ? 'p' : 'q');
    }
    return path;
}

/* ---- children ---- */

typedef struct child_t {
    pid_t pid;                  /* 0: none */
    int number;                 /* its index in shared->lives */
    int socket;
    int outdated;
} child_t;

static child_t children[CHILDREN];

typedef struct request_t {
    int at;                     /* -1: exit */
    int outdated;
} request_t;

/* The child's generation has ended: memory that a store of the distributed
 * module clears is no longer compared. */
static void outlive(void)
{
    unsigned both = AP_SLOTMEM_TYPE_PERSIST | AP_SLOTMEM_TYPE_CLEARINUSE;
    int i;

    life.outdated = 1;
    for (i = 0; i < life.handles_num; i++) {
        handle_t *handle = &life.handles[i];

        if (!handle->runtime && !is_anonymous(handle->name)
            && (handle->type & both) == both) {
            handle->stale = 1;
            use_exception(X_LIVE_CLEARED);
        }
    }
}

/* A child answers after its child_init and after each call: only one process of
 * a server works at a time. */
static void serve(const op_t *ops, int socket)
{
    apr_pool_t *pchild[SIDES];
    request_t request = { 0, 0 };
    int side;

    for (side = 0; side < SIDES; side++) {
        shared->side = side;
        apr_pool_create(&pchild[side], dso[side]->pconf);
        host_child_init(dso[side], pchild[side]);
    }
    while (write(socket, "", 1) == 1
           && read(socket, &request, sizeof(request)) == sizeof(request)
           && request.at >= 0) {
        if (request.outdated && !life.outdated) {
            outlive();
        }
        call(&ops[request.at]);
        compare_segments();
    }
    for (side = 0; request.at < 0 && side < SIDES; side++) {
        shared->side = side;
        host_use(dso[side]);
        apr_pool_destroy(pchild[side]);
    }
    _exit(0);
}

static void fork_child(const op_t *ops, int at)
{
    child_t *child = &children[ops[at].who % CHILDREN];
    int sockets[2];
    char ready;

    if (child->pid || life.phase != RUNS
        || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
        return;
    }
    shared->steps[at].done = 1;
    child->number = at + 1;
    child->outdated = 0;
    child->socket = sockets[0];
    shared->lives[child->number] = 1;
    child->pid = fork();
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(sockets[0]);
        life.who = at + 1;
        serve(ops, sockets[1]);
    }
    close(sockets[1]);
    if (read(child->socket, &ready, 1) != 1) {
        differ("a child crashes in child_init of %s", dso[shared->side]->name);
    }
}

static void end_child(child_t *child, int how)
{
    request_t request = { -1, 0 };
    int status;

    if (!child->pid) {
        return;
    }
    if (how == 0) {
        kill(child->pid, SIGKILL);
    }
    else if (write(child->socket, &request, sizeof(request)) < 0) {
        differ("a child cannot be told to end");
    }
    waitpid(child->pid, &status, 0);
    if (how && status) {
        differ("a child ended with status %x, side %d", (unsigned)status,
               shared->side);
    }
    close(child->socket);
    shared->lives[child->number] = 0;
    child->pid = 0;
}

static void call_in_child(child_t *child, int at)
{
    request_t request = { at, child->outdated };
    char answer;

    if (write(child->socket, &request, sizeof(request)) != sizeof(request)
        || read(child->socket, &answer, 1) != 1) {
        differ("a child crashes in a call of %s", dso[shared->side]->name);
    }
}

/* ---- generations ---- */

static apr_status_t note_in_use_due(void *data)
{
    (void)data;
    note_in_use();
    return APR_SUCCESS;
}

static void configured(void)
{
    int side;

    for (side = 0; side < SIDES; side++) {
        shared->side = side;
        host_configured(dso[side]);
    }
    apr_pool_cleanup_register(dso[THEIRS]->pconf, NULL, note_in_use_due,
                              apr_pool_cleanup_null);
    life.phase = CONFIGURED;
}

static void run(void)
{
    int side;

    if (life.phase == CONFIGURES) {
        configured();
    }
    if (life.phase == CONFIGURED) {
        for (side = 0; side < SIDES; side++) {
            shared->side = side;
            host_reach_mpm(dso[side]);
        }
        life.phase = RUNS;
    }
}

/* op->a: the pass fails in post_config, or before it. op->b: the children
 * continue after a restart, or end in one of two ways. */
static void end_generation(const op_t *op)
{
    int stored = life.phase == RUNS;
    int i;

    if (life.phase == NO_GENERATION) {
        return;
    }
    if (life.phase == CONFIGURES && op->a % 2) {
        configured();
    }
    for (i = 0; i < CHILDREN; i++) {
        if (op->kind == OP_PASS && op->b % 4 == 0) {
            children[i].outdated = 1;
        }
        else {
            end_child(&children[i], (int)(op->b % 4));
        }
    }
    files_snapshot();
    for (i = 0; i < SIDES; i++) {
        shared->side = i;
        life.phase = CONFIGURED;
        host_end(dso[i]);
    }
    compare_cleanups();
    forget_cleanups();
    files_compare(stored);
    memset(shared->runtime, 0, sizeof(shared->runtime));
    life.handles_num = 0;
    life.phase = NO_GENERATION;
}

static void start_pass(const op_t *op)
{
    int side;

    end_generation(op);
    for (side = 0; side < SIDES; side++) {
        shared->side = side;
        host_configure(dso[side], NULL);
    }
    life.phase = CONFIGURES;
}

/* ---- one operation ---- */

/* Kill the server with all its children. */
static void kill_server(void)
{
    int i;

    for (i = 0; i < CHILDREN; i++) {
        end_child(&children[i], 0);
    }
    for (i = 0; i < life.handles_num; i++) {
        shared->left[life.handles[i].made_as] = 1;
    }
}

/* Returns 1 when the life is over. */
static int change_life(const op_t *ops, int at)
{
    const op_t *op = &ops[at];
    int i;

    switch (op->kind) {
    case OP_PASS:
        start_pass(op);
        break;
    case OP_LATE:
        if (life.phase == CONFIGURES) {
            configured();
        }
        break;
    case OP_RUN:
        run();
        break;
    case OP_STOP:
        end_generation(op);
        return 1;
    case OP_KILL:
        kill_server();
        return 1;
    case OP_FORK:
        fork_child(ops, at);
        break;
    case OP_EXIT:
        end_child(&children[op->who % CHILDREN], (int)(op->b % 4));
        break;
    default:
        for (i = 0; i < SIDES && life.phase == RUNS; i++) {
            host_monitor(dso[i]);
        }
        break;
    }
    return 0;
}

static int execute(const op_t *ops, int at)
{
    const op_t *op = &ops[at];
    child_t *child = op->who ? &children[op->who % CHILDREN] : NULL;
    int over = 0;

    if (op->kind <= OP_MONITOR) {
        shared->steps[at].done = 1;
        over = change_life(ops, at);
    }
    else if (op->kind <= OP_REMOVE) {
        if (life.phase == NO_GENERATION) {
            shared->steps[at].done = 1;
            files_op(op);
        }
    }
    else if (child && child->pid) {
        call_in_child(child, at);
    }
    else {
        call(op);
    }
    if (!over && !shared->failed) {
        compare_segments();
    }
    return over;
}

static void live(const op_t *ops, int from, int num)
{
    static const op_t stop = { .kind = OP_STOP, .b = 1 };
    int i;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(20);
    for (i = from; i < num && !shared->failed; i++) {
        shared->at = i;
        if (execute(ops, i)) {
            shared->finished = 1;
            _exit(0);
        }
    }
    if (!shared->failed) {
        end_generation(&stop);
        shared->finished = 1;
    }
    _exit(0);
}

/* Returns 1 if there was no difference. */
int sequence_holds(const op_t *ops, int num)
{
    int from = 0;

    memset(shared, 0, sizeof(*shared));
    files_clear();
    while (from < num && !shared->failed) {
        int status;
        pid_t pid;

        shared->finished = 0;
        pid = fork();
        if (pid == 0) {
            live(ops, from, num);
        }
        waitpid(pid, &status, 0);
        while (wait(NULL) > 0) {
            /* the children that it did not end are killed with it */
        }
        if (!shared->failed && (status || !shared->finished)) {
            differ("the server ends with status %x in %s", (unsigned)status,
                   dso[shared->side]->name);
        }
        memset(shared->lives, 0, sizeof(shared->lives));
        memset(shared->runtime, 0, sizeof(shared->runtime));
        from = shared->at + 1;
    }
    return !shared->failed;
}

/* ---- the run ---- */

static void count(int num)
{
    int i;

    totals->sequences++;
    totals->to_the_end += !shared->failed;
    totals->operations += (uint64_t)num;
    totals->calls += shared->calls;
    totals->stores += shared->stores;
    for (i = 0; i < EXCEPTIONS; i++) {
        totals->used[i] += shared->used[i];
        totals->used_in[i] += shared->used[i] != 0;
    }
}

static void work(uint64_t seed, uint64_t first, uint64_t num, uint64_t step,
                 time_t end)
{
    op_t ops[OPS_MAX];
    uint64_t i;

    for (i = first; i < num && totals->differences < 3; i += step) {
        int ops_num = sequence_make(ops, seed + i);
        int holds = sequence_holds(ops, ops_num);

        count(ops_num);
        if (!holds) {
            totals->differences++;
            sequence_report(ops, ops_num, seed + i);
        }
        if (end && time(NULL) >= end) {
            break;
        }
    }
}

static void make_directory(char *path, size_t len, const char *parent,
                        const char *name)
{
    if (snprintf(path, len, "%s/%s", parent, name) >= (int)len
        || (mkdir(path, 0755) != 0 && errno != EEXIST)) {
        fprintf(stderr, "differential: cannot make %s/%s\n", parent, name);
        exit(2);
    }
}

static void set_up(const char *const *paths, const char *directory, int worker,
                   apr_pool_t *pool)
{
    static char runtime_dir[SIDES][300];
    static const char *const names[SIDES] = { "ours", "theirs" };
    int side;

    for (side = 0; side < SIDES; side++) {
        char name[40];
        char ignored[300];

        snprintf(name, sizeof(name), "%s-%d", names[side], worker);
        make_directory(scratch[side], sizeof(scratch[side]), directory, name);
        make_directory(runtime_dir[side], sizeof(runtime_dir[side]),
                    scratch[side], "run");
        make_directory(ignored, sizeof(ignored), scratch[side], "abs");
        make_directory(ignored, sizeof(ignored), scratch[side], "shm");
        dso[side] = host_load(names[side], paths[side], runtime_dir[side],
                              pool);
    }
}

static void *map(size_t len)
{
    void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        perror("differential: mmap");
        exit(2);
    }
    return mem;
}

static void print_totals(int broken)
{
    int i;

    printf("%8s %9s  line, and what the distributed module does\n", "times",
           "sequences");
    for (i = X_NONE + 1; i < EXCEPTIONS; i++) {
        printf("%8" PRIu64 " %9" PRIu64 "  [%s] %s\n",
               (uint64_t)totals->used[i], (uint64_t)totals->used_in[i],
               exception_line((exception_t)i), exception_text((exception_t)i));
    }
    printf("differential: %" PRIu64 " sequences, %" PRIu64 " operations, %"
           PRIu64 " calls, %" PRIu64 " stored files; %" PRIu64 " sequences to "
           "their end, %" PRIu64 " differences\n",
           (uint64_t)totals->sequences, (uint64_t)totals->operations,
           (uint64_t)totals->calls, (uint64_t)totals->stores,
           (uint64_t)totals->to_the_end, (uint64_t)totals->differences);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n",
           (uint64_t)totals->to_the_end,
           totals->differences + (uint64_t)broken);
}

/* Run worker number `worker` of `workers`; args are those of main. */
static void worker(char **args, int number, int of, apr_pool_t *pool)
{
    const char *const paths[SIDES] = { args[1], args[2] };
    uint64_t seconds = strtoull(args[6], NULL, 10);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    shared = map(sizeof(*shared));
    set_up(paths, args[3], number, pool);
    work(strtoull(args[4], NULL, 10), (uint64_t)number,
         strtoull(args[5], NULL, 10), (uint64_t)of,
         seconds ? time(NULL) + (time_t)seconds : 0);
    files_clear();
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    apr_pool_t *pool;
    int broken = 0;
    int jobs;
    int i;

    if (argc != 8) {
        fprintf(stderr, "usage: differential OURS THEIRS DIRECTORY SEED "
                        "SEQUENCES SECONDS JOBS\n");
        return 2;
    }
    jobs = atoi(argv[7]);
    apr_initialize();
    apr_pool_create(&pool, NULL);
    totals = map(sizeof(*totals));
    for (i = 0; i < jobs; i++) {
        if (fork() == 0) {
            worker(argv, i, jobs, pool);
        }
    }
    for (i = 0; i < jobs; i++) {
        int status;

        broken += wait(&status) < 0 || status != 0;
    }
    if (broken) {
        fprintf(stderr, "differential: %d workers died\n", broken);
    }
    print_totals(broken);
    return totals->differences || broken ? 1 : 0;
}

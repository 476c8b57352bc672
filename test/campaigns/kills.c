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
 * kills.c: kill the process that another process forks, at a system call.
 *
 *     kills PARENT N
 *
 * Traces PARENT until it has forked once, and kills the new process as it
 * enters its Nth system call, before the call is made. Prints "tracing", then
 * "killed CALL", with the number of the call, or "ended N" if the process has
 * ended by itself after N calls. Exit 77: tracing is not allowed here.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static pid_t wait_for(pid_t pid, int *status)
{
    pid_t got;

    do {
        got = waitpid(pid, status, __WALL);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        die("waitpid");
    }
    return got;
}

/* Continue a stopped process with the signal that stopped it. */
static void go_on(int how, pid_t pid, int status)
{
    int signal = WSTOPSIG(status);

    if (status >> 16 || signal == (SIGTRAP | 0x80)) {
        signal = 0;
    }
    if (ptrace(how, pid, NULL, (void *)(long)signal) != 0 && errno != ESRCH) {
        die("ptrace");
    }
}

static pid_t wait_for_fork(pid_t parent)
{
    for (;;) {
        unsigned long forked = 0;
        int status;

        wait_for(parent, &status);
        if (!WIFSTOPPED(status)) {
            fprintf(stderr, "the parent has ended\n");
            exit(1);
        }
        if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_FORK << 8))) {
            if (ptrace(PTRACE_GETEVENTMSG, parent, NULL, &forked) != 0) {
                die("ptrace");
            }
            ptrace(PTRACE_DETACH, parent, NULL, NULL);
            return (pid_t)forked;
        }
        go_on(PTRACE_CONT, parent, status);
    }
}

/* The number of the system call that a process is about to make. */
static long call_of(pid_t pid)
{
    struct __ptrace_syscall_info info = { 0 };

    return ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info)
           > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY
           ? (long)info.entry.nr : -1;
}

static void trace(pid_t pid, long n)
{
    long calls = 0;
    int status;

    for (;;) {
        wait_for(pid, &status);
        if (!WIFSTOPPED(status)) {
            printf("ended %ld\n", calls);
            return;
        }
        if (status >> 8 == (SIGTRAP | 0x80) && call_of(pid) >= 0
            && ++calls == n) {
            printf("killed %ld\n", call_of(pid));
            kill(pid, SIGKILL);
            do {
                wait_for(pid, &status);
            } while (WIFSTOPPED(status));
            return;
        }
        go_on(PTRACE_SYSCALL, pid, status);
    }
}

int main(int argc, char **argv)
{
    pid_t parent;

    if (argc != 3) {
        fprintf(stderr, "usage: kills PARENT N\n");
        return 2;
    }
    parent = (pid_t)atoi(argv[1]);
    if (ptrace(PTRACE_SEIZE, parent, NULL,
               (void *)(long)(PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD))
        != 0) {
        perror("ptrace");
        return errno == EPERM || errno == ENOSYS ? 77 : 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("tracing\n");
    trace(wait_for_fork(parent), atol(argv[2]));
    return 0;
}

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
 * bench.c: see bench.h. The process prints one line per row, with the fields
 * separated by tabs; test/bench/run makes the table from them.
 */

#include "bench.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long a sample takes, roughly, in nanoseconds, unless the row sets its
 * own number of repetitions. */
#define SAMPLE 1000000u
#define MOST_PAIRS 101

host_dso_t *bench_dso[SIDES];
apr_pool_t *bench_pool;
const char *bench_disk;
const char *bench_tmpfs;

static const char *sections;    /* the requested ones; NULL: all */

/* With "on" set, nothing is measured: the program lists the rows that can be
 * counted, or runs one of them TIMES times for one side (SIDES: for its limit)
 * and exits. */
static struct {
    int on;
    const char *name;           /* the row to run; NULL: list the rows */
    int side;
    uint64_t times;
} count;

void bench_must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "bench: %s\n", what);
        exit(2);
    }
}

int bench_wants(const char *section)
{
    return !sections || strstr(sections, section) != NULL;
}

uint64_t bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the values in place. */
double bench_median(double *values, int num)
{
    if (num == 0) {
        return 0;
    }
    qsort(values, (size_t)num, sizeof(*values), by_value);
    return num % 2 ? values[num / 2]
                   : (values[num / 2 - 1] + values[num / 2]) / 2;
}

/* Returns the nanoseconds that one sample took. */
static double sample(const bench_op_t *op, uint64_t times)
{
    uint64_t start;
    uint64_t end;

    if (op->measure) {
        return op->measure(op->context, times);
    }
    if (op->prepare) {
        op->prepare(op->context);
    }
    start = bench_now();
    op->run(op->context, times);
    end = bench_now();
    if (op->finish) {
        op->finish(op->context);
    }
    return (double)(end - start);
}

/* Returns how many repetitions take SAMPLE nanoseconds. */
static uint64_t calibrate(const bench_op_t *op)
{
    uint64_t times = 1;

    for (;;) {
        double took = sample(op, times);

        if (took >= SAMPLE) {
            return times;
        }
        times = took < SAMPLE / 16.0 ? times * 8 : times * 2;
    }
}

static void print_row(const bench_row_t *row, double ours, double theirs,
                      const double *ratio, double limit, double limit_ratio)
{
    printf("row\t%s\t%s\t%s\t%.6g\t%.6g\t%.6g\t%.6g\t%.6g\t%s\t%.6g\t%.6g"
           "\t%.6g\t%.6g\n", row->section, row->name, row->unit, ours, theirs,
           ratio[1], ratio[0], ratio[2],
           row->limit_name ? row->limit_name : "", limit, limit_ratio,
           row->target, row->limit_target);
    fflush(stdout);
}

static void count_row(const bench_row_t *row)
{
    const bench_op_t *op = count.side < SIDES ? &row->op[count.side]
                                              : &row->limit;

    if (row->fixed || !row->op[OURS].run) {
        return;
    }
    if (!count.name) {
        printf("%s\t%s\n", row->name, row->limit.run ? row->limit_name : "");
    }
    else if (strcmp(row->name, count.name) == 0) {
        op->run(op->context, count.times);
        exit(0);
    }
}

double bench(const bench_row_t *row)
{
    const bench_op_t *ops[SIDES + 1];
    double took[SIDES + 1][MOST_PAIRS];
    double ratios[MOST_PAIRS];
    double limit_ratios[MOST_PAIRS];
    double quartiles[3];
    uint64_t times[SIDES + 1];
    double scale = row->scale > 0 ? row->scale : 1;
    int pairs = row->pairs ? row->pairs : BENCH_PAIRS;
    int with_limit = row->limit.run || row->limit.measure;
    int i, k;

    if (count.on) {
        count_row(row);
        return 0;
    }
    ops[OURS] = &row->op[OURS];
    ops[THEIRS] = &row->op[THEIRS];
    ops[SIDES] = &row->limit;
    for (k = 0; k < SIDES + with_limit; k++) {
        times[k] = row->fixed ? row->fixed : calibrate(ops[k]);
        sample(ops[k], times[k]);
    }
    for (i = 0; i < pairs; i++) {
        for (k = 0; k < SIDES + with_limit; k++) {
            /* rotate the order, so that each goes first equally often */
            int which = (i + k) % (SIDES + with_limit);

            took[which][i] = sample(ops[which], times[which])
                             / (double)times[which] / scale
                             / (row->per_time ? row->per_time : 1);
        }
        ratios[i] = took[OURS][i] / took[THEIRS][i];
        limit_ratios[i] = with_limit ? took[OURS][i] / took[SIDES][i] : 0;
    }
    quartiles[1] = bench_median(ratios, pairs);
    quartiles[0] = ratios[pairs / 4];
    quartiles[2] = ratios[pairs - 1 - pairs / 4];
    print_row(row, bench_median(took[OURS], pairs),
              bench_median(took[THEIRS], pairs), quartiles,
              with_limit ? bench_median(took[SIDES], pairs) : 0,
              bench_median(limit_ratios, pairs));
    return bench_median(took[OURS], pairs);
}

void bench_figure(const bench_row_t *row, double ours, double theirs,
                  double limit)
{
    double ratio = theirs > 0 ? ours / theirs : 0;
    double quartiles[3] = { ratio, ratio, ratio };

    print_row(row, ours, theirs, quartiles, limit,
              limit > 0 ? ours / limit : 0);
}

void bench_fact(const char *section, const char *name, int holds,
                const char *found)
{
    if (count.on) {
        return;
    }
    printf("fact\t%s\t%s\t%d\t%s\n", section, name, holds, found);
    fflush(stdout);
}

/* ---- processes ---- */

static void *shared_memory(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    bench_must(memory != MAP_FAILED, "cannot map shared memory");
    return memory;
}

static void await(pid_t pid)
{
    int status;

    bench_must(waitpid(pid, &status, 0) == pid && status == 0,
               "a child process failed");
}

double bench_together(void (*work)(void *context, int who, uint64_t times),
                      void *context, uint64_t times)
{
    struct {
        _Atomic int ready;
        double took[2];
    } *both = shared_memory(sizeof(*both));
    pid_t pid[2];
    double longest;
    int who;

    for (who = 0; who < 2; who++) {
        pid[who] = fork();
        if (pid[who] == 0) {
            uint64_t start;

            bench_pin(who);
            atomic_fetch_add(&both->ready, 1);
            while (atomic_load(&both->ready) < 2) {
            }
            start = bench_now();
            work(context, who, times);
            both->took[who] = (double)(bench_now() - start);
            _exit(0);
        }
    }
    await(pid[0]);
    await(pid[1]);
    longest = both->took[0] > both->took[1] ? both->took[0] : both->took[1];
    munmap(both, sizeof(*both));
    return longest;
}

double bench_in_child(double (*work)(void *context), void *context)
{
    double *took = shared_memory(sizeof(*took));
    double result;
    pid_t pid = fork();

    if (pid == 0) {
        *took = work(context);
        _exit(0);
    }
    await(pid);
    result = *took;
    munmap(took, sizeof(*took));
    return result;
}

/* ---- generations ---- */

void bench_start(void)
{
    int i;

    for (i = 0; i < SIDES; i++) {
        host_configure(bench_dso[i], NULL);
    }
}

void bench_run_mpm(void)
{
    int i;

    for (i = 0; i < SIDES; i++) {
        host_configured(bench_dso[i]);
        host_reach_mpm(bench_dso[i]);
    }
}

void bench_end(void)
{
    int i;

    for (i = 0; i < SIDES; i++) {
        host_end(bench_dso[i]);
    }
}

void bench_create(bench_pair_t *pair, const char *name, apr_size_t item_size,
                  unsigned item_num, unsigned type)
{
    int i;

    memset(pair, 0, sizeof(*pair));
    for (i = 0; i < SIDES; i++) {
        bench_segment_t *segment = &pair->side[i];

        host_use(bench_dso[i]);
        segment->call = bench_dso[i]->provider;
        segment->item_size = item_size;
        segment->item_num = item_num;
        bench_must(segment->call->create(&segment->inst, name, item_size,
                                         item_num, type, bench_dso[i]->pconf)
                   == APR_SUCCESS, "create failed");
    }
}

/* ---- the program ---- */

static host_dso_t *load(const char *name, const char *path)
{
    char *dir = apr_pstrcat(bench_pool, bench_tmpfs, "/", name, NULL);

    bench_must(apr_dir_make_recursive(dir, APR_OS_DEFAULT, bench_pool)
               == APR_SUCCESS, "cannot make the directory of a DSO");
    return host_load(name, path, dir, bench_pool);
}

int main(int argc, char **argv)
{
    if (argc < 5 || apr_initialize() != APR_SUCCESS) {
        fprintf(stderr, "usage: bench OURS DISTRIBUTED DISK TMPFS "
                        "[SECTION,... [list | ROW SIDE TIMES]]\n");
        return 2;
    }
    count.on = argc > 6;
    if (argc > 8) {
        count.name = argv[6];
        count.side = atoi(argv[7]);
        count.times = strtoull(argv[8], NULL, 10);
    }
    apr_pool_create(&bench_pool, NULL);
    bench_disk = argv[3];
    bench_tmpfs = argv[4];
    sections = argv[5];
    bench_pin(0);
    bench_dso[OURS] = load("ours", argv[1]);
    bench_dso[THEIRS] = load("distributed", argv[2]);
    bench_calls();
    bench_processes();
    bench_names();
    bench_files();
    bench_memory();
    return 0;
}

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
 * bench.h: compares two slotmem DSOs in one process, one row of the table at
 * a time. A row runs the same operation on both in turn, A, B, A, B ...,
 * together with the best that the machine can do (the row's limit), so that a
 * noisy moment affects all of them alike. The result is the median of the
 * ratios of the pairs.
 */

#ifndef BENCH_H
#define BENCH_H

#include "host.h"

#include "apr_strings.h"

#include <stdint.h>

enum { OURS, THEIRS, SIDES };

/* One operation to measure. prepare and finish are not timed. */
typedef struct bench_op_t {
    void (*prepare)(void *context);             /* or NULL */
    void (*run)(void *context, uint64_t times); /* repeats it TIMES times */
    void (*finish)(void *context);              /* or NULL */
    void *context;
    /* instead of the three above: does everything, and returns the
     * nanoseconds of the part that counts */
    double (*measure)(void *context, uint64_t times);
} bench_op_t;

typedef struct bench_row_t {
    const char *section;
    const char *name;
    const char *unit;           /* of the result: "ns" and so on */
    double scale;               /* nanoseconds per unit; 0 means 1 */
    uint64_t fixed;             /* repetitions per sample; 0: calibrate */
    unsigned per_time;          /* operations per repetition; 0 means 1 */
    bench_op_t op[SIDES];
    bench_op_t limit;           /* no limit if run and measure are NULL */
    const char *limit_name;
    double target;              /* maximum of ours : distributed; 0: none */
    double limit_target;        /* maximum of ours : limit; 0: none */
    int pairs;                  /* 0 means BENCH_PAIRS */
} bench_row_t;

#define BENCH_PAIRS 21

extern host_dso_t *bench_dso[SIDES];
extern apr_pool_t *bench_pool;
extern const char *bench_disk;  /* a directory on the disk */
extern const char *bench_tmpfs; /* a directory on a tmpfs */

/* Measures a row and prints it. Returns our time per operation, in its unit. */
double bench(const bench_row_t *row);

/* Prints a row whose figures the caller has found. limit 0: no limit. */
void bench_figure(const bench_row_t *row, double ours, double theirs,
                  double limit);

/* Prints whether a claim holds, and what was found. */
void bench_fact(const char *section, const char *name, int holds,
                const char *found);

uint64_t bench_now(void);       /* nanoseconds */
double bench_median(double *values, int num);

/* Pins the process to this CPU. If there is no such CPU, nothing changes. */
void bench_pin(int cpu);

/* Two processes on two CPUs run WORK at the same time, TIMES times each. They
 * start together. Returns the nanoseconds of the slower one. */
double bench_together(void (*work)(void *context, int who, uint64_t times),
                      void *context, uint64_t times);

/* Runs WORK in a forked process and returns the nanoseconds that it reports. */
double bench_in_child(double (*work)(void *context), void *context);

/* Start, run and end a generation of both DSOs. Segments are created between
 * bench_start() and bench_run_mpm(). */
void bench_start(void);
void bench_run_mpm(void);
void bench_end(void);

/* The same segment in each DSO. bench_create() ends the program on failure. */
typedef struct bench_pair_t {
    struct bench_segment_t {
        const ap_slotmem_provider_t *call;
        ap_slotmem_instance_t *inst;
        apr_size_t item_size;
        unsigned item_num;
        void *data;             /* for the row's use */
        uint64_t number;        /* for the row's use */
    } side[SIDES];
} bench_pair_t;
typedef struct bench_segment_t bench_segment_t;

void bench_create(bench_pair_t *pair, const char *name, apr_size_t item_size,
                  unsigned item_num, unsigned type);
void bench_must(int holds, const char *what);

/* Was this section requested? */
int bench_wants(const char *section);

/* The rows, file by file. */
void bench_calls(void);
void bench_names(void);
void bench_processes(void);
void bench_files(void);
void bench_memory(void);

#endif

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
 * bench.h: two slotmem DSOs side by side in one process, a row of the table
 * at a time. Each row does the same with both in turn, A, B, A, B ..., with
 * what the machine can do at best (its limit) between them, so that a noisy
 * moment meets all of them; what counts is the median of the ratios of the
 * pairs.
 */

#ifndef BENCH_H
#define BENCH_H

#include "host.h"

#include "apr_strings.h"

#include <stdint.h>

enum { OURS, THEIRS, SIDES };

/* One thing that is measured. prepare and finish are not timed. */
typedef struct bench_op_t {
    void (*prepare)(void *context);             /* or NULL */
    void (*run)(void *context, uint64_t times); /* does it so many times */
    void (*finish)(void *context);              /* or NULL */
    void *context;
    /* or: does it all, and returns the nanoseconds of what counts */
    double (*measure)(void *context, uint64_t times);
} bench_op_t;

typedef struct bench_row_t {
    const char *section;
    const char *name;
    const char *unit;           /* of what is counted: "ns" and so on */
    double scale;               /* nanoseconds in a unit; 1 if 0 */
    uint64_t fixed;             /* times in a sample; 0: found out */
    unsigned per_time;          /* things that one time does; 1 if 0 */
    bench_op_t op[SIDES];
    bench_op_t limit;           /* neither run nor measure: none */
    const char *limit_name;
    double target;              /* ours : distributed at most; 0: none */
    double limit_target;        /* ours : limit at most; 0: none */
    int pairs;                  /* BENCH_PAIRS if 0 */
} bench_row_t;

#define BENCH_PAIRS 21

extern host_dso_t *bench_dso[SIDES];
extern apr_pool_t *bench_pool;
extern const char *bench_disk;  /* a folder on the disk */
extern const char *bench_tmpfs; /* a folder in memory */

/* Measures a row and prints it; returns ours per thing, in its unit. */
double bench(const bench_row_t *row);

/* Prints a figure that was found otherwise. ours : theirs is their quotient;
 * limit 0: none. */
void bench_figure(const bench_row_t *row, double ours, double theirs,
                  double limit);

/* Prints whether something holds, with what was found. */
void bench_fact(const char *section, const char *name, int holds,
                const char *found);

uint64_t bench_now(void);       /* nanoseconds */
double bench_median(double *values, int num);

/* The process stays on this processor from now on, if there is such. */
void bench_pin(int cpu);

/* Two processes, on two processors, do it at the same time, so many times
 * each; they begin together. Returns the nanoseconds of the one that took
 * longer. */
double bench_together(void (*work)(void *context, int who, uint64_t times),
                      void *context, uint64_t times);

/* A forked process does it; returns the nanoseconds it says. */
double bench_in_child(double (*work)(void *context), void *context);

/* A new generation of both DSOs, or its end. Segments come in between. */
void bench_begin(void);
void bench_run_mpm(void);
void bench_end(void);

/* A segment of each DSO. Ends the program if there is none. */
typedef struct bench_pair_t {
    struct bench_segment_t {
        const ap_slotmem_provider_t *call;
        ap_slotmem_instance_t *inst;
        apr_size_t item_size;
        unsigned item_num;
        void *data;             /* the row's own */
        uint64_t number;        /* the row's own */
    } side[SIDES];
} bench_pair_t;
typedef struct bench_segment_t bench_segment_t;

void bench_create(bench_pair_t *pair, const char *name, apr_size_t item_size,
                  unsigned item_num, unsigned type);
void bench_must(int holds, const char *what);

/* Is this row asked for? */
int bench_wants(const char *section);

/* The rows, file by file. */
void bench_calls(void);
void bench_names(void);
void bench_processes(void);
void bench_files(void);
void bench_memory(void);

#endif

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
 * rows_calls.c: the provider's calls in one process, on one segment at a time.
 */

#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTION "calls"

static bench_row_t row_of(bench_pair_t *pair, const char *name,
                          void (*run)(void *, uint64_t))
{
    bench_row_t row = { .section = SECTION, .name = name, .unit = "ns" };
    int i;

    for (i = 0; i < SIDES; i++) {
        row.op[i].run = run;
        row.op[i].context = &pair->side[i];
    }
    return row;
}

/* ---- limits ---- */

static int empty_call(void *unused, unsigned id, void **mem)
{
    (void)unused;
    (void)id;
    (void)mem;
    return 0;
}

static int (*volatile empty)(void *, unsigned, void **) = empty_call;

static void run_empty(void *context, uint64_t times)
{
    int (*call)(void *, unsigned, void **) = empty;
    void *mem;

    while (times--) {
        call(context, 0, &mem);
    }
}

static _Alignas(64) _Atomic uint64_t word;

/* The least that a grab and a release must do: two calls through a pointer,
 * one that sets the lowest 0 bit of a word, and one that clears it again. */
static int set_lowest(void *unused, unsigned *bit)
{
    uint64_t seen = atomic_load(&word);

    (void)unused;
    while (!atomic_compare_exchange_weak(&word, &seen, seen | (seen + 1))) {
    }
    *bit = (unsigned)__builtin_ctzll(~seen);
    return 0;
}

static int clear_bit(void *unused, unsigned bit)
{
    uint64_t mask = (uint64_t)1 << bit;
    uint64_t seen = atomic_load(&word);

    (void)unused;
    while (!atomic_compare_exchange_weak(&word, &seen, seen & ~mask)) {
    }
    return 0;
}

static int (*volatile set)(void *, unsigned *) = set_lowest;
static int (*volatile clear)(void *, unsigned) = clear_bit;

static void run_two_atomics(void *context, uint64_t times)
{
    int (*first)(void *, unsigned *) = set;
    int (*second)(void *, unsigned) = clear;
    unsigned bit;

    while (times--) {
        first(context, &bit);
        second(context, bit);
    }
}

static const bench_op_t limit_empty = { .run = run_empty };
static const bench_op_t limit_two_atomics = { .run = run_two_atomics };

/* ---- grab and release ---- */

static void run_grab_release(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    while (times--) {
        segment->call->grab(segment->inst, &id);
        segment->call->release(segment->inst, id);
    }
}

/* Callers of the distributed module need a lock around grab and release. It is
 * robust, so that a killed holder does not block the others. */
static pthread_mutex_t mutex;

static void run_locked_grab_release(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    while (times--) {
        pthread_mutex_lock(&mutex);
        segment->call->grab(segment->inst, &id);
        pthread_mutex_unlock(&mutex);
        pthread_mutex_lock(&mutex);
        segment->call->release(segment->inst, id);
        pthread_mutex_unlock(&mutex);
    }
}

static void make_mutex(void)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&mutex, &attributes);
}

static void take(bench_pair_t *pair, unsigned num)
{
    unsigned id;
    int i;

    for (i = 0; i < SIDES; i++) {
        for (id = 0; id < num; id++) {
            pair->side[i].call->fgrab(pair->side[i].inst, id);
        }
    }
}

static void grab_release(unsigned num, unsigned taken, double target)
{
    char name[80];
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, name, run_grab_release);

    snprintf(name, sizeof(name), "grab + release, %u of %u taken", taken, num);
    bench_start();
    bench_create(&pair, name, 64, num, 0);
    bench_run_mpm();
    take(&pair, taken);
    row.limit = limit_two_atomics;
    row.limit_name = "2 calls, 2 atomics";
    row.target = target;
    row.limit_target = taken ? 0 : 1.4;
    bench(&row);
    if (!taken) {
        row.limit_target = 0;
        row.name = "the same, the distributed one with a lock";
        row.op[THEIRS].run = run_locked_grab_release;
        row.target = 1;
        bench(&row);
    }
    bench_end();
}

/* ---- a segment is filled, and full ---- */

static void prepare_fill(void *context)
{
    bench_segment_t *segment = context;
    unsigned id;

    for (id = 0; id < segment->item_num; id++) {
        segment->call->release(segment->inst, id);
    }
}

static void run_fill(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    while (times--) {
        while (segment->call->grab(segment->inst, &id) == APR_SUCCESS) {
        }
    }
}

static double fill(unsigned num, double target)
{
    char name[80];
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, name, run_fill);
    double took;
    int i;

    snprintf(name, sizeof(name), "fill %u slots by grab", num);
    bench_start();
    bench_create(&pair, name, 8, num, 0);
    bench_run_mpm();
    for (i = 0; i < SIDES; i++) {
        row.op[i].prepare = prepare_fill;
    }
    row.unit = "us";
    row.scale = 1000;
    row.fixed = 1;
    row.pairs = num > 10000 ? 5 : 11;
    row.target = target;
    took = bench(&row);
    bench_end();
    return took;
}

static void run_grab(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    while (times--) {
        segment->call->grab(segment->inst, &id);
    }
}

static void run_free(void *context, uint64_t times)
{
    bench_segment_t *segment = context;

    while (times--) {
        segment->call->num_free_slots(segment->inst);
    }
}

/* ---- num_free_slots ---- */

__attribute__((target_clones("popcnt", "default")))
static uint64_t count_bits(const uint64_t *words, unsigned num)
{
    uint64_t bits = 0;
    unsigned i;

    for (i = 0; i < num; i++) {
        bits += (uint64_t)__builtin_popcountll(words[i]);
    }
    return bits;
}

static volatile uint64_t counted;

static void run_popcount(void *context, uint64_t times)
{
    unsigned num = *(unsigned *)context / 64;
    static uint64_t words[1 << 14];
    uint64_t *volatile at = words;

    while (times--) {
        counted = count_bits(at, num);
    }
}

static void free_slots(unsigned num, unsigned type, double target,
                       double limit_target)
{
    char name[80];
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, name, run_free);

    snprintf(name, sizeof(name), "num_free_slots, %u slots%s", num,
             type & AP_SLOTMEM_TYPE_PREGRAB ? ", PREGRAB" : "");
    bench_start();
    bench_create(&pair, name, 8, num, type);
    bench_run_mpm();
    take(&pair, num / 2);
    row.limit.run = run_popcount;
    row.limit.context = &num;
    row.limit_name = "popcount";
    row.target = target;
    row.limit_target = limit_target;
    bench(&row);
    bench_end();
}

static void full(void)
{
    unsigned num = 65536;
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, "grab when 65536 of 65536 are taken",
                             run_grab);

    bench_start();
    bench_create(&pair, "full", 8, 65536, 0);
    bench_run_mpm();
    take(&pair, 65536);
    row.target = 1.0 / 45;
    row.limit.run = run_popcount;
    row.limit.context = &num;
    row.limit_name = "popcount";
    bench(&row);
    bench_end();
}

/* ---- doall ---- */

static apr_status_t touch(void *mem, void *data, apr_pool_t *pool)
{
    (void)pool;
    *(uintptr_t *)data += (uintptr_t)mem;
    return APR_SUCCESS;
}

static void run_doall(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    uintptr_t sum = 0;

    while (times--) {
        segment->call->doall(segment->inst, touch, &sum, NULL);
    }
}

static void doall(const char *name, unsigned type, unsigned step,
                  double target)
{
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, name, run_doall);
    unsigned id;
    int i;

    bench_start();
    bench_create(&pair, "doall", 64, 65536, type);
    bench_run_mpm();
    for (i = 0; i < SIDES; i++) {
        for (id = 0; id < 65536; id += step) {
            pair.side[i].call->fgrab(pair.side[i].inst, id);
        }
    }
    row.unit = "us";
    row.scale = 1000;
    row.target = target;
    bench(&row);
    bench_end();
}

/* ---- dptr, get, put ---- */

static void run_dptr(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    void *mem;

    while (times--) {
        segment->call->dptr(segment->inst, 7, &mem);
    }
}

static void run_get(void *context, uint64_t times)
{
    bench_segment_t *segment = context;

    while (times--) {
        segment->call->get(segment->inst, 7, segment->data,
                           segment->item_size);
    }
}

static void run_put(void *context, uint64_t times)
{
    bench_segment_t *segment = context;

    while (times--) {
        segment->call->put(segment->inst, 7, segment->data,
                           segment->item_size);
    }
}

static void *(*volatile copy)(void *, const void *, size_t) = memcpy;

/* Copies the same bytes between the same addresses as our call does. */
static void run_copy_out(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    void *slot;

    segment->call->dptr(segment->inst, 7, &slot);
    while (times--) {
        copy(segment->data, slot, segment->item_size);
    }
}

static void run_copy_in(void *context, uint64_t times)
{
    bench_segment_t *segment = context;
    void *slot;

    segment->call->dptr(segment->inst, 7, &slot);
    while (times--) {
        copy(slot, segment->data, segment->item_size);
    }
}

static void copies(apr_size_t size, double target, double limit_target)
{
    char name[80];
    char *buffer = apr_palloc(bench_pool, size);
    bench_pair_t pair;
    bench_row_t row = row_of(&pair, name, run_get);
    int i;

    memset(buffer, 1, size);
    bench_start();
    bench_create(&pair, "copies", size, 256, 0);
    bench_run_mpm();
    for (i = 0; i < SIDES; i++) {
        pair.side[i].data = buffer;
    }
    row.limit.run = run_copy_out;
    row.limit.context = &pair.side[OURS];
    row.limit_name = "memcpy";
    row.target = target;
    row.limit_target = limit_target;
    snprintf(name, sizeof(name), "get, %d bytes", (int)size);
    bench(&row);
    snprintf(name, sizeof(name), "put, %d bytes", (int)size);
    row.op[OURS].run = run_put;
    row.op[THEIRS].run = run_put;
    row.limit.run = run_copy_in;
    bench(&row);
    if (size == 64) {
        row = row_of(&pair, "dptr", run_dptr);
        row.limit = limit_empty;
        row.limit_name = "empty call";
        row.target = 1.05;
        bench(&row);
    }
    bench_end();
}

/* ---- */

static void growth(double at_1024, double at_65536)
{
    char found[80];
    double exponent = 0;
    double quotient = at_65536 / at_1024;

    while (quotient > 1) {      /* base-64 logarithm, in hundredths */
        quotient /= 1.042463;
        exponent += 0.01;
    }
    snprintf(found, sizeof(found), "n^%.2f from 1024 to 65536 slots",
             exponent);
    bench_fact(SECTION, "filling grows in step with the number of slots",
               exponent < 1.1, found);
}

void bench_calls(void)
{
    double at_1024;

    if (!bench_wants(SECTION)) {
        return;
    }
    make_mutex();
    grab_release(256, 0, 0);
    grab_release(256, 255, 1.0 / 4);
    grab_release(4096, 4095, 1.0 / 35);
    grab_release(65536, 65535, 1.0 / 350);
    grab_release(1048576, 1048575, 1.0 / 5000);
    at_1024 = fill(1024, 0);
    growth(at_1024, fill(65536, 1.0 / 900));
    full();
    free_slots(256, 0, 0, 0);
    free_slots(256, AP_SLOTMEM_TYPE_PREGRAB, 0, 1.3);
    free_slots(65536, 0, 1.0 / 50, 0);
    free_slots(65536, AP_SLOTMEM_TYPE_PREGRAB, 0, 1.3);
    doall("doall, 65 of 65536 in use, PREGRAB", AP_SLOTMEM_TYPE_PREGRAB, 1000,
          1.0 / 25);
    doall("doall, 65536 of 65536 in use, PREGRAB", AP_SLOTMEM_TYPE_PREGRAB, 1,
          1.05);
    doall("doall, 65536 slots, not PREGRAB", 0, 1, 1.05);
    copies(64, 1.10, 0);
    copies(16384, 0, 1.02);
}

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
 * rows_processes.c: two processes that use one segment at the same time.
 */

#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SECTION "processes"
#define SLOTS 64

/* Shared between the processes. */
static struct {
    pthread_mutex_t mutex;          /* robust */
    _Alignas(64) _Atomic uint64_t doubles;
    _Alignas(64) _Atomic int owned[SLOTS];
} *shared;

static void make_shared(void)
{
    pthread_mutexattr_t attributes;

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_must(shared != MAP_FAILED, "cannot map shared memory");
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
}

/* ---- grab and release ---- */

static void work_grab(void *context, int who, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    (void)who;
    while (times--) {
        if (segment->call->grab(segment->inst, &id) == APR_SUCCESS) {
            segment->call->release(segment->inst, id);
        }
    }
}

static void work_grab_locked(void *context, int who, uint64_t times)
{
    bench_segment_t *segment = context;
    apr_status_t rv;
    unsigned id;

    (void)who;
    while (times--) {
        pthread_mutex_lock(&shared->mutex);
        rv = segment->call->grab(segment->inst, &id);
        pthread_mutex_unlock(&shared->mutex);
        if (rv == APR_SUCCESS) {
            pthread_mutex_lock(&shared->mutex);
            segment->call->release(segment->inst, id);
            pthread_mutex_unlock(&shared->mutex);
        }
    }
}

static void work_grab_checked(void *context, int who, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned id;

    (void)who;
    while (times--) {
        if (segment->call->grab(segment->inst, &id) == APR_SUCCESS) {
            if (atomic_exchange(&shared->owned[id], 1)) {
                atomic_fetch_add(&shared->doubles, 1);
            }
            atomic_store(&shared->owned[id], 0);
            segment->call->release(segment->inst, id);
        }
    }
}

static double measure_grab(void *context, uint64_t times)
{
    return bench_together(work_grab, context, times);
}

static double measure_grab_locked(void *context, uint64_t times)
{
    return bench_together(work_grab_locked, context, times);
}

static void double_grants(bench_pair_t *pair)
{
    const uint64_t times = 500000;
    char found[120];
    uint64_t doubles[SIDES];
    int i;

    for (i = 0; i < SIDES; i++) {
        memset(shared->owned, 0, sizeof(shared->owned));
        atomic_store(&shared->doubles, 0);
        bench_together(work_grab_checked, &pair->side[i], times);
        doubles[i] = atomic_load(&shared->doubles);
    }
    snprintf(found, sizeof(found), "ours %llu in a million, the distributed "
             "one %llu", (unsigned long long)doubles[OURS],
             (unsigned long long)doubles[THEIRS]);
    bench_fact(SECTION, "no slot is granted twice, without a lock",
               doubles[OURS] == 0, found);
}

static void grabs(void)
{
    bench_pair_t pair;
    bench_row_t row = {
        .section = SECTION, .unit = "ns", .per_time = 2,
        .name = "grab + release, the distributed one with a lock",
        .fixed = 200000, .target = 1 / 2.5
    };

    bench_start();
    bench_create(&pair, "grabs", 64, SLOTS, 0);
    bench_run_mpm();
    row.op[OURS].measure = measure_grab;
    row.op[OURS].context = &pair.side[OURS];
    row.op[THEIRS].measure = measure_grab_locked;
    row.op[THEIRS].context = &pair.side[THEIRS];
    bench(&row);
    double_grants(&pair);
    bench_end();
}

/* ---- get and put on neighbouring slots ---- */

static void work_get(void *context, int who, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned char buffer[64];

    memset(buffer, 0, sizeof(buffer));
    while (times--) {
        segment->call->get(segment->inst, (unsigned)who, buffer, 64);
    }
}

static void work_put(void *context, int who, uint64_t times)
{
    bench_segment_t *segment = context;
    unsigned char buffer[64];

    memset(buffer, 0, sizeof(buffer));
    while (times--) {
        segment->call->put(segment->inst, (unsigned)who, buffer, 64);
    }
}

static double measure_get(void *context, uint64_t times)
{
    return bench_together(work_get, context, times);
}

static double measure_put(void *context, uint64_t times)
{
    return bench_together(work_put, context, times);
}

static void neighbours(void)
{
    bench_pair_t pair;
    bench_row_t row = {
        .section = SECTION, .unit = "ns",
        .name = "get, 64 bytes, on neighbouring slots",
        .fixed = 1000000, .target = 1 / 1.7
    };
    int i;

    bench_start();
    bench_create(&pair, "neighbours", 64, SLOTS, 0);
    bench_run_mpm();
    for (i = 0; i < SIDES; i++) {
        row.op[i].measure = measure_get;
        row.op[i].context = &pair.side[i];
    }
    bench(&row);
    row.name = "put, 64 bytes, on neighbouring slots";
    row.op[OURS].measure = measure_put;
    row.op[THEIRS].measure = measure_put;
    bench(&row);
    bench_end();
}

void bench_processes(void)
{
    if (!bench_wants(SECTION)) {
        return;
    }
    make_shared();
    grabs();
    neighbours();
}

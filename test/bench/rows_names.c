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
 * rows_names.c: many segments in one generation: creating them, attaching to
 * them in a child, and looking for names that do not exist.
 */

#include "bench.h"

#include <stdio.h>
#include <sys/mman.h>

#define SECTION "names"
#define ITEM_SIZE 64
#define ITEM_NUM 16

/* One DSO and the names of its segments. */
typedef struct many_t {
    host_dso_t *dso;
    char (*names)[24];
    int num;
} many_t;

static void create_all(const many_t *many)
{
    ap_slotmem_instance_t *inst;
    int i;

    for (i = 0; i < many->num; i++) {
        bench_must(many->dso->provider->create(&inst, many->names[i],
                                               ITEM_SIZE, ITEM_NUM, 0,
                                               many->dso->pconf)
                   == APR_SUCCESS, "no segment");
    }
}

static double measure_create(void *context, uint64_t times)
{
    many_t *many = context;
    uint64_t start;
    double took;

    (void)times;
    host_configure(many->dso, NULL);
    start = bench_now();
    create_all(many);
    took = (double)(bench_now() - start);
    host_configured(many->dso);
    host_end(many->dso);
    return took;
}

/* Maps the same number of shared areas and touches one page of each. */
static double measure_mmap(void *context, uint64_t times)
{
    const many_t *many = context;
    static char *memory[4000];
    uint64_t start = bench_now();
    double took;
    int i;

    (void)times;
    for (i = 0; i < many->num; i++) {
        memory[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        bench_must(memory[i] != MAP_FAILED, "no memory");
        *memory[i] = 1;
    }
    took = (double)(bench_now() - start);
    for (i = 0; i < many->num; i++) {
        munmap(memory[i], 4096);
    }
    return took;
}

/* Attaches to all names, skipping their first FROM characters. All must exist,
 * or none. */
static double attach(const many_t *many, int from, int is_there)
{
    ap_slotmem_instance_t *inst;
    apr_pool_t *pchild;
    apr_size_t size;
    unsigned num;
    uint64_t start;
    int i;

    apr_pool_create(&pchild, many->dso->process_pool);
    host_child_init(many->dso, pchild);
    start = bench_now();
    for (i = 0; i < many->num; i++) {
        bench_must((many->dso->provider->attach(&inst, many->names[i] + from,
                                                &size, &num, pchild)
                    == APR_SUCCESS) == is_there, "attach");
    }
    return (double)(bench_now() - start);
}

static double attach_all(void *context)
{
    return attach(context, 0, 1);
}

static double attach_unknown(void *context)
{
    return attach(context, 1, 0);
}

static double measure_attach(void *context, uint64_t times)
{
    (void)times;
    return bench_in_child(attach_all, context);
}

static double measure_unknown(void *context, uint64_t times)
{
    (void)times;
    return bench_in_child(attach_unknown, context);
}

static double row(many_t *many, const char *what,
                  double (*measure)(void *, uint64_t), double target,
                  int with_limit)
{
    char name[80];
    bench_row_t row = {
        .section = SECTION, .name = name, .unit = "us", .scale = 1000,
        .fixed = 1, .per_time = (unsigned)many->num, .target = target
    };
    int i;

    snprintf(name, sizeof(name), "%s, one of %d", what, many->num);
    for (i = 0; i < SIDES; i++) {
        row.op[i].measure = measure;
        row.op[i].context = &many[i];
    }
    if (with_limit) {
        row.limit.measure = measure_mmap;
        row.limit.context = many;
        row.limit_name = "mmap, one page";
    }
    row.pairs = many->num > 100 ? 11 : 51;
    return bench(&row);
}

static void flat(const char *name, double few, double many)
{
    char found[80];

    snprintf(found, sizeof(found), "%.3g us of 10, %.3g us of 4000", few,
             many);
    bench_fact(SECTION, name, many < few * 1.25, found);
}

static void with_segments(many_t *many, double *attach, double *unknown,
                          int targets)
{
    int i;

    for (i = 0; i < SIDES; i++) {
        host_configure(many[i].dso, NULL);
        create_all(&many[i]);
    }
    bench_run_mpm();
    *attach = row(many, "attach in a child", measure_attach,
                  targets ? 1.0 / 28 : 0, 0);
    *unknown = row(many, "attach of a name that does not exist",
                   measure_unknown, targets ? 1.0 / 50 : 0, 0);
    bench_end();
}

void bench_names(void)
{
    static const int nums[2] = { 10, 4000 };
    static char names[4000][24];
    double create[2], attach[2], unknown[2];
    many_t many[SIDES];
    int i, k;

    if (!bench_wants(SECTION)) {
        return;
    }
    for (i = 0; i < 4000; i++) {
        snprintf(names[i], sizeof(names[i]), "balancer-%d-example", i);
    }
    for (k = 0; k < 2; k++) {
        for (i = 0; i < SIDES; i++) {
            many[i].dso = bench_dso[i];
            many[i].names = names;
            many[i].num = nums[k];
        }
        create[k] = row(many, "create", measure_create, k ? 0.3 : 0, 1);
        with_segments(many, &attach[k], &unknown[k], k);
    }
    flat("create takes the same for each of many", create[0], create[1]);
    flat("attach takes the same for each of many", attach[0], attach[1]);
    flat("looking in vain takes the same among many", unknown[0], unknown[1]);
}

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
 * rows_memory.c: how much shared memory is used, as counted by the kernel.
 */

#include "bench.h"

#include <stdio.h>
#include <string.h>

#define SECTION "memory"

/* Bytes in the shared mappings of this process: all, or the resident ones. */
static double shared_bytes(int resident)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    unsigned long long sum = 0;
    char line[512];
    int shared = 0;

    bench_must(smaps != NULL, "cannot read /proc/self/smaps");
    while (fgets(line, sizeof(line), smaps)) {
        char permissions[8];
        unsigned long long kib;

        if (sscanf(line, "%*x-%*x %7s", permissions) == 1) {
            shared = permissions[3] == 's';
        }
        else if (shared
                 && sscanf(line, resident ? "Rss: %llu" : "Size: %llu", &kib)
                    == 1) {
            sum += kib * 1024;
        }
    }
    fclose(smaps);
    return (double)sum;
}

/* Bytes that a segment adds after a put into each of its first PUT slots. */
static double segment_bytes(host_dso_t *dso, apr_size_t size, unsigned num,
                            unsigned put, int resident)
{
    static unsigned char slot[256];
    ap_slotmem_instance_t *inst;
    double before;
    double after;
    unsigned id;

    memset(slot, 1, sizeof(slot));
    host_configure(dso, NULL);
    before = shared_bytes(resident);
    bench_must(dso->provider->create(&inst, "memory", size, num, 0, dso->pconf)
               == APR_SUCCESS, "no segment");
    for (id = 0; id < put; id++) {
        dso->provider->put(inst, id, slot, size);
    }
    after = shared_bytes(resident);
    host_configured(dso);
    host_end(dso);
    return after - before;
}

void bench_memory(void)
{
    bench_row_t row = {
        .section = SECTION, .unit = "bytes",
        .name = "beyond the slots, per slot, of 65536"
    };
    double bytes[SIDES];
    char found[80];
    int i;

    if (!bench_wants(SECTION)) {
        return;
    }
    for (i = 0; i < SIDES; i++) {
        bytes[i] = segment_bytes(bench_dso[i], 64, 65536, 0, 0) / 65536 - 64;
    }
    bench_figure(&row, bytes[OURS], bytes[THEIRS], 0);
    snprintf(found, sizeof(found), "%.3f bytes", bytes[OURS]);
    bench_fact(SECTION, "at most 0.2 bytes per slot beyond the slots",
               bytes[OURS] <= 0.2, found);
    row.name = "resident, 65536 slots of 256 bytes, 655 put";
    row.unit = "KiB";
    row.limit_name = "the slots put";
    for (i = 0; i < SIDES; i++) {
        bytes[i] = segment_bytes(bench_dso[i], 256, 65536, 655, 1) / 1024;
    }
    bench_figure(&row, bytes[OURS], bytes[THEIRS], 655 * 256 / 1024.0);
}

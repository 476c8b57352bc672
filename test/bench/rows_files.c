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
 * rows_files.c: store and restore. Each sample runs a generation and times its
 * end (the store, and unmapping the memory) or its creates (the restore, and
 * mapping the memory).
 */

#include "bench.h"

#include "apr_md5.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 1000

/* One DSO and its segments. */
typedef struct kept_t {
    host_dso_t *dso;
    int num;
    apr_size_t item_size;
    unsigned item_num;
    char *slots[MOST];
} kept_t;

static unsigned char fill_byte;     /* content of the slots, new each time */

static void create(kept_t *kept)
{
    int i;

    for (i = 0; i < kept->num; i++) {
        ap_slotmem_instance_t *inst;
        char name[16];
        void *mem;

        snprintf(name, sizeof(name), "f%d", i);
        bench_must(kept->dso->provider->create(&inst, name, kept->item_size,
                                               kept->item_num,
                                               AP_SLOTMEM_TYPE_PERSIST,
                                               kept->dso->pconf)
                   == APR_SUCCESS, "no segment");
        kept->dso->provider->dptr(inst, 0, &mem);
        kept->slots[i] = mem;
    }
}

static void change(kept_t *kept)
{
    int i;

    fill_byte++;
    for (i = 0; i < kept->num; i++) {
        memset(kept->slots[i], fill_byte, kept->item_size * kept->item_num);
    }
}

static void configure(kept_t *kept, const char *interval)
{
    const char *const directives[] = {
        "SlotmemCheckpointInterval", interval, NULL
    };

    host_configure(kept->dso, directives);
}

static void run(kept_t *kept)
{
    host_configured(kept->dso);
    host_reach_mpm(kept->dso);
}

/* Starts a generation and changes its segments after their creation. */
static void run_changed(kept_t *kept, const char *interval)
{
    configure(kept, interval);
    create(kept);
    run(kept);
    change(kept);
}

static double end(kept_t *kept)
{
    uint64_t start = bench_now();

    host_end(kept->dso);
    return (double)(bench_now() - start);
}

static double measure_restore(void *context, uint64_t times)
{
    kept_t *kept = context;
    uint64_t start;
    double took;

    (void)times;
    configure(kept, "0");
    start = bench_now();
    create(kept);
    took = (double)(bench_now() - start);
    run(kept);
    end(kept);
    return took;
}

static double measure_store(void *context, uint64_t times)
{
    kept_t *kept = context;

    (void)times;
    run_changed(kept, "0");
    return end(kept);
}

/* Waits until a checkpoint is due, starts it, and returns the time that this
 * takes in the parent. The distributed module has no checkpoints. */
static double checkpoint(kept_t *kept)
{
    uint64_t start;
    double took;

    usleep(1050000);
    start = bench_now();
    host_monitor(kept->dso);
    took = (double)(bench_now() - start);
    host_settle();
    return took;
}

/* The time that one of our checkpoints takes in the parent. */
static double measure_checkpoint(void *context, uint64_t times)
{
    kept_t *kept = context;
    double took;

    (void)times;
    run_changed(kept, "1");
    took = checkpoint(kept);
    end(kept);
    return took;
}

/* The end of a generation right after a checkpoint has stored everything. */
static double measure_stored(void *context, uint64_t times)
{
    kept_t *kept = context;

    (void)times;
    run_changed(kept, "1");
    checkpoint(kept);
    host_monitor(kept->dso);
    return end(kept);
}

/* The end of a generation that stores nothing. */
static double measure_unmap(void *context, uint64_t times)
{
    kept_t *kept = context;

    (void)times;
    configure(kept, "0");
    create(kept);
    change(kept);
    host_configured(kept->dso);     /* without host_reach_mpm(): no store */
    return end(kept);
}

/* The MD5 digest of the same number of bytes. */
static double measure_md5(void *context, uint64_t times)
{
    const kept_t *kept = context;
    apr_size_t len = kept->item_size * kept->item_num;
    static unsigned char *bytes;
    unsigned char digest[APR_MD5_DIGESTSIZE];
    uint64_t start;

    (void)times;
    if (!bytes) {
        bytes = malloc(len);
        memset(bytes, 1, len);
    }
    start = bench_now();
    apr_md5(digest, bytes, len);
    return (double)(bench_now() - start);
}

/* The plain program: it writes the new files and starts their writeback, then
 * calls fsync on each, renames them, and calls fsync on the directory. */
static double measure_plain(void *context, uint64_t times)
{
    const kept_t *kept = context;
    const char *dir = kept->dso->runtime_dir;
    static unsigned char bytes[8192];
    static int fds[MOST];
    char tmp[300];
    char path[300];
    size_t len = 8 + kept->item_num * (kept->item_size + 1) + 32;
    uint64_t start;
    int i;

    (void)times;
    memset(bytes, ++fill_byte, sizeof(bytes));
    start = bench_now();
    for (i = 0; i < kept->num; i++) {
        snprintf(tmp, sizeof(tmp), "%s/plain-%d.tmp", dir, i);
        fds[i] = open(tmp, O_CREAT | O_EXCL | O_WRONLY, 0600);
        bench_must(fds[i] >= 0 && write(fds[i], bytes, len) == (ssize_t)len,
                   "cannot write a plain file");
        sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    for (i = 0; i < kept->num; i++) {
        bench_must(fsync(fds[i]) == 0 && close(fds[i]) == 0, "fsync failed");
    }
    for (i = 0; i < kept->num; i++) {
        snprintf(tmp, sizeof(tmp), "%s/plain-%d.tmp", dir, i);
        snprintf(path, sizeof(path), "%s/plain-%d", dir, i);
        bench_must(rename(tmp, path) == 0, "rename failed");
    }
    i = open(dir, O_RDONLY | O_DIRECTORY);
    bench_must(i >= 0 && fsync(i) == 0 && close(i) == 0, "fsync failed");
    return (double)(bench_now() - start);
}

static bench_row_t row_of(kept_t *kept, const char *section, const char *name,
                          double (*measure)(void *, uint64_t))
{
    bench_row_t row = {
        .section = section, .name = name, .unit = "ms", .scale = 1e6,
        .fixed = 1, .pairs = 11
    };
    int i;

    for (i = 0; i < SIDES; i++) {
        row.op[i].measure = measure;
        row.op[i].context = &kept[i];
    }
    return row;
}

/* Gives each DSO an empty directory of its own. */
static void use_directory(kept_t *kept, const char *under, const char *name)
{
    int i;

    for (i = 0; i < SIDES; i++) {
        char *dir = apr_psprintf(bench_pool, "%s/%s-%s", under, name,
                                 bench_dso[i]->name);

        bench_must(mkdir(dir, 0700) == 0, "mkdir failed");
        kept[i].dso = bench_dso[i];
        kept[i].dso->runtime_dir = dir;
    }
}

static void one_large(void)
{
    static kept_t kept[SIDES];
    bench_row_t row;
    int i;

    use_directory(kept, bench_tmpfs, "large");
    for (i = 0; i < SIDES; i++) {
        kept[i].num = 1;
        kept[i].item_size = 1024;
        kept[i].item_num = 65536;
    }
    row = row_of(kept, "large", "store 64 MiB, tmpfs", measure_store);
    row.target = 1.05;
    row.limit.measure = measure_md5;
    row.limit.context = &kept[OURS];
    row.limit_name = "apr_md5";
    bench(&row);
    row.name = "restore 64 MiB, tmpfs";
    row.op[OURS].measure = measure_restore;
    row.op[THEIRS].measure = measure_restore;
    bench(&row);
}

static void many_small(const char *under, const char *where)
{
    static kept_t kept[SIDES];
    char name[80];
    char found[80];
    bench_row_t row;
    double stores;
    double parent;
    double again;
    int i;

    use_directory(kept, under, "small");
    for (i = 0; i < SIDES; i++) {
        kept[i].num = MOST;
        kept[i].item_size = 1024;
        kept[i].item_num = 4;
    }
    snprintf(name, sizeof(name), "store 1000 x 4 KiB, %s", where);
    row = row_of(kept, where, name, measure_store);
    stores = bench(&row);
    snprintf(name, sizeof(name), "the same, beside a plain program");
    row.limit.measure = measure_plain;
    row.limit.context = &kept[OURS];
    row.limit_name = "plain program";
    row.limit_target = 1.3;
    bench(&row);
    snprintf(name, sizeof(name), "what a checkpoint of ours costs the parent");
    row = row_of(kept, where, name, measure_store);
    row.op[OURS].measure = measure_checkpoint;
    parent = bench(&row);
    snprintf(found, sizeof(found), "%.3g ms", parent);
    bench_fact(where, "a checkpoint costs the parent less than 5 ms",
               parent < 5, found);
    snprintf(name, sizeof(name), "the end after a checkpoint of ours");
    row = row_of(kept, where, name, measure_store);
    row.op[OURS].measure = measure_stored;
    row.limit.measure = measure_unmap;
    row.limit.context = &kept[OURS];
    row.limit_name = "giving memory back";
    row.pairs = 5;
    again = bench(&row);
    snprintf(found, sizeof(found), "%.3g ms; a whole one takes %.3g ms",
             again, stores);
    bench_fact(where, "after a checkpoint there is next to nothing to store",
               again < stores / 3, found);
    snprintf(name, sizeof(name), "restore 1000 x 4 KiB, %s", where);
    row = row_of(kept, where, name, measure_restore);
    bench(&row);
}

void bench_files(void)
{
    if (bench_wants("large")) {
        one_large();
    }
    if (bench_wants("tmpfs")) {
        many_small(bench_tmpfs, "tmpfs");
    }
    if (bench_wants("disk")) {
        many_small(bench_disk, "disk");
    }
}

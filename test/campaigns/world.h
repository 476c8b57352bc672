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
 * world.h: code that the campaigns of faults and of power cuts share: files in
 * two directories, their valid states, and servers that restore and store them.
 */

#ifndef SLOTMEM_WORLD_H
#define SLOTMEM_WORLD_H

#include "calls.h"
#include "campaign.h"

#define FILES 4
#define VERSIONS 4              /* 0 exists before the first store */
#define FILE_MAX 80000
#define OUT_OF_MEMORY 42        /* exit code */

/* What is at a path, if it is not a version. */
enum { OTHER = -3, ABSENT = -2, REFUSED = -1 };

/* Files: the letters of `before` say what exists, one letter per file:
 * n: none; o: the old state, restored; u: the same, not verified, and a .tmp-T;
 * r: a refused file; b: the same, and all .bad-N taken;
 * s: the old state, restored, and the first store has nothing new */
static const struct scenario_t {
    const char *before;
    slotmem_geometry_t shape[FILES];
} scenarios[] = {
    { "n", { { 24, 5, 0x1 } } },
    { "o", { { 24, 5, 0x1 } } },
    { "u", { { 24, 5, 0x9 } } },
    { "r", { { 24, 5, 0x5 } } },
    { "b", { { 24, 5, 0x9 } } },
    { "s", { { 24, 5, 0x9 } } },
    { "o", { { 700, 100, 0x9 } } },
    { "orn", { { 24, 5, 0x9 }, { 30, 4, 0x1 }, { 8, 70, 0x5 } } },
    /* --slice ends here */
    { "n", { { 700, 100, 0x9 } } },
    { "r", { { 700, 100, 0x1 } } },
    { "s", { { 700, 100, 0x5 } } },
    { "oro", { { 24, 5, 0x9 }, { 30, 4, 0x1 }, { 700, 100, 0x5 } } },
    { "nosr", { { 24, 5, 0x1 }, { 24, 5, 0x9 }, { 8, 70, 0x5 },
                { 1, 3, 0x9 } } },
    { "ubon", { { 24, 5, 0x1 }, { 24, 5, 0x9 }, { 8, 70, 0x5 },
                { 1, 3, 0x9 } } }
};

#define SLICE 8                 /* number of scenarios in a slice */

/* The current scenario. */
static const struct scenario_t *scenario;
static apr_pool_t *setup;
static char dir_path[2][128];   /* files alternate between the two */
static struct file_t {
    char before;
    char path[256];
    content_t content[VERSIONS];
    unsigned char *refused;     /* has the length of the old state */
    slotmem_word_t *config_claims;
} file[FILES];
static int num;
static int full;

/* ---- the files on disk ---- */

static int is_refused(const struct file_t *f, const char *path)
{
    return file_is(path, f->refused, f->content[0].len);
}

static int classify(const struct file_t *f)
{
    ssize_t len = get_file(f->path);
    int version;

    for (version = 0; version < VERSIONS; version++) {
        if (len == (ssize_t)f->content[version].len
            && memcmp(found, f->content[version].bytes, (size_t)len) == 0) {
            return version;
        }
    }
    return len < 0 && !exists(f->path) ? ABSENT
           : is_refused(f, f->path) ? REFUSED : OTHER;
}

static int starts_as(const struct file_t *f)
{
    return f->before == 'n' ? ABSENT : strchr("rb", f->before) ? REFUSED : 0;
}

/* The version that the n-th store writes. */
static int stored_version(const struct file_t *f, int n)
{
    return f->before == 's' && n == 1 ? 0 : n;
}

static const char *bad(const struct file_t *f, int n)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s.bad-%d", f->path, n);
    return path;
}

/* The temporary file of a server. */
static const char *tmp_of(const struct file_t *f, const char *token)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s.tmp-%s", f->path, token);
    return path;
}

/* The number of temporary files of any server. */
static int count_tmps(const struct file_t *f)
{
    const char *base = strrchr(f->path, '/') + 1;
    size_t len = strlen(base);
    DIR *stream = opendir(dir_path[(f - file) % 2]);
    const struct dirent *entry;
    int count = 0;

    need(stream != NULL, f->path);
    while ((entry = readdir(stream))) {
        count += strncmp(entry->d_name, base, len) == 0
                 && strncmp(entry->d_name + len, ".tmp", 4) == 0;
    }
    closedir(stream);
    return count;
}

static void set_up_disk(void)
{
    int i, n;

    empty_directory(dir_path[0]);
    empty_directory(dir_path[1]);
    for (i = 0; i < num; i++) {
        struct file_t *f = &file[i];

        if (f->before != 'n') {
            put_file(f->path, strchr("rb", f->before) ? f->refused
                              : f->content[0].bytes, f->content[0].len);
        }
        if (f->before == 'u') {
            put_file(tmp_of(f, "dead"), "left by a killed store", 22);
        }
        for (n = 1; n <= SLOTMEM_BAD_FILES && f->before == 'b'; n++) {
            put_file(bad(f, n), "old", 3);
        }
    }
}

/* A refused file exists under some name; at most one of the older ones was
 * replaced. */
static void check_refused_kept(const struct file_t *f)
{
    int kept;
    int older = 0;
    int n;

    if (starts_as(f) != REFUSED) {
        return;
    }
    kept = is_refused(f, f->path);
    for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
        kept += is_refused(f, bad(f, n));
        older += file_is(bad(f, n), "old", 3);
    }
    if (!kept) {
        lost("%s: the refused file is gone", f->path);
    }
    if (f->before == 'b' && older < SLOTMEM_BAD_FILES - 1) {
        lost("%s: %d of the older refused files are left", f->path, older);
    }
}

/* Each file has at least this version, or its old state; none is damaged. */
static void check_disk(const int *least)
{
    int i;

    for (i = 0; i < num; i++) {
        int found = classify(&file[i]);
        int must = least[i];

        if (must == REFUSED) {          /* it may have been set aside */
            must = ABSENT;
        }
        if (found < must || (found == REFUSED
                             && starts_as(&file[i]) != REFUSED)) {
            lost("%s: found %d, expected %d or later", file[i].path, found,
                 least[i]);
        }
        check_refused_kept(&file[i]);
    }
}

/* ---- servers ---- */

static int out_of_memory(int status)
{
    (void)status;
    _exit(OUT_OF_MEMORY);
}

/* A pool that takes all its memory from the system. */
static apr_pool_t *new_pool(void)
{
    apr_allocator_t *allocator;
    apr_pool_t *pool;

    apr_allocator_create(&allocator);
    apr_pool_create_ex(&pool, NULL, out_of_memory, allocator);
    apr_allocator_owner_set(allocator, pool);
    return pool;
}

typedef struct server_t {
    apr_pool_t *pool;
    char token[40];                     /* unique to this server */
    slotmem_directory_t *directory[2];
    slotmem_segment_t segment[FILES];
    slotmem_restore_result_t restored[FILES];
    slotmem_store_t store[FILES];
} server_t;

/* The directories are SlotmemPersistDirs and not yet open. */
static server_t *new_server(void)
{
    static int servers;
    apr_pool_t *pool = new_pool();
    server_t *server = apr_pcalloc(pool, sizeof(*server));
    char path[300];
    int i;

    server->pool = pool;
    snprintf(server->token, sizeof(server->token), "%ld-%d", (long)getpid(),
             servers++);
    slotmem_directory_reset(pool);
    for (i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/f", dir_path[i]);
        server->directory[i] = slotmem_directory_of(path);
        server->directory[i]->checked = 1;
    }
    return server;
}

static void stop_server(server_t *server)
{
    slotmem_directory_reset(NULL);
    apr_pool_destroy(server->pool);
}

static apr_status_t restore(server_t *server, int i)
{
    slotmem_directory_t *directory = server->directory[i % 2];
    slotmem_distrust_t distrust;
    apr_status_t opened;
    apr_status_t rv = slotmem_segment_create(&server->segment[i],
                                             &file[i].content[0].geometry,
                                             NULL, server->pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    opened = slotmem_directory_open(directory, 0, &distrust);
    if (opened != APR_SUCCESS) {
        slotmem_restore_refuse(&server->restored[i], opened,
                               "its directory cannot be opened");
        return APR_SUCCESS;
    }
    slotmem_restore(&server->restored[i], &server->segment[i],
                    file[i].config_claims != NULL, directory, file[i].path,
                    server->pool);
    return APR_SUCCESS;
}

static void set_up_store(server_t *server, int i)
{
    slotmem_store_t *store = &server->store[i];

    store->content.segment = &server->segment[i];
    store->directory = server->directory[i % 2];
    store->path = file[i].path;
    store->content.config_claims = file[i].config_claims;
    store->set_aside = server->restored[i].outcome == SLOTMEM_RESTORE_REFUSED;
    store->file_state = server->restored[i].file_state;
}

/* The restored state is the one on disk. */
static void check_restored(const server_t *server, int i)
{
    int found = classify(&file[i]);
    int outcome = server->restored[i].outcome;

    if (outcome != (found >= 0 ? SLOTMEM_RESTORE_DONE
                    : found == ABSENT ? SLOTMEM_RESTORE_NO_FILE
                    : SLOTMEM_RESTORE_REFUSED)
        || !holds(&server->segment[i],
                  found >= 0 ? &file[i].content[found] : NULL, 1)) {
        lost("%s: file %d restored wrongly (outcome %d, %s)", file[i].path,
             found, outcome, server->restored[i].reason);
    }
}

static server_t *start_server(void)
{
    server_t *server = new_server();
    int i;

    for (i = 0; i < num; i++) {
        need(restore(server, i) == APR_SUCCESS, "create a segment");
        check_restored(server, i);
        set_up_store(server, i);
        if (file[i].before == 'u') {
            server->store[i].file_state.verified = 0;
        }
    }
    return server;
}

static void fill(server_t *server, int n)
{
    int i;

    for (i = 0; i < num; i++) {
        fill_segment(&server->segment[i],
                     &file[i].content[stored_version(&file[i], n)]);
    }
}

static void tell_nobody(void *data, int index)
{
    (void)data;
    (void)index;
}

/* Does what the storing process does: opens the directories, removes the
 * leftovers of dead servers, and stores. */
static void store(server_t *server)
{
    const slotmem_store_watch_t watch = { server->token, tell_nobody, NULL };
    slotmem_store_t stores[FILES];
    slotmem_distrust_t distrust;
    int from[FILES];
    int opened = 0;
    int i;

    slotmem_directory_close_all();
    for (i = 0; i < num; i++) {
        slotmem_store_t *store = &server->store[i];

        store->status = slotmem_directory_open(server->directory[i % 2], 1,
                                               &distrust);
        store->step = SLOTMEM_STEP_NONE;
        if (store->status != APR_SUCCESS) {
            store->step = SLOTMEM_STEP_OPEN_DIRECTORY;
            continue;
        }
        stores[opened] = *store;
        from[opened++] = i;
    }
    for (i = 0; i < 2; i++) {
        if (server->directory[i]->fd >= 0) {
            slotmem_store_clean(server->directory[i], stores, opened,
                                server->token);
        }
    }
    slotmem_store(stores, opened, &watch, server->pool);
    while (opened-- > 0) {
        server->store[from[opened]] = stores[opened];
    }
}

/* A store without faults: it must succeed and leave everything in order. */
static void store_well(server_t *server, int n)
{
    int i;

    fill(server, n);
    store(server);
    for (i = 0; i < num; i++) {
        int found = classify(&file[i]);

        if (server->store[i].step) {
            lost("%s: the next store cannot %s", file[i].path,
                 slotmem_step_text(server->store[i].step));
        }
        if (found != stored_version(&file[i], n) || count_tmps(&file[i])) {
            lost("%s: found %d after the store of %d, .tmp: %d", file[i].path,
                 found, stored_version(&file[i], n), count_tmps(&file[i]));
        }
        check_refused_kept(&file[i]);
    }
}

/* The next server restores the files, and stores. */
static void check_next_server(void)
{
    server_t *server = start_server();

    store_well(server, VERSIONS - 1);
    stop_server(server);
    server = start_server();
    stop_server(server);
}

typedef struct fault_t {
    effect_t effect;
    int error;
    int sticky;
} fault_t;

static void set_up_scenario(void)
{
    int i, version;

    apr_pool_create(&setup, NULL);
    num = (int)strlen(scenario->before);
    for (i = 0; i < num; i++) {
        struct file_t *f = &file[i];

        f->before = scenario->before[i];
        snprintf(f->path, sizeof(f->path), "%s/f%d.persist", dir_path[i % 2],
                 i);
        f->config_claims = make_configured(setup, scenario->shape[i]);
        for (version = 0; version < VERSIONS; version++) {
            f->content[version] = make_content(setup, scenario->shape[i],
                                               (unsigned)(10 * i + version));
        }
        f->refused = apr_pmemdup(setup, f->content[0].bytes,
                                 f->content[0].len);
        f->refused[8] ^= 1;
    }
}

/* Run a campaign over each scenario; a slice of them, or all. */
static void run_world(int argc, char **argv, void (*campaign)(void))
{
    int i;

    if (argc != 3) {
        fprintf(stderr, "usage: %s --slice|--full DIRECTORY\n", argv[0]);
        exit(2);
    }
    full = strcmp(argv[1], "--full") == 0;
    campaign_start();
    for (i = 0; i < 2; i++) {
        snprintf(dir_path[i], sizeof(dir_path[i]), "%s/%d", argv[2], i);
        need(mkdir(dir_path[i], 0700) == 0, "make a directory");
    }
    for (i = 0; i < (full ? ELEMENTS(scenarios) : SLICE); i++) {
        scenario = &scenarios[i];
        set_up_scenario();
        campaign();
        apr_pool_destroy(setup);
    }
}

#endif /* SLOTMEM_WORLD_H */

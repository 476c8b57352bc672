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
 * fuzz_calls.c: a libFuzzer target for the whole module, call by call, with a
 * simple model that says what each call must answer.
 *
 * The input is a life of the server: configuration passes that fail or reach
 * the MPM, with or without SlotmemPersistDir; calls of consumers in
 * post_config, at run time, in a child and in cleanups of pconf; checkpoints
 * that are complete or cut short; kills of the parent; files that are damaged
 * between two generations or removed during one; and scribbles over shared
 * memory. It all runs in one process; this file plays httpd.
 *
 * For each input: every answer, every byte of every slot, the number of free
 * slots, and the numbers of error lines and warnings are the model's; a
 * generation that does not reach the MPM changes no file; each store writes the
 * bytes that a simple encoder writes, or, after scribbles, a file that can be
 * restored; a refused file is kept; files are not written again without a
 * change; memory, shared memory and file descriptors are released.
 *
 *   generations and passes  [B1][B2][B6][B10]
 *   names                   [C1][C2][C3][C4]
 *   the provider's calls    [D1][D2][D3][D4][D5][D6][D7][D8][D9]
 *   the file, and claims    [E1][E2][E3][E5]
 */

#include <sys/mman.h>

#include "fuzz.h"

#include "apr_hooks.h"

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_core.h"
#include "http_request.h"
#include "ap_mpm.h"
#include "mpm_common.h"
#include "scoreboard.h"
#include "unixd.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "slotmem_carried.h"
#include "slotmem_lock.h"
#include "slotmem_process.h"
#include "slotmem_orphans.h"
#include "slotmem_proxy_merge.h"
#include "slotmem_shm_dir.h"

#include "slotmem_export.h"
#include "slotmem_page.h"
#include "slotmem_status.h"

extern module AP_MODULE_DECLARE_DATA slotmem_shm_module;

/* ---- the functions of httpd ---- */

AP_DECLARE_DATA server_rec *ap_server_conf;
AP_DECLARE_DATA apr_pool_t *ap_pglobal;

static const ap_slotmem_provider_t *shm;
static ap_HOOK_pre_config_t *pre_config;
static ap_HOOK_post_config_t *post_config;
static ap_HOOK_pre_mpm_t *pre_mpm;
static ap_HOOK_optional_fn_retrieve_t *optional_fn_retrieve;
static ap_HOOK_monitor_t *monitor;
static ap_HOOK_child_init_t *child_init;
static ap_HOOK_child_status_t *child_status;
static ap_HOOK_drop_privileges_t *drop_privileges;

#define HOOKED(name, order) name = pf, (void)order
#include "httpd_stubs.h"

void ap_allow_standard_methods(request_rec *r, int reset, ...)
{
    (void)r;
    (void)reset;
}

void slotmem_proxy_reset(apr_pool_t *pool)
{
    (void)pool;
}

/* There is no mod_proxy: the lookup finds nothing, and the functions after it
 * are never called. */
slotmem_proxy_t *slotmem_proxy_lookup(const char *name,
                                      const slotmem_geometry_t *geometry)
{
    (void)name;
    (void)geometry;
    return NULL;
}

void slotmem_proxy_merge(slotmem_proxy_merged_t *merged,
                         slotmem_proxy_t *proxy, slotmem_segment_t *segment,
                         slotmem_word_t *config_claims, slotmem_image_t *image,
                         const slotmem_removal_t *removal, const char *kept,
                         apr_pool_t *pool)
{
    (void)merged;
    (void)proxy;
    (void)segment;
    (void)config_claims;
    (void)image;
    (void)removal;
    (void)kept;
    (void)pool;
    abort();
}

void slotmem_proxy_words(slotmem_proxy_t *proxy, const char **words,
                         apr_size_t *words_len, const char **labels,
                         apr_size_t *labels_len, apr_pool_t *pool)
{
    (void)proxy;
    (void)words;
    (void)words_len;
    (void)labels;
    (void)labels_len;
    (void)pool;
    abort();
}

void slotmem_proxy_stamp(const slotmem_proxy_t *proxy, apr_size_t *at,
                         apr_size_t *len)
{
    (void)proxy;
    *at = *len = 0;
}

/* They read and write files on which no call depends. */
void slotmem_orphans_find(apr_pool_t *pool)
{
    (void)pool;
}

void slotmem_orphans_write_names(apr_pool_t *pool)
{
    (void)pool;
}

void slotmem_status_reset(apr_pool_t *pool)
{
    (void)pool;
}

void slotmem_status_add(const slotmem_segment_t *segment, const char *name,
                        const slotmem_persist_entry_t *persist)
{
    (void)segment;
    (void)name;
    (void)persist;
}

void slotmem_page_write(request_rec *r, int with_table)
{
    (void)r;
    (void)with_table;
}

void slotmem_export_auto(request_rec *r)
{
    (void)r;
}

int slotmem_export_answer(request_rec *r)
{
    (void)r;
    return DECLINED;
}

apr_status_t ap_register_provider(apr_pool_t *pool, const char *group,
                                  const char *name, const char *version,
                                  const void *provider)
{
    (void)pool;
    (void)group;
    (void)name;
    (void)version;
    shm = provider;
    return APR_SUCCESS;
}

static int main_state;
static int config_generation;
static int has_scoreboard;
static uint32_t errors;
static uint32_t warnings;
static char last_line[4096];

int ap_state_query(int query)
{
    MUST(query == AP_SQ_MAIN_STATE || query == AP_SQ_CONFIG_GEN
         || query == AP_SQ_RUN_MODE);
    if (query == AP_SQ_RUN_MODE) {
        return AP_SQ_RM_NORMAL;
    }
    return query == AP_SQ_MAIN_STATE ? main_state : config_generation;
}

/* The values of two keys. */
static struct {
    const char *key;
    _Alignas(16) char data[512];
} retained[2];

void *ap_retained_data_get(const char *key)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        if (retained[i].key && strcmp(retained[i].key, key) == 0) {
            return retained[i].data;
        }
    }
    return NULL;
}

void *ap_retained_data_create(const char *key, apr_size_t size)
{
    size_t i = retained[0].key != NULL;

    MUST(!retained[i].key && size <= sizeof(retained[i].data));
    retained[i].key = key;
    return retained[i].data;
}

/* Only child_status asks for it, which does not run here. */
apr_status_t ap_mpm_query(int query, int *result)
{
    (void)query;
    (void)result;
    return APR_ENOTIMPL;
}

int ap_exists_scoreboard_image(void)
{
    return has_scoreboard;
}

void ap_log_error_(const char *file, int line, int module_index, int level,
                   apr_status_t status, const server_rec *s, const char *fmt,
                   ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)status;
    (void)s;
    va_start(args, fmt);
    apr_vsnprintf(last_line, sizeof(last_line), fmt, args);
    va_end(args);
    if (getenv("FUZZ_LOG")) {
        fprintf(stderr, "log %d: %s\n", level & APLOG_LEVELMASK, last_line);
    }
    errors += (level & APLOG_LEVELMASK) <= APLOG_ERR;
    warnings += (level & APLOG_LEVELMASK) == APLOG_WARNING;
}

static char runtime_dir[280];
static char persist_dir[280];

char *ap_runtime_dir_relative(apr_pool_t *p, const char *file)
{
    return apr_pstrcat(p, runtime_dir, "/", file, NULL);
}

/* The clock stands still. */
static apr_time_t now;

apr_time_t __wrap_apr_time_now(void);
apr_time_t __wrap_apr_time_now(void)
{
    return now;
}

apr_time_t __wrap_slotmem_monotonic_now(void);
apr_time_t __wrap_slotmem_monotonic_now(void)
{
    return now;
}

pid_t __real_getpid(void);

/* The storing process runs at once, in this process, and has then ended. */
apr_status_t __wrap_slotmem_process_start(slotmem_process_t *process,
                                          apr_size_t num,
                                          void (*work)(slotmem_note_t *notes,
                                                       apr_pool_t *pool));
apr_status_t __wrap_slotmem_process_start(slotmem_process_t *process,
                                          apr_size_t num,
                                          void (*work)(slotmem_note_t *notes,
                                                       apr_pool_t *pool))
{
    apr_pool_t *pool;

    memset(process, 0, sizeof(*process));
    process->num = num;
    process->notes = mmap(NULL, (num ? num : 1) * sizeof(slotmem_note_t),
                          PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                          -1, 0);
    MUST(process->notes != MAP_FAILED);
    apr_pool_create(&pool, NULL);
    work(process->notes, pool);
    apr_pool_destroy(pool);
    process->proc.pid = __real_getpid();
    process->ended = 1;
    return APR_SUCCESS;
}

/* With another pid the code behaves as in a forked process, which must not
 * change anything of the parent's. */
static int elsewhere;

pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
    return __real_getpid() + elsewhere;
}

/* Pools without a parent live as long as their process; here they live as long
 * as the generation. */
#define POOLS 32
static apr_pool_t *pools[POOLS];

static apr_status_t forget_pool(void *data)
{
    *(apr_pool_t **)data = NULL;
    return APR_SUCCESS;
}

apr_status_t __real_apr_pool_create_unmanaged_ex(apr_pool_t **pool,
                                                 apr_abortfunc_t abort_fn,
                                                 apr_allocator_t *allocator);
apr_status_t __wrap_apr_pool_create_unmanaged_ex(apr_pool_t **pool,
                                                 apr_abortfunc_t abort_fn,
                                                 apr_allocator_t *allocator);
apr_status_t __wrap_apr_pool_create_unmanaged_ex(apr_pool_t **pool,
                                                 apr_abortfunc_t abort_fn,
                                                 apr_allocator_t *allocator)
{
    apr_status_t rv = __real_apr_pool_create_unmanaged_ex(pool, abort_fn,
                                                          allocator);
    int i = 0;

    while (pools[i]) {
        MUST(++i < POOLS);
    }
    pools[i] = *pool;
    apr_pool_cleanup_register(*pool, &pools[i], forget_pool,
                              apr_pool_cleanup_null);
    return rv;
}

/* Returns their number. */
static int destroy_pools(void)
{
    int num = 0;
    int i;

    for (i = 0; i < POOLS; i++) {
        if (pools[i]) {
            apr_pool_destroy(pools[i]);
            num++;
        }
    }
    return num;
}

/* ---- the input ---- */

static const uint8_t *input;
static size_t input_left;

static uint32_t take(void)
{
    if (!input_left) {
        return 0;
    }
    input_left--;
    return *input++;
}

#define PICK(table) table[take() % (sizeof(table) / sizeof(*table))]

/* ---- the model ---- */

typedef struct model_t {
    ap_slotmem_instance_t *inst;
    fuzz_shape_t shape;
    const char *path;               /* NULL: anonymous */
    int is_kept;                    /* it has a file */
    int is_runtime;                 /* the child created it */
    int has_claims;                 /* it has a file and CLEARINUSE */
    int is_scribbled;               /* only safety can be checked */
    int full_logged;
    pid_t said_size;                /* the process that logged it last */
    pid_t said_num;
    uint8_t *base;                  /* the slots in shared memory */
    size_t area;                    /* their size in bytes */
    uint8_t *slots;
    uint8_t *used;
    uint8_t *config_claims;
    uint8_t *refused;               /* the bytes of the refused file */
    size_t refused_len;
    uint8_t *last;                  /* the known bytes of the file, or NULL */
    size_t last_len;
    ino_t last_inode;
} model_t;

#define MODELS 12
static model_t models[MODELS];
static int models_num;

static int in_child;
static int uses_persist_dir;

static const char *names[] = {
    "a", "b", "c.d-e", NULL, "", "none", "NoNe", "/abs", "/alias-of-a"
};

static int is_anonymous(const char *name)
{
    return !name || !*name || strcasecmp(name, "none") == 0;
}

/* The two absolute names stand for paths in our directory. */
static const char *real_name(const char *name, char *buffer, size_t len)
{
    if (name && strcmp(name, "/abs") == 0) {
        snprintf(buffer, len, "%s/abs", fuzz_dir);
        return buffer;
    }
    if (name && *name == '/') {
        snprintf(buffer, len, "%s/slotmem-shm-a.shm", runtime_dir);
        return buffer;
    }
    return name;
}

static char *path_in(const char *dir, const char *name)
{
    char *path = malloc(600);

    if (*name == '/') {
        snprintf(path, 600, "%s.persist", name);
    }
    else {
        snprintf(path, 600, "%s/slotmem-shm-%s.shm.persist", dir, name);
    }
    return path;
}

static model_t *find_model(const char *path)
{
    int i;

    for (i = 0; path && i < models_num; i++) {
        if (models[i].path && strcmp(models[i].path, path) == 0) {
            return &models[i];
        }
    }
    return NULL;
}

static uint32_t free_slots(const model_t *model)
{
    uint32_t num = 0;
    uint32_t i;

    for (i = 0; i < model->shape.num; i++) {
        num += !model->used[i];
    }
    return num;
}

static int is_configuring(void)
{
    return main_state != AP_SQ_MS_RUN_MPM
           && main_state != AP_SQ_MS_DESTROY_CONFIG
           && main_state != AP_SQ_MS_EXITING;
}

/* The number of lines that the log should have by now. */
static uint32_t errors_due;
static uint32_t warnings_due;

static void check(model_t *model)
{
    MUST(shm->num_slots(model->inst) == model->shape.num);
    MUST(shm->slot_size(model->inst) == model->shape.size);
    if (model->is_scribbled) {
        errors_due = errors;
        warnings_due = warnings;
        MUST(shm->num_free_slots(model->inst) <= model->shape.num);
        if (model->area) {
            memcpy(model->slots, model->base, model->area);
        }
        return;
    }
    MUST(errors == errors_due && warnings == warnings_due);
    MUST(shm->num_free_slots(model->inst) == free_slots(model));
    MUST(!model->area || memcmp(model->base, model->slots, model->area) == 0);
}

static void check_all(void)
{
    int i;

    for (i = 0; i < models_num; i++) {
        check(&models[i]);
    }
}

static void model_claim(model_t *model, uint32_t id)
{
    int is_new = !model->used[id];

    model->used[id] = 1;
    if (!model->has_claims) {
        return;
    }
    if (is_configuring()) {
        model->config_claims[id] = 1;
    }
    else if (is_new && !model->full_logged && free_slots(model) == 0) {
        model->full_logged = 1;
        warnings_due++;
    }
}

static uint32_t model_grab(model_t *model)
{
    uint32_t id = 0;

    while (id < model->shape.num && model->used[id]) {
        id++;
    }
    if (id == model->shape.num && model->has_claims && is_configuring()) {
        for (id = 0; id < model->shape.num && model->config_claims[id]; id++) {
        }
        warnings_due += id < model->shape.num;
    }
    if (id < model->shape.num) {
        model_claim(model, id);
    }
    return id;
}

/* ---- the files ---- */

static ino_t inode_of(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? info.st_ino : 0;
}

static void model_restore(model_t *model, const char *path)
{
    size_t len;
    uint8_t *file = fuzz_read(path, &len);
    int64_t num = fuzz_expected(file, len, model->shape, 0);
    const uint8_t *claims = NULL;
    uint64_t i;

    if (num < 0) {
        errors_due++;
        if (strcmp(path, model->path) == 0) {
            model->refused = file;
            model->refused_len = len;
        }
        else {
            free(file);
        }
        return;
    }
    if (model->has_claims) {
        claims = fuzz_claims(file, len);
    }
    for (i = 0; i < (uint64_t)num; i++) {
        model->used[i] = file[8 + model->shape.size * (uint64_t)num + i] != 0
                         || (claims && claims[i]);
    }
    memcpy(model->slots, file + 8,
           (size_t)(model->shape.size * (uint64_t)num));
    if (strcmp(path, model->path) == 0) {
        model->last = file;
        model->last_len = len;
        model->last_inode = inode_of(path);
    }
    else {
        free(file);
    }
}

static int is_kept_aside(const model_t *model)
{
    int n;

    for (n = 1; n <= 4; n++) {
        char name[620];
        size_t len;
        uint8_t *file;
        int same;

        snprintf(name, sizeof(name), "%s.bad-%d", model->path, n);
        file = fuzz_read(name, &len);
        same = file && len == model->refused_len
               && memcmp(file, model->refused, len) == 0;
        free(file);
        if (same) {
            return 1;
        }
    }
    return 0;
}

/* The number of free slots according to the in-use flags (E2). */
static void check_free_count(const model_t *model, const uint8_t *file)
{
    uint32_t due = model->shape.num;
    uint32_t found;
    uint32_t i;

    for (i = 0; i < model->shape.num; i++) {
        due -= file[8 + model->area + i];
    }
    memcpy(&found, file, 4);
    MUST(found == due);
}

/* Everything has been stored: does the file have it? */
static void check_file(model_t *model)
{
    static const fuzz_bytes_t no_words;
    ino_t inode = inode_of(model->path);
    size_t len;
    uint8_t *file = fuzz_read(model->path, &len);
    size_t expected_len;
    uint8_t *expected;

    MUST(file);
    if (model->is_scribbled) {
        MUST(fuzz_expected(file, len, model->shape, 0) == model->shape.num);
        MUST(!model->area || memcmp(file + 8, model->slots, model->area) == 0);
        MUST(!model->has_claims || fuzz_claims(file, len));
        check_free_count(model, file);
    }
    else {
        expected = fuzz_encode(model->shape, model->slots, model->used,
                               model->has_claims ? model->config_claims : NULL,
                               no_words, no_words, &expected_len);
        MUST(len == expected_len && memcmp(file, expected, len) == 0);
        free(expected);
    }
    if (model->last && len == model->last_len
        && memcmp(file, model->last, len) == 0) {
        MUST(inode == model->last_inode);
    }
    if (model->refused) {
        MUST(is_kept_aside(model));
        free(model->refused);
        model->refused = NULL;
    }
    free(model->last);
    model->last = file;
    model->last_len = len;
    model->last_inode = inode;
}

static void check_files(void)
{
    int i;

    for (i = 0; i < models_num; i++) {
        if (models[i].is_kept) {
            warnings_due += models[i].refused != NULL;
            check_file(&models[i]);
        }
    }
    MUST(errors == errors_due);
}

/* Check all persisted files, whatever their state. */
static uint32_t digest_files(void)
{
    static const char *const kept[] = { "a", "b", "c.d-e", "/abs" };
    uint32_t sum = 0;
    uint32_t i;

    for (i = 0; i < 2 * 4; i++) {
        char buffer[300];
        char *path = path_in(i & 1 ? persist_dir : runtime_dir,
                             real_name(kept[i / 2], buffer, sizeof(buffer)));
        size_t len;
        uint8_t *file = fuzz_read(path, &len);
        uint32_t digest[4];

        apr_md5((unsigned char *)digest, file ? file : (uint8_t *)"", len);
        sum = sum * 31 + digest[0] + (uint32_t)len + (file != NULL);
        sum = sum * 31 + (uint32_t)inode_of(path);
        free(file);
        free(path);
    }
    return sum;
}

/* ---- calls ---- */

static void add_model(ap_slotmem_instance_t *inst, fuzz_shape_t shape,
                      const char *name, char *path)
{
    model_t *model = &models[models_num++];
    void *slot;

    memset(model, 0, sizeof(*model));
    model->inst = inst;
    model->shape = shape;
    model->path = path;
    model->is_runtime = in_child;
    model->is_kept = path && !in_child && (shape.type & 1);
    model->has_claims = model->is_kept && (shape.type & 8);
    model->area = (size_t)(shape.size * shape.num);
    model->slots = calloc(1, model->area + 1);
    model->used = calloc(1, shape.num + 1);
    model->config_claims = calloc(1, shape.num + 1);
    if (shape.num) {
        MUST(shm->dptr(inst, 0, &slot) == APR_SUCCESS);
        MUST((uintptr_t)slot % 16 == 0);
        model->base = slot;
    }
    if (model->is_kept && inode_of(path)) {
        model_restore(model, path);
    }
    else if (model->is_kept && uses_persist_dir && *name != '/') {
        char *fallback = path_in(runtime_dir, name);

        if (inode_of(fallback)) {
            model_restore(model, fallback);
        }
        free(fallback);
    }
}

/* A process logs each line about a name once. */
static uint32_t says_now(pid_t *said)
{
    uint32_t first = *said != getpid();

    *said = getpid();
    return first;
}

static void call_create(void)
{
    static const uint64_t sizes[] = {
        4, 0, 1, 3, 8, 16, 64, 100, 544, 1456, (uint64_t)1 << 40,
        (uint64_t)1 << 62
    };
    static const uint32_t nums[] = {
        4, 0, 1, 2, 3, 5, 8, 16, 63, 64, 65, 100, 128, 129, 1023, 1024, 1025,
        1100, 4200
    };
    char buffer[300];
    const char *name = real_name(PICK(names), buffer, sizeof(buffer));
    char *path = is_anonymous(name)
                 ? NULL
                 : path_in(uses_persist_dir ? persist_dir : runtime_dir, name);
    fuzz_shape_t shape;
    ap_slotmem_instance_t *inst = (void *)0x51;
    model_t *found = find_model(path);
    apr_status_t rv;

    shape.size = PICK(sizes);
    shape.num = PICK(nums);
    shape.type = take() & 15;
    if (shape.size < 2000 && shape.size * shape.num > 100000) {
        shape.num = 7;
    }
    if (models_num == MODELS && !found) {
        free(path);
        return;
    }
    rv = shm->create(&inst, name, (apr_size_t)shape.size, shape.num,
                     (ap_slotmem_type_t)shape.type, NULL);
    if (found) {
        if (found->shape.size == shape.size) {
            MUST(rv == APR_SUCCESS && inst == found->inst);
            warnings_due += shape.num > found->shape.num
                            && says_now(&found->said_num);
        }
        else {
            MUST(rv == APR_EINVAL && !inst);
            errors_due += says_now(&found->said_size);
        }
    }
    else if (shape.size > 2000 && shape.num) {
        __extension__ unsigned __int128 area = shape.size;

        area *= shape.num;
        MUST(!inst);
        if (area >> 63) {
            MUST(rv == APR_EINVAL);
        }
        else {              /* the error for memory, or for a name's file */
            MUST(rv == APR_ENOMEM || rv == APR_ENOSPC || rv == EFBIG);
        }
        errors_due++;
    }
    else {
        MUST(rv == APR_SUCCESS && inst);
        add_model(inst, shape, name, path);
        check(&models[models_num - 1]);
        return;
    }
    MUST(errors == errors_due);
    if (found) {
        check(found);
    }
    free(path);
}

static void call_attach(void)
{
    char buffer[300];
    const char *name = real_name(PICK(names), buffer, sizeof(buffer));
    char *path = is_anonymous(name)
                 ? NULL
                 : path_in(uses_persist_dir ? persist_dir : runtime_dir, name);
    model_t *found = find_model(path);
    ap_slotmem_instance_t *inst = (void *)0x51;
    apr_size_t size = 0x52;
    unsigned int num = 0x53;
    apr_status_t rv = shm->attach(&inst, name, &size, &num, NULL);

    if (found) {
        MUST(rv == APR_SUCCESS && inst == found->inst);
        MUST(size == found->shape.size && num == found->shape.num);
    }
    else {
        MUST(rv != APR_SUCCESS && inst == (void *)0x51);
        MUST(size == 0x52 && num == 0x53);
    }
    MUST(errors == errors_due && warnings == warnings_due);
    free(path);
}

static uint32_t pick_id(const model_t *model)
{
    uint32_t kind = take();

    switch (kind % 4) {
    case 0:
        return model->shape.num - (kind >> 6);  /* often past the end */
    case 1:
        return kind >> 6 ? UINT32_MAX - (kind >> 2) : model->shape.num / 2;
    default:
        return take() + (kind >> 4) * (kind & 4 ? 64 : 0);
    }
}

static void call_grab(model_t *model)
{
    uint32_t times = take();
    uint32_t id = 0;

    for (times = times < 200 ? 1 : (times - 199) * 80; times; times--) {
        apr_status_t rv = shm->grab(model->inst, &id);

        MUST(id <= model->shape.num);
        MUST(rv == (id < model->shape.num ? APR_SUCCESS : APR_EINVAL));
        if (!model->is_scribbled) {
            MUST(id == model_grab(model));
        }
        if (rv != APR_SUCCESS) {
            break;
        }
    }
}

static void call_fgrab(model_t *model)
{
    uint32_t id = pick_id(model);
    apr_status_t rv = shm->fgrab(model->inst, id);

    MUST(rv == (id < model->shape.num ? APR_SUCCESS : APR_EINVAL));
    if (id < model->shape.num) {
        model_claim(model, id);
    }
}

static void call_release(model_t *model)
{
    uint32_t id = pick_id(model);
    apr_status_t rv = shm->release(model->inst, id);

    if (id >= model->shape.num) {
        MUST(rv == APR_EINVAL);
    }
    else {
        MUST(model->is_scribbled
             || rv == (model->used[id] ? APR_SUCCESS : APR_NOTFOUND));
        model->used[id] = 0;
    }
}

/* get and put, with lengths that end in the slots, at their end, or not. */
static void call_copy(model_t *model, int is_put)
{
    uint32_t id = pick_id(model);
    uint32_t kind = take();
    uint64_t room = id < model->shape.num
                    ? (model->shape.num - id) * model->shape.size : 64;
    uint64_t len = kind % 8 == 0 ? room
                   : kind % 8 == 1 ? room + 1
                   : kind % 8 == 2 ? UINT64_MAX - kind
                   : kind % 8 == 3 ? 0
                   : kind % 8 == 4 ? kind : model->shape.size;
    uint64_t held = len > room ? 0 : len;
    uint8_t *buffer = malloc(held + !held);
    size_t at = id * model->shape.size;
    apr_status_t expected = APR_SUCCESS;
    apr_status_t rv;

    memset(buffer, (int)take(), held);
    rv = is_put ? shm->put(model->inst, id, buffer, (apr_size_t)len)
                : shm->get(model->inst, id, buffer, (apr_size_t)len);
    if (id >= model->shape.num) {
        expected = APR_EINVAL;
    }
    else if ((model->shape.type & 4) && !model->used[id]) {
        expected = APR_NOTFOUND;
    }
    else if (len > room) {
        expected = APR_EINVAL;
    }
    if (!model->is_scribbled) {
        MUST(rv == expected);
        if (rv == APR_SUCCESS) {
            model_claim(model, id);
            if (is_put) {
                memcpy(model->slots + at, buffer, held);
            }
            MUST(memcmp(model->slots + at, buffer, held) == 0);
        }
    }
    MUST(rv != APR_SUCCESS || (id < model->shape.num && len <= room));
    free(buffer);
}

static void call_dptr(model_t *model)
{
    uint32_t id = pick_id(model);
    void *slot = (void *)0x51;
    apr_status_t rv = shm->dptr(model->inst, id, &slot);

    if (id >= model->shape.num) {
        MUST(rv == APR_EINVAL);
        return;
    }
    MUST(rv == APR_SUCCESS);
    MUST((uint8_t *)slot == model->base + id * model->shape.size);
    memset(slot, (int)take(), (size_t)model->shape.size);
    memcpy(model->slots + id * model->shape.size, slot,
           (size_t)model->shape.size);
}

/* A doall over the slots, with calls from its callback. */
typedef struct walk_t {
    model_t *model;
    uint32_t next;
    uint32_t visits;
    uint32_t ends_after;
    uint32_t calls_at;
} walk_t;

static apr_status_t visit(void *slot, void *data, apr_pool_t *pool)
{
    walk_t *walk = data;
    model_t *model = walk->model;
    uint8_t *at = slot;
    uint32_t id = walk->next;

    MUST(pool == (apr_pool_t *)0x54);
    MUST(at >= model->base && at + model->shape.size
                              <= model->base + model->area);
    if (!model->is_scribbled) {
        while ((model->shape.type & 4) && id < model->shape.num
               && !model->used[id]) {
            id++;
        }
        MUST(id < model->shape.num);
        MUST(at == model->base + id * model->shape.size);
        walk->next = id + 1;
    }
    walk->visits++;
    if (walk->visits == walk->calls_at) {
        call_release(model);
        call_fgrab(model);
    }
    return walk->visits == walk->ends_after ? 12345 : APR_SUCCESS;
}

static void call_doall(model_t *model)
{
    walk_t walk = { model, 0, 0, take(), take() };
    apr_status_t rv = shm->doall(model->inst, visit, &walk,
                                 (apr_pool_t *)0x54);

    MUST(rv == (walk.ends_after && walk.visits == walk.ends_after
                ? 12345 : APR_SUCCESS));
    MUST(walk.visits <= model->shape.num);
    if (rv == APR_SUCCESS && !model->is_scribbled) {
        for (; walk.next < model->shape.num; walk.next++) {
            MUST((model->shape.type & 4) && !model->used[walk.next]);
        }
    }
}

static void call_without_instance(void)
{
    unsigned int id;
    void *slot;
    unsigned char byte = 0;

    MUST(shm->num_slots(NULL) == 0 && shm->num_free_slots(NULL) == 0
         && shm->slot_size(NULL) == 0);
    MUST(shm->grab(NULL, &id) == APR_ENOSHMAVAIL);
    MUST(shm->fgrab(NULL, 0) == APR_ENOSHMAVAIL);
    MUST(shm->release(NULL, 0) == APR_ENOSHMAVAIL);
    MUST(shm->dptr(NULL, 0, &slot) == APR_ENOSHMAVAIL);
    MUST(shm->get(NULL, 0, &byte, 1) == APR_ENOSHMAVAIL);
    MUST(shm->put(NULL, 0, &byte, 1) == APR_ENOSHMAVAIL);
    MUST(shm->doall(NULL, visit, NULL, NULL) == APR_ENOSHMAVAIL);
}

/* A child writes anywhere: header, map, slots. */
static void scribble(model_t *model)
{
    static const uint8_t patterns[] = { 0xff, 0, 1, 0x80, 0x7f, 0x55 };
    uint32_t kind = take();
    apr_shm_t *block = fuzz_shms;
    size_t room;
    size_t at;
    size_t len;

    while (block && !(model->base > block->used
                      && model->base <= block->block + block->len)) {
        block = block->next;
    }
    if (!model->shape.num || !block) {
        return;
    }
    room = block->len - (size_t)(block->used - block->block);
    at = kind % 4 == 0 ? 0 : kind % 4 == 1 ? take() : take() | take() << 8;
    at %= room;
    len = kind % 4 == 0 ? room : take();
    if (len > room - at) {
        len = room - at;
    }
    memset(block->used + at, PICK(patterns), len);
    model->is_scribbled = 1;
}

static void call_checkpoint(void)
{
    now += apr_time_from_sec(31 + take());
    monitor(NULL, ap_server_conf);
    monitor(NULL, ap_server_conf);      /* collects its result */
    check_files();
    warnings_due = warnings;    /* of refused files, at some tick */
    check_all();
}

static void remove_file(model_t *model)
{
    if (model->is_kept && !model->refused) {
        unlink(model->path);
        free(model->last);
        model->last = NULL;
    }
}

/* May the calls create segments, and does the MPM run? */
enum { MAY_CREATE = 1, RUNS = 2 };

static void call(uint32_t op, int what)
{
    model_t *model;

    if (op % 16 == 0 && (what & MAY_CREATE)) {
        call_create();
        return;
    }
    if (op == 1) {
        call_without_instance();
        return;
    }
    if (op == 17 && (what || !in_child)) {
        call_attach();
        return;
    }
    if (op % 16 == 2 && (what & RUNS)) {
        call_checkpoint();
        return;
    }
    if (!models_num) {
        return;
    }
    model = &models[(op >> 4) % (uint32_t)models_num];
    switch (op % 16) {
    case 3:
        call_release(model);
        break;
    case 4: case 5:
        call_copy(model, 1);
        break;
    case 6:
        call_copy(model, 0);
        break;
    case 7:
        call_dptr(model);
        break;
    case 8:
        call_doall(model);
        break;
    case 9: case 10:
        call_fgrab(model);
        break;
    case 11:
        if (what & RUNS) {
            if (op & 16) {
                scribble(model);
            }
            else {
                remove_file(model);
            }
        }
        break;
    default:
        call_grab(model);
        break;
    }
    check(model);
}

/* Make calls until 0xff, or the end of the input. */
static void calls(int what)
{
    uint32_t op;

    while (input_left && (op = take()) != 0xff) {
        call(op, what);
    }
    check_all();
}

/* ---- generations ---- */

static apr_status_t consumers_cleanup(void *data)
{
    (void)data;
    if (!elsewhere) {
        calls(0);
    }
    return APR_SUCCESS;
}

static void forget_models(void)
{
    int i;

    for (i = 0; i < models_num; i++) {
        free((char *)(uintptr_t)models[i].path);
        free(models[i].slots);
        free(models[i].used);
        free(models[i].config_claims);
        free(models[i].refused);
        free(models[i].last);
    }
    models_num = 0;
}

static void configure(apr_pool_t *pconf, int with_persist_dir)
{
    main_state = AP_SQ_MS_CREATE_CONFIG;
    config_generation++;
    has_scoreboard = 0;
    in_child = 0;
    uses_persist_dir = 0;
    MUST(pre_config(pconf, pconf, pconf) == OK);
    if (with_persist_dir) {
        const command_rec *command = slotmem_shm_module.cmds;
        cmd_parms parms;

        memset(&parms, 0, sizeof(parms));
        parms.pool = parms.temp_pool = pconf;
        parms.server = ap_server_conf;
        parms.cmd = command;
        MUST(command->AP_TAKE1(&parms, NULL, persist_dir) == NULL);
        uses_persist_dir = 1;
    }
    apr_pool_cleanup_register(pconf, NULL, consumers_cleanup,
                              apr_pool_cleanup_null);
}

/* End the generation, and check that it has released everything. */
static void end(apr_pool_t *pconf, int is_killed)
{
    int expected = in_child;    /* one, plus one per segment created there */
    int left;
    int i;

    for (i = 0; i < models_num; i++) {
        expected += models[i].is_runtime;
    }
    main_state = AP_SQ_MS_DESTROY_CONFIG;
    elsewhere = is_killed;
    apr_pool_clear(pconf);
    elsewhere = 0;
    if (is_killed) {            /* the end of the process closes them */
        slotmem_directory_reset(NULL);
    }
    left = destroy_pools();
    MUST(is_killed || left == expected);
    MUST(!fuzz_shms);
}

static void check_unconfigured(void)
{
    ap_slotmem_instance_t *inst = (void *)0x51;

    MUST(shm->create(&inst, "a", 4, 4, 0, NULL) == APR_ENOSHMAVAIL && !inst);
}

static void run_generation(apr_pool_t *pconf, uint32_t flags, int is_killed)
{
    apr_pool_t *pchild;
    uint32_t digest = digest_files();

    configure(pconf, flags & 1);
    calls(MAY_CREATE);
    MUST(post_config(pconf, pconf, pconf, ap_server_conf) == OK);
    calls(MAY_CREATE);
    has_scoreboard = (flags & 2) && (flags & 12);
    MUST(digest_files() == digest);
    if (flags & 14) {
        optional_fn_retrieve();     /* a start may fail after it */
    }
    if (flags & 12) {
        if (!has_scoreboard || (flags & 16)) {
            MUST(pre_mpm(pconf, SB_SHARED) == OK);
        }
        main_state = AP_SQ_MS_RUN_MPM;
        calls(RUNS);
    }
    if ((flags & 12) == 12) {
        apr_pool_create(&pchild, NULL);
        in_child = 1;
        child_init(pchild, ap_server_conf);
        calls(MAY_CREATE | RUNS);
        apr_pool_destroy(pchild);
    }
    end(pconf, is_killed);
    if (!(flags & 12)) {
        MUST(digest_files() == digest);
    }
    else if (!is_killed) {
        check_files();
    }
}

/* Damage a file while no server runs. */
static void damage(void)
{
    static const char *const kept[] = { "a", "b", "c.d-e", "/abs" };
    char buffer[300];
    char *path = path_in(take() & 1 ? persist_dir : runtime_dir,
                         real_name(PICK(kept), buffer, sizeof(buffer)));
    uint32_t kind = take();
    size_t at = take() | take() << 8;
    size_t len;
    uint8_t *file = fuzz_read(path, &len);

    if (file) {
        at = len ? len - 1 - at % len : 0;
        switch (kind % 6) {
        case 0:
            unlink(path);
            break;
        case 1:
            fuzz_write(path, file, at);
            break;
        case 2:                     /* releases before 2.4.34 */
            fuzz_write(path, file, len < 16 ? 0 : len - 16);
            break;
        case 3:                     /* other bytes follow it */
            file[len] = (uint8_t)kind;
            fuzz_write(path, file, len + 1);
            break;
        default:
            if (len) {
                file[at] ^= (uint8_t)(kind | 1);
                fuzz_write(path, file, len);
            }
            break;
        }
    }
    free(file);
    free(path);
}

static void live(void)
{
    apr_pool_t *pconf;
    uint32_t had_persist_dir = 0;
    int is_damaged = 0;
    int generation;

    apr_pool_create(&pconf, NULL);
    for (generation = 0; generation < 8 && input_left; generation++) {
        uint32_t flags = take();
        int is_killed = (flags & 12) && (flags & 0xe0) == 0xe0;

        /* The model knows only files: with another directory, or after damage,
         * the server has been stopped and not restarted. */
        if (is_damaged || (flags & 1) != had_persist_dir) {
            slotmem_carried_free_copies();
        }
        is_damaged = (flags & 0x80) != 0;
        had_persist_dir = flags & 1;
        check_unconfigured();
        if ((flags & 0x60) == 0x20) {
            uint32_t digest = digest_files();

            configure(pconf, flags & 1);
            calls(MAY_CREATE);
            MUST(post_config(pconf, pconf, pconf, ap_server_conf) == OK);
            calls(MAY_CREATE);
            end(pconf, 0);
            MUST(digest_files() == digest);
            forget_models();
        }
        run_generation(pconf, flags, is_killed);
        forget_models();
        errors_due = errors;
        warnings_due = warnings;
        if (is_killed) {            /* the process's state is gone with it */
            configure(pconf, 0);
            MUST(post_config(pconf, pconf, pconf, ap_server_conf) == OK);
            end(pconf, 0);
        }
        if (flags & 0x80) {
            damage();
        }
    }
    apr_pool_destroy(pconf);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    apr_pool_t *pool;

    (void)argc;
    (void)argv;
    fuzz_start();
    snprintf(runtime_dir, sizeof(runtime_dir), "%s/run", fuzz_dir);
    snprintf(persist_dir, sizeof(persist_dir), "%s/persist", fuzz_dir);
    MUST(mkdir(runtime_dir, 0755) == 0 && mkdir(persist_dir, 0755) == 0);
    apr_pool_create(&pool, NULL);
    apr_hook_global_pool = pool;
    slotmem_shm_module.register_hooks(pool);
    MUST(shm && pre_config && post_config && pre_mpm && optional_fn_retrieve
         && monitor && child_init && child_status && drop_privileges);
    return 0;
}

/* Remove every file that an input may have created. */
static void remove_files(void)
{
    static const char *const kept[] = { "a", "b", "c.d-e", "/abs" };
    static const char *const suffixes[] = {
        "", ".old", ".bad-1", ".bad-2", ".bad-3", ".bad-4"
    };
    uint32_t i, k;

    for (i = 0; i < 8; i++) {
        char buffer[300];
        char *path = path_in(i & 1 ? persist_dir : runtime_dir,
                             real_name(kept[i / 2], buffer, sizeof(buffer)));

        for (k = 0; k < 6; k++) {
            char name[620];

            snprintf(name, sizeof(name), "%s%s", path, suffixes[k]);
            unlink(name);
        }
        free(path);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest_fd = fuzz_lowest_fd();
    process_rec process;
    server_rec server;

    memset(&process, 0, sizeof(process));
    memset(&server, 0, sizeof(server));
    apr_pool_create(&process.pool, NULL);
    server.process = &process;
    server.log.level = APLOG_DEBUG;
    ap_server_conf = &server;
    ap_pglobal = process.pool;
    errors = warnings = errors_due = warnings_due = 0;
    now = apr_time_from_sec(1000000);
    memset(retained, 0, sizeof(retained));
    memset(retained, 0, sizeof(retained));
    input = data;
    input_left = size;

    live();

    /* As the end of the process does, here after a restart: */
    slotmem_carried_free_copies();
    slotmem_lock_start_generation(process.pool);
    slotmem_lock_release_unwanted(process.pool);
    slotmem_shm_dir_remove_all(process.pool);   /* a killed server leaves it */
    apr_pool_destroy(process.pool);
    MUST(fuzz_lowest_fd() == lowest_fd);
    remove_files();
    return 0;
}

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
 * mod_slotmem_shm.c: slots in shared memory for other modules, which survive
 * restarts in a file. The provider's functions, names to instances, and the
 * hooks; slotmem_segment.h has the memory, slotmem_persist.h the files,
 * slotmem_map.h the in-use marks. The contract is docs/contract.md.
 *
 * Lifecycle. pre_config starts each configuration pass with no instance. create
 * makes anonymous shared memory in a pool that has no parent, and restores it
 * from its persisted file; the children inherit all by fork. When pconf is
 * cleared, at a restart or stop, one cleanup stores what is persisted and
 * then gives the memory up. It was registered first, so the consumers' own
 * cleanups have run by then. Only the process that ran post_config acts on it,
 * and only a generation that reached the MPM stores. In between, the monitor
 * hook stores what has changed.
 *
 * A child that creates a new name at run time makes named shared memory
 * in a pool of the child's own; its siblings attach it by that name. None of
 * that is persisted, and the parent never sees it.
 *
 * A crash leaves the persisted files of the last store, whole, and for each
 * run-time segment of a killed creator its name in the system's shared memory.
 *
 * Concurrency. What pre_config to post_config made is constant in the children
 * and read there without a lock. Run-time names take one mutex, between
 * processes and threads. Slots and marks take none: see slotmem_map.h.
 */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "apr_hash.h"
#include "apr_general.h"
#include "apr_global_mutex.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"
#include "http_protocol.h"
#include "http_request.h"
#include "ap_mpm.h"
#include "mpm_common.h"
#include "scoreboard.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "mod_status.h"

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 9)
#error "mod_slotmem_shm needs httpd 2.4.4 or later: before it, no fgrab"
#endif

#include "mod_slotmem_shm.h"
#include "slotmem_persist.h"
#include "slotmem_status.h"

extern module AP_MODULE_DECLARE_DATA slotmem_shm_module;
APLOG_USE_MODULE(slotmem_shm);

/* Default of SlotmemCheckpointInterval, in seconds. */
#define CHECKPOINT_INTERVAL 30

/* Process-local: the API's handle. Its mapping is shared, itself never. */
struct ap_slotmem_instance_t {
    slotmem_segment_t segment;
    const char *name;           /* as created, or NULL: anonymous */
    pid_t creator;
    const char *shm_name;       /* if made or attached at run time */
    slotmem_word_t *config_claims; /* PERSIST and CLEARINUSE only: a bit for
                                   each slot that was claimed in configuration.
                                   A slot in use without one is claimed at run
                                   time. Written in the parent alone. */
    slotmem_persist_entry_t persist; /* if PERSIST; used in the parent alone */
};

/* Shared memory, anonymous, one for a generation. */
typedef struct runtime_shared_t {
    _Atomic apr_uint32_t created;   /* 1: a child has created a named segment.
                                       Set by any child, before the name can
                                       be attached; says only whether it is
                                       worth looking for one */
} runtime_shared_t;

/* Process-local. A generation's instances that were created before the MPM
 * ran, and what makes their names; children have a copy that they do not
 * change. Reset by pre_config: a module that is linked into httpd keeps its
 * static variables over a restart. */
static struct {
    apr_pool_t *pool;               /* no parent; NULL before pre_config */
    apr_hash_t *by_key;             /* see slotmem_instance_key() */
    const char *default_prefix;     /* of relative names in DefaultRuntimeDir */
    const char *prefix;             /* of relative names */
    apr_size_t prefix_len;
} instances;

/* Process-local. What children need to create segments at run time, set up by
 * post_config; and the segments that this child created or attached, set up by
 * child_init and guarded by the mutex. */
static struct {
    apr_global_mutex_t *mutex;      /* or NULL: nothing at run time */
    unsigned char secret[SLOTMEM_SECRET_LEN]; /* of the generation's run-time
                                       names */
    runtime_shared_t *shared;       /* or NULL: nothing at run time */
    apr_pool_t *pool;               /* NULL in the parent */
    apr_hash_t *by_key;             /* see slotmem_instance_key() */
} runtime;

/* Process-local. All segments that were created before the MPM ran, for the
 * status page; constant in the children. */
static apr_array_header_t *status_entries;  /* of slotmem_status_entry_t */

/* Process-local; reset by pre_config. */
static struct {
    apr_pool_t *pool;               /* no parent; NULL before pre_config */
    apr_interval_time_t checkpoint; /* SlotmemCheckpointInterval */
    pid_t parent;                   /* that ran post_config, or 0 */
} state;

/* ---- names ---- */

static int slotmem_is_anonymous(const char *name)
{
    return !name || !*name || strcasecmp(name, "none") == 0;
}

#define SLOTMEM_NAME_PREFIX "slotmem-shm-"
#define SLOTMEM_NAME_SUFFIX ".shm"

/* Of what siblings call the memory of a name. */
#ifdef __linux__
#define SHM_NAME_PREFIX "/dev/shm/" SLOTMEM_NAME_PREFIX
#else
#define SHM_NAME_PREFIX "/tmp/" SLOTMEM_NAME_PREFIX
#endif

static void slotmem_instance_set_prefix(const char *prefix)
{
    instances.prefix = prefix;
    instances.prefix_len = strlen(prefix);
}

/* The key of a name. That of an absolute name is the name, unless a relative
 * one has that file; then, and for relative names, it is the relative name.
 * Points into name. */
static const char *slotmem_instance_key(const char *name, apr_ssize_t *len)
{
    apr_size_t suffix = strlen(SLOTMEM_NAME_SUFFIX);
    apr_size_t name_len = strlen(name);

    *len = (apr_ssize_t)name_len;
    if (*name == '/' && name_len > instances.prefix_len + suffix
        && strncmp(name, instances.prefix, instances.prefix_len) == 0
        && strcmp(name + name_len - suffix, SLOTMEM_NAME_SUFFIX) == 0) {
        *len = (apr_ssize_t)(name_len - instances.prefix_len - suffix);
        return name + instances.prefix_len;
    }
    return name;
}

/* The path that a name stands for (C2, C3), without SLOTMEM_FILE_SUFFIX. */
static const char *path_of(const char *name, apr_pool_t *pool)
{
    return *name == '/' ? apr_pstrdup(pool, name)
                        : apr_pstrcat(pool, instances.prefix, name,
                                      SLOTMEM_NAME_SUFFIX, NULL);
}

/* ---- claims ---- */

/* Configuration is all that happens before the MPM runs, in whatever process:
 * a child's calls, and those under -X, are made at run time. */
static int is_configuring(void)
{
    return ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_RUN_MPM;
}

/* One warning a generation, from whichever process is first. */
static void warn_when_full(ap_slotmem_instance_t *inst)
{
    if (slotmem_map_count_free(&inst->segment.map)
        || atomic_exchange(&inst->segment.header->full_logged, 1)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 SLOTMEM_TAG(01)
                 "segment %s: the last of its %u slots is taken; for room, "
                 "raise the number of slots (BalancerGrowth or growth=), or "
                 "stop the server and remove %s", inst->name,
                 inst->segment.geometry.item_num, inst->persist.path);
}

/* A slot of a segment that is stored without its marks was claimed, anew or
 * again: note by whom (E2). */
static void record_claim(ap_slotmem_instance_t *inst, apr_uint32_t id,
                         int newly)
{
    if (is_configuring()) {
        slotmem_bit_set(inst->config_claims, id);
    }
    else if (newly) {
        warn_when_full(inst);
    }
}

static void claim(ap_slotmem_instance_t *inst, apr_uint32_t id)
{
    int newly = slotmem_map_set(&inst->segment.map, id);

    if (inst->config_claims) {
        record_claim(inst, id, newly);
    }
}

/* No slot is free while configuring: take the lowest that was claimed at run
 * time, so that a start never fails for want of it (E2).
 * Returns the number of slots when there is none. */
static apr_uint32_t steal_runtime_slot(ap_slotmem_instance_t *inst)
{
    apr_uint32_t num = inst->segment.geometry.item_num;
    apr_uint32_t id;

    for (id = 0; id < num; id++) {
        if (!slotmem_bit_test(inst->config_claims, id)) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                         SLOTMEM_TAG(02)
                         "segment %s: all %u slots are taken; slot %u, which "
                         "was claimed at run time, goes to the configuration",
                         inst->name, num, id);
            return id;
        }
    }
    return num;
}

/* ---- instances ---- */

static const char *display_name(const char *name)
{
    return slotmem_is_anonymous(name) ? "(anonymous)" : name;
}

/* The one constructor: a segment that is new or, with attach, a sibling's.
 * pool: for the handle and the memory */
static apr_status_t slotmem_instance_create(ap_slotmem_instance_t **created,
                                  const char *name,
                                  const slotmem_geometry_t *geometry,
                                  const slotmem_shm_name_t *shm_name,
                                  int attach, apr_pool_t *pool)
{
    ap_slotmem_instance_t *inst = apr_pcalloc(pool, sizeof(*inst));
    apr_status_t rv;

    inst->creator = getpid();
    rv = attach ? slotmem_segment_attach(&inst->segment, &inst->creator,
                                         shm_name, pool)
                : slotmem_segment_create(&inst->segment, geometry, shm_name,
                                         pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!slotmem_is_anonymous(name)) {
        inst->name = apr_pstrdup(pool, name);
    }
    if (shm_name) {
        inst->shm_name = apr_pstrdup(pool, shm_name->name);
    }
    *created = inst;
    return APR_SUCCESS;
}

static void slotmem_instance_log_failure(apr_status_t rv, const char *name,
                            const slotmem_geometry_t *geometry)
{
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                 APLOGNO(02611) SLOTMEM_TAG(03)
                 "segment %s: cannot create %u slots of %" APR_SIZE_T_FMT
                 " bytes", display_name(name), geometry->item_num,
                 geometry->item_size);
}

static void slotmem_instance_register(apr_hash_t *table,
                              ap_slotmem_instance_t *inst)
{
    apr_ssize_t len;
    const char *key = slotmem_instance_key(inst->name, &len);

    apr_hash_set(table, key, len, inst);
}

/* Does an instance that exists serve a create of the same name (C4)? */
static apr_status_t slotmem_instance_check_reuse(
    const ap_slotmem_instance_t *inst, const slotmem_geometry_t *requested)
{
    const slotmem_geometry_t *has = &inst->segment.geometry;

    if (has->item_size != requested->item_size) {
        ap_log_error(APLOG_MARK, APLOG_ERR, APR_EINVAL, ap_server_conf,
                     SLOTMEM_TAG(04)
                     "segment %s exists with %u slots of %" APR_SIZE_T_FMT
                     " bytes; it cannot serve for %u slots of %"
                     APR_SIZE_T_FMT " bytes", inst->name, has->item_num,
                     has->item_size, requested->item_num, requested->item_size);
        return APR_EINVAL;
    }
    if (has->item_num < requested->item_num) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(05)
                     "segment %s exists with %u slots of %" APR_SIZE_T_FMT
                     " bytes; who asks for %u slots of %" APR_SIZE_T_FMT
                     " bytes gets those: are there two names that differ "
                     "only in a few characters?", inst->name, has->item_num,
                     has->item_size, requested->item_num, requested->item_size);
    }
    return APR_SUCCESS;
}

static ap_slotmem_instance_t *slotmem_instance_lookup(apr_hash_t *table,
                                              const char *name)
{
    apr_ssize_t len;
    const char *key = slotmem_instance_key(name, &len);

    return apr_hash_get(table, key, len);
}

/* ---- create and attach: before the MPM runs ---- */

static apr_status_t slotmem_instance_persist(ap_slotmem_instance_t *inst)
{
    const slotmem_geometry_t *geometry = &inst->segment.geometry;

    if (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE) {
        inst->config_claims =
            slotmem_calloc(state.pool, sizeof(*inst->config_claims)
                                       * slotmem_map_words(geometry->item_num));
        if (!inst->config_claims) {
            return APR_ENOMEM;
        }
    }
    inst->persist.segment = &inst->segment;
    inst->persist.name = inst->name;
    inst->persist.config_claims = inst->config_claims;
    inst->persist.path = apr_pstrcat(
        state.pool, path_of(inst->name, state.pool), SLOTMEM_FILE_SUFFIX, NULL);
    if (*inst->name != '/'
        && strcmp(instances.prefix, instances.default_prefix) != 0) {
        inst->persist.fallback
            = apr_pstrcat(state.pool, instances.default_prefix, inst->name,
                          SLOTMEM_NAME_SUFFIX, SLOTMEM_FILE_SUFFIX, NULL);
    }
    slotmem_persist_add(&inst->persist);
    return APR_SUCCESS;
}

static void slotmem_status_add(const ap_slotmem_instance_t *inst)
{
    slotmem_status_entry_t *entry = apr_array_push(status_entries);

    entry->segment = &inst->segment;
    entry->name = inst->name;
    entry->persist = inst->persist.path ? &inst->persist : NULL;
}

static apr_status_t create_configured(ap_slotmem_instance_t **created,
                                      const char *name,
                                      const slotmem_geometry_t *geometry)
{
    ap_slotmem_instance_t *inst;
    apr_status_t rv = slotmem_instance_create(&inst, name, geometry, NULL, 0,
                                    state.pool);

    if (rv == APR_SUCCESS && inst->name
        && (geometry->type & AP_SLOTMEM_TYPE_PERSIST)) {
        rv = slotmem_instance_persist(inst);
    }
    if (rv != APR_SUCCESS) {
        slotmem_instance_log_failure(rv, name, geometry);
        return rv;
    }
    if (inst->name) {
        slotmem_instance_register(instances.by_key, inst);
    }
    slotmem_status_add(inst);
    *created = inst;
    return APR_SUCCESS;
}

/* ---- create and attach: in a child, at run time ---- */

static apr_status_t lock_runtime(void)
{
    return runtime.mutex && runtime.shared
               ? apr_global_mutex_lock(runtime.mutex)
               : APR_ENOSHMAVAIL;
}

/* What siblings call the memory of a name: differs between servers and between
 * generations. Where APR has System V's shared memory, this is the path of a
 * file: in a folder where children can make one, whoever they run as. Others
 * can list that folder, so the name does not tell the secret, without which
 * nobody can make a segment that is attached. */
static slotmem_shm_name_t shm_name_of(const char *name, apr_pool_t *pool)
{
    slotmem_shm_name_t shm_name;
    apr_ssize_t len;
    const char *key = slotmem_instance_key(name, &len);
    apr_uint64_t digest[APR_MD5_DIGESTSIZE / sizeof(apr_uint64_t)];
    apr_md5_ctx_t md5;

    apr_md5_init(&md5);
    apr_md5_update(&md5, runtime.secret, sizeof(runtime.secret));
    apr_md5_update(&md5, key, (apr_size_t)len);
    apr_md5_final((unsigned char *)digest, &md5);
    shm_name.name = apr_psprintf(
        pool,
        SHM_NAME_PREFIX "%016" APR_UINT64_T_HEX_FMT
                        "%016" APR_UINT64_T_HEX_FMT SLOTMEM_NAME_SUFFIX,
        digest[0], digest[1]);
    shm_name.secret = runtime.secret;
    return shm_name;
}

static int has_exited(pid_t pid)
{
    return pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH);
}

/* Attach what a sibling created, if that sibling lives. Call with the lock. */
static apr_status_t attach_sibling(ap_slotmem_instance_t **inst,
                                   const char *name)
{
    slotmem_shm_name_t shm_name;
    apr_pool_t *pool;
    apr_status_t rv;

    apr_pool_create(&pool, runtime.pool);
    shm_name = shm_name_of(name, pool);
    rv = slotmem_instance_create(inst, name, NULL, &shm_name, 1, pool);
    if (rv == APR_SUCCESS && has_exited((*inst)->creator)) {
        rv = APR_ENOENT;
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return rv;
    }
    slotmem_instance_register(runtime.by_key, *inst);
    return APR_SUCCESS;
}

/* An instance of this child's, or a sibling's, by name. One whose creator has
 * gone is no longer what the name means: it stays mapped for those who have
 * it, and the name is looked up anew. Call with the lock. */
static apr_status_t lookup_at_runtime(ap_slotmem_instance_t **inst,
                                    const char *name)
{
    *inst = slotmem_instance_lookup(runtime.by_key, name);
    if (*inst && !has_exited((*inst)->creator)) {
        return APR_SUCCESS;
    }
    return attach_sibling(inst, name);
}

/* Make named memory that siblings can attach, or anonymous memory. Whoever had
 * the name is gone. Call with the lock. */
static apr_status_t create_segment_at_runtime(ap_slotmem_instance_t **inst,
                                          const char *name,
                                          const slotmem_geometry_t *geometry)
{
    slotmem_shm_name_t shm_name;
    int named = !slotmem_is_anonymous(name);
    apr_pool_t *pool;
    apr_status_t rv;

    apr_pool_create(&pool, runtime.pool);
    if (named) {
        shm_name = shm_name_of(name, pool);
        slotmem_segment_remove(shm_name.name, pool);
        atomic_store(&runtime.shared->created, 1);
    }
    rv = slotmem_instance_create(inst, name, geometry, named ? &shm_name : NULL,
                                 0, pool);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return rv;
    }
    if (named) {
        slotmem_instance_register(runtime.by_key, *inst);
    }
    return APR_SUCCESS;
}

/* The child ends: its names go, as APR would do it, but the memory stays until
 * the process goes, since other cleanups may use it. */
static apr_status_t remove_names(void *data)
{
    apr_hash_index_t *hi;

    (void)data;
    for (hi = apr_hash_first(runtime.pool, runtime.by_key); hi;
         hi = apr_hash_next(hi)) {
        ap_slotmem_instance_t *inst;
        void *value;

        apr_hash_this(hi, NULL, NULL, &value);
        inst = value;
        if (inst->creator == getpid()) {
            slotmem_segment_remove(inst->shm_name, runtime.pool);
        }
    }
    return APR_SUCCESS;
}

static apr_status_t slotmem_runtime_create(ap_slotmem_instance_t **inst,
                                      const char *name,
                                      const slotmem_geometry_t *geometry)
{
    ap_slotmem_instance_t *found = NULL;
    int exists = 0;
    apr_status_t rv = lock_runtime();

    if (rv == APR_SUCCESS) {
        if (!slotmem_is_anonymous(name)) {
            exists = lookup_at_runtime(&found, name) == APR_SUCCESS;
        }
        if (!exists) {
            rv = create_segment_at_runtime(&found, name, geometry);
        }
        apr_global_mutex_unlock(runtime.mutex);
    }
    if (rv != APR_SUCCESS) {
        slotmem_instance_log_failure(rv, name, geometry);
        return rv;
    }
    if (exists) {
        rv = slotmem_instance_check_reuse(found, geometry);
    }
    if (rv == APR_SUCCESS) {
        *inst = found;
    }
    return rv;
}

static apr_status_t slotmem_runtime_attach(ap_slotmem_instance_t **inst,
                                      const char *name)
{
    apr_status_t rv;

    if (!runtime.shared || !atomic_load(&runtime.shared->created)) {
        return APR_ENOENT;
    }
    rv = lock_runtime();
    if (rv == APR_SUCCESS) {
        rv = lookup_at_runtime(inst, name);
        apr_global_mutex_unlock(runtime.mutex);
    }
    return rv;
}

/* ---- the provider ---- */

static apr_status_t slotmem_create(ap_slotmem_instance_t **inst,
                                   const char *name, apr_size_t item_size,
                                   unsigned int item_num,
                                   ap_slotmem_type_t type, apr_pool_t *pool)
{
    slotmem_geometry_t geometry = { item_size, item_num, type };
    ap_slotmem_instance_t *found;
    apr_status_t rv;

    (void)pool;     /* an instance lives as long as pconf (B5) */
    *inst = NULL;
    if (!state.pool) {
        return APR_ENOSHMAVAIL;
    }
    found = slotmem_is_anonymous(name)
                ? NULL
                : slotmem_instance_lookup(instances.by_key, name);
    if (found) {
        rv = slotmem_instance_check_reuse(found, &geometry);
        if (rv == APR_SUCCESS) {
            *inst = found;
        }
        return rv;
    }
    return runtime.pool ? slotmem_runtime_create(inst, name, &geometry)
                        : create_configured(inst, name, &geometry);
}

static apr_status_t slotmem_attach(ap_slotmem_instance_t **inst,
                                   const char *name, apr_size_t *item_size,
                                   unsigned int *item_num, apr_pool_t *pool)
{
    ap_slotmem_instance_t *found;

    (void)pool;
    if (!state.pool) {
        return APR_ENOSHMAVAIL;
    }
    if (slotmem_is_anonymous(name)) {
        return APR_ENOSHMAVAIL;
    }
    found = slotmem_instance_lookup(instances.by_key, name);
    if (!found && runtime.pool) {
        apr_status_t rv = slotmem_runtime_attach(&found, name);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    if (!found) {
        return APR_ENOENT;
    }
    *inst = found;
    *item_size = found->segment.geometry.item_size;
    *item_num = found->segment.geometry.item_num;
    return APR_SUCCESS;
}

static char *slot_at(const ap_slotmem_instance_t *inst, unsigned int id)
{
    return inst->segment.slots
           + (apr_size_t)id * inst->segment.geometry.item_size;
}

static apr_status_t slotmem_doall(ap_slotmem_instance_t *inst,
                                  ap_slotmem_callback_fn_t *func, void *data,
                                  apr_pool_t *pool)
{
    apr_uint32_t num;
    apr_uint32_t id;

    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    num = inst->segment.geometry.item_num;
    for (id = 0; id < num; id++) {
        apr_status_t rv;

        if ((inst->segment.geometry.type & AP_SLOTMEM_TYPE_PREGRAB)
            && !slotmem_map_test(&inst->segment.map, id)) {
            id = slotmem_map_next(&inst->segment.map, id);
            if (id == num) {
                break;
            }
        }
        rv = func(slot_at(inst, id), data, pool);
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t slotmem_dptr(ap_slotmem_instance_t *inst, unsigned int id,
                                 void **mem)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    *mem = slot_at(inst, id);
    return APR_SUCCESS;
}

SLOTMEM_NOINLINE
static apr_status_t claim_and_copy(ap_slotmem_instance_t *inst,
                                   unsigned int id, void *to, const void *from,
                                   apr_size_t len)
{
    claim(inst, id);
    if (len) {
        memcpy(to, from, len);
    }
    return APR_SUCCESS;
}

/* What get and put have in common (D5). A slot that is in use is not claimed:
 * a write would take its word from the caches of the others. */
static inline apr_status_t copy(ap_slotmem_instance_t *inst, unsigned int id,
                                void *buffer, apr_size_t len, int put)
{
    apr_size_t offset;
    int in_use;
    char *slot;

    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    in_use = slotmem_map_test(&inst->segment.map, id);
    if (!in_use && (inst->segment.geometry.type & AP_SLOTMEM_TYPE_PREGRAB)) {
        return APR_NOTFOUND;
    }
    offset = (apr_size_t)id * inst->segment.geometry.item_size;
    if (len > inst->segment.layout.slots_len - offset) {
        return APR_EINVAL;
    }
    slot = inst->segment.slots + offset;
    if (!in_use || inst->config_claims || !len) {
        return put ? claim_and_copy(inst, id, slot, buffer, len)
                   : claim_and_copy(inst, id, buffer, slot, len);
    }
    memcpy(put ? slot : buffer, put ? buffer : slot, len);
    return APR_SUCCESS;
}

static apr_status_t slotmem_get(ap_slotmem_instance_t *inst, unsigned int id,
                                unsigned char *dest, apr_size_t dest_len)
{
    return copy(inst, id, dest, dest_len, 0);
}

static apr_status_t slotmem_put(ap_slotmem_instance_t *inst, unsigned int id,
                                unsigned char *src, apr_size_t src_len)
{
    return copy(inst, id, src, src_len, 1);
}

static unsigned int slotmem_num_slots(ap_slotmem_instance_t *inst)
{
    return inst ? inst->segment.geometry.item_num : 0;
}

static unsigned int slotmem_num_free_slots(ap_slotmem_instance_t *inst)
{
    return inst ? slotmem_map_count_free(&inst->segment.map) : 0;
}

static apr_size_t slotmem_slot_size(ap_slotmem_instance_t *inst)
{
    return inst ? inst->segment.geometry.item_size : 0;
}

/* Of a segment that is stored without its marks (E2). */
SLOTMEM_NOINLINE
static apr_status_t grab_and_record(ap_slotmem_instance_t *inst,
                                  unsigned int *item_id)
{
    if (!slotmem_map_grab(&inst->segment.map, item_id) && is_configuring()) {
        *item_id = steal_runtime_slot(inst);
    }
    if (*item_id == inst->segment.map.num) {
        return APR_EINVAL;
    }
    record_claim(inst, *item_id, 1);
    return APR_SUCCESS;
}

/* When full it sets the id to the number: a consumer ignores the code (D6). */
static apr_status_t slotmem_grab(ap_slotmem_instance_t *inst,
                                 unsigned int *item_id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (inst->config_claims) {
        return grab_and_record(inst, item_id);
    }
    return slotmem_map_grab(&inst->segment.map, item_id) ? APR_SUCCESS
                                                         : APR_EINVAL;
}

static apr_status_t slotmem_fgrab(ap_slotmem_instance_t *inst, unsigned int id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    claim(inst, id);
    return APR_SUCCESS;
}

static apr_status_t slotmem_release(ap_slotmem_instance_t *inst,
                                    unsigned int id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    return slotmem_map_clear(&inst->segment.map, id) ? APR_SUCCESS
                                                     : APR_NOTFOUND;
}

static const ap_slotmem_provider_t slotmem_shm_provider = {
    "sharedmem",
    slotmem_doall,
    slotmem_create,
    slotmem_attach,
    slotmem_dptr,
    slotmem_get,
    slotmem_put,
    slotmem_num_slots,
    slotmem_num_free_slots,
    slotmem_slot_size,
    slotmem_grab,
    slotmem_release,
    slotmem_fgrab
};

/* ---- directives ---- */

/* Is this folder one that only who runs the server can change? */
static const char *check_directory(cmd_parms *cmd, const char *path)
{
    apr_finfo_t info;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE | APR_FINFO_PROT,
                               cmd->temp_pool);

    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return apr_psprintf(cmd->pool, "%s: %pm", path, (void *)&rv);
    }
    if (info.filetype != APR_DIR) {
        return apr_psprintf(cmd->pool, "%s is not a directory", path);
    }
    if (access(path, W_OK | X_OK) != 0) {
        rv = errno;
        return apr_psprintf(cmd->pool, "%s is not writable: %pm", path,
                            (void *)&rv);
    }
    if ((info.protection & (APR_FPROT_WWRITE | APR_FPROT_WSTICKY))
        == APR_FPROT_WWRITE) {
        return apr_psprintf(cmd->pool, "%s is writable by everybody, who could "
                            "put files of their own in it: chmod o-w it", path);
    }
    if (info.protection & APR_FPROT_GWRITE) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, cmd->server,
                     SLOTMEM_TAG(06)
                     "%s: %s is writable by its group, who could put files of "
                     "their own in it", cmd->cmd->name, path);
    }
    return NULL;
}

static const char *set_persist_dir(cmd_parms *cmd, void *config,
                                   const char *arg)
{
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    const char *path = ap_server_root_relative(cmd->pool, arg);

    (void)config;
    if (error) {
        return error;
    }
    error = path ? check_directory(cmd, path)
                 : apr_psprintf(cmd->pool, "%s is no valid path", arg);
    if (error) {
        return apr_pstrcat(cmd->pool, SLOTMEM_TAG(20), cmd->cmd->name, ": ",
                           error, NULL);
    }
    slotmem_instance_set_prefix(
        ap_make_full_path(state.pool, path, SLOTMEM_NAME_PREFIX));
    return NULL;
}

static const char *set_checkpoint_interval(cmd_parms *cmd, void *config,
                                           const char *arg)
{
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    apr_int64_t seconds;
    char *end;

    (void)config;
    if (error) {
        return error;
    }
    seconds = apr_strtoi64(arg, &end, 10);
    if (end == arg || *end || seconds < 0 || seconds > APR_INT32_MAX) {
        return apr_psprintf(cmd->pool, SLOTMEM_TAG(21)
                            "%s: expected a number of seconds, 0 for no "
                            "checkpoints, found %s", cmd->cmd->name, arg);
    }
    state.checkpoint = apr_time_from_sec(seconds);
    return NULL;
}

static const command_rec slotmem_directives[] = {
    AP_INIT_TAKE1("SlotmemPersistDir", set_persist_dir, NULL, RSRC_CONF,
                  "folder of the persisted files of relative names; default: "
                  "DefaultRuntimeDir"),
    AP_INIT_TAKE1("SlotmemCheckpointInterval", set_checkpoint_interval, NULL,
                  RSRC_CONF, "seconds between two checkpoints; 0: none; "
                  "default: 30"),
    { .name = NULL }
};

/* ---- hooks ---- */

/* The generation ends: store it, if it ever ran, and give its memory up. A
 * forked process that clears its copy of pconf on exit is not asked. */
static apr_status_t end_generation(void *data)
{
    apr_pool_t *pool = state.pool;

    (void)data;
    if (state.parent != getpid()) {
        return APR_SUCCESS;
    }
    slotmem_persist_end();
    memset(&state, 0, sizeof(state));
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

static int slotmem_pre_config(apr_pool_t *pconf, apr_pool_t *plog,
                              apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    memset(&state, 0, sizeof(state));
    memset(&runtime, 0, sizeof(runtime));
    /* No parent: neither the clearing of pconf's subpools nor exit() unmaps
     * what consumers' cleanups still use. */
    if (apr_pool_create_unmanaged_ex(&state.pool, apr_pool_abort_get(pconf),
                                     NULL) != APR_SUCCESS) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    apr_pool_tag(state.pool, "slotmem_shm");
    instances.by_key = apr_hash_make(state.pool);
    status_entries
        = apr_array_make(state.pool, 16, sizeof(slotmem_status_entry_t));
    slotmem_persist_reset(state.pool);
    state.checkpoint = apr_time_from_sec(CHECKPOINT_INTERVAL);
    instances.default_prefix
        = ap_runtime_dir_relative(state.pool, SLOTMEM_NAME_PREFIX);
    if (!instances.default_prefix) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(07)
                     "DefaultRuntimeDir is no valid path");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    slotmem_instance_set_prefix(instances.default_prefix);
    apr_pool_cleanup_register(pconf, NULL, end_generation,
                              apr_pool_cleanup_null);
    return OK;
}

/* A mutex that is given up when its holder is killed, which not every kind
 * that APR has, or that the directive Mutex may choose, is. */
static apr_status_t create_mutex(void)
{
    apr_status_t rv = apr_global_mutex_create(&runtime.mutex, NULL,
                                              APR_LOCK_PROC_PTHREAD,
                                              state.pool);

    return rv == APR_SUCCESS
           ? rv : apr_global_mutex_create(&runtime.mutex, NULL, APR_LOCK_FCNTL,
                                          state.pool);
}

/* What children need to create segments at run time. Without it the server
 * runs, and says what it cannot do. */
static void slotmem_runtime_prepare(server_rec *s)
{
    apr_shm_t *shm;
    apr_status_t rv = apr_generate_random_bytes(runtime.secret,
                                                sizeof(runtime.secret));

    if (rv == APR_SUCCESS) {
        rv = apr_shm_create(&shm, sizeof(runtime_shared_t), NULL, state.pool);
    }
    if (rv == APR_SUCCESS) {
        runtime.shared = apr_shm_baseaddr_get(shm);
        rv = create_mutex();
    }
    if (rv != APR_SUCCESS) {
        runtime.mutex = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     SLOTMEM_TAG(08)
                     "no segment can be created at run time: no random bytes, "
                     "no shared memory or no mutex");
    }
}

static int slotmem_post_config(apr_pool_t *pconf, apr_pool_t *plog,
                               apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    state.parent = getpid();    /* not sooner: httpd detaches in between */
    slotmem_runtime_prepare(s);
    return OK;
}

/* From here on it is this generation's state that counts (B10). Runs after the
 * scoreboard was made, the last thing of a first start that can fail. */
static int slotmem_pre_mpm(apr_pool_t *pool, ap_scoreboard_e type)
{
    (void)pool;
    (void)type;
    slotmem_persist_enable();
    return OK;
}

/* Runs after every post_config, and not in the first pass. After a restart the
 * scoreboard is there, and a graceful one has no pre_mpm. */
static void slotmem_optional_fn_retrieve(void)
{
    if (ap_exists_scoreboard_image()) {
        slotmem_persist_enable();
    }
}

/* In the parent, every ten seconds or so. Its pool is pconf, which grows. */
static int slotmem_monitor(apr_pool_t *pconf, server_rec *s)
{
    (void)pconf;
    (void)s;
    slotmem_persist_checkpoint(state.checkpoint);
    return OK;
}

static void slotmem_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv;

    /* No parent, as in pre_config: pchild's subpools go before its cleanups. */
    if (apr_pool_create_unmanaged_ex(&runtime.pool, apr_pool_abort_get(pchild),
                                     NULL) != APR_SUCCESS) {
        runtime.mutex = NULL;
        return;
    }
    apr_pool_tag(runtime.pool, "slotmem_shm_runtime");
    runtime.by_key = apr_hash_make(runtime.pool);
    apr_pool_cleanup_register(pchild, NULL, remove_names,
                              apr_pool_cleanup_null);
    if (!runtime.mutex) {
        return;
    }
    rv = apr_global_mutex_child_init(&runtime.mutex, NULL, pchild);
    if (rv != APR_SUCCESS) {
        runtime.mutex = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     SLOTMEM_TAG(09)
                     "this child can create no segment at run time: no mutex");
    }
}

/* The segments that were made before the fork; what children make at run time
 * is not shown. Sorted in a copy: threads share the array. */
static int slotmem_status(request_rec *r, int flags)
{
    slotmem_status_section(r, apr_array_copy(r->pool, status_entries),
                           flags);
    return OK;
}

static int slotmem_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, SLOTMEM_STATUS_HANDLER) != 0) {
        return DECLINED;
    }
    if (r->method_number == M_OPTIONS) {
        return DECLINED;
    }
    if (r->method_number != M_GET) {
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, M_OPTIONS, -1);
        return HTTP_METHOD_NOT_ALLOWED;
    }
    return slotmem_status_json(r,
                               apr_array_copy(r->pool, status_entries));
}

static void slotmem_register_hooks(apr_pool_t *pool)
{
    ap_register_provider(pool, AP_SLOTMEM_PROVIDER_GROUP,
                         SLOTMEM_SHM_PROVIDER_SHARED,
                         AP_SLOTMEM_PROVIDER_VERSION, &slotmem_shm_provider);
    ap_register_provider(pool, AP_SLOTMEM_PROVIDER_GROUP,
                         SLOTMEM_SHM_PROVIDER_SHM,
                         AP_SLOTMEM_PROVIDER_VERSION, &slotmem_shm_provider);
    ap_hook_pre_config(slotmem_pre_config, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_config(slotmem_post_config, NULL, NULL,
                        APR_HOOK_REALLY_FIRST);
    ap_hook_optional_fn_retrieve(slotmem_optional_fn_retrieve, NULL, NULL,
                                 APR_HOOK_REALLY_LAST);
    ap_hook_pre_mpm(slotmem_pre_mpm, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_monitor(slotmem_monitor, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(slotmem_child_init, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(slotmem_handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, slotmem_status, NULL, NULL,
                      APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA slotmem_shm_module = {
    STANDARD20_MODULE_STUFF,
    NULL,                       /* per-directory config: none */
    NULL,
    NULL,                       /* per-server config: none */
    NULL,
    slotmem_directives,
    slotmem_register_hooks,
#ifdef AP_MODULE_FLAG_NONE
    AP_MODULE_FLAG_NONE
#endif
};

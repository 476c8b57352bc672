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
 * slotmem_runtime.c: create and attach in a child; see slotmem_runtime.h.
 */

#include <string.h>
#include <unistd.h>

#include "apr_global_mutex.h"
#include "apr_hash.h"

#include "httpd.h"

#include "slotmem_creator.h"
#include "slotmem_log.h"
#include "slotmem_runtime.h"
#include "slotmem_shm_dir.h"

/* How long to wait for the mutex, and the longest pause between two attempts. A
 * child that is stopped keeps the mutex, so do not wait forever. */
#define LOCK_WAIT       apr_time_from_sec(2)
#define LOCK_PAUSE      5000

/* Shared memory, anonymous, one per generation. */
typedef struct runtime_shared_t {
    _Atomic apr_uint32_t created;   /* 1: a child has created a named segment.
                                       Set by any child before the name can be
                                       attached; a hint that it is worth looking
                                       for a file */
    _Atomic apr_uint32_t ended;     /* 1 + the number of children that have
                                       ended, so that the first create looks for
                                       files. Only the parent writes it, and
                                       never reads it */
    _Atomic apr_uint32_t tidied;    /* the value of ended when a child last
                                       removed files; written with the mutex */
} runtime_shared_t;

/* Process-local. post_config sets up what children need to create segments at
 * run time; child_init sets up the table of the segments that this child
 * created or attached, which the mutex guards. */
static struct {
    apr_global_mutex_t *mutex;      /* NULL: no segments at run time */
    runtime_shared_t *shared;       /* NULL: no segments at run time */
    apr_pool_t *pool;               /* NULL in the parent */
    apr_hash_t *by_key;             /* see slotmem_instance_key() */
    slotmem_creator_t self;
} runtime;

/* ---- the mutex ---- */

/* Poll with the monotonic clock: APR's timed wait uses the time of day, which
 * can be set. */
static apr_status_t lock_runtime(void)
{
    apr_interval_time_t pause = 50;
    apr_time_t deadline = 0;
    apr_status_t rv;

    if (!runtime.mutex || !runtime.shared) {
        return APR_ENOSHMAVAIL;
    }
    while (APR_STATUS_IS_EBUSY(rv = apr_global_mutex_trylock(runtime.mutex))) {
        apr_time_t now = slotmem_monotonic_now();

        if (!deadline) {
            deadline = now + LOCK_WAIT;
        }
        if (now >= deadline) {
            return APR_TIMEUP;
        }
        apr_sleep(pause);
        pause = pause < LOCK_PAUSE ? 2 * pause : LOCK_PAUSE;
    }
    return rv;
}

static void unlock_runtime(void)
{
    apr_global_mutex_unlock(runtime.mutex);
}

static int has_gone(const ap_slotmem_instance_t *inst)
{
    return atomic_load(&inst->segment.header->gone)
           || !slotmem_creator_is_alive(&inst->creator);
}

/* ---- create and attach, with the mutex ---- */

/* Without a parent pool: a subpool would allocate from one that other threads
 * use. */
static apr_status_t create_pool(apr_pool_t **pool)
{
    apr_status_t rv = apr_pool_create_unmanaged_ex(
        pool, apr_pool_abort_get(runtime.pool), NULL);

    if (rv == APR_SUCCESS) {
        apr_pool_tag(*pool, "slotmem_shm_runtime_segment");
    }
    return rv;
}

/* Attach what a sibling created, if that sibling is alive. APR_ENOENT: there is
 * nothing, or only the file of a dead sibling. */
static apr_status_t attach_sibling(ap_slotmem_instance_t **inst,
                                   const char *name)
{
    slotmem_shm_name_t shm_name;
    apr_pool_t *pool;
    apr_status_t rv;

    if (!slotmem_shm_dir_is_known()) {
        return APR_ENOENT;
    }
    rv = create_pool(&pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    shm_name = slotmem_shm_dir_name(name, pool);
    rv = slotmem_instance_create(inst, name, NULL, &shm_name, 1, pool);
    if ((rv == APR_SUCCESS && has_gone(*inst))
        || (rv == APR_INCOMPLETE
            && !slotmem_creator_is_alive(&shm_name.creator))) {
        rv = APR_ENOENT;
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return rv;
    }
    slotmem_instance_register(runtime.by_key, *inst);
    return APR_SUCCESS;
}

/* Find an instance of this child or of a sibling by its name. If its creator is
 * gone, the name is free again: look it up again. The old memory stays mapped
 * for the processes that use it. */
static apr_status_t lookup_at_runtime(ap_slotmem_instance_t **inst,
                                      const char *name)
{
    *inst = slotmem_instance_lookup(runtime.by_key, name);
    if (*inst && !has_gone(*inst)) {
        return APR_SUCCESS;
    }
    return attach_sibling(inst, name);
}

static void remove_if_dead(const char *path, apr_pool_t *pool)
{
    slotmem_creator_t creator;

    (void)pool;
    if (slotmem_segment_creator(&creator, path) == APR_SUCCESS
        && !slotmem_creator_is_alive(&creator)) {
        slotmem_segment_remove(path);
    }
}

/* If children have ended since the last check, remove the files they left. */
static void tidy_up(apr_pool_t *pool)
{
    apr_uint32_t ended = atomic_load(&runtime.shared->ended);

    if (atomic_exchange(&runtime.shared->tidied, ended) != ended) {
        slotmem_shm_dir_each(pool, remove_if_dead);
    }
}

/* Create memory that siblings can attach. The earlier creator of the name is
 * gone. */
static apr_status_t create_named(ap_slotmem_instance_t **inst,
                                 const char *name,
                                 const slotmem_geometry_t *geometry)
{
    slotmem_shm_name_t shm_name;
    apr_pool_t *pool;
    apr_status_t rv = create_pool(&pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    tidy_up(pool);
    shm_name = slotmem_shm_dir_name(name, pool);
    shm_name.creator = runtime.self;
    slotmem_segment_remove(shm_name.path);
    atomic_store(&runtime.shared->created, 1);
    rv = slotmem_instance_create(inst, name, geometry, &shm_name, 0, pool);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return rv;
    }
    slotmem_instance_register(runtime.by_key, *inst);
    return APR_SUCCESS;
}

static apr_status_t find_or_create(ap_slotmem_instance_t **inst, int *exists,
                                   const char *name,
                                   const slotmem_geometry_t *geometry)
{
    apr_status_t rv = lock_runtime();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = lookup_at_runtime(inst, name);
    *exists = rv == APR_SUCCESS;
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = slotmem_shm_dir_make();
        if (rv == APR_SUCCESS) {
            rv = create_named(inst, name, geometry);
        }
    }
    unlock_runtime();
    return rv;
}

static apr_status_t create_anonymous(ap_slotmem_instance_t **inst,
                                     const slotmem_geometry_t *geometry)
{
    apr_pool_t *pool;
    apr_status_t rv = create_pool(&pool);

    if (rv == APR_SUCCESS) {
        rv = slotmem_instance_create(inst, NULL, geometry, NULL, 0, pool);
        if (rv != APR_SUCCESS) {
            apr_pool_destroy(pool);
        }
    }
    return rv;
}

/* The child ends: mark its segments as gone, and remove their names. The memory
 * stays until the process exits, since other cleanups may use it. Without the
 * mutex the names stay, but siblings see the mark. Runs before the other
 * cleanups, which may take long, and once more after them. */
static apr_status_t remove_names(void *data)
{
    apr_status_t locked = APR_ENOSHMAVAIL;
    apr_hash_index_t *hi;

    (void)data;
    for (hi = apr_hash_first(runtime.pool, runtime.by_key); hi;
         hi = apr_hash_next(hi)) {
        ap_slotmem_instance_t *inst;
        void *value;

        apr_hash_this(hi, NULL, NULL, &value);
        inst = value;
        if (inst->creator.pid != (uint32_t)getpid()
            || atomic_load(&inst->segment.header->gone)) {
            continue;
        }
        if (locked == APR_ENOSHMAVAIL) {
            locked = lock_runtime();
        }
        atomic_store(&inst->segment.header->gone, 1);
        if (locked == APR_SUCCESS) {
            slotmem_segment_remove(inst->shm_path);
        }
    }
    if (locked == APR_SUCCESS) {
        unlock_runtime();
    }
    return APR_SUCCESS;
}

/* ---- lifecycle ---- */

void slotmem_runtime_reset(void)
{
    memset(&runtime, 0, sizeof(runtime));
    slotmem_shm_dir_reset();
}

/* Use a kind of mutex that is released when its holder is killed. Not all of
 * APR's kinds are, nor all that the directive Mutex can choose. */
static apr_status_t create_mutex(apr_pool_t *pool)
{
    apr_status_t rv = apr_global_mutex_create(&runtime.mutex, NULL,
                                              APR_LOCK_PROC_PTHREAD,
                                              pool);

    return rv == APR_SUCCESS
           ? rv : apr_global_mutex_create(&runtime.mutex, NULL, APR_LOCK_FCNTL,
                                          pool);
}

void slotmem_runtime_prepare(server_rec *s, apr_pool_t *pool)
{
    apr_shm_t *shm;
    apr_status_t rv = slotmem_shm_dir_prepare(pool);

    if (rv == APR_SUCCESS) {
        rv = apr_shm_create(&shm, sizeof(runtime_shared_t), NULL, pool);
    }
    if (rv == APR_SUCCESS) {
        runtime.shared = apr_shm_baseaddr_get(shm);
        /* The first create must look for files of earlier generations: this one
         * is not told when their children end. */
        atomic_store(&runtime.shared->ended, 1);
        rv = create_mutex(pool);
    }
    if (rv != APR_SUCCESS) {
        runtime.mutex = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     SLOTMEM_TAG(08)
                     "cannot create segments at run time: no random bytes, no "
                     "shared memory or no mutex");
    }
}

void slotmem_runtime_child_ended(void)
{
    if (runtime.shared) {
        atomic_fetch_add(&runtime.shared->ended, 1);
    }
}

void slotmem_runtime_end(apr_pool_t *pool)
{
    slotmem_shm_dir_remove_all(pool);
}

void slotmem_runtime_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv;

    /* No parent pool, as in pre_config: subpools of pchild are destroyed before
     * its cleanups run. */
    if (apr_pool_create_unmanaged_ex(&runtime.pool, apr_pool_abort_get(pchild),
                                     NULL) != APR_SUCCESS) {
        runtime.mutex = NULL;
        return;
    }
    apr_pool_tag(runtime.pool, "slotmem_shm_runtime");
    runtime.by_key = apr_hash_make(runtime.pool);
    runtime.self = slotmem_creator_self();
    slotmem_shm_dir_child_init(runtime.pool);
    apr_pool_pre_cleanup_register(pchild, NULL, remove_names);
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
                     "this child cannot create segments at run time: no mutex");
    }
}

int slotmem_runtime_is_ready(void)
{
    return runtime.pool != NULL;
}

static void log_failure(apr_status_t rv, const char *name,
                        const slotmem_geometry_t *geometry)
{
    if (APR_STATUS_IS_TIMEUP(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(52)
                     "segment %s: not created: another child has held the lock "
                     "for run-time names for %d seconds; if that child is "
                     "stopped, continue it with kill -CONT", name,
                     (int)apr_time_sec(LOCK_WAIT));
    }
    else {
        slotmem_instance_log_failure(rv, name, geometry);
    }
}

apr_status_t slotmem_runtime_create(ap_slotmem_instance_t **inst,
                                    const char *name,
                                    const slotmem_geometry_t *geometry)
{
    ap_slotmem_instance_t *found = NULL;
    int exists = 0;
    apr_status_t rv = slotmem_is_anonymous(name)
                      ? create_anonymous(&found, geometry)
                      : find_or_create(&found, &exists, name, geometry);

    if (rv != APR_SUCCESS) {
        log_failure(rv, name, geometry);
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

apr_status_t slotmem_runtime_attach(ap_slotmem_instance_t **inst,
                                    const char *name)
{
    apr_status_t rv;

    if (!runtime.shared || !atomic_load(&runtime.shared->created)) {
        return APR_ENOENT;
    }
    rv = lock_runtime();
    if (rv == APR_SUCCESS) {
        rv = lookup_at_runtime(inst, name);
        unlock_runtime();
    }
    return rv;
}

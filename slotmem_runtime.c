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

#include "apr_file_io.h"
#include "apr_global_mutex.h"
#include "apr_hash.h"
#include "apr_strings.h"

#include "httpd.h"

#include "slotmem_creator.h"
#include "slotmem_log.h"
#include "slotmem_runtime.h"
#include "slotmem_shm_dir.h"

/* How long to wait for the mutex, and for a sibling that fills a segment; and
 * the pauses between two attempts. A child that is stopped keeps the mutex, so
 * do not wait forever. */
#define LOCK_WAIT       apr_time_from_sec(2)
#define FILL_WAIT       apr_time_from_sec(2)
#define FIRST_PAUSE     50
#define LAST_PAUSE      5000

/* So many segments with different names are filled at a time as a rule. */
#define FILLERS 8

/* Shared memory: a process that fills a segment. Set with the mutex; a process
 * that is killed leaves its entry. Decides only whether to wait. */
typedef struct filler_t {
    _Atomic apr_uint32_t pid;       /* 0: none */
    _Atomic apr_uint32_t tag;       /* see tag_of() */
} filler_t;

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
                                       removed files */
    _Atomic apr_uint32_t drafts;    /* the number of names of drafts so far */
    filler_t fillers[FILLERS];      /* by tag % FILLERS; the last one replaces
                                       others that share its entry */
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

static void sleep_longer(apr_interval_time_t *pause)
{
    apr_sleep(*pause);
    *pause = *pause < LAST_PAUSE / 2 ? 2 * *pause : LAST_PAUSE;
}

/* Poll with the monotonic clock: APR's timed wait uses the time of day, which
 * can be set. */
static apr_status_t lock_runtime(void)
{
    apr_interval_time_t pause = FIRST_PAUSE;
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
        sleep_longer(&pause);
    }
    return rv;
}

static void unlock_runtime(void)
{
    apr_global_mutex_unlock(runtime.mutex);
}

/* ---- look a name up ---- */

static int has_gone(const ap_slotmem_instance_t *inst)
{
    return atomic_load(&inst->segment.header->gone)
           || !slotmem_creator_is_alive(&inst->creator);
}

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

/* With the mutex: an instance of this child, unless its creator is gone. */
static ap_slotmem_instance_t *lookup_own(const char *name)
{
    ap_slotmem_instance_t *inst = slotmem_instance_lookup(runtime.by_key, name);

    return inst && !has_gone(inst) ? inst : NULL;
}

/* Map what a sibling created. APR_ENOENT: there is nothing, or only the file of
 * a dead sibling. */
static apr_status_t map_sibling(ap_slotmem_instance_t **inst, const char *name,
                                apr_pool_t *pool)
{
    slotmem_shm_name_t shm_name = slotmem_shm_dir_name(name, pool);
    apr_status_t rv = slotmem_instance_create(inst, name, NULL, &shm_name, 1,
                                              pool);

    return rv == APR_INCOMPLETE && !slotmem_creator_is_alive(&shm_name.creator)
           ? APR_ENOENT : rv;
}

/* Add what was mapped without the mutex. Its creator may be gone by now:
 * APR_ENOENT. Another thread may have been faster: *inst is set to what it has
 * mapped. */
static apr_status_t adopt(ap_slotmem_instance_t **inst,
                          ap_slotmem_instance_t *mapped, const char *name)
{
    apr_status_t rv = lock_runtime();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *inst = lookup_own(name);
    if (!*inst && !has_gone(mapped)) {
        slotmem_instance_register(runtime.by_key, mapped);
        *inst = mapped;
    }
    unlock_runtime();
    return *inst ? APR_SUCCESS : APR_ENOENT;
}

static apr_status_t attach_sibling(ap_slotmem_instance_t **inst,
                                   const char *name)
{
    ap_slotmem_instance_t *mapped = NULL;
    apr_pool_t *pool;
    apr_status_t rv;

    if (!slotmem_shm_dir_is_known()) {
        return APR_ENOENT;
    }
    rv = create_pool(&pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = map_sibling(&mapped, name, pool);
    if (rv == APR_SUCCESS) {
        rv = adopt(inst, mapped, name);
    }
    if (rv != APR_SUCCESS || *inst != mapped) {
        apr_pool_destroy(pool);
    }
    return rv;
}

/* Find an instance of this child or of a sibling by its name. If its creator is
 * gone, the name is free again. The old memory stays mapped for the processes
 * that use it. To map a large segment takes time, so that is done without the
 * mutex: a file that has its name is complete. */
static apr_status_t find(ap_slotmem_instance_t **inst, const char *name)
{
    apr_status_t rv = lock_runtime();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *inst = lookup_own(name);
    unlock_runtime();
    return *inst ? APR_SUCCESS : attach_sibling(inst, name);
}

/* ---- create ---- */

/* A draft is a file that no name leads to: one that is being filled, or one
 * that is about to be removed. */
static const char *draft_path(const char *path, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s.%u", path,
                        atomic_fetch_add(&runtime.shared->drafts, 1));
}

/* With the mutex: is a name free? If a creator that is gone left its file, it
 * becomes a draft, which the caller removes without the mutex: to free a large
 * segment takes time.
 * @param draft set if there is one
 * @return APR_SUCCESS; APR_EEXIST: a living process has that name; otherwise
 *         the system's code */
static apr_status_t free_name(const char **draft, const char *path,
                              apr_pool_t *pool)
{
    slotmem_creator_t creator;
    apr_status_t rv = slotmem_segment_creator(&creator, path);

    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS && slotmem_creator_is_alive(&creator)) {
        return APR_EEXIST;
    }
    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        return rv;
    }
    *draft = draft_path(path, pool);
    return apr_file_rename(path, *draft, pool);
}

static void remove_draft(const char *draft)
{
    if (draft) {
        slotmem_segment_remove(draft);
    }
}

static apr_status_t remove_if_dead(const char *path, apr_pool_t *pool)
{
    slotmem_creator_t creator;
    const char *draft = NULL;
    apr_status_t rv;

    if (slotmem_segment_creator(&creator, path) != APR_SUCCESS
        || slotmem_creator_is_alive(&creator)) {
        return APR_SUCCESS;
    }
    rv = lock_runtime();
    if (rv != APR_SUCCESS) {
        return rv;
    }
    free_name(&draft, path, pool);
    unlock_runtime();
    remove_draft(draft);
    return APR_SUCCESS;
}

/* If children have ended since the last check, remove the files they left.
 * Without the mutex the next create tries that again. */
static apr_status_t tidy_up(apr_pool_t *pool)
{
    apr_uint32_t ended = atomic_load(&runtime.shared->ended);
    apr_status_t rv = APR_SUCCESS;

    if (atomic_exchange(&runtime.shared->tidied, ended) != ended) {
        rv = slotmem_shm_dir_each(pool, remove_if_dead);
        if (rv != APR_SUCCESS) {
            atomic_store(&runtime.shared->tidied, 0);
        }
    }
    return rv;
}

/* A digest of the name: the start of the proof. */
static apr_uint32_t tag_of(const slotmem_shm_name_t *shm_name)
{
    apr_uint32_t tag;

    memcpy(&tag, shm_name->proof, sizeof(tag));
    return tag;
}

static filler_t *filler_of(const slotmem_shm_name_t *shm_name)
{
    return &runtime.shared->fillers[tag_of(shm_name) % FILLERS];
}

static int is_being_filled(const slotmem_shm_name_t *shm_name)
{
    filler_t *filler = filler_of(shm_name);
    slotmem_creator_t process = { 0, atomic_load(&filler->pid) };

    return atomic_load(&filler->tag) == tag_of(shm_name)
           && slotmem_creator_is_running(&process);
}

/* Several children often create the same segment at once. If each filled one,
 * the memory might not suffice. So let the first one fill it.
 * @return APR_SUCCESS: fill it; APR_EBUSY: a sibling fills it, wait (only if
 *         may_wait); otherwise see free_name() */
static apr_status_t start_filling(const slotmem_shm_name_t *shm_name,
                                  int may_wait, apr_pool_t *pool)
{
    const char *draft = NULL;
    apr_status_t rv = lock_runtime();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = free_name(&draft, shm_name->path, pool);
    if (rv == APR_SUCCESS && may_wait && is_being_filled(shm_name)) {
        rv = APR_EBUSY;
    }
    if (rv == APR_SUCCESS) {
        atomic_store(&filler_of(shm_name)->tag, tag_of(shm_name));
        atomic_store(&filler_of(shm_name)->pid, runtime.self.pid);
    }
    unlock_runtime();
    remove_draft(draft);
    return rv;
}

static void end_filling(const slotmem_shm_name_t *shm_name)
{
    filler_t *filler = filler_of(shm_name);
    apr_uint32_t self = runtime.self.pid;

    if (atomic_load(&filler->tag) == tag_of(shm_name)) {
        atomic_compare_exchange_strong(&filler->pid, &self, 0);
    }
}

/* Give a complete segment its name. @return see free_name() */
static apr_status_t publish(ap_slotmem_instance_t *inst, const char *path,
                            apr_pool_t *pool)
{
    const char *draft = NULL;
    apr_status_t rv = lock_runtime();

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = free_name(&draft, path, pool);
    if (rv == APR_SUCCESS) {
        atomic_store(&runtime.shared->created, 1);
        rv = apr_file_rename(inst->shm_path, path, pool);
    }
    if (rv == APR_SUCCESS) {
        inst->shm_path = path;
        slotmem_instance_register(runtime.by_key, inst);
    }
    unlock_runtime();
    remove_draft(draft);
    return rv;
}

/* Fill a draft without the mutex, so that a creator that is slow, stopped or
 * killed meanwhile does not delay others; then publish it. */
static apr_status_t fill(ap_slotmem_instance_t **inst, const char *name,
                         const slotmem_geometry_t *geometry,
                         slotmem_shm_name_t *shm_name, apr_pool_t *pool)
{
    const char *path = shm_name->path;
    apr_status_t rv;

    shm_name->path = draft_path(path, pool);
    rv = slotmem_instance_create(inst, name, geometry, shm_name, 0, pool);
    if (rv == APR_SUCCESS) {
        rv = publish(*inst, path, pool);
        if (rv != APR_SUCCESS) {
            slotmem_segment_remove(shm_name->path);
        }
    }
    return rv;
}

/* Create memory that siblings can attach.
 * @param busy set to 1 instead of *inst: a sibling creates or has created it
 * @param may_wait whether to do that while the sibling still fills it */
static apr_status_t create_named(ap_slotmem_instance_t **inst, int *busy,
                                 const char *name,
                                 const slotmem_geometry_t *geometry,
                                 int may_wait)
{
    slotmem_shm_name_t shm_name;
    apr_pool_t *pool;
    int started;
    apr_status_t rv = slotmem_shm_dir_make();

    if (rv == APR_SUCCESS) {
        rv = create_pool(&pool);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    shm_name = slotmem_shm_dir_name(name, pool);
    shm_name.creator = runtime.self;
    rv = tidy_up(pool);
    if (rv == APR_SUCCESS) {
        rv = start_filling(&shm_name, may_wait, pool);
        *busy = rv == APR_EBUSY || rv == APR_EEXIST;
    }
    started = rv == APR_SUCCESS;
    if (started) {
        rv = fill(inst, name, geometry, &shm_name, pool);
        *busy = rv == APR_EEXIST;
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(pool);
    }
    if (started) {
        end_filling(&shm_name);
    }
    return rv;
}

static apr_status_t find_or_create(ap_slotmem_instance_t **inst, int *exists,
                                   const char *name,
                                   const slotmem_geometry_t *geometry)
{
    apr_time_t deadline = slotmem_monotonic_now() + FILL_WAIT;
    apr_interval_time_t pause = FIRST_PAUSE;

    for (;;) {
        apr_time_t now = slotmem_monotonic_now();
        int busy = 0;
        apr_status_t rv = find(inst, name);

        *exists = rv == APR_SUCCESS;
        if (!APR_STATUS_IS_ENOENT(rv)) {
            return rv;
        }
        rv = create_named(inst, &busy, name, geometry, now < deadline);
        if (!busy) {
            return rv;
        }
        /* The file says that its creator is alive, but it does not attach. */
        if (now >= deadline + FILL_WAIT) {
            return APR_TIMEUP;
        }
        sleep_longer(&pause);
    }
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
    apr_status_t rv = slotmem_shm_dir_prepare();

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
    if (!runtime.shared || !atomic_load(&runtime.shared->created)) {
        return APR_ENOENT;
    }
    return find(inst, name);
}

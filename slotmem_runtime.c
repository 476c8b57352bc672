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

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "apr_general.h"
#include "apr_global_mutex.h"
#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_strings.h"


#include "slotmem_log.h"
#include "slotmem_runtime.h"

/* Shared memory, anonymous, one for a generation. */
typedef struct runtime_shared_t {
    _Atomic apr_uint32_t created;   /* 1: a child has created a named segment.
                                       Set by any child, before the name can
                                       be attached; says only whether it is
                                       worth looking for one */
} runtime_shared_t;

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

/* Begins what siblings call the memory of a name. */
#ifdef __linux__
#define SHM_NAME_PREFIX "/dev/shm/" SLOTMEM_NAME_PREFIX
#else
#define SHM_NAME_PREFIX "/tmp/" SLOTMEM_NAME_PREFIX
#endif

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

void slotmem_runtime_reset(void)
{
    memset(&runtime, 0, sizeof(runtime));
}

/* A mutex that is given up when its holder is killed, which not every kind
 * that APR has, or that the directive Mutex may choose, is. */
static apr_status_t create_mutex(apr_pool_t *pool)
{
    apr_status_t rv = apr_global_mutex_create(&runtime.mutex, NULL,
                                              APR_LOCK_PROC_PTHREAD,
                                              pool);

    return rv == APR_SUCCESS
           ? rv : apr_global_mutex_create(&runtime.mutex, NULL, APR_LOCK_FCNTL,
                                          pool);
}

/* What children need to create segments at run time. Without it the server
 * runs, and says what it cannot do. */
void slotmem_runtime_prepare(server_rec *s, apr_pool_t *pool)
{
    apr_shm_t *shm;
    apr_status_t rv = apr_generate_random_bytes(runtime.secret,
                                                sizeof(runtime.secret));

    if (rv == APR_SUCCESS) {
        rv = apr_shm_create(&shm, sizeof(runtime_shared_t), NULL, pool);
    }
    if (rv == APR_SUCCESS) {
        runtime.shared = apr_shm_baseaddr_get(shm);
        rv = create_mutex(pool);
    }
    if (rv != APR_SUCCESS) {
        runtime.mutex = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     SLOTMEM_TAG(08)
                     "no segment can be created at run time: no random bytes, "
                     "no shared memory or no mutex");
    }
}

void slotmem_runtime_child_init(apr_pool_t *pchild, server_rec *s)
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

int slotmem_runtime_is_ready(void)
{
    return runtime.pool != NULL;
}

apr_status_t slotmem_runtime_create(ap_slotmem_instance_t **inst,
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
        apr_global_mutex_unlock(runtime.mutex);
    }
    return rv;
}

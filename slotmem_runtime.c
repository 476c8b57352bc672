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
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "apr_file_info.h"
#include "apr_file_io.h"
#include "apr_general.h"
#include "apr_global_mutex.h"
#include "apr_hash.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "unixd.h"

#include "slotmem_log.h"
#include "slotmem_runtime.h"

/* How long to wait for the mutex, and between two attempts at most: not for
 * ever, since a child that is stopped keeps it. */
#define LOCK_WAIT       apr_time_from_sec(2)
#define LOCK_PAUSE      5000

/* Where segments have their files: the first of these that a child can write
 * to. Under ChrootDir they are directories in there. */
static const char *const directories[] = { "/dev/shm", "/tmp" };

/* Shared memory, anonymous, one for a generation. */
typedef struct runtime_shared_t {
    _Atomic apr_uint32_t created;   /* 1: a child has created a named segment.
                                       Set by any child, before the name can
                                       be attached; says only whether it is
                                       worth looking for one */
    _Atomic apr_uint32_t ended;     /* children that have ended, and 1: the
                                       parent's, which never reads it */
    _Atomic apr_uint32_t tidied;    /* how many had when a child last tidied
                                       up; written with the mutex */
} runtime_shared_t;

/* Process-local. What children need to create segments at run time, set up by
 * post_config; and the segments that this child created or attached, set up by
 * child_init and guarded by the mutex. */
static struct {
    apr_global_mutex_t *mutex;      /* or NULL: nothing at run time */
    unsigned char secret[APR_MD5_DIGESTSIZE]; /* of the generation's run-time
                                       names; in no memory that is shared */
    const char *prefix;             /* of the server's files */
    runtime_shared_t *shared;       /* or NULL: nothing at run time */
    apr_pool_t *pool;               /* NULL in the parent */
    apr_hash_t *by_key;             /* see slotmem_instance_key() */
    slotmem_creator_t self;
    const char *directory;          /* of the files, or NULL: none to be had */
    _Atomic int directory_logged;   /* 1: this child has said so */
} runtime;

/* A random number of the server's, retained over restarts. Files of all its
 * generations have it in their names: children of an old one may go on for
 * long. */
#define TAG_KEY "mod_slotmem_shm/run-time names"

/* ---- the mutex ---- */

/* Whatever time of day it is: a wait that APR offers would take that clock. */
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

/* ---- what siblings call the memory of a name ---- */

/* A digest of the name that needs the generation's secret; nested, so that
 * nobody makes another one out of it. what: of several. */
static void digest_of(unsigned char *digest, char what, const char *key,
                      apr_size_t len)
{
    unsigned char inner[APR_MD5_DIGESTSIZE];
    apr_md5_ctx_t md5;

    apr_md5_init(&md5);
    apr_md5_update(&md5, runtime.secret, sizeof(runtime.secret));
    apr_md5_update(&md5, &what, 1);
    apr_md5_update(&md5, key, len);
    apr_md5_final(inner, &md5);
    apr_md5_init(&md5);
    apr_md5_update(&md5, runtime.secret, sizeof(runtime.secret));
    apr_md5_update(&md5, inner, sizeof(inner));
    apr_md5_final(digest, &md5);
}

/* A file differs between servers and between generations. All can list its
 * directory, and those of our user can read it: neither its name nor its proof
 * is of use to make another one. Needs the directory. */
static slotmem_shm_name_t shm_name_of(const char *name, apr_pool_t *pool)
{
    slotmem_shm_name_t shm_name;
    apr_uint64_t digest[APR_MD5_DIGESTSIZE / sizeof(apr_uint64_t)];
    apr_ssize_t len;
    const char *key = slotmem_instance_key(slotmem_instance_name(name, pool),
                                           &len);

    digest_of((unsigned char *)digest, 'n', key, (apr_size_t)len);
    digest_of(shm_name.proof, 'p', key, (apr_size_t)len);
    shm_name.path = apr_psprintf(pool, "%s/%s%016" APR_UINT64_T_HEX_FMT
                                       "%016" APR_UINT64_T_HEX_FMT,
                                 runtime.directory, runtime.prefix,
                                 digest[0], digest[1]);
    shm_name.creator = runtime.self;
    return shm_name;
}

/* ---- who lives ---- */

/* What /proc/PID/stat says: pid, state, and start in ticks since the boot.
 * Returns 0 where there is no such file, or it is about another pid (of another
 * namespace). */
static int read_stat(const char *who, pid_t pid, char *state,
                     apr_uint64_t *started)
{
    char path[64];
    char text[1024];
    const char *next;
    ssize_t len;
    int field;
    int fd;

    apr_snprintf(path, sizeof(path), "/proc/%s/stat", who);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    next = strrchr(text, ')');      /* ends field 2, which may hold anything */
    if (!next || next[1] != ' ' || !next[2] || apr_atoi64(text) != pid) {
        return 0;
    }
    *state = next[2];
    for (field = 2; field < 22 && next; field++) {
        next = strchr(next + 1, ' ');
    }
    *started = next ? (apr_uint64_t)apr_atoi64(next + 1) : 0;
    return next != NULL;
}

static slotmem_creator_t this_process(void)
{
    slotmem_creator_t self = { 0, (uint32_t)getpid() };
    char state;

    if (!read_stat("self", getpid(), &state, &self.started)) {
        self.started = 0;
    }
    return self;
}

/* Pids come round again. Without /proc a stranger with the creator's pid is
 * taken for it. */
static int is_alive(const slotmem_creator_t *creator)
{
    pid_t pid = (pid_t)creator->pid;
    apr_uint64_t started;
    char who[16];
    char state;

    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
        return 0;
    }
    apr_snprintf(who, sizeof(who), "%ld", (long)pid);
    if (!creator->started || !read_stat(who, pid, &state, &started)) {
        return 1;
    }
    return started == creator->started && state != 'Z' && state != 'X';
}

static int has_gone(const ap_slotmem_instance_t *inst)
{
    return atomic_load(&inst->segment.header->gone)
           || !is_alive(&inst->creator);
}

/* ---- create and attach, with the mutex ---- */

/* No parent: a subpool would take memory of one that other threads use. */
static apr_status_t create_pool(apr_pool_t **pool)
{
    apr_status_t rv = apr_pool_create_unmanaged_ex(
        pool, apr_pool_abort_get(runtime.pool), NULL);

    if (rv == APR_SUCCESS) {
        apr_pool_tag(*pool, "slotmem_shm_runtime_segment");
    }
    return rv;
}

/* Attach what a sibling created, if that sibling lives. APR_ENOENT: what there
 * may be is left of one that does not. */
static apr_status_t attach_sibling(ap_slotmem_instance_t **inst,
                                   const char *name)
{
    slotmem_shm_name_t shm_name;
    apr_pool_t *pool;
    apr_status_t rv;

    if (!runtime.directory) {
        return APR_ENOENT;
    }
    rv = create_pool(&pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    shm_name = shm_name_of(name, pool);
    rv = slotmem_instance_create(inst, name, NULL, &shm_name, 1, pool);
    if ((rv == APR_SUCCESS && has_gone(*inst))
        || (rv == APR_INCOMPLETE && !is_alive(&shm_name.creator))) {
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
 * it, and the name is looked up anew. */
static apr_status_t lookup_at_runtime(ap_slotmem_instance_t **inst,
                                      const char *name)
{
    *inst = slotmem_instance_lookup(runtime.by_key, name);
    if (*inst && !has_gone(*inst)) {
        return APR_SUCCESS;
    }
    return attach_sibling(inst, name);
}

/* Call a function for each file of this server in a directory. */
static void each_file(const char *directory, apr_pool_t *pool,
                      void (*visit)(const char *path))
{
    apr_size_t len = strlen(runtime.prefix);
    apr_finfo_t info;
    apr_dir_t *dir;

    if (apr_dir_open(&dir, directory, pool) != APR_SUCCESS) {
        return;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, dir) == APR_SUCCESS
           || (info.valid & APR_FINFO_NAME)) {
        if (strncmp(info.name, runtime.prefix, len) == 0) {
            visit(apr_pstrcat(pool, directory, "/", info.name, NULL));
        }
        info.valid = 0;
    }
    apr_dir_close(dir);
}

static void remove_if_dead(const char *path)
{
    slotmem_creator_t creator;

    if (slotmem_segment_creator(&creator, path) == APR_SUCCESS
        && !is_alive(&creator)) {
        slotmem_segment_remove(path);
    }
}

/* Children have ended since somebody last looked: remove what they left. */
static void tidy_up(apr_pool_t *pool)
{
    apr_uint32_t ended = atomic_load(&runtime.shared->ended);

    if (atomic_exchange(&runtime.shared->tidied, ended) != ended) {
        each_file(runtime.directory, pool, remove_if_dead);
    }
}

/* Make memory that siblings can attach. Whoever had the name is gone. */
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
    shm_name = shm_name_of(name, pool);
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

/* Does the system say where a file may be? If not, one line says what is
 * missing. */
static apr_status_t check_directory(void)
{
    const char *root = ap_unixd_config.chroot_dir;

    if (runtime.directory) {
        return APR_SUCCESS;
    }
    if (!atomic_exchange(&runtime.directory_logged, 1)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(50)
                     "no segment can be created at run time: below %s, expected "
                     "a directory %s or %s that the children can write; found "
                     "none: mkdir -p it, and chmod 1777 it", root ? root : "/",
                     directories[0], directories[1]);
    }
    return APR_ENOENT;
}

/* Find the segment of a name, or make it. */
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
        rv = check_directory();
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

/* The child ends: what it created is not what the names mean any more. The
 * names go, but the memory stays until the process goes, since other cleanups
 * may use it. Without the mutex only those who look are told. Runs before the
 * other cleanups, which may take their time, and once more after them. */
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

/* The prefix of all files of this server, the same in all its generations. */
static apr_status_t find_prefix(apr_pool_t *pool)
{
    apr_uint64_t *tag = ap_retained_data_get(TAG_KEY);
    apr_uint64_t random;
    apr_status_t rv;

    if (!tag) {
        rv = apr_generate_random_bytes((unsigned char *)&random,
                                       sizeof(random));
        if (rv != APR_SUCCESS) {
            return rv;
        }
        tag = ap_retained_data_create(TAG_KEY, sizeof(*tag));
        *tag = random;
    }
    runtime.prefix = apr_psprintf(pool, SLOTMEM_NAME_PREFIX
                                        "%016" APR_UINT64_T_HEX_FMT "-", *tag);
    return APR_SUCCESS;
}

/* What children need to create segments at run time. Without it the server
 * runs, and says what it cannot do. */
void slotmem_runtime_prepare(server_rec *s, apr_pool_t *pool)
{
    apr_shm_t *shm;
    apr_status_t rv = apr_generate_random_bytes(runtime.secret,
                                                sizeof(runtime.secret));

    if (rv == APR_SUCCESS) {
        rv = find_prefix(pool);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_shm_create(&shm, sizeof(runtime_shared_t), NULL, pool);
    }
    if (rv == APR_SUCCESS) {
        runtime.shared = apr_shm_baseaddr_get(shm);
        /* The first create looks for what earlier generations have left: of
         * their deaths only they were told, and of some nobody is. */
        atomic_store(&runtime.shared->ended, 1);
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

void slotmem_runtime_child_ended(void)
{
    if (runtime.shared) {
        atomic_fetch_add(&runtime.shared->ended, 1);
    }
}

static void remove_file(const char *path)
{
    unlink(path);
}

void slotmem_runtime_end(apr_pool_t *pool)
{
    const char *root = ap_unixd_config.chroot_dir;
    apr_size_t i;

    for (i = 0; runtime.prefix && i < sizeof(directories) / sizeof(char *);
         i++) {
        each_file(apr_pstrcat(pool, root ? root : "", directories[i], NULL),
                  pool, remove_file);
    }
}

/* The same in all children of a generation, which run as one user. */
static const char *find_directory(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(directories) / sizeof(char *); i++) {
        if (access(directories[i], W_OK | X_OK) == 0) {
            return directories[i];
        }
    }
    return NULL;
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
    runtime.self = this_process();
    runtime.directory = find_directory();
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
                     "this child can create no segment at run time: no mutex");
    }
}

int slotmem_runtime_is_ready(void)
{
    return runtime.pool != NULL;
}

/* Say in the log why there is no segment. */
static void log_failure(apr_status_t rv, const char *name,
                        const slotmem_geometry_t *geometry)
{
    if (APR_STATUS_IS_TIMEUP(rv)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(52)
                     "segment %s: not created: another child has held the "
                     "lock of run-time names for %d seconds; if it is stopped, "
                     "kill -CONT it", name, (int)apr_time_sec(LOCK_WAIT));
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

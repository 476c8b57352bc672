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
 * slotmem_shm_dir.c: the files of run-time segments; see slotmem_shm_dir.h.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_file_info.h"
#include "apr_general.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_main.h"
#include "unixd.h"

#include "slotmem_instance.h"
#include "slotmem_log.h"
#include "slotmem_shm_dir.h"

static const char *const places[] = { "/dev/shm", "/tmp" };

#define PLACES (sizeof(places) / sizeof(places[0]))

/* Random numbers; never in shared memory. */
typedef unsigned char secret_t[APR_MD5_DIGESTSIZE];

/* What the server keeps over restarts: children of an old generation may run
 * for a long time, and all generations share the directory. */
typedef struct server_id_t {
    apr_uint64_t id;            /* others can read it, once there is a
                                   directory */
    secret_t secret;            /* they cannot compute the name of another
                                   directory from the first: that of another
                                   user or in another place */
    pid_t parent;               /* that ran post_config */
    const char *root;           /* ChrootDir, or "": httpd has forgotten it by
                                   the time it finds that it cannot restart */
} server_id_t;

#define SERVER_ID_KEY "mod_slotmem_shm/run-time directory"

/* Process-local. Set up in post_config, and the path in child_init. */
static struct {
    secret_t secret;            /* for the generation's names */
    const server_id_t *server;
    const char *path;           /* of the directory; NULL: no place for it, or
                                   not in a child */
    _Atomic int no_place_logged; /* 1: this child has logged SLOTMEM-50 */
} shm_dir;

void slotmem_shm_dir_reset(void)
{
    memset(&shm_dir, 0, sizeof(shm_dir));
}

static apr_status_t find_server_id(server_id_t **found)
{
    server_id_t *server = ap_retained_data_get(SERVER_ID_KEY);
    server_id_t fresh = { .root = NULL };
    apr_status_t rv;

    if (!server) {
        rv = apr_generate_random_bytes((unsigned char *)&fresh.id,
                                       sizeof(fresh.id));
        if (rv == APR_SUCCESS) {
            rv = apr_generate_random_bytes(fresh.secret, sizeof(fresh.secret));
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        server = ap_retained_data_create(SERVER_ID_KEY, sizeof(*server));
        *server = fresh;
    }
    *found = server;
    return APR_SUCCESS;
}

static void remember_root(server_id_t *server)
{
    const char *root = ap_unixd_config.chroot_dir;

    if (!root) {
        root = "";
    }
    if (!server->root || strcmp(server->root, root) != 0) {
        server->root = apr_pstrdup(ap_pglobal, root);
    }
}

/* The prefix of the names of this server's directories. */
static const char *prefix_of(const server_id_t *server, apr_pool_t *pool)
{
    return apr_psprintf(pool, SLOTMEM_NAME_PREFIX
                              "%016" APR_UINT64_T_HEX_FMT "-", server->id);
}

apr_status_t slotmem_shm_dir_prepare(void)
{
    server_id_t *server;
    apr_status_t rv = apr_generate_random_bytes(shm_dir.secret,
                                                sizeof(shm_dir.secret));

    if (rv == APR_SUCCESS) {
        rv = find_server_id(&server);
    }
    if (rv == APR_SUCCESS) {
        remember_root(server);
        server->parent = getpid();
        shm_dir.server = server;
    }
    return rv;
}

/* ---- names ---- */

/* A digest of a secret and a text; nested, so that a digest cannot be extended
 * to that of a longer text. what: 'd' for the directory, 'n' for a file, 'p'
 * for the proof, which the header of the segment holds */
static void digest_of(unsigned char *digest, const secret_t secret, char what,
                      const char *text, apr_size_t len)
{
    unsigned char inner[APR_MD5_DIGESTSIZE];
    apr_md5_ctx_t md5;

    apr_md5_init(&md5);
    apr_md5_update(&md5, secret, sizeof(secret_t));
    apr_md5_update(&md5, &what, 1);
    apr_md5_update(&md5, text, len);
    apr_md5_final(inner, &md5);
    apr_md5_init(&md5);
    apr_md5_update(&md5, secret, sizeof(secret_t));
    apr_md5_update(&md5, inner, sizeof(inner));
    apr_md5_final(digest, &md5);
}

/* A path that ends with such a digest. */
static const char *path_of(const char *start, const secret_t secret, char what,
                           const char *text, apr_size_t len, apr_pool_t *pool)
{
    apr_uint64_t digest[APR_MD5_DIGESTSIZE / sizeof(apr_uint64_t)];

    digest_of((unsigned char *)digest, secret, what, text, len);
    return apr_psprintf(pool, "%s%016" APR_UINT64_T_HEX_FMT
                              "%016" APR_UINT64_T_HEX_FMT,
                        start, digest[0], digest[1]);
}

/* Processes of the same user can read the file: that does not help them to
 * forge that of another name. */
slotmem_shm_name_t slotmem_shm_dir_name(const char *name, apr_pool_t *pool)
{
    slotmem_shm_name_t shm_name;
    apr_ssize_t len;
    const char *key
        = slotmem_instance_key(slotmem_instance_normalize(name, pool), &len);

    memset(&shm_name, 0, sizeof(shm_name));
    digest_of(shm_name.proof, shm_dir.secret, 'p', key, (apr_size_t)len);
    shm_name.path = path_of(apr_pstrcat(pool, shm_dir.path, "/", NULL),
                            shm_dir.secret, 'n', key, (apr_size_t)len, pool);
    return shm_name;
}

/* ---- the directory, in a child ---- */

void slotmem_shm_dir_child_init(apr_pool_t *pool)
{
    const char *start;
    const char *user;
    apr_size_t i;

    for (i = 0; i < PLACES && access(places[i], W_OK | X_OK) != 0; i++) {
    }
    if (i == PLACES || !shm_dir.server) {
        return;
    }
    start = apr_pstrcat(pool, places[i], "/", prefix_of(shm_dir.server, pool),
                        NULL);
    user = apr_psprintf(pool, "%lu:%s", (unsigned long)geteuid(), places[i]);
    shm_dir.path = path_of(start, shm_dir.server->secret, 'd', user,
                           strlen(user), pool);
}

int slotmem_shm_dir_is_known(void)
{
    return shm_dir.path != NULL;
}

static void log_no_place(void)
{
    const char *root = ap_unixd_config.chroot_dir;

    if (!atomic_exchange(&shm_dir.no_place_logged, 1)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(50)
                     "cannot create segments at run time: below %s, expected a "
                     "directory %s or %s that the children can write to, found "
                     "none: create one with mkdir -p -m 1777",
                     root ? root : "/", places[0], places[1]);
    }
}

apr_status_t slotmem_shm_dir_make(void)
{
    struct stat info;

    if (!shm_dir.path) {
        log_no_place();
        return APR_ENOENT;
    }
    if (mkdir(shm_dir.path, 0700) == 0) {
        return APR_SUCCESS;
    }
    if (errno != EEXIST || lstat(shm_dir.path, &info) != 0) {
        return errno;
    }
    return S_ISDIR(info.st_mode) && info.st_uid == geteuid()
                   && !(info.st_mode & 077)
           ? APR_SUCCESS : APR_EEXIST;
}

apr_status_t slotmem_shm_dir_each(apr_pool_t *pool, slotmem_visit_t visit)
{
    apr_status_t rv = APR_SUCCESS;
    apr_finfo_t info;
    apr_dir_t *dir;

    if (apr_dir_open(&dir, shm_dir.path, pool) != APR_SUCCESS) {
        return APR_SUCCESS;
    }
    while (rv == APR_SUCCESS
           && (apr_dir_read(&info, APR_FINFO_NAME, dir) == APR_SUCCESS
               || (info.valid & APR_FINFO_NAME))) {
        if (info.name[0] != '.') {
            rv = visit(apr_pstrcat(pool, shm_dir.path, "/", info.name, NULL),
                       pool);
        }
        info.valid = 0;
    }
    apr_dir_close(dir);
    return rv;
}

/* ---- the end, in the parent ---- */

/* The children's user could have put a link in the directory's place, or in it,
 * and this process may be root. So remove only names, in the directory that was
 * opened. */
static void remove_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    if (fd < 0) {
        unlink(path);           /* not a directory */
        return;
    }
    if (!dir) {
        close(fd);
        return;
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.') {
            unlinkat(fd, entry->d_name, 0);
        }
    }
    closedir(dir);
    rmdir(path);
}

static void remove_directories(const char *place, const char *prefix,
                               apr_pool_t *pool)
{
    apr_size_t len = strlen(prefix);
    apr_finfo_t info;
    apr_dir_t *dir;

    if (apr_dir_open(&dir, place, pool) != APR_SUCCESS) {
        return;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, dir) == APR_SUCCESS
           || (info.valid & APR_FINFO_NAME)) {
        if (strncmp(info.name, prefix, len) == 0) {
            remove_directory(apr_pstrcat(pool, place, "/", info.name, NULL));
        }
        info.valid = 0;
    }
    apr_dir_close(dir);
}

void slotmem_shm_dir_remove_all(apr_pool_t *pool)
{
    const server_id_t *server = ap_retained_data_get(SERVER_ID_KEY);
    apr_size_t i;

    if (!server || server->parent != getpid()) {
        return;
    }
    for (i = 0; i < PLACES; i++) {
        remove_directories(apr_pstrcat(pool, server->root, places[i], NULL),
                           prefix_of(server, pool), pool);
    }
}

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
 * host.c: see host.h.
 */

#include "host.h"

#include "http_core.h"
#include "http_log.h"
#include "scoreboard.h"
#include "unixd.h"
#include "ap_listen.h"
#include "ap_provider.h"

#include "apr_hash.h"
#include "apr_hooks.h"
#include "apr_strings.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

AP_DECLARE_DATA server_rec *ap_server_conf;
AP_DECLARE_DATA apr_pool_t *ap_pglobal;
AP_DECLARE_DATA const char *ap_pid_fname = "httpd.pid";

static host_dso_t *dso_now;

void host_use(host_dso_t *dso)
{
    dso_now = dso;
    ap_server_conf = dso->server;
    ap_pglobal = dso->process_pool;
}

/* ---- the functions of httpd that a slotmem module calls ---- */

#define HOOKED(name, order) dso_now->name = pf, dso_now->name##_order = order
#include "httpd_stubs.h"

apr_status_t ap_register_provider(apr_pool_t *pool, const char *group,
                                  const char *name, const char *version,
                                  const void *provider)
{
    (void)pool;
    (void)group;
    (void)version;
    if (strcmp(name, "shm") == 0) {
        dso_now->provider = provider;
    }
    return APR_SUCCESS;
}

int ap_state_query(int query)
{
    return query == AP_SQ_MAIN_STATE ? dso_now->main_state
           : query == AP_SQ_CONFIG_GEN ? dso_now->config_generation
                                       : AP_SQ_NOT_SUPPORTED;
}

/* This host does not listen. */
ap_listen_rec *ap_listeners;

void *ap_retained_data_get(const char *key)
{
    return apr_hash_get(dso_now->retained, key, APR_HASH_KEY_STRING);
}

void *ap_retained_data_create(const char *key, apr_size_t size)
{
    void *data = apr_pcalloc(dso_now->process_pool, size);

    apr_hash_set(dso_now->retained, apr_pstrdup(dso_now->process_pool, key),
                 APR_HASH_KEY_STRING, data);
    return data;
}

apr_status_t ap_mpm_query(int query, int *result)
{
    *result = query == AP_MPMQ_GENERATION ? dso_now->generation : 0;
    return APR_SUCCESS;
}

/* There is no mod_proxy here, so the two after this are never called. */
module *ap_find_linked_module(const char *name)
{
    (void)name;
    return NULL;
}

void *ap_lookup_provider(const char *group, const char *name,
                         const char *version)
{
    (void)group;
    (void)name;
    (void)version;
    return NULL;
}

apr_status_t ap_pstr2_alnum(apr_pool_t *pool, const char *from,
                            const char **to)
{
    *to = apr_pstrdup(pool, from);
    return APR_SUCCESS;
}

int ap_exists_scoreboard_image(void)
{
    return dso_now->has_scoreboard;
}

void ap_log_error_(const char *file, int line, int module_index, int level,
                   apr_status_t status, const server_rec *s, const char *fmt,
                   ...)
{
    char text[2048];
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)s;
    level &= APLOG_LEVELMASK;
    if (level > APLOG_DEBUG) {
        return;
    }
    va_start(args, fmt);
    apr_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    dso_now->lines[level]++;
    free(dso_now->last_line[level]);
    dso_now->last_line[level] = strdup(text);
    if (getenv("HOST_LOG")) {
        fprintf(stderr, "%s: level %d: (%d) %s\n", dso_now->name, level,
                status, text);
    }
}

char *ap_runtime_dir_relative(apr_pool_t *p, const char *file)
{
    return apr_pstrcat(p, dso_now->runtime_dir, "/", file, NULL);
}

int ap_os_is_path_absolute(apr_pool_t *p, const char *path)
{
    (void)p;
    return *path == '/';
}

/* For requests; this host serves none. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define ABSENT(type, name, parameters) \
    type name parameters; \
    type name parameters \
    { \
        abort(); \
    }
ABSENT(void, ap_allow_standard_methods, (request_rec *r, int reset, ...))
ABSENT(char *, ap_escape_html2, (apr_pool_t *p, const char *s, int toasc))
ABSENT(int, ap_rprintf, (request_rec *r, const char *fmt, ...))
ABSENT(int, ap_rvputs, (request_rec *r, ...))
ABSENT(int, ap_rwrite, (const void *buf, int nbyte, request_rec *r))
ABSENT(void, ap_set_content_type, (request_rec *r, const char *type))
#pragma GCC diagnostic pop

/* ---- the phases ---- */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "host: %s: %s\n", what, why);
    exit(2);
}

host_dso_t *host_load(const char *name, const char *path,
                      const char *runtime_dir, apr_pool_t *process_pool)
{
    host_dso_t *dso = apr_pcalloc(process_pool, sizeof(*dso));
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!handle) {
        fail(path, dlerror());
    }
    dso->module = dlsym(handle, "slotmem_shm_module");
    if (!dso->module) {
        fail(path, "it has no symbol slotmem_shm_module");
    }
    dso->name = name;
    dso->runtime_dir = runtime_dir;
    dso->process_pool = process_pool;
    dso->retained = apr_hash_make(process_pool);
    dso->server = apr_pcalloc(process_pool, sizeof(*dso->server));
    dso->server->process = apr_pcalloc(process_pool, sizeof(process_rec));
    dso->server->process->pool = process_pool;
    host_use(dso);
    apr_hook_global_pool = process_pool;
    dso->module->register_hooks(process_pool);
    if (!dso->provider) {
        fail(path, "it does not register a provider named shm");
    }
    return dso;
}

static void set_directive(host_dso_t *dso, const char *name, const char *arg)
{
    const command_rec *directive = dso->module->cmds;
    cmd_parms cmd;
    const char *error;

    while (directive && directive->name && strcmp(directive->name, name)) {
        directive++;
    }
    if (!directive || !directive->name) {
        return;
    }
    memset(&cmd, 0, sizeof(cmd));
    cmd.pool = dso->pconf;
    cmd.temp_pool = dso->pconf;
    cmd.server = dso->server;
    cmd.cmd = directive;
    error = directive->AP_TAKE1(&cmd, NULL, arg);
    if (error) {
        fail(name, error);
    }
}

static void run_post_config(host_dso_t *dso)
{
    if (dso->post_config
        && dso->post_config(dso->pconf, dso->process_pool, dso->pconf,
                            dso->server) != OK) {
        fail(dso->name, "post_config");
    }
}

void host_configure(host_dso_t *dso, const char *const *directives)
{
    host_use(dso);
    dso->config_generation++;
    dso->main_state = dso->has_scoreboard ? AP_SQ_MS_CREATE_CONFIG
                                          : AP_SQ_MS_CREATE_PRE_CONFIG;
    apr_pool_create(&dso->pconf, dso->process_pool);
    if (dso->pre_config
        && dso->pre_config(dso->pconf, dso->process_pool, dso->pconf) != OK) {
        fail(dso->name, "pre_config");
    }
    for (; directives && *directives; directives += 2) {
        set_directive(dso, directives[0], directives[1]);
    }
    if (dso->post_config_order < APR_HOOK_MIDDLE) {
        run_post_config(dso);
    }
}

void host_configured(host_dso_t *dso)
{
    host_use(dso);
    if (dso->post_config_order >= APR_HOOK_MIDDLE) {
        run_post_config(dso);
    }
}

void host_reach_mpm(host_dso_t *dso)
{
    host_use(dso);
    if (dso->optional_fn_retrieve) {
        dso->optional_fn_retrieve();
    }
    if (!dso->has_scoreboard && dso->pre_mpm) {
        dso->pre_mpm(dso->pconf, SB_SHARED);
    }
    dso->has_scoreboard = 1;
    dso->main_state = AP_SQ_MS_RUN_MPM;
}

void host_child_init(host_dso_t *dso, apr_pool_t *pchild)
{
    host_use(dso);
    if (dso->drop_privileges) {
        dso->drop_privileges(pchild, dso->server);
    }
    if (dso->child_init) {
        dso->child_init(pchild, dso->server);
    }
}

void host_monitor(host_dso_t *dso)
{
    host_use(dso);
    if (dso->monitor) {
        dso->monitor(dso->pconf, dso->server);
    }
}

void host_settle(void)
{
    siginfo_t info;

    while (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
}

void host_end(host_dso_t *dso)
{
    host_use(dso);
    if (dso->main_state == AP_SQ_MS_RUN_MPM) {
        dso->generation++;
    }
    dso->main_state = AP_SQ_MS_DESTROY_CONFIG;
    apr_pool_destroy(dso->pconf);
    dso->pconf = NULL;
}

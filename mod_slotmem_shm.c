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
 * mod_slotmem_shm.c: slots in shared memory for other modules. A file keeps the
 * slots over restarts. This source has the module record, the directives and
 * the hooks, which make up the lifecycle; slotmem_provider.c has the calls for
 * other modules. docs/architecture.md describes all rooms, docs/contract.md the
 * contract.
 *
 * Lifecycle. Each configuration pass starts in pre_config, without instances.
 * create makes anonymous shared memory in a pool that has no parent, and
 * restores it from its persisted file; the children inherit it by fork. When
 * pconf is cleared, at a restart or stop, one cleanup stores the persisted
 * segments and then frees the memory. It was registered first, so that the
 * consumers' cleanups have run by then. It acts only in the process that ran
 * post_config, and stores only if the generation reached the MPM. In between,
 * the monitor hook stores what has changed.
 *
 * A child that creates a new name at run time makes named shared memory in a
 * pool of its own; its siblings attach it by that name. These segments are not
 * persisted, and the parent never maps them.
 *
 * A crash leaves the persisted files of the last store, complete. If the parent
 * is killed, the run-time segments of children that are killed with it also
 * leave their files in /dev/shm.
 *
 * Concurrency. Children do not change what pre_config to post_config set up,
 * and read it without a lock. Run-time names are guarded by one mutex between
 * processes and threads. Slots and their in-use map take no lock.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"
#include "http_protocol.h"
#include "http_request.h"
#include "ap_release.h"
#include "mpm_common.h"
#include "scoreboard.h"
#include "ap_provider.h"
#include "ap_mpm.h"
#include "ap_slotmem.h"
#include "mod_status.h"

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 9)
#error "mod_slotmem_shm needs httpd 2.4.4 or later: before it, no fgrab"
#endif

#include "mod_slotmem_shm.h"
#include "slotmem_export.h"
#include "slotmem_instance.h"
#include "slotmem_log.h"
#include "slotmem_page.h"
#include "slotmem_persist.h"
#include "slotmem_provider.h"
#include "slotmem_proxy.h"
#include "slotmem_runtime.h"
#include "slotmem_status.h"

/* Default of SlotmemCheckpointInterval, in seconds. */
#define CHECKPOINT_INTERVAL 30

/* Process-local; reset by pre_config. */
static struct {
    apr_pool_t *pool;               /* no parent; NULL before pre_config */
    apr_interval_time_t checkpoint; /* SlotmemCheckpointInterval */
    pid_t parent;                   /* the process that ran post_config, or 0 */
    int serves;                     /* 1: this pass is meant to serve: it is not
                                       the first pass, and not a check (-t) */
} state;

/* ---- directives ---- */

/* A server does not start with a directory that cannot be trusted. At a restart
 * it goes on, without storing. */
static const char *set_persist_dir(cmd_parms *cmd, void *config,
                                   const char *arg)
{
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    const char *configured = ap_server_root_relative(cmd->pool, arg);
    const char *path = configured;
    const char *group_writable = NULL;

    (void)config;
    if (error) {
        return error;
    }
    if (!path) {
        error = apr_psprintf(cmd->pool, "%s is not a valid path", arg);
    }
    else {
        path = slotmem_directory_configure(path, ap_state_query(AP_SQ_RUN_MODE)
                                                 == AP_SQ_RM_NORMAL, &error,
                                           &group_writable, cmd->pool);
    }
    if (group_writable) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, cmd->server,
                     SLOTMEM_TAG(06)
                     "%s: %s is writable by its group, whose members can "
                     "remove files in it", cmd->cmd->name, group_writable);
    }
    if (error && path && slotmem_persist_is_restart()) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, cmd->server,
                     SLOTMEM_TAG(44)
                     "%s: %s; until that is fixed, nothing is restored from "
                     "this directory or stored in it", cmd->cmd->name, error);
    }
    else if (error) {
        return apr_pstrcat(cmd->pool, SLOTMEM_TAG(20), cmd->cmd->name, ": ",
                           error, NULL);
    }
    slotmem_instance_set_prefix(
        ap_make_full_path(state.pool, path, SLOTMEM_NAME_PREFIX),
        ap_make_full_path(state.pool, configured, SLOTMEM_NAME_PREFIX));
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
                            "%s: expected 0 to 2147483647 whole seconds, found "
                            "\"%s\"", cmd->cmd->name, arg);
    }
    state.checkpoint = apr_time_from_sec(seconds);
    return NULL;
}

static const command_rec slotmem_directives[] = {
    AP_INIT_TAKE1("SlotmemPersistDir", set_persist_dir, NULL, RSRC_CONF,
                  "directory for the persisted files of segments with relative "
                  "names; default: DefaultRuntimeDir"),
    AP_INIT_TAKE1("SlotmemCheckpointInterval", set_checkpoint_interval, NULL,
                  RSRC_CONF, "seconds between checkpoints; 0: no checkpoints; "
                  "default: 30"),
    { .name = NULL }
};

/* ---- hooks ---- */

/* A generation starts; with no pool, it has ended. */
static void reset_rooms(apr_pool_t *pool, const char *default_prefix)
{
    slotmem_instance_reset(pool, default_prefix);
    slotmem_runtime_reset();
    slotmem_status_reset(pool);
    slotmem_proxy_reset(pool);
    slotmem_persist_reset(pool);
}

/* The generation ends: store it if it ever ran, and free its memory. A forked
 * process that clears its copy of pconf on exit must do neither. */
static apr_status_t end_generation(void *data)
{
    int restarting = ap_state_query(AP_SQ_MAIN_STATE)
                     == AP_SQ_MS_DESTROY_CONFIG;
    apr_pool_t *pool = state.pool;

    (void)data;
    if (state.parent && state.parent != getpid()) {
        return APR_SUCCESS;
    }
    slotmem_persist_end(restarting, state.serves);
    if (!restarting) {
        slotmem_runtime_end(pool);
    }
    memset(&state, 0, sizeof(state));
    reset_rooms(NULL, NULL);
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

/* If a restart cannot even read the configuration, the parent exits without a
 * pre_config. Store now what is only in memory, and remove what children that
 * were killed have left. */
static apr_status_t end_unread(void *data)
{
    apr_pool_t *pool;

    (void)data;
    if (state.pool
        || apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return APR_SUCCESS;
    }
    slotmem_persist_reset(pool);
    slotmem_persist_end(0, 0);
    slotmem_persist_reset(NULL);
    slotmem_runtime_end(pool);
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

static int slotmem_pre_config(apr_pool_t *pconf, apr_pool_t *plog,
                              apr_pool_t *ptemp)
{
    const char *prefix;

    (void)plog;
    (void)ptemp;
    memset(&state, 0, sizeof(state));
    reset_rooms(NULL, NULL);
    /* No parent pool: consumers' cleanups still use this memory after pconf's
     * subpools are gone, and while exit() runs. */
    if (apr_pool_create_unmanaged_ex(&state.pool, apr_pool_abort_get(pconf),
                                     NULL) != APR_SUCCESS) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    apr_pool_tag(state.pool, "slotmem_shm");
    state.checkpoint = apr_time_from_sec(CHECKPOINT_INTERVAL);
    prefix = ap_runtime_dir_relative(state.pool, SLOTMEM_NAME_PREFIX);
    if (!prefix) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(07)
                     "DefaultRuntimeDir is not a valid path");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    reset_rooms(state.pool, prefix);
    apr_pool_cleanup_register(pconf, NULL, end_generation,
                              apr_pool_cleanup_null);
    return OK;
}

static int slotmem_post_config(apr_pool_t *pconf, apr_pool_t *plog,
                               apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    state.serves = ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_CONFIG
                   && ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_NORMAL;
    state.parent = getpid();    /* not in pre_config: httpd detaches later */
    if (state.serves) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s,
                     SLOTMEM_TAG(60)
                     "version %s, built for httpd %s", SLOTMEM_VERSION,
                     AP_SERVER_BASEREVISION);
    }
    slotmem_runtime_prepare(s, state.pool);
    return OK;
}

/* From here on this generation's state counts (B10). Runs after the scoreboard
 * was created, which is the last step of a first start that can fail. */
static int slotmem_pre_mpm(apr_pool_t *pool, ap_scoreboard_e type)
{
    (void)pool;
    (void)type;
    slotmem_persist_enable();
    return OK;
}

/* Runs after post_config in every pass except the first. At a restart the
 * scoreboard exists already, and a graceful restart runs no pre_mpm. */
static void slotmem_optional_fn_retrieve(void)
{
    if (ap_exists_scoreboard_image()) {
        slotmem_persist_enable();
    }
}

/* In the parent, about every ten seconds. Do not allocate from pconf: it would
 * grow until the next restart. */
static int slotmem_monitor(apr_pool_t *pconf, server_rec *s)
{
    (void)pconf;
    (void)s;
    slotmem_persist_checkpoint(state.checkpoint);
    return OK;
}

/* In the parent, which has just reaped the child. During a graceful stop no
 * other hook runs until the last request has ended. */
static void slotmem_child_status(server_rec *s, pid_t pid, ap_generation_t gen,
                                 int slot, mpm_child_status status)
{
    int mpm_state;

    (void)s;
    (void)pid;
    (void)gen;
    (void)slot;
    if (status != MPM_CHILD_EXITED || state.parent != getpid()) {
        return;
    }
    slotmem_runtime_child_ended();
    if (ap_mpm_query(AP_MPMQ_MPM_STATE, &mpm_state) == APR_SUCCESS
        && mpm_state == AP_MPMQ_STOPPING) {
        slotmem_persist_stopping();
    }
}

/* In each process that the parent forks and that drops its privileges: the
 * children and the daemon of mod_cgid. Under -X it is the parent itself. */
static int slotmem_drop_privileges(apr_pool_t *pchild, server_rec *s)
{
    (void)pchild;
    (void)s;
    if (state.parent != getpid()) {
        slotmem_persist_drop_in_child();
    }
    return OK;
}

static int slotmem_status(request_rec *r, int flags)
{
    if (flags & AP_STATUS_SHORT) {
        slotmem_export_auto(r);
    }
    else {
        slotmem_page_write(r, !(flags & AP_STATUS_NOTABLE));
    }
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
    return slotmem_export_answer(r);
}

static void slotmem_register_hooks(apr_pool_t *pool)
{
    /* A pre-cleanup, so that it runs before the DSO is unloaded. */
    apr_pool_pre_cleanup_register(pool, NULL, end_unread);
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
    ap_hook_child_status(slotmem_child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_drop_privileges(slotmem_drop_privileges, NULL, NULL,
                            APR_HOOK_REALLY_FIRST);
    ap_hook_child_init(slotmem_runtime_child_init, NULL, NULL,
                       APR_HOOK_REALLY_FIRST);
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

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
 * host.h: a small process that plays httpd for one or more slotmem DSOs.
 *
 * Each DSO gets its own DefaultRuntimeDir, pconf and log, so that a program can
 * make the same calls to two of them side by side. The phases are those of a
 * server, in this order:
 *
 *     host_load        LoadModule
 *     host_configure   a configuration pass: pre_config, and post_config of a
 *                      DSO that runs before its consumers, which come next
 *     host_configured  post_config of a DSO that runs after its consumers
 *     host_reach_mpm   optional_fn_retrieve, pre_mpm: the generation runs
 *     host_child_init  in a forked process
 *     host_monitor     the parent's monitor hook
 *     host_settle      waits for the processes that the DSOs started
 *     host_end         pconf is cleared, as at a restart
 *
 * The program calls the provider's functions directly. It must call host_use()
 * first when create or attach may ask httpd for a path, and before any hook
 * that is not in the list above; the phases do so themselves.
 *
 * Link with -Wl,-E and -Wl,--no-as-needed, so that the DSOs find the functions
 * of httpd and APR in the program.
 */

#ifndef HOST_H
#define HOST_H

#include "apr_hash.h"

#include "httpd.h"
#include "http_config.h"
#include "ap_mpm.h"
#include "mpm_common.h"
#include "ap_slotmem.h"

typedef struct host_dso_t {
    const char *name;               /* for messages: "ours" and so on */
    const char *runtime_dir;        /* DefaultRuntimeDir, absolute */
    const ap_slotmem_provider_t *provider;
    module *module;
    apr_pool_t *process_pool;
    apr_pool_t *pconf;              /* NULL between two generations */
    server_rec *server;
    int main_state;                 /* AP_SQ_MS_* */
    int has_scoreboard;
    int generation;
    int config_generation;          /* configuration passes so far */
    apr_hash_t *retained;           /* ap_retained_data_*() */
    /* number of log lines since the start, by level, and the last of each */
    unsigned lines[APLOG_DEBUG + 1];
    char *last_line[APLOG_DEBUG + 1];
    /* the DSO's hooks; NULL if it has none */
    ap_HOOK_pre_config_t *pre_config;
    int pre_config_order;
    ap_HOOK_post_config_t *post_config;
    int post_config_order;
    ap_HOOK_pre_mpm_t *pre_mpm;
    int pre_mpm_order;
    ap_HOOK_optional_fn_retrieve_t *optional_fn_retrieve;
    int optional_fn_retrieve_order;
    ap_HOOK_monitor_t *monitor;
    int monitor_order;
    ap_HOOK_child_init_t *child_init;
    int child_init_order;
    ap_HOOK_child_status_t *child_status;
    int child_status_order;
    ap_HOOK_drop_privileges_t *drop_privileges;
    int drop_privileges_order;
} host_dso_t;

/* Loads the DSO at path. Ends the program with a message if it cannot. */
host_dso_t *host_load(const char *name, const char *path,
                      const char *runtime_dir, apr_pool_t *process_pool);

/* From now on httpd's functions act for this DSO. */
void host_use(host_dso_t *dso);

/* The directives are pairs of name and argument, ended by NULL; NULL for none.
 * Directives that the DSO does not have are skipped. */
void host_configure(host_dso_t *dso, const char *const *directives);

void host_configured(host_dso_t *dso);
void host_reach_mpm(host_dso_t *dso);
void host_child_init(host_dso_t *dso, apr_pool_t *pchild);
void host_monitor(host_dso_t *dso);
void host_settle(void);
void host_end(host_dso_t *dso);

#endif

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
 * slotmem_proxy_slot.c: one slot of mod_proxy_balancer's; see
 * slotmem_proxy_slot.h.
 */

#include <stdlib.h>
#include <string.h>

#include "apr_escape.h"
#include "apr_strings.h"
#include "apr_uuid.h"

#include "httpd.h"
#include "http_config.h"
#include "ap_provider.h"

#include "slotmem_log.h"
#include "slotmem_proxy_slot.h"

#if SLOTMEM_HAVE_PROXY

#define TERMINATE(field) ((field)[sizeof(field) - 1] = '\0')

void slotmem_member_terminate(proxy_worker_shared *stored)
{
    TERMINATE(stored->name);
    TERMINATE(stored->scheme);
    TERMINATE(stored->hostname);
    TERMINATE(stored->route);
    TERMINATE(stored->redirect);
    TERMINATE(stored->flusher);
    TERMINATE(stored->uds_path);
    TERMINATE(stored->hcuri);
    TERMINATE(stored->hcexpr);
    TERMINATE(stored->upgrade);
    TERMINATE(stored->hostname_ex);
    TERMINATE(stored->secret);
    TERMINATE(stored->name_ex);
}

void slotmem_balancer_terminate(proxy_balancer_shared *stored)
{
    TERMINATE(stored->sticky_path);
    TERMINATE(stored->sticky);
    TERMINATE(stored->lbpname);
    TERMINATE(stored->nonce);
    TERMINATE(stored->name);
    TERMINATE(stored->sname);
    TERMINATE(stored->vpath);
    TERMINATE(stored->vhost);
}

const char *slotmem_display_url(const char *url, apr_pool_t *pool)
{
    const char *host = strstr(url, "://");
    const char *at = NULL;
    apr_size_t scheme;

    if (host) {
        host += 3;
        at = memchr(host, '@', strcspn(host, "/"));
    }
    if (!at) {
        return apr_pescape_echo(pool, url, 0);
    }
    scheme = (apr_size_t)(host - url);
    return apr_pescape_echo(pool, apr_pstrcat(pool,
                                              apr_pstrmemdup(pool, url, scheme),
                                              at + 1, NULL), 0);
}

const char *slotmem_member_name(const proxy_worker_shared *stored,
                                apr_pool_t *pool)
{
    return slotmem_display_url(*stored->name_ex ? stored->name_ex
                                                : stored->name, pool);
}

/* ---- members ---- */

/* Marks that a health check has failed are of no use where nothing will take
 * them back. */
static int has_health_check(const proxy_worker_shared *slot)
{
    return slot->method != NONE
           && ap_find_linked_module("mod_proxy_hcheck.c") != NULL;
}

#define NOT_NEGATIVE(n) ((n) > 0 ? (n) : 0)

/* What happened, and still means something to a new generation. */
static void carry_over(proxy_worker_shared *slot,
                       const proxy_worker_shared *stored)
{
    const unsigned int cleared = PROXY_WORKER_IN_ERROR | PROXY_WORKER_HC_FAIL
                                 | PROXY_WORKER_INITIALIZED;
    unsigned int carried = PROXY_WORKER_IN_ERROR;
    apr_time_t now = apr_time_now();

    if (has_health_check(slot)) {
        carried |= PROXY_WORKER_HC_FAIL;
    }
    slot->status = (slot->status & ~cleared) | (stored->status & carried);
    slot->error_time = stored->error_time > now
                       ? now : NOT_NEGATIVE(stored->error_time);
    slot->elected = stored->elected;
    slot->transferred = NOT_NEGATIVE(stored->transferred);
    slot->read = NOT_NEGATIVE(stored->read);
    slot->retries = NOT_NEGATIVE(stored->retries);
    slot->pcount = NOT_NEGATIVE(stored->pcount);
    slot->fcount = NOT_NEGATIVE(stored->fcount);
}

/* What no generation can take over from another. */
static void clear_generation(proxy_worker_shared *slot, int index)
{
    slot->index = index;
    slot->context = NULL;
    slot->was_malloced = 0;
    slot->busy = 0;
    slot->lbstatus = 0;
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 130)
    slot->address_expiry = 0;
#endif
}

const char *slotmem_member_merge(proxy_worker_shared *slot, int index,
                                 const proxy_worker_shared *config,
                                 const proxy_worker_shared *stored,
                                 const apr_table_t *then, apr_pool_t *pool)
{
    const char *overruled;

    *slot = *config;
    overruled = slotmem_words_merge(slotmem_member_settings, slot, stored, then,
                                    pool);
    carry_over(slot, stored);
    clear_generation(slot, index);
    return overruled;
}

/* A buffer of this size is no member's. */
#define MOST_BUFFER ((apr_size_t)1024 * 1024)

/* Values that would hurt become what mod_proxy takes for "not set". */
static void limit_resources(proxy_worker_shared *slot)
{
    slot->min = 0;
    slot->hmax = 0;
    slot->smax = -1;
    slot->ttl = NOT_NEGATIVE(slot->ttl);
    slot->flush_wait = NOT_NEGATIVE(slot->flush_wait);
    if (slot->flush_packets != flush_on && slot->flush_packets != flush_auto) {
        slot->flush_packets = flush_off;
    }
#define LIMIT(field) \
    if (slot->field < 0) { \
        slot->field = 0; \
        slot->field##_set = 0; \
    }
    LIMIT(retry)
    LIMIT(timeout)
    LIMIT(acquire)
    LIMIT(ping_timeout)
    LIMIT(conn_timeout)
#undef LIMIT
#define LIMIT(field) \
    if (slot->field > MOST_BUFFER) { \
        slot->field = 0; \
        slot->field##_set = 0; \
    }
    LIMIT(recv_buffer_size)
    LIMIT(io_buffer_size)
    LIMIT(response_field_size)
#undef LIMIT
}

void slotmem_member_keep(proxy_worker_shared *slot, int index,
                         const proxy_worker_shared *stored)
{
    apr_time_t now = apr_time_now();

    *slot = *stored;
    slotmem_words_limit(slotmem_member_settings, slot);
    limit_resources(slot);
    carry_over(slot, stored);
    clear_generation(slot, index);
    if (slot->updated <= 0 || slot->updated > now) {
        slot->updated = now;
    }
}

/* ---- balancers ---- */

#define WORD_NONCE "nonce"
#define WORD_MEMBERS "members"

void slotmem_balancer_words(apr_array_header_t *strings,
                            const proxy_balancer_shared *config, int members)
{
    slotmem_words_pair(strings, WORD_NONCE,
                       config->nonce_set ? "configured" : "generated");
    slotmem_words_pair(strings, WORD_MEMBERS,
                       apr_itoa(strings->pool, members));
}

/* The stored nonce stays, so that a page of the balancer-manager which somebody
 * has open goes on working; unless a configuration gives it, or gave it. */
static void merge_nonce(proxy_balancer_shared *slot,
                        const proxy_balancer_shared *stored,
                        const apr_table_t *then)
{
    const char *origin = then ? apr_table_get(then, WORD_NONCE) : NULL;
    apr_uuid_t uuid;

    if (!slot->nonce_set && !(origin && strcmp(origin, "configured") == 0)
        && apr_uuid_parse(&uuid, stored->nonce) == APR_SUCCESS) {
        memcpy(slot->nonce, stored->nonce, sizeof(slot->nonce));
    }
}

/* mod_proxy sets max_attempts itself when nobody has, to the number of members
 * less one. */
static void forget_default_attempts(proxy_balancer_shared *stored,
                                    const apr_table_t *then)
{
    const char *members = then ? apr_table_get(then, WORD_MEMBERS) : NULL;

    if (members && !apr_table_get(then, "maxattempts")
        && stored->max_attempts == atoi(members) - 1) {
        stored->max_attempts_set = 0;
    }
}

static int has_method(const char *name)
{
    return ap_lookup_provider(PROXY_LBMETHOD, name, "0") != NULL;
}

/* mod_proxy_balancer ends the server for a method that nobody provides. */
static void check_method(proxy_balancer_shared *slot, const char *configured,
                         apr_pool_t *pool)
{
    if (has_method(slot->lbpname)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 SLOTMEM_TAG(26)
                 "balancer %s: no loaded module provides the lbmethod %s, "
                 "which was set at run time; %s is used, as configured",
                 slotmem_display_url(slot->name, pool),
                 apr_pescape_echo(pool, slot->lbpname, 0), configured);
    apr_cpystrn(slot->lbpname, configured, sizeof(slot->lbpname));
}

const char *slotmem_balancer_merge(proxy_balancer_shared *slot, int index,
                                   const char *sname,
                                   const proxy_balancer_shared *config,
                                   const proxy_balancer_shared *stored,
                                   const apr_table_t *then, apr_pool_t *pool)
{
    proxy_balancer_shared usable = *stored;
    const char *overruled = NULL;

    forget_default_attempts(&usable, then);
    if (config) {
        *slot = *config;
        overruled = slotmem_words_merge(slotmem_balancer_settings, slot,
                                        &usable, then, pool);
        merge_nonce(slot, stored, then);
    }
    else {
        *slot = usable;
    }
    check_method(slot, config ? config->lbpname : "byrequests", pool);
    apr_cpystrn(slot->sname, sname, sizeof(slot->sname));
    slot->index = index;
    slot->was_malloced = 0;
    return overruled;
}

#endif /* SLOTMEM_HAVE_PROXY */

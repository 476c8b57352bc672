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
 * slotmem_proxy_slot.c: one slot of mod_proxy_balancer; see
 * slotmem_proxy_slot.h.
 */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "apr_escape.h"
#include "apr_strings.h"
#include "apr_uri.h"
#include "apr_uuid.h"

#include "httpd.h"
#include "http_config.h"
#include "ap_provider.h"

#include "slotmem_log.h"
#include "slotmem_proxy_slot.h"

#if SLOTMEM_HAVE_PROXY

void slotmem_member_terminate(proxy_worker_shared *stored)
{
    SLOTMEM_TERMINATE(stored->name);
    SLOTMEM_TERMINATE(stored->scheme);
    SLOTMEM_TERMINATE(stored->hostname);
    SLOTMEM_TERMINATE(stored->route);
    SLOTMEM_TERMINATE(stored->redirect);
    SLOTMEM_TERMINATE(stored->flusher);
    SLOTMEM_TERMINATE(stored->uds_path);
    SLOTMEM_TERMINATE(stored->hcuri);
    SLOTMEM_TERMINATE(stored->hcexpr);
    SLOTMEM_TERMINATE(stored->upgrade);
    SLOTMEM_TERMINATE(stored->hostname_ex);
    SLOTMEM_TERMINATE(stored->secret);
    SLOTMEM_TERMINATE(stored->name_ex);
}

void slotmem_balancer_terminate(proxy_balancer_shared *stored)
{
    SLOTMEM_TERMINATE(stored->sticky_path);
    SLOTMEM_TERMINATE(stored->sticky);
    SLOTMEM_TERMINATE(stored->lbpname);
    SLOTMEM_TERMINATE(stored->nonce);
    SLOTMEM_TERMINATE(stored->name);
    SLOTMEM_TERMINATE(stored->sname);
    SLOTMEM_TERMINATE(stored->vpath);
    SLOTMEM_TERMINATE(stored->vhost);
}

const char *slotmem_member_name(const proxy_worker_shared *stored,
                                apr_pool_t *pool)
{
    return slotmem_display_url(*stored->name_ex ? stored->name_ex
                                                : stored->name, pool);
}

/* ---- members ---- */

/* Is shorter equal to text, cut to a field of size bytes? */
static int is_truncation_of(const char *shorter, const char *text,
                            apr_size_t size)
{
    return strncmp(shorter, text, size - 1) == 0;
}

int slotmem_member_is_usable(const proxy_worker_shared *stored,
                             apr_pool_t *pool)
{
    apr_uri_t uri;

    return stored->hash.def && stored->hash.fnv
           && slotmem_words_is_plain(stored->name_ex)
           && is_truncation_of(stored->name, stored->name_ex,
                               sizeof(stored->name))
           && apr_uri_parse(pool, stored->name_ex, &uri) == APR_SUCCESS
           && uri.scheme && strcmp(uri.scheme, stored->scheme) == 0
           && uri.hostname && *uri.hostname
           && strcmp(uri.hostname, stored->hostname_ex) == 0
           && is_truncation_of(stored->hostname, uri.hostname,
                               sizeof(stored->hostname))
           && (!uri.port || uri.port == stored->port);
}

/* Without a health check nothing would ever clear the flag of a failed one. */
static int has_health_check(const proxy_worker_shared *slot)
{
    return slot->method != NONE
           && ap_find_linked_module("mod_proxy_hcheck.c") != NULL;
}

/* N if that is from 0 to MOST, else 0. */
#define UP_TO(most, n) ((n) >= 0 && (n) <= (most) ? (n) : 0)

/* No server reaches larger counts, and they would soon overflow. */
#define MOST_BYTES ((apr_int64_t)1 << 60)
#define MOST_RETRIES (INT_MAX / 2)

/* Carry over what happened, where that still means something to a new
 * generation. mod_proxy_hcheck counts passes and fails in a row until they
 * equal the setting: a larger count would never equal it, and a member that is
 * up again would stay out. */
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
                       ? now : UP_TO(now, stored->error_time);
    slot->elected = stored->elected;
    slot->transferred = UP_TO(MOST_BYTES, stored->transferred);
    slot->read = UP_TO(MOST_BYTES, stored->read);
    slot->retries = UP_TO(MOST_RETRIES, stored->retries);
    slot->pcount = UP_TO(slot->passes - 1, stored->pcount);
    slot->fcount = UP_TO(slot->fails - 1, stored->fcount);
}

/* Clear what is valid in one generation only. */
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
                                 const apr_table_t *at_store, apr_pool_t *pool)
{
    const char *overruled;

    *slot = *config;
    overruled = slotmem_words_merge(slotmem_member_settings, slot, stored,
                                    at_store, pool);
    carry_over(slot, stored);
    clear_generation(slot, index);
    return overruled;
}

/* mod_proxy accepts buffers of 512 bytes or more; no real member has one above
 * the upper limit. poll() counts milliseconds in an int, and may wait forever
 * if a timeout does not fit. */
#define LEAST_BUFFER 512
#define MOST_BUFFER 1048576
#define LEAST_TIMEOUT apr_time_from_msec(1)
#define MOST_TIMEOUT apr_time_from_msec(INT_MAX)
#define MOST_FLUSH_WAIT 1000000

/* Replace harmful values by what mod_proxy takes for "not set". */
static void limit_resources(proxy_worker_shared *slot)
{
    slot->min = 0;
    slot->hmax = 0;
    slot->smax = -1;
    slot->ttl = UP_TO(MOST_TIMEOUT, slot->ttl);
    if (slot->flush_wait < 0 || slot->flush_wait > MOST_FLUSH_WAIT) {
        slot->flush_wait = PROXY_FLUSH_WAIT;
    }
    if (slot->flush_packets != flush_on && slot->flush_packets != flush_auto) {
        slot->flush_packets = flush_off;
    }
#define LIMIT(field, least, most) \
    if (slot->field < (least) || slot->field > (most)) { \
        slot->field = 0; \
        slot->field##_set = 0; \
    }
    LIMIT(retry, 0, MOST_TIMEOUT)
    LIMIT(timeout, LEAST_TIMEOUT, MOST_TIMEOUT)
    LIMIT(acquire, LEAST_TIMEOUT, MOST_TIMEOUT)
    LIMIT(ping_timeout, LEAST_TIMEOUT, MOST_TIMEOUT)
    LIMIT(conn_timeout, LEAST_TIMEOUT, MOST_TIMEOUT)
    LIMIT(recv_buffer_size, LEAST_BUFFER, MOST_BUFFER)
    LIMIT(io_buffer_size, LEAST_BUFFER, MOST_BUFFER)
    LIMIT(response_field_size, LEAST_BUFFER, MOST_BUFFER)
#undef LIMIT
}

/* A member of a balancer never matches by pattern. Of its status keep the bits
 * that the balancer-manager can set; nothing could clear "shutting down". */
static void limit_kind(proxy_worker_shared *slot)
{
    slot->status &= PROXY_WORKER_IGNORE_ERRORS | PROXY_WORKER_DRAIN
                    | PROXY_WORKER_DISABLED | PROXY_WORKER_STOPPED
                    | PROXY_WORKER_HOT_STANDBY | PROXY_WORKER_HOT_SPARE;
    slot->is_name_matchable = 0;
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 138)
    slot->is_host_matchable = 0;
#endif
}

void slotmem_member_keep(proxy_worker_shared *slot, int index,
                         const proxy_worker_shared *stored)
{
    apr_time_t now = apr_time_now();

    *slot = *stored;
    slotmem_words_limit(slotmem_member_settings, slot);
    limit_resources(slot);
    limit_kind(slot);
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

/* Keep the stored nonce, so that an open page of the balancer-manager continues
 * to work; not if the configuration sets the nonce, or did so at the store. */
static void merge_nonce(proxy_balancer_shared *slot,
                        const proxy_balancer_shared *stored,
                        const apr_table_t *at_store)
{
    const char *origin = at_store ? apr_table_get(at_store, WORD_NONCE) : NULL;
    apr_uuid_t uuid;

    if (!slot->nonce_set && !(origin && strcmp(origin, "configured") == 0)
        && apr_uuid_parse(&uuid, stored->nonce) == APR_SUCCESS) {
        memcpy(slot->nonce, stored->nonce, sizeof(slot->nonce));
    }
}

/* If nobody set max_attempts, mod_proxy sets it to the number of members minus
 * one. */
static void unset_default_attempts(proxy_balancer_shared *stored,
                                   const apr_table_t *at_store)
{
    const char *members = at_store ? apr_table_get(at_store, WORD_MEMBERS)
                                   : NULL;

    if (members && !apr_table_get(at_store, "maxattempts")
        && (apr_int64_t)stored->max_attempts + 1
           == apr_strtoi64(members, NULL, 10)) {
        stored->max_attempts_set = 0;
    }
}

static int has_method(const char *name)
{
    return ap_lookup_provider(PROXY_LBMETHOD, name, "0") != NULL;
}

/* mod_proxy_balancer ends the server if no module provides the lbmethod. */
static void check_method(proxy_balancer_shared *slot, const char *configured,
                         apr_pool_t *pool)
{
    if (has_method(slot->lbpname)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 SLOTMEM_TAG(26)
                 "balancer %s: no loaded module provides the lbmethod %s, "
                 "which was set at run time; using the configured %s",
                 slotmem_display_url(slot->name, pool),
                 apr_pescape_echo(pool, slot->lbpname, 0), configured);
    apr_cpystrn(slot->lbpname, configured, sizeof(slot->lbpname));
}

const char *slotmem_balancer_merge(proxy_balancer_shared *slot, int index,
                                   const char *sname,
                                   const proxy_balancer_shared *config,
                                   const proxy_balancer_shared *stored,
                                   const apr_table_t *at_store,
                                   apr_pool_t *pool)
{
    proxy_balancer_shared usable = *stored;
    const char *overruled = NULL;

    unset_default_attempts(&usable, at_store);
    if (config) {
        *slot = *config;
        overruled = slotmem_words_merge(slotmem_balancer_settings, slot,
                                        &usable, at_store, pool);
        merge_nonce(slot, stored, at_store);
    }
    else {
        *slot = usable;
        slotmem_words_limit(slotmem_balancer_settings, slot);
    }
    check_method(slot, config ? config->lbpname : "byrequests", pool);
    apr_cpystrn(slot->sname, sname, sizeof(slot->sname));
    slot->index = index;
    slot->was_malloced = 0;
    return overruled;
}

#endif /* SLOTMEM_HAVE_PROXY */

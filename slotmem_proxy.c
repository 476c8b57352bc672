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
 * slotmem_proxy.c: what a file says of a segment of mod_proxy_balancer, and
 * what the status page calls it; see slotmem_proxy.h. slotmem_wanted.c knows
 * what the configuration wants.
 */

#include <stddef.h>
#include <string.h>

#include "apr_escape.h"
#include "apr_hash.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "ap_listen.h"
#include "ap_slotmem.h"

#include "slotmem_log.h"
#include "slotmem_proxy.h"
#include "slotmem_proxy_slot.h"
#include "slotmem_wanted.h"

#if SLOTMEM_HAVE_PROXY

void slotmem_proxy_reset(apr_pool_t *pool)
{
    slotmem_wanted_reset(pool);
}

slotmem_proxy_t *slotmem_proxy_lookup(const char *name,
                                      const slotmem_geometry_t *geometry)
{
    return slotmem_wanted_lookup(name, geometry);
}

/* ---- what a store adds to the file ---- */

static void add_balancer_label(apr_array_header_t *strings,
                               const proxy_balancer_shared *config)
{
    if (config) {
        slotmem_words_pair(strings, "balancer", config->name);
    }
}

static const char *render_words(const slotmem_proxy_t *proxy, apr_size_t *len,
                                apr_pool_t *pool)
{
    apr_array_header_t *strings = apr_array_make(pool, 40,
                                                 sizeof(const char *));
    int i;

    for (i = 0; i < proxy->wanted->nelts; i++) {
        const slotmem_wanted_t *wanted =
            APR_ARRAY_IDX(proxy->wanted, i, slotmem_wanted_t *);

        if (!wanted->config) {
            continue;
        }
        slotmem_words_append(strings,
                             apr_psprintf(pool, "%08x%08x", wanted->hash.def,
                                          wanted->hash.fnv),
                             proxy->has_members ? slotmem_member_settings
                                                : slotmem_balancer_settings,
                             wanted->config);
        if (wanted->balancer) {
            slotmem_balancer_words(strings, wanted->config,
                                   wanted->balancer->workers->nelts);
        }
        slotmem_words_end(strings);
    }
    return slotmem_words_flatten(strings, len, pool);
}

/* The main server has a port only if ServerName gives one. Otherwise use that
 * of the first Listen, which is the last one in the list. */
static int port_of(const server_rec *server)
{
    int port = server->addrs ? server->addrs->host_port : 0;
    const ap_listen_rec *listener = ap_listeners;

    port = port ? port : server->port;
    while (listener && listener->next) {
        listener = listener->next;
    }
    return !port && listener && listener->bind_addr
           ? listener->bind_addr->port : port;
}

static const char *render_labels(const slotmem_proxy_t *proxy, apr_size_t *len,
                                 apr_pool_t *pool)
{
    apr_array_header_t *strings = apr_array_make(pool, 8, sizeof(const char *));
    const server_rec *server = proxy->server;
    int i;

    slotmem_words_pair(strings, "server", server->server_hostname
                                          ? server->server_hostname : "");
    slotmem_words_pair(strings, "port",
                       apr_itoa(pool, port_of(server)));
    for (i = 0; i < proxy->balancers->nelts; i++) {
        add_balancer_label(strings, slotmem_wanted_config(
            APR_ARRAY_IDX(proxy->balancers, i, proxy_balancer *)));
    }
    for (i = 0; !proxy->has_members && i < proxy->wanted->nelts; i++) {
        add_balancer_label(strings, APR_ARRAY_IDX(proxy->wanted, i,
                                                  slotmem_wanted_t *)->config);
    }
    slotmem_words_end(strings);
    return slotmem_words_flatten(strings, len, pool);
}

void slotmem_proxy_words(slotmem_proxy_t *proxy, const char **words,
                         apr_size_t *words_len, const char **labels,
                         apr_size_t *labels_len, apr_pool_t *pool)
{
    *words = render_words(proxy, words_len, pool);
    *labels = render_labels(proxy, labels_len, pool);
}

void slotmem_proxy_stamp(const slotmem_proxy_t *proxy, apr_size_t *at,
                         apr_size_t *len)
{
    *at = proxy->has_members ? offsetof(proxy_worker_shared, updated)
                             : offsetof(proxy_balancer_shared, wupdated);
    *len = sizeof(apr_time_t);
}

/* ---- what a segment is called ---- */

static const char *server_label(const server_rec *server, apr_pool_t *pool)
{
    const char *name = server->server_hostname ? server->server_hostname : "";
    int port = port_of(server);

    return apr_pescape_echo(pool, port ? apr_psprintf(pool, "%s:%d", name, port)
                                       : name, 0);
}

void slotmem_proxy_label(slotmem_label_t *label, const char *name,
                         apr_pool_t *pool)
{
    const slotmem_proxy_t *proxy = slotmem_wanted_find(name);
    int i;

    memset(label, 0, sizeof(*label));
    if (!proxy) {
        return;
    }
    label->server = server_label(proxy->server, pool);
    label->shows_workers = proxy->has_members
                           && slotmem_wanted_has_status(proxy);
    label->proxy = proxy;
    for (i = 0; i < proxy->balancers->nelts; i++) {
        const proxy_balancer_shared *config = slotmem_wanted_config(
            APR_ARRAY_IDX(proxy->balancers, i, proxy_balancer *));
        const char *one = config ? slotmem_display_url(config->name, pool)
                                 : "";

        label->balancer = label->balancer
                          ? apr_pstrcat(pool, label->balancer, " ", one, NULL)
                          : one;
    }
}

slotmem_origin_e slotmem_proxy_origin(const slotmem_proxy_t *proxy,
                                      const void *slot)
{
    const proxy_worker_shared *worker = slot;
    proxy_hashes hash;

    memcpy(&hash, &worker->hash, sizeof(hash));
    return apr_hash_get(proxy->by_hash, &hash, sizeof(hash))
           ? SLOTMEM_ORIGIN_CONFIGURATION : SLOTMEM_ORIGIN_RUN_TIME;
}

#else /* SLOTMEM_HAVE_PROXY */

void slotmem_proxy_reset(apr_pool_t *pool)
{
    (void)pool;
}

slotmem_proxy_t *slotmem_proxy_lookup(const char *name,
                                      const slotmem_geometry_t *geometry)
{
    static int logged;

    if (!logged && (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE)
        && ap_find_linked_module("mod_proxy_balancer.c")) {
        logged = 1;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(28)
                     "segment %s: this module was built without a mod_proxy.h "
                     "that it knows; state follows the position of a balancer "
                     "or member, not its name", name);
    }
    return NULL;
}

void slotmem_proxy_words(slotmem_proxy_t *proxy, const char **words,
                         apr_size_t *words_len, const char **labels,
                         apr_size_t *labels_len, apr_pool_t *pool)
{
    (void)proxy;
    (void)pool;
    *words = *labels = NULL;
    *words_len = *labels_len = 0;
}

void slotmem_proxy_stamp(const slotmem_proxy_t *proxy, apr_size_t *at,
                         apr_size_t *len)
{
    (void)proxy;
    *at = *len = 0;
}

void slotmem_proxy_label(slotmem_label_t *label, const char *name,
                         apr_pool_t *pool)
{
    (void)name;
    (void)pool;
    memset(label, 0, sizeof(*label));
}

slotmem_origin_e slotmem_proxy_origin(const slotmem_proxy_t *proxy,
                                      const void *slot)
{
    (void)proxy;
    (void)slot;
    return SLOTMEM_ORIGIN_UNKNOWN;
}

#endif /* SLOTMEM_HAVE_PROXY */

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
 * slotmem_wanted.c: what mod_proxy's configuration wants of each segment; see
 * slotmem_wanted.h.
 *
 * mod_proxy gives a server its id just before it creates the server's segment,
 * so names can be compared only then. Balancers that a virtual host inherits
 * share their members with those of the main server: once the main server has
 * its segment, live slots replace the configured settings, and the array also
 * has members that were added at run time. Therefore find all settings at the
 * first create. mod_proxy completes those of a balancer before it shares them,
 * so they are copied; those of a member stay as they are, in memory of the
 * configuration.
 */

#include <string.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "ap_slotmem.h"

#include "slotmem_log.h"
#include "slotmem_wanted.h"

#if SLOTMEM_HAVE_PROXY

/* Process-local; reset by slotmem_wanted_reset(). */
static struct {
    apr_pool_t *pool;
    apr_hash_t *configured;         /* by proxy_worker * or proxy_balancer *:
                                       its configured settings; NULL: not
                                       found yet */
    apr_hash_t *by_name;            /* all slotmem_proxy_t * */
    apr_hash_t *by_sname;           /* arrays of proxy_balancer *: those of the
                                       server in current, by the name of their
                                       members' segment */
    const module *proxy;            /* mod_proxy, or NULL */
    const slotmem_proxy_t *current; /* the server whose segments are being
                                       created */
    int layout_logged;
} proxies;

void slotmem_wanted_reset(apr_pool_t *pool)
{
    memset(&proxies, 0, sizeof(proxies));
    proxies.pool = pool;
    proxies.by_name = pool ? apr_hash_make(pool) : NULL;
}

/* ---- the configuration ---- */

/* mod_proxy's configuration of a server, or NULL. Uses no symbol of mod_proxy,
 * which need not be loaded. */
static proxy_server_conf *conf_of(server_rec *s)
{
    if (!proxies.proxy) {
        proxies.proxy = ap_find_linked_module("mod_proxy.c");
    }
    return proxies.proxy && proxies.proxy->version == MODULE_MAGIC_NUMBER_MAJOR
           ? ap_get_module_config(s->module_config, proxies.proxy) : NULL;
}

/* The struct has grown at its end within 2.4: use the size that the running
 * httpd has. */
static proxy_balancer *balancer_at(const proxy_server_conf *conf, int i)
{
    return (proxy_balancer *)(void *)(conf->balancers->elts
                                      + (apr_size_t)i
                                        * (apr_size_t)conf->balancers
                                          ->elt_size);
}

static void keep_config(const void *key, const void *config)
{
    const void **owner = apr_palloc(proxies.pool, sizeof(*owner));

    *owner = key;
    apr_hash_set(proxies.configured, owner, sizeof(*owner), config);
}

const void *slotmem_wanted_config(const void *key)
{
    return apr_hash_get(proxies.configured, &key, sizeof(key));
}

/* mod_proxy frees what it has malloced when a slot replaces it. */
static void keep_member(const proxy_worker *worker)
{
    if (!slotmem_wanted_config(worker)) {
        keep_config(worker, worker->s->was_malloced
                            ? apr_pmemdup(proxies.pool, worker->s,
                                          sizeof(*worker->s)) : worker->s);
    }
}

static void keep_balancer(const proxy_balancer *balancer)
{
    int i;

    keep_config(balancer, apr_pmemdup(proxies.pool, balancer->s,
                                      sizeof(*balancer->s)));
    for (i = 0; i < balancer->workers->nelts; i++) {
        keep_member(APR_ARRAY_IDX(balancer->workers, i, proxy_worker *));
    }
}

/* Find the settings of all servers. */
static void keep_configuration(void)
{
    server_rec *s;
    int i;

    proxies.configured = apr_hash_make(proxies.pool);
    if (proxies.proxy->minor_version < MODULE_MAGIC_NUMBER_MINOR) {
        return;                     /* an older httpd: structs may be shorter */
    }
    for (s = ap_server_conf; s; s = s->next) {
        const proxy_server_conf *conf = conf_of(s);

        for (i = 0; conf && i < conf->balancers->nelts; i++) {
            keep_balancer(balancer_at(conf, i));
        }
    }
}

/* ---- what is wanted ---- */

/* The name that mod_proxy_balancer gives to the segment of a balancer's
 * members. */
static const char *sname_of(const proxy_server_conf *conf, const char *name)
{
    static const char scheme[] = BALANCER_PREFIX;
    char sname[PROXY_BALANCER_MAX_NAME_SIZE];
    const char *alnum;

    if (strncmp(name, scheme, sizeof(scheme) - 1) == 0) {
        name += sizeof(scheme) - 1;
    }
    ap_pstr2_alnum(proxies.pool, name, &alnum);
    apr_snprintf(sname, sizeof(sname), "%s_%s", conf->id, alnum);
    return apr_pstrdup(proxies.pool, sname);
}

static void want(slotmem_proxy_t *proxy, slotmem_wanted_t wanted)
{
    slotmem_wanted_t *entry;

    if (apr_hash_get(proxy->by_hash, &wanted.hash, sizeof(wanted.hash))) {
        return;                     /* the same URL twice has one slot */
    }
    wanted.from = SLOTMEM_NO_SLOT;
    entry = apr_pmemdup(proxies.pool, &wanted, sizeof(wanted));
    APR_ARRAY_PUSH(proxy->wanted, slotmem_wanted_t *) = entry;
    apr_hash_set(proxy->by_hash, &entry->hash, sizeof(entry->hash), entry);
}

static void want_members(slotmem_proxy_t *proxy, proxy_balancer *balancer)
{
    int i;

    APR_ARRAY_PUSH(proxy->balancers, proxy_balancer *) = balancer;
    for (i = 0; i < balancer->workers->nelts; i++) {
        const proxy_worker *worker = APR_ARRAY_IDX(balancer->workers, i,
                                                   proxy_worker *);
        slotmem_wanted_t wanted = { .hash = worker->hash,
                            .config = slotmem_wanted_config(worker) };

        want(proxy, wanted);
    }
}

static slotmem_proxy_t *make_proxy(const char *name, server_rec *server,
                                   int has_members)
{
    slotmem_proxy_t *proxy = apr_pcalloc(proxies.pool, sizeof(*proxy));

    proxy->name = apr_pstrdup(proxies.pool, name);
    proxy->server = server;
    proxy->has_members = has_members;
    proxy->balancers = apr_array_make(proxies.pool, 1,
                                      sizeof(proxy_balancer *));
    proxy->wanted = apr_array_make(proxies.pool, 4, sizeof(slotmem_wanted_t *));
    proxy->by_hash = apr_hash_make(proxies.pool);
    apr_hash_set(proxies.by_name, proxy->name, APR_HASH_KEY_STRING, proxy);
    return proxy;
}

/* Find the balancers of a server by the name of their members' segment. */
static void index_by_sname(const slotmem_proxy_t *proxy)
{
    int i;

    proxies.current = proxy;
    proxies.by_sname = apr_hash_make(proxies.pool);
    for (i = 0; i < proxy->wanted->nelts; i++) {
        const slotmem_wanted_t *wanted =
            APR_ARRAY_IDX(proxy->wanted, i, slotmem_wanted_t *);
        apr_array_header_t *same = !wanted->sname ? NULL
            : apr_hash_get(proxies.by_sname, wanted->sname,
                           APR_HASH_KEY_STRING);

        if (wanted->sname && !same) {
            same = apr_array_make(proxies.pool, 1, sizeof(proxy_balancer *));
            apr_hash_set(proxies.by_sname, wanted->sname, APR_HASH_KEY_STRING,
                         same);
        }
        if (same) {
            APR_ARRAY_PUSH(same, proxy_balancer *) = wanted->balancer;
        }
    }
}

/* The segment of a server's balancers, if the name is a server's id. */
static slotmem_proxy_t *find_balancers(const char *name)
{
    slotmem_proxy_t *proxy;
    proxy_server_conf *conf = NULL;
    server_rec *s;
    int i;

    for (s = ap_server_conf; s; s = s->next) {
        conf = conf_of(s);
        if (conf && conf->id && strcmp(conf->id, name) == 0) {
            break;
        }
    }
    if (!s) {
        return NULL;
    }
    if (!proxies.configured) {
        keep_configuration();
    }
    proxy = make_proxy(name, s, 0);
    for (i = 0; i < conf->balancers->nelts; i++) {
        proxy_balancer *balancer = balancer_at(conf, i);
        const proxy_balancer_shared *config = slotmem_wanted_config(balancer);
        slotmem_wanted_t wanted = { .hash = balancer->hash, .config = config,
                            .balancer = balancer };

        if (config) {
            wanted.sname = sname_of(conf, config->name);
        }
        want(proxy, wanted);
    }
    index_by_sname(proxy);
    return proxy;
}

/* The segment of a balancer's members; that of its server was created before.
 * Two balancers can share this name: then the members of both are wanted. */
static slotmem_proxy_t *find_members(const char *name)
{
    const apr_array_header_t *same = !proxies.current ? NULL
        : apr_hash_get(proxies.by_sname, name, APR_HASH_KEY_STRING);
    slotmem_proxy_t *proxy;
    int i;

    if (!same) {
        return NULL;
    }
    proxy = make_proxy(name, proxies.current->server, 1);
    for (i = 0; i < same->nelts; i++) {
        want_members(proxy, APR_ARRAY_IDX(same, i, proxy_balancer *));
    }
    return proxy;
}

static void log_layout(const char *name, const slotmem_geometry_t *geometry,
                       apr_size_t expected)
{
    if (!proxies.layout_logged) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(22)
                     "segment %s: its slots have %" APR_SIZE_T_FMT " bytes, "
                     "but this module was built for an httpd in which they "
                     "have %" APR_SIZE_T_FMT "; state follows the position of "
                     "a balancer or member, not its name, until the module is "
                     "built for this httpd", name, geometry->item_size,
                     expected);
    }
    proxies.layout_logged = 1;
}

slotmem_proxy_t *slotmem_wanted_lookup(const char *name,
                                      const slotmem_geometry_t *geometry)
{
    const unsigned int both = AP_SLOTMEM_TYPE_PERSIST
                              | AP_SLOTMEM_TYPE_CLEARINUSE;
    slotmem_proxy_t *proxy;
    apr_size_t expected;

    if (!proxies.pool || *name == '/' || !ap_server_conf) {
        return NULL;
    }
    proxy = find_members(name);     /* first: most segments are of this kind */
    if (!proxy) {
        proxy = find_balancers(name);
    }
    if (!proxy || (geometry->type & both) != both) {
        return NULL;
    }
    expected = proxy->has_members ? sizeof(proxy_worker_shared)
                                  : sizeof(proxy_balancer_shared);
    if (geometry->item_size != expected) {
        log_layout(name, geometry, expected);
        return NULL;
    }
    return proxy;
}

const slotmem_proxy_t *slotmem_wanted_find(const char *name)
{
    return apr_hash_get(proxies.by_name, name, APR_HASH_KEY_STRING);
}

int slotmem_wanted_has_status(const slotmem_proxy_t *proxy)
{
    const proxy_server_conf *conf = conf_of(proxy->server);

    return conf && proxies.proxy->minor_version >= MODULE_MAGIC_NUMBER_MINOR
           && conf->proxy_status != status_off;
}

const char *slotmem_wanted_sname(const slotmem_proxy_t *proxy, const char *name)
{
    return sname_of(conf_of(proxy->server), name);
}

#endif /* SLOTMEM_HAVE_PROXY */

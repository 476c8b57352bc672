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
 * slotmem_workers.c: slots of mod_proxy_balancer, for people; see
 * slotmem_workers.h. Uses the structs of mod_proxy.h and no symbol of httpd.
 */

#include <string.h>

#include "apr_escape.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_words.h"
#include "slotmem_workers.h"

/* Always a copy: APR returns the text itself if there is nothing to escape, and
 * that may be on the caller's stack. */
static const char *escape(const char *text, apr_pool_t *pool)
{
    const char *escaped = apr_pescape_echo(pool, text, 0);

    return escaped == text ? apr_pstrdup(pool, text) : escaped;
}

const char *slotmem_display_url(const char *url, apr_pool_t *pool)
{
    const char *host = strstr(url, "://");
    const char *at = NULL;
    const char *end;

    if (host) {
        host += 3;
        for (end = host; *end && *end != '/'; end++) {
            at = *end == '@' ? end : at;    /* the last one: a password may
                                               have others */
        }
    }
    if (at) {
        url = apr_pstrcat(pool, apr_pstrmemdup(pool, url,
                                               (apr_size_t)(host - url)),
                          at + 1, NULL);
    }
    return escape(url, pool);
}

const char *slotmem_origin_name(slotmem_origin_e origin)
{
    return origin == SLOTMEM_ORIGIN_RUN_TIME ? "run time"
           : origin == SLOTMEM_ORIGIN_CONFIGURATION ? "configuration"
           : "not known";
}

/* ---- labels ---- */

void slotmem_labels_read(slotmem_labels_t *labels, const char *bytes,
                         apr_size_t len, apr_pool_t *pool)
{
    const char *end = bytes ? bytes + len : NULL;
    const char *name;
    const char *value;

    memset(labels, 0, sizeof(*labels));
    while (bytes && (name = slotmem_words_next(&bytes, end)) != NULL && *name
           && (value = slotmem_words_next(&bytes, end)) != NULL) {
        const char *text = slotmem_display_url(value, pool);

        if (strcmp(name, "server") == 0) {
            labels->server = text;
        }
        else if (strcmp(name, "port") == 0) {
            labels->port = text;
        }
        else if (strcmp(name, "balancer") == 0) {
            labels->balancers = labels->balancers
                ? apr_pstrcat(pool, labels->balancers, ", ", text, NULL) : text;
        }
    }
}

#if SLOTMEM_HAVE_PROXY

apr_size_t slotmem_slots_size(slotmem_slots_e slots)
{
    return slots == SLOTMEM_SLOTS_WORKERS ? sizeof(proxy_worker_shared)
           : slots == SLOTMEM_SLOTS_BALANCERS ? sizeof(proxy_balancer_shared)
           : 0;
}

slotmem_slots_e slotmem_slots_of(apr_size_t item_size)
{
    return item_size == sizeof(proxy_worker_shared) ? SLOTMEM_SLOTS_WORKERS
           : item_size == sizeof(proxy_balancer_shared)
             ? SLOTMEM_SLOTS_BALANCERS : SLOTMEM_SLOTS_UNKNOWN;
}

/* In the order in which the balancer-manager shows them. */
static const struct {
    unsigned int flag;
    char letter;
    const char *word;
} states[] = {
    { PROXY_WORKER_IGNORE_ERRORS, PROXY_WORKER_IGNORE_ERRORS_FLAG,
      "ignore errors" },
    { PROXY_WORKER_DRAIN, PROXY_WORKER_DRAIN_FLAG, "drained" },
    { PROXY_WORKER_IN_SHUTDOWN, PROXY_WORKER_IN_SHUTDOWN_FLAG,
      "shutting down" },
    { PROXY_WORKER_DISABLED, PROXY_WORKER_DISABLED_FLAG, "disabled" },
    { PROXY_WORKER_STOPPED, PROXY_WORKER_STOPPED_FLAG, "stopped" },
    { PROXY_WORKER_IN_ERROR, PROXY_WORKER_IN_ERROR_FLAG, "in error" },
    { PROXY_WORKER_HOT_STANDBY, PROXY_WORKER_HOT_STANDBY_FLAG, "hot standby" },
    { PROXY_WORKER_HOT_SPARE, PROXY_WORKER_HOT_SPARE_FLAG, "hot spare" },
    { PROXY_WORKER_HC_FAIL, PROXY_WORKER_HC_FAIL_FLAG,
      "health check failed" }
};
#define NUM_STATES (sizeof(states) / sizeof(*states))

static void read_status(slotmem_worker_t *worker, unsigned int status,
                        apr_pool_t *pool)
{
    char flags[NUM_STATES + 1];
    const char *words = NULL;
    apr_size_t num = 0;
    apr_size_t i;

    for (i = 0; i < NUM_STATES; i++) {
        if (status & states[i].flag) {
            words = words ? apr_pstrcat(pool, words, ", ", states[i].word,
                                        NULL) : states[i].word;
            flags[num++] = states[i].letter;
        }
    }
    worker->status = words ? words : "ok";
    worker->flags = apr_pstrmemdup(pool, flags, num);
    worker->is_drained = (status & PROXY_WORKER_DRAIN) != 0;
    worker->is_usable = !(status & PROXY_WORKER_NOT_USABLE_BITMAP);
}

/* A private copy of a slot. @return 0: no worker is in it */
static int copy_worker(proxy_worker_shared *copy, const void *slot)
{
    memcpy(copy, slot, sizeof(*copy));
    SLOTMEM_TERMINATE(copy->name);
    SLOTMEM_TERMINATE(copy->name_ex);
    SLOTMEM_TERMINATE(copy->scheme);
    SLOTMEM_TERMINATE(copy->hostname_ex);
    SLOTMEM_TERMINATE(copy->uds_path);
    SLOTMEM_TERMINATE(copy->route);
    SLOTMEM_TERMINATE(copy->redirect);
    return (copy->hash.def || copy->hash.fnv)
           && (*copy->name_ex || *copy->name);
}

static const char *url_of(const proxy_worker_shared *copy)
{
    return *copy->name_ex ? copy->name_ex : copy->name;
}

int slotmem_worker_read(slotmem_worker_t *worker, const void *slot,
                        apr_pool_t *pool)
{
    proxy_worker_shared copy;

    if (!copy_worker(&copy, slot)) {
        return 0;
    }
    worker->url = slotmem_display_url(url_of(&copy), pool);
    read_status(worker, copy.status, pool);
    worker->factor = copy.lbfactor / 100.0;
    worker->lbset = copy.lbset;
    worker->route = escape(copy.route, pool);
    worker->redirect = escape(copy.redirect, pool);
    worker->elected = copy.elected;
    return 1;
}

int slotmem_balancer_read(slotmem_balancer_t *balancer, const void *slot,
                          apr_pool_t *pool)
{
    proxy_balancer_shared copy;

    memcpy(&copy, slot, sizeof(copy));
    SLOTMEM_TERMINATE(copy.name);
    SLOTMEM_TERMINATE(copy.sname);
    SLOTMEM_TERMINATE(copy.lbpname);
    if ((!copy.hash.def && !copy.hash.fnv) || !*copy.name) {
        return 0;
    }
    balancer->url = slotmem_display_url(copy.name, pool);
    balancer->segment = escape(copy.sname, pool);
    balancer->lbmethod = escape(copy.lbpname, pool);
    return 1;
}

int slotmem_worker_has_url(const void *slot, const char *url, apr_pool_t *pool)
{
    proxy_worker_shared copy;

    return copy_worker(&copy, slot)
           && (strcmp(url_of(&copy), url) == 0
               || strcmp(slotmem_display_url(url_of(&copy), pool), url) == 0);
}

int slotmem_worker_identify(unsigned char id[SLOTMEM_WORKER_ID],
                            const void *slot)
{
    proxy_worker_shared copy;
    apr_md5_ctx_t md5;

    if (!copy_worker(&copy, slot)) {
        return 0;
    }
    apr_md5_init(&md5);
    apr_md5_update(&md5, &copy.hash, sizeof(copy.hash));
    apr_md5_update(&md5, &copy.port, sizeof(copy.port));
    apr_md5_update(&md5, copy.scheme, strlen(copy.scheme) + 1);
    apr_md5_update(&md5, copy.hostname_ex, strlen(copy.hostname_ex) + 1);
    apr_md5_update(&md5, copy.uds_path, strlen(copy.uds_path) + 1);
    apr_md5_update(&md5, url_of(&copy), strlen(url_of(&copy)) + 1);
    apr_md5_final(id, &md5);
    return 1;
}

#else /* !SLOTMEM_HAVE_PROXY */

apr_size_t slotmem_slots_size(slotmem_slots_e slots)
{
    (void)slots;
    return 0;
}

slotmem_slots_e slotmem_slots_of(apr_size_t item_size)
{
    (void)item_size;
    return SLOTMEM_SLOTS_UNKNOWN;
}

int slotmem_worker_read(slotmem_worker_t *worker, const void *slot,
                        apr_pool_t *pool)
{
    (void)worker;
    (void)slot;
    (void)pool;
    return 0;
}

int slotmem_balancer_read(slotmem_balancer_t *balancer, const void *slot,
                          apr_pool_t *pool)
{
    (void)balancer;
    (void)slot;
    (void)pool;
    return 0;
}

int slotmem_worker_has_url(const void *slot, const char *url, apr_pool_t *pool)
{
    (void)slot;
    (void)url;
    (void)pool;
    return 0;
}

int slotmem_worker_identify(unsigned char id[SLOTMEM_WORKER_ID],
                            const void *slot)
{
    (void)id;
    (void)slot;
    return 0;
}

#endif /* SLOTMEM_HAVE_PROXY */

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
 * slotmem_workers.h: decodes a slot of mod_proxy_balancer, and the labels of
 * its segment, for people: for the status page and for the command
 * slotmem-file, which is linked with this source but not with httpd. Never
 * shows nonces, secrets, or the user and password of a URL; control characters
 * are escaped.
 *
 * A slot is untrusted data: any bytes, which other processes may write
 * meanwhile. It is copied first, and the strings of the copy are made to end
 * inside their fields.
 *
 * Concurrency: any thread; the caller owns the results.
 */

#ifndef SLOTMEM_WORKERS_H
#define SLOTMEM_WORKERS_H

#include "apr_pools.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** The kind of slots in a segment of mod_proxy_balancer. */
typedef enum slotmem_slots_e {
    SLOTMEM_SLOTS_UNKNOWN,          /**< the layout is not that of the
                                         mod_proxy.h of this build */
    SLOTMEM_SLOTS_WORKERS,          /**< the members of a balancer */
    SLOTMEM_SLOTS_BALANCERS         /**< the balancers of a server */
} slotmem_slots_e;

/** Where a worker comes from. */
typedef enum slotmem_origin_e {
    SLOTMEM_ORIGIN_UNKNOWN,         /**< stored by the distributed module */
    SLOTMEM_ORIGIN_CONFIGURATION,
    SLOTMEM_ORIGIN_RUN_TIME         /**< added in the balancer-manager */
} slotmem_origin_e;

/** Process-local: a worker, for people. */
typedef struct slotmem_worker_t {
    const char *url;
    const char *status;             /**< in words, or "ok" */
    const char *flags;              /**< in mod_proxy's letters, or "" */
    int is_drained;                 /**< 1: it gets only sticky requests */
    int is_usable;                  /**< 0: disabled, stopped or in error */
    double factor;                  /**< as the balancer-manager shows it */
    int lbset;
    const char *route;              /**< or "" */
    const char *redirect;           /**< or "" */
    apr_uint64_t elected;           /**< requests */
} slotmem_worker_t;

/** Process-local: a balancer, for people. */
typedef struct slotmem_balancer_t {
    const char *url;                /**< balancer://NAME */
    const char *segment;            /**< the name of its members' segment */
    const char *lbmethod;
} slotmem_balancer_t;

/** Process-local: the labels of a segment. */
typedef struct slotmem_labels_t {
    const char *server;             /**< the virtual host; NULL: not known */
    const char *port;               /**< of its first address; or NULL */
    const char *balancers;          /**< separated by ", "; or NULL */
} slotmem_labels_t;

/** @param item_size of a segment of mod_proxy_balancer */
slotmem_slots_e slotmem_slots_of(apr_size_t item_size);

/** @return their size in the mod_proxy.h of this build; 0: built without it */
apr_size_t slotmem_slots_size(slotmem_slots_e slots);

/** @return "configuration", "run time" or "not known" */
const char *slotmem_origin_name(slotmem_origin_e origin);

/**
 * Read a slot of SLOTMEM_SLOTS_WORKERS.
 * @param slot as many bytes as slotmem_slots_size() says
 * @param pool for the texts
 * @return 1; 0: there is no worker in it
 */
int slotmem_worker_read(slotmem_worker_t *worker, const void *slot,
                        apr_pool_t *pool);

/** The same for a slot of SLOTMEM_SLOTS_BALANCERS. */
int slotmem_balancer_read(slotmem_balancer_t *balancer, const void *slot,
                          apr_pool_t *pool);

/**
 * Is this the URL of the worker in the slot, as shown or as configured (with
 * user and password)?
 */
int slotmem_worker_has_url(const void *slot, const char *url,
                           apr_pool_t *pool);

/** Bytes of a worker's id. */
#define SLOTMEM_WORKER_ID 16

/**
 * Compute the id of the worker in a slot: a digest of its name, and of scheme,
 * host and port, which mod_proxy derives from the name.
 * @return 1; 0: there is no worker in it
 */
int slotmem_worker_identify(unsigned char id[SLOTMEM_WORKER_ID],
                            const void *slot);

/** Decode labels. @param bytes of SLOTMEM_FILE_LABELS: any bytes; or NULL */
void slotmem_labels_read(slotmem_labels_t *labels, const char *bytes,
                         apr_size_t len, apr_pool_t *pool);

/** @return the URL without user and password, control characters escaped */
const char *slotmem_display_url(const char *url, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_WORKERS_H */

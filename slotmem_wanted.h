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
 * slotmem_wanted.h: what mod_proxy's configuration wants of each of
 * mod_proxy_balancer's segments. Read from mod_proxy's own configuration and
 * public header, without a symbol of mod_proxy's: it need not be loaded.
 *
 * Lifecycle: slotmem_wanted_reset() in pre_config; slotmem_wanted_lookup() in
 * each create before the MPM runs.
 *
 * Concurrency: the parent's one thread; what only reads, in children as well.
 */

#ifndef SLOTMEM_WANTED_H
#define SLOTMEM_WANTED_H

#include "apr_hash.h"

#include "slotmem_segment.h"
#include "slotmem_words.h"

#if SLOTMEM_HAVE_PROXY

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** No slot: there are at most UINT32_MAX. */
#define SLOTMEM_NO_SLOT UINT32_MAX

typedef struct slotmem_proxy_t slotmem_proxy_t;

/** Process-local: a member or a balancer that the configuration wants. */
typedef struct slotmem_wanted_t {
    proxy_hashes hash;              /* as its slot carries it */
    const void *config;             /* what the configuration says of it: a copy
                                       of its shared struct; NULL: not known */
    const char *sname;              /* of a balancer */
    proxy_balancer *balancer;       /* of a balancer */
    apr_uint32_t from;              /* its slot in the image, or NO_SLOT */
} slotmem_wanted_t;

/** Process-local: what is wanted of one segment. */
struct slotmem_proxy_t {
    const char *name;
    server_rec *server;
    int has_members;                /* 1: of a balancer; 0: of a server */
    apr_array_header_t *balancers;  /* of proxy_balancer *: whose members */
    apr_array_header_t *wanted;     /* of slotmem_wanted_t *, in order */
    apr_hash_t *by_hash;            /* of slotmem_wanted_t *, by proxy_hashes */
};

/** See slotmem_proxy_reset(). */
void slotmem_wanted_reset(apr_pool_t *pool);

/** See slotmem_proxy_lookup(). */
slotmem_proxy_t *slotmem_wanted_lookup(const char *name,
                                       const slotmem_geometry_t *geometry);

/** @return what was looked up under that name, of whatever type it is; or NULL.
 *  In children as well. */
const slotmem_proxy_t *slotmem_wanted_find(const char *name);

/** Has its server ProxyStatus On or Full? In children as well. */
int slotmem_wanted_has_status(const slotmem_proxy_t *proxy);

/** What the configuration says: a copy of the shared struct of a proxy_worker
 *  or a proxy_balancer, made before slots took its place; or NULL. */
const void *slotmem_wanted_config(const void *owner);

/** What mod_proxy_balancer calls the segment of a balancer's members.
 *  @param proxy of the balancer's server
 *  @param name of the balancer, as balancer://NAME */
const char *slotmem_wanted_sname(const slotmem_proxy_t *proxy,
                                 const char *name);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HAVE_PROXY */

#endif /* SLOTMEM_WANTED_H */

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
 * slotmem_wanted.h: which slots mod_proxy's configuration wants in each segment
 * of mod_proxy_balancer. Reads mod_proxy's own configuration with the structs
 * of its public header. Uses no symbol of mod_proxy, which need not be loaded.
 *
 * Lifecycle: slotmem_wanted_reset() in pre_config; slotmem_wanted_lookup() in
 * each create before the MPM runs.
 *
 * Concurrency: the parent's main thread. Children may call the functions that
 * only read.
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

/** No slot: the number of slots is at most UINT32_MAX. */
#define SLOTMEM_NO_SLOT UINT32_MAX

typedef struct slotmem_proxy_t slotmem_proxy_t;

/** Process-local: a member or a balancer that the configuration wants. */
typedef struct slotmem_wanted_t {
    proxy_hashes hash;              /* as its slot carries it */
    const void *config;             /* its configured settings, as a shared
                                       struct; NULL: not known */
    const char *sname;              /* if it is a balancer: the name of its
                                       members' segment */
    proxy_balancer *balancer;       /* if it is a balancer */
    apr_uint32_t from;              /* its slot in the image, or NO_SLOT */
} slotmem_wanted_t;

/** Process-local: the wanted slots of one segment. */
struct slotmem_proxy_t {
    const char *name;
    server_rec *server;
    int has_members;                /* 1: members of balancers; 0: the balancers
                                       of a server */
    apr_array_header_t *balancers;  /* of proxy_balancer *, if has_members: the
                                       balancers of these members */
    apr_array_header_t *wanted;     /* of slotmem_wanted_t *, in order */
    apr_hash_t *by_hash;            /* of slotmem_wanted_t *, by proxy_hashes */
};

/** See slotmem_proxy_reset(). */
void slotmem_wanted_reset(apr_pool_t *pool);

/** See slotmem_proxy_lookup(). */
slotmem_proxy_t *slotmem_wanted_lookup(const char *name,
                                       const slotmem_geometry_t *geometry);

/** @return what slotmem_wanted_lookup() found under that name, whatever its
 *  type; or NULL. Children may call this. */
const slotmem_proxy_t *slotmem_wanted_find(const char *name);

/** Does its server have ProxyStatus On or Full? Children may call this. */
int slotmem_wanted_has_status(const slotmem_proxy_t *proxy);

/** @return the configured settings of a proxy_worker or proxy_balancer: its
 *  shared struct from before a live slot replaced it; or NULL */
const void *slotmem_wanted_config(const void *owner);

/** @return the name that mod_proxy_balancer gives to the segment of a
 *  balancer's members
 *  @param proxy the segment of its server
 *  @param name the balancer, as balancer://NAME */
const char *slotmem_wanted_sname(const slotmem_proxy_t *proxy,
                                 const char *name);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HAVE_PROXY */

#endif /* SLOTMEM_WANTED_H */

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
 * slotmem_proxy_slot.h: one slot of mod_proxy_balancer: which stored fields can
 * be trusted, and which are carried over (contract E6, E7).
 *
 * A stored slot is untrusted data: a child could have written any byte of it.
 * Names and addresses of a balancer or of a configured member come from the
 * configuration. Strings are made to end inside their fields, pointers are
 * NULL, and fields of a dead generation are cleared.
 *
 * Concurrency: private memory only, called by the parent's main thread.
 */

#ifndef SLOTMEM_PROXY_SLOT_H
#define SLOTMEM_PROXY_SLOT_H

#include "slotmem_words.h"
#include "slotmem_workers.h"

#if SLOTMEM_HAVE_PROXY

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** End each string of a stored slot inside its field. Call this first. */
void slotmem_member_terminate(proxy_worker_shared *stored);
void slotmem_balancer_terminate(proxy_balancer_shared *stored);

/** @return the member's name for people: without user and password, control
 *  characters escaped
 *  @param stored terminated */
const char *slotmem_member_name(const proxy_worker_shared *stored,
                                apr_pool_t *pool);

/**
 * Restore a member that the configuration wants.
 * @param slot filled in
 * @param index number of that slot
 * @param config its configured settings
 * @param stored terminated
 * @param at_store see slotmem_words_merge()
 * @return as slotmem_words_merge()
 */
const char *slotmem_member_merge(proxy_worker_shared *slot, int index,
                                 const proxy_worker_shared *config,
                                 const proxy_worker_shared *stored,
                                 const apr_table_t *at_store, apr_pool_t *pool);

/**
 * Could mod_proxy have added this member at run time? It derives scheme, host
 * and port from the name, which is a URL. mod_proxy_hcheck relies on that: if
 * the name is not a URL, each child crashes in its first health check. And the
 * balancer-manager could show one address while requests go to another.
 * @param stored terminated
 */
int slotmem_member_is_usable(const proxy_worker_shared *stored,
                             apr_pool_t *pool);

/** Restore a member that is not in the configuration: it was added at run time.
 *  For the parameters see slotmem_member_merge(). */
void slotmem_member_keep(proxy_worker_shared *slot, int index,
                         const proxy_worker_shared *stored);

/**
 * Restore a balancer. For the other parameters see slotmem_member_merge().
 * @param sname the name of its members' segment
 * @param config its configured settings; NULL: not in the configuration
 * @return as slotmem_words_merge()
 */
const char *slotmem_balancer_merge(proxy_balancer_shared *slot, int index,
                                   const char *sname,
                                   const proxy_balancer_shared *config,
                                   const proxy_balancer_shared *stored,
                                   const apr_table_t *at_store,
                                   apr_pool_t *pool);

/** Append the other words of a balancer: whether the configuration sets its
 *  nonce (never the nonce itself), and the number of its members. */
void slotmem_balancer_words(apr_array_header_t *strings,
                            const proxy_balancer_shared *config, int members);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HAVE_PROXY */

#endif /* SLOTMEM_PROXY_SLOT_H */

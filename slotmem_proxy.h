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
 * slotmem_proxy.h: what we know of mod_proxy_balancer, the consumer for which
 * this module was made: which slots its configuration wants, so that a restore
 * can decide on each stored slot (contract E6), and which fields of a slot may
 * be believed (E7).
 *
 * mod_proxy_balancer creates a segment for the balancers of each server, named
 * after that server, and then one for the members of each of its balancers. At
 * that time mod_proxy's configuration is complete, so what is wanted is read
 * from there; nothing is guessed from the order of calls.
 *
 * Lifecycle: slotmem_proxy_reset() in pre_config; slotmem_proxy_lookup() in
 * each create before the MPM runs, and slotmem_proxy_merge() if there was a
 * file; slotmem_proxy_words() when the generation has reached the MPM, and
 * slotmem_proxy_label() and slotmem_proxy_origin() at any time from then on.
 *
 * A crash leaves nothing of this room.
 *
 * Concurrency: the parent's one thread; those two, which change nothing, in
 * children as well. Stored slots are copied to private
 * memory before they are looked at.
 */

#ifndef SLOTMEM_PROXY_H
#define SLOTMEM_PROXY_H

#include "slotmem_removal.h"
#include "slotmem_restore.h"
#include "slotmem_workers.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: what the configuration wants of one segment. */
typedef struct slotmem_proxy_t slotmem_proxy_t;

/** Start anew. @param pool lasts as long as the generation; NULL: none */
void slotmem_proxy_reset(apr_pool_t *pool);

/**
 * Is this a segment of mod_proxy_balancer's that is kept in a file? To be asked
 * at each create of a name, of whatever type: what the configuration says must
 * be noted at the first of mod_proxy_balancer's, before slots take its place.
 * @param name not anonymous
 * @return what is wanted of it; NULL: it is none, or its slots have another
 *         layout than this module was built for (said once in the log)
 */
slotmem_proxy_t *slotmem_proxy_lookup(const char *name,
                                      const slotmem_geometry_t *geometry);

/** Process-local: what a segment is called, for people. */
typedef struct slotmem_label_t {
    const char *server;         /**< the virtual host's name and port; or NULL:
                                     not known */
    const char *balancer;       /**< whose members are in it, as
                                     balancer://NAME; several if they share it;
                                     NULL: it has the server's balancers */
    int shows_workers;          /**< 1: it has members, and the server has
                                     ProxyStatus On or Full */
    const slotmem_proxy_t *proxy; /**< for slotmem_proxy_origin(); or NULL */
} slotmem_label_t;

/**
 * What mod_proxy_balancer's configuration calls a segment, kept or not. Control
 * characters are escaped, and user and password are left out.
 * @param label all is 0 if the segment is none of mod_proxy_balancer's
 * @param name not anonymous
 */
void slotmem_proxy_label(slotmem_label_t *label, const char *name,
                         apr_pool_t *pool);

/** Does the configuration have the member that is in a slot of that segment?
 *  @param slot may be written to meanwhile */
slotmem_origin_e slotmem_proxy_origin(const slotmem_proxy_t *proxy,
                                      const void *slot);

/** Process-local: how a merge went. */
typedef struct slotmem_proxy_merged_t {
    apr_uint32_t restored;      /**< slots */
    apr_uint32_t runtime;       /**< of them, claimed at run time */
    int dropped;                /**< 1: something in the file was left out: the
                                     file is to be kept as a backup */
} slotmem_proxy_merged_t;

/**
 * Decide on each slot of an image: restore it into the segment, in use, or
 * leave it out. Logs what is left out and what the configuration has overruled.
 * @param segment new: all bytes zero, no other process has it
 * @param config_claims of the segment; what is wanted is set
 * @param image its slots are changed
 * @param removal workers that are left out unless the configuration has them;
 *        the outcome of each is set; or NULL
 * @param kept what becomes of the file that has what is left out, for the log
 * @param pool for temporary use
 */
void slotmem_proxy_merge(slotmem_proxy_merged_t *merged,
                         slotmem_proxy_t *proxy, slotmem_segment_t *segment,
                         slotmem_word_t *config_claims, slotmem_image_t *image,
                         const slotmem_removal_t *removal, const char *kept,
                         apr_pool_t *pool);

/**
 * Could an image be what a segment was before it was renamed? It has all that
 * the configuration wants, and members are of a balancer of the same name.
 */
int slotmem_proxy_fits(const slotmem_proxy_t *proxy,
                       const slotmem_image_t *image, apr_pool_t *pool);

/**
 * What a store adds to the file: see SLOTMEM_FILE_WORDS, SLOTMEM_FILE_LABELS.
 * Not before the configuration is complete.
 * @param words set, with its length in bytes; so are the labels
 * @param pool for them
 */
void slotmem_proxy_words(slotmem_proxy_t *proxy, const char **words,
                         apr_size_t *words_len, const char **labels,
                         apr_size_t *labels_len, apr_pool_t *pool);

/**
 * Where a slot has the time at which mod_proxy has last set it up, which it
 * does at each start: no reason to write a file anew.
 * @param at set to its offset in a slot, in bytes
 * @param len set to its length
 */
void slotmem_proxy_stamp(const slotmem_proxy_t *proxy, apr_size_t *at,
                         apr_size_t *len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROXY_H */

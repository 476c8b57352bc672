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
 * slotmem_proxy.h: segments of mod_proxy_balancer, the consumer for which this
 * module was made: which slots its configuration wants, and what a file and the
 * status page say of them.
 *
 * mod_proxy_balancer creates a segment for the balancers of each server, named
 * after that server, and then one for the members of each of its balancers. By
 * then mod_proxy's configuration is complete, so slotmem_wanted.h reads from it
 * which slots are wanted, and guesses nothing from the order of calls. This
 * source says what goes into the file's words and labels; slotmem_words.h has
 * their format and reads words, slotmem_workers.h reads labels.
 *
 * Lifecycle: slotmem_proxy_reset() in pre_config; slotmem_proxy_lookup() in
 * each create before the MPM runs; slotmem_proxy_words() when the generation
 * has reached the MPM; slotmem_proxy_label() and slotmem_proxy_origin() at any
 * time after that.
 *
 * A crash leaves nothing behind.
 *
 * Concurrency: the parent's main thread. Children may also call
 * slotmem_proxy_label() and slotmem_proxy_origin(), which change nothing.
 */

#ifndef SLOTMEM_PROXY_H
#define SLOTMEM_PROXY_H

#include "slotmem_segment.h"
#include "slotmem_workers.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: one segment, and the slots that the configuration wants in
 *  it. */
typedef struct slotmem_proxy_t slotmem_proxy_t;

/** Start a generation. @param pool must last as long as the generation; NULL:
 *  the generation has ended */
void slotmem_proxy_reset(apr_pool_t *pool);

/**
 * Find a persisted segment of mod_proxy_balancer. Call this for each create of
 * a name, whatever its type: mod_proxy_balancer's first create is the last
 * chance to copy the configuration, which live slots replace after that.
 * @param name not anonymous
 * @return what is wanted in it; NULL: it is not such a segment, or its slots
 *         have another layout than this module was built for (logged once)
 */
slotmem_proxy_t *slotmem_proxy_lookup(const char *name,
                                      const slotmem_geometry_t *geometry);

/** Process-local: what to call a segment on a page for people. */
typedef struct slotmem_label_t {
    const char *server;         /**< the virtual host's name and port; or NULL:
                                     not known */
    const char *balancer;       /**< the balancer whose members are in it, as
                                     balancer://NAME; several if they share the
                                     segment; NULL: it has the balancers */
    int shows_workers;          /**< 1: it has members, and the server has
                                     ProxyStatus On or Full */
    const slotmem_proxy_t *proxy; /**< for slotmem_proxy_origin(); or NULL */
} slotmem_label_t;

/**
 * Find the label of a segment in mod_proxy_balancer's configuration, persisted
 * or not. Control characters are escaped; user and password are left out.
 * @param label all fields are 0 if the segment is not mod_proxy_balancer's
 * @param name not anonymous
 */
void slotmem_proxy_label(slotmem_label_t *label, const char *name,
                         apr_pool_t *pool);

/** @return where the member in this slot of the segment comes from
 *  @param slot other processes may write to it meanwhile */
slotmem_origin_e slotmem_proxy_origin(const slotmem_proxy_t *proxy,
                                      const void *slot);

/**
 * Make what a store adds to the file: see SLOTMEM_FILE_WORDS and
 * SLOTMEM_FILE_LABELS. The configuration must be complete.
 * @param words set, and words_len to their length in bytes; the same for labels
 * @param pool for words and labels
 */
void slotmem_proxy_words(slotmem_proxy_t *proxy, const char **words,
                         apr_size_t *words_len, const char **labels,
                         apr_size_t *labels_len, apr_pool_t *pool);

/**
 * Find the field with the time at which mod_proxy last set the slot up. It
 * changes at each start, which alone is no reason to write a file again.
 * @param at set to the offset of the field in a slot, in bytes
 * @param len set to the length of the field
 */
void slotmem_proxy_stamp(const slotmem_proxy_t *proxy, apr_size_t *at,
                         apr_size_t *len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROXY_H */

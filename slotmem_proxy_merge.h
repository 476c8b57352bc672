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
 * slotmem_proxy_merge.h: the merge of a stored image with the configuration of
 * mod_proxy_balancer: it decides which stored slots are restored, and where
 * (contract E6).
 *
 * Lifecycle: in a create before the MPM runs, after slotmem_proxy_lookup().
 *
 * A crash leaves nothing behind.
 *
 * Concurrency: the parent's main thread. The segment is not shared yet, and the
 * image is in private memory.
 */

#ifndef SLOTMEM_PROXY_MERGE_H
#define SLOTMEM_PROXY_MERGE_H

#include "slotmem_proxy.h"
#include "slotmem_removal.h"
#include "slotmem_restore.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: how a merge went. */
typedef struct slotmem_proxy_merged_t {
    apr_uint32_t restored;      /**< slots */
    apr_uint32_t runtime;       /**< of these: claimed at run time */
    int dropped;                /**< 1: some slots were left out: keep the file
                                     as a backup */
} slotmem_proxy_merged_t;

/**
 * Decide on each slot of an image: restore it into the segment and mark it in
 * use, or leave it out. Logs what is left out and which stored settings the
 * configuration overrules.
 * @param segment new: all bytes zero, and no other process has it
 * @param config_claims of the segment; the wanted slots are set in it
 * @param image its slots are changed
 * @param removal workers to leave out unless the configuration has them; sets
 *        the outcome of each; or NULL
 * @param kept what happens to the file with the slots that are left out: a
 *        phrase for the log
 * @param pool for temporary use
 */
void slotmem_proxy_merge(slotmem_proxy_merged_t *merged,
                         slotmem_proxy_t *proxy, slotmem_segment_t *segment,
                         slotmem_word_t *config_claims, slotmem_image_t *image,
                         const slotmem_removal_t *removal, const char *kept,
                         apr_pool_t *pool);

/**
 * Could this image be that of the segment under an earlier name? Then it has
 * all slots that the configuration wants, and its members belong to a balancer
 * of the same name.
 */
int slotmem_proxy_fits(const slotmem_proxy_t *proxy,
                       const slotmem_image_t *image, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROXY_MERGE_H */

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
 * slotmem_status.h: what is known of the segments for people and monitors. Each
 * figure is worked out here, once; slotmem_page.h shows them on a page,
 * slotmem_export.h gives them to programs.
 *
 * Concurrency: called by children, for requests. What they show is what they
 * inherited by fork, and the in-use map; of the last store they show what the
 * parent published (slotmem_report_t), which other children can overwrite: it
 * is shown and used for nothing else. Of the slots, only the workers of a
 * balancer are looked at, where mod_status may show them too (ProxyStatus).
 */

#ifndef SLOTMEM_STATUS_H
#define SLOTMEM_STATUS_H

#include "httpd.h"

#include "slotmem_persist.h"
#include "slotmem_proxy.h"
#include "slotmem_workers.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Start anew, with no segment. @param pool lasts as long as the generation;
 *  NULL: the generation has ended */
void slotmem_status_reset(apr_pool_t *pool);

/**
 * Show a segment from now on. Before the MPM runs.
 * @param segment and what follows must last as long as the generation
 * @param name as created, or NULL: anonymous
 * @param persist NULL: it is in no file
 */
void slotmem_status_add(const slotmem_segment_t *segment, const char *name,
                        const slotmem_persist_entry_t *persist);

/** Process-local: an outcome, in words for people and as a code for programs.
 *  Codes do not change. */
typedef struct slotmem_outcome_t {
    const char *words;
    const char *code;
} slotmem_outcome_t;

/** Process-local: a worker in a segment of a balancer's members. */
typedef struct slotmem_shown_t {
    slotmem_worker_t worker;
    apr_uint32_t slot;
    slotmem_origin_e origin;
} slotmem_shown_t;

/** Process-local: what is known of a segment. */
typedef struct slotmem_figures_t {
    const char *name;           /**< as created, or NULL: anonymous */
    slotmem_label_t label;      /**< what mod_proxy calls it */
    apr_uint32_t num;           /**< of slots */
    apr_uint32_t used;
    apr_size_t size;            /**< of a slot, bytes */
    apr_size_t memory;          /**< bytes of shared memory, mapped */
    const apr_array_header_t *workers; /**< of slotmem_shown_t; NULL: it has
                                     none, or they are not to be shown */
    int drained;                /**< of them */
    apr_uint32_t type;          /**< AP_SLOTMEM_TYPE_* */
    const char *type_words;
    const char *file;           /**< or NULL; then the rest is unset */
    slotmem_outcome_t restore;  /**< how the restore went */
    apr_uint32_t restored;      /**< slots that it restored */
    int refused;                /**< 1: it refused the file */
    slotmem_outcome_t store;    /**< how the last store went */
    apr_int64_t age;            /**< seconds since then, or -1: never */
    int failed;                 /**< 1: it failed */
    int others;                 /**< 1: the file is another server's */
} slotmem_figures_t;

/** Process-local: all of them, and what they are together. */
typedef struct slotmem_totals_t {
    slotmem_figures_t *segments; /**< sorted by name, anonymous ones first */
    int num;
    int generation;
    int persisted;              /**< segments that are kept in files */
    int refused;                /**< of them, files that were not restored */
    int failed;                 /**< of them, stores that failed */
    int others;                 /**< of them, files of another server */
    int orphans;                /**< files of no segment, at the start */
    apr_uint64_t slots;
    apr_uint64_t used;
    apr_uint64_t memory;
} slotmem_totals_t;

/** What is known now of all segments that were created before the MPM ran. What
 *  children create at run time is not in it. */
void slotmem_status_collect(slotmem_totals_t *totals, apr_pool_t *pool);

/** @return the name of a segment, for people */
const char *slotmem_status_name(const slotmem_figures_t *figures);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STATUS_H */

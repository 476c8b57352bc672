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
 * slotmem_status.h: the figures of the segments, for people and monitors. They
 * are computed only here; slotmem_page.h shows them on a page, slotmem_export.h
 * gives them to programs.
 *
 * Concurrency: called by children, for requests. The figures come from what the
 * children inherited by fork, from the in-use map, and from what the parent
 * publishes about the last store (slotmem_report_t). Other children can
 * overwrite that report, so it is only shown. Slots are read only for the
 * workers of balancers, and only where mod_status may show them (ProxyStatus).
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

/** Start a generation, without segments. @param pool must last as long as the
 *  generation; NULL: the generation has ended */
void slotmem_status_reset(apr_pool_t *pool);

/**
 * Show a segment from now on. In the parent only; children that are running do
 * not see it. segment, name and persist must last as long as the generation.
 * @param name as created, or NULL: anonymous
 * @param persist NULL: not persisted
 */
void slotmem_status_add(const slotmem_segment_t *segment, const char *name,
                        const slotmem_persist_entry_t *persist);

/** Process-local: an outcome, in words for people and as a code for programs.
 *  Codes do not change. */
typedef struct slotmem_status_words_t {
    const char *words;
    const char *code;
} slotmem_status_words_t;

/** Process-local: a worker in a segment of a balancer's members. */
typedef struct slotmem_shown_t {
    slotmem_worker_t worker;
    apr_uint32_t slot;
    slotmem_origin_e origin;
} slotmem_shown_t;

/** Process-local: the figures of a segment. */
typedef struct slotmem_figures_t {
    const char *name;           /**< as created, or NULL: anonymous */
    slotmem_label_t label;      /**< its name in mod_proxy */
    apr_uint32_t num;           /**< number of slots */
    apr_uint32_t used;          /**< slots in use */
    apr_size_t size;            /**< bytes of a slot */
    apr_size_t memory;          /**< bytes of shared memory, mapped */
    const apr_array_header_t *workers; /**< of slotmem_shown_t; NULL: it has
                                     none, or must not show them */
    int drained;                /**< number of drained workers */
    apr_uint32_t type;          /**< AP_SLOTMEM_TYPE_* */
    const char *type_words;
    const char *file;           /**< or NULL; then the rest is unset */
    slotmem_status_words_t restore; /**< outcome of the restore */
    apr_uint32_t restored;      /**< restored slots */
    int refused;                /**< 1: the restore refused the file */
    slotmem_status_words_t store; /**< outcome of the last store */
    apr_int64_t age;            /**< seconds since the last store; -1: never */
    int failed;                 /**< 1: the last store failed */
    int others;                 /**< 1: the file belongs to another server */
} slotmem_figures_t;

/** Process-local: all segments, and their sums. */
typedef struct slotmem_totals_t {
    slotmem_figures_t *segments; /**< sorted by name, anonymous ones first */
    int num;
    int generation;
    int persisted;              /**< persisted segments */
    int refused;                /**< files that were refused */
    int failed;                 /**< stores that failed */
    int others;                 /**< files that belong to another server */
    int orphans;                /**< files that belonged to no segment when the
                                     generation started */
    apr_uint64_t slots;
    apr_uint64_t used;
    apr_uint64_t memory;
} slotmem_totals_t;

/** Compute the figures of all segments that were created before the MPM ran;
 *  those that children create at run time are not included. */
void slotmem_status_collect(slotmem_totals_t *totals, apr_pool_t *pool);

/** The name to show for an anonymous segment; others can be called so too. */
#define SLOTMEM_STATUS_ANONYMOUS "(anonymous)"

/** @return the name of a segment to show */
const char *slotmem_status_name(const slotmem_figures_t *figures);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STATUS_H */

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
 * slotmem_status.c: the figures of the segments; see slotmem_status.h.
 */

#include <stdlib.h>
#include <string.h>

#include "apr_strings.h"

#include "httpd.h"
#include "ap_mpm.h"
#include "ap_slotmem.h"

#include "slotmem_orphans.h"
#include "slotmem_status.h"

/* Process-local: a segment to show. */
typedef struct entry_t {
    const slotmem_segment_t *segment;
    const char *name;           /* as created, or NULL: anonymous */
    const slotmem_persist_entry_t *persist; /* NULL: not persisted */
} entry_t;

/* Process-local. All segments that were created before the MPM ran; children do
 * not change it. */
static apr_array_header_t *entries; /* of entry_t */

void slotmem_status_reset(apr_pool_t *pool)
{
    entries = pool ? apr_array_make(pool, 16, sizeof(entry_t)) : NULL;
}

void slotmem_status_add(const slotmem_segment_t *segment, const char *name,
                        const slotmem_persist_entry_t *persist)
{
    entry_t *entry = apr_array_push(entries);

    entry->segment = segment;
    entry->name = name;
    entry->persist = persist;
}

/* ---- one segment ---- */

static const char *format_type(apr_uint32_t type, apr_pool_t *pool)
{
    const char *words =
        apr_pstrcat(pool,
                    type & AP_SLOTMEM_TYPE_PERSIST ? " persist" : "",
                    type & AP_SLOTMEM_TYPE_NOTMPSAFE ? " notmpsafe" : "",
                    type & AP_SLOTMEM_TYPE_PREGRAB ? " pregrab" : "",
                    type & AP_SLOTMEM_TYPE_CLEARINUSE ? " clearinuse" : "",
                    NULL);

    return *words ? words + 1 : "none";
}

static void add_restore(slotmem_figures_t *figures,
                        const slotmem_restore_result_t *restored,
                        apr_pool_t *pool)
{
    static const slotmem_status_words_t outcomes[] = {
        [SLOTMEM_RESTORE_NO_FILE] = { "no file", "none" },
        [SLOTMEM_RESTORE_REFUSED] = { "refused", "refused" },
        [SLOTMEM_RESTORE_UNAVAILABLE] = { "unread", "unread" }
    };

    figures->refused = restored->outcome == SLOTMEM_RESTORE_REFUSED;
    if (restored->outcome == SLOTMEM_RESTORE_DONE) {
        figures->restored = restored->item_num;
        figures->restore.words = apr_psprintf(pool, "%u slots",
                                              restored->item_num);
        figures->restore.code = "restored";
    }
    else {
        figures->restore = outcomes[restored->outcome];
    }
}

/* Read each field once: another process may overwrite it meanwhile. */
static void add_store(slotmem_figures_t *figures,
                      const slotmem_report_t *report, apr_time_t now)
{
    static const slotmem_status_words_t outcomes[] = {
        [SLOTMEM_REPORT_NONE] = { "not yet", "none" },
        [SLOTMEM_REPORT_STORED] = { "stored", "stored" },
        [SLOTMEM_REPORT_UNCHANGED] = { "unchanged", "unchanged" },
        [SLOTMEM_REPORT_FAILED] = { "failed", "failed" },
        [SLOTMEM_REPORT_CONFLICT] = { "another server's", "conflict" },
        [SLOTMEM_REPORT_UNAVAILABLE] = { "not before a restart",
                                         "unavailable" }
    };
    apr_uint32_t outcome = report ? atomic_load(&report->outcome)
                                  : SLOTMEM_REPORT_NONE;
    apr_int64_t at = report ? (apr_int64_t)atomic_load(&report->at) : 0;

    if (outcome >= sizeof(outcomes) / sizeof(outcomes[0])) {
        outcome = SLOTMEM_REPORT_NONE;
    }
    figures->store = outcomes[outcome];
    figures->failed = outcome == SLOTMEM_REPORT_FAILED;
    figures->others = outcome == SLOTMEM_REPORT_CONFLICT;
    if (at > 0 && at <= apr_time_sec(now)) {
        figures->age = apr_time_sec(now) - at;
    }
}

/* The slots are live: children write to them meanwhile. */
static void add_workers(slotmem_figures_t *figures,
                        const slotmem_segment_t *segment, apr_pool_t *pool)
{
    const slotmem_map_t *map = &segment->map;
    apr_array_header_t *workers = apr_array_make(pool, 4,
                                                 sizeof(slotmem_shown_t));
    apr_uint32_t id;

    for (id = slotmem_map_next(map, 0); id < figures->num;
         id = slotmem_map_next(map, id + 1)) {
        const void *slot = segment->slots + (apr_size_t)id * figures->size;
        slotmem_shown_t shown = { .slot = id };

        if (slotmem_worker_read(&shown.worker, slot, pool)) {
            shown.origin = slotmem_proxy_origin(figures->label.proxy, slot);
            APR_ARRAY_PUSH(workers, slotmem_shown_t) = shown;
            figures->drained += shown.worker.is_drained;
        }
    }
    figures->workers = workers;
}

static slotmem_figures_t figures_of(const entry_t *entry, apr_time_t now,
                                    apr_pool_t *pool)
{
    const slotmem_segment_t *segment = entry->segment;
    slotmem_figures_t figures;

    memset(&figures, 0, sizeof(figures));
    figures.name = entry->name;
    if (entry->name) {
        slotmem_proxy_label(&figures.label, entry->name, pool);
    }
    figures.num = segment->geometry.item_num;
    figures.used = figures.num - slotmem_map_count_free(&segment->map);
    figures.size = segment->geometry.item_size;
    figures.memory = segment->layout.memory_len;
    if (figures.label.shows_workers
        && slotmem_slots_of(figures.size) == SLOTMEM_SLOTS_WORKERS) {
        add_workers(&figures, segment, pool);
    }
    figures.type = segment->geometry.type;
    figures.type_words = format_type(figures.type, pool);
    figures.age = -1;
    if (entry->persist) {
        figures.file = entry->persist->path;
        add_restore(&figures, &entry->persist->restored, pool);
        add_store(&figures, entry->persist->report, now);
    }
    return figures;
}

const char *slotmem_status_name(const slotmem_figures_t *figures)
{
    return figures->name ? figures->name : SLOTMEM_STATUS_ANONYMOUS;
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b)
{
    const entry_t *x = a;
    const entry_t *y = b;

    return strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

static void add_up(slotmem_totals_t *totals, const slotmem_figures_t *figures)
{
    totals->persisted += figures->file != NULL;
    totals->refused += figures->refused;
    totals->failed += figures->failed;
    totals->others += figures->others;
    totals->slots += figures->num;
    totals->used += figures->used;
    totals->memory += figures->memory;
}

/* Sort a copy of the entries: threads share the array. */
void slotmem_status_collect(slotmem_totals_t *totals, apr_pool_t *pool)
{
    entry_t *sorted = (entry_t *)apr_array_copy(pool, entries)->elts;
    apr_time_t now = apr_time_now();
    int i;

    memset(totals, 0, sizeof(*totals));
    if (ap_mpm_query(AP_MPMQ_GENERATION, &totals->generation) != APR_SUCCESS) {
        totals->generation = 0;        /* this MPM does not tell */
    }
    totals->orphans = slotmem_orphans_num();
    qsort(sorted, (size_t)entries->nelts, sizeof(*sorted), by_name);
    totals->num = entries->nelts;
    totals->segments = apr_pcalloc(pool, ((apr_size_t)totals->num + 1)
                                   * sizeof(*totals->segments));
    for (i = 0; i < totals->num; i++) {
        totals->segments[i] = figures_of(&sorted[i], now, pool);
        add_up(totals, &totals->segments[i]);
    }
}

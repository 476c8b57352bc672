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
 * slotmem_status.c: the three forms of slotmem_status.h. Each figure is worked
 * out once, in segment_stats(), whatever the form.
 */

#include <stdlib.h>
#include <string.h>

#include "apr_lib.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_protocol.h"
#include "ap_mpm.h"
#include "ap_slotmem.h"
#include "mod_status.h"

#include "mod_slotmem_shm.h"
#include "slotmem_status.h"

/* Process-local: a segment to be shown. */
typedef struct entry_t {
    const slotmem_segment_t *segment;
    const char *name;           /* as created, or NULL: anonymous */
    const slotmem_persist_entry_t *persist; /* NULL: in no file */
} entry_t;

/* Process-local. All segments that were created before the MPM ran; constant in
 * the children. */
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

/* Process-local: what is shown of a segment. */
typedef struct stats_t {
    const char *name;
    apr_uint32_t num;
    apr_uint32_t used;
    apr_size_t size;            /* of a slot, bytes */
    apr_size_t memory;          /* bytes of shared memory, mapped */
    const char *type;           /* flags in words */
    const char *file;           /* or NULL */
    const char *restored;       /* how the restore went, or NULL */
    const char *last_store;     /* how the last store went, or NULL */
    apr_int64_t age;            /* seconds since then, or -1: never */
    int failed;                 /* 1: it failed */
} stats_t;

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

static const char *format_restored(const slotmem_persist_entry_t *persist,
                                   apr_pool_t *pool)
{
    switch (persist->restored.outcome) {
    case SLOTMEM_RESTORE_DONE:
        return apr_psprintf(pool, "%u slots", persist->restored.item_num);
    case SLOTMEM_RESTORE_REJECTED:
        return "refused";
    case SLOTMEM_RESTORE_UNAVAILABLE:
        return "unread";
    case SLOTMEM_RESTORE_NO_FILE:
        break;
    }
    return "no file";
}

/* What another process may overwrite is read once. */
static void add_store(stats_t *stats, const slotmem_report_t *report,
                      apr_time_t now)
{
    apr_int64_t at = atomic_load(&report->at);

    if (at > 0 && at <= apr_time_sec(now)) {
        stats->age = apr_time_sec(now) - at;
    }
    switch (atomic_load(&report->outcome)) {
    case SLOTMEM_REPORT_STORED:
        stats->last_store = "stored";
        break;
    case SLOTMEM_REPORT_UNCHANGED:
        stats->last_store = "unchanged";
        break;
    case SLOTMEM_REPORT_FAILED:
        stats->last_store = "failed";
        stats->failed = 1;
        break;
    case SLOTMEM_REPORT_CONFLICT:
        stats->last_store = "another server's";
        break;
    case SLOTMEM_REPORT_UNAVAILABLE:
        stats->last_store = "not before a restart";
        break;
    default:
        stats->last_store = "not yet";
        break;
    }
}

static stats_t segment_stats(const entry_t *entry, apr_time_t now,
                             apr_pool_t *pool)
{
    const slotmem_segment_t *segment = entry->segment;
    stats_t stats;

    memset(&stats, 0, sizeof(stats));
    stats.name = entry->name ? entry->name : "(anonymous)";
    stats.num = segment->geometry.item_num;
    stats.used = stats.num - slotmem_map_count_free(&segment->map);
    stats.size = segment->geometry.item_size;
    stats.memory = segment->layout.memory_len;
    stats.type = format_type(segment->geometry.type, pool);
    stats.age = -1;
    if (entry->persist) {
        stats.file = entry->persist->path;
        stats.restored = format_restored(entry->persist, pool);
        stats.last_store = "not yet";
        if (entry->persist->report) {
            add_store(&stats, entry->persist->report, now);
        }
    }
    return stats;
}

/* All of them, and what they are together. */
typedef struct totals_t {
    stats_t *segments;
    int num;
    int generation;
    int persisted;
    int failed;
    apr_uint64_t slots;
    apr_uint64_t used;
    apr_uint64_t memory;
} totals_t;

static int by_name(const void *a, const void *b)
{
    const entry_t *x = a;
    const entry_t *y = b;

    return strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

/* The entries are sorted in a copy: threads share the array. */
static void collect(totals_t *totals, request_rec *r)
{
    entry_t *sorted = (entry_t *)apr_array_copy(r->pool, entries)->elts;
    apr_time_t now = apr_time_now();
    int i;

    memset(totals, 0, sizeof(*totals));
    if (ap_mpm_query(AP_MPMQ_GENERATION, &totals->generation) != APR_SUCCESS) {
        totals->generation = 0;        /* an MPM that does not say */
    }
    qsort(sorted, (size_t)entries->nelts, sizeof(*sorted), by_name);
    totals->num = entries->nelts;
    totals->segments = apr_pcalloc(r->pool, ((apr_size_t)totals->num + 1)
                                   * sizeof(*totals->segments));
    for (i = 0; i < totals->num; i++) {
        stats_t *stats = &totals->segments[i];

        *stats = segment_stats(&sorted[i], now, r->pool);
        totals->persisted += stats->file != NULL;
        totals->failed += stats->failed;
        totals->slots += stats->num;
        totals->used += stats->used;
        totals->memory += stats->memory;
    }
}

/* ---- ?auto: one line a figure ---- */

/* A value ends with its line. */
static const char *one_line(const char *text, apr_pool_t *pool)
{
    char *copy = apr_pstrdup(pool, text);
    char *at;

    for (at = copy; *at; at++) {
        if (apr_iscntrl(*at)) {
            *at = '?';
        }
    }
    return copy;
}

static void auto_segment(request_rec *r, int i, const stats_t *stats)
{
    ap_rprintf(r, "ModSlotmemSegment[%d]Name: %s\n", i,
               one_line(stats->name, r->pool));
    ap_rprintf(r, "ModSlotmemSegment[%d]Slots: %u\n", i, stats->num);
    ap_rprintf(r, "ModSlotmemSegment[%d]SlotsUsed: %u\n", i, stats->used);
    ap_rprintf(r, "ModSlotmemSegment[%d]SlotSize: %" APR_SIZE_T_FMT "\n", i,
               stats->size);
    ap_rprintf(r, "ModSlotmemSegment[%d]Memory: %" APR_SIZE_T_FMT "\n", i,
               stats->memory);
    ap_rprintf(r, "ModSlotmemSegment[%d]Type: %s\n", i, stats->type);
    if (!stats->file) {
        return;
    }
    ap_rprintf(r, "ModSlotmemSegment[%d]File: %s\n", i,
               one_line(stats->file, r->pool));
    ap_rprintf(r, "ModSlotmemSegment[%d]Restored: %s\n", i, stats->restored);
    ap_rprintf(r, "ModSlotmemSegment[%d]LastStore: %s\n", i, stats->last_store);
    if (stats->age >= 0) {
        ap_rprintf(r, "ModSlotmemSegment[%d]LastStoreAge: %" APR_INT64_T_FMT
                   "\n", i, stats->age);
    }
}

static void write_auto(request_rec *r, const totals_t *totals)
{
    int i;

    ap_rprintf(r, "ModSlotmemVersion: %s\n", SLOTMEM_VERSION);
    ap_rprintf(r, "ModSlotmemGeneration: %d\n", totals->generation);
    ap_rprintf(r, "ModSlotmemSegments: %d\n", totals->num);
    ap_rprintf(r, "ModSlotmemSegmentsPersisted: %d\n", totals->persisted);
    ap_rprintf(r, "ModSlotmemStoresFailed: %d\n", totals->failed);
    ap_rprintf(r, "ModSlotmemSlots: %" APR_UINT64_T_FMT "\n", totals->slots);
    ap_rprintf(r, "ModSlotmemSlotsUsed: %" APR_UINT64_T_FMT "\n", totals->used);
    ap_rprintf(r, "ModSlotmemMemory: %" APR_UINT64_T_FMT "\n", totals->memory);
    for (i = 0; i < totals->num; i++) {
        auto_segment(r, i, &totals->segments[i]);
    }
}

/* ---- HTML ---- */

#define BAR_LEN 20

/* Some used slot shows, and so does some free one. */
static const char *bar(const stats_t *stats, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, BAR_LEN + 1);
    apr_uint64_t full = stats->num ? (apr_uint64_t)stats->used * BAR_LEN
                                       / stats->num : 0;

    if (!full && stats->used) {
        full = 1;
    }
    memset(text, '.', BAR_LEN);
    memset(text, '#', (size_t)full);
    text[BAR_LEN] = '\0';
    return text;
}

static const char *format_age(apr_int64_t age, apr_pool_t *pool)
{
    return age < 0 ? ""
         : age < 120 ? apr_psprintf(pool, ", %d s ago", (int)age)
         : age < 7200 ? apr_psprintf(pool, ", %d min ago", (int)(age / 60))
         : apr_psprintf(pool, ", %" APR_INT64_T_FMT " h ago", age / 3600);
}

static const char *format_bytes(apr_uint64_t bytes, apr_pool_t *pool)
{
    return bytes < 10240 ? apr_psprintf(pool, "%d B", (int)bytes)
         : bytes < (apr_uint64_t)10240 * 1024
           ? apr_psprintf(pool, "%d KiB", (int)(bytes / 1024))
         : apr_psprintf(pool, "%" APR_UINT64_T_FMT " MiB",
                        bytes / 1024 / 1024);
}

static void html_segment(request_rec *r, const stats_t *stats,
                         const char *begin, const char *between,
                         const char *end)
{
    const char *file = stats->file ? ap_escape_html(r->pool, stats->file)
                                     : "-";

    ap_rputs(begin, r);
    ap_rvputs(r, ap_escape_html(r->pool, stats->name), between, NULL);
    ap_rprintf(r, "<code>%s</code> %u of %u%s", bar(stats, r->pool),
               stats->used, stats->num, between);
    ap_rprintf(r, "%" APR_SIZE_T_FMT "%s", stats->size, between);
    ap_rvputs(r, format_bytes(stats->memory, r->pool), between,
              stats->type, between,
              stats->restored ? stats->restored : "-", between, NULL);
    ap_rvputs(r, stats->failed ? "<b>" : "",
              stats->last_store ? stats->last_store : "-",
              stats->failed ? "</b>" : "",
              format_age(stats->age, r->pool), between, file, end, NULL);
}

static void write_html(request_rec *r, const totals_t *totals, int with_table)
{
    int i;

    ap_rputs("<hr />\n<h2>Shared memory slots (mod_slotmem_shm "
             SLOTMEM_VERSION ")</h2>\n", r);
    ap_rprintf(r, "<p>%d segments in generation %d: %" APR_UINT64_T_FMT
               " of %" APR_UINT64_T_FMT " slots in use, %s; %d kept in files, "
               "%s%d failed at their last store%s.</p>\n", totals->num,
               totals->generation, totals->used, totals->slots,
               format_bytes(totals->memory, r->pool), totals->persisted,
               totals->failed ? "<b>" : "", totals->failed,
               totals->failed ? "</b>" : "");
    if (!totals->num) {
        return;
    }
    if (with_table) {
        ap_rputs("<table rules=\"all\" cellpadding=\"3\">\n<tr>"
                 "<th>Segment</th><th>Slots in use</th><th>Slot size</th>"
                 "<th>Memory</th><th>Type</th><th>Restored</th>"
                 "<th>Last store</th><th>File</th></tr>\n", r);
    }
    for (i = 0; i < totals->num; i++) {
        if (with_table) {
            html_segment(r, &totals->segments[i], "<tr><td nowrap>",
                         "</td><td nowrap>", "</td></tr>\n");
        }
        else {
            html_segment(r, &totals->segments[i], "<p>", "; ", "</p>\n");
        }
    }
    ap_rputs(with_table ? "</table>\n" : "", r);
}

void slotmem_status_section(request_rec *r, int flags)
{
    totals_t totals;

    collect(&totals, r);
    if (flags & AP_STATUS_SHORT) {
        write_auto(r, &totals);
    }
    else {
        write_html(r, &totals, !(flags & AP_STATUS_NOTABLE));
    }
}

/* ---- JSON ---- */

/* A string. What is no valid UTF-8 is no JSON: such bytes, like those that must
 * be, are written as the character of their number. */
static void json_string(request_rec *r, const char *text)
{
    const unsigned char *at;

    ap_rputs("\"", r);
    for (at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\') {
            ap_rprintf(r, "\\%c", *at);
        }
        else if (*at < 0x20 || *at >= 0x7f) {
            ap_rprintf(r, "\\u%04x", *at);
        }
        else {
            ap_rputc(*at, r);
        }
    }
    ap_rputs("\"", r);
}

static void json_text(request_rec *r, const char *key, const char *text)
{
    ap_rprintf(r, ", \"%s\": ", key);
    json_string(r, text);
}

static void json_segment(request_rec *r, const stats_t *stats)
{
    ap_rputs("    {\"name\": ", r);
    json_string(r, stats->name);
    ap_rprintf(r, ", \"slots\": %u, \"slotsUsed\": %u, \"slotSize\": %"
               APR_SIZE_T_FMT ", \"memory\": %" APR_SIZE_T_FMT, stats->num,
               stats->used, stats->size, stats->memory);
    json_text(r, "type", stats->type);
    if (stats->file) {
        json_text(r, "file", stats->file);
        json_text(r, "restored", stats->restored);
        json_text(r, "lastStore", stats->last_store);
        if (stats->age >= 0) {
            ap_rprintf(r, ", \"lastStoreAge\": %" APR_INT64_T_FMT,
                       stats->age);
        }
    }
    ap_rputs("}", r);
}

int slotmem_status_json(request_rec *r)
{
    totals_t totals;
    int i;

    ap_set_content_type(r, "application/json");
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (r->header_only) {
        return OK;
    }
    collect(&totals, r);
    ap_rprintf(r,
               "{\n  \"version\": \"" SLOTMEM_VERSION "\",\n"
               "  \"generation\": %d, \"segmentsPersisted\": %d, "
               "\"storesFailed\": %d,\n  \"slots\": %" APR_UINT64_T_FMT
               ", \"slotsUsed\": %" APR_UINT64_T_FMT
               ", \"memory\": %" APR_UINT64_T_FMT ",\n  \"segments\": [",
               totals.generation, totals.persisted, totals.failed, totals.slots,
               totals.used, totals.memory);
    for (i = 0; i < totals.num; i++) {
        ap_rputs(i ? ",\n" : "\n", r);
        json_segment(r, &totals.segments[i]);
    }
    ap_rputs("\n  ]\n}\n", r);
    return OK;
}

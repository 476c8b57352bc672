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
 * out once, in figures_of(), whatever the form.
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

#include "slotmem_status.h"

/* Process-local: what is shown of a segment. */
typedef struct figures_t {
    const char *name;
    apr_uint32_t num;
    apr_uint32_t used;
    apr_size_t size;            /* of a slot, bytes */
    apr_size_t memory;          /* bytes of shared memory, mapped */
    const char *type;           /* flags in words */
    const char *file;           /* or NULL */
    const char *restored;       /* how the restore went, or NULL */
    const char *stored;         /* how the last store went, or NULL */
    apr_int64_t age;            /* seconds since then, or -1: never */
    int failed;                 /* 1: it failed */
} figures_t;

static const char *type_words(apr_uint32_t type, apr_pool_t *pool)
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

static const char *restored_words(const slotmem_kept_t *kept, apr_pool_t *pool)
{
    switch (kept->restored.outcome) {
    case SLOTMEM_RESTORE_DONE:
        return apr_psprintf(pool, "%u slots", kept->restored.item_num);
    case SLOTMEM_RESTORE_REFUSED:
        return "refused";
    case SLOTMEM_RESTORE_UNREAD:
        return "unread";
    case SLOTMEM_RESTORE_NO_FILE:
        break;
    }
    return "no file";
}

/* What another process may overwrite is read once. */
static void add_store(figures_t *figures, const slotmem_report_t *report,
                      apr_time_t now)
{
    apr_int64_t at = atomic_load(&report->at);

    if (at > 0 && at <= apr_time_sec(now)) {
        figures->age = apr_time_sec(now) - at;
    }
    switch (atomic_load(&report->outcome)) {
    case SLOTMEM_REPORT_STORED:
        figures->stored = "stored";
        break;
    case SLOTMEM_REPORT_UNCHANGED:
        figures->stored = "unchanged";
        break;
    case SLOTMEM_REPORT_FAILED:
        figures->stored = "failed";
        figures->failed = 1;
        break;
    case SLOTMEM_REPORT_OTHER:
        figures->stored = "another server's";
        break;
    case SLOTMEM_REPORT_UNREAD:
        figures->stored = "not before a restart";
        break;
    default:
        figures->stored = "not yet";
        break;
    }
}

static figures_t figures_of(const slotmem_shown_t *shown, apr_time_t now,
                            apr_pool_t *pool)
{
    const slotmem_segment_t *segment = shown->segment;
    figures_t figures;

    memset(&figures, 0, sizeof(figures));
    figures.name = shown->name ? shown->name : "(anonymous)";
    figures.num = segment->geometry.item_num;
    figures.used = figures.num - slotmem_map_free(&segment->map);
    figures.size = segment->geometry.item_size;
    figures.memory = segment->layout.memory_len;
    figures.type = type_words(segment->geometry.type, pool);
    figures.age = -1;
    if (shown->kept) {
        figures.file = shown->kept->path;
        figures.restored = restored_words(shown->kept, pool);
        figures.stored = "not yet";
        if (shown->kept->report) {
            add_store(&figures, shown->kept->report, now);
        }
    }
    return figures;
}

/* All of them, and what they are together. */
typedef struct all_t {
    figures_t *of;
    int num;
    int generation;
    int kept;
    int failed;
    apr_uint64_t slots;
    apr_uint64_t used;
    apr_uint64_t memory;
} all_t;

static int by_name(const void *a, const void *b)
{
    const slotmem_shown_t *x = a;
    const slotmem_shown_t *y = b;

    return strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

static void collect(all_t *all, request_rec *r, apr_array_header_t *shown)
{
    slotmem_shown_t *of = (slotmem_shown_t *)shown->elts;
    apr_time_t now = apr_time_now();
    int i;

    memset(all, 0, sizeof(*all));
    if (ap_mpm_query(AP_MPMQ_GENERATION, &all->generation) != APR_SUCCESS) {
        all->generation = 0;        /* an MPM that does not say */
    }
    qsort(of, (size_t)shown->nelts, sizeof(*of), by_name);
    all->num = shown->nelts;
    all->of = apr_pcalloc(r->pool, ((apr_size_t)all->num + 1)
                                   * sizeof(*all->of));
    for (i = 0; i < all->num; i++) {
        figures_t *figures = &all->of[i];

        *figures = figures_of(&of[i], now, r->pool);
        all->kept += figures->file != NULL;
        all->failed += figures->failed;
        all->slots += figures->num;
        all->used += figures->used;
        all->memory += figures->memory;
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

static void auto_segment(request_rec *r, int i, const figures_t *figures)
{
    ap_rprintf(r, "SlotmemSegment[%d]Name: %s\n", i,
               one_line(figures->name, r->pool));
    ap_rprintf(r, "SlotmemSegment[%d]Slots: %u\n", i, figures->num);
    ap_rprintf(r, "SlotmemSegment[%d]SlotsUsed: %u\n", i, figures->used);
    ap_rprintf(r, "SlotmemSegment[%d]SlotSize: %" APR_SIZE_T_FMT "\n", i,
               figures->size);
    ap_rprintf(r, "SlotmemSegment[%d]Memory: %" APR_SIZE_T_FMT "\n", i,
               figures->memory);
    ap_rprintf(r, "SlotmemSegment[%d]Type: %s\n", i, figures->type);
    if (!figures->file) {
        return;
    }
    ap_rprintf(r, "SlotmemSegment[%d]File: %s\n", i,
               one_line(figures->file, r->pool));
    ap_rprintf(r, "SlotmemSegment[%d]Restored: %s\n", i, figures->restored);
    ap_rprintf(r, "SlotmemSegment[%d]LastStore: %s\n", i, figures->stored);
    if (figures->age >= 0) {
        ap_rprintf(r, "SlotmemSegment[%d]LastStoreAge: %" APR_INT64_T_FMT
                   "\n", i, figures->age);
    }
}

static void show_auto(request_rec *r, const all_t *all)
{
    int i;

    ap_rprintf(r, "SlotmemGeneration: %d\n", all->generation);
    ap_rprintf(r, "SlotmemSegments: %d\n", all->num);
    ap_rprintf(r, "SlotmemSegmentsPersisted: %d\n", all->kept);
    ap_rprintf(r, "SlotmemStoresFailed: %d\n", all->failed);
    ap_rprintf(r, "SlotmemSlots: %" APR_UINT64_T_FMT "\n", all->slots);
    ap_rprintf(r, "SlotmemSlotsUsed: %" APR_UINT64_T_FMT "\n", all->used);
    ap_rprintf(r, "SlotmemMemory: %" APR_UINT64_T_FMT "\n", all->memory);
    for (i = 0; i < all->num; i++) {
        auto_segment(r, i, &all->of[i]);
    }
}

/* ---- HTML ---- */

#define BAR_LEN 20

/* Some used slot shows, and so does some free one. */
static const char *bar(const figures_t *figures, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, BAR_LEN + 1);
    apr_uint64_t full = figures->num ? (apr_uint64_t)figures->used * BAR_LEN
                                       / figures->num : 0;

    if (!full && figures->used) {
        full = 1;
    }
    memset(text, '.', BAR_LEN);
    memset(text, '#', (size_t)full);
    text[BAR_LEN] = '\0';
    return text;
}

static const char *age_words(apr_int64_t age, apr_pool_t *pool)
{
    return age < 0 ? ""
         : age < 120 ? apr_psprintf(pool, ", %d s ago", (int)age)
         : age < 7200 ? apr_psprintf(pool, ", %d min ago", (int)(age / 60))
         : apr_psprintf(pool, ", %" APR_INT64_T_FMT " h ago", age / 3600);
}

static const char *bytes_words(apr_uint64_t bytes, apr_pool_t *pool)
{
    return bytes < 10240 ? apr_psprintf(pool, "%d B", (int)bytes)
         : bytes < (apr_uint64_t)10240 * 1024
           ? apr_psprintf(pool, "%d KiB", (int)(bytes / 1024))
         : apr_psprintf(pool, "%" APR_UINT64_T_FMT " MiB",
                        bytes / 1024 / 1024);
}

static void html_segment(request_rec *r, const figures_t *figures,
                         const char *begin, const char *between,
                         const char *end)
{
    const char *file = figures->file ? ap_escape_html(r->pool, figures->file)
                                     : "-";

    ap_rputs(begin, r);
    ap_rvputs(r, ap_escape_html(r->pool, figures->name), between, NULL);
    ap_rprintf(r, "<code>%s</code> %u of %u%s", bar(figures, r->pool),
               figures->used, figures->num, between);
    ap_rprintf(r, "%" APR_SIZE_T_FMT "%s", figures->size, between);
    ap_rvputs(r, bytes_words(figures->memory, r->pool), between,
              figures->type, between,
              figures->restored ? figures->restored : "-", between, NULL);
    ap_rvputs(r, figures->failed ? "<b>" : "",
              figures->stored ? figures->stored : "-",
              figures->failed ? "</b>" : "",
              age_words(figures->age, r->pool), between, file, end, NULL);
}

static void show_html(request_rec *r, const all_t *all, int with_table)
{
    int i;

    ap_rputs("<hr />\n<h2>Shared memory slots (mod_slotmem_shm)</h2>\n", r);
    ap_rprintf(r, "<p>%d segments in generation %d: %" APR_UINT64_T_FMT
               " of %" APR_UINT64_T_FMT " slots in use, %s; %d kept in files, "
               "%s%d failed at their last store%s.</p>\n", all->num,
               all->generation, all->used, all->slots,
               bytes_words(all->memory, r->pool), all->kept,
               all->failed ? "<b>" : "", all->failed,
               all->failed ? "</b>" : "");
    if (!all->num) {
        return;
    }
    if (with_table) {
        ap_rputs("<table rules=\"all\" cellpadding=\"3\">\n<tr>"
                 "<th>Segment</th><th>Slots in use</th><th>Slot size</th>"
                 "<th>Memory</th><th>Type</th><th>Restored</th>"
                 "<th>Last store</th><th>File</th></tr>\n", r);
    }
    for (i = 0; i < all->num; i++) {
        if (with_table) {
            html_segment(r, &all->of[i], "<tr><td nowrap>",
                         "</td><td nowrap>", "</td></tr>\n");
        }
        else {
            html_segment(r, &all->of[i], "<p>", "; ", "</p>\n");
        }
    }
    ap_rputs(with_table ? "</table>\n" : "", r);
}

void slotmem_status_section(request_rec *r, apr_array_header_t *shown,
                            int flags)
{
    all_t all;

    collect(&all, r, shown);
    if (flags & AP_STATUS_SHORT) {
        show_auto(r, &all);
    }
    else {
        show_html(r, &all, !(flags & AP_STATUS_NOTABLE));
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

static void json_segment(request_rec *r, const figures_t *figures)
{
    ap_rputs("    {\"name\": ", r);
    json_string(r, figures->name);
    ap_rprintf(r, ", \"slots\": %u, \"slotsUsed\": %u, \"slotSize\": %"
               APR_SIZE_T_FMT ", \"memory\": %" APR_SIZE_T_FMT, figures->num,
               figures->used, figures->size, figures->memory);
    json_text(r, "type", figures->type);
    if (figures->file) {
        json_text(r, "file", figures->file);
        json_text(r, "restored", figures->restored);
        json_text(r, "lastStore", figures->stored);
        if (figures->age >= 0) {
            ap_rprintf(r, ", \"lastStoreAge\": %" APR_INT64_T_FMT,
                       figures->age);
        }
    }
    ap_rputs("}", r);
}

int slotmem_status_json(request_rec *r, apr_array_header_t *shown)
{
    all_t all;
    int i;

    ap_set_content_type(r, "application/json");
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (r->header_only) {
        return OK;
    }
    collect(&all, r, shown);
    ap_rprintf(r, "{\n  \"generation\": %d, \"segmentsPersisted\": %d, "
               "\"storesFailed\": %d,\n  \"slots\": %" APR_UINT64_T_FMT
               ", \"slotsUsed\": %" APR_UINT64_T_FMT ", \"memory\": %"
               APR_UINT64_T_FMT ",\n  \"segments\": [", all.generation,
               all.kept, all.failed, all.slots, all.used, all.memory);
    for (i = 0; i < all.num; i++) {
        ap_rputs(i ? ",\n" : "\n", r);
        json_segment(r, &all.of[i]);
    }
    ap_rputs("\n  ]\n}\n", r);
    return OK;
}

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
 * slotmem_export.c: the figures for programs; see slotmem_export.h.
 */

#include <string.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_protocol.h"

#include "mod_slotmem_shm.h"
#include "slotmem_escape.h"
#include "slotmem_export.h"
#include "slotmem_metrics.h"

/* ---- ?auto: one line per figure ---- */

static void auto_number(request_rec *r, const char *key, apr_uint64_t number)
{
    ap_rprintf(r, "%s: %" APR_UINT64_T_FMT "\n", key, number);
}

static void auto_field(request_rec *r, int i, const char *key,
                       const char *value)
{
    ap_rprintf(r, "ModSlotmemSegment[%d]%s: %s\n", i, key,
               slotmem_escape_line(value, r->pool));
}

static void auto_count(request_rec *r, int i, const char *key,
                       apr_uint64_t number)
{
    auto_field(r, i, key,
               apr_psprintf(r->pool, "%" APR_UINT64_T_FMT, number));
}

static void auto_segment(request_rec *r, int i,
                         const slotmem_figures_t *figures)
{
    auto_field(r, i, "Name", slotmem_status_name(figures));
    if (figures->label.server) {
        auto_field(r, i, "VirtualHost", figures->label.server);
    }
    if (figures->label.balancer) {
        auto_field(r, i, "Balancer", figures->label.balancer);
    }
    auto_count(r, i, "Slots", figures->num);
    auto_count(r, i, "SlotsUsed", figures->used);
    auto_count(r, i, "SlotSize", figures->size);
    auto_count(r, i, "Memory", figures->memory);
    auto_field(r, i, "Type", figures->type_words);
    if (!figures->file) {
        return;
    }
    auto_field(r, i, "File", figures->file);
    auto_field(r, i, "Restored", figures->restore.words);
    auto_field(r, i, "LastStore", figures->store.words);
    if (figures->age >= 0) {
        auto_count(r, i, "LastStoreAge", (apr_uint64_t)figures->age);
    }
}

void slotmem_export_auto(request_rec *r)
{
    slotmem_totals_t totals;
    int i;

    slotmem_status_collect(&totals, r->pool);
    ap_rputs("ModSlotmemVersion: " SLOTMEM_VERSION "\n", r);
    auto_number(r, "ModSlotmemGeneration", (apr_uint64_t)totals.generation);
    auto_number(r, "ModSlotmemSegments", (apr_uint64_t)totals.num);
    auto_number(r, "ModSlotmemSegmentsPersisted",
                (apr_uint64_t)totals.persisted);
    auto_number(r, "ModSlotmemRestoresRefused", (apr_uint64_t)totals.refused);
    auto_number(r, "ModSlotmemStoresFailed", (apr_uint64_t)totals.failed);
    auto_number(r, "ModSlotmemFilesOfOthers", (apr_uint64_t)totals.others);
    auto_number(r, "ModSlotmemOrphans", (apr_uint64_t)totals.orphans);
    auto_number(r, "ModSlotmemSlots", totals.slots);
    auto_number(r, "ModSlotmemSlotsUsed", totals.used);
    auto_number(r, "ModSlotmemMemory", totals.memory);
    for (i = 0; i < totals.num; i++) {
        auto_segment(r, i, &totals.segments[i]);
    }
}

/* ---- JSON ---- */

static void json_text(request_rec *r, const char *key, const char *text)
{
    ap_rvputs(r, ", \"", key, "\": \"", slotmem_escape_json(text, r->pool),
              "\"", NULL);
}

static void json_number(request_rec *r, const char *key, apr_uint64_t number)
{
    ap_rprintf(r, ", \"%s\": %" APR_UINT64_T_FMT, key, number);
}

static void json_file(request_rec *r, const slotmem_figures_t *figures)
{
    json_text(r, "file", figures->file);
    json_text(r, "restored", figures->restore.words);
    json_text(r, "restoreResult", figures->restore.code);
    json_number(r, "slotsRestored", figures->restored);
    json_text(r, "lastStore", figures->store.words);
    json_text(r, "lastStoreResult", figures->store.code);
    if (figures->age >= 0) {
        json_number(r, "lastStoreAge", (apr_uint64_t)figures->age);
    }
}

static void json_worker(request_rec *r, const slotmem_shown_t *shown)
{
    const slotmem_worker_t *worker = &shown->worker;

    ap_rprintf(r, "{\"slot\": %u", shown->slot);
    json_text(r, "url", worker->url);
    json_text(r, "status", worker->status);
    json_text(r, "flags", worker->flags);
    ap_rprintf(r, ", \"factor\": %.2f, \"lbset\": %d", worker->factor,
               worker->lbset);
    json_text(r, "route", worker->route);
    json_text(r, "redirect", worker->redirect);
    json_number(r, "elected", worker->elected);
    json_text(r, "origin", slotmem_origin_name(shown->origin));
    ap_rputs("}", r);
}

static void json_workers(request_rec *r, const slotmem_figures_t *figures)
{
    int i;

    json_number(r, "slotsDrained", (apr_uint64_t)figures->drained);
    ap_rputs(", \"workers\": [", r);
    for (i = 0; i < figures->workers->nelts; i++) {
        ap_rputs(i ? ",\n      " : "\n      ", r);
        json_worker(r, &APR_ARRAY_IDX(figures->workers, i, slotmem_shown_t));
    }
    ap_rputs("]", r);
}

static void json_segment(request_rec *r, const slotmem_figures_t *figures)
{
    ap_rvputs(r, "    {\"name\": \"",
              slotmem_escape_json(slotmem_status_name(figures), r->pool),
              "\"", NULL);
    if (figures->label.server) {
        json_text(r, "virtualHost", figures->label.server);
    }
    if (figures->label.balancer) {
        json_text(r, "balancer", figures->label.balancer);
    }
    json_number(r, "slots", figures->num);
    json_number(r, "slotsUsed", figures->used);
    json_number(r, "slotSize", figures->size);
    json_number(r, "memory", figures->memory);
    json_text(r, "type", figures->type_words);
    json_number(r, "typeFlags", figures->type);
    if (figures->file) {
        json_file(r, figures);
    }
    if (figures->workers) {
        json_workers(r, figures);
    }
    ap_rputs("}", r);
}

static void write_json(request_rec *r)
{
    slotmem_totals_t totals;
    int i;

    slotmem_status_collect(&totals, r->pool);
    ap_rputs("{\n  \"version\": \"" SLOTMEM_VERSION "\"", r);
    json_number(r, "generation", (apr_uint64_t)totals.generation);
    json_number(r, "segmentsPersisted", (apr_uint64_t)totals.persisted);
    json_number(r, "restoresRefused", (apr_uint64_t)totals.refused);
    json_number(r, "storesFailed", (apr_uint64_t)totals.failed);
    json_number(r, "filesOfOthers", (apr_uint64_t)totals.others);
    json_number(r, "orphans", (apr_uint64_t)totals.orphans);
    json_number(r, "slots", totals.slots);
    json_number(r, "slotsUsed", totals.used);
    json_number(r, "memory", totals.memory);
    ap_rputs(",\n  \"segments\": [", r);
    for (i = 0; i < totals.num; i++) {
        ap_rputs(i ? ",\n" : "\n", r);
        json_segment(r, &totals.segments[i]);
    }
    ap_rputs("\n  ]\n}\n", r);
}

/* ---- requests ---- */

static int wants_openmetrics(const request_rec *r)
{
    const char *accept = apr_table_get(r->headers_in, "Accept");

    return accept && strstr(accept, "application/openmetrics-text");
}

/* Prometheus always adds a "=". */
static int is_metrics_query(const char *args)
{
    return args && (strcmp(args, "metrics") == 0
                    || strcmp(args, "metrics=") == 0);
}

int slotmem_export_answer(request_rec *r)
{
    int is_metrics = is_metrics_query(r->args);

    if (!is_metrics) {
        ap_set_content_type(r, "application/json");
    }
    else if (wants_openmetrics(r)) {
        ap_set_content_type(r, "application/openmetrics-text; version=1.0.0; "
                            "charset=utf-8");
    }
    else {
        ap_set_content_type(r, "text/plain; version=0.0.4; charset=utf-8");
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (is_metrics) {
        apr_table_mergen(r->headers_out, "Vary", "Accept");
    }
    if (r->header_only) {
        return OK;
    }
    if (is_metrics) {
        slotmem_metrics_write(r);
    }
    else {
        write_json(r);
    }
    return OK;
}

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
#include "ap_release.h"

#include "mod_slotmem_shm.h"
#include "slotmem_escape.h"
#include "slotmem_export.h"

/* ---- ?auto: one line a figure ---- */

static void auto_number(request_rec *r, const char *key, apr_uint64_t number)
{
    ap_rprintf(r, "%s: %" APR_UINT64_T_FMT "\n", key, number);
}

/* Of a segment. */
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

/* ---- the text format of Prometheus and OpenMetrics ---- */

/* Process-local: a gauge that each segment has. */
typedef struct metric_t {
    const char *name;
    const char *help;
    apr_int64_t (*value)(const slotmem_figures_t *); /* -1: it has none */
} metric_t;

static apr_int64_t slots(const slotmem_figures_t *figures)
{
    return figures->num;
}

static apr_int64_t slots_used(const slotmem_figures_t *figures)
{
    return figures->used;
}

static apr_int64_t memory(const slotmem_figures_t *figures)
{
    return (apr_int64_t)figures->memory;
}

static apr_int64_t slots_restored(const slotmem_figures_t *figures)
{
    return figures->file ? (apr_int64_t)figures->restored : -1;
}

static apr_int64_t restores_refused(const slotmem_figures_t *figures)
{
    return figures->file ? figures->refused : -1;
}

static apr_int64_t stores_failed(const slotmem_figures_t *figures)
{
    return figures->file ? figures->failed : -1;
}

static apr_int64_t files_of_others(const slotmem_figures_t *figures)
{
    return figures->file ? figures->others : -1;
}

static apr_int64_t last_store_age(const slotmem_figures_t *figures)
{
    return figures->age;
}

static const metric_t metrics[] = {
    { "slotmem_slots", "Slots of the segment.", slots },
    { "slotmem_slots_used", "Slots of the segment that are in use.",
      slots_used },
    { "slotmem_memory_bytes", "Shared memory that is mapped for the segment.",
      memory },
    { "slotmem_slots_restored",
      "Slots that were restored when the server was last (re)started.",
      slots_restored },
    { "slotmem_restores_refused",
      "1 if the file was refused when the server was last (re)started.",
      restores_refused },
    { "slotmem_stores_failed", "1 if the last store of the file has failed.",
      stores_failed },
    { "slotmem_files_of_others",
      "1 if the file belongs to another server, so that it is not stored.",
      files_of_others },
    { "slotmem_last_store_age_seconds", "Time since the last store.",
      last_store_age }
};

/* Process-local: the segments as the metrics have them. */
typedef struct series_t {
    slotmem_figures_t figures;
    const char *labels;         /* without braces */
} series_t;

static const char *add_label(const char *labels, const char *name,
                             const char *value, apr_pool_t *pool)
{
    return value ? apr_pstrcat(pool, labels, *labels ? "," : "", name, "=\"",
                               slotmem_escape_label(value, pool), "\"", NULL)
                 : labels;
}

static void label_series(series_t *series, apr_pool_t *pool)
{
    const slotmem_figures_t *figures = &series->figures;
    const char *labels = add_label("", "segment", slotmem_status_name(figures),
                                   pool);

    labels = add_label(labels, "virtual_host", figures->label.server, pool);
    series->labels = add_label(labels, "balancer", figures->label.balancer,
                               pool);
}

/* Segments without a name would have the same labels, which the format does
 * not allow: they are added up. They come first. */
static apr_array_header_t *make_series(const slotmem_totals_t *totals,
                                       apr_pool_t *pool)
{
    apr_array_header_t *all = apr_array_make(pool, totals->num + 1,
                                             sizeof(series_t));
    int i;

    for (i = 0; i < totals->num; i++) {
        const slotmem_figures_t *figures = &totals->segments[i];
        series_t *series;

        if (i > 0 && !figures->name) {
            series = &APR_ARRAY_IDX(all, 0, series_t);
            series->figures.num += figures->num;
            series->figures.used += figures->used;
            series->figures.memory += figures->memory;
            continue;
        }
        series = apr_array_push(all);
        series->figures = *figures;
        label_series(series, pool);
    }
    return all;
}

static void begin_metric(request_rec *r, const char *name, const char *help)
{
    ap_rvputs(r, "# HELP ", name, " ", help, "\n# TYPE ", name, " gauge\n",
              NULL);
}

static void write_metric(request_rec *r, const metric_t *metric,
                         const apr_array_header_t *all)
{
    int i;

    begin_metric(r, metric->name, metric->help);
    for (i = 0; i < all->nelts; i++) {
        const series_t *series = &APR_ARRAY_IDX(all, i, series_t);
        apr_int64_t value = metric->value(&series->figures);

        if (value >= 0) {
            ap_rprintf(r, "%s{%s} %" APR_INT64_T_FMT "\n", metric->name,
                       series->labels, value);
        }
    }
}

static void write_results(request_rec *r, const apr_array_header_t *all)
{
    int i;

    begin_metric(r, "slotmem_last_store_result",
                 "1, with the result of the last store as a label.");
    for (i = 0; i < all->nelts; i++) {
        const series_t *series = &APR_ARRAY_IDX(all, i, series_t);

        if (series->figures.file) {
            ap_rvputs(r, "slotmem_last_store_result{", series->labels,
                      ",result=\"", series->figures.store.code, "\"} 1\n",
                      NULL);
        }
    }
}

/* All are gauges, and the last line is a comment in the one format and the end
 * in the other: so both read the same text. */
static void write_metrics(request_rec *r)
{
    slotmem_totals_t totals;
    const apr_array_header_t *all;
    apr_size_t i;

    slotmem_status_collect(&totals, r->pool);
    all = make_series(&totals, r->pool);
    begin_metric(r, "slotmem_build_info", "1, with the versions as labels.");
    ap_rputs("slotmem_build_info{version=\"" SLOTMEM_VERSION "\",built_for=\""
             AP_SERVER_BASEREVISION "\"} 1\n", r);
    begin_metric(r, "slotmem_generation",
                 "Restarts of the server since its start.");
    ap_rprintf(r, "slotmem_generation %d\n", totals.generation);
    for (i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        write_metric(r, &metrics[i], all);
    }
    write_results(r, all);
    ap_rputs("# EOF\n", r);
}

/* ---- requests ---- */

static int wants_openmetrics(const request_rec *r)
{
    const char *accept = apr_table_get(r->headers_in, "Accept");

    return accept && strstr(accept, "application/openmetrics-text");
}

/* Prometheus always writes a "=". */
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
        write_metrics(r);
    }
    else {
        write_json(r);
    }
    return OK;
}

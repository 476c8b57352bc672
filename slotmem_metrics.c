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
 * slotmem_metrics.c: the figures as metrics; see slotmem_metrics.h.
 */

#include <string.h>

#include "apr_hash.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_protocol.h"
#include "ap_release.h"

#include "mod_slotmem_shm.h"
#include "slotmem_escape.h"
#include "slotmem_metrics.h"

/* Process-local: a gauge of each segment. */
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

static apr_int64_t slots_drained(const slotmem_figures_t *figures)
{
    return figures->workers ? figures->drained : -1;
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
    { "slotmem_slots_drained", "Workers in the segment that are drained.",
      slots_drained },
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

/* Process-local: a segment with its labels, or all anonymous ones. */
typedef struct series_t {
    slotmem_figures_t figures;
    const char *labels;         /* without braces */
    apr_array_header_t *workers; /* of worker_t; NULL: none */
} series_t;

/* Process-local: a worker. */
typedef struct worker_t {
    const slotmem_shown_t *shown;
    const char *labels;
} worker_t;

static const char *add_label(const char *labels, const char *name,
                             const char *value, apr_pool_t *pool)
{
    return value ? apr_pstrcat(pool, labels, *labels ? "," : "", name, "=\"",
                               slotmem_escape_label(value, pool), "\"", NULL)
                 : labels;
}

/* Escape the first byte of a name that is that of anonymous segments, so that
 * the two differ. */
static const char *segment_label(const slotmem_figures_t *figures,
                                 apr_pool_t *pool)
{
    return figures->name && strcmp(figures->name, SLOTMEM_STATUS_ANONYMOUS) == 0
           ? "segment=\"\\\\x28anonymous)\""
           : add_label("", "segment", slotmem_status_name(figures), pool);
}

/* Label each worker. If two have the same name, keep only the first, as
 * mod_proxy finds that one. */
static void label_workers(series_t *series, apr_pool_t *pool)
{
    const apr_array_header_t *all = series->figures.workers;
    apr_hash_t *seen = apr_hash_make(pool);
    int i;

    series->workers = apr_array_make(pool, all->nelts, sizeof(worker_t));
    for (i = 0; i < all->nelts; i++) {
        worker_t worker = { &APR_ARRAY_IDX(all, i, slotmem_shown_t), NULL };

        worker.labels = add_label(series->labels, "worker",
                                  worker.shown->worker.url, pool);
        if (!apr_hash_get(seen, worker.labels, APR_HASH_KEY_STRING)) {
            apr_hash_set(seen, worker.labels, APR_HASH_KEY_STRING, seen);
            APR_ARRAY_PUSH(series->workers, worker_t) = worker;
        }
    }
}

static void label_series(series_t *series, apr_pool_t *pool)
{
    const slotmem_figures_t *figures = &series->figures;
    const char *labels = segment_label(figures, pool);

    labels = add_label(labels, "virtual_host", figures->label.server, pool);
    series->labels = add_label(labels, "balancer", figures->label.balancer,
                               pool);
    if (figures->workers) {
        label_workers(series, pool);
    }
}

/* Anonymous segments would have the same labels, which the format forbids: add
 * them up. They come first. */
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
        memset(series, 0, sizeof(*series));
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

/* Process-local: a gauge of each worker. */
typedef struct worker_metric_t {
    const char *name;
    const char *help;
    double (*value)(const slotmem_shown_t *);
} worker_metric_t;

static double worker_drained(const slotmem_shown_t *shown)
{
    return shown->worker.is_drained;
}

static double worker_usable(const slotmem_shown_t *shown)
{
    return shown->worker.is_usable;
}

static double worker_factor(const slotmem_shown_t *shown)
{
    return shown->worker.factor;
}

static double worker_run_time(const slotmem_shown_t *shown)
{
    return shown->origin == SLOTMEM_ORIGIN_RUN_TIME;
}

static const worker_metric_t worker_metrics[] = {
    { "slotmem_worker_drained", "1 if the worker is drained.",
      worker_drained },
    { "slotmem_worker_usable",
      "0 if the worker is disabled, stopped or in error.", worker_usable },
    { "slotmem_worker_factor", "Load factor of the worker.", worker_factor },
    { "slotmem_worker_run_time",
      "1 if the configuration does not have the worker.", worker_run_time }
};

static void write_workers(request_rec *r, const worker_metric_t *metric,
                          const apr_array_header_t *all)
{
    int i;
    int j;

    begin_metric(r, metric->name, metric->help);
    for (i = 0; i < all->nelts; i++) {
        const apr_array_header_t *workers = APR_ARRAY_IDX(all, i,
                                                          series_t).workers;

        for (j = 0; workers && j < workers->nelts; j++) {
            const worker_t *worker = &APR_ARRAY_IDX(workers, j, worker_t);

            ap_rprintf(r, "%s{%s} %g\n", metric->name, worker->labels,
                       metric->value(worker->shown));
        }
    }
}

/* Both formats accept this text: all metrics are gauges, and the last line is a
 * comment in Prometheus's format and the end in OpenMetrics. */
void slotmem_metrics_write(request_rec *r)
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
    begin_metric(r, "slotmem_orphans",
                 "Files that belonged to no segment when the server was last "
                 "(re)started.");
    ap_rprintf(r, "slotmem_orphans %d\n", totals.orphans);
    for (i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        write_metric(r, &metrics[i], all);
    }
    write_results(r, all);
    for (i = 0; i < sizeof(worker_metrics) / sizeof(worker_metrics[0]); i++) {
        write_workers(r, &worker_metrics[i], all);
    }
    ap_rputs("# EOF\n", r);
}

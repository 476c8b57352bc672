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
 * slotmem_page.c: the section of mod_status's page; see slotmem_page.h. Like
 * mod_status, it sets no colours, so it follows the settings of the browser.
 */

#include <string.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_protocol.h"

#include "mod_slotmem_shm.h"
#include "slotmem_page.h"

#define BAR_LEN 20

/* Show at least one mark if any slot is in use; it is full only if all are. */
static const char *bar(const slotmem_figures_t *figures, apr_pool_t *pool)
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

/* The segment's name in mod_proxy: "balancer://shop of example.org:80". */
static const char *format_label(const slotmem_label_t *label, apr_pool_t *pool)
{
    return !label->server ? "-"
         : !label->balancer
           ? apr_pstrcat(pool, "all balancers of ", label->server, NULL)
         : apr_pstrcat(pool, label->balancer, " of ", label->server, NULL);
}

/* In bold if this needs attention. */
static const char *emphasize(int is_bad, const char *text, apr_pool_t *pool)
{
    return is_bad ? apr_pstrcat(pool, "<b>", text, "</b>", NULL) : text;
}

/* The directory of the first file, with its slash, or NULL. Most files are in
 * that directory, so the page shows it only once. */
static const char *directory(const slotmem_totals_t *totals, apr_pool_t *pool)
{
    int i;

    for (i = 0; i < totals->num; i++) {
        const char *file = totals->segments[i].file;
        const char *slash = file ? strrchr(file, '/') : NULL;

        if (slash) {
            return apr_pstrmemdup(pool, file, (apr_size_t)(slash + 1 - file));
        }
    }
    return NULL;
}

/* The file without that directory, if it is directly in it. */
static const char *format_file(const char *file, const char *dir)
{
    apr_size_t len = dir ? strlen(dir) : 0;

    return dir && strncmp(file, dir, len) == 0 && !strchr(file + len, '/')
           ? file + len : file;
}

/* One row, or paragraph. Long text without blanks may break anywhere, so that
 * the table fits into the window. */
static void write_segment(request_rec *r, const slotmem_figures_t *figures,
                          const char *dir, int with_table)
{
    const char *narrow = with_table ? "</td><td nowrap>" : "; ";
    const char *wide = with_table
                       ? "</td><td style=\"overflow-wrap:anywhere\">" : "; ";
    apr_pool_t *pool = r->pool;

    ap_rputs(with_table ? "<tr><td style=\"overflow-wrap:anywhere\">" : "<p>",
             r);
    ap_rvputs(r, ap_escape_html(pool, slotmem_status_name(figures)), wide,
              ap_escape_html(pool, format_label(&figures->label, pool)),
              narrow, "<code>", bar(figures, pool), "</code>", NULL);
    ap_rprintf(r, " %u of %u%s%" APR_SIZE_T_FMT "%s", figures->used,
               figures->num, narrow, figures->size, narrow);
    ap_rvputs(r, format_bytes(figures->memory, pool), narrow,
              figures->type_words, narrow, NULL);
    if (figures->file) {
        ap_rvputs(r, emphasize(figures->refused, figures->restore.words, pool),
                  narrow,
                  emphasize(figures->failed || figures->others,
                        figures->store.words, pool),
                  format_age(figures->age, pool), wide,
                  ap_escape_html(pool, format_file(figures->file, dir)), NULL);
    }
    else {
        ap_rvputs(r, "-", narrow, "-", narrow, "-", NULL);
    }
    ap_rputs(with_table ? "</td></tr>\n" : "</p>\n", r);
}

static void write_worker(request_rec *r, const slotmem_shown_t *shown,
                         int with_table)
{
    const slotmem_worker_t *worker = &shown->worker;
    const char *next = with_table ? "</td><td>" : "; ";
    apr_pool_t *pool = r->pool;

    ap_rprintf(r, "%s%u%s", with_table ? "<tr><td>" : "<br />", shown->slot,
               with_table ? "</td><td style=\"overflow-wrap:anywhere\">"
                          : "; ");
    ap_rvputs(r, ap_escape_html(pool, worker->url), next,
              emphasize(worker->is_drained || !worker->is_usable,
                        ap_escape_html(pool, worker->status), pool), NULL);
    ap_rprintf(r, "%s%.2f%s%d%s", next, worker->factor, next, worker->lbset,
               next);
    ap_rvputs(r, ap_escape_html(pool, worker->route), next,
              ap_escape_html(pool, worker->redirect), next, NULL);
    ap_rprintf(r, "%" APR_UINT64_T_FMT "%s%s%s", worker->elected, next,
               slotmem_origin_name(shown->origin),
               with_table ? "</td></tr>\n" : "\n");
}

/* A click unfolds them. */
static void write_workers(request_rec *r, const slotmem_figures_t *figures,
                          int with_table)
{
    const apr_array_header_t *workers = figures->workers;
    int i;

    ap_rvputs(r, with_table ? "<tr><td colspan=\"9\">" : "",
              "<details><summary>Workers of ",
              ap_escape_html(r->pool, figures->label.balancer), ": ",
              apr_itoa(r->pool, workers->nelts), ", ",
              emphasize(figures->drained > 0,
                        apr_psprintf(r->pool, "%d drained", figures->drained),
                        r->pool),
              "</summary>\n", NULL);
    if (with_table) {
        ap_rputs("<table rules=\"all\" cellpadding=\"3\">\n<tr><th>Slot</th>"
                 "<th>Worker</th><th>Status</th><th>Factor</th><th>Set</th>"
                 "<th>Route</th><th>Redirect</th><th>Elected</th>"
                 "<th>Origin</th></tr>\n", r);
    }
    for (i = 0; i < workers->nelts; i++) {
        write_worker(r, &APR_ARRAY_IDX(workers, i, slotmem_shown_t),
                     with_table);
    }
    ap_rputs(with_table ? "</table></details></td></tr>\n" : "</details>\n",
             r);
}

static void write_summary(request_rec *r, const slotmem_totals_t *totals,
                          const char *dir)
{
    apr_pool_t *pool = r->pool;

    ap_rprintf(r, "<p>%d segments in generation %d: %" APR_UINT64_T_FMT
               " of %" APR_UINT64_T_FMT " slots in use, %s; %d kept in files, ",
               totals->num, totals->generation, totals->used, totals->slots,
               format_bytes(totals->memory, pool), totals->persisted);
    ap_rvputs(r,
              emphasize(totals->refused, apr_psprintf(pool, "%d refused at the "
                                                  "last start or restart",
                                                  totals->refused), pool),
              ", ",
              emphasize(totals->failed, apr_psprintf(pool, "%d failed at their "
                                                 "last store",
                                                 totals->failed), pool),
              ", ",
              emphasize(totals->others, apr_psprintf(pool, "%d belong to "
                                                 "another server",
                                                 totals->others), pool),
              ".", NULL);
    if (totals->orphans) {
        ap_rprintf(r, " %d files belonged to no segment at the last start or "
                   "restart: see slotmem-file orphans.", totals->orphans);
    }
    if (dir) {
        ap_rvputs(r, " Files without a directory are in <code "
                  "style=\"overflow-wrap:anywhere\">",
                  ap_escape_html(pool, dir), "</code>.", NULL);
    }
    ap_rputs("</p>\n", r);
}

void slotmem_page_write(request_rec *r, int with_table)
{
    slotmem_totals_t totals;
    const char *dir;
    int i;

    slotmem_status_collect(&totals, r->pool);
    dir = directory(&totals, r->pool);
    ap_rputs("<hr />\n<h2>Shared memory slots (mod_slotmem_shm "
             SLOTMEM_VERSION ")</h2>\n", r);
    write_summary(r, &totals, dir);
    if (!totals.num) {
        return;
    }
    if (with_table) {
        ap_rputs("<table rules=\"all\" cellpadding=\"3\">\n<tr>"
                 "<th>Segment</th><th>What it is</th><th>Slots in use</th>"
                 "<th>Slot size</th><th>Memory</th><th>Type</th>"
                 "<th>Restored</th><th>Last store</th><th>File</th></tr>\n", r);
    }
    for (i = 0; i < totals.num; i++) {
        write_segment(r, &totals.segments[i], dir, with_table);
        if (totals.segments[i].workers) {
            write_workers(r, &totals.segments[i], with_table);
        }
    }
    ap_rputs(with_table ? "</table>\n" : "", r);
}

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
 * slotmem_persist.c: keeps segments in their persisted files. When each
 * function is called and what a crash leaves stands in slotmem_persist.h.
 *
 * Every failure is one line in the error log, and the next attempt repeats it
 * only for another reason. Files that fail for the same reason share a line.
 */

#include <string.h>
#include <unistd.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_main.h"

#include "slotmem_persist.h"
#include "slotmem_lock.h"

extern module AP_MODULE_DECLARE_DATA slotmem_shm_module;
APLOG_USE_MODULE(slotmem_shm);

/* How long the parent stores in one go: it starts no child meanwhile. */
#define CHECKPOINT_SLICE apr_time_from_msec(250)

/* Process-local: files that are being stored. */
typedef struct round_t {
    apr_pool_t *pool;               /* NULL: none is under way */
    slotmem_store_run_t *run;
    slotmem_store_t *stores;
    slotmem_kept_t **kept;          /* kept[i] is stored by stores[i] */
    int num;
} round_t;

/* Process-local; reset by slotmem_persist_reset(). */
static struct {
    apr_pool_t *pool;
    apr_array_header_t *kept;       /* of slotmem_kept_t * */
    int enabled;
    apr_time_t last;                /* when the last checkpoint began */
    round_t checkpoint;
} keeper;

void slotmem_persist_reset(apr_pool_t *pool)
{
    memset(&keeper, 0, sizeof(keeper));
    keeper.pool = pool;
    keeper.kept = apr_array_make(pool, 16, sizeof(slotmem_kept_t *));
}

/* ---- restore ---- */

/* httpd's number for the reason, which its own module gives in a line before
 * the one that the file was not restored. It has none for a file that is not
 * opened. */
static const char *reason_number(const slotmem_restore_t *result)
{
    switch (result->why_kind) {
    case SLOTMEM_WHY_CONTENT:
        return APLOGNO(02551);
    case SLOTMEM_WHY_UNREADABLE:
        return APLOGNO(02553);
    default:
        return "";
    }
}

static void log_restore(const slotmem_kept_t *kept, const char *path,
                        const slotmem_restore_t *result)
{
    switch (result->outcome) {
    case SLOTMEM_RESTORE_NO_FILE:
        break;
    case SLOTMEM_RESTORE_DONE:
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, ap_server_conf,
                     APLOGNO(02335) SLOTMEM_TAG(10)
                     "segment %s: restored %u of %u slots from %s, %u of them "
                     "claimed at run time", kept->name, result->item_num,
                     kept->segment->geometry.item_num, path, result->claims);
        break;
    case SLOTMEM_RESTORE_REFUSED:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(11)
                     "segment %s starts empty: %s was not restored: %s%s; %s",
                     kept->name, path, reason_number(result), result->why,
                     path == kept->path ? "the first store will keep it as "
                                          ".bad-1 to .bad-4"
                                        : "it stays as it is");
        break;
    case SLOTMEM_RESTORE_UNREAD:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(12)
                     "segment %s starts empty: %s was not restored: %s%s; the "
                     "file stays as it is, and the segment is not stored "
                     "before the next restart", kept->name, path,
                     reason_number(result), result->why);
        break;
    }
}

void slotmem_persist_add(slotmem_kept_t *kept)
{
    slotmem_restore_t result;
    int with_claims = kept->configured != NULL;

    slotmem_restore(&result, kept->segment, with_claims, kept->path,
                    keeper.pool);
    log_restore(kept, kept->path, &result);
    kept->restored = result;
    kept->stored = result.stored;
    kept->refused = result.outcome == SLOTMEM_RESTORE_REFUSED;
    kept->unread = result.outcome == SLOTMEM_RESTORE_UNREAD;
    if (result.outcome == SLOTMEM_RESTORE_NO_FILE && kept->fallback) {
        slotmem_restore(&result, kept->segment, with_claims, kept->fallback,
                        keeper.pool);
        log_restore(kept, kept->fallback, &result);
        kept->restored = result;
        /* A file of ours would hide it. */
        kept->unread = result.outcome == SLOTMEM_RESTORE_UNREAD;
    }
    APR_ARRAY_PUSH(keeper.kept, slotmem_kept_t *) = kept;
}

/* ---- store ---- */

/* May this server store the file? Says so once if not. The lock is asked for
 * each time: it may have been lost, with a lease on a network file system, or
 * when the folder's lock file was closed under another spelling. A folder that
 * takes no lock is no reason to lose state: if it cannot be written, the store
 * will tell. */
static int may_store(slotmem_kept_t *kept)
{
    pid_t other;
    apr_status_t rv = slotmem_lock(kept->path, &other,
                                   ap_server_conf->process->pool);

    if (rv != APR_EBUSY) {
        if (kept->other_said) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(13)
                         "segment %s: %s is stored again: process %"
                         APR_PID_T_FMT " gave it up", kept->name, kept->path,
                         kept->other);
        }
        kept->other_said = 0;
        return 1;
    }
    if (!kept->other_said) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(14)
                     "segment %s: %s belongs to another server, process %"
                     APR_PID_T_FMT "; this one does not store it", kept->name,
                     kept->path, other);
    }
    kept->other_said = 1;
    kept->other = other;
    return 0;
}

static void publish(const slotmem_kept_t *kept, apr_uint32_t outcome)
{
    if (kept->report) {
        atomic_store(&kept->report->at,
                     (apr_uint32_t)apr_time_sec(apr_time_now()));
        atomic_store(&kept->report->outcome, outcome);
    }
}

static void begin_round(round_t *round)
{
    apr_size_t max = (apr_size_t)keeper.kept->nelts + 1;
    int i;

    memset(round, 0, sizeof(*round));
    apr_pool_create(&round->pool, keeper.pool);
    round->kept = apr_pcalloc(round->pool, max * sizeof(slotmem_kept_t *));
    round->stores = apr_pcalloc(round->pool, max * sizeof(*round->stores));
    for (i = 0; i < keeper.kept->nelts; i++) {
        slotmem_kept_t *kept = APR_ARRAY_IDX(keeper.kept, i,
                                             slotmem_kept_t *);
        slotmem_store_t *store = &round->stores[round->num];

        if (kept->unread) {
            publish(kept, SLOTMEM_REPORT_UNREAD);
            continue;
        }
        if (!may_store(kept)) {
            publish(kept, SLOTMEM_REPORT_OTHER);
            continue;
        }
        round->kept[round->num++] = kept;
        store->segment = kept->segment;
        store->path = kept->path;
        store->configured = kept->configured;
        store->set_aside = kept->refused;
        store->stored = kept->stored;
    }
    round->run = slotmem_store_begin(round->stores, round->num, round->pool);
}

static int same_failure(const slotmem_store_t *a, const slotmem_store_t *b)
{
    return a->step && b->step && a->status == b->status
           && strcmp(a->step, b->step) == 0;
}

static void log_aside(const slotmem_kept_t *kept, const slotmem_store_t *store)
{
    if (store->aside) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(15)
                     "segment %s: the refused file %s is kept as %s%s",
                     kept->name, store->path, store->aside,
                     store->aside_replaced
                     ? ", in place of the oldest one kept" : "");
    }
}

/* Takes note of how a store went. Returns 1 if it failed, and not for the
 * reason that has been logged already. */
static int note_result(slotmem_kept_t *kept, const slotmem_store_t *store)
{
    int fails_anew = store->step
                     && !(kept->failed_step
                          && kept->failed_status == store->status
                          && strcmp(kept->failed_step, store->step) == 0);

    if (kept->failed_step && !store->step) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(16)
                     "segment %s: %s is stored again", kept->name,
                     store->path);
    }
    kept->failed_step = store->step;
    kept->failed_status = store->status;
    return fails_anew;
}

static void log_failures(const round_t *round, char *to_log)
{
    int i, j;

    for (i = 0; i < round->num; i++) {
        const slotmem_store_t *store = &round->stores[i];
        int more = 0;

        if (!to_log[i]) {
            continue;
        }
        for (j = i + 1; j < round->num; j++) {
            if (to_log[j] && same_failure(store, &round->stores[j])) {
                to_log[j] = 0;
                more++;
            }
        }
        ap_log_error(APLOG_MARK, APLOG_ERR, store->status, ap_server_conf,
                     SLOTMEM_TAG(17)
                     "segment %s: cannot store %s: cannot %s%s",
                     round->kept[i]->name, store->path, store->step,
                     more ? apr_psprintf(round->pool, " (the same for %d more)",
                                         more) : "");
    }
}

/* Take over what the stores say of the files. */
static void keep_results(round_t *round)
{
    int i;

    for (i = 0; i < round->num; i++) {
        log_aside(round->kept[i], &round->stores[i]);
        round->kept[i]->refused = round->stores[i].set_aside;
        round->kept[i]->stored = round->stores[i].stored;
    }
    apr_pool_destroy(round->pool);
    round->pool = NULL;
}

static void end_round(round_t *round)
{
    char *to_log = apr_pcalloc(round->pool, (apr_size_t)round->num + 1);
    int i;

    for (i = 0; i < round->num; i++) {
        const slotmem_store_t *store = &round->stores[i];

        publish(round->kept[i], store->step ? SLOTMEM_REPORT_FAILED
                                : store->unchanged ? SLOTMEM_REPORT_UNCHANGED
                                : SLOTMEM_REPORT_STORED);
        to_log[i] = (char)note_result(round->kept[i], &round->stores[i]);
    }
    log_failures(round, to_log);
    keep_results(round);
}

/* One report a segment, which the children inherit. Without the memory for it
 * the status page says less. */
static slotmem_report_t *make_reports(void)
{
    apr_size_t len = (apr_size_t)keeper.kept->nelts * sizeof(slotmem_report_t);
    apr_shm_t *shm;

    return len && apr_shm_create(&shm, len, NULL, keeper.pool) == APR_SUCCESS
           ? apr_shm_baseaddr_get(shm) : NULL;
}

void slotmem_persist_enable(void)
{
    slotmem_report_t *reports = make_reports();
    int i;

    keeper.enabled = 1;
    keeper.last = apr_time_now();
    for (i = 0; i < keeper.kept->nelts; i++) {
        slotmem_kept_t *kept = APR_ARRAY_IDX(keeper.kept, i,
                                             slotmem_kept_t *);

        kept->report = reports ? &reports[i] : NULL;
        may_store(kept);
    }
}

void slotmem_persist_checkpoint(apr_interval_time_t interval)
{
    apr_time_t now = apr_time_now();

    if (!keeper.enabled || !interval) {
        return;
    }
    if (!keeper.checkpoint.pool) {
        if (now < keeper.last) {    /* the clock was set back */
            keeper.last = now;
        }
        if (now - keeper.last < interval) {
            return;
        }
        keeper.last = now;
        begin_round(&keeper.checkpoint);
    }
    if (slotmem_store_continue(keeper.checkpoint.run,
                               now + CHECKPOINT_SLICE)) {
        end_round(&keeper.checkpoint);
    }
}

void slotmem_persist_end(void)
{
    round_t last;

    if (!keeper.enabled) {
        return;
    }
    if (keeper.checkpoint.pool) {
        slotmem_store_abandon(keeper.checkpoint.run);
        keep_results(&keeper.checkpoint);
    }
    begin_round(&last);
    slotmem_store_continue(last.run, 0);
    end_round(&last);
    keeper.enabled = 0;
}

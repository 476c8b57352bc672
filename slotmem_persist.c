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
#include "slotmem_log.h"

/* Process-local: files that are being stored. */
typedef struct checkpoint_t {
    apr_pool_t *pool;               /* NULL: none is under way */
    slotmem_store_t *stores;
    slotmem_persist_entry_t **entries;  /* entries[i] is stored by stores[i] */
    int num;
} checkpoint_t;

/* Process-local; reset by slotmem_persist_reset(). */
static struct {
    apr_pool_t *pool;
    apr_array_header_t *entries;    /* of slotmem_persist_entry_t * */
    int enabled;
    apr_time_t last_checkpoint;     /* when the last one began */
} persist;

void slotmem_persist_reset(apr_pool_t *pool)
{
    memset(&persist, 0, sizeof(persist));
    if (pool) {
        persist.pool = pool;
        persist.entries = apr_array_make(pool, 16,
                                         sizeof(slotmem_persist_entry_t *));
    }
}

/* ---- restore ---- */

/* httpd's number for the reason, which its own module gives in a line before
 * the one that the file was not restored. It has none for a file that is not
 * opened. */
static const char *reason_number(const slotmem_restore_result_t *result)
{
    switch (result->reason_kind) {
    case SLOTMEM_REASON_CONTENT:
        return APLOGNO(02551);
    case SLOTMEM_REASON_UNREADABLE:
        return APLOGNO(02553);
    default:
        return "";
    }
}

static void log_restore(const slotmem_persist_entry_t *entry, const char *path,
                        const slotmem_restore_result_t *result)
{
    switch (result->outcome) {
    case SLOTMEM_RESTORE_NO_FILE:
        break;
    case SLOTMEM_RESTORE_DONE:
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, ap_server_conf,
                     APLOGNO(02335) SLOTMEM_TAG(10)
                     "segment %s: restored %u of %u slots from %s, %u of them "
                     "claimed at run time", entry->name, result->item_num,
                     entry->segment->geometry.item_num, path,
                     result->runtime_claims);
        break;
    case SLOTMEM_RESTORE_REJECTED:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(11)
                     "segment %s starts empty: %s was not restored: %s%s; %s",
                     entry->name, path, reason_number(result), result->reason,
                     path == entry->path ? "the first store will keep it as "
                                          ".bad-1 to .bad-4"
                                        : "it stays as it is");
        break;
    case SLOTMEM_RESTORE_UNAVAILABLE:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(12)
                     "segment %s starts empty: %s was not restored: %s%s; the "
                     "file stays as it is, and the segment is not stored "
                     "before the next restart", entry->name, path,
                     reason_number(result), result->reason);
        break;
    }
}

void slotmem_persist_add(slotmem_persist_entry_t *entry)
{
    slotmem_restore_result_t result;
    int with_claims = entry->config_claims != NULL;

    slotmem_restore(&result, entry->segment, with_claims, entry->path,
                    persist.pool);
    log_restore(entry, entry->path, &result);
    entry->restored = result;
    entry->file_state = result.file_state;
    entry->rejected = result.outcome == SLOTMEM_RESTORE_REJECTED;
    entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    if (result.outcome == SLOTMEM_RESTORE_NO_FILE && entry->fallback) {
        slotmem_restore(&result, entry->segment, with_claims, entry->fallback,
                        persist.pool);
        log_restore(entry, entry->fallback, &result);
        entry->restored = result;
        /* A file of ours would hide it. */
        entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    }
    APR_ARRAY_PUSH(persist.entries, slotmem_persist_entry_t *) = entry;
}

/* ---- store ---- */

/* May this server store the file? Says so once if not. The lock is asked for
 * each time: it may have been lost, with a lease on a network file system, or
 * when the folder's lock file was closed under another spelling. A folder that
 * takes no lock is no reason to lose state: if it cannot be written, the store
 * will tell. */
static int may_store(slotmem_persist_entry_t *entry)
{
    pid_t holder;
    apr_status_t rv = slotmem_lock(entry->path, &holder,
                                   ap_server_conf->process->pool);

    if (rv != APR_EBUSY) {
        if (entry->conflict_logged) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(13)
                         "segment %s: %s is stored again: process %"
                         APR_PID_T_FMT " gave it up", entry->name, entry->path,
                         entry->lock_holder);
        }
        entry->conflict_logged = 0;
        return 1;
    }
    if (!entry->conflict_logged) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(14)
                     "segment %s: %s belongs to another server, process %"
                     APR_PID_T_FMT "; this one does not store it", entry->name,
                     entry->path, holder);
    }
    entry->conflict_logged = 1;
    entry->lock_holder = holder;
    return 0;
}

static void publish_report(const slotmem_persist_entry_t *entry,
                           apr_uint32_t outcome)
{
    if (entry->report) {
        atomic_store(&entry->report->at,
                     (apr_uint32_t)apr_time_sec(apr_time_now()));
        atomic_store(&entry->report->outcome, outcome);
    }
}

static void begin_checkpoint(checkpoint_t *checkpoint)
{
    apr_size_t max = (apr_size_t)persist.entries->nelts + 1;
    int i;

    memset(checkpoint, 0, sizeof(*checkpoint));
    apr_pool_create(&checkpoint->pool, persist.pool);
    checkpoint->entries = apr_pcalloc(checkpoint->pool,
                                      max * sizeof(slotmem_persist_entry_t *));
    checkpoint->stores
        = apr_pcalloc(checkpoint->pool, max * sizeof(*checkpoint->stores));
    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = APR_ARRAY_IDX(persist.entries, i,
                                             slotmem_persist_entry_t *);
        slotmem_store_t *store = &checkpoint->stores[checkpoint->num];

        if (entry->unavailable) {
            publish_report(entry, SLOTMEM_REPORT_UNAVAILABLE);
            continue;
        }
        if (!may_store(entry)) {
            publish_report(entry, SLOTMEM_REPORT_CONFLICT);
            continue;
        }
        checkpoint->entries[checkpoint->num++] = entry;
        store->segment = entry->segment;
        store->path = entry->path;
        store->config_claims = entry->config_claims;
        store->set_aside = entry->rejected;
        store->file_state = entry->file_state;
    }
}

static int same_failure(const slotmem_store_t *a, const slotmem_store_t *b)
{
    return a->step && b->step && a->status == b->status
           && strcmp(a->step, b->step) == 0;
}

static void log_aside(const slotmem_persist_entry_t *entry,
                      const slotmem_store_t *store)
{
    if (store->aside) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(15)
                     "segment %s: the refused file %s is kept as %s%s",
                     entry->name, store->path, store->aside,
                     store->aside_replaced
                     ? ", in place of the oldest one kept" : "");
    }
}

/* Takes note of how a store went. Returns 1 if it failed, and not for the
 * reason that has been logged already. */
static int record_result(slotmem_persist_entry_t *entry,
                         const slotmem_store_t *store)
{
    int new_failure = store->step
                     && !(entry->failed_step
                          && entry->failed_status == store->status
                          && strcmp(entry->failed_step, store->step) == 0);

    if (entry->failed_step && !store->step) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(16)
                     "segment %s: %s is stored again", entry->name,
                     store->path);
    }
    entry->failed_step = store->step;
    entry->failed_status = store->status;
    return new_failure;
}

static void log_failures(const checkpoint_t *checkpoint, char *to_log)
{
    int i, j;

    for (i = 0; i < checkpoint->num; i++) {
        const slotmem_store_t *store = &checkpoint->stores[i];
        int more = 0;

        if (!to_log[i]) {
            continue;
        }
        for (j = i + 1; j < checkpoint->num; j++) {
            if (to_log[j] && same_failure(store, &checkpoint->stores[j])) {
                to_log[j] = 0;
                more++;
            }
        }
        ap_log_error(APLOG_MARK, APLOG_ERR, store->status, ap_server_conf,
                     SLOTMEM_TAG(17)
                     "segment %s: cannot store %s: cannot %s%s",
                     checkpoint->entries[i]->name, store->path, store->step,
                     more ? apr_psprintf(checkpoint->pool,
                                         " (the same for %d more)", more)
                          : "");
    }
}

/* Take over what the stores say of the files. */
static void apply_results(checkpoint_t *checkpoint)
{
    int i;

    for (i = 0; i < checkpoint->num; i++) {
        log_aside(checkpoint->entries[i], &checkpoint->stores[i]);
        checkpoint->entries[i]->rejected = checkpoint->stores[i].set_aside;
        checkpoint->entries[i]->file_state = checkpoint->stores[i].file_state;
    }
    apr_pool_destroy(checkpoint->pool);
    checkpoint->pool = NULL;
}

static void finish_checkpoint(checkpoint_t *checkpoint)
{
    char *to_log
        = apr_pcalloc(checkpoint->pool, (apr_size_t)checkpoint->num + 1);
    int i;

    for (i = 0; i < checkpoint->num; i++) {
        const slotmem_store_t *store = &checkpoint->stores[i];

        publish_report(checkpoint->entries[i],
                       store->step        ? SLOTMEM_REPORT_FAILED
                       : store->unchanged ? SLOTMEM_REPORT_UNCHANGED
                                          : SLOTMEM_REPORT_STORED);
        to_log[i] = (char)record_result(checkpoint->entries[i],
                                        &checkpoint->stores[i]);
    }
    log_failures(checkpoint, to_log);
    apply_results(checkpoint);
}

static void store_all(void)
{
    checkpoint_t checkpoint;

    begin_checkpoint(&checkpoint);
    slotmem_store(checkpoint.stores, checkpoint.num, NULL, checkpoint.pool);
    finish_checkpoint(&checkpoint);
}

/* One report a segment, which the children inherit. Without the memory for it
 * the status page says less. */
static slotmem_report_t *create_reports(void)
{
    apr_size_t len
        = (apr_size_t)persist.entries->nelts * sizeof(slotmem_report_t);
    apr_shm_t *shm;

    return len && apr_shm_create(&shm, len, NULL, persist.pool) == APR_SUCCESS
           ? apr_shm_baseaddr_get(shm) : NULL;
}

void slotmem_persist_enable(void)
{
    slotmem_report_t *reports = create_reports();
    int i;

    persist.enabled = 1;
    persist.last_checkpoint = apr_time_now();
    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = APR_ARRAY_IDX(persist.entries, i,
                                             slotmem_persist_entry_t *);

        entry->report = reports ? &reports[i] : NULL;
        may_store(entry);
    }
}

void slotmem_persist_checkpoint(apr_interval_time_t interval)
{
    apr_time_t now = apr_time_now();

    if (!persist.enabled || !interval) {
        return;
    }
    if (now < persist.last_checkpoint) {    /* the clock was set back */
        persist.last_checkpoint = now;
    }
    if (now - persist.last_checkpoint >= interval) {
        persist.last_checkpoint = now;
        store_all();
    }
}

void slotmem_persist_end(void)
{
    if (persist.enabled) {
        store_all();
        persist.enabled = 0;
    }
}

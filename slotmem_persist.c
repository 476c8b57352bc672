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
 * A store of a running server is made by a process of its own, which has a copy
 * of all that is here. For each file it writes a note; slotmem_process.h. At
 * stop the parent does the same itself, with notes of its own.
 *
 * Every failure is one line in the error log, and the next attempt repeats it
 * only for another reason. Files that fail for the same reason share a line.
 */

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"

#include "slotmem_persist.h"
#include "slotmem_lock.h"
#include "slotmem_log.h"

/* How long a restart waits for its store. Requests wait meanwhile: with the
 * rest of a restart, for less than two seconds. */
#define RESTART_WAIT apr_time_from_msec(1500)
/* When a store is said to take long. */
#define OVERDUE apr_time_from_sec(300)
/* Between two stores of a server that is stopping gracefully. */
#define STOPPING_INTERVAL apr_time_from_sec(1)

/* Process-local; reset by slotmem_persist_reset(). */
static struct {
    apr_pool_t *pool;
    apr_pool_t *watch_pool;         /* for APR's record of the process */
    apr_pool_t *scratch;            /* cleared after each restore */
    apr_array_header_t *entries;    /* of slotmem_persist_entry_t * */
    slotmem_outliving_t *outliving;
    pid_t parent;                   /* that stores */
    int enabled;
    apr_time_t last_checkpoint;     /* when the last one began */
    apr_time_t last_stopping;       /* ... while the server stops; or 0 */
    apr_status_t not_started;       /* why no process could be, if logged */
} persist;

void slotmem_persist_reset(apr_pool_t *pool)
{
    memset(&persist, 0, sizeof(persist));
    if (pool) {
        persist.pool = pool;
        apr_pool_create(&persist.watch_pool, pool);
        apr_pool_create(&persist.scratch, pool);
        persist.entries = apr_array_make(pool, 16,
                                         sizeof(slotmem_persist_entry_t *));
        persist.outliving = slotmem_outliving();
    }
}

static slotmem_persist_entry_t *entry_at(int i)
{
    return APR_ARRAY_IDX(persist.entries, i, slotmem_persist_entry_t *);
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

/* Where mod_proxy's configuration is known, it decides on each slot. carried:
 * the bytes, or NULL: those of the file */
static void restore_by_slot(slotmem_restore_result_t *result,
                            slotmem_persist_entry_t *entry, const char *path,
                            const slotmem_carried_t *carried)
{
    const slotmem_geometry_t *geometry = &entry->segment->geometry;
    apr_pool_t *scratch = persist.scratch;
    slotmem_proxy_merged_t merged;
    slotmem_image_t image;

    if (carried) {
        slotmem_restore_image_memory(result, &image, geometry, carried->bytes,
                                     carried->len, scratch);
    }
    else {
        slotmem_restore_image(result, &image, geometry, path, scratch);
    }
    if (result->outcome != SLOTMEM_RESTORE_DONE) {
        return;
    }
    slotmem_proxy_merge(&merged, entry->proxy, entry->segment,
                        entry->config_claims, &image,
                        path == entry->path
                        ? apr_pstrcat(scratch, "the first store keeps ", path,
                                      " as ", path, SLOTMEM_BACKUP_SUFFIX,
                                      NULL)
                        : apr_pstrcat(scratch, path, " stays as it is", NULL),
                        scratch);
    result->item_num = merged.restored;
    result->runtime_claims = merged.runtime;
    entry->backup = merged.dropped && path == entry->path;
}

static void restore_from(slotmem_restore_result_t *result,
                         slotmem_persist_entry_t *entry, const char *path,
                         const slotmem_carried_t *carried)
{
    int with_claims = entry->config_claims != NULL;

    if (entry->proxy) {
        restore_by_slot(result, entry, path, carried);
    }
    else if (carried) {
        slotmem_restore_memory(result, entry->segment, with_claims,
                               carried->bytes, carried->len, persist.scratch);
    }
    else {
        slotmem_restore(result, entry->segment, with_claims, path,
                        persist.scratch);
    }
    result->reason = apr_pstrdup(persist.pool, result->reason);
    apr_pool_clear(persist.scratch);
}

static void restore_file(slotmem_persist_entry_t *entry)
{
    slotmem_restore_result_t result;

    restore_from(&result, entry, entry->path, NULL);
    log_restore(entry, entry->path, &result);
    entry->restored = result;
    entry->file_state = result.file_state;
    entry->rejected = result.outcome == SLOTMEM_RESTORE_REJECTED;
    entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    if (result.outcome == SLOTMEM_RESTORE_NO_FILE && entry->fallback) {
        restore_from(&result, entry, entry->fallback, NULL);
        log_restore(entry, entry->fallback, &result);
        entry->restored = result;
        /* A file of ours would hide it. */
        entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    }
}

/* The last generation could not store the file: its state is in memory, and
 * what stands there is older, or another server's. */
static void restore_carried(slotmem_persist_entry_t *entry,
                            slotmem_carried_t *image)
{
    slotmem_restore_result_t *result = &entry->restored;

    restore_from(result, entry, entry->path, image);
    if (result->outcome == SLOTMEM_RESTORE_DONE) {
        image->taken = 1;
        entry->note = image->note;
        entry->rejected = image->set_aside;
        entry->backup |= image->backup;
        entry->failed_step = image->failed ? "" : NULL;
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, ap_server_conf,
                     SLOTMEM_TAG(30)
                     "segment %s: restored %u of %u slots from memory, %u of "
                     "them claimed at run time; %s was not stored before the "
                     "restart", entry->name, result->item_num,
                     entry->segment->geometry.item_num, result->runtime_claims,
                     entry->path);
        return;
    }
    image->refused = 1;
    entry->refused_image = image;
    entry->rejected = 1;
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                 SLOTMEM_TAG(31)
                 "segment %s starts empty: its state, which was not stored "
                 "before the restart, was not restored from memory: %s; the "
                 "first store will keep it as %s.bad-1 to .bad-4", entry->name,
                 result->reason, entry->path);
}

void slotmem_persist_add(slotmem_persist_entry_t *entry)
{
    slotmem_carried_t *image = slotmem_carried_find(entry->path);

    entry->note = -1;
    if (image) {
        restore_carried(entry, image);
    }
    else {
        restore_file(entry);
    }
    APR_ARRAY_PUSH(persist.entries, slotmem_persist_entry_t *) = entry;
}

/* ---- which files are stored ---- */

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

static int may_store_image(const slotmem_carried_t *image)
{
    pid_t holder;

    return !image->taken
           && slotmem_lock(image->path, &holder, ap_server_conf->process->pool)
              != APR_EBUSY;
}

/* Give each file that may be stored the number of its note. Returns how many
 * there are. */
static int number_files(void)
{
    slotmem_carried_t *image;
    int num = 0;
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = entry_at(i);

        entry->note = -1;
        entry->stored = 0;
        if (entry->unavailable) {
            publish_report(entry, SLOTMEM_REPORT_UNAVAILABLE);
        }
        else if (!may_store(entry)) {
            publish_report(entry, SLOTMEM_REPORT_CONFLICT);
        }
        else {
            entry->note = num++;
        }
    }
    for (image = persist.outliving->images; image; image = image->next) {
        image->note = may_store_image(image) ? num++ : -1;
    }
    return num;
}

/* The notes name no file any more. */
static void forget_numbers(void)
{
    slotmem_carried_t *image;
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        entry_at(i)->note = -1;
    }
    for (image = persist.outliving->images; image; image = image->next) {
        image->note = -1;
    }
}

/* ---- in the process that stores, or in the parent at stop ---- */

/* Files that are being stored together. */
typedef struct round_t {
    slotmem_note_t *notes;
    slotmem_store_t *stores;
    int *note_of;               /* the note of each store */
    int num;
} round_t;

static void begin_round(round_t *round, slotmem_note_t *notes, int max,
                        apr_pool_t *pool)
{
    round->notes = notes;
    round->stores = apr_pcalloc(pool, ((apr_size_t)max + 1)
                                      * sizeof(*round->stores));
    round->note_of = apr_pcalloc(pool, ((apr_size_t)max + 1) * sizeof(int));
    round->num = 0;
}

/* A process whose parent has gone stores nothing more: another server may be
 * at it. */
static void note_store(void *data, int index)
{
    round_t *round = data;

    if (getpid() != persist.parent && getppid() != persist.parent) {
        _exit(ECHILD);
    }
    slotmem_note_write(&round->notes[round->note_of[index]],
                       &round->stores[index]);
}

static int is_done(const slotmem_result_t *result)
{
    return result->outcome == SLOTMEM_OUTCOME_STORED
           || result->outcome == SLOTMEM_OUTCOME_UNCHANGED;
}

/* Add a file that has not been stored yet. A second try has what the first one
 * found. Returns NULL when there is nothing to do. */
static slotmem_store_t *add_store(round_t *round, int note, const char *path,
                                  int rejected)
{
    slotmem_store_t *store = &round->stores[round->num];
    slotmem_result_t before;

    if (note < 0) {
        return NULL;
    }
    slotmem_note_read(&before, &round->notes[note]);
    if (is_done(&before)) {
        return NULL;
    }
    round->note_of[round->num++] = note;
    store->path = path;
    store->set_aside = rejected && before.set_aside;
    return store;
}

static void run_round(round_t *round, apr_pool_t *pool)
{
    slotmem_store_watch_t watch = { note_store, round };

    slotmem_store(round->stores, round->num, &watch, pool);
}

static void store_images(slotmem_note_t *notes, apr_pool_t *pool)
{
    slotmem_carried_t *image;
    round_t round;
    int max = 0;

    for (image = persist.outliving->images; image; image = image->next) {
        max++;
    }
    begin_round(&round, notes, max, pool);
    for (image = persist.outliving->images; image; image = image->next) {
        slotmem_store_t *store = add_store(&round, image->note, image->path,
                                           image->set_aside);

        if (store) {
            store->image = image->bytes;
            store->image_len = image->len;
            store->backup = image->backup;
        }
    }
    run_round(&round, pool);
}

/* The image that a segment refused is to be kept as its .bad file. While it
 * cannot be stored the segment cannot either. */
static int waits_for_image(const slotmem_persist_entry_t *entry,
                           slotmem_note_t *notes)
{
    slotmem_store_t failed = { .set_aside = 1 };
    slotmem_result_t result;

    if (!entry->refused_image || entry->refused_image->note < 0) {
        return 0;
    }
    slotmem_note_read(&result, &notes[entry->refused_image->note]);
    if (is_done(&result)) {
        return 0;
    }
    failed.step = result.step;
    failed.status = result.status;
    slotmem_note_write(&notes[entry->note], &failed);
    return 1;
}

/* What a store adds to the file of a segment whose slots are known. */
static void describe(slotmem_store_t *store,
                     const slotmem_persist_entry_t *entry)
{
    store->words = entry->words;
    store->words_len = entry->words_len;
    store->labels = entry->labels;
    store->labels_len = entry->labels_len;
}

/* Store all files that have a number, and were not stored yet. */
static void store_numbered(slotmem_note_t *notes, apr_pool_t *pool)
{
    round_t round;
    int i;

    store_images(notes, pool);
    begin_round(&round, notes, persist.entries->nelts, pool);
    for (i = 0; i < persist.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = entry_at(i);
        slotmem_store_t *store;

        if (entry->note >= 0 && waits_for_image(entry, notes)) {
            continue;
        }
        store = add_store(&round, entry->note, entry->path, entry->rejected);
        if (store) {
            store->segment = entry->segment;
            store->config_claims = entry->config_claims;
            store->file_state = entry->file_state;
            store->backup = entry->backup;
            describe(store, entry);
        }
    }
    run_round(&round, pool);
}

/* ---- what became of them ---- */

/* Which line says that a store has failed: the next one tries again; there is
 * none; or the next one follows at once, and will say it. */
typedef enum failure_e { TRIES_AGAIN, IS_LOST, SAY_NOTHING } failure_e;

static int same_failure(const slotmem_persist_entry_t *a,
                        const slotmem_persist_entry_t *b)
{
    return a->failed_status == b->failed_status
           && strcmp(a->failed_step, b->failed_step) == 0;
}

static void log_failure(const slotmem_persist_entry_t *entry, int more,
                        failure_e kind)
{
    char same[48] = "";

    if (more) {
        apr_snprintf(same, sizeof(same), " (the same for %d more)", more);
    }
    if (kind == IS_LOST) {
        ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status,
                     ap_server_conf, SLOTMEM_TAG(34)
                     "segment %s: what has changed since its last store is "
                     "lost: cannot store %s: cannot %s%s", entry->name,
                     entry->path, entry->failed_step, same);
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status, ap_server_conf,
                 SLOTMEM_TAG(17)
                 "segment %s: cannot store %s: cannot %s%s", entry->name,
                 entry->path, entry->failed_step, same);
}

static void log_failures(failure_e kind)
{
    int i, j;

    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = entry_at(i);
        int more = 0;

        if (!entry->to_log) {
            continue;
        }
        for (j = i + 1; j < persist.entries->nelts; j++) {
            if (entry_at(j)->to_log && same_failure(entry, entry_at(j))) {
                entry_at(j)->to_log = 0;
                more++;
            }
        }
        entry->to_log = 0;
        log_failure(entry, more, kind);
    }
}

/* Take note of a store that has failed or succeeded. */
static void record_outcome(slotmem_persist_entry_t *entry,
                           const slotmem_result_t *result, failure_e kind)
{
    if (result->step && kind == SAY_NOTHING) {
        return;
    }
    publish_report(entry, result->step ? SLOTMEM_REPORT_FAILED
                          : result->outcome == SLOTMEM_OUTCOME_UNCHANGED
                            ? SLOTMEM_REPORT_UNCHANGED
                            : SLOTMEM_REPORT_STORED);
    if (entry->failed_step && !result->step) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(16)
                     "segment %s: %s is stored again", entry->name,
                     entry->path);
    }
    entry->to_log = result->step
                    && (kind == IS_LOST || !entry->failed_step
                        || entry->failed_status != result->status
                        || strcmp(entry->failed_step, result->step) != 0);
    entry->failed_step = result->step;
    entry->failed_status = result->status;
    entry->stored = !result->step;
    entry->pending = 0;
}

/* Take over what is known of the file. */
static void record_file(slotmem_persist_entry_t *entry,
                        const slotmem_result_t *result)
{
    if (entry->rejected && result->aside) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(15)
                     "segment %s: the refused file %s is kept as %s.bad-%d%s",
                     entry->name, entry->path, entry->path, result->aside,
                     result->aside_replaced
                     ? ", in place of the oldest one kept" : "");
    }
    entry->rejected = entry->rejected && result->set_aside;
    entry->backup = entry->backup && !is_done(result);
    if (result->outcome == SLOTMEM_OUTCOME_UNKNOWN) {
        entry->file_state.verified = 0;
    }
    else {
        entry->file_state = result->file_state;
    }
}

/* An image that is stored is of no use any more. */
static void free_stored_images(const slotmem_process_t *process)
{
    slotmem_carried_t *image, *next;
    slotmem_result_t result;
    int i;

    for (image = persist.outliving->images; image; image = next) {
        next = image->next;
        slotmem_process_read(&result, process, image->note);
        image->set_aside = image->set_aside && result.set_aside;
        if (image->taken || !is_done(&result)) {
            continue;
        }
        for (i = 0; image->refused && i < persist.entries->nelts; i++) {
            if (entry_at(i)->refused_image == image) {
                entry_at(i)->refused_image = NULL;
            }
        }
        slotmem_carried_free(image);
    }
}

/* Read the notes of a process. What it does not say has failed, if it has ended
 * by itself; else it is still at it, or the next store does it again. */
static void read_notes(const slotmem_process_t *process, failure_e kind)
{
    int may_say_more = process->killed || slotmem_process_is_running(process);
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = entry_at(i);
        slotmem_result_t result;

        slotmem_process_read(&result, process, entry->note);
        if (entry->note < 0
            || (may_say_more && result.outcome == SLOTMEM_OUTCOME_UNKNOWN)) {
            continue;
        }
        if (result.outcome == SLOTMEM_OUTCOME_UNKNOWN
            && WIFEXITED(process->exit_status)
            && WEXITSTATUS(process->exit_status) == ENOMEM) {
            result.status = APR_ENOMEM;
        }
        record_file(entry, &result);
        record_outcome(entry, &result, kind);
    }
    log_failures(kind);
    free_stored_images(process);
}

/* The process has ended, if there was one. */
static void collect_as(failure_e kind)
{
    slotmem_process_t *process = &persist.outliving->process;

    if (process->ended) {
        read_notes(process, kind);
        forget_numbers();
        slotmem_process_clear(process);
    }
}

/* While the server stops, the store at the end says what is lost. */
static void collect(void)
{
    collect_as(persist.last_stopping ? SAY_NOTHING : TRIES_AGAIN);
}

static int start_process(void)
{
    apr_status_t rv = slotmem_process_start(&persist.outliving->process,
                                            (apr_size_t)number_files(),
                                            store_numbered);

    if (rv != APR_SUCCESS && rv != persist.not_started) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                     SLOTMEM_TAG(36)
                     "cannot start the process that stores; the next store "
                     "tries again");
    }
    persist.not_started = rv;
    if (rv != APR_SUCCESS) {
        forget_numbers();
    }
    return rv == APR_SUCCESS;
}

/* ---- while the server runs ---- */

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

/* Images that were taken are segments now, which are stored. */
static void free_taken_images(void)
{
    slotmem_carried_t *image, *next;

    for (image = persist.outliving->images; image; image = next) {
        next = image->next;
        if (image->taken) {
            slotmem_carried_free(image);
        }
    }
}

void slotmem_persist_enable(void)
{
    slotmem_report_t *reports;
    int i;

    if (persist.enabled) {
        return;
    }
    reports = create_reports();
    persist.enabled = 1;
    persist.parent = getpid();
    persist.last_checkpoint = apr_time_now();
    for (i = 0; i < persist.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = entry_at(i);

        if (entry->proxy) {
            slotmem_proxy_words(entry->proxy, &entry->words, &entry->words_len,
                                &entry->labels, &entry->labels_len,
                                persist.pool);
        }
        entry->report = reports ? &reports[i] : NULL;
        may_store(entry);
    }
    free_taken_images();
    slotmem_process_watch(&persist.outliving->process, collect,
                          persist.watch_pool);
}

/* Is there no process, or one that has ended? */
static int is_idle(void)
{
    slotmem_process_t *process = &persist.outliving->process;
    apr_time_t now = apr_time_now();

    if (slotmem_process_poll(process)) {
        collect();
        return 1;
    }
    if (!process->overdue && now - process->begun >= OVERDUE) {
        process->overdue = 1;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(37)
                     "process %" APR_PID_T_FMT " has been storing for %d "
                     "seconds; nothing else is stored until it ends: does the "
                     "disk answer?", process->proc.pid,
                     (int)apr_time_sec(now - process->begun));
    }
    return 0;
}

static void store_beside(void)
{
    if (start_process()) {
        slotmem_process_watch(&persist.outliving->process, collect,
                              persist.watch_pool);
    }
}

void slotmem_persist_checkpoint(apr_interval_time_t interval)
{
    apr_time_t now = apr_time_now();

    if (!persist.enabled || !is_idle() || !interval) {
        return;
    }
    if (now < persist.last_checkpoint) {    /* the clock was set back */
        persist.last_checkpoint = now;
    }
    if (now - persist.last_checkpoint >= interval) {
        persist.last_checkpoint = now;
        store_beside();
    }
}

void slotmem_persist_stopping(void)
{
    apr_time_t now = apr_time_now();

    if (persist.enabled && is_idle()
        && (now < persist.last_stopping
            || now - persist.last_stopping >= STOPPING_INTERVAL)) {
        persist.last_stopping = now;
        store_beside();
    }
}

void slotmem_persist_forget(void)
{
    if (persist.outliving) {
        slotmem_process_forget(&persist.outliving->process);
        slotmem_lock_close_all(ap_server_conf->process->pool);
    }
}

/* ---- the end of a generation ---- */

/* Say of which file, and of how many more, the process has not come to the
 * end. */
static void log_not_stored_yet(void)
{
    const slotmem_persist_entry_t *first = NULL;
    char same[48] = "";
    int more = 0;
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = entry_at(i);

        if (entry->pending && !first) {
            first = entry;
        }
        else if (entry->pending) {
            more++;
        }
    }
    if (!first) {
        return;
    }
    if (more) {
        apr_snprintf(same, sizeof(same), " (the same for %d more)", more);
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 SLOTMEM_TAG(32)
                 "segment %s: %s is not stored yet; the restart does not wait, "
                 "and carries the state over in memory%s", first->name,
                 first->path, same);
}

static void carry(slotmem_persist_entry_t *entry)
{
    slotmem_store_t store = { .segment = entry->segment,
                              .config_claims = entry->config_claims };
    /* An image that is still to be set aside goes for the new one. */
    int set_aside = entry->refused_image ? entry->refused_image->set_aside
                                         : entry->rejected;
    slotmem_carried_t *image = NULL;
    unsigned char *bytes;
    apr_size_t len;

    describe(&store, entry);
    if (slotmem_store_to_memory(&store, &bytes, &len) == APR_SUCCESS) {
        if (entry->refused_image) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                         SLOTMEM_TAG(38)
                         "segment %s: the state that was not restored from "
                         "memory is lost: %s could not be stored before "
                         "another restart", entry->name, entry->path);
        }
        image = slotmem_carried_add(entry->path, entry->name, bytes, len);
    }
    if (!image) {
        ap_log_error(APLOG_MARK, APLOG_ERR, APR_ENOMEM, ap_server_conf,
                     SLOTMEM_TAG(33)
                     "segment %s: its state cannot be carried over the restart "
                     "in memory: what has changed since the last store of %s "
                     "is lost", entry->name, entry->path);
        return;
    }
    image->set_aside = set_aside;
    image->backup = entry->backup;
    image->note = entry->note;
    image->failed = entry->failed_step != NULL;
}

/* What was not stored goes on in memory. */
static void carry_all(void)
{
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        if (!entry_at(i)->stored && !entry_at(i)->unavailable) {
            carry(entry_at(i));
        }
    }
    persist.outliving->owner = getpid();
    persist.outliving->generation = ap_state_query(AP_SQ_CONFIG_GEN);
}

/* Until their notes say more, no file is stored. */
static void set_pending(void)
{
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        entry_at(i)->pending = !entry_at(i)->unavailable
                               && !entry_at(i)->conflict_logged;
    }
}

/* The process that was at it is of no use: it has not seen the last changes.
 * Where it waits for a disk it cannot end; then no other one may begin. */
static void end_for_restart(void)
{
    slotmem_process_t *process = &persist.outliving->process;
    apr_time_t deadline = apr_time_now() + RESTART_WAIT;

    slotmem_process_kill(process);
    if (!slotmem_process_wait(process, deadline)) {     /* frozen, it seems */
        number_files();
        forget_numbers();
        set_pending();
    }
    else {
        collect();
        persist.last_stopping = 0;
        if (start_process() && !slotmem_process_wait(process, deadline)) {
            set_pending();
            read_notes(process, TRIES_AGAIN);
        }
        collect();
    }
    log_not_stored_yet();
    carry_all();
}

/* Whose file was another server's. */
static void log_conflicts(void)
{
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = entry_at(i);

        if (entry->note < 0 && entry->conflict_logged) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                         SLOTMEM_TAG(35)
                         "segment %s: what has changed since the start is "
                         "lost: %s belongs to another server, process %"
                         APR_PID_T_FMT, entry->name, entry->path,
                         entry->lock_holder);
        }
    }
}

static void give_images_up(void)
{
    while (persist.outliving->images) {
        slotmem_carried_t *image = persist.outliving->images;

        if (!image->taken) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                         SLOTMEM_TAG(39)
                         "segment %s: its state from before a restart, which "
                         "is in memory alone, is lost: cannot store %s",
                         image->name, image->path);
        }
        slotmem_carried_free(image);
    }
}

/* The parent waits anyway, and needs no process. */
static void end_for_good(void)
{
    slotmem_process_t *process = &persist.outliving->process;
    slotmem_process_t here;

    slotmem_process_kill(process);
    slotmem_process_wait(process, 0);
    collect_as(SAY_NOTHING);
    memset(&here, 0, sizeof(here));
    here.num = (apr_size_t)number_files();
    here.notes = apr_pcalloc(persist.pool, (here.num + 1)
                                           * sizeof(*here.notes));
    store_numbered(here.notes, persist.pool);
    store_numbered(here.notes, persist.pool);   /* what failed, once more */
    read_notes(&here, IS_LOST);
    log_conflicts();
    give_images_up();
}

/* The configuration of a restart has failed, and the parent ends. What it had
 * to carry over is all there is; the new segments never lived. */
static void end_after_failed_restart(void)
{
    slotmem_carried_t *image;

    if (persist.outliving->owner != getpid()) {
        return;
    }
    persist.parent = getpid();
    persist.entries->nelts = 0;
    for (image = persist.outliving->images; image; image = image->next) {
        image->taken = 0;
    }
    slotmem_process_wait(&persist.outliving->process, 0);
    collect();
    if (persist.outliving->images) {
        end_for_good();
    }
}

/* mod_proxy_balancer, for one, ends the server over a slot that it does not
 * like. */
static void log_failed_start(void)
{
    int i;

    for (i = 0; i < persist.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry =
            APR_ARRAY_IDX(persist.entries, i, slotmem_persist_entry_t *);

        if (entry->restored.outcome == SLOTMEM_RESTORE_DONE) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(27)
                         "this start has ended after state was restored; to "
                         "start without that state, move *%s out of %s",
                         SLOTMEM_FILE_SUFFIX,
                         apr_pstrmemdup(persist.pool, entry->path,
                                        (apr_size_t)(strrchr(entry->path, '/')
                                                     - entry->path)));
            return;
        }
    }
}

void slotmem_persist_end(int restarts, int starting)
{
    if (!persist.enabled && starting) {
        log_failed_start();
    }
    if (persist.enabled && restarts) {
        end_for_restart();
    }
    else if (persist.enabled) {
        end_for_good();
    }
    else if (!restarts) {
        end_after_failed_restart();
    }
    slotmem_process_unwatch(&persist.outliving->process);
    persist.enabled = 0;
}

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
 * slotmem_persist.c: when segments are restored and stored; see
 * slotmem_persist.h.
 */

#include <string.h>
#include <unistd.h>

#include "apr_general.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"

#include "slotmem_persist.h"
#include "slotmem_handover.h"
#include "slotmem_lock.h"
#include "slotmem_log.h"
#include "slotmem_orphans.h"
#include "slotmem_outcome.h"
#include "slotmem_recover.h"

/* How long a restart waits for its store. Requests are delayed meanwhile: with
 * the rest of the restart, by less than two seconds. */
#define RESTART_WAIT apr_time_from_msec(1500)
/* A store that takes longer than this is logged. */
#define OVERDUE apr_time_from_sec(300)
/* Minimum time between two stores during a graceful stop. */
#define STOPPING_INTERVAL apr_time_from_sec(1)

/* Process-local; reset by slotmem_persist_reset(). */
static struct {
    apr_pool_t *pool;
    apr_pool_t *watch_pool;         /* for APR's record of the process */
    int enabled;
    apr_time_t last_checkpoint;     /* slotmem_monotonic_now() of the last */
    apr_time_t last_stopping;       /* ... while the server stops; or 0 */
    apr_status_t not_started;       /* why no process was started, as logged */
} persist;

void slotmem_persist_reset(apr_pool_t *pool)
{
    memset(&persist, 0, sizeof(persist));
    memset(&slotmem_files, 0, sizeof(slotmem_files));
    slotmem_directory_reset(pool);
    slotmem_recover_reset(pool);
    if (pool) {
        persist.pool = pool;
        apr_pool_create(&persist.watch_pool, pool);
        slotmem_files.entries = apr_array_make(pool, 16,
                                         sizeof(slotmem_persist_entry_t *));
        slotmem_files.retained = slotmem_retained();
    }
}

int slotmem_persist_is_restart(void)
{
    return slotmem_files.retained->owner == getpid();
}

static void set_content(slotmem_persist_entry_t *entry)
{
    slotmem_content_t *content = &entry->content;

    content->segment = entry->segment;
    content->config_claims = entry->config_claims;
    if (entry->proxy) {
        slotmem_proxy_words(entry->proxy, &content->words, &content->words_len,
                            &content->labels, &content->labels_len,
                            persist.pool);
        slotmem_proxy_stamp(entry->proxy, &content->stamp_at,
                            &content->stamp_len);
    }
    if (content->words_len >= SLOTMEM_FILE_EXCESS / 2) {
        content->words_len = 0;     /* a restore would not read the file */
    }
}

void slotmem_persist_add(slotmem_persist_entry_t *entry)
{
    entry->note = -1;
    entry->directory = slotmem_directory_of(entry->path);
    if (entry->fallback) {
        entry->fallback_directory = slotmem_directory_of(entry->fallback);
    }
    slotmem_recover(entry);
    if (persist.enabled) {      /* slotmem_persist_enable() has run already */
        set_content(entry);
    }
    APR_ARRAY_PUSH(slotmem_files.entries, slotmem_persist_entry_t *) = entry;
}

/* If the process has ended, read its notes. */
static void collect_as(slotmem_failure_e kind)
{
    slotmem_process_t *process = &slotmem_files.retained->process;

    if (process->ended) {
        slotmem_outcome_read(process, kind);
        slotmem_files_clear_notes();
        slotmem_process_clear(process);
    }
}

/* During a graceful stop a failure is not logged: the last store will log what
 * is lost. */
static void collect(void)
{
    collect_as(persist.last_stopping ? SLOTMEM_FAILURE_SILENT
                                     : SLOTMEM_FAILURE_RETRIED);
}

/* Runs in the process that stores. */
static void store_and_retire(slotmem_note_t *notes, apr_pool_t *pool)
{
    slotmem_files_store(notes, pool);
    slotmem_files_retire(notes, pool);
    slotmem_orphans_write_names(pool);
}

static int start_process(void)
{
    int num = slotmem_files_assign_notes();
    apr_status_t rv = slotmem_process_start(&slotmem_files.retained->process,
                                            (apr_size_t)num, store_and_retire);

    if (rv != APR_SUCCESS && rv != persist.not_started) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                     SLOTMEM_TAG(36)
                     "cannot start a process to store segments; the next store "
                     "tries again");
    }
    persist.not_started = rv;
    slotmem_directory_close_all();
    if (rv != APR_SUCCESS) {
        slotmem_files_clear_notes();
    }
    return rv == APR_SUCCESS;
}

/* ---- while the server runs ---- */

/* One report per segment, in memory that the children inherit. If there is no
 * memory, the status page does not show how the last stores went. */
static slotmem_report_t *create_reports(void)
{
    apr_size_t len
        = (apr_size_t)slotmem_files.entries->nelts * sizeof(slotmem_report_t);
    apr_shm_t *shm;

    return len && apr_shm_create(&shm, len, NULL, persist.pool) == APR_SUCCESS
           ? apr_shm_baseaddr_get(shm) : NULL;
}

/* Make a token that is unique to this server, for the names of its temporary
 * files. */
static void make_token(slotmem_retained_t *retained)
{
    unsigned char bytes[4];

    if (retained->token_owner == getpid()) {
        return;
    }
    if (apr_generate_random_bytes(bytes, sizeof(bytes)) != APR_SUCCESS) {
        apr_time_t now = apr_time_now() ^ getpid();

        memcpy(bytes, &now, sizeof(bytes));
    }
    ap_bin2hex(bytes, sizeof(bytes), retained->token);
    retained->token_owner = getpid();
}

/* Reserve memory for all stores of the generation. */
static void reserve_memory(void)
{
    const slotmem_carried_t *image;
    apr_size_t num = (apr_size_t)slotmem_files.entries->nelts;

    for (image = slotmem_files.retained->images; image; image = image->next) {
        num++;
    }
    if (!slotmem_process_is_running(&slotmem_files.retained->process)) {
        slotmem_process_reserve(&slotmem_files.retained->process, num);
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
    slotmem_files.parent = getpid();
    persist.last_checkpoint = slotmem_monotonic_now();
    make_token(slotmem_files.retained);
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        set_content(entry);
        entry->report = reports ? &reports[i] : NULL;
    }
    slotmem_handover_done();
    slotmem_files.may_wait = !slotmem_persist_is_restart();
    slotmem_files_lock();
    slotmem_files.may_wait = 0;
    reserve_memory();
    slotmem_process_watch(&slotmem_files.retained->process, collect,
                          persist.watch_pool);
    slotmem_orphans_find(persist.pool);
}

/* Is there no process that stores? Logs once if one takes too long. */
static int is_idle(void)
{
    slotmem_process_t *process = &slotmem_files.retained->process;
    apr_time_t now = slotmem_monotonic_now();

    if (slotmem_process_poll(process)) {
        collect();
        return 1;
    }
    if (!process->overdue && now - process->started >= OVERDUE) {
        process->overdue = 1;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(37)
                     "process %" APR_PID_T_FMT " has been storing for %d "
                     "seconds, and nothing else is stored until it ends; is "
                     "the disk responding?", process->proc.pid,
                     (int)apr_time_sec(now - process->started));
    }
    return 0;
}

static void start_store(void)
{
    if (start_process()) {
        slotmem_process_watch(&slotmem_files.retained->process, collect,
                              persist.watch_pool);
    }
}

void slotmem_persist_checkpoint(apr_interval_time_t interval)
{
    apr_time_t now = slotmem_monotonic_now();

    if (!persist.enabled || !is_idle() || !interval) {
        return;
    }
    if (now - persist.last_checkpoint >= interval) {
        persist.last_checkpoint = now;
        start_store();
    }
}

void slotmem_persist_stopping(void)
{
    apr_time_t now = slotmem_monotonic_now();

    if (persist.enabled && is_idle()
        && (!persist.last_stopping
            || now - persist.last_stopping >= STOPPING_INTERVAL)) {
        persist.last_stopping = now;
        start_store();
    }
}

void slotmem_persist_drop_in_child(void)
{
    if (slotmem_files.retained) {
        slotmem_process_drop_in_child(&slotmem_files.retained->process);
        slotmem_directory_close_all();
        slotmem_lock_close_all(ap_pglobal);
    }
}

/* ---- the end of a generation ---- */

/* Log the files that the process has not stored yet, in one line. */
static void log_not_stored_yet(void)
{
    const slotmem_persist_entry_t *first = NULL;
    char same[48] = "";
    int more = 0;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);

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
                 "segment %s: %s is not stored yet; the restart does not wait "
                 "for it, and carries the state over in memory%s", first->name,
                 first->path, same);
}

/* Mark the files that the restart does not wait for. A note that says "stored"
 * or "failed" clears the mark when it is read. */
static void set_pending(void)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        entry->pending = !entry->unavailable && !entry->conflict;
    }
}

/* A process that is already storing has not seen the latest changes, so it is
 * killed and another one is started. If it waits for a disk it cannot end, and
 * no other process may start. */
static void end_for_restart(void)
{
    slotmem_process_t *process = &slotmem_files.retained->process;
    apr_time_t deadline = slotmem_monotonic_now() + RESTART_WAIT;

    slotmem_process_kill(process);
    if (!slotmem_process_wait(process, deadline)) {     /* waits for a disk */
        /* It may be in a rename(), which takes effect when the disk thaws: its
         * notes tell which file may then be at the path. All files count as not
         * stored, and are carried over; the locks are asked for as before each
         * store, so that the files of other servers are not pending. */
        slotmem_outcome_read(process, SLOTMEM_FAILURE_SILENT);
        slotmem_files_assign_notes();
        slotmem_files_clear_notes();
        slotmem_directory_close_all();
        set_pending();
    }
    else {
        collect();
        persist.last_stopping = 0;
        if (start_process()) {
            slotmem_handover_copy();
            if (!slotmem_process_wait(process, deadline)) {
                set_pending();
                slotmem_outcome_read(process, SLOTMEM_FAILURE_RETRIED);
            }
        }
        collect();
    }
    log_not_stored_yet();
    slotmem_handover_carry();
}

/* Log the files that another server kept locked until the end. */
static void log_conflicts(void)
{
    char text[80];
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        if (entry->note < 0 && entry->conflict) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                         SLOTMEM_TAG(35)
                         "segment %s: changes since the start are lost: %s "
                         "belongs to another server, %s", entry->name,
                         entry->path,
                         slotmem_files_holder(text, sizeof(text),
                                              entry->lock_holder));
        }
    }
}

static void drop_images(void)
{
    while (slotmem_files.retained->images) {
        slotmem_carried_t *image = slotmem_files.retained->images;

        if (!image->taken) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                         SLOTMEM_TAG(39)
                         "segment %s: its state from before a restart, held "
                         "only in memory, is lost: cannot store %s",
                         image->name, image->path);
        }
        slotmem_carried_free(image);
    }
}

/* At the end the parent may wait for the disk, so it stores by itself. */
static void end_for_good(void)
{
    slotmem_process_t *process = &slotmem_files.retained->process;
    slotmem_process_t here;

    slotmem_process_kill(process);
    slotmem_process_wait(process, 0);
    collect_as(SLOTMEM_FAILURE_SILENT);
    slotmem_process_release(process);
    memset(&here, 0, sizeof(here));
    slotmem_files.may_wait = 1;
    here.num = (apr_size_t)slotmem_files_assign_notes();
    here.notes = apr_pcalloc(persist.pool, (here.num + 1)
                                           * sizeof(*here.notes));
    slotmem_files_store(here.notes, persist.pool);
    /* Try once more to store what has failed. */
    slotmem_files_store(here.notes, persist.pool);
    slotmem_files_retire(here.notes, persist.pool);
    slotmem_outcome_read(&here, SLOTMEM_FAILURE_LOST);
    log_conflicts();
    drop_images();
    slotmem_orphans_write_names(persist.pool);     /* last: it takes memory */
    slotmem_directory_close_all();
}

/* The configuration of a restart has failed, and the parent exits. Store the
 * images that were carried over; the new segments were never used. */
static void end_after_failed_restart(void)
{
    slotmem_carried_t *image;

    if (slotmem_files.retained->owner != getpid()) {
        return;
    }
    slotmem_files.parent = getpid();
    slotmem_files.entries->nelts = 0;
    for (image = slotmem_files.retained->images; image; image = image->next) {
        image->taken = 0;
    }
    slotmem_process_wait(&slotmem_files.retained->process, 0);
    collect();
    slotmem_handover_done();
    if (slotmem_files.retained->images) {
        end_for_good();
    }
}

/* A restored slot may be the cause: mod_proxy_balancer ends the server if it
 * cannot use one. */
static void log_failed_start(void)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        const char *from = entry->restored_from ? entry->restored_from
                                                : entry->path;

        if (entry->restored.outcome == SLOTMEM_RESTORE_DONE) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(27)
                         "the start has failed after state was restored; to "
                         "start without that state, move *%s out of %s",
                         SLOTMEM_FILE_SUFFIX,
                         slotmem_directory_of(from)->path);
            return;
        }
    }
}

void slotmem_persist_end(int restarts, int serves)
{
    if (!persist.enabled && serves) {
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
    slotmem_process_unwatch(&slotmem_files.retained->process);
    if (!restarts) {
        slotmem_process_release(&slotmem_files.retained->process);
    }
    persist.enabled = 0;
}

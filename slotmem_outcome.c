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
 * slotmem_outcome.c: takes over the result of a store; see slotmem_outcome.h.
 *
 * A failure is logged once, and again only for another reason. Files that fail
 * for the same reason share a line.
 */

#include "apr_strings.h"

#include "httpd.h"

#include "slotmem_log.h"
#include "slotmem_outcome.h"

static int same_failure(const slotmem_persist_entry_t *a,
                        const slotmem_persist_entry_t *b)
{
    return a->failed_status == b->failed_status
           && a->failed_step == b->failed_step;
}

static void log_failure(const slotmem_persist_entry_t *entry, int more,
                        slotmem_failure_e kind)
{
    slotmem_distrust_t distrust;
    const char *step = slotmem_step_text(entry->failed_step);
    const char *reason = "";
    char same[48] = "";
    apr_pool_t *pool;

    apr_pool_create(&pool, slotmem_files.entries->pool);
    if (entry->failed_step == SLOTMEM_STEP_TRUST_DIRECTORY
        && slotmem_directory_open(entry->directory, 0, &distrust)
           == APR_EGENERAL) {
        reason = apr_pstrcat(pool, ": ",
                             slotmem_directory_reason(entry->directory,
                                                      &distrust, pool), NULL);
    }
    if (more) {
        apr_snprintf(same, sizeof(same), " (the same for %d more)", more);
    }
    if (kind == SLOTMEM_FAILURE_LOST) {
        ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status,
                     ap_server_conf, SLOTMEM_TAG(34)
                     "segment %s: changes since its last store are lost: "
                     "cannot store %s: cannot %s%s%s", entry->name,
                     entry->path, step, reason, same);
    }
    else {
        ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status,
                     ap_server_conf, SLOTMEM_TAG(17)
                     "segment %s: cannot store %s: cannot %s%s%s", entry->name,
                     entry->path, step, reason, same);
    }
    apr_pool_destroy(pool);
}

static void log_failures(slotmem_failure_e kind)
{
    int i, j;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        int more = 0;

        if (!entry->to_log) {
            continue;
        }
        for (j = i + 1; j < slotmem_files.entries->nelts; j++) {
            if (slotmem_files_entry(j)->to_log
                && same_failure(entry, slotmem_files_entry(j))) {
                slotmem_files_entry(j)->to_log = 0;
                more++;
            }
        }
        entry->to_log = 0;
        log_failure(entry, more, kind);
    }
}

static void record_outcome(slotmem_persist_entry_t *entry,
                           const slotmem_result_t *result,
                           slotmem_failure_e kind)
{
    if (result->step && kind == SLOTMEM_FAILURE_SILENT) {
        return;
    }
    slotmem_files_publish(entry, result->step ? SLOTMEM_REPORT_FAILED
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
                    && (kind == SLOTMEM_FAILURE_LOST || !entry->failed_step
                        || entry->failed_status != result->status
                        || entry->failed_step != result->step);
    entry->failed_step = result->step;
    entry->failed_status = result->status;
    entry->stored = !result->step;
    entry->pending = 0;
}

static void log_fallback(slotmem_persist_entry_t *entry,
                         slotmem_fallback_e fallback)
{
    if (fallback == SLOTMEM_FALLBACK_UNKNOWN || entry->fallback_done) {
        return;
    }
    entry->fallback_done = 1;
    if (fallback == SLOTMEM_FALLBACK_RENAMED) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(42)
                     "segment %s is now stored in %s: %s was renamed to *%s, "
                     "which is never restored", entry->name, entry->path,
                     entry->fallback, SLOTMEM_RETIRED_SUFFIX);
    }
    else if (fallback != SLOTMEM_FALLBACK_NONE) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(43)
                     "segment %s: %s %s, and would be restored if %s were "
                     "removed: rename it", entry->name, entry->fallback,
                     fallback == SLOTMEM_FALLBACK_BUSY
                     ? "belongs to another server" : "could not be renamed",
                     entry->path);
    }
}

static void log_aside(const char *name, const char *path, int refused,
                      const slotmem_result_t *result)
{
    const char *replaced = result->aside_replaced
                           ? ", replacing the oldest one" : "";

    if (refused) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(15)
                     "segment %s: the refused file %s is kept as %s.bad-%d%s",
                     name, path, path, result->aside, replaced);
    }
    else {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(41)
                     "segment %s: the file found at %s was neither restored "
                     "nor written by this server since its last restart; it is "
                     "kept as %s.bad-%d%s", name, path, path, result->aside,
                     replaced);
    }
}

/* Record which file is at the path. If the outcome is unknown, the process may
 * have put its new file there before it was killed. */
static void record_states(slotmem_file_state_t *file_state,
                          slotmem_file_state_t *new_state,
                          const slotmem_result_t *result)
{
    int unknown = result->outcome == SLOTMEM_OUTCOME_UNKNOWN;

    /* A note of unknown outcome may be incomplete: only 1 is valid. */
    if (!unknown || result->new_state.known == 1) {
        *file_state = result->file_state;
        *new_state = result->new_state;
    }
    if (unknown) {
        file_state->verified = 0;
    }
}

static void record_file(slotmem_persist_entry_t *entry,
                        const slotmem_result_t *result)
{
    if (result->aside) {
        log_aside(entry->name, entry->path, entry->set_aside, result);
    }
    log_fallback(entry, result->fallback);
    entry->set_aside = entry->set_aside && result->set_aside;
    entry->backup = entry->backup && result->backup
                    && !slotmem_result_is_stored(result);
    record_states(&entry->file_state, &entry->new_state, result);
    slotmem_files.cleaned |= slotmem_result_is_stored(result);
}

/* Free the images that are stored, and update the others. */
static void free_stored_images(const slotmem_process_t *process)
{
    slotmem_carried_t *image, *next;
    slotmem_result_t result;
    int i;

    for (image = slotmem_files.retained->images; image; image = next) {
        next = image->next;
        slotmem_process_read(&result, process, image->note);
        if (result.aside && !image->taken) {
            log_aside(image->name, image->path, image->set_aside, &result);
        }
        image->set_aside = image->set_aside && result.set_aside;
        image->backup = image->backup && result.backup;
        record_states(&image->file_state, &image->new_state, &result);
        if (image->taken || !slotmem_result_is_stored(&result)) {
            continue;
        }
        for (i = 0; image->refused && i < slotmem_files.entries->nelts; i++) {
            if (slotmem_files_entry(i)->refused_image == image) {
                slotmem_files_entry(i)->refused_image = NULL;
            }
        }
        slotmem_carried_free(image);
    }
}

void slotmem_outcome_read(const slotmem_process_t *process,
                          slotmem_failure_e kind)
{
    int more_to_come = process->killed || slotmem_process_is_running(process);
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_result_t result;

        if (entry->note < 0) {
            continue;
        }
        slotmem_process_read(&result, process, entry->note);
        if (more_to_come && result.outcome == SLOTMEM_OUTCOME_UNKNOWN) {
            record_states(&entry->file_state, &entry->new_state, &result);
            continue;
        }
        if (result.outcome == SLOTMEM_OUTCOME_UNKNOWN
            && process->lacked_memory) {
            result.status = APR_ENOMEM;
        }
        record_file(entry, &result);
        record_outcome(entry, &result, kind);
    }
    log_failures(kind);
    free_stored_images(process);
}

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
 * slotmem_recover.c: restores a new segment; see slotmem_recover.h.
 */

#include <string.h>

#include "apr_strings.h"

#include "httpd.h"

#include "slotmem_log.h"
#include "slotmem_proxy_merge.h"
#include "slotmem_recover.h"

/* Process-local; reset by slotmem_recover_reset(). */
static struct {
    apr_pool_t *pool;               /* for reasons */
    apr_pool_t *scratch;            /* cleared after each restore */
} recover;

void slotmem_recover_reset(apr_pool_t *pool)
{
    recover.pool = pool;
    recover.scratch = NULL;
    if (pool) {
        apr_pool_create(&recover.scratch, pool);
    }
}

/* The number that the distributed module logs for this reason, in a line of its
 * own before AH02554. With it, searches of the log still find the reason. A
 * file that cannot be opened has no number there. */
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

/* Mention the age if the file is older than a day, because state that old may
 * come as a surprise. */
static const char *age_of(const slotmem_restore_result_t *result, char *text,
                          apr_size_t size)
{
    apr_time_t age = apr_time_now() - result->file_state.mtime;
    int days = (int)(age / apr_time_from_sec(86400));

    if (days <= 1) {
        return days == 1 ? "; the file is one day old" : "";
    }
    apr_snprintf(text, size, "; the file is %d days old", days);
    return text;
}

static void log_restore(const slotmem_persist_entry_t *entry, const char *path,
                        const slotmem_restore_result_t *result)
{
    char age[64];

    switch (result->outcome) {
    case SLOTMEM_RESTORE_NO_FILE:
        break;
    case SLOTMEM_RESTORE_DONE:
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, ap_server_conf,
                     APLOGNO(02335) SLOTMEM_TAG(10)
                     "segment %s: restored %u of %u slots from %s, %u of them "
                     "claimed at run time%s", entry->name, result->item_num,
                     entry->segment->geometry.item_num, path,
                     result->runtime_claims, age_of(result, age, sizeof(age)));
        break;
    case SLOTMEM_RESTORE_REFUSED:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(11)
                     "segment %s starts empty: %s was not restored: %s%s; %s",
                     entry->name, path, reason_number(result), result->reason,
                     path == entry->path ? "the first store will keep it as "
                                          "one of .bad-1 to .bad-4"
                                        : "the first store will rename it "
                                          "to *" SLOTMEM_RETIRED_SUFFIX);
        break;
    case SLOTMEM_RESTORE_UNAVAILABLE:
        ap_log_error(APLOG_MARK, APLOG_ERR, result->status, ap_server_conf,
                     APLOGNO(02554) SLOTMEM_TAG(12)
                     "segment %s starts empty: %s was not restored: %s%s; the "
                     "file stays as it is, and the segment is not stored "
                     "until the next restart", entry->name, path,
                     reason_number(result), result->reason);
        break;
    }
}

/* Read the removal request beside a file, if there is one. An invalid one is
 * ignored and stays. */
static void read_removal(slotmem_persist_entry_t *entry,
                         slotmem_directory_t *directory, const char *path)
{
    slotmem_distrust_t distrust;
    const char *reason = NULL;
    apr_status_t rv;

    entry->removal = NULL;
    if (slotmem_directory_open(directory, 0, &distrust) != APR_SUCCESS) {
        return;
    }
    entry->removal = slotmem_removal_read(directory, path, &rv, &reason,
                                          recover.pool);
    if (reason) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, ap_server_conf,
                     SLOTMEM_TAG(57)
                     "segment %s: %s is ignored, and stays: %s",
                     entry->name, apr_pstrcat(recover.scratch, path,
                                              SLOTMEM_REMOVAL_SUFFIX, NULL),
                     reason);
    }
}

/* Restore a segment of mod_proxy_balancer: its configuration decides where each
 * slot goes. carried: the image; NULL: read the file */
static void restore_by_slot(slotmem_restore_result_t *result,
                            slotmem_persist_entry_t *entry,
                            slotmem_directory_t *directory,
                            const char *path, const slotmem_carried_t *carried)
{
    const slotmem_geometry_t *geometry = &entry->segment->geometry;
    apr_pool_t *scratch = recover.scratch;
    slotmem_proxy_merged_t merged;
    slotmem_image_t image;

    if (carried) {
        slotmem_restore_image_memory(result, &image, geometry, carried->bytes,
                                     carried->len, scratch);
    }
    else {
        slotmem_restore_image(result, &image, geometry, directory, path,
                              scratch);
    }
    if (result->outcome != SLOTMEM_RESTORE_DONE) {
        return;
    }
    read_removal(entry, directory, path);
    slotmem_proxy_merge(&merged, entry->proxy, entry->segment,
                        entry->config_claims, &image, entry->removal,
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

/* Open a directory, or say why nothing is restored from it. */
static int open_directory(slotmem_restore_result_t *result,
                          slotmem_directory_t *directory)
{
    slotmem_distrust_t distrust;
    apr_status_t rv = slotmem_directory_open(directory, 0, &distrust);

    if (rv == APR_SUCCESS) {
        return 1;
    }
    slotmem_restore_refuse(result, rv == APR_EGENERAL ? APR_SUCCESS : rv,
                           rv == APR_EGENERAL
                           ? slotmem_directory_reason(directory, &distrust,
                                                      recover.scratch)
                           : "its directory cannot be opened");
    return 0;
}

static void restore_from(slotmem_restore_result_t *result,
                         slotmem_persist_entry_t *entry,
                         slotmem_directory_t *directory, const char *path,
                         const slotmem_carried_t *carried)
{
    int with_claims = entry->config_claims != NULL;

    if (!carried && !open_directory(result, directory)) {
        /* the result has the reason */
    }
    else if (entry->proxy) {
        restore_by_slot(result, entry, directory, path, carried);
    }
    else if (carried) {
        slotmem_restore_memory(result, entry->segment, with_claims,
                               carried->bytes, carried->len, recover.scratch);
    }
    else {
        slotmem_restore(result, entry->segment, with_claims, directory, path,
                        recover.scratch);
    }
    result->reason = apr_pstrdup(recover.pool, result->reason);
    apr_pool_clear(recover.scratch);
}

/* Restore a copy of what the file at the path holds, if there is one; otherwise
 * read the file. */
static void restore_copy_or_file(slotmem_restore_result_t *result,
                                 slotmem_persist_entry_t *entry,
                                 slotmem_carried_t *copy)
{
    if (copy) {
        copy->taken = 1;
        restore_from(result, entry, entry->directory, entry->path, copy);
        result->file_state = copy->file_state;
    }
    if (!copy || result->outcome != SLOTMEM_RESTORE_DONE) {
        restore_from(result, entry, entry->directory, entry->path, NULL);
    }
}

static void restore_file(slotmem_persist_entry_t *entry,
                         slotmem_carried_t *copy)
{
    slotmem_restore_result_t result;

    restore_copy_or_file(&result, entry, copy);
    log_restore(entry, entry->path, &result);
    entry->restored = result;
    entry->restored_from = entry->path;
    entry->file_state = result.file_state;
    /* If the last generation has stored all files, this one was fsynced. */
    entry->file_state.synced
        = result.file_state.ctime < slotmem_retained()->all_stored_at
          && slotmem_retained()->owner == getpid();
    entry->set_aside = result.outcome == SLOTMEM_RESTORE_REFUSED;
    entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    if (result.outcome == SLOTMEM_RESTORE_NO_FILE && entry->fallback) {
        restore_from(&result, entry, entry->fallback_directory,
                     entry->fallback, NULL);
        log_restore(entry, entry->fallback, &result);
        entry->restored = result;
        entry->restored_from = entry->fallback;
        /* If path were written, the next start would not read the fallback. */
        entry->unavailable = result.outcome == SLOTMEM_RESTORE_UNAVAILABLE;
    }
}

/* Take over what the image knows of the file at the path. */
static void take_over(slotmem_persist_entry_t *entry,
                      const slotmem_carried_t *image)
{
    entry->file_state = image->file_state;
    entry->new_state = image->new_state;
    entry->note = image->note;
    entry->set_aside = image->set_aside;
    entry->backup |= image->backup;
}

static void log_carried(const slotmem_persist_entry_t *entry,
                        const slotmem_carried_t *image)
{
    const slotmem_restore_result_t *result = &entry->restored;

    ap_log_error(APLOG_MARK, APLOG_INFO, 0, ap_server_conf,
                 SLOTMEM_TAG(30)
                 "segment %s: restored %u of %u slots from memory, %u of them "
                 "claimed at run time; %s was %s before the restart",
                 entry->name, result->item_num,
                 entry->segment->geometry.item_num, result->runtime_claims,
                 image->path, image->stored ? "its file" : "not stored");
}

/* Restore what the last generation could not store, or has stored in another
 * directory. A file at the path is older, or another server's. */
static int restore_carried(slotmem_persist_entry_t *entry,
                           slotmem_carried_t *image)
{
    slotmem_restore_result_t *result = &entry->restored;
    int moved = strcmp(image->path, entry->path) != 0;

    restore_from(result, entry, moved ? slotmem_files_directory_of(image)
                                      : entry->directory,
                 moved ? image->path : entry->path, image);
    if (result->outcome == SLOTMEM_RESTORE_DONE) {
        if (!moved) {
            take_over(entry, image);
        }
        image->taken = 1;
        entry->failed_step = image->failed ? SLOTMEM_STEP_EARLIER
                                           : SLOTMEM_STEP_NONE;
        log_carried(entry, image);
        return 1;
    }
    if (image->stored) {
        return 0;
    }
    if (!moved) {               /* else it is stored in its old directory */
        entry->file_state = image->file_state;
        entry->new_state = image->new_state;
        entry->refused_image = image;
        entry->set_aside = 1;
        image->refused = 1;
    }
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                 SLOTMEM_TAG(31)
                 "segment %s starts empty: its state, carried over the restart "
                 "in memory, was not restored: %s; the first store will keep "
                 "it as %s%s", entry->name, result->reason, image->path,
                 moved ? "" : ".bad-1 to .bad-4");
    return 1;
}

void slotmem_recover(slotmem_persist_entry_t *entry)
{
    slotmem_carried_t *image = slotmem_carried_find(entry->path, entry->name);

    if (image && image->stored && strcmp(image->path, entry->path) == 0) {
        restore_file(entry, image);
    }
    else if (!image || !restore_carried(entry, image)) {
        restore_file(entry, NULL);
    }
}

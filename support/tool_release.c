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
 * tool_release.c: "release", which makes a slot of a file free and empty.
 *
 * Crash: the file is stored as the module stores it: whenever the process dies,
 * it is the old file or the new one, and complete.
 *
 * Concurrency: the lock of the server that stores the file is taken before the
 * file is checked, and held until the process ends.
 */

#include <stdio.h>
#include <string.h>

#include "apr_strings.h"

#include "ap_slotmem.h"

#include "slotmem_store.h"
#include "tool_change.h"
#include "tool_command.h"
#include "tool_members.h"
#include "tool_output.h"
#include "tool_report.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* Become the owner of the file, and take its lock. A store creates a new file:
 * with another owner the server might not be able to read it. */
static int own_and_lock(tool_file_t *file)
{
    apr_status_t rv = APR_SUCCESS;
    const char *reason = tool_change_begin(file->path, file->pool);

    if (!reason) {
        reason = tool_change_lock(file->path, &rv, file->pool);
    }
    if (reason) {
        tool_file_set_verdict(file, TOOL_TROUBLE, rv, reason);
    }
    return !reason;
}

static int is_free_and_empty(const tool_file_t *file, apr_uint32_t slot)
{
    return !slotmem_map_test(&file->segment.map, slot)
           && tool_file_slot_is_zero(file, slot);
}

/* Refuse a member of the configuration: the next start would create it again,
 * without its state. */
static void check_origin(tool_file_t *file, const tool_members_t *members,
                         apr_uint32_t slot)
{
    slotmem_origin_e origin = tool_members_origin(members, slot);

    if (!tool_file_slot_is_zero(file, slot)
        && origin != SLOTMEM_ORIGIN_RUN_TIME) {
        tool_file_set_verdict(
            file, TOOL_REFUSED, APR_SUCCESS,
            apr_psprintf(file->pool, "slot %u belongs to the configuration%s: "
                         "release would only discard what was set at run time; "
                         "use --force to do that", slot,
                         origin == SLOTMEM_ORIGIN_UNKNOWN
                         ? ", as far as the file tells" : ""));
    }
}

static int check_releasable(tool_file_t *file, apr_uint32_t slot)
{
    if (!tool_file_check_slot(file, slot)) {
        return 0;
    }
    if (!(file->geometry.type & AP_SLOTMEM_TYPE_PERSIST)) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              "its type is not persist");
    }
    else if (file->ignored) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              apr_psprintf(file->pool, "%" APR_OFF_T_FMT
                                           " bytes after its slots belong to "
                                           "another segment: start and stop "
                                           "the server, which then stores it "
                                           "again", file->ignored));
    }
    else if (is_free_and_empty(file, slot)) {
        tool_file_set_verdict(file, TOOL_REFUSED, APR_SUCCESS,
                              apr_psprintf(file->pool,
                                           "slot %u is already free and empty",
                                           slot));
    }
    return file->verdict == TOOL_GOOD;
}

/* Keep the rest of the file's section. */
static void keep_section(slotmem_store_t *store, const tool_file_t *file)
{
    slotmem_restore_result_t result;
    slotmem_image_t image;

    slotmem_restore_image(&result, &image, &file->geometry, NULL, file->path,
                          file->pool);
    if (result.outcome == SLOTMEM_RESTORE_DONE) {
        store->content.words = image.words;
        store->content.words_len = image.words_len;
        store->content.labels = image.labels;
        store->content.labels_len = image.labels_len;
    }
}

/* Store the segment with this slot as in a new segment: free, so that the next
 * grab can claim it, and zero, because a consumer that reads all slots would
 * otherwise create the same object again. If the file has a section, all other
 * slots in use are stored as run-time claims. */
static void store_released(tool_file_t *file, apr_uint32_t slot)
{
    slotmem_segment_t *segment = &file->segment;
    apr_size_t size = file->geometry.item_size;
    slotmem_store_t store;

    memset(&store, 0, sizeof(store));
    store.content.segment = segment;
    store.path = file->path;
    store.directory = slotmem_directory_of(file->path);
    store.file_state = file->result.file_state;
    store.backup = 1;
    if (tool_file_has_claims(&file->geometry)
        && file->result.file_state.verified) {
        store.content.config_claims
            = apr_pcalloc(file->pool, sizeof(slotmem_word_t)
                                      * slotmem_map_words(segment->map.num));
        keep_section(&store, file);
    }
    slotmem_map_clear(&segment->map, slot);
    memset(segment->slots + size * slot, 0, size);
    slotmem_store_clean(store.directory, &store, 1, "");
    slotmem_store(&store, 1, NULL, file->pool);
    if (store.step) {
        tool_file_set_verdict(file, TOOL_TROUBLE, store.status,
                              apr_psprintf(file->pool, "cannot %s",
                                           slotmem_step_text(store.step)));
    }
}

/* Find the slot by its number or by its worker. */
static int find_slot(apr_uint32_t *slot, tool_file_t *file,
                     const tool_members_t *members,
                     const tool_options_t *options)
{
    if (options->has_slot) {
        *slot = options->slot;
        return 1;
    }
    *slot = members->slots == SLOTMEM_SLOTS_WORKERS
            ? tool_members_find(members, options->worker) : TOOL_NOWHERE;
    if (*slot < TOOL_NOWHERE) {
        return 1;
    }
    tool_file_set_verdict(file, members->foreign ? TOOL_TROUBLE : TOOL_REFUSED,
                          APR_SUCCESS,
                          members->foreign ? members->foreign
                          : *slot == TOOL_SEVERAL
                            ? "it has more than one worker with that URL: give "
                              "it with user and password"
                            : "it has no worker with that URL");
    return 0;
}

/* Read the file before the lock is taken, so that no lock file is created
 * beside a file that cannot be released; and again under the lock, because only
 * then no server can store it. */
static int release_slot(tool_file_t *file, apr_uint32_t *slot,
                        const tool_options_t *options, apr_pool_t *pool)
{
    const tool_geometry_request_t *request = &options->request;
    const char *path = *options->paths;
    tool_members_t members;

    if (tool_file_read(file, path, request, pool) != TOOL_GOOD
        || !tool_members_read(&members, file)
        || !find_slot(slot, file, &members, options)
        || !own_and_lock(file)
        || tool_file_read(file, path, request, pool) != TOOL_GOOD
        || !tool_members_read(&members, file)
        || !find_slot(slot, file, &members, options)
        || !check_releasable(file, *slot)) {
        return file->verdict;
    }
    if (tool_file_has_claims(&file->geometry) && !members.foreign
        && !(options->given & TOOL_OPT_FORCE)) {
        check_origin(file, &members, *slot);
    }
    if (file->verdict == TOOL_GOOD) {
        store_released(file, *slot);
    }
    return file->verdict;
}

static int release(const tool_options_t *options, apr_pool_t *pool)
{
    apr_uint32_t slot = options->slot;
    tool_file_t file;

    if (!options->has_slot == !options->worker) {
        return tool_usage_error("release takes --slot or --worker");
    }
    release_slot(&file, &slot, options, pool);
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_verdict(&file);
        if (slot < TOOL_NOWHERE) {
            tool_number_field("slot", slot);
        }
    }
    else if (file.verdict == TOOL_GOOD) {
        tool_print_text(stdout, file.path);
        printf(": slot %u is free and empty now; its content is kept in ",
               slot);
        tool_print_text(stdout, file.path);
        puts(SLOTMEM_BACKUP_SUFFIX);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (file.verdict != TOOL_GOOD) {
        tool_report_error(&file);
    }
    return file.verdict;
}

const tool_command_t tool_release = {
    .name = "release",
    .arguments = "[--json] [--force] --slot N | --worker URL FILE",
    .summary = "makes a slot free and empty, while the server is stopped",
    .num_paths = 1,
    .takes = TOOL_OPT_SLOT | TOOL_OPT_WORKER | TOOL_OPT_FORCE,
    .run = release
};

/* NOLINTEND(cert-err33-c) */

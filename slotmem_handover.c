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
 * slotmem_handover.c: hands the state of a generation to the next one; see
 * slotmem_handover.h.
 */

#include <unistd.h>

#include "httpd.h"
#include "http_core.h"

#include "slotmem_files.h"
#include "slotmem_handover.h"
#include "slotmem_log.h"

/* Most bytes that a restart copies to save the next generation from reading
 * files. They take memory until that one runs. */
#define COPIES_MAX ((apr_size_t)64 * 1024 * 1024)

/* Is there room for a copy of the segment? */
static int is_to_copy(const slotmem_persist_entry_t *entry, apr_size_t used)
{
    return !entry->unavailable
           && slotmem_serialize_size(&entry->content) <= COPIES_MAX - used;
}

void slotmem_handover_copy(void)
{
    unsigned char *copies;
    apr_size_t used = 0;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        used += is_to_copy(entry, used)
                ? slotmem_serialize_size(&entry->content) : 0;
    }
    copies = slotmem_carried_map_copies(used);
    used = 0;
    for (i = 0; copies && i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        if (!is_to_copy(entry, used)) {
            continue;
        }
        if (slotmem_serialize_copy(&entry->content, copies + used,
                                   &entry->copy_len) == APR_SUCCESS) {
            entry->copy = copies + used;
        }
        used += slotmem_serialize_size(&entry->content);
    }
}

static void free_copies(void)
{
    int i;

    slotmem_carried_free_copies();
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_files_entry(i)->copy = NULL;
    }
}

/* If memory is short, free the copies: the files hold what they hold. */
static apr_status_t serialize(slotmem_persist_entry_t *entry,
                              unsigned char **bytes, apr_size_t *len)
{
    apr_status_t rv = slotmem_serialize_to_memory(&entry->content, bytes, len);

    if (rv != APR_SUCCESS && slotmem_files.retained->copies) {
        free_copies();
        rv = slotmem_serialize_to_memory(&entry->content, bytes, len);
    }
    return rv;
}

/* The image of a segment: if it is stored, its copy. */
static slotmem_carried_t *add_image(slotmem_persist_entry_t *entry)
{
    unsigned char *bytes = entry->copy;
    apr_size_t len = entry->copy_len;

    if (!entry->stored && serialize(entry, &bytes, &len) != APR_SUCCESS) {
        return NULL;
    }
    if (entry->refused_image) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, ap_server_conf,
                     SLOTMEM_TAG(38)
                     "segment %s: the state that was not restored from memory "
                     "is lost: %s could not be stored before the next restart",
                     entry->name, entry->path);
    }
    return slotmem_carried_add(entry->path, entry->name, bytes, len,
                               entry->stored);
}

static void carry(slotmem_persist_entry_t *entry)
{
    /* There is one image per path: one that was refused, and is still not
     * stored, is lost now. */
    int set_aside = entry->refused_image ? entry->refused_image->set_aside
                                         : entry->set_aside;
    slotmem_carried_t *image = add_image(entry);

    if (image) {
        image->set_aside = set_aside;
        image->checked = entry->directory->checked;
        image->file_state = entry->file_state;
        image->new_state = entry->new_state;
        image->backup = entry->backup;
        image->note = entry->note;
        image->failed = entry->failed_step != SLOTMEM_STEP_NONE;
    }
    else if (!entry->stored) {
        ap_log_error(APLOG_MARK, APLOG_ERR, APR_ENOMEM, ap_server_conf,
                     SLOTMEM_TAG(33)
                     "segment %s: there is no memory to carry its state over "
                     "the restart: changes since the last store of %s are lost",
                     entry->name, entry->path);
    }
}

void slotmem_handover_carry(void)
{
    int all_stored = 1;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        if (!entry->unavailable && (!entry->stored || entry->copy)) {
            all_stored &= entry->stored;
            carry(entry);
        }
    }
    slotmem_files.retained->all_stored_at = all_stored ? apr_time_now() : 0;
    slotmem_files.retained->owner = getpid();
    slotmem_files.retained->generation = ap_state_query(AP_SQ_CONFIG_GEN);
}

void slotmem_handover_done(void)
{
    slotmem_carried_t *image, *next;

    slotmem_carried_free_copies();
    for (image = slotmem_files.retained->images; image; image = next) {
        next = image->next;
        if (image->taken) {
            slotmem_carried_free(image);
        }
    }
}

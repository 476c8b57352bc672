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
 * tool_file.c: reads a persisted file as the module does, and gives a verdict;
 * see tool_file.h.
 */

#include "tool_file.h"

#include <string.h>

#include "apr_file_info.h"
#include "apr_strings.h"

#include "ap_slotmem.h"

#include "slotmem_format.h"
#include "tool_output.h"

const tool_geometry_request_t tool_as_file_says;

int tool_file_set_verdict(tool_file_t *file, int verdict, apr_status_t status,
                          const char *reason)
{
    file->verdict = verdict;
    file->status = status;
    file->reason = reason;
    return verdict;
}

const char *tool_file_why(const tool_file_t *file)
{
    return file->status == APR_SUCCESS ? file->reason
           : apr_psprintf(file->pool, "%s: %pm", file->reason,
                          (const void *)&file->status);
}

/* If the module would refuse the content, the file is refused. If there is no
 * file or it cannot be read, its content is not known: that is trouble. */
static int set_verdict_from_result(tool_file_t *file)
{
    const slotmem_restore_result_t *result = &file->result;

    switch (result->outcome) {
    case SLOTMEM_RESTORE_DONE:
        return tool_file_set_verdict(file, TOOL_GOOD, APR_SUCCESS, NULL);
    case SLOTMEM_RESTORE_NO_FILE:
        return tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                                     "there is no such file");
    default:
        return tool_file_set_verdict(file, result->status == APR_SUCCESS
                                               ? TOOL_REFUSED : TOOL_TROUBLE,
                                     result->status, result->reason);
    }
}

/* Choose the geometry: as requested, and the rest as the file says. */
static int choose_geometry(tool_file_t *file,
                           const tool_geometry_request_t *request)
{
    int all_given = request->has_size && request->has_num && request->has_type;

    slotmem_identify(&file->result, &file->geometry, file->path, file->pool);
    file->has_geometry = file->result.outcome == SLOTMEM_RESTORE_DONE;
    if (!file->has_geometry && !all_given) {
        return set_verdict_from_result(file);
    }
    if (request->has_size) {
        file->geometry.item_size = request->geometry.item_size;
    }
    if (request->has_num) {
        file->geometry.item_num = request->geometry.item_num;
    }
    if (request->has_type) {
        file->geometry.type = request->geometry.type;
    }
    file->has_geometry = 1;
    return TOOL_GOOD;
}

int tool_file_has_claims(const slotmem_geometry_t *geometry)
{
    return (geometry->type & AP_SLOTMEM_TYPE_PERSIST)
           && (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE);
}

/* How many bytes at the end of the file the module does not read. */
static apr_off_t count_ignored_bytes(const tool_file_t *file)
{
    slotmem_file_layout_t layout;
    apr_off_t end;

    slotmem_file_layout(&layout, file->geometry.item_size,
                        file->result.item_num);
    end = layout.image_len;
    if (tool_file_has_claims(&file->geometry)
        && file->result.file_state.verified) {
        return 0;               /* a file of this module has no such bytes */
    }
    /* A file without a descriptor is shorter. */
    return file->result.file_state.size > end
               ? file->result.file_state.size - end
               : 0;
}

int tool_file_is_same(const slotmem_file_state_t *a,
                      const slotmem_file_state_t *b)
{
    return a->inode == b->inode && a->device == b->device && a->size == b->size
           && a->ctime == b->ctime;
}

/* Did all passes read the same file? identified: the file from which the
 * geometry came; unused unless was_restored */
static int saw_one_file(const tool_file_t *file, int was_restored,
                        const slotmem_file_state_t *identified)
{
    const slotmem_file_state_t *last = &file->result.file_state;
    apr_finfo_t info;

    if (was_restored) {
        return tool_file_is_same(identified, last);
    }
    return apr_stat(&info, file->path, APR_FINFO_LINK | APR_FINFO_TYPE
                                       | APR_FINFO_IDENT, file->pool)
           != APR_SUCCESS || info.filetype != APR_REG
           || (info.inode == last->inode && info.device == last->device);
}

/* Restore the file into memory of this process. */
static int restore_segment(tool_file_t *file)
{
    apr_status_t rv = slotmem_segment_create(&file->segment, &file->geometry,
                                             NULL, file->pool);

    if (rv != APR_SUCCESS) {
        return tool_file_set_verdict(file, TOOL_TROUBLE, rv,
                                     apr_psprintf(file->pool,
                                                  "cannot allocate %u slots of "
                                                  "%" APR_SIZE_T_FMT " bytes",
                                                  file->geometry.item_num,
                                                  file->geometry.item_size));
    }
    slotmem_restore(&file->result, &file->segment,
                    tool_file_has_claims(&file->geometry), NULL, file->path,
                    file->pool);
    return set_verdict_from_result(file);
}

static int restore_one_file(tool_file_t *file,
                            const tool_geometry_request_t *request)
{
    int i;

    for (i = 0; i < TOOL_READ_ATTEMPTS; i++) {
        int restorable = choose_geometry(file, request) == TOOL_GOOD;
        slotmem_file_state_t identified = file->result.file_state;

        if (restorable) {
            restore_segment(file);
        }
        if (saw_one_file(file, restorable, &identified)) {
            break;
        }
    }
    if (file->verdict == TOOL_GOOD) {
        file->ignored = count_ignored_bytes(file);
    }
    return file->verdict;
}

int tool_file_read(tool_file_t *file, const char *path,
                   const tool_geometry_request_t *request, apr_pool_t *pool)
{
    memset(file, 0, sizeof(*file));
    file->path = path;
    file->request = request;
    file->pool = pool;
    return restore_one_file(file, request);
}

int tool_file_check_slot(tool_file_t *file, apr_uint32_t slot)
{
    if (slot < file->result.item_num) {
        return 1;
    }
    tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                          apr_psprintf(file->pool,
                                       "there is no slot %u: it has %u slots",
                                       slot, file->result.item_num));
    return 0;
}

const unsigned char *tool_file_slot(const tool_file_t *file, apr_uint32_t slot)
{
    return (const unsigned char *)file->segment.slots
           + file->geometry.item_size * slot;
}

int tool_file_slot_is_zero(const tool_file_t *file, apr_uint32_t slot)
{
    const unsigned char *bytes = tool_file_slot(file, slot);
    apr_size_t size = file->geometry.item_size;
    apr_size_t i;

    for (i = 0; i < size && !bytes[i]; i++)
        ;
    return i == size;
}

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
 * tool_members.h: the workers, or the balancers, in a file of
 * mod_proxy_balancer. Nonces and secrets are not read.
 *
 * Concurrency: as in tool_file.h; all results come from one version of the
 * file.
 */

#ifndef TOOL_MEMBERS_H
#define TOOL_MEMBERS_H

#include "slotmem_workers.h"
#include "tool_file.h"

/** Process-local: the content of a file of mod_proxy_balancer. */
typedef struct tool_members_t {
    const tool_file_t *file;
    slotmem_slots_e slots;          /**< SLOTMEM_SLOTS_UNKNOWN: another
                                         consumer's, or see foreign */
    const char *foreign;            /**< why slots of mod_proxy_balancer are not
                                         decoded; or NULL */
    slotmem_image_t image;          /**< if slots are known */
    slotmem_labels_t labels;        /**< the same */
} tool_members_t;

/**
 * Read the content of a file that is TOOL_GOOD. If the file has changed, it is
 * read again.
 * @return 1; 0: its verdict is not TOOL_GOOD any more
 */
int tool_members_read(tool_members_t *members, tool_file_t *file);

/** @return the bytes of a slot of the image */
const void *tool_members_slot(const tool_members_t *members, apr_uint32_t id);

/** @return where the worker in a slot comes from */
slotmem_origin_e tool_members_origin(const tool_members_t *members,
                                     apr_uint32_t id);

/** Results of tool_members_find() that are no slot. */
#define TOOL_NOWHERE (APR_UINT32_MAX - 1)
#define TOOL_SEVERAL APR_UINT32_MAX

/** @return the slot of the worker with that URL, as shown or as configured;
 *          TOOL_NOWHERE: none; TOOL_SEVERAL: more than one */
apr_uint32_t tool_members_find(const tool_members_t *members, const char *url);

/** @return the virtual host of a file, as HOST:PORT; "-": not known */
const char *tool_members_host(const tool_members_t *members);

/** Numbers of workers. */
typedef struct tool_count_t {
    apr_uint32_t workers;
    apr_uint32_t drained;
    apr_uint32_t unusable;          /**< disabled, stopped or in error */
    apr_uint32_t run_time;          /**< added at run time */
} tool_count_t;

/** Add the workers of a file to a count. */
void tool_members_count(tool_count_t *count, const tool_members_t *members);

/** @return the content of a file that is TOOL_GOOD, in a few words */
const char *tool_members_summary(const tool_members_t *members);

/** Write the workers as a field of JSON, or as lines of a table.
 *  @param with_heads 1: start with a line of column titles
 *  @param with_file 1: the table has a column with the file */
void tool_members_report(const tool_members_t *members, int with_heads,
                         int with_file);

#endif /* TOOL_MEMBERS_H */

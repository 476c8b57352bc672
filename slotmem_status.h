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
 * slotmem_status.h: what the operator sees of the segments: a section on
 * mod_status's page, lines in its machine readable form (?auto), and JSON.
 *
 * Concurrency: called by children, for requests. What they show is what they
 * inherited by fork, and the in-use map; of the last store they show what the
 * parent published (slotmem_report_t), which other children can overwrite: it
 * is shown and used for nothing else. No byte of a slot is shown.
 */

#ifndef SLOTMEM_STATUS_H
#define SLOTMEM_STATUS_H

#include "httpd.h"

#include "slotmem_persist.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** The handler of the JSON form, for SetHandler. */
#define SLOTMEM_STATUS_HANDLER "slotmem-status"

/** Start anew, with no segment. @param pool lasts as long as the generation;
 *  NULL: the generation has ended */
void slotmem_status_reset(apr_pool_t *pool);

/**
 * Show a segment from now on. Before the MPM runs.
 * @param segment and what follows must last as long as the generation
 * @param name as created, or NULL: anonymous
 * @param persist NULL: it is in no file
 */
void slotmem_status_add(const slotmem_segment_t *segment, const char *name,
                        const slotmem_persist_entry_t *persist);

/**
 * Write a section of mod_status's page: the segments that were created before
 * the MPM ran. What children create at run time is not shown.
 * @param flags mod_status's: AP_STATUS_SHORT for ?auto, AP_STATUS_NOTABLE
 */
void slotmem_status_section(request_rec *r, int flags);

/** Answer a request with the same figures in JSON. */
int slotmem_status_json(request_rec *r);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STATUS_H */

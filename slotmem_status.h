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
#include "apr_tables.h"

#include "slotmem_persist.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** The handler of the JSON form, for SetHandler. */
#define SLOTMEM_STATUS_HANDLER "slotmem-status"

/** Process-local: one segment to be shown. */
typedef struct slotmem_status_entry_t {
    const slotmem_segment_t *segment;
    const char *name;           /**< as created, or NULL: anonymous */
    const slotmem_persist_entry_t *persist; /**< NULL: in no file */
} slotmem_status_entry_t;

/**
 * Write a section of mod_status's page.
 * @param entries of slotmem_status_entry_t; is sorted by name
 * @param flags mod_status's: AP_STATUS_SHORT for ?auto, AP_STATUS_NOTABLE
 */
void slotmem_status_section(request_rec *r, apr_array_header_t *entries,
                            int flags);

/** Answer a request with the same figures in JSON. */
int slotmem_status_json(request_rec *r, apr_array_header_t *entries);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STATUS_H */

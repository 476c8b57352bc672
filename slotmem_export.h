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
 * slotmem_export.h: the figures of slotmem_status.h for programs: the lines of
 * mod_status's ?auto, and the JSON and metrics of the handler slotmem-status.
 *
 * Concurrency: called by children, for requests.
 */

#ifndef SLOTMEM_EXPORT_H
#define SLOTMEM_EXPORT_H

#include "httpd.h"

#include "slotmem_status.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** The handler of JSON and metrics, for SetHandler. */
#define SLOTMEM_STATUS_HANDLER "slotmem-status"

/** Write the lines of ?auto. Each key starts with ModSlotmem: a program is
 *  known that takes a line after the scoreboard for a part of it if the line
 *  starts with one of the scoreboard's letters. */
void slotmem_export_auto(request_rec *r);

/** Answer a request to the handler: with metrics for the query ?metrics,
 *  otherwise with JSON. */
int slotmem_export_answer(request_rec *r);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_EXPORT_H */

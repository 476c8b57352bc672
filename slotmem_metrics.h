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
 * slotmem_metrics.h: the figures of slotmem_status.h in the text format of
 * Prometheus and OpenMetrics.
 *
 * Concurrency: called by children, for requests.
 */

#ifndef SLOTMEM_METRICS_H
#define SLOTMEM_METRICS_H

#include "httpd.h"

#include "slotmem_status.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Write all metrics, as text that is valid in both formats. */
void slotmem_metrics_write(request_rec *r);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_METRICS_H */

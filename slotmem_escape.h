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
 * slotmem_escape.h: escapes text for a JSON string, a label's value or a line.
 * Names come from the configuration, from file systems and from other modules,
 * so they can have any bytes.
 *
 * Concurrency: no state. Needs only APR.
 */

#ifndef SLOTMEM_ESCAPE_H
#define SLOTMEM_ESCAPE_H

#include "apr_pools.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** @return the text for use between the quotes of a JSON string. Bytes that are
 *  not UTF-8 become U+FFFD, the replacement character. */
const char *slotmem_escape_json(const char *text, apr_pool_t *pool);

/** @return the text for use between the quotes of a label's value, in the text
 *  format of Prometheus and OpenMetrics. Control characters, bytes that are not
 *  UTF-8, and a backslash before an x become a backslash and xNN. Different
 *  texts stay different. */
const char *slotmem_escape_label(const char *text, apr_pool_t *pool);

/** @return the text on one line: control characters become \xNN. */
const char *slotmem_escape_line(const char *text, apr_pool_t *pool);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_ESCAPE_H */

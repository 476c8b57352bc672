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
 * slotmem_page.h: the figures of slotmem_status.h as a section of mod_status's
 * page.
 *
 * Concurrency: called by children, for requests.
 */

#ifndef SLOTMEM_PAGE_H
#define SLOTMEM_PAGE_H

#include "httpd.h"

#include "slotmem_status.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Write the section. @param with_table 0: the request asks mod_status for a
 *  page without tables */
void slotmem_page_write(request_rec *r, int with_table);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PAGE_H */

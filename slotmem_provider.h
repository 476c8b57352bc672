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
 * slotmem_provider.h: the provider, which other modules look up by one of the
 * names in mod_slotmem_shm.h. httpd's ap_slotmem.h and part D of
 * docs/contract.md describe its calls; docs/authors.md says when they may be
 * made.
 */

#ifndef SLOTMEM_PROVIDER_H
#define SLOTMEM_PROVIDER_H

#include "ap_slotmem.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Constant, and the same for both names. */
extern const ap_slotmem_provider_t slotmem_shm_provider;

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_PROVIDER_H */

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
 * tool_types.h: the names of the flags in a segment's type, for the output and
 * for --type.
 *
 * Both functions may be called at any time.
 */

#ifndef TOOL_TYPES_H
#define TOOL_TYPES_H

#include "apr_pools.h"

/** @return the names of a type's flags, separated by commas. Flags without a
 *  name, and a type without flags, become a hexadecimal number. */
const char *tool_type_names(apr_uint32_t type, apr_pool_t *pool);

/** @return the flag with that name, or 0 */
apr_uint32_t tool_type_flag(const char *name);

#endif /* TOOL_TYPES_H */

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
 * tool_types.c: the type flags and their names; see tool_types.h.
 */

#include "tool_types.h"

#include <string.h>

#include "apr_strings.h"

#include "ap_slotmem.h"

static const struct {
    const char *name;
    apr_uint32_t flag;
} type_flags[] = {
    { "persist", AP_SLOTMEM_TYPE_PERSIST },
    { "notmpsafe", AP_SLOTMEM_TYPE_NOTMPSAFE },
    { "pregrab", AP_SLOTMEM_TYPE_PREGRAB },
    { "clearinuse", AP_SLOTMEM_TYPE_CLEARINUSE }
};
#define NUM_TYPE_FLAGS (sizeof(type_flags) / sizeof(*type_flags))

const char *tool_type_names(apr_uint32_t type, apr_pool_t *pool)
{
    const char *names = "";
    apr_size_t i;

    for (i = 0; i < NUM_TYPE_FLAGS; i++) {
        if (type & type_flags[i].flag) {
            names = apr_pstrcat(pool, names, *names ? "," : "",
                                type_flags[i].name, NULL);
            type &= ~type_flags[i].flag;
        }
    }
    return type || !*names ? apr_psprintf(pool, "%s%s0x%x", names,
                                          *names ? "," : "", type) : names;
}

apr_uint32_t tool_type_flag(const char *name)
{
    apr_size_t i;

    for (i = 0; i < NUM_TYPE_FLAGS; i++) {
        if (strcmp(name, type_flags[i].name) == 0) {
            return type_flags[i].flag;
        }
    }
    return 0;
}

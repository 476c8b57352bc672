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
 * slotmem_names.c: which persisted files belong to a server; see
 * slotmem_names.h.
 */

#include <string.h>

#include "apr_lib.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_names.h"

#define HEAD "slotmem-names 1\n"
#define PREFIX "slotmem-shm-"
#define SUFFIX ".names"

int slotmem_names_is_list(const char *name)
{
    size_t len = strlen(name);

    return len > sizeof(PREFIX) + sizeof(SUFFIX) - 2
           && strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0
           && strcmp(name + len - (sizeof(SUFFIX) - 1), SUFFIX) == 0;
}

const char *slotmem_names_list(const char *text, apr_pool_t *pool)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];

    apr_md5(digest, text, strlen(text));
    return apr_psprintf(pool, PREFIX "%02x%02x%02x%02x" SUFFIX, digest[0],
                        digest[1], digest[2], digest[3]);
}

apr_status_t slotmem_names_read(apr_hash_t *names,
                                const slotmem_directory_t *directory,
                                const char *path, const char **reason,
                                apr_pool_t *pool)
{
    struct stat info;
    char *text;
    char *state;
    char *name;
    apr_status_t rv = slotmem_beside_read(directory, path, &text, &info, reason,
                                          pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (strncmp(text, HEAD, sizeof(HEAD) - 1) != 0) {
        *reason = "it is not a list of names";
        return APR_EGENERAL;
    }
    for (name = apr_strtok(text + sizeof(HEAD) - 1, "\n", &state); name;
         name = apr_strtok(NULL, "\n", &state)) {
        apr_hash_set(names, name, APR_HASH_KEY_STRING, name);
    }
    return APR_SUCCESS;
}

static int is_plain(const char *name)
{
    while (*name && !apr_iscntrl(*name)) {
        name++;
    }
    return !*name;
}

void slotmem_names_write(const slotmem_directory_t *directory,
                         const char *path, const apr_array_header_t *names,
                         const char *token, apr_pool_t *pool)
{
    apr_array_header_t *lines = apr_array_make(pool, 2 * names->nelts + 1,
                                               sizeof(const char *));
    struct stat info;
    const char *reason;
    const char *text;
    char *before;
    int i;

    APR_ARRAY_PUSH(lines, const char *) = HEAD;
    for (i = 0; i < names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);

        if (is_plain(name)) {
            APR_ARRAY_PUSH(lines, const char *) = name;
            APR_ARRAY_PUSH(lines, const char *) = "\n";
        }
    }
    text = apr_array_pstrcat(pool, lines, 0);
    if (slotmem_beside_read(directory, path, &before, &info, &reason,
                            pool) != APR_SUCCESS
        || strcmp(before, text) != 0) {
        slotmem_beside_write(directory, path, text, token, pool);
    }
}

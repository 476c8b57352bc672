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
 * slotmem_names.c: the names of the module's files; see slotmem_names.h.
 */

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "apr_lib.h"
#include "apr_md5.h"
#include "apr_strings.h"

#include "slotmem_format.h"
#include "slotmem_names.h"

#define HEAD "slotmem-names 1\n"
#define PREFIX "slotmem-shm-"
#define SUFFIX ".names"
#define TEMPORARY ".tmp-"

/* In seconds: a process that is not killed writes a small file sooner. */
#define BESIDE_AGE 60

static int starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The last place in a text, or NULL. */
static const char *find_last(const char *text, const char *part)
{
    const char *last = NULL;

    while ((text = strstr(text, part)) != NULL) {
        last = text++;
    }
    return last;
}

/* rest: what follows the name of a persisted file */
static slotmem_name_e kind_of_rest(const char *rest)
{
    return !*rest ? SLOTMEM_NAME_PERSISTED
           : strcmp(rest, SLOTMEM_BACKUP_SUFFIX) == 0
             || strcmp(rest, SLOTMEM_RETIRED_SUFFIX) == 0
             || (starts_with(rest, ".bad-") && apr_isdigit(rest[5])
                 && !rest[6]) ? SLOTMEM_NAME_KEPT
           : strcmp(rest, SLOTMEM_REMOVAL_SUFFIX) == 0 ? SLOTMEM_NAME_REMOVAL
           : starts_with(rest, TEMPORARY) ? SLOTMEM_NAME_TEMPORARY
           : starts_with(rest, SLOTMEM_REMOVAL_SUFFIX TEMPORARY)
             ? SLOTMEM_NAME_BESIDE
           : SLOTMEM_NAME_OTHER;
}

/* The last suffix counts: the name of a segment can have the others in it. */
slotmem_name_e slotmem_names_kind(const char *name, apr_size_t *owner_len)
{
    const char *end = find_last(name, SLOTMEM_FILE_SUFFIX);

    if (end && end > name) {
        end += strlen(SLOTMEM_FILE_SUFFIX);
        *owner_len = (apr_size_t)(end - name);
        return kind_of_rest(end);
    }
    end = starts_with(name, PREFIX) ? find_last(name, SUFFIX) : NULL;
    if (!end || end < name + sizeof(PREFIX)) {
        return SLOTMEM_NAME_OTHER;
    }
    end += strlen(SUFFIX);
    *owner_len = (apr_size_t)(end - name);
    return !*end ? SLOTMEM_NAME_LIST
           : starts_with(end, TEMPORARY) ? SLOTMEM_NAME_BESIDE
           : SLOTMEM_NAME_OTHER;
}

int slotmem_names_is_orphan(apr_hash_t *names,
                            const slotmem_directory_t *directory,
                            const char *name)
{
    apr_size_t len = 0;
    slotmem_name_e kind = slotmem_names_kind(name, &len);
    struct stat info;

    if (kind == SLOTMEM_NAME_OTHER || kind == SLOTMEM_NAME_LIST
        || (kind != SLOTMEM_NAME_KEPT && kind != SLOTMEM_NAME_BESIDE
            && apr_hash_get(names, name, (apr_ssize_t)len))
        || fstatat(directory->fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return 0;
    }
    return !S_ISDIR(info.st_mode)
           && (kind != SLOTMEM_NAME_BESIDE
               || time(NULL) - info.st_mtime > BESIDE_AGE);
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

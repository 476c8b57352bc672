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
 * slotmem_removal.c: workers that the next restart removes; see
 * slotmem_removal.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "apr_lib.h"
#include "apr_strings.h"

#include "slotmem_format.h"
#include "slotmem_removal.h"

#define HEAD "slotmem-removal 1"

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* Parse "ID URL". Returns 0 for any other line. */
static int parse_line(slotmem_removal_worker_t *worker, const char *line)
{
    int i;

    memset(worker, 0, sizeof(*worker));
    for (i = 0; i < SLOTMEM_WORKER_ID; i++) {
        int high = hex_digit(line[0]);
        int low = high < 0 ? -1 : hex_digit(line[1]);

        if (low < 0) {
            return 0;
        }
        worker->id[i] = (unsigned char)(high << 4 | low);
        line += 2;
    }
    worker->url = line + 1;
    return *line == ' ' && line[1];
}

/* Parse a whole file. Returns 0 if any line is wrong. */
static int parse(slotmem_removal_t *removal, char *text)
{
    char *line = text;
    int first = 1;

    while (*line) {
        char *end = strchr(line, '\n');
        slotmem_removal_worker_t worker;
        char *at;

        if (!end) {
            return 0;
        }
        *end = '\0';
        for (at = line; at < end; at++) {
            if (apr_iscntrl(*at)) {
                return 0;
            }
        }
        if (first ? strcmp(line, HEAD) != 0 : !parse_line(&worker, line)) {
            return 0;
        }
        if (!first) {
            APR_ARRAY_PUSH(removal->workers, slotmem_removal_worker_t)
                = worker;
        }
        first = 0;
        line = end + 1;
    }
    return !first;
}

slotmem_removal_t *slotmem_removal_make(slotmem_directory_t *directory,
                                        const char *path, apr_pool_t *pool)
{
    slotmem_removal_t *removal = apr_pcalloc(pool, sizeof(*removal));

    removal->directory = directory;
    removal->path = apr_pstrcat(pool, path, SLOTMEM_REMOVAL_SUFFIX, NULL);
    removal->workers = apr_array_make(pool, 4,
                                      sizeof(slotmem_removal_worker_t));
    return removal;
}

slotmem_removal_t *slotmem_removal_read(slotmem_directory_t *directory,
                                        const char *path,
                                        apr_status_t *status,
                                        const char **reason, apr_pool_t *pool)
{
    slotmem_removal_t *removal = slotmem_removal_make(directory, path, pool);
    char *text;
    apr_status_t rv = slotmem_beside_read(directory, removal->path, &text,
                                          &removal->info, reason, pool);

    *status = rv == APR_EGENERAL ? APR_SUCCESS : rv;
    if (rv == APR_SUCCESS && parse(removal, text)) {
        *reason = NULL;
        return removal;
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        *status = APR_SUCCESS;
        *reason = NULL;
    }
    else if (rv == APR_SUCCESS) {
        *reason = "its lines do not have the form that slotmem-file writes";
    }
    return NULL;
}

apr_status_t slotmem_removal_write(const slotmem_removal_t *removal,
                                   const char *token, apr_pool_t *pool)
{
    apr_array_header_t *lines = apr_array_make(pool,
                                               removal->workers->nelts + 1,
                                               sizeof(const char *));
    const char *name;
    int at = slotmem_directory_fd(removal->directory, removal->path, &name);
    int i;

    if (!removal->workers->nelts) {
        return unlinkat(at, name, 0) == 0 || errno == ENOENT ? APR_SUCCESS
                                                             : errno;
    }
    APR_ARRAY_PUSH(lines, const char *) = HEAD "\n";
    for (i = 0; i < removal->workers->nelts; i++) {
        const slotmem_removal_worker_t *worker =
            &APR_ARRAY_IDX(removal->workers, i, slotmem_removal_worker_t);
        char id[2 * SLOTMEM_WORKER_ID + 1];
        apr_size_t k;

        for (k = 0; k < SLOTMEM_WORKER_ID; k++) {
            apr_snprintf(id + 2 * k, 3, "%02x", worker->id[k]);
        }
        APR_ARRAY_PUSH(lines, const char *) = apr_pstrcat(pool, id, " ",
                                                          worker->url, "\n",
                                                          NULL);
    }
    return slotmem_beside_write(removal->directory, removal->path,
                                apr_array_pstrcat(pool, lines, 0), token,
                                pool);
}

slotmem_removal_worker_t *slotmem_removal_find(const slotmem_removal_t *removal,
                                               const void *slot)
{
    unsigned char id[SLOTMEM_WORKER_ID];
    int i;

    if (!removal || !slotmem_worker_identify(id, slot)) {
        return NULL;
    }
    for (i = 0; i < removal->workers->nelts; i++) {
        slotmem_removal_worker_t *worker =
            &APR_ARRAY_IDX(removal->workers, i, slotmem_removal_worker_t);

        if (memcmp(worker->id, id, sizeof(id)) == 0) {
            return worker;
        }
    }
    return NULL;
}

void slotmem_removal_retire(const slotmem_removal_t *removal)
{
    slotmem_distrust_t distrust;
    struct stat info;
    const char *name;

    if (slotmem_directory_open(removal->directory, 0, &distrust)
        != APR_SUCCESS) {
        return;
    }
    slotmem_directory_fd(removal->directory, removal->path, &name);
    if (fstatat(removal->directory->fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0
        && info.st_ino == removal->info.st_ino
        && info.st_dev == removal->info.st_dev
        && info.st_ctim.tv_sec == removal->info.st_ctim.tv_sec
        && info.st_ctim.tv_nsec == removal->info.st_ctim.tv_nsec) {
        unlinkat(removal->directory->fd, name, 0);
    }
}

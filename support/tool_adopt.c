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
 * tool_adopt.c: "adopt", which renames a file so that a renamed virtual host or
 * balancer keeps its state.
 *
 * Crash: NEW is the old file or the new one. NEW.bak is written before NEW is
 * replaced.
 *
 * Concurrency: the locks of both names are taken before the files are checked,
 * and held until the process ends, so that no server stores them meanwhile.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apr_file_info.h"
#include "apr_strings.h"

#include "slotmem_format.h"
#include "tool_change.h"
#include "tool_command.h"
#include "tool_directory.h"
#include "tool_output.h"
#include "tool_report.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* The persisted file whose lock also guards this one (P for P.bak), or NULL. */
static const char *guarded_name(const char *path, apr_pool_t *pool)
{
    const char *slash = strrchr(path, '/');
    const char *end = strstr(slash ? slash : path, SLOTMEM_FILE_SUFFIX);

    return end ? apr_pstrmemdup(pool, path, (apr_size_t)(end - path)
                                + strlen(SLOTMEM_FILE_SUFFIX)) : NULL;
}

static int set_reason(tool_file_t *file, int verdict, apr_status_t rv,
                      const char *reason)
{
    tool_file_set_verdict(file, verdict, rv, reason);
    return 0;
}

static int begin(tool_file_t *old, const char *guard, const char *path)
{
    apr_status_t rv = APR_SUCCESS;
    const char *reason = tool_change_begin(old->path, old->pool);

    if (!reason) {
        reason = tool_change_lock(guard, &rv, old->pool);
    }
    if (!reason && strcmp(guard, path) != 0) {
        reason = tool_change_lock(path, &rv, old->pool);
        if (reason) {
            reason = apr_pstrcat(old->pool, path, ": ", reason, NULL);
        }
    }
    return reason ? set_reason(old, TOOL_TROUBLE, rv, reason) : 1;
}

/* If there is a file with the new name, does it have slots of the same size and
 * type, and is it another file? rename() does nothing to two links to one file,
 * and the earlier .bak would be lost for nothing. */
static int check_new(tool_file_t *old, const char *path, int *exists)
{
    apr_finfo_t info;
    tool_file_t file;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_LINK | APR_FINFO_TYPE
                                            | APR_FINFO_IDENT, old->pool);

    *exists = !APR_STATUS_IS_ENOENT(rv);
    if (!*exists) {
        return 1;
    }
    if (rv == APR_SUCCESS && info.inode == old->result.file_state.inode
        && info.device == old->result.file_state.device) {
        return set_reason(old, TOOL_REFUSED, APR_SUCCESS, apr_pstrcat(
                              old->pool, path, " is the same file", NULL));
    }
    if (tool_file_read(&file, path, &tool_as_file_says, old->pool)
            == TOOL_TROUBLE
        || !file.has_geometry) {
        return set_reason(old, TOOL_REFUSED, file.status, apr_psprintf(
                              old->pool, "will not replace %s: %s", path,
                              file.reason));
    }
    if (file.geometry.item_size != old->geometry.item_size
        || file.geometry.type != old->geometry.type) {
        return set_reason(old, TOOL_REFUSED, APR_SUCCESS, apr_pstrcat(
                              old->pool, path, " has slots of another size or "
                              "type", NULL));
    }
    return 1;
}

static void sync_directory(const char *path)
{
    apr_status_t rv;
    slotmem_directory_t *directory = tool_change_directory(path, &rv);

    if (directory) {
        fsync(directory->fd);
    }
}

/* If OLD is NEW.bak, exchange the two by means of a third name. */
static int rename_file(tool_file_t *old, const char *path, int exists)
{
    const char *backup = apr_pstrcat(old->pool, path, SLOTMEM_BACKUP_SUFFIX,
                                     NULL);
    int exchange = exists && strcmp(backup, old->path) == 0;
    const char *kept = exchange
        ? apr_pstrcat(old->pool, path, ".tmp-", tool_change_token(old->pool),
                      NULL) : backup;

    if (exists && ((unlink(kept) != 0 && errno != ENOENT)
                   || link(path, kept) != 0)) {
        return set_reason(old, TOOL_TROUBLE, errno, apr_pstrcat(
                              old->pool, "cannot keep ", path, " as ", kept,
                              NULL));
    }
    if (rename(old->path, path) != 0) {
        return set_reason(old, TOOL_TROUBLE, errno, apr_pstrcat(
                              old->pool, "cannot be renamed to ", path, NULL));
    }
    if (exchange && rename(kept, backup) != 0) {
        return set_reason(old, TOOL_TROUBLE, errno, apr_pstrcat(
                              old->pool, "was renamed; ", kept,
                              " cannot be renamed to ", backup, NULL));
    }
    sync_directory(old->path);
    sync_directory(path);
    return 1;
}

static int adopt(const tool_options_t *options, apr_pool_t *pool)
{
    const char *path = options->paths[1];
    const char *guard = guarded_name(options->paths[0], pool);
    tool_file_t old;
    int exists = 0;
    int done;

    if (!guard || !tool_ends_with(path, SLOTMEM_FILE_SUFFIX)
        || strcmp(path, options->paths[0]) == 0) {
        return tool_usage_error("adopt takes two files, and the name of the "
                                "second must end in " SLOTMEM_FILE_SUFFIX);
    }
    done = tool_file_read(&old, options->paths[0], &tool_as_file_says, pool)
               == TOOL_GOOD
           && check_new(&old, path, &exists) && begin(&old, guard, path)
           && tool_file_read(&old, options->paths[0], &tool_as_file_says, pool)
                  == TOOL_GOOD
           && check_new(&old, path, &exists)
           && rename_file(&old, path, exists);
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_verdict(&old);
        tool_text_field("new", path);
    }
    else if (done) {
        tool_print_text(stdout, path);
        fputs(": now has the state of ", stdout);
        tool_print_text(stdout, old.path);
        puts(exists ? "; its earlier state is kept as .bak" : "");
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (!done) {
        tool_report_error(&old);
    }
    return old.verdict;
}

const tool_command_t tool_adopt = {
    .name = "adopt",
    .arguments = "[--json] OLD NEW",
    .summary = "renames OLD to NEW while the server is stopped, so that a\n"
               "           renamed virtual host or balancer keeps its state",
    .num_paths = 2,
    .run = adopt
};

/* NOLINTEND(cert-err33-c) */

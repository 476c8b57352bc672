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
 * tool_remove.c: "remove", which requests that the next restart leaves out a
 * worker; see slotmem_removal.h.
 *
 * Crash: the request is the old one or the new one.
 *
 * Concurrency: the server runs, and may store the file or delete the request
 * meanwhile. If two of these commands run at once, the last one wins.
 */

#include <stdio.h>
#include <string.h>

#include "apr_strings.h"

#include "slotmem_removal.h"
#include "tool_change.h"
#include "tool_command.h"
#include "tool_members.h"
#include "tool_output.h"
#include "tool_report.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

/* Process-local: the state of the command. */
typedef struct request_t {
    tool_file_t file;
    tool_members_t members;
    slotmem_removal_t *removal;
    slotmem_directory_t *directory;
    int has_changed;                /* 1: the removal must be written */
} request_t;

static slotmem_removal_worker_t *worker_at(const slotmem_removal_t *removal,
                                           int i)
{
    return &APR_ARRAY_IDX(removal->workers, i, slotmem_removal_worker_t);
}

static int refuse(request_t *request, const char *reason)
{
    return tool_file_set_verdict(&request->file, TOOL_REFUSED, APR_SUCCESS,
                                 reason);
}

/* Read the removals that were requested before. */
static int read_removal(request_t *request)
{
    tool_file_t *file = &request->file;
    const char *reason = NULL;
    apr_status_t rv;

    request->directory = tool_change_directory(file->path, &rv);
    if (!request->directory) {
        return tool_file_set_verdict(file, TOOL_TROUBLE, rv,
                                     "its directory cannot be opened");
    }
    request->removal = slotmem_removal_read(request->directory, file->path,
                                            &rv, &reason, file->pool);
    if (reason) {
        return tool_file_set_verdict(
            file, TOOL_TROUBLE, rv,
            apr_pstrcat(file->pool, SLOTMEM_REMOVAL_SUFFIX " beside it: ",
                        reason, NULL));
    }
    if (!request->removal) {
        request->removal = slotmem_removal_make(request->directory,
                                                file->path, file->pool);
    }
    return TOOL_GOOD;
}

/* Drop the requests for workers that are gone: somebody may add one again. */
static void prune(request_t *request)
{
    slotmem_removal_t *removal = request->removal;
    apr_uint32_t num = request->members.image.segment.geometry.item_num;
    apr_uint32_t id;
    int kept = 0;
    int i;

    for (id = 0; id < num; id++) {
        slotmem_removal_worker_t *worker = slotmem_removal_find(
            removal, tool_members_slot(&request->members, id));

        if (worker && tool_members_origin(&request->members, id)
                      == SLOTMEM_ORIGIN_RUN_TIME) {
            worker->outcome = SLOTMEM_REMOVAL_DONE;
        }
    }
    for (i = 0; i < removal->workers->nelts; i++) {
        if (worker_at(removal, i)->outcome == SLOTMEM_REMOVAL_DONE) {
            *worker_at(removal, kept++) = *worker_at(removal, i);
        }
    }
    removal->workers->nelts = kept;
}

static int add(request_t *request, const char *url)
{
    const tool_members_t *members = &request->members;
    apr_uint32_t id = tool_members_find(members, url);
    slotmem_removal_worker_t added;
    slotmem_worker_t worker;
    const void *slot;

    if (id >= members->image.segment.geometry.item_num) {
        return refuse(request, id == TOOL_SEVERAL
                      ? "it has more than one worker with that URL: give it "
                        "with user and password"
                      : "it has no worker with that URL; a worker that was "
                        "just added is there after the next store");
    }
    if (tool_members_origin(members, id) != SLOTMEM_ORIGIN_RUN_TIME) {
        return refuse(request, members->image.has_section
                      ? "the worker is in the configuration: remove it there"
                      : "the distributed module stored it, so it is not known "
                        "where the worker comes from");
    }
    prune(request);
    slot = tool_members_slot(members, id);
    if (!slotmem_removal_find(request->removal, slot)) {
        slotmem_worker_read(&worker, slot, request->file.pool);
        slotmem_worker_identify(added.id, slot);
        added.url = worker.url;
        APR_ARRAY_PUSH(request->removal->workers, slotmem_removal_worker_t)
            = added;
    }
    request->has_changed = 1;
    return TOOL_GOOD;
}

/* url: NULL: cancel all */
static int cancel(request_t *request, const char *url)
{
    slotmem_removal_t *removal = request->removal;
    int before = removal->workers->nelts;
    int kept = 0;
    int i;

    for (i = 0; i < before; i++) {
        const char *shown = worker_at(removal, i)->url;

        if (url && strcmp(shown, url) != 0
            && strcmp(shown, slotmem_display_url(url, request->file.pool))
               != 0) {
            *worker_at(removal, kept++) = *worker_at(removal, i);
        }
    }
    removal->workers->nelts = kept;
    request->has_changed = kept < before;
    return request->has_changed
           ? TOOL_GOOD : refuse(request, "no such removal is requested");
}

static int write_removal(request_t *request)
{
    tool_file_t *file = &request->file;
    apr_status_t rv = slotmem_removal_write(request->removal,
                                            tool_change_token(file->pool),
                                            file->pool);

    return rv == APR_SUCCESS
           ? TOOL_GOOD
           : tool_file_set_verdict(file, TOOL_TROUBLE, rv, "cannot write "
                                   SLOTMEM_REMOVAL_SUFFIX " beside it");
}

static void report(const request_t *request)
{
    const slotmem_removal_t *removal = request->removal;
    int i;

    tool_begin_list("removals");
    for (i = 0; removal && i < removal->workers->nelts; i++) {
        if (!tool_output_is_json()) {
            tool_print_text(stdout, request->file.path);
            fputs(": the next restart will leave out ", stdout);
            tool_print_text(stdout, worker_at(removal, i)->url);
            putchar('\n');
            continue;
        }
        tool_begin_object();
        tool_text_field("worker", worker_at(removal, i)->url);
        tool_end_object();
    }
    tool_end_list();
    if (!tool_output_is_json() && removal && !removal->workers->nelts) {
        tool_print_text(stdout, request->file.path);
        puts(": no removal is requested");
    }
}

/* The file must have workers, also to cancel: otherwise the path is wrong. */
static int read_file(request_t *request, const char *path, apr_pool_t *pool)
{
    tool_file_t *file = &request->file;
    const char *reason;

    if (tool_file_read(file, path, &tool_as_file_says, pool) != TOOL_GOOD
        || !tool_members_read(&request->members, file)) {
        return file->verdict;
    }
    if (request->members.foreign) {
        return tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                                     request->members.foreign);
    }
    if (request->members.slots != SLOTMEM_SLOTS_WORKERS) {
        return refuse(request, "it has no workers");
    }
    reason = tool_change_begin(path, pool);
    if (reason) {
        return tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS, reason);
    }
    return read_removal(request);
}

static int remove_worker(const tool_options_t *options, apr_pool_t *pool)
{
    int cancels = options->given & TOOL_OPT_CANCEL;
    int lists = options->given & TOOL_OPT_LIST;
    request_t request;

    if ((cancels && lists) || (lists && options->worker)
        || (!cancels && !lists && !options->worker)) {
        return tool_usage_error("remove takes --worker, --list or --cancel");
    }
    memset(&request, 0, sizeof(request));
    if (read_file(&request, *options->paths, pool) == TOOL_GOOD && !lists
        && (cancels ? cancel(&request, options->worker)
                    : add(&request, options->worker)) == TOOL_GOOD) {
        write_removal(&request);
    }
    tool_begin_object();
    if (tool_output_is_json()) {
        tool_report_verdict(&request.file);
    }
    if (request.file.verdict == TOOL_GOOD) {
        report(&request);
    }
    tool_end_object();
    tool_output_if_json("\n");
    if (request.file.verdict != TOOL_GOOD) {
        tool_report_error(&request.file);
    }
    return request.file.verdict;
}

const tool_command_t tool_remove = {
    .name = "remove",
    .arguments = "[--json] --worker URL | --list | --cancel [--worker URL] "
                 "FILE",
    .summary = "requests that the next restart leaves out a worker that was\n"
               "           added at run time; for a running server",
    .num_paths = 1,
    .takes = TOOL_OPT_WORKER | TOOL_OPT_LIST | TOOL_OPT_CANCEL,
    .run = remove_worker
};

/* NOLINTEND(cert-err33-c) */

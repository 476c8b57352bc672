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
 * tool_members.c: the workers in a file; see tool_members.h.
 */

#include "tool_members.h"

#include <stdio.h>
#include <string.h>

#include "apr_strings.h"

#include "tool_output.h"

/* Writes are not checked one by one; tool_output_close() checks them all.
 * NOLINTBEGIN(cert-err33-c) */

static const char *foreign_layout(const tool_file_t *file)
{
    apr_size_t worker = slotmem_slots_size(SLOTMEM_SLOTS_WORKERS);

    if (!worker) {
        return "not decoded: this command was built without a known "
               "mod_proxy.h";
    }
    return apr_psprintf(file->pool, "not decoded: its slots have %"
                        APR_SIZE_T_FMT " bytes; in the httpd that this command "
                        "was built for, a worker has %" APR_SIZE_T_FMT
                        " bytes and a balancer %" APR_SIZE_T_FMT,
                        file->geometry.item_size, worker,
                        slotmem_slots_size(SLOTMEM_SLOTS_BALANCERS));
}

/* @return 1; 0: the file has been replaced */
static int read_image(tool_members_t *members, const tool_file_t *file)
{
    slotmem_restore_result_t result;

    slotmem_restore_image(&result, &members->image, &file->geometry, NULL,
                          file->path, file->pool);
    if (result.outcome != SLOTMEM_RESTORE_DONE
        || !tool_file_is_same(&result.file_state, &file->result.file_state)) {
        return 0;
    }
    slotmem_labels_read(&members->labels, members->image.labels,
                        members->image.labels_len, file->pool);
    return 1;
}

/* mod_proxy_balancer is the only known consumer that uses this type. A server
 * may store the file meanwhile: then it is read again. */
int tool_members_read(tool_members_t *members, tool_file_t *file)
{
    int i;

    for (i = 0; i < TOOL_READ_ATTEMPTS; i++) {
        memset(members, 0, sizeof(*members));
        members->file = file;
        if (!tool_file_has_claims(&file->geometry)) {
            return 1;
        }
        members->slots = slotmem_slots_of(file->geometry.item_size);
        if (members->slots == SLOTMEM_SLOTS_UNKNOWN) {
            members->foreign = foreign_layout(file);
            return 1;
        }
        if (read_image(members, file)) {
            return 1;
        }
        members->slots = SLOTMEM_SLOTS_UNKNOWN;
        if (tool_file_read(file, file->path, file->request, file->pool)
            != TOOL_GOOD) {
            return 0;
        }
    }
    tool_file_set_verdict(file, TOOL_TROUBLE, APR_SUCCESS,
                          "it changed while it was being read");
    return 0;
}

const void *tool_members_slot(const tool_members_t *members, apr_uint32_t id)
{
    const slotmem_segment_t *segment = &members->image.segment;

    return segment->slots + segment->geometry.item_size * id;
}

slotmem_origin_e tool_members_origin(const tool_members_t *members,
                                     apr_uint32_t id)
{
    return !members->image.has_section ? SLOTMEM_ORIGIN_UNKNOWN
           : slotmem_bit_test(members->image.claims, id)
             ? SLOTMEM_ORIGIN_RUN_TIME : SLOTMEM_ORIGIN_CONFIGURATION;
}

apr_uint32_t tool_members_find(const tool_members_t *members, const char *url)
{
    apr_uint32_t num = members->image.segment.geometry.item_num;
    apr_uint32_t found = TOOL_NOWHERE;
    apr_uint32_t id;

    for (id = 0; id < num; id++) {
        if (slotmem_worker_has_url(tool_members_slot(members, id), url,
                                   members->file->pool)) {
            found = found == TOOL_NOWHERE ? id : TOOL_SEVERAL;
        }
    }
    return found;
}

const char *tool_members_host(const tool_members_t *members)
{
    const slotmem_labels_t *labels = &members->labels;

    return !labels->server ? "-"
           : labels->port && strcmp(labels->port, "0") != 0
             ? apr_pstrcat(members->file->pool, labels->server, ":",
                           labels->port, NULL)
             : labels->server;
}

void tool_members_count(tool_count_t *count, const tool_members_t *members)
{
    apr_uint32_t num = members->slots == SLOTMEM_SLOTS_WORKERS
                       ? members->image.segment.geometry.item_num : 0;
    apr_uint32_t id;

    for (id = 0; id < num; id++) {
        slotmem_worker_t worker;

        if (slotmem_worker_read(&worker, tool_members_slot(members, id),
                                members->file->pool)) {
            count->workers++;
            count->drained += worker.is_drained != 0;
            count->unusable += !worker.is_usable;
            count->run_time += tool_members_origin(members, id)
                               == SLOTMEM_ORIGIN_RUN_TIME;
        }
    }
}

const char *tool_members_summary(const tool_members_t *members)
{
    const tool_file_t *file = members->file;
    tool_count_t count = { 0, 0, 0, 0 };

    if (members->slots == SLOTMEM_SLOTS_WORKERS) {
        tool_members_count(&count, members);
        return apr_psprintf(file->pool, "%u workers of %s, %u of them added at "
                            "run time; virtual host %s", count.workers,
                            members->labels.balancers
                            ? members->labels.balancers : "a balancer",
                            count.run_time, tool_members_host(members));
    }
    if (members->slots == SLOTMEM_SLOTS_BALANCERS) {
        return apr_psprintf(file->pool, "balancers of virtual host %s: %s",
                            tool_members_host(members),
                            members->labels.balancers
                            ? members->labels.balancers : "not known");
    }
    return apr_psprintf(file->pool, "%u slots of %" APR_SIZE_T_FMT " bytes",
                        file->result.item_num, file->geometry.item_size);
}

static const char *or_dash(const char *text)
{
    return text && *text ? text : "-";
}

/* ---- text ---- */

static void print_cell(const char *text, int width)
{
    tool_print_text(stdout, text);
    printf("%*s", width > (int)strlen(text) ? width - (int)strlen(text) : 0,
           "");
    fputs("  ", stdout);
}

static void print_heads(int with_file)
{
    fputs("virtual host          balancer          slot  worker"
          "                            status            factor  route     ",
          stdout);
    puts(with_file ? "origin         file" : "origin");
}

static void print_worker(const tool_members_t *members, apr_uint32_t id,
                         const slotmem_worker_t *worker, int with_file)
{
    const char *origin = slotmem_origin_name(tool_members_origin(members, id));

    print_cell(tool_members_host(members), 20);
    print_cell(or_dash(members->labels.balancers), 16);
    printf("%4u  ", id);
    print_cell(worker->url, 32);
    print_cell(worker->status, 16);
    printf("%6.2f  ", worker->factor);
    print_cell(or_dash(worker->route), 8);
    if (with_file) {
        print_cell(origin, 13);
        tool_print_text(stdout, members->file->path);
        putchar('\n');
    }
    else {
        puts(origin);
    }
}

/* ---- JSON ---- */

static void write_worker(const tool_members_t *members, apr_uint32_t id,
                         const slotmem_worker_t *worker)
{
    tool_begin_object();
    tool_text_field("virtual_host", or_dash(members->labels.server));
    tool_text_field("port", or_dash(members->labels.port));
    tool_text_field("balancer", or_dash(members->labels.balancers));
    tool_number_field("slot", id);
    tool_text_field("worker", worker->url);
    tool_text_field("status", worker->status);
    tool_text_field("flags", worker->flags);
    tool_begin_field("factor");
    printf("%.2f", worker->factor);
    tool_end_field();
    tool_text_field("route", worker->route);
    tool_text_field("redirect", worker->redirect);
    tool_begin_field("lbset");
    printf("%d", worker->lbset);
    tool_end_field();
    tool_number_field("elected", worker->elected);
    tool_text_field("origin",
                    slotmem_origin_name(tool_members_origin(members, id)));
    tool_end_object();
}

static void report_workers(const tool_members_t *members, int with_heads,
                           int with_file)
{
    apr_uint32_t num = members->image.segment.geometry.item_num;
    apr_pool_t *scratch;
    apr_uint32_t id;

    apr_pool_create(&scratch, members->file->pool);
    tool_begin_list("workers");
    if (with_heads && !tool_output_is_json()) {
        print_heads(with_file);
    }
    for (id = 0; id < num; id++) {
        slotmem_worker_t worker;

        apr_pool_clear(scratch);
        if (!slotmem_worker_read(&worker, tool_members_slot(members, id),
                                 scratch)) {
            continue;
        }
        if (tool_output_is_json()) {
            write_worker(members, id, &worker);
        }
        else {
            print_worker(members, id, &worker, with_file);
        }
    }
    tool_end_list();
    apr_pool_destroy(scratch);
}

/* The balancers of a server: only "show" prints them. */
static void report_balancers(const tool_members_t *members)
{
    apr_uint32_t num = members->image.segment.geometry.item_num;
    apr_uint32_t id;

    tool_begin_list("balancers");
    for (id = 0; id < num; id++) {
        slotmem_balancer_t balancer;

        if (!slotmem_balancer_read(&balancer, tool_members_slot(members, id),
                                   members->file->pool)) {
            continue;
        }
        tool_begin_object();
        tool_text_field("balancer", balancer.url);
        tool_text_field("segment", balancer.segment);
        tool_text_field("lbmethod", balancer.lbmethod);
        tool_end_object();
    }
    tool_end_list();
}

void tool_members_report(const tool_members_t *members, int with_heads,
                         int with_file)
{
    if (members->slots == SLOTMEM_SLOTS_WORKERS) {
        report_workers(members, with_heads, with_file);
    }
    else if (members->slots == SLOTMEM_SLOTS_BALANCERS) {
        report_balancers(members);
    }
    else if (members->foreign) {
        tool_text_field("workers", members->foreign);
    }
}

/* NOLINTEND(cert-err33-c) */

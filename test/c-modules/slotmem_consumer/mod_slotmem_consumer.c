/* Licensed under the Apache License, Version 2.0 (the "License"); you may not
 * use this file except in compliance with the License.  You may obtain a copy
 * of the License at
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/*
 * A consumer of the slotmem provider as third parties write them: it creates
 * segments at the end of post_config in each configuration pass, and more of
 * them in requests; and it does not care which pool it passes.
 *
 *   consumer-metrics   4 x 4 bytes, PREGRAB: counters, by dptr alone; no slot
 *                      is ever grabbed. Every virtual host creates it.
 *   consumer-table     8 rows, PERSIST: read and written by get and put, many
 *                      rows in one call. Attached in child_init.
 *   any other          counters that a request creates or attaches to
 *
 * The handler "slotmem-consumer" does what the query says and answers with
 * lines of key=value. With pid=N it does so in that child only; any other
 * child answers here=0.
 *
 *     do=count n=N              count N times over all metrics, then list them
 *     do=metrics                visit the metrics, by doall
 *     do=put id=I rows=K text=T put K rows, starting at row I, in one call
 *     do=get id=I rows=K        read them back in one call
 *     do=bump                   count in each row, by doall
 *     do=find text=T            the row that has this text, by doall
 *     do=create name=X size=S num=M n=N   make X, count N times in it
 *     do=attach name=X n=N      the same, if X exists
 */

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_protocol.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "util_script.h"
#include "apr_atomic.h"
#include "apr_strings.h"

#include <stdlib.h>
#include <unistd.h>

#define METRICS 4
#define ROWS 8

module AP_MODULE_DECLARE_DATA slotmem_consumer_module;

typedef struct {
    char text[20];
    apr_uint32_t count;
} row_t;

/* What doall looks for, and how many slots it has visited. */
typedef struct {
    const char *text;
    int passed;
} search_t;

static const ap_slotmem_provider_t *slotmem;
static ap_slotmem_instance_t *metrics, *table;

static int consumer_post_config(apr_pool_t *pconf, apr_pool_t *plog,
                                apr_pool_t *ptemp, server_rec *s)
{
    ap_slotmem_instance_t *first = NULL;
    apr_status_t rv;

    slotmem = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shm",
                                 AP_SLOTMEM_PROVIDER_VERSION);
    rv = !slotmem ? APR_ENOTIMPL
         : slotmem->create(&table, "consumer-table", sizeof(row_t), ROWS,
                           AP_SLOTMEM_TYPE_PERSIST, ptemp);
    for (; s && rv == APR_SUCCESS; s = s->next) {
        rv = slotmem->create(&metrics, "consumer-metrics",
                             sizeof(apr_uint32_t), METRICS,
                             AP_SLOTMEM_TYPE_PREGRAB, pconf);
        if (first && metrics != first) {
            rv = APR_EGENERAL;
        }
        first = metrics;
    }
    return rv == APR_SUCCESS ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

static void consumer_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_size_t size = 0;
    unsigned int num = 0;

    if (slotmem->attach(&table, "consumer-table", &size, &num, pchild)
            != APR_SUCCESS || size != sizeof(row_t) || num != ROWS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s,
                     "slotmem_consumer: the table is lost");
    }
}

static const char *text(apr_table_t *args, const char *key)
{
    return apr_table_get(args, key) ? apr_table_get(args, key) : "";
}

static unsigned int number(apr_table_t *args, const char *key)
{
    return (unsigned int)strtoul(text(args, key), NULL, 10);
}

/* Counts n times, over all counters in turn, and then lists them. */
static apr_status_t count(request_rec *r, ap_slotmem_instance_t *inst,
                          unsigned int n)
{
    unsigned int num = slotmem->num_slots(inst), i;
    apr_status_t rv = APR_SUCCESS;
    void *mem;

    for (i = 0; i < n && rv == APR_SUCCESS; i++) {
        rv = slotmem->dptr(inst, i % num, &mem);
        if (rv == APR_SUCCESS) {
            apr_atomic_inc32(mem);
        }
    }
    ap_rputs("counts=", r);
    for (i = 0; i < num && slotmem->dptr(inst, i, &mem) == APR_SUCCESS; i++) {
        ap_rprintf(r, i ? " %u" : "%u", apr_atomic_read32(mem));
    }
    ap_rprintf(r, "\nnum=%u\n", num);
    return rv;
}

static apr_status_t visit(void *mem, void *data, apr_pool_t *pool)
{
    ((search_t *)data)->passed++;
    return APR_SUCCESS;
}

static apr_status_t bump(void *mem, void *data, apr_pool_t *pool)
{
    apr_atomic_inc32(&((row_t *)mem)->count);
    return visit(mem, data, pool);
}

static apr_status_t match(void *mem, void *data, apr_pool_t *pool)
{
    if (strcmp(((row_t *)mem)->text, ((search_t *)data)->text) == 0) {
        return APR_EEXIST;
    }
    return visit(mem, data, pool);
}

static apr_status_t by_doall(request_rec *r, ap_slotmem_instance_t *inst,
                             ap_slotmem_callback_fn_t *call, const char *what)
{
    search_t search = { what, 0 };
    apr_status_t rv = slotmem->doall(inst, call, &search, r->pool);

    ap_rprintf(r, "passed=%d\nfree=%u\n", search.passed,
               slotmem->num_free_slots(inst));
    return rv;
}

/* Larger than the table, so that it is the provider that refuses. */
static apr_status_t rows(request_rec *r, apr_table_t *args, int is_put)
{
    row_t data[2 * ROWS] = { { "", 0 } };
    unsigned int id = number(args, "id"), i;
    unsigned int num = number(args, "rows") % (2 * ROWS);
    apr_status_t rv;

    if (is_put) {
        for (i = 0; i < num; i++) {
            apr_snprintf(data[i].text, sizeof(data[i].text), "%s%u",
                         text(args, "text"), id + i);
        }
        return slotmem->put(table, id, (unsigned char *)data,
                            num * sizeof(row_t));
    }
    rv = slotmem->get(table, id, (unsigned char *)data, num * sizeof(row_t));
    ap_rputs("rows=", r);
    for (i = 0; i < num; i++) {
        ap_rprintf(r, "%s:%u ", data[i].text, data[i].count);
    }
    ap_rputs("\n", r);
    return rv;
}

static apr_status_t named(request_rec *r, apr_table_t *args, int create)
{
    ap_slotmem_instance_t *inst = NULL;
    apr_size_t size = 0;
    unsigned int num = 0;
    apr_status_t rv;

    rv = create ? slotmem->create(&inst, text(args, "name"),
                                  number(args, "size"), number(args, "num"),
                                  0, r->pool)
         : slotmem->attach(&inst, text(args, "name"), &size, &num, r->pool);
    ap_rprintf(r, "inst=%s\n", inst ? "set" : "null");
    return rv == APR_SUCCESS ? count(r, inst, number(args, "n")) : rv;
}

static int consumer_handler(request_rec *r)
{
    const char *what;
    apr_table_t *args;
    apr_status_t rv;

    if (!r->handler || strcmp(r->handler, "slotmem-consumer") != 0) {
        return DECLINED;
    }
    ap_args_to_table(r, &args);
    ap_set_content_type(r, "text/plain");
    ap_rprintf(r, "pid=%ld\n", (long)getpid());
    if (number(args, "pid") && number(args, "pid") != (unsigned int)getpid()) {
        ap_rputs("here=0\n", r);
        return OK;
    }
    what = text(args, "do");
    rv = !strcmp(what, "count") ? count(r, metrics, number(args, "n"))
         : !strcmp(what, "metrics") ? by_doall(r, metrics, visit, "")
         : !strcmp(what, "put") ? rows(r, args, 1)
         : !strcmp(what, "get") ? rows(r, args, 0)
         : !strcmp(what, "bump") ? by_doall(r, table, bump, "")
         : !strcmp(what, "find") ? by_doall(r, table, match, text(args, "text"))
         : !strcmp(what, "create") ? named(r, args, 1)
         : !strcmp(what, "attach") ? named(r, args, 0) : APR_ENOTIMPL;
    ap_rprintf(r, "status=%s\n", rv == APR_SUCCESS ? "APR_SUCCESS"
               : rv == APR_EINVAL ? "APR_EINVAL"
               : rv == APR_EEXIST ? "APR_EEXIST" : "other");
    return OK;
}

static void register_hooks(apr_pool_t *p)
{
    ap_hook_post_config(consumer_post_config, NULL, NULL, APR_HOOK_LAST);
    ap_hook_child_init(consumer_child_init, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(consumer_handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(slotmem_consumer) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};

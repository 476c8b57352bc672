/* Licensed under the Apache License, Version 2.0 (the "License"); you may not
 * use this file except in compliance with the License.  You may obtain a copy
 * of the License at  http://www.apache.org/licenses/LICENSE-2.0
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
 * License for the specific language governing permissions and limitations
 * under the License. */

/* Counts the requests to each virtual host, across all children and restarts.
 * The handler slotmem-example lists the counts, one per line. */

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_protocol.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "apr_atomic.h"
#include "apr_strings.h"

#define HOSTS 64
module AP_MODULE_DECLARE_DATA slotmem_example_module;

/* The content of a slot, which is also stored in the file: no pointers. */
typedef struct {
    apr_uint32_t hits;
    char host[60];
} slot_t;

static const ap_slotmem_provider_t *slotmem;
static ap_slotmem_instance_t *hits;

/* Finds the slot of a host, or grabs a new one. Only the parent adds slots. */
static slot_t *slot_of(server_rec *s)
{
    unsigned int id, port = s->addrs ? s->addrs->host_port : s->port;
    char host[60];
    slot_t *slot;
    void *mem;

    apr_snprintf(host, sizeof(host), "%.50s:%u", s->server_hostname, port);
    for (id = 0; slotmem->dptr(hits, id, &mem) == APR_SUCCESS; id++) {
        slot = mem;
        if (strncmp(slot->host, host, sizeof(slot->host)) == 0) {
            return slot;
        }
    }
    if (slotmem->grab(hits, &id) != APR_SUCCESS
        || slotmem->dptr(hits, id, &mem) != APR_SUCCESS) {
        return NULL;
    }
    slot = mem;
    apr_cpystrn(slot->host, host, sizeof(slot->host));
    return slot;
}

static int example_post_config(apr_pool_t *pconf, apr_pool_t *plog,
                               apr_pool_t *ptemp, server_rec *s)
{
    apr_status_t rv;

    slotmem = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shm",
                                 AP_SLOTMEM_PROVIDER_VERSION);
    rv = !slotmem ? APR_ENOTIMPL
         : slotmem->create(&hits, "example-hits", sizeof(slot_t), HOSTS,
                           AP_SLOTMEM_TYPE_PERSIST | AP_SLOTMEM_TYPE_PREGRAB,
                           pconf);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "no slots for counters");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    for (; s; s = s->next) {
        ap_set_module_config(s->module_config, &slotmem_example_module,
                             slot_of(s));
    }
    return OK;
}

/* In a child. The slot is at the address that the parent found. */
static int example_count(request_rec *r)
{
    slot_t *slot = ap_get_module_config(r->server->module_config,
                                        &slotmem_example_module);

    if (slot) {
        apr_atomic_inc32(&slot->hits);  /* other children count too */
    }
    return DECLINED;
}

static apr_status_t tell(void *mem, void *data, apr_pool_t *pool)
{
    slot_t *slot = mem;

    ap_rprintf(data, "%.59s %u\n", slot->host, slot->hits);
    return APR_SUCCESS;
}

static int example_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "slotmem-example") != 0) {
        return DECLINED;
    }
    ap_set_content_type(r, "text/plain");
    return slotmem->doall(hits, tell, r, r->pool);     /* APR_SUCCESS is OK */
}

static void example_register_hooks(apr_pool_t *pool)
{
    ap_hook_post_config(example_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(example_count, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(example_handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(slotmem_example) = {
    STANDARD20_MODULE_STUFF,
    NULL, NULL, NULL, NULL, NULL, example_register_hooks
};

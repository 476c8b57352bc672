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
 * slotmem_provider.c: the calls of the provider, and what a claim of a slot
 * means in a segment that is stored without its in-use flags.
 *
 * Lifecycle: before the MPM runs, create makes anonymous shared memory and
 * restores it from its file; the children inherit it. In a child,
 * slotmem_runtime.h handles create and attach of names that were not inherited.
 *
 * Concurrency: slots and their in-use map take no lock; see slotmem_map.h. The
 * set of configuration claims is private to the parent.
 *
 * Ids such as (E2) are lines of docs/contract.md.
 */

#include <string.h>

#include "httpd.h"
#include "http_core.h"

#include "slotmem_instance.h"
#include "slotmem_log.h"
#include "slotmem_provider.h"
#include "slotmem_proxy.h"
#include "slotmem_runtime.h"
#include "slotmem_status.h"

/* ---- claims ---- */

/* All calls before the MPM runs belong to the configuration. The others are
 * made at run time, even those of cleanups after the MPM has run. That depends
 * on httpd's state and not on the process: under -X there is only one. */
static int is_configuring(void)
{
    int state = ap_state_query(AP_SQ_MAIN_STATE);

    return state != AP_SQ_MS_RUN_MPM && state != AP_SQ_MS_DESTROY_CONFIG
           && state != AP_SQ_MS_EXITING;
}

/* One warning per segment and generation, from the process that sees it
 * first. */
static void warn_when_full(ap_slotmem_instance_t *inst)
{
    if (slotmem_map_count_free(&inst->segment.map)
        || atomic_exchange(&inst->segment.header->full_logged, 1)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                 SLOTMEM_TAG(01)
                 "segment %s: the last of its %u slots is taken; to make room, "
                 "raise growth= of the balancer (for balancers, "
                 "BalancerGrowth) and restart", inst->name,
                 inst->segment.geometry.item_num);
}

/* A claim of a slot in a segment that is stored without its in-use flags (E2).
 * A claim during configuration sets a bit. A run-time claim sets none: a store
 * takes each slot in use without a bit for one (slotmem_serialize.c).
 * newly: 1 if the slot was free before */
static void record_claim(ap_slotmem_instance_t *inst, apr_uint32_t id,
                         int newly)
{
    if (is_configuring()) {
        slotmem_bit_set(inst->config_claims, id);
    }
    else if (newly) {
        warn_when_full(inst);
    }
}

static void claim(ap_slotmem_instance_t *inst, apr_uint32_t id)
{
    int newly = slotmem_map_set(&inst->segment.map, id);

    if (inst->config_claims) {
        record_claim(inst, id, newly);
    }
}

/* The configuration found no free slot: take the lowest one that was claimed at
 * run time, so that a start never fails for lack of a slot (E2). Returns the
 * number of slots if there is none. */
static apr_uint32_t steal_runtime_slot(ap_slotmem_instance_t *inst)
{
    apr_uint32_t num = inst->segment.geometry.item_num;
    apr_uint32_t id;

    for (id = 0; id < num; id++) {
        if (!slotmem_bit_test(inst->config_claims, id)) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                         SLOTMEM_TAG(02)
                         "segment %s: all %u slots are taken; the "
                         "configuration takes slot %u, which was claimed at "
                         "run time", inst->name, num, id);
            return id;
        }
    }
    return num;
}

/* ---- the calls ---- */

static apr_status_t create_configured(ap_slotmem_instance_t **created,
                                      const char *name,
                                      const slotmem_geometry_t *geometry)
{
    ap_slotmem_instance_t *inst;
    slotmem_proxy_t *proxy = slotmem_is_anonymous(name)
                             ? NULL : slotmem_proxy_lookup(name, geometry);
    apr_status_t rv = slotmem_instance_create(&inst, name, geometry, NULL, 0,
                                              slotmem_instance_pool());

    if (rv == APR_SUCCESS && inst->name
        && (geometry->type & AP_SLOTMEM_TYPE_PERSIST)) {
        rv = slotmem_instance_persist(inst, proxy);
    }
    if (rv != APR_SUCCESS) {
        slotmem_instance_log_failure(rv, name, geometry);
        return rv;
    }
    if (inst->name) {
        slotmem_instance_register(slotmem_instances(), inst);
    }
    slotmem_status_add(&inst->segment, inst->name,
                       inst->persist.path ? &inst->persist : NULL);
    *created = inst;
    return APR_SUCCESS;
}

static apr_status_t slotmem_create(ap_slotmem_instance_t **inst,
                                   const char *name, apr_size_t item_size,
                                   unsigned int item_num,
                                   ap_slotmem_type_t type, apr_pool_t *pool)
{
    slotmem_geometry_t geometry = { item_size, item_num, type };
    ap_slotmem_instance_t *found;
    apr_status_t rv;

    (void)pool;     /* an instance lives as long as pconf (B5) */
    *inst = NULL;
    if (!slotmem_instance_pool()) {
        return APR_ENOSHMAVAIL;
    }
    found = slotmem_is_anonymous(name)
                ? NULL
                : slotmem_instance_lookup(slotmem_instances(), name);
    if (found) {
        rv = slotmem_instance_check_reuse(found, &geometry);
        if (rv == APR_SUCCESS) {
            *inst = found;
        }
        return rv;
    }
    return slotmem_runtime_is_ready()
               ? slotmem_runtime_create(inst, name, &geometry)
               : create_configured(inst, name, &geometry);
}

static apr_status_t slotmem_attach(ap_slotmem_instance_t **inst,
                                   const char *name, apr_size_t *item_size,
                                   unsigned int *item_num, apr_pool_t *pool)
{
    ap_slotmem_instance_t *found;

    (void)pool;
    if (!slotmem_instance_pool()) {
        return APR_ENOSHMAVAIL;
    }
    if (slotmem_is_anonymous(name)) {
        return APR_ENOSHMAVAIL;
    }
    found = slotmem_instance_lookup(slotmem_instances(), name);
    if (!found && slotmem_runtime_is_ready()) {
        apr_status_t rv = slotmem_runtime_attach(&found, name);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    if (!found) {
        return APR_ENOENT;
    }
    *inst = found;
    *item_size = found->segment.geometry.item_size;
    *item_num = found->segment.geometry.item_num;
    return APR_SUCCESS;
}

static char *slot_at(const ap_slotmem_instance_t *inst, unsigned int id)
{
    return inst->segment.slots
           + (apr_size_t)id * inst->segment.geometry.item_size;
}

static apr_status_t slotmem_doall(ap_slotmem_instance_t *inst,
                                  ap_slotmem_callback_fn_t *func, void *data,
                                  apr_pool_t *pool)
{
    apr_uint32_t num;
    apr_uint32_t id;

    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    num = inst->segment.geometry.item_num;
    for (id = 0; id < num; id++) {
        apr_status_t rv;

        if ((inst->segment.geometry.type & AP_SLOTMEM_TYPE_PREGRAB)
            && !slotmem_map_test(&inst->segment.map, id)) {
            id = slotmem_map_next(&inst->segment.map, id);
            if (id == num) {
                break;
            }
        }
        rv = func(slot_at(inst, id), data, pool);
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t slotmem_dptr(ap_slotmem_instance_t *inst, unsigned int id,
                                 void **mem)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    *mem = slot_at(inst, id);
    return APR_SUCCESS;
}

SLOTMEM_NOINLINE
static apr_status_t claim_and_copy(ap_slotmem_instance_t *inst,
                                   unsigned int id, void *to, const void *from,
                                   apr_size_t len)
{
    claim(inst, id);
    if (len) {
        memcpy(to, from, len);
    }
    return APR_SUCCESS;
}

/* get and put (D5). Skip the atomic write if the slot is already in use: it
 * would invalidate the cache line in every other CPU. Rare cases are out of
 * line; one is a length of 0, for which the buffer may be NULL, which memcpy()
 * must not get. */
static inline apr_status_t get_or_put(ap_slotmem_instance_t *inst,
                                      unsigned int id, void *buffer,
                                      apr_size_t len, int put)
{
    apr_size_t offset;
    int in_use;
    char *slot;

    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    in_use = slotmem_map_test(&inst->segment.map, id);
    if (!in_use && (inst->segment.geometry.type & AP_SLOTMEM_TYPE_PREGRAB)) {
        return APR_NOTFOUND;
    }
    offset = (apr_size_t)id * inst->segment.geometry.item_size;
    if (len > inst->segment.layout.slots_len - offset) {
        return APR_EINVAL;
    }
    slot = inst->segment.slots + offset;
    if (!in_use || inst->config_claims || !len) {
        return put ? claim_and_copy(inst, id, slot, buffer, len)
                   : claim_and_copy(inst, id, buffer, slot, len);
    }
    memcpy(put ? slot : buffer, put ? buffer : slot, len);
    return APR_SUCCESS;
}

static apr_status_t slotmem_get(ap_slotmem_instance_t *inst, unsigned int id,
                                unsigned char *dest, apr_size_t dest_len)
{
    return get_or_put(inst, id, dest, dest_len, 0);
}

static apr_status_t slotmem_put(ap_slotmem_instance_t *inst, unsigned int id,
                                unsigned char *src, apr_size_t src_len)
{
    return get_or_put(inst, id, src, src_len, 1);
}

static unsigned int slotmem_num_slots(ap_slotmem_instance_t *inst)
{
    return inst ? inst->segment.geometry.item_num : 0;
}

static unsigned int slotmem_num_free_slots(ap_slotmem_instance_t *inst)
{
    return inst ? slotmem_map_count_free(&inst->segment.map) : 0;
}

static apr_size_t slotmem_slot_size(ap_slotmem_instance_t *inst)
{
    return inst ? inst->segment.geometry.item_size : 0;
}

/* For a segment that is stored without its in-use flags (E2). */
SLOTMEM_NOINLINE
static apr_status_t grab_and_record(ap_slotmem_instance_t *inst,
                                  unsigned int *item_id)
{
    if (!slotmem_map_grab(&inst->segment.map, item_id) && is_configuring()) {
        *item_id = steal_runtime_slot(inst);
    }
    if (*item_id == inst->segment.map.num) {
        return APR_EINVAL;
    }
    record_claim(inst, *item_id, 1);
    return APR_SUCCESS;
}

/* If the segment is full, set the id to the number of slots: a consumer is
 * known that ignores the return code and passes the id to put (D6). */
static apr_status_t slotmem_grab(ap_slotmem_instance_t *inst,
                                 unsigned int *item_id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (inst->config_claims) {
        return grab_and_record(inst, item_id);
    }
    return slotmem_map_grab(&inst->segment.map, item_id) ? APR_SUCCESS
                                                         : APR_EINVAL;
}

static apr_status_t slotmem_fgrab(ap_slotmem_instance_t *inst, unsigned int id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    claim(inst, id);
    return APR_SUCCESS;
}

static apr_status_t slotmem_release(ap_slotmem_instance_t *inst,
                                    unsigned int id)
{
    if (!inst) {
        return APR_ENOSHMAVAIL;
    }
    if (id >= inst->segment.geometry.item_num) {
        return APR_EINVAL;
    }
    return slotmem_map_clear(&inst->segment.map, id) ? APR_SUCCESS
                                                     : APR_NOTFOUND;
}

const ap_slotmem_provider_t slotmem_shm_provider = {
    "sharedmem",
    slotmem_doall,
    slotmem_create,
    slotmem_attach,
    slotmem_dptr,
    slotmem_get,
    slotmem_put,
    slotmem_num_slots,
    slotmem_num_free_slots,
    slotmem_slot_size,
    slotmem_grab,
    slotmem_release,
    slotmem_fgrab
};

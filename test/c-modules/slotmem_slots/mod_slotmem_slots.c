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
 * Lets a child overwrite the live slots of mod_proxy_balancer, for
 * test/campaigns/slots.
 *
 * The handler slotmem-slots reads commands from the file that its URL names,
 * one per line, and carries them out in the child that got the request:
 *
 *     set TARGET FIELD HEX     overwrite the first bytes of a field; the rest
 *                              stays. For a single bit the lowest counts
 *     raw TARGET HEX           overwrite the whole slot
 *     random TARGET SEED       overwrite the whole slot with random bytes
 *     copy TARGET FIELD N      copy a field from slot N of the same segment
 *     swap TARGET N            swap it with slot N of the same segment
 *     grab TARGET              mark the slot as in use
 *     free TARGET              mark it as free
 *     dump TARGET              answer with the slot in HEX
 *
 * A TARGET is S/B/I: slot I of the members of balancer number B of server
 * number S, each counted from 0 in the order of the configuration; or S/I:
 * slot I of the balancers of server S. The answer ends with "done N", where N
 * is the number of lines. SlotmemFields.pm writes fields.h.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_protocol.h"
#include "ap_slotmem.h"
#include "apr_file_io.h"
#include "apr_strings.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"

module AP_MODULE_DECLARE_DATA slotmem_slots_module;

typedef struct {
    const ap_slotmem_provider_t *storage;
    ap_slotmem_instance_t *segment;
    unsigned int id;
    unsigned char *slot;
    apr_size_t size;
    const slots_field_t *fields;
} target_t;

static proxy_server_conf *conf_of(int number)
{
    const module *proxy = ap_find_linked_module("mod_proxy.c");
    server_rec *s = ap_server_conf;

    while (s && number-- > 0) {
        s = s->next;
    }
    return s && proxy ? ap_get_module_config(s->module_config, proxy) : NULL;
}

static int find_slot(target_t *target, unsigned int id)
{
    void *slot;

    target->id = id;
    if (!target->segment
        || target->storage->dptr(target->segment, id, &slot) != APR_SUCCESS) {
        return 0;
    }
    target->slot = slot;
    target->size = target->storage->slot_size(target->segment);
    return 1;
}

static int find_target(target_t *target, const char *text)
{
    int at[3] = { 0, 0, 0 };
    int num = 0;
    proxy_server_conf *conf;

    while (text && num < 3) {
        at[num++] = atoi(text);
        text = strchr(text, '/');
        text = text ? text + 1 : NULL;
    }
    conf = conf_of(at[0]);
    if (!conf || num < 2) {
        return 0;
    }
    target->storage = conf->storage;
    target->segment = conf->bslot;
    target->fields = balancer_fields;
    if (num == 3) {
        if (at[1] >= conf->balancers->nelts) {
            return 0;
        }
        target->segment = ((proxy_balancer *)(void *)(conf->balancers->elts
            + at[1] * conf->balancers->elt_size))->wslot;
        target->fields = member_fields;
    }
    return find_slot(target, (unsigned int)at[num - 1]);
}

static void put_hex(unsigned char *to, apr_size_t size, const char *hex)
{
    unsigned int byte;

    for (; size && sscanf(hex, "%2x", &byte) == 1; size--, hex += 2) {
        *to++ = (unsigned char)byte;
    }
}

static const slots_field_t *find_field(const target_t *target,
                                       const char *name)
{
    const slots_field_t *field = target->fields;

    while (field->name && strcmp(field->name, name) != 0) {
        field++;
    }
    return field->name ? field : NULL;
}

static int copy_field(const target_t *target, const char *name,
                      unsigned int id)
{
    const slots_field_t *field = find_field(target, name);
    target_t from = *target;

    if (!field || !field->size || !find_slot(&from, id)) {
        return 0;
    }
    memmove(target->slot + field->offset, from.slot + field->offset,
            field->size);
    return 1;
}

static int set_field(const target_t *target, const char *name, const char *hex)
{
    const slots_field_t *field = find_field(target, name);

    if (!field) {
        return 0;
    }
    if (field->set) {
        field->set(target->slot, (unsigned int)strtoul(hex, NULL, 16));
    }
    else {
        put_hex(target->slot + field->offset, field->size, hex);
    }
    return 1;
}

static void put_random(const target_t *target, uint64_t state)
{
    apr_size_t i;

    for (i = 0; i < target->size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        target->slot[i] = (unsigned char)(state >> 24);
    }
}

static int swap_slots(target_t *target, unsigned int id, apr_pool_t *pool)
{
    unsigned char *one = target->slot;
    void *copy = apr_pmemdup(pool, one, target->size);

    if (!find_slot(target, id)) {
        return 0;
    }
    memcpy(one, target->slot, target->size);
    memcpy(target->slot, copy, target->size);
    return 1;
}

static void dump(request_rec *r, const target_t *target)
{
    apr_size_t i;

    for (i = 0; i < target->size; i++) {
        ap_rprintf(r, "%02x", target->slot[i]);
    }
    ap_rputs("\n", r);
}

/* @return 0: not understood */
static int execute(request_rec *r, char *line)
{
    char *word[4] = { "", "", "", "" };
    char *last = NULL;
    target_t target;
    int i;

    for (i = 0; i < 4 && (word[i] = apr_strtok(i ? NULL : line, " ", &last));
         i++) {
    }
    if (i < 2 || !find_target(&target, word[1])) {
        return 0;
    }
    if (strcmp(word[0], "set") == 0) {
        return i == 4 && set_field(&target, word[2], word[3]);
    }
    if (strcmp(word[0], "copy") == 0) {
        return i == 4 && copy_field(&target, word[2],
                                    (unsigned int)atoi(word[3]));
    }
    if (strcmp(word[0], "grab") == 0) {
        target.storage->fgrab(target.segment, target.id);
    }
    else if (strcmp(word[0], "free") == 0) {
        target.storage->release(target.segment, target.id);
    }
    else if (strcmp(word[0], "dump") == 0) {
        dump(r, &target);
    }
    else if (i < 3) {
        return 0;
    }
    else if (strcmp(word[0], "raw") == 0) {
        put_hex(target.slot, target.size, word[2]);
    }
    else if (strcmp(word[0], "random") == 0) {
        put_random(&target, strtoull(word[2], NULL, 10) * 2654435761u + 1);
    }
    else {
        return strcmp(word[0], "swap") == 0
               && swap_slots(&target, (unsigned int)atoi(word[2]), r->pool);
    }
    return 1;
}

static int slots_handler(request_rec *r)
{
    apr_file_t *file;
    char line[8192];
    int done = 0;

    if (!r->handler || strcmp(r->handler, "slotmem-slots") != 0) {
        return DECLINED;
    }
    if (apr_file_open(&file, r->filename, APR_READ | APR_BUFFERED, 0,
                      r->pool) != APR_SUCCESS) {
        return HTTP_NOT_FOUND;
    }
    while (apr_file_gets(line, sizeof(line), file) == APR_SUCCESS) {
        line[strcspn(line, "\n")] = '\0';
        if (!execute(r, line)) {
            ap_rprintf(r, "not understood: %s\n", line);
            return OK;
        }
        done++;
    }
    ap_rprintf(r, "done %d\n", done);
    return OK;
}

static void slots_register_hooks(apr_pool_t *pool)
{
    ap_hook_handler(slots_handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA slotmem_slots_module = {
    STANDARD20_MODULE_STUFF,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    slots_register_hooks
};

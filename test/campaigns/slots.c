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
 * slots.c: restores slots of mod_proxy_balancer with arbitrary bytes, one after
 * the other, and checks each field of the result against contract E6 and E7
 * [E6][E7]. The other half of this campaign, with a server, is in slots.
 *
 *     slots CASES [SEED]
 *
 * The stored slot starts as mod_proxy makes it, and then some or all of its
 * fields get values that a child might choose. This file has its own rules for
 * valid settings, which are those that the balancer-manager checks.
 * SlotmemFields.pm writes fields.h from the installed mod_proxy.h.
 */

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apr_general.h"
#include "apr_lib.h"
#include "apr_strings.h"
#include "apr_uri.h"
#include "apr_uuid.h"

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "ap_provider.h"

#include "slotmem_proxy_slot.h"
#include "fields.h"

/* ---- httpd ---- */

server_rec *ap_server_conf;
module slotmem_shm_module;          /* the module that log lines name */
static int has_hcheck;
static int has_ajp;

module *ap_find_linked_module(const char *name)
{
    static module some;

    return (strcmp(name, "mod_proxy_hcheck.c") == 0 && has_hcheck)
           || (strcmp(name, "mod_proxy_ajp.c") == 0 && has_ajp) ? &some : NULL;
}

void *ap_lookup_provider(const char *group, const char *name,
                         const char *version)
{
    static int some;

    (void)group;
    (void)version;
    return strcmp(name, "byrequests") == 0 || strcmp(name, "bytraffic") == 0
           ? &some : NULL;
}

static char logged[8192];

void ap_log_error_(const char *file, int line, int module_index, int level,
                   apr_status_t status, const server_rec *s,
                   const char *format, ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)level;
    (void)status;
    (void)s;
    va_start(args, format);
    apr_vsnprintf(logged, sizeof(logged), format, args);
    va_end(args);
}

/* ---- numbers and bytes ---- */

static uint64_t state;
static unsigned long case_number;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fill_random(void *to, size_t len)
{
    unsigned char *bytes = to;

    while (len--) {
        *bytes++ = (unsigned char)(draw() >> 24);
    }
}

static void put_text(char *to, size_t len)
{
    static const char *const texts[] = {
        "", "a", "JSESSIONID", "bytraffic", "byrequests", "nobody", "/status",
        "../../../tmp/x", "/tmp/x", "a\r\nHost: b", "\033[2J", "http", "%s%n",
        "http://127.0.0.1:1", "balancer://b", "p1_b", "\n", "\177", "\xff\xfe",
        "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d"
    };
    const char *text = texts[draw() % (sizeof(texts) / sizeof(*texts))];

    switch (draw() % 4) {
    case 0:
        memset(to, 'A', len);           /* never ends */
        break;
    case 1:
        fill_random(to, len);
        break;
    default:
        strncpy(to, text, len);
        break;
    }
}

static void put_number(void *to, size_t len)
{
    static const int64_t numbers[] = {
        0, 1, -1, 2, 5, 6, 99, 100, 101, 10000, 10001, INT_MAX, INT_MIN,
        INT64_MAX, INT64_MIN, INT64_MAX / 2, 99999, 100000, 1000000, 5000000,
        7200000000, 7201000000, 1000001, 511, 512, 8192, 1048576, 1048577
    };
    int64_t number = numbers[draw() % (sizeof(numbers) / sizeof(*numbers))];

    if (draw() % 4 == 0) {
        number = (int64_t)draw();
    }
    memcpy(to, &number, len < sizeof(number) ? len : sizeof(number));
    if (len > sizeof(number)) {
        fill_random(to, len);
    }
}

static void attack(void *slot, const slots_field_t *field, unsigned odds)
{
    for (; field->name; field++) {
        if (draw() % odds) {
            continue;
        }
        if (field->set) {
            field->set(slot, (unsigned)(draw() & 1));
        }
        else if (field->text) {
            put_text((char *)slot + field->offset, field->size);
        }
        else {
            put_number((char *)slot + field->offset, field->size);
        }
    }
}

/* ---- what must hold ---- */

static void violated(const char *what, const char *field)
{
    printf("slots: case %lu: %s: %s\n", case_number, field, what);
    printf("campaign slots-fields: cases=%lu faults=1 lost=1\n", case_number);
    exit(1);
}

#define HOLDS(condition, field) \
    do { \
        if (!(condition)) violated(#condition, field); \
    } while (0)

static int same(const slots_field_t *field, const void *a, const void *b)
{
    if (field->get) {
        return field->get(a) == field->get(b);
    }
    return memcmp((const char *)a + field->offset,
                  (const char *)b + field->offset, field->size) == 0;
}

static int is_zero(const slots_field_t *field, const void *slot)
{
    static const char zero[64];

    return field->get ? !field->get(slot)
                      : memcmp((const char *)slot + field->offset, zero,
                               field->size) == 0;
}

static int is_plain(const char *text)
{
    for (; *text; text++) {
        if (apr_iscntrl(*text)) {
            return 0;
        }
    }
    return 1;
}

static void check_strings(const slots_field_t *field, const void *slot)
{
    for (; field->name; field++) {
        if (field->text) {
            HOLDS(memchr((const char *)slot + field->offset, 0, field->size),
                  field->name);
        }
    }
}

/* The settings that the balancer-manager accepts for a member. mod_proxy_hcheck
 * only complains about the method PROVIDER, or about CPING without
 * mod_proxy_ajp. */
static int is_valid_member(const char *name, const proxy_worker_shared *s)
{
    if (strcmp(name, "lbset") == 0) {
        return s->lbset >= 0 && s->lbset <= 99;
    }
    if (strcmp(name, "lbfactor") == 0) {
        return s->lbfactor >= 100 && s->lbfactor <= 10000;
    }
    if (strcmp(name, "passes") == 0) {
        return s->passes >= 0;
    }
    if (strcmp(name, "fails") == 0) {
        return s->fails >= 0;
    }
    if (strcmp(name, "method") == 0) {
        return (unsigned)s->method < EOT && s->method != PROVIDER
               && (has_ajp || s->method != CPING);
    }
    if (strcmp(name, "interval") == 0) {
        return s->interval >= apr_time_from_msec(100)
               && s->interval <= apr_time_from_sec(INT_MAX);
    }
    return strcmp(name, "route") == 0 ? is_plain(s->route)
           : strcmp(name, "redirect") == 0 ? is_plain(s->redirect)
           : strcmp(name, "hcuri") == 0 ? is_plain(s->hcuri)
           : is_plain(s->hcexpr);
}

/* With a timeout of less than 100 us, mod_proxy_balancer waits forever for a
 * member; with a sticky name but no name in paths, it reads past the URL. */
static int is_valid_balancer(const char *name, const proxy_balancer_shared *s)
{
    if (strcmp(name, "timeout") == 0) {
        return s->timeout >= 0 && s->timeout <= apr_time_from_sec(7200)
               && s->timeout % APR_USEC_PER_SEC == 0;
    }
    if (strncmp(name, "max_attempts", 12) == 0) {
        return s->max_attempts >= 0 && s->max_attempts <= 99;
    }
    if (strcmp(name, "sticky_force") == 0) {
        return 1;
    }
    return is_plain(s->sticky) && is_plain(s->sticky_path)
           && !*s->sticky == !*s->sticky_path;
}

static void check_rules(const slots_field_t *field, const void *slot,
                        const void *config, const void *stored, int index,
                        int (*is_valid)(const char *, const void *))
{
    for (; field->name; field++) {
        switch (field->rule) {
        case RULE_CONFIG:
            HOLDS(same(field, slot, config), field->name);
            break;
        case RULE_MERGE:
            HOLDS(same(field, slot, config)
                  || (same(field, slot, stored)
                      && is_valid(field->name, stored)), field->name);
            break;
        case RULE_CARRY:
            HOLDS(same(field, slot, stored) || is_zero(field, slot),
                  field->name);
            break;
        case RULE_ZERO:
            HOLDS(is_zero(field, slot), field->name);
            break;
        case RULE_PLACE:
            HOLDS(*(const int *)(const void *)((const char *)slot
                                               + field->offset) == index,
                  field->name);
            break;
        }
    }
}

static int valid_member(const char *name, const void *slot)
{
    return is_valid_member(name, slot);
}

static int valid_balancer(const char *name, const void *slot)
{
    return is_valid_balancer(name, slot);
}

/* Every valid setting is carried over if the earlier configuration is not
 * known. / */
static void check_carried(const slots_field_t *field, const void *slot,
                          const void *stored,
                          int (*is_valid)(const char *, const void *))
{
    for (; field->name; field++) {
        if (field->rule == RULE_MERGE && is_valid(field->name, stored)) {
            if (field->text) {
                HOLDS(strcmp((const char *)slot + field->offset,
                             (const char *)stored + field->offset) == 0,
                      field->name);
            }
            else if (strncmp(field->name, "max_attempts", 12) != 0) {
                HOLDS(same(field, slot, stored), field->name);
            }
        }
    }
}

#define SETTINGS (PROXY_WORKER_IGNORE_ERRORS | PROXY_WORKER_DRAIN \
                  | PROXY_WORKER_DISABLED | PROXY_WORKER_STOPPED \
                  | PROXY_WORKER_HOT_STANDBY | PROXY_WORKER_HOT_SPARE)
#define EVENTS (PROXY_WORKER_IN_ERROR | PROXY_WORKER_HC_FAIL)

static void check_state(const proxy_worker_shared *slot,
                        const proxy_worker_shared *stored, unsigned settings)
{
    apr_time_t now = apr_time_now();

    HOLDS(!(slot->status & ~(SETTINGS | EVENTS)), "status");
    HOLDS((slot->status & SETTINGS) == settings, "status");
    HOLDS(!(slot->status & ~stored->status & EVENTS), "status");
    if (!has_hcheck || slot->method == NONE) {
        HOLDS(!(slot->status & PROXY_WORKER_HC_FAIL), "status");
    }
    HOLDS(slot->error_time >= 0 && slot->error_time <= now, "error_time");
    HOLDS(slot->retries >= 0 && slot->retries <= INT_MAX / 2, "retries");
    HOLDS(slot->pcount >= 0 && (!slot->pcount || slot->pcount < slot->passes),
          "pcount");
    HOLDS(slot->fcount >= 0 && (!slot->fcount || slot->fcount < slot->fails),
          "fcount");
    HOLDS(slot->transferred >= 0
          && slot->transferred <= (apr_int64_t)1 << 60, "transferred");
    HOLDS(slot->read >= 0 && slot->read <= (apr_int64_t)1 << 60, "read");
}

/* ---- the cases ---- */

static void make_member(proxy_worker_shared *slot, int number)
{
    memset(slot, 0, sizeof(*slot));
    apr_snprintf(slot->name, sizeof(slot->name), "http://127.0.0.1:%d",
                 8000 + number);
    memcpy(slot->name_ex, slot->name, sizeof(slot->name));
    strcpy(slot->scheme, "http");
    strcpy(slot->hostname, "127.0.0.1");
    strcpy(slot->hostname_ex, "127.0.0.1");
    slot->port = (apr_port_t)(8000 + number);
    slot->lbfactor = 100;
    slot->passes = slot->fails = 1;
    slot->interval = apr_time_from_sec(30);
    slot->smax = -1;
    slot->flush_wait = PROXY_FLUSH_WAIT;
    slot->is_address_reusable = 1;
    slot->hash.def = (unsigned)number + 1;
    slot->hash.fnv = (unsigned)number + 2;
}

static void make_balancer(proxy_balancer_shared *slot)
{
    memset(slot, 0, sizeof(*slot));
    strcpy(slot->name, "balancer://app");
    strcpy(slot->lbpname, "byrequests");
    strcpy(slot->sname, "p1_app");
    strcpy(slot->nonce, "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d");
    slot->hash.def = 7;
    slot->hash.fnv = 8;
}

/* The configuration's words in the file: none, or the same as now. */
static apr_table_t *draw_words(const slotmem_setting_t *settings,
                               const void *config, apr_pool_t *pool)
{
    apr_array_header_t *strings = apr_array_make(pool, 40,
                                                 sizeof(const char *));
    char junk[64];
    apr_size_t len;
    const char *words;

    if (draw() % 2) {
        return NULL;
    }
    slotmem_words_append(strings, "key", settings, config);
    if (settings == slotmem_balancer_settings) {
        slotmem_balancer_words(strings, config, 3);
    }
    slotmem_words_end(strings);
    words = slotmem_words_flatten(strings, &len, pool);
    fill_random(junk, sizeof(junk));
    slotmem_words_find(junk, draw() % sizeof(junk), "key", pool);
    return slotmem_words_find(words, len - draw() % 2, "key", pool);
}

static void one_member(apr_pool_t *pool)
{
    proxy_worker_shared config, stored, slot;
    const unsigned known = draw() % 2 ? SETTINGS : 0;
    apr_table_t *then;
    int index = (int)(draw() % 100);

    make_member(&config, 1);
    config.status = known & (unsigned)draw();
    make_member(&stored, 1);
    attack(&stored, member_fields, 1 + (unsigned)(draw() % 8));
    slotmem_member_terminate(&stored);
    check_strings(member_fields, &stored);
    then = draw_words(slotmem_member_settings, &config, pool);
    slotmem_member_merge(&slot, index, &config, &stored, then, pool);
    check_strings(member_fields, &slot);
    check_rules(member_fields, &slot, &config, &stored, index, valid_member);
    check_carried(member_fields, &slot, &stored, valid_member);
    check_state(&slot, &stored, stored.status & SETTINGS);
}

/* The other fields of a run-time worker: nothing that takes memory or
 * connections, waits forever, or makes it match other names. */
static void check_limits(const proxy_worker_shared *slot)
{
    const apr_interval_time_t most = apr_time_from_msec(INT_MAX);

    HOLDS(slot->min == 0 && slot->hmax == 0 && slot->smax == -1, "min");
    HOLDS(slot->ttl >= 0 && slot->ttl <= most, "ttl");
    HOLDS(slot->retry >= 0 && slot->retry <= most, "retry");
#define HAS_LIMITS(field, least, most) \
    HOLDS(!slot->field##_set || (slot->field >= (least) \
                                 && slot->field <= (most)), #field)
    HAS_LIMITS(timeout, 1000, most);
    HAS_LIMITS(acquire, 1000, most);
    HAS_LIMITS(ping_timeout, 1000, most);
    HAS_LIMITS(conn_timeout, 1000, most);
    HAS_LIMITS(io_buffer_size, 512, 1048576);
    HAS_LIMITS(response_field_size, 512, 1048576);
    HOLDS(slot->recv_buffer_size <= 1048576, "recv_buffer_size");
    HOLDS(slot->flush_wait >= 0 && slot->flush_wait <= 1000000, "flush_wait");
    HOLDS((unsigned)slot->flush_packets <= flush_auto, "flush_packets");
    HOLDS(!slot->is_name_matchable, "is_name_matchable");
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 138)
    HOLDS(!slot->is_host_matchable, "is_host_matchable");
#endif
}

/* The name as mod_proxy makes it: mod_proxy_hcheck makes a worker from the name
 * alone, and does not check whether that succeeded. */
static void check_address(const proxy_worker_shared *s, apr_pool_t *pool)
{
    apr_uri_t uri;

    HOLDS(apr_uri_parse(pool, s->name_ex, &uri) == APR_SUCCESS, "name_ex");
    HOLDS(uri.scheme && uri.hostname && *uri.hostname, "name_ex");
    HOLDS(is_plain(s->name_ex), "name_ex");
    HOLDS(strncmp(s->name, s->name_ex, sizeof(s->name) - 1) == 0, "name");
    HOLDS(strcmp(s->scheme, uri.scheme) == 0, "scheme");
    HOLDS(strcmp(s->hostname_ex, uri.hostname) == 0, "hostname_ex");
    HOLDS(strncmp(s->hostname, uri.hostname, sizeof(s->hostname) - 1) == 0,
          "hostname");
    HOLDS(!uri.port || uri.port == s->port, "port");
    HOLDS(s->hash.def && s->hash.fnv, "hash");
}

static unsigned long unusable;

static void one_runtime(apr_pool_t *pool)
{
    proxy_worker_shared stored, slot;
    const slots_field_t *field;
    int index = (int)(draw() % 100);
    apr_time_t before = apr_time_now();

    make_member(&stored, 2);
    HOLDS(slotmem_member_is_usable(&stored, pool), "all");
    stored.updated = before - 1000;
    attack(&stored, member_fields, 1 + (unsigned)(draw() % 8));
    slotmem_member_terminate(&stored);
    if (!slotmem_member_is_usable(&stored, pool)) {
        unusable++;                 /* the rest must still hold */
    }
    else {
        check_address(&stored, pool);
    }
    slotmem_member_keep(&slot, index, &stored);
    check_strings(member_fields, &slot);
    for (field = member_fields; field->name; field++) {
        if (field->rule == RULE_MERGE) {
            HOLDS(valid_member(field->name, &slot), field->name);
        }
        if (field->rule == RULE_ZERO) {
            HOLDS(is_zero(field, &slot), field->name);
        }
    }
    check_state(&slot, &stored, stored.status & SETTINGS);
    check_carried(member_fields, &slot, &stored, valid_member);
    check_limits(&slot);
    HOLDS(slot.index == index, "index");
    HOLDS(slot.updated > 0 && slot.updated <= apr_time_now(), "updated");
    slotmem_member_name(&slot, pool);
}

static void one_balancer(apr_pool_t *pool)
{
    proxy_balancer_shared config, stored, slot;
    const proxy_balancer_shared *known = draw() % 8 ? &config : NULL;
    const slots_field_t *field;
    int index = (int)(draw() % 100);
    apr_uuid_t uuid;

    make_balancer(&config);
    make_balancer(&stored);
    attack(&stored, balancer_fields, 1 + (unsigned)(draw() % 8));
    slotmem_balancer_terminate(&stored);
    slotmem_balancer_merge(&slot, index, "p1_app", known, &stored,
                           draw_words(slotmem_balancer_settings, &config,
                                      pool), pool);
    check_strings(balancer_fields, &slot);
    HOLDS(strcmp(slot.sname, "p1_app") == 0, "sname");
    HOLDS(ap_lookup_provider("", slot.lbpname, ""), "lbpname");
    HOLDS(apr_uuid_parse(&uuid, slot.nonce) == APR_SUCCESS || !known, "nonce");
    HOLDS(slot.index == index && !slot.was_malloced, "index");
    HOLDS(is_plain(logged), "the log");
    for (field = balancer_fields; field->name; field++) {
        HOLDS(field->rule != RULE_MERGE || valid_balancer(field->name, &slot),
              field->name);
    }
    if (known) {
        check_rules(balancer_fields, &slot, &config, &stored, index,
                    valid_balancer);
        check_carried(balancer_fields, &slot, &stored, valid_balancer);
    }
}

int main(int argc, char **argv)
{
    unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    apr_pool_t *pool;

    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252u;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    while (case_number++ < cases) {
        has_hcheck = (int)(draw() % 2);
        has_ajp = (int)(draw() % 2);
        one_member(pool);
        one_runtime(pool);
        one_balancer(pool);
        apr_pool_clear(pool);
    }
    apr_terminate();
    printf("campaign slots-fields: cases=%lu faults=0 lost=0 unusable=%lu\n",
           3 * cases, unusable);
    return 0;
}

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
 * A consumer of the slotmem provider whose children overwrite everything
 * that they share with the parent.
 *
 * In post_config it creates the segments of the table below. It finds the
 * memory to attack as an intruder would: the mapping in /proc/self/maps that
 * holds slot 0 of a segment, from its first byte to its last (APR's size word,
 * header, map, slots); and the mappings that appeared while the slotmem module
 * ran its own post_config, which are its other shared memory.
 *
 *     /hostile?ms=N&how=PATTERN&seed=N
 *
 * writes for N milliseconds. PATTERN says what: ones, zeros, magic (the numbers
 * at the start of headers and sections), huge (enormous sizes), random, bits
 * (of the map only), shape (sizes that are slightly off), or, with any other
 * word, one of these at random each time. Between the writes it calls the
 * provider on the memory that it has broken. It answers "done N", the number
 * of writes.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "apr_strings.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

module AP_MODULE_DECLARE_DATA slotmem_hostile_module;

#define PERSIST AP_SLOTMEM_TYPE_PERSIST
#define PREGRAB AP_SLOTMEM_TYPE_PREGRAB
#define CLEARINUSE AP_SLOTMEM_TYPE_CLEARINUSE

static const struct {
    const char *name;
    apr_size_t size;
    unsigned int num;
    ap_slotmem_type_t type;
} wanted[] = {
    { "one", 1, 1, PERSIST },
    { "words", 16, 64, PERSIST },
    { "odd", 7, 65, PERSIST | PREGRAB },
    { "members", 1456, 10, PERSIST | CLEARINUSE },
    { "many", 24, 20000, PERSIST | CLEARINUSE },
    { "plain", 544, 100, PREGRAB }
};
#define SEGMENTS ((int)(sizeof(wanted) / sizeof(*wanted)))
#define OTHERS 8

typedef struct {
    unsigned char *from;
    apr_size_t len;
} region_t;

static const ap_slotmem_provider_t *provider;
static ap_slotmem_instance_t *segments[SEGMENTS];
static region_t before[256];
static int before_num;
static region_t others[OTHERS];
static int others_num;

/* ---- what is shared ---- */

static int read_shared(region_t *regions, int max)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int num = 0;

    while (maps && num < max && fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        char mode[5];

        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3
            && strcmp(mode, "rw-s") == 0 && strstr(line, "/dev/zero")) {
            regions[num].from = (unsigned char *)from;
            regions[num++].len = to - from;
        }
    }
    if (maps) {
        fclose(maps);
    }
    return num;
}

static int hostile_pre_config(apr_pool_t *pconf, apr_pool_t *plog,
                              apr_pool_t *ptemp)
{
    others_num = 0;
    return OK;
}

/* Runs just before the slotmem module's post_config. */
static int snapshot(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s)
{
    before_num = read_shared(before, 256);
    return OK;
}

/* Runs just after it. */
static int find_others(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    region_t after[256];
    int num = read_shared(after, 256);
    int i, k;

    for (i = 0; i < num; i++) {
        for (k = 0; k < before_num && before[k].from != after[i].from; k++) {
        }
        if (k == before_num && others_num < OTHERS) {
            others[others_num++] = after[i];
        }
    }
    return OK;
}

static int hostile_post_config(apr_pool_t *pconf, apr_pool_t *plog,
                               apr_pool_t *ptemp, server_rec *s)
{
    int i;

    provider = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shm",
                                  AP_SLOTMEM_PROVIDER_VERSION);
    for (i = 0; i < SEGMENTS; i++) {
        unsigned int id;

        if (!provider
            || provider->create(&segments[i], wanted[i].name, wanted[i].size,
                                wanted[i].num, wanted[i].type, pconf)) {
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        provider->grab(segments[i], &id);
    }
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s, "hostile: %d other mappings",
                 others_num);
    return OK;
}

/* ---- the attack ---- */

static uint64_t state;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static region_t region_of(int i)
{
    region_t regions[256];
    int num = read_shared(regions, 256);
    region_t none = { NULL, 0 };
    void *slot = NULL;

    provider->dptr(segments[i], 0, &slot);
    while (num-- > 0) {
        if ((unsigned char *)slot >= regions[num].from
            && (unsigned char *)slot < regions[num].from + regions[num].len) {
            return regions[num];
        }
    }
    return none;
}

static void put(region_t region, apr_size_t at, const void *bytes,
                apr_size_t len)
{
    if (at < region.len) {
        memcpy(region.from + at, bytes,
               len < region.len - at ? len : region.len - at);
    }
}

/* Values that some code may take for a number of its own. */
static void put_words(region_t region, const uint64_t *words, apr_size_t num)
{
    apr_size_t end = region.len < 512 || draw() % 2 ? region.len : 512;
    apr_size_t at;

    for (at = draw() % 8; at + 8 <= end; at += 8) {
        put(region, at, &words[draw() % num], 8);
    }
}

static void put_random(region_t region, apr_size_t from, apr_size_t to)
{
    apr_size_t times = 1 + draw() % 64;

    while (times--) {
        uint64_t word = draw();

        put(region, from + draw() % (to - from), &word, 1 + word % 8);
    }
}

static const char *const patterns[] = {
    "ones", "zeros", "magic", "huge", "random", "bits", "shape"
};
#define PATTERNS ((int)(sizeof(patterns) / sizeof(*patterns)))

static void attack(region_t region, int pattern)
{
    static const uint64_t magic[] = {
        0x736c6f74, 0x1736c6f74, 0x534c4d43, 0x1534c4d43, 0x100000000
    };
    static const uint64_t huge[] = {
        UINT64_MAX, INT64_MAX, (uint64_t)1 << 40, UINT32_MAX,
        0xffffffff00000000, 0x8000000080000000, 0x7fffffff7fffffff, 1
    };
    uint64_t near[] = { wanted[draw() % SEGMENTS].num + draw() % 3,
                        wanted[draw() % SEGMENTS].size + draw() % 3, 0, 13 };

    if (!region.len) {
        return;
    }
    switch (pattern) {
    case 0:
        memset(region.from, 0xff, region.len);
        break;
    case 1:
        memset(region.from, 0, region.len);
        break;
    case 2:
        put_words(region, magic, sizeof(magic) / sizeof(*magic));
        break;
    case 3:
        put_words(region, huge, sizeof(huge) / sizeof(*huge));
        break;
    case 4:
        put_random(region, 0, region.len);
        break;
    case 5:
        put_random(region, 64, region.len < 640 ? region.len : 640);
        break;
    default:
        put_words(region, near, sizeof(near) / sizeof(*near));
        break;
    }
}

static apr_status_t touch(void *slot, void *data, apr_pool_t *pool)
{
    unsigned char *byte = slot;

    *byte ^= 1;
    return APR_SUCCESS;
}

/* The provider must also stay safe in a child. */
static int use(int i)
{
    ap_slotmem_instance_t *inst = segments[i];
    unsigned int num = wanted[i].num;
    unsigned int id = 0;
    unsigned char byte = 1;
    void *slot;

    provider->grab(inst, &id);
    if (id > num || provider->num_free_slots(inst) > num
        || provider->num_slots(inst) != num
        || provider->slot_size(inst) != wanted[i].size
        || provider->dptr(inst, num, &slot) == APR_SUCCESS) {
        return 0;
    }
    provider->put(inst, num - 1, &byte, 1);
    provider->doall(inst, touch, NULL, NULL);
    provider->release(inst, (unsigned int)(draw() % num));
    return 1;
}

static int number_of(request_rec *r, const char *key, int otherwise)
{
    const char *at = r->args ? strstr(r->args, key) : NULL;

    return at ? atoi(at + strlen(key)) : otherwise;
}

static int hostile_handler(request_rec *r)
{
    apr_time_t end;
    region_t regions[SEGMENTS];
    int only = -1;
    int rounds = 0;
    int writes = 0;
    int i;

    if (!r->handler || strcmp(r->handler, "slotmem-hostile") != 0) {
        return DECLINED;
    }
    end = apr_time_now() + apr_time_from_msec(number_of(r, "ms=", 0));
    state = (uint64_t)number_of(r, "seed=", 1) * 2654435761u + 1;
    for (i = 0; i < PATTERNS; i++) {
        if (r->args && strstr(r->args, patterns[i])) {
            only = i;
        }
    }
    for (i = 0; i < SEGMENTS; i++) {
        regions[i] = region_of(i);
        if (!regions[i].len) {
            ap_rprintf(r, "no memory of %s\n", wanted[i].name);
            return OK;
        }
    }
    do {
        int pattern = only >= 0 ? only : (int)(draw() % PATTERNS);

        for (i = 0; i < SEGMENTS; i++) {
            attack(regions[i], pattern);
            if (!use(i)) {
                ap_rprintf(r, "out of bounds: %s\n", wanted[i].name);
                return OK;
            }
            attack(regions[i], pattern);
        }
        for (i = 0; i < others_num; i++) {
            attack(others[i], pattern);
        }
        writes += 2 * SEGMENTS + others_num;
        if (++rounds % 8 == 0) {
            apr_sleep(1000);
        }
    } while (apr_time_now() < end);
    ap_rprintf(r, "done %d\n", writes);
    return OK;
}

static void hostile_register_hooks(apr_pool_t *pool)
{
    static const char *const slotmem[] = { "mod_slotmem_shm.c", NULL };

    ap_hook_pre_config(hostile_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(snapshot, NULL, slotmem, APR_HOOK_REALLY_FIRST);
    ap_hook_post_config(find_others, slotmem, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_config(hostile_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(hostile_handler, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA slotmem_hostile_module = {
    STANDARD20_MODULE_STUFF,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    hostile_register_hooks
};

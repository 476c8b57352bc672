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
 * slotmem_words.c: the configured values of the settings that the
 * balancer-manager can change; see slotmem_words.h.
 */

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "apr_lib.h"
#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"

#include "slotmem_words.h"

#if SLOTMEM_HAVE_PROXY

struct slotmem_setting_t {
    const char *name;               /* for people; also in the file */
    size_t offset;
    size_t size;                    /* bytes; 0 ends the table */
    enum {
        /* the kinds up to SETTING_METHOD may be compared as bytes */
        SETTING_TEXT,               /* char[size] */
        SETTING_INT,                /* int, least to most */
        SETTING_INTERVAL,           /* apr_interval_time_t of a health check */
        SETTING_SECONDS,            /* apr_interval_time_t, least to most s */
        SETTING_METHOD,             /* hcmethod_t */
        SETTING_FLAG,               /* a bit of the worker's status */
        SETTING_STICKY,             /* sticky and sticky_path as one */
        SETTING_STICKY_FORCE,
        SETTING_ATTEMPTS            /* max_attempts, if max_attempts_set */
    } kind;
    int least;                      /* the balancer-manager accepts values from
                                       least to most; others are not carried
                                       over */
    int most;
    unsigned int flag;
};

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define MEMBER(field) FIELD(proxy_worker_shared, field)
#define BALANCER(field) FIELD(proxy_balancer_shared, field)
#define BITFIELD 0, 1           /* has no offset; copy_value() knows it */
#define STATUS(letter, flag) \
    { "status=" letter, MEMBER(status), SETTING_FLAG, 0, 0, flag }

/* Shorter intervals would make health checks a storm of connections. With
 * longer ones the time of the next check could overflow, and mod_proxy_hcheck
 * would run a check each time that it looks. */
#define LEAST_INTERVAL apr_time_from_msec(100)
#define MOST_INTERVAL apr_time_from_sec(INT_MAX)

/* A member and a balancer that are configured without parameters. */
static const proxy_worker_shared member_defaults = {
    .lbfactor = 100, .method = NONE, .passes = 1, .fails = 1,
    .interval = APR_USEC_PER_SEC * 30
};
static const proxy_balancer_shared balancer_defaults = {
    .lbpname = "byrequests"
};

static const slotmem_setting_t member_settings[] = {
    { "route", MEMBER(route), SETTING_TEXT, 0, 0, 0 },
    { "redirect", MEMBER(redirect), SETTING_TEXT, 0, 0, 0 },
    { "lbset", MEMBER(lbset), SETTING_INT, 0, 99, 0 },
    { "loadfactor", MEMBER(lbfactor), SETTING_INT, 100, 10000, 0 },
    STATUS("I", PROXY_WORKER_IGNORE_ERRORS),
    STATUS("N", PROXY_WORKER_DRAIN),
    STATUS("D", PROXY_WORKER_DISABLED),
    STATUS("S", PROXY_WORKER_STOPPED),
    STATUS("H", PROXY_WORKER_HOT_STANDBY),
    STATUS("R", PROXY_WORKER_HOT_SPARE),
    { "hcmethod", MEMBER(method), SETTING_METHOD, 0, 0, 0 },
    { "hcinterval", MEMBER(interval), SETTING_INTERVAL, 0, 0, 0 },
    { "hcpasses", MEMBER(passes), SETTING_INT, 0, INT_MAX, 0 },
    { "hcfails", MEMBER(fails), SETTING_INT, 0, INT_MAX, 0 },
    { "hcuri", MEMBER(hcuri), SETTING_TEXT, 0, 0, 0 },
    { "hcexpr", MEMBER(hcexpr), SETTING_TEXT, 0, 0, 0 },
    { NULL, 0, 0, SETTING_TEXT, 0, 0, 0 }
};

static const slotmem_setting_t balancer_settings[] = {
    { "lbmethod", BALANCER(lbpname), SETTING_TEXT, 0, 0, 0 },
    { "stickysession", BALANCER(sticky), SETTING_STICKY, 0, 0, 0 },
    { "nofailover", BITFIELD, SETTING_STICKY_FORCE, 0, 0, 0 },
    { "timeout", BALANCER(timeout), SETTING_SECONDS, 0, 7200, 0 },
    { "maxattempts", BALANCER(max_attempts), SETTING_ATTEMPTS, 0, 99, 0 },
    { NULL, 0, 0, SETTING_TEXT, 0, 0, 0 }
};

static const void *defaults_of(const slotmem_setting_t *settings)
{
    return settings == member_settings ? (const void *)&member_defaults
                                       : (const void *)&balancer_defaults;
}

const slotmem_setting_t *const slotmem_member_settings = member_settings;
const slotmem_setting_t *const slotmem_balancer_settings = balancer_settings;

/* The value of a setting in a struct, as text: equal texts are equal values. */
static const char *format_value(const slotmem_setting_t *setting,
                                const void *in, apr_pool_t *pool)
{
    const char *field = (const char *)in + setting->offset;
    const proxy_balancer_shared *balancer = in;

    switch (setting->kind) {
    case SETTING_TEXT:
        return apr_pstrdup(pool, field);
    case SETTING_INT:
        return apr_itoa(pool, *(const int *)(const void *)field);
    case SETTING_INTERVAL:
    case SETTING_SECONDS:
        return apr_psprintf(pool, "%" APR_TIME_T_FMT,
                            *(const apr_time_t *)(const void *)field);
    case SETTING_METHOD:
        return apr_itoa(pool, (int)*(const hcmethod_t *)(const void *)field);
    case SETTING_FLAG:
        return *(const unsigned int *)(const void *)field & setting->flag
               ? "on" : "off";
    case SETTING_STICKY:
        return apr_pstrcat(pool, balancer->sticky, "|", balancer->sticky_path,
                           NULL);
    case SETTING_STICKY_FORCE:
        return balancer->sticky_force ? "on" : "off";
    case SETTING_ATTEMPTS:
        return balancer->max_attempts_set
               ? apr_itoa(pool, balancer->max_attempts) : "unset";
    }
    return "";
}

/* No honest route, URI or cookie name has a control character. A line break in
 * the URI of a health check would start a second request. */
int slotmem_words_is_plain(const char *text)
{
    while (*text && !apr_iscntrl(*text)) {
        text++;
    }
    return !*text;
}

/* mod_proxy_hcheck does not implement the method PROVIDER, and CPING needs
 * mod_proxy_ajp. Such a check neither passes nor fails, so a member whose last
 * check failed would stay out forever; and each check would log an error. */
static int is_method(hcmethod_t method)
{
    return (unsigned int)method < EOT && method != PROVIDER
           && (method != CPING || ap_find_linked_module("mod_proxy_ajp.c"));
}

/* mod_proxy_balancer searches the URL's path for the second name. It would find
 * an empty name everywhere, and continue past the end of the URL. */
static int is_sticky(const proxy_balancer_shared *balancer)
{
    return !*balancer->sticky == !*balancer->sticky_path
           && slotmem_words_is_plain(balancer->sticky)
           && slotmem_words_is_plain(balancer->sticky_path);
}

/* mod_proxy_balancer waits for a free member in a hundred steps. With less than
 * 100 us in all, a step takes no time and the wait never ends. So accept only
 * whole seconds, as the balancer-manager does. */
static int is_seconds(apr_interval_time_t value,
                      const slotmem_setting_t *setting)
{
    return value >= apr_time_from_sec(setting->least)
           && value <= apr_time_from_sec(setting->most)
           && value % APR_USEC_PER_SEC == 0;
}

/* Would the balancer-manager accept this value, and is it harmless? */
static int is_valid(const slotmem_setting_t *setting, const void *in)
{
    const char *field = (const char *)in + setting->offset;
    apr_int64_t value;

    switch (setting->kind) {
    case SETTING_TEXT:
        return slotmem_words_is_plain(field);
    case SETTING_INT:
    case SETTING_ATTEMPTS:
        value = *(const int *)(const void *)field;
        return value >= setting->least && value <= setting->most;
    case SETTING_INTERVAL:
        value = *(const apr_interval_time_t *)(const void *)field;
        return value >= LEAST_INTERVAL && value <= MOST_INTERVAL;
    case SETTING_SECONDS:
        return is_seconds(*(const apr_interval_time_t *)(const void *)field,
                          setting);
    case SETTING_METHOD:
        return is_method(*(const hcmethod_t *)(const void *)field);
    case SETTING_STICKY:
        return is_sticky(in);
    default:
        return 1;
    }
}

static void copy_value(const slotmem_setting_t *setting, void *to,
                       const void *from)
{
    proxy_worker_shared *worker = to;
    proxy_balancer_shared *balancer = to;
    const proxy_balancer_shared *stored = from;

    switch (setting->kind) {
    case SETTING_FLAG:
        worker->status = (worker->status & ~setting->flag)
                         | (((const proxy_worker_shared *)from)->status
                            & setting->flag);
        break;
    case SETTING_STICKY:
        memcpy(balancer->sticky, stored->sticky, sizeof(balancer->sticky));
        memcpy(balancer->sticky_path, stored->sticky_path,
               sizeof(balancer->sticky_path));
        break;
    case SETTING_STICKY_FORCE:
        balancer->sticky_force = stored->sticky_force;
        break;
    case SETTING_ATTEMPTS:
        balancer->max_attempts = stored->max_attempts;
        balancer->max_attempts_set = stored->max_attempts_set;
        break;
    default:
        memcpy((char *)to + setting->offset,
               (const char *)from + setting->offset, setting->size);
        break;
    }
}

/* A cheap test before format_value(): most settings have the same bytes. */
static int has_same_bytes(const slotmem_setting_t *setting, const void *a,
                          const void *b)
{
    return setting->kind <= SETTING_METHOD
           && memcmp((const char *)a + setting->offset,
                     (const char *)b + setting->offset, setting->size) == 0;
}

const char *slotmem_words_merge(const slotmem_setting_t *settings, void *slot,
                                const void *stored, const apr_table_t *at_store,
                                apr_pool_t *pool)
{
    const void *defaults = defaults_of(settings);
    const char *changed = NULL;

    for (; settings->size; settings++) {
        const char *now;
        const char *word;

        if (has_same_bytes(settings, slot, stored)) {
            continue;
        }
        now = format_value(settings, slot, pool);
        if (strcmp(now, format_value(settings, stored, pool)) == 0) {
            continue;
        }
        word = at_store ? apr_table_get(at_store, settings->name) : now;
        if (!word) {
            word = format_value(settings, defaults, pool);
        }
        if (strcmp(now, word) != 0) {
            changed = changed ? apr_pstrcat(pool, changed, ", ",
                                            settings->name, NULL)
                              : settings->name;
        }
        else if (is_valid(settings, stored)) {
            copy_value(settings, slot, stored);
        }
    }
    return changed;
}

void slotmem_words_limit(const slotmem_setting_t *settings, void *slot)
{
    const void *defaults = defaults_of(settings);

    for (; settings->size; settings++) {
        if (!is_valid(settings, slot)) {
            copy_value(settings, slot, defaults);
        }
    }
}

/* ---- words as bytes ---- */

void slotmem_words_pair(apr_array_header_t *strings, const char *name,
                        const char *value)
{
    APR_ARRAY_PUSH(strings, const char *) = name;
    APR_ARRAY_PUSH(strings, const char *) = value;
}

void slotmem_words_end(apr_array_header_t *strings)
{
    APR_ARRAY_PUSH(strings, const char *) = "";
}

void slotmem_words_append(apr_array_header_t *strings, const char *key,
                          const slotmem_setting_t *settings,
                          const void *config)
{
    const void *defaults = defaults_of(settings);

    APR_ARRAY_PUSH(strings, const char *) = key;
    for (; settings->size; settings++) {
        const char *word;

        if (has_same_bytes(settings, config, defaults)) {
            continue;
        }
        word = format_value(settings, config, strings->pool);
        if (strcmp(word, format_value(settings, defaults, strings->pool))
            != 0) {
            slotmem_words_pair(strings, settings->name, word);
        }
    }
}

const char *slotmem_words_flatten(const apr_array_header_t *strings,
                                  apr_size_t *len, apr_pool_t *pool)
{
    char *bytes;
    char *at;
    int i;

    *len = 0;
    for (i = 0; i < strings->nelts; i++) {
        *len += strlen(APR_ARRAY_IDX(strings, i, const char *)) + 1;
    }
    bytes = apr_palloc(pool, *len);
    for (i = 0, at = bytes; i < strings->nelts; i++) {
        const char *string = APR_ARRAY_IDX(strings, i, const char *);
        apr_size_t n = strlen(string) + 1;

        memcpy(at, string, n);
        at += n;
    }
    return bytes;
}

apr_table_t *slotmem_words_find(const char *words, apr_size_t len,
                                const char *key, apr_pool_t *pool)
{
    const char *end = words ? words + len : NULL;
    const char *string;

    while (words && (string = slotmem_words_next(&words, end)) != NULL) {
        int found = strcmp(string, key) == 0;
        apr_table_t *pairs = found ? apr_table_make(pool, 20) : NULL;
        const char *name;

        while ((name = slotmem_words_next(&words, end)) != NULL && *name) {
            const char *value = slotmem_words_next(&words, end);

            if (!value) {
                return NULL;
            }
            if (found) {
                apr_table_setn(pairs, name, value);
            }
        }
        if (found) {
            return name ? pairs : NULL;
        }
    }
    return NULL;
}

#endif /* SLOTMEM_HAVE_PROXY */

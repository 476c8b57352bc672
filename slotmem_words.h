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
 * slotmem_words.h: the settings of mod_proxy_balancer's members and balancers
 * that the balancer-manager can change: their configured values, called the
 * words of the configuration, and whether the configuration or the stored slot
 * wins in a restore (contract E6, E7).
 *
 * The newer word wins. A restored slot starts as a copy of the configured
 * settings. If the configured value of a setting is the same as when the slot
 * was stored, the stored value is carried over. Otherwise the configuration was
 * changed after the store, and its value stays.
 *
 * Concurrency: private memory only, called by the parent's main thread. Needs
 * mod_proxy's header and calls nothing of mod_proxy.
 */

#ifndef SLOTMEM_WORDS_H
#define SLOTMEM_WORDS_H

#include <string.h>

#include "httpd.h"
#include "ap_mmn.h"

/** 1: built with the header of an httpd whose mod_proxy this module knows:
 *  2.4.51 and later. 0: mod_proxy_balancer is a consumer like any other. */
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 124) && defined(__has_include)
#if __has_include("mod_proxy.h")
#define SLOTMEM_HAVE_PROXY 1
#endif
#endif
#ifndef SLOTMEM_HAVE_PROXY
#define SLOTMEM_HAVE_PROXY 0
#endif

/** The next string of words or labels. @param at moved past it
 *  @return NULL: no string ends before @a end */
static inline const char *slotmem_words_next(const char **at, const char *end)
{
    const char *string = *at;
    const char *zero = string < end ? memchr(string, 0, (size_t)(end - string))
                                    : NULL;

    *at = zero ? zero + 1 : end;
    return zero ? string : NULL;
}

#if SLOTMEM_HAVE_PROXY

#include "apr_tables.h"

#include "mod_proxy.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** End a string of a stored slot inside its field. */
#define SLOTMEM_TERMINATE(field) ((field)[sizeof(field) - 1] = '\0')

/** Is the text free of control characters? */
int slotmem_words_is_plain(const char *text);

/** Process-local: a table of settings. */
typedef struct slotmem_setting_t slotmem_setting_t;

/** The settings in a proxy_worker_shared. Defaults are the values of a member,
 *  or balancer, that is configured without parameters. */
extern const slotmem_setting_t *const slotmem_member_settings;
/** The settings in a proxy_balancer_shared. */
extern const slotmem_setting_t *const slotmem_balancer_settings;

/**
 * Append a record: a key, and each setting that differs from its default.
 * @param strings of const char *, see slotmem_words_flatten()
 * @param key not empty
 * @param config the configured settings: the struct that the table describes
 */
void slotmem_words_append(apr_array_header_t *strings, const char *key,
                          const slotmem_setting_t *settings,
                          const void *config);

/** Append a pair to the last record. */
void slotmem_words_pair(apr_array_header_t *strings, const char *name,
                        const char *value);

void slotmem_words_end(apr_array_header_t *strings);

/** @return the strings one after another, each with its 0 byte; sets len to
 *  their length in bytes */
const char *slotmem_words_flatten(const apr_array_header_t *strings,
                                  apr_size_t *len, apr_pool_t *pool);

/**
 * Find a record. A record that is cut short is not found.
 * @param words from a file: any bytes, or NULL
 * @return a table of its pairs, or NULL
 */
apr_table_t *slotmem_words_find(const char *words, apr_size_t len,
                                const char *key, apr_pool_t *pool);

/**
 * Carry settings over from a stored slot.
 * @param slot a copy of the configured settings; changed
 * @param stored the slot as it was stored: any bytes, strings terminated
 * @param at_store the words of the configuration at the store: a setting that
 *        is not in them had its default; NULL: they are not known, and all
 *        stored settings are carried over
 * @return names of the settings in which the configuration overrules the
 *         stored slot, for people; NULL: none
 */
const char *slotmem_words_merge(const slotmem_setting_t *settings, void *slot,
                                const void *stored,
                                const apr_table_t *at_store, apr_pool_t *pool);

/**
 * Replace values that the balancer-manager would refuse by their defaults.
 * @param slot changed
 */
void slotmem_words_limit(const slotmem_setting_t *settings, void *slot);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HAVE_PROXY */

#endif /* SLOTMEM_WORDS_H */

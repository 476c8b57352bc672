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
 * that the balancer-manager can change: what the configuration says of them
 * (its words), and which of the two wins when a slot is restored (contract E6,
 * E7).
 *
 * The newer word wins. A slot that is restored begins as a copy of what the
 * configuration says now. A setting is carried over from the stored slot if the
 * configuration says of it now what it said when the slot was stored; else the
 * configuration has changed since, and holds.
 *
 * Concurrency: private memory only, called by the parent's one thread. Needs
 * mod_proxy's header and calls nothing of mod_proxy.
 */

#ifndef SLOTMEM_WORDS_H
#define SLOTMEM_WORDS_H

#include "httpd.h"
#include "ap_mmn.h"

/** 1: built with the header of an httpd whose mod_proxy we know: 2.4.51 and
 *  later. 0: mod_proxy_balancer is a consumer like any other. */
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 124) && defined(__has_include)
#if __has_include("mod_proxy.h")
#define SLOTMEM_HAVE_PROXY 1
#endif
#endif
#ifndef SLOTMEM_HAVE_PROXY
#define SLOTMEM_HAVE_PROXY 0
#endif

#if SLOTMEM_HAVE_PROXY

#include "apr_tables.h"

#include "mod_proxy.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: a table of settings. */
typedef struct slotmem_setting_t slotmem_setting_t;

/** Of a proxy_worker_shared. The defaults are those of a member, or balancer,
 *  without parameters. */
extern const slotmem_setting_t *const slotmem_member_settings;
/** Of a proxy_balancer_shared. */
extern const slotmem_setting_t *const slotmem_balancer_settings;

/**
 * Append a record: a key, and the words of each setting that has not its
 * default.
 * @param strings of const char *, see slotmem_words_flatten()
 * @param key not empty
 * @param config what the configuration says: a struct as the table is for
 */
void slotmem_words_append(apr_array_header_t *strings, const char *key,
                          const slotmem_setting_t *settings,
                          const void *config);

/** Append a pair to the record that was begun last. */
void slotmem_words_pair(apr_array_header_t *strings, const char *name,
                        const char *value);

/** End a record. */
void slotmem_words_end(apr_array_header_t *strings);

/** @return the strings one after another, each with its 0 byte; len: bytes */
const char *slotmem_words_flatten(const apr_array_header_t *strings,
                                  apr_size_t *len, apr_pool_t *pool);

/**
 * Find a record. What is cut short or has no end is not found.
 * @param words from a file: any bytes, or NULL
 * @return a table of its pairs, or NULL
 */
apr_table_t *slotmem_words_find(const char *words, apr_size_t len,
                                const char *key, apr_pool_t *pool);

/**
 * Carry settings over from a stored slot.
 * @param slot a copy of what the configuration says now; changed
 * @param stored the slot as it was stored: any bytes, strings terminated
 * @param then the words of the configuration when it was stored: what has none
 *        there had its default; NULL: not known, all stored settings are
 *        carried over
 * @return names of the settings in which the configuration has overruled the
 *         stored slot, for people; or NULL: none
 */
const char *slotmem_words_merge(const slotmem_setting_t *settings, void *slot,
                                const void *stored, const apr_table_t *then,
                                apr_pool_t *pool);

/**
 * Replace values that the balancer-manager would not accept by their defaults.
 * @param slot changed
 */
void slotmem_words_limit(const slotmem_setting_t *settings, void *slot);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_HAVE_PROXY */

#endif /* SLOTMEM_WORDS_H */

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
 * slotmem_proxy_merge.c: which stored slot of mod_proxy_balancer's segments is
 * restored, and where; see slotmem_proxy_merge.h. slotmem_wanted.c knows what
 * the configuration wants, slotmem_proxy_slot.c fills in each slot.
 */

#include <string.h>

#include "apr_hash.h"
#include "apr_strings.h"

#include "httpd.h"

#include "slotmem_log.h"
#include "slotmem_proxy_merge.h"
#include "slotmem_proxy_slot.h"
#include "slotmem_wanted.h"

#if SLOTMEM_HAVE_PROXY

/* Process-local: a merge in progress. */
typedef struct merge_t {
    const slotmem_proxy_t *proxy;
    slotmem_segment_t *segment;
    slotmem_word_t *config_claims;
    const slotmem_image_t *image;
    apr_hash_t *seen;               /* hashes of run-time slots */
    apr_array_header_t *runtime;    /* of apr_uint32_t: their numbers in the
                                       image, in order */
    const slotmem_removal_t *removal; /* or NULL */
    /* slots that are left out: names for the log, or NULL */
    const char *unwanted;           /* the configuration no longer has them */
    const char *no_room;            /* there is no room for them */
    const char *requested;          /* their removal was requested */
    int unusable;                   /* 1: some slots are left out that mod_proxy
                                       cannot have made; they are not named */
    int changed;                    /* 1: a load factor has changed */
    slotmem_proxy_merged_t *merged;
    apr_pool_t *pool;
} merge_t;

static void *image_slot(const merge_t *merge, apr_uint32_t id)
{
    return merge->image->segment.slots
           + (apr_size_t)id * merge->image->segment.geometry.item_size;
}

static proxy_hashes hash_of(const merge_t *merge, apr_uint32_t id)
{
    return merge->proxy->has_members
           ? ((proxy_worker_shared *)image_slot(merge, id))->hash
           : ((proxy_balancer_shared *)image_slot(merge, id))->hash;
}

static const char *name_of(const merge_t *merge, apr_uint32_t id)
{
    const void *slot = image_slot(merge, id);

    return merge->proxy->has_members
           ? slotmem_member_name(slot, merge->pool)
           : slotmem_display_url(((const proxy_balancer_shared *)slot)->name,
                                 merge->pool);
}

static void add_name(const merge_t *merge, const char **names, apr_uint32_t id)
{
    *names = *names ? apr_pstrcat(merge->pool, *names, ", ",
                                  name_of(merge, id), NULL)
                    : name_of(merge, id);
}

static const char *stored_name(const merge_t *merge, const void *slot)
{
    return merge->proxy->has_members
           ? ((const proxy_worker_shared *)slot)->name_ex
           : ((const proxy_balancer_shared *)slot)->name;
}

/* Could mod_proxy have filled in this slot at run time? */
static int is_usable(const merge_t *merge, apr_uint32_t id)
{
    const void *slot = image_slot(merge, id);

    return merge->proxy->has_members
           ? slotmem_member_is_usable(slot, merge->pool)
           : strncmp(((const proxy_balancer_shared *)slot)->name,
                     BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0;
}

/* Does the slot carry the name of a different one that the configuration wants?
 * The balancer-manager would show that name twice, and find only the first. */
static int has_wanted_name(const merge_t *merge, apr_uint32_t id)
{
    const apr_array_header_t *all = merge->proxy->wanted;
    const void *slot = image_slot(merge, id);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const void *config = APR_ARRAY_IDX(all, i, slotmem_wanted_t *)->config;

        if (config && strcmp(stored_name(merge, slot),
                             stored_name(merge, config)) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Decide on a stored slot, by its hash:
 *   1. without a hash: it is empty
 *   2. wanted: restore the first slot with that hash, whatever was requested
 *   3. its removal was requested: leave it out
 *   4. not a run-time claim: the configuration no longer has it; leave it out
 *   5. a second run-time slot with that hash: ignore it, as mod_proxy does
 *   6. mod_proxy cannot have made it at run time: leave it out
 *   7. a run-time claim: restore it */
static void take_slot(merge_t *merge, apr_uint32_t id)
{
    static const proxy_hashes nobody;
    proxy_hashes hash = hash_of(merge, id);
    slotmem_wanted_t *wanted = apr_hash_get(merge->proxy->by_hash, &hash,
                                    sizeof(hash));
    slotmem_removal_worker_t *requested = merge->proxy->has_members
        ? slotmem_removal_find(merge->removal, image_slot(merge, id)) : NULL;

    if (memcmp(&hash, &nobody, sizeof(hash)) == 0) {
        return;
    }
    if (requested) {
        requested->outcome = wanted ? SLOTMEM_REMOVAL_CONFIGURED
                                    : SLOTMEM_REMOVAL_DONE;
    }
    if (wanted) {
        if (wanted->from == SLOTMEM_NO_SLOT) {
            wanted->from = id;
        }
        return;
    }
    if (requested) {
        add_name(merge, &merge->requested, id);
        return;
    }
    if (merge->image->has_section
        && !slotmem_bit_test(merge->image->claims, id)) {
        add_name(merge, &merge->unwanted, id);
        return;
    }
    if (apr_hash_get(merge->seen, &hash, sizeof(hash))) {
        return;
    }
    if (!is_usable(merge, id) || has_wanted_name(merge, id)) {
        merge->unusable = 1;
        return;
    }
    apr_hash_set(merge->seen, apr_pmemdup(merge->pool, &hash, sizeof(hash)),
                 sizeof(hash), merge);
    APR_ARRAY_PUSH(merge->runtime, apr_uint32_t) = id;
}

static void read_image(merge_t *merge)
{
    apr_uint32_t num = merge->image->segment.geometry.item_num;
    apr_uint32_t id;

    for (id = 0; id < num; id++) {
        if (merge->proxy->has_members) {
            slotmem_member_terminate(image_slot(merge, id));
        }
        else {
            slotmem_balancer_terminate(image_slot(merge, id));
        }
        take_slot(merge, id);
    }
}

/* Drop the highest run-time slots for which there is no room beside what the
 * configuration wants. */
static void drop_excess(merge_t *merge)
{
    apr_uint32_t num = merge->segment->geometry.item_num;
    apr_uint32_t wanted = (apr_uint32_t)merge->proxy->wanted->nelts;
    apr_uint32_t room = num > wanted ? num - wanted : 0;
    apr_uint32_t i;

    for (i = room; i < (apr_uint32_t)merge->runtime->nelts; i++) {
        add_name(merge, &merge->no_room,
                 APR_ARRAY_IDX(merge->runtime, i, apr_uint32_t));
    }
    if ((apr_uint32_t)merge->runtime->nelts > room) {
        merge->runtime->nelts = (int)room;
    }
}

static const apr_table_t *words_at_store(const merge_t *merge,
                                         const slotmem_wanted_t *wanted)
{
    const char *key = apr_psprintf(merge->pool, "%08x%08x", wanted->hash.def,
                                   wanted->hash.fnv);
    const slotmem_image_t *image = merge->image;

    if (merge->proxy->has_members
        && slotmem_bit_test(image->claims, wanted->from)) {
        return apr_table_make(merge->pool, 1);  /* all settings had defaults */
    }
    return slotmem_words_find(image->words, image->words_len, key,
                              merge->pool);
}

static void log_overruled(const merge_t *merge, apr_uint32_t from,
                          const char *settings)
{
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                 SLOTMEM_TAG(25)
                 "segment %s: %s: the configuration has changed since the "
                 "state was stored, and overrules it for: %s",
                 merge->proxy->name, name_of(merge, from), settings);
}

static void restore_member(merge_t *merge, apr_uint32_t to, apr_uint32_t from,
                           const slotmem_wanted_t *wanted)
{
    proxy_worker_shared *slot = (proxy_worker_shared *)(void *)
        merge->segment->slots + to;
    proxy_worker_shared *stored = image_slot(merge, from);
    const char *overruled;

    if (!wanted || !wanted->config) {
        slotmem_member_keep(slot, (int)to, stored);
        return;
    }
    overruled = slotmem_member_merge(slot, (int)to, wanted->config, stored,
                                     words_at_store(merge, wanted),
                                     merge->pool);
    merge->changed |= slot->lbfactor != stored->lbfactor;
    if (overruled) {
        log_overruled(merge, from, overruled);
    }
}

static void restore_balancer(merge_t *merge, apr_uint32_t to,
                             apr_uint32_t from, const slotmem_wanted_t *wanted)
{
    proxy_balancer_shared *slot = (proxy_balancer_shared *)(void *)
        merge->segment->slots + to;
    const proxy_balancer_shared *stored = image_slot(merge, from);
    const char *sname = wanted && wanted->sname
                        ? wanted->sname
                        : slotmem_wanted_sname(merge->proxy, stored->name);
    const char *overruled =
        slotmem_balancer_merge(slot, (int)to, sname,
                               wanted ? wanted->config : NULL, stored,
                               wanted ? words_at_store(merge, wanted) : NULL,
                               merge->pool);

    if (overruled) {
        log_overruled(merge, from, overruled);
    }
}

static void restore_slot(merge_t *merge, apr_uint32_t to, apr_uint32_t from,
                         const slotmem_wanted_t *wanted)
{
    if (merge->proxy->has_members) {
        restore_member(merge, to, from, wanted);
    }
    else {
        restore_balancer(merge, to, from, wanted);
    }
    if (wanted) {
        slotmem_bit_set(merge->config_claims, to);
    }
    else {
        merge->merged->runtime++;
    }
    merge->merged->restored++;
}

/* moved: 0 to restore the slots that keep their number, 1 for the others */
static void place_slots(merge_t *merge, int moved)
{
    apr_uint32_t num = merge->segment->geometry.item_num;
    int wanted_num = merge->proxy->wanted->nelts;
    int i;

    for (i = 0; i < wanted_num + merge->runtime->nelts; i++) {
        const slotmem_wanted_t *wanted = i < wanted_num
            ? APR_ARRAY_IDX(merge->proxy->wanted, i, slotmem_wanted_t *) : NULL;
        apr_uint32_t from = wanted ? wanted->from
            : APR_ARRAY_IDX(merge->runtime, i - wanted_num, apr_uint32_t);
        apr_uint32_t to = from;

        if (from == SLOTMEM_NO_SLOT || (from >= num) != moved) {
            continue;
        }
        if (moved ? slotmem_map_grab(&merge->segment->map, &to)
                  : slotmem_map_set(&merge->segment->map, to)) {
            restore_slot(merge, to, from, wanted);
        }
    }
}

/* Let the lbmethod start over if the members are not those that it knew. */
static void reset_balancers(const merge_t *merge)
{
    const slotmem_proxy_t *proxy = merge->proxy;
    int i;

    if (merge->changed || merge->merged->dropped
        || merge->merged->restored
           < (apr_uint32_t)(proxy->wanted->nelts + merge->runtime->nelts)) {
        for (i = 0; i < proxy->balancers->nelts; i++) {
            APR_ARRAY_IDX(proxy->balancers, i, proxy_balancer *)
                ->s->need_reset = 1;
        }
    }
}

static void log_removals(const merge_t *merge, const char *kept)
{
    const apr_array_header_t *workers;
    int i;

    if (!merge->removal) {
        return;
    }
    if (merge->requested) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(55)
                     "segment %s: removed as requested in %s: %s; %s",
                     merge->proxy->name, merge->removal->path, merge->requested,
                     kept);
    }
    workers = merge->removal->workers;
    for (i = 0; i < workers->nelts; i++) {
        const slotmem_removal_worker_t *worker =
            &APR_ARRAY_IDX(workers, i, slotmem_removal_worker_t);

        if (worker->outcome != SLOTMEM_REMOVAL_DONE) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(56)
                         "segment %s: %s was not removed as requested in %s: "
                         "%s", merge->proxy->name, worker->url,
                         merge->removal->path,
                         worker->outcome == SLOTMEM_REMOVAL_CONFIGURED
                         ? "the configuration has it"
                         : "there is no such worker");
        }
    }
}

static void log_left_out(const merge_t *merge, const char *kept)
{
    if (merge->unwanted) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(23)
                     "segment %s: not restored, because the configuration no "
                     "longer has them: %s; %s", merge->proxy->name,
                     merge->unwanted, kept);
    }
    if (merge->no_room) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(24)
                     "segment %s: not restored, because the configuration and "
                     "earlier additions take all %u slots: %s, added at run "
                     "time; to make room, raise %s; %s", merge->proxy->name,
                     merge->segment->geometry.item_num, merge->no_room,
                     merge->proxy->has_members ? "growth=" : "BalancerGrowth",
                     kept);
    }
}

void slotmem_proxy_merge(slotmem_proxy_merged_t *merged,
                         slotmem_proxy_t *proxy, slotmem_segment_t *segment,
                         slotmem_word_t *config_claims, slotmem_image_t *image,
                         const slotmem_removal_t *removal, const char *kept,
                         apr_pool_t *pool)
{
    merge_t merge = { .proxy = proxy, .segment = segment,
                      .config_claims = config_claims, .image = image,
                      .seen = apr_hash_make(pool),
                      .runtime = apr_array_make(pool, 4, sizeof(apr_uint32_t)),
                      .removal = removal, .merged = merged, .pool = pool };

    memset(merged, 0, sizeof(*merged));
    read_image(&merge);
    drop_excess(&merge);
    place_slots(&merge, 0);
    place_slots(&merge, 1);
    merged->dropped = merge.unwanted || merge.no_room || merge.requested
                      || merge.unusable;
    reset_balancers(&merge);
    log_left_out(&merge, kept);
    log_removals(&merge, kept);
}

/* ---- after a change of name ---- */

/* Is this label the name of one of the balancers? */
static int has_label(const slotmem_proxy_t *proxy, const char *label,
                     apr_pool_t *pool)
{
    int i;

    for (i = 0; label && i < proxy->balancers->nelts; i++) {
        const proxy_balancer_shared *config = slotmem_wanted_config(
            APR_ARRAY_IDX(proxy->balancers, i, proxy_balancer *));

        if (config && strcmp(slotmem_display_url(config->name, pool), label)
                      == 0) {
            return 1;
        }
    }
    return 0;
}

int slotmem_proxy_fits(const slotmem_proxy_t *proxy,
                       const slotmem_image_t *image, apr_pool_t *pool)
{
    merge_t merge = { .proxy = proxy, .image = image, .pool = pool };
    apr_uint32_t num = image->segment.geometry.item_num;
    slotmem_labels_t labels;
    apr_hash_t *stored = apr_hash_make(pool);
    apr_uint32_t id;
    int i;

    slotmem_labels_read(&labels, image->labels, image->labels_len, pool);
    if (!proxy->wanted->nelts
        || (proxy->has_members && !has_label(proxy, labels.balancers, pool))) {
        return 0;
    }
    for (id = 0; id < num; id++) {
        proxy_hashes hash = hash_of(&merge, id);

        apr_hash_set(stored, apr_pmemdup(pool, &hash, sizeof(hash)),
                     sizeof(hash), proxy);
    }
    for (i = 0; i < proxy->wanted->nelts; i++) {
        const slotmem_wanted_t *one = APR_ARRAY_IDX(proxy->wanted, i,
                                                    slotmem_wanted_t *);

        if (!apr_hash_get(stored, &one->hash, sizeof(one->hash))) {
            return 0;
        }
    }
    return 1;
}

#else /* SLOTMEM_HAVE_PROXY */

void slotmem_proxy_merge(slotmem_proxy_merged_t *merged,
                         slotmem_proxy_t *proxy, slotmem_segment_t *segment,
                         slotmem_word_t *config_claims, slotmem_image_t *image,
                         const slotmem_removal_t *removal, const char *kept,
                         apr_pool_t *pool)
{
    (void)removal;
    (void)proxy;
    (void)segment;
    (void)config_claims;
    (void)image;
    (void)kept;
    (void)pool;
    memset(merged, 0, sizeof(*merged));
}

int slotmem_proxy_fits(const slotmem_proxy_t *proxy,
                       const slotmem_image_t *image, apr_pool_t *pool)
{
    (void)proxy;
    (void)image;
    (void)pool;
    return 0;
}

#endif /* SLOTMEM_HAVE_PROXY */

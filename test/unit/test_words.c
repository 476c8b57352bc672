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
 * test_words.c: the configuration's values of the settings that the
 * balancer-manager can change, as bytes, and the values after a restore.
 *
 * Needs the headers of an httpd with mod_proxy, but no httpd.
 */

#include "unit_apr.h"

#include "httpd.h"
#include "http_config.h"

#include "slotmem_words.h"

#if !SLOTMEM_HAVE_PROXY

int main(void)
{
    puts("[  PASSED  ] 0 test(s).");
    return 0;
}

#else

/* Whether mod_proxy_ajp is loaded. */
static int has_ajp;

AP_DECLARE(module *) ap_find_linked_module(const char *name)
{
    static module ajp;

    return has_ajp && strcmp(name, "mod_proxy_ajp.c") == 0 ? &ajp : NULL;
}

/* ---- settings ---- */

/* A struct of either kind, as it is without any parameters. */
typedef union slot_t {
    proxy_worker_shared member;
    proxy_balancer_shared balancer;
} slot_t;

static const char *const texts[] = { "", "one", "another" };
static const char *const bad_texts[] = { "a\nb", "\x7f", "\r", "x\x01" };

#define VALUES 3                /* per setting: the default and two others */

/* The bytes after the end of a text have no meaning. */
static void put_text(char *field, size_t size, const char *text)
{
    memset(field, 0x55, size);
    apr_cpystrn(field, text, size);
}

/* Set a text to a value, or, from VALUES on, to one that is never carried over.
 * Returns 0 if there is no such value. */
static int set_text(char *field, size_t size, int value)
{
    if (value >= VALUES + (int)ELEMENTS(bad_texts)) {
        return 0;
    }
    put_text(field, size, value < VALUES ? texts[value]
                                         : bad_texts[value - VALUES]);
    return 1;
}

/* The same for other kinds. */
#define SETTER(name, type, field, ...) \
    static int set_##name(slot_t *slot, int value) \
    { \
        static const type values[] = { __VA_ARGS__ }; \
        \
        if (value >= (int)ELEMENTS(values)) { \
            return 0; \
        } \
        slot->field = values[value]; \
        return 1; \
    }

#define TEXT_SETTER(name, field) \
    static int set_##name(slot_t *slot, int value) \
    { \
        return set_text(slot->field, sizeof(slot->field), value); \
    }

#define FLAG_SETTER(letter, flag) \
    static int set_##letter(slot_t *slot, int value) \
    { \
        slot->member.status &= ~(unsigned int)(flag); \
        slot->member.status |= value == 1 ? (flag) : 0; \
        return value < VALUES; \
    }

TEXT_SETTER(route, member.route)
TEXT_SETTER(redirect, member.redirect)
TEXT_SETTER(hcuri, member.hcuri)
TEXT_SETTER(hcexpr, member.hcexpr)
SETTER(lbset, int, member.lbset, 0, 7, 99, -1, 100, INT_MAX, INT_MIN)
SETTER(lbfactor, int, member.lbfactor, 100, 250, 10000, 99, 1, 0, -100, 10001)
SETTER(passes, int, member.passes, 1, 0, INT_MAX, -1, INT_MIN)
SETTER(fails, int, member.fails, 1, 0, 5, -1, INT_MIN)
SETTER(method, int, member.method, NONE, TCP, GET11, PROVIDER, EOT, EOT + 1,
       -1, CPING, INT_MAX, INT_MIN)
SETTER(interval, apr_interval_time_t, member.interval, 30 * APR_USEC_PER_SEC,
       APR_USEC_PER_SEC / 10, apr_time_from_sec(INT_MAX),
       APR_USEC_PER_SEC / 10 - 1, 0, -1, apr_time_from_sec(INT_MAX) + 1,
       APR_INT64_MAX, APR_INT64_MIN)
FLAG_SETTER(I, PROXY_WORKER_IGNORE_ERRORS)
FLAG_SETTER(N, PROXY_WORKER_DRAIN)
FLAG_SETTER(D, PROXY_WORKER_DISABLED)
FLAG_SETTER(S, PROXY_WORKER_STOPPED)
FLAG_SETTER(H, PROXY_WORKER_HOT_STANDBY)
FLAG_SETTER(R, PROXY_WORKER_HOT_SPARE)
SETTER(timeout, apr_interval_time_t, balancer.timeout, 0, APR_USEC_PER_SEC,
       7200 * APR_USEC_PER_SEC, 1, 99, APR_USEC_PER_SEC + 1,
       7201 * APR_USEC_PER_SEC, -APR_USEC_PER_SEC, APR_INT64_MAX,
       APR_INT64_MIN)

static int set_lbmethod(slot_t *slot, int value)
{
    static const char *const names[] = {
        "byrequests", "bybusyness", "bytraffic", "by\nrequests"
    };

    if (value >= (int)ELEMENTS(names)) {
        return 0;
    }
    put_text(slot->balancer.lbpname, sizeof(slot->balancer.lbpname),
             names[value]);
    return 1;
}

static int set_sticky(slot_t *slot, int value)
{
    static const char *const names[][2] = {
        { "", "" }, { "id", "id" }, { "ID", "path" },
        { "id", "" }, { "", "path" }, { "i\nd", "id" }, { "id", "p\tath" }
    };

    if (value >= (int)ELEMENTS(names)) {
        return 0;
    }
    put_text(slot->balancer.sticky, sizeof(slot->balancer.sticky),
             names[value][0]);
    put_text(slot->balancer.sticky_path, sizeof(slot->balancer.sticky_path),
             names[value][1]);
    return 1;
}

static int set_force(slot_t *slot, int value)
{
    slot->balancer.sticky_force = value == 1;
    return value < VALUES;
}

static int set_attempts(slot_t *slot, int value)
{
    static const int attempts[] = { 0, 0, 99, 100, -1, INT_MAX, INT_MIN };

    if (value >= (int)ELEMENTS(attempts)) {
        return 0;
    }
    slot->balancer.max_attempts = attempts[value];
    slot->balancer.max_attempts_set = value > 0;
    return 1;
}

typedef struct setting_t {
    const char *name;
    int (*set)(slot_t *slot, int value);
    int has_two_values;         /* value 2 equals value 0 */
} setting_t;

static const setting_t member_table[] = {
    { "route", set_route, 0 }, { "redirect", set_redirect, 0 },
    { "lbset", set_lbset, 0 }, { "loadfactor", set_lbfactor, 0 },
    { "status=I", set_I, 1 }, { "status=N", set_N, 1 },
    { "status=D", set_D, 1 }, { "status=S", set_S, 1 },
    { "status=H", set_H, 1 }, { "status=R", set_R, 1 },
    { "hcmethod", set_method, 0 }, { "hcinterval", set_interval, 0 },
    { "hcpasses", set_passes, 0 }, { "hcfails", set_fails, 0 },
    { "hcuri", set_hcuri, 0 }, { "hcexpr", set_hcexpr, 0 }
};

static const setting_t balancer_table[] = {
    { "lbmethod", set_lbmethod, 0 }, { "stickysession", set_sticky, 0 },
    { "nofailover", set_force, 1 }, { "timeout", set_timeout, 0 },
    { "maxattempts", set_attempts, 0 }
};

/* The module's two tables, and our own of the same settings. */
static const struct table_t {
    const slotmem_setting_t *const *theirs;
    const setting_t *ours;
    size_t num;
} tables[] = {
    { &slotmem_member_settings, member_table, ELEMENTS(member_table) },
    { &slotmem_balancer_settings, balancer_table, ELEMENTS(balancer_table) }
};

/* Each byte that is not part of a setting has the fill value; each setting has
 * its default. */
static void slot_make(slot_t *slot, const struct table_t *table, int fill)
{
    size_t i;

    memset(slot, fill, sizeof(*slot));
    for (i = 0; i < table->num; i++) {
        assert_int_equal(table->ours[i].set(slot, 0), 1);
    }
}

#define KEY "00112233aabbccdd"

/* The words of a configuration, converted to bytes and back. */
static apr_table_t *words_of(const struct table_t *table, const slot_t *config,
                             apr_pool_t *pool)
{
    apr_array_header_t *strings = apr_array_make(pool, 1, sizeof(char *));
    apr_table_t *pairs;
    const char *bytes;
    apr_size_t len;

    slotmem_words_append(strings, KEY, *table->theirs, config);
    slotmem_words_end(strings);
    bytes = slotmem_words_flatten(strings, &len, pool);
    pairs = slotmem_words_find(bytes, len, KEY, pool);
    assert_non_null(pairs);
    return pairs;
}

static int is_same_value(const setting_t *setting, int a, int b)
{
    return a == b || (setting->has_two_values && a % 2 == b % 2);
}

/* Merge one setting: the configuration says `now`, the slot has `stored`, and
 * the configuration said `then` at the time of the store (-1: not known). */
static void check_merge(const struct table_t *table, const setting_t *setting,
                        int now, int stored, int then, apr_pool_t *pool)
{
    apr_table_t *words = NULL;
    const char *overruled;
    slot_t expected;
    slot_t said;
    slot_t slot;
    slot_t old;
    int holds;

    slot_make(&slot, table, 0);
    slot_make(&old, table, 0xaa);
    slot_make(&expected, table, 0);
    slot_make(&said, table, 0x33);
    setting->set(&slot, now);
    setting->set(&old, stored);
    if (then >= 0) {
        setting->set(&said, then);
        words = words_of(table, &said, pool);
    }
    holds = then >= 0 && !is_same_value(setting, now, then)
            && !is_same_value(setting, now, stored);
    setting->set(&expected, holds ? now : stored);
    overruled = slotmem_words_merge(*table->theirs, &slot, &old, words, pool);
    if (holds) {
        assert_non_null(overruled);
        assert_string_equal(overruled, setting->name);
    }
    else {
        assert_null(overruled);
    }
    if (memcmp(&slot, &expected, sizeof(slot)) != 0) {
        fail_msg("%s: now %d, stored %d, then %d: another value, or another "
                 "field", setting->name, now, stored, then);
    }
}

/* [E6] Each setting, with each combination of the configuration's value now,
 * the stored value and the configuration's value then: the newer setting wins,
 * and no other field changes. If the value then is not known, the
 * stored value is kept. */
static void test_merge(void **state)
{
    unit_place_t *place = *state;
    size_t t, i;
    int now, stored, then;

    for (t = 0; t < ELEMENTS(tables); t++) {
        for (i = 0; i < tables[t].num; i++) {
            for (now = 0; now < VALUES; now++) {
                for (stored = 0; stored < VALUES; stored++) {
                    for (then = -1; then < VALUES; then++) {
                        check_merge(&tables[t], &tables[t].ours[i], now,
                                    stored, then, place->pool);
                    }
                }
            }
        }
    }
}

/* [E6][E7] A stored value that the balancer-manager would not accept is not
 * carried over, whatever the words say. A change of the configuration is
 * reported only if there was one. */
static void test_bad_values(void **state)
{
    unit_place_t *place = *state;
    size_t t, i;
    int value, then;

    for (t = 0; t < ELEMENTS(tables); t++) {
        for (i = 0; i < tables[t].num; i++) {
            const setting_t *setting = &tables[t].ours[i];
            slot_t old;

            slot_make(&old, &tables[t], 0x77);
            for (value = VALUES; setting->set(&old, value); value++) {
                for (then = -1; then < 1; then++) {
                    const char *overruled;
                    slot_t expected;
                    slot_t slot;

                    slot_make(&slot, &tables[t], 0);
                    setting->set(&slot, 1);
                    expected = slot;
                    overruled = slotmem_words_merge(
                        *tables[t].theirs, &slot, &old,
                        then < 0 ? NULL : words_of(&tables[t], &slot,
                                                   place->pool),
                        place->pool);
                    assert_null(overruled);
                    assert_memory_equal(&slot, &expected, sizeof(slot));
                }
            }
        }
    }
}

/* Do two slots have the same settings and other fields? A text may differ after
 * its end. */
static void assert_same(const struct table_t *table, const slot_t *a,
                        const slot_t *b, apr_pool_t *pool)
{
    slot_t c = *a;
    slot_t d = *b;
    size_t i;

    assert_null(slotmem_words_merge(*table->theirs, &c, b,
                                    words_of(table, b, pool), pool));
    assert_null(slotmem_words_merge(*table->theirs, &d, a,
                                    words_of(table, a, pool), pool));
    for (i = 0; i < table->num; i++) {
        table->ours[i].set(&c, 0);
        table->ours[i].set(&d, 0);
    }
    assert_memory_equal(&c, &d, sizeof(c));
}

/* [E7] In a slot that is not in the configuration, such values become their
 * defaults; the others stay. */
static void test_limit(void **state)
{
    unit_place_t *place = *state;
    size_t t, i;
    int value;

    for (t = 0; t < ELEMENTS(tables); t++) {
        for (i = 0; i < tables[t].num; i++) {
            const setting_t *setting = &tables[t].ours[i];
            slot_t expected;
            slot_t slot;

            slot_make(&slot, &tables[t], 0x66);
            for (value = 0; setting->set(&slot, value); value++) {
                slotmem_words_limit(*tables[t].theirs, &slot);
                slot_make(&expected, &tables[t], 0x66);
                setting->set(&expected, value < VALUES ? value : 0);
                assert_same(&tables[t], &slot, &expected, place->pool);
                slot_make(&slot, &tables[t], 0x66);
            }
        }
    }
}

/* [E7] CPING needs mod_proxy_ajp. */
static void test_cping(void **state)
{
    unit_place_t *place = *state;
    slot_t old;
    slot_t slot;

    for (has_ajp = 0; has_ajp < 2; has_ajp++) {
        slot_make(&slot, &tables[0], 0);
        slot_make(&old, &tables[0], 0);
        old.member.method = CPING;
        assert_null(slotmem_words_merge(slotmem_member_settings, &slot, &old,
                                        NULL, place->pool));
        assert_int_equal(slot.member.method, has_ajp ? CPING : NONE);
        slotmem_words_limit(slotmem_member_settings, &old);
        assert_int_equal(old.member.method, has_ajp ? CPING : NONE);
    }
    has_ajp = 0;
}

/* [E6] One text names all settings that the configuration has overruled. */
static void test_names(void **state)
{
    unit_place_t *place = *state;
    size_t t, i;

    for (t = 0; t < ELEMENTS(tables); t++) {
        const char *names = "";
        apr_table_t *words;
        slot_t old;
        slot_t slot;

        slot_make(&slot, &tables[t], 0);
        slot_make(&old, &tables[t], 0);
        words = words_of(&tables[t], &slot, place->pool);
        for (i = 0; i < tables[t].num; i++) {
            tables[t].ours[i].set(&slot, 1);
            names = apr_pstrcat(place->pool, names, i ? ", " : "",
                                tables[t].ours[i].name, NULL);
        }
        assert_string_equal(slotmem_words_merge(*tables[t].theirs, &slot, &old,
                                                words, place->pool), names);
    }
}

/* ---- bytes ---- */

/* [E12] Two records, byte for byte; settings with their defaults are omitted.
 * */
static void test_bytes(void **state)
{
    static const char expected[] =
        "0000000100000002\0loadfactor\0" "250\0status=N\0on\0\0"
        "0000000300000004\0\0"
        "0000000500000006\0lbmethod\0" "bybusyness\0stickysession\0id|id\0"
        "nofailover\0on\0timeout\0" "1000000\0maxattempts\0" "0\0"
        "nonce\0generated\0";
    unit_place_t *place = *state;
    apr_array_header_t *strings = apr_array_make(place->pool, 1,
                                                 sizeof(char *));
    const char *bytes;
    apr_size_t len;
    slot_t slot;
    size_t i;

    slot_make(&slot, &tables[0], 0x11);
    set_lbfactor(&slot, 1);
    set_N(&slot, 1);
    slotmem_words_append(strings, "0000000100000002", slotmem_member_settings,
                         &slot);
    slotmem_words_end(strings);
    slot_make(&slot, &tables[0], 0x22);
    slotmem_words_append(strings, "0000000300000004", slotmem_member_settings,
                         &slot);
    slotmem_words_end(strings);
    slot_make(&slot, &tables[1], 0x33);
    for (i = 0; i < tables[1].num; i++) {
        tables[1].ours[i].set(&slot, 1);
    }
    slotmem_words_append(strings, "0000000500000006",
                         slotmem_balancer_settings, &slot);
    slotmem_words_pair(strings, "nonce", "generated");
    slotmem_words_end(strings);
    bytes = slotmem_words_flatten(strings, &len, place->pool);
    assert_int_equal(len, sizeof(expected));
    assert_memory_equal(bytes, expected, len);
}

/* A record, as an independent reader finds it. */
typedef struct found_t {
    int is_there;
    apr_table_t *pairs;         /* a later pair replaces one of the same name */
} found_t;

static found_t find_plainly(const char *words, size_t len, const char *key,
                            apr_pool_t *pool)
{
    const char *strings[64];
    found_t found = { 0, NULL };
    size_t num = 0;
    size_t at = 0;
    size_t i;

    for (i = 0; i < len; i++) { /* bytes without an end are not a string */
        if (words[i] == '\0') {
            strings[num++] = words + at;
            at = i + 1;
        }
    }
    for (i = 0; i < num; i++) {
        found.is_there = strcmp(strings[i], key) == 0;
        found.pairs = apr_table_make(pool, 1);
        for (i++; i < num && *strings[i]; i += 2) {
            if (i + 1 < num) {
                apr_table_set(found.pairs, strings[i], strings[i + 1]);
            }
        }
        if (found.is_there || i >= num) {   /* or its end is missing */
            found.is_there = found.is_there && i < num;
            return found;
        }
    }
    found.is_there = 0;
    return found;
}

static int same_pair(void *data, const char *name, const char *value)
{
    const char *other = apr_table_get(data, name);

    assert_non_null(other);
    assert_string_equal(other, value);
    return 1;
}

/* A copy of the bytes; memory after its end must not be read. */
static void check_find(const char *bytes, size_t len, const char *key)
{
    apr_pool_t *pool;
    apr_table_t *pairs;
    char *exact = malloc(len ? len : 1);
    found_t expected;

    apr_pool_create(&pool, NULL);
    assert_non_null(exact);
    memcpy(exact, bytes, len);
    pairs = slotmem_words_find(exact, len, key, pool);
    expected = find_plainly(exact, len, key, pool);
    assert_int_equal(pairs != NULL, expected.is_there);
    if (pairs) {
        assert_int_equal(apr_table_elts(pairs)->nelts,
                         apr_table_elts(expected.pairs)->nelts);
        apr_table_do(same_pair, expected.pairs, pairs, NULL);
    }
    free(exact);
    apr_pool_destroy(pool);
}

/* [E12] Any bytes are safe to search for a record; a truncated one is not
 * found. / */
static void test_find(void **state)
{
    static const char words[] =
        "aa\0route\0a1\0lbset\0" "3\0\0bb\0\0cc\0route\0\0hcuri\0/x\0\0"
        "bb\0route\0twice\0\0dd\0lbset\0" "4\0";
    static const char *const keys[] = {
        "aa", "bb", "cc", "dd", "route", "a1", "", "a", "aaa", "3", "ee"
    };
    unit_place_t *place = *state;
    apr_table_t *pairs;
    size_t len, i;

    assert_null(slotmem_words_find(NULL, 0, "aa", place->pool));
    assert_null(slotmem_words_find(words, 0, "aa", place->pool));
    pairs = slotmem_words_find(words, sizeof(words), "aa", place->pool);
    assert_string_equal(apr_table_get(pairs, "route"), "a1");
    assert_string_equal(apr_table_get(pairs, "lbset"), "3");
    pairs = slotmem_words_find(words, sizeof(words), "cc", place->pool);
    assert_string_equal(apr_table_get(pairs, "route"), "");
    assert_string_equal(apr_table_get(pairs, "hcuri"), "/x");
    pairs = slotmem_words_find(words, sizeof(words), "bb", place->pool);
    assert_int_equal(apr_table_elts(pairs)->nelts, 0);
    assert_non_null(slotmem_words_find(words, sizeof(words), "dd",
                                       place->pool));
    assert_null(slotmem_words_find(words, sizeof(words) - 1, "dd",
                                   place->pool));
    for (len = 0; len <= sizeof(words); len++) {
        for (i = 0; i < ELEMENTS(keys); i++) {
            check_find(words, len, keys[i]);
        }
    }
}

static void test_find_in_any_bytes(void **state)
{
    static const char letters[] = { 0, 0, 0, 'a', 'a', 'b' };
    unit_random_t random = { 4711 };
    int round;

    (void)state;
    for (round = 0; round < 200000; round++) {
        char bytes[60];
        size_t len = unit_below(&random, sizeof(bytes) + 1);
        size_t i;

        for (i = 0; i < len; i++) {
            bytes[i] = letters[unit_below(&random, sizeof(letters))];
        }
        check_find(bytes, len, round % 3 ? "a" : round % 2 ? "ab" : "");
    }
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_merge),
        TEST(test_bad_values),
        TEST(test_limit),
        TEST(test_cping),
        TEST(test_names),
        TEST(test_bytes),
        TEST(test_find),
        TEST(test_find_in_any_bytes)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

#endif /* SLOTMEM_HAVE_PROXY */

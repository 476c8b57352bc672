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
 * test_workers.c: a slot of mod_proxy_balancer as plain values: what is shown,
 * what never is, and that no byte of a slot or of a label is trusted.
 *
 * Needs the headers of an httpd with mod_proxy, but no httpd.
 */

#include "unit_apr.h"

#include "slotmem_words.h"
#include "slotmem_workers.h"

#if !SLOTMEM_HAVE_PROXY

int main(void)
{
    puts("[  PASSED  ] 0 test(s).");
    return 0;
}

#else

static proxy_worker_shared member(const char *url)
{
    proxy_worker_shared slot = { .lbfactor = 150, .elected = 7, .lbset = 2,
                                 .hash = { 1, 2 }, .port = 8080 };

    apr_cpystrn(slot.name_ex, url, sizeof(slot.name_ex));
    apr_cpystrn(slot.name, url, sizeof(slot.name));
    apr_cpystrn(slot.scheme, "http", sizeof(slot.scheme));
    apr_cpystrn(slot.hostname_ex, "h", sizeof(slot.hostname_ex));
    apr_cpystrn(slot.route, "r\n1", sizeof(slot.route));
    apr_cpystrn(slot.secret, "SECRET", sizeof(slot.secret));
    return slot;
}

static void a_worker(void **state)
{
    const unit_place_t *place = *state;
    proxy_worker_shared slot = member("http://me:pass@h:8080");
    slotmem_worker_t worker;

    slot.status = PROXY_WORKER_DRAIN | PROXY_WORKER_HOT_STANDBY
                  | PROXY_WORKER_INITIALIZED;
    assert_true(slotmem_worker_read(&worker, &slot, place->pool));
    assert_string_equal(worker.url, "http://h:8080");
    assert_string_equal(worker.status, "drained, hot standby");
    assert_string_equal(worker.flags, "NH");
    assert_true(worker.is_drained && worker.is_usable);
    assert_true(worker.factor > 1.49 && worker.factor < 1.51);
    assert_string_equal(worker.route, "r\\n1");
    assert_int_equal(worker.elected, 7);
    assert_int_equal(worker.lbset, 2);
    slot.status = PROXY_WORKER_DISABLED;
    assert_true(slotmem_worker_read(&worker, &slot, place->pool));
    assert_string_equal(worker.status, "disabled");
    assert_false(worker.is_drained || worker.is_usable);
    slot.status = 0;
    assert_true(slotmem_worker_read(&worker, &slot, place->pool));
    assert_string_equal(worker.status, "ok");
}

/* The caller also owns texts that needed no escaping. */
static void texts_last(void **state)
{
    const unit_place_t *place = *state;
    proxy_worker_shared slot = member("http://first:80");
    slotmem_worker_t first, second;

    apr_cpystrn(slot.route, "one", sizeof(slot.route));
    assert_true(slotmem_worker_read(&first, &slot, place->pool));
    slot = member("http://other:81");
    apr_cpystrn(slot.route, "two", sizeof(slot.route));
    assert_true(slotmem_worker_read(&second, &slot, place->pool));
    assert_string_equal(first.url, "http://first:80");
    assert_string_equal(first.route, "one");
}

/* [E7] No field is trusted to have an end. */
static void any_bytes(void **state)
{
    const unit_place_t *place = *state;
    proxy_worker_shared slot;
    proxy_balancer_shared shared;
    slotmem_worker_t worker;
    slotmem_balancer_t balancer;

    memset(&slot, 0x1b, sizeof(slot));
    memset(&shared, 0x1b, sizeof(shared));
    assert_true(slotmem_worker_read(&worker, &slot, place->pool));
    assert_null(strchr(worker.url, 0x1b));
    assert_null(strchr(worker.route, 0x1b));
    assert_null(strchr(worker.redirect, 0x1b));
    assert_true(slotmem_balancer_read(&balancer, &shared, place->pool));
    assert_null(strchr(balancer.url, 0x1b));
    assert_null(strchr(balancer.segment, 0x1b));
    assert_null(strchr(balancer.lbmethod, 0x1b));
    memset(&slot, 0, sizeof(slot));
    memset(&shared, 0, sizeof(shared));
    assert_false(slotmem_worker_read(&worker, &slot, place->pool));
    assert_false(slotmem_balancer_read(&balancer, &shared, place->pool));
}

static void what_identifies(void **state)
{
    const unit_place_t *place = *state;
    proxy_worker_shared slot = member("http://me:pass@h:8080");
    unsigned char before[SLOTMEM_WORKER_ID], after[SLOTMEM_WORKER_ID];

    assert_true(slotmem_worker_identify(before, &slot));
    slot.status = PROXY_WORKER_DRAIN;   /* fields that the manager changes */
    slot.lbfactor = 100;
    slot.elected++;
    apr_cpystrn(slot.route, "other", sizeof(slot.route));
    assert_true(slotmem_worker_identify(after, &slot));
    assert_memory_equal(before, after, sizeof(before));
    slot.port++;
    assert_true(slotmem_worker_identify(after, &slot));
    assert_memory_not_equal(before, after, sizeof(before));
    slot.port--;
    slot.name_ex[0] = 'a';
    assert_true(slotmem_worker_identify(after, &slot));
    assert_memory_not_equal(before, after, sizeof(before));

    slot = member("http://me:pass@h:8080");
    assert_true(slotmem_worker_has_url(&slot, "http://h:8080", place->pool));
    assert_true(slotmem_worker_has_url(&slot, "http://me:pass@h:8080",
                                       place->pool));
    assert_false(slotmem_worker_has_url(&slot, "http://h:808", place->pool));
    assert_false(slotmem_worker_has_url(&slot, "", place->pool));
}

static void a_balancer(void **state)
{
    const unit_place_t *place = *state;
    proxy_balancer_shared slot = { .hash = { 1, 2 } };
    slotmem_balancer_t balancer;

    apr_cpystrn(slot.name, "balancer://app", sizeof(slot.name));
    apr_cpystrn(slot.sname, "p1_app", sizeof(slot.sname));
    apr_cpystrn(slot.lbpname, "bybusyness", sizeof(slot.lbpname));
    assert_true(slotmem_balancer_read(&balancer, &slot, place->pool));
    assert_string_equal(balancer.url, "balancer://app");
    assert_string_equal(balancer.segment, "p1_app");
    assert_string_equal(balancer.lbmethod, "bybusyness");
}

/* [E11] Labels that are truncated, or that lie, still give all complete pairs.
 * */
static void labels(void **state)
{
    const unit_place_t *place = *state;
    static const char bytes[] = "server\0a\033b\0port\0" "80\0"
                                "balancer\0balancer://x\0"
                                "balancer\0balancer://u:p@y\0";
    slotmem_labels_t got;
    apr_size_t len;

    slotmem_labels_read(&got, bytes, sizeof(bytes), place->pool);
    assert_string_equal(got.server, "a\\x1bb");
    assert_string_equal(got.port, "80");
    assert_string_equal(got.balancers, "balancer://x, balancer://y");
    for (len = 0; len < sizeof(bytes); len++) {
        char *part = malloc(len + 1);

        memcpy(part, bytes, len);
        part = realloc(part, len ? len : 1);
        slotmem_labels_read(&got, part, len, place->pool);
        assert_true(len < 11 ? !got.server : got.server != NULL);
        free(part);
    }
    slotmem_labels_read(&got, NULL, 0, place->pool);
    assert_true(!got.server && !got.port && !got.balancers);
}

static void sizes(void **state)
{
    (void)state;

    assert_int_equal(slotmem_slots_of(sizeof(proxy_worker_shared)),
                     SLOTMEM_SLOTS_WORKERS);
    assert_int_equal(slotmem_slots_of(sizeof(proxy_balancer_shared)),
                     SLOTMEM_SLOTS_BALANCERS);
    assert_int_equal(slotmem_slots_of(72), SLOTMEM_SLOTS_UNKNOWN);
    assert_int_equal(slotmem_slots_of(0), SLOTMEM_SLOTS_UNKNOWN);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker),
        TEST(texts_last),
        TEST(any_bytes),
        TEST(what_identifies),
        TEST(a_balancer),
        TEST(labels),
        TEST(sizes)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

#endif /* SLOTMEM_HAVE_PROXY */

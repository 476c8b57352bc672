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
 * test_store.c: stores that fail or are killed at any call, or that run while
 * others write, and what they leave in the file system.
 */

#include "unit_file.h"

#include <grp.h>
#include <pthread.h>

static const char *in_dir(unit_place_t *place, const char *name)
{
    return apr_pstrcat(place->pool, place->dir, "/", name, NULL);
}

static const char *path_of(unit_place_t *place)
{
    return in_dir(place, "p.persist");
}

static slotmem_store_t store_of(const slotmem_segment_t *segment,
                                const char *path)
{
    slotmem_store_t store = { .content.segment = segment, .path = path };

    /* The fields that the caller need not set. */
    memset(&store.status, 0x77,
           sizeof(store) - offsetof(slotmem_store_t, status));
    return store;
}

static void assert_stored(const slotmem_store_t *store)
{
    if (store->step || store->status != APR_SUCCESS) {
        fail_msg("not stored: %s (%d)", slotmem_step_text(store->step),
                 store->status);
    }
}

static void assert_failed(const slotmem_store_t *store, apr_status_t status)
{
    assert_int_not_equal(store->step, SLOTMEM_STEP_NONE);
    assert_int_equal(store->status, status);
}

/* Content, its segment, and its file. */
typedef struct sample_t {
    content_t content;
    slotmem_segment_t segment;
    bytes_t bytes;
} sample_t;

static sample_t sample_make(apr_pool_t *pool, apr_size_t size,
                            apr_uint32_t num)
{
    sample_t sample;

    sample.content = content_make(pool, size, num, TYPE_PERSIST);
    sample.segment = segment_of(pool, &sample.content);
    sample.bytes = encode(pool, &sample.content);
    return sample;
}

/* ---- the new file ---- */

/* [B2] A store replaces the file and does not write to it: a process that has
 * the old one open, or another link to it, keeps it. The new one has mode 0600.
 */
static void test_replaces(void **state)
{
    unit_place_t *place = *state;
    const char *path = path_of(place);
    const char *other = in_dir(place, "other-name");
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path);
    bytes_t old = bytes_of(place->pool, "the old file");
    mode_t mask = umask(0);
    struct stat info;

    write_file(path, old);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(link(path, other), 0);
    store_now(&store, 1, place->pool);
    umask(mask);
    assert_stored(&store);
    assert_file_is(path, sample.bytes, place->pool);
    assert_file_is(other, old, place->pool);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(unit_count_entries(place->dir), 2);
}

/* [B7] The file that a killed store left under the temporary name is replaced;
 * a symbolic link there is not followed. */
static void test_leftover(void **state)
{
    unit_place_t *place = *state;
    const char *path = path_of(place);
    const char *tmp = in_dir(place, "p.persist" TMP);
    const char *target = in_dir(place, "target");
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path);
    bytes_t theirs = bytes_of(place->pool, "not ours");

    write_file(tmp, bytes_make(place->pool, 100000));
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(path, sample.bytes, place->pool);
    assert_false(exists(tmp));

    write_file(target, theirs);
    assert_int_equal(symlink(target, tmp), 0);
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(target, theirs, place->pool);
    assert_false(exists(tmp));

    assert_int_equal(symlink("/nonexistent/target", tmp), 0);
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_false(exists(tmp));

    /* A directory there is in the way: the file does not change. */
    assert_int_equal(mkdir(tmp, 0700), 0);
    sample.segment.slots[0]++;
    store_now(&store, 1, place->pool);
    assert_failed(&store, APR_EEXIST);
    assert_file_is(path, sample.bytes, place->pool);
}

/* [B2] A symbolic link at the path itself is not followed: it is not one of
 * this server's files, so it is set aside. */
static void test_path_is_link(void **state)
{
    unit_place_t *place = *state;
    const char *target = in_dir(place, "target");
    bytes_t theirs = bytes_of(place->pool, "not ours");
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));

    write_file(target, theirs);
    assert_int_equal(symlink(target, path_of(place)), 0);
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_string_equal(store.aside, in_dir(place, "p.persist.bad-1"));
    assert_file_is(target, theirs, place->pool);
    assert_file_is(path_of(place), sample.bytes, place->pool);
}

/* ---- stores that fail ---- */

/* [B2] One of three has no directory: it reports that, the others are stored.
 * */
static void test_others_go_on(void **state)
{
    unit_place_t *place = *state;
    sample_t samples[3];
    slotmem_store_t stores[3];
    const char *names[] = { "a.persist", "missing/b.persist", "c.persist" };
    int i;

    for (i = 0; i < 3; i++) {
        samples[i] = sample_make(place->pool, 10, 5);
        stores[i] = store_of(&samples[i].segment, in_dir(place, names[i]));
    }
    store_now(stores, 3, place->pool);
    assert_stored(&stores[0]);
    assert_failed(&stores[1], APR_ENOENT);
    assert_stored(&stores[2]);
    assert_file_is(stores[0].path, samples[0].bytes, place->pool);
    assert_file_is(stores[2].path, samples[2].bytes, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 2);
}

/* The state before a store that fails. */
typedef struct failing_t {
    unit_place_t *place;
    slotmem_segment_t *segment;
} failing_t;

static void store_read_only(void *data)
{
    failing_t *failing = data;
    slotmem_store_t store = store_of(failing->segment,
                                     path_of(failing->place));

    if (geteuid() == 0) {
        CHILD_CHECK(seteuid(65534) == 0);
    }
    store_now(&store, 1, failing->place->pool);
    CHILD_CHECK(store.step != SLOTMEM_STEP_NONE);
    CHILD_CHECK(APR_STATUS_IS_EACCES(store.status));
}

/* [B2][B9] A read-only directory: the old file stays intact. */
static void test_read_only_directory(void **state)
{
    unit_place_t *place = *state;
    sample_t old = sample_make(place->pool, 10, 5);
    sample_t new = sample_make(place->pool, 10, 5);
    failing_t failing = { place, &new.segment };

    write_file(path_of(place), old.bytes);
    assert_int_equal(chmod(place->dir, 0555), 0);
    assert_int_equal(unit_in_child(store_read_only, &failing), 0);
    assert_int_equal(chmod(place->dir, 0755), 0);
    assert_file_is(path_of(place), old.bytes, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 1);
}

static void store_to_small_disk(void *data)
{
    unit_place_t *place = data;
    content_t small = { .geometry = unit_geometry(1000, 10, TYPE_PERSIST) };
    slotmem_segment_t old;
    slotmem_segment_t large;
    slotmem_store_t stores[2];
    slotmem_geometry_t geometry = unit_geometry(1000, 300, TYPE_PERSIST);
    struct stat before;
    struct stat after;

    unit_small_tmpfs(place->dir, "size=128k");
    CHILD_CHECK(slotmem_segment_create(&old, &small.geometry, NULL,
                                       place->pool) == APR_SUCCESS);
    CHILD_CHECK(slotmem_segment_create(&large, &geometry, NULL, place->pool)
                == APR_SUCCESS);
    stores[0] = store_of(&old, path_of(place));
    store_now(stores, 1, place->pool);
    CHILD_CHECK(stores[0].step == SLOTMEM_STEP_NONE);
    CHILD_CHECK(stat(path_of(place), &before) == 0);

    stores[0] = store_of(&large, path_of(place));
    stores[1] = store_of(&old, in_dir(place, "other.persist"));
    store_now(stores, 2, place->pool);
    CHILD_CHECK(stores[0].step != SLOTMEM_STEP_NONE);
    CHILD_CHECK(APR_STATUS_IS_ENOSPC(stores[0].status));
    CHILD_CHECK(stores[1].step == SLOTMEM_STEP_NONE);
    CHILD_CHECK(stat(path_of(place), &after) == 0);
    CHILD_CHECK(before.st_ino == after.st_ino);
    CHILD_CHECK(before.st_size == after.st_size);
    CHILD_CHECK(!exists(in_dir(place, "p.persist" TMP)));
    CHILD_CHECK(exists(in_dir(place, "other.persist")));
}

/* [B2] A full disk: the old file stays, nothing is left of the new one, and the
 * next file, which fits, is stored. Needs root. */
static void test_full_disk(void **state)
{
    int code = unit_in_child(store_to_small_disk, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: not allowed to mount a small disk\n", stderr);
        skip();
    }
    assert_int_equal(code, 0);
}

/* [B2] A limit on the size of files acts like a full disk, without root. */
static void test_file_size_limit(void **state)
{
    unit_place_t *place = *state;
    sample_t old = sample_make(place->pool, 1000, 10);
    sample_t new = sample_make(place->pool, 1000, 200);
    slotmem_store_t store = store_of(&new.segment, path_of(place));
    struct rlimit limit;
    struct rlimit small;

    write_file(path_of(place), old.bytes);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    store_now(&store, 1, place->pool);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_failed(&store, EFBIG);
    assert_file_is(path_of(place), old.bytes, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 1);

    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(path_of(place), new.bytes, place->pool);
}

/* ---- refused files ---- */

static const char *bad_name(unit_place_t *place, int n)
{
    return apr_psprintf(place->pool, "%s.bad-%d", path_of(place), n);
}

/* The change times have to differ. */
static void wait_a_tick(void)
{
    usleep(20000);
}

/* [E3] A refused file is kept unchanged as .bad-1 to .bad-4; after that the
 * oldest of these is replaced, and the store reports it. */
static void test_set_aside(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    bytes_t kept[SLOTMEM_BAD_FILES + 1];
    int round;

    for (round = 1; round <= 2 * SLOTMEM_BAD_FILES + 1; round++) {
        int n = (round - 1) % SLOTMEM_BAD_FILES + 1;
        slotmem_store_t store = store_of(&sample.segment, path_of(place));
        int i;

        store.set_aside = 1;
        kept[n] = bytes_of(place->pool, apr_psprintf(place->pool,
                                                     "bad file %d", round));
        write_file(path_of(place), kept[n]);
        store_now(&store, 1, place->pool);
        assert_stored(&store);
        assert_string_equal(store.aside, bad_name(place, n));
        assert_int_equal(store.aside_replaced != 0,
                         round > SLOTMEM_BAD_FILES);
        assert_int_equal(store.set_aside, 0);
        assert_file_is(path_of(place), sample.bytes, place->pool);
        for (i = 1; i <= SLOTMEM_BAD_FILES && i <= round; i++) {
            assert_file_is(bad_name(place, i), kept[i], place->pool);
        }
        assert_int_equal(unit_count_entries(place->dir),
                         1 + (round < SLOTMEM_BAD_FILES ? round
                                                        : SLOTMEM_BAD_FILES));
        wait_a_tick();
    }
}

/* [E3] A gap in the names is filled first; the next store of the same
 * instance sets nothing aside. */
static void test_set_aside_in_gap(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t bad = bytes_of(place->pool, "bad");

    write_file(bad_name(place, 1), bad);
    write_file(bad_name(place, 3), bad);
    write_file(path_of(place), bad);
    store.set_aside = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_string_equal(store.aside, bad_name(place, 2));
    assert_false(store.aside_replaced);

    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_null(store.aside);
    assert_int_equal(unit_count_entries(place->dir), 4);
}

/* [E3] Anything that is not a regular file is set aside too; if it has vanished
 * meanwhile, that is fine. */
static void test_set_aside_kinds(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    struct stat info;

    assert_int_equal(mkdir(path_of(place), 0700), 0);
    store.set_aside = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_int_equal(lstat(bad_name(place, 1), &info), 0);
    assert_true(S_ISDIR(info.st_mode));

    unlink(path_of(place));
    assert_int_equal(mkfifo(path_of(place), 0600), 0);
    store.set_aside = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_int_equal(lstat(bad_name(place, 2), &info), 0);
    assert_true(S_ISFIFO(info.st_mode));

    unlink(path_of(place));
    store.set_aside = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_null(store.aside);
    assert_file_is(path_of(place), sample.bytes, place->pool);
}

/* [E3] If the refused file cannot be set aside, the store fails, the file
 * stays, and the next store tries again. */
static void test_set_aside_fails(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t bad = bytes_of(place->pool, "bad");
    int n;

    for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
        assert_int_equal(mkdir(bad_name(place, n), 0700), 0);
    }
    write_file(path_of(place), bad);
    store.set_aside = 1;
    for (n = 0; n < 2; n++) {
        store_now(&store, 1, place->pool);
        assert_int_not_equal(store.step, SLOTMEM_STEP_NONE);
        assert_int_not_equal(store.status, APR_SUCCESS);
        assert_null(store.aside);
        assert_int_equal(store.set_aside, 1);
        assert_file_is(path_of(place), bad, place->pool);
        assert_int_equal(unit_count_entries(place->dir),
                         1 + SLOTMEM_BAD_FILES);
    }
    assert_int_equal(rmdir(bad_name(place, 3)), 0);
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(bad_name(place, 3), bad, place->pool);
}

/* ---- files of others ---- */

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(lstat(path, &info), 0);
    return info.st_mode;
}

static void replace_file(const char *path, bytes_t bytes)
{
    assert_int_equal(unlink(path), 0);
    write_file(path, bytes);
}

static void modify_file(const char *path, bytes_t bytes)
{
    write_file(path, bytes);            /* overwritten in place */
}

static void remove_first(const char *path, bytes_t bytes)
{
    assert_int_equal(unlink(path), 0);
    (void)bytes;
}

/* [E3][E8] A file that somebody has put at the path since the last store, in
 * any way, is kept as .bad-N, whether or not the segment has changed. If the
 * file has been removed, nothing is kept. */
static void test_foreign(void **state)
{
    void (*const acts[])(const char *, bytes_t) = {
        replace_file, modify_file, remove_first
    };
    unit_place_t *place = *state;
    const char *path = path_of(place);
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path);
    int aside = 0;
    size_t i;

    store.directory = directory_open(path);
    for (i = 0; i < 2 * ELEMENTS(acts); i++) {
        bytes_t theirs = bytes_of(place->pool, apr_psprintf(
                                      place->pool, "theirs, %d", (int)i));
        int is_gone = acts[i / 2] == remove_first;

        slotmem_store(&store, 1, &nobody, place->pool);
        assert_stored(&store);
        assert_null(store.aside);
        wait_a_tick();
        acts[i / 2](path, theirs);
        if (i % 2) {
            sample.segment.slots[0]++;
            sample.content.slots[0]++;
        }
        slotmem_store(&store, 1, &nobody, place->pool);
        assert_stored(&store);
        assert_file_is(path, encode(place->pool, &sample.content),
                       place->pool);
        assert_int_equal(store.aside == NULL, is_gone);
        if (!is_gone) {
            assert_string_equal(store.aside, bad_name(place, ++aside));
            assert_file_is(store.aside, theirs, place->pool);
        }
        slotmem_store(&store, 1, &nobody, place->pool);
        assert_stored(&store);
        assert_int_equal(store.unchanged, 1);
        assert_int_equal(unit_count_entries(place->dir), 1 + aside);
    }
    assert_int_equal(aside, 4);
}

/* [E3][E8] A file that appears where there was none does not count as the
 * server's, even with all bytes of the segment. */
static void test_appeared(void **state)
{
    unit_place_t *place = *state;
    const char *path = path_of(place);
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path);
    bytes_t theirs = bytes_of(place->pool, "theirs");

    store.directory = directory_open(path);
    write_file(path, theirs);
    slotmem_store(&store, 1, &nobody, place->pool);
    assert_stored(&store);
    assert_string_equal(store.aside, bad_name(place, 1));
    assert_file_is(bad_name(place, 1), theirs, place->pool);
    assert_file_is(path, sample.bytes, place->pool);

    memset(&store.file_state, 0, sizeof(store.file_state));
    slotmem_store(&store, 1, &nobody, place->pool);
    assert_stored(&store);
    assert_string_equal(store.aside, bad_name(place, 2));
    assert_file_is(bad_name(place, 2), sample.bytes, place->pool);
}

/* [E3][E8] If it cannot be set aside, it stays, and the store reports it. */
static void test_foreign_stays(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t theirs = bytes_of(place->pool, "theirs");
    int n;

    for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
        assert_int_equal(mkdir(bad_name(place, n), 0700), 0);
    }
    write_file(path_of(place), theirs);
    slotmem_store(&store, 1, &nobody, place->pool);
    assert_int_equal(store.step, SLOTMEM_STEP_SET_ASIDE);
    assert_null(store.aside);
    assert_file_is(path_of(place), theirs, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 1 + SLOTMEM_BAD_FILES);
}

/* Restore the file, and store it again unchanged. */
static void restore_and_store(unit_place_t *place, slotmem_store_t *store,
                              const sample_t *sample)
{
    slotmem_segment_t *copy = apr_palloc(place->pool, sizeof(*copy));
    slotmem_restore_result_t result;

    *copy = segment_new(place->pool, sample->content.geometry);
    *store = store_of(copy, path_of(place));
    store->directory = directory_open(store->path);
    slotmem_restore(&result, copy, 0, NULL, store->path, place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
    store->file_state = result.file_state;
    slotmem_store(store, 1, &nobody, place->pool);
    assert_stored(store);
    assert_null(store->aside);
    assert_file_is(store->path, sample->bytes, place->pool);
}

/* [E8] An unchanged file is written again if its mode or owner is not that of
 * the server's files. */
static void test_made_own(void **state)
{
    static const mode_t modes[] = { 0644, 0660, 0400, 0700, 04600 };
    unit_place_t *place = *state;
    const char *path = path_of(place);
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store;
    struct stat info;
    size_t i;

    for (i = 0; i < ELEMENTS(modes); i++) {
        write_file(path, sample.bytes);
        assert_int_equal(chmod(path, modes[i]), 0);
        restore_and_store(place, &store, &sample);
        assert_int_equal(store.unchanged, 0);
        assert_int_equal(mode_of(path), S_IFREG | 0600);
    }
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 0), 0);
        restore_and_store(place, &store, &sample);
        assert_int_equal(store.unchanged, 0);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_uid, 0);
    }
    restore_and_store(place, &store, &sample);
    assert_int_equal(store.unchanged, 1);
    assert_int_equal(unit_count_entries(place->dir), 1);
}

/* [E8] Temporary files of other servers are removed if they belong to a file
 * that this server may store; its own, and files with other names, stay. */
static void test_clean(void **state)
{
    static const char *const gone[] = {
        "p.persist.tmp-dead", "p.persist.tmp-1234", "p.persist.tmp-",
        "p.persist.tmp-unit-11", "p.persist.tmp", "q.persist.tmp-dead"
    };
    static const char *const kept[] = {
        "p.persist" TMP, "p.persist", "p.persist.tmp2", "p.persist.bad-1",
        "other.persist.tmp-dead", "p.persist2.tmp-dead", "xp.persist.tmp-dead"
    };
    unit_place_t *place = *state;
    const char *below = in_dir(place, "below/p.persist");
    slotmem_store_t stores[3] = {
        store_of(NULL, path_of(place)), store_of(NULL, below),
        store_of(NULL, in_dir(place, "q.persist"))
    };
    uint32_t open_files;
    size_t i;

    assert_int_equal(mkdir(in_dir(place, "below"), 0700), 0);
    assert_int_equal(mkdir(in_dir(place, "p.persist.tmp-dir"), 0700), 0);
    for (i = 0; i < ELEMENTS(stores); i++) {
        stores[i].directory = directory_open(stores[i].path);
    }
    for (i = 0; i < ELEMENTS(gone); i++) {
        write_file(in_dir(place, gone[i]), bytes_of(place->pool, "left"));
    }
    for (i = 0; i < ELEMENTS(kept); i++) {
        write_file(in_dir(place, kept[i]), bytes_of(place->pool, "kept"));
    }
    write_file(in_dir(place, "below/p.persist.tmp-dead"),
               bytes_of(place->pool, "left"));
    open_files = unit_count_entries("/proc/self/fd");
    slotmem_store_clean(stores[0].directory, stores, 3, TOKEN);
    assert_int_equal(unit_count_entries("/proc/self/fd"), open_files);
    for (i = 0; i < ELEMENTS(gone); i++) {
        assert_false(exists(in_dir(place, gone[i])));
    }
    for (i = 0; i < ELEMENTS(kept); i++) {
        assert_true(exists(in_dir(place, kept[i])));
    }
    assert_true(exists(in_dir(place, "p.persist.tmp-dir")));
    assert_true(exists(in_dir(place, "below/p.persist.tmp-dead")));
    slotmem_store_clean(stores[1].directory, stores, 3, TOKEN);
    assert_int_equal(unit_count_entries(in_dir(place, "below")), 0);
}

static void store_shared(void *data)
{
    unit_place_t *place = data;
    const char *path = path_of(place);
    const gid_t groups[] = { 54321 };
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path);
    slotmem_segment_t copy = segment_new(place->pool, sample.content.geometry);
    slotmem_restore_result_t result;
    struct stat info;

    if (geteuid() != 0) {
        _exit(UNIT_SKIP);
    }
    write_file(path, sample.bytes);
    CHILD_CHECK(chown(path, 1, 54321) == 0 && chmod(path, 0660) == 0);
    CHILD_CHECK(chown(place->dir, 0, 54321) == 0
                && chmod(place->dir, 0770) == 0);
    CHILD_CHECK(setgroups(1, groups) == 0);
    CHILD_CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    umask(077);
    store.directory = directory_open(path);
    slotmem_restore(&result, &copy, 0, store.directory, path, place->pool);
    CHILD_CHECK(result.outcome == SLOTMEM_RESTORE_DONE);
    store.file_state = result.file_state;
    slotmem_store(&store, 1, &nobody, place->pool);
    CHILD_CHECK(!store.step && !store.unchanged && !store.aside);
    CHILD_CHECK(stat(path, &info) == 0);
    CHILD_CHECK(info.st_mode == (S_IFREG | 0660) && info.st_gid == 54321
                && info.st_uid == 65534);
    slotmem_store(&store, 1, &nobody, place->pool);
    CHILD_CHECK(!store.step && store.unchanged);
}

/* [E8] In a group-writable directory the file of another member is restored,
 * and the stored file belongs to the group, with mode 0660. */
static void test_shared(void **state)
{
    int code = unit_in_child(store_shared, *state);

    if (code == UNIT_SKIP) {
        fputs("skipped: needs root, to become another user\n", stderr);
        skip();
    }
    assert_int_equal(code, 0);
}

/* ---- the old file, kept ---- */

static const char *backup_of(unit_place_t *place)
{
    return in_dir(place, "p.persist.bak");
}

/* [E6] With backup the old file is kept as .bak, mode 0600, and replaces an
 * older one; only once. Without an old file there is nothing to keep. */
static void test_backup(void **state)
{
    unit_place_t *place = *state;
    const char *path = path_of(place);
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path);
    bytes_t old = bytes_of(place->pool, "the old file");
    bytes_t older = bytes_of(place->pool, "an older one");
    int round;

    for (round = 0; round < 2; round++) {
        write_file(path, old);
        assert_int_equal(chmod(path, 0664), 0);
        store.backup = 1;
        store_now(&store, 1, place->pool);
        assert_stored(&store);
        assert_int_equal(store.backup, 0);
        assert_null(store.aside);
        assert_file_is(path, sample.bytes, place->pool);
        assert_file_is(backup_of(place), old, place->pool);
        assert_int_equal(mode_of(backup_of(place)), S_IFREG | 0600);
        assert_int_equal(mode_of(path), S_IFREG | 0600);
        assert_int_equal(unit_count_entries(place->dir), 2);

        store_now(&store, 1, place->pool);
        assert_stored(&store);
        assert_file_is(backup_of(place), old, place->pool);

        write_file(backup_of(place), older);
        assert_int_equal(chmod(backup_of(place), 0644), 0);
    }
    unlink(backup_of(place));
    unlink(path);
    store.backup = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_int_equal(store.backup, 0);
    assert_file_is(path, sample.bytes, place->pool);
    assert_int_equal(unit_count_entries(place->dir), 1);
}

/* [E6] A .bak that is a symbolic link is replaced, not followed. */
static void test_backup_is_link(void **state)
{
    unit_place_t *place = *state;
    const char *target = in_dir(place, "target");
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t old = bytes_of(place->pool, "the old file");
    bytes_t theirs = bytes_of(place->pool, "not ours");

    write_file(target, theirs);
    assert_int_equal(chmod(target, 0644), 0);
    assert_int_equal(symlink(target, backup_of(place)), 0);
    write_file(path_of(place), old);
    store.backup = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(target, theirs, place->pool);
    assert_int_equal(mode_of(target), S_IFREG | 0644);
    assert_file_is(backup_of(place), old, place->pool);
}

/* [E6][E9] If the old file is a symbolic link, it is set aside, and its target
 * does not change. */
static void test_backup_of_link(void **state)
{
    unit_place_t *place = *state;
    const char *target = in_dir(place, "target");
    sample_t sample = sample_make(place->pool, 30, 4);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t theirs = bytes_of(place->pool, "not ours");

    write_file(target, theirs);
    assert_int_equal(chmod(target, 0644), 0);
    assert_int_equal(symlink(target, path_of(place)), 0);
    store.backup = 1;
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_true(S_ISLNK(mode_of(bad_name(place, 1))));
    assert_file_is(target, theirs, place->pool);
    assert_int_equal(mode_of(target), S_IFREG | 0644);
}

/* [E6] If the old file cannot be kept, the store fails, the file stays, and the
 * next store tries again. */
static void test_backup_fails(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 10, 5);
    slotmem_store_t store = store_of(&sample.segment, path_of(place));
    bytes_t old = bytes_of(place->pool, "the old file");
    int n;

    assert_int_equal(mkdir(backup_of(place), 0700), 0);
    write_file(path_of(place), old);
    store.backup = 1;
    for (n = 0; n < 2; n++) {
        store_now(&store, 1, place->pool);
        assert_int_equal(store.step, SLOTMEM_STEP_KEEP);
        assert_int_not_equal(store.status, APR_SUCCESS);
        assert_int_equal(store.backup, 1);
        assert_file_is(path_of(place), old, place->pool);
        assert_int_equal(unit_count_entries(place->dir), 2);
    }
    assert_int_equal(rmdir(backup_of(place)), 0);
    store_now(&store, 1, place->pool);
    assert_stored(&store);
    assert_file_is(backup_of(place), old, place->pool);
}

/* ---- faults ---- */

/* What is at the path before a store. */
typedef enum before_t {
    NO_FILE,
    OLD_FILE,                   /* a store replaces it */
    REFUSED_FILE,               /* a store sets it aside */
    KEPT_FILE,                  /* a store keeps it, over an older .bak */
    BEFORE_END
} before_t;

typedef struct scene_t {
    unit_place_t *place;
    before_t before;
    sample_t sample;
    slotmem_store_t store;
    bytes_t old;
    bytes_t older;              /* .bak */
} scene_t;

static void scene_make(scene_t *scene, unit_place_t *place, before_t before)
{
    memset(scene, 0, sizeof(*scene));
    scene->place = place;
    scene->before = before;
    scene->sample = sample_make(place->pool, 50000, 3);
    scene->store = store_of(&scene->sample.segment, path_of(place));
    scene->store.directory = directory_open(path_of(place));
    scene->store.set_aside = before == REFUSED_FILE;
    scene->store.backup = before == KEPT_FILE;
    scene->old = bytes_of(place->pool, "what was there before");
    scene->older = bytes_of(place->pool, "and before that");
    if (before != NO_FILE) {
        write_file(path_of(place), scene->old);
    }
    if (before == KEPT_FILE) {
        write_file(backup_of(place), scene->older);
    }
}

/* After a store that may have failed, or was killed, there is a complete file,
 * the old or the new one. A refused file always exists under some name. A file
 * that is to be kept is never missing at the path. */
static void scene_check(const scene_t *scene)
{
    apr_pool_t *pool = scene->place->pool;
    bytes_t found = read_file(path_of(scene->place), pool);
    bytes_t aside = read_file(bad_name(scene->place, 1), pool);
    int is_new = bytes_same(found, scene->sample.bytes);
    int is_old = bytes_same(found, scene->old);
    bytes_t backup = read_file(backup_of(scene->place), pool);

    switch (scene->before) {
    case NO_FILE:
        assert_true(is_new || !found.data);
        assert_null(aside.data);
        break;
    case OLD_FILE:
        assert_true(is_new || is_old);
        assert_null(aside.data);
        break;
    case KEPT_FILE:
        assert_true(is_new || is_old);
        assert_null(aside.data);
        assert_true(!backup.data || bytes_same(backup, scene->old)
                    || (is_old && bytes_same(backup, scene->older)));
        assert_true(is_old || (bytes_same(backup, scene->old)
                               && mode_of(backup_of(scene->place))
                                  == (S_IFREG | 0600)));
        break;
    default:
        assert_true(is_new || is_old || !found.data);
        assert_true(is_old || bytes_same(aside, scene->old));
    }
}

/* The next store, with nothing in its way, repairs everything. */
static void scene_end(scene_t *scene)
{
    const char *path = path_of(scene->place);
    apr_pool_t *pool = scene->place->pool;

    unit_faults(0, 0, 0);
    store_now(&scene->store, 1, pool);
    assert_stored(&scene->store);
    assert_file_is(path, scene->sample.bytes, pool);
    if (scene->before == REFUSED_FILE) {
        assert_file_is(bad_name(scene->place, 1), scene->old, pool);
        unlink(bad_name(scene->place, 1));
    }
    if (scene->before == KEPT_FILE) {
        assert_file_is(backup_of(scene->place), scene->old, pool);
        unlink(backup_of(scene->place));
    }
    unlink(path);
    assert_int_equal(unit_count_entries(scene->place->dir), 0);
    apr_pool_clear(pool);
}

/* Did the store make this call, and must it fail without it? It need not for
 * the removal of leftovers, the look at the file at the path, and the close of
 * anything except the new file. */
static int must_fail(before_t before, uint32_t call)
{
    const char *at = faults.log + call - 1;

    if (call > faults.calls) {
        return 0;
    }
    switch (*at) {
    case 'x':
        return 0;
    case 'c':
        return strchr(faults.log, 'c') == at;
    case '?':                   /* look for a free name for a refused file */
        return before == REFUSED_FILE && call > 1
               && !memchr(faults.log, 'n', call - 1);
    default:
        return 1;
    }
}

/* One call fails, or it and all later ones. Returns 0 if the store made fewer
 * calls. */
static int fault_at(unit_place_t *place, before_t before, uint32_t call,
                    uint32_t to, apr_status_t status)
{
    uint32_t open_files = unit_count_entries("/proc/self/fd");
    scene_t scene;
    uint32_t calls;

    scene_make(&scene, place, before);
    unit_faults(call, to, status);
    store_now(&scene.store, 1, place->pool);
    calls = faults.calls;
    assert_int_equal(unit_count_entries("/proc/self/fd"), open_files);
    if (scene.store.step) {
        assert_failed(&scene.store, status);
        /* A single fault, and not in the call that removes the new file. */
        if (to == call && faults.log[call - 1] != 'x') {
            assert_false(exists(in_dir(place, "p.persist" TMP)));
        }
        /* Only the rename replaces the file. */
        if (scene.store.step != SLOTMEM_STEP_SYNC_DIRECTORY
            && (before == OLD_FILE || before == KEPT_FILE)) {
            assert_file_is(path_of(place), scene.old, place->pool);
        }
        if (to == call && before == REFUSED_FILE && scene.store.set_aside) {
            assert_file_is(path_of(place), scene.old, place->pool);
            assert_false(exists(bad_name(place, 1)));
        }
    }
    else {
        assert_stored(&scene.store);
        assert_file_is(path_of(place), scene.sample.bytes, place->pool);
        assert_false(to == call && must_fail(before, call));
    }
    scene_check(&scene);
    scene_end(&scene);
    return calls >= call;
}

/* [B2][E3] Each call that a store makes fails, once or from then on: the old or
 * the new file is there, complete; status and step say what failed; no file
 * stays open; the next store succeeds. */
static void test_fault_at_each_call(void **state)
{
    static const apr_status_t statuses[] = { EIO, ENOSPC, EACCES };
    unit_place_t *place = *state;
    before_t before;
    size_t i;

    directory_open(path_of(place));
    for (before = NO_FILE; before < BEFORE_END; before++) {
        for (i = 0; i < ELEMENTS(statuses); i++) {
            uint32_t call = 1;

            while (fault_at(place, before, call, call, statuses[i])) {
                call++;
            }
            assert_true(call > 7);
            call = 1;
            while (fault_at(place, before, call, UINT32_MAX, statuses[i])) {
                call++;
            }
        }
    }
}

static void store_scene(void *data)
{
    scene_t *scene = data;

    store_now(&scene->store, 1, scene->place->pool);
}

/* [B7][E3] The process ends at each call: the old or the new file is there,
 * complete, and a refused one under at least one name; the next store removes
 * the leftovers. */
static void test_kill_at_each_call(void **state)
{
    unit_place_t *place = *state;
    before_t before;

    for (before = NO_FILE; before < BEFORE_END; before++) {
        uint32_t call = 0;
        int code;

        do {
            scene_t scene;

            call++;
            scene_make(&scene, place, before);
            unit_faults(call, call, APR_SUCCESS);
            code = unit_in_child(store_scene, &scene);
            unit_faults(0, 0, 0);
            assert_true(code == FAULT_EXIT || code == 0);
            scene_check(&scene);
            if (exists(bad_name(place, 1))) {
                scene.store.set_aside = 0;  /* a restart finds no bad file, */
            }
            if (bytes_same(read_file(path_of(place), place->pool),
                           scene.sample.bytes)) {
                scene.store.backup = 0;     /* and has nothing to keep */
            }
            scene_end(&scene);
        } while (code == FAULT_EXIT);
        assert_true(call > 7);
    }
}

/* ---- stores while others write ---- */

typedef struct writer_t {
    slotmem_segment_t *segment;
    _Atomic int stop;
} writer_t;

static void *scribble(void *data)
{
    writer_t *writer = data;
    volatile char *slots = writer->segment->slots;
    unit_random_t random = { 1234 };

    while (!writer->stop) {
        uint32_t at = unit_below(
            &random, (uint32_t)writer->segment->layout.slots_len);

        slots[at]++;
        if (unit_random(&random) & 1) {
            unit_grab(&writer->segment->map);
        }
        else {
            slotmem_map_clear(&writer->segment->map,
                              unit_below(&random,
                                         writer->segment->geometry.item_num));
        }
    }
    return NULL;
}

/* The file is consistent: the number of free slots fits the in-use flags. */
static void check_count(const char *path, const slotmem_segment_t *segment,
                        apr_pool_t *pool)
{
    bytes_t found = read_file(path, pool);
    const unsigned char *marks = found.data + 8 + segment->layout.slots_len;
    apr_uint32_t num_free;
    apr_uint32_t zeros = 0;
    apr_uint32_t id;

    memcpy(&num_free, found.data, 4);
    for (id = 0; id < segment->geometry.item_num; id++) {
        assert_true(marks[id] <= 1);
        zeros += marks[id] == 0;
    }
    assert_int_equal(num_free, zeros);
}

/* [B2][B3] A store always writes a file that can be restored, even while
 * another thread writes, grabs and releases slots. */
static void test_writers(void **state)
{
    unit_place_t *place = *state;
    slotmem_geometry_t geometry = unit_geometry(100, 2000, TYPE_PERSIST);
    slotmem_segment_t segment = segment_new(place->pool, geometry);
    writer_t writer = { &segment, 0 };
    pthread_t thread;
    int round;

    assert_int_equal(pthread_create(&thread, NULL, scribble, &writer), 0);
    for (round = 0; round < 200; round++) {
        slotmem_store_t store = store_of(&segment, path_of(place));
        slotmem_restore_result_t result;
        slotmem_segment_t copy;
        apr_pool_t *pool;

        apr_pool_create(&pool, place->pool);
        copy = segment_new(pool, geometry);
        store_now(&store, 1, pool);
        assert_stored(&store);
        slotmem_restore(&result, &copy, 0, NULL, path_of(place), pool);
        assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
        check_count(path_of(place), &copy, pool);
        apr_pool_destroy(pool);
    }
    writer.stop = 1;
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- many files ---- */

/* The calls in the log with one of these letters. */
static char *calls_of(const char *letters, apr_pool_t *pool)
{
    char *found = apr_pstrdup(pool, faults.log);
    char *to = found;
    const char *from;

    for (from = found; *from; from++) {
        if (strchr(letters, *from)) {
            *to++ = *from;
        }
    }
    *to = '\0';
    return found;
}

/* [B2] Three files are stored together: all are written, then fsync is called
 * on each, then all are renamed, then fsync is called on the directory once. */
static void test_order(void **state)
{
    unit_place_t *place = *state;
    slotmem_store_t stores[3];
    sample_t samples[3];
    int i;

    for (i = 0; i < 3; i++) {
        samples[i] = sample_make(place->pool, 10, 5);
        stores[i] = store_of(&samples[i].segment,
                             in_dir(place, apr_itoa(place->pool, i)));
        stores[i].directory = directory_open(stores[i].path);
    }
    unit_faults(0, 0, 0);
    store_now(stores, 3, place->pool);
    assert_string_equal(calls_of("wsn", place->pool), "wwwsssnnns");
}

/* [B2] A thousand files in one call, with few files open at a time and one
 * fsync for each file and for each of the two directories; all can be restored.
 * */
static void test_many(void **state)
{
    enum { MANY = 1000 };
    unit_place_t *place = *state;
    slotmem_store_t *stores = calloc(MANY, sizeof(*stores));
    sample_t *samples = calloc(MANY, sizeof(*samples));
    struct rlimit limit;
    struct rlimit few;
    int i;

    assert_true(stores && samples);
    assert_int_equal(mkdir(in_dir(place, "0"), 0700), 0);
    assert_int_equal(mkdir(in_dir(place, "1"), 0700), 0);
    for (i = 0; i < MANY; i++) {
        samples[i] = sample_make(place->pool, 20, 5);
        stores[i] = store_of(&samples[i].segment,
                             apr_psprintf(place->pool, "%s/%d/%d.persist",
                                          place->dir, i % 2, i));
        stores[i].directory = directory_open(stores[i].path);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 128;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    unit_faults(0, 0, 0);
    store_now(stores, MANY, place->pool);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(strlen(calls_of("s", place->pool)), MANY + 2);
    for (i = 0; i < MANY; i++) {
        assert_stored(&stores[i]);
        assert_file_is(stores[i].path, samples[i].bytes, place->pool);
    }
    assert_int_equal(unit_count_entries(in_dir(place, "0")), MANY / 2);
    assert_int_equal(unit_count_entries(in_dir(place, "1")), MANY / 2);
    free(stores);
    free(samples);
}

/* A run without any store is not an error. */
static void test_none(void **state)
{
    unit_place_t *place = *state;

    store_now(NULL, 0, place->pool);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, file_setup, file_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_replaces),
        TEST(test_leftover),
        TEST(test_path_is_link),
        TEST(test_others_go_on),
        TEST(test_read_only_directory),
        TEST(test_full_disk),
        TEST(test_file_size_limit),
        TEST(test_set_aside),
        TEST(test_set_aside_in_gap),
        TEST(test_set_aside_kinds),
        TEST(test_set_aside_fails),
        TEST(test_foreign),
        TEST(test_appeared),
        TEST(test_foreign_stays),
        TEST(test_made_own),
        TEST(test_clean),
        TEST(test_shared),
        TEST(test_backup),
        TEST(test_backup_is_link),
        TEST(test_backup_of_link),
        TEST(test_backup_fails),
        TEST(test_fault_at_each_call),
        TEST(test_kill_at_each_call),
        TEST(test_writers),
        TEST(test_order),
        TEST(test_many),
        TEST(test_none)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

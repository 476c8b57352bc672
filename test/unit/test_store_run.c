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
 * test_store_run.c: stores that write only what has changed, and the function
 * that watches them.
 */

#include "unit_file.h"

#include <sys/time.h>

static const char *file_of(unit_place_t *place, int n)
{
    return apr_psprintf(place->pool, "%s/%d.persist", place->dir, n);
}

static slotmem_store_t store_of(const slotmem_segment_t *segment,
                                const char *path)
{
    slotmem_store_t store = { .content.segment = segment, .path = path };

    return store;
}

static void assert_written(const slotmem_store_t *store, int written)
{
    if (store->step || store->status != APR_SUCCESS) {
        fail_msg("%s: not stored: %s (%d)", store->path,
                 slotmem_step_text(store->step),
                 store->status);
    }
    assert_int_equal(store->unchanged, !written);
    assert_int_equal(store->file_state.verified, 1);
}

/* The number of calls in the log with one of these letters. */
static uint32_t count_calls(const char *letters)
{
    const char *at = faults.log;
    uint32_t count = 0;

    while ((at = strpbrk(at, letters))) {
        count++;
        at++;
    }
    return count;
}

/* One file was opened and closed for a comparison; nothing was written, synced,
 * renamed, removed or digested. */
static void assert_no_write(void)
{
    assert_int_equal(count_calls("o"), 1);
    assert_int_equal(count_calls("c"), 1);
    assert_int_equal(count_calls("wsnxl"), 0);
    assert_int_equal(faults.bytes_digested, 0);
}

/* A segment, the expected content of its file, and the slots that the
 * configuration claimed (NULL without CLEARINUSE). */
typedef struct sample_t {
    content_t content;
    slotmem_segment_t segment;
    slotmem_word_t *config_claims;
} sample_t;

/* Words and labels of some lengths for a file with a section, if any. */
static void add_words(content_t *content, apr_pool_t *pool)
{
    static const size_t lengths[] = { 0, 9, 3000, SLOTMEM_CHUNK + 5 };
    static size_t calls;

    if (content->claims) {
        content->words_len = lengths[calls % 4];
        content->words = (char *)bytes_random(pool, content->words_len).data;
        content->labels_len = lengths[calls / 4 % 3];
        content->labels = (char *)bytes_random(pool, content->labels_len).data;
        calls++;
    }
}

static sample_t sample_make(apr_pool_t *pool, apr_size_t size,
                            apr_uint32_t num, apr_uint32_t type)
{
    sample_t sample;

    sample.content = content_make(pool, size, num, type);
    add_words(&sample.content, pool);
    sample.segment = segment_of(pool, &sample.content);
    sample.config_claims = NULL;
    if (type & TYPE_CLEARINUSE) {
        sample.config_claims = (slotmem_word_t *)bytes_make(
            pool, sizeof(slotmem_word_t) * slotmem_map_words(num)).data;
    }
    return sample;
}

static void set_words(slotmem_store_t *store, const content_t *content)
{
    store->content.words = content->words;
    store->content.words_len = content->words_len;
    store->content.labels = content->labels;
    store->content.labels_len = content->labels_len;
}

static slotmem_store_t store_sample(const sample_t *sample, const char *path)
{
    slotmem_store_t store = store_of(&sample->segment, path);

    store.content.config_claims = sample->config_claims;
    set_words(&store, &sample->content);
    return store;
}

/* From nothing to a few chunks. With 65448 bytes of slots a file without claims
 * ends exactly at the end of a chunk. */
static const struct shape_t {
    apr_size_t size;
    apr_uint32_t num;
} shapes[] = {
    { 8, 0 }, { 0, 3 }, { 10, 5 }, { 8181, 8 }, { 65536, 1 }, { 65536, 2 },
    { 1000, 300 }, { 3, 70000 }
};
static const apr_uint32_t types[] = {
    TYPE_PERSIST, TYPE_PERSIST | TYPE_CLEARINUSE
};

/* ---- what has not changed is not written ---- */

static void for_each_shape(unit_place_t *place,
                           void (*check)(unit_place_t *, sample_t *,
                                         slotmem_store_t *))
{
    size_t i, t;

    for (i = 0; i < ELEMENTS(shapes); i++) {
        for (t = 0; t < ELEMENTS(types); t++) {
            const char *path = file_of(place, (int)(i * 2 + t));
            sample_t sample = sample_make(place->pool, shapes[i].size,
                                          shapes[i].num, types[t]);
            slotmem_store_t store = store_sample(&sample, path);

            slotmem_store(&store, 1, NULL, place->pool);
            assert_written(&store, 1);
            check(place, &sample, &store);
            unlink(path);
        }
    }
    assert_int_equal(unit_count_entries(place->dir), 0);
}

static void check_unchanged(unit_place_t *place, sample_t *sample,
                            slotmem_store_t *store)
{
    bytes_t bytes = encode(place->pool, &sample->content);
    struct stat before;
    struct stat after;
    int round;

    assert_int_equal(stat(store->path, &before), 0);
    for (round = 0; round < 3; round++) {
        unit_faults(0, 0, 0);
        slotmem_store(store, 1, NULL, place->pool);
        assert_written(store, 0);
        assert_no_write();
        assert_true(count_calls("r") <= bytes.len / SLOTMEM_CHUNK + 1);
    }
    assert_int_equal(stat(store->path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
    assert_file_is(store->path, bytes, place->pool);
}

/* [B2] A known file that already has the bytes is read once, but not written,
 * synced or renamed, however large it is. */
static void test_unchanged(void **state)
{
    for_each_shape(*state, check_unchanged);
}

/* Store a change, and then store once more. */
static void assert_change_is_stored(unit_place_t *place, sample_t *sample,
                                    slotmem_store_t *store)
{
    apr_pool_t *pool;

    apr_pool_create(&pool, place->pool);
    slotmem_store(store, 1, NULL, pool);
    assert_written(store, 1);
    assert_file_is(store->path, encode(pool, &sample->content), pool);
    unit_faults(0, 0, 0);
    slotmem_store(store, 1, NULL, pool);
    assert_written(store, 0);
    assert_no_write();
    apr_pool_destroy(pool);
}

/* Change one bit of a byte of the slots. */
static void change_byte(unit_place_t *place, sample_t *sample,
                        slotmem_store_t *store, apr_size_t at)
{
    sample->segment.slots[at] ^= 4;
    sample->content.slots[at] ^= 4;
    assert_change_is_stored(place, sample, store);
}

/* Claim or release a slot at run time. */
static void change_mark(unit_place_t *place, sample_t *sample,
                        slotmem_store_t *store, apr_uint32_t id)
{
    unsigned char *marks = sample->config_claims
                           ? sample->content.claims
                           : sample->content.in_use;

    marks[id] = !marks[id];
    if (marks[id]) {
        slotmem_map_set(&sample->segment.map, id);
    }
    else {
        slotmem_map_clear(&sample->segment.map, id);
    }
    assert_change_is_stored(place, sample, store);
}

/* Make a slot in use one that the configuration has claimed. */
static void change_claim(unit_place_t *place, sample_t *sample,
                         slotmem_store_t *store, apr_uint32_t id)
{
    if (!sample->content.claims[id]) {
        change_mark(place, sample, store, id);
    }
    slotmem_bit_set(sample->config_claims, id);
    sample->content.claims[id] = 0;
    assert_change_is_stored(place, sample, store);
}

/* Change a byte of the words and of the labels, and their lengths. */
static void change_words(unit_place_t *place, sample_t *sample,
                         slotmem_store_t *store)
{
    content_t *content = &sample->content;
    const size_t at[] = { 0, content->words_len / 2, content->words_len - 1 };
    size_t i;

    for (i = 0; i < ELEMENTS(at) && content->words_len; i++) {
        char *words = apr_pmemdup(place->pool, content->words,
                                  content->words_len);

        words[at[i]] ^= 4;
        content->words = words;
        set_words(store, content);
        assert_change_is_stored(place, sample, store);
    }
    content->words = apr_pmemdup(place->pool, "longer or shorter", 18);
    content->words_len = content->words_len == 18 ? 17 : 18;
    set_words(store, content);
    assert_change_is_stored(place, sample, store);
    content->words_len--;
    set_words(store, content);
    assert_change_is_stored(place, sample, store);
    content->labels = apr_pstrdup(place->pool, "other labels");
    content->labels_len = content->labels_len == 12 ? 11 : 12;
    set_words(store, content);
    assert_change_is_stored(place, sample, store);
    content->words_len = content->labels_len = 0;
    set_words(store, content);
    assert_change_is_stored(place, sample, store);
}

static void check_changed(unit_place_t *place, sample_t *sample,
                          slotmem_store_t *store)
{
    apr_size_t len = sample->segment.layout.slots_len;
    apr_uint32_t num = sample->content.geometry.item_num;
    const apr_size_t bytes[] = {
        0, len / 2, len - 1, SLOTMEM_CHUNK - 9, SLOTMEM_CHUNK - 8,
        SLOTMEM_CHUNK - 1, SLOTMEM_CHUNK, 2 * SLOTMEM_CHUNK - 1
    };
    const apr_uint32_t ids[] = { 0, num / 2, num - 1 };
    size_t i;

    for (i = 0; i < ELEMENTS(bytes); i++) {
        if (bytes[i] < len) {
            change_byte(place, sample, store, bytes[i]);
        }
    }
    for (i = 0; i < ELEMENTS(ids) && num; i++) {
        change_mark(place, sample, store, ids[i]);
    }
    for (i = 0; i < ELEMENTS(ids) && num && sample->config_claims; i++) {
        if (i == 0 || ids[i] != ids[i - 1]) {
            change_claim(place, sample, store, ids[i]);
        }
    }
    if (sample->config_claims) {
        change_words(place, sample, store);
    }
}

/* [B2][E2] A change of one bit anywhere is stored: in a slot, at each end of a
 * chunk, an in-use flag (and with it the number of free slots), a claim, words
 * and labels. */
static void test_changed(void **state)
{
    for_each_shape(*state, check_changed);
}

/* Each byte of a small segment. */
static void test_each_byte(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 20, 5, types[1]);
    slotmem_store_t store = store_sample(&sample, file_of(place, 1));
    apr_size_t at;

    slotmem_store(&store, 1, NULL, place->pool);
    for (at = 0; at < sample.segment.layout.slots_len; at++) {
        change_byte(place, &sample, &store, at);
    }
}

/* ---- somebody else has changed the file ---- */

static void remove_it(unit_place_t *place, const char *path)
{
    (void)place;
    assert_int_equal(unlink(path), 0);
}

/* Give a file the times of another one. */
static void put_times(const char *path, const struct stat *info)
{
    const struct timespec times[2] = { info->st_atim, info->st_mtim };

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Another file with the same length and times. */
static void replace_it(unit_place_t *place, const char *path)
{
    const char *other = file_of(place, 77);
    bytes_t bytes = read_file(path, place->pool);
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    bytes.data[10] ^= 1;
    write_file(other, bytes);
    put_times(other, &info);
    assert_int_equal(rename(other, path), 0);
}

/* Change a byte of a file, at an offset from its start, or if negative from its
 * end. */
static void change_it(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    struct stat info;
    unsigned char byte;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &info), 0);
    at += at < 0 ? info.st_size : 0;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

#define IN_SLOTS 70
#define IN_DIGEST (-(off_t)sizeof(slotmem_descriptor_t) - 1)

/* Change a byte of its slots, and restore its times. */
static void overwrite_it(unit_place_t *place, const char *path)
{
    struct stat info;

    (void)place;
    assert_int_equal(stat(path, &info), 0);
    change_it(path, IN_SLOTS);
    put_times(path, &info);
}

/* Change a byte of its MD5, and restore its times. */
static void damage_it(unit_place_t *place, const char *path)
{
    struct stat info;

    (void)place;
    assert_int_equal(stat(path, &info), 0);
    change_it(path, IN_DIGEST);
    put_times(path, &info);
}

static void touch_it(unit_place_t *place, const char *path)
{
    struct timeval times[2] = { { 1000000000, 0 }, { 1000000000, 0 } };

    (void)place;
    assert_int_equal(utimes(path, times), 0);
}

static void shorten_it(unit_place_t *place, const char *path)
{
    struct stat info;

    (void)place;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 1), 0);
    put_times(path, &info);
}

static void link_to_it(unit_place_t *place, const char *path)
{
    const char *other = file_of(place, 77);

    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
}

/* [B2] A file is written again although the segment has not changed, if it was
 * removed, replaced, touched, overwritten, damaged or truncated (with its times
 * restored), or replaced with a symbolic link to it. */
static void test_not_known_any_more(void **state)
{
    void (*const acts[])(unit_place_t *, const char *) = {
        remove_it, replace_it, overwrite_it, damage_it, touch_it, shorten_it,
        link_to_it
    };
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 20000, 5, TYPE_PERSIST);
    slotmem_store_t store = store_sample(&sample, file_of(place, 1));
    bytes_t bytes = encode(place->pool, &sample.content);
    struct stat info;
    size_t i;

    slotmem_store(&store, 1, NULL, place->pool);
    for (i = 0; i < ELEMENTS(acts); i++) {
        usleep(20000);          /* so that the times differ */
        acts[i](place, store.path);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 1);
        assert_file_is(store.path, bytes, place->pool);
        assert_int_equal(lstat(store.path, &info), 0);
        assert_true(S_ISREG(info.st_mode));
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 0);
    }
}

static void change_slots(const char *path)
{
    usleep(20000);
    change_it(path, IN_SLOTS);
}

static void change_digest(const char *path)
{
    usleep(20000);
    change_it(path, IN_DIGEST);
}

static void add_a_byte(const char *path)
{
    FILE *file = fopen(path, "a");

    assert_non_null(file);
    fputc(0, file);
    fclose(file);
}

/* A copy with another MD5 and the same times. */
static void put_a_copy(const char *path)
{
    char other[PATH_MAX];
    struct stat info;
    FILE *from = fopen(path, "r");
    FILE *to;
    int c;

    snprintf(other, sizeof(other), "%s.copy", path);
    to = fopen(other, "w");
    assert_true(from && to && fstat(fileno(from), &info) == 0);
    while ((c = getc(from)) != EOF) {
        putc(c, to);
    }
    fclose(from);
    fclose(to);
    change_it(other, IN_DIGEST);
    put_times(other, &info);
    assert_int_equal(rename(other, path), 0);
}

/* [B2] If others change the new file just before or just after the rename, it
 * does not become known: the next store writes it. */
static void test_changed_on_its_way(void **state)
{
    void (*const acts[])(const char *) = {
        change_slots, change_digest, add_a_byte, put_a_copy
    };
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 20000, 5, TYPE_PERSIST);
    slotmem_store_t store = store_sample(&sample, file_of(place, 1));
    size_t i;

    for (i = 0; i < 2 * ELEMENTS(acts); i++) {
        sample.segment.slots[7]++;
        sample.content.slots[7]++;
        renames.before = i % 2 ? acts[i / 2] : NULL;
        renames.after = i % 2 ? NULL : acts[i / 2];
        slotmem_store(&store, 1, NULL, place->pool);
        memset(&renames, 0, sizeof(renames));
        assert_int_equal(store.step, SLOTMEM_STEP_NONE);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 1);
        assert_file_is(store.path, encode(place->pool, &sample.content),
                       place->pool);
    }
}

/* [B2] After a failed store nothing wrong is taken for known: the next store
 * writes the file. */
static void test_known_after_failure(void **state)
{
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 20000, 5, TYPE_PERSIST);
    slotmem_store_t store = store_sample(&sample, file_of(place, 1));
    uint32_t call;
    int failed;

    slotmem_store(&store, 1, NULL, place->pool);
    for (call = 1, failed = 1; failed; call++) {
        sample.segment.slots[7]++;
        sample.content.slots[7]++;
        unit_faults(call, call, EIO);
        slotmem_store(&store, 1, NULL, place->pool);
        failed = faults.calls >= call;
        unit_faults(0, 0, 0);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_int_equal(store.step, SLOTMEM_STEP_NONE);
        assert_file_is(store.path, encode(place->pool, &sample.content),
                       place->pool);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 0);
    }
    assert_true(call > 7);
}

/* ---- the watch function ---- */

typedef struct watcher_t {
    const slotmem_store_t *stores;
    char seen[200];             /* a letter per call, for one of two files */
} watcher_t;

/* w: written and about to be renamed; a: the same, and a refused file was set
 * aside; i: installed; d: fsync was called on its directory; u: unchanged; f:
 * failed. Capitals are for the second file. */
static void watch(void *data, int index)
{
    watcher_t *watcher = data;
    const slotmem_store_t *store = &watcher->stores[index];
    char letter = store->step ? 'f' : store->unchanged ? 'u'
                  : store->installed && store->file_state.synced ? 'd'
                  : store->installed ? 'i' : store->aside ? 'a' : 'w';
    char text[2] = { index ? (char)(letter - 'a' + 'A') : letter, 0 };

    assert_true(strlen(watcher->seen) + 2 < sizeof(watcher->seen));
    strcat(watcher->seen, text);
}

/* [B12] The watch function is called before each rename and right after each
 * result, so that a killed process has reported what it did. */
static void test_watch(void **state)
{
    unit_place_t *place = *state;
    sample_t samples[2];
    slotmem_store_t stores[2];
    watcher_t watcher = { stores, "" };
    slotmem_store_watch_t watched = { TOKEN, watch, &watcher };
    int i;

    for (i = 0; i < 2; i++) {
        samples[i] = sample_make(place->pool, 20, 5, TYPE_PERSIST);
        stores[i] = store_sample(&samples[i], file_of(place, i));
        stores[i].directory = directory_open(stores[i].path);
    }
    slotmem_store(stores, 2, &watched, place->pool);
    assert_string_equal(watcher.seen, "wiWIdD");
    memset(&watcher.seen, 0, sizeof(watcher.seen));
    samples[0].segment.slots[0]++;
    slotmem_store(stores, 2, &watched, place->pool);
    assert_string_equal(watcher.seen, "Uwid");
    memset(&watcher.seen, 0, sizeof(watcher.seen));
    samples[0].segment.slots[0]++;
    stores[0].set_aside = 1;
    stores[1].path = file_of(place, 3);
    stores[1].file_state.verified = 0;
    assert_int_equal(mkdir(stores[1].path, 0700), 0);
    slotmem_store(stores, 2, &watched, place->pool);
    assert_string_equal(watcher.seen, "waiWAIdD");
    memset(&watcher.seen, 0, sizeof(watcher.seen));
    write_file(file_of(place, 4), bytes_of(place->pool, "not ours"));
    for (i = 1; i <= SLOTMEM_BAD_FILES; i++) {
        assert_int_equal(mkdir(apr_psprintf(place->pool, "%s.bad-%d",
                                            file_of(place, 4), i), 0700), 0);
    }
    samples[0].segment.slots[0]++;
    stores[1].path = file_of(place, 4);
    slotmem_store(stores, 2, &watched, place->pool);
    assert_string_equal(watcher.seen, "wiWFd");
}

/* ---- file descriptors ---- */

static struct rlimit leave_files(rlim_t num)
{
    int next = open("/dev/null", O_RDONLY); /* the lowest free descriptor */
    struct rlimit limit;
    struct rlimit few;

    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = (rlim_t)next + num;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    return limit;
}

/* [B2] With few file descriptors left a batch ends early, and the next one
 * continues: all files are stored. */
static void test_few_files(void **state)
{
    enum { MANY = 150 };
    unit_place_t *place = *state;
    slotmem_store_t *stores = calloc(MANY, sizeof(*stores));
    sample_t *samples = calloc(MANY, sizeof(*samples));
    rlim_t left;
    int i;

    assert_true(stores && samples);
    for (i = 0; i < MANY; i++) {
        samples[i] = sample_make(place->pool, 20, 5, TYPE_PERSIST);
        stores[i] = store_sample(&samples[i], file_of(place, i));
    }
    for (left = 1; left < 100; left += left < 5 ? 1 : 37) {
        struct rlimit limit = leave_files(left);

        unit_faults(0, 0, 0);
        slotmem_store(stores, MANY, NULL, place->pool);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(count_calls("n"), MANY);
        for (i = 0; i < MANY; i++) {
            assert_written(&stores[i], 1);
            assert_file_is(stores[i].path,
                           encode(place->pool, &samples[i].content),
                           place->pool);
            samples[i].segment.slots[3]++;
            samples[i].content.slots[3]++;
        }
    }
    assert_int_equal(unit_count_entries(place->dir), MANY);
    free(stores);
    free(samples);
}

/* [B2] Without any file descriptor each store reports that, the files stay, and
 * the next run stores them. */
static void test_no_files(void **state)
{
    unit_place_t *place = *state;
    slotmem_store_t stores[3];
    sample_t samples[3];
    struct rlimit limit;
    bytes_t old = bytes_of(place->pool, "the old content");
    int i;

    for (i = 0; i < 3; i++) {
        samples[i] = sample_make(place->pool, 20, 5, TYPE_PERSIST);
        stores[i] = store_sample(&samples[i], file_of(place, i));
        write_file(stores[i].path, old);
    }
    limit = leave_files(0);
    slotmem_store(stores, 3, NULL, place->pool);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (i = 0; i < 3; i++) {
        assert_int_not_equal(stores[i].step, SLOTMEM_STEP_NONE);
        assert_true(APR_STATUS_IS_EMFILE(stores[i].status));
        assert_file_is(stores[i].path, old, place->pool);
    }
    slotmem_store(stores, 3, NULL, place->pool);
    for (i = 0; i < 3; i++) {
        assert_written(&stores[i], 1);
        assert_file_is(stores[i].path,
                       encode(place->pool, &samples[i].content), place->pool);
    }
}

/* ---- files that a restore makes known ---- */

/* Restore a file into a segment of num slots, and store that.
 * written: whether the store has to write the file */
static void restore_and_store(unit_place_t *place, const content_t *content,
                              bytes_t file, apr_uint32_t num, int written)
{
    const char *path = file_of(place, 1);
    slotmem_geometry_t geometry = content->geometry;
    slotmem_file_layout_t layout;
    slotmem_segment_t segment;
    slotmem_restore_result_t result;
    slotmem_store_t store;

    assert_true(slotmem_file_layout(&layout, geometry.item_size, num));
    geometry.item_num = num;
    segment = segment_new(place->pool, geometry);
    store = store_of(&segment, path);
    if (content->claims) {
        store.content.config_claims = (slotmem_word_t *)bytes_make(
            place->pool, sizeof(slotmem_word_t) * slotmem_map_words(num)).data;
    }
    set_words(&store, content);
    write_file(path, file);
    slotmem_restore(&result, &segment, content->claims != NULL, NULL, path,
                    place->pool);
    assert_int_equal(result.outcome, SLOTMEM_RESTORE_DONE);
    store.file_state = result.file_state;
    unit_faults(0, 0, 0);
    slotmem_store(&store, 1, NULL, place->pool);
    assert_written(&store, written);
    if (!written) {
        /* Only fsync is called, on the file and its directory: the process that
         * put it there may have been killed before its own. Once is enough. */
        assert_int_equal(count_calls("wnlx"), 0);
        assert_int_equal(count_calls("o"), 1);
        assert_int_equal(count_calls("s"), 2);
        assert_file_is(path, file, place->pool);
        unit_faults(0, 0, 0);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_no_write();
    }
    else {
        assert_int_equal(read_file(path, place->pool).len,
                         layout.image_len + section_len(content)
                         + (content->claims
                            ? num - content->geometry.item_num : 0));
    }
    assert_int_equal(unit_count_entries(place->dir), 1);
    unlink(path);
}

/* [B2][E4][E5] A restored file that is as this module would write it is known,
 * and not written. One with a tail, no description, another number of free
 * slots, claims that do not fit, or fewer slots is written. */
static void test_known_from_restore(void **state)
{
    unit_place_t *place = *state;
    bytes_t tail = bytes_of(place->pool, "left over");
    size_t i, t;

    for (i = 0; i < ELEMENTS(shapes); i++) {
        for (t = 0; t < ELEMENTS(types); t++) {
            content_t content = content_make(place->pool, shapes[i].size,
                                             shapes[i].num, types[t]);
            apr_uint32_t num = shapes[i].num;
            bytes_t file;

            add_words(&content, place->pool);
            file = encode(place->pool, &content);
            restore_and_store(place, &content, file, num, 0);
            restore_and_store(place, &content,
                              bytes_join(place->pool, file, tail), num, 1);
            restore_and_store(place, &content, file, num + 1, 1);
            restore_and_store(place, &content,
                              encode_with(place->pool, &content, 99), num, 1);
            if (content.claims) {
                bytes_t other = bytes_join(place->pool, file, bytes_of(
                                               place->pool, ""));

                other.data[other.len - 1] ^= 1;
                restore_and_store(place, &content, other, num, 1);
            }
            file.len = description_at(&content);
            restore_and_store(place, &content, file, num, 1);
        }
    }
}

/* [E12] Words and labels are compared too: the file is written again only if
 * they differ. */
static void test_words(void **state)
{
    static const char words[] = "0011223344556677\0route\0a\0";
    static const char labels[] = "balancer\0balancer://one\0";
    unit_place_t *place = *state;
    sample_t sample = sample_make(place->pool, 8, 70, types[1]);
    slotmem_store_t store = store_sample(&sample, file_of(place, 1));
    const char *const all[][2] = {
        { words, labels }, { words, NULL }, { NULL, labels }, { NULL, NULL },
        { labels, words }
    };
    size_t i;

    for (i = 0; i < ELEMENTS(all); i++) {
        sample.content.words = store.content.words = all[i][0];
        sample.content.words_len = store.content.words_len
            = all[i][0] == words ? sizeof(words)
              : all[i][0] ? sizeof(labels) : 0;
        sample.content.labels = store.content.labels = all[i][1];
        sample.content.labels_len = store.content.labels_len
            = all[i][1] == words ? sizeof(words)
              : all[i][1] ? sizeof(labels) : 0;
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 1);
        assert_file_is(store.path, encode(place->pool, &sample.content),
                       place->pool);
        unit_faults(0, 0, 0);
        slotmem_store(&store, 1, NULL, place->pool);
        assert_written(&store, 0);
        assert_no_write();
    }
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, file_setup, file_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unchanged),
        TEST(test_changed),
        TEST(test_each_byte),
        TEST(test_not_known_any_more),
        TEST(test_changed_on_its_way),
        TEST(test_known_after_failure),
        TEST(test_watch),
        TEST(test_few_files),
        TEST(test_no_files),
        TEST(test_known_from_restore),
        TEST(test_words)
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}

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
 * damage.c: files that are truncated, changed, shuffled, or not ours.
 * [B7][E3][E4][E12]
 *
 * It tries every length that a file can be cut to, a change of every byte, an
 * exchange of every pair of blocks of 512 bytes, and other objects at the path.
 * Nothing damaged is restored: the segment is as new, the reason says what is
 * wrong, and the next store keeps the file, byte for byte. If only the run-time
 * claims are damaged, the image is restored without claims.
 */

#include "campaign.h"

#include <ctype.h>

#define BLOCK 512

typedef enum expect_t {
    REFUSED,                    /* with a reason */
    NO_CLAIMS,                  /* restored without the run-time claims */
    WHOLE                       /* restored completely */
} expect_t;

/* What the reason of a refusal must contain, whatever its wording. */
typedef enum reason_t {
    ANY,
    DIGESTS,                    /* the expected MD5 and the one found */
    SHAPE,                      /* the expected shape, and no MD5 */
    LENGTH,                     /* the maximum length and the one found */
    NO_FILE                     /* the object found instead of a file */
} reason_t;

static const slotmem_geometry_t shapes[] = {
    { 24, 5, 0x1 }, { 24, 5, 0x9 }, { 16, 9, 0x5 }, { 1, 1, 0x9 },
    { 0, 3, 0x1 }, { 8, 0, 0x1 }, { 544, 12, 0x9 }, { 700, 100, 0x9 }
};

static char dir_path[128];
static char last_reason[256];           /* of the last refusal */
static char path[256];
static content_t content;       /* of the current shape */
static slotmem_word_t *configured;
static apr_pool_t *setup;

/* The next store of a server that refused the file: it must keep the file. */
static void check_kept(const slotmem_restore_result_t *restored,
                       slotmem_segment_t *segment, const unsigned char *bytes,
                       size_t len, apr_pool_t *pool)
{
    const char *bad = apr_pstrcat(pool, path, ".bad-1", NULL);
    int refused = restored->outcome == SLOTMEM_RESTORE_REFUSED;
    slotmem_store_t store = { .content.segment = segment, .path = path,
                              .content.config_claims = configured,
                              .set_aside = refused,
                              .file_state = restored->file_state };
    struct stat before, after;

    if (lstat(path, &before) != 0) {
        lost("%s is gone", path);
    }
    fill_segment(segment, &content);
    slotmem_store(&store, 1, NULL, pool);
    if (store.step || !file_is(path, content.bytes, content.len)) {
        lost("the next store cannot %s", slotmem_step_text(store.step));
    }
    if (refused && (lstat(bad, &after) != 0 || after.st_ino != before.st_ino
                    || after.st_mode != before.st_mode
                    || after.st_size != before.st_size)) {
        lost("not kept: %s", bad);
    }
    if (refused && bytes && !file_is(bad, bytes, len)) {
        lost("not kept unchanged: %s", bad);
    }
    if (refused && remove(bad) != 0) {
        lost("no %s", bad);
    }
}

/* Moves *at to the next word of letters and digits. Returns its length, or 0 if
 * there is none. */
static size_t next_word(const char **at)
{
    const char *end;

    while (**at && !isalnum((unsigned char)**at)) {
        ++*at;
    }
    for (end = *at; isalnum((unsigned char)*end); end++) {
    }
    return (size_t)(end - *at);
}

/* How often a reason contains this word, or any word of this length. */
static int count_words(const char *why, size_t len, const char *word)
{
    size_t found;
    int times = 0;

    for (; (found = next_word(&why)) != 0; why += found) {
        times += found == len && (!word || memcmp(why, word, len) == 0);
    }
    return times;
}

static int names_number(const char *why, size_t number)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%lu", (unsigned long)number);

    return count_words(why, (size_t)len, digits) > 0;
}

static int is_reason(const slotmem_restore_result_t *restored, reason_t reason)
{
    const char *why = restored->reason;
    int digests;

    if (!why || !*why) {
        return 0;
    }
    digests = count_words(why, 2 * APR_MD5_DIGESTSIZE, NULL);
    switch (reason) {
    case DIGESTS:
        return restored->reason_kind == SLOTMEM_REASON_CONTENT && digests == 2;
    case SHAPE:
        return restored->reason_kind == SLOTMEM_REASON_CONTENT && digests == 0
               && names_number(why, content.geometry.item_num)
               && names_number(why, content.geometry.item_size);
    case LENGTH:
        return restored->reason_kind == SLOTMEM_REASON_UNOPENED && digests == 0
               && names_number(why, content.image + content.geometry.item_num)
               && names_number(why, (size_t)restored->file_state.size);
    case NO_FILE:
        return restored->reason_kind == SLOTMEM_REASON_UNOPENED && digests == 0;
    default:
        return 1;
    }
}

/* Check the restore of a file that is not as it should be. bytes: its content,
 * or NULL if the caller has created it. reason: of the refusal, if any */
static void check(const unsigned char *bytes, size_t len, expect_t expected,
                  reason_t reason, int stores)
{
    slotmem_restore_result_t restored;
    slotmem_segment_t segment;
    apr_pool_t *pool;
    int refused;

    figures->cases++;
    apr_pool_create(&pool, NULL);
    if (bytes) {
        put_file(path, bytes, len);
    }
    need(slotmem_segment_create(&segment, &content.geometry, NULL, pool)
         == APR_SUCCESS, "create a segment");
    slotmem_restore(&restored, &segment, configured != NULL, NULL, path,
                    pool);
    refused = restored.outcome == SLOTMEM_RESTORE_REFUSED;
    if (refused != (expected == REFUSED)
        || (!refused && restored.outcome != SLOTMEM_RESTORE_DONE)) {
        lost("outcome %d, expected %s (%s)", restored.outcome,
             expected == REFUSED ? "refused" : "restored", restored.reason);
    }
    if (!holds(&segment, refused ? NULL : &content, expected == WHOLE)) {
        lost("the segment has the wrong content");
    }
    if (refused && !is_reason(&restored, reason)) {
        lost("the reason is: %s", restored.reason);
    }
    if (refused) {
        snprintf(last_reason, sizeof(last_reason), "%s", restored.reason);
    }
    if (bytes && !file_is(path, bytes, len)) {
        lost("a restore has changed the file");
    }
    if (stores) {
        check_kept(&restored, &segment, bytes, len, pool);
    }
    figures->faults += expected != WHOLE;
    apr_pool_destroy(pool);
}

static void name_case(const char *what, size_t a, size_t b)
{
    snprintf(context, sizeof(context), "%s %lu, %lu of %u slots of %lu bytes, "
             "type 0x%x", what, (unsigned long)a, (unsigned long)b,
             content.geometry.item_num,
             (unsigned long)content.geometry.item_size, content.geometry.type);
}

/* What must become of a file whose first damage is at this offset. */
static expect_t damage_at(size_t at)
{
    return at < content.image ? REFUSED : at < content.len ? NO_CLAIMS : WHOLE;
}

/* step: try only every step-th offset */
static void cut(size_t step)
{
    size_t len;

    for (len = 0; len < content.len; len += step) {
        name_case("cut to", len, 0);
        /* A file that ends after its MD5 is from a release before 2.4.34. */
        check(content.bytes, len, len == content.image - 16 ? NO_CLAIMS
                                                            : damage_at(len),
              ANY, len % (64 * step) == 0 || content.len < 1000);
    }
    name_case("cut to", content.image - 16, 0);
    check(content.bytes, content.image - 16, NO_CLAIMS, ANY, 1);
    name_case("cut to", content.image, 0);
    check(content.bytes, content.image, NO_CLAIMS, ANY, 1);
}

static void lengthen(void)
{
    static const size_t more[] = { 1, 16, 32, 512, 70000 };
    int i;

    for (i = 0; i < ELEMENTS(more); i++) {
        size_t len = content.len + more[i];
        unsigned char *bytes = apr_pcalloc(setup, len);

        memcpy(bytes, content.bytes, content.len);
        name_case("longer by", more[i], 0);
        check(bytes, len, damage_at(content.image), ANY, 1);
        memset(bytes + content.len, 0xff, more[i]);
        check(bytes, len, damage_at(content.image), ANY, 1);
    }
}

static void change_bytes(size_t step, int values)
{
    static const unsigned char change[] = { 0xff, 0x01, 0x80, 0x20, 0x55 };
    unsigned char *bytes = apr_pmemdup(setup, content.bytes, content.len);
    size_t at;
    int i;

    for (at = 0; at < content.len; at += step) {
        for (i = 0; i < values; i++) {
            int is_content = at < content.image - 16;

            bytes[at] = content.bytes[at] ^ change[i];
            name_case("changed byte, bits", at, change[i]);
            check(bytes, content.len, damage_at(at),
                  is_content ? DIGESTS : SHAPE,
                  (at / step) % 64 == 0 || content.len < 1000);
        }
        bytes[at] = content.bytes[at];
    }
}

static size_t block_len(size_t block)
{
    return content.len - block < BLOCK ? content.len - block : BLOCK;
}

static void exchange_blocks(size_t step)
{
    size_t a, b, len;

    for (a = 0; a < content.len; a += BLOCK) {
        for (b = a + BLOCK; b < content.len; b += step * BLOCK) {
            unsigned char *bytes = apr_pmemdup(setup, content.bytes,
                                               content.len);

            len = block_len(b);
            memcpy(bytes + a, content.bytes + b, len);
            memcpy(bytes + b, content.bytes + a, len);
            for (len = 0; len < content.len
                          && bytes[len] == content.bytes[len]; len++) {
            }
            name_case("exchanged blocks at", a, b);
            check(bytes, content.len, damage_at(len), ANY, b == a + BLOCK);
            apr_pool_clear(setup);
        }
    }
}

/* A block of zeros, as from a file system that lost the block. */
static void lose_blocks(void)
{
    size_t a, len;

    for (a = 0; a < content.len; a += BLOCK) {
        unsigned char *bytes = apr_pmemdup(setup, content.bytes, content.len);

        memset(bytes + a, 0, block_len(a));
        for (len = 0; len < content.len && bytes[len] == content.bytes[len];
             len++) {
        }
        name_case("lost block at", a, 0);
        check(bytes, content.len, damage_at(len), ANY, 1);
        apr_pool_clear(setup);
    }
}

/* The file of another segment; one with fewer slots is not damaged. */
static void take_others(apr_pool_t *pool)
{
    int i;

    for (i = 0; i < ELEMENTS(shapes); i++) {
        content_t other = make_content(pool, shapes[i], 99);

        if (shapes[i].item_size != content.geometry.item_size
            || shapes[i].type != content.geometry.type) {
            name_case("the file of shape", (size_t)i, 0);
            check(other.bytes, other.len, REFUSED, SHAPE, 1);
        }
    }
    if (content.geometry.item_size) {
        slotmem_geometry_t more = content.geometry;
        content_t other;

        more.item_num++;
        other = make_content(pool, more, 99);
        name_case("one slot more", 0, 0);
        check(other.bytes, other.len, REFUSED, SHAPE, 1);
    }
}

/* A sparse file of this length, with some bytes at its start and at its end. */
static void make_sparse(off_t len, const void *start, size_t start_len,
                        const void *end, size_t end_len)
{
    int fd;

    empty_directory(dir_path);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    need(fd >= 0 && ftruncate(fd, len) == 0, "make a sparse file");
    need(pwrite(fd, start, start_len, 0) == (ssize_t)start_len, "write");
    need(pwrite(fd, end, end_len, len - (off_t)end_len) == (ssize_t)end_len,
         "write");
    close(fd);
}

/* The end of one of our files, with an MD5 that does not fit. */
static slotmem_end_t false_end(off_t len)
{
    const slotmem_geometry_t *geometry = &content.geometry;
    slotmem_end_t end = { .magic = SLOTMEM_FILE_MAGIC,
                          .version = SLOTMEM_FILE_VERSION,
                          .item_size = geometry->item_size,
                          .item_num = geometry->item_num,
                          .type = geometry->type,
                          .length = (apr_uint64_t)len };

    return end;
}

/* A file that is longer than any file of the requested segment is not read,
 * whatever its start and its end; one of exactly the maximum length is. */
static void sparse(void)
{
    const off_t most = (off_t)content.image + content.geometry.item_num
                       + SLOTMEM_FILE_EXCESS;
    const off_t lengths[] = { most + 1, (off_t)1 << 32, 5500000000, most };
    slotmem_descriptor_t description = slotmem_descriptor_of(&content.geometry);
    int i;

    for (i = 0; i < ELEMENTS(lengths); i++) {
        int is_read = lengths[i] == most;
        slotmem_end_t end = false_end(lengths[i]);

        name_case("sparse", (size_t)lengths[i], 0);
        make_sparse(lengths[i], NULL, 0, NULL, 0);
        check(NULL, 0, REFUSED, is_read ? SHAPE : LENGTH, 1);
        name_case("sparse, with a description", (size_t)lengths[i], 0);
        make_sparse(lengths[i], NULL, 0, &description, sizeof(description));
        check(NULL, 0, REFUSED, is_read ? SHAPE : LENGTH, 1);
        name_case("sparse, with an end", (size_t)lengths[i], 0);
        make_sparse(lengths[i], NULL, 0, &end, sizeof(end));
        check(NULL, 0, REFUSED, is_read ? SHAPE : LENGTH, 1);
        name_case("sparse, with an image and an end", (size_t)lengths[i], 0);
        make_sparse(lengths[i], content.bytes, content.image, &end,
                    sizeof(end));
        check(NULL, 0, is_read ? damage_at(content.image) : REFUSED, LENGTH,
              1);
    }
    empty_directory(dir_path);
}

/* Files whose bytes all fit their MD5, but that have a wrong length, shape, or
 * length of a part. The image is intact. */
static void lie(void)
{
    const size_t end = content.len - sizeof(slotmem_end_t);
    const size_t chunk = content.image + sizeof(slotmem_section_t);
    const struct { size_t at, len; } fields[] = {
        { end + offsetof(slotmem_end_t, version), 4 },
        { end + offsetof(slotmem_end_t, item_size), 8 },
        { end + offsetof(slotmem_end_t, item_num), 4 },
        { end + offsetof(slotmem_end_t, type), 4 },
        { end + offsetof(slotmem_end_t, length), 8 },
        { chunk + offsetof(slotmem_chunk_t, length), 8 }
    };
    const apr_uint64_t values[] = {
        0, 1, content.len - 1, content.len + 1, APR_INT32_MAX, APR_UINT32_MAX,
        (apr_uint64_t)5500000000, (apr_uint64_t)APR_INT64_MAX,
        APR_UINT64_MAX - content.len, APR_UINT64_MAX - 15, APR_UINT64_MAX
    };
    int i, k;

    if (content.len == content.image) {
        return;                 /* no section */
    }
    for (i = 0; i < ELEMENTS(fields); i++) {
        for (k = 0; k < ELEMENTS(values); k++) {
            unsigned char *bytes = apr_pmemdup(setup, content.bytes,
                                               content.len);

            memcpy(bytes + fields[i].at, &values[k], fields[i].len);
            if (memcmp(bytes, content.bytes, content.len) == 0) {
                continue;       /* that is the right value */
            }
            apr_md5(bytes + content.len - APR_MD5_DIGESTSIZE, bytes,
                    content.len - APR_MD5_DIGESTSIZE);
            name_case("a lie at, value", fields[i].at, (size_t)values[k]);
            check(bytes, content.len, NO_CLAIMS, ANY, 1);
        }
    }
    apr_pool_clear(setup);
}

static void foreign(void)
{
    static const char *const texts[] = {
        "", "\n", "not ours", "<?xml version=\"1.0\"?>\n<a></a>\n"
    };
    char good[300], directory[sizeof(last_reason)], fifo[sizeof(last_reason)];
    char through_link[sizeof(last_reason)];
    int i;

    for (i = 0; i < ELEMENTS(texts); i++) {
        empty_directory(dir_path);
        name_case("a text", (size_t)i, 0);
        check((const unsigned char *)texts[i], strlen(texts[i]), REFUSED,
              SHAPE, 1);
    }
    empty_directory(dir_path);
    need(mkdir(path, 0700) == 0, path);
    name_case("a directory", 0, 0);
    check(NULL, 0, REFUSED, NO_FILE, 1);
    memcpy(directory, last_reason, sizeof(directory));
    empty_directory(dir_path);
    need(mkfifo(path, 0600) == 0, path);
    name_case("a FIFO", 0, 0);
    check(NULL, 0, REFUSED, NO_FILE, 1);
    memcpy(fifo, last_reason, sizeof(fifo));
    empty_directory(dir_path);
    snprintf(good, sizeof(good), "%s/good", dir_path);
    put_file(good, content.bytes, content.len);
    need(symlink(good, path) == 0, path);
    name_case("a symbolic link", 0, 0);
    check(NULL, 0, REFUSED, NO_FILE, 1);
    if (strcmp(last_reason, directory) == 0 || strcmp(last_reason, fifo) == 0
        || strcmp(fifo, directory) == 0) {
        lost("one reason for two things: %s", last_reason);
    }
    memcpy(through_link, last_reason, sizeof(through_link));
    if (!file_is(good, content.bytes, content.len)) {
        lost("a link was followed");
    }
    empty_directory(dir_path);
    need(symlink("/nonexistent/file", path) == 0, path);
    check(NULL, 0, REFUSED, NO_FILE, 1);
    if (strcmp(last_reason, through_link) != 0) {
        lost("a dangling link has another reason: %s", last_reason);
    }
    empty_directory(dir_path);
}

int main(int argc, char **argv)
{
    apr_pool_t *pool;
    int i, full;

    if (argc != 3) {
        fprintf(stderr, "usage: damage --slice|--full DIRECTORY\n");
        return 2;
    }
    full = strcmp(argv[1], "--full") == 0;
    campaign_start();
    snprintf(dir_path, sizeof(dir_path), "%s", argv[2]);
    snprintf(path, sizeof(path), "%s/p.persist", dir_path);
    alarm(full ? 7200 : 300);           /* in case anything blocks */
    for (i = 0; i < ELEMENTS(shapes); i++) {
        int large = shapes[i].item_size * shapes[i].item_num > 10000;
        size_t step = large && !full ? 97 : 1;

        apr_pool_create(&pool, NULL);
        apr_pool_create(&setup, pool);
        content = make_content(pool, shapes[i], 7);
        configured = make_configured(pool, shapes[i]);
        name_case("whole", 0, 0);
        check(content.bytes, content.len, WHOLE, ANY, 1);
        cut(step);
        lengthen();
        change_bytes(step, full ? 5 : 2);
        exchange_blocks(large && !full ? 7 : 1);
        lose_blocks();
        take_others(pool);
        foreign();
        sparse();
        lie();
        apr_pool_destroy(pool);
    }
    printf("campaign damage: cases=%lu faults=%lu lost=%lu\n", figures->cases,
           figures->faults, figures->lost);
    return figures->lost != 0;
}

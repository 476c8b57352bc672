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
 * differential_files.c: compares the persisted files of both sides after each
 * store, and changes them in the same way between two lives of the server.
 */

#include "differential_image.h"

#include "apr_strings.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#define PROVIDER(side) dso[side]->provider

/* The files before the generation ended. */
static content_t before[SIDES][NAMES];
static int bad_before[NAMES];
/* The file before the current create. */
static content_t restored;

static int has_file(int name)
{
    return name >= NAME_FIRST_KEPT && name <= NAME_ABSOLUTE_2;
}

/* ---- restore ---- */

void files_before_create(const op_t *op)
{
    int name = canonical(op->name);

    content_drop(&restored);
    if (has_file(name) && !life.who && (op->type & AP_SLOTMEM_TYPE_PERSIST)) {
        restored = content_read(OURS, name);
    }
}

/* Give the distributed segment the bytes and in-use flags of ours, and the
 * count of free slots, which precedes the slots in its memory as it does in the
 * file. / */
static void settle(handle_t *handle, const unsigned char *flags, uint32_t num)
{
    uint64_t count = handle->num;
    uint32_t id;

    if (handle->base[OURS]) {
        memcpy(handle->base[THEIRS], handle->base[OURS],
               handle->size * handle->num);
    }
    for (id = 0; id < handle->num; id++) {
        PROVIDER(THEIRS)->release(handle->inst[THEIRS], id);
        if (flags && id < num && flags[id]) {
            PROVIDER(THEIRS)->fgrab(handle->inst[THEIRS], id);
            count--;
        }
    }
    if (handle->base[THEIRS]) {
        memcpy(handle->base[THEIRS] - HEAD, &count, sizeof(count));
    }
}

/* Ours must have the num slots of the file, and zeros after them. */
static void check_slots(const handle_t *handle, uint32_t num)
{
    apr_size_t len = handle->size * num;
    apr_size_t i;

    if (!handle->base[OURS]) {
        return;
    }
    if (memcmp(handle->base[OURS], restored.bytes + HEAD, len) != 0) {
        differ("[E1] ours did not restore the bytes of its file");
    }
    for (i = len; i < handle->size * handle->num; i++) {
        if (handle->base[OURS][i]) {
            differ("[E5] a new slot of ours is not empty");
            return;
        }
    }
}

static void check_free(const handle_t *handle, const unsigned char *flags,
                       uint32_t num)
{
    unsigned free_slots = handle->num;
    uint32_t id;

    for (id = 0; flags && id < num; id++) {
        free_slots -= flags[id] != 0;
    }
    if (PROVIDER(OURS)->num_free_slots(handle->inst[OURS]) != free_slots) {
        differ("[E2] ours did not restore the in-use flags of its file");
    }
}

/* Has the distributed module kept bytes of a refused file in its segment? */
static int is_touched(const handle_t *handle)
{
    apr_size_t i;

    for (i = 0; handle->base[THEIRS] && i < handle->size * handle->num; i++) {
        if (handle->base[THEIRS][i]) {
            return 1;
        }
    }
    return PROVIDER(THEIRS)->num_free_slots(handle->inst[THEIRS])
           != handle->num
           || (handle->base[THEIRS]
               && memcmp(handle->base[THEIRS] - HEAD, &handle->num,
                         sizeof(handle->num)) != 0);
}

/* How many slots of the file ours must restore; -1: it must refuse the file. */
static int64_t slots_in_file(const handle_t *handle)
{
    uint32_t num;

    for (num = handle->num + 1; num-- > 0;) {
        if (is_image(&restored, handle->size, num, handle->type)
            && ((num == handle->num && !description_at(&restored))
                || restored.len >= image_len(handle->size, num))) {
            return num;
        }
    }
    return -1;
}

/* The file does not fit the segment: ours is as new. */
static void check_refused(handle_t *handle)
{
    handle->refused = 1;
    check_slots(handle, 0);
    check_free(handle, NULL, 0);
    if (is_touched(handle)) {
        use_exception(X_REFUSED);
        handle->miscounted = !handle->num;
    }
    settle(handle, NULL, 0);
}

static exception_t exception_of(const handle_t *handle, uint32_t num,
                                const unsigned char *flags)
{
    if (num < handle->num) {
        return X_GROWN;
    }
    if (restored.len < image_len(handle->size, handle->num)) {
        return X_NO_DESCRIPTION;
    }
    return flags && (handle->type & AP_SLOTMEM_TYPE_CLEARINUSE)
           ? X_CLAIMS_RESTORED : X_NONE;
}

/* Check what was restored into a new segment of the parent. */
void files_restored(handle_t *handle)
{
    const unsigned char *flags;
    exception_t exception;
    uint32_t num;
    uint32_t id;

    if (!restored.exists) {
        return;
    }
    if (slots_in_file(handle) < 0) {
        check_refused(handle);
        return;
    }
    num = (uint32_t)slots_in_file(handle);
    flags = (handle->type & AP_SLOTMEM_TYPE_CLEARINUSE)
            && restored.len >= image_len(handle->size, num)
            ? claims_of(&restored, handle->size, num)
            : restored.bytes + HEAD + handle->size * num;
    check_slots(handle, num);
    check_free(handle, flags, num);
    exception = exception_of(handle, num, flags);
    if (exception != X_NONE) {
        use_exception(exception);
    }
    if (exception == X_GROWN || exception == X_NO_DESCRIPTION
        || handle->late) {
        settle(handle, flags, num);
    }
    else if (exception == X_CLAIMS_RESTORED) {
        for (id = 0; id < num; id++) {
            if (flags[id]) {
                PROVIDER(THEIRS)->fgrab(handle->inst[THEIRS], id);
            }
        }
    }
}

/* ---- store ---- */

static int bad_files(int name, const content_t *refused)
{
    char path[600];
    int found = 0;
    int n;

    for (n = 1; n <= 4; n++) {
        char suffix[10];
        content_t content;

        snprintf(suffix, sizeof(suffix), ".bad-%d", n);
        path_of(path, sizeof(path), OURS, name, suffix);
        content = content_read_path(path);
        found += content.exists
                 && (!refused || content_same(&content, refused));
        content_drop(&content);
    }
    return found;
}

void files_snapshot(void)
{
    int side;
    int name;

    for (name = 0; name < NAMES; name++) {
        if (!has_file(name)) {
            continue;
        }
        for (side = 0; side < SIDES; side++) {
            content_drop(&before[side][name]);
            before[side][name] = content_read(side, name);
        }
        bad_before[name] = bad_files(name, NULL);
    }
}

static void directory_of(char *path, size_t len, int side, const char *name)
{
    apr_snprintf(path, len, "%s/%s", scratch[side], name);
}

/* If APR uses System V shared memory, theirs has a file for each segment, which
 * stays when the server is killed; our files are elsewhere. */
static int may_be_memory(int side, const char *persist)
{
#if APR_USE_SHMEM_SHMGET
    return side == THEIRS && !persist;
#else
    (void)side;
    (void)persist;
    return 0;
#endif
}

/* A directory must contain nothing else. */
static void check_directory(int side, const char *directory)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        const char *persist = strstr(name, ".persist");

        if (*name == '.' || (persist && !persist[8])
            || may_be_memory(side, persist)
            || (side == OURS && persist
                && strncmp(persist + 8, ".bad-", 5) == 0)
            || (side == OURS && (strcmp(name, "slotmem-shm.lock") == 0
                                 || strstr(name, ".names")))) {
            continue;
        }
        differ("%s has left %s/%s", dso[side]->name, directory, name);
    }
    if (dir) {
        closedir(dir);
    }
}

static void compare_claims(const handle_t *handle, const content_t *ours)
{
    const unsigned char *claims = claims_of(ours, handle->size, handle->num);
    unsigned id;

    if (!claims) {
        differ("[E2] segment %s: no run-time claims in our file",
               name_of(OURS, handle->name));
        return;
    }
    use_exception(X_CLAIMS_STORED);
    for (id = 0; id < handle->num; id++) {
        if (claims[id] != (handle->used[id] && !handle->config_claims[id])) {
            differ("[E2] segment %s: the run-time claim of slot %u is %d",
                   name_of(OURS, handle->name), id, claims[id]);
            return;
        }
    }
}

/* Check the file that the distributed module overwrote in place. */
static void compare_tail(const handle_t *handle, const content_t *theirs)
{
    apr_size_t image = image_len(handle->size, handle->num);
    const content_t *old = &before[THEIRS][handle->name];
    apr_size_t due = old->len > image ? old->len : image;

    if (theirs->len != due
        || (due > image && memcmp(theirs->bytes + image, old->bytes + image,
                                  due - image) != 0)) {
        differ("[E4] segment %s: the distributed one's file is %" APR_SIZE_T_FMT
               " bytes long, expected %" APR_SIZE_T_FMT,
               name_of(THEIRS, handle->name), theirs->len, due);
    }
    if (due > image) {
        use_exception(X_TAIL);
    }
}

static uint32_t count_in(const content_t *content)
{
    uint32_t count;

    memcpy(&count, content->bytes, sizeof(count));
    return count;
}

/* The first offset before the MD5 at which they differ, or -1. */
static int64_t difference(const content_t *ours, const content_t *theirs,
                          apr_size_t from, apr_size_t len)
{
    apr_size_t at;

    for (at = from; at < len; at++) {
        if (ours->bytes[at] != theirs->bytes[at]) {
            return (int64_t)at;
        }
    }
    return -1;
}

/* Both have the right MD5 and description; compare the bytes before these. */
static void compare_image(const handle_t *handle, const content_t *ours,
                          const content_t *theirs)
{
    apr_size_t image = image_len(handle->size, handle->num);
    apr_size_t from = 0;
    int64_t at;

    if (!is_image(theirs, handle->size, handle->num, handle->type)
        || theirs->len < image) {
        differ("[E1] segment %s: the distributed one's file is not valid",
               name_of(THEIRS, handle->name));
        return;
    }
    if (!(handle->type & AP_SLOTMEM_TYPE_PREGRAB)
        && count_in(theirs) > count_in(ours)) {
        use_exception(X_COUNT);
        from = sizeof(uint32_t);
    }
    at = difference(ours, theirs, from, image - (from ? DIGEST + DESCRIPTION
                                                      : 0));
    if (at >= 0) {
        differ("[E1] segment %s: the files at %d of %d: ours %d, theirs %d",
               name_of(OURS, handle->name), (int)at, (int)image,
               ours->bytes[at], theirs->bytes[at]);
    }
}

static void compare_file(const handle_t *handle)
{
    content_t ours = content_read(OURS, handle->name);
    content_t theirs = content_read(THEIRS, handle->name);
    apr_size_t image = image_len(handle->size, handle->num);
    int has_claims = handle->type & AP_SLOTMEM_TYPE_CLEARINUSE;
    apr_size_t due = image + (has_claims ? section_len(handle->num) : 0);

    shared->stores++;
    if (!ours.exists || ours.len != due || ours.mode != 0600
        || !is_image(&ours, handle->size, handle->num, handle->type)) {
        differ("[E] segment %s: our file: %" APR_SIZE_T_FMT
               " bytes, mode %o, expected %" APR_SIZE_T_FMT " bytes",
               name_of(OURS, handle->name), ours.len, ours.mode, due);
    }
    else if (handle->late || handle->miscounted) {
        content_write(THEIRS, handle->name, &ours);
    }
    else {
        compare_image(handle, &ours, &theirs);
        compare_tail(handle, &theirs);
    }
    if (has_claims && ours.len == due && !handle->late) {
        compare_claims(handle, &ours);
    }
    content_drop(&ours);
    content_drop(&theirs);
}

static const handle_t *stored_as(int name)
{
    int i;

    for (i = 0; i < life.handles_num; i++) {
        const handle_t *handle = &life.handles[i];

        if (handle->name == name && !handle->stale
            && (handle->type & AP_SLOTMEM_TYPE_PERSIST)) {
            return handle;
        }
    }
    return NULL;
}

static void compare_aside(const handle_t *handle, int name, int stored)
{
    int due = bad_before[name];
    int is_set_aside = stored && handle && handle->refused;

    if (is_set_aside) {
        due = due < 4 ? due + 1 : 4;
        use_exception(X_SET_ASIDE);
    }
    if (bad_files(name, NULL) != due
        || (is_set_aside && !bad_files(name, &before[OURS][name]))) {
        differ("[E3] segment %s: we kept %d refused files, expected %d",
               name_of(OURS, name), bad_files(name, NULL), due);
    }
}

static void compare_untouched(int side, int name)
{
    content_t now = content_read(side, name);

    if (!content_same(&now, &before[side][name])) {
        differ("[B10] %s has changed the file of segment %s", dso[side]->name,
               name_of(side, name));
    }
    content_drop(&now);
}

/* The distributed module has stored what it should not: put its files back. */
static void put_back(int name)
{
    content_t now = content_read(THEIRS, name);

    if (!content_same(&now, &before[THEIRS][name])) {
        use_exception(X_NOT_RUN);
        content_write(THEIRS, name, &before[THEIRS][name]);
    }
    content_drop(&now);
}

/* A generation has ended. stored: it had reached the MPM. */
void files_compare(int stored)
{
    char directory[300];
    int side;
    int name;

    for (name = 0; name < NAMES; name++) {
        const handle_t *handle = has_file(name) ? stored_as(name) : NULL;

        if (!has_file(name)) {
            continue;
        }
        if (handle && stored) {
            compare_file(handle);
        }
        else {
            compare_untouched(OURS, name);
            if (handle) {
                put_back(name);
            }
            else {
                compare_untouched(THEIRS, name);
            }
        }
        compare_aside(handle, name, stored);
    }
    for (side = 0; side < SIDES; side++) {
        check_directory(side, dso[side]->runtime_dir);
        directory_of(directory, sizeof(directory), side, "abs");
        check_directory(side, directory);
    }
}

/* ---- between two lives ---- */

static void swap_files(int name)
{
    content_t files[SIDES];
    int side;

    for (side = 0; side < SIDES; side++) {
        files[side] = content_read(side, name);
    }
    for (side = 0; side < SIDES; side++) {
        content_write(side, name, &files[!side]);
    }
    content_drop(&files[OURS]);
    content_drop(&files[THEIRS]);
}

/* Damage both in the same way: flip a bit, remove the end, truncate to zero, or
 * remove everything after the MD5. */
static void damage(const op_t *op, int side, int name)
{
    content_t content = content_read(side, name);
    apr_size_t at = op->a % 40;

    if (content.exists && content.len > at) {
        switch (op->type % 4) {
        case 0:
            content.bytes[at] ^= (unsigned char)(1u << op->b % 8);
            break;
        case 1:
            content.len = at;
            break;
        case 2:
            content.len = 0;
            break;
        default:
            content.len = description_at(&content);
            break;
        }
        content_write(side, name, &content);
    }
    content_drop(&content);
}

void files_op(const op_t *op)
{
    content_t none = { 0, 0, 0, NULL };
    int name = NAME_FIRST_KEPT
               + op->name % (NAME_ABSOLUTE_2 - NAME_FIRST_KEPT + 1);
    int side;

    if (op->kind == OP_SWAP) {
        swap_files(name);
        return;
    }
    for (side = 0; side < SIDES; side++) {
        if (op->kind == OP_REMOVE) {
            content_write(side, name, &none);
        }
        else {
            damage(op, side, name);
        }
    }
}

static void clear_directory(const char *directory)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (*entry->d_name != '.') {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

void files_clear(void)
{
    char directory[300];
    int side;

    for (side = 0; side < SIDES; side++) {
        clear_directory(dso[side]->runtime_dir);
        directory_of(directory, sizeof(directory), side, "abs");
        clear_directory(directory);
        directory_of(directory, sizeof(directory), side, "shm");
        clear_directory(directory);
    }
}

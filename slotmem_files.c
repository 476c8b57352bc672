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
 * slotmem_files.c: the files of a generation: which of them may be stored, how
 * that is done, and what is taken note of afterwards; see slotmem_files.h.
 *
 * Every failure is one line in the error log, and the next attempt repeats it
 * only for another reason. Files that fail for the same reason share a line.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apr_strings.h"

#include "httpd.h"
#include "http_config.h"

#include "slotmem_files.h"
#include "slotmem_lock.h"
#include "slotmem_log.h"

slotmem_files_t slotmem_files;

slotmem_persist_entry_t *slotmem_files_entry(int i)
{
    return APR_ARRAY_IDX(slotmem_files.entries, i, slotmem_persist_entry_t *);
}

/* ---- which files are stored ---- */

const char *slotmem_files_holder(char *text, apr_size_t size, pid_t pid)
{
    if (pid > 0) {
        apr_snprintf(text, size, "process %" APR_PID_T_FMT, pid);
        return text;
    }
    return "in another container or on another machine";
}

/* Once for each directory. */
static void log_lock_problem(slotmem_directory_t *directory, apr_status_t rv)
{
    if (directory->lock_problem && !directory->lock_logged) {
        directory->lock_logged = 1;
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, ap_server_conf,
                     SLOTMEM_TAG(40)
                     "%s: its lock file %s %s: files in it are stored, but "
                     "nothing keeps two servers apart", directory->path,
                     SLOTMEM_LOCK_FILE, directory->lock_problem);
    }
}

/* A directory that cannot be used is no reason not to try: the store will say
 * why. */
static apr_status_t ask_for_lock(slotmem_directory_t *directory,
                                 const char *path, pid_t *holder)
{
    slotmem_distrust_t distrust;
    apr_status_t rv = slotmem_directory_open(directory, 0, &distrust);

    if (rv == APR_SUCCESS) {
        rv = slotmem_lock(directory, path, holder,
                          ap_server_conf->process->pool);
        log_lock_problem(directory, rv == APR_EINVAL ? APR_SUCCESS : rv);
    }
    return rv;
}

/* May this server store the file? Says so once if not. */
static int may_store(slotmem_persist_entry_t *entry)
{
    char text[80];
    pid_t holder;
    apr_status_t rv = ask_for_lock(entry->directory, entry->path, &holder);

    entry->unlocked = rv != APR_SUCCESS;
    if (rv != APR_EBUSY) {
        if (entry->conflict_logged) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(13)
                         "segment %s: %s is stored again: %s gave it up",
                         entry->name, entry->path,
                         slotmem_files_holder(text, sizeof(text),
                                         entry->lock_holder));
        }
        entry->conflict_logged = 0;
        return 1;
    }
    if (!entry->conflict_logged) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(14)
                     "segment %s: %s belongs to another server, %s; this one "
                     "does not store it", entry->name, entry->path,
                     slotmem_files_holder(text, sizeof(text), holder));
    }
    entry->conflict_logged = 1;
    entry->lock_holder = holder;
    return 0;
}

static void publish_report(const slotmem_persist_entry_t *entry,
                           apr_uint32_t outcome)
{
    if (entry->report) {
        atomic_store(&entry->report->at,
                     (apr_uint32_t)apr_time_sec(apr_time_now()));
        atomic_store(&entry->report->outcome, outcome);
    }
}

static slotmem_directory_t *directory_of_image(const slotmem_carried_t *image)
{
    slotmem_directory_t *directory = slotmem_directory_of(image->path);

    directory->checked |= image->checked;
    return directory;
}

static int may_store_image(const slotmem_carried_t *image)
{
    pid_t holder;

    return !image->taken
           && ask_for_lock(directory_of_image(image), image->path, &holder)
              != APR_EBUSY;
}

void slotmem_files_lock(void)
{
    slotmem_carried_t *image;
    int i;

    slotmem_lock_begin(ap_server_conf->process->pool);
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        may_store(slotmem_files_entry(i));
    }
    for (image = slotmem_files.outliving->images; image; image = image->next) {
        may_store_image(image);
    }
    slotmem_lock_end(ap_server_conf->process->pool);
}

/* Give each file that may be stored the number of its note. Returns how many
 * there are. */
int slotmem_files_number(void)
{
    slotmem_carried_t *image;
    int num = 0;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        entry->note = -1;
        entry->stored = 0;
        if (entry->unavailable) {
            publish_report(entry, SLOTMEM_REPORT_UNAVAILABLE);
        }
        else if (!may_store(entry)) {
            publish_report(entry, SLOTMEM_REPORT_CONFLICT);
        }
        else {
            entry->note = num++;
        }
    }
    for (image = slotmem_files.outliving->images; image; image = image->next) {
        image->note = may_store_image(image) ? num++ : -1;
    }
    return num;
}

/* The notes name no file any more. */
void slotmem_files_forget_numbers(void)
{
    slotmem_carried_t *image;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_files_entry(i)->note = -1;
    }
    for (image = slotmem_files.outliving->images; image; image = image->next) {
        image->note = -1;
    }
}

/* ---- in the process that stores, or in the parent at stop ---- */

/* Files that are being stored together. */
typedef struct round_t {
    slotmem_note_t *notes;
    slotmem_store_t *stores;
    int *note_of;               /* the note of each store */
    int num;
} round_t;

static void begin_round(round_t *round, slotmem_note_t *notes, int max,
                        apr_pool_t *pool)
{
    round->notes = notes;
    round->stores = apr_pcalloc(pool, ((apr_size_t)max + 1)
                                      * sizeof(*round->stores));
    round->note_of = apr_pcalloc(pool, ((apr_size_t)max + 1) * sizeof(int));
    round->num = 0;
}

/* A process whose parent has gone stores nothing more: another server may be
 * at it. */
static void note_store(void *data, int index)
{
    round_t *round = data;

    if (getpid() != slotmem_files.parent && getppid() != slotmem_files.parent) {
        _exit(ECHILD);
    }
    slotmem_note_write(&round->notes[round->note_of[index]],
                       &round->stores[index]);
}

static int is_done(const slotmem_result_t *result)
{
    return result->outcome == SLOTMEM_OUTCOME_STORED
           || result->outcome == SLOTMEM_OUTCOME_UNCHANGED;
}

/* Add a file that has not been stored yet. A second try has what the first one
 * found. Returns NULL when there is nothing to do, or it has failed already. */
static slotmem_store_t *add_store(round_t *round, int note,
                                  slotmem_directory_t *directory,
                                  const char *path, int rejected)
{
    slotmem_store_t *store = &round->stores[round->num];
    slotmem_distrust_t distrust;
    slotmem_result_t before;

    if (note < 0) {
        return NULL;
    }
    slotmem_note_read(&before, &round->notes[note]);
    if (is_done(&before)) {
        return NULL;
    }
    memset(store, 0, sizeof(*store));
    store->path = path;
    store->set_aside = rejected && before.set_aside;
    store->directory = directory;
    store->status = slotmem_directory_open(directory, 1, &distrust);
    if (store->status != APR_SUCCESS) {
        store->step = store->status == APR_EGENERAL
                      ? SLOTMEM_STEP_TRUST_DIRECTORY
                      : SLOTMEM_STEP_OPEN_DIRECTORY;
        slotmem_note_write(&round->notes[note], store);
        return NULL;
    }
    round->note_of[round->num++] = note;
    return store;
}

static void run_round(round_t *round, apr_pool_t *pool)
{
    slotmem_store_watch_t watch = { slotmem_files.outliving->token, note_store,
                                    round };

    slotmem_store(round->stores, round->num, &watch, pool);
}

static void store_images(slotmem_note_t *notes, apr_pool_t *pool)
{
    slotmem_carried_t *image;
    round_t round;
    int max = 0;

    for (image = slotmem_files.outliving->images; image; image = image->next) {
        max++;
    }
    begin_round(&round, notes, max, pool);
    for (image = slotmem_files.outliving->images; image; image = image->next) {
        slotmem_store_t *store = add_store(&round, image->note,
                                           directory_of_image(image),
                                           image->path, image->set_aside);

        if (store) {
            store->file_state = image->file_state;
            store->new_state = image->new_state;
            store->image = image->bytes;
            store->image_len = image->len;
            store->backup = image->backup;
        }
    }
    run_round(&round, pool);
}

/* The image that a segment refused is to be kept as its .bad file. While it
 * cannot be stored the segment cannot either. */
static int waits_for_image(const slotmem_persist_entry_t *entry,
                           slotmem_note_t *notes)
{
    slotmem_store_t failed = { .set_aside = 1 };
    slotmem_result_t result;

    if (!entry->refused_image || entry->refused_image->note < 0) {
        return 0;
    }
    slotmem_note_read(&result, &notes[entry->refused_image->note]);
    if (is_done(&result)) {
        return 0;
    }
    failed.step = result.step;
    failed.status = result.status;
    slotmem_note_write(&notes[entry->note], &failed);
    return 1;
}

/* What a store adds to the file of a segment whose slots are known. */
void slotmem_files_describe(slotmem_store_t *store,
                     const slotmem_persist_entry_t *entry)
{
    /* No more than a restore reads. */
    if (entry->words_len < SLOTMEM_FILE_SPARE / 2) {
        store->words = entry->words;
        store->words_len = entry->words_len;
    }
    store->labels = entry->labels;
    store->labels_len = entry->labels_len;
}

/* What dead servers have left beside the files of this round. Without a lock it
 * may be a live one's. */
static void clean_directories(const round_t *round)
{
    slotmem_directory_t *directory;

    for (directory = slotmem_directories(); directory;
         directory = directory->next) {
        if (directory->fd >= 0 && !directory->lock_problem) {
            slotmem_store_clean(directory, round->stores, round->num,
                                slotmem_files.outliving->token);
        }
    }
}

/* Store all files that have a number, and were not stored yet. */
void slotmem_files_store(slotmem_note_t *notes, apr_pool_t *pool)
{
    round_t round;
    int i;

    if (getpid() != slotmem_files.parent) {
        slotmem_directory_forget_all(); /* closed, as all descriptors here */
    }
    store_images(notes, pool);
    begin_round(&round, notes, slotmem_files.entries->nelts, pool);
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_store_t *store;

        if (entry->note >= 0 && waits_for_image(entry, notes)) {
            continue;
        }
        store = add_store(&round, entry->note, entry->directory, entry->path,
                          entry->rejected);
        if (store) {
            store->segment = entry->segment;
            store->config_claims = entry->config_claims;
            store->file_state = entry->file_state;
            store->new_state = entry->new_state;
            store->backup = entry->backup;
            slotmem_files_describe(store, entry);
        }
    }
    if (!slotmem_files.cleaned) {
        clean_directories(&round);
    }
    run_round(&round, pool);
}

/* A segment with an absolute name may have the file of a fallback. */
static int is_stored_here(const char *path)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        if (strcmp(slotmem_files_entry(i)->path, path) == 0) {
            return 1;
        }
    }
    return 0;
}

/* It is renamed under the lock that a server which stores it would hold. */
static slotmem_fallback_e retire_fallback(const slotmem_persist_entry_t *entry,
                                          apr_pool_t *pool)
{
    slotmem_directory_t *directory = entry->fallback_directory;
    slotmem_distrust_t distrust;
    const char *name;
    struct stat info;

    if (is_stored_here(entry->fallback)
        || slotmem_directory_open(directory, 0, &distrust) != APR_SUCCESS) {
        return SLOTMEM_FALLBACK_NONE;
    }
    slotmem_directory_fd(directory, entry->fallback, &name);
    if (fstatat(directory->fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0
        || !S_ISREG(info.st_mode)) {
        return SLOTMEM_FALLBACK_NONE;
    }
    if (slotmem_lock_is_held(directory, entry->fallback)) {
        return SLOTMEM_FALLBACK_BUSY;
    }
    if (renameat(directory->fd, name, directory->fd,
                 apr_pstrcat(pool, name, SLOTMEM_RETIRED_SUFFIX, NULL)) != 0) {
        return SLOTMEM_FALLBACK_FAILED;
    }
    fsync(directory->fd);
    return SLOTMEM_FALLBACK_RENAMED;
}

void slotmem_files_retire_fallbacks(slotmem_note_t *notes, apr_pool_t *pool)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_result_t result;

        if (entry->fallback && !entry->fallback_done && entry->note >= 0) {
            slotmem_note_read(&result, &notes[entry->note]);
            if (is_done(&result)) {
                atomic_store(&notes[entry->note].fallback,
                             retire_fallback(entry, pool));
            }
        }
    }
}

/* ---- what became of them ---- */

static int same_failure(const slotmem_persist_entry_t *a,
                        const slotmem_persist_entry_t *b)
{
    return a->failed_status == b->failed_status
           && strcmp(a->failed_step, b->failed_step) == 0;
}

static void log_failure(const slotmem_persist_entry_t *entry, int more,
                        slotmem_failure_e kind)
{
    slotmem_distrust_t distrust;
    const char *reason = "";
    char same[48] = "";
    apr_pool_t *pool;

    apr_pool_create(&pool, slotmem_files.entries->pool);
    if (strcmp(entry->failed_step, SLOTMEM_STEP_TRUST_DIRECTORY) == 0
        && slotmem_directory_open(entry->directory, 0, &distrust)
           == APR_EGENERAL) {
        reason = apr_pstrcat(pool, ": ",
                             slotmem_directory_reason(entry->directory,
                                                      &distrust, pool), NULL);
    }
    if (more) {
        apr_snprintf(same, sizeof(same), " (the same for %d more)", more);
    }
    if (kind == SLOTMEM_IS_LOST) {
        ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status,
                     ap_server_conf, SLOTMEM_TAG(34)
                     "segment %s: what has changed since its last store is "
                     "lost: cannot store %s: cannot %s%s%s", entry->name,
                     entry->path, entry->failed_step, reason, same);
    }
    else {
        ap_log_error(APLOG_MARK, APLOG_ERR, entry->failed_status,
                     ap_server_conf, SLOTMEM_TAG(17)
                     "segment %s: cannot store %s: cannot %s%s%s", entry->name,
                     entry->path, entry->failed_step, reason, same);
    }
    apr_pool_destroy(pool);
}

static void log_failures(slotmem_failure_e kind)
{
    int i, j;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        int more = 0;

        if (!entry->to_log) {
            continue;
        }
        for (j = i + 1; j < slotmem_files.entries->nelts; j++) {
            if (slotmem_files_entry(j)->to_log
                && same_failure(entry, slotmem_files_entry(j))) {
                slotmem_files_entry(j)->to_log = 0;
                more++;
            }
        }
        entry->to_log = 0;
        log_failure(entry, more, kind);
    }
}

/* Take note of a store that has failed or succeeded. */
static void record_outcome(slotmem_persist_entry_t *entry,
                           const slotmem_result_t *result,
                           slotmem_failure_e kind)
{
    if (result->step && kind == SLOTMEM_SAY_NOTHING) {
        return;
    }
    publish_report(entry, result->step ? SLOTMEM_REPORT_FAILED
                          : result->outcome == SLOTMEM_OUTCOME_UNCHANGED
                            ? SLOTMEM_REPORT_UNCHANGED
                            : SLOTMEM_REPORT_STORED);
    if (entry->failed_step && !result->step) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(16)
                     "segment %s: %s is stored again", entry->name,
                     entry->path);
    }
    entry->to_log = result->step
                    && (kind == SLOTMEM_IS_LOST || !entry->failed_step
                        || entry->failed_status != result->status
                        || strcmp(entry->failed_step, result->step) != 0);
    entry->failed_step = result->step;
    entry->failed_status = result->status;
    entry->stored = !result->step;
    entry->pending = 0;
}

static void log_fallback(slotmem_persist_entry_t *entry,
                         slotmem_fallback_e fallback)
{
    if (fallback == SLOTMEM_FALLBACK_UNKNOWN || entry->fallback_done) {
        return;
    }
    entry->fallback_done = 1;
    if (fallback == SLOTMEM_FALLBACK_RENAMED) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     SLOTMEM_TAG(42)
                     "segment %s is stored in %s now: %s was renamed to "
                     "*%s, which is never restored", entry->name, entry->path,
                     entry->fallback, SLOTMEM_RETIRED_SUFFIX);
    }
    else if (fallback != SLOTMEM_FALLBACK_NONE) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(43)
                     "segment %s: %s %s, and would be restored if %s were "
                     "removed: rename it", entry->name, entry->fallback,
                     fallback == SLOTMEM_FALLBACK_BUSY
                     ? "is another server's" : "could not be renamed",
                     entry->path);
    }
}

static void log_aside(const slotmem_persist_entry_t *entry,
                      const slotmem_result_t *result)
{
    const char *replaced = result->aside_replaced
                           ? ", in place of the oldest one kept" : "";

    if (entry->rejected) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(15)
                     "segment %s: the refused file %s is kept as %s.bad-%d%s",
                     entry->name, entry->path, entry->path, result->aside,
                     replaced);
    }
    else {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(41)
                     "segment %s: the file that stood at %s was neither "
                     "restored nor written by this server; it is kept as "
                     "%s.bad-%d%s", entry->name, entry->path, entry->path,
                     result->aside, replaced);
    }
}

/* Which file stands at the path, or may: a process that was killed has perhaps
 * put its new one there. */
static void record_states(slotmem_file_state_t *file_state,
                          slotmem_file_state_t *new_state,
                          const slotmem_result_t *result)
{
    int unknown = result->outcome == SLOTMEM_OUTCOME_UNKNOWN;

    if (!unknown || result->new_state.known) {
        *file_state = result->file_state;
        *new_state = result->new_state;
    }
    if (unknown) {
        file_state->verified = 0;
    }
}

/* Take over what is known of the file. */
static void record_file(slotmem_persist_entry_t *entry,
                        const slotmem_result_t *result)
{
    if (result->aside) {
        log_aside(entry, result);
    }
    log_fallback(entry, result->fallback);
    entry->rejected = entry->rejected && result->set_aside;
    entry->backup = entry->backup && !is_done(result);
    record_states(&entry->file_state, &entry->new_state, result);
    slotmem_files.cleaned |= is_done(result);
}

/* An image that is stored is of no use any more. */
static void free_stored_images(const slotmem_process_t *process)
{
    slotmem_carried_t *image, *next;
    slotmem_result_t result;
    int i;

    for (image = slotmem_files.outliving->images; image; image = next) {
        next = image->next;
        slotmem_process_read(&result, process, image->note);
        image->set_aside = image->set_aside && result.set_aside;
        record_states(&image->file_state, &image->new_state, &result);
        if (image->taken || !is_done(&result)) {
            continue;
        }
        for (i = 0; image->refused && i < slotmem_files.entries->nelts; i++) {
            if (slotmem_files_entry(i)->refused_image == image) {
                slotmem_files_entry(i)->refused_image = NULL;
            }
        }
        slotmem_carried_free(image);
    }
}

/* Read the notes of a process. What it does not say has failed, if it has ended
 * by itself; else it is still at it, or the next store does it again. */
void slotmem_files_read_notes(const slotmem_process_t *process,
                              slotmem_failure_e kind)
{
    int may_say_more = process->killed || slotmem_process_is_running(process);
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_result_t result;

        slotmem_process_read(&result, process, entry->note);
        if (entry->note < 0
            || (may_say_more && result.outcome == SLOTMEM_OUTCOME_UNKNOWN)) {
            continue;
        }
        if (result.outcome == SLOTMEM_OUTCOME_UNKNOWN
            && WIFEXITED(process->exit_status)
            && WEXITSTATUS(process->exit_status) == ENOMEM) {
            result.status = APR_ENOMEM;
        }
        record_file(entry, &result);
        record_outcome(entry, &result, kind);
    }
    log_failures(kind);
    free_stored_images(process);
}

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
 * slotmem_files.c: which files this server may store, and storing them; see
 * slotmem_files.h.
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
#include "http_main.h"

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

/* Log a problem once per directory. If the process that stores can fix it, log
 * it only after the process has tried. */
static void log_lock_problem(slotmem_directory_t *directory, apr_status_t rv)
{
    int can_fix = rv == APR_SUCCESS || rv == APR_INCOMPLETE;

    if (directory->lock_problem && !directory->lock_logged
        && (!can_fix || directory->lock_tried)) {
        rv = can_fix || rv == APR_EINVAL ? APR_SUCCESS : rv;
        directory->lock_logged = 1;
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, ap_server_conf,
                     SLOTMEM_TAG(40)
                     "%s: its lock file %s %s: files in this directory are "
                     "stored, but nothing prevents two servers from storing "
                     "the same file", directory->path, SLOTMEM_LOCK_FILE,
                     directory->lock_problem);
    }
}

/* If the directory cannot be opened, the caller stores anyway: the store then
 * logs why it failed. */
static apr_status_t ask_for_lock(slotmem_directory_t *directory,
                                 const char *path, pid_t *holder)
{
    slotmem_distrust_t distrust;
    apr_status_t rv = slotmem_directory_open(directory, 0, &distrust);

    if (rv == APR_SUCCESS) {
        rv = slotmem_files.may_wait
             ? slotmem_lock(directory, path, holder, ap_pglobal)
             : slotmem_lock_existing(directory, path, holder, ap_pglobal);
        log_lock_problem(directory, rv);
    }
    return rv;
}

/* May this server store the file? If not, logs it once. */
static int may_store(slotmem_persist_entry_t *entry)
{
    char text[80];
    pid_t holder = 0;
    apr_status_t rv = ask_for_lock(entry->directory, entry->path, &holder);

    /* The process that stores makes the lock file; or memory or descriptors are
     * short, and the lock may be held or not. */
    if (rv == APR_INCOMPLETE || rv == APR_ENOMEM || APR_STATUS_IS_EMFILE(rv)
        || rv == ENFILE) {
        return !entry->conflict;
    }
    if (rv != APR_EBUSY) {
        if (entry->conflict) {
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                         SLOTMEM_TAG(13)
                         "segment %s: this server now stores %s, which "
                         "belonged to another server, %s", entry->name,
                         entry->path,
                         slotmem_files_holder(text, sizeof(text),
                                              entry->lock_holder));
        }
        entry->conflict = 0;
        return 1;
    }
    if (!entry->conflict) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(14)
                     "segment %s: %s belongs to another server, %s; this one "
                     "does not store it", entry->name, entry->path,
                     slotmem_files_holder(text, sizeof(text), holder));
    }
    entry->conflict = 1;
    entry->lock_holder = holder;
    return 0;
}

void slotmem_files_publish(const slotmem_persist_entry_t *entry,
                           apr_uint32_t outcome)
{
    if (entry->report) {
        atomic_store(&entry->report->at, apr_time_sec(apr_time_now()));
        atomic_store(&entry->report->outcome, outcome);
    }
}

slotmem_directory_t *slotmem_files_directory_of(const slotmem_carried_t *image)
{
    slotmem_directory_t *directory = slotmem_directory_of(image->path);

    directory->checked |= image->checked;
    return directory;
}

static int may_store_image(const slotmem_carried_t *image)
{
    pid_t holder;

    return !image->taken
           && ask_for_lock(slotmem_files_directory_of(image), image->path,
                           &holder)
              != APR_EBUSY;
}

void slotmem_files_lock(void)
{
    slotmem_carried_t *image;
    int i;

    slotmem_lock_start_generation(ap_pglobal);
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        may_store(slotmem_files_entry(i));
    }
    for (image = slotmem_files.retained->images; image; image = image->next) {
        may_store_image(image);
    }
    slotmem_lock_release_unwanted(ap_pglobal);
}

int slotmem_files_assign_notes(void)
{
    slotmem_directory_t *directory = slotmem_directories();
    slotmem_carried_t *image;
    int num = 0;
    int i;

    for (; directory; directory = directory->next) {
        directory->lock_tried = directory->lock_problem != NULL;
    }
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_persist_entry_t *entry = slotmem_files_entry(i);

        entry->note = -1;
        entry->stored = 0;
        if (entry->unavailable) {
            slotmem_files_publish(entry, SLOTMEM_REPORT_UNAVAILABLE);
        }
        else if (!may_store(entry)) {
            slotmem_files_publish(entry, SLOTMEM_REPORT_CONFLICT);
        }
        else {
            entry->note = num++;
        }
    }
    for (image = slotmem_files.retained->images; image; image = image->next) {
        image->note = may_store_image(image) ? num++ : -1;
    }
    return num;
}

void slotmem_files_clear_notes(void)
{
    slotmem_carried_t *image;
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        slotmem_files_entry(i)->note = -1;
    }
    for (image = slotmem_files.retained->images; image; image = image->next) {
        image->note = -1;
    }
}

/* ---- in the process that stores, or in the parent when it stops ---- */

/* Process-local: files that are being stored together. */
typedef struct round_t {
    slotmem_note_t *notes;
    slotmem_store_t *stores;
    int *note_of;               /* the note of each store */
    int num;
} round_t;

static void start_round(round_t *round, slotmem_note_t *notes, int max,
                        apr_pool_t *pool)
{
    round->notes = notes;
    round->stores = apr_pcalloc(pool, ((apr_size_t)max + 1)
                                      * sizeof(*round->stores));
    round->note_of = apr_pcalloc(pool, ((apr_size_t)max + 1) * sizeof(int));
    round->num = 0;
}

/* Called, among other times, just before a new file is put in place. Ends the
 * process if the parent has died: another server may be storing by now. */
static void note_store(void *data, int index)
{
    round_t *round = data;

    if (getpid() != slotmem_files.parent && getppid() != slotmem_files.parent) {
        _exit(ECHILD);
    }
    slotmem_note_write(&round->notes[round->note_of[index]],
                       &round->stores[index]);
}

int slotmem_result_is_stored(const slotmem_result_t *result)
{
    return result->outcome == SLOTMEM_OUTCOME_STORED
           || result->outcome == SLOTMEM_OUTCOME_UNCHANGED;
}

/* Add a file, unless it is stored already. A second attempt starts from the
 * state in which the first one left the file. */
static void add_store(round_t *round, int note,
                      slotmem_directory_t *directory,
                      const slotmem_store_t *request)
{
    slotmem_store_t *store = &round->stores[round->num];
    slotmem_distrust_t distrust;
    slotmem_result_t before;

    if (note < 0) {
        return;
    }
    slotmem_note_read(&before, &round->notes[note]);
    if (slotmem_result_is_stored(&before)) {
        return;
    }
    *store = *request;
    store->set_aside = request->set_aside && before.set_aside;
    store->backup = request->backup && before.backup;
    if (before.outcome == SLOTMEM_OUTCOME_FAILED) {
        store->file_state = before.file_state;
        store->new_state = before.new_state;
    }
    store->directory = directory;
    store->status = slotmem_directory_open(directory, 1, &distrust);
    if (store->status != APR_SUCCESS) {
        store->step = SLOTMEM_STEP_OPEN_DIRECTORY;
        if (store->status == APR_EGENERAL) {
            store->step = SLOTMEM_STEP_TRUST_DIRECTORY;
            store->status = APR_SUCCESS;
        }
        slotmem_note_write(&round->notes[note], store);
        return;
    }
    round->note_of[round->num++] = note;
}

static void run_round(round_t *round, apr_pool_t *pool)
{
    slotmem_store_watch_t watch = { slotmem_files.retained->token, note_store,
                                    round };

    slotmem_store(round->stores, round->num, &watch, pool);
}

static void store_images(slotmem_note_t *notes, apr_pool_t *pool)
{
    slotmem_carried_t *image;
    round_t round;
    int max = 0;

    for (image = slotmem_files.retained->images; image; image = image->next) {
        max++;
    }
    start_round(&round, notes, max, pool);
    for (image = slotmem_files.retained->images; image; image = image->next) {
        slotmem_store_t request = { .path = image->path,
                                    .content.image = image->bytes,
                                    .content.image_len = image->len,
                                    .backup = image->backup,
                                    .set_aside = image->set_aside,
                                    .file_state = image->file_state,
                                    .new_state = image->new_state };

        add_store(&round, image->note, slotmem_files_directory_of(image),
                  &request);
    }
    run_round(&round, pool);
}

/* An image that did not fit its segment must be stored first, because storing
 * the segment then sets it aside. Until then the store of the segment fails. */
static int waits_for_image(const slotmem_persist_entry_t *entry,
                           slotmem_note_t *notes,
                           const slotmem_store_t *request)
{
    slotmem_store_t failed = *request;
    slotmem_result_t result;

    if (!entry->refused_image || entry->refused_image->note < 0) {
        return 0;
    }
    slotmem_note_read(&result, &notes[entry->refused_image->note]);
    if (slotmem_result_is_stored(&result)) {
        return 0;
    }
    failed.set_aside = 1;
    failed.step = result.step;
    failed.status = result.status;
    slotmem_note_write(&notes[entry->note], &failed);
    return 1;
}

/* Remove the temporary files of dead servers. Without locks, they may belong to
 * a running server. */
static void clean_directories(const round_t *round)
{
    slotmem_directory_t *directory;

    for (directory = slotmem_directories(); directory;
         directory = directory->next) {
        if (directory->fd >= 0 && !directory->lock_problem) {
            slotmem_store_clean(directory, round->stores, round->num,
                                slotmem_files.retained->token);
        }
    }
}

/* The parent does not wait for a disk, so the process that stores makes missing
 * lock files, and the parent takes the locks before the next store. */
static void make_lock_files(void)
{
    slotmem_directory_t *directory = slotmem_directories();

    for (; directory && getpid() != slotmem_files.parent;
         directory = directory->next) {
        if (directory->fd >= 0) {
            slotmem_lock_make(directory);
        }
    }
}

void slotmem_files_store(slotmem_note_t *notes, apr_pool_t *pool)
{
    round_t round;
    int i;

    if (getpid() != slotmem_files.parent) {
        slotmem_directory_mark_all_closed(); /* the fork has closed them */
    }
    store_images(notes, pool);
    start_round(&round, notes, slotmem_files.entries->nelts, pool);
    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_store_t request = { .path = entry->path,
                                    .content = entry->content,
                                    .backup = entry->backup,
                                    .set_aside = entry->set_aside,
                                    .file_state = entry->file_state,
                                    .new_state = entry->new_state };

        if (entry->note < 0 || !waits_for_image(entry, notes, &request)) {
            add_store(&round, entry->note, entry->directory, &request);
        }
    }
    make_lock_files();
    if (!slotmem_files.cleaned) {
        clean_directories(&round);
    }
    run_round(&round, pool);
}

/* Is a fallback also the file of a segment? A segment with an absolute name may
 * use it, and SlotmemPersistDir may be DefaultRuntimeDir by another path, such
 * as /run for /var/run. */
static int is_stored_here(const slotmem_directory_t *directory,
                          const char *name)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        const char *stored;

        slotmem_directory_fd(entry->directory, entry->path, &stored);
        if (strcmp(stored, name) == 0
            && entry->directory->ino == directory->ino
            && entry->directory->dev == directory->dev) {
            return 1;
        }
    }
    return 0;
}

/* Rename the fallback, unless some server stores it. */
static slotmem_fallback_e retire_fallback(const slotmem_persist_entry_t *entry,
                                          apr_pool_t *pool)
{
    slotmem_directory_t *directory = entry->fallback_directory;
    slotmem_distrust_t distrust;
    const char *name;
    struct stat info;

    if (slotmem_directory_open(directory, 0, &distrust) != APR_SUCCESS) {
        return SLOTMEM_FALLBACK_NONE;
    }
    slotmem_directory_fd(directory, entry->fallback, &name);
    if (is_stored_here(directory, name)
        || fstatat(directory->fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0
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

void slotmem_files_retire(slotmem_note_t *notes, apr_pool_t *pool)
{
    int i;

    for (i = 0; i < slotmem_files.entries->nelts; i++) {
        const slotmem_persist_entry_t *entry = slotmem_files_entry(i);
        slotmem_result_t result = { .outcome = SLOTMEM_OUTCOME_UNKNOWN };

        if (entry->note >= 0) {
            slotmem_note_read(&result, &notes[entry->note]);
        }
        if (!slotmem_result_is_stored(&result)) {
            continue;
        }
        if (entry->fallback && !entry->fallback_done) {
            atomic_store(&notes[entry->note].fallback,
                         retire_fallback(entry, pool));
        }
        if (entry->removal) {
            slotmem_removal_retire(entry->removal);
        }
    }
}

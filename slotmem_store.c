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
 * slotmem_store.c: write segments to their files; see slotmem_store.h.
 *
 * If the file at the path is known and verified, a first pass over the segment
 * compares the two, up to the first difference. If there is none, nothing is
 * written. Otherwise a second pass writes the new file.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apr_portable.h"
#include "apr_strings.h"

#include "slotmem_store.h"

#define SLOTMEM_TMP_SUFFIX ".tmp-"

#define CHUNK SLOTMEM_CHUNK

/* Process-local: files that are being stored together. */
typedef struct run_t {
    slotmem_store_t *stores;
    int num;
    const slotmem_store_watch_t *watch;     /* or NULL */
    slotmem_stream_t stream;                /* of the current store */
    unsigned char *buffer;                  /* of the stream: CHUNK bytes */
    const char *token;              /* for temporary names */
    apr_pool_t *pool;               /* for results */
    apr_pool_t *scratch;            /* lasts for the run */
    apr_pool_t *file_pool;          /* cleared after each phase of a store */
} run_t;

const char *slotmem_step_text(slotmem_step_e step)
{
    static const char *const texts[] = {
        [SLOTMEM_STEP_NONE] = "",
        [SLOTMEM_STEP_MEMORY] = "find memory",
        [SLOTMEM_STEP_OPEN_DIRECTORY] = "open the directory",
        [SLOTMEM_STEP_TRUST_DIRECTORY] = "trust the directory",
        [SLOTMEM_STEP_CREATE] = "create a new file",
        [SLOTMEM_STEP_WRITE] = "write",
        [SLOTMEM_STEP_SYNC] = "fsync",
        [SLOTMEM_STEP_CLOSE] = "close",
        [SLOTMEM_STEP_SET_ASIDE] = "set the refused file aside",
        [SLOTMEM_STEP_KEEP] = "keep the old file",
        [SLOTMEM_STEP_RENAME] = "rename the new file",
        [SLOTMEM_STEP_SYNC_DIRECTORY] = "fsync the directory",
        [SLOTMEM_STEP_FINISH] = "finish: the storing process ended early",
        [SLOTMEM_STEP_EARLIER] = ""     /* was logged before the restart */
    };

    return texts[step];
}

static void tell(const run_t *run, const slotmem_store_t *store)
{
    if (run->watch) {
        run->watch->tell(run->watch->data, (int)(store - run->stores));
    }
}

/* ---- files in the directory of a store ---- */

static int name_of(const slotmem_store_t *store, const char *path,
                   const char **name)
{
    return slotmem_directory_fd(store->directory, path, name);
}

static apr_status_t remove_file(const slotmem_store_t *store, const char *path)
{
    const char *name;
    int at = name_of(store, path, &name);

    return unlinkat(at, name, 0) == 0 ? APR_SUCCESS : errno;
}

static apr_status_t rename_file(const slotmem_store_t *store, const char *from,
                                const char *to)
{
    const char *old;
    const char *name;
    int at = name_of(store, from, &old);

    name_of(store, to, &name);
    return renameat(at, old, at, name) == 0 ? APR_SUCCESS : errno;
}

static apr_status_t stat_file(const slotmem_store_t *store, const char *path,
                              struct stat *info)
{
    const char *name;
    int at = name_of(store, path, &name);

    return fstatat(at, name, info, AT_SYMLINK_NOFOLLOW) == 0 ? APR_SUCCESS
                                                             : errno;
}

/* Does not follow a link. The caller closes the file. */
static apr_status_t open_file(const slotmem_store_t *store, const char *path,
                              int flags, apr_file_t **file, apr_pool_t *pool)
{
    const char *name;
    int at = name_of(store, path, &name);
    apr_os_file_t fd = openat(at, name, flags | O_NOFOLLOW | O_NONBLOCK
                                        | O_CLOEXEC, S_IRUSR | S_IWUSR);

    if (fd < 0) {
        return errno;
    }
    return apr_os_file_put(file, &fd, APR_FOPEN_BINARY
                           | (flags & O_WRONLY ? APR_FOPEN_WRITE
                                               : APR_FOPEN_READ), pool);
}

/* Record a failed step. The file at the path stays as it was. */
static void fail(run_t *run, slotmem_store_t *store, slotmem_step_e step,
                 apr_status_t status)
{
    store->step = step;
    store->status = status;
    if (store->file) {
        apr_file_close(store->file);
        store->file = NULL;
    }
    remove_file(store, store->tmp);
    tell(run, store);
}

/* Is this still the file in that state? The change time is not compared: it
 * changes when the file is renamed or gets another link. */
static int is_untouched(const slotmem_file_state_t *state,
                        const struct stat *info)
{
    return state->known && S_ISREG(info->st_mode)
           && (apr_ino_t)info->st_ino == state->inode
           && (apr_dev_t)info->st_dev == state->device
           && (apr_off_t)info->st_size == state->size
           && slotmem_time_of(&info->st_mtim) == state->mtime;
}

/* Is there a file at the path that this server has neither read nor written? */
static apr_status_t check_foreign(const slotmem_store_t *store, int *foreign)
{
    struct stat info;
    apr_status_t rv = stat_file(store, store->path, &info);

    *foreign = rv == APR_SUCCESS && !is_untouched(&store->file_state, &info);
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

/* Is the file at the path still the one that was verified, with the owner and
 * mode that the server gives its files? */
static int is_same_file(const slotmem_store_t *store)
{
    struct stat info;

    return store->file_state.verified && !store->set_aside
           && stat_file(store, store->path, &info) == APR_SUCCESS
           && is_untouched(&store->file_state, &info)
           && slotmem_time_of(&info.st_ctim) == store->file_state.ctime
           && slotmem_directory_has_mode(store->directory, &info);
}

/* Open the verified file, to compare with. Returns 0 if there is none, or it
 * cannot be opened. */
static int open_verified_file(run_t *run, slotmem_store_t *store)
{
    if (!is_same_file(store)
        || open_file(store, store->path, O_RDONLY, &store->file, run->file_pool)
           != APR_SUCCESS) {
        store->file = NULL;
        return 0;
    }
    slotmem_stream_init(&run->stream, store->file, run->buffer, CHUNK, 1);
    return 1;
}

static apr_status_t open_new(run_t *run, slotmem_store_t *store)
{
    apr_status_t rv = open_file(store, store->tmp,
                                O_WRONLY | O_CREAT | O_EXCL, &store->file,
                                run->file_pool);
    apr_os_file_t fd;

    if (rv == APR_SUCCESS) {
        apr_os_file_get(&fd, store->file);
        rv = slotmem_directory_set_mode(store->directory, fd);
    }
    else {
        store->file = NULL;
    }
    return rv;
}

static int create_new_file(run_t *run, slotmem_store_t *store)
{
    apr_status_t rv = open_new(run, store);

    if (APR_STATUS_IS_EEXIST(rv)) {         /* left by a killed store */
        remove_file(store, store->tmp);
        rv = open_new(run, store);
    }
    if (rv != APR_SUCCESS) {
        fail(run, store, SLOTMEM_STEP_CREATE, rv);
        return 0;
    }
    slotmem_stream_init(&run->stream, store->file, run->buffer, CHUNK, 0);
    return 1;
}

/* After the comparison: does the file have exactly these bytes? A file that was
 * there when the server started may never have reached the disk, so it is
 * fsynced. */
static int is_unchanged(run_t *run, slotmem_store_t *store)
{
    const slotmem_stream_t *stream = &run->stream;

    store->unchanged = !stream->differs && stream->len == store->file_state.size
                       && (store->file_state.synced
                           || apr_file_sync(store->file) == APR_SUCCESS);
    apr_file_close(store->file);
    store->file = NULL;
    return store->unchanged;
}

static int start_store(run_t *run, slotmem_store_t *store)
{
    const slotmem_segment_t *segment = store->content.segment;
    struct stat info;

    store->tmp = apr_pstrcat(run->scratch, store->path, SLOTMEM_TMP_SUFFIX,
                             run->token, NULL);
    if (store->new_state.known
        && stat_file(store, store->path, &info) == APR_SUCCESS
        && is_untouched(&store->new_state, &info)) {
        store->file_state = store->new_state;
        /* The earlier store kept the old file before it renamed this one. */
        store->set_aside = 0;
        store->backup = 0;
    }
    store->new_state.known = 0;
    if (!segment) {
        return 1;
    }
    store->in_use = slotmem_calloc(run->file_pool, sizeof(*store->in_use)
                                   * slotmem_map_words(segment->map.num));
    if (!store->in_use) {
        fail(run, store, SLOTMEM_STEP_MEMORY, APR_ENOMEM);
        return 0;
    }
    return 1;
}

/* Start writing the file to disk while the next ones are being written, so that
 * fsync() has less to wait for. */
static void start_writeback(apr_file_t *file)
{
#ifdef SYNC_FILE_RANGE_WRITE
    apr_os_file_t fd;

    apr_os_file_get(&fd, file);
    sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)file;
#endif
}

static void close_file(run_t *run, slotmem_store_t *store)
{
    apr_status_t rv = apr_file_close(store->file);

    store->file = NULL;
    if (rv != APR_SUCCESS) {
        fail(run, store, SLOTMEM_STEP_CLOSE, rv);
    }
}

/* Write the new file, unless it would be the same as the old one. */
static void write_new_file(run_t *run, slotmem_store_t *store)
{
    if (!start_store(run, store)) {
        return;
    }
    if (open_verified_file(run, store)) {
        slotmem_serialize(&run->stream, &store->content, store->in_use);
        if (is_unchanged(run, store)) {
            tell(run, store);
            return;
        }
    }
    if (!create_new_file(run, store)) {
        return;
    }
    slotmem_serialize(&run->stream, &store->content, store->in_use);
    slotmem_stream_flush(&run->stream);
    if (run->stream.status != APR_SUCCESS) {
        fail(run, store, SLOTMEM_STEP_WRITE, run->stream.status);
        return;
    }
    start_writeback(store->file);
    close_file(run, store);
}

/* Fsync the new file and record its identity, because the next store sets aside
 * any file that it does not know. install_file() adds the change time. */
static void sync_file(run_t *run, slotmem_store_t *store)
{
    apr_os_file_t fd;
    struct stat info;
    apr_status_t rv = open_file(store, store->tmp, O_RDONLY, &store->file,
                                run->file_pool);

    if (rv != APR_SUCCESS) {
        store->file = NULL;
        fail(run, store, SLOTMEM_STEP_SYNC, rv);
        return;
    }
    rv = apr_file_sync(store->file);
    apr_os_file_get(&fd, store->file);
    if (rv == APR_SUCCESS && fstat(fd, &info) != 0) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        fail(run, store, SLOTMEM_STEP_SYNC, rv);
        return;
    }
    slotmem_file_state_set(&store->new_state, &info);
    close_file(run, store);
}

/* Rename the file at the path to the first free .bad-N. If all are taken,
 * replace the one with the oldest change time: it has been kept longest. */
static apr_status_t set_aside(slotmem_store_t *store, apr_pool_t *pool)
{
    apr_time_t oldest = 0;
    apr_status_t rv;
    int n;

    store->aside = NULL;
    for (n = 1; n <= SLOTMEM_BAD_FILES; n++) {
        const char *name = apr_psprintf(pool, "%s.bad-%d", store->path, n);
        struct stat info;

        rv = stat_file(store, name, &info);
        if (APR_STATUS_IS_ENOENT(rv)) {
            store->aside = name;
            store->aside_replaced = 0;
            break;
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        if (!store->aside || slotmem_time_of(&info.st_ctim) < oldest) {
            store->aside = name;
            store->aside_replaced = 1;
            oldest = slotmem_time_of(&info.st_ctim);
        }
    }
    rv = rename_file(store, store->path, store->aside);
    if (APR_STATUS_IS_ENOENT(rv)) {     /* gone meanwhile: nothing to keep */
        store->aside = NULL;
        rv = APR_SUCCESS;
    }
    return rv;
}

/* Give a regular file the mode of the server's files. */
static apr_status_t make_private(const slotmem_store_t *store,
                                 const char *path, apr_pool_t *scratch)
{
    mode_t mode = slotmem_directory_mode(store->directory);
    apr_file_t *file = NULL;
    apr_os_file_t fd;
    struct stat info;
    apr_status_t rv = open_file(store, path, O_RDONLY, &file, scratch);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_os_file_get(&fd, file);
    if (fstat(fd, &info) != 0
        || (S_ISREG(info.st_mode) && (info.st_mode & 07777) != mode
            && fchmod(fd, mode) != 0
            && errno != EPERM)) {       /* EPERM: another group member's */
        rv = errno;
    }
    else if (!S_ISREG(info.st_mode)) {
        rv = APR_EINVAL;
    }
    apr_file_close(file);
    return rv;
}

/* Keep the file at the path as path.bak. A hard link keeps it at the path as
 * well. */
static apr_status_t make_backup(slotmem_store_t *store, apr_pool_t *scratch)
{
    const char *backup = apr_pstrcat(scratch, store->path,
                                     SLOTMEM_BACKUP_SUFFIX, NULL);
    apr_status_t rv = remove_file(store, backup);
    const char *from;
    const char *to;
    int at = name_of(store, store->path, &from);

    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
        return rv;
    }
    name_of(store, backup, &to);
    if (linkat(at, from, at, to, 0) == 0) {
        return make_private(store, backup, scratch);
    }
    if (errno == ENOENT) {
        return APR_SUCCESS;             /* gone meanwhile: nothing to keep */
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS
        && errno != EMLINK) {
        return errno;
    }
    /* Without hard links, the path is missing until the new file is there. */
    rv = rename_file(store, store->path, backup);
    return rv == APR_SUCCESS ? make_private(store, backup, scratch) : rv;
}

/* Keep the file at the path, if it must be kept. */
static int keep_old_file(run_t *run, slotmem_store_t *store)
{
    slotmem_step_e step = SLOTMEM_STEP_SET_ASIDE;
    int foreign;
    apr_status_t rv = check_foreign(store, &foreign);

    if (rv == APR_SUCCESS && (foreign || store->set_aside)) {
        rv = set_aside(store, run->pool);
        if (rv == APR_SUCCESS) {
            tell(run, store);
        }
    }
    else if (rv == APR_SUCCESS && store->backup) {
        step = SLOTMEM_STEP_KEEP;
        rv = make_backup(store, run->file_pool);
    }
    if (rv != APR_SUCCESS) {
        store->aside = NULL;
        fail(run, store, step, rv);
    }
    return rv == APR_SUCCESS;
}

static void install_file(run_t *run, slotmem_store_t *store)
{
    struct stat info;
    apr_status_t rv;

    tell(run, store);
    if (!keep_old_file(run, store)) {
        return;
    }
    rv = rename_file(store, store->tmp, store->path);
    if (rv != APR_SUCCESS) {
        if (store->aside) {
            rename_file(store, store->aside, store->path);
            store->aside = NULL;
        }
        fail(run, store, SLOTMEM_STEP_RENAME, rv);
        return;
    }
    store->set_aside = 0;
    store->backup = 0;
    store->file_state = store->new_state;
    store->new_state.known = 0;
    if (stat_file(store, store->path, &info) == APR_SUCCESS) {
        store->file_state.ctime = slotmem_time_of(&info.st_ctim);
        store->file_state.verified = store->file_state.known;
    }
    store->installed = 1;
    tell(run, store);
}

static apr_status_t sync_directory(const slotmem_store_t *store,
                                   apr_pool_t *scratch)
{
    const char *slash = strrchr(store->path, '/');
    int fd = store->directory ? store->directory->fd
             : open(slash ? apr_pstrmemdup(scratch, store->path,
                                           (apr_size_t)(slash - store->path)
                                           + 1) : ".",
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    apr_status_t rv = APR_SUCCESS;

    if (fd < 0) {
        return errno;
    }
    while (fsync(fd) != 0) {
        if (errno != EINTR) {
            rv = errno == EINVAL ? APR_SUCCESS : errno; /* not supported */
            break;
        }
    }
    if (!store->directory) {
        close(fd);
    }
    return rv;
}

/* Fsync each directory once. Stores without a directory_t are taken to have a
 * directory each. */
static void sync_directories(run_t *run)
{
    const slotmem_directory_t *synced = NULL;
    apr_status_t rv = APR_SUCCESS;
    int i, j;

    for (i = 0; i < run->num; i++) {
        slotmem_store_t *first = &run->stores[i];

        if (first->step || first->file_state.synced) {
            continue;
        }
        synced = first->directory;
        rv = sync_directory(first, run->scratch);
        for (j = i; j < run->num; j++) {
            slotmem_store_t *store = &run->stores[j];

            if (store->step || store->file_state.synced
                || (j > i && (!synced || store->directory != synced))) {
                continue;
            }
            if (rv != APR_SUCCESS) {
                store->step = SLOTMEM_STEP_SYNC_DIRECTORY;
                store->status = rv;
            }
            else {
                store->file_state.synced = 1;
            }
            tell(run, store);
        }
    }
}

/* Is this a temporary file of this store that another server wrote? Earlier
 * versions of this module wrote P.tmp. */
static int is_leftover(const char *name, const slotmem_store_t *store,
                       const char *token)
{
    apr_size_t suffix = strlen(SLOTMEM_TMP_SUFFIX);
    const char *base;
    apr_size_t len;

    name_of(store, store->path, &base);
    len = strlen(base);
    if (strncmp(name, base, len) != 0) {
        return 0;
    }
    name += len;
    return strcmp(name, ".tmp") == 0
           || (strncmp(name, SLOTMEM_TMP_SUFFIX, suffix) == 0
               && strcmp(name + suffix, token) != 0);
}

void slotmem_store_clean(const slotmem_directory_t *directory,
                         const slotmem_store_t *stores, int num,
                         const char *token)
{
    int fd = openat(directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int i;

    if (!dir) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    while ((entry = readdir(dir))) {
        for (i = 0; strstr(entry->d_name, ".tmp") && i < num; i++) {
            if (stores[i].directory == directory
                && is_leftover(entry->d_name, &stores[i], token)) {
                unlinkat(directory->fd, entry->d_name, 0);
                break;
            }
        }
    }
    closedir(dir);
}

/* Each phase is done for all stores before the next one starts. The file system
 * can then write several files to disk at once, and creates all of them before
 * it deletes any: creating a file after many deletions is slow. */
static void (*const phases[])(run_t *, slotmem_store_t *) = {
    write_new_file, sync_file, install_file
};
#define PHASES (sizeof(phases) / sizeof(*phases))

static void reset(slotmem_store_t *store)
{
    store->status = APR_SUCCESS;
    store->step = SLOTMEM_STEP_NONE;
    store->unchanged = 0;
    store->installed = 0;
    store->aside = NULL;
    store->aside_replaced = 0;
    store->tmp = NULL;
    store->file = NULL;
    store->in_use = NULL;
}

void slotmem_store(slotmem_store_t *stores, int num,
                   const slotmem_store_watch_t *watch, apr_pool_t *pool)
{
    run_t run = { .stores = stores, .num = num, .watch = watch, .pool = pool,
                  .token = watch ? watch->token
                           : apr_psprintf(pool, "%ld", (long)getpid()) };
    size_t phase;
    int i;

    for (i = 0; i < num; i++) {
        reset(&stores[i]);
    }
    run.buffer = apr_palloc(pool, CHUNK);
    apr_pool_create(&run.scratch, pool);
    apr_pool_create(&run.file_pool, run.scratch);
    for (phase = 0; phase < PHASES; phase++) {
        for (i = 0; i < num; i++) {
            if (!stores[i].step && !stores[i].unchanged) {
                phases[phase](&run, &stores[i]);
                apr_pool_clear(run.file_pool);
            }
        }
    }
    sync_directories(&run);
    apr_pool_destroy(run.scratch);
}

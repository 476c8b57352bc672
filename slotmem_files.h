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
 * slotmem_files.h: the files of a generation: which of them this server may
 * store, and storing them. slotmem_persist.h says when.
 *
 * While the server runs, a forked process stores them, working on its copy of
 * these data; it writes a note per file (slotmem_process.h). When the server
 * stops, the parent stores them itself, with notes in its own memory.
 *
 * Concurrency: the parent's main thread, and the process that stores.
 */

#ifndef SLOTMEM_FILES_H
#define SLOTMEM_FILES_H

#include "slotmem_carried.h"
#include "slotmem_proxy.h"
#include "slotmem_removal.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Shared memory, one per persisted segment. The parent writes it after each
 *  store and never reads it; children only read it for the status page. A child
 *  can overwrite it, which makes the status page wrong and nothing else. */
typedef struct slotmem_report_t {
    _Atomic apr_uint32_t outcome;   /**< SLOTMEM_REPORT_*, of the last store */
    _Atomic apr_int64_t at;         /**< time of that store in seconds since
                                         1970; 0: never */
} slotmem_report_t;

enum {
    SLOTMEM_REPORT_NONE,        /* not yet in this generation */
    SLOTMEM_REPORT_STORED,
    SLOTMEM_REPORT_UNCHANGED,   /* the file had these bytes already */
    SLOTMEM_REPORT_FAILED,      /* the log says why */
    SLOTMEM_REPORT_CONFLICT,    /* the file belongs to another server */
    SLOTMEM_REPORT_UNAVAILABLE  /* it could not be read, and is not replaced */
};

/** Process-local: a persisted segment. */
typedef struct slotmem_persist_entry_t {
    /* set by the caller */
    slotmem_segment_t *segment;
    const char *name;           /**< as created; for the log */
    const char *path;           /**< the persisted file */
    const char *fallback;       /**< restored while path has no file, and
                                     renamed by the first store; or NULL */
    slotmem_word_t *config_claims; /**< see slotmem_content_t, or NULL */
    slotmem_proxy_t *proxy;     /**< decides where each stored slot goes; or
                                     NULL */
    /* All that follows is zero when passed to slotmem_persist_add(). */
    /* set by slotmem_persist.c */
    slotmem_directory_t *directory; /* of path */
    slotmem_directory_t *fallback_directory;
    slotmem_content_t content;  /* what the file gets */
    slotmem_report_t *report;   /* of the last store; NULL: not published */
    int pending;                /* 1: a restart did not wait for its store */
    unsigned char *copy;        /* its state when the generation ended, as the
                                   bytes of its file without digests; in
                                   slotmem_retained_t's copies, or NULL */
    apr_size_t copy_len;
    /* set by slotmem_recover(); the last five change with each store, in
     * slotmem_outcome_read() */
    slotmem_restore_result_t restored;
    const char *restored_from;  /* the file, if the outcome is
                                   SLOTMEM_RESTORE_DONE; NULL: memory */
    slotmem_removal_t *removal; /* the removal request that the restore applied;
                                   or NULL */
    int unavailable;            /* 1: the file at path must not be replaced */
    slotmem_carried_t *refused_image; /* carried state that did not fit: store
                                   it first, and then set it aside; or NULL */
    slotmem_file_state_t file_state; /* see slotmem_store_t */
    slotmem_file_state_t new_state;
    int set_aside;              /* 1: the file at path is to be set aside */
    int backup;                 /* 1: keep the file at path as .bak, because not
                                   all of it was restored */
    /* set by slotmem_files.c */
    int conflict;               /* 1: another server has the lock, which was
                                   logged */
    pid_t lock_holder;          /* that server; 0 or less: it has no pid here */
    int note;                   /* index of its note, or -1 */
    /* set by slotmem_outcome_read() */
    apr_status_t failed_status; /* of the last failure that was logged */
    slotmem_step_e failed_step; /* what failed then */
    int to_log;                 /* 1: this failure is still to be logged */
    int stored;                 /* 1: by the last store */
    int fallback_done;          /* 1: nothing is left to be done about the
                                   fallback */
} slotmem_persist_entry_t;

/** Process-local: all files of the generation. slotmem_persist.c sets it up;
 *  slotmem_outcome_read() sets cleaned. */
typedef struct slotmem_files_t {
    apr_array_header_t *entries;    /**< of slotmem_persist_entry_t * */
    slotmem_retained_t *retained;   /**< what a restart carries over */
    pid_t parent;                   /**< the server's */
    int may_wait;                   /**< 1: the parent may wait for a disk,
                                         because it is not serving */
    int cleaned;                    /**< 1: a store of this generation has
                                         removed the temporary files of dead
                                         servers */
} slotmem_files_t;
extern slotmem_files_t slotmem_files;

/** @return the entry of that index, below slotmem_files.entries->nelts */
slotmem_persist_entry_t *slotmem_files_entry(int i);

/** @return the server that holds a lock, in words. @param text memory for them;
 *  80 bytes are enough */
const char *slotmem_files_holder(char *text, apr_size_t size, pid_t pid);

/** @return the directory of a carried image's file */
slotmem_directory_t *slotmem_files_directory_of(const slotmem_carried_t *image);

/** Take the locks of all files, log which ones other servers hold, and release
 *  the locks of files that are no longer stored. */
void slotmem_files_lock(void);

/** Start a store: ask for the lock of each file, log and publish which ones
 *  cannot be stored, and assign a note to each other one. Until its note is
 *  read, a file counts as not stored. @return the number of notes */
int slotmem_files_assign_notes(void);

/** Take the notes away from all files. */
void slotmem_files_clear_notes(void);

/** Store all files that have a note and are not stored yet. In the process that
 *  stores, or in the parent when the server stops.
 *  @param notes as many as slotmem_files_assign_notes() returned
 *  @param pool for temporary use; running out of memory is fatal */
void slotmem_files_store(slotmem_note_t *notes, apr_pool_t *pool);

/** After slotmem_files_store(): for each file that is stored, rename its
 *  fallback so that it is not restored again, and delete the removal request
 *  that was applied. */
void slotmem_files_retire(slotmem_note_t *notes, apr_pool_t *pool);

/** Report to the status page. @param outcome SLOTMEM_REPORT_* */
void slotmem_files_publish(const slotmem_persist_entry_t *entry,
                           apr_uint32_t outcome);

/** @return 1: the file is stored */
int slotmem_result_is_stored(const slotmem_result_t *result);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_FILES_H */

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
 * slotmem_files.h: the files of a generation. slotmem_persist.h says when they
 * are stored; here is which of them, how, and what becomes of each.
 *
 * A store of a running server is made by a process of its own, which has a copy
 * of all that is here. For each file it writes a note; slotmem_process.h. At
 * stop the parent does the same itself, with notes of its own.
 *
 * Concurrency: the parent's one thread, and the process that stores.
 */

#ifndef SLOTMEM_FILES_H
#define SLOTMEM_FILES_H

#include "slotmem_carried.h"
#include "slotmem_proxy.h"
#include "slotmem_removal.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Shared memory, one a segment that is kept. Written by the parent after each
 *  store and never read by it; children read it for the status page alone, and
 *  can overwrite it, which misleads who looks there and nobody else. */
typedef struct slotmem_report_t {
    _Atomic apr_uint32_t outcome;   /**< SLOTMEM_REPORT_*, of the last store */
    _Atomic apr_int64_t at;         /**< when that was: seconds since 1970; 0:
                                         never */
} slotmem_report_t;

enum {
    SLOTMEM_REPORT_NONE,        /* not yet in this generation */
    SLOTMEM_REPORT_STORED,
    SLOTMEM_REPORT_UNCHANGED,   /* the file had all bytes already */
    SLOTMEM_REPORT_FAILED,      /* the log says why */
    SLOTMEM_REPORT_CONFLICT,       /* the file belongs to another server */
    SLOTMEM_REPORT_UNAVAILABLE  /* it could not be read, and is not replaced */
};

/** Process-local: a segment that is kept in a file. Its directory is that of
 *  its path. */
typedef struct slotmem_persist_entry_t {
    /* set by the caller */
    slotmem_segment_t *segment;
    const char *name;           /**< as created; for the log */
    const char *path;           /**< the persisted file */
    const char *fallback;       /**< restored while path has no file, and
                                     renamed by the first store; or NULL */
    slotmem_word_t *config_claims; /**< see slotmem_content_t, or NULL */
    slotmem_proxy_t *proxy;     /**< decides on each stored slot; or NULL */
    /* set by this room; zero when handed over */
    slotmem_restore_result_t restored; /**< how that went */
    const char *restored_from;  /**< the file, if the outcome is
                                     SLOTMEM_RESTORE_DONE; NULL: memory */
    slotmem_report_t *report;   /**< of the last store; NULL: not published */
    slotmem_directory_t *directory;
    slotmem_directory_t *fallback_directory;
    int fallback_done;          /* 1: nothing more is to be done about it */
    slotmem_file_state_t file_state; /* see slotmem_store_t */
    slotmem_file_state_t new_state;
    int rejected;               /* what stands at path is to be set aside */
    int backup;                 /* what stands at path is to be kept: it has
                                   what was not restored */
    slotmem_content_t content;  /* set by slotmem_persist_enable() */
    int unavailable;            /* what stands at path must not be replaced */
    slotmem_removal_t *removal; /* was applied by the restore; or NULL */
    int conflict_logged;        /* 1: another server was said to have it */
    pid_t lock_holder;          /* ... this one; not above 0: one elsewhere */
    int unlocked;               /* 1: the directory takes no lock */
    apr_status_t failed_status; /* the last failed store that was logged: */
    const char *failed_step;    /* ... or NULL; "": one before the restart */
    int to_log;                 /* 1: it is yet to be logged */
    int stored;                 /* 1: by the last store */
    int pending;                /* 1: a restart did not wait for it */
    int note;                   /* of the process that stores, or -1 */
    slotmem_carried_t *refused_image; /* state that did not fit, and is to be
                                   stored and set aside first; or NULL */
} slotmem_persist_entry_t;

/** Process-local: all of them. Set by slotmem_persist.c alone. */
typedef struct slotmem_files_t {
    apr_array_header_t *entries;    /**< of slotmem_persist_entry_t * */
    slotmem_outliving_t *outliving; /**< what a restart carries over */
    pid_t parent;                   /**< that stores */
    int may_wait;                   /**< 1: for a disk: it does not serve */
    int cleaned;                    /**< 1: by a store of this generation, of
                                         temporary files of dead servers */
} slotmem_files_t;
extern slotmem_files_t slotmem_files;

/** @return the entry of that index, below slotmem_files.entries->nelts */
slotmem_persist_entry_t *slotmem_files_entry(int i);

/** @return which server has the lock of a file, in words. @param text takes
 *  the words, @param size 80 bytes will do */
const char *slotmem_files_holder(char *text, apr_size_t size, pid_t pid);

/** Ask for the locks of all files, and say of which another server has it. Give
 *  up those of files that are no longer stored. */
void slotmem_files_lock(void);

/** Give each file that may be stored the number of its note. @return how many
 *  there are */
int slotmem_files_number(void);

/** The notes name no file any more. */
void slotmem_files_forget_numbers(void);

/** Store all files that have a number and were not stored yet. In the process
 *  that stores, or in the parent at stop.
 *  @param notes as many as slotmem_files_number() said
 *  @param pool for temporary use; not enough of it is fatal */
void slotmem_files_store(slotmem_note_t *notes, apr_pool_t *pool);

/** Once a file is stored, the one in DefaultRuntimeDir that it was restored
 *  from is not to be restored again. In the process that stores, or in the
 *  parent at stop. */
void slotmem_files_retire_fallbacks(slotmem_note_t *notes, apr_pool_t *pool);

/** Tell the status page. @param outcome SLOTMEM_REPORT_* */
void slotmem_files_publish(const slotmem_persist_entry_t *entry,
                           apr_uint32_t outcome);

/** @return 1: the file has all bytes */
int slotmem_is_done(const slotmem_result_t *result);

/** In the process that stores, or at stop: remove the removals that were
 *  applied to what is stored by now. */
void slotmem_files_retire_removals(slotmem_note_t *notes);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_FILES_H */

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
 * tool_file.h: reads and verifies a persisted file. The module's own code
 * restores it into memory of this process; the verdict tells what the module
 * would do with the file.
 *
 * Lifecycle: tool_file_read() fills a tool_file_t, and may be called again on
 * the same one; the other functions take one that was read. What it points to
 * lasts as long as its pool. It keeps no file open.
 *
 * Crash: reading changes nothing, and leaves nothing behind.
 *
 * Concurrency: a server may replace the file at any time. Each pass reads one
 * open file from start to end. There are two passes, one for the geometry and
 * one for the content; both are repeated if the file was replaced between them.
 */

#ifndef TOOL_FILE_H
#define TOOL_FILE_H

#include "apr_pools.h"

#include "slotmem_restore.h"
#include "slotmem_segment.h"

/** How many times to read a file that is replaced each time. */
#define TOOL_READ_ATTEMPTS 100

/** Process-local: the geometry that the user requests. What is not set is as
 *  the file says. Each flag is 1 if that field of geometry is set. */
typedef struct tool_geometry_request_t {
    int has_size;
    int has_num;
    int has_type;
    slotmem_geometry_t geometry;
} tool_geometry_request_t;

/** A request without any geometry. */
extern const tool_geometry_request_t tool_as_file_says;

/** Process-local: a persisted file, as far as it could be read. */
typedef struct tool_file_t {
    const char *path;
    const tool_geometry_request_t *request; /**< of tool_file_read() */
    apr_pool_t *pool;
    int verdict;                    /**< TOOL_GOOD: the module would restore
                                         it; TOOL_REFUSED: it would refuse the
                                         content; TOOL_TROUBLE: not known */
    const char *reason;             /**< NULL if TOOL_GOOD */
    apr_status_t status;            /**< of the call that failed, or
                                         APR_SUCCESS */
    int has_geometry;               /**< 1: geometry is set */
    slotmem_geometry_t geometry;    /**< as requested; the rest from the file */
    slotmem_restore_result_t result;
    slotmem_segment_t segment;      /**< the restored slots, if TOOL_GOOD */
    apr_off_t ignored;              /**< bytes after the last one that the
                                         module reads, if TOOL_GOOD */
} tool_file_t;

/**
 * Read a file, and verify it.
 * @param path must last as long as file, as must request
 * @param request the geometry to restore with
 * @param pool for the restored slots and all texts
 * @return file->verdict
 */
int tool_file_read(tool_file_t *file, const char *path,
                   const tool_geometry_request_t *request, apr_pool_t *pool);

/**
 * Replace the verdict on a file, for a command that cannot do its work.
 * @param status of the call that failed, or APR_SUCCESS if none did
 * @param reason must last as long as file; NULL if the verdict is TOOL_GOOD
 * @return the verdict
 */
int tool_file_set_verdict(tool_file_t *file, int verdict, apr_status_t status,
                          const char *reason);

/** @return the reason of a verdict that is not TOOL_GOOD, with that of the
 *  system */
const char *tool_file_why(const tool_file_t *file);

/** Are these the same version of the same file? */
int tool_file_is_same(const slotmem_file_state_t *a,
                      const slotmem_file_state_t *b);

/** Can a file of this type have run-time claims? */
int tool_file_has_claims(const slotmem_geometry_t *geometry);

/** Does a file that is TOOL_GOOD have this slot? @return 1; 0: no, and the
 *  verdict is then TOOL_TROUBLE */
int tool_file_check_slot(tool_file_t *file, apr_uint32_t slot);

/** The bytes of a slot, file->geometry.item_size of them; and whether they are
 *  all zero. The slot must have passed tool_file_check_slot(). */
const unsigned char *tool_file_slot(const tool_file_t *file, apr_uint32_t slot);
int tool_file_slot_is_zero(const tool_file_t *file, apr_uint32_t slot);

#endif /* TOOL_FILE_H */

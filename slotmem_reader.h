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
 * slotmem_reader.h: reads the bytes of a persisted file and computes their
 * digests, through a window in private memory, so that the digested bytes are
 * the bytes used.
 *
 * Lifecycle: one reader for one open file, or for the same bytes in memory. The
 * first failure stays in its status, and each later call fails.
 *
 * Concurrency: one thread. The file may change while it is read.
 */

#ifndef SLOTMEM_READER_H
#define SLOTMEM_READER_H

#include "apr_file_io.h"
#include "apr_md5.h"

#include "slotmem_format.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: a file that is being verified, read through a window. */
typedef struct slotmem_reader_t {
    apr_file_t *file;
    const unsigned char *memory;    /* if not NULL, read instead of the file.
                                       This process made these bytes: their
                                       digests are not computed, and count as
                                       right */
    apr_off_t len;                  /* of the file, when it was opened */
    apr_status_t status;            /* the first failure, which stays */
    apr_off_t window_at;            /* the window holds window_len bytes */
    apr_size_t window_len;          /* from this offset of the file */
    unsigned char *window;          /* SLOTMEM_CHUNK bytes */
    int digest_differs;             /* 1: a whole image had another MD5 */
    unsigned char computed[APR_MD5_DIGESTSIZE]; /* of the last comparison */
    unsigned char stored[APR_MD5_DIGESTSIZE];   /* the same */
} slotmem_reader_t;

/** Copy bytes at an offset into a buffer: from the window, if it has them.
 *  @return 1; 0: the file has no such bytes, or they cannot be read */
int slotmem_reader_fill(slotmem_reader_t *reader, apr_off_t offset,
                        void *buffer, apr_size_t len);

/**
 * Read bytes at an offset into the window.
 * @param len at most SLOTMEM_CHUNK
 * @return a pointer into the window, valid until the next call; NULL: the file
 *         has no such bytes, or they cannot be read (then reader->status says
 *         why)
 */
const unsigned char *slotmem_reader_bytes(slotmem_reader_t *reader,
                                          apr_off_t offset, apr_size_t len);

/** Add the bytes from one offset up to another to a digest. @return 1; 0: see
 *  slotmem_reader_bytes() */
int slotmem_reader_digest(slotmem_reader_t *reader, apr_md5_ctx_t *md5,
                          apr_off_t from, apr_off_t to);

/** Does the file have this digest at an offset? Does not change md5. Stores
 *  both digests in the reader. */
int slotmem_reader_digest_matches(slotmem_reader_t *reader,
                                  const apr_md5_ctx_t *md5, apr_off_t offset);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_READER_H */

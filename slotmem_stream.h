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
 * slotmem_stream.h: takes the bytes of a segment's file in order, computes
 * their MD5, and writes them to a new file or to memory, or compares them with
 * an existing file. The caller passes the same bytes in each case.
 *
 * Concurrency: one thread. The bytes may be live memory that other processes
 * write: they are copied first, and the digest is that of the copy.
 */

#ifndef SLOTMEM_STREAM_H
#define SLOTMEM_STREAM_H

#include "apr_file_io.h"
#include "apr_md5.h"

#include "slotmem_format.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: a file that is being written or compared. */
typedef struct slotmem_stream_t {
    apr_file_t *file;               /* NULL: the bytes stay in buffer */
    int compares;                   /* 1: compare, and write nothing */
    int differs;                    /* 1: a difference was found */
    apr_off_t len;                  /* of all bytes so far */
    int omits_digests;              /* 1: zeros in their place */
    apr_md5_ctx_t md5;              /* of all bytes so far, if written */
    unsigned char *buffer;
    apr_size_t capacity;            /* bytes of the buffer */
    apr_size_t fill;                /* bytes of the buffer that are filled */
    apr_size_t compared;            /* bytes of those that were compared */
    apr_status_t status;            /* the first failure, which stays */
} slotmem_stream_t;

/** Start.
 *  @param file NULL: write to memory
 *  @param buffer of the caller
 *  @param capacity its bytes: more than 0; enough for all, without a file
 *  @param compares 1: compare with the file; 0: write it */
void slotmem_stream_init(slotmem_stream_t *stream, apr_file_t *file,
                         unsigned char *buffer, apr_size_t capacity,
                         int compares);

/** Write or compare bytes. Does nothing after a failure or a difference.
 *  @param data NULL, only if the stream compares: skip len bytes */
void slotmem_stream_put(slotmem_stream_t *stream, const void *data,
                        apr_size_t len);

/** Write the MD5 of all bytes so far. When comparing, skip it: if all bytes
 *  before it are equal, and the file was verified, the MD5 is equal too. */
void slotmem_stream_put_digest(slotmem_stream_t *stream);

/** Write the rest of the buffer. */
void slotmem_stream_flush(slotmem_stream_t *stream);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STREAM_H */

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
 * slotmem_stream.h: the bytes that a segment's file gets, in order, with their
 * MD5: written to a new file or to memory, or compared with those that a file
 * has. Each way sees the same bytes from the same caller.
 *
 * Concurrency: one thread. The bytes may be live memory that others write: they
 * are copied first, and the digest is over the copy.
 */

#ifndef SLOTMEM_STREAM_H
#define SLOTMEM_STREAM_H

#include "apr_file_io.h"
#include "apr_md5.h"

#include "slotmem_format.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: the bytes of a file, on their way out, or those that it has
 * beside those that it would get. */
typedef struct slotmem_stream_t {
    apr_file_t *file;               /* NULL: the bytes stay in buffer, which
                                       is malloc()ed and grows */
    int compares;                   /* 1: nothing is written */
    int differs;                    /* ... and a difference was found */
    apr_off_t len;                  /* of all bytes so far */
    apr_md5_ctx_t md5;              /* of all bytes so far, if written */
    unsigned char *buffer;          /* room bytes */
    apr_size_t room;                /* SLOTMEM_CHUNK, or more in memory */
    apr_size_t fill;                /* of them in use */
    apr_size_t compared;            /* of these compared */
    apr_status_t status;            /* the first failure, which stays */
} slotmem_stream_t;

/** Begin. @param file NULL: to memory. The buffer is then to be freed by the
 *  caller, also after a failure; else it is the caller's, SLOTMEM_CHUNK bytes
 *  long, and stays.
 *  @param compares 1: compare with the file; 0: write it */
void slotmem_stream_init(slotmem_stream_t *stream, apr_file_t *file,
                         int compares);

/** Pass bytes on. After a failure or a difference nothing more is done. */
void slotmem_stream_put(slotmem_stream_t *stream, const void *data,
                        apr_size_t len);

/** The MD5 of all bytes so far. In a file that was verified it matches the
 *  bytes before it, so that there is nothing to compare. */
void slotmem_stream_put_digest(slotmem_stream_t *stream);

/** Write what is still in the buffer. */
void slotmem_stream_flush(slotmem_stream_t *stream);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_STREAM_H */

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
 * slotmem_stream.c: writes or compares the bytes of a file; see
 * slotmem_stream.h.
 */

#include <stdlib.h>
#include <string.h>

#include "slotmem_stream.h"

#define CHUNK SLOTMEM_CHUNK

void slotmem_stream_init(slotmem_stream_t *stream, apr_file_t *file,
                         int compares)
{
    stream->file = file;
    stream->compares = compares;
    stream->differs = 0;
    stream->len = 0;
    stream->fill = 0;
    stream->compared = 0;
    stream->status = APR_SUCCESS;
    stream->capacity = file ? CHUNK : 0;
    if (!file) {
        stream->buffer = NULL;
    }
    apr_md5_init(&stream->md5);
}

void slotmem_stream_flush(slotmem_stream_t *stream)
{
    if (stream->status == APR_SUCCESS && stream->fill) {
        stream->status = apr_file_write_full(stream->file, stream->buffer,
                                             stream->fill, NULL);
    }
    stream->fill = 0;
}

/* Double the buffer of a stream without a file. Returns 0 if there is no
 * memory: the stream then accepts nothing more. */
static int grow(slotmem_stream_t *stream)
{
    apr_size_t capacity = stream->capacity ? 2 * stream->capacity : 1024;
    unsigned char *buffer = stream->status == APR_SUCCESS
                            && capacity > stream->capacity
                            ? realloc(stream->buffer, capacity) : NULL;

    if (!buffer) {
        stream->status = APR_ENOMEM;
        return 0;
    }
    stream->buffer = buffer;
    stream->capacity = capacity;
    return 1;
}

/* Copy the bytes to private memory first: other processes may be writing them.
 * The digest is that of the copy. */
static void stream_write(slotmem_stream_t *stream, const void *data,
                         apr_size_t len)
{
    const unsigned char *from = data;

    stream->len += (apr_off_t)len;
    while (len) {
        apr_size_t room = stream->capacity - stream->fill;
        apr_size_t n = len < room ? len : room;

        if (!room && stream->file) {
            slotmem_stream_flush(stream);
            continue;
        }
        if (!room && !grow(stream)) {
            return;
        }
        if (!room) {
            continue;
        }
        memcpy(stream->buffer + stream->fill, from, n);
        apr_md5_update(&stream->md5, stream->buffer + stream->fill, n);
        stream->fill += n;
        from += n;
        len -= n;
    }
}

/* Compare bytes with the next ones of the file; data NULL: skip those. A read
 * that fails is a difference. */
static void stream_compare(slotmem_stream_t *stream, const void *data,
                           apr_size_t len)
{
    const unsigned char *from = data;

    stream->len += (apr_off_t)len;
    while (len && !stream->differs) {
        apr_size_t left = stream->fill - stream->compared;
        apr_size_t n = len < left ? len : left;

        if (!left) {
            stream->fill = CHUNK;
            stream->compared = 0;
            stream->differs = apr_file_read(stream->file, stream->buffer,
                                            &stream->fill) != APR_SUCCESS;
            continue;
        }
        if (from) {
            stream->differs = memcmp(stream->buffer + stream->compared, from,
                                     n) != 0;
            from += n;
        }
        stream->compared += n;
        len -= n;
    }
}

void slotmem_stream_put(slotmem_stream_t *stream, const void *data,
                        apr_size_t len)
{
    if (stream->compares) {
        stream_compare(stream, data, len);
    }
    else {
        stream_write(stream, data, len);
    }
}

void slotmem_stream_put_digest(slotmem_stream_t *stream)
{
    unsigned char digest[APR_MD5_DIGESTSIZE];
    apr_md5_ctx_t copy = stream->md5;

    if (stream->compares) {
        stream_compare(stream, NULL, sizeof(digest));
        return;
    }
    apr_md5_final(digest, &copy);
    stream_write(stream, digest, sizeof(digest));
}

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

#include <string.h>

#include "slotmem_stream.h"

void slotmem_stream_init(slotmem_stream_t *stream, apr_file_t *file,
                         unsigned char *buffer, apr_size_t capacity,
                         int compares)
{
    memset(stream, 0, sizeof(*stream));
    stream->file = file;
    stream->compares = compares;
    stream->buffer = buffer;
    stream->capacity = capacity;
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

        if (!room && !stream->file) {
            stream->status = APR_ENOSPC;
            return;
        }
        if (!room) {
            slotmem_stream_flush(stream);
            continue;
        }
        memcpy(stream->buffer + stream->fill, from, n);
        if (!stream->omits_digests) {
            apr_md5_update(&stream->md5, stream->buffer + stream->fill, n);
        }
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
            stream->fill = stream->capacity;
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
    unsigned char digest[APR_MD5_DIGESTSIZE] = { 0 };
    apr_md5_ctx_t copy = stream->md5;

    if (stream->compares) {
        stream_compare(stream, NULL, sizeof(digest));
        return;
    }
    if (!stream->omits_digests) {
        apr_md5_final(digest, &copy);
    }
    stream_write(stream, digest, sizeof(digest));
}

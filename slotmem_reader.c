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
 * slotmem_reader.c: the bytes of a persisted file; see slotmem_reader.h.
 */

#include <string.h>

#include "slotmem_reader.h"

#define CHUNK SLOTMEM_CHUNK

/* Read bytes of the file into a buffer. */
static int read_at(slotmem_reader_t *reader, apr_off_t offset, void *buffer,
                   apr_size_t len)
{
    if (reader->memory) {
        memcpy(buffer, reader->memory + offset, len);
        return 1;
    }
    if (reader->status == APR_SUCCESS) {
        reader->status = apr_file_seek(reader->file, APR_SET, &offset);
    }
    if (reader->status == APR_SUCCESS) {
        reader->status = apr_file_read_full(reader->file, buffer, len, NULL);
    }
    return reader->status == APR_SUCCESS;
}

static int has_bytes(const slotmem_reader_t *reader, apr_off_t offset,
                     apr_size_t len)
{
    return offset >= 0 && offset <= reader->len
           && (apr_off_t)len <= reader->len - offset;
}

static int window_has(const slotmem_reader_t *reader, apr_off_t offset,
                      apr_size_t len)
{
    return offset >= reader->window_at
           && offset + (apr_off_t)len
              <= reader->window_at + (apr_off_t)reader->window_len;
}

const unsigned char *slotmem_reader_bytes(slotmem_reader_t *reader,
                                          apr_off_t offset, apr_size_t len)
{
    apr_off_t left;

    if (!has_bytes(reader, offset, len)) {
        return NULL;
    }
    if (!window_has(reader, offset, len)) {
        /* One read is enough for a file that fits into the window. */
        reader->window_at = reader->len <= (apr_off_t)CHUNK ? 0 : offset;
        left = reader->len - reader->window_at;
        reader->window_len = left < (apr_off_t)CHUNK ? (apr_size_t)left
                                                     : CHUNK;
        if (!read_at(reader, reader->window_at, reader->window,
                     reader->window_len)) {
            reader->window_len = 0;
            return NULL;
        }
    }
    return reader->window + (offset - reader->window_at);
}

int slotmem_reader_fill(slotmem_reader_t *reader, apr_off_t offset,
                        void *buffer, apr_size_t len)
{
    if (!has_bytes(reader, offset, len)) {
        reader->status = APR_EOF;
        return 0;
    }
    if (reader->status == APR_SUCCESS && window_has(reader, offset, len)) {
        memcpy(buffer, reader->window + (offset - reader->window_at), len);
        return 1;
    }
    return read_at(reader, offset, buffer, len);
}

int slotmem_reader_digest(slotmem_reader_t *reader, apr_md5_ctx_t *md5,
                          apr_off_t from, apr_off_t to)
{
    while (from < to && !reader->memory) {
        apr_size_t n = to - from < (apr_off_t)CHUNK ? (apr_size_t)(to - from)
                                                    : CHUNK;
        const unsigned char *bytes = slotmem_reader_bytes(reader, from, n);

        if (!bytes) {
            return 0;
        }
        apr_md5_update(md5, bytes, n);
        from += (apr_off_t)n;
    }
    return 1;
}

int slotmem_reader_digest_matches(slotmem_reader_t *reader,
                                  const apr_md5_ctx_t *md5, apr_off_t offset)
{
    apr_md5_ctx_t copy = *md5;
    const unsigned char *stored;

    if (reader->memory) {
        return 1;
    }
    stored = slotmem_reader_bytes(reader, offset, SLOTMEM_FILE_DIGEST);
    if (!stored) {
        return 0;
    }
    apr_md5_final(reader->computed, &copy);
    memcpy(reader->stored, stored, sizeof(reader->stored));
    return memcmp(reader->computed, reader->stored,
                  sizeof(reader->stored)) == 0;
}

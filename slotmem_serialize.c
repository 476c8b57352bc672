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
 * slotmem_serialize.c: the bytes of a segment's file; see slotmem_serialize.h.
 */

#include <stddef.h>
#include <stdlib.h>

#include "slotmem_serialize.h"

/* Put one byte per slot: 1 if the slot has a bit in in_use and none in except.
 * Either may be NULL, for no bits. */
static void put_flags(slotmem_stream_t *stream, apr_uint32_t num,
                      const slotmem_word_t *in_use,
                      const slotmem_word_t *except)
{
    unsigned char bytes[SLOTMEM_MAP_WORD_BITS];
    apr_uint32_t word;

    for (word = 0; word < slotmem_map_words(num); word++) {
        apr_uint32_t left = num - word * SLOTMEM_MAP_WORD_BITS;
        apr_uint32_t n = left < sizeof(bytes) ? left : sizeof(bytes);
        slotmem_word_t bits = in_use ? in_use[word] : 0;
        apr_uint32_t i;

        if (except) {
            bits &= ~except[word];
        }
        for (i = 0; i < n; i++) {
            bytes[i] = (unsigned char)(bits >> i & 1);
        }
        slotmem_stream_put(stream, bytes, n);
    }
}

/* Put what precedes the slots. The map is copied before any slot is: a slot
 * that is in use in the file was claimed before its bytes were copied. */
static void put_head(slotmem_stream_t *stream,
                     const slotmem_content_t *content, slotmem_word_t *in_use)
{
    apr_uint32_t num = content->segment->geometry.item_num;
    apr_uint32_t words = slotmem_map_words(num);
    apr_uint32_t head[2] = { num, 0 };  /* the number of free slots, padding */
    apr_uint32_t word;

    slotmem_map_copy(&content->segment->map, in_use);
    for (word = 0; word < words && !content->config_claims; word++) {
        head[0] -= (apr_uint32_t)__builtin_popcountll(in_use[word]);
    }
    slotmem_stream_put(stream, head, sizeof(head));
}

static void put_chunk(slotmem_stream_t *stream, apr_uint32_t tag,
                      const void *bytes, apr_size_t len)
{
    slotmem_chunk_t chunk = { tag, 0, len };

    slotmem_stream_put(stream, &chunk, sizeof(chunk));
    if (bytes) {
        slotmem_stream_put(stream, bytes, len);
    }
}

/* Put our section: the run-time claims, the words and labels, and END. */
static void put_section(slotmem_stream_t *stream,
                        const slotmem_content_t *content,
                        const slotmem_word_t *in_use)
{
    const slotmem_geometry_t *geometry = &content->segment->geometry;
    slotmem_section_t head = { SLOTMEM_FILE_MAGIC, SLOTMEM_FILE_VERSION };
    slotmem_end_t end = { .magic = SLOTMEM_FILE_MAGIC,
                          .version = SLOTMEM_FILE_VERSION,
                          .item_size = geometry->item_size,
                          .item_num = geometry->item_num,
                          .type = geometry->type };

    slotmem_stream_put(stream, &head, sizeof(head));
    put_chunk(stream, SLOTMEM_FILE_CLAIMS, NULL, geometry->item_num);
    put_flags(stream, geometry->item_num, in_use, content->config_claims);
    if (content->words_len) {
        put_chunk(stream, SLOTMEM_FILE_WORDS, content->words,
                  content->words_len);
    }
    if (content->labels_len) {
        put_chunk(stream, SLOTMEM_FILE_LABELS, content->labels,
                  content->labels_len);
    }
    end.length = (apr_uint64_t)stream->len + sizeof(end);
    slotmem_stream_put(stream, &end, offsetof(slotmem_end_t, digest));
    slotmem_stream_put_digest(stream);
}

/* Put what follows the slots: in-use flags, MD5, descriptor, and for CLEARINUSE
 * our section. */
static void put_tail(slotmem_stream_t *stream,
                     const slotmem_content_t *content,
                     const slotmem_word_t *in_use)
{
    slotmem_descriptor_t descriptor =
        slotmem_descriptor_of(&content->segment->geometry);

    put_flags(stream, content->segment->geometry.item_num,
              content->config_claims ? NULL : in_use, NULL);
    slotmem_stream_put_digest(stream);
    slotmem_stream_put(stream, &descriptor, sizeof(descriptor));
    if (content->config_claims) {
        put_section(stream, content, in_use);
    }
}

/* Compare the slots, except for their stamps. */
static void compare_slots(slotmem_stream_t *stream,
                          const slotmem_content_t *content)
{
    const slotmem_geometry_t *geometry = &content->segment->geometry;
    apr_size_t after = content->stamp_at + content->stamp_len;
    const char *slot = content->segment->slots;
    apr_uint32_t i;

    for (i = 0; i < geometry->item_num && !stream->differs; i++) {
        slotmem_stream_put(stream, slot, content->stamp_at);
        slotmem_stream_put(stream, NULL, content->stamp_len);
        slotmem_stream_put(stream, slot + after, geometry->item_size - after);
        slot += geometry->item_size;
    }
}

void slotmem_serialize(slotmem_stream_t *stream,
                       const slotmem_content_t *content,
                       slotmem_word_t *in_use)
{
    if (!content->segment) {
        slotmem_stream_put(stream, content->image, content->image_len);
        return;
    }
    put_head(stream, content, in_use);
    if (stream->compares && content->stamp_len) {
        compare_slots(stream, content);
        if (stream->differs) {
            return;
        }
    }
    else {
        slotmem_stream_put(stream, content->segment->slots,
                           content->segment->layout.slots_len);
    }
    put_tail(stream, content, in_use);
}

apr_size_t slotmem_serialize_size(const slotmem_content_t *content)
{
    apr_size_t num = content->segment->geometry.item_num;

    return SLOTMEM_FILE_HEADER + content->segment->layout.slots_len + num
           + SLOTMEM_FILE_DIGEST + sizeof(slotmem_descriptor_t)
           + sizeof(slotmem_section_t) + 3 * sizeof(slotmem_chunk_t) + num
           + content->words_len + content->labels_len + sizeof(slotmem_end_t);
}

static apr_status_t write_to(unsigned char *bytes, apr_size_t *len,
                             const slotmem_content_t *content,
                             int omits_digests)
{
    apr_uint32_t num = content->segment->geometry.item_num;
    slotmem_word_t *in_use = calloc(slotmem_map_words(num) + 1,
                                    sizeof(*in_use));
    slotmem_stream_t stream;

    if (!in_use) {
        return APR_ENOMEM;
    }
    slotmem_stream_init(&stream, NULL, bytes, slotmem_serialize_size(content),
                        0);
    stream.omits_digests = omits_digests;
    slotmem_serialize(&stream, content, in_use);
    free(in_use);
    *len = stream.fill;
    return stream.status;
}

apr_status_t slotmem_serialize_to_memory(const slotmem_content_t *content,
                                         unsigned char **bytes,
                                         apr_size_t *len)
{
    unsigned char *buffer = malloc(slotmem_serialize_size(content));
    apr_status_t rv = buffer ? write_to(buffer, len, content, 0) : APR_ENOMEM;

    if (rv != APR_SUCCESS) {
        free(buffer);
        return rv;
    }
    *bytes = buffer;
    return APR_SUCCESS;
}

apr_status_t slotmem_serialize_copy(const slotmem_content_t *content,
                                    unsigned char *bytes, apr_size_t *len)
{
    return write_to(bytes, len, content, 1);
}

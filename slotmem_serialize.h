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
 * slotmem_serialize.h: produces the bytes of a segment's file. See
 * slotmem_format.h for the layout.
 *
 * Concurrency: others may write the slots meanwhile. The bytes are copied piece
 * by piece, and the digest is over the copy: it fits the bytes in the file
 * whatever the others write.
 */

#ifndef SLOTMEM_SERIALIZE_H
#define SLOTMEM_SERIALIZE_H

#include "slotmem_image.h"
#include "slotmem_stream.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: what a file is to hold. */
typedef struct slotmem_content_t {
    const slotmem_segment_t *segment;
    /* if segment is NULL: the bytes of the file, as made earlier by
     * slotmem_serialize_to_memory() */
    const unsigned char *image;
    apr_size_t image_len;
    const slotmem_word_t *config_claims; /**< NULL: store the in-use flags as
                                         they are. Otherwise CLEARINUSE: store
                                         no flags, and store as run-time claims
                                         the slots in use that have no bit
                                         here */
    /* with config_claims, for our section: the bytes of SLOTMEM_FILE_WORDS and
     * SLOTMEM_FILE_LABELS; a chunk of length 0 is not written */
    const char *words;
    apr_size_t words_len;
    const char *labels;
    apr_size_t labels_len;
    /* the stamp: bytes of each slot that a comparison ignores. If nothing else
     * has changed, the file is not written */
    apr_size_t stamp_at;
    apr_size_t stamp_len;
} slotmem_content_t;

/**
 * Pass the bytes to a stream; one that compares gets them up to the first
 * difference.
 * @param in_use scratch memory for a copy of the map; unused for an image
 */
void slotmem_serialize(slotmem_stream_t *stream,
                       const slotmem_content_t *content,
                       slotmem_word_t *in_use);

/** @return the number of bytes that the file of a segment has at most */
apr_size_t slotmem_serialize_size(const slotmem_content_t *content);

/**
 * Write the bytes to memory.
 * @param content of a segment
 * @param bytes set to malloc()ed memory on success
 * @return APR_SUCCESS or APR_ENOMEM
 */
apr_status_t slotmem_serialize_to_memory(const slotmem_content_t *content,
                                         unsigned char **bytes,
                                         apr_size_t *len);

/**
 * The same, with zeros in place of the digests, which takes less time.
 * @param bytes memory for slotmem_serialize_size() bytes
 */
apr_status_t slotmem_serialize_copy(const slotmem_content_t *content,
                                    unsigned char *bytes, apr_size_t *len);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_SERIALIZE_H */

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
 * slotmem_format.h: the persisted file: its structs, offsets and sizes. Needs
 * only APR's types, and compiles in C++, so that tools can include it.
 * docs/file-format.md says which files are accepted.
 *
 * The persisted file of a segment with N slots of SIZE bytes (S = SIZE * N),
 * in the byte order and word size of the machine:
 *
 *     offset        size   content
 *     0             8      number of free slots (u32), then 4 zero bytes
 *     8             S      the slots
 *     8+S           N      one byte per slot: 1 in use, 0 free
 *     8+S+N         16     MD5 of all bytes before it
 *     8+S+N+16      16     descriptor: slotmem_descriptor_t
 *     only for the types PERSIST and CLEARINUSE together:
 *     8+S+N+32      8      slotmem_section_t
 *     8+S+N+40      ..     chunks: slotmem_chunk_t, then its bytes
 *     end - 48      48     slotmem_end_t
 *
 * The distributed module writes and reads the first five parts as well. Only
 * this module uses the rest: which slots were claimed at run time, the
 * configured settings at the time of the store, and the labels of the segment.
 * A reader starts with END, the struct slotmem_end_t: if it is valid, the file
 * has the shape that it names, and no other one is tried.
 */

#ifndef SLOTMEM_FORMAT_H
#define SLOTMEM_FORMAT_H

#include "apr.h"

/** Suffix of a persisted file. */
#define SLOTMEM_FILE_SUFFIX         ".persist"
/** Suffixes of files that are kept: of one whose state the new file lacks in
 *  part, and of one in DefaultRuntimeDir that is stored elsewhere now. */
#define SLOTMEM_BACKUP_SUFFIX       ".bak"
#define SLOTMEM_RETIRED_SUFFIX      ".old"
/** Suffix of a file that requests the removal of workers. */
#define SLOTMEM_REMOVAL_SUFFIX      ".remove"
/** Bytes before the slots: the number of free slots and its padding. */
#define SLOTMEM_FILE_HEADER           8
/** Bytes of an MD5. */
#define SLOTMEM_FILE_DIGEST         16
/** The first word of the section. */
#define SLOTMEM_FILE_MAGIC          0x534c4d43u
/** Version of the section and of END. A reader that finds another version reads
 *  the file as one without a section. */
#define SLOTMEM_FILE_VERSION        2u

/** Tags of chunks. Unknown chunks are skipped.
 *
 *  CLAIMS: one byte per slot: 1 claimed at run time, else 0.
 *
 *  WORDS: the words of the configuration, which are the configured values of
 *  each member or balancer for the settings that the balancer-manager can
 *  change. The record of each is a list of
 *  strings, each with its 0 byte: the hash that its slot carries (16
 *  hexadecimal digits: two u32), then pairs of a name and a value, then an
 *  empty string.
 *
 *  LABELS: names of the segment for people: pairs of a name and a value as
 *  above, then an empty string. Only shown; no decision depends on them. */
#define SLOTMEM_FILE_CLAIMS         0x534d4c43u     /* "CLMS" */
#define SLOTMEM_FILE_WORDS          0x53445257u     /* "WRDS" */
#define SLOTMEM_FILE_LABELS         0x534c424cu     /* "LBLS" */

/** The descriptor in a persisted file; 16 bytes for either word size. */
typedef struct slotmem_descriptor_t {
    apr_size_t item_size;           /**< bytes of a slot */
    apr_uint32_t item_num;          /**< number of slots */
    apr_uint32_t type;              /**< AP_SLOTMEM_TYPE_* */
#if APR_SIZEOF_VOIDP == 4
    apr_uint32_t zero;              /**< always 0 */
#endif
} slotmem_descriptor_t;

/** Starts the section. */
typedef struct slotmem_section_t {
    apr_uint32_t magic;             /**< SLOTMEM_FILE_MAGIC */
    apr_uint32_t version;           /**< SLOTMEM_FILE_VERSION */
} slotmem_section_t;

/** Precedes the bytes of a chunk. */
typedef struct slotmem_chunk_t {
    apr_uint32_t tag;               /**< SLOTMEM_FILE_CLAIMS and so on */
    apr_uint32_t zero;              /**< always 0 */
    apr_uint64_t length;            /**< of the bytes that follow */
} slotmem_chunk_t;

/** END: the last bytes of a file with a section. */
typedef struct slotmem_end_t {
    apr_uint32_t magic;             /**< SLOTMEM_FILE_MAGIC */
    apr_uint32_t version;           /**< SLOTMEM_FILE_VERSION */
    apr_uint64_t item_size;         /**< bytes of a slot */
    apr_uint32_t item_num;          /**< number of slots */
    apr_uint32_t type;              /**< AP_SLOTMEM_TYPE_* */
    apr_uint64_t length;            /**< of the file, including this struct */
    unsigned char digest[SLOTMEM_FILE_DIGEST]; /**< MD5 of all bytes before */
} slotmem_end_t;

#ifdef __cplusplus
#define SLOTMEM_FILE_ASSERT(what, text) static_assert(what, text)
#else
#define SLOTMEM_FILE_ASSERT(what, text) _Static_assert(what, text)
#endif
SLOTMEM_FILE_ASSERT(sizeof(slotmem_descriptor_t) == 16
                    && sizeof(slotmem_section_t) == 8
                    && sizeof(slotmem_chunk_t) == 16
                    && sizeof(slotmem_end_t) == 48,
                    "these have the same size in every persisted file");

/** Offsets in a file, all in bytes. */
typedef struct slotmem_file_layout_t {
    apr_off_t flags_offset;         /**< of the bytes that say "in use" */
    apr_off_t digest_offset;        /**< of the MD5 */
    apr_off_t descriptor_offset;    /**< of the descriptor */
    apr_off_t image_len;            /**< bytes up to the descriptor's end */
} slotmem_file_layout_t;

/**
 * Compute the offsets in the file of a segment.
 * @return 1; 0: a product or sum overflows, and all offsets are 0
 */
static inline int slotmem_file_layout(slotmem_file_layout_t *layout,
                                      apr_uint64_t item_size,
                                      apr_uint32_t item_num)
{
    apr_uint64_t num = item_num;
    apr_uint64_t most = APR_SIZE_MAX / 2;
    /* All but the slots, with the section and its claims: below 2^34. */
    apr_uint64_t other = SLOTMEM_FILE_HEADER + num + SLOTMEM_FILE_DIGEST
                         + sizeof(slotmem_descriptor_t)
                         + sizeof(slotmem_section_t) + sizeof(slotmem_chunk_t)
                         + num + sizeof(slotmem_end_t);

    layout->flags_offset = layout->digest_offset = 0;
    layout->descriptor_offset = layout->image_len = 0;
    if (other > most || (num && item_size > (most - other) / num)) {
        return 0;
    }
    layout->flags_offset = (apr_off_t)(SLOTMEM_FILE_HEADER + item_size * num);
    layout->digest_offset = layout->flags_offset + (apr_off_t)num;
    layout->descriptor_offset = layout->digest_offset + SLOTMEM_FILE_DIGEST;
    layout->image_len = layout->descriptor_offset
                        + (apr_off_t)sizeof(slotmem_descriptor_t);
    return 1;
}

/** Bytes that are read, or copied, digested and written, at a time. Not part of
 *  the format. */
#define SLOTMEM_CHUNK ((apr_size_t)65536)

#endif /* SLOTMEM_FORMAT_H */

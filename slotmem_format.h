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
 * APR's types alone, and compiles in C++, so that tools can include it.
 * docs/file-format.md says which files are believed.
 *
 * The persisted file of a segment with N slots of SIZE bytes (S = SIZE * N),
 * in the byte order and word size of the machine:
 *
 *     offset        size   content
 *     0             8      number of free slots (u32), then 4 zero bytes
 *     8             S      the slots
 *     8+S           N      one byte a slot: 1 in use, 0 free
 *     8+S+N         16     MD5 of all bytes before it
 *     8+S+N+16      16     descriptor: slotmem_descriptor_t
 *     only for the types PERSIST and CLEARINUSE together:
 *     8+S+N+32      8      run-time claims: magic (u32), version (u32)
 *     8+S+N+40      N      one byte a slot: 1 claimed at run time, else 0
 *     8+S+N+40+N    16     MD5 of all bytes before it, from offset 0
 *
 * The first five are what the distributed module writes and reads as well.
 */

#ifndef SLOTMEM_FORMAT_H
#define SLOTMEM_FORMAT_H

#include "apr.h"

/** Suffix of a persisted file. */
#define SLOTMEM_FILE_SUFFIX         ".persist"
/** Bytes before the slots: the number of free slots and its padding. */
#define SLOTMEM_FILE_HEADER           8
/** Bytes of an MD5. */
#define SLOTMEM_FILE_DIGEST         16
/** Magic and version that open the run-time claims. A reader that finds
 *  another version takes the file as one with no run-time claims. */
#define SLOTMEM_FILE_CLAIMS_MAGIC   0x534c4d43u
#define SLOTMEM_FILE_CLAIMS_VERSION 1u
/** Bytes of that magic and version. */
#define SLOTMEM_FILE_CLAIMS_HEADER    8

/** The descriptor in a persisted file; 16 bytes for either word size. */
typedef struct slotmem_descriptor_t {
    apr_size_t item_size;           /**< bytes of a slot */
    apr_uint32_t item_num;          /**< number of slots */
    apr_uint32_t type;              /**< AP_SLOTMEM_TYPE_* */
#if APR_SIZEOF_VOIDP == 4
    apr_uint32_t zero;              /**< always 0 */
#endif
} slotmem_descriptor_t;

#ifdef __cplusplus
static_assert(sizeof(slotmem_descriptor_t) == 16,
              "the descriptor has 16 bytes in every persisted file");
#else
_Static_assert(sizeof(slotmem_descriptor_t) == 16,
               "the descriptor has 16 bytes in every persisted file");
#endif

/** Bytes read, or copied, checksummed and written, at a time. No part of
 *  the format. */
#define SLOTMEM_CHUNK ((apr_size_t)65536)

#endif /* SLOTMEM_FORMAT_H */

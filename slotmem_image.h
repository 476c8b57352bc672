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
 * slotmem_image.h: the image of a segment that a persisted file holds: which
 * bytes are believed, and reading them into memory. The layout of the file
 * stands in slotmem_format.h.
 *
 * Lifecycle: on a reader that was opened; called by slotmem_restore.c alone.
 *
 * Concurrency: one thread; the memory is the caller's alone.
 */

#ifndef SLOTMEM_IMAGE_H
#define SLOTMEM_IMAGE_H

#include "slotmem_reader.h"
#include "slotmem_segment.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Process-local: what a file holds, for a caller that decides on each slot. */
typedef struct slotmem_image_t {
    slotmem_segment_t segment;      /**< in private memory, in the shape that
                                         the file has */
    slotmem_word_t *claims;         /**< a bit per slot: claimed at run time */
    int has_section;                /**< 0: the distributed module stored it, so
                                         nothing says which slots were claimed
                                         at run time */
    const char *words;              /**< of the section: SLOTMEM_FILE_WORDS; not
                                         verified; or NULL */
    apr_size_t words_len;           /**< bytes */
    const char *labels;             /**< SLOTMEM_FILE_LABELS, in the same way */
    apr_size_t labels_len;
} slotmem_image_t;

/** Process-local: what follows the image in a file of ours, in private
 * memory. */
typedef struct slotmem_image_section_t {
    const char *bytes;              /**< to the end of the file; or NULL */
    apr_size_t len;
    const char *claims;             /**< item_num bytes, or NULL */
    const char *words;              /**< or NULL */
    apr_size_t words_len;
    const char *labels;             /**< or NULL */
    apr_size_t labels_len;
} slotmem_image_section_t;

/** Process-local: where an image goes. */
typedef struct slotmem_image_target_t {
    slotmem_segment_t *segment;
    slotmem_image_t *image;         /**< or NULL: segment has its own memory,
                                         and takes no more slots than it has */
    int with_claims;                /**< 1: take the run-time claims too, as in
                                         use or into the image */
    slotmem_image_section_t section;
    int is_ours;                    /**< set: 1: a file of ours, and not of the
                                         distributed module */
    apr_uint32_t runtime_claims;    /**< set: their number */
    apr_pool_t *pool;               /**< for the image */
} slotmem_image_target_t;

/** The descriptor of a geometry, as it stands in a file. */
slotmem_descriptor_t slotmem_descriptor_of(const slotmem_geometry_t *geometry);

/**
 * Find the image that serves for the geometry requested, and read it.
 * @param found set to the shape that the file has
 * @return 1; or 0: there is none, or it cannot be read (then reader->status
 *         says why), and the segment is as new
 */
int slotmem_image_load(slotmem_image_target_t *target, slotmem_reader_t *reader,
                       const slotmem_geometry_t *requested,
                       slotmem_geometry_t *found, apr_pool_t *scratch);

/** What image a file holds, for a caller that was not told. Reads all of it.
 *  @return 1 if there is one, or at least a descriptor of one */
int slotmem_image_identify(slotmem_reader_t *reader, slotmem_geometry_t *found);

/** What shape a file that was rejected has, for people. @return 1 if it says */
int slotmem_image_describe(slotmem_reader_t *reader, slotmem_geometry_t *found);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_IMAGE_H */

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
 * slotmem_image.h: verifies the image of a segment in a persisted file, and
 * reads it into memory. slotmem_format.h describes the layout of the file.
 *
 * Lifecycle: takes a reader that was opened; called only by slotmem_restore.c.
 *
 * Concurrency: one thread; no other process has the memory.
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
    slotmem_segment_t segment;      /**< in private memory, in the shape of the
                                         file */
    slotmem_word_t *claims;         /**< one bit per slot: it was claimed at run
                                         time */
    int has_section;                /**< 0: the distributed module stored it, so
                                         it is not known which slots were
                                         claimed at run time */
    const char *words;              /**< SLOTMEM_FILE_WORDS of the section, not
                                         verified; or NULL */
    apr_size_t words_len;           /**< bytes */
    const char *labels;             /**< the same: SLOTMEM_FILE_LABELS */
    apr_size_t labels_len;
} slotmem_image_t;

/** Process-local: what follows the image in a file of this module, in private
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
    slotmem_image_t *image;         /**< or NULL: segment has memory already,
                                         and takes no more slots than fit */
    int with_claims;                /**< 1: also read the run-time claims: into
                                         the image, or else as in-use flags */
    apr_pool_t *pool;               /**< for the image */
    /* set by slotmem_image_load() */
    slotmem_image_section_t section;
    apr_uint32_t runtime_claims;    /**< number of run-time claims */
} slotmem_image_target_t;

/** @return the descriptor of a geometry, as a file has it */
slotmem_descriptor_t slotmem_descriptor_of(const slotmem_geometry_t *geometry);

/**
 * Find the image that fits the requested geometry, and read it.
 * @param found set to the shape of the file
 * @return 1; 0: there is none, or it cannot be read (then reader->status says
 *         why); the segment is then empty again
 */
int slotmem_image_load(slotmem_image_target_t *target, slotmem_reader_t *reader,
                       const slotmem_geometry_t *requested,
                       slotmem_geometry_t *found, apr_pool_t *scratch);

/** Find out which image a file holds, without a requested geometry. Reads the
 *  whole file. @return 1: it has an image, or at least a valid descriptor */
int slotmem_image_identify(slotmem_reader_t *reader, slotmem_geometry_t *found);

/** Find out the shape of a file that was refused, for the log. Looks only at
 *  the last SLOTMEM_CHUNK bytes. @return 1: it has a valid descriptor */
int slotmem_image_describe(slotmem_reader_t *reader, slotmem_geometry_t *found);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_IMAGE_H */

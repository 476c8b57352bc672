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
 * slotmem_image.c: finds and reads the image of a segment in a file; see
 * slotmem_image.h.
 *
 * Which files are restored. A file of this module names its shape at its end,
 * with an MD5 of all bytes before: if that is right, no other shape is tried.
 * Any other file comes from the distributed module, or is damaged. It has an
 * image of n slots if it is long enough, the descriptor at the offset for n
 * names the size, number and type, and the MD5 there is that of all bytes
 * before it. What follows is left over: the distributed module stores in place
 * and does not truncate. If the whole file is an image of the requested number,
 * it is restored. If it is an image of more slots, it is refused, even if
 * bytes in its slots look like a smaller image. In any other file one pass
 * finds the largest image of up to the requested number, which fills the first
 * slots. If the caller decides on each slot, the largest image of any number is
 * taken.
 *
 * Digests are computed over the bytes that were read, in private memory or in a
 * segment that no other process has yet.
 */

#include <string.h>

#include "apr_md5.h"

#include "slotmem_image.h"

#define CHUNK SLOTMEM_CHUNK

_Static_assert(APR_MD5_DIGESTSIZE == SLOTMEM_FILE_DIGEST,
               "the persisted file has an MD5 where APR-util has one");

slotmem_descriptor_t slotmem_descriptor_of(const slotmem_geometry_t *geometry)
{
    slotmem_descriptor_t descriptor;

    memset(&descriptor, 0, sizeof(descriptor));
    descriptor.item_size = geometry->item_size;
    descriptor.item_num = geometry->item_num;
    descriptor.type = geometry->type;
    return descriptor;
}

/* Mark a slot in use for each byte that is not 0, starting at an offset, and
 * update the digest. Returns 0 if they cannot be read. */
static int read_flags(slotmem_reader_t *reader, apr_md5_ctx_t *md5,
                      apr_off_t from, slotmem_map_t *map, apr_uint32_t num)
{
    apr_uint32_t id = 0;

    while (id < num) {
        apr_uint32_t n = num - id < CHUNK ? num - id : (apr_uint32_t)CHUNK;
        const unsigned char *bytes
            = slotmem_reader_bytes(reader, from + (apr_off_t)id, n);
        apr_uint32_t i;

        if (!bytes) {
            return 0;
        }
        apr_md5_update(md5, bytes, n);
        for (i = 0; i < n; i++, id++) {
            if (bytes[i]) {
                slotmem_map_set(map, id);
            }
        }
    }
    return 1;
}

/* Read the slots straight into the segment, and update the digest. */
static int read_slots(slotmem_reader_t *reader, apr_md5_ctx_t *md5, char *slots,
                      apr_size_t len)
{
    apr_size_t done = 0;

    while (done < len) {
        apr_size_t n = len - done < CHUNK ? len - done : CHUNK;

        if (!slotmem_reader_fill(reader, SLOTMEM_FILE_HEADER + (apr_off_t)done,
                                 slots + done, n)) {
            return 0;
        }
        if (!reader->memory) {
            apr_md5_update(md5, slots + done, n);
        }
        done += n;
    }
    return 1;
}

static int layout_of(slotmem_file_layout_t *layout,
                     const slotmem_geometry_t *geometry)
{
    return slotmem_file_layout(layout, geometry->item_size,
                               geometry->item_num);
}

static int descriptor_matches(slotmem_reader_t *reader,
                              const slotmem_file_layout_t *layout,
                              const slotmem_geometry_t *geometry)
{
    slotmem_descriptor_t expected = slotmem_descriptor_of(geometry);
    const unsigned char *found = slotmem_reader_bytes(
        reader, layout->descriptor_offset, sizeof(expected));

    return found && memcmp(found, &expected, sizeof(expected)) == 0;
}

/* Make the segment empty again. len: bytes of slots that may have been read */
static void clear_segment(slotmem_segment_t *segment, apr_size_t len)
{
    memset(segment->slots, 0, len);
    memset((char *)segment->header + segment->layout.map, 0,
           slotmem_map_size(segment->map.num));
}

/* Restore the image of geometry->item_num slots if its MD5 is right; otherwise
 * leave the segment empty. Does not look at the descriptor, which the
 * distributed module of httpd before 2.4.34 did not write. md5: left at the
 * state after the last in-use byte */
static int load_image(slotmem_reader_t *reader, slotmem_segment_t *segment,
                      const slotmem_geometry_t *geometry,
                      const slotmem_file_layout_t *layout, apr_md5_ctx_t *md5)
{
    apr_size_t len = geometry->item_size * geometry->item_num;

    apr_md5_init(md5);
    if (slotmem_reader_digest(reader, md5, 0, SLOTMEM_FILE_HEADER)
        && read_slots(reader, md5, segment->slots, len)
        && read_flags(reader, md5, layout->flags_offset, &segment->map,
                      geometry->item_num)) {
        if (slotmem_reader_digest_matches(reader, md5, layout->digest_offset)) {
            return 1;
        }
        reader->digest_differs = 1;
    }
    clear_segment(segment, len);
    return 0;
}

/* The number of slots for which the file has exactly the right length, or -1.
 * form: 0 without a descriptor, 1 with one */
static apr_int64_t num_by_length(const slotmem_reader_t *reader, int form,
                                 apr_size_t item_size)
{
    apr_off_t image = SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST;
    /* The bytes per slot in the file: its content and its in-use byte. They are
     * limited, so that the sum cannot overflow: a slot that is longer than the
     * file does not fit in any case. */
    apr_off_t slot = item_size < (apr_uint64_t)reader->len
                     ? (apr_off_t)item_size + 1 : reader->len + 1;

    if (form > 0) {
        image += (apr_off_t)sizeof(slotmem_descriptor_t);
    }
    return reader->len >= image && (reader->len - image) % slot == 0
           ? (reader->len - image) / slot : -1;
}

/* Read the END of a file of this module. Returns 0 if the last bytes are not
 * one. */
static int read_end(slotmem_reader_t *reader, slotmem_end_t *end)
{
    const unsigned char *bytes = slotmem_reader_bytes(
        reader, reader->len - (apr_off_t)sizeof(*end), sizeof(*end));

    if (!bytes) {
        return 0;
    }
    memcpy(end, bytes, sizeof(*end));
    return end->magic == SLOTMEM_FILE_MAGIC;
}

/* Is the whole file an image of the requested number? Does not check its MD5. A
 * file of this module also ends with an MD5, so it must not be taken for a file
 * without a descriptor. */
static int matches_requested(slotmem_reader_t *reader,
                             const slotmem_geometry_t *requested,
                             const slotmem_file_layout_t *layout)
{
    slotmem_end_t end;
    int form;

    for (form = 0; form < 2; form++) {
        if (num_by_length(reader, form, requested->item_size)
            == (apr_int64_t)requested->item_num) {
            return form == 0 ? !read_end(reader, &end)
                             : descriptor_matches(reader, layout, requested);
        }
    }
    return 0;
}

/* Is the whole file an image of more slots than requested? */
static int holds_more_slots(slotmem_reader_t *reader,
                            const slotmem_geometry_t *requested)
{
    apr_int64_t num = num_by_length(reader, 1, requested->item_size);
    slotmem_geometry_t larger = *requested;
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;

    if (num <= (apr_int64_t)requested->item_num || num > APR_UINT32_MAX) {
        return 0;
    }
    larger.item_num = (apr_uint32_t)num;
    apr_md5_init(&md5);
    return layout_of(&layout, &larger)
           && descriptor_matches(reader, &layout, &larger)
           && slotmem_reader_digest(reader, &md5, 0, layout.digest_offset)
           && slotmem_reader_digest_matches(reader, &md5,
                                            layout.digest_offset);
}

/* Find, in one pass, the largest image of up to LIMIT slots at the start of the
 * file. Returns 0 if there is none. */
static int find_largest(slotmem_reader_t *reader,
                        const slotmem_geometry_t *requested,
                        apr_uint32_t limit, slotmem_geometry_t *largest)
{
    slotmem_geometry_t candidate = *requested;
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;
    apr_off_t digested = 0;
    apr_uint64_t num;
    int found = 0;

    apr_md5_init(&md5);
    for (num = 0; num <= limit; num++) {
        candidate.item_num = (apr_uint32_t)num;
        if (!layout_of(&layout, &candidate)
            || layout.image_len > reader->len) {
            break;
        }
        if (!descriptor_matches(reader, &layout, &candidate)) {
            continue;
        }
        if (!slotmem_reader_digest(reader, &md5, digested,
                                   layout.digest_offset)) {
            return 0;
        }
        digested = layout.digest_offset;
        if (slotmem_reader_digest_matches(reader, &md5, layout.digest_offset)) {
            *largest = candidate;
            found = 1;
        }
        else {
            reader->digest_differs = 1;
        }
    }
    return found;
}

/* Most bytes of a section, not counting the claims. */
#define SECTION_MAX ((apr_size_t)16 * 1024 * 1024)

/* Read what follows the image, and verify the MD5 of the whole file. image: the
 * digest as load_image() left it */
static int read_section(slotmem_reader_t *reader,
                        slotmem_image_section_t *section,
                        const slotmem_file_layout_t *layout,
                        const apr_md5_ctx_t *image, apr_pool_t *scratch)
{
    apr_off_t len = reader->len - layout->image_len;
    apr_md5_ctx_t md5 = *image;
    slotmem_end_t end;
    unsigned char computed[APR_MD5_DIGESTSIZE];
    char *bytes;

    if (!slotmem_reader_digest(reader, &md5, layout->digest_offset,
                               layout->image_len)) {
        return 0;
    }
    bytes = slotmem_calloc(scratch, (apr_size_t)len);
    if (!bytes) {
        reader->status = APR_ENOMEM;
        return 0;
    }
    if (!slotmem_reader_fill(reader, layout->image_len, bytes,
                             (apr_size_t)len)) {
        return 0;
    }
    section->bytes = bytes;
    section->len = (apr_size_t)len - sizeof(end);
    if (reader->memory) {
        return 1;
    }
    memcpy(&end, bytes + len - sizeof(end), sizeof(end));
    apr_md5_update(&md5, bytes, (apr_size_t)len - sizeof(end.digest));
    apr_md5_final(computed, &md5);
    return memcmp(computed, end.digest, sizeof(computed)) == 0;
}

/* Find the chunks of a section. Returns 0 if a length or the head is wrong. */
static int parse_section(slotmem_image_section_t *section,
                         apr_uint32_t item_num)
{
    slotmem_section_t head;
    apr_size_t at = sizeof(head);

    memcpy(&head, section->bytes, sizeof(head));
    if (head.magic != SLOTMEM_FILE_MAGIC
        || head.version != SLOTMEM_FILE_VERSION) {
        return 0;
    }
    while (at < section->len) {
        slotmem_chunk_t chunk;

        if (section->len - at < sizeof(chunk)) {
            return 0;
        }
        memcpy(&chunk, section->bytes + at, sizeof(chunk));
        at += sizeof(chunk);
        if (chunk.zero || chunk.length > section->len - at
            || (chunk.tag == SLOTMEM_FILE_CLAIMS && chunk.length != item_num)) {
            return 0;
        }
        if (chunk.tag == SLOTMEM_FILE_CLAIMS) {
            section->claims = section->bytes + at;
        }
        else if (chunk.tag == SLOTMEM_FILE_WORDS) {
            section->words = section->bytes + at;
            section->words_len = (apr_size_t)chunk.length;
        }
        else if (chunk.tag == SLOTMEM_FILE_LABELS) {
            section->labels = section->bytes + at;
            section->labels_len = (apr_size_t)chunk.length;
        }
        at += (apr_size_t)chunk.length;
    }
    return section->claims != NULL;
}

/* Get the shape that the end of a file of this module names. Returns 0 if the
 * file cannot have that shape. Does not check the MD5. */
static int shape_at_end(slotmem_reader_t *reader, slotmem_geometry_t *found,
                        slotmem_file_layout_t *layout)
{
    apr_off_t least = sizeof(slotmem_section_t) + sizeof(slotmem_end_t);
    slotmem_end_t end;

    if (!read_end(reader, &end) || end.version != SLOTMEM_FILE_VERSION
        || end.length != (apr_uint64_t)reader->len
        || end.item_size > (apr_uint64_t)reader->len) {
        return 0;
    }
    found->item_size = (apr_size_t)end.item_size;
    found->item_num = end.item_num;
    found->type = end.type;
    return layout_of(layout, found)
           && layout->image_len <= reader->len - least
           && reader->len - layout->image_len
              <= (apr_off_t)(SECTION_MAX + found->item_num)
           && descriptor_matches(reader, layout, found);
}

/* Read a descriptor. Returns 0 unless the shape that it names has its
 * descriptor at this offset. */
static int descriptor_at(slotmem_reader_t *reader, apr_off_t offset,
                         slotmem_geometry_t *found,
                         slotmem_file_layout_t *layout)
{
    slotmem_descriptor_t descriptor;
    const unsigned char *bytes
        = slotmem_reader_bytes(reader, offset, sizeof(descriptor));

    if (!bytes) {
        return 0;
    }
    memcpy(&descriptor, bytes, sizeof(descriptor));
    if ((apr_off_t)descriptor.item_num > offset) { /* true of most bytes */
        return 0;
    }
    found->item_size = descriptor.item_size;
    found->item_num = descriptor.item_num;
    found->type = descriptor.type;
    return layout_of(layout, found)
           && layout->descriptor_offset == offset
           && descriptor_matches(reader, layout, found);
}

/* Find, in one pass from an offset on, the largest image of any shape whose MD5
 * is right; if there is none, or verifies is 0, the last valid descriptor.
 * Returns 0 if there is no descriptor either. */
static int find_any(slotmem_reader_t *reader, slotmem_geometry_t *found,
                    apr_off_t offset, int verifies)
{
    apr_off_t last = reader->len - (apr_off_t)sizeof(slotmem_descriptor_t);
    apr_off_t digested = 0;
    apr_md5_ctx_t md5;
    int verified = 0;
    int any = 0;

    apr_md5_init(&md5);
    for (; offset <= last; offset++) {
        slotmem_geometry_t candidate;
        slotmem_file_layout_t layout;
        int this_verified = 0;
        int is_plausible;

        if (!descriptor_at(reader, offset, &candidate, &layout)) {
            continue;
        }
        if (verifies) {
            if (!slotmem_reader_digest(reader, &md5, digested,
                                       layout.digest_offset)) {
                break;
            }
            digested = layout.digest_offset;
            this_verified = slotmem_reader_digest_matches(reader, &md5,
                                                          digested);
        }
        /* A run of zeros near the start looks like a segment of no slots. Such
         * a descriptor counts only at the end of the file. */
        is_plausible = candidate.item_num || (!verifies && offset == last);
        if (this_verified || (!verified && is_plausible)) {
            *found = candidate;
            any = 1;
        }
        verified |= this_verified;
    }
    return any && reader->status == APR_SUCCESS;
}

/* Get the shape of a file of this module. Returns 0 unless the MD5 at its end
 * is that of all bytes before. */
static int identify_ours(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;

    apr_md5_init(&md5);
    return shape_at_end(reader, found, &layout)
           && slotmem_reader_digest(reader, &md5, 0,
                                    reader->len - SLOTMEM_FILE_DIGEST)
           && slotmem_reader_digest_matches(reader, &md5,
                                            reader->len - SLOTMEM_FILE_DIGEST);
}

/* Allocate an image in the shape of the file. */
static int prepare_target(slotmem_image_target_t *target,
                          slotmem_reader_t *reader,
                          const slotmem_geometry_t *geometry)
{
    slotmem_image_t *image = target->image;

    if (!image) {
        return 1;
    }
    reader->status = slotmem_segment_private(&image->segment, geometry,
                                             target->pool);
    image->claims = slotmem_calloc(target->pool, sizeof(*image->claims)
                                   * slotmem_map_words(geometry->item_num));
    if (reader->status == APR_SUCCESS && !image->claims) {
        reader->status = APR_ENOMEM;
    }
    return reader->status == APR_SUCCESS;
}

/* Can a segment of the requested shape be restored from an image? A caller that
 * decides on each slot takes any number of them. */
static int fits(const slotmem_image_target_t *target,
                const slotmem_geometry_t *geometry,
                const slotmem_geometry_t *requested)
{
    return geometry->item_size == requested->item_size
           && geometry->type == requested->type
           && (target->image || geometry->item_num <= requested->item_num);
}

/* Load a file of this module, in the shape that its end names. Returns 0 if it
 * is another file or does not fit the request: then the segment is empty. */
static int load_ours(slotmem_image_target_t *target, slotmem_reader_t *reader,
                     const slotmem_geometry_t *requested,
                     slotmem_geometry_t *geometry, apr_pool_t *scratch)
{
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;

    if (!shape_at_end(reader, geometry, &layout)
        || !fits(target, geometry, requested)
        || !prepare_target(target, reader, geometry)
        || !load_image(reader, target->segment, geometry, &layout, &md5)) {
        return 0;
    }
    if (!read_section(reader, &target->section, &layout, &md5, scratch)) {
        clear_segment(target->segment,
                      geometry->item_size * geometry->item_num);
        return 0;
    }
    if (!parse_section(&target->section, geometry->item_num)) {
        memset(&target->section, 0, sizeof(target->section));
    }
    return 1;
}

/* Load bytes in memory that have no section. They end with their descriptor,
 * and must not be searched for another shape: their digests are not checked. */
static int load_from_memory(slotmem_image_target_t *target,
                            slotmem_reader_t *reader,
                            const slotmem_geometry_t *requested,
                            slotmem_geometry_t *geometry)
{
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;

    return descriptor_at(reader, reader->len
                                 - (apr_off_t)sizeof(slotmem_descriptor_t),
                         geometry, &layout)
           && fits(target, geometry, requested)
           && prepare_target(target, reader, geometry)
           && load_image(reader, target->segment, geometry, &layout, &md5);
}

/* Load a file of the distributed module, or one of ours without a section. */
static int load_theirs(slotmem_image_target_t *target, slotmem_reader_t *reader,
                       const slotmem_geometry_t *requested,
                       slotmem_geometry_t *geometry)
{
    slotmem_file_layout_t layout;
    apr_md5_ctx_t md5;

    if (reader->memory) {
        return load_from_memory(target, reader, requested, geometry);
    }
    *geometry = *requested;
    if (layout_of(&layout, geometry)
        && matches_requested(reader, geometry, &layout)
        && prepare_target(target, reader, geometry)
        && load_image(reader, target->segment, geometry, &layout, &md5)) {
        return 1;
    }
    return (target->image || !holds_more_slots(reader, requested))
           && find_largest(reader, requested, target->image
                           ? APR_UINT32_MAX : requested->item_num, geometry)
           && layout_of(&layout, geometry)
           && prepare_target(target, reader, geometry)
           && load_image(reader, target->segment, geometry, &layout, &md5);
}

/* Copy the run-time claims from the section into the image, or mark their slots
 * in use. Returns their number. */
static apr_uint32_t apply_claims(slotmem_image_target_t *target,
                                 apr_uint32_t item_num)
{
    apr_uint32_t num = 0;
    apr_uint32_t id;

    for (id = 0; target->section.claims && id < item_num; id++) {
        if (!target->section.claims[id]) {
            continue;
        }
        if (target->image) {
            slotmem_bit_set(target->image->claims, id);
            num++;
        }
        else {
            num += (apr_uint32_t)slotmem_map_set(&target->segment->map, id);
        }
    }
    return num;
}

int slotmem_image_load(slotmem_image_target_t *target, slotmem_reader_t *reader,
                       const slotmem_geometry_t *requested,
                       slotmem_geometry_t *found, apr_pool_t *scratch)
{
    int is_ours = load_ours(target, reader, requested, found, scratch);
    /* Do not search a file of this module that does not fit: children write its
     * slots, which can hold what looks like a smaller image. */
    if (!is_ours
        && (identify_ours(reader, found) || reader->status != APR_SUCCESS
            || !load_theirs(target, reader, requested, found))) {
        return 0;
    }
    target->runtime_claims = target->with_claims
                             ? apply_claims(target, found->item_num) : 0;
    return 1;
}

int slotmem_image_identify(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    return identify_ours(reader, found)
           || find_any(reader, found, SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST,
                       1);
}

int slotmem_image_describe(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    return identify_ours(reader, found)
           || find_any(reader, found, reader->len > (apr_off_t)CHUNK
                       ? reader->len - (apr_off_t)CHUNK : 0, 0);
}

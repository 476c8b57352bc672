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
 * slotmem_image.c: which image of a segment a file holds, and how it is read;
 * see slotmem_image.h.
 *
 * Which files are restored. A file of ours says at its end what it holds, with
 * an MD5 of all that comes before: if that fits, nothing else is tried. Any
 * other file is the distributed module's, or damaged. It is an image of n slots
 * when it is long enough, the descriptor at the offset that n gives names the
 * size, number and type, and the MD5 there fits all bytes before it; what comes
 * after that is left over (the distributed module stores in place and does not
 * truncate). A file that is as a whole an image of the number requested is
 * restored; one of more slots is rejected, also when bytes in its slots look
 * like an image of fewer. In any other, one pass finds the largest image of up
 * to the number requested; it fills the first slots. Where the caller decides
 * on each slot, any number will do, and the largest image is taken.
 *
 * Digests are computed over the bytes that were read, in private memory or in a
 * segment that nobody else has yet.
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

/* Mark a slot in use for each byte that is not 0, from an offset on, with the
 * digest on the way. Returns 0 when they cannot be read. */
static int read_flags(slotmem_reader_t *reader, apr_md5_ctx_t *md5,
                      apr_off_t from, slotmem_map_t *map, apr_uint32_t num,
                      apr_uint32_t *flagged)
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
                *flagged += (apr_uint32_t)slotmem_map_set(map, id);
            }
        }
    }
    return 1;
}

/* Read the slots straight into the segment, with the digest on the way. */
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
        apr_md5_update(md5, slots + done, n);
        done += n;
    }
    return 1;
}

static int descriptor_matches(slotmem_reader_t *reader,
                              const slotmem_layout_t *layout,
                              const slotmem_geometry_t *geometry)
{
    slotmem_descriptor_t expected = slotmem_descriptor_of(geometry);
    const unsigned char *found = slotmem_reader_bytes(
        reader, layout->descriptor_offset, sizeof(expected));

    return found && memcmp(found, &expected, sizeof(expected)) == 0;
}

/* The segment is as new again. */
static void clear_segment(slotmem_segment_t *segment,
                          const slotmem_layout_t *layout)
{
    memset(segment->slots, 0, layout->slots_len);
    memset((char *)segment->header + segment->layout.map, 0,
           slotmem_map_size(segment->map.num));
}

/* Restore the image of geometry->item_num slots, with a description or (in
 * releases before 2.4.34) without one, if its MD5 fits; else leave the segment
 * empty. md5: that of all bytes up to the image's own */
static int load_image(slotmem_reader_t *reader, slotmem_segment_t *segment,
                      const slotmem_geometry_t *geometry,
                      const slotmem_layout_t *layout, apr_md5_ctx_t *md5)
{
    apr_off_t flags = SLOTMEM_FILE_HEADER + (apr_off_t)layout->slots_len;
    apr_uint32_t flagged = 0;

    apr_md5_init(md5);
    if (slotmem_reader_digest(reader, md5, 0, SLOTMEM_FILE_HEADER)
        && read_slots(reader, md5, segment->slots, layout->slots_len)
        && read_flags(reader, md5, flags, &segment->map, geometry->item_num,
                      &flagged)) {
        if (slotmem_reader_digest_matches(reader, md5, layout->digest_offset)) {
            return 1;
        }
        reader->digest_differs = 1;
    }
    clear_segment(segment, layout);
    return 0;
}

/* The number of slots of which the file has just the length, in one of the
 * two forms that the distributed module has, or -1. */
static apr_int64_t num_by_length(const slotmem_reader_t *reader, int form,
                                 apr_size_t item_size)
{
    apr_off_t image = SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST;
    /* A slot that is longer than the file is as good as one of its length. */
    apr_off_t slot = item_size < (apr_uint64_t)reader->len
                     ? (apr_off_t)item_size + 1 : reader->len + 1;

    if (form > 0) {
        image += (apr_off_t)sizeof(slotmem_descriptor_t);
    }
    return reader->len >= image && (reader->len - image) % slot == 0
           ? (reader->len - image) / slot : -1;
}

/* The end of a file of ours, if its last bytes look like one. */
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

/* Is the file as a whole an image of the number requested? Its MD5 is not
 * looked at. The MD5 that ends a file of ours would pass for the one that ends
 * a file without a descriptor. */
static int matches_requested(slotmem_reader_t *reader,
                             const slotmem_geometry_t *requested,
                             const slotmem_layout_t *layout)
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

/* Is the file as a whole an image of more slots than requested? */
static int holds_more_slots(slotmem_reader_t *reader,
                            const slotmem_geometry_t *requested)
{
    apr_int64_t num = num_by_length(reader, 1, requested->item_size);
    slotmem_geometry_t larger = *requested;
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;

    if (num <= (apr_int64_t)requested->item_num || num > APR_UINT32_MAX) {
        return 0;
    }
    larger.item_num = (apr_uint32_t)num;
    apr_md5_init(&md5);
    return slotmem_layout(&layout, &larger) == APR_SUCCESS
           && descriptor_matches(reader, &layout, &larger)
           && slotmem_reader_digest(reader, &md5, 0, layout.digest_offset)
           && slotmem_reader_digest_matches(reader, &md5,
                                            layout.digest_offset);
}

/* In one pass, the largest number of slots up to a limit of which the file
 * begins with an image. Returns 0 when there is none. */
static int find_largest(slotmem_reader_t *reader,
                        const slotmem_geometry_t *requested,
                        apr_uint32_t limit, slotmem_geometry_t *largest)
{
    slotmem_geometry_t candidate = *requested;
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;
    apr_off_t digested = 0;
    apr_uint64_t num;
    int found = 0;

    apr_md5_init(&md5);
    for (num = 0; num <= limit; num++) {
        candidate.item_num = (apr_uint32_t)num;
        if (slotmem_layout(&layout, &candidate) != APR_SUCCESS
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

/* Bytes that a section may have besides the claims. */
#define SECTION_MAX ((apr_size_t)16 * 1024 * 1024)

/* Read what follows the image and see whether its MD5 fits all bytes of the
 * file before it. md5: as load_image() left it */
static int read_section(slotmem_reader_t *reader,
                        slotmem_image_section_t *section,
                        const slotmem_layout_t *layout,
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
    memcpy(&end, bytes + len - sizeof(end), sizeof(end));
    apr_md5_update(&md5, bytes, (apr_size_t)len - sizeof(end.digest));
    apr_md5_final(computed, &md5);
    section->bytes = bytes;
    section->len = (apr_size_t)len - sizeof(end);
    return memcmp(computed, end.digest, sizeof(computed)) == 0;
}

/* Find the chunks of a section. One that lies is no section. */
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

/* The shape that the end of a file of ours names, if the file can have it: its
 * MD5 is yet to be looked at. */
static int shape_at_end(slotmem_reader_t *reader, slotmem_geometry_t *found,
                        slotmem_layout_t *layout)
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
    return slotmem_layout(layout, found) == APR_SUCCESS
           && layout->image_len <= reader->len - least
           && reader->len - layout->image_len
              <= (apr_off_t)(SECTION_MAX + found->item_num)
           && descriptor_matches(reader, layout, found);
}

/* The descriptor at an offset, if the shape that it names puts it there. */
static int descriptor_at(slotmem_reader_t *reader, apr_off_t offset,
                         slotmem_geometry_t *found, slotmem_layout_t *layout)
{
    slotmem_descriptor_t descriptor;
    const unsigned char *bytes
        = slotmem_reader_bytes(reader, offset, sizeof(descriptor));

    if (!bytes) {
        return 0;
    }
    memcpy(&descriptor, bytes, sizeof(descriptor));
    if ((apr_off_t)descriptor.item_num > offset) { /* most bytes end here */
        return 0;
    }
    found->item_size = descriptor.item_size;
    found->item_num = descriptor.item_num;
    found->type = descriptor.type;
    return slotmem_layout(layout, found) == APR_SUCCESS
           && layout->descriptor_offset == offset
           && descriptor_matches(reader, layout, found);
}

/* A description that stands where the shape it names says it should: what
 * the file holds, when that is not what was asked for. Looks at the last CHUNK
 * bytes. */
static int find_descriptor(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    apr_off_t size = sizeof(slotmem_descriptor_t);
    apr_off_t first = reader->len > (apr_off_t)CHUNK
                      ? reader->len - (apr_off_t)CHUNK : 0;
    apr_off_t offset;

    for (offset = reader->len - size; offset >= first; offset--) {
        slotmem_layout_t layout;

        if (!slotmem_reader_bytes(reader, first,
                                  (apr_size_t)(reader->len - first))) {
            return 0;
        }
        /* A run of zeros names no slots, and would fit near any start. */
        if (descriptor_at(reader, offset, found, &layout)
            && (found->item_num || offset + size == reader->len)) {
            return 1;
        }
    }
    return 0;
}

/* In one pass, the largest image that the file begins with, of whatever shape;
 * if there is none, the last description that stands where it should. Returns
 * 0 when there is none either. */
static int find_any_image(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    apr_off_t last = reader->len - (apr_off_t)sizeof(slotmem_descriptor_t);
    apr_off_t digested = 0;
    apr_off_t offset;
    apr_md5_ctx_t md5;
    int verified = 0;
    int any = 0;

    apr_md5_init(&md5);
    for (offset = SLOTMEM_FILE_HEADER + SLOTMEM_FILE_DIGEST; offset <= last;
         offset++) {
        slotmem_geometry_t candidate;
        slotmem_layout_t layout;
        int this_verified;

        if (!descriptor_at(reader, offset, &candidate, &layout)) {
            continue;
        }
        if (!slotmem_reader_digest(reader, &md5, digested,
                                   layout.digest_offset)) {
            break;
        }
        digested = layout.digest_offset;
        this_verified = slotmem_reader_digest_matches(reader, &md5, digested);
        /* A run of zeros names no slots. */
        if (this_verified || (!verified && candidate.item_num)) {
            *found = candidate;
            any = 1;
        }
        verified |= this_verified;
    }
    return any && reader->status == APR_SUCCESS;
}

/* The shape of a file of ours: all of its bytes fit the MD5 at its end. */
static int identify_ours(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;

    apr_md5_init(&md5);
    return shape_at_end(reader, found, &layout)
           && slotmem_reader_digest(reader, &md5, 0,
                                    reader->len - SLOTMEM_FILE_DIGEST)
           && slotmem_reader_digest_matches(reader, &md5,
                                            reader->len - SLOTMEM_FILE_DIGEST);
}

/* An image gets memory in the shape that was found. */
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

/* A file of ours, in the shape that its end names. Returns 0 when it is none,
 * or does not serve: then the segment is as new. */
static int load_ours(slotmem_image_target_t *target, slotmem_reader_t *reader,
                     const slotmem_geometry_t *requested,
                     slotmem_geometry_t *geometry, apr_pool_t *scratch)
{
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;

    if (!shape_at_end(reader, geometry, &layout)
        || geometry->item_size != requested->item_size
        || geometry->type != requested->type
        || (!target->image && geometry->item_num > requested->item_num)
        || !prepare_target(target, reader, geometry)
        || !load_image(reader, target->segment, geometry, &layout, &md5)) {
        return 0;
    }
    if (!read_section(reader, &target->section, &layout, &md5, scratch)) {
        clear_segment(target->segment, &layout);
        return 0;
    }
    if (!parse_section(&target->section, geometry->item_num)) {
        memset(&target->section, 0, sizeof(target->section));
    }
    return 1;
}

/* A file of the distributed module's. */
static int load_theirs(slotmem_image_target_t *target, slotmem_reader_t *reader,
                       const slotmem_geometry_t *requested,
                       slotmem_geometry_t *geometry)
{
    slotmem_layout_t layout;
    apr_md5_ctx_t md5;

    *geometry = *requested;
    if (slotmem_layout(&layout, geometry) == APR_SUCCESS
        && matches_requested(reader, geometry, &layout)
        && prepare_target(target, reader, geometry)
        && load_image(reader, target->segment, geometry, &layout, &md5)) {
        return 1;
    }
    return (target->image || !holds_more_slots(reader, requested))
           && find_largest(reader, requested, target->image
                           ? APR_UINT32_MAX : requested->item_num, geometry)
           && slotmem_layout(&layout, geometry) == APR_SUCCESS
           && prepare_target(target, reader, geometry)
           && load_image(reader, target->segment, geometry, &layout, &md5);
}

/* Take the run-time claims out of the section: into the image, or as slots in
 * use. */
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
    target->is_ours = load_ours(target, reader, requested, found, scratch);
    /* A file of ours that does not serve is not searched: its slots, which a
     * child writes, can hold what looks like a smaller image. */
    if (!target->is_ours
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
    return identify_ours(reader, found) || find_any_image(reader, found);
}

int slotmem_image_describe(slotmem_reader_t *reader, slotmem_geometry_t *found)
{
    return identify_ours(reader, found) || find_descriptor(reader, found);
}

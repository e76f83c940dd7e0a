/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a package: a tar archive in independent zstd frames, with a seek table behind them (the
 * zstd seekable format).  Whoever knows zstd and tar reads it from front to back; who knows more finds
 * every part of a device without the rest.
 *
 *     frame        512 bytes     header of the tar entry of a device, whose name is the entry's
 *     frame ...    the device    pieces of `frameSize` bytes; runs of zeros are frames of their own
 *     ...                        the next device
 *     frame                      entry .drafter/frames/NAME, for each device: its frames, as below
 *     frame                      entry .drafter/manifest.json
 *     frame                      entry .drafter/signature, if there is one, and the end of the archive
 *     skippable frame            the seek table: compressed and plain size of each frame
 *
 * A device's table of frames has the sizes of each frame, XXH3-128 of what it holds, by which damage is
 * found and unchanged pieces are known again, and BLAKE2b-256 of the frame itself.  The manifest has
 * BLAKE2b-256 of each table, and the signature is over the manifest.  drafter-package(5) has it in full.
 */
#ifndef PACK_FORMAT_H
#define PACK_FORMAT_H

#include <drafter/common.h>

#define PACK_FRAME_DEFAULT (UINT32_C(128) << 10)
#define PACK_FRAME_MIN (UINT32_C(64) << 10)
#define PACK_FRAME_MAX (UINT32_C(1) << 20)
#define PACK_ZERO_MAX (UINT32_C(16) << 20) /* of one frame; a multiple of every frame size */
#define PACK_BLOCK ((size_t)512)           /* of tar */
#define PACK_DEVICES_MAX 64
#define PACK_HASH_SIZE 32
#define PACK_CONTENT_SIZE 16

#define PACK_PREFIX ".drafter/"
#define PACK_FRAMES PACK_PREFIX "frames/"
#define PACK_MANIFEST PACK_PREFIX "manifest.json"
#define PACK_SIGNATURE PACK_PREFIX "signature"

/* ---- tables of frames */

struct pack_frame {
    uint32_t compressed, size;          /* size: plain, with tar's padding at the end of a device */
    uint8_t content[PACK_CONTENT_SIZE]; /* XXH3-128, canonical; all zeros: the frame holds zeros */
    uint8_t hash[PACK_HASH_SIZE];       /* BLAKE2b-256 of the compressed frame */
};
#define PACK_FRAME_ENTRY 56

void pack_frame_encode(const struct pack_frame *frame, uint8_t ret_entry[PACK_FRAME_ENTRY]);
void pack_frame_decode(const uint8_t entry[PACK_FRAME_ENTRY], struct pack_frame *ret_frame);

bool pack_frame_is_zero(const struct pack_frame *frame);
void pack_hash(const void *data, size_t length, uint8_t ret_hash[PACK_HASH_SIZE]);
void pack_content(const void *data, size_t length, uint8_t ret_content[PACK_CONTENT_SIZE]);

/* ---- frames of zeros, the same whatever the version of libzstd */

#define PACK_ZERO_FRAME_MAX (10 + 4 * (PACK_ZERO_MAX >> 17))

/* A frame of `size` zeros, 1 to PACK_ZERO_MAX: its length. */
size_t pack_zero_frame(uint32_t size, uint8_t ret_frame[PACK_ZERO_FRAME_MAX]);

/* ---- tar */

/* What an entry of `size` bytes takes up. */
static inline uint64_t pack_padded(uint64_t size)
{
    return (size + PACK_BLOCK - 1) / PACK_BLOCK * PACK_BLOCK;
}

/* Header of a regular file; `name` has at most 99 characters. */
void pack_tar_header(const char *name, uint64_t size, uint8_t ret_block[PACK_BLOCK]);

/* What a header says, of any tar; -EINVAL: it is none.  A block of zeros has an empty name. */
struct pack_tar_entry {
    char name[257];
    char type; /* '0' a file; 'x', 'g', 'L', 'K': about the entry that follows */
    uint64_t size;
};
int pack_tar_parse(const uint8_t block[PACK_BLOCK], struct pack_tar_entry *ret_entry);

/* ---- the seek table */

#define PACK_SEEK_HEADER 8
#define PACK_SEEK_ENTRY 8
#define PACK_SEEK_FOOTER 9
#define PACK_FRAMES_MAX (UINT32_C(1) << 26) /* 8 TiB in the smallest frames: 3 GiB of tables */

void pack_seek_header(uint32_t frames, uint8_t ret_header[PACK_SEEK_HEADER]);
void pack_seek_footer(uint32_t frames, uint8_t ret_footer[PACK_SEEK_FOOTER]);

/* -EINVAL: it does not end with a seek table that we understand. */
int pack_seek_parse(const uint8_t footer[PACK_SEEK_FOOTER], uint32_t *ret_frames,
                    size_t *ret_entry_size);

static inline void pack_put32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline uint32_t pack_get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

#endif

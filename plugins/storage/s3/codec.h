/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an object of a device looks like.  Little-endian:
 *
 *      0  8  magic: "DrafterB" a block, "DrafterI" a part of the index, "DrafterR" the root
 *      8  4  version, 1
 *     12  4  flags: 1 compressed by zstd, 2 encrypted by XChaCha20-Poly1305
 *     16  8  place: offset of the block in the device, number of the part of the index, or 0
 *     24  4  length of the content
 *     28  4  length of the payload that follows the header
 *     32 16  BLAKE2b-128 of the content; zeros with encryption, as it would tell of it
 *     48 24  nonce, zeros without encryption
 *     72     payload: the content, compressed, then encrypted with the header as associated data
 *
 * Readers take the header as a claim: an object is believed when the hash of its content is the one that
 * was asked for.
 */
#ifndef S3_CODEC_H
#define S3_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEC_HASH 16 /* as in the HASHES of a migration */
#define CODEC_HEADER 72
#define CODEC_KEY 32

enum codec_kind {
    CODEC_BLOCK = 'B',
    CODEC_INDEX = 'I',
    CODEC_ROOT = 'R',
};

struct codec {
    int level;        /* of zstd; 0: not compressed */
    bool encrypted;
    uint8_t key[CODEC_KEY]; /* derived from the operator's */
};

/* `key`: CODEC_KEY bytes, or NULL for no encryption. */
void codec_init(struct codec *codec, int level, const uint8_t *key);
void codec_wipe(struct codec *codec);

void codec_hash(const void *content, size_t length, uint8_t hash[CODEC_HASH]);

/* The most bytes that an object of `length` bytes of content takes. */
size_t codec_bound(size_t length);

/* How long the content of an object says it is; 0 when it says nothing. */
size_t codec_claimed(const void *object, size_t length);

/* Writes the object to `object` (codec_bound bytes); returns its length or a negative errno. */
int64_t codec_encode(const struct codec *codec, enum codec_kind kind, uint64_t place,
                     const void *content, size_t length, const uint8_t hash[CODEC_HASH], void *object);

/*
 * Reads an object into `content` of `size` bytes and returns the content's length; -EBADMSG when it is
 * not what `kind`, `place` and `hash` (NULL: whatever the header says, or the seal vouches for) ask for.
 */
int64_t codec_decode(const struct codec *codec, enum codec_kind kind, uint64_t place,
                     const uint8_t *hash, const void *object, size_t length, void *content,
                     size_t size);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "codec.h"

#include "util/cleanup.h"
#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <zstd.h>

#define FORMAT 1
#define FLAG_ZSTD 1u
#define FLAG_SEALED 2u
#define TAG crypto_aead_xchacha20poly1305_ietf_ABYTES

struct header {
    char magic[8];
    uint32_t version, flags;
    uint64_t place;
    uint32_t content, payload;
    uint8_t hash[CODEC_HASH];
    uint8_t nonce[24];
};
_Static_assert(sizeof(struct header) == CODEC_HEADER, "the header has no padding");

void codec_init(struct codec *codec, int level, const uint8_t *key)
{
    memset(codec, 0, sizeof *codec);
    codec->level = level;
    codec->encrypted = key != NULL;
    if (key)
        crypto_kdf_derive_from_key(codec->key, CODEC_KEY, 1, "DrafterS", key);
}

void codec_wipe(struct codec *codec)
{
    sodium_memzero(codec, sizeof *codec);
}

void codec_hash(const void *content, size_t length, uint8_t hash[CODEC_HASH])
{
    crypto_generichash(hash, CODEC_HASH, content, length, NULL, 0);
}

size_t codec_bound(size_t length)
{
    return CODEC_HEADER + ZSTD_compressBound(length) + TAG;
}

size_t codec_claimed(const void *object, size_t length)
{
    struct header header;

    if (length < sizeof header)
        return 0;
    memcpy(&header, object, sizeof header);
    return le32toh(header.content);
}

static void set_magic(char magic[8], enum codec_kind kind)
{
    memcpy(magic, "Drafter", 7);
    magic[7] = (char)kind;
}

/* Compresses where that makes it smaller. */
static size_t squeeze(const struct codec *codec, struct header *header, const void *content,
                      size_t length, uint8_t *payload)
{
    size_t n = codec->level ? ZSTD_compress(payload, ZSTD_compressBound(length), content, length,
                                            codec->level)
                            : length;

    if (codec->level && !ZSTD_isError(n) && n < length) {
        header->flags = FLAG_ZSTD;
        return n;
    }
    memcpy(payload, content, length);
    return length;
}

int64_t codec_encode(const struct codec *codec, enum codec_kind kind, uint64_t place,
                     const void *content, size_t length, const uint8_t hash[CODEC_HASH], void *object)
{
    struct header header = {.version = htole32(FORMAT), .place = htole64(place),
                            .content = htole32((uint32_t)length)};
    uint8_t *payload = (uint8_t *)object + CODEC_HEADER;
    size_t n;

    if (length > INT32_MAX)
        return -EINVAL;
    set_magic(header.magic, kind);
    if (!codec->encrypted)
        memcpy(header.hash, hash, CODEC_HASH);
    n = squeeze(codec, &header, content, length, payload);
    if (codec->encrypted) {
        header.flags |= FLAG_SEALED;
        randombytes_buf(header.nonce, sizeof header.nonce);
    }
    header.flags = htole32(header.flags);
    header.payload = htole32((uint32_t)(n + (codec->encrypted ? TAG : 0)));
    memcpy(object, &header, sizeof header);
    if (codec->encrypted)
        crypto_aead_xchacha20poly1305_ietf_encrypt(payload, NULL, payload, n, object, CODEC_HEADER,
                                                   NULL, header.nonce, codec->key);
    return (int64_t)(CODEC_HEADER + le32toh(header.payload));
}

static int check_header(const struct codec *codec, enum codec_kind kind, uint64_t place,
                        const struct header *header, size_t length, size_t size)
{
    char magic[8];
    uint32_t flags = le32toh(header->flags);

    set_magic(magic, kind);
    if (memcmp(header->magic, magic, sizeof magic) != 0 || le32toh(header->version) != FORMAT)
        return -EBADMSG;
    if (flags & ~(FLAG_ZSTD | FLAG_SEALED) || !(flags & FLAG_SEALED) == codec->encrypted)
        return -EBADMSG;
    if (le64toh(header->place) != place || le32toh(header->content) > size ||
        le32toh(header->payload) != length - CODEC_HEADER)
        return -EBADMSG;
    return 0;
}

/* The payload without encryption, in `plain`; returns its length or -EBADMSG. */
static int64_t unseal(const struct codec *codec, const struct header *header, const uint8_t *payload,
                      uint8_t *plain)
{
    size_t length = le32toh(header->payload);
    unsigned long long n = length;

    if (!codec->encrypted)
        memcpy(plain, payload, length);
    else if (length < TAG || crypto_aead_xchacha20poly1305_ietf_decrypt(
                                 plain, &n, NULL, payload, length, (const uint8_t *)header,
                                 sizeof *header, header->nonce, codec->key) != 0)
        return -EBADMSG;
    return (int64_t)n;
}

int64_t codec_decode(const struct codec *codec, enum codec_kind kind, uint64_t place,
                     const uint8_t *hash, const void *object, size_t length, void *content,
                     size_t size)
{
    cleanup_free uint8_t *plain = malloc(length + 1);
    struct header header;
    uint8_t found[CODEC_HASH];
    size_t want;
    int64_t n;
    int rc;

    if (!plain)
        return -ENOMEM;
    if (length < CODEC_HEADER)
        return -EBADMSG;
    memcpy(&header, object, sizeof header);
    rc = check_header(codec, kind, place, &header, length, size);
    if (rc)
        return rc;
    want = le32toh(header.content);
    n = unseal(codec, &header, (const uint8_t *)object + CODEC_HEADER, plain);
    if (n < 0)
        return n;
    if (le32toh(header.flags) & FLAG_ZSTD) {
        size_t got = ZSTD_decompress(content, want, plain, (size_t)n);

        n = ZSTD_isError(got) ? -EBADMSG : (int64_t)got;
    } else if ((size_t)n <= want) {
        memcpy(content, plain, (size_t)n);
    }
    if (n != (int64_t)want)
        return -EBADMSG;
    if (!hash && codec->encrypted)
        return n;
    codec_hash(content, want, found);
    return memcmp(found, hash ? hash : header.hash, CODEC_HASH) == 0 ? n : -EBADMSG;
}

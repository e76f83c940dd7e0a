/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#include "alert.h"
#include "schedule.h"

#include <string.h>

#define BLOCK 64 /* of the stream cipher */

void tls_keys_set(struct tls_keys *keys, const uint8_t *secret)
{
    tls_expand_label(secret, "key", NULL, 0, keys->key, sizeof(keys->key));
    tls_expand_label(secret, "iv", NULL, 0, keys->iv, sizeof(keys->iv));
    keys->sequence = 0;
}

void tls_nonce(const uint8_t iv[TLS_NONCE_SIZE], uint64_t sequence, uint8_t ret_nonce[TLS_NONCE_SIZE])
{
    memcpy(ret_nonce, iv, TLS_NONCE_SIZE);
    for (unsigned i = 0; i < 8; i++)
        ret_nonce[TLS_NONCE_SIZE - 1 - i] ^= (uint8_t)(sequence >> 8 * i);
}

void tls_record_header(size_t length, uint8_t ret_header[TLS_RECORD_HEADER])
{
    size_t sealed = length + 1 + TLS_RECORD_TAG;

    ret_header[0] = TLS_APPLICATION_DATA;
    ret_header[1] = 3;
    ret_header[2] = 3;
    ret_header[3] = (uint8_t)(sealed >> 8);
    ret_header[4] = (uint8_t)sealed;
}

/* The key stream of one record from a byte on that need not begin a block. */
struct stream {
    const uint8_t *key, *nonce;
    uint32_t block;     /* the next one; that of the authenticator's key is 0 */
    unsigned used;      /* bytes of `pad`; BLOCK when it is used up */
    uint8_t pad[BLOCK]; /* the block before `block` */
};

static void stream_fill(struct stream *stream)
{
    memset(stream->pad, 0, sizeof(stream->pad));
    crypto_stream_chacha20_ietf_xor_ic(stream->pad, stream->pad, BLOCK, stream->nonce, stream->block,
                                       stream->key);
    stream->block++;
    stream->used = 0;
}

static void stream_init(struct stream *stream, const uint8_t *key, const uint8_t *nonce, size_t offset)
{
    stream->key = key;
    stream->nonce = nonce;
    stream->block = (uint32_t)(1 + offset / BLOCK);
    stream->used = BLOCK;
    if (offset % BLOCK) {
        stream_fill(stream);
        stream->used = (unsigned)(offset % BLOCK);
    }
}

static void stream_xor(struct stream *stream, uint8_t *to, const uint8_t *from, size_t length)
{
    while (length > 0) {
        size_t part = length & ~(size_t)(BLOCK - 1);

        if (stream->used == BLOCK && part) {
            crypto_stream_chacha20_ietf_xor_ic(to, from, part, stream->nonce, stream->block,
                                               stream->key);
            stream->block += (uint32_t)(part / BLOCK);
        } else {
            if (stream->used == BLOCK)
                stream_fill(stream);
            part = length < BLOCK - stream->used ? length : BLOCK - stream->used;
            for (size_t i = 0; i < part; i++)
                to[i] = from[i] ^ stream->pad[stream->used + i];
            stream->used += (unsigned)part;
        }
        to += part;
        from += part;
        length -= part;
    }
}

/* The tag of RFC 8439, section 2.8, over a record's header and `length` bytes of ciphertext. */
static void authenticate(const uint8_t *key, const uint8_t *nonce, const uint8_t *header,
                         const uint8_t *ciphertext, size_t length, uint8_t ret_tag[TLS_RECORD_TAG])
{
    static const uint8_t zeros[16];
    crypto_onetimeauth_poly1305_state state;
    uint8_t once[BLOCK], lengths[16] = {TLS_RECORD_HEADER};

    for (unsigned i = 0; i < 8; i++)
        lengths[8 + i] = (uint8_t)((uint64_t)length >> 8 * i);
    crypto_stream_chacha20_ietf(once, sizeof(once), nonce, key);
    crypto_onetimeauth_poly1305_init(&state, once);
    crypto_onetimeauth_poly1305_update(&state, header, TLS_RECORD_HEADER);
    crypto_onetimeauth_poly1305_update(&state, zeros, 16 - TLS_RECORD_HEADER);
    crypto_onetimeauth_poly1305_update(&state, ciphertext, length);
    crypto_onetimeauth_poly1305_update(&state, zeros, -length & 15);
    crypto_onetimeauth_poly1305_update(&state, lengths, sizeof(lengths));
    crypto_onetimeauth_poly1305_final(&state, ret_tag);
    sodium_memzero(once, sizeof(once));
    sodium_memzero(&state, sizeof(state));
}

/* Takes what `from` has next, at most `length` bytes. */
static size_t cursor_next(struct tls_cursor *from, size_t length, const uint8_t **ret_bytes)
{
    size_t part;

    while (from->offset == from->vector->iov_len) {
        from->vector++;
        from->count--;
        from->offset = 0;
    }
    part = from->vector->iov_len - from->offset;
    if (part > length)
        part = length;
    *ret_bytes = (const uint8_t *)from->vector->iov_base + from->offset;
    from->offset += part;
    return part;
}

void tls_seal(struct tls_keys *keys, enum tls_content type, struct tls_cursor *from, size_t length,
              uint8_t *record)
{
    const uint8_t last = (uint8_t)type;
    uint8_t nonce[TLS_NONCE_SIZE], *out = record + TLS_RECORD_HEADER;
    struct stream stream;

    tls_record_header(length, record);
    tls_nonce(keys->iv, keys->sequence++, nonce);
    stream_init(&stream, keys->key, nonce, 0);
    for (size_t left = length; left > 0;) {
        const uint8_t *bytes;
        size_t part = cursor_next(from, left, &bytes);

        stream_xor(&stream, out, bytes, part);
        out += part;
        left -= part;
    }
    stream_xor(&stream, out, &last, 1);
    sodium_memzero(&stream, sizeof(stream));
    authenticate(keys->key, nonce, record, record + TLS_RECORD_HEADER, length + 1, out + 1);
}

/* Finds the type behind the content, before the zeros of the padding (section 5.4). */
static int find_type(const struct tls_keys *keys, size_t length, struct tls_opened *opened)
{
    while (length > 0) {
        size_t begin = (length - 1) / BLOCK * BLOCK;
        uint8_t block[BLOCK];
        struct stream stream;

        stream_init(&stream, keys->key, opened->nonce, begin);
        stream_xor(&stream, block, opened->ciphertext + begin, length - begin);
        while (length > begin && block[length - 1 - begin] == 0)
            length--;
        if (length > begin)
            opened->type = block[length - 1 - begin];
        sodium_memzero(block, sizeof(block));
        sodium_memzero(&stream, sizeof(stream));
        if (length > begin) {
            opened->length = length - 1;
            return TLS_OK;
        }
    }
    return TLS_ALERT_UNEXPECTED_MESSAGE;
}

int tls_open(struct tls_keys *keys, const uint8_t *record, size_t length, struct tls_opened *ret_opened)
{
    struct tls_opened opened = {.ciphertext = record + TLS_RECORD_HEADER};
    uint8_t tag[TLS_RECORD_TAG];
    size_t sealed = length - TLS_RECORD_HEADER;
    int alert;

    if (record[0] != TLS_APPLICATION_DATA)
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    if (sealed > TLS_CIPHERTEXT_MAX)
        return TLS_ALERT_RECORD_OVERFLOW;
    if (sealed < 1 + TLS_RECORD_TAG)
        return TLS_ALERT_BAD_RECORD_MAC;
    sealed -= TLS_RECORD_TAG;
    tls_nonce(keys->iv, keys->sequence, opened.nonce);
    authenticate(keys->key, opened.nonce, record, opened.ciphertext, sealed, tag);
    if (crypto_verify_16(tag, opened.ciphertext + sealed))
        return TLS_ALERT_BAD_RECORD_MAC;
    keys->sequence++;
    if (sealed > TLS_PLAINTEXT_MAX + 1) /* section 5.4: padding makes no record longer */
        return TLS_ALERT_RECORD_OVERFLOW;
    alert = find_type(keys, sealed, &opened);
    if (alert == TLS_OK)
        *ret_opened = opened;
    return alert;
}

void tls_take(const struct tls_keys *keys, struct tls_opened *opened, uint8_t *to, size_t length)
{
    struct stream stream;

    stream_init(&stream, keys->key, opened->nonce, opened->done);
    stream_xor(&stream, to, opened->ciphertext + opened->done, length);
    opened->done += length;
    sodium_memzero(&stream, sizeof(stream));
}

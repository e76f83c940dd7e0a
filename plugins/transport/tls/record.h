/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Record protection (RFC 8446, section 5.2) with ChaCha20-Poly1305 (RFC 8439), in memory.
 *
 * libsodium's AEAD functions want a record's plaintext in one piece with its type behind it, so each byte
 * would be copied once more than needed.  The same construction from the same library's stream cipher and
 * authenticator seals straight from scattered buffers, and opens into them, however they are cut: a tag is
 * verified over the ciphertext where it lies, then pieces of it are decrypted to where they belong.
 */
#ifndef TLS_RECORD_H
#define TLS_RECORD_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define TLS_RECORD_HEADER 5
#define TLS_RECORD_TAG crypto_onetimeauth_poly1305_BYTES
#define TLS_PLAINTEXT_MAX 16384
#define TLS_CIPHERTEXT_MAX (TLS_PLAINTEXT_MAX + 256)
#define TLS_RECORD_MAX (TLS_RECORD_HEADER + TLS_CIPHERTEXT_MAX)
#define TLS_KEY_SIZE crypto_aead_chacha20poly1305_ietf_KEYBYTES
#define TLS_NONCE_SIZE crypto_aead_chacha20poly1305_ietf_NPUBBYTES

/* What a record of `length` bytes of content takes. */
#define TLS_SEALED_SIZE(length) (TLS_RECORD_HEADER + (length) + 1 + TLS_RECORD_TAG)

enum tls_content {
    TLS_CHANGE_CIPHER_SPEC = 20,
    TLS_ALERT = 21,
    TLS_HANDSHAKE = 22,
    TLS_APPLICATION_DATA = 23,
};

/* One direction.  Belongs into locked memory. */
struct tls_keys {
    uint8_t key[TLS_KEY_SIZE];
    uint8_t iv[TLS_NONCE_SIZE];
    uint64_t sequence; /* of the next record */
};

/* Traffic keys of a secret (section 7.3); the sequence begins at 0. */
void tls_keys_set(struct tls_keys *keys, const uint8_t *secret);

/* The nonce of the record `sequence` (section 5.3). */
void tls_nonce(const uint8_t iv[TLS_NONCE_SIZE], uint64_t sequence, uint8_t ret_nonce[TLS_NONCE_SIZE]);

/* The five bytes in front of a protected record with `length` bytes of content, which are its AAD. */
void tls_record_header(size_t length, uint8_t ret_header[TLS_RECORD_HEADER]);

/* A place in scattered memory. */
struct tls_cursor {
    const struct iovec *vector;
    int count;
    size_t offset; /* in vector[0] */
};

/*
 * Seals the next `length` (at most TLS_PLAINTEXT_MAX) bytes behind the cursor, which moves on.  Writes
 * TLS_SEALED_SIZE(length) bytes to `record`, which overlaps none of them.
 */
void tls_seal(struct tls_keys *keys, enum tls_content type, struct tls_cursor *from, size_t length,
              uint8_t *record);

/* A record whose tag was right and whose content is decrypted piece by piece. */
struct tls_opened {
    enum tls_content type;
    const uint8_t *ciphertext;
    size_t length; /* of the content */
    size_t done;   /* of it, decrypted */
    uint8_t nonce[TLS_NONCE_SIZE];
};

/*
 * Verifies a whole record, header included (`length` bytes at `record`, at least a header): TLS_OK, or the
 * alert that it deserves.  The bytes stay where they are until their content was taken.
 */
int tls_open(struct tls_keys *keys, const uint8_t *record, size_t length, struct tls_opened *ret_opened);

/* Decrypts the next `length` bytes of content; `to` may be where the ciphertext of them is. */
void tls_take(const struct tls_keys *keys, struct tls_opened *opened, uint8_t *to, size_t length);

#endif

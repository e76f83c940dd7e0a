/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys of nodes: Ed25519, as PEM files that other tools read, too. */
#ifndef TRUST_KEYGEN_H
#define TRUST_KEYGEN_H

#include <drafter/transport.h>

#define KEYGEN_SEED_SIZE 32
#define KEYGEN_KEY_SIZE 32
#define KEYGEN_SPKI_SIZE (12 + KEYGEN_KEY_SIZE)
#define KEYGEN_CERTIFICATE_MAX 512

/* The key as a SubjectPublicKeyInfo. */
void keygen_public(const uint8_t public_key[KEYGEN_KEY_SIZE], uint8_t ret_spki[KEYGEN_SPKI_SIZE]);

/* "sha256:" and the base64 of the SHA-256 of the key's SubjectPublicKeyInfo. */
void keygen_identity(const uint8_t public_key[KEYGEN_KEY_SIZE],
                     char ret_identity[DRAFTER_IDENTITY_SIZE]);

/*
 * A self-signed certificate (RFC 5280, RFC 8410) of the key of this seed, from `now` (seconds since 1970) on,
 * without an end: whoever pins the key decides how long it is good.  The result is its length.
 */
size_t keygen_certificate(const uint8_t seed[KEYGEN_SEED_SIZE], const char *name, int64_t now,
                          uint8_t ret_der[KEYGEN_CERTIFICATE_MAX]);

/*
 * Makes a key and writes PATH.key (mode 0600), PATH.pub and PATH.crt; refuses to replace any of them.
 * `ret_identity` is what others put into their trust files.
 */
int keygen_write(const char *path, char ret_identity[DRAFTER_IDENTITY_SIZE],
                 struct drafter_error *err);

/* Reads a key that keygen_write wrote; the caller wipes it. */
int keygen_read(const char *path, uint8_t ret_seed[KEYGEN_SEED_SIZE], struct drafter_error *err);

#endif

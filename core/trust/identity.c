/* SPDX-License-Identifier: BSD-2-Clause */
#include "trust/keygen.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* Everything of a SubjectPublicKeyInfo (RFC 8410) that is in front of the key. */
static const uint8_t public_prefix[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                        0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

void keygen_public(const uint8_t public_key[KEYGEN_KEY_SIZE], uint8_t ret_spki[KEYGEN_SPKI_SIZE])
{
    memcpy(ret_spki, public_prefix, sizeof(public_prefix));
    memcpy(ret_spki + sizeof(public_prefix), public_key, KEYGEN_KEY_SIZE);
}

void keygen_identity(const uint8_t public_key[KEYGEN_KEY_SIZE],
                     char ret_identity[DRAFTER_IDENTITY_SIZE])
{
    uint8_t spki[KEYGEN_SPKI_SIZE], hash[crypto_hash_sha256_BYTES];
    char base64[sodium_base64_ENCODED_LEN(sizeof(hash), sodium_base64_VARIANT_ORIGINAL)];

    keygen_public(public_key, spki);
    crypto_hash_sha256(hash, spki, sizeof(spki));
    sodium_bin2base64(base64, sizeof(base64), hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
    snprintf(ret_identity, DRAFTER_IDENTITY_SIZE, "sha256:%s", base64);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/signature.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <sodium.h>

int pack_sign(const char *key_path, const char *manifest, size_t length, char **ret_text,
              struct drafter_error *err)
{
    uint8_t seed[KEYGEN_SEED_SIZE], key[crypto_sign_PUBLICKEYBYTES];
    uint8_t secret[crypto_sign_SECRETKEYBYTES], signature[crypto_sign_BYTES];
    char key_hex[2 * sizeof(key) + 1], hex[2 * sizeof(signature) + 1];
    cleanup_free char *message = pack_signed_text(manifest, length);
    cleanup_json json_t *object = NULL;
    int rc = keygen_read(key_path, seed, err);

    if (rc)
        return rc;
    if (!message)
        return drafter_error_set(err, ENOMEM, "out of memory");
    crypto_sign_seed_keypair(key, secret, seed);
    crypto_sign_detached(signature, NULL, (uint8_t *)message, PACK_SIGNED_LENGTH(length), secret);
    sodium_memzero(seed, sizeof(seed));
    sodium_memzero(secret, sizeof(secret));
    sodium_bin2hex(key_hex, sizeof(key_hex), key, sizeof(key));
    sodium_bin2hex(hex, sizeof(hex), signature, sizeof(signature));
    object = json_pack("{s:s, s:s, s:s}", "algorithm", "ed25519", "key", key_hex, "signature", hex);
    *ret_text = object ? json_text(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    return *ret_text ? 0 : drafter_error_set(err, ENOMEM, "out of memory");
}

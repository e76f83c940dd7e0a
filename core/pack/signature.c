/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/signature.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <sodium.h>
#include <string.h>

/* So that no signature of anything else is one of a manifest. */
static const char context[] = "drafter package manifest 1\n";

static char *message_of(const char *manifest, size_t length)
{
    char *message = malloc(sizeof(context) + length);

    if (message) {
        memcpy(message, context, sizeof(context));
        memcpy(message + sizeof(context), manifest, length);
    }
    return message;
}

int pack_sign(const char *key_path, const char *manifest, size_t length, char **ret_text,
              struct drafter_error *err)
{
    uint8_t seed[KEYGEN_SEED_SIZE], key[crypto_sign_PUBLICKEYBYTES];
    uint8_t secret[crypto_sign_SECRETKEYBYTES], signature[crypto_sign_BYTES];
    char key_hex[2 * sizeof(key) + 1], hex[2 * sizeof(signature) + 1];
    cleanup_free char *message = message_of(manifest, length);
    cleanup_json json_t *object = NULL;
    int rc = keygen_read(key_path, seed, err);

    if (rc)
        return rc;
    if (!message)
        return drafter_error_set(err, ENOMEM, "out of memory");
    crypto_sign_seed_keypair(key, secret, seed);
    crypto_sign_detached(signature, NULL, (uint8_t *)message, sizeof(context) + length, secret);
    sodium_memzero(seed, sizeof(seed));
    sodium_memzero(secret, sizeof(secret));
    sodium_bin2hex(key_hex, sizeof(key_hex), key, sizeof(key));
    sodium_bin2hex(hex, sizeof(hex), signature, sizeof(signature));
    object = json_pack("{s:s, s:s, s:s}", "algorithm", "ed25519", "key", key_hex, "signature", hex);
    *ret_text = object ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    return *ret_text ? 0 : drafter_error_set(err, ENOMEM, "out of memory");
}

static bool take(const json_t *object, const char *name, uint8_t *bytes, size_t size)
{
    const char *hex = json_string_value(json_object_get(object, name));
    size_t length;

    return hex && !sodium_hex2bin(bytes, size, hex, strlen(hex), NULL, &length, NULL) &&
           length == size;
}

int pack_signature_check(const char *text, size_t text_length, const char *manifest, size_t length,
                         char ret_identity[DRAFTER_IDENTITY_SIZE], struct drafter_error *err)
{
    uint8_t key[crypto_sign_PUBLICKEYBYTES], signature[crypto_sign_BYTES];
    cleanup_json json_t *object = json_loadb(text, text_length, JSON_REJECT_DUPLICATES, NULL);
    const char *algorithm = json_string_value(json_object_get(object, "algorithm"));
    cleanup_free char *message = message_of(manifest, length);

    if (!message)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (!algorithm || strcmp(algorithm, "ed25519") != 0 || !take(object, "key", key, sizeof(key)) ||
        !take(object, "signature", signature, sizeof(signature)))
        return drafter_error_set(err, EBADMSG, "its signature is none that can be read");
    if (crypto_sign_verify_detached(signature, (uint8_t *)message, sizeof(context) + length, key))
        return drafter_error_set(err, EBADMSG,
                                 "its signature is wrong: the package was changed after it was signed");
    keygen_identity(key, ret_identity);
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/signature.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <sodium.h>
#include <string.h>

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
    cleanup_free char *message = pack_signed_text(manifest, length);

    if (!message)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (!algorithm || strcmp(algorithm, "ed25519") != 0 || !take(object, "key", key, sizeof(key)) ||
        !take(object, "signature", signature, sizeof(signature)))
        return drafter_error_set(err, EBADMSG, "its signature is none that can be read");
    if (crypto_sign_verify_detached(signature, (uint8_t *)message, PACK_SIGNED_LENGTH(length), key))
        return drafter_error_set(err, EBADMSG,
                                 "its signature is wrong: the package was changed after it was signed");
    keygen_identity(key, ret_identity);
    return 0;
}

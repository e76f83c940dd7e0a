/* SPDX-License-Identifier: BSD-2-Clause */
#include "schedule.h"

#include <string.h>

static const uint8_t zeros[TLS_HASH_SIZE];

static void hmac(const uint8_t key[TLS_HASH_SIZE], const void *bytes, size_t length,
                 uint8_t ret_mac[TLS_HASH_SIZE])
{
    crypto_auth_hmacsha256_state state;

    crypto_auth_hmacsha256_init(&state, key, TLS_HASH_SIZE);
    crypto_auth_hmacsha256_update(&state, bytes, length);
    crypto_auth_hmacsha256_final(&state, ret_mac);
    sodium_memzero(&state, sizeof(state));
}

void tls_extract(const uint8_t *salt, const uint8_t *input, size_t length,
                 uint8_t ret_secret[TLS_HASH_SIZE])
{
    hmac(salt ? salt : zeros, input ? input : zeros, input ? length : TLS_HASH_SIZE, ret_secret);
}

/* struct HkdfLabel of section 7.1. */
static size_t encode_label(const char *label, const uint8_t *context, size_t context_length,
                           size_t length, uint8_t info[2 + 1 + 255 + 1 + 255])
{
    static const char prefix[] = "tls13 ";
    size_t label_length = strlen(label), used = 0;

    info[used++] = (uint8_t)(length >> 8);
    info[used++] = (uint8_t)length;
    info[used++] = (uint8_t)(sizeof(prefix) - 1 + label_length);
    memcpy(info + used, prefix, sizeof(prefix) - 1);
    used += sizeof(prefix) - 1;
    memcpy(info + used, label, label_length);
    used += label_length;
    info[used++] = (uint8_t)context_length;
    if (context_length)
        memcpy(info + used, context, context_length);
    return used + context_length;
}

void tls_expand_label(const uint8_t secret[TLS_HASH_SIZE], const char *label, const uint8_t *context,
                      size_t context_length, uint8_t *ret_bytes, size_t length)
{
    uint8_t info[2 + 1 + 255 + 1 + 255], block[TLS_HASH_SIZE];
    size_t info_length = encode_label(label, context, context_length, length, info), done = 0;
    crypto_auth_hmacsha256_state state;

    for (uint8_t counter = 1; done < length; counter++) {
        size_t part = length - done < sizeof(block) ? length - done : sizeof(block);

        crypto_auth_hmacsha256_init(&state, secret, TLS_HASH_SIZE);
        if (counter > 1)
            crypto_auth_hmacsha256_update(&state, block, sizeof(block));
        crypto_auth_hmacsha256_update(&state, info, info_length);
        crypto_auth_hmacsha256_update(&state, &counter, 1);
        crypto_auth_hmacsha256_final(&state, block);
        memcpy(ret_bytes + done, block, part);
        done += part;
    }
    sodium_memzero(&state, sizeof(state));
    sodium_memzero(block, sizeof(block));
}

void tls_derive(const uint8_t secret[TLS_HASH_SIZE], const char *label, const uint8_t *hash,
                uint8_t ret_secret[TLS_HASH_SIZE])
{
    uint8_t nothing[TLS_HASH_SIZE];

    if (!hash)
        crypto_hash_sha256(nothing, NULL, 0);
    tls_expand_label(secret, label, hash ? hash : nothing, TLS_HASH_SIZE, ret_secret, TLS_HASH_SIZE);
}

void tls_next_stage(uint8_t secret[TLS_HASH_SIZE], const uint8_t *input)
{
    uint8_t derived[TLS_HASH_SIZE];

    tls_derive(secret, "derived", NULL, derived);
    tls_extract(derived, input, TLS_HASH_SIZE, secret);
    sodium_memzero(derived, sizeof(derived));
}

void tls_finished(const uint8_t secret[TLS_HASH_SIZE], const uint8_t hash[TLS_HASH_SIZE],
                  uint8_t ret_verify[TLS_HASH_SIZE])
{
    uint8_t key[TLS_HASH_SIZE];

    tls_expand_label(secret, "finished", NULL, 0, key, sizeof(key));
    hmac(key, hash, TLS_HASH_SIZE, ret_verify);
    sodium_memzero(key, sizeof(key));
}

void tls_update_secret(uint8_t secret[TLS_HASH_SIZE])
{
    uint8_t next[TLS_HASH_SIZE];

    tls_expand_label(secret, "traffic upd", NULL, 0, next, sizeof(next));
    memcpy(secret, next, sizeof(next));
    sodium_memzero(next, sizeof(next));
}

void tls_ticket_psk(const uint8_t resumption_secret[TLS_HASH_SIZE], const uint8_t *nonce,
                    size_t nonce_length, uint8_t ret_psk[TLS_HASH_SIZE])
{
    tls_expand_label(resumption_secret, "resumption", nonce, nonce_length, ret_psk, TLS_HASH_SIZE);
}

void tls_binder(const uint8_t *psk, size_t psk_length, bool external,
                const uint8_t hash[TLS_HASH_SIZE], uint8_t ret_binder[TLS_HASH_SIZE])
{
    uint8_t early[TLS_HASH_SIZE], key[TLS_HASH_SIZE];

    tls_extract(NULL, psk, psk_length, early);
    tls_derive(early, external ? "ext binder" : "res binder", NULL, key);
    tls_finished(key, hash, ret_binder);
    sodium_memzero(early, sizeof(early));
    sodium_memzero(key, sizeof(key));
}

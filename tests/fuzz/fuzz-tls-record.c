/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records that a peer with the right keys could send: the input is what is inside, so that what lies behind the
 * authenticator is reached.  What is taken out piece by piece is what was sealed.
 */
#include "alert.h"
#include "record.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t record[TLS_RECORD_MAX + 64], content[TLS_PLAINTEXT_MAX + 1];
    static const uint8_t secret[32] = {1};
    struct tls_keys keys, receive;
    struct tls_opened opened;
    uint8_t nonce[TLS_NONCE_SIZE];

    if (sodium_init() < 0 || size < 1 || size > TLS_PLAINTEXT_MAX + 1)
        return 0;
    tls_keys_set(&keys, secret);
    receive = keys;
    tls_record_header(size - 1, record);
    tls_nonce(keys.iv, 0, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(record + TLS_RECORD_HEADER, NULL, data, size, record,
                                              TLS_RECORD_HEADER, NULL, nonce, keys.key);
    if (tls_open(&receive, record, TLS_SEALED_SIZE(size - 1), &opened) == TLS_OK) {
        assert(opened.length < size && opened.type == data[opened.length]);
        while (opened.done < opened.length) {
            size_t left = opened.length - opened.done, part = 1 + (opened.done * 7 + data[0]) % 200;

            tls_take(&receive, &opened, content + opened.done, part < left ? part : left);
        }
        assert(!memcmp(content, data, opened.length));
    } else {
        for (size_t i = 0; i < size; i++)
            assert(!data[i]); /* only one of nothing but padding has no type */
    }
    /* And the input as it is, which no key has sealed. */
    if (size >= TLS_RECORD_HEADER) {
        receive = keys;
        assert(tls_open(&receive, data, size, &opened) != TLS_OK && receive.sequence == 0);
    }
    return 0;
}

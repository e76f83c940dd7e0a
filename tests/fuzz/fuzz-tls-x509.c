/* SPDX-License-Identifier: BSD-2-Clause */
/* Certificates and raw keys of peers: whatever they hold, reading stays inside and has a reason to refuse. */
#include "alert.h"
#include "x509.h"

#include <assert.h>
#include <sodium.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_certificate certificate;
    uint8_t key[TLS_PUBLIC_KEY_SIZE];
    const char *reason = NULL;

    if (sodium_init() < 0)
        return 0;
    if (tls_certificate_parse(data, size, &certificate, &reason) != TLS_OK)
        assert(reason);
    reason = NULL;
    if (tls_spki_parse(data, size, key, &reason) != TLS_OK)
        assert(reason);
    else
        assert(size == TLS_SPKI_SIZE);
    return 0;
}

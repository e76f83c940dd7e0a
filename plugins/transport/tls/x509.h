/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The little of X.509 (RFC 5280) that pinned, self-signed Ed25519 certificates (RFC 8410) need: strict DER,
 * version 3, one algorithm.  Whom a certificate names means nothing here; its key is looked up in the
 * trust file.
 */
#ifndef TLS_X509_H
#define TLS_X509_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_PUBLIC_KEY_SIZE 32
#define TLS_SIGNATURE_SIZE 64
#define TLS_SPKI_SIZE 44 /* SubjectPublicKeyInfo of an Ed25519 key */

struct tls_certificate {
    uint8_t public_key[TLS_PUBLIC_KEY_SIZE];
    int64_t not_before, not_after; /* seconds since 1970, both included */
    bool for_clients, for_servers; /* what the extended key usage allows; both without one */
};

/*
 * Reads a certificate and verifies its own signature: TLS_OK, or the alert that it deserves and a reason,
 * a constant.  The dates are the caller's to judge.
 */
int tls_certificate_parse(const uint8_t *der, size_t length, struct tls_certificate *ret_certificate,
                          const char **ret_reason);

/* A SubjectPublicKeyInfo, which is what a raw public key is (RFC 7250); as above. */
int tls_spki_parse(const uint8_t *der, size_t length, uint8_t ret_key[TLS_PUBLIC_KEY_SIZE],
                   const char **ret_reason);

void tls_spki_encode(const uint8_t key[TLS_PUBLIC_KEY_SIZE], uint8_t ret_der[TLS_SPKI_SIZE]);

#endif

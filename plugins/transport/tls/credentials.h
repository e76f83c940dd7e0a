/* SPDX-License-Identifier: BSD-2-Clause */
/* What a node proves itself with: a key with its certificate, and keys shared beforehand. */
#ifndef TLS_CREDENTIALS_H
#define TLS_CREDENTIALS_H

#include "x509.h"

#include <drafter/common.h>
#include <sodium.h>

#define TLS_CERTIFICATE_MAX 2048
#define TLS_PSK_IDENTITY_MAX 64
#define TLS_PSK_MIN 16
#define TLS_PSK_MAX 64
#define TLS_PSK_COUNT_MAX 256
#define TLS_IDENTITY_SIZE 96

struct tls_psk {
    char identity[TLS_PSK_IDENTITY_MAX + 1];
    uint8_t key[TLS_PSK_MAX];
    size_t length;
};

/* In locked memory; constant once it was loaded. */
struct tls_credentials {
    bool has_key, has_certificate;
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES]; /* seed and public key */
    uint8_t spki[TLS_SPKI_SIZE];
    uint8_t certificate[TLS_CERTIFICATE_MAX]; /* DER */
    size_t certificate_length;
    struct tls_psk psks[TLS_PSK_COUNT_MAX];
    unsigned psk_count;
};

/* NULL when there is no memory. */
struct tls_credentials *tls_credentials_new(void);
void tls_credentials_free(struct tls_credentials *credentials); /* wipes; NULL is allowed */

/* A private key in PEM (PKCS #8, RFC 8410); the file must be readable by its owner alone. */
int tls_load_key(struct tls_credentials *credentials, const char *path, struct drafter_error *err);

/* The certificate of that key, in PEM. */
int tls_load_certificate(struct tls_credentials *credentials, const char *path,
                         struct drafter_error *err);

/* Lines "identity:hexadecimal key", as psktool(1) writes them; # begins a comment. */
int tls_load_psks(struct tls_credentials *credentials, const char *path, struct drafter_error *err);

/* How a key is called in the trust file: "sha256:" and the base64 of the hash of its SPKI. */
void tls_key_identity(const uint8_t key[TLS_PUBLIC_KEY_SIZE], char ret_identity[TLS_IDENTITY_SIZE]);

/* The PSK of this identity, or NULL. */
const struct tls_psk *tls_psk_find(const struct tls_credentials *credentials, const uint8_t *identity,
                                   size_t length);

#endif

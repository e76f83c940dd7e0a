/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other handshake messages (RFC 8446, sections 4.3 to 4.6) as bytes and as structures.  Parsers take a
 * body and return TLS_OK or an alert; writers write whole messages.
 */
#ifndef TLS_MESSAGE_H
#define TLS_MESSAGE_H

#include "hello.h"

enum tls_message {
    TLS_CLIENT_HELLO = 1,
    TLS_SERVER_HELLO = 2,
    TLS_NEW_SESSION_TICKET = 4,
    TLS_ENCRYPTED_EXTENSIONS = 8,
    TLS_CERTIFICATE = 11,
    TLS_CERTIFICATE_REQUEST = 13,
    TLS_CERTIFICATE_VERIFY = 15,
    TLS_FINISHED = 20,
    TLS_KEY_UPDATE = 24,
    TLS_MESSAGE_HASH = 254,
};

#define TLS_TICKET_MAX 2048

struct tls_encrypted_extensions {
    bool alpn;
    unsigned client_type, server_type; /* TLS_TYPE_, 0: not negotiated, so X.509 */
};

int tls_encrypted_extensions_parse(const uint8_t *body, size_t length,
                                   struct tls_encrypted_extensions *ret_extensions);
void tls_encrypted_extensions_write(const struct tls_encrypted_extensions *extensions,
                                    struct tls_writer *writer);

/* Fails for a request that Ed25519 cannot answer. */
int tls_certificate_request_parse(const uint8_t *body, size_t length);
void tls_certificate_request_write(struct tls_writer *writer);

/*
 * The first certificate or raw key of the list, which is the peer's own, and how many there are; NULL when the list
 * is empty.
 */
int tls_certificate_message_parse(const uint8_t *body, size_t length, const uint8_t **ret_data,
                                  size_t *ret_length, unsigned *ret_count);
void tls_certificate_message_write(const uint8_t *data, size_t length, struct tls_writer *writer);

/* What a CertificateVerify signs (section 4.4.3): the result is its length. */
#define TLS_SIGNED_MAX 160
size_t tls_signed_content(bool server, const uint8_t hash[32], uint8_t ret_content[TLS_SIGNED_MAX]);

int tls_certificate_verify_parse(const uint8_t *body, size_t length, const uint8_t **ret_signature);
void tls_certificate_verify_write(const uint8_t signature[64], struct tls_writer *writer);

struct tls_ticket_message {
    uint32_t lifetime, age_add; /* seconds; a number to add to ages in milliseconds */
    const uint8_t *nonce;
    size_t nonce_length;
    const uint8_t *ticket;
    size_t ticket_length;
};

int tls_ticket_message_parse(const uint8_t *body, size_t length, struct tls_ticket_message *ret_ticket);
void tls_ticket_message_write(const struct tls_ticket_message *ticket, struct tls_writer *writer);

#endif

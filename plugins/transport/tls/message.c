/* SPDX-License-Identifier: BSD-2-Clause */
#include "message.h"

#include "alert.h"

static int check(bool fine)
{
    return fine ? TLS_OK : TLS_ALERT_DECODE_ERROR;
}

/* A certificate type that a server chose. */
static int read_type(struct tls_reader body, unsigned *ret_type)
{
    unsigned type = (unsigned)tls_get_number(&body, 1);

    if (!tls_read_all(&body))
        return TLS_ALERT_DECODE_ERROR;
    if (type != 0 && type != 2)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    *ret_type = 1u << type;
    return TLS_OK;
}

int tls_encrypted_extensions_parse(const uint8_t *bytes, size_t length,
                                   struct tls_encrypted_extensions *ret_extensions)
{
    struct tls_reader reader = tls_reader(bytes, length), body;
    struct tls_extensions extensions = {.list = tls_get_vector(&reader, 2)};
    struct tls_encrypted_extensions found = {0};
    bool ours, alone;
    unsigned type;
    int alert;

    if (!tls_read_all(&reader))
        return TLS_ALERT_DECODE_ERROR;
    while (tls_next_extension(&extensions, &type, &body, &alert)) {
        if (type == TLS_EXT_ALPN) {
            if (!tls_alpn_parse(body, &ours, &alone))
                return TLS_ALERT_DECODE_ERROR;
            if (!alone)
                return TLS_ALERT_ILLEGAL_PARAMETER;
            found.alpn = true;
        } else if (type == TLS_EXT_CLIENT_CERTIFICATE_TYPE) {
            alert = read_type(body, &found.client_type);
        } else if (type == TLS_EXT_SERVER_CERTIFICATE_TYPE) {
            alert = read_type(body, &found.server_type);
        } else if (type != TLS_EXT_SUPPORTED_GROUPS) {
            return tls_stray_extension(type);
        }
        if (alert != TLS_OK)
            return alert;
    }
    if (alert == TLS_OK)
        *ret_extensions = found;
    return alert;
}

static void put_type(struct tls_writer *writer, enum tls_extension extension, unsigned type)
{
    if (!type)
        return;
    tls_put_number(writer, 2, extension);
    tls_put_number(writer, 2, 1);
    tls_put_number(writer, 1, type == TLS_TYPE_RAW ? 2 : 0);
}

void tls_encrypted_extensions_write(const struct tls_encrypted_extensions *extensions,
                                    struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_ENCRYPTED_EXTENSIONS), list;

    list = tls_put_begin(writer, 2);
    if (extensions->alpn)
        tls_alpn_write(writer);
    put_type(writer, TLS_EXT_CLIENT_CERTIFICATE_TYPE, extensions->client_type);
    put_type(writer, TLS_EXT_SERVER_CERTIFICATE_TYPE, extensions->server_type);
    tls_put_end(writer, 2, list);
    tls_put_end(writer, 3, message);
}

int tls_certificate_request_parse(const uint8_t *bytes, size_t length)
{
    struct tls_reader reader = tls_reader(bytes, length), body;
    struct tls_reader context = tls_get_vector(&reader, 1);
    struct tls_extensions extensions = {.list = tls_get_vector(&reader, 2)};
    bool algorithms = false, ed25519 = false;
    unsigned type;
    int alert;

    if (!tls_read_all(&reader))
        return TLS_ALERT_DECODE_ERROR;
    if (context.left != 0)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    while (tls_next_extension(&extensions, &type, &body, &alert)) {
        if (type != TLS_EXT_SIGNATURE_ALGORITHMS)
            continue;
        algorithms = true;
        if (!tls_find_number(body, 2, TLS_ED25519, &ed25519))
            return TLS_ALERT_DECODE_ERROR;
    }
    if (alert != TLS_OK)
        return alert;
    if (!algorithms)
        return TLS_ALERT_MISSING_EXTENSION;
    return ed25519 ? TLS_OK : TLS_ALERT_HANDSHAKE_FAILURE;
}

void tls_certificate_request_write(struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_CERTIFICATE_REQUEST);

    tls_put_number(writer, 1, 0);
    tls_put_number(writer, 2, 8); /* one extension */
    tls_put_number(writer, 2, TLS_EXT_SIGNATURE_ALGORITHMS);
    tls_put_number(writer, 2, 4);
    tls_put_number(writer, 2, 2);
    tls_put_number(writer, 2, TLS_ED25519);
    tls_put_end(writer, 3, message);
}

int tls_certificate_message_parse(const uint8_t *bytes, size_t length, const uint8_t **ret_data,
                                  size_t *ret_length, unsigned *ret_count)
{
    struct tls_reader reader = tls_reader(bytes, length), context = tls_get_vector(&reader, 1);
    struct tls_reader list = tls_get_vector(&reader, 3);
    const uint8_t *first = NULL;
    size_t first_length = 0;
    unsigned count = 0;

    if (!tls_read_all(&reader))
        return TLS_ALERT_DECODE_ERROR;
    if (context.left != 0)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    while (list.left > 0 && !list.failed) {
        struct tls_reader data = tls_get_vector(&list, 3), own = tls_get_vector(&list, 2);

        if (data.left == 0 || list.failed)
            return TLS_ALERT_DECODE_ERROR;
        if (own.left != 0) /* answers to extensions that were not asked for */
            return TLS_ALERT_UNSUPPORTED_EXTENSION;
        if (!first) {
            first = data.at;
            first_length = data.left;
        }
        count++;
    }
    *ret_data = first;
    *ret_length = first_length;
    *ret_count = count;
    return check(tls_read_all(&list));
}

void tls_certificate_message_write(const uint8_t *data, size_t length, struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_CERTIFICATE), list;

    tls_put_number(writer, 1, 0);
    list = tls_put_begin(writer, 3);
    if (data) {
        tls_put_number(writer, 3, length);
        tls_put_bytes(writer, data, length);
        tls_put_number(writer, 2, 0);
    }
    tls_put_end(writer, 3, list);
    tls_put_end(writer, 3, message);
}

size_t tls_signed_content(bool server, const uint8_t hash[32], uint8_t ret_content[TLS_SIGNED_MAX])
{
    static const char of_server[] = "TLS 1.3, server CertificateVerify";
    static const char of_client[] = "TLS 1.3, client CertificateVerify";
    struct tls_writer writer = tls_writer(ret_content, TLS_SIGNED_MAX);

    memset(ret_content, ' ', 64);
    writer.used = 64;
    tls_put_bytes(&writer, server ? of_server : of_client, sizeof(of_server)); /* with its NUL */
    tls_put_bytes(&writer, hash, 32);
    return writer.used;
}

int tls_certificate_verify_parse(const uint8_t *bytes, size_t length, const uint8_t **ret_signature)
{
    struct tls_reader reader = tls_reader(bytes, length);
    unsigned scheme = (unsigned)tls_get_number(&reader, 2);
    struct tls_reader signature = tls_get_vector(&reader, 2);

    if (!tls_read_all(&reader))
        return TLS_ALERT_DECODE_ERROR;
    if (scheme != TLS_ED25519)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    *ret_signature = signature.at;
    return signature.left == 64 ? TLS_OK : TLS_ALERT_DECRYPT_ERROR;
}

void tls_certificate_verify_write(const uint8_t signature[64], struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_CERTIFICATE_VERIFY);

    tls_put_number(writer, 2, TLS_ED25519);
    tls_put_number(writer, 2, 64);
    tls_put_bytes(writer, signature, 64);
    tls_put_end(writer, 3, message);
}

int tls_ticket_message_parse(const uint8_t *bytes, size_t length, struct tls_ticket_message *ret_ticket)
{
    struct tls_reader reader = tls_reader(bytes, length), nonce, ticket, body;
    struct tls_ticket_message found = {.lifetime = (uint32_t)tls_get_number(&reader, 4)};
    struct tls_extensions extensions = {0};
    unsigned type;
    int alert;

    found.age_add = (uint32_t)tls_get_number(&reader, 4);
    nonce = tls_get_vector(&reader, 1);
    ticket = tls_get_vector(&reader, 2);
    extensions.list = tls_get_vector(&reader, 2);
    if (!tls_read_all(&reader) || ticket.left == 0)
        return TLS_ALERT_DECODE_ERROR;
    while (tls_next_extension(&extensions, &type, &body, &alert))
        ; /* early_data is of no use here, and others are to be ignored */
    if (alert != TLS_OK)
        return alert;
    found.nonce = nonce.at;
    found.nonce_length = nonce.left;
    found.ticket = ticket.at;
    found.ticket_length = ticket.left;
    *ret_ticket = found;
    return TLS_OK;
}

void tls_ticket_message_write(const struct tls_ticket_message *ticket, struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_NEW_SESSION_TICKET);

    tls_put_number(writer, 4, ticket->lifetime);
    tls_put_number(writer, 4, ticket->age_add);
    tls_put_number(writer, 1, ticket->nonce_length);
    tls_put_bytes(writer, ticket->nonce, ticket->nonce_length);
    tls_put_number(writer, 2, ticket->ticket_length);
    tls_put_bytes(writer, ticket->ticket, ticket->ticket_length);
    tls_put_number(writer, 2, 0);
    tls_put_end(writer, 3, message);
}

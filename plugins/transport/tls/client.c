/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client's states (RFC 8446, appendix A.1):
 *
 *     ClientHello -> [HelloRetryRequest -> ClientHello] -> ServerHello -> EncryptedExtensions
 *                 -> [[CertificateRequest] -> Certificate -> CertificateVerify] -> Finished -> flight, done
 *
 * A client that shares a key with the server offers that alone, and a client with a ticket offers the
 * ticket besides.
 */
#include "handshake.h"

#include <stdio.h>

void tls_client_begin(struct tls_handshake *handshake, const struct tls_session *session,
                      const struct tls_psk *psk);

static void fill_binders(struct tls_handshake *handshake, uint8_t *message, size_t length,
                         size_t binders_length)
{
    struct tls_secrets *secrets = handshake->secrets;
    uint8_t hash[TLS_HASH_SIZE];

    tls_transcript_hash_with(handshake, message, length - binders_length, hash);
    for (unsigned i = 0; i < handshake->psk_count; i++)
        tls_binder(secrets->psks[i], secrets->psk_lengths[i],
                   handshake->psk && i == handshake->psk_count - 1, hash,
                   message + length - binders_length + 2 + i * (1 + TLS_BINDER_SIZE) + 1);
}

static void offer_psks(struct tls_handshake *handshake, struct tls_client_hello *hello)
{
    const struct tls_session *session = handshake->session;
    int64_t age = session ? handshake->context->now() - session->issued : 0;

    if (session)
        hello->psks[hello->psk_count++] = (struct tls_psk_offer){
            .identity = session->ticket, .identity_length = session->ticket_length,
            .age = (uint32_t)(age * 1000) + session->age_add};
    if (handshake->psk)
        hello->psks[hello->psk_count++] = (struct tls_psk_offer){
            .identity = (const uint8_t *)handshake->psk->identity,
            .identity_length = strlen(handshake->psk->identity)};
}

static int send_hello(struct tls_handshake *handshake, const uint8_t *cookie, size_t cookie_length)
{
    struct tls_client_hello hello = {.random = handshake->random, .share = handshake->share,
                                     .cookie = cookie, .cookie_length = cookie_length};
    uint8_t buffer[TLS_TICKET_MAX + TLS_COOKIE_MAX + 512];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    size_t binders_length;

    offer_psks(handshake, &hello);
    if (!handshake->psk) {
        hello.signature_algorithms = true;
        hello.client_types = tls_own_types(handshake);
        hello.server_types = TLS_TYPE_RAW | TLS_TYPE_X509;
    }
    tls_client_hello_write(&hello, &writer, &binders_length);
    if (!writer.failed)
        fill_binders(handshake, buffer, writer.used, binders_length);
    return tls_handshake_send(handshake, &writer);
}

void tls_client_begin(struct tls_handshake *handshake, const struct tls_session *session,
                      const struct tls_psk *psk)
{
    struct tls_secrets *secrets = handshake->secrets;
    unsigned count = 0;

    handshake->psk = psk;
    if (session) {
        handshake->session = session;
        memcpy(secrets->psks[count], session->psk, sizeof(session->psk));
        secrets->psk_lengths[count++] = sizeof(session->psk);
    }
    if (psk) {
        memcpy(secrets->psks[count], psk->key, psk->length);
        secrets->psk_lengths[count++] = psk->length;
    }
    handshake->psk_count = count;
    randombytes_buf(handshake->random, sizeof(handshake->random));
    randombytes_buf(secrets->ephemeral, sizeof(secrets->ephemeral));
    crypto_scalarmult_base(handshake->share, secrets->ephemeral);
    handshake->state = TLS_WAIT_SERVER_HELLO;
    send_hello(handshake, NULL, 0);
}

static int retry(struct tls_handshake *handshake, const struct tls_handshake_message *message,
                 const struct tls_server_hello *hello)
{
    if (handshake->retried)
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE, "it retries without end");
    if (hello->key_share || !hello->cookie) /* we sent a share of the only group that we offered */
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "it asks for the key share that it has");
    if (hello->cookie_length > TLS_COOKIE_MAX)
        return tls_handshake_fail(handshake, TLS_ALERT_HANDSHAKE_FAILURE, "its cookie is too long");
    handshake->retried = true;
    tls_transcript_retry(handshake);
    tls_transcript_add_message(handshake, message);
    return send_hello(handshake, hello->cookie, hello->cookie_length);
}

/* Brings the PSK that the server chose to the front, or drops them all. */
static int adopt_psk(struct tls_handshake *handshake, const struct tls_server_hello *hello)
{
    struct tls_secrets *secrets = handshake->secrets;

    if (!hello->psk) {
        secrets->psk_lengths[0] = 0;
        if (handshake->psk)
            return tls_handshake_fail(handshake, TLS_ALERT_HANDSHAKE_FAILURE,
                                      "it does not want the key shared beforehand");
        return 0;
    }
    if (!handshake->psk_count)
        return tls_handshake_fail(handshake, TLS_ALERT_UNSUPPORTED_EXTENSION,
                                  "it chose a key where none was offered");
    if (hello->psk_index >= handshake->psk_count)
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "it chose a key that was not offered");
    handshake->external = handshake->psk && hello->psk_index == handshake->psk_count - 1;
    handshake->resumed = !handshake->external;
    if (hello->psk_index > 0) {
        memcpy(secrets->psks[0], secrets->psks[hello->psk_index], TLS_PSK_MAX);
        secrets->psk_lengths[0] = secrets->psk_lengths[hello->psk_index];
    }
    if (handshake->external)
        snprintf(handshake->peer, sizeof(handshake->peer), "psk:%s", handshake->psk->identity);
    else
        memcpy(handshake->peer, handshake->session->identity, sizeof(handshake->peer));
    return 0;
}

/*
 * Section 4.1.3: a server that knows TLS 1.3 ends its random so when it answers the hello of an older version,
 * which ours was not when it left.
 */
static bool is_downgrade(const struct tls_handshake_message *message)
{
    static const uint8_t mark[] = {'D', 'O', 'W', 'N', 'G', 'R', 'D'};
    const uint8_t *end = message->body + 2 + TLS_RANDOM_SIZE - 8;

    return message->length >= 2 + TLS_RANDOM_SIZE && !memcmp(end, mark, sizeof(mark)) && end[7] <= 1;
}

static int take_hello(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    struct tls_server_hello hello;
    int alert = tls_server_hello_parse(message->body, message->length, &hello), rc;

    if (alert == TLS_ALERT_PROTOCOL_VERSION && is_downgrade(message))
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "it speaks TLS 1.3, but somebody on the way made this a downgrade");
    if (alert == TLS_ALERT_PROTOCOL_VERSION)
        return tls_handshake_fail(handshake, alert, "it does not speak TLS 1.3");
    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its ServerHello makes no sense");
    if (!message->last)
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                  "it goes on after its ServerHello");
    if (hello.session_id_length)
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "it answers another ClientHello");
    if (hello.retry)
        return retry(handshake, message, &hello);
    rc = adopt_psk(handshake, &hello);
    if (rc)
        return rc;
    tls_transcript_add_message(handshake, message);
    handshake->state = TLS_WAIT_EXTENSIONS;
    return tls_derive_handshake(handshake, hello.share);
}

static int take_extensions(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    bool psk = handshake->resumed || handshake->external;
    struct tls_encrypted_extensions extensions;
    int alert = tls_encrypted_extensions_parse(message->body, message->length, &extensions);

    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its EncryptedExtensions make no sense");
    if (!extensions.alpn)
        return tls_handshake_fail(handshake, TLS_ALERT_NO_APPLICATION_PROTOCOL,
                                  "it does not speak the protocol " TLS_ALPN);
    if (handshake->psk && (extensions.client_type || extensions.server_type))
        return tls_handshake_fail(handshake, TLS_ALERT_UNSUPPORTED_EXTENSION,
                                  "it answers what it was not asked");
    handshake->own_type = extensions.client_type ? extensions.client_type : TLS_TYPE_X509;
    handshake->peer_type = extensions.server_type ? extensions.server_type : TLS_TYPE_X509;
    if (extensions.client_type & ~tls_own_types(handshake))
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "it chose a type of certificate that was not offered");
    tls_transcript_add_message(handshake, message);
    handshake->state = psk ? TLS_WAIT_SERVER_FINISHED : TLS_WAIT_CERTIFICATE_OR_REQUEST;
    return 0;
}

static int take_request(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    int alert = tls_certificate_request_parse(message->body, message->length);

    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its CertificateRequest does not allow Ed25519");
    handshake->asked = true;
    tls_transcript_add_message(handshake, message);
    handshake->state = TLS_WAIT_SERVER_CERTIFICATE;
    return 0;
}

static int take_finished(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    struct tls_secrets *secrets = handshake->secrets;
    uint8_t hash[TLS_HASH_SIZE];
    int rc = tls_take_finished(handshake, message);

    if (rc)
        return rc;
    tls_derive_traffic(handshake);
    if (handshake->asked)
        rc = tls_send_certificate(handshake);
    if (!rc)
        rc = tls_send_finished(handshake);
    if (rc)
        return rc;
    tls_transcript_hash(handshake, hash);
    tls_derive(secrets->stage, "res master", hash, secrets->resumption);
    tls_keys_set(&secrets->send, secrets->client_traffic);
    tls_keys_set(&secrets->receive, secrets->server_traffic);
    handshake->state = TLS_DONE;
    return 0;
}

static int step(struct tls_handshake *handshake, int rc, enum tls_state next)
{
    if (!rc)
        handshake->state = next;
    return rc;
}

int tls_client_message(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    switch (handshake->state) {
    case TLS_WAIT_SERVER_HELLO:
        if (message->type == TLS_SERVER_HELLO)
            return take_hello(handshake, message);
        break;
    case TLS_WAIT_EXTENSIONS:
        if (message->type == TLS_ENCRYPTED_EXTENSIONS)
            return take_extensions(handshake, message);
        break;
    case TLS_WAIT_CERTIFICATE_OR_REQUEST:
        if (message->type == TLS_CERTIFICATE_REQUEST)
            return take_request(handshake, message);
        /* fall through */
    case TLS_WAIT_SERVER_CERTIFICATE:
        if (message->type == TLS_CERTIFICATE)
            return step(handshake, tls_take_certificate(handshake, message), TLS_WAIT_SERVER_VERIFY);
        break;
    case TLS_WAIT_SERVER_VERIFY:
        if (message->type == TLS_CERTIFICATE_VERIFY)
            return step(handshake, tls_take_verify(handshake, message), TLS_WAIT_SERVER_FINISHED);
        break;
    case TLS_WAIT_SERVER_FINISHED:
        if (message->type == TLS_FINISHED)
            return take_finished(handshake, message);
        break;
    default:
        break;
    }
    return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                              "it sent a message of type %u out of place", message->type);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server's states (RFC 8446, appendix A.2):
 *
 *     ClientHello -> [HelloRetryRequest -> ClientHello] -> flight -> [Certificate -> CertificateVerify]
 *                 -> Finished -> done, with a ticket for the next time
 */
#include "handshake.h"

#include <stdio.h>

static int refuse(struct tls_handshake *handshake, int alert)
{
    const char *why = "its ClientHello makes no sense";

    if (alert == TLS_ALERT_PROTOCOL_VERSION)
        why = "it does not offer TLS 1.3";
    return tls_handshake_fail(handshake, alert, "%s", why);
}

/* What a hello must offer whatever else it says. */
static int check_hello(struct tls_handshake *handshake, const struct tls_client_hello *hello)
{
    if (!hello->suite)
        return tls_handshake_fail(handshake, TLS_ALERT_HANDSHAKE_FAILURE,
                                  "it does not offer TLS_CHACHA20_POLY1305_SHA256");
    if (!hello->key_share || !hello->groups) /* section 9.2: neither without the other */
        return tls_handshake_fail(handshake, TLS_ALERT_MISSING_EXTENSION, "it offers no key share");
    if (!hello->group)
        return tls_handshake_fail(handshake, TLS_ALERT_HANDSHAKE_FAILURE, "it does not offer X25519");
    if (!hello->alpn)
        return tls_handshake_fail(handshake, TLS_ALERT_NO_APPLICATION_PROTOCOL,
                                  "it does not offer the protocol " TLS_ALPN);
    if (hello->psk_count && !hello->psk_modes)
        return tls_handshake_fail(handshake, TLS_ALERT_MISSING_EXTENSION,
                                  "it offers keys shared beforehand without saying how");
    return 0;
}

/* Remembers what the second hello must repeat, or compares it. */
static int check_retry(struct tls_handshake *handshake, const struct tls_client_hello *hello)
{
    if (!handshake->retried) {
        memcpy(handshake->random, hello->random, TLS_RANDOM_SIZE);
        memcpy(handshake->session_id, hello->session_id, hello->session_id_length);
        handshake->session_id_length = hello->session_id_length;
        return 0;
    }
    if (!hello->share || hello->early_data || memcmp(handshake->random, hello->random, TLS_RANDOM_SIZE) ||
        handshake->session_id_length != hello->session_id_length ||
        memcmp(handshake->session_id, hello->session_id, hello->session_id_length))
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER,
                                  "its second hello is not what it was asked for");
    return 0;
}

static int send_retry(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    const struct tls_server_hello retry = {.retry = true, .session_id = handshake->session_id,
                                           .session_id_length = handshake->session_id_length};
    uint8_t buffer[256];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    int rc;

    tls_transcript_add_message(handshake, message);
    tls_transcript_retry(handshake);
    tls_server_hello_write(&retry, &writer);
    rc = tls_handshake_send(handshake, &writer);
    handshake->retried = true;
    return rc;
}

/* Fills in the PSK that the client's offer stands for, and who shares it: false when we do not. */
static bool find_psk(struct tls_handshake *handshake, const struct tls_psk_offer *offer)
{
    const struct tls_context *context = handshake->context;
    struct tls_secrets *secrets = handshake->secrets;
    struct tls_session *session;
    const struct tls_psk *psk = tls_psk_find(context->credentials, offer->identity,
                                             offer->identity_length);

    handshake->resumed = handshake->external = false;
    if (psk) {
        memcpy(secrets->psks[0], psk->key, psk->length);
        secrets->psk_lengths[0] = psk->length;
        snprintf(handshake->peer, sizeof(handshake->peer), "psk:%s", psk->identity);
        handshake->external = true;
        return true;
    }
    session = context->tickets ? sodium_malloc(sizeof(*session)) : NULL;
    if (session && tls_ticket_open(context->tickets, offer->identity, offer->identity_length,
                                   context->now(), session)) {
        memcpy(secrets->psks[0], session->psk, sizeof(session->psk));
        secrets->psk_lengths[0] = sizeof(session->psk);
        memcpy(handshake->peer, session->identity, sizeof(handshake->peer));
        handshake->proven = session->issued;
        handshake->resumed = true;
    }
    sodium_free(session);
    return handshake->resumed;
}

static void drop_psk(struct tls_handshake *handshake)
{
    sodium_memzero(handshake->secrets->psks, sizeof(handshake->secrets->psks));
    handshake->secrets->psk_lengths[0] = 0;
    handshake->resumed = handshake->external = false;
    handshake->peer[0] = '\0';
}

/* A ticket whose owner was never known is worth nothing where clients must be. */
static bool ticket_is_good(const struct tls_handshake *handshake)
{
    return handshake->peer[0] || !handshake->context->require_client;
}

/* Chooses the first PSK that both have, and checks its binder (section 4.2.11.2). */
static int choose_psk(struct tls_handshake *handshake, const struct tls_client_hello *hello,
                      const struct tls_handshake_message *message, bool *ret_chosen,
                      unsigned *ret_index)
{
    uint8_t hash[TLS_HASH_SIZE], binder[TLS_HASH_SIZE];

    *ret_chosen = false;
    for (unsigned i = 0; i < hello->psk_count && hello->psk_dhe; i++) {
        if (!hello->psks[i].binder || !find_psk(handshake, &hello->psks[i]))
            continue;
        if (handshake->resumed && !ticket_is_good(handshake)) {
            drop_psk(handshake);
            continue;
        }
        tls_transcript_hash_with(handshake, message->whole,
                                 message->whole_length - hello->binders_length, hash);
        tls_binder(handshake->secrets->psks[0], handshake->secrets->psk_lengths[0],
                   handshake->external, hash, binder);
        if (sodium_memcmp(binder, hello->psks[i].binder, sizeof(binder)))
            return tls_handshake_fail(handshake, TLS_ALERT_DECRYPT_ERROR,
                                      "its key for %s is another one", handshake->peer);
        *ret_chosen = true;
        *ret_index = i;
        return 0;
    }
    return 0;
}

/* Without a PSK both need certificates; the types of them are settled here (RFC 7250). */
static int choose_types(struct tls_handshake *handshake, const struct tls_client_hello *hello,
                        struct tls_encrypted_extensions *extensions)
{
    unsigned own = tls_own_types(handshake);
    unsigned ours = own & (hello->server_types ? hello->server_types : TLS_TYPE_X509);
    unsigned theirs = (TLS_TYPE_RAW | TLS_TYPE_X509) &
                      (hello->client_types ? hello->client_types : TLS_TYPE_X509);

    if (!own)
        return tls_handshake_fail(handshake,
                                  hello->psk_count ? TLS_ALERT_UNKNOWN_PSK_IDENTITY
                                                   : TLS_ALERT_HANDSHAKE_FAILURE,
                                  hello->psk_count ? "it offers no key shared beforehand that is known here"
                                                   : "it offers no key shared beforehand");
    if (!hello->signature_algorithms)
        return tls_handshake_fail(handshake,
                                  hello->psk_count ? TLS_ALERT_UNKNOWN_PSK_IDENTITY
                                                   : TLS_ALERT_MISSING_EXTENSION,
                                  "it offers no key that is known here, and no signatures");
    if (!hello->ed25519)
        return tls_handshake_fail(handshake, TLS_ALERT_HANDSHAKE_FAILURE, "it does not offer Ed25519");
    if (!ours || !theirs)
        return tls_handshake_fail(handshake, TLS_ALERT_UNSUPPORTED_CERTIFICATE,
                                  "there is no type of certificates that both have%s",
                                  own & TLS_TYPE_X509 ? "" : "; make one with drafter keygen");
    handshake->own_type = ours & TLS_TYPE_RAW ? TLS_TYPE_RAW : TLS_TYPE_X509;
    handshake->peer_type = theirs & TLS_TYPE_RAW ? TLS_TYPE_RAW : TLS_TYPE_X509;
    if (hello->server_types)
        extensions->server_type = handshake->own_type;
    if (hello->client_types && handshake->context->require_client)
        extensions->client_type = handshake->peer_type;
    return 0;
}

static int send_hello(struct tls_handshake *handshake, const struct tls_client_hello *hello, bool psk,
                      unsigned psk_index)
{
    struct tls_secrets *secrets = handshake->secrets;
    struct tls_server_hello answer = {.session_id = handshake->session_id,
                                      .session_id_length = handshake->session_id_length,
                                      .random = handshake->random, .share = handshake->share,
                                      .psk = psk, .psk_index = psk_index};
    uint8_t buffer[256];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    int rc;

    randombytes_buf(handshake->random, sizeof(handshake->random));
    randombytes_buf(secrets->ephemeral, sizeof(secrets->ephemeral));
    crypto_scalarmult_base(handshake->share, secrets->ephemeral);
    tls_server_hello_write(&answer, &writer);
    rc = tls_handshake_send(handshake, &writer);
    return rc ? rc : tls_derive_handshake(handshake, hello->share);
}

/* EncryptedExtensions up to Finished. */
static int send_flight(struct tls_handshake *handshake, bool psk,
                       const struct tls_encrypted_extensions *extensions)
{
    uint8_t buffer[128];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    int rc;

    tls_encrypted_extensions_write(extensions, &writer);
    rc = tls_handshake_send(handshake, &writer);
    if (!rc && !psk && handshake->context->require_client) {
        writer = tls_writer(buffer, sizeof(buffer));
        tls_certificate_request_write(&writer);
        rc = tls_handshake_send(handshake, &writer);
    }
    if (!rc && !psk)
        rc = tls_send_certificate(handshake);
    if (!rc)
        rc = tls_send_finished(handshake);
    if (rc)
        return rc;
    tls_derive_traffic(handshake);
    tls_keys_set(&handshake->secrets->send, handshake->secrets->server_traffic);
    handshake->state = psk || !handshake->context->require_client ? TLS_WAIT_CLIENT_FINISHED
                                                                  : TLS_WAIT_CLIENT_CERTIFICATE;
    return 0;
}

static int take_hello(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    struct tls_encrypted_extensions extensions = {.alpn = true};
    struct tls_client_hello hello;
    unsigned psk_index = 0;
    bool psk = false;
    int alert = tls_client_hello_parse(message->body, message->length, &hello), rc;

    if (alert != TLS_OK)
        return refuse(handshake, alert);
    if (!message->last)
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                  "it goes on after its ClientHello");
    rc = check_hello(handshake, &hello);
    if (!rc)
        rc = check_retry(handshake, &hello);
    if (rc)
        return rc;
    handshake->early = hello.early_data;
    if (!hello.share)
        return send_retry(handshake, message);
    rc = choose_psk(handshake, &hello, message, &psk, &psk_index);
    if (!rc && !psk)
        rc = choose_types(handshake, &hello, &extensions);
    if (rc)
        return rc;
    handshake->tickets_wanted = hello.psk_dhe;
    tls_transcript_add_message(handshake, message);
    rc = send_hello(handshake, &hello, psk, psk_index);
    return rc ? rc : send_flight(handshake, psk, &extensions);
}

/* A ticket for the further streams of this client, until the hour since it proved itself is over. */
static int send_ticket(struct tls_handshake *handshake)
{
    const struct tls_context *context = handshake->context;
    int64_t now = context->now(), since = handshake->resumed ? handshake->proven : now;
    struct tls_session *session;
    uint8_t ticket[TLS_TICKET_MAX], buffer[TLS_TICKET_MAX + 64];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    struct tls_ticket_message message = {.nonce = (const uint8_t *)"", .nonce_length = 1, .ticket = ticket};

    if (!context->tickets || !handshake->tickets_wanted || now - since >= TLS_TICKET_LIFETIME)
        return 0;
    session = sodium_malloc(sizeof(*session));
    if (!session) /* the next stream will do without */
        return 0;
    memset(session, 0, sizeof(*session));
    tls_ticket_psk(handshake->secrets->resumption, message.nonce, message.nonce_length, session->psk);
    memcpy(session->identity, handshake->peer, sizeof(handshake->peer));
    session->issued = since;
    message.lifetime = (uint32_t)(TLS_TICKET_LIFETIME - (now - since));
    message.ticket_length = tls_ticket_seal(context->tickets, session, now, ticket);
    sodium_free(session);
    message.age_add = randombytes_random();
    if (!message.ticket_length)
        return 0;
    tls_ticket_message_write(&message, &writer);
    return tls_handshake_send(handshake, &writer);
}

static int take_finished(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    struct tls_secrets *secrets = handshake->secrets;
    uint8_t hash[TLS_HASH_SIZE];
    int rc = tls_take_finished(handshake, message);

    if (rc)
        return rc;
    tls_transcript_hash(handshake, hash);
    tls_derive(secrets->stage, "res master", hash, secrets->resumption);
    tls_keys_set(&secrets->receive, secrets->client_traffic);
    rc = send_ticket(handshake);
    if (!rc)
        handshake->state = TLS_DONE;
    return rc;
}

static int step(struct tls_handshake *handshake, int rc, enum tls_state next)
{
    if (!rc)
        handshake->state = next;
    return rc;
}

int tls_server_message(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    switch (handshake->state) {
    case TLS_WAIT_CLIENT_HELLO:
        if (message->type == TLS_CLIENT_HELLO)
            return take_hello(handshake, message);
        break;
    case TLS_WAIT_CLIENT_CERTIFICATE:
        if (message->type == TLS_CERTIFICATE)
            return step(handshake, tls_take_certificate(handshake, message), TLS_WAIT_CLIENT_VERIFY);
        break;
    case TLS_WAIT_CLIENT_VERIFY:
        if (message->type == TLS_CERTIFICATE_VERIFY)
            return step(handshake, tls_take_verify(handshake, message), TLS_WAIT_CLIENT_FINISHED);
        break;
    case TLS_WAIT_CLIENT_FINISHED:
        if (message->type == TLS_FINISHED)
            return take_finished(handshake, message);
        break;
    default:
        break;
    }
    return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                              "it sent a message of type %u out of place", message->type);
}

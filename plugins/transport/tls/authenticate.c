/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys, certificates, signatures and Finished of a handshake, for both sides. */
#include "handshake.h"

#include <stdio.h>

/* What a clock may be off before a certificate's beginning. */
#define CLOCK_SLACK 300

int tls_derive_handshake(struct tls_handshake *handshake, const uint8_t *peer_share)
{
    struct tls_secrets *secrets = handshake->secrets;
    uint8_t shared[crypto_scalarmult_BYTES], hash[TLS_HASH_SIZE];
    bool weak = crypto_scalarmult(shared, secrets->ephemeral, peer_share);

    sodium_memzero(secrets->ephemeral, sizeof(secrets->ephemeral));
    if (weak) /* all zeros: RFC 7748, section 6.1 */
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER, "its key share is no point");
    tls_extract(NULL, secrets->psk_lengths[0] ? secrets->psks[0] : NULL, secrets->psk_lengths[0],
                secrets->stage);
    tls_next_stage(secrets->stage, shared);
    sodium_memzero(shared, sizeof(shared));
    tls_transcript_hash(handshake, hash);
    tls_derive(secrets->stage, "c hs traffic", hash, secrets->client_handshake);
    tls_derive(secrets->stage, "s hs traffic", hash, secrets->server_handshake);
    tls_next_stage(secrets->stage, NULL);
    tls_keys_set(&secrets->send,
                 handshake->server ? secrets->server_handshake : secrets->client_handshake);
    tls_keys_set(&secrets->receive,
                 handshake->server ? secrets->client_handshake : secrets->server_handshake);
    handshake->sealed_in = handshake->sealed_out = true;
    return 0;
}

void tls_derive_traffic(struct tls_handshake *handshake)
{
    struct tls_secrets *secrets = handshake->secrets;
    uint8_t hash[TLS_HASH_SIZE];

    tls_transcript_hash(handshake, hash);
    tls_derive(secrets->stage, "c ap traffic", hash, secrets->client_traffic);
    tls_derive(secrets->stage, "s ap traffic", hash, secrets->server_traffic);
}

unsigned tls_own_types(const struct tls_handshake *handshake)
{
    const struct tls_credentials *credentials = handshake->context->credentials;

    return (credentials->has_key ? TLS_TYPE_RAW : 0) |
           (credentials->has_certificate ? TLS_TYPE_X509 : 0);
}

static int send_verify(struct tls_handshake *handshake)
{
    uint8_t buffer[128], content[TLS_SIGNED_MAX], hash[TLS_HASH_SIZE], signature[TLS_SIGNATURE_SIZE];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    size_t length;

    tls_transcript_hash(handshake, hash);
    length = tls_signed_content(handshake->server, hash, content);
    crypto_sign_detached(signature, NULL, content, length,
                         handshake->context->credentials->secret_key);
    tls_certificate_verify_write(signature, &writer);
    return tls_handshake_send(handshake, &writer);
}

int tls_send_certificate(struct tls_handshake *handshake)
{
    const struct tls_credentials *credentials = handshake->context->credentials;
    uint8_t buffer[TLS_CERTIFICATE_MAX + 64];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    unsigned type = handshake->own_type & tls_own_types(handshake);
    int rc;

    if (type == TLS_TYPE_RAW)
        tls_certificate_message_write(credentials->spki, sizeof(credentials->spki), &writer);
    else if (type == TLS_TYPE_X509)
        tls_certificate_message_write(credentials->certificate, credentials->certificate_length,
                                      &writer);
    else
        tls_certificate_message_write(NULL, 0, &writer);
    rc = tls_handshake_send(handshake, &writer);
    return rc || !type ? rc : send_verify(handshake);
}

int tls_send_finished(struct tls_handshake *handshake)
{
    const struct tls_secrets *secrets = handshake->secrets;
    uint8_t buffer[64], hash[TLS_HASH_SIZE], verify[TLS_HASH_SIZE];
    struct tls_writer writer = tls_writer(buffer, sizeof(buffer));
    size_t mark = tls_message_begin(&writer, TLS_FINISHED);

    tls_transcript_hash(handshake, hash);
    tls_finished(handshake->server ? secrets->server_handshake : secrets->client_handshake, hash,
                 verify);
    tls_put_bytes(&writer, verify, sizeof(verify));
    tls_put_end(&writer, 3, mark);
    return tls_handshake_send(handshake, &writer);
}

/*
 * Looks the peer's identity up in the trust file.  Only for who has proved everything: the answer would tell
 * strangers whom we trust.
 */
static int check_trust(struct tls_handshake *handshake)
{
    if (!handshake->peer[0] || !handshake->context->trusted(handshake->peer, handshake->peer_name,
                                     sizeof(handshake->peer_name)))
        return 0;
    return tls_handshake_fail(handshake, TLS_ALERT_UNKNOWN_CA, "the trust file has no key %s",
                              handshake->peer);
}

/* The dates and the use of a certificate; its signature was verified already. */
static int judge(struct tls_handshake *handshake, const struct tls_certificate *certificate)
{
    int64_t now = handshake->context->now();

    if (!(handshake->server ? certificate->for_clients : certificate->for_servers))
        return tls_handshake_fail(handshake, TLS_ALERT_UNSUPPORTED_CERTIFICATE,
                                  "its certificate is not for %s",
                                  handshake->server ? "clients" : "servers");
    if (now > certificate->not_after)
        return tls_handshake_fail(handshake, TLS_ALERT_CERTIFICATE_EXPIRED,
                                  "its certificate has expired");
    if (now + CLOCK_SLACK < certificate->not_before)
        return tls_handshake_fail(handshake, TLS_ALERT_CERTIFICATE_EXPIRED,
                                  "its certificate is not valid yet; compare the clocks");
    return 0;
}

int tls_take_certificate(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    struct tls_certificate certificate;
    const char *reason = "";
    const uint8_t *data;
    unsigned count;
    size_t length;
    int rc = 0, alert = tls_certificate_message_parse(message->body, message->length, &data, &length, &count);

    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its Certificate message makes no sense");
    if (!data)
        return tls_handshake_fail(handshake,
                                  handshake->server ? TLS_ALERT_CERTIFICATE_REQUIRED
                                                    : TLS_ALERT_DECODE_ERROR,
                                  "it has neither a certificate nor a key");
    if (handshake->peer_type == TLS_TYPE_RAW && count > 1) /* section 4.4.2 */
        return tls_handshake_fail(handshake, TLS_ALERT_ILLEGAL_PARAMETER, "it shows more than one key");
    if (handshake->peer_type == TLS_TYPE_RAW)
        alert = tls_spki_parse(data, length, handshake->peer_key, &reason);
    else
        alert = tls_certificate_parse(data, length, &certificate, &reason);
    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its certificate is refused: %s", reason);
    if (handshake->peer_type != TLS_TYPE_RAW) {
        memcpy(handshake->peer_key, certificate.public_key, TLS_PUBLIC_KEY_SIZE);
        rc = judge(handshake, &certificate);
    }
    if (rc)
        return rc;
    tls_key_identity(handshake->peer_key, handshake->peer);
    tls_transcript_add_message(handshake, message);
    return 0;
}

int tls_take_verify(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    uint8_t content[TLS_SIGNED_MAX], hash[TLS_HASH_SIZE];
    const uint8_t *signature;
    size_t length;
    int alert = tls_certificate_verify_parse(message->body, message->length, &signature);

    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "its CertificateVerify makes no sense");
    tls_transcript_hash(handshake, hash);
    length = tls_signed_content(!handshake->server, hash, content);
    if (crypto_sign_verify_detached(signature, content, length, handshake->peer_key))
        return tls_handshake_fail(handshake, TLS_ALERT_DECRYPT_ERROR,
                                  "it does not hold the key %s that it shows", handshake->peer);
    tls_transcript_add_message(handshake, message);
    return 0;
}

int tls_take_finished(struct tls_handshake *handshake, const struct tls_handshake_message *message)
{
    const struct tls_secrets *secrets = handshake->secrets;
    uint8_t hash[TLS_HASH_SIZE], verify[TLS_HASH_SIZE];

    if (message->length != sizeof(verify))
        return tls_handshake_fail(handshake, TLS_ALERT_DECODE_ERROR, "its Finished has a wrong length");
    if (!message->last) /* section 5.1: the keys change here */
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                  "it goes on after its Finished");
    tls_transcript_hash(handshake, hash);
    tls_finished(handshake->server ? secrets->client_handshake : secrets->server_handshake, hash,
                 verify);
    if (sodium_memcmp(verify, message->body, sizeof(verify)))
        return tls_handshake_fail(handshake, TLS_ALERT_DECRYPT_ERROR,
                                  "the handshake was changed on its way");
    tls_transcript_add_message(handshake, message);
    return check_trust(handshake);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Handshake messages.  The first byte chooses the side and, by skipping states ahead, which message is
 * expected, and whether there is a key shared beforehand or a session to resume; the rest is a flight in the
 * clear or, once there are keys, sealed as the peer would.  No input makes a session: nobody here knows a
 * trusted key.
 */
#include "handshake.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int trust_nobody(const char *identity, char *ret_name, size_t size)
{
    (void)identity, (void)ret_name, (void)size;
    return -ENOENT;
}

static int64_t never(void)
{
    return 0;
}

/* Begins on the side of the state, with what the flags say that both have shared before. */
static void begin(struct tls_handshake *handshake, struct tls_context *context, struct tls_secrets *secrets,
                  enum tls_state state, unsigned flags)
{
    static const struct tls_session session = {.identity = "sha256:", .lifetime = 3600, .ticket_length = 20};
    static struct tls_tickets *tickets;
    struct tls_credentials *credentials = (struct tls_credentials *)context->credentials;

    if (!tickets)
        tickets = tls_tickets_new();
    if (flags & 0x20)
        context->tickets = tickets;
    if (flags & 0x40) {
        credentials->psks[0] = (struct tls_psk){.identity = "node", .length = 32};
        credentials->psk_count = 1;
    }
    if (state <= TLS_WAIT_CLIENT_FINISHED)
        tls_handshake_server(handshake, context, secrets);
    else
        tls_handshake_client(handshake, context, secrets, flags & 0x20 ? &session : NULL,
                             flags & 0x40 ? &credentials->psks[0] : NULL);
    handshake->state = state;
    handshake->sealed_in = state != TLS_WAIT_CLIENT_HELLO && state != TLS_WAIT_SERVER_HELLO;
    handshake->peer_type = flags & 0x80 ? TLS_TYPE_RAW : TLS_TYPE_X509;
}

/* Gives the bytes as one record, sealed where the state wants that. */
static void give(struct tls_handshake *handshake, const uint8_t *bytes, size_t length)
{
    const struct iovec piece = {.iov_base = (void *)bytes, .iov_len = length};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    struct tls_keys keys = handshake->secrets->receive;
    uint8_t record[TLS_HANDSHAKE_IN + 64] = {TLS_HANDSHAKE, 3, 3, (uint8_t)(length >> 8), (uint8_t)length};
    size_t size = TLS_RECORD_HEADER + length;

    if (handshake->sealed_in) {
        tls_seal(&keys, TLS_HANDSHAKE, &cursor, length, record);
        size = TLS_SEALED_SIZE(length);
    } else {
        memcpy(record + TLS_RECORD_HEADER, bytes, length);
    }
    memcpy(tls_handshake_room(handshake), record, TLS_RECORD_HEADER);
    if (tls_handshake_expect(handshake) < 0)
        return;
    memcpy(tls_handshake_room(handshake), record, size);
    tls_handshake_record(handshake, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum tls_state states[] = {
        TLS_WAIT_CLIENT_HELLO,       TLS_WAIT_CLIENT_CERTIFICATE, TLS_WAIT_CLIENT_VERIFY,
        TLS_WAIT_CLIENT_FINISHED,    TLS_WAIT_SERVER_HELLO,       TLS_WAIT_EXTENSIONS,
        TLS_WAIT_CERTIFICATE_OR_REQUEST, TLS_WAIT_SERVER_VERIFY};
    struct tls_credentials *credentials;
    struct tls_context context = {.require_client = true, .trusted = trust_nobody, .now = never};
    static struct tls_handshake handshake;
    struct tls_secrets secrets = {0};
    enum tls_state state;

    if (sodium_init() < 0 || size < 3 || size > 5000)
        return 0;
    state = states[data[0] % 8];
    credentials = tls_credentials_new();
    assert(credentials);
    credentials->has_key = true;
    context.credentials = credentials;
    begin(&handshake, &context, &secrets, state, data[0]);
    for (size_t at = 1; at + 2 <= size && handshake.state != TLS_FAILED;) {
        size_t length = (size_t)data[at] << 8 | data[at + 1];

        at += 2;
        if (length > size - at)
            length = size - at;
        tls_handshake_drop_out(&handshake);
        give(&handshake, data + at, length);
        at += length;
    }
    assert(handshake.state != TLS_DONE);
    assert(handshake.out_length <= TLS_HANDSHAKE_OUT && handshake.in_length < TLS_HANDSHAKE_IN);
    tls_handshake_release(&handshake);
    tls_credentials_free(credentials);
    return 0;
}

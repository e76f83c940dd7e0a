/* SPDX-License-Identifier: BSD-2-Clause */
#include "pair.h"

#include "trust/keygen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *pair_stranger;
int64_t pair_time = 1800000000;
static struct pair_wire last_from_server;

static int pair_trusted(const char *identity, char *ret_name, size_t size)
{
    if (pair_stranger && !strcmp(pair_stranger, identity))
        return -ENOENT;
    snprintf(ret_name, size, "friend");
    return 0;
}

static int64_t pair_now(void)
{
    return pair_time;
}

void pair_rekey(struct pair_side *side, bool expired)
{
    struct tls_credentials *credentials = side->credentials;
    uint8_t seed[KEYGEN_SEED_SIZE], public_key[32], der[KEYGEN_CERTIFICATE_MAX], *end;

    randombytes_buf(seed, sizeof(seed));
    crypto_sign_seed_keypair(public_key, credentials->secret_key, seed);
    tls_spki_encode(public_key, credentials->spki);
    credentials->certificate_length = keygen_certificate(seed, "node", pair_time, der);
    end = memmem(der, credentials->certificate_length, "99991231235959Z", 15);
    if (expired) { /* the signature is made anew */
        size_t tbs = der[1] == 0x82 ? 4 : der[1] == 0x81 ? 3 : 2; /* behind the outer SEQUENCE */

        memcpy(end, "20200101000000Z", 15);
        crypto_sign_detached(der + credentials->certificate_length - 64, NULL, der + tbs,
                             credentials->certificate_length - tbs - 64 - 3 - 7,
                             credentials->secret_key);
    }
    memcpy(credentials->certificate, der, credentials->certificate_length);
    credentials->has_key = credentials->has_certificate = true;
}

static void side_init(struct pair_side *side)
{
    side->credentials = tls_credentials_new();
    side->tickets = tls_tickets_new();
    side->context = (struct tls_context){.credentials = side->credentials, .tickets = side->tickets,
                                         .require_client = true, .trusted = pair_trusted,
                                         .now = pair_now};
    pair_rekey(side, false);
}

struct pair *pair_new(void)
{
    struct pair *pair = calloc(1, sizeof(*pair));

    if (!pair || sodium_init() < 0)
        abort();
    pair_stranger = NULL;
    side_init(&pair->client);
    side_init(&pair->server);
    return pair;
}

void pair_free(struct pair *pair)
{
    tls_handshake_release(&pair->client.handshake);
    tls_handshake_release(&pair->server.handshake);
    tls_credentials_free(pair->client.credentials);
    tls_credentials_free(pair->server.credentials);
    tls_tickets_free(pair->client.tickets);
    tls_tickets_free(pair->server.tickets);
    free(pair);
}

void pair_begin(struct pair *pair, const struct tls_session *session, const struct tls_psk *psk)
{
    tls_handshake_release(&pair->client.handshake); /* of what was begun before */
    tls_handshake_release(&pair->server.handshake);
    memset(&pair->client.secrets, 0, sizeof(pair->client.secrets));
    memset(&pair->server.secrets, 0, sizeof(pair->server.secrets));
    tls_handshake_server(&pair->server.handshake, &pair->server.context, &pair->server.secrets);
    tls_handshake_client(&pair->client.handshake, &pair->client.context, &pair->client.secrets, session,
                         psk);
}

void pair_collect(struct pair_side *side, struct pair_wire *ret_wire)
{
    struct tls_handshake *handshake = &side->handshake;
    size_t done = 0;

    ret_wire->count = 0;
    ret_wire->starts[0] = 0;
    if (handshake->out)
        memcpy(ret_wire->bytes, handshake->out, handshake->out_length);
    while (done < handshake->out_length) {
        done += 5 + ((size_t)ret_wire->bytes[done + 3] << 8 | ret_wire->bytes[done + 4]);
        ret_wire->starts[++ret_wire->count] = done;
    }
    tls_handshake_drop_out(handshake);
}

int pair_give(struct pair_side *side, const uint8_t *record, size_t length)
{
    struct tls_handshake *handshake = &side->handshake;
    ssize_t expected;

    if (handshake->state == TLS_DONE && length >= 5) { /* as the reader of data would find it */
        struct tls_keys keys = side->secrets.receive;
        struct tls_opened opened;

        if (tls_open(&keys, record, length, &opened) != TLS_OK)
            handshake->state = TLS_FAILED;
    }
    if (handshake->state == TLS_DONE || handshake->state == TLS_FAILED || length < 5)
        return -EPROTO;
    memcpy(tls_handshake_room(handshake), record, 5);
    expected = tls_handshake_expect(handshake);
    if (expected < 0)
        return (int)expected;
    if ((size_t)expected != length - 5)
        return -EPROTO; /* the driver would wait for the rest */
    if (handshake->unwanted)
        return 0;
    memcpy(tls_handshake_room(handshake) + 5, record + 5, length - 5);
    return tls_handshake_record(handshake, length);
}

static void deliver(struct pair_side *to, const struct pair_wire *wire)
{
    for (unsigned i = 0; i < wire->count; i++)
        if (pair_give(to, wire->bytes + wire->starts[i], wire->starts[i + 1] - wire->starts[i]))
            return;
}

void pair_run(struct pair *pair, void (*change)(void *opaque, bool to_server, struct pair_wire *wire),
              void *opaque)
{
    struct pair_wire *wire = calloc(1, sizeof(*wire));

    for (unsigned turn = 0; turn < 8; turn++) {
        bool to_server = turn % 2 == 0;
        struct pair_side *from = to_server ? &pair->client : &pair->server;

        pair_collect(from, wire);
        if (change)
            change(opaque, to_server, wire);
        if (!to_server && wire->count)
            last_from_server = *wire;
        deliver(to_server ? &pair->server : &pair->client, wire);
    }
    free(wire);
}

bool pair_agrees(const struct pair *pair)
{
    const struct tls_handshake *client = &pair->client.handshake, *server = &pair->server.handshake;

    return client->state == TLS_DONE && server->state == TLS_DONE &&
           !memcmp(&pair->client.secrets.send, &pair->server.secrets.receive, sizeof(struct tls_keys)) &&
           !memcmp(pair->client.secrets.server_traffic, pair->server.secrets.server_traffic, 32) &&
           !memcmp(pair->client.secrets.resumption, pair->server.secrets.resumption, 32);
}

bool pair_take_ticket(struct pair *pair)
{
    const uint8_t *record = last_from_server.bytes + last_from_server.starts[last_from_server.count - 1];
    struct tls_ticket_message message;
    struct tls_opened opened;
    uint8_t bytes[PAIR_BYTES];

    if (tls_open(&pair->client.secrets.receive, record,
                 last_from_server.starts[last_from_server.count] -
                     last_from_server.starts[last_from_server.count - 1],
                 &opened) != TLS_OK ||
        opened.type != TLS_HANDSHAKE)
        return false;
    tls_take(&pair->client.secrets.receive, &opened, bytes, opened.length);
    if (bytes[0] != TLS_NEW_SESSION_TICKET ||
        tls_ticket_message_parse(bytes + 4, opened.length - 4, &message) != TLS_OK)
        return false;
    memset(&pair->session, 0, sizeof(pair->session));
    memcpy(pair->session.identity, pair->client.handshake.peer, sizeof(pair->session.identity));
    memcpy(pair->session.ticket, message.ticket, message.ticket_length);
    pair->session.ticket_length = message.ticket_length;
    pair->session.lifetime = message.lifetime;
    pair->session.age_add = message.age_add;
    pair->session.issued = pair_time;
    tls_ticket_psk(pair->client.secrets.resumption, message.nonce, message.nonce_length,
                   pair->session.psk);
    return true;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From records to buffers.  The transport below fills one buffer with as many records as it has; each is
 * verified there, and its content decrypted from there straight into the caller's buffers.
 */
#include "connection.h"

#include <stdlib.h>

/* The longest handshake message after the handshake: a ticket. */
#define POST_MAX (TLS_TICKET_MAX + 512)

/* From now on every read fails; the peer is told why. */
static int fail(struct tls_connection *connection, int alert, const char *reason)
{
    char name[256] = "";

    tls_peer_name(connection, name, sizeof(name));
    drafter_log(DRAFTER_LOG_WARNING, "tls", "%s: %s", name, reason);
    tls_send_last_alert(connection, alert, 1);
    connection->read_error = -tls_alert_errno(alert);
    return connection->read_error;
}

static int take_alert(struct tls_connection *connection, const uint8_t *bytes, size_t length)
{
    const char *hint;
    char name[256] = "";

    if (length != 2)
        return fail(connection, TLS_ALERT_DECODE_ERROR, "it sent a malformed alert");
    if (bytes[1] == TLS_ALERT_CLOSE_NOTIFY) {
        connection->ended = true;
        return 0;
    }
    if (bytes[1] == TLS_ALERT_USER_CANCELED) /* close_notify follows */
        return 0;
    hint = tls_alert_hint(bytes[1]);
    tls_peer_name(connection, name, sizeof(name));
    drafter_log(DRAFTER_LOG_WARNING, "tls", "%s: it %s with alert %s (%u)%s%s", name,
                connection->heard ? "ended the connection" : "refused us", tls_alert_name(bytes[1]),
                bytes[1], *hint ? ": " : "", hint);
    connection->read_error = -tls_alert_errno(bytes[1]);
    return connection->read_error;
}

static int take_ticket(struct tls_connection *connection, const uint8_t *body, size_t length)
{
    struct tls_instance *instance = connection->instance;
    struct tls_ticket_message message;
    struct tls_session *session;

    if (connection->server)
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "a client sent a ticket");
    if (tls_ticket_message_parse(body, length, &message) != TLS_OK)
        return fail(connection, TLS_ALERT_DECODE_ERROR, "its ticket makes no sense");
    if (!instance->tickets || !message.lifetime || message.ticket_length > TLS_TICKET_MAX)
        return 0;
    session = sodium_malloc(sizeof(*session));
    if (!session)
        return 0;
    memset(session, 0, sizeof(*session));
    memcpy(session->identity, connection->peer, sizeof(session->identity));
    memcpy(session->ticket, message.ticket, message.ticket_length);
    session->ticket_length = message.ticket_length;
    session->lifetime = message.lifetime < TLS_TICKET_LIFETIME ? message.lifetime : TLS_TICKET_LIFETIME;
    session->age_add = message.age_add;
    session->issued = instance->context.now();
    tls_ticket_psk(connection->secrets->resumption, message.nonce, message.nonce_length, session->psk);
    tls_session_keep(instance->tickets, connection->address, session);
    sodium_free(session);
    return 0;
}

static int take_key_update(struct tls_connection *connection, const uint8_t *body, size_t length,
                           bool last)
{
    struct tls_secrets *secrets = connection->secrets;
    uint8_t *secret = connection->server ? secrets->client_traffic : secrets->server_traffic;

    if (length != 1)
        return fail(connection, TLS_ALERT_DECODE_ERROR, "its KeyUpdate makes no sense");
    if (body[0] > 1)
        return fail(connection, TLS_ALERT_ILLEGAL_PARAMETER, "its KeyUpdate makes no sense");
    if (!last)
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "it goes on after its KeyUpdate");
    tls_update_secret(secret);
    tls_keys_set(&secrets->receive, secret);
    if (body[0] == 1)
        atomic_store(&connection->update_wanted, true);
    return 0;
}

static int take_message(struct tls_connection *connection, unsigned type, const uint8_t *body,
                        size_t length, bool last)
{
    switch (type) {
    case TLS_NEW_SESSION_TICKET:
        return take_ticket(connection, body, length);
    case TLS_KEY_UPDATE:
        return take_key_update(connection, body, length, last);
    default:
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE,
                    "it sent a handshake message after the handshake");
    }
}

/* A handshake record: whole messages are handled, the beginning of one is kept. */
static int take_handshake(struct tls_connection *connection, const uint8_t *bytes, size_t length)
{
    size_t done = 0;
    int rc = 0;

    if (!connection->post)
        connection->post = malloc(POST_MAX);
    if (!connection->post)
        return connection->read_error = -ENOMEM;
    if (length > POST_MAX - connection->post_length)
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "its handshake message is too long");
    memcpy(connection->post + connection->post_length, bytes, length);
    length += connection->post_length;
    while (!rc && length - done >= 4) {
        const uint8_t *at = connection->post + done;
        size_t body = (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];

        if (body > POST_MAX - 4)
            return fail(connection, TLS_ALERT_DECODE_ERROR, "its handshake message is too long");
        if (length - done - 4 < body)
            break;
        done += 4 + body;
        rc = take_message(connection, at[0], at + 4, body, done == length);
    }
    memmove(connection->post, connection->post + done, length - done);
    connection->post_length = length - done;
    return rc;
}

/* Handles a record that is not data. */
static int take_other(struct tls_connection *connection)
{
    struct tls_opened *opened = &connection->opened;
    size_t length = opened->length;
    uint8_t *bytes = (uint8_t *)opened->ciphertext; /* in our own buffer */

    if (!length) /* section 5.4: only data may be empty */
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "it sent an empty record");
    tls_take(&connection->secrets->receive, opened, bytes, length);
    switch (opened->type) {
    case TLS_ALERT:
        return take_alert(connection, bytes, length);
    case TLS_HANDSHAKE:
        return take_handshake(connection, bytes, length);
    default:
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "it sent a record of an unknown type");
    }
}

/* Opens the next record that is here: 1, 0 when none is whole, or a negative errno. */
static int next_record(struct tls_connection *connection)
{
    size_t here = connection->in_end - connection->in_start, length;
    const uint8_t *record;
    int alert;

    if (here < TLS_RECORD_HEADER) /* there may be no buffer yet */
        return 0;
    record = connection->in + connection->in_start;
    length = TLS_RECORD_HEADER + ((size_t)record[3] << 8 | record[4]);
    if (length > TLS_RECORD_MAX)
        return fail(connection, TLS_ALERT_RECORD_OVERFLOW, "a record is too long");
    if (here < length)
        return 0;
    alert = tls_open(&connection->secrets->receive, record, length, &connection->opened);
    if (alert != TLS_OK) {
        memset(&connection->opened, 0, sizeof(connection->opened));
        return fail(connection, alert, "a record was changed on its way");
    }
    connection->in_start += length;
    if (connection->opened.type != TLS_APPLICATION_DATA)
        return take_other(connection) ? connection->read_error : 1;
    if (connection->post_length)
        return fail(connection, TLS_ALERT_UNEXPECTED_MESSAGE, "data came inside a handshake message");
    connection->heard = true;
    return 1;
}

/* Reads once from below; the content of every record was taken before. */
static int fill(struct tls_connection *connection)
{
    size_t here = connection->in_end - connection->in_start;
    struct iovec piece;
    ssize_t done;

    if (!connection->in) {
        connection->in = malloc(TLS_BATCH_SIZE);
        if (!connection->in)
            return -ENOMEM;
    }
    if (connection->in_start) {
        memmove(connection->in, connection->in + connection->in_start, here);
        connection->in_start = 0;
        connection->in_end = here;
    }
    piece = (struct iovec){.iov_base = connection->in + here, .iov_len = TLS_BATCH_SIZE - here};
    done = connection->instance->next->readv(connection->below, &piece, 1);
    if (done < 0)
        return (int)done;
    if (done == 0) { /* only close_notify is an end: everything else may be an attacker's doing */
        drafter_log(DRAFTER_LOG_DEBUG, "tls", "the stream was cut off without close_notify");
        return connection->read_error = -ECONNRESET;
    }
    if ((size_t)done > piece.iov_len)
        return connection->read_error = -EIO;
    connection->in_end += (size_t)done;
    return 0;
}

/* Decrypts into the vector what is here, as much as fits: bytes, or 0. */
static size_t take_data(struct tls_connection *connection, const struct iovec *vector, int count)
{
    struct tls_opened *opened = &connection->opened;
    size_t total = 0, offset = 0;

    while (count > 0 && !connection->read_error && !connection->ended) {
        size_t room = vector->iov_len - offset, left = opened->length - opened->done;

        if (room == 0) {
            vector++;
            count--;
            offset = 0;
        } else if (left == 0) {
            if (next_record(connection) <= 0)
                break;
        } else {
            size_t part = left < room ? left : room;

            tls_take(&connection->secrets->receive, opened, (uint8_t *)vector->iov_base + offset, part);
            offset += part;
            total += part;
        }
    }
    return total;
}

ssize_t tls_readv(void *opaque, const struct iovec *vector, int count)
{
    struct tls_connection *connection = opaque;
    unsigned timeout_ms = atomic_load(&connection->timeout_ms);
    uint64_t begin = 0;

    while (count > 0 && vector->iov_len == 0) {
        vector++;
        count--;
    }
    if (count == 0)
        return -EINVAL; /* 0 would say that the stream ended */
    for (;;) {
        size_t done;
        int rc;

        if (atomic_load(&connection->cancelled))
            return -ECANCELED;
        done = take_data(connection, vector, count);
        if (done > 0)
            return (ssize_t)done;
        if (connection->read_error)
            return connection->read_error;
        if (connection->ended)
            return 0;
        /* A record that trickles in must not stretch the wait without end. */
        if (timeout_ms && begin && drafter_now_ns() - begin > timeout_ms * UINT64_C(1000000))
            return -ETIMEDOUT;
        if (timeout_ms && !begin)
            begin = drafter_now_ns();
        rc = fill(connection);
        if (rc)
            return atomic_load(&connection->cancelled) ? -ECANCELED : rc;
    }
}

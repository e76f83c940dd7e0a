/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a peer with the right keys may say after its handshake: data, tickets, KeyUpdates, alerts, and records of no
 * known type, in any order and in pieces.  The input is a byte of flags, then for each record its type, two bytes of
 * length, and what is inside.  What is read is the data that was sealed, in order, and only close_notify is an end.
 */
#include "connection.h"

#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define DATA_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct tls_connection *connection;
    const uint8_t *left, *end;
    uint8_t record[TLS_SEALED_SIZE(DATA_MAX)];
    size_t done, length; /* of the record */
    size_t piece;        /* the most that a read returns */
    uint8_t content[DATA_MAX];
    size_t sealed; /* bytes of data */
    bool closed;   /* close_notify was among it */
} wire;

/* What the record is in the end: a type of 0 is padding, in front of which is another type. */
static void foresee(enum tls_content type, const uint8_t *content, size_t length)
{
    while (!type && length > 0)
        type = content[--length];
    if (type == TLS_APPLICATION_DATA) {
        memcpy(wire.content + wire.sealed, content, length);
        wire.sealed += length;
    }
    wire.closed |= type == TLS_ALERT && length == 2 && content[1] == TLS_ALERT_CLOSE_NOTIFY;
}

/* Seals the next record with the keys that the reader has now: all that went before was read. */
static bool seal_next(void)
{
    struct tls_keys keys = wire.connection->secrets->receive;
    struct iovec piece;
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    size_t length;

    if (wire.end - wire.left < 3)
        return false;
    length = (size_t)wire.left[1] << 8 | wire.left[2];
    if (length > (size_t)(wire.end - wire.left - 3))
        length = (size_t)(wire.end - wire.left - 3);
    piece = (struct iovec){.iov_base = (void *)(wire.left + 3), .iov_len = length};
    tls_seal(&keys, wire.left[0], &cursor, length, wire.record);
    wire.length = TLS_SEALED_SIZE(length);
    wire.done = 0;
    foresee(wire.left[0], wire.left + 3, length);
    wire.left += 3 + length;
    return true;
}

static ssize_t wire_readv(void *connection, const struct iovec *vector, int count)
{
    size_t part;

    (void)connection, (void)count;
    if (wire.done == wire.length && !seal_next())
        return 0;
    part = wire.length - wire.done;
    if (part > wire.piece)
        part = wire.piece;
    assert(vector->iov_len >= part);
    memcpy(vector->iov_base, wire.record + wire.done, part);
    wire.done += part;
    return (ssize_t)part;
}

static ssize_t wire_writev(void *connection, const struct iovec *vector, int count)
{
    (void)connection, (void)count;
    return (ssize_t)vector->iov_len;
}

static int wire_set_timeout(void *connection, unsigned timeout_ms)
{
    (void)connection, (void)timeout_ms;
    return 0;
}

static int wire_peer_name(void *connection, char *buffer, size_t size)
{
    (void)connection;
    buffer[0] = '\0';
    return size > 0 ? 0 : -ENAMETOOLONG;
}

static void wire_close(void *connection)
{
    (void)connection;
}

static int64_t never(void)
{
    return 0;
}

static void read_all(struct tls_connection *connection)
{
    size_t total = 0;
    ssize_t rc;

    do {
        uint8_t one[7], other[500];
        struct iovec vector[] = {{one, sizeof(one)}, {other, sizeof(other)}};

        rc = tls_readv(connection, vector, 2);
        for (ssize_t i = 0; i < rc; i++) {
            assert(total < wire.sealed);
            assert((i < 7 ? one[i] : other[i - 7]) == wire.content[total++]);
        }
    } while (rc > 0);
    assert(rc < 0 || wire.closed);
    assert(rc == 0 || tls_readv(connection, &(struct iovec){wire.content, 1}, 1) == rc); /* it stays so */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct drafter_transport_ops ops = {.readv = wire_readv, .writev = wire_writev,
                                                     .set_timeout = wire_set_timeout, .peer_name = wire_peer_name,
                                                     .shutdown = wire_close, .close = wire_close};
    static const struct tls_config config = {.rekey_after = 1 << 20};
    static struct tls_instance instance = {.config = &config, .next = &ops, .context = {.now = never}};
    static const uint8_t secret[TLS_HASH_SIZE] = {1};

    if (sodium_init() < 0 || size < 1 || size > DATA_MAX)
        return 0;
    if (!instance.tickets) {
        instance.tickets = tls_tickets_new();
        tls_vault_init(&instance.vault);
        pthread_mutex_init(&instance.lock, NULL);
        log_setup(LOG_FORMAT_HUMAN, DRAFTER_LOG_ERROR);
    }
    memset(&wire, 0, sizeof(wire));
    wire.left = data + 1;
    wire.end = data + size;
    wire.piece = data[0] & 2 ? 1 + data[0] : DATA_MAX;
    wire.connection = tls_connection_new(&instance, &wire);
    assert(wire.connection && !tls_connection_reserve(wire.connection));
    wire.connection->server = data[0] & 1;
    snprintf(wire.connection->address, sizeof(wire.connection->address), "here");
    tls_keys_set(&wire.connection->secrets->receive, secret);
    tls_keys_set(&wire.connection->secrets->send, secret);
    read_all(wire.connection);
    tls_close(wire.connection);
    return 0;
}

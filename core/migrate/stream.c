/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/stream.h"

#include "util/cleanup.h"

#include <string.h>

int stream_new(struct transport_connection *connection, struct stream **ret_stream)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream) {
        transport_close(connection);
        return -ENOMEM;
    }
    stream->connection = connection;
    pthread_mutex_init(&stream->send_lock, NULL);
    if (transport_peer_name(connection, stream->peer, sizeof(stream->peer)))
        memcpy(stream->peer, "unknown peer", sizeof("unknown peer"));
    transport_peer_identity(connection, stream->identity, sizeof(stream->identity));
    *ret_stream = stream;
    return 0;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    transport_close(stream->connection);
    pthread_mutex_destroy(&stream->send_lock);
    free(stream);
}

void stream_shutdown(struct stream *stream)
{
    if (stream)
        transport_shutdown(stream->connection);
}

/* Under the send lock. */
static int send_frame(struct stream *stream, struct wire_header header, const void *payload)
{
    char bytes[WIRE_HEADER_SIZE];
    struct iovec vector[2] = {{bytes, sizeof(bytes)}, {(void *)payload, header.length}};

    if (stream->send_error)
        return stream->send_error;
    header.sequence = stream->send_sequence;
    wire_encode(&header, stream->seed, payload, bytes);
    stream->send_error = transport_writev_full(stream->connection, vector, header.length ? 2 : 1);
    if (stream->send_error)
        return stream->send_error;
    stream->send_sequence++;
    __atomic_fetch_add(&stream->bytes_sent, sizeof(bytes) + header.length, __ATOMIC_RELAXED);
    return 0;
}

int stream_send(struct stream *stream, struct wire_header header, const void *payload)
{
    lock_scope(&stream->send_lock);
    return send_frame(stream, header, payload);
}

int stream_send_signal(struct stream *stream, unsigned type, uint64_t argument)
{
    const struct wire_header header = {.type = (uint16_t)type, .argument = argument};

    return stream_send(stream, header, NULL);
}

int stream_ping_idle(struct stream *stream)
{
    const struct wire_header ping = {.type = WIRE_PING};
    int rc = 0;

    if (pthread_mutex_trylock(&stream->send_lock))
        return 0; /* a sender is at it */
    if (transport_unsent(stream->connection) <= 0)
        rc = send_frame(stream, ping, NULL);
    pthread_mutex_unlock(&stream->send_lock);
    return rc;
}

/* A timeout of the connection is that of one read; a peer must not stretch a frame by many of them. */
static int read_in_time(struct stream *stream, void *buffer, size_t length)
{
    while (stream->receive_deadline && length > 0) {
        uint64_t now = drafter_now_ns();
        struct iovec vector = {buffer, length};
        ssize_t done;

        if (now >= stream->receive_deadline)
            return -ETIMEDOUT;
        transport_set_timeout(stream->connection,
                              (unsigned)((stream->receive_deadline - now) / 1000000 + 1));
        done = transport_readv(stream->connection, &vector, 1);
        if (done <= 0)
            return done ? (int)done : -ECONNRESET;
        buffer = (char *)buffer + done;
        length -= (size_t)done;
    }
    return transport_read_full(stream->connection, buffer, length);
}

int stream_receive(struct stream *stream, struct wire_header *ret_header, void *payload,
                   size_t capacity)
{
    char bytes[WIRE_HEADER_SIZE];
    struct wire_header header;
    int rc = read_in_time(stream, bytes, sizeof(bytes));

    if (!rc)
        rc = wire_decode(bytes, &header);
    if (!rc) /* ahead of its payload, which might never come in that length */
        rc = wire_check(bytes, stream->seed, stream->receive_sequence);
    if (!rc && header.length > capacity)
        rc = -EPROTO;
    if (!rc && header.length)
        rc = read_in_time(stream, payload, header.length);
    if (!rc)
        rc = wire_verify(bytes, &header, stream->seed, payload);
    if (rc)
        return rc;
    stream->receive_sequence++;
    __atomic_fetch_add(&stream->bytes_received, sizeof(bytes) + header.length, __ATOMIC_RELAXED);
    *ret_header = header;
    return 0;
}

int stream_check_peer(const struct stream *stream, const char *identity, struct drafter_error *err)
{
    if (!strcmp(stream->identity, identity))
        return 0;
    return drafter_error_set(err, EACCES, "%s is %s, but the session is %s's", stream->peer,
                             *stream->identity ? stream->identity : "unknown",
                             *identity ? identity : "nobody");
}

const char *stream_error_text(int rc)
{
    switch (-rc) {
    case EACCES:
        return "the peer refuses us, or is not who it says; see the lines before";
    case ECONNRESET:
    case EPIPE:
        return "the peer closed the connection";
    case EBADMSG:
        return "a frame arrived damaged (checksum or order)";
    case EPROTO:
        return "the peer sent a frame that makes no sense; is it another version of drafter?";
    case ETIMEDOUT:
        return "nothing was heard of the peer for too long";
    case ECANCELED:
        return "the connection was shut down";
    default:
        return strerror(-rc);
    }
}

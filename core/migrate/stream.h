/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames on one transport connection.  One thread receives; any thread may send: the send lock keeps
 * frames whole and is the one lock that is held across I/O.
 */
#ifndef MIGRATE_STREAM_H
#define MIGRATE_STREAM_H

#include "migrate/wire.h"
#include "plugin/transport.h"

struct stream {
    struct transport_connection *connection; /* owned */
    char peer[128];
    char identity[DRAFTER_IDENTITY_SIZE]; /* that the peer has proven, or "" */
    uint64_t seed; /* of the checksums: the session's, 0 until it is known */

    pthread_mutex_t send_lock;
    uint64_t send_sequence; /* send_lock */
    int send_error; /* send_lock: a frame failed, perhaps in the middle, where none can begin */

    uint64_t receive_sequence; /* the receiving thread */
    uint64_t receive_deadline; /* the receiving thread: drafter_now_ns() when a frame must be whole; 0: any */
    uint64_t bytes_sent, bytes_received; /* atomic */
};

/* Takes the connection on success and on failure. */
int stream_new(struct transport_connection *connection, struct stream **ret_stream);
void stream_free(struct stream *stream); /* no thread uses it any more; NULL is allowed */
void stream_shutdown(struct stream *stream); /* any thread: wakes sender and receiver */

/*
 * Sends one frame.  The header's sequence is filled in.  0 or a negative errno, which every later frame of
 * the stream gets as well.
 */
int stream_send(struct stream *stream, struct wire_header header, const void *payload);

/* A frame without payload. */
int stream_send_signal(struct stream *stream, unsigned type, uint64_t argument);

/*
 * A PING where nothing is under way that would tell the peer as well that this stream lives.  Waits only
 * on transports that do not say what is unsent.
 */
int stream_ping_idle(struct stream *stream);

/*
 * Receives one frame with at most `capacity` bytes of payload.  -ECONNRESET when the stream ended,
 * -EBADMSG when its bytes are not what was sent, -EPROTO when they make no sense.
 */
int stream_receive(struct stream *stream, struct wire_header *ret_header, void *payload,
                   size_t capacity);

/*
 * All streams of a session have the peer of its first one: refuses a stream of another, or of one that
 * has proven less.
 */
int stream_check_peer(const struct stream *stream, const char *identity, struct drafter_error *err);

/* What went wrong with a stream, for an operator. */
const char *stream_error_text(int rc);

#endif

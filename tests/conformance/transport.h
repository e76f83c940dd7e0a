/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the transport conformance program share. */
#ifndef CONFORMANCE_TRANSPORT_H
#define CONFORMANCE_TRANSPORT_H

#include "conformance.h"
#include "plugin/transport.h"

/* Two ends of one stream. */
struct stream {
    struct transport_connection *near, *far;
};

/* Listens at `address`; fails the test when it cannot. */
struct transport_listener *stream_listen(struct instance *instance, const char *address);

/* Connects to the listener and accepts, in parallel; fails the test when it cannot. */
struct stream stream_open(struct instance *instance, struct transport_listener *listener,
                          const char *address);
void stream_close(struct stream *stream);

/* Sends a few bytes each way and checks that they arrive. */
void stream_check(struct stream *stream);

/* Fails the test when connecting works; the message is in `err`. */
int stream_refused(struct instance *instance, const char *address, unsigned timeout_ms,
                   struct drafter_error *err);

/* The operations themselves, for what the adapters do not offer. */
static inline const struct drafter_transport_ops *stream_ops(const struct instance *instance)
{
    return instance->plugin->ops;
}

TCase *transport_tcp_case(void);
TCase *transport_unix_case(void);

#endif

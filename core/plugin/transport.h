/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into transport plugins; contracts as in drafter/transport.h. */
#ifndef PLUGIN_TRANSPORT_H
#define PLUGIN_TRANSPORT_H

#include "plugin/plugin.h"
#include <drafter/transport.h>

/* A connection and whose it is. */
struct transport_connection {
    struct instance *transport;
    void *data;
    uint64_t waiting_since; /* atomic: see transport_waits_longer */
};

struct transport_listener {
    struct instance *transport;
    void *data;
};

int transport_connect(struct instance *transport, const char *address, unsigned timeout_ms,
                      struct transport_connection **ret_connection, struct drafter_error *err);
int transport_listen(struct instance *transport, const char *address,
                     struct transport_listener **ret_listener, struct drafter_error *err);
int transport_accept(struct transport_listener *listener,
                     struct transport_connection **ret_connection, struct drafter_error *err);
int transport_listener_address(struct transport_listener *listener, char *buffer, size_t size);
void transport_listener_shutdown(struct transport_listener *listener);
void transport_listener_close(struct transport_listener *listener); /* NULL is allowed */

/* At least one byte, 0 at the orderly end of the stream, or a negative errno. */
ssize_t transport_readv(struct transport_connection *connection, const struct iovec *vector,
                        int count);
ssize_t transport_writev(struct transport_connection *connection, const struct iovec *vector,
                         int count);

/* Has a reader waited longer than that for the peer's next byte?  Any thread. */
bool transport_waits_longer(const struct transport_connection *connection, uint64_t limit_ns);

/* Everything or a negative errno; -ECONNRESET when the stream ends first. */
int transport_read_full(struct transport_connection *connection, void *buffer, size_t length);

/* Everything or a negative errno; `vector` is consumed. */
int transport_writev_full(struct transport_connection *connection, struct iovec *vector, int count);

int transport_set_timeout(struct transport_connection *connection, unsigned timeout_ms);
ssize_t transport_unsent(struct transport_connection *connection); /* -ENOTSUP when unknown */
/* Who was proven to be there; "" when nobody was, or the transport cannot know. */
void transport_peer_identity(struct transport_connection *connection, char *buffer, size_t size);

/*
 * Whether the transport proves who its peers are, whether it lets those in that do not prove it, and whether
 * its streams may leave this host.
 */
bool transport_knows_peers(const struct instance *transport);
bool transport_plugin_knows_peers(const struct plugin *plugin);
bool transport_admits_unknown(const struct instance *transport);
bool transport_leaves_host(struct instance *transport, const char *address, bool listening);

int transport_peer_name(struct transport_connection *connection, char *buffer, size_t size);
void transport_shutdown(struct transport_connection *connection);
void transport_close(struct transport_connection *connection); /* NULL is allowed */

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a layer sees of the transport below: the adapter as an operations table, in which a
 * connection is a struct transport_connection and a listener a struct transport_listener.
 */
#include "plugin/transport.h"

static int next_connect(void *next, const char *address, unsigned timeout_ms, void **ret_connection,
                        struct drafter_error *err)
{
    struct transport_connection *connection;
    int ret = transport_connect(next, address, timeout_ms, &connection, err);

    if (ret == 0)
        *ret_connection = connection;
    return ret;
}

static int next_listen(void *next, const char *address, void **ret_listener,
                       struct drafter_error *err)
{
    struct transport_listener *listener;
    int ret = transport_listen(next, address, &listener, err);

    if (ret == 0)
        *ret_listener = listener;
    return ret;
}

static int next_accept(void *next, void *listener, void **ret_connection, struct drafter_error *err)
{
    struct transport_connection *connection;
    int ret = transport_accept(listener, &connection, err);

    (void)next;
    if (ret == 0)
        *ret_connection = connection;
    return ret;
}

static int next_listener_address(void *listener, char *buffer, size_t size)
{
    return transport_listener_address(listener, buffer, size);
}

static void next_listener_shutdown(void *listener)
{
    transport_listener_shutdown(listener);
}

static void next_listener_close(void *listener)
{
    transport_listener_close(listener);
}

static ssize_t next_readv(void *connection, const struct iovec *vector, int count)
{
    return transport_readv(connection, vector, count);
}

static ssize_t next_writev(void *connection, const struct iovec *vector, int count)
{
    return transport_writev(connection, vector, count);
}

static int next_set_timeout(void *connection, unsigned timeout_ms)
{
    return transport_set_timeout(connection, timeout_ms);
}

static void next_shutdown(void *connection)
{
    transport_shutdown(connection);
}

static void next_close(void *connection)
{
    transport_close(connection);
}

static int next_peer_name(void *connection, char *buffer, size_t size)
{
    return transport_peer_name(connection, buffer, size);
}

static ssize_t next_unsent(void *connection)
{
    return transport_unsent(connection);
}

static int next_peer_identity(void *connection, char *buffer, size_t size)
{
    transport_peer_identity(connection, buffer, size);
    return 0;
}

static bool next_admits_unknown(void *next)
{
    return transport_admits_unknown(next);
}

static bool next_leaves_host(void *next, const char *address, bool listening)
{
    return transport_leaves_host(next, address, listening);
}

const struct drafter_transport_ops *drafter_next_transport(void *next, void **ret_instance)
{
    static const struct drafter_transport_ops ops = {
        .connect = next_connect,
        .listen = next_listen,
        .accept = next_accept,
        .listener_address = next_listener_address,
        .listener_shutdown = next_listener_shutdown,
        .listener_close = next_listener_close,
        .readv = next_readv,
        .writev = next_writev,
        .set_timeout = next_set_timeout,
        .shutdown = next_shutdown,
        .close = next_close,
        .peer_name = next_peer_name,
        .unsent = next_unsent,
        .peer_identity = next_peer_identity,
        .leaves_host = next_leaves_host,
        .admits_unknown = next_admits_unknown,
    };
    const struct instance *transport = next;

    if (!transport || transport->plugin->descriptor.kind != DRAFTER_KIND_TRANSPORT)
        return NULL;
    *ret_instance = next;
    return &ops;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transport adapter.  Transports never serialize (the loader refuses it), so there is no lock
 * here: a reader that waits must not keep the writer or shutdown() out.
 */
#include "plugin/transport.h"

#include "plugin/adapter.h"
#include "util/cleanup.h"

#define IOV_COUNT_MAX 1024 /* IOV_MAX on Linux */

static const struct drafter_transport_ops *ops_of(const struct instance *transport)
{
    return transport->plugin->ops;
}

int transport_connect(struct instance *transport, const char *address, unsigned timeout_ms,
                      struct transport_connection **ret_connection, struct drafter_error *err)
{
    cleanup_free struct transport_connection *connection = calloc(1, sizeof(*connection));
    int ret;

    if (!connection)
        return drafter_error_errno(err, ENOMEM, "%s", address);
    connection->transport = transport;
    ret = ops_of(transport)->connect(transport->data, address, timeout_ms, &connection->data, err);
    ret = adapter_result(transport, "connect", ret, err);
    if (ret < 0)
        return ret;
    *ret_connection = steal(&connection);
    return 0;
}

int transport_listen(struct instance *transport, const char *address,
                     struct transport_listener **ret_listener, struct drafter_error *err)
{
    cleanup_free struct transport_listener *listener = calloc(1, sizeof(*listener));
    int ret;

    if (!listener)
        return drafter_error_errno(err, ENOMEM, "%s", address);
    listener->transport = transport;
    ret = ops_of(transport)->listen(transport->data, address, &listener->data, err);
    ret = adapter_result(transport, "listen", ret, err);
    if (ret < 0)
        return ret;
    *ret_listener = steal(&listener);
    return 0;
}

int transport_accept(struct transport_listener *listener,
                     struct transport_connection **ret_connection, struct drafter_error *err)
{
    cleanup_free struct transport_connection *connection = calloc(1, sizeof(*connection));
    struct instance *transport = listener->transport;
    int ret;

    if (!connection)
        return drafter_error_errno(err, EAGAIN, "accept");
    connection->transport = transport;
    ret = ops_of(transport)->accept(transport->data, listener->data, &connection->data, err);
    ret = adapter_result(transport, "accept", ret, err);
    if (ret < 0)
        return ret;
    *ret_connection = steal(&connection);
    return 0;
}

int transport_listener_address(struct transport_listener *listener, char *buffer, size_t size)
{
    int ret = ops_of(listener->transport)->listener_address(listener->data, buffer, size);

    adapter_terminate(buffer, size);
    return adapter_errno(ret);
}

void transport_listener_shutdown(struct transport_listener *listener)
{
    ops_of(listener->transport)->listener_shutdown(listener->data);
}

void transport_listener_close(struct transport_listener *listener)
{
    if (!listener)
        return;
    ops_of(listener->transport)->listener_close(listener->data);
    free(listener);
}

/* At least one byte, 0 at the end of the stream; a plugin that claims more than asked for is
 * broken. */
ssize_t transport_readv(struct transport_connection *connection, const struct iovec *vector,
                        int count)
{
    size_t wanted = 0;
    ssize_t ret;

    for (int i = 0; i < count; i++)
        wanted += vector[i].iov_len;
    __atomic_store_n(&connection->waiting_since, drafter_now_ns(), __ATOMIC_RELAXED);
    do
        ret = ops_of(connection->transport)->readv(connection->data, vector, count);
    while (ret == -EINTR);
    __atomic_store_n(&connection->waiting_since, 0, __ATOMIC_RELAXED);
    return ret > 0 && (size_t)ret > wanted ? -EIO : ret;
}

ssize_t transport_writev(struct transport_connection *connection, const struct iovec *vector,
                         int count)
{
    ssize_t ret;

    do
        ret = ops_of(connection->transport)->writev(connection->data, vector, count);
    while (ret == -EINTR);
    return ret;
}

bool transport_waits_longer(const struct transport_connection *connection, uint64_t limit_ns)
{
    uint64_t since = __atomic_load_n(&connection->waiting_since, __ATOMIC_RELAXED), now = drafter_now_ns();

    return since && now > since && now - since > limit_ns;
}

int transport_read_full(struct transport_connection *connection, void *buffer, size_t length)
{
    while (length > 0) {
        struct iovec vector = {buffer, length};
        ssize_t ret = transport_readv(connection, &vector, 1);

        if (ret < 0)
            return (int)ret;
        if (ret == 0)
            return -ECONNRESET;
        buffer = (char *)buffer + ret;
        length -= (size_t)ret;
    }
    return 0;
}

/* Takes `done` bytes off the front; returns false when that is more than there is. */
static bool consume(struct iovec **vector, int *count, size_t done)
{
    while (*count > 0 && done >= (*vector)->iov_len) {
        done -= (*vector)->iov_len;
        ++*vector;
        --*count;
    }
    if (*count == 0)
        return done == 0;
    (*vector)->iov_base = (char *)(*vector)->iov_base + done;
    (*vector)->iov_len -= done;
    return true;
}

int transport_writev_full(struct transport_connection *connection, struct iovec *vector, int count)
{
    consume(&vector, &count, 0); /* empty pieces in front */
    while (count > 0) {
        int part = count < IOV_COUNT_MAX ? count : IOV_COUNT_MAX;
        ssize_t ret = transport_writev(connection, vector, part);

        if (ret < 0)
            return (int)ret;
        if (ret == 0 || !consume(&vector, &count, (size_t)ret))
            return -EIO;
    }
    return 0;
}

int transport_set_timeout(struct transport_connection *connection, unsigned timeout_ms)
{
    return adapter_errno(ops_of(connection->transport)->set_timeout(connection->data, timeout_ms));
}

ssize_t transport_unsent(struct transport_connection *connection)
{
    const struct drafter_transport_ops *ops = ops_of(connection->transport);

    return ops->unsent ? ops->unsent(connection->data) : -ENOTSUP;
}

int transport_peer_name(struct transport_connection *connection, char *buffer, size_t size)
{
    int ret = ops_of(connection->transport)->peer_name(connection->data, buffer, size);

    adapter_terminate(buffer, size);
    return adapter_errno(ret);
}

void transport_peer_identity(struct transport_connection *connection, char *buffer, size_t size)
{
    const struct drafter_transport_ops *ops = ops_of(connection->transport);

    if (!ops->peer_identity || ops->peer_identity(connection->data, buffer, size))
        buffer[0] = '\0';
    adapter_terminate(buffer, size);
}

bool transport_plugin_knows_peers(const struct plugin *plugin)
{
    return ((const struct drafter_transport_ops *)plugin->ops)->peer_identity != NULL;
}

bool transport_knows_peers(const struct instance *transport)
{
    return transport_plugin_knows_peers(transport->plugin);
}

bool transport_admits_unknown(const struct instance *transport)
{
    const struct drafter_transport_ops *ops = ops_of(transport);

    return !ops->peer_identity || (ops->admits_unknown && ops->admits_unknown(transport->data));
}

bool transport_leaves_host(struct instance *transport, const char *address, bool listening)
{
    const struct drafter_transport_ops *ops = ops_of(transport);

    return !ops->leaves_host || ops->leaves_host(transport->data, address, listening);
}

void transport_shutdown(struct transport_connection *connection)
{
    ops_of(connection->transport)->shutdown(connection->data);
}

void transport_close(struct transport_connection *connection)
{
    if (!connection)
        return;
    ops_of(connection->transport)->close(connection->data);
    free(connection);
}

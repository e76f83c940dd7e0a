/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a connection, apart from its bytes. */
#include "connection.h"

#include <stdio.h>
#include <stdlib.h>

/* How long an end waits for the transport below to take the last words. */
#define SHUTDOWN_PATIENCE_MS 20
#define CLOSE_PATIENCE_MS 200

struct tls_connection *tls_connection_new(struct tls_instance *instance, void *below)
{
    struct tls_connection *connection = calloc(1, sizeof(*connection));

    if (!connection) {
        instance->next->close(below);
        return NULL;
    }
    connection->instance = instance;
    connection->below = below;
    pthread_mutex_init(&connection->write_lock, NULL);
    pthread_mutex_lock(&instance->lock);
    connection->following = instance->connections;
    if (connection->following)
        connection->following->previous = connection;
    instance->connections = connection;
    pthread_mutex_unlock(&instance->lock);
    return connection;
}

int tls_connection_reserve(struct tls_connection *connection)
{
    connection->secrets = tls_vault_take(&connection->instance->vault);
    return connection->secrets ? 0 : -ENOMEM;
}

void tls_connection_settle(struct tls_connection *connection, const struct tls_handshake *handshake)
{
    tls_secrets_settle(connection->secrets);
    if (handshake->server) /* its ticket is out; a client needs this for those to come */
        sodium_memzero(connection->secrets->resumption, sizeof(connection->secrets->resumption));
    connection->server = handshake->server;
    memcpy(connection->peer, handshake->peer, sizeof(connection->peer));
    memcpy(connection->peer_name, handshake->peer_name, sizeof(connection->peer_name));
}

static void unlink_connection(struct tls_connection *connection)
{
    struct tls_instance *instance = connection->instance;

    pthread_mutex_lock(&instance->lock);
    if (connection->previous)
        connection->previous->following = connection->following;
    else
        instance->connections = connection->following;
    if (connection->following)
        connection->following->previous = connection->previous;
    pthread_mutex_unlock(&instance->lock);
}

void tls_close(void *opaque)
{
    struct tls_connection *connection = opaque;

    if (!connection)
        return;
    unlink_connection(connection);
    if (!atomic_load(&connection->cancelled) && connection->secrets)
        tls_send_last_alert(connection, TLS_ALERT_CLOSE_NOTIFY, CLOSE_PATIENCE_MS);
    connection->instance->next->close(connection->below);
    pthread_mutex_destroy(&connection->write_lock);
    tls_vault_give_back(&connection->instance->vault, connection->secrets);
    free(connection->in);
    free(connection->out);
    free(connection->post);
    free(connection->again);
    free(connection);
}

void tls_shutdown(void *opaque)
{
    struct tls_connection *connection = opaque;

    if (!atomic_exchange(&connection->cancelled, true) && connection->secrets)
        tls_send_last_alert(connection, TLS_ALERT_CLOSE_NOTIFY, SHUTDOWN_PATIENCE_MS);
    connection->instance->next->shutdown(connection->below);
}

int tls_set_timeout(void *opaque, unsigned timeout_ms)
{
    struct tls_connection *connection = opaque;

    atomic_store(&connection->timeout_ms, timeout_ms);
    return connection->instance->next->set_timeout(connection->below, timeout_ms);
}

int tls_peer_name(void *opaque, char *buffer, size_t size)
{
    struct tls_connection *connection = opaque;
    int rc = connection->instance->next->peer_name(connection->below, buffer, size);
    size_t used = rc < 0 || !size ? 0 : strnlen(buffer, size - 1);

    if (rc == 0 && connection->peer_name[0])
        snprintf(buffer + used, size - used, " (%s)", connection->peer_name);
    return rc;
}

int tls_peer_identity(void *opaque, char *buffer, size_t size)
{
    struct tls_connection *connection = opaque;

    if (strlen(connection->peer) >= size)
        return -ENAMETOOLONG;
    memcpy(buffer, connection->peer, strlen(connection->peer) + 1);
    return 0;
}

ssize_t tls_unsent(void *opaque)
{
    struct tls_connection *connection = opaque;
    const struct drafter_transport_ops *next = connection->instance->next;

    return next->unsent ? next->unsent(connection->below) : -ENOTSUP;
}

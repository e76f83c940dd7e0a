/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients that come over a socket.  Each has a thread; `clients` bounds them.  Where the kernel has the
 * devices, they only look: a second writer would not be seen by the VMM.
 */
#include "server.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 16
#define SEND_TIMEOUT_S 30

static void *client_run(void *opaque)
{
    struct client *client = opaque;
    struct conn *conn = client->conn;
    int result = negotiate(conn);

    if (result == 0)
        conn_serve(conn);
    else if (result != -ECONNRESET)
        drafter_log(DRAFTER_LOG_DEBUG, conn->server->id, "an NBD client was turned away: %s",
                    strerror(-result));
    pool_cancel(&conn->server->pool, conn);
    atomic_store(&conn->broken, true);
    shutdown(conn->fd, SHUT_RDWR);
    if (conn->export)
        export_leave(conn->export);
    atomic_store(&client->ended, true);
    return NULL;
}

static void client_free(struct client *client)
{
    pool_buffer_free(client->conn->buffer);
    conn_put(client->conn);
    free(client);
}

/* With server->lock held: joins those that have ended. */
static void reap(struct server *server)
{
    struct client *client, **at = &server->clients;

    while ((client = *at)) {
        if (!atomic_load(&client->ended)) {
            at = &client->next;
            continue;
        }
        *at = client->next;
        server->client_count--;
        pthread_join(client->thread, NULL);
        client_free(client);
    }
}

static struct client *client_new(struct listener *listener, int fd)
{
    struct client *client = calloc(1, sizeof(*client));

    if (!client)
        return NULL;
    client->conn = conn_new(listener->server, fd);
    if (!client->conn) {
        free(client);
        return NULL;
    }
    client->conn->view = listener->view;
    client->conn->pooled = listener->server->config->attach == ATTACH_NONE;
    client->conn->buffer = pool_buffer_new();
    if (client->conn->buffer)
        return client;
    client->conn->fd = -1; /* the caller's still */
    client_free(client);
    return NULL;
}

/* Takes the socket in any case. */
static void welcome(struct listener *listener, int fd)
{
    struct timeval patience = {.tv_sec = SEND_TIMEOUT_S};
    struct server *server = listener->server;
    struct client *client = NULL;
    int yes = 1;

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)); /* not for a UNIX socket */
    pthread_mutex_lock(&server->lock);
    reap(server);
    if (server->client_count < server->config->clients)
        client = client_new(listener, fd);
    if (client && pool_thread(&client->thread, client_run, client) < 0) {
        client_free(client);
        fd = -1;
        client = NULL;
    }
    if (client) {
        client->next = server->clients;
        server->clients = client;
        server->client_count++;
    }
    pthread_mutex_unlock(&server->lock);
    if (client)
        return;
    drafter_log(DRAFTER_LOG_WARNING, server->id, "no room for a further NBD client");
    if (fd >= 0)
        close(fd);
}

static void *listener_run(void *opaque)
{
    struct listener *listener = opaque;
    struct pollfd ready[2] = {{.fd = listener->fd, .events = POLLIN},
                              {.fd = listener->server->stop_fd, .events = POLLIN}};

    for (;;) {
        int fd;

        if (poll(ready, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (ready[1].revents)
            return NULL;
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            welcome(listener, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            usleep(100000);
    }
}

/* A socket that a dead process left is in the way; one that is answered is somebody's. */
static int bind_unix(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t old;
    int result;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return -EADDRINUSE;
    if (errno == ECONNREFUSED)
        unlink(path);
    old = umask(0177);
    result = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(old);
    return result;
}

static int open_unix(struct listener *listener, const char *path)
{
    int result;

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0)
        return -errno;
    result = bind_unix(listener->fd, path);
    if (result < 0)
        return result;
    listener->path = strdup(path);
    return listener->path ? 0 : -ENOMEM;
}

/* HOST:PORT, [HOST]:PORT. */
static int open_tcp(struct listener *listener, const char *text)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    const char *colon = strrchr(text, ':'), *host = text;
    size_t length = colon ? (size_t)(colon - text) : 0;
    int yes = 1, result = 0;
    char name[256];

    if (!colon || length >= sizeof(name))
        return -EINVAL;
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    memcpy(name, host, length);
    name[length] = '\0';
    if (getaddrinfo(length ? name : NULL, colon + 1, &hints, &found) != 0)
        return -EINVAL;
    listener->fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, found->ai_protocol);
    if (listener->fd < 0)
        result = -errno;
    else if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
             bind(listener->fd, found->ai_addr, found->ai_addrlen) < 0)
        result = -errno;
    freeaddrinfo(found);
    return result;
}

static int open_listener(struct server *server, const char *where, bool view,
                         struct drafter_error *err)
{
    struct listener *listener = &server->listeners[server->listener_count];
    int result;

    *listener = (struct listener){.server = server, .fd = -1, .view = view};
    result = strchr(where, '/') ? open_unix(listener, where) : open_tcp(listener, where);
    if (result == 0 && listen(listener->fd, LISTEN_BACKLOG) < 0)
        result = -errno;
    if (result == 0)
        result = pool_thread(&listener->thread, listener_run, listener);
    if (result == 0) {
        server->listener_count++;
        return 0;
    }
    if (listener->fd >= 0)
        close(listener->fd);
    if (listener->path)
        unlink(listener->path);
    free(listener->path);
    return drafter_error_errno(err, -result, "%s: cannot listen on %s", server->id, where);
}

int listen_start(struct server *server, struct drafter_error *err)
{
    bool alone = server->config->attach == ATTACH_NONE;
    char path[256];
    int result = 0;

    if (!alone && !server->config->listen)
        return 0;
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (server->stop_fd < 0)
        return drafter_error_errno(err, errno, "%s: cannot listen", server->id);
    if (server->config->listen)
        result = open_listener(server, server->config->listen, !alone, err);
    if (result == 0 && alone) {
        if ((size_t)snprintf(path, sizeof(path), "%s/nbd.sock", server->served.directory) >=
            sizeof(path))
            return drafter_error_set(err, ENAMETOOLONG, "%s: too long for a socket in it",
                                     server->served.directory);
        result = open_listener(server, path, false, err);
    }
    return result;
}

void listen_drop(struct server *server, struct export *export)
{
    pthread_mutex_lock(&server->lock);
    for (struct client *client = server->clients; client; client = client->next)
        if (client->conn->export == export)
            shutdown(client->conn->fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
}

static void stop_clients(struct server *server)
{
    struct client *clients, *next;

    pthread_mutex_lock(&server->lock);
    clients = server->clients;
    server->clients = NULL;
    server->client_count = 0;
    pthread_mutex_unlock(&server->lock);
    for (; clients; clients = next) {
        next = clients->next;
        shutdown(clients->conn->fd, SHUT_RDWR);
        pthread_join(clients->thread, NULL);
        client_free(clients);
    }
}

void listen_stop(struct server *server)
{
    if (server->stop_fd < 0)
        return;
    eventfd_write(server->stop_fd, 1);
    for (; server->listener_count > 0; server->listener_count--) {
        struct listener *listener = &server->listeners[server->listener_count - 1];

        pthread_join(listener->thread, NULL);
        close(listener->fd);
        if (listener->path)
            unlink(listener->path);
        free(listener->path);
    }
    stop_clients(server);
    close(server->stop_fd);
    server->stop_fd = -1;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A listener has one socket per address that its host name stands for, all under one port number, so
 * that "localhost" is reached over IPv6 as well as IPv4.  Without a host name one dual-stack socket
 * serves everything, or an IPv4 socket where the kernel has no IPv6.
 */
#include "address.h"
#include "tcp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TCP_BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */
#define TCP_LISTEN_RESOLVE_MS 10000
#define TCP_PORT_ATTEMPTS 16

static int tcp_listen_failed(struct drafter_error *err, int code, const char *where,
                             in_port_t port)
{
    switch (code) {
    case EADDRINUSE:
        return drafter_error_set(err, code,
                                 "%s: port %u is taken; stop the program that listens there "
                                 "(`ss -ltnp` shows it) or choose another port",
                                 where, (unsigned)ntohs(port));
    case EADDRNOTAVAIL:
        return drafter_error_set(err, code,
                                 "%s: this host does not have that address; `ip addr` shows those "
                                 "it has",
                                 where);
    case EACCES:
        return drafter_error_set(err, code,
                                 "%s: port %u needs CAP_NET_BIND_SERVICE; choose one from 1024 up",
                                 where, (unsigned)ntohs(port));
    default:
        return drafter_error_errno(err, code, "listening at %s", where);
    }
}

static void tcp_set_port(struct sockaddr_storage *address, in_port_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = port;
    else
        ((struct sockaddr_in *)address)->sin_port = port;
}

static in_port_t tcp_get_port(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                          : ((const struct sockaddr_in *)address)->sin_port;
}

/* A listening descriptor; `local` gets the port that the system chose. */
static int tcp_listen_fd(struct tcp *tcp, struct sockaddr_storage *local, socklen_t length,
                         bool dual_stack, struct drafter_error *err)
{
    char where[SOCKET_NAME_MAX];
    int rc, fd = tcp_socket(tcp, local->ss_family, err);

    tcp_address_format((struct sockaddr *)local, length, where, sizeof(where));
    if (fd < 0)
        return drafter_error_wrap(err, "%s", where);
    rc = tcp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", err);
    if (rc == 0 && local->ss_family == AF_INET6)
        rc = tcp_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual_stack, "IPV6_V6ONLY", err);
    if (rc == 0 && (bind(fd, (struct sockaddr *)local, length) < 0 ||
                    listen(fd, TCP_BACKLOG) < 0 ||
                    getsockname(fd, (struct sockaddr *)local, &length) < 0))
        rc = tcp_listen_failed(err, errno, where, tcp_get_port(local));
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* What an address of several may fail with while the others serve: its family is switched off. */
static bool tcp_family_missing(int rc)
{
    return rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL;
}

static int tcp_listen_wildcard(struct tcp *tcp, in_port_t port, int *ret_fd, in_port_t *ret_port,
                               struct drafter_error *err)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_storage local = {0};
    int fd;

    memcpy(&local, &v6, sizeof(v6));
    fd = tcp_listen_fd(tcp, &local, sizeof(v6), true, err);
    if (tcp_family_missing(fd)) {
        memset(&local, 0, sizeof(local));
        memcpy(&local, &v4, sizeof(v4));
        fd = tcp_listen_fd(tcp, &local, sizeof(v4), false, err);
    }
    if (fd < 0)
        return fd;
    *ret_port = tcp_get_port(&local);
    *ret_fd = fd;
    return 1;
}

/* /etc/hosts may give one address twice. */
static bool tcp_seen_before(const struct addrinfo *list, const struct addrinfo *info)
{
    for (; list != info; list = list->ai_next)
        if (list->ai_addrlen == info->ai_addrlen &&
            memcmp(list->ai_addr, info->ai_addr, info->ai_addrlen) == 0)
            return true;
    return false;
}

/* Listens at every address of the list: how many, or a negative errno and no socket. */
static int tcp_listen_list(struct tcp *tcp, const struct addrinfo *list, int *fds,
                           in_port_t *ret_port, struct drafter_error *err)
{
    in_port_t port = 0;
    int rc = 0, count = 0;

    for (const struct addrinfo *info = list; info && count < SOCKET_FDS_MAX; info = info->ai_next) {
        struct sockaddr_storage local = {0};
        int fd;

        if (tcp_seen_before(list, info))
            continue;
        memcpy(&local, info->ai_addr, info->ai_addrlen);
        if (port)
            tcp_set_port(&local, port);
        fd = tcp_listen_fd(tcp, &local, info->ai_addrlen, false, err);
        if (fd >= 0) {
            fds[count++] = fd;
            port = tcp_get_port(&local);
            continue;
        }
        rc = fd;
        if (!tcp_family_missing(rc)) {
            while (count > 0)
                close(fds[--count]);
            return rc;
        }
    }
    if (count == 0)
        return rc;
    *ret_port = port;
    return count;
}

/* As tcp_listen_list; the port that the system chose for one address may be taken at the next. */
static int tcp_listen_named(struct tcp *tcp, const struct tcp_address *address, int *fds,
                            in_port_t *ret_port, struct drafter_error *err)
{
    struct addrinfo *list;
    int rc = tcp_address_resolve(address, true, socket_deadline(TCP_LISTEN_RESOLVE_MS), &list, err);

    if (rc < 0)
        return rc;
    for (int attempt = 0; attempt < TCP_PORT_ATTEMPTS; attempt++) {
        rc = tcp_listen_list(tcp, list, fds, ret_port, err);
        if (rc != -EADDRINUSE || address->port_number != 0)
            break;
    }
    freeaddrinfo(list);
    return rc;
}

int tcp_listen(void *instance, const char *address, void **ret_listener, struct drafter_error *err)
{
    struct tcp *tcp = instance;
    int fds[SOCKET_FDS_MAX], count;
    struct socket_handle *handle;
    struct tcp_address parsed;
    in_port_t port = 0;

    count = tcp_address_parse(address, &parsed, err);
    if (count < 0)
        return count;
    if (parsed.host[0])
        count = tcp_listen_named(tcp, &parsed, fds, &port, err);
    else
        count = tcp_listen_wildcard(tcp, htons(parsed.port_number), fds, &port, err);
    if (count < 0)
        return count;

    handle = socket_handle_new(&tcp->sockets, sizeof(*handle), fds, (unsigned)count);
    if (!handle) {
        while (count > 0)
            close(fds[--count]);
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    }
    snprintf(handle->name, sizeof(handle->name), parsed.bracketed ? "[%s]:%u" : "%s:%u",
             parsed.host, (unsigned)ntohs(port));
    *ret_listener = handle;
    return 0;
}

int tcp_accept(void *instance, void *listener, void **ret_connection, struct drafter_error *err)
{
    struct tcp *tcp = instance;
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof(peer);
    struct socket_handle *handle;
    int fd = socket_accept_fd(listener, err);

    if (fd < 0)
        return fd;
    handle = socket_handle_new(&tcp->sockets, sizeof(*handle), &fd, 1);
    if (!handle) {
        close(fd);
        return drafter_error_set(err, EAGAIN, "out of memory for an accepted stream");
    }
    if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0)
        tcp_address_format((struct sockaddr *)&peer, length, handle->name, sizeof(handle->name));
    else /* it is gone already; reading will tell */
        snprintf(handle->name, sizeof(handle->name), "a peer that went away");
    *ret_connection = handle;
    return 0;
}

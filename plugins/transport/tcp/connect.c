/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A name may resolve to several addresses.  They are tried in the resolver's order; each gets an equal
 * share of the time that is left, so one that swallows packets does not use up the whole timeout.
 * When all fail, the failure that says most is reported.
 */
#include "address.h"
#include "tcp.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int tcp_connect_failed(struct drafter_error *err, int code, const char *where,
                              unsigned timeout_ms)
{
    switch (code) {
    case ECONNREFUSED:
        return drafter_error_set(err, code,
                                 "nothing listens at %s; start the other side first, or correct "
                                 "the address",
                                 where);
    case ETIMEDOUT:
        return drafter_error_set(err, code,
                                 "%s did not answer within %u ms; check that the host is up and "
                                 "that no firewall drops the port",
                                 where, timeout_ms);
    case ENETUNREACH:
    case EHOSTUNREACH:
        return drafter_error_set(err, code,
                                 "no route to %s; check the address and the network of this host",
                                 where);
    case EADDRNOTAVAIL:
        return drafter_error_set(err, code,
                                 "%s: this host has no address or no free local port to connect "
                                 "from",
                                 where);
    default:
        return drafter_error_errno(err, code, "connecting to %s", where);
    }
}

/*
 * A connect to a free port of this host can meet itself (simultaneous open); the kernel then picked
 * the wanted port as the local one.
 */
static bool tcp_is_self(int fd)
{
    struct sockaddr_storage local = {0}, remote = {0};
    socklen_t local_length = sizeof(local), remote_length = sizeof(remote);

    return getsockname(fd, (struct sockaddr *)&local, &local_length) == 0 &&
           getpeername(fd, (struct sockaddr *)&remote, &remote_length) == 0 &&
           local_length == remote_length && memcmp(&local, &remote, local_length) == 0;
}

/* Connects one socket by `deadline`: 0 or a negative errno. */
static int tcp_connect_fd(int fd, const struct addrinfo *info, uint64_t deadline)
{
    socklen_t length = sizeof(int);
    int rc, code = 0;

    if (connect(fd, info->ai_addr, info->ai_addrlen) < 0) {
        if (errno != EINPROGRESS && errno != EINTR)
            return -errno;
        rc = socket_wait(fd, POLLOUT, deadline);
        if (rc < 0)
            return rc;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) < 0)
            return -errno;
        if (code)
            return -code;
    }
    return tcp_is_self(fd) ? -ECONNREFUSED : 0;
}

/* Which failure of several addresses says most to the operator. */
static int tcp_connect_rank(int code)
{
    return code == ECONNREFUSED ? 3 : code == ETIMEDOUT ? 2 : code ? 1 : 0;
}

static uint64_t tcp_share(uint64_t deadline, unsigned left)
{
    uint64_t now = drafter_now_ns();

    if (!deadline || left <= 1)
        return deadline;
    return deadline > now ? now + (deadline - now) / left : deadline;
}

static int tcp_connect_any(struct tcp *tcp, const char *address, const struct addrinfo *list,
                           uint64_t deadline, unsigned timeout_ms, char *peer, size_t peer_size,
                           struct drafter_error *err)
{
    unsigned left = 0;
    int worst = 0;

    for (const struct addrinfo *info = list; info; info = info->ai_next)
        left++;
    for (const struct addrinfo *info = list; info; info = info->ai_next, left--) {
        struct drafter_error failed = {0};
        char where[SOCKET_NAME_MAX + 300], numeric[SOCKET_NAME_MAX];
        int rc, fd = tcp_socket(tcp, info->ai_family, &failed);

        tcp_address_format(info->ai_addr, info->ai_addrlen, numeric, sizeof(numeric));
        if (fd >= 0) {
            rc = tcp_connect_fd(fd, info, tcp_share(deadline, left));
            if (rc == 0) {
                snprintf(peer, peer_size, "%s", numeric);
                return fd;
            }
            close(fd);
            if (strcmp(numeric, address) == 0)
                snprintf(where, sizeof(where), "%s", numeric);
            else
                snprintf(where, sizeof(where), "%.280s (%s)", address, numeric);
            tcp_connect_failed(&failed, -rc, where, timeout_ms);
        } else {
            drafter_error_wrap(&failed, "%s", numeric);
        }
        if (tcp_connect_rank(failed.code) > tcp_connect_rank(worst)) {
            worst = failed.code;
            if (err)
                *err = failed;
        }
    }
    return worst ? -worst : drafter_error_set(err, EHOSTUNREACH, "%s: no address", address);
}

int tcp_connect(void *instance, const char *address, unsigned timeout_ms,
                       void **ret_connection, struct drafter_error *err)
{
    struct tcp *tcp = instance;
    uint64_t deadline = socket_deadline(timeout_ms);
    char peer[SOCKET_NAME_MAX];
    struct socket_handle *handle;
    struct tcp_address parsed;
    struct addrinfo *list;
    int rc, fd;

    rc = tcp_address_parse(address, &parsed, err);
    if (rc < 0)
        return rc;
    if (parsed.port_number == 0)
        return drafter_error_set(err, EINVAL, "address \"%.300s\": port 0 is for listening only",
                                 address);
    rc = tcp_address_resolve(&parsed, false, deadline, &list, err);
    if (rc < 0)
        return rc;
    fd = tcp_connect_any(tcp, address, list, deadline, timeout_ms, peer, sizeof(peer), err);
    freeaddrinfo(list);
    if (fd < 0)
        return fd;

    handle = socket_handle_new(&tcp->sockets, sizeof(*handle), &fd, 1);
    if (!handle) {
        close(fd);
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    }
    snprintf(handle->name, sizeof(handle->name), "%s", peer);
    *ret_connection = handle;
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "socket.h"

#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void socket_set_init(struct socket_set *set)
{
    pthread_mutex_init(&set->lock, NULL);
    set->first = NULL;
}

void socket_set_release(struct socket_set *set)
{
    while (set->first) {
        struct socket_handle *handle = set->first;

        socket_shutdown(handle);
        socket_close(handle);
    }
    pthread_mutex_destroy(&set->lock);
}

void *socket_handle_new(struct socket_set *set, size_t size, const int *fds, unsigned fd_count)
{
    struct socket_handle *handle = calloc(1, size);

    if (!handle)
        return NULL;
    handle->set = set;
    memcpy(handle->fds, fds, fd_count * sizeof(*fds));
    handle->fd_count = fd_count;
    atomic_init(&handle->cancelled, false);
    atomic_init(&handle->timeout_ms, 0);

    pthread_mutex_lock(&set->lock);
    handle->next = set->first;
    if (handle->next)
        handle->next->previous = handle;
    set->first = handle;
    pthread_mutex_unlock(&set->lock);
    return handle;
}

void socket_close(void *handle_)
{
    struct socket_handle *handle = handle_;

    if (!handle)
        return;
    pthread_mutex_lock(&handle->set->lock);
    if (handle->previous)
        handle->previous->next = handle->next;
    else
        handle->set->first = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    pthread_mutex_unlock(&handle->set->lock);

    if (handle->closing)
        handle->closing(handle);
    for (unsigned i = 0; i < handle->fd_count; i++)
        close(handle->fds[i]);
    free(handle);
}

void socket_shutdown(void *handle_)
{
    struct socket_handle *handle = handle_;

    atomic_store(&handle->cancelled, true);
    for (unsigned i = 0; i < handle->fd_count; i++)
        shutdown(handle->fds[i], SHUT_RDWR); /* ENOTCONN: the peer ended it; nobody waits then */
}

uint64_t socket_deadline(unsigned timeout_ms)
{
    return timeout_ms ? drafter_now_ns() + (uint64_t)timeout_ms * 1000000 : 0;
}

static int socket_poll(struct pollfd *fds, unsigned count, uint64_t deadline)
{
    for (;;) {
        struct timespec left = {0}, *wait = NULL;
        int rc;

        if (deadline) {
            uint64_t now = drafter_now_ns();
            uint64_t left_ns = deadline > now ? deadline - now : 0;

            left.tv_sec = (time_t)(left_ns / 1000000000);
            left.tv_nsec = (long)(left_ns % 1000000000);
            wait = &left;
        }
        rc = ppoll(fds, count, wait, NULL);
        if (rc > 0)
            return 0;
        if (rc == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

int socket_wait(int fd, short events, uint64_t deadline)
{
    struct pollfd pollfd = {.fd = fd, .events = events};

    return socket_poll(&pollfd, 1, deadline);
}

/* Failures of accept4 that say something about one stream or a passing shortage. */
static bool socket_accept_passes(int code)
{
    switch (code) {
    case ECONNABORTED:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case ENONET:
    case EOPNOTSUPP:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

int socket_accept_fd(struct socket_handle *listener, struct drafter_error *err)
{
    struct pollfd pollfds[SOCKET_FDS_MAX];

    for (unsigned i = 0; i < listener->fd_count; i++)
        pollfds[i] = (struct pollfd){.fd = listener->fds[i], .events = POLLIN};

    for (;;) {
        int rc = socket_poll(pollfds, listener->fd_count, 0);

        if (atomic_load(&listener->cancelled))
            return drafter_error_set(err, ECANCELED, "%s: the listener was shut down",
                                     listener->name);
        if (rc < 0)
            return drafter_error_errno(err, -rc, "%s: waiting for a stream", listener->name);

        for (unsigned i = 0; i < listener->fd_count; i++) {
            int fd;

            if (!pollfds[i].revents)
                continue;
            fd = accept4(listener->fds[i], NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                return fd;
            rc = errno;
            if (rc == EAGAIN || rc == EINTR || atomic_load(&listener->cancelled))
                continue; /* somebody else took it, or the top of the loop tells */
            drafter_error_errno(err, rc, "%s: accepting a stream", listener->name);
            return socket_accept_passes(rc) ? -EAGAIN : -rc;
        }
    }
}

/* Leaves out empty pieces in front and what is beyond IOV_MAX; false when nothing is left. */
static bool socket_message(struct msghdr *message, const struct iovec *vector, int count)
{
    while (count > 0 && vector->iov_len == 0) {
        vector++;
        count--;
    }
    *message = (struct msghdr){.msg_iov = (struct iovec *)vector,
                               .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX)};
    return count > 0;
}

/* One transfer: at once when it can be, else within the timeout of the connection. */
static ssize_t socket_transfer(struct socket_handle *handle, struct msghdr *message, bool writing)
{
    uint64_t deadline = 0;
    bool waited = false;

    for (;;) {
        ssize_t done;
        int code;

        if (atomic_load(&handle->cancelled))
            return -ECANCELED;
        done = writing ? sendmsg(handle->fds[0], message, MSG_DONTWAIT | MSG_NOSIGNAL)
                       : recvmsg(handle->fds[0], message, MSG_DONTWAIT);
        if (done > 0)
            return done;
        code = done < 0 ? errno : 0;
        if (code == EINTR)
            continue;
        if (code != EAGAIN) /* the end or a failure, which shutdown may have brought about */
            return atomic_load(&handle->cancelled) ? -ECANCELED : -code;
        if (!waited) {
            deadline = socket_deadline(atomic_load(&handle->timeout_ms));
            waited = true;
        }
        code = socket_wait(handle->fds[0], writing ? POLLOUT : POLLIN, deadline);
        if (code < 0)
            return code;
    }
}

ssize_t socket_readv(void *connection, const struct iovec *vector, int count)
{
    struct msghdr message;

    if (!socket_message(&message, vector, count))
        return -EINVAL; /* 0 would say that the stream ended */
    return socket_transfer(connection, &message, false);
}

ssize_t socket_writev(void *connection, const struct iovec *vector, int count)
{
    struct msghdr message;

    if (!socket_message(&message, vector, count))
        return -EINVAL;
    return socket_transfer(connection, &message, true);
}

int socket_set_timeout(void *connection, unsigned timeout_ms)
{
    struct socket_handle *handle = connection;

    atomic_store(&handle->timeout_ms, timeout_ms);
    return 0;
}

int socket_peer_name(void *connection, char *buffer, size_t size)
{
    struct socket_handle *handle = connection;

    snprintf(buffer, size, "%s", handle->name);
    return 0;
}

int socket_listener_address(void *listener, char *buffer, size_t size)
{
    struct socket_handle *handle = listener;

    if (strlen(handle->name) >= size)
        return -ENAMETOOLONG;
    snprintf(buffer, size, "%s", handle->name);
    return 0;
}

ssize_t socket_unsent(void *connection)
{
    struct socket_handle *handle = connection;
    int bytes;

    if (ioctl(handle->fds[0], SIOCOUTQ, &bytes) < 0)
        return -errno;
    return bytes;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the socket transports (tcp, unix) have in common: streams and listeners over file descriptors,
 * with the semantics of drafter/transport.h.  Compiled into each of the two plugins.
 *
 * A transport fills its operations table with the socket_ functions below as they are and adds
 * connect, listen, accept and unsent.
 *
 * How waiting ends: every wait is a ppoll on the one descriptor of the stream.  shutdown() first sets
 * `cancelled` and then shuts the socket down.  The kernel keeps the shut-down state, so a thread that
 * is about to wait sees it just as well as one that waits already; there is nothing to miss and no
 * wake-up descriptor is needed.  The same holds for a listening socket, which poll reports as POLLHUP.
 */
#ifndef TRANSPORT_SOCKET_H
#define TRANSPORT_SOCKET_H

#include <drafter/transport.h>
#include <pthread.h>
#include <stdatomic.h>

#define SOCKET_NAME_MAX 320
#define SOCKET_FDS_MAX 8

/* Everything that one instance has open, so that destroy can end it. */
struct socket_set {
    pthread_mutex_t lock;
    struct socket_handle *first; /* protected by lock */
};

/* A connection (one descriptor) or a listener (one or more). */
struct socket_handle {
    struct socket_set *set;
    struct socket_handle *previous, *next; /* protected by set->lock */
    int fds[SOCKET_FDS_MAX];
    unsigned fd_count;
    atomic_bool cancelled;
    atomic_uint timeout_ms;
    char name[SOCKET_NAME_MAX];             /* of the peer, or of the listener itself */
    void (*closing)(struct socket_handle *); /* optional: called before the descriptors are closed */
};

void socket_set_init(struct socket_set *set);

/* Shuts down, closes and frees whatever the set still holds. */
void socket_set_release(struct socket_set *set);

/*
 * A zeroed handle of `size` bytes (a struct that begins with a socket_handle) in the set, or NULL;
 * `fds` are taken on success.
 */
void *socket_handle_new(struct socket_set *set, size_t size, const int *fds, unsigned fd_count);

/* Deadlines are drafter_now_ns() values; 0 stands for never. */
uint64_t socket_deadline(unsigned timeout_ms);

/* Waits for `events`: 0, -ETIMEDOUT or a negative errno.  Readiness includes errors and hang-ups. */
int socket_wait(int fd, short events, uint64_t deadline);

/* Waits for a stream: a new descriptor, -ECANCELED after shutdown, or -EAGAIN as the ABI says. */
int socket_accept_fd(struct socket_handle *listener, struct drafter_error *err);

int socket_listener_address(void *listener, char *buffer, size_t size);
ssize_t socket_readv(void *connection, const struct iovec *vector, int count);
ssize_t socket_writev(void *connection, const struct iovec *vector, int count);
int socket_set_timeout(void *connection, unsigned timeout_ms);
int socket_peer_name(void *connection, char *buffer, size_t size);
ssize_t socket_unsent(void *connection);

/* Of connections and listeners alike. */
void socket_shutdown(void *handle);
void socket_close(void *handle);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the unix plugin share. */
#ifndef UNIX_UNIX_H
#define UNIX_UNIX_H

#include "../socket.h"

#include <sys/socket.h>
#include <sys/un.h>

struct unix_config {
    const char *mode;
    uint64_t send_buffer;
};

struct unix_transport {
    const struct unix_config *config;
    mode_t mode; /* permission bits of listening sockets */
    struct socket_set sockets;
};

struct unix_listener {
    struct socket_handle socket; /* first */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* to be removed; empty: abstract */
    dev_t device;                                           /* of the socket file we made */
    ino_t inode;
};

/* Path or @name; 0 or a message about what is wrong with it. */
int unix_address(const char *address, struct sockaddr_un *ret_address, socklen_t *ret_length,
                 struct drafter_error *err);

static inline bool unix_is_abstract(const char *address)
{
    return address[0] == '@';
}

/* Accepted sockets do not inherit it. */
int unix_set_buffer(const struct unix_transport *transport, int fd, struct drafter_error *err);

/* A socket with the buffer sizes of the instance: a descriptor or a negative errno. */
int unix_socket(struct unix_transport *transport, int flags, struct drafter_error *err);

/* A connection around `fd`, which is taken on success. */
int unix_connection(struct unix_transport *transport, int fd, const char *address,
                    void **ret_connection, struct drafter_error *err);

int unix_listen(void *instance, const char *address, void **ret_listener,
                struct drafter_error *err);
int unix_accept(void *instance, void *listener, void **ret_connection, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the tcp plugin share. */
#ifndef TCP_TCP_H
#define TCP_TCP_H

#include "../socket.h"

#include <netinet/in.h>

struct tcp_config {
    bool nodelay, keepalive;
    uint64_t keepalive_idle, keepalive_interval, keepalive_count;
    uint64_t user_timeout;
    uint64_t send_buffer, receive_buffer, unsent_limit;
    const char *congestion;
};

struct tcp {
    const struct tcp_config *config;
    struct socket_set sockets;
};

/* setsockopt of an int; `option` names it in the message. */
int tcp_set(int fd, int level, int name, uint64_t value, const char *option,
            struct drafter_error *err);

/* A non-blocking socket with the options of the instance: a descriptor or a negative errno. */
int tcp_socket(struct tcp *tcp, int family, struct drafter_error *err);

/* Operations. */
int tcp_connect(void *instance, const char *address, unsigned timeout_ms, void **ret_connection,
                struct drafter_error *err);
int tcp_listen(void *instance, const char *address, void **ret_listener, struct drafter_error *err);
int tcp_accept(void *instance, void *listener, void **ret_connection, struct drafter_error *err);

#endif

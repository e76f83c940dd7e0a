/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams over TCP, IPv4 and IPv6: options, instances and the table of operations.
 *
 * All socket options are set before bind and connect: the buffer sizes decide the window scale of
 * the handshake, and accepted sockets inherit everything from their listener.
 */
#include "address.h"
#include "tcp.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static const struct drafter_option tcp_options[] = {
    {.key = "nodelay", .type = DRAFTER_OPTION_BOOL, .offset = offsetof(struct tcp_config, nodelay),
     .default_value = "yes", .help = "send small messages at once (TCP_NODELAY)"},
    {.key = "keepalive", .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct tcp_config, keepalive), .default_value = "yes",
     .help = "probe an idle peer, and end the connection when it does not answer"},
    {.key = "keepalive-idle", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct tcp_config, keepalive_idle), .default_value = "10s",
     .minimum = SECOND, .maximum = 32767 * SECOND, .unit = "whole seconds",
     .help = "silence before the first probe"},
    {.key = "keepalive-interval", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct tcp_config, keepalive_interval), .default_value = "5s",
     .minimum = SECOND, .maximum = 32767 * SECOND, .unit = "whole seconds",
     .help = "time between probes"},
    {.key = "keepalive-count", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct tcp_config, keepalive_count), .default_value = "3", .minimum = 1,
     .maximum = 127, .help = "unanswered probes that end the connection"},
    {.key = "user-timeout", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct tcp_config, user_timeout), .default_value = "0",
     .minimum = 0, .maximum = 86400 * SECOND, .unit = "milliseconds, rounded up",
     .help = "end the connection when sent data stays unacknowledged this long; 0: the kernel's "
             "limit, about 15 minutes"},
    {.key = "send-buffer", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct tcp_config, send_buffer), .default_value = "0", .minimum = 0,
     .maximum = UINT64_C(1) << 30, .help = "fixed size of the send buffer; 0: the kernel tunes it"},
    {.key = "receive-buffer", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct tcp_config, receive_buffer), .default_value = "0", .minimum = 0,
     .maximum = UINT64_C(1) << 30,
     .help = "fixed size of the receive buffer; 0: the kernel tunes it"},
    {.key = "unsent-limit", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct tcp_config, unsent_limit), .default_value = "0", .minimum = 0,
     .maximum = UINT64_C(1) << 30,
     .help = "bytes that may wait in front of the network (TCP_NOTSENT_LOWAT); 0: the kernel's"},
    {.key = "congestion", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct tcp_config, congestion),
     .help = "congestion control algorithm, such as cubic or bbr; absent: the kernel's"},
    DRAFTER_OPTION_END,
};

static int tcp_create(const struct drafter_context *context, const void *config,
                      void **ret_instance, struct drafter_error *err)
{
    struct tcp *tcp = calloc(1, sizeof(*tcp));

    (void)context;
    if (!tcp)
        return drafter_error_set(err, ENOMEM, "tcp: out of memory");
    tcp->config = config;
    socket_set_init(&tcp->sockets);
    *ret_instance = tcp;
    return 0;
}

static void tcp_destroy(void *instance)
{
    struct tcp *tcp = instance;

    if (!tcp)
        return;
    socket_set_release(&tcp->sockets);
    free(tcp);
}

int tcp_set(int fd, int level, int name, uint64_t value, const char *option,
                   struct drafter_error *err)
{
    int number = (int)value;

    if (setsockopt(fd, level, name, &number, sizeof(number)) < 0)
        return drafter_error_errno(err, errno, "option %s = %d", option, number);
    return 0;
}

static int tcp_set_keepalive(int fd, const struct tcp_config *config, struct drafter_error *err)
{
    uint64_t idle = (config->keepalive_idle + SECOND - 1) / SECOND;
    uint64_t interval = (config->keepalive_interval + SECOND - 1) / SECOND;
    int rc;

    if (!config->keepalive)
        return 0;
    rc = tcp_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "keepalive", err);
    if (rc == 0)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle, "keepalive-idle", err);
    if (rc == 0)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval, "keepalive-interval", err);
    if (rc == 0)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPCNT, config->keepalive_count, "keepalive-count", err);
    return rc;
}

static int tcp_set_options(int fd, const struct tcp_config *config, struct drafter_error *err)
{
    uint64_t user_ms = (config->user_timeout + 999999) / 1000000;
    int rc = tcp_set_keepalive(fd, config, err);

    if (rc == 0 && config->nodelay)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_NODELAY, 1, "nodelay", err);
    if (rc == 0 && user_ms)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, user_ms, "user-timeout", err);
    if (rc == 0 && config->send_buffer)
        rc = tcp_set(fd, SOL_SOCKET, SO_SNDBUF, config->send_buffer, "send-buffer", err);
    if (rc == 0 && config->receive_buffer)
        rc = tcp_set(fd, SOL_SOCKET, SO_RCVBUF, config->receive_buffer, "receive-buffer", err);
    if (rc == 0 && config->unsent_limit)
        rc = tcp_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, config->unsent_limit, "unsent-limit", err);
    if (rc == 0 && config->congestion &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, config->congestion,
                   (socklen_t)strlen(config->congestion)) < 0)
        rc = drafter_error_errno(err, errno,
                                 "option congestion = %s (see "
                                 "/proc/sys/net/ipv4/tcp_available_congestion_control)",
                                 config->congestion);
    return rc;
}

int tcp_socket(struct tcp *tcp, int family, struct drafter_error *err)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int rc;

    if (fd < 0)
        return drafter_error_errno(err, errno, "no socket");
    rc = tcp_set_options(fd, tcp->config, err);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static bool tcp_leaves_host(void *instance, const char *address, bool listening)
{
    struct tcp_address parsed;

    (void)instance;
    return tcp_address_parse(address, &parsed, NULL) < 0 || !tcp_address_is_local(&parsed, listening);
}

static const struct drafter_transport_ops tcp_ops = {
    .connect = tcp_connect,
    .listen = tcp_listen,
    .accept = tcp_accept,
    .listener_address = socket_listener_address,
    .listener_shutdown = socket_shutdown,
    .listener_close = socket_close,
    .readv = socket_readv,
    .writev = socket_writev,
    .set_timeout = socket_set_timeout,
    .shutdown = socket_shutdown,
    .close = socket_close,
    .peer_name = socket_peer_name,
    .unsent = socket_unsent,
    .leaves_host = tcp_leaves_host,
};

static const struct drafter_plugin tcp_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "tcp",
    .version = "0.1.0",
    .license = "BSD-2-Clause",
    .summary = "streams over TCP, IPv4 and IPv6",
    .options = tcp_options,
    .config_size = sizeof(struct tcp_config),
    .create = tcp_create,
    .destroy = tcp_destroy,
    .ops = &tcp_ops,
};
DRAFTER_PLUGIN_ENTRY(tcp_plugin)

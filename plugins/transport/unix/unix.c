/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams over UNIX sockets: options, instances, addresses and connect. */
#include "unix.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const struct drafter_option unix_options[] = {
    {.key = "mode", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct unix_config, mode),
     .default_value = "0600",
     .help = "octal permissions of a listening socket: who may connect; of an abstract name, by the "
             "peer's uid and gid"},
    {.key = "send-buffer", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct unix_config, send_buffer), .default_value = "0", .minimum = 0,
     .maximum = UINT64_C(1) << 30, .help = "size of the send buffer; 0: the kernel's"},
    DRAFTER_OPTION_END,
};

/* Octal permission bits, read and write only. */
static int unix_parse_mode(const char *text, mode_t *ret_mode, struct drafter_error *err)
{
    unsigned long mode;

    if (!*text || strlen(text) > 4 || text[strspn(text, "01234567")] ||
        (mode = strtoul(text, NULL, 8)) & ~0666ul)
        return drafter_error_set(err, EINVAL,
                                 "mode = %.20s: must be octal read and write permissions, such as "
                                 "0600 or 0660",
                                 text);
    *ret_mode = (mode_t)mode;
    return 0;
}

static int unix_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    const struct unix_config *settings = config;
    struct unix_transport *transport;
    mode_t mode = 0;
    int rc = unix_parse_mode(settings->mode, &mode, err);

    (void)context;
    if (rc < 0)
        return rc;
    transport = calloc(1, sizeof(*transport));
    if (!transport)
        return drafter_error_set(err, ENOMEM, "unix: out of memory");
    transport->config = settings;
    transport->mode = mode;
    socket_set_init(&transport->sockets);
    *ret_instance = transport;
    return 0;
}

static void unix_destroy(void *instance)
{
    struct unix_transport *transport = instance;

    if (!transport)
        return;
    socket_set_release(&transport->sockets);
    free(transport);
}

int unix_address(const char *address, struct sockaddr_un *ret_address, socklen_t *ret_length,
                 struct drafter_error *err)
{
    struct sockaddr_un found = {.sun_family = AF_UNIX};
    size_t length = strlen(address), limit = sizeof(found.sun_path) - 1;

    if (length == 0 || strcmp(address, "@") == 0)
        return drafter_error_set(err, EINVAL,
                                 "the address \"%s\" is empty; write a path or @name", address);
    if (length > limit)
        return drafter_error_set(err, ENAMETOOLONG,
                                 "%.60s...: %zu bytes, but the path of a UNIX socket has at most "
                                 "%zu; choose a shorter directory",
                                 address, length, limit);
    memcpy(found.sun_path, address, length);
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (unix_is_abstract(address))
        found.sun_path[0] = '\0'; /* an abstract name counts its bytes and has no end mark */
    else
        (*ret_length)++;
    *ret_address = found;
    return 0;
}

int unix_set_buffer(const struct unix_transport *transport, int fd, struct drafter_error *err)
{
    int size = (int)transport->config->send_buffer;

    if (size && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
        return drafter_error_errno(err, errno, "option send-buffer = %d", size);
    return 0;
}

int unix_socket(struct unix_transport *transport, int flags, struct drafter_error *err)
{
    int rc, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    if (fd < 0)
        return drafter_error_errno(err, errno, "no socket");
    rc = unix_set_buffer(transport, fd, err);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int unix_connection(struct unix_transport *transport, int fd, const char *address,
                    void **ret_connection, struct drafter_error *err)
{
    struct socket_handle *handle = socket_handle_new(&transport->sockets, sizeof(*handle), &fd, 1);
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);

    if (!handle)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        snprintf(handle->name, sizeof(handle->name), "%s (pid %ld, uid %lu)", address,
                 (long)peer.pid, (unsigned long)peer.uid);
    else
        snprintf(handle->name, sizeof(handle->name), "%s", address);
    *ret_connection = handle;
    return 0;
}

static int unix_connect_failed(struct drafter_error *err, int code, const char *address,
                               unsigned timeout_ms)
{
    switch (code) {
    case ENOENT:
    case ECONNREFUSED:
        return drafter_error_set(err, code,
                                 "nothing listens at %s; start the other side first, or correct "
                                 "the path",
                                 address);
    case ETIMEDOUT:
        return drafter_error_set(err, code,
                                 "%s: its listener did not take the connection within %u ms; it is "
                                 "overloaded or stopped",
                                 address, timeout_ms);
    case EACCES:
    case EPERM:
        return drafter_error_set(err, code,
                                 "%s: no permission; run as the user that listens there, or raise "
                                 "its option mode",
                                 address);
    default:
        return drafter_error_errno(err, code, "connecting to %s", address);
    }
}

/*
 * A UNIX socket connects at once or, when the listener's queue is full, waits; only a blocking connect
 * can wait, for as long as the send timeout says.  (Transfers never block in the kernel: they poll.)
 */
static int unix_connect_fd(int fd, const struct sockaddr_un *address, socklen_t length,
                           uint64_t deadline)
{
    for (;;) {
        if (deadline) {
            uint64_t now = drafter_now_ns(), left = deadline > now ? deadline - now : 0;
            struct timeval limit = {.tv_sec = (time_t)(left / 1000000000),
                                    .tv_usec = (suseconds_t)(left % 1000000000 / 1000 + 1)};

            if (limit.tv_usec >= 1000000)
                limit = (struct timeval){.tv_sec = limit.tv_sec + 1};
            if (!left)
                return -ETIMEDOUT;
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        }
        if (connect(fd, (const struct sockaddr *)address, length) == 0)
            return 0;
        if (errno == EAGAIN)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int unix_connect(void *instance, const char *address, unsigned timeout_ms,
                        void **ret_connection, struct drafter_error *err)
{
    struct unix_transport *transport = instance;
    uint64_t deadline = socket_deadline(timeout_ms);
    struct sockaddr_un where;
    socklen_t length;
    int rc, fd;

    rc = unix_address(address, &where, &length, err);
    if (rc < 0)
        return rc;
    fd = unix_socket(transport, 0, err);
    if (fd < 0)
        return fd;
    rc = unix_connect_fd(fd, &where, length, deadline);
    if (rc < 0)
        unix_connect_failed(err, -rc, address, timeout_ms);
    else
        rc = unix_connection(transport, fd, address, ret_connection, err);
    if (rc < 0)
        close(fd);
    return rc;
}

static bool unix_leaves_host(void *instance, const char *address, bool listening)
{
    (void)instance, (void)address, (void)listening;
    return false;
}

static const struct drafter_transport_ops unix_ops = {
    .connect = unix_connect,
    .listen = unix_listen,
    .accept = unix_accept,
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
    .leaves_host = unix_leaves_host,
};

static const struct drafter_plugin unix_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "unix",
    .version = "0.1.0",
    .license = "BSD-2-Clause",
    .summary = "streams over UNIX sockets",
    .options = unix_options,
    .config_size = sizeof(struct unix_config),
    .create = unix_create,
    .destroy = unix_destroy,
    .ops = &unix_ops,
};
DRAFTER_PLUGIN_ENTRY(unix_plugin)

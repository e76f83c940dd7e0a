/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A complete transport plugin, to copy from.  It needs the installed headers and nothing else; see the
 * Makefile beside it and drafter-plugin(3).
 *
 *     [transport]
 *     plugin = /usr/local/lib/drafter-transport-example.so
 *     prefix = my-
 *
 * Streams run over UNIX sockets: an address with a slash is a path, any other is an abstract name,
 * which has the option `prefix` in front so that two users of the plugin do not meet.
 */
#include <drafter/transport.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* The core fills this by the table below before it calls create(). */
struct example_config {
    const char *prefix;
    uint64_t backlog;
};

static const struct drafter_option example_options[] = {
    {.key = "prefix", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct example_config, prefix), .default_value = "drafter-example-",
     .help = "stands in front of abstract names"},
    {.key = "backlog", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct example_config, backlog), .default_value = "16", .minimum = 1,
     .maximum = 4096, .help = "how many streams may wait to be accepted"},
    DRAFTER_OPTION_END,
};

/* All state is here, never at file scope: the plugin can be used twice in one process. */
struct example {
    const struct example_config *config; /* lives as long as the instance */
};

/* A connection or a listener. */
struct example_socket {
    int fd;
    atomic_bool ended; /* shutdown may come from any thread while another one waits */
    struct sockaddr_un bound;
    char name[128];
};

static int example_create(const struct drafter_context *context, const void *config,
                          void **ret_instance, struct drafter_error *err)
{
    struct example *example = calloc(1, sizeof(*example));

    (void)context;
    if (!example)
        return drafter_error_set(err, ENOMEM, "example: out of memory");
    example->config = config;
    *ret_instance = example;
    return 0;
}

static void example_destroy(void *instance)
{
    free(instance); /* NULL is allowed */
}

/* What an address means.  It may come from a peer's configuration: its length is checked first. */
static int example_resolve(const struct example *example, const char *address,
                           struct sockaddr_un *ret_resolved, socklen_t *ret_length,
                           struct drafter_error *err)
{
    const char *prefix = strchr(address, '/') ? "" : example->config->prefix;
    size_t skip = strchr(address, '/') ? 0 : 1; /* an abstract name begins with a NUL */
    size_t length = strlen(prefix) + strlen(address);
    struct sockaddr_un resolved = {.sun_family = AF_UNIX};

    if (!*address || skip + length >= sizeof(resolved.sun_path))
        return drafter_error_set(err, EINVAL, "example: the address \"%.40s\" is empty or too long",
                                 address);
    snprintf(resolved.sun_path + skip, sizeof(resolved.sun_path) - skip, "%s%s", prefix, address);
    *ret_resolved = resolved;
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + skip + length);
    return 0;
}

static int example_new(int fd, const char *name, void **ret_socket, struct drafter_error *err)
{
    struct example_socket *made = calloc(1, sizeof(*made));

    if (!made)
        return drafter_error_set(err, ENOMEM, "example: out of memory");
    made->fd = fd;
    snprintf(made->name, sizeof(made->name), "%s", name);
    *ret_socket = made;
    return 0;
}

/* A socket that is connected, or bound and listening, and its handle. */
static int example_open(struct example *example, const char *address, bool listening,
                        unsigned timeout_ms, void **ret_socket, struct drafter_error *err)
{
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000}, forever = {0, 0};
    struct sockaddr_un where;
    socklen_t length = 0;
    int fd, result = example_resolve(example, address, &where, &length, err);

    if (result < 0)
        return result;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return drafter_error_errno(err, errno, "example: socket");
    if (listening) {
        result = bind(fd, (struct sockaddr *)&where, length);
        if (result == 0)
            result = listen(fd, (int)example->config->backlog);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* covers connect */
        result = connect(fd, (struct sockaddr *)&where, length);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
    }
    if (result < 0)
        result = drafter_error_errno(err, errno == EAGAIN ? ETIMEDOUT : errno, "example: %s", address);
    if (result == 0)
        result = example_new(fd, address, ret_socket, err);
    if (result < 0) {
        close(fd);
        return result;
    }
    if (listening)
        ((struct example_socket *)*ret_socket)->bound = where;
    return 0;
}

static int example_connect(void *instance, const char *address, unsigned timeout_ms,
                           void **ret_connection, struct drafter_error *err)
{
    return example_open(instance, address, false, timeout_ms, ret_connection, err);
}

static int example_listen(void *instance, const char *address, void **ret_listener,
                          struct drafter_error *err)
{
    return example_open(instance, address, true, 0, ret_listener, err);
}

static int example_accept(void *instance, void *listener, void **ret_connection,
                          struct drafter_error *err)
{
    struct example_socket *from = listener;
    int result, fd = accept4(from->fd, NULL, NULL, SOCK_CLOEXEC);

    (void)instance;
    if (fd < 0 && atomic_load(&from->ended))
        return drafter_error_set(err, ECANCELED, "example: %s: shut down", from->name);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EMFILE || errno == ENFILE))
        return drafter_error_errno(err, EAGAIN, "example: %s", from->name);
    if (fd < 0)
        return drafter_error_errno(err, errno, "example: %s", from->name);
    result = example_new(fd, from->name, ret_connection, err);
    if (result < 0)
        close(fd);
    return result;
}

/* Data-path operations return the errno alone. */
static ssize_t example_result(struct example_socket *socket, ssize_t result)
{
    int code = errno;

    if (atomic_load(&socket->ended) && result <= 0)
        return -ECANCELED;
    if (result >= 0)
        return result;
    return code == EAGAIN ? -ETIMEDOUT : -code;
}

static ssize_t example_transfer(struct example_socket *socket, const struct iovec *vector, int count,
                                bool write)
{
    struct msghdr message = {.msg_iov = (struct iovec *)vector, .msg_iovlen = (size_t)count};
    ssize_t result;

    do {
        result = write ? sendmsg(socket->fd, &message, MSG_NOSIGNAL) : recvmsg(socket->fd, &message, 0);
    } while (result < 0 && errno == EINTR);
    return example_result(socket, result);
}

static ssize_t example_readv(void *connection, const struct iovec *vector, int count)
{
    return example_transfer(connection, vector, count, false);
}

static ssize_t example_writev(void *connection, const struct iovec *vector, int count)
{
    return example_transfer(connection, vector, count, true);
}

static int example_set_timeout(void *connection, unsigned timeout_ms)
{
    struct example_socket *socket = connection;
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

    if (setsockopt(socket->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(socket->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
        return -errno;
    return 0;
}

/* Wakes whoever waits in accept, readv or writev; the descriptor stays until close. */
static void example_shutdown(void *socket)
{
    struct example_socket *ended = socket;

    atomic_store(&ended->ended, true);
    shutdown(ended->fd, SHUT_RDWR);
}

static void example_close(void *socket)
{
    struct example_socket *closed = socket;

    if (!closed)
        return;
    if (closed->bound.sun_path[0])
        unlink(closed->bound.sun_path);
    close(closed->fd);
    free(closed);
}

static int example_name(void *socket, char *buffer, size_t size)
{
    const struct example_socket *named = socket;
    int length = snprintf(buffer, size, "%s", named->name);

    return length >= 0 && (size_t)length < size ? 0 : -ENAMETOOLONG;
}

static const struct drafter_transport_ops example_ops = {
    .connect = example_connect,
    .listen = example_listen,
    .accept = example_accept,
    .listener_address = example_name,
    .listener_shutdown = example_shutdown,
    .listener_close = example_close,
    .readv = example_readv,
    .writev = example_writev,
    .set_timeout = example_set_timeout,
    .shutdown = example_shutdown,
    .close = example_close,
    .peer_name = example_name,
};

static const struct drafter_plugin example_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "example",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "streams over UNIX sockets, to copy from",
    .options = example_options,
    .config_size = sizeof(struct example_config),
    .create = example_create,
    .destroy = example_destroy,
    .ops = &example_ops,
};
DRAFTER_PLUGIN_ENTRY(example_plugin)

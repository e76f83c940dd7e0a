/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device of the kernel.
 *
 * A request that the kernel sent and that is not answered within `timeout` costs the connection: the
 * kernel closes it and sends the request again on another.  A read of a missing block may well wait that
 * long.  So a connection that ended is renewed, as long as the kernel has the device; and the same brings
 * a device back whose process died.
 *
 * A process that is killed closes its files last opened first.  When it had the device open as the last
 * one, the kernel writes dirty pages back then, and waits for whoever serves the other ends of its
 * sockets.  Those must be closed before: they get high numbers.
 */
#include "server.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_FD_MIN 512
#define SOCKET_BUFFER (2 << 20)
#define RENEW_PERIOD_NS UINT64_C(100000000)
#define RENEW_TRIES 20
#define RELEASE_PATIENCE_MS 5000

struct link {
    struct export *export;
    pthread_t thread;
    bool running; /* of the thread that begins and ends */
    char *buffer;
    int fd; /* protected by export->lock; -1 while there is none */
};

/* Nothing of this may be longer than what the kernel shows in one page. */
static void identify(char identifier[PATH_MAX + 128], const char *directory, const char *name)
{
    snprintf(identifier, PATH_MAX + 128, "drafter:%s/%s", directory, name);
}

/* Our end, and the kernel's. */
static int make_pair(int pair[2])
{
    int size = SOCKET_BUFFER, high;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    high = fcntl(pair[0], F_DUPFD_CLOEXEC, SOCKET_FD_MIN);
    if (high >= 0) {
        close(pair[0]);
        pair[0] = high;
    }
    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
            setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return 0;
}

static void set_fd(struct link *link, int fd)
{
    pthread_mutex_lock(&link->export->lock);
    link->fd = fd;
    pthread_mutex_unlock(&link->export->lock);
}

static bool withdrawn(struct export *export)
{
    bool gone;

    pthread_mutex_lock(&export->lock);
    gone = export->withdrawn;
    pthread_mutex_unlock(&export->lock);
    return gone;
}

/* Serves the link's socket until it ends. */
static int serve_link(struct link *link)
{
    struct server *server = link->export->server;
    struct conn *conn = conn_new(server, link->fd);

    if (!conn)
        return -ENOMEM;
    conn->export = link->export;
    conn->pooled = true;
    conn->buffer = link->buffer;
    conn_serve(conn);
    atomic_store(&conn->broken, true);
    shutdown(conn->fd, SHUT_RDWR);
    pool_cancel(&server->pool, conn);
    set_fd(link, -1);
    conn_put(conn);
    return 0;
}

/* The kernel may need a moment to see that the old connection is dead. */
static int renew(struct link *link)
{
    char identifier[PATH_MAX + 128];
    struct export *export = link->export;
    struct drafter_error error = {0};
    int pair[2], result = -ESHUTDOWN;

    identify(identifier, export->server->served.directory, export->name);
    if (withdrawn(export) || make_pair(pair) < 0)
        return -ESHUTDOWN;
    for (unsigned i = 0; i < RENEW_TRIES && result < 0 && !withdrawn(export); i++) {
        usleep(RENEW_PERIOD_NS / 1000);
        result = netlink_reconnect(export->index, &pair[1], 1, identifier, RELEASE_AS_IT_IS,
                                   &error);
    }
    close(pair[1]);
    if (result < 0) {
        close(pair[0]);
        if (!withdrawn(export))
            drafter_log(DRAFTER_LOG_WARNING, export->server->id,
                        "%s: a connection of the kernel ended and cannot be renewed: %s",
                        export->name, error.message);
        return result;
    }
    drafter_log(DRAFTER_LOG_DEBUG, export->server->id, "%s: a connection of the kernel was renewed",
                export->name);
    set_fd(link, pair[0]);
    return 0;
}

static void *link_run(void *opaque)
{
    struct link *link = opaque;

    pool_settle_thread();
    while (serve_link(link) == 0 && renew(link) == 0)
        ;
    return NULL;
}

/* Makes the sockets; `kernel_ends` are to be closed by the caller, all of them. */
static int make_links(struct export *export, int *kernel_ends, struct drafter_error *err)
{
    unsigned count = (unsigned)export->server->config->connections;
    int pair[2], result = 0;

    export->links = calloc(count, sizeof(*export->links));
    if (!export->links)
        return drafter_error_set(err, ENOMEM, "%s: no memory", export->name);
    for (unsigned i = 0; i < count && result == 0; i++) {
        struct link *link = &export->links[i];

        result = make_pair(pair);
        if (result < 0)
            break;
        *link = (struct link){.export = export, .fd = pair[0], .buffer = pool_buffer_new()};
        kernel_ends[i] = pair[1];
        export->link_count++;
        if (!link->buffer)
            result = -ENOMEM;
    }
    return result < 0 ? drafter_error_errno(err, -result, "%s: cannot make the connections",
                                            export->name)
                      : 0;
}

static void close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static int run_links(struct export *export, struct drafter_error *err)
{
    for (unsigned i = 0; i < export->link_count; i++) {
        struct link *link = &export->links[i];
        int result = pool_thread(&link->thread, link_run, link);

        if (result < 0)
            return drafter_error_errno(err, -result, "%s: cannot start a thread", export->name);
        link->running = true;
    }
    return 0;
}

static int connect_links(struct export *export, const char *identifier, const int *kernel_ends,
                         struct drafter_error *err)
{
    const struct server_config *config = export->server->config;
    const struct netlink_device device = {
        .size = export->size,
        .timeout_s = (config->timeout_ns + 999999999) / 1000000000,
        .reconnect_s = (config->reconnect_ns + 999999999) / 1000000000,
        .flags = export_transmission_flags(export, false),
        .identifier = identifier,
    };

    return netlink_connect(&device, kernel_ends, export->link_count, &export->index, err);
}

/* While the kernel looks for partitions, a missing block is an error and nothing that it waits for. */
static int show(struct export *export, struct drafter_error *err)
{
    bool readonly = export->flags & DRAFTER_DEVICE_READONLY;
    char kernel_name[32];
    int result;

    snprintf(kernel_name, sizeof(kernel_name), "nbd%d", export->index);
    atomic_store(&export->settling, true);
    result = node_make(&export->node, kernel_name, export->server->served.directory, export->name,
                       readonly, err);
    atomic_store(&export->settling, false);
    if (result < 0)
        return result;
    node_set_queue(&export->node, "max_sectors_kb", SERVER_CHUNK >> 10);
    node_set_queue(&export->node, "read_ahead_kb", 0);
    result = node_invalidate(&export->node, 0, 0); /* what the kernel has read so far */
    return result < 0 ? drafter_error_errno(err, -result, "%s", export->node.path) : 0;
}

int attach_begin(struct export *export, struct drafter_error *err)
{
    char identifier[PATH_MAX + 128];
    int kernel_ends[SERVER_CONNECTIONS_MAX], result;

    identify(identifier, export->server->served.directory, export->name);
    result = make_links(export, kernel_ends, err);
    if (result == 0)
        result = connect_links(export, identifier, kernel_ends, err);
    close_all(kernel_ends, export->link_count);
    if (result == 0)
        result = run_links(export, err);
    if (result == 0)
        result = show(export, err);
    /* From here on it is open, by us if by nobody else: when the last one is gone, it goes. */
    if (result == 0)
        result = netlink_reconnect(export->index, NULL, 0, identifier, RELEASE_ON_CLOSE, err);
    if (result == 0 && (result = keep_add(export)) < 0)
        drafter_error_errno(err, -result, "%s: cannot keep the device", export->name);
    if (result < 0)
        attach_end(export);
    return result;
}

/* The kernel need not do it again, and complain, at the last close. */
static void disconnect(struct export *export)
{
    char identifier[PATH_MAX + 128];
    struct drafter_error error = {0};

    identify(identifier, export->server->served.directory, export->name);
    netlink_reconnect(export->index, NULL, 0, identifier, RELEASE_BY_HAND, &error);
    error = (struct drafter_error){0};
    if (netlink_disconnect(export->index, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, export->server->id, "%s: %s", export->name, error.message);
}

/* Nobody enters the export any more. */
void attach_end(struct export *export)
{
    pthread_mutex_lock(&export->lock);
    export->withdrawn = true;
    pthread_mutex_unlock(&export->lock);
    keep_remove(export);
    if (export->index >= 0)
        disconnect(export);
    pthread_mutex_lock(&export->lock);
    for (unsigned i = 0; i < export->link_count; i++)
        if (export->links[i].fd >= 0)
            shutdown(export->links[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&export->lock);
    for (unsigned i = 0; i < export->link_count; i++) {
        struct link *link = &export->links[i];

        if (link->running)
            pthread_join(link->thread, NULL);
        if (link->fd >= 0)
            close(link->fd);
        pool_buffer_free(link->buffer);
    }
    free(export->links);
    export->links = NULL;
    export->link_count = 0;
    export_close(export); /* the pool may still have what the kernel asked for last */
    node_remove(&export->node);
}

/* The identifier that the kernel shows of a device, "" when there is none. */
static void read_identifier(const char *kernel_name, char *text, size_t size)
{
    char path[PATH_MAX];
    FILE *file;

    text[0] = '\0';
    snprintf(path, sizeof(path), "/sys/block/%s/backend", kernel_name);
    file = fopen(path, "re");
    if (!file)
        return;
    if (!fgets(text, (int)size, file))
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    fclose(file);
}

int attach_adopt(struct export *export, struct drafter_error *err)
{
    char identifier[PATH_MAX + 128], found[PATH_MAX + 128], kernel_name[32];
    struct server *server = export->server;
    int index, fd, result = keep_take(export, &index, &fd);

    if (result < 0)
        return drafter_error_set(err, ENODEV, "%s: no such device was left", export->name);
    result = node_adopt(&export->node, fd, server->served.directory, export->name,
                        export->flags & DRAFTER_DEVICE_READONLY, err);
    if (result < 0)
        return result;
    snprintf(kernel_name, sizeof(kernel_name), "nbd%d", index);
    identify(identifier, server->served.directory, export->name);
    read_identifier(kernel_name, found, sizeof(found));
    if (strcmp(identifier, found) != 0)
        return drafter_error_set(err, ENODEV, "%s: /dev/%s is \"%s\" by now", export->name,
                                 kernel_name, found);
    export->index = index;
    return 0;
}

int attach_resume(struct export *export, struct drafter_error *err)
{
    char identifier[PATH_MAX + 128];
    int kernel_ends[SERVER_CONNECTIONS_MAX], result;

    identify(identifier, export->server->served.directory, export->name);
    result = make_links(export, kernel_ends, err);
    if (result == 0)
        result = netlink_reconnect(export->index, kernel_ends, export->link_count, identifier,
                                   RELEASE_ON_CLOSE, err);
    close_all(kernel_ends, export->link_count);
    return result < 0 ? result : run_links(export, err);
}

/* Whether the kernel still has connections of a device, dead or alive. */
static bool is_connected(const char *kernel_name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "/sys/block/%s/pid", kernel_name);
    return access(path, F_OK) == 0;
}

static int release(const char *kernel_name, const char *directory, struct drafter_error *err)
{
    int result = netlink_disconnect((int)strtol(kernel_name + 3, NULL, 10), err);

    if (result < 0)
        return result;
    for (unsigned ms = 0; ms < RELEASE_PATIENCE_MS; ms += 10) {
        if (!is_connected(kernel_name)) {
            drafter_log(DRAFTER_LOG_INFO, "nbd", "/dev/%s, which a dead process left, was released",
                        kernel_name);
            return 0;
        }
        usleep(10000);
    }
    return drafter_error_set(err, EBUSY, "/dev/%s, which a dead process left in %s, does not go",
                             kernel_name, directory);
}

int attach_release(void *instance, const char *directory, struct drafter_error *err)
{
    char prefix[PATH_MAX + 128], identifier[PATH_MAX + 128];
    DIR *devices = opendir("/sys/block");
    struct dirent *entry;
    int result = 0;

    (void)instance;
    identify(prefix, directory, "");
    while (devices && result == 0 && (entry = readdir(devices))) {
        if (strncmp(entry->d_name, "nbd", 3) != 0 || !is_connected(entry->d_name))
            continue;
        read_identifier(entry->d_name, identifier, sizeof(identifier));
        if (strncmp(identifier, prefix, strlen(prefix)) == 0)
            result = release(entry->d_name, directory, err);
    }
    if (devices)
        closedir(devices);
    return result;
}

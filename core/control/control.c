/* SPDX-License-Identifier: BSD-2-Clause */
/* The node's end: a thread that accepts, and one for each connection. */
#include "control/internal.h"

#include "util/cleanup.h"
#include "util/json.h"
#include "util/log.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define CONNECTIONS_MAX 16
#define IDLE_MS 1000
#define BACKLOG 8

struct control {
    struct control_ops ops;
    int socket, directory, over; /* eventfd */
    char *name;
    pthread_t acceptor;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned connections; /* lock */
    bool stopping;        /* lock */
};

struct connection {
    struct control *control;
    int fd;
};

/* The socket is for its owner; root may do what it likes anyway. */
static bool may(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
           (peer.uid == 0 || peer.uid == geteuid());
}

struct control_asker {
    int fd;
};

/* One that has only ended what it says still wants the answer. */
bool control_asker_left(const struct control_asker *asker)
{
    struct pollfd poller = {.fd = asker->fd};

    return poll(&poller, 1, 0) > 0 && poller.revents & (POLLHUP | POLLERR);
}

static json_t *answer(struct control *control, int fd, const char *line)
{
    const struct control_asker asker = {fd};
    cleanup_json json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    struct drafter_error error = {0};
    cleanup_json json_t *reply = json_object();
    int rc = -EINVAL;

    if (!command)
        drafter_error_set(&error, EINVAL, "wanted an object with \"command\" on one line");
    else
        rc = control->ops.request(control->ops.opaque, &asker, command, request, reply, &error);
    if (rc < 0 || error.code)
        return json_pack("{s:b, s:i, s:s}", "ok", 0, "code", error.code ? error.code : -rc, "error",
                         error.code ? error.message : strerror(-rc));
    json_object_set_new(reply, "ok", json_true());
    return json_incref(reply);
}

static bool is_stopping(struct control *control)
{
    lock_scope(&control->lock);
    return control->stopping;
}

static void serve(struct control *control, int fd)
{
    cleanup_free char *line = malloc(CONTROL_LINE_MAX);
    ssize_t length;

    while (line && !is_stopping(control)) {
        cleanup_json json_t *reply = NULL;

        length = control_read_line(fd, line, CONTROL_LINE_MAX);
        if (length == -ETIMEDOUT && recv(fd, line, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
            continue; /* idle */
        if (length <= 0)
            return;
        reply = answer(control, fd, line);
        if (!reply || control_write_line(fd, reply))
            return;
    }
}

static void *connection_main(void *opaque)
{
    struct connection *connection = opaque;
    struct control *control = connection->control;

    serve(control, connection->fd);
    close(connection->fd);
    free(connection);
    pthread_mutex_lock(&control->lock);
    control->connections--;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    return NULL;
}

static bool enter(struct control *control)
{
    lock_scope(&control->lock);
    if (control->stopping || control->connections == CONNECTIONS_MAX)
        return false;
    control->connections++;
    return true;
}

static void leave(struct control *control)
{
    lock_scope(&control->lock);
    control->connections--;
    pthread_cond_broadcast(&control->changed);
}

static void start_connection(struct control *control, int fd)
{
    const struct timeval patience = {.tv_sec = IDLE_MS / 1000};
    struct connection *connection = malloc(sizeof(*connection));
    pthread_attr_t attributes;
    pthread_t thread;
    bool started = false;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* of one that does not read */
    if (connection && may(fd) && enter(control)) {
        *connection = (struct connection){control, fd};
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        started = !pthread_create(&thread, &attributes, connection_main, connection);
        pthread_attr_destroy(&attributes);
        if (!started)
            leave(control);
    }
    if (!started) {
        free(connection);
        close(fd);
    }
}

static void *accept_main(void *opaque)
{
    static const struct timespec moment = {0, 10000000};
    struct control *control = opaque;
    struct pollfd waits[2] = {{.fd = control->over, .events = POLLIN},
                              {.fd = control->socket, .events = POLLIN}};

    for (;;) {
        int fd;

        if (poll(waits, 2, -1) < 0)
            continue;
        if (waits[0].revents)
            return NULL;
        fd = accept4(control->socket, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            start_connection(control, fd);
        else
            nanosleep(&moment, NULL); /* out of descriptors, say */
    }
}

/* A socket that a dead process left is in the way; whoever is here has the node's lock. */
static int listen_at(struct control *control, const char *run_directory, struct drafter_error *err)
{
    struct sockaddr_un address;
    int rc = control_address(run_directory, control->name, &address, &control->directory, err);

    if (rc)
        return rc;
    control->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control->socket < 0)
        return drafter_error_errno(err, errno, "socket");
    unlink(address.sun_path);
    /* Before it has a name: nobody else can ever open it. */
    if (fchmod(control->socket, 0600) || bind(control->socket, (struct sockaddr *)&address, sizeof(address)) ||
        listen(control->socket, BACKLOG))
        return drafter_error_errno(err, errno, "%s/%s%s", run_directory, control->name, CONTROL_SUFFIX);
    return 0;
}

static void release(struct control *control)
{
    char file[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* it was in one; and no memory may be left */

    if (control->directory >= 0 && control->socket >= 0) {
        snprintf(file, sizeof(file), "%s%s", control->name, CONTROL_SUFFIX);
        unlinkat(control->directory, file, 0);
    }
    if (control->socket >= 0)
        close(control->socket);
    if (control->directory >= 0)
        close(control->directory);
    if (control->over >= 0)
        close(control->over);
    pthread_mutex_destroy(&control->lock);
    pthread_cond_destroy(&control->changed);
    free(control->name);
    free(control);
}

int control_start(const char *run_directory, const char *name, const struct control_ops *ops,
                  struct control **ret_control, struct drafter_error *err)
{
    struct control *control = calloc(1, sizeof(*control));
    int rc = 0;

    if (!control)
        return drafter_error_set(err, ENOMEM, "out of memory");
    control->ops = *ops;
    control->socket = control->directory = -1;
    control->over = eventfd(0, EFD_CLOEXEC);
    control->name = strdup(name);
    pthread_mutex_init(&control->lock, NULL);
    pthread_cond_init(&control->changed, NULL);
    if (control->over < 0 || !control->name)
        rc = drafter_error_errno(err, errno, "control socket");
    if (!rc)
        rc = listen_at(control, run_directory, err);
    if (!rc && pthread_create(&control->acceptor, NULL, accept_main, control))
        rc = drafter_error_set(err, EAGAIN, "cannot start a thread");
    if (rc) {
        release(control);
        return rc;
    }
    *ret_control = control;
    return 0;
}

void control_stop(struct control *control)
{
    const uint64_t one = 1;

    if (!control)
        return;
    pthread_mutex_lock(&control->lock);
    control->stopping = true;
    pthread_mutex_unlock(&control->lock);
    if (write(control->over, &one, sizeof(one)) != sizeof(one))
        log_debug("control", "it was told before");
    pthread_join(control->acceptor, NULL);
    pthread_mutex_lock(&control->lock);
    while (control->connections)
        pthread_cond_wait(&control->changed, &control->lock);
    pthread_mutex_unlock(&control->lock);
    release(control);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listening at a path has to deal with what is there already.  A socket at which nobody answers was
 * left behind by a process that died and is removed; anything else stays, and listening fails.
 *
 * Looking, removing, binding and listening are one step under a lock on the directory: a socket that
 * is bound but does not listen yet would look stale to another starter, and of two starters that both
 * saw the stale one, the second would remove the first one's new socket.
 *
 * The file never exists with more permissions than the option mode gives: fchmod on a socket that is
 * not bound yet sets what bind creates, below the umask; chmod then adds what the umask took.
 */
#include "unix.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNIX_BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */
#define UNIX_LOCK_WAIT_MS 2000

/* The lock on the directory of `path`: a descriptor to close, or a negative errno. */
static int unix_lock_directory(const char *path, struct drafter_error *err)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t deadline = socket_deadline(UNIX_LOCK_WAIT_MS);
    char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *directory;
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    directory = dirname(copy);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return drafter_error_errno(err, errno, "listening at %s: directory %s", path, directory);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            break; /* a file system without locks: there is nothing better */
        if (drafter_now_ns() > deadline) {
            close(fd);
            return drafter_error_set(err, EBUSY,
                                     "listening at %s: another process keeps the directory %s "
                                     "locked",
                                     path, directory);
        }
        nanosleep(&pause, NULL);
    }
    return fd;
}

/* 0 when nobody answers at the socket, -EADDRINUSE when somebody does, or another negative errno. */
static int unix_probe(const struct sockaddr_un *address, socklen_t length)
{
    int rc, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    rc = connect(fd, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
    close(fd);
    switch (rc) {
    case -ECONNREFUSED:
    case -ENOENT:
        return 0;
    case 0:
    case -EAGAIN:     /* its queue is full */
    case -EPROTOTYPE: /* it is not a stream socket, but it is somebody's */
        return -EADDRINUSE;
    default:
        return rc;
    }
}

static int unix_clear_path(const char *path, const struct sockaddr_un *address, socklen_t length,
                           struct drafter_error *err)
{
    struct stat found;
    int rc;

    if (lstat(path, &found) < 0)
        return errno == ENOENT ? 0 : drafter_error_errno(err, errno, "listening at %s", path);
    if (!S_ISSOCK(found.st_mode))
        return drafter_error_set(err, EEXIST,
                                 "%s exists and is not a socket; it is left alone: choose another "
                                 "path",
                                 path);
    rc = unix_probe(address, length);
    if (rc == -EADDRINUSE)
        return drafter_error_set(err, EADDRINUSE,
                                 "another process listens at %s; stop it or choose another path",
                                 path);
    if (rc < 0)
        return drafter_error_errno(err, -rc,
                                   "%s exists, and whether it is in use cannot be told; remove it "
                                   "if it is not",
                                   path);
    if (unlink(path) < 0 && errno != ENOENT)
        return drafter_error_errno(err, errno, "removing the stale socket %s", path);
    return 0;
}

/* Binds and listens; `ret_made` gets the new file's identity. */
static int unix_bind_path(struct unix_transport *transport, int fd, const char *path,
                          const struct sockaddr_un *address, socklen_t length,
                          struct stat *ret_made, struct drafter_error *err)
{
    if (fchmod(fd, transport->mode) < 0)
        return drafter_error_errno(err, errno, "listening at %s: mode", path);
    if (bind(fd, (const struct sockaddr *)address, length) < 0)
        return drafter_error_errno(err, errno, "listening at %s", path);
    if (chmod(path, transport->mode) < 0 || lstat(path, ret_made) < 0 ||
        listen(fd, UNIX_BACKLOG) < 0) {
        int code = errno;

        unlink(path);
        return drafter_error_errno(err, code, "listening at %s", path);
    }
    return 0;
}

static int unix_listen_path(struct unix_transport *transport, int fd, const char *path,
                            const struct sockaddr_un *address, socklen_t length,
                            struct stat *ret_made, struct drafter_error *err)
{
    int rc, lock = unix_lock_directory(path, err);

    if (lock < 0)
        return lock;
    rc = unix_clear_path(path, address, length, err);
    if (rc == 0)
        rc = unix_bind_path(transport, fd, path, address, length, ret_made, err);
    close(lock);
    return rc;
}

static int unix_listen_abstract(int fd, const char *name, const struct sockaddr_un *address,
                                socklen_t length, struct drafter_error *err)
{
    if (bind(fd, (const struct sockaddr *)address, length) == 0 && listen(fd, UNIX_BACKLOG) == 0)
        return 0;
    if (errno == EADDRINUSE)
        return drafter_error_set(err, EADDRINUSE,
                                 "another process listens at %s; stop it or choose another name",
                                 name);
    return drafter_error_errno(err, errno, "listening at %s", name);
}

/* Removes the socket file, unless somebody put another in its place. */
static void unix_closing(struct socket_handle *handle)
{
    struct unix_listener *listener = (struct unix_listener *)handle;
    struct stat found;

    if (lstat(listener->path, &found) == 0 && S_ISSOCK(found.st_mode) &&
        found.st_dev == listener->device && found.st_ino == listener->inode)
        unlink(listener->path);
}

int unix_listen(void *instance, const char *address, void **ret_listener, struct drafter_error *err)
{
    struct unix_transport *transport = instance;
    struct unix_listener *listener;
    struct sockaddr_un where;
    struct stat made = {0};
    socklen_t length;
    int rc, fd;

    rc = unix_address(address, &where, &length, err);
    if (rc < 0)
        return rc;
    fd = unix_socket(transport, SOCK_NONBLOCK, err);
    if (fd < 0)
        return fd;
    /* The handle first: afterwards nothing can fail that would leave a file behind. */
    listener = socket_handle_new(&transport->sockets, sizeof(*listener), &fd, 1);
    if (!listener) {
        close(fd);
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    }
    snprintf(listener->socket.name, sizeof(listener->socket.name), "%s", address);
    if (unix_is_abstract(address))
        rc = unix_listen_abstract(fd, address, &where, length, err);
    else
        rc = unix_listen_path(transport, fd, address, &where, length, &made, err);
    if (rc < 0) {
        socket_close(listener);
        return rc;
    }
    if (!unix_is_abstract(address)) {
        snprintf(listener->path, sizeof(listener->path), "%s", address);
        listener->device = made.st_dev;
        listener->inode = made.st_ino;
        listener->socket.closing = unix_closing;
    }
    *ret_listener = listener;
    return 0;
}

/* An abstract name has no file whose permissions the kernel would check. */
static bool unix_may_connect(const struct unix_transport *transport, int fd)
{
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    if (peer.uid == 0)
        return true;
    if (peer.uid == geteuid())
        return transport->mode & 0200;
    if (peer.gid == getegid())
        return transport->mode & 0020;
    return transport->mode & 0002;
}

int unix_accept(void *instance, void *listener_, void **ret_connection, struct drafter_error *err)
{
    struct unix_transport *transport = instance;
    struct unix_listener *listener = listener_;
    int rc, fd;

    for (;;) {
        fd = socket_accept_fd(&listener->socket, err);
        if (fd < 0)
            return fd;
        if (listener->path[0] || unix_may_connect(transport, fd))
            break;
        close(fd);
        drafter_log(DRAFTER_LOG_INFO, "unix", "%s: refused a peer of another user",
                    listener->socket.name);
    }
    rc = unix_set_buffer(transport, fd, err);
    if (rc == 0)
        rc = unix_connection(transport, fd, listener->socket.name, ret_connection, err);
    if (rc < 0) {
        close(fd);
        return rc == -ENOMEM ? -EAGAIN : rc;
    }
    return 0;
}

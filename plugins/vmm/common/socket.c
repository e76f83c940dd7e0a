/* SPDX-License-Identifier: BSD-2-Clause */
#include "socket.h"
#include "util/cleanup.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

int socket_address(const char *directory, const char *name, int *ret_directory_fd,
                   struct sockaddr_un *ret_address, struct drafter_error *err)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", directory);
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s", fd, name);
    *ret_directory_fd = fd;
    return 0;
}

int socket_listen(const char *directory, const char *name, int backlog, int *ret_fd,
                  struct drafter_error *err)
{
    cleanup_close int directory_fd = -1, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un where;
    int result;

    if (fd < 0)
        return drafter_error_errno(err, errno, "socket");
    result = socket_address(directory, name, &directory_fd, &where, err);
    if (result < 0)
        return result;
    unlinkat(directory_fd, name, 0);
    if (bind(fd, (const struct sockaddr *)&where, sizeof(where)) < 0 || listen(fd, backlog) < 0)
        return drafter_error_errno(err, errno, "%s/%s", directory, name);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int socket_connect(const char *directory, const char *name, int *ret_fd, struct drafter_error *err)
{
    /* Not blocking: a full backlog means that somebody else has the connection. */
    cleanup_close int directory_fd = -1;
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un where;
    int result;

    if (fd < 0)
        return drafter_error_errno(err, errno, "socket");
    result = socket_address(directory, name, &directory_fd, &where, err);
    if (result < 0)
        return result;
    if (connect(fd, (const struct sockaddr *)&where, sizeof(where)) < 0)
        return drafter_error_errno(err, errno, "%s/%s", directory, name);
    fcntl(fd, F_SETFL, 0);
    *ret_fd = steal_fd(&fd);
    return 0;
}

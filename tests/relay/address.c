/* SPDX-License-Identifier: BSD-2-Clause */
/* [tcp:]HOST:PORT, [tcp:][V6]:PORT, unix:PATH or /PATH; an empty HOST is 127.0.0.1. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "relay.h"

static int parse_unix(const char *path, struct address *ret)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&ret->sa;

    if (strlen(path) >= sizeof un->sun_path)
        return -ENAMETOOLONG;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    ret->size = sizeof *un;
    snprintf(ret->text, sizeof ret->text, "unix:%s", path);
    return 0;
}

static int parse_tcp(const char *text, struct address *ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *info;
    const char *colon = strrchr(text, ':');
    char host[128] = "127.0.0.1";
    size_t size = colon ? (size_t)(colon - text) : 0;

    if (!colon || size >= sizeof host)
        return -EINVAL;
    if (size > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        size -= 2;
    }
    if (size > 0) {
        memcpy(host, text, size);
        host[size] = 0;
    }
    if (getaddrinfo(host, colon + 1, &hints, &info) != 0)
        return -EINVAL;
    memcpy(&ret->sa, info->ai_addr, info->ai_addrlen);
    ret->size = info->ai_addrlen;
    freeaddrinfo(info);
    return 0;
}

static void describe_tcp(struct address *address)
{
    char host[64], port[16];

    if (getnameinfo((struct sockaddr *)&address->sa, address->size, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(address->text, sizeof address->text, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s",
             host, port);
}

int address_parse(const char *text, struct address *ret)
{
    int r;

    memset(ret, 0, sizeof *ret);
    if (text[0] == '/')
        return parse_unix(text, ret);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ret);
    r = parse_tcp(strncmp(text, "tcp:", 4) == 0 ? text + 4 : text, ret);
    if (r == 0)
        describe_tcp(ret);
    return r;
}

/*
 * Small kernel buffers: what they hold is queued where the relay neither delays nor counts it. Each
 * end of the relay adds at most this much (the kernel doubles it for its own overhead).
 */
void address_tune(int fd, int buffer)
{
    int one = 1;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof one); /* fails on UNIX sockets, which need none */
}

static int open_socket(const struct address *address, int buffer)
{
    int fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    address_tune(fd, buffer);
    return fd;
}

int address_listen(struct address *address, int buffer)
{
    int fd = open_socket(address, buffer), one = 1;

    if (fd < 0)
        return fd;
    if (address->sa.ss_family == AF_UNIX)
        unlink(((struct sockaddr_un *)&address->sa)->sun_path);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address->sa, address->size) < 0 || listen(fd, 128) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    if (address->sa.ss_family != AF_UNIX) {
        address->size = sizeof address->sa;
        getsockname(fd, (struct sockaddr *)&address->sa, &address->size);
        describe_tcp(address);
    }
    return fd;
}

int address_connect(const struct address *address, int buffer, bool *ret_connecting)
{
    int fd = open_socket(address, buffer);

    if (fd < 0)
        return fd;
    *ret_connecting = false;
    if (connect(fd, (const struct sockaddr *)&address->sa, address->size) == 0)
        return fd;
    if (errno == EINPROGRESS) {
        *ret_connecting = true;
        return fd;
    }
    int error = errno;

    close(fd);
    return -error;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Where beats come from: a socket that QEMU offers, one that it connects to, a pipe, a growing
 * file. */
#include "heartbeats.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const kinds[] = {"connect:", "listen:", "file:"};

int source_parse(const char *text, struct source *ret)
{
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : 0;

    memset(ret, 0, sizeof *ret);
    ret->fd = ret->listener = -1;
    if (size == 0 || size >= sizeof ret->name || strcspn(text, "\"\\ ") < size)
        return -EINVAL;
    memcpy(ret->name, text, size);
    for (unsigned kind = 0; kind < 3; kind++) {
        size_t prefix = strlen(kinds[kind]);
        const char *path = equals + 1 + prefix;

        if (strncmp(equals + 1, kinds[kind], prefix) != 0)
            continue;
        ret->kind = kind;
        if (!*path || strlen(path) >= sizeof ret->path)
            return -EINVAL;
        memcpy(ret->path, path, strlen(path) + 1);
        return 0;
    }
    return -EINVAL;
}

static int open_file(struct source *source)
{
    struct stat status;
    int fd = open(source->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    source->regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    source->fd = fd;
    return 0;
}

static int open_listener(struct source *source, int fd, const struct sockaddr_un *address)
{
    unlink(source->path);
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 || listen(fd, 4) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    source->listener = fd;
    return 0;
}

int source_open(struct source *source)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, error;

    if (source->kind == SOURCE_FILE)
        return open_file(source);
    memcpy(address.sun_path, source->path, strlen(source->path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (source->kind == SOURCE_LISTEN)
        return open_listener(source, fd, &address);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        source->fd = fd;
        source->reopened = true;
        return 0;
    }
    error = errno;
    close(fd);
    return error == ENOENT || error == ECONNREFUSED || error == EAGAIN ? -EAGAIN : -error;
}

static void source_accept(struct source *source)
{
    int fd = accept(source->listener, NULL, NULL);

    if (fd < 0)
        return;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    source->fd = fd;
    source->reopened = true;
}

/*
 * After the end of a socket the next VM may come to the same path; a file or a pipe may grow again.
 * The unfinished line is kept until then, as its end may come from another host.
 */
void source_read(struct record *record, unsigned index, int64_t now)
{
    struct source *source = &record->sources[index];
    char data[4096];
    ssize_t n;

    if (source->fd < 0 && source->listener >= 0)
        source_accept(source);
    if (source->fd < 0)
        return;
    n = read(source->fd, data, sizeof data);
    if (n > 0) {
        if (source->reopened)
            source->size = 0;
        source->reopened = false;
        beats_feed(record, index, data, (size_t)n, now);
        return;
    }
    if (source->regular || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    close(source->fd);
    source->fd = -1;
}

void source_release(struct source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    if (source->listener < 0)
        return;
    close(source->listener);
    unlink(source->path);
}

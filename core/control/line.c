/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/internal.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

int control_address(const char *run_directory, const char *name, struct sockaddr_un *ret_address,
                    int *ret_directory, struct drafter_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = open(run_directory, O_PATH | O_DIRECTORY | O_CLOEXEC), length;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", run_directory);
    length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s%s", fd, name,
                      CONTROL_SUFFIX);
    if (length < 0 || (size_t)length >= sizeof(address.sun_path)) {
        close(fd);
        return drafter_error_set(err, ENAMETOOLONG, "%s", name);
    }
    *ret_address = address;
    *ret_directory = fd;
    return 0;
}

ssize_t control_read_line(int fd, char *line, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t got = recv(fd, line + used, 1, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (got == 0)
            return used ? -ECONNRESET : 0;
        if (line[used] == '\n') {
            line[used] = '\0';
            return (ssize_t)used + 1;
        }
        used++;
    }
    return -EMSGSIZE;
}

int control_write_line(int fd, const json_t *object)
{
    cleanup_free char *text = json_text(object, JSON_COMPACT);
    cleanup_free char *line = NULL;
    size_t done = 0, length;

    if (!text || asprintf(&line, "%s\n", text) < 0) {
        line = NULL;
        return -ENOMEM;
    }
    for (length = strlen(line); done < length;) {
        ssize_t sent = send(fd, line + done, length - done, MSG_NOSIGNAL);

        if (sent < 0 && errno != EINTR)
            return -errno;
        done += sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

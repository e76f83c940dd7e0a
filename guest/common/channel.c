/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE 1
#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PORTS "/sys/class/virtio-ports"
#define HANGUP_GRACE_MS 500

static bool port_has_name(const char *device, const char *name)
{
    char path[320], line[128] = "";
    FILE *file;

    snprintf(path, sizeof(path), PORTS "/%s/name", device);
    if (!(file = fopen(path, "re")))
        return false;
    if (fgets(line, sizeof(line), file))
        line[strcspn(line, "\n")] = '\0';
    fclose(file);
    return strcmp(line, name) == 0;
}

bool channel_find_port(const char *name, char *ret_path, size_t size)
{
    struct dirent *entry;
    bool found = false;
    DIR *dir;

    snprintf(ret_path, size, "/dev/virtio-ports/%s", name);
    if (access(ret_path, F_OK) == 0)
        return true;
    if (!(dir = opendir(PORTS)))
        return false;
    while (!found && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && port_has_name(entry->d_name, name)) {
            snprintf(ret_path, size, "/dev/%s", entry->d_name);
            found = true;
        }
    closedir(dir);
    return found;
}

int channel_open_port(const char *path)
{
    struct termios modes;
    int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    /* A terminal would echo the host's messages back to it. */
    if (tcgetattr(fd, &modes) == 0) {
        cfmakeraw(&modes);
        tcsetattr(fd, TCSANOW, &modes);
    }
    return fd;
}

int64_t channel_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int wait_connected(int fd, int64_t timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0, n;
    socklen_t size = sizeof(error);

    do
        n = poll(&p, 1, timeout_ms > INT32_MAX ? -1 : (int)timeout_ms);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return -ETIMEDOUT;
    if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

int channel_dial_vsock(uint32_t port, int64_t timeout_ms)
{
    struct sockaddr_vm host = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0)
        error = errno == EINPROGRESS ? wait_connected(fd, timeout_ms) : -errno;
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

/* Waits until fd may take more. Returns 0 to try again, or -errno. */
static int wait_writable(int fd, int64_t start, int timeout_ms)
{
    struct timespec pause = {.tv_nsec = 2000000};
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int64_t waited = channel_now_ms() - start;

    if (waited >= timeout_ms || poll(&p, 1, timeout_ms - (int)waited) == 0)
        return -ETIMEDOUT;
    if (!(p.revents & (POLLHUP | POLLERR)))
        return 0;
    /*
     * A new host's first message can be here before the news that a host is connected, which the
     * kernel is told on another queue: until then the port seems hung up.
     */
    if (waited > HANGUP_GRACE_MS)
        return -EPIPE;
    nanosleep(&pause, NULL);
    return 0;
}

int channel_write(int fd, const char *bytes, size_t length, int timeout_ms)
{
    int64_t start = channel_now_ms();

    while (length) {
        ssize_t n = write(fd, bytes, length);
        int error = 0;

        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
            start = channel_now_ms();
        } else if (n == 0 || errno == EAGAIN) {
            error = wait_writable(fd, start, timeout_ms);
        } else if (errno != EINTR) {
            error = -errno;
        }
        if (error)
            return error;
    }
    return 0;
}

static double unit_ms(const char **text)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t length = strlen(units[i].name);

        if (strncmp(*text, units[i].name, length) == 0) {
            *text += length;
            return units[i].ms;
        }
    }
    return -1;
}

bool channel_parse_duration(const char *text, int64_t *ret_ms)
{
    double total = 0;

    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return true;
    }
    if (!*text)
        return false;
    while (*text) {
        char *end;
        double number, unit;

        if ((*text < '0' || *text > '9') && *text != '.')
            return false;
        number = strtod(text, &end);
        if (end == text)
            return false;
        text = end;
        if ((unit = unit_ms(&text)) < 0)
            return false;
        total += number * unit;
    }
    if (total > 1e12)
        return false;
    *ret_ms = (int64_t)total;
    return true;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drafter-liveness: tells the host once that the guest has booted. On a virtio-serial port it
 * writes "alive\n"; on vsock the connection itself is the message, as in the original.
 */
#define _GNU_SOURCE 1
#include "../common/channel.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "org.drafter.liveness"
#define RETRY_MS 100

static const char usage[] =
    "usage: drafter-liveness [options]\n"
    "  -port PATH                 virtio-serial port (default: the port " PORT_NAME
    ", else vsock)\n"
    "  -vsock-port N              port of the host to dial (25)\n"
    "  -vsock-timeout DURATION    to keep trying for (1m)\n";

static int tell_port(const char *path, int64_t timeout_ms)
{
    static const char alive[] = "alive\n";
    int fd = channel_open_port(path);

    if (fd < 0)
        return fd;
    int error = channel_write(fd, alive, sizeof(alive) - 1, (int)timeout_ms);

    close(fd);
    return error;
}

/* Left open: the host closes, or the VMM resets it at the snapshot; a close by us could outrun the
 * accept. */
static int tell_vsock(uint32_t port, int64_t timeout_ms)
{
    int fd = channel_dial_vsock(port, timeout_ms);

    return fd < 0 ? fd : 0;
}

static int tell(const char *path, uint32_t port, int64_t timeout_ms)
{
    struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
    int64_t deadline = channel_now_ms() + timeout_ms;
    char found[320];

    for (;;) {
        int64_t left = deadline - channel_now_ms();
        int error;

        if (!path && channel_find_port(PORT_NAME, found, sizeof(found)))
            path = found;
        error = path ? tell_port(path, left) : tell_vsock(port, left);
        if (!error || deadline - channel_now_ms() <= RETRY_MS)
            return error;
        nanosleep(&pause, NULL);
    }
}

static void refuse(const char *value)
{
    fprintf(stderr, "drafter-liveness: not understood: %s\n%s", value, usage);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"vsock-port", required_argument, NULL, 'v'},
        {"vsock-timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int64_t timeout_ms = 60000;
    const char *path = NULL;
    uint32_t port = 25;
    int option;
    char *end;

    while ((option = getopt_long_only(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (option == 'p') {
            path = optarg;
        } else if (option == 'v') {
            port = (uint32_t)strtoul(optarg, &end, 10);
            if (!*optarg || *end)
                refuse(optarg);
        } else if (option != 't' || !channel_parse_duration(optarg, &timeout_ms) ||
                   timeout_ms > 86400000) {
            refuse(option == 't' ? optarg : argv[optind - 1]);
        }
    }
    if (optind < argc)
        refuse(argv[optind]);
    signal(SIGPIPE, SIG_IGN);
    int error = tell(path, port, timeout_ms);

    if (error) {
        fprintf(stderr, "drafter-liveness: %s: %s\n", path ? path : "vsock", strerror(-error));
        return 1;
    }
    return 0;
}

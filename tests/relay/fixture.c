/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fixture.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static socklen_t make_address(const struct fixture *fixture, enum family family, const char *name,
                              unsigned port, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    if (family == LOCAL) {
        struct sockaddr_un *un = (struct sockaddr_un *)ret;

        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof un->sun_path, "%s/%s", fixture->dir, name);
        return sizeof *un;
    }
    if (family == IPV6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

        in6->sin6_family = AF_INET6;
        in6->sin6_addr = in6addr_loopback;
        in6->sin6_port = htons((uint16_t)port);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)ret;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in->sin_port = htons((uint16_t)port);
    return sizeof *in;
}

static void open_target(struct fixture *fixture, enum family family, char *ret_text, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length = make_address(fixture, family, "target", 0, &address);

    fixture->target = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fixture->target, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fixture->target, 64), 0);
    getsockname(fixture->target, (struct sockaddr *)&address, &length);
    if (family == IPV4)
        snprintf(ret_text, size, "127.0.0.1:%u", ntohs(((struct sockaddr_in *)&address)->sin_port));
    else if (family == IPV6)
        snprintf(ret_text, size, "[::1]:%u", ntohs(((struct sockaddr_in6 *)&address)->sin6_port));
    else
        snprintf(ret_text, size, "unix:%s/target", fixture->dir);
}

static void spawn(struct fixture *fixture, const char *listen, const char *to,
                  char *const options[])
{
    const char *relay = getenv("DRAFTER_RELAY");
    char control[96], fd[16], line[160] = "";
    char *argv[32] = {(char *)(relay ? relay : "./drafter-relay"),
                      "--listen",
                      (char *)listen,
                      "--to",
                      (char *)to,
                      "--control",
                      control,
                      "--ready-fd",
                      fd};
    int ready[2], n = 9;
    ssize_t size;

    snprintf(control, sizeof control, "%s/control", fixture->dir);
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    snprintf(fd, sizeof fd, "%d", ready[1]);
    while (*options && n < 31)
        argv[n++] = *options++;
    fixture->pid = fork();
    if (fixture->pid == 0) {
        fcntl(ready[1], F_SETFD, 0);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ready[1]);
    size = read(ready[0], line, sizeof line - 1);
    ck_assert_msg(size > 0 && strncmp(line, "listening on ", 13) == 0, "%s did not start: %s",
                  argv[0], line);
    close(ready[0]);
    line[strcspn(line, "\n")] = 0;
    snprintf(fixture->listen, sizeof fixture->listen, "%.95s", strchr(line + 13, ':') + 1);
}

void fixture_start(struct fixture *fixture, enum family family, char *const options[])
{
    struct sockaddr_storage address;
    socklen_t size;
    char to[128], listen[128];

    memset(fixture, 0, sizeof *fixture);
    snprintf(fixture->dir, sizeof fixture->dir, "/tmp/relay-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fixture->dir));
    open_target(fixture, family, to, sizeof to);
    snprintf(listen, sizeof listen,
             family == IPV4   ? "127.0.0.1:0"
             : family == IPV6 ? "[::1]:0"
                              : "unix:%s/listen",
             fixture->dir);
    spawn(fixture, listen, to, options);
    size = make_address(fixture, LOCAL, "control", 0, &address);
    fixture->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fixture->control, (struct sockaddr *)&address, size), 0);
}

int fixture_stop(struct fixture *fixture)
{
    char path[96];
    int status = -1;

    kill(fixture->pid, SIGTERM);
    waitpid(fixture->pid, &status, 0);
    close(fixture->control);
    close(fixture->target);
    snprintf(path, sizeof path, "%s/target", fixture->dir);
    unlink(path);
    ck_assert_msg(rmdir(fixture->dir) == 0, "the relay left sockets behind: %s", strerror(errno));
    return status;
}

int fixture_dial(struct fixture *fixture)
{
    const char *port = strrchr(fixture->listen, ':');
    enum family family = fixture->listen[0] == '/'   ? LOCAL
                         : fixture->listen[0] == '[' ? IPV6
                                                     : IPV4;
    struct sockaddr_storage address;
    socklen_t size = make_address(fixture, family, "listen",
                                  port ? (unsigned)strtoul(port + 1, NULL, 10) : 0, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    return fd;
}

struct pair fixture_connect(struct fixture *fixture)
{
    struct pair pair = {.client = fixture_dial(fixture)};

    pair.server = accept4(fixture->target, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(pair.server, 0);
    return pair;
}

void pair_close(struct pair *pair)
{
    close(pair->client);
    close(pair->server);
}

static void ask(struct fixture *fixture, const char *line, char *ret, size_t size)
{
    size_t have = 0;

    dprintf(fixture->control, "%s\n", line);
    while (have < size - 1 && (have == 0 || ret[have - 1] != '\n')) {
        ssize_t n = read(fixture->control, ret + have, size - 1 - have);

        ck_assert_int_gt(n, 0);
        have += (size_t)n;
    }
    ret[have] = 0;
}

void command(struct fixture *fixture, const char *line, const char *expected)
{
    char reply[4096];

    ask(fixture, line, reply, sizeof reply);
    ck_assert_msg(strncmp(reply, expected, strlen(expected)) == 0, "%s: %s", line, reply);
}

double stat_number(struct fixture *fixture, const char *section, const char *key)
{
    char reply[16384], name[64];
    const char *at;

    ask(fixture, "stats", reply, sizeof reply);
    snprintf(name, sizeof name, "\"%s\":", section);
    at = *section ? strstr(reply, name) : reply;
    ck_assert_ptr_nonnull(at);
    snprintf(name, sizeof name, "\"%s\":", key);
    at = strstr(at, name);
    ck_assert_ptr_nonnull(at);
    return strtod(at + strlen(name), NULL);
}

void send_all(int fd, const void *data, size_t size)
{
    ck_assert_int_eq(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

bool readable_within(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, timeout_ms) > 0;
}

size_t receive(int fd, void *data, size_t size, int timeout_ms)
{
    size_t have = 0;

    while (have < size && readable_within(fd, timeout_ms)) {
        ssize_t n = read(fd, (char *)data + have, size - have);

        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

#define BLOCK 16384
#define PATTERN 251 /* prime: a shift by any buffer size shows */

static unsigned char pattern[BLOCK + PATTERN];

static bool pump_out(int fd, size_t *sent, size_t size)
{
    size_t left = size - *sent < BLOCK ? size - *sent : BLOCK;
    ssize_t n = left ? send(fd, pattern + *sent % PATTERN, left, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

    if (n > 0)
        *sent += (size_t)n;
    return *sent < size;
}

static void pump_in(int fd, size_t *received)
{
    unsigned char block[BLOCK];
    ssize_t n = recv(fd, block, sizeof block, MSG_DONTWAIT);

    if (n > 0) {
        ck_assert_int_eq(memcmp(block, pattern + *received % PATTERN, (size_t)n), 0);
        *received += (size_t)n;
    }
}

double transfer(const struct pair *pairs, int n, size_t size)
{
    size_t sent[8] = {0}, received[8] = {0};
    struct pollfd fds[16];
    double start = now_ms();
    int open = n;

    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i % PATTERN);
    while (open > 0) {
        for (int i = 0; i < n; i++) {
            fds[i] = (struct pollfd){.fd = pairs[i].client, .events = sent[i] < size ? POLLOUT : 0};
            fds[n + i] = (struct pollfd){.fd = pairs[i].server, .events = POLLIN};
        }
        ck_assert_int_gt(poll(fds, (nfds_t)(2 * n), 5000), 0);
        for (int i = 0; i < n; i++) {
            size_t before = received[i];

            pump_out(pairs[i].client, &sent[i], size);
            pump_in(pairs[i].server, &received[i]);
            open -= before < size && received[i] == size;
        }
    }
    return now_ms() - start;
}

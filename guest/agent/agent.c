/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drafter-agent: answers the host's calls around suspend and resume.
 *
 * One loop: find the host (a virtio-serial port if there is one, else vsock), answer messages until
 * it goes away, begin again. A snapshot may be taken between any two instructions and the other
 * side of the connection may be another process afterwards; so nothing is remembered from one
 * connection to the next.
 */
#define _GNU_SOURCE 1
#include "../common/channel.h"
#include "hook.h"
#include "message.h"
#include "renew.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "org.drafter.agent"
#define WRITE_TIMEOUT_MS 5000
#define BACKOFF_MIN_MS 10
#define BACKOFF_MAX_MS 1000
/* An open port tells of its host's coming by poll only: looking costs little, a late answer much.
 */
#define PORT_POLL_MS 20

struct agent {
    const char *port_path; /* NULL: find one */
    uint32_t vsock_port;
    int64_t vsock_timeout_ms, hook_timeout_ms;
    const char *shell, *before_suspend, *after_resume;
    sigset_t unblocked;
    struct message_reader *reader;
};

static volatile sig_atomic_t stopping;

static void on_stop(int number)
{
    (void)number;
    stopping = 1;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    fprintf(stderr, "drafter-agent: %s\n", line);
}

static void run_hook(const struct agent *agent, const char *command, char *err, size_t size)
{
    char reason[256];

    if (!command[strspn(command, " \t\n")])
        return;
    say("running: %s", command);
    if (hook_run(agent->shell, command, agent->hook_timeout_ms, reason, sizeof(reason)) != 0) {
        say("hook failed: %s", reason);
        snprintf(err, size, "%s", reason);
    }
}

/* What makes a resumed guest differ from the one that was saved, and from others of the same snapshot. */
static void renew(const struct message *message, char *value, size_t size)
{
    int64_t host_ns, skew_ns = 0;
    bool reseeded = renew_entropy(message->seed.text, message->seed.length);
    /* As an argument earlier hosts gave it.  2100 is as far as a host's clock is believed. */
    bool told = (message_span_int64(message->now, &host_ns) ||
                 message_span_int64(message->arg, &host_ns)) &&
                host_ns > 0 && host_ns < 4102444800000000000;

    if (!told)
        return;
    int error = renew_clock(host_ns, &skew_ns);

    say("clock was %+lld us off the host's%s%s", (long long)-skew_ns / 1000,
        error ? "; cannot set it: " : "", error ? strerror(error) : "");
    snprintf(value, size, "{\"skew_ns\":%lld,\"clock_set\":%s,\"reseeded\":%s}", (long long)skew_ns,
             error ? "false" : "true", reseeded ? "true" : "false");
}

static void call_function(const struct agent *agent, const struct message *message, char *value,
                          size_t value_size, char *err, size_t err_size)
{
    if (message_span_is(message->function, "BeforeSuspend")) {
        run_hook(agent, agent->before_suspend, err, err_size);
    } else if (message_span_is(message->function, "AfterResume")) {
        renew(message, value, value_size);
        run_hook(agent, agent->after_resume, err, err_size);
    } else if (message_span_is(message->function, "Ping")) {
        snprintf(value, value_size, "\"pong\"");
    } else {
        snprintf(err, err_size, "can not call non function");
    }
}

/* Returns 0 or -errno of the connection. */
static int answer(struct agent *agent, int fd)
{
    static char out[MESSAGE_SIZE_MAX + 2048];
    char value[128] = "null", err[512] = "";
    struct message message;

    int error = message_parse(agent->reader->buffer, agent->reader->length, &message);

    if (error) {
        say("ignored a message of %zu bytes: %s", agent->reader->length, strerror(-error));
        return 0;
    }
    if (message.kind != MESSAGE_REQUEST)
        return 0;
    call_function(agent, &message, value, sizeof(value), err, sizeof(err));
    size_t n = message_response(out, sizeof(out), message.call, value, err);

    return n ? channel_write(fd, out, n, WRITE_TIMEOUT_MS) : 0;
}

static void forget_partial(struct agent *agent)
{
    memset(agent->reader, 0, offsetof(struct message_reader, buffer));
}

/* Answers until the host hangs up or we are to stop. Returns how many bytes came, or -errno. */
static long serve(struct agent *agent, int fd)
{
    long total = 0;

    while (!stopping) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char bytes[4096];

        if (ppoll(&p, 1, NULL, &agent->unblocked) < 0) {
            if (errno != EINTR)
                return -errno;
            continue;
        }
        ssize_t n = read(fd, bytes, sizeof(bytes));

        if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(p.revents & (POLLHUP | POLLERR)))
            continue;
        if (n <= 0)
            return total;
        total += n;
        for (size_t at = 0, used; at < (size_t)n; at += used)
            if (message_reader_feed(agent->reader, bytes + at, (size_t)n - at, &used)) {
                int error = answer(agent, fd);

                if (error) {
                    say("cannot answer: %s", strerror(-error));
                    return error;
                }
            }
    }
    return total;
}

static void nap(const struct agent *agent, long ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    if (!stopping)
        ppoll(NULL, 0, &wait, &agent->unblocked);
}

/* A port stays open while no host is connected: closing it could lose what a new host has sent. */
static void serve_port(struct agent *agent, const char *path)
{
    int fd = channel_open_port(path);

    if (fd < 0) {
        say("%s: %s", path, strerror(-fd));
        nap(agent, BACKOFF_MAX_MS);
        return;
    }
    say("serving on %s", path);
    while (!stopping) {
        long result = serve(agent, fd);

        forget_partial(agent);
        if (result == -ENODEV || result == -EBADF) {
            say("%s: unplugged", path);
            break;
        }
        if (result <= 0)
            nap(agent, PORT_POLL_MS);
    }
    close(fd);
}

static void serve_vsock(struct agent *agent, long *backoff)
{
    int fd = channel_dial_vsock(agent->vsock_port, agent->vsock_timeout_ms);

    if (fd < 0) {
        /* Said once for each spell of failures; a guest may run for years without a host to talk
         * to. */
        if (*backoff == BACKOFF_MIN_MS)
            say("vsock port %u: %s; trying on", agent->vsock_port, strerror(-fd));
        nap(agent, *backoff);
        *backoff = *backoff * 2 < BACKOFF_MAX_MS ? *backoff * 2 : BACKOFF_MAX_MS;
        return;
    }
    say("connected to vsock port %u", agent->vsock_port);
    forget_partial(agent);
    if (serve(agent, fd) > 0)
        *backoff = BACKOFF_MIN_MS;
    close(fd);
    nap(agent, *backoff);
}

static void run(struct agent *agent)
{
    long backoff = BACKOFF_MIN_MS;
    char found[320];

    while (!stopping) {
        if (agent->port_path)
            serve_port(agent, agent->port_path);
        else if (channel_find_port(PORT_NAME, found, sizeof(found)))
            serve_port(agent, found);
        else
            serve_vsock(agent, &backoff);
    }
}

static const char usage[] =
    "usage: drafter-agent [options]\n"
    "  -port PATH                 virtio-serial port (default: the port " PORT_NAME
    ", else vsock)\n"
    "  -vsock-port N              port of the host to dial (26)\n"
    "  -vsock-timeout DURATION    for one dial (1m)\n"
    "  -shell-cmd SHELL           runs the hooks (sh)\n"
    "  -before-suspend-cmd CMD    hook before the VM is suspended (none)\n"
    "  -after-resume-cmd CMD      hook after the VM has been resumed (none)\n"
    "  -hook-timeout DURATION     after which a hook is killed, 0 for never (1m)\n";

static void refuse(const char *name, const char *value)
{
    fprintf(stderr, "drafter-agent: -%s: not understood: %s\n%s", name, value, usage);
    exit(2);
}

static void set_duration(const char *name, const char *value, int64_t *ret_ms)
{
    if (!channel_parse_duration(value, ret_ms))
        refuse(name, value);
}

static void set_option(struct agent *agent, int option, const char *value)
{
    char *end;

    switch (option) {
    case 'p':
        agent->port_path = value;
        break;
    case 'v':
        agent->vsock_port = (uint32_t)strtoul(value, &end, 10);
        if (!*value || *end)
            refuse("vsock-port", value);
        break;
    case 't':
        set_duration("vsock-timeout", value, &agent->vsock_timeout_ms);
        break;
    case 'T':
        set_duration("hook-timeout", value, &agent->hook_timeout_ms);
        break;
    case 's':
        agent->shell = value;
        break;
    case 'b':
        agent->before_suspend = value;
        break;
    case 'a':
        agent->after_resume = value;
        break;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

/* Signals that end us get through only while we wait for the host, never in the middle of an
 * answer. */
static void set_up_signals(struct agent *agent)
{
    struct sigaction stop = {.sa_handler = on_stop};
    sigset_t blocked;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &agent->unblocked);
    sigdelset(&agent->unblocked, SIGINT);
    sigdelset(&agent->unblocked, SIGTERM);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"vsock-port", required_argument, NULL, 'v'},
        {"vsock-timeout", required_argument, NULL, 't'},
        {"hook-timeout", required_argument, NULL, 'T'},
        {"shell-cmd", required_argument, NULL, 's'},
        {"before-suspend-cmd", required_argument, NULL, 'b'},
        {"after-resume-cmd", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    static struct message_reader reader;
    struct agent agent = {
        .reader = &reader,
        .vsock_port = 26,
        .vsock_timeout_ms = 60000,
        .hook_timeout_ms = 60000,
        .shell = "sh",
        .before_suspend = "",
        .after_resume = "",
    };
    int option;

    while ((option = getopt_long_only(argc, argv, "", options, NULL)) != -1)
        set_option(&agent, option, optarg);
    if (optind < argc)
        refuse("argument", argv[optind]);
    set_up_signals(&agent);
    run(&agent);
    say("exiting");
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tls transport on a command line, for tests against other implementations:
 *
 *     tls-pipe [KEY=VALUE ...] listen ADDRESS [COUNT]    prints the address, echoes COUNT streams (1)
 *     tls-pipe [KEY=VALUE ...] connect ADDRESS [TIMES]   sends standard input, prints what comes back
 *
 * KEY=VALUE are options of the transport; trust=FILE is the trust file and below=PLUGIN what it lies over
 * (tcp).  What happens goes to standard error, in lines that scripts look for: "listening at", "peer",
 * "end", and "error" with a symbol.
 */
#include "plugin/transport.h"
#include "trust/trust.h"
#include "util/cleanup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX 32

static int say_failure(const char *what, const struct drafter_error *err)
{
    fprintf(stderr, "error %s: %s\n", what, err->message);
    return 1;
}

static void say_peer(struct transport_connection *connection)
{
    char identity[DRAFTER_IDENTITY_SIZE], name[256] = "";

    transport_peer_identity(connection, identity, sizeof(identity));
    transport_peer_name(connection, name, sizeof(name));
    fprintf(stderr, "peer %s at %s\n", *identity ? identity : "-", name);
}

/* How a stream ended: 0 in good order. */
static int say_end(ssize_t rc)
{
    if (rc == 0)
        fprintf(stderr, "end\n");
    else
        fprintf(stderr, "error %s\n", strerrorname_np((int)-rc));
    return rc != 0;
}

static int echo(struct transport_connection *connection)
{
    char bytes[65536];

    say_peer(connection);
    for (;;) {
        struct iovec piece = {bytes, sizeof(bytes)};
        ssize_t got = transport_readv(connection, &piece, 1), rc;

        if (got <= 0)
            return say_end(got);
        piece.iov_len = (size_t)got;
        rc = transport_writev_full(connection, &piece, 1);
        if (rc)
            return say_end(rc);
    }
}

static int run_listen(struct instance *transport, const char *address, unsigned count)
{
    struct transport_listener *listener;
    struct drafter_error err = {0};
    char shown[256];
    int status = 0;

    if (transport_listen(transport, address, &listener, &err))
        return say_failure("listen", &err);
    transport_listener_address(listener, shown, sizeof(shown));
    fprintf(stderr, "listening at %s\n", shown);
    for (unsigned i = 0; i < count; i++) {
        struct transport_connection *connection;

        if (transport_accept(listener, &connection, &err))
            return say_failure("accept", &err);
        status |= echo(connection);
        transport_close(connection);
    }
    transport_listener_close(listener);
    return status;
}

/* Sends the text and reads until as much came back, so that the other side has seen all of it. */
static int talk(struct transport_connection *connection, char *text, size_t length)
{
    struct iovec piece = {text, length};
    ssize_t got = 1;
    int rc;

    say_peer(connection);
    rc = transport_writev_full(connection, &piece, 1);
    if (rc)
        return say_end(rc);
    for (size_t done = 0; done < length && got > 0; done += (size_t)got) {
        char bytes[65536];

        piece = (struct iovec){bytes, sizeof(bytes)};
        got = transport_readv(connection, &piece, 1);
        if (got <= 0)
            return say_end(got ? got : -ENODATA);
        fwrite(bytes, 1, (size_t)got, stdout);
    }
    fflush(stdout);
    return 0;
}

static int run_connect(struct instance *transport, const char *address, unsigned times)
{
    cleanup_free char *text = malloc(1 << 24);
    size_t length = text ? fread(text, 1, 1 << 24, stdin) : 0;
    int status = 0;

    for (unsigned i = 0; i < times; i++) {
        struct transport_connection *connection;
        struct drafter_error err = {0};

        if (transport_connect(transport, address, 10000, &connection, &err)) {
            fprintf(stderr, "error %s\n", strerrorname_np(err.code));
            return say_failure("connect", &err);
        }
        transport_set_timeout(connection, 10000);
        status |= talk(connection, text, length);
        transport_close(connection);
    }
    return status;
}

static struct instance *make(enum drafter_kind kind, const char *plugin, const char *const *options,
                             struct instance *next)
{
    struct drafter_error err = {0};
    struct instance *made;

    if (instance_new(kind, NULL, plugin, options, plugin, "/tmp", next, &made, &err)) {
        say_failure("plugin", &err);
        exit(2);
    }
    return made;
}

int main(int argc, char **argv)
{
    const char *options[OPTIONS_MAX + 1] = {NULL}, *below = "tcp";
    unsigned count = 0, number;
    struct instance *next, *transport;
    char *value;
    int i, status;

    for (i = 1; i < argc && (value = strchr(argv[i], '=')) && count + 2 <= OPTIONS_MAX; i++) {
        *value++ = '\0';
        if (!strcmp(argv[i], "trust")) {
            trust_use(value);
        } else if (!strcmp(argv[i], "below")) {
            below = value;
        } else {
            options[count++] = argv[i];
            options[count++] = value;
        }
    }
    if (argc - i < 2) {
        fprintf(stderr, "usage: tls-pipe [KEY=VALUE ...] listen|connect ADDRESS [NUMBER]\n");
        return 2;
    }
    number = argc - i > 2 ? (unsigned)strtoul(argv[i + 2], NULL, 10) : 1;
    next = make(DRAFTER_KIND_TRANSPORT, below, NULL, NULL);
    transport = make(DRAFTER_KIND_TRANSPORT, "tls", options, next);
    status = !strcmp(argv[i], "listen") ? run_listen(transport, argv[i + 1], number)
                                        : run_connect(transport, argv[i + 1], number);
    instance_free(transport);
    instance_free(next);
    return status;
}

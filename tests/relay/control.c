/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: one command per line, one line back. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "relay.h"

struct client {
    struct watch watch;
    TAILQ_ENTRY(client) next;
    struct relay *relay;
    size_t size;
    char line[1024];
};

static void stats_link(FILE *out, const char *name, const struct link *link)
{
    fprintf(out,
            "\"%s\":{\"bytes_in\":%llu,\"bytes_out\":%llu,\"held\":%llu,\"held_max\":%llu,"
            "\"limit\":%llu,"
            "\"rate\":%llu,\"delay_ms\":%.3f},",
            name, (unsigned long long)link->bytes_in, (unsigned long long)link->bytes_out,
            (unsigned long long)link->held, (unsigned long long)link->held_max,
            (unsigned long long)link_limit(link), (unsigned long long)link->rate,
            (double)link->delay / NS_PER_MS);
}

void control_stats(struct relay *relay, FILE *out)
{
    const struct conn *conn;
    const struct fault *fault;
    const char *comma = "";
    unsigned pending = 0;

    TAILQ_FOREACH(fault, &relay->faults, next)
    pending++;
    fprintf(out, "{\"uptime_ms\":%.3f,", (double)(now_ns() - relay->started) / NS_PER_MS);
    stats_link(out, "up", &relay->links[UP]);
    stats_link(out, "down", &relay->links[DOWN]);
    fprintf(
        out,
        "\"accepted\":%u,\"open\":%u,\"faults_fired\":%u,\"faults_pending\":%u,\"connections\":[",
        relay->accepted, relay->open, relay->fired, pending);
    TAILQ_FOREACH(conn, &relay->conns, next)
    {
        const struct flow *up = &conn->flows[UP], *down = &conn->flows[DOWN];

        if (conn->closed)
            continue;
        fprintf(
            out, "%s{\"id\":%u,\"up_in\":%llu,\"up_out\":%llu,\"down_in\":%llu,\"down_out\":%llu}",
            comma, conn->id, (unsigned long long)up->bytes_in, (unsigned long long)up->bytes_out,
            (unsigned long long)down->bytes_in, (unsigned long long)down->bytes_out);
        comma = ",";
    }
    fprintf(out, "]}\n");
}

static void client_free(struct client *client)
{
    TAILQ_REMOVE(&client->relay->clients, client, next);
    close(client->watch.fd);
    free(client);
}

static void run_line(struct client *client, char *line)
{
    char *text = NULL;
    size_t size = 0;
    FILE *reply = open_memstream(&text, &size);

    if (!reply)
        return;
    command_run(client->relay, line, reply);
    fclose(reply);
    /* Replies are short and the socket is empty: what does not fit now is not worth a queue. */
    (void)!send(client->watch.fd, text, size, MSG_NOSIGNAL);
    free(text);
}

static void client_ready(struct watch *watch, uint32_t events)
{
    struct client *client = (struct client *)watch;
    ssize_t n =
        read(watch->fd, client->line + client->size, sizeof client->line - client->size - 1);
    char *line = client->line, *newline;

    (void)events;
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            client_free(client);
        return;
    }
    client->size += (size_t)n;
    client->line[client->size] = 0;
    while ((newline = strchr(line, '\n'))) {
        *newline = 0;
        run_line(client, line);
        line = newline + 1;
    }
    client->size = strlen(line);
    memmove(client->line, line, client->size + 1);
    if (client->size == sizeof client->line - 1)
        client_free(client); /* no command is so long */
}

static void control_accept(struct watch *watch, uint32_t events)
{
    struct relay *relay = (struct relay *)((char *)watch - offsetof(struct relay, control));
    struct client *client = calloc(1, sizeof *client);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0 || !client) {
        if (fd >= 0)
            close(fd);
        free(client);
        return;
    }
    client->watch = (struct watch){.ready = client_ready, .fd = fd};
    client->relay = relay;
    TAILQ_INSERT_TAIL(&relay->clients, client, next);
    if (relay_watch(relay, &client->watch, EPOLLIN) < 0)
        client_free(client);
}

int control_listen(struct relay *relay, const char *path)
{
    struct address address;
    int r = address_parse(path, &address);

    if (r < 0)
        return r;
    if (address.sa.ss_family != AF_UNIX)
        return -EINVAL;
    r = address_listen(&address, 64 * 1024);
    if (r < 0)
        return r;
    relay->control = (struct watch){.ready = control_accept, .fd = r};
    return relay_watch(relay, &relay->control, EPOLLIN);
}

void control_release(struct relay *relay)
{
    struct client *client;

    while ((client = TAILQ_FIRST(&relay->clients)))
        client_free(client);
    if (relay->control.fd >= 0)
        close(relay->control.fd);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection: accepted from the client, joined to the target after the round trip and a half that
 * a TCP handshake takes on a real link (a local accept would make it free), closed when both
 * directions have ended or are cut.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "relay.h"

#define BUFFER_SLOW (64 * 1024)
#define BUFFER_FAST (256 * 1024)

int relay_buffer(const struct relay *relay)
{
    uint64_t rate = relay->links[UP].rate;

    return rate > 0 && rate <= 2000000000 ? BUFFER_SLOW : BUFFER_FAST;
}

int relay_watch(struct relay *relay, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, watch->fd, &event) < 0 ? -errno : 0;
}

/* Edge-triggered: what is known of a socket is kept here, so a full link costs no wake-ups. */
static void end_ready(struct watch *watch, uint32_t events)
{
    struct end *end = (struct end *)watch;

    if (end->conn->closed)
        return;
    if (end->connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        socklen_t size = sizeof error;

        getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            conn_reset(end->conn);
            return;
        }
        end->connecting = false;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        end->readable = true;
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        end->writable = !end->connecting;
}

static int end_open(struct end *end, struct conn *conn, int fd)
{
    end->watch = (struct watch){.ready = end_ready, .fd = fd};
    end->conn = conn;
    return relay_watch(conn->relay, &end->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void flow_init(struct flow *flow, struct conn *conn, enum direction dir)
{
    STAILQ_INIT(&flow->chunks);
    flow->conn = conn;
    flow->dir = dir;
    flow->stalled = conn->relay->links[dir].stalled;
    flow->dead = conn->relay->links[dir].dead;
}

static struct conn *conn_new(struct route *route, int fd)
{
    struct relay *relay = route->relay;
    struct conn *conn = calloc(1, sizeof *conn);
    int64_t up = relay->links[UP].delay, down = relay->links[DOWN].delay, now = now_ns();

    if (!conn)
        abort();
    conn->relay = relay;
    conn->route = route;
    conn->id = ++relay->accepted;
    conn->read_at = relay->handshake ? now + up + down : now;
    conn->connect_at = relay->handshake ? now + up + down + up : now;
    conn->ends[1].watch.fd = -1;
    conn->ends[1].conn = conn;
    flow_init(&conn->flows[UP], conn, UP);
    flow_init(&conn->flows[DOWN], conn, DOWN);
    TAILQ_INSERT_TAIL(&relay->conns, conn, next);
    relay->open++;
    if (end_open(&conn->ends[0], conn, fd) < 0)
        conn_reset(conn);
    return conn;
}

void conn_accept(struct watch *watch, uint32_t events)
{
    struct route *route = (struct route *)watch;
    int fd;

    (void)events;
    while ((fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct conn *conn;

        address_tune(fd, relay_buffer(route->relay));
        conn = conn_new(route, fd);
        if (route->relay->refuse)
            conn_reset(conn);
    }
}

static void conn_connect(struct conn *conn)
{
    bool connecting;
    int fd = address_connect(&conn->route->to, relay_buffer(conn->relay), &connecting);

    if (fd < 0 || end_open(&conn->ends[1], conn, fd) < 0) {
        conn_reset(conn);
        return;
    }
    conn->ends[1].connecting = connecting;
}

void conn_tick(struct conn *conn, int64_t now)
{
    if (conn->closed)
        return;
    if (conn->ends[1].watch.fd < 0 && now >= conn->connect_at)
        conn_connect(conn);
    for (int dir = 0; dir < DIRECTIONS; dir++) {
        flow_write_due(&conn->flows[dir], now);
        flow_kick(&conn->flows[dir], now);
    }
}

static void conn_close(struct conn *conn)
{
    if (conn->closed)
        return;
    conn->closed = true;
    conn->relay->open--;
    for (int i = 0; i < 2; i++) {
        if (conn->ends[i].watch.fd >= 0)
            close(conn->ends[i].watch.fd);
        conn->ends[i].watch.fd = -1;
    }
}

/* Both sides see a reset at once (a UNIX socket has none: its side sees the end, or EPIPE and
 * ECONNRESET). */
void conn_reset(struct conn *conn)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    for (int i = 0; i < 2; i++)
        if (conn->ends[i].watch.fd >= 0)
            setsockopt(conn->ends[i].watch.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    conn_close(conn);
}

void conn_finish(struct conn *conn)
{
    for (int dir = 0; dir < DIRECTIONS; dir++) {
        const struct flow *flow = &conn->flows[dir];

        if (!flow->finished_out && !(flow->dead && flow->finished_in))
            return;
    }
    conn_close(conn);
}

/* Frees what was closed; only between rounds, when neither epoll nor a queue can still name it. */
void conn_reap(struct relay *relay)
{
    struct conn *conn = TAILQ_FIRST(&relay->conns);

    while (conn) {
        struct conn *next = TAILQ_NEXT(conn, next);

        if (conn->closed) {
            TAILQ_REMOVE(&relay->conns, conn, next);
            flow_release(&conn->flows[UP]);
            flow_release(&conn->flows[DOWN]);
            free(conn);
        }
        conn = next;
    }
}

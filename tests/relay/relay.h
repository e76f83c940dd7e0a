/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drafter-relay: a link with a round trip time, a rate and faults, in one process.
 *
 *     client --> ends[0] --read--> flow UP   --link UP-->   write --> ends[1] --> target
 *     client <-- ends[0] <--write-- flow DOWN <--link DOWN-- read <-- ends[1] <-- target
 *
 * There is one link per direction and all connections share it. A chunk that is read takes its turn
 * at the end of the link (busy_until), so it queues behind every byte read before it from any
 * connection; it is written when it has been serialised at the link's rate and has travelled for
 * the one-way delay. All times are CLOCK_MONOTONIC in ns.
 */
#ifndef DRAFTER_RELAY_H
#define DRAFTER_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define QUEUE_NS (20 * NS_PER_MS) /* what a router in front of the link would hold */

enum direction { UP, DOWN, DIRECTIONS };

/* Something epoll watches; embedded first in what is watched. */
struct watch {
    void (*ready)(struct watch *watch, uint32_t events);
    int fd;
};

struct chunk {
    STAILQ_ENTRY(chunk) next;
    int64_t due;
    size_t size, sent;
    enum { CHUNK_DATA, CHUNK_EOF, CHUNK_RESET } kind;
    unsigned char data[];
};

struct relay;
struct conn;

struct end {
    struct watch watch;
    struct conn *conn;
    bool readable, writable, connecting;
};

struct flow {
    TAILQ_ENTRY(flow)
    ready; /* in link->ready while there is something to read and nothing forbids it */
    STAILQ_HEAD(, chunk) chunks;
    struct conn *conn;
    enum direction dir;
    uint64_t bytes_in, bytes_out;
    size_t held;
    int64_t last_due, extra_delay;
    bool queued, stalled, dead, finished_in, finished_out;
    /* What faults have ordered for the bytes that are read next. */
    unsigned char flip;
    uint64_t drop;
    unsigned char *copy; /* what duplicate has collected so far */
    size_t copy_size, copy_want;
};

struct conn {
    TAILQ_ENTRY(conn) next;
    struct relay *relay;
    unsigned id;
    const struct route *route;
    struct end ends[2];
    struct flow flows[DIRECTIONS];
    int64_t connect_at, read_at; /* the two moments of the handshake that the relay plays */
    bool closed;
};

struct link {
    TAILQ_HEAD(, flow) ready;
    uint64_t rate, rate_default; /* bit/s, 0 is unlimited */
    int64_t delay, jitter, busy_until;
    bool stalled, dead; /* for connections that are still to come */
    uint64_t bytes_in, bytes_out, held, held_max;
};

/* Waits for a moment (at) or a byte (after_bytes); the one not waited for is INT64_MAX or
 * UINT64_MAX. */
struct fault {
    TAILQ_ENTRY(fault) next;
    const struct action *action;
    unsigned conn; /* 0 is all: bytes are then counted over all connections */
    bool dir[DIRECTIONS];
    uint64_t after_bytes;
    int64_t at;
    uint64_t argument, bit;
};

struct address {
    struct sockaddr_storage sa;
    socklen_t size;
    char text[160];
};

struct route {
    struct watch watch;
    struct relay *relay;
    struct address listen, to;
};

#define ROUTES_MAX 8

struct relay {
    int epoll;
    struct route routes[ROUTES_MAX];
    size_t route_count;
    struct link links[DIRECTIONS];
    TAILQ_HEAD(, conn) conns;
    TAILQ_HEAD(, fault) faults;
    TAILQ_HEAD(, client) clients;
    struct watch control, signals;
    unsigned accepted, open, fired;
    bool handshake, refuse, quit, spin;
    uint64_t random;
    int64_t started;
};

/* address.c */
int address_parse(const char *text, struct address *ret);
int address_listen(struct address *address, int buffer); /* replaces port 0 by the one chosen */
int address_connect(const struct address *address, int buffer, bool *ret_connecting);
void address_tune(int fd, int buffer);

/* link.c */
void link_init(struct link *link);
size_t link_chunk_size(const struct link *link);
uint64_t link_limit(const struct link *link);
bool link_has_room(const struct link *link, int64_t now);
int64_t link_room_at(const struct link *link);
int64_t link_send(struct relay *relay, struct link *link, size_t size, int64_t now);

/* flow.c */
void flow_kick(struct flow *flow, int64_t now);
void flow_unqueue(struct flow *flow);
void flow_read_all(struct relay *relay, int64_t now);
void flow_write_due(struct flow *flow, int64_t now);
void flow_append(struct flow *flow, int kind, const unsigned char *data, size_t size, int64_t now);
int64_t flow_next_event(const struct flow *flow, int64_t now);
void flow_release(struct flow *flow);

/* conn.c */
int relay_watch(struct relay *relay, struct watch *watch, uint32_t events);
void conn_accept(struct watch *watch, uint32_t events);
void conn_tick(struct conn *conn, int64_t now);
void conn_reset(struct conn *conn);
void conn_finish(struct conn *conn);
void conn_reap(struct relay *relay);
int relay_buffer(const struct relay *relay);

/* fault.c */
struct action {
    const char *name, *arguments, *help;
    bool per_stream; /* acts at one byte of one stream, by default upwards */
    void (*apply)(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now);
};
const struct action *fault_action(const char *name);
void fault_help(FILE *out);
int fault_add(struct relay *relay, const struct fault *fault, int64_t now);
void fault_tick(struct relay *relay, int64_t now);
int64_t fault_next(const struct relay *relay);
size_t fault_stream(struct flow *flow, size_t size, int64_t now);
void fault_release(struct relay *relay);

/* command.c: one grammar for --fault and for the control socket */
void command_run(struct relay *relay, char *line, FILE *reply);
int command_rate(const char *text, uint64_t *ret);
int command_time(const char *text, int64_t *ret);

/* control.c */
int control_listen(struct relay *relay, const char *path);
void control_release(struct relay *relay);
void control_stats(struct relay *relay, FILE *out);

int64_t now_ns(void);

#endif

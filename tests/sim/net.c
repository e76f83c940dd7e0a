/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network, as a transport plugin.  A connection is two pipes; what is written to one arrives in
 * order after the latency of its link, and a writer waits when its window is full.  Links are cut (both
 * ends hear at once), stalled or dead in one direction (nobody hears), or slow; one connection may be
 * delayed alone; bytes may be flipped, lost or doubled, which no checksum below ours notices.
 */
#include "fiber.h"
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define ENDS_MAX 96
#define WINDOW_MAX (256 << 10)
#define SEGMENTS_MAX 64
#define BACKLOG 16

struct segment {
    size_t bytes; /* 0: the end of the stream */
    uint64_t arrives;
};

/* One end of a connection, with the pipe towards it. */
struct end {
    bool used;
    bool ghost; /* of a node without power: takes nothing, answers nothing */
    int node;
    struct end *peer; /* NULL once that was closed or its node lost power */
    unsigned timeout_ms;
    uint64_t born;
    bool shut, reset;
    uint64_t delay; /* of what is written here from now on */

    uint8_t buffer[WINDOW_MAX]; /* what is on its way here: a ring */
    size_t first, filled;
    struct segment segments[SEGMENTS_MAX];
    unsigned segment_first, segment_count;
    uint64_t last_arrival;

    uint8_t header[WIRE_HEADER_SIZE]; /* of the frame that is being written here */
    size_t header_filled, payload_left;
};

static struct end ends[ENDS_MAX];
static struct {
    bool listening, shut;
    struct end *queue[BACKLOG];
    unsigned count;
} listeners[SIM_NODES];
static struct {
    uint64_t dead_since, dead_until, slow_until; /* from the first node to the second */
    bool refuse, flip, truncate, duplicate;
} links[SIM_NODES][SIM_NODES];
static struct instance transports[SIM_NODES];

void net_reset(void)
{
    for (unsigned i = 0; i < ENDS_MAX; i++)
        ends[i].used = false;
    memset(listeners, 0, sizeof(listeners));
    memset(links, 0, sizeof(links));
}

unsigned net_connections(int node)
{
    unsigned count = 0;

    for (unsigned i = 0; i < ENDS_MAX; i++)
        count += ends[i].used && !ends[i].ghost && ends[i].node == node;
    return count;
}

static void wake_all(void)
{
    for (unsigned i = 0; i < ENDS_MAX; i++)
        if (ends[i].used)
            fiber_wake(&ends[i]);
}

/* Both threads of an end wait for it, and for its peer's window. */
static void wake(struct end *end)
{
    fiber_wake(end);
    if (end->peer)
        fiber_wake(end->peer);
}

static bool is_dead(int from, int to)
{
    return links[from][to].dead_until > sim.now;
}

bool net_is_stalled(void)
{
    for (int from = 0; from < SIM_NODES; from++)
        for (int to = 0; to < SIM_NODES; to++)
            if (is_dead(from, to))
                return true;
    return false;
}

/* Does somebody still believe in a connection on which nothing has come for so long? */
int net_unnoticed(uint64_t limit)
{
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        const struct end *end = &ends[i];
        uint64_t since;
        int from;

        if (!end->used || end->ghost || end->shut || end->reset || !end->peer)
            continue;
        from = end->peer->node;
        if (from == SIM_NODES - 1 || end->node == SIM_NODES - 1 || !is_dead(from, end->node))
            continue;
        since = links[from][end->node].dead_since;
        if (since < fiber_frozen_until(end->node))
            since = fiber_frozen_until(end->node);
        if (since < end->born) /* the link stalled while a node that then stood still was connecting */
            since = end->born;
        if (sim.now > since + limit)
            return end->node;
    }
    return -1;
}

static struct end *new_end(int node)
{
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        struct end *end = &ends[i];

        if (end->used)
            continue;
        memset(end, 0, offsetof(struct end, buffer));
        end->first = end->filled = 0;
        end->segment_first = end->segment_count = 0;
        end->last_arrival = 0;
        end->header_filled = end->payload_left = 0;
        end->used = true;
        end->born = sim.now;
        end->node = node;
        return end;
    }
    sim_die("more than %d ends of connections", ENDS_MAX);
}

/* What passes by tells where the protocol is. */
static void observe(struct end *from, const uint8_t *data, size_t length)
{
    while (length) {
        struct wire_header header;
        size_t part;

        if (from->payload_left) {
            part = length < from->payload_left ? length : from->payload_left;
            from->payload_left -= part;
        } else {
            part = WIRE_HEADER_SIZE - from->header_filled;
            part = length < part ? length : part;
            memcpy(from->header + from->header_filled, data, part);
            from->header_filled += part;
            if (from->header_filled == WIRE_HEADER_SIZE) {
                from->header_filled = 0;
                if (wire_decode(from->header, &header))
                    return;
                from->payload_left = header.length;
                check_frame(from->node, &header);
            }
        }
        data += part;
        length -= part;
    }
}

static void put_bytes(struct end *to, const uint8_t *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        size_t at = (to->first + to->filled) % WINDOW_MAX;
        size_t part = length - done < WINDOW_MAX - at ? length - done : WINDOW_MAX - at;

        memcpy(to->buffer + at, data + done, part);
        to->filled += part;
        done += part;
    }
}

static void add_segment(struct end *from, struct end *to, size_t bytes)
{
    uint64_t arrives = sim.now + sim.swarm.latency_ns + sim_below(sim.swarm.jitter_ns + 1) + from->delay;
    struct segment *last =
        to->segment_count
            ? &to->segments[(to->segment_first + to->segment_count - 1) % SEGMENTS_MAX]
            : NULL;

    if (links[from->node][to->node].slow_until > sim.now)
        arrives += sim_below(500 * MS);
    if (arrives < to->last_arrival)
        arrives = to->last_arrival;
    to->last_arrival = arrives;
    if (last && bytes && last->bytes &&
        (to->segment_count == SEGMENTS_MAX - 1 || last->arrives == arrives)) {
        last->bytes += bytes;
        last->arrives = arrives;
    } else {
        to->segments[(to->segment_first + to->segment_count++) % SEGMENTS_MAX] =
            (struct segment){bytes, arrives};
    }
    fiber_wake(to);
}

/* The bytes of one write as they arrive: all of them, unless the link is to damage some. */
static void transmit(struct end *from, struct end *to, const uint8_t *data, size_t length)
{
    bool *flip = &links[from->node][to->node].flip, *cut = &links[from->node][to->node].truncate;
    bool *twice = &links[from->node][to->node].duplicate;
    size_t before = to->filled, at = sim_below(length);

    if (*cut && length > 1) {
        *cut = false;
        put_bytes(to, data, at);
        put_bytes(to, data + at + 1, length - at - 1);
        fault_struck(FAULT_TRUNCATE, "a byte is lost on the way");
    } else {
        put_bytes(to, data, length);
    }
    if (*flip) {
        *flip = false;
        to->buffer[(to->first + before + sim_below(to->filled - before)) % WINDOW_MAX] ^=
            (uint8_t)(1u << sim_below(8));
        fault_struck(FAULT_FLIP, "a bit flips on the way");
    }
    if (*twice && WINDOW_MAX - to->filled >= length) {
        *twice = false;
        put_bytes(to, data, length);
        fault_struck(FAULT_DUPLICATE, "bytes arrive twice");
    }
    if (to->filled != before)
        add_segment(from, to, to->filled - before);
}

static size_t room(const struct end *to)
{
    return to->filled < sim.swarm.window ? sim.swarm.window - to->filled : 0;
}

static uint64_t deadline_of(const struct end *end)
{
    return end->timeout_ms ? sim.now + end->timeout_ms * MS : FIBER_NEVER;
}

static ssize_t sim_writev(void *connection, const struct iovec *vector, int count)
{
    struct end *end = connection, *peer;
    uint64_t deadline = deadline_of(end);
    size_t done = 0, limit;

    fiber_maybe_yield();
    while (!end->shut && !end->reset && end->peer && !room(end->peer))
        if (!fiber_wait(end, deadline))
            return -ETIMEDOUT;
    if (end->shut)
        return -ECANCELED;
    if (end->reset || !end->peer)
        return -EPIPE;
    if (sim_chance(sim.swarm.short_io) && sim_chance(256))
        return -EINTR;
    peer = end->peer;
    limit = room(peer);
    if (sim_chance(sim.swarm.short_io))
        limit = 1 + sim_below(limit);
    for (int i = 0; i < count && done < limit; i++) {
        size_t part = vector[i].iov_len < limit - done ? vector[i].iov_len : limit - done;

        if (!part)
            continue;
        transmit(end, peer, vector[i].iov_base, part);
        observe(end, vector[i].iov_base, part);
        done += part;
        if (end->shut || end->reset || end->peer != peer) /* a fault struck at a step */
            break;
    }
    return (ssize_t)done;
}

/* Bytes that have arrived; when none have, the time at which some will. */
static size_t arrived(struct end *end, uint64_t *ret_next, bool *ret_over)
{
    size_t bytes = 0;
    int from = end->peer ? end->peer->node : end->node;

    *ret_next = FIBER_NEVER;
    *ret_over = false;
    if (is_dead(from, end->node)) {
        *ret_next = links[from][end->node].dead_until;
        return 0;
    }
    for (unsigned i = 0; i < end->segment_count; i++) {
        const struct segment *segment = &end->segments[(end->segment_first + i) % SEGMENTS_MAX];

        if (segment->arrives > sim.now) {
            *ret_next = segment->arrives;
            break;
        }
        if (!segment->bytes) {
            *ret_over = true;
            break;
        }
        bytes += segment->bytes;
    }
    return bytes;
}

static void take_bytes(struct end *end, uint8_t *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        size_t part = length - done < WINDOW_MAX - end->first ? length - done : WINDOW_MAX - end->first;
        struct segment *segment = &end->segments[end->segment_first];

        if (part > segment->bytes)
            part = segment->bytes;
        memcpy(data + done, end->buffer + end->first, part);
        end->first = (end->first + part) % WINDOW_MAX;
        end->filled -= part;
        done += part;
        segment->bytes -= part;
        if (!segment->bytes) {
            end->segment_first = (end->segment_first + 1) % SEGMENTS_MAX;
            end->segment_count--;
        }
    }
}

static ssize_t sim_readv(void *connection, const struct iovec *vector, int count)
{
    struct end *end = connection;
    uint64_t deadline = deadline_of(end), next;
    size_t ready, length = vector[0].iov_len;
    bool over;

    (void)count;
    fiber_maybe_yield();
    for (;;) {
        if (end->shut)
            return -ECANCELED;
        if (end->reset)
            return -ECONNRESET;
        ready = arrived(end, &next, &over);
        if (ready)
            break;
        if (over)
            return 0;
        if (sim.now >= deadline)
            return -ETIMEDOUT;
        fiber_wait(end, next < deadline ? next : deadline);
    }
    if (length > ready)
        length = ready;
    if (sim_chance(sim.swarm.short_io))
        length = 1 + sim_below(length);
    take_bytes(end, vector[0].iov_base, length);
    if (end->peer)
        fiber_wake(end->peer);
    return (ssize_t)length;
}

static int sim_set_timeout(void *connection, unsigned timeout_ms)
{
    ((struct end *)connection)->timeout_ms = timeout_ms;
    return 0;
}

static void break_end(struct end *end)
{
    if (!end->reset)
        wake(end);
    end->reset = true;
}

/* The peer reads on to the end, or not even that when we had not read all it sent. */
static void say_goodbye(struct end *end)
{
    struct end *peer = end->peer;

    if (!peer)
        return;
    if (peer->ghost)
        return;
    if (end->filled && !is_dead(end->node, peer->node) && sim_chance(512))
        break_end(peer);
    else
        add_segment(end, peer, 0);
}

static void sim_shutdown(void *connection)
{
    struct end *end = connection;

    if (end->shut)
        return;
    end->shut = true;
    if (!end->reset)
        say_goodbye(end);
    wake(end);
}

static void sim_close(void *connection)
{
    struct end *end = connection;

    sim_shutdown(end);
    if (end->peer) {
        end->peer->peer = NULL;
        end->peer->used &= !end->peer->ghost;
        fiber_wake(end->peer);
    }
    end->used = false;
}

static int sim_peer_name(void *connection, char *buffer, size_t size)
{
    const struct end *end = connection;

    snprintf(buffer, size, "node %d", end->peer ? end->peer->node : -1);
    return 0;
}

static ssize_t sim_unsent(void *connection)
{
    const struct end *end = connection;

    return end->peer ? (ssize_t)end->peer->filled : -ENOTCONN;
}

static int sim_connect(void *instance, const char *address, unsigned timeout_ms, void **ret_connection,
                       struct drafter_error *err)
{
    int from = fiber_node(), to = address[0] - '0';
    struct end *end, *peer;

    (void)instance;
    sim_step(STEP_S0);
    if (fault_takes(from, FAULT_RESOURCES, "a socket"))
        return drafter_error_set(err, EMFILE, "no descriptor is left");
    if (is_dead(from, to) || is_dead(to, from)) {
        fiber_sleep((timeout_ms ? timeout_ms : 1000) * MS);
        return drafter_error_set(err, ETIMEDOUT, "node %d does not answer", to);
    }
    fiber_sleep(2 * sim.swarm.latency_ns + 1);
    if (links[from][to].refuse) {
        links[from][to].refuse = false;
        fault_struck(FAULT_CUT, "a connection is refused");
        return drafter_error_set(err, ECONNREFUSED, "node %d refuses", to);
    }
    if (!listeners[to].listening || listeners[to].shut || listeners[to].count == BACKLOG)
        return drafter_error_set(err, ECONNREFUSED, "node %d does not listen", to);
    end = new_end(from);
    peer = new_end(to);
    end->peer = peer;
    peer->peer = end;
    listeners[to].queue[listeners[to].count++] = peer;
    fiber_wake(&listeners[to]);
    *ret_connection = end;
    return 0;
}

static int sim_listen(void *instance, const char *address, void **ret_listener,
                      struct drafter_error *err)
{
    (void)instance, (void)err;
    memset(&listeners[address[0] - '0'], 0, sizeof(listeners[0]));
    listeners[address[0] - '0'].listening = true;
    *ret_listener = &listeners[address[0] - '0'];
    return 0;
}

static int sim_accept(void *instance, void *listener, void **ret_connection, struct drafter_error *err)
{
    __auto_type self = &listeners[(int)((char *)listener - (char *)listeners) / (int)sizeof(listeners[0])];

    (void)instance, (void)err;
    while (!self->shut && !self->count)
        fiber_wait(self, FIBER_NEVER);
    if (self->shut)
        return -ECANCELED;
    *ret_connection = self->queue[0];
    memmove(self->queue, self->queue + 1, --self->count * sizeof(self->queue[0]));
    return 0;
}

static int sim_listener_address(void *listener, char *buffer, size_t size)
{
    (void)listener;
    snprintf(buffer, size, "sim");
    return 0;
}

static void sim_listener_shutdown(void *listener)
{
    __auto_type self = &listeners[(int)((char *)listener - (char *)listeners) / (int)sizeof(listeners[0])];

    self->shut = true;
    fiber_wake(self);
}

static void sim_listener_close(void *listener)
{
    __auto_type self = &listeners[(int)((char *)listener - (char *)listeners) / (int)sizeof(listeners[0])];

    while (self->count)
        sim_close(self->queue[--self->count]);
    self->listening = false;
}

static const struct drafter_transport_ops transport_ops = {
    .connect = sim_connect,
    .listen = sim_listen,
    .accept = sim_accept,
    .listener_address = sim_listener_address,
    .listener_shutdown = sim_listener_shutdown,
    .listener_close = sim_listener_close,
    .readv = sim_readv,
    .writev = sim_writev,
    .set_timeout = sim_set_timeout,
    .shutdown = sim_shutdown,
    .close = sim_close,
    .peer_name = sim_peer_name,
    .unsent = sim_unsent,
};

static struct plugin transport_plugin = {
    .descriptor = {.kind = DRAFTER_KIND_TRANSPORT, .thread_model = DRAFTER_THREADS_PARALLEL, .name = "sim"},
    .ops = (void *)&transport_ops,
};

struct instance *net_transport(int node)
{
    transports[node] = (struct instance){.plugin = &transport_plugin, .id = (char *)"sim"};
    return &transports[node];
}

/* Faults */

/* The node's process or the node itself is gone.  Silently: nobody is left to close its connections. */
void net_kill(int node, bool silently)
{
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        struct end *end = &ends[i];

        if (!end->used || end->ghost || end->node != node)
            continue;
        if (end->peer && end->peer->ghost) {
            end->peer->used = false;
            end->peer = NULL;
        }
        if (end->peer && !silently) {
            if (sim_chance(512))
                break_end(end->peer);
            else
                say_goodbye(end);
        }
        if (end->peer) {
            /* A silent end still takes what is written to it until its window is full. */
            end->peer->peer = NULL;
            if (silently) {
                struct end *ghost = new_end(node);

                ghost->ghost = true;
                ghost->peer = end->peer;
                ghost->filled = sim.swarm.window;
                end->peer->peer = ghost;
            }
            fiber_wake(end->peer);
        }
        end->used = false;
    }
    listeners[node].listening = false;
    listeners[node].count = 0;
}

/* The node has power again and answers whoever talks to what it was: there is no such connection. */
void net_restart(int node)
{
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        if (!ends[i].used || !ends[i].ghost || ends[i].node != node)
            continue;
        ends[i].peer->peer = NULL;
        break_end(ends[i].peer);
        ends[i].used = false;
    }
}

static void cut(int node)
{
    for (unsigned i = 0; i < ENDS_MAX; i++)
        if (ends[i].used && ends[i].peer && (ends[i].node == node || ends[i].peer->node == node))
            break_end(&ends[i]);
}

static void delay_one(int node, uint64_t delay)
{
    struct end *found[ENDS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < ENDS_MAX; i++)
        if (ends[i].used && ends[i].peer && ends[i].node == node)
            found[count++] = &ends[i];
    if (count)
        found[sim_below(count)]->delay = delay;
}

static void kill_link(int from, int to, uint64_t until)
{
    if (!is_dead(from, to))
        links[from][to].dead_since = sim.now;
    links[from][to].dead_until = until;
}

static void break_link(enum net_fault fault, int from, int to, uint64_t until)
{
    switch (fault) {
    case NET_REFUSE:
        links[to][from].refuse = true;
        break;
    case NET_STALL:
    case NET_ONE_WAY:
        kill_link(from, to, until);
        if (fault == NET_STALL)
            kill_link(to, from, until);
        break;
    case NET_SLOW:
        links[from][to].slow_until = links[to][from].slow_until = until;
        break;
    case NET_FLIP:
        links[from][to].flip = true;
        break;
    case NET_TRUNCATE:
        links[from][to].truncate = true;
        break;
    case NET_DUPLICATE:
        links[from][to].duplicate = true;
        break;
    default:
        break;
    }
}

void net_break(enum net_fault fault, int node, uint64_t duration)
{
    if (fault == NET_CUT)
        cut(node);
    if (fault == NET_DELAY_ONE)
        delay_one(node, duration);
    for (int other = 0; other < SIM_NODES; other++)
        if (other != node)
            break_link(fault, node, other, sim.now + duration);
    wake_all();
}

void net_heal(void)
{
    memset(links, 0, sizeof(links));
    for (unsigned i = 0; i < ENDS_MAX; i++)
        if (ends[i].used)
            ends[i].delay = 0;
    wake_all();
}

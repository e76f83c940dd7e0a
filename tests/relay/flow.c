/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One direction of one connection: reads while the link has room, keeps chunks until they are due,
 * writes them. Faults act where bytes enter; what is already under way still arrives (but for cut,
 * which drops it).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "relay.h"

static struct link *flow_link(const struct flow *flow)
{
    return &flow->conn->relay->links[flow->dir];
}

static struct end *flow_source(struct flow *flow)
{
    return &flow->conn->ends[flow->dir == UP ? 0 : 1];
}

static struct end *flow_sink(struct flow *flow)
{
    return &flow->conn->ends[flow->dir == UP ? 1 : 0];
}

/* The receiver pushes back: a real sender's window would be closed, so nothing more is taken for
 * it. */
static bool flow_blocked(const struct flow *flow, int64_t now)
{
    const struct chunk *head = STAILQ_FIRST(&flow->chunks);

    return head && head->due + NS_PER_MS < now;
}

static bool flow_can_read(struct flow *flow, int64_t now)
{
    const struct link *link = flow_link(flow);
    const struct end *source = flow_source(flow);

    if (flow->conn->closed || flow->finished_in || flow->stalled)
        return false;
    if (!source->readable || source->connecting || source->watch.fd < 0 ||
        now < flow->conn->read_at)
        return false;
    if (flow->dead || flow->held == 0)
        return true;
    return flow->held + link_chunk_size(link) <= link_limit(link) && !flow_blocked(flow, now);
}

void flow_unqueue(struct flow *flow)
{
    if (flow->queued)
        TAILQ_REMOVE(&flow_link(flow)->ready, flow, ready);
    flow->queued = false;
}

/* To be called after anything that may have made the flow readable again. */
void flow_kick(struct flow *flow, int64_t now)
{
    if (flow->queued || !flow_can_read(flow, now))
        return;
    TAILQ_INSERT_TAIL(&flow_link(flow)->ready, flow, ready);
    flow->queued = true;
}

static void append_chunk(struct flow *flow, struct chunk *chunk, int64_t now)
{
    struct link *link = flow_link(flow);

    chunk->sent = 0;
    chunk->due = link_send(flow->conn->relay, link, chunk->size, now) + flow->extra_delay;
    if (chunk->due < flow->last_due)
        chunk->due = flow->last_due; /* jitter and changes of delay never reorder one stream */
    flow->last_due = chunk->due;
    STAILQ_INSERT_TAIL(&flow->chunks, chunk, next);
    flow->held += chunk->size;
    link->held += chunk->size;
    if (link->held > link->held_max)
        link->held_max = link->held;
}

static struct chunk *chunk_new(int kind, size_t size)
{
    struct chunk *chunk = malloc(sizeof *chunk + size);

    if (!chunk)
        abort(); /* a test tool without memory has nothing better to do */
    chunk->kind = kind;
    chunk->size = size;
    return chunk;
}

void flow_append(struct flow *flow, int kind, const unsigned char *data, size_t size, int64_t now)
{
    struct chunk *chunk = chunk_new(kind, size);

    if (size > 0)
        memcpy(chunk->data, data, size);
    if (kind != CHUNK_DATA)
        flow->finished_in = true;
    append_chunk(flow, chunk, now);
}

static void flush_copy(struct flow *flow, int64_t now)
{
    if (flow->copy_size > 0)
        flow_append(flow, CHUNK_DATA, flow->copy, flow->copy_size, now);
    free(flow->copy);
    flow->copy = NULL;
    flow->copy_size = flow->copy_want = 0;
}

static void collect_copy(struct flow *flow, const unsigned char *data, size_t size, int64_t now)
{
    size_t missing = flow->copy_want - flow->copy_size;

    if (size > missing)
        size = missing;
    if (!flow->copy)
        flow->copy = malloc(flow->copy_want);
    if (!flow->copy)
        abort();
    memcpy(flow->copy + flow->copy_size, data, size);
    flow->copy_size += size;
    if (flow->copy_size == flow->copy_want)
        flush_copy(flow, now);
}

/* Puts what was read on the link, after the faults that were ordered for it have had their way. */
static void feed(struct flow *flow, struct chunk *chunk, int64_t now)
{
    size_t drop = flow->drop < chunk->size ? flow->drop : chunk->size;

    flow->bytes_in += chunk->size;
    flow_link(flow)->bytes_in += chunk->size;
    chunk->data[0] ^= flow->flip;
    flow->flip = 0;
    flow->drop -= drop;
    if (flow->dead || drop == chunk->size) {
        free(chunk);
        return;
    }
    memmove(chunk->data, chunk->data + drop, chunk->size - drop);
    chunk->size -= drop;
    append_chunk(flow, chunk, now);
    if (flow->copy_want > 0)
        collect_copy(flow, chunk->data, chunk->size, now);
}

static void end_of_input(struct flow *flow, bool reset, int64_t now)
{
    flush_copy(flow, now);
    if (flow->dead)
        flow->finished_in = true; /* the other side never hears of it */
    else
        flow_append(flow, reset ? CHUNK_RESET : CHUNK_EOF, NULL, 0, now);
}

static void flow_read(struct flow *flow, int64_t now)
{
    struct end *source = flow_source(flow);
    size_t size = fault_stream(flow, link_chunk_size(flow_link(flow)), now);
    struct chunk *chunk;
    ssize_t n;

    if (!flow_can_read(flow, now))
        return; /* a fault said so */
    if (flow->copy_want > 0 && size > flow->copy_want - flow->copy_size)
        size =
            flow->copy_want - flow->copy_size; /* so that the copy follows its original at once */
    chunk = chunk_new(CHUNK_DATA, size);
    n = read(source->watch.fd, chunk->data, size);
    if (n > 0) {
        struct chunk *fit =
            realloc(chunk, sizeof *chunk + (size_t)n); /* memory is what held says */

        chunk = fit ? fit : chunk;
        chunk->size = (size_t)n;
        feed(flow, chunk, now);
        fault_stream(flow, size, now);
        return;
    }
    free(chunk);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        source->readable = errno == EINTR;
    else
        end_of_input(flow, n < 0, now);
}

/* All connections take turns, one chunk each, as their packets would on a wire. */
void flow_read_all(struct relay *relay, int64_t now)
{
    for (int dir = 0; dir < DIRECTIONS; dir++) {
        struct link *link = &relay->links[dir];
        struct flow *flow;
        int budget = 256; /* then look at the clock again */

        while (budget-- > 0 && (flow = TAILQ_FIRST(&link->ready)) && link_has_room(link, now)) {
            flow_unqueue(flow);
            if (flow_can_read(flow, now))
                flow_read(flow, now);
            flow_kick(flow, now);
        }
    }
}

static void take_chunk(struct flow *flow, struct chunk *chunk)
{
    STAILQ_REMOVE_HEAD(&flow->chunks, next);
    if (chunk->kind == CHUNK_RESET)
        conn_reset(flow->conn);
    else if (chunk->kind == CHUNK_EOF) {
        shutdown(flow_sink(flow)->watch.fd, SHUT_WR);
        flow->finished_out = true;
        conn_finish(flow->conn);
    }
    free(chunk);
}

void flow_write_due(struct flow *flow, int64_t now)
{
    struct end *sink = flow_sink(flow);
    struct chunk *chunk;

    while (!flow->conn->closed && sink->writable && (chunk = STAILQ_FIRST(&flow->chunks)) &&
           chunk->due <= now) {
        size_t left = chunk->size - chunk->sent;
        ssize_t n = left ? send(sink->watch.fd, chunk->data + chunk->sent, left, MSG_NOSIGNAL) : 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            sink->writable = errno == EINTR;
            return;
        }
        if (n < 0) {
            conn_reset(flow->conn);
            return;
        }
        chunk->sent += (size_t)n;
        flow->held -= (size_t)n;
        flow_link(flow)->held -= (size_t)n;
        flow->bytes_out += (size_t)n;
        flow_link(flow)->bytes_out += (size_t)n;
        if (chunk->sent == chunk->size)
            take_chunk(flow, chunk);
    }
    flow_kick(flow, now);
}

/* When this flow needs the clock again; INT64_MAX if only an event can move it. */
int64_t flow_next_event(const struct flow *flow, int64_t now)
{
    const struct chunk *head = STAILQ_FIRST(&flow->chunks);
    const struct end *sink = &flow->conn->ends[flow->dir == UP ? 1 : 0];

    if (!head || flow->conn->closed || (head->due <= now && !sink->writable))
        return INT64_MAX;
    return head->due;
}

void flow_release(struct flow *flow)
{
    struct chunk *chunk;

    flow_unqueue(flow);
    flow_link(flow)->held -= flow->held;
    flow->held = 0;
    while ((chunk = STAILQ_FIRST(&flow->chunks))) {
        STAILQ_REMOVE_HEAD(&flow->chunks, next);
        free(chunk);
    }
    free(flow->copy);
    flow->copy = NULL;
}

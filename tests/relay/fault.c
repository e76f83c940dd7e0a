/* SPDX-License-Identifier: BSD-2-Clause */
/* What can go wrong with a link, each as one function, and the triggers that set it off. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relay.h"

#define DUPLICATE_DEFAULT 1460
#define DUPLICATE_MAX (1024 * 1024)

static bool fault_wants(const struct fault *fault, const struct conn *conn, int dir)
{
    return fault->dir[dir] && (fault->conn == 0 || fault->conn == conn->id);
}

#define FOREACH_FLOW(relay, fault, conn, dir)                                                      \
    TAILQ_FOREACH(conn, &(relay)->conns, next)                                                     \
    for (int dir = 0; dir < DIRECTIONS; dir++)                                                     \
        if (!conn->closed && fault_wants(fault, conn, dir))

/* Set off by a byte, the stream ends behind it: the receiver gets exactly so much, then the reset.
 */
static void do_cut(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    struct conn *conn;

    TAILQ_FOREACH(conn, &relay->conns, next)
    {
        if (conn->closed || (fault->conn != 0 && fault->conn != conn->id))
            continue;
        if (flow && flow->conn == conn)
            flow_append(flow, CHUNK_RESET, NULL, 0, now);
        else
            conn_reset(conn);
    }
}

static void do_stall(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    struct conn *conn;

    (void)flow, (void)now;
    FOREACH_FLOW(relay, fault, conn, dir)
    conn->flows[dir].stalled = true;
    for (int dir = 0; dir < DIRECTIONS; dir++)
        if (fault->conn == 0 && fault->dir[dir])
            relay->links[dir].stalled = true;
}

static void do_resume(struct relay *relay, const struct fault *fault, struct flow *flow,
                      int64_t now)
{
    struct conn *conn;

    (void)flow;
    FOREACH_FLOW(relay, fault, conn, dir)
    {
        conn->flows[dir].stalled = false;
        flow_kick(&conn->flows[dir], now);
    }
    if (fault->conn != 0)
        return;
    relay->refuse = false;
    for (int dir = 0; dir < DIRECTIONS; dir++)
        if (fault->dir[dir])
            relay->links[dir].stalled = relay->links[dir].dead = false;
}

/* The worst kind of half-open: the sender's bytes are accepted and go nowhere. */
static void do_half_open(struct relay *relay, const struct fault *fault, struct flow *flow,
                         int64_t now)
{
    struct conn *conn;

    (void)flow;
    FOREACH_FLOW(relay, fault, conn, dir)
    {
        conn->flows[dir].dead = true;
        flow_kick(&conn->flows[dir], now);
    }
    for (int dir = 0; dir < DIRECTIONS; dir++)
        if (fault->conn == 0 && fault->dir[dir])
            relay->links[dir].dead = true;
}

static void do_refuse(struct relay *relay, const struct fault *fault, struct flow *flow,
                      int64_t now)
{
    (void)fault, (void)flow, (void)now;
    relay->refuse = true;
}

static void do_flip(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    (void)relay, (void)now;
    flow->flip ^= (unsigned char)(1u << fault->bit);
}

static void do_truncate(struct relay *relay, const struct fault *fault, struct flow *flow,
                        int64_t now)
{
    (void)relay, (void)fault;
    flow_append(flow, CHUNK_EOF, NULL, 0, now);
}

static void do_drop(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    (void)relay, (void)now;
    flow->drop += fault->argument ? fault->argument : 1;
}

static void do_duplicate(struct relay *relay, const struct fault *fault, struct flow *flow,
                         int64_t now)
{
    uint64_t size = fault->argument ? fault->argument : DUPLICATE_DEFAULT;

    (void)relay, (void)now;
    if (flow->copy_want == 0)
        flow->copy_want = size < DUPLICATE_MAX ? size : DUPLICATE_MAX;
}

static void do_slow(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    (void)flow;
    for (int dir = 0; dir < DIRECTIONS; dir++) {
        struct link *link = &relay->links[dir];

        if (!fault->dir[dir])
            continue;
        link->rate = fault->argument ? fault->argument : link->rate_default;
        if (link->busy_until > now + QUEUE_NS)
            link->busy_until = now + QUEUE_NS; /* left over from a slower rate */
    }
}

static void do_rtt(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    (void)flow, (void)now;
    relay->links[UP].delay = relay->links[DOWN].delay = (int64_t)fault->argument / 2;
}

static void do_jitter(struct relay *relay, const struct fault *fault, struct flow *flow,
                      int64_t now)
{
    (void)flow, (void)now;
    for (int dir = 0; dir < DIRECTIONS; dir++)
        if (fault->dir[dir])
            relay->links[dir].jitter = (int64_t)fault->argument;
}

static void do_delay(struct relay *relay, const struct fault *fault, struct flow *flow, int64_t now)
{
    struct conn *conn;

    (void)flow, (void)now;
    FOREACH_FLOW(relay, fault, conn, dir)
    conn->flows[dir].extra_delay = (int64_t)fault->argument;
}

static const struct action actions[] = {
    {"cut", "", "reset the connections", false, do_cut},
    {"stall", "", "stop forwarding, keep everything open; new connections stall too", false,
     do_stall},
    {"resume", "", "end stall, refuse and (for new connections) half-open", false, do_resume},
    {"half-open", "", "swallow one direction (dir=up|down) without telling anyone", false,
     do_half_open},
    {"refuse", "", "reset new connections until resume", false, do_refuse},
    {"flip", "OFFSET|next BIT", "flip a bit of that byte, or of the next one if it has passed",
     true, do_flip},
    {"truncate", "", "end the stream here in good order (FIN)", true, do_truncate},
    {"drop", "[N]", "N bytes vanish (1)", true, do_drop},
    {"duplicate", "[N]", "the next N bytes arrive twice (1460)", true, do_duplicate},
    {"slow", "RATE|off", "change the rate of the link, off restores it", false, do_slow},
    {"rtt", "MS", "change the round trip time", false, do_rtt},
    {"jitter", "MS", "up to so much more delay per chunk, order is kept", false, do_jitter},
    {"delay-connection", "K MS", "delay connection K each way, 0 ends it", false, do_delay},
};

const struct action *fault_action(const char *name)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

void fault_help(FILE *out)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        fprintf(out, "  %-16s %-16s %s\n", actions[i].name, actions[i].arguments, actions[i].help);
}

static void fault_fire(struct relay *relay, struct fault *fault, struct flow *flow, int64_t now)
{
    TAILQ_REMOVE(&relay->faults, fault, next);
    relay->fired++;
    fault->action->apply(relay, fault, flow, now);
    free(fault);
}

/* Without a trigger a fault acts now, or at the next byte if it needs one. */
int fault_add(struct relay *relay, const struct fault *fault, int64_t now)
{
    struct fault *copy = malloc(sizeof *copy);

    if (!copy)
        return -ENOMEM;
    *copy = *fault;
    if (copy->at == INT64_MAX && copy->after_bytes == UINT64_MAX) {
        copy->at = copy->action->per_stream ? INT64_MAX : now;
        copy->after_bytes = copy->action->per_stream ? 0 : UINT64_MAX;
    }
    TAILQ_INSERT_TAIL(&relay->faults, copy, next);
    fault_tick(relay, now);
    return 0;
}

void fault_tick(struct relay *relay, int64_t now)
{
    struct fault *fault = TAILQ_FIRST(&relay->faults);

    while (fault) {
        struct fault *next = TAILQ_NEXT(fault, next);

        if (fault->at <= now && fault->action->per_stream) {
            fault->at = INT64_MAX;
            fault->after_bytes = 0;
        } else if (fault->at <= now) {
            fault_fire(relay, fault, NULL, now);
        }
        fault = next;
    }
}

int64_t fault_next(const struct relay *relay)
{
    const struct fault *fault;
    int64_t next = INT64_MAX;

    TAILQ_FOREACH(fault, &relay->faults, next)
    {
        if (fault->at < next)
            next = fault->at;
    }
    return next;
}

/* Fires what waits for the byte this flow reads next; returns how much may be read before another
 * wants its turn. */
size_t fault_stream(struct flow *flow, size_t size, int64_t now)
{
    struct relay *relay = flow->conn->relay;
    struct fault *fault = TAILQ_FIRST(&relay->faults);

    while (fault && !flow->finished_in) {
        struct fault *next = TAILQ_NEXT(fault, next);
        uint64_t position = fault->conn ? flow->bytes_in : relay->links[flow->dir].bytes_in;

        if (fault->after_bytes != UINT64_MAX && fault_wants(fault, flow->conn, flow->dir)) {
            if (fault->after_bytes <= position)
                fault_fire(relay, fault, flow, now);
            else if (fault->after_bytes - position < size)
                size = fault->after_bytes - position;
        }
        fault = next;
    }
    return flow->flip ? 1 : size;
}

void fault_release(struct relay *relay)
{
    struct fault *fault;

    while ((fault = TAILQ_FIRST(&relay->faults))) {
        TAILQ_REMOVE(&relay->faults, fault, next);
        free(fault);
    }
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One direction of the link. The token bucket is its end of queue: busy_until is the moment at
 * which the last byte accepted so far will have left the sender's interface. The rate counts
 * payload bits; headers are free.
 */
#include "relay.h"

/* An unlimited link still needs a bound for what is in flight: that of a 10 Gbit/s link with 1 ms
 * of queue. */
#define NOMINAL_BYTES_PER_S (10ull * 1000 * 1000 * 1000 / 8)
#define CHUNK_MIN 256
#define CHUNK_MAX (64 * 1024)

void link_init(struct link *link)
{
    TAILQ_INIT(&link->ready);
}

static int64_t serialise_ns(const struct link *link, size_t size)
{
    return link->rate ? (int64_t)((__int128)size * 8 * NS_PER_S / link->rate) : 0;
}

/* A quarter of a millisecond of the link, so that connections interleave and bytes arrive evenly.
 */
size_t link_chunk_size(const struct link *link)
{
    uint64_t size = link->rate / 8 / 4000;

    if (link->rate == 0 || size > CHUNK_MAX)
        return CHUNK_MAX;
    return size < CHUNK_MIN ? CHUNK_MIN : size;
}

uint64_t link_limit(const struct link *link)
{
    uint64_t per_s = link->rate ? link->rate / 8 : NOMINAL_BYTES_PER_S;
    int64_t queue = link->rate ? QUEUE_NS : NS_PER_MS;
    uint64_t limit = (uint64_t)((__int128)per_s * (link->delay + queue) / NS_PER_S);

    return limit < 2 * CHUNK_MIN ? 2 * CHUNK_MIN : limit;
}

/* When the queue in front of the link has room for one more chunk; an empty queue always has. */
int64_t link_room_at(const struct link *link)
{
    int64_t chunk = serialise_ns(link, link_chunk_size(link));

    return link->busy_until - (chunk < QUEUE_NS ? QUEUE_NS - chunk : 0);
}

bool link_has_room(const struct link *link, int64_t now)
{
    return link->rate == 0 || link_room_at(link) <= now;
}

static uint64_t random_next(struct relay *relay)
{
    relay->random ^= relay->random << 13;
    relay->random ^= relay->random >> 7;
    relay->random ^= relay->random << 17;
    return relay->random;
}

/* Takes a place on the link for size bytes; returns when they arrive at the other end. */
int64_t link_send(struct relay *relay, struct link *link, size_t size, int64_t now)
{
    int64_t due;

    if (link->busy_until < now)
        link->busy_until = now;
    link->busy_until += serialise_ns(link, size);
    due = link->busy_until + link->delay;
    if (link->jitter > 0)
        due += (int64_t)(random_next(relay) % (uint64_t)link->jitter);
    return due;
}

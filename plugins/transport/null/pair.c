/* SPDX-License-Identifier: BSD-2-Clause */
#include "pair.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct null_ring {
    pthread_cond_t changed;
    size_t start, used;
    bool ended; /* no more bytes come: the writer shut down or closed */
    bool gone;  /* nobody reads any more */
    unsigned char *data;
};

struct null_pair {
    pthread_mutex_t lock; /* protects everything in the pair */
    unsigned references;
    size_t size; /* of each ring; constant */
    struct null_ring rings[2];
    struct null_end ends[2];
};

void null_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

int null_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000),
                             .tv_nsec = (long)(deadline % 1000000000)};

    if (!deadline)
        return -pthread_cond_wait(cond, lock);
    return -pthread_cond_timedwait(cond, lock, &until);
}

static void null_pair_free(struct null_pair *pair)
{
    for (unsigned i = 0; i < 2; i++) {
        pthread_cond_destroy(&pair->rings[i].changed);
        free(pair->rings[i].data);
    }
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

int null_pair_new(size_t size, struct null_end *ret_ends[2])
{
    struct null_pair *pair = calloc(1, sizeof(*pair));

    if (!pair)
        return -ENOMEM;
    pthread_mutex_init(&pair->lock, NULL);
    pair->references = 2;
    pair->size = size;
    for (unsigned i = 0; i < 2; i++) {
        null_cond_init(&pair->rings[i].changed);
        pair->rings[i].data = malloc(size);
        pair->ends[i].pair = pair;
        pair->ends[i].side = i;
    }
    if (!pair->rings[0].data || !pair->rings[1].data) {
        null_pair_free(pair);
        return -ENOMEM;
    }
    ret_ends[0] = &pair->ends[0];
    ret_ends[1] = &pair->ends[1];
    return 0;
}

/* The longest run of free (or used) bytes that does not wrap. */
static size_t null_ring_span(const struct null_pair *pair, const struct null_ring *ring, bool writing,
                             size_t *ret_at)
{
    size_t at = writing ? (ring->start + ring->used) % pair->size : ring->start;
    size_t amount = writing ? pair->size - ring->used : ring->used;

    *ret_at = at;
    return amount < pair->size - at ? amount : pair->size - at;
}

/* Moves what fits between the ring and one piece. */
static size_t null_ring_move(struct null_pair *pair, struct null_ring *ring,
                             const struct iovec *piece, bool writing)
{
    unsigned char *bytes = piece->iov_base;
    size_t done = 0;

    while (done < piece->iov_len) {
        size_t at, span = null_ring_span(pair, ring, writing, &at);

        if (span > piece->iov_len - done)
            span = piece->iov_len - done;
        if (span == 0)
            break;
        if (writing) {
            memcpy(ring->data + at, bytes + done, span);
            ring->used += span;
        } else {
            memcpy(bytes + done, ring->data + at, span);
            ring->start = (ring->start + span) % pair->size;
            ring->used -= span;
        }
        done += span;
    }
    return done;
}

static bool null_vector_empty(const struct iovec *vector, int count)
{
    for (int i = 0; i < count; i++)
        if (vector[i].iov_len)
            return false;
    return true;
}

/* What a transfer that cannot move a byte now comes to: 1 to wait, else its result. */
static int null_end_state(const struct null_end *end, const struct null_ring *ring, bool writing)
{
    if (end->cancelled)
        return -ECANCELED;
    if (writing && ring->gone)
        return -EPIPE;
    if (!writing && ring->ended)
        return 0;
    return 1;
}

static ssize_t null_end_transfer(struct null_end *end, const struct iovec *vector, int count,
                                 bool writing)
{
    struct null_pair *pair = end->pair;
    struct null_ring *ring = &pair->rings[writing ? end->side : !end->side];
    uint64_t deadline;
    ssize_t done = 0;
    int rc = 0;

    if (null_vector_empty(vector, count))
        return -EINVAL;
    pthread_mutex_lock(&pair->lock);
    deadline = end->timeout_ms ? drafter_now_ns() + (uint64_t)end->timeout_ms * 1000000 : 0;
    for (;;) {
        if (!end->cancelled && !(writing && ring->gone))
            for (int i = 0; i < count; i++)
                done += (ssize_t)null_ring_move(pair, ring, &vector[i], writing);
        if (done > 0)
            break;
        done = null_end_state(end, ring, writing);
        if (done <= 0)
            break;
        done = rc; /* the deadline passed and there is still nothing */
        if (done < 0)
            break;
        rc = null_cond_wait(&ring->changed, &pair->lock, deadline);
    }
    if (done > 0)
        pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&pair->lock);
    return done;
}

ssize_t null_end_read(struct null_end *end, const struct iovec *vector, int count)
{
    return null_end_transfer(end, vector, count, false);
}

ssize_t null_end_write(struct null_end *end, const struct iovec *vector, int count)
{
    return null_end_transfer(end, vector, count, true);
}

ssize_t null_end_unsent(struct null_end *end)
{
    ssize_t bytes;

    pthread_mutex_lock(&end->pair->lock);
    bytes = (ssize_t)end->pair->rings[end->side].used;
    pthread_mutex_unlock(&end->pair->lock);
    return bytes;
}

void null_end_set_timeout(struct null_end *end, unsigned timeout_ms)
{
    pthread_mutex_lock(&end->pair->lock);
    end->timeout_ms = timeout_ms;
    pthread_mutex_unlock(&end->pair->lock);
}

static void null_end_shutdown_locked(struct null_end *end)
{
    struct null_ring *outgoing = &end->pair->rings[end->side];
    struct null_ring *incoming = &end->pair->rings[!end->side];

    end->cancelled = true;
    outgoing->ended = true;
    incoming->gone = true;
    pthread_cond_broadcast(&outgoing->changed);
    pthread_cond_broadcast(&incoming->changed);
}

void null_end_shutdown(struct null_end *end)
{
    pthread_mutex_lock(&end->pair->lock);
    null_end_shutdown_locked(end);
    pthread_mutex_unlock(&end->pair->lock);
}

void null_end_free(struct null_end *end)
{
    struct null_pair *pair = end->pair;
    bool last;

    pthread_mutex_lock(&pair->lock);
    null_end_shutdown_locked(end);
    last = --pair->references == 0;
    pthread_mutex_unlock(&pair->lock);
    if (last)
        null_pair_free(pair);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two ends of a stream inside one process: a bounded ring of bytes in each direction, under one lock.
 */
#ifndef NULL_PAIR_H
#define NULL_PAIR_H

#include <drafter/transport.h>
#include <pthread.h>

#define NULL_NAME_MAX 256

struct null_pair;

struct null_end {
    struct null_pair *pair;
    unsigned side;       /* writes ring[side], reads ring[!side] */
    unsigned timeout_ms; /* protected by the pair's lock */
    bool cancelled;      /* protected by the pair's lock */
    char name[NULL_NAME_MAX];

    /* Of the hub, and protected by its lock: the queue of a listener or the list of an instance. */
    struct null_instance *owner;
    struct null_end *previous, *next;
};

/* A condition variable on CLOCK_MONOTONIC. */
void null_cond_init(pthread_cond_t *cond);

/* Waits until `deadline` (drafter_now_ns(), 0: for ever): 0 or -ETIMEDOUT. */
int null_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline);

/* Two connected ends with `size` bytes of room in each direction; 0 or -ENOMEM. */
int null_pair_new(size_t size, struct null_end *ret_ends[2]);

ssize_t null_end_read(struct null_end *end, const struct iovec *vector, int count);
ssize_t null_end_write(struct null_end *end, const struct iovec *vector, int count);
ssize_t null_end_unsent(struct null_end *end);
void null_end_set_timeout(struct null_end *end, unsigned timeout_ms);
void null_end_shutdown(struct null_end *end);

/* Shuts down; the pair goes with its second end. */
void null_end_free(struct null_end *end);

#endif

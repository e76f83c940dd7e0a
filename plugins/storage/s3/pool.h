/* SPDX-License-Identifier: BSD-2-Clause */
/* A few threads that do jobs: uploads, reading ahead, deletions. */
#ifndef S3_POOL_H
#define S3_POOL_H

#include <stdbool.h>

struct pool;

/* Owned by who queues it; the pool's until run() begins, which may free or queue it again. */
struct pool_job {
    struct pool_job *next;
    void (*run)(struct pool_job *job);
};

struct pool *pool_new(unsigned threads); /* NULL: no memory, or no thread could be started */

/* Never blocks. */
void pool_queue(struct pool *pool, struct pool_job *job);

/* Waits until no job is queued or running. */
void pool_drain(struct pool *pool);

/* Runs what is queued, then ends the threads. */
void pool_free(struct pool *pool);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that work on items side by side; the caller gets them back in the order in which it gave them. */
#ifndef PACK_POOL_H
#define PACK_POOL_H

#include <drafter/common.h>

struct pool;

struct pool_ops {
    void *(*worker_new)(void *opaque); /* what a thread keeps; NULL: no memory */
    void (*worker_free)(void *worker);
    void (*work)(void *opaque, void *worker, void *item);
    void *opaque;
};

/* `threads` 0: one for each processor.  At most `depth` items are under way. */
int pool_new(unsigned threads, unsigned depth, const struct pool_ops *ops, struct pool **ret_pool,
             struct drafter_error *err);

/* Waits for what is under way.  NULL is allowed. */
void pool_free(struct pool *pool);

/* The following from one thread: no room for another item; gives one; waits for the oldest, NULL: there is none. */
bool pool_is_full(const struct pool *pool);
void pool_give(struct pool *pool, void *item);
void *pool_take(struct pool *pool);

unsigned pool_threads(unsigned wanted);

#endif

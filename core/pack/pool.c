/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/pool.h"

#include "util/cleanup.h"

#include <sched.h>

#define THREADS_MAX 256

struct slot {
    void *item;
    bool done;
};

struct pool {
    struct pool_ops ops;
    pthread_t threads[THREADS_MAX];
    void *workers[THREADS_MAX];
    unsigned thread_count, depth;

    pthread_mutex_t lock;
    pthread_cond_t given, done;
    /* Under `lock`; `first` and `last` only change in the caller's thread: */
    struct slot *slots;          /* a ring: the number of an item modulo `depth` */
    uint64_t first, next, last; /* the oldest, the first that nobody works on, the one after the newest */
    bool ending;
};

struct start {
    struct pool *pool;
    void *worker;
};

static void *worker_main(void *opaque)
{
    struct start *start = opaque;
    struct pool *pool = start->pool;
    void *worker = start->worker;

    free(start);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct slot *slot;

        while (pool->next == pool->last && !pool->ending)
            pthread_cond_wait(&pool->given, &pool->lock);
        if (pool->next == pool->last)
            break;
        slot = &pool->slots[pool->next++ % pool->depth];
        pthread_mutex_unlock(&pool->lock);
        pool->ops.work(pool->ops.opaque, worker, slot->item);
        pthread_mutex_lock(&pool->lock);
        slot->done = true;
        pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int start_worker(struct pool *pool)
{
    struct start *start = malloc(sizeof(*start));
    void *worker = pool->ops.worker_new(pool->ops.opaque);

    if (start && worker) {
        *start = (struct start){pool, worker};
        if (!pthread_create(&pool->threads[pool->thread_count], NULL, worker_main, start)) {
            pool->workers[pool->thread_count++] = worker;
            return 0;
        }
    }
    free(start);
    if (worker)
        pool->ops.worker_free(worker);
    return -EAGAIN;
}

unsigned pool_threads(unsigned wanted)
{
    cpu_set_t set;

    if (!wanted)
        wanted = sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
    return wanted < THREADS_MAX ? wanted : THREADS_MAX;
}

int pool_new(unsigned threads, unsigned depth, const struct pool_ops *ops, struct pool **ret_pool,
             struct drafter_error *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    threads = pool_threads(threads);
    if (!pool || !(pool->slots = calloc(depth, sizeof(*pool->slots)))) {
        free(pool);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    pool->ops = *ops;
    pool->depth = depth;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->given, NULL);
    pthread_cond_init(&pool->done, NULL);
    while (pool->thread_count < threads && !start_worker(pool))
        ;
    if (!pool->thread_count) {
        pool_free(pool);
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    }
    *ret_pool = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->given);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++) {
        pthread_join(pool->threads[i], NULL);
        pool->ops.worker_free(pool->workers[i]);
    }
    pthread_cond_destroy(&pool->given);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slots);
    free(pool);
}

bool pool_is_full(const struct pool *pool)
{
    return pool->last - pool->first == pool->depth;
}

void pool_give(struct pool *pool, void *item)
{
    lock_scope(&pool->lock);
    pool->slots[pool->last++ % pool->depth] = (struct slot){.item = item};
    pthread_cond_signal(&pool->given);
}

void *pool_take(struct pool *pool)
{
    struct slot *slot = &pool->slots[pool->first % pool->depth];

    if (pool->first == pool->last)
        return NULL;
    lock_scope(&pool->lock);
    while (!slot->done)
        pthread_cond_wait(&pool->done, &pool->lock);
    pool->first++;
    return slot->item;
}

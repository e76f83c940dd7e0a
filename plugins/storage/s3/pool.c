/* SPDX-License-Identifier: BSD-2-Clause */
#include "pool.h"

#include "util/cleanup.h"

#define STACK (256 << 10) /* curl and zstd, which keep their state in the heap */

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t queued, done;
    struct pool_job *first, **last; /* all below under `lock` */
    unsigned busy;
    bool ending;
    unsigned count;
    pthread_t threads[];
};

static struct pool_job *next_job(struct pool *pool)
{
    struct pool_job *job;

    lock_scope(&pool->lock);
    while (!pool->first && !pool->ending)
        pthread_cond_wait(&pool->queued, &pool->lock);
    job = pool->first;
    if (!job)
        return NULL;
    pool->first = job->next;
    if (!pool->first)
        pool->last = &pool->first;
    pool->busy++;
    return job;
}

static void finish_job(struct pool *pool)
{
    lock_scope(&pool->lock);
    if (--pool->busy == 0 && !pool->first)
        pthread_cond_broadcast(&pool->done);
}

static void *work(void *opaque)
{
    struct pool *pool = opaque;
    struct pool_job *job;

    while ((job = next_job(pool))) {
        job->run(job);
        finish_job(pool);
    }
    return NULL;
}

struct pool *pool_new(unsigned threads)
{
    struct pool *pool = calloc(1, sizeof *pool + threads * sizeof *pool->threads);
    pthread_attr_t attributes;

    if (!pool)
        return NULL;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->queued, NULL);
    pthread_cond_init(&pool->done, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    while (pool->count < threads &&
           pthread_create(&pool->threads[pool->count], &attributes, work, pool) == 0)
        pool->count++;
    pthread_attr_destroy(&attributes);
    if (pool->count == 0) {
        pool_free(pool);
        return NULL;
    }
    return pool;
}

void pool_queue(struct pool *pool, struct pool_job *job)
{
    lock_scope(&pool->lock);
    job->next = NULL;
    *pool->last = job;
    pool->last = &job->next;
    pthread_cond_signal(&pool->queued);
}

void pool_drain(struct pool *pool)
{
    lock_scope(&pool->lock);
    while (pool->first || pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->queued);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->queued);
    pthread_cond_destroy(&pool->done);
    free(pool);
}

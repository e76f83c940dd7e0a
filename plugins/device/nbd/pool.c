/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The threads on which requests that may wait are served: reads of missing blocks on so many, flushes
 * and everything else on others, so that those go on however many blocks are missing.
 *
 * All are made at the start, because a thread that has to be made when memory is short may wait for the
 * very write-back that it is to serve.
 */
#include "server.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define POOL_OTHERS_MIN 4
#define POOL_STACK_SIZE ((size_t)256 << 10)

struct worker {
    struct pool *pool;
    enum pool_class class;
    pthread_t thread;
    char *buffer;
};

int pool_thread(pthread_t *thread, void *(*run)(void *), void *opaque)
{
    pthread_attr_t attributes;
    sigset_t all, old;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, POOL_STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(thread, &attributes, run, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

void pool_settle_thread(void)
{
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* needs a capability; without it works as well as FUSE does */
}

/* Page-aligned, and memory only when it is used. */
char *pool_buffer_new(void)
{
    char *buffer = mmap(NULL, SERVER_CHUNK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return buffer == MAP_FAILED ? NULL : buffer;
}

void pool_buffer_free(char *buffer)
{
    if (buffer)
        munmap(buffer, SERVER_CHUNK);
}

void pool_submit(struct pool *pool, struct job *job, enum pool_class class)
{
    struct queue *queue = &pool->queues[class];

    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    if (queue->last)
        queue->last->next = job;
    else
        queue->first = job;
    queue->last = job;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&pool->lock);
}

/* Unlinks a connection's jobs; they come back as a list. */
static struct job *unlink_jobs(struct queue *queue, const struct conn *conn)
{
    struct job *taken = NULL, *job, **at = &queue->first;

    queue->last = NULL;
    while ((job = *at)) {
        if (job->conn != conn) {
            queue->last = job;
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->next = taken;
        taken = job;
    }
    return taken;
}

void pool_cancel(struct pool *pool, struct conn *conn)
{
    for (unsigned class = 0; class < 2; class++) {
        struct job *jobs, *next;

        pthread_mutex_lock(&pool->lock);
        jobs = unlink_jobs(&pool->queues[class], conn);
        pthread_mutex_unlock(&pool->lock);
        for (; jobs; jobs = next) {
            next = jobs->next;
            conn_release_job(jobs);
        }
    }
}

/* The next job, or NULL at the end. */
static struct job *take(struct pool *pool, struct queue *queue)
{
    struct job *job;

    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping && !queue->first)
        pthread_cond_wait(&queue->filled, &pool->lock);
    job = queue->first;
    if (job) {
        queue->first = job->next;
        if (!queue->first)
            queue->last = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct job *job;

    pool_settle_thread();
    while ((job = take(worker->pool, &worker->pool->queues[worker->class]))) {
        conn_run_job(job, worker->buffer);
        conn_release_job(job);
    }
    return NULL;
}

int pool_start(struct pool *pool, unsigned reads_max, struct drafter_error *err)
{
    unsigned others = reads_max / 4 > POOL_OTHERS_MIN ? reads_max / 4 : POOL_OTHERS_MIN;
    int result = 0;

    *pool = (struct pool){0};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->queues[0].filled, NULL);
    pthread_cond_init(&pool->queues[1].filled, NULL);
    pool->workers = calloc(reads_max + others, sizeof(*pool->workers));
    if (!pool->workers)
        return drafter_error_set(err, ENOMEM, "no memory for %u threads", reads_max + others);
    while (pool->count < reads_max + others && result == 0) {
        struct worker *worker = &pool->workers[pool->count];

        *worker = (struct worker){.pool = pool,
                                  .class = pool->count < reads_max ? POOL_READS : POOL_OTHERS,
                                  .buffer = pool_buffer_new()};
        result = worker->buffer ? pool_thread(&worker->thread, work, worker) : -ENOMEM;
        if (result == 0)
            pool->count++;
        else
            pool_buffer_free(worker->buffer);
    }
    if (result == 0)
        return 0;
    pool_stop(pool);
    return drafter_error_errno(err, -result, "cannot start %u threads", reads_max + others);
}

void pool_stop(struct pool *pool)
{
    if (!pool->workers)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->queues[0].filled);
    pthread_cond_broadcast(&pool->queues[1].filled);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        pool_buffer_free(pool->workers[i].buffer);
    }
    free(pool->workers);
    pool->workers = NULL;
    pool->count = 0;
}

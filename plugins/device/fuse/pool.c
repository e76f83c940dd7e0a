/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The threads that read /dev/fuse.
 *
 * All are made at the start, because a thread that has to be made when memory is short may wait for
 * the very write-back that it is to serve; but the first few do until the others are there, and
 * nobody waits for those.  Only few of them read the device at a time; the others
 * are parked until the readers become scarce.  So an idle or lightly used mount touches the buffers
 * of a handful of threads, and still `threads` reads of missing blocks can wait at the same time.
 *
 * Reads occupy at most `reads_max` workers; further ones are queued without their data (they have
 * none) and taken up by a worker that ends its read.  The remaining workers are thus always left
 * for writes, flushes and interrupts, however many blocks are missing.
 */
#include "service.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define POOL_RESERVE_MIN 4
#define POOL_RECEIVERS_MIN 2
#define POOL_RECEIVERS_MAX 4
#define POOL_STACK_SIZE ((size_t)256 << 10)
#define POOL_PAGE ((size_t)4096)

/* Headers in front of the data of a WRITE: fuse_in_header and fuse_write_in. */
#define POOL_WRITE_HEADER ((size_t)80)
/* A page for the headers, the data, and what libfuse may read beyond max_write. */
#define POOL_MEMORY (POOL_PAGE + SERVICE_TRANSFER_MAX + POOL_PAGE)

struct worker {
    struct pool *pool;
    pthread_t thread;
    char *memory;
    struct fuse_buf request;
    bool populated; /* its memory is there */
};

/*
 * Set once by each worker for itself: libfuse does not tell a handler on which buffer it runs.  A
 * thread works for one instance, so that instances share nothing by it.
 */
static __thread struct worker *pool_self; /* lint: see above */

void *pool_buffer(void)
{
    return pool_self->memory + POOL_PAGE;
}

bool pool_claim(struct pool *pool, struct read_job *job)
{
    bool claimed = false;

    pthread_mutex_lock(&pool->lock);
    if (pool->reading < pool->reads_max) {
        pool->reading++;
        claimed = true;
    } else {
        job->next = NULL;
        if (pool->last)
            pool->last->next = job;
        else
            pool->first = job;
        pool->last = job;
    }
    pthread_mutex_unlock(&pool->lock);
    return claimed;
}

struct read_job *pool_next(struct pool *pool)
{
    struct read_job *job;

    pthread_mutex_lock(&pool->lock);
    job = pool->first;
    if (job) {
        pool->first = job->next;
        if (!pool->first)
            pool->last = NULL;
    } else {
        pool->reading--;
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

/* Waits until this worker shall read the device; false at the end. */
static bool pool_await_turn(struct pool *pool)
{
    bool go;

    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping && pool->receiving >= POOL_RECEIVERS_MAX) {
        pool->parked++;
        pthread_cond_wait(&pool->turn, &pool->lock);
        pool->parked--;
    }
    go = !pool->stopping;
    pool->receiving++;
    pthread_mutex_unlock(&pool->lock);
    return go;
}

static void pool_received(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->receiving--;
    if (pool->receiving < POOL_RECEIVERS_MIN && pool->parked > 0)
        pthread_cond_signal(&pool->turn);
    pthread_mutex_unlock(&pool->lock);
}

/*
 * A kernel that copies a request into pages that are not there yet gives that up when the process is killed, and
 * answers the request with EIO instead of keeping it for the next one: a write-back would be lost.
 */
static void pool_populate(struct worker *worker)
{
    if (!worker->populated && madvise(worker->memory, POOL_MEMORY, MADV_POPULATE_WRITE))
        for (size_t at = 0; at < POOL_MEMORY; at += POOL_PAGE) /* before Linux 5.14 */
            *(volatile char *)(worker->memory + at) = 0;
    worker->populated = true;
}

static int pool_receive(struct worker *worker)
{
    int result, ignored;

    worker->request = (struct fuse_buf){
        .mem = worker->memory + POOL_PAGE - POOL_WRITE_HEADER, /* a write's data is page-aligned */
    };
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
    result = fuse_session_receive_buf(worker->pool->session, &worker->request);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    return result;
}

static void *pool_work(void *opaque)
{
    struct worker *worker = opaque;
    struct pool *pool = worker->pool;
    int result, ignored;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    prctl(PR_SET_NAME, "drafter-fuse");
    /* Reclaim on our behalf must not wait for pages that we write back; needs CAP_SYS_RESOURCE. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    pool_self = worker;
    while (pool_await_turn(pool)) {
        pool_populate(worker);
        result = pool_receive(worker);
        pool_received(pool);
        if (result == -EINTR || result == -EAGAIN)
            continue;
        if (result <= 0)
            break;
        keep_greeting(pool->kept, worker->request.mem, (size_t)result);
        fuse_session_process_buf(pool->session, &worker->request);
    }
    return NULL;
}

static int pool_start_worker(struct pool *pool, struct worker *worker)
{
    sigset_t all, old;
    pthread_attr_t attributes;
    int error;

    worker->pool = pool;
    worker->memory =
        mmap(NULL, POOL_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (worker->memory == MAP_FAILED) {
        worker->memory = NULL;
        return errno;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, POOL_STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&worker->thread, &attributes, pool_work, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        munmap(worker->memory, POOL_MEMORY);
        worker->memory = NULL;
    }
    return error;
}

static int pool_start_workers(struct pool *pool, unsigned count)
{
    int error = 0;

    while (!error && pool->worker_count < count) {
        error = pool_start_worker(pool, &pool->workers[pool->worker_count]);
        pool->worker_count += !error;
    }
    return error;
}

static void *pool_fill(void *opaque)
{
    struct pool *pool = opaque;
    unsigned reserve = pool->worker_limit - pool->reads_max;
    int error = pool_start_workers(pool, pool->worker_limit);

    if (!error)
        return NULL;
    pthread_mutex_lock(&pool->lock); /* some are still left for writes */
    pool->reads_max = pool->worker_count > reserve ? pool->worker_count - reserve : 1;
    pthread_mutex_unlock(&pool->lock);
    drafter_log(DRAFTER_LOG_WARNING, "fuse", "%u of %u threads serve, no more could be made: %s",
                pool->worker_count, pool->worker_limit, strerror(error));
    return NULL;
}

int pool_start(struct pool *pool, struct fuse_session *session, struct kept *kept,
               unsigned reads_max, struct drafter_error *err)
{
    unsigned reserve = reads_max / 4 > POOL_RESERVE_MIN ? reads_max / 4 : POOL_RESERVE_MIN;
    int error;

    *pool = (struct pool){.session = session,
                          .kept = kept,
                          .reads_max = reads_max,
                          .worker_limit = reads_max + reserve};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->turn, NULL);
    pool->workers = calloc(pool->worker_limit, sizeof(*pool->workers));
    if (!pool->workers)
        return drafter_error_set(err, ENOMEM, "no memory for %u threads", pool->worker_limit);
    error = pool_start_workers(pool, POOL_RECEIVERS_MAX);
    if (error)
        return drafter_error_errno(err, error, "cannot start thread %u of %u",
                                   pool->worker_count + 1, pool->worker_limit);
    error = pthread_create(&pool->filler, NULL, pool_fill, pool);
    pool->filling = error == 0;
    return error ? drafter_error_errno(err, error, "cannot start a thread") : 0;
}

static void pool_end_worker(struct worker *worker, bool joined)
{
    if (joined)
        munmap(worker->memory, POOL_MEMORY);
    else
        pthread_detach(worker->thread);
}

bool pool_stop(struct pool *pool, unsigned timeout_ms)
{
    struct timespec deadline;
    bool all = true, joined;

    if (!pool->workers)
        return true;
    if (pool->filling)
        pthread_join(pool->filler, NULL);
    pool->filling = false;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->turn);
    pthread_mutex_unlock(&pool->lock);
    fuse_session_exit(pool->session);
    for (unsigned i = 0; i < pool->worker_count; i++)
        pthread_cancel(pool->workers[i].thread);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    for (unsigned i = 0; i < pool->worker_count; i++) {
        joined = pthread_timedjoin_np(pool->workers[i].thread, NULL, &deadline) == 0;
        pool_end_worker(&pool->workers[i], joined);
        all = all && joined;
    }
    if (all) {
        free(pool->workers);
        pool->workers = NULL;
        pthread_cond_destroy(&pool->turn);
        pthread_mutex_destroy(&pool->lock);
    }
    return all;
}

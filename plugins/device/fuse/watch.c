/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads whose reader was killed.
 *
 * A process that is killed while one of its threads waits for a read goes away only when the read
 * is answered.  The backend's read cannot be ended from here, so the read is answered in its place
 * and its result is dropped.  The kernel sends one INTERRUPT for the first signal and nothing for a
 * later one, and any signal but a fatal one must not end a read: a failed page fault would kill the
 * VMM. So an interrupted read is watched, until it is answered or its reader has a SIGKILL pending.
 *
 * Lock order: a request's lock of libfuse, watch.lock, the session's lock of libfuse.
 */
#include "service.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WATCH_PERIOD_MS 50

/* True when the thread only waits to end, or is gone. */
static bool watch_is_killed(pid_t thread)
{
    unsigned long long own = 0, shared = 0, kill_bit = 1ULL << (SIGKILL - 1);
    char path[32], text[4096], *field;
    ssize_t got;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    got = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    field = strstr(text, "\nSigPnd:");
    if (field)
        own = strtoull(field + 8, NULL, 16);
    field = strstr(text, "\nShdPnd:");
    if (field)
        shared = strtoull(field + 8, NULL, 16);
    return (own | shared) & kill_bit;
}

/* libfuse calls it when an INTERRUPT has come; it only notes the read. */
static void watch_interrupted(fuse_req_t req, void *data)
{
    struct read_job *job = data;
    struct watch *watch = &job->service->watch;

    (void)req;
    pthread_mutex_lock(&watch->lock);
    if (!job->watched) {
        job->watched = true;
        job->watch_next = watch->first;
        watch->first = job;
        pthread_cond_signal(&watch->change);
    }
    pthread_mutex_unlock(&watch->lock);
}

/*
 * A read can be answered here only once it is READ_PENDING, because libfuse calls watch_interrupted
 * from within fuse_req_interrupt_func when the INTERRUPT came first, and the request must outlive
 * that.
 */
void watch_begin(struct read_job *job)
{
    fuse_req_interrupt_func(job->req, watch_interrupted, job);
    atomic_store(&job->state, READ_PENDING);
}

static void watch_forget(struct watch *watch, struct read_job *job)
{
    pthread_mutex_lock(&watch->lock);
    for (struct read_job **at = &watch->first; job->watched && *at; at = &(*at)->watch_next) {
        if (*at != job)
            continue;
        *at = job->watch_next;
        break;
    }
    pthread_mutex_unlock(&watch->lock);
}

bool watch_end(struct read_job *job)
{
    bool ours = atomic_exchange(&job->state, READ_DONE) != READ_ANSWERED;

    if (ours)
        fuse_req_interrupt_func(job->req, NULL, NULL); /* waits until watch_interrupted returned */
    watch_forget(&job->service->watch, job);
    return ours;
}

/* Answers what may be answered; a job in the list cannot be freed while the lock is held. */
static void watch_check(struct watch *watch)
{
    int expected;

    for (struct read_job *job = watch->first; job; job = job->watch_next) {
        expected = READ_PENDING;
        if (atomic_load(&job->state) == READ_PENDING && watch_is_killed(job->reader) &&
            atomic_compare_exchange_strong(&job->state, &expected, READ_ANSWERED))
            fuse_reply_err(job->req, EINTR);
    }
}

static void *watch_run(void *opaque)
{
    struct watch *watch = opaque;
    struct timespec next;

    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        if (!watch->first) {
            pthread_cond_wait(&watch->change, &watch->lock);
            continue;
        }
        watch_check(watch);
        clock_gettime(CLOCK_REALTIME, &next);
        next.tv_nsec += WATCH_PERIOD_MS * 1000000L;
        next.tv_sec += next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&watch->change, &watch->lock, &next);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

int watch_start(struct watch *watch, struct drafter_error *err)
{
    sigset_t all, old;
    int error;

    *watch = (struct watch){0};
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->change, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&watch->thread, NULL, watch_run, watch);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    watch->running = error == 0;
    return error ? drafter_error_errno(err, error, "cannot start a thread") : 0;
}

void watch_stop(struct watch *watch)
{
    if (!watch->running)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->change);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    watch->running = false;
}

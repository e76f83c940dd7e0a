/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting for events and for the end. */
#include "embed/internal.h"

#include "util/cleanup.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define MS UINT64_C(1000000)
#define DAY_MS 86400000u
#define KILL_MS 10000

uint64_t deadline_after(unsigned timeout_ms)
{
    return timeout_ms == DRAFTER_FOREVER ? UINT64_MAX : drafter_now_ns() + timeout_ms * MS;
}

unsigned deadline_left_ms(uint64_t deadline)
{
    uint64_t now = drafter_now_ns(), left;

    if (now >= deadline)
        return 0;
    left = (deadline - now - 1) / MS + 1;
    return left > DAY_MS ? DAY_MS : (unsigned)left;
}

int node_wait_change(struct drafter_node *node, uint64_t deadline)
{
    const struct timespec end = {.tv_sec = (time_t)(deadline / 1000 / MS),
                                 .tv_nsec = (long)(deadline % (1000 * MS))};

    if (gettid() == node->watcher_tid)
        return -EDEADLK;
    if (deadline == UINT64_MAX)
        return -pthread_cond_wait(&node->changed, &node->lock);
    return -pthread_cond_timedwait(&node->changed, &node->lock, &end);
}

/* Under the lock: how it ended, in the terms of drafter_node_wait(). */
static int conclude(const struct drafter_node *node, struct drafter_error *err)
{
    static const int codes[] = {0, EIO, EINVAL, ENOENT, EACCES, EBUSY, ECONNABORTED, ECANCELED, EINPROGRESS};
    int status = node->exit_status;
    const char *colon = *node->last_error ? ": " : "";

    if (status < 0)
        return drafter_error_set(err, ECHILD, "drafter ended, nobody knows how%s%s", colon, node->last_error);
    if (status > 128)
        return drafter_error_set(err, EIO, "drafter was ended by signal %d%s%s", status - 128, colon,
                                 node->last_error);
    if (status)
        return drafter_error_set(err, status < (int)(sizeof(codes) / sizeof(*codes)) ? codes[status] : EIO,
                                 "drafter ended with status %d%s%s", status, colon, node->last_error);
    return 0;
}

static int fail_wait(const char *what, int rc, struct drafter_error *err)
{
    if (rc == -EDEADLK)
        return drafter_error_set(err, EDEADLK, "a callback waits for what comes after it");
    return drafter_error_set(err, -rc, "%s", what);
}

static const struct drafter_event *find(const struct drafter_node *node, const char *name, uint64_t after)
{
    for (const struct record *record = node->records; record < node->records + RECORDS_MAX; record++)
        if (record->event && !strcmp(record->name, name) && record->event->number > after)
            return record->event;
    return NULL;
}

int drafter_node_await(struct drafter_node *node, const char *name, uint64_t after, unsigned timeout_ms,
                       struct drafter_event *ret_event, struct drafter_error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);
    const struct drafter_event *event;
    int rc = 0;

    lock_scope(&node->lock);
    while (!(event = find(node, name, after)) && !node->ended && !rc)
        rc = node_wait_change(node, deadline);
    if (event && ret_event)
        *ret_event = *event;
    if (event)
        return 0;
    if (!node->ended)
        return fail_wait("it did not happen in time", rc, err);
    rc = conclude(node, err);
    return rc ? rc : drafter_error_set(err, ESHUTDOWN, "drafter ended, and this did not happen");
}

static int wait_end(struct drafter_node *node, unsigned timeout_ms, struct drafter_error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);
    int rc = 0;

    lock_scope(&node->lock);
    while (!node->ended && !rc)
        rc = node_wait_change(node, deadline);
    return node->ended ? 0 : fail_wait("drafter has not ended in time", rc, err);
}

int drafter_node_wait(struct drafter_node *node, unsigned timeout_ms, struct drafter_error *err)
{
    int rc = wait_end(node, timeout_ms, err);

    if (rc)
        return rc;
    lock_scope(&node->lock);
    return conclude(node, err);
}

/* By the pidfd: the number may be another process's by now. */
static int send_signal(const struct drafter_node *node, int number, struct drafter_error *err)
{
    if (node->pidfd < 0 || !syscall(SYS_pidfd_send_signal, node->pidfd, number, NULL, 0) || errno == ESRCH)
        return 0;
    return drafter_error_errno(err, errno, "cannot signal drafter");
}

int drafter_node_stop(struct drafter_node *node, unsigned timeout_ms, struct drafter_error *err)
{
    int rc = send_signal(node, SIGTERM, err);

    return rc ? rc : drafter_node_wait(node, timeout_ms, err);
}

int drafter_node_kill(struct drafter_node *node, struct drafter_error *err)
{
    int rc = send_signal(node, SIGKILL, err);

    return rc ? rc : wait_end(node, KILL_MS, err);
}

pid_t drafter_node_pid(const struct drafter_node *node)
{
    return node->pid;
}

int drafter_node_exit_status(struct drafter_node *node)
{
    lock_scope(&node->lock);
    return node->exit_status;
}

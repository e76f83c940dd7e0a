/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of libdrafter share. */
#ifndef EMBED_INTERNAL_H
#define EMBED_INTERNAL_H

#include <drafter/embed.h>

#include <pthread.h>

/* Names of events that are remembered; drafter has half as many. */
#define RECORDS_MAX 64

/* The last event of a name. */
struct record {
    char name[DRAFTER_NAME_MAX + 1];
    struct drafter_event *event;
};

struct drafter_node {
    struct drafter_node_options options; /* only the callbacks; constant */
    pid_t pid;                           /* constant, as are the descriptors */
    int pidfd, log, over;                /* pidfd: -1 when it was gone at once; over: an eventfd, to let go of it */
    pthread_t watcher;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* by CLOCK_MONOTONIC */
    struct record records[RECORDS_MAX];       /* lock */
    char last_error[DRAFTER_ERROR_MAX];       /* lock: "" or what it said last */
    bool said_error;                          /* lock: that is an error, not just some text */
    pid_t watcher_tid;                        /* lock */
    bool ended;                               /* lock; after the last callback but `ended` */
    int exit_status;                          /* lock: -1 unknown */
};

/* ---- event.c */

/* Makes an event of a line; `ret_message` (DRAFTER_ERROR_MAX) is what it says to people. */
void event_read(const char *line, struct drafter_event *ret_event, char *ret_message);

/* ---- watch.c */

/* The argument of watch_main(), which frees it; NULL when out of memory. */
void *watch_new(struct drafter_node *node);

/* Reads the log until the process has ended, or `over` says so. */
void *watch_main(void *opaque);

/* ---- wait.c */

/* CLOCK_MONOTONIC in nanoseconds, UINT64_MAX for ever. */
uint64_t deadline_after(unsigned timeout_ms);

/* What is left of it in milliseconds, rounded up; at most a day, so that it fits everywhere. */
unsigned deadline_left_ms(uint64_t deadline);

/* Waits for a change, under the lock; -ETIMEDOUT after the deadline, -EDEADLK in a callback. */
int node_wait_change(struct drafter_node *node, uint64_t deadline);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* A message that others can cause as often as they like is told when it changes, and else once a minute. */
#ifndef UTIL_REPEAT_H
#define UTIL_REPEAT_H

#include <drafter/common.h>
#include <pthread.h>
#include <stdbool.h>

struct repeat {
    pthread_mutex_t lock; /* over all below */
    uint64_t told;        /* when, in nanoseconds */
    unsigned more;        /* how often the same came since */
    char message[DRAFTER_ERROR_MAX]; /* what was told; "": nothing yet */
};

#define REPEAT_INIT {.lock = PTHREAD_MUTEX_INITIALIZER}

/*
 * Whether to tell this at `now` (drafter_now_ns()), and how often the same came since it was told last.  Any
 * thread.
 */
bool repeat_tell(struct repeat *repeat, const char *message, uint64_t now, unsigned *ret_more);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the main thread of a role waits for: SIGINT, SIGTERM or SIGUSR2, the end of the VMM, and news from its
 * other threads.
 */
#ifndef ROLE_SUPERVISE_H
#define ROLE_SUPERVISE_H

#include <drafter/common.h>

enum wakeup {
    WAKEUP_SIGNAL,  /* the operator wants an end */
    WAKEUP_PROCESS, /* the VMM ended */
    WAKEUP_NEWS,    /* supervise_notify was called */
    WAKEUP_TIMEOUT,
    WAKEUP_REEXEC,  /* SIGUSR2: the operator wants another binary to go on */
};

struct supervisor {
    int signals, news, process;
};

/* Call before other threads exist: they inherit the blocked signals. */
int supervisor_init(struct supervisor *supervisor, struct drafter_error *err);
void supervisor_release(struct supervisor *supervisor);

/* Watches a process from now on; pid <= 0: none. */
void supervisor_watch(struct supervisor *supervisor, pid_t pid);

/* Any thread. */
void supervisor_notify(struct supervisor *supervisor);

/* Waits; timeout_ms -1 for ever. */
enum wakeup supervisor_wait(struct supervisor *supervisor, int timeout_ms);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the main thread of a role waits for: SIGINT, SIGTERM or SIGUSR2, the end of the VMM, and news from its
 * other threads.
 */
#ifndef ROLE_SUPERVISE_H
#define ROLE_SUPERVISE_H

#include <drafter/common.h>
#include <pthread.h>

enum wakeup {
    WAKEUP_SIGNAL,  /* the operator wants an end */
    WAKEUP_PROCESS, /* the VMM ended */
    WAKEUP_NEWS,    /* supervise_notify was called */
    WAKEUP_TIMEOUT,
    WAKEUP_REEXEC,  /* SIGUSR2: the operator wants another binary to go on */
};

struct supervisor {
    int signals, news, process;
    /* While the main thread does not wait here: */
    pthread_t teller;
    bool telling;        /* of the main thread */
    int told;            /* eventfd that ends the teller */
    const char *_Atomic doing;
    uint64_t since_ns;   /* constant while the teller runs */
    const char *subject; /* likewise */
};

/* Call before other threads exist: they inherit the blocked signals. */
int supervisor_init(struct supervisor *supervisor, struct drafter_error *err);
void supervisor_release(struct supervisor *supervisor);

/*
 * Watches a process from now on; 0: none.  The end of one that has ended already, also of one that has
 * no number any more (negative, as of vmm_pid), is told by the next wait.
 */
void supervisor_watch(struct supervisor *supervisor, pid_t pid);

/* Any thread. */
void supervisor_notify(struct supervisor *supervisor);

/*
 * The main thread does something that takes time and cannot be cut short without losing what it is for:
 * until supervisor_done, a further SIGINT or SIGTERM is answered in the log with what `doing` is and
 * for how long.  Calling it again only changes `doing`.  Both texts must live until supervisor_done.
 */
void supervisor_busy(struct supervisor *supervisor, const char *subject, const char *doing);
void supervisor_done(struct supervisor *supervisor);

/* Waits; timeout_ms -1 for ever. */
enum wakeup supervisor_wait(struct supervisor *supervisor, int timeout_ms);

#endif

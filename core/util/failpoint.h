/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Named steps of a migration at which a test may make a node die, stop, wait or fail:
 *
 *   DRAFTER_FAILPOINT=S11:kill     SIGKILL to itself, as kill -9
 *   DRAFTER_FAILPOINT=S4:stop      SIGSTOP to itself; whoever wants it to go on says SIGCONT
 *   DRAFTER_FAILPOINT=S8:error     EIO, where the step can fail at all
 *   DRAFTER_FAILPOINT=S7:pause=400 the thread waits for so many milliseconds (500 without a number)
 *
 * It is always compiled in.  Without the variable a step costs one comparison that is never true.  A step acts
 * once per process; both sides have their own variable.  An event "failpoint" is logged ahead.
 */
#ifndef UTIL_FAILPOINT_H
#define UTIL_FAILPOINT_H

#include <drafter/common.h>

/* In the order of the table in failpoint.c, which says where each is. */
enum failpoint {
    FAILPOINT_CONNECT,
    FAILPOINT_HELLO,
    FAILPOINT_PREFLIGHT,
    FAILPOINT_EXCHANGE,
    FAILPOINT_BULK,
    FAILPOINT_CYCLE,
    FAILPOINT_HOOK,
    FAILPOINT_PAUSED,
    FAILPOINT_SAVED,
    FAILPOINT_ANNOUNCED,
    FAILPOINT_RELINQUISHED,
    FAILPOINT_COMMIT,
    FAILPOINT_OWNED,
    FAILPOINT_LOADED,
    FAILPOINT_RESUMED,
    FAILPOINT_AFTER_RESUME,
    FAILPOINT_PULL,
    FAILPOINT_LAST_BLOCK,
    FAILPOINT_DONE,
    FAILPOINT_CLEANUP,
    FAILPOINT_COUNT
};

/* FAILPOINT_COUNT: none.  Set once, before there are threads. */
extern unsigned failpoint_armed;

/* Reads DRAFTER_FAILPOINT; an unknown step or action is refused.  From main only. */
int failpoint_setup(struct drafter_error *err);

/* Not to be called but by failpoint. */
int failpoint_act(enum failpoint step);

/* 0, or -EIO when the step is to fail.  Steps that cannot fail ignore it.  Any thread. */
static inline int failpoint(enum failpoint step)
{
    return __builtin_expect(failpoint_armed == (unsigned)step, 0) ? failpoint_act(step) : 0;
}

#endif

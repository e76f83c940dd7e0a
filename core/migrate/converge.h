/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When to suspend: after each pass, is another one worth it?  Pure arithmetic on what was measured.
 */
#ifndef MIGRATE_CONVERGE_H
#define MIGRATE_CONVERGE_H

#include <drafter/common.h>

/*
 * The limits of a device as the original had them: with any of them set, the device is ready after
 * more than `min_cycles` passes that each left fewer than `max_dirty_blocks` dirty, or after
 * `max_cycles` passes.
 */
struct converge_limits {
    bool set;
    uint64_t max_dirty_blocks, min_cycles, max_cycles;
    uint64_t cycle_throttle_ns; /* pause between passes */
};

struct converge_device {
    struct converge_limits limits;
    uint64_t quiet, cycles;
};

struct converge {
    uint64_t downtime_limit_ns; /* suspend when the rest is predicted to take no longer, and does
                                   not get clearly smaller by another pass */
    unsigned max_passes;        /* suspend after so many whatever they left; at least 1 */
    bool postcopy;              /* the guest may run while pages are missing */
    unsigned pass, stalled;     /* stalled: passes in a row that did not shrink what is left */
    uint64_t previous_left;     /* bytes */
    uint64_t predicted_ns;      /* out: of the last judgement */
};

/* What a pass did. */
struct converge_pass {
    uint64_t sent_bytes, duration_ns; /* on the wire, and until the destination had it */
    uint64_t left_bytes;              /* written by the guest meanwhile */
};

/* True: suspend now. */
bool converge_judge(struct converge *converge, const struct converge_pass *pass);

/* The original's rule for one device; true once it is ready.  `dirty_blocks` are left after a pass. */
bool converge_device_ready(struct converge_device *device, uint64_t dirty_blocks);

#endif

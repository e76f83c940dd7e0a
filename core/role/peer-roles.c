/* SPDX-License-Identifier: BSD-2-Clause */
/* Roles that are a peer with less: a runner runs files, a mounter and a terminator have no VM. */
#include "role/peer-roles.h"

#include "role/peer.h"

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct peer_options, field_),   \
     .default_value = default_, .help = help_}
#define EXPOSURE                                                                                   \
    OPTION("exposure", STRING, exposure, DEFAULT_EXPOSURE,                                         \
           "id of an [exposure:ID] section, or a device plugin")
#define TRANSPORT                                                                                  \
    OPTION("transport", STRING, transport, DEFAULT_TRANSPORT,                                      \
           "id of a [transport:ID] section, or a transport plugin")
#define DEPARTURE                                                                                  \
    {.key = "max-passes", .type = DRAFTER_OPTION_UINT,                                             \
     .offset = offsetof(struct peer_options, max_passes), .default_value = "30", .minimum = 1,     \
     .maximum = 1 << 20, .help = "passes after which the rest is sent whatever it is"},            \
        OPTION("downtime-limit", DURATION, downtime_limit, "300ms",                                \
               "how long sending the rest may be predicted to take")
#define ARRIVAL                                                                                    \
    TRANSPORT,                                                                                     \
        OPTION("overwrite", BOOL, overwrite, "no", "receive into files that hold something"),      \
        {.key = "streams", .type = DRAFTER_OPTION_UINT,                                            \
         .offset = offsetof(struct peer_options, streams), .default_value = "2", .minimum = 1,     \
         .maximum = WIRE_STREAMS_MAX - 2, .help = "bulk streams of an arrival"},                   \
        OPTION("relink-timeout", DURATION, relink_timeout, "10s",                                  \
               "how long to look for a lost source before it keeps its VM"),                       \
    {                                                                                              \
        .key = "max-size", .type = DRAFTER_OPTION_SIZE,                                            \
        .offset = offsetof(struct peer_options, max_size), .default_value = "1T", .minimum = 4096, \
        .help = "the most that all devices that arrive may have together"                          \
    }

const struct drafter_option runner_option_table[] = {
    OPTION("vmm", STRING, vmm, DEFAULT_VMM, "id of a [vmm:ID] section, or a VMM plugin"),
    EXPOSURE,
    SLOT_OPTIONS(struct peer_options),
    OPTION("resume-timeout", DURATION, resume_timeout, "1m",
           "how long the VMM may take to start, and the guest to answer"),
    OPTION("rescue-timeout", DURATION, rescue_timeout, "5s",
           "how long saving the guest may take when something failed after its resume"),
    OPTION("hook-timeout", DURATION, hook_timeout, "10s", "how long a hook in the guest may take"),
    TRANSPORT, /* for one that is made migratable while it runs */
    DEPARTURE,
    OPTION("relink-timeout", DURATION, relink_timeout, "10s",
           "how long to wait for a peer whose link broke before the hand-over"),
    PEER_PACKAGE_OPTIONS,
    DRAFTER_OPTION_END,
};

const struct drafter_option mounter_option_table[] = {
    OPTION("connect", STRING, connect, NULL,
           "address to take the devices from; without it they are in local files"),
    OPTION("listen", STRING, listen, NULL, "address at which they can be taken"),
    ARRIVAL,
    EXPOSURE,
    DEPARTURE,
    DRAFTER_OPTION_END,
};

const struct drafter_option terminator_option_table[] = {
    OPTION("connect", STRING, connect, NULL, "address to take the VM from"),
    ARRIVAL,
    DRAFTER_OPTION_END,
};

int runner_run(struct node *node, struct drafter_error *err)
{
    return peer_run_as(node, PEER_RUNS, "runner", runner_option_table, err);
}

int mounter_run(struct node *node, struct drafter_error *err)
{
    return peer_run_as(node, PEER_MOUNTS, "mounter", mounter_option_table, err);
}

int terminator_run(struct node *node, struct drafter_error *err)
{
    return peer_run_as(node, PEER_BACKS_UP, "terminator", terminator_option_table, err);
}

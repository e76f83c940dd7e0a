/* SPDX-License-Identifier: BSD-2-Clause */
/* The snapshotter: boots a guest, waits until it is alive, pauses it and writes a package. */
#ifndef ROLE_SNAPSHOTTER_H
#define ROLE_SNAPSHOTTER_H

#include "role/node.h"

struct snapshotter_options {
    const char *vmm, *boot_args, *network, *netns;
    uint64_t memory_size, cpu_count, resume_timeout, hook_timeout, settle, agent_port;
    bool agent, liveness;
};

extern const struct drafter_option snapshotter_option_table[];

int snapshotter_run(struct node *node, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* NAT: makes a pool of network slots for the VMs of this host, keeps it, and removes it at its end. */
#ifndef ROLE_NAT_H
#define ROLE_NAT_H

#include "config/flags.h"
#include "role/node.h"

/* [nat] */
struct nat_options {
    const char *network, *before_create, *before_remove;
    uint64_t hook_timeout, reclaim_interval;
};

extern const struct drafter_option nat_option_table[];
extern const struct config_flag nat_flags[];

int nat_run(struct node *node, struct drafter_error *err);

/* `drafter nat status`: prints the slots and forwards of the pool to standard output. */
int nat_status(struct node *node, bool json, struct drafter_error *err);

#endif

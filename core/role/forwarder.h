/* SPDX-License-Identifier: BSD-2-Clause */
/* Forwarder: ports of the host that lead to ports of VMs, for as long as it runs. */
#ifndef ROLE_FORWARDER_H
#define ROLE_FORWARDER_H

#include "config/flags.h"
#include "role/node.h"

/* [forwarder] */
struct forwarder_options {
    const char *network;
    uint64_t check_interval;
};

/* [forward:ID] */
struct forward_options {
    const char *netns, *external_address;
    uint64_t internal_port;
    int protocol;
};

extern const struct drafter_option forwarder_option_table[];
extern const struct drafter_option forward_option_table[];
extern const struct config_flag forwarder_flags[];

int forwarder_run(struct node *node, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* The place of a VM in the network: a slot of a pool, claimed before its VMM starts, given back after. */
#ifndef ROLE_SLOT_H
#define ROLE_SLOT_H

#include "plugin/network.h"
#include "role/node.h"

struct slot {
    struct instance *network; /* borrowed; NULL: the VMM has networking of its own */
    struct drafter_network_slot claimed;
    bool taken;
};

/* Keys of the roles that run a VM.  `options_` is the struct, with members network and netns. */
#define SLOT_OPTIONS(options_)                                                                     \
    {.key = "network", .type = DRAFTER_OPTION_STRING, .offset = offsetof(options_, network),       \
     .help = "id of a [network:ID] section, or a network plugin: the VM gets a slot of its pool"},  \
    {                                                                                              \
        .key = "netns", .type = DRAFTER_OPTION_STRING, .offset = offsetof(options_, netns),        \
        .help = "slot to claim; without it any that is free"                                       \
    }

/*
 * Claims the slot `netns` (NULL: any) of `network` for the node's VM; without either nothing is claimed.
 * A slot without a network is one of the default network plugin.
 */
int slot_claim(struct slot *slot, struct node *node, const char *network, const char *netns,
               struct drafter_error *err);

/* Its plugin, ahead of the claim; nothing is claimed by that. */
int slot_open(struct slot *slot, struct node *node, const char *network, const char *netns,
              struct drafter_error *err);

/* Whether a VM that outlives its drafter can keep its slot; without one it can. */
bool slot_adoptable(const struct slot *slot);

/* As slot_claim, of what a drafter that died had; the VM goes on without a slot that is not there any more. */
int slot_adopt(struct slot *slot, struct node *node, const char *network, const char *netns,
               struct drafter_error *err);

/* The guest is here: what fails is only logged.  Nothing without a slot. */
void slot_announce(const struct slot *slot);

/* The guest is elsewhere, or going there: this host does not answer for it.  Nothing without a slot. */
void slot_withdraw(const struct slot *slot);

/* Gives the slot back; nothing without one.  The VMM must have ended. */
void slot_release(struct slot *slot);

/* Where the VMM starts; each NULL without a slot, or where the network has nothing of the kind. */
void slot_place(const struct slot *slot, const char **ret_netns, const char **ret_tap,
                const char **ret_mac);

#endif

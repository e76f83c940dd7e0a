/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network plugins provide the network slots that VMs run in: a namespace with a tap, whose guest
 * always has the same address and MAC, and one unique address outside.
 */
#ifndef DRAFTER_NETWORK_H
#define DRAFTER_NETWORK_H

#include <drafter/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One claimed slot.  Empty strings where a plugin has nothing of the kind. */
struct drafter_network_slot {
    char netns[128];  /* path of the namespace; empty: the process's own */
    char tap[16];     /* interface name inside it; empty: none */
    char mac[18];     /* of the guest, "02:0e:d9:fd:68:3d" */
    char address[64]; /* unique address of the VM as seen from outside */
    char name[64];    /* what claim() would take to mean this slot; release() goes by it */
};

struct drafter_network_ops {
    /* Claims the named slot, or any free one when `name` is NULL, for `owner`.  Mandatory. */
    int (*claim)(void *instance, const char *name, const char *owner,
                 struct drafter_network_slot *ret_slot, struct drafter_error *err);

    /* Tells the network that the guest is here now (gratuitous ARP, unsolicited NA).  Optional. */
    int (*announce)(void *instance, const struct drafter_network_slot *slot,
                    struct drafter_error *err);

    /* Gives a slot back.  Mandatory. */
    void (*release)(void *instance, const struct drafter_network_slot *slot);
};

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a plugin adds to the code that all plugins with namespaces share: the packet filter's rules.
 * All calls act on the network namespace of the thread.
 *
 * In the host's namespace the rules
 *   - let VMs out under the host's address, where they do not keep their own;
 *   - drop what a VM sends from an address that is not its slot's, or to a loopback address;
 *   - drop what passes between a VM and the blocked subnet, and, when slots lie in that, what passes
 *     between VMs under the addresses of their links;
 *   - translate forwards, and the source of what would otherwise not find back: packets from
 *     a loopback address, and from a VM to a forward.
 * In a slot's namespace they translate between the guest's address and the slot's, drop what could not
 * be translated, and, unless incoming traffic is allowed, connections from outside.
 */
#ifndef NETWORK_RULES_H
#define NETWORK_RULES_H

#include "forward.h"
#include "layout.h"

struct rules_forward {
    struct forward_host host;
    struct address target; /* the slot's */
    uint16_t port;
};

struct rules_forwards {
    struct rules_forward *items;
    size_t count;
};

struct rules_backend {
    const char *name; /* the plugin's */

    /*
     * Puts the pool's rules in place of whatever it had before, in one change.  `guard` is a
     * descriptor that a program which changes rules has to inherit: the locks on it keep others away
     * until that program has ended too, when this process is killed.
     */
    int (*host_apply)(const void *config, const struct layout *layout,
                      const struct rules_forwards *forwards, int guard, struct drafter_error *err);

    /* These and no other forwards, in one change. */
    int (*host_forwards)(const void *config, const struct layout *layout,
                         const struct rules_forwards *forwards, int guard,
                         struct drafter_error *err);

    /* 0 also when there are none. */
    int (*host_remove)(const void *config, const struct layout *layout, int guard,
                       struct drafter_error *err);

    /* The rules within the namespace of a slot, which has none.  Several threads at the same time. */
    int (*slot_apply)(const void *config, const struct layout *layout, uint32_t slot,
                      struct drafter_error *err);
};

/* Whether VMs are to be kept from each other under any address. */
static inline bool rules_isolate(const struct layout_family *family)
{
    return address_overlap(&family->blocked, &family->namespace_veth);
}

#endif

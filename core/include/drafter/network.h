/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network plugins provide the network slots that VMs run in: a namespace with a tap, whose guest
 * always has the same address and MAC, and one unique address outside.
 *
 * All slots of a host form a pool.  One process makes it, pool_open(), and removes it, pool_close();
 * any process claims a slot of it, and any process forwards ports of the host to one.  They find each
 * other through the state directory that their instances are configured with (the null plugin has
 * none: its pool is the instance).  "The host" is the network namespace of the thread that calls;
 * every call returns in the one in which it began.
 *
 * A slot and a forward belong to the process that took them, for as long as it lives: one that dies
 * without giving back is found out by whoever claims next, by reclaim() and by the next pool_open().
 */
#ifndef DRAFTER_NETWORK_H
#define DRAFTER_NETWORK_H

#include <drafter/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One slot.  Empty strings where a plugin has nothing of the kind. */
struct drafter_network_slot {
    char netns[128];  /* path of the namespace; empty: the process's own */
    char tap[16];     /* interface name inside it; empty: none */
    char mac[18];     /* of the guest, "02:0e:d9:fd:68:3d" */
    char address[64]; /* unique address of the VM as seen from outside */
    char name[64];    /* what claim() would take to mean this slot; release() goes by it */
    char address6[64]; /* as `address`, IPv6 */
    char guest[64];    /* address of the guest with the length of its prefix, "172.16.0.2/30" */
    char gateway[64];  /* of the guest, "172.16.0.1" */
    char guest6[64];   /* as `guest`, IPv6 */
    char gateway6[64]; /* as `gateway`, IPv6 */
};

/* What list() tells of a slot. */
struct drafter_network_status {
    struct drafter_network_slot slot;
    char owner[64];         /* empty: free */
    int64_t pid;            /* of the process that claimed it; 0: free */
    bool stale;             /* that process has ended, the next claim or reclaim() frees the slot */
    bool announced;         /* announce() made this host answer for the slot's address */
    char host_interface[16]; /* the host's end of the slot's link; empty: none */
    char host_address[64];  /* of that end */
    char host_address6[64];
};

/* Packets to a port of the host go to a port of a guest.  Zero-initialise it. */
struct drafter_network_forward {
    char slot[64];         /* its name */
    uint8_t protocol;      /* IPPROTO_TCP or IPPROTO_UDP */
    char host_address[64]; /* numeric IPv4 or IPv6, no brackets: an interface's, a loopback address, or
                              0.0.0.0 or ::, that is every address of the host in this family */
    uint16_t host_port;
    uint16_t guest_port;   /* of the guest's address in the family of host_address */
    char owner[64];        /* who asked, 1 to DRAFTER_NAME_MAX characters; told to whoever collides */
};

/*
 * Called before a namespace is made and before one is removed, with the name of its slot; one at a
 * time, on the thread that called pool_open() or pool_close(), in the host's namespace.  A failure of
 * before_create ends pool_open() with it, and what was made is removed; one of before_remove is
 * logged and the removal goes on.  Either may be NULL.
 */
struct drafter_network_hooks {
    void *context;
    int (*before_create)(void *context, const char *slot, struct drafter_error *err);
    int (*before_remove)(void *context, const char *slot, struct drafter_error *err);
};

/* Receives one entry, valid until it returns; a negative errno ends the list, which then returns it. */
typedef int drafter_network_slot_fn(void *context, const struct drafter_network_status *status);
typedef int drafter_network_forward_fn(void *context, const struct drafter_network_forward *forward,
                                       int64_t pid);

struct drafter_network_ops {
    /*
     * Claims the named slot, or any free one when `name` is NULL, for `owner`.  EBUSY: it has another
     * owner, who is named, or the owner has one, or all are taken; ENOENT: there is no pool, or no
     * such slot; ESHUTDOWN: the pool is being removed.  Mandatory.
     */
    int (*claim)(void *instance, const char *name, const char *owner,
                 struct drafter_network_slot *ret_slot, struct drafter_error *err);

    /*
     * Tells the network that the guest is here now (gratuitous ARP, unsolicited NA), and, where slots
     * keep their addresses outside, answers for the slot's until withdraw() or release().  May be repeated.
     * Optional.
     */
    int (*announce)(void *instance, const struct drafter_network_slot *slot,
                    struct drafter_error *err);

    /* Gives a slot back.  Does nothing for one that this instance did not claim.  Mandatory. */
    void (*release)(void *instance, const struct drafter_network_slot *slot);

    /*
     * Makes the pool: namespaces, links, addresses, routes and rules, all of it or, on failure,
     * nothing.  First removes what a pool of the same name left that ended without pool_close(); slots
     * of it whose owners live, and forwards, stay in use when the configuration is the same, and are
     * an EBUSY when not.  EBUSY also while another process has the pool.  `hooks` may be NULL and
     * is borrowed until the pool is closed.  Optional: there is nothing to make.
     */
    int (*pool_open)(void *instance, const struct drafter_network_hooks *hooks,
                     struct drafter_error *err);

    /*
     * Removes the pool, claimed slots and forwards included (each is logged with its owner).  Goes on
     * past failures and returns the first.  0 when this instance has none open; destroy does it too.
     * Optional.
     */
    int (*pool_close)(void *instance, struct drafter_error *err);

    /* Tells of every slot, in order of their numbers.  Needs a pool but not to be its maker.  Optional:
     * ENOTSUP. */
    int (*list)(void *instance, drafter_network_slot_fn *each, void *context,
                struct drafter_error *err);

    /*
     * Frees slots and removes forwards whose owners have ended; ret_count is how many.  For the pool's
     * maker to call now and then.  Optional: 0.
     */
    int (*reclaim)(void *instance, size_t *ret_count, struct drafter_error *err);

    /*
     * Adds all of the forwards or none, in one change of rules.  EADDRINUSE: one meets another forward
     * (a wildcard meets every address of its family), whose owner is named; sockets of the host's
     * processes are for the caller to look for.  ENOENT: no pool, or no such slot; EPERM: the pool
     * does not allow incoming connections; EAFNOSUPPORT: the slot has no address in that family.
     * Optional: ENOTSUP.
     */
    int (*forward_add)(void *instance, const struct drafter_network_forward *forwards, size_t count,
                       struct drafter_error *err);

    /*
     * Removes forwards that this instance added, going by protocol, host address and port; others are
     * left alone.  Goes on past failures and returns the first.  destroy removes the rest.
     * Mandatory with forward_add.
     */
    int (*forward_remove)(void *instance, const struct drafter_network_forward *forwards,
                          size_t count, struct drafter_error *err);

    /* Tells of every forward, with the process that added it.  Mandatory with forward_add. */
    int (*forward_list)(void *instance, drafter_network_forward_fn *each, void *context,
                        struct drafter_error *err);

    /*
     * The guest is leaving, or gone, while its slot is still claimed: this host no longer answers for
     * the slot's addresses, until announce() is called again.  In the blackout of a move: quick.  May be
     * repeated.  Optional: there is nothing that answers.
     */
    int (*withdraw)(void *instance, const struct drafter_network_slot *slot,
                    struct drafter_error *err);

    /*
     * Since 1.1.  In place of claim(): takes over, for `owner`, the slot that a dead process claimed and left to
     * the holder, as it is.  ENOENT: there is none.  Optional: a slot is given back when its drafter dies.
     */
    int (*adopt)(void *instance, const char *owner, struct drafter_network_slot *ret_slot,
                 struct drafter_error *err);
};

#ifdef __cplusplus
}
#endif

#endif

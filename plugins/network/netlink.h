/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links, addresses and routes.  Requests gather in a batch that goes to the kernel in one call: a slot
 * takes a dozen of them.  A socket speaks with the network namespace in which it was opened, whichever
 * the thread is in later.  One thread at a time.
 */
#ifndef NETWORK_NETLINK_H
#define NETWORK_NETLINK_H

#include "layout.h"

struct nl_msg;
struct nl_sock;

#define NETLINK_BATCH 64

struct netlink {
    struct nl_sock *socket;
    unsigned char *buffer;
    size_t used, count;
    int failed; /* a request could not be built: negative errno */
    char what[NETLINK_BATCH][48];
};

/* Opens one in the thread's namespace. */
int netlink_open(struct netlink *netlink, struct drafter_error *err);
void netlink_close(struct netlink *netlink);

/* Sends what has gathered and waits for the answers; the first failure, with the request's name. */
int netlink_flush(struct netlink *netlink, struct drafter_error *err);

/* A pair of links: `inner` in this namespace, `outer` in that of `host_fd` and in `group`. */
void netlink_veth(struct netlink *netlink, const char *inner, const char *outer,
                  const struct slot_macs *macs, int host_fd, uint32_t group);

/* Up, forwarding IPv4, without IPv6 addresses of the kernel's making; `mac` may be NULL. */
void netlink_link_up(struct netlink *netlink, unsigned ifindex, const uint8_t *mac);
void netlink_link_quiet6(struct netlink *netlink, unsigned ifindex);

/*
 * Lets packets from and to loopback addresses pass a link.  IPv4 has a setting for it; IPv6 takes an answer
 * to ::1 from a link that has a local route of its own for it, which no packet is sent by.
 */
void netlink_link_localnet(struct netlink *netlink, unsigned ifindex, bool on);
void netlink_link_localnet6(struct netlink *netlink, unsigned ifindex, bool on);

void netlink_address(struct netlink *netlink, unsigned ifindex, const struct address *address);

/* To `destination`, NULL for the default route, through `gateway`. */
void netlink_route(struct netlink *netlink, unsigned ifindex, const struct address *destination,
                   const struct address *gateway);

/*
 * A neighbour on a link that need not be asked for.  Those that are count against a limit that all namespaces
 * of the machine share (gc_thresh3 in arp(7), 1,024).
 */
void netlink_neighbour(struct netlink *netlink, unsigned ifindex, const struct address *address,
                       const uint8_t *mac);

/* Whether the host answers for an address on a link. */
void netlink_proxy(struct netlink *netlink, unsigned ifindex, const struct address *address,
                   bool on);

/* Removes all links of a group at once, in one grace period of the kernel. */
void netlink_delete_group(struct netlink *netlink, uint32_t group);
void netlink_move_group(struct netlink *netlink, unsigned ifindex, uint32_t group);

struct netlink_link {
    unsigned ifindex;
    uint32_t group;
    char name[IFNAMSIZ];
};
typedef int netlink_link_fn(void *context, const struct netlink_link *link);
int netlink_links(struct netlink *netlink, netlink_link_fn *each, void *context,
                  struct drafter_error *err);

typedef int netlink_address_fn(void *context, unsigned ifindex, const struct address *address);
int netlink_addresses(struct netlink *netlink, netlink_address_fn *each, void *context,
                      struct drafter_error *err);

/* The link of the default route with the lowest metric, IPv4 before IPv6; 0: there is none. */
int netlink_default_link(struct netlink *netlink, unsigned *ret_ifindex, struct drafter_error *err);

#endif

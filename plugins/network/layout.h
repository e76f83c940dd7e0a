/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a pool looks like: every name and address of every slot, worked out from the configuration
 * without looking at the host.
 *
 *     guest 172.16.0.2/30 -- tap0 172.16.0.1 [namespace ark0] ark0-veth0 10.0.8.1/30
 *         == ark0-veth1 10.0.8.2/30 [host] -- host interface
 *
 * The namespace translates the guest's address to 10.0.15.1, which is the slot's own.
 *
 * A layout is plain memory: it stands in the pool's state file, and two pools are configured alike when
 * the bytes of their layouts are.
 */
#ifndef NETWORK_LAYOUT_H
#define NETWORK_LAYOUT_H

#include "pool-config.h"

#include <net/if.h>
#include <netinet/in.h>

/* An address of either family. */
struct address {
    uint8_t bytes[16]; /* network order; four in IPv4, the others zero */
    uint8_t family;    /* AF_INET or AF_INET6; 0: none */
    uint8_t length;    /* of the prefix */
    uint8_t zero[2];
};
#define ADDRESS_TEXT_MAX 64

enum layout_family_index { LAYOUT_V4 = 0, LAYOUT_V6 = 1, LAYOUT_FAMILIES = 2 };

struct layout_family {
    uint8_t enabled, own, zero[2]; /* own: slots show their own addresses outside */
    struct address host_veth, namespace_veth, blocked, gateway, guest;
};

struct layout {
    char prefix[IFNAMSIZ], tap[IFNAMSIZ], host_interface[IFNAMSIZ]; /* zeros to the end */
    uint8_t guest_mac[6], tap_mac[6];
    uint32_t slots;
    uint32_t group; /* of the host's ends of the links: how rules know them; see layout_trash_group */
    uint32_t allow_incoming;
    struct layout_family family[LAYOUT_FAMILIES];
};

/* The addresses of one slot in one family. */
struct slot_addresses {
    struct address inner;  /* namespace's end of the link */
    struct address outer;  /* host's end */
    struct address unique; /* the slot's */
};

/*
 * `host_interface` may be left empty.  EINVAL and a sentence that names the option when something
 * cannot be: subnets that overlap or are too small, names that are too long.
 */
int layout_init(struct layout *layout, const struct pool_config *config,
                struct drafter_error *err);

/* Whether a layout that was read from a file could have come from layout_init. */
bool layout_valid(const struct layout *layout);

void layout_slot(const struct layout *layout, uint32_t slot, enum layout_family_index family,
                 struct slot_addresses *ret_addresses);

/* "ark7", "ark7-veth0", "ark7-veth1", "/run/netns/ark7". */
#define LAYOUT_NETNS_DIRECTORY "/run/netns"
#define LAYOUT_INNER_SUFFIX "-veth0"
#define LAYOUT_OUTER_SUFFIX "-veth1"
void layout_name(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ]);
void layout_inner(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ]);
void layout_outer(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ]);
void layout_netns(const struct layout *layout, uint32_t slot, char path[128]);

/* Where links go to be removed. */
uint32_t layout_trash_group(const struct layout *layout);

/* The hardware addresses of a slot's link: the namespace's end, the host's. */
struct slot_macs {
    uint8_t inner[6], outer[6];
};
void layout_macs(uint32_t slot, struct slot_macs *ret_macs);

/* The slot of that name; false when it is none of this pool's. */
bool layout_find(const struct layout *layout, const char *name, uint32_t *ret_slot);

/* Fills all of `slot`. */
void layout_describe(const struct layout *layout, uint32_t slot,
                     struct drafter_network_slot *ret_slot);

/* Largest number of slots that both subnets of a family hold. */
uint32_t layout_capacity(const struct layout_family *family);

/* Parses "10.0.0.1" or, `with_length`, "10.0.0.0/8" (bits behind the prefix are cleared). */
int address_parse(const char *text, int family, bool with_length, struct address *ret_address);
bool address_overlap(const struct address *one, const struct address *other);
bool address_equal(const struct address *one, const struct address *other);

/* Whether packets can be sent to and from all addresses of the subnet. */
bool address_unicast(const struct address *subnet);

/* Whether a host can have the address: in IPv4, its subnet and all hosts of that have one each. */
bool address_assignable(const struct address *address);

/* "10.0.0.1", and with the length behind it. */
const char *address_text(const struct address *address, char text[ADDRESS_TEXT_MAX]);
const char *address_cidr(const struct address *address, char text[ADDRESS_TEXT_MAX]);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "layout.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_BITS 2 /* a link has four addresses: network, inner, outer, broadcast */

/* Not IFNAMSIZ: the compiler cannot know that layout_valid() holds. */
#define NAME_ROOM 48

static void make_name(char name[IFNAMSIZ], const struct layout *layout, uint32_t slot,
                      const char *suffix)
{
    char room[NAME_ROOM];

    snprintf(room, sizeof(room), "%.15s%u%s", layout->prefix, slot, suffix);
    memcpy(name, room, IFNAMSIZ - 1);
    name[IFNAMSIZ - 1] = '\0';
}

void layout_name(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ])
{
    make_name(name, layout, slot, "");
}

void layout_inner(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ])
{
    make_name(name, layout, slot, LAYOUT_INNER_SUFFIX);
}

void layout_outer(const struct layout *layout, uint32_t slot, char name[IFNAMSIZ])
{
    make_name(name, layout, slot, LAYOUT_OUTER_SUFFIX);
}

void layout_netns(const struct layout *layout, uint32_t slot, char path[128])
{
    char name[IFNAMSIZ];

    layout_name(layout, slot, name);
    snprintf(path, 128, "%s/%s", LAYOUT_NETNS_DIRECTORY, name);
}

bool layout_find(const struct layout *layout, const char *name, uint32_t *ret_slot)
{
    size_t length = strlen(layout->prefix);
    const char *digits = name + length;
    unsigned long slot;

    if (strncmp(name, layout->prefix, length) != 0 || !isdigit((unsigned char)*digits) ||
        strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 5 ||
        (digits[0] == '0' && digits[1]))
        return false;
    slot = strtoul(digits, NULL, 10);
    if (slot >= layout->slots)
        return false;
    *ret_slot = (uint32_t)slot;
    return true;
}

/* The address `number` places behind the first of the subnet. */
static struct address address_at(const struct address *subnet, uint64_t number, uint8_t length)
{
    struct address address = *subnet;

    for (int i = (subnet->family == AF_INET6 ? 16 : 4) - 1; i >= 0 && number; i--) {
        number += address.bytes[i];
        address.bytes[i] = (uint8_t)number;
        number >>= 8;
    }
    address.length = length;
    return address;
}

void layout_slot(const struct layout *layout, uint32_t slot, enum layout_family_index family,
                 struct slot_addresses *ret_addresses)
{
    const struct layout_family *of = &layout->family[family];
    uint8_t bits = family == LAYOUT_V6 ? 128 : 32;
    uint64_t link = (uint64_t)slot << LINK_BITS;

    memset(ret_addresses, 0, sizeof(*ret_addresses));
    if (!of->enabled)
        return;
    ret_addresses->inner = address_at(&of->host_veth, link + 1, bits - LINK_BITS);
    ret_addresses->outer = address_at(&of->host_veth, link + 2, bits - LINK_BITS);
    ret_addresses->unique = address_at(&of->namespace_veth, (uint64_t)slot + 1, bits);
}

uint32_t layout_trash_group(const struct layout *layout)
{
    return layout->group ^ UINT32_C(0x60000000);
}

/* Of those that anybody may choose; a link has but its two ends. */
void layout_macs(uint32_t slot, struct slot_macs *ret_macs)
{
    const uint8_t mac[6] = {0x02, 0x64, (uint8_t)(slot >> 16), (uint8_t)(slot >> 8), (uint8_t)slot, 1};

    memcpy(ret_macs->inner, mac, 6);
    memcpy(ret_macs->outer, mac, 6);
    ret_macs->outer[5] = 2;
}

static uint64_t subnet_size(const struct address *subnet)
{
    unsigned bits = (subnet->family == AF_INET6 ? 128u : 32u) - subnet->length;

    return bits < 32 ? UINT64_C(1) << bits : UINT64_C(1) << 32;
}

uint32_t layout_capacity(const struct layout_family *family)
{
    uint64_t links = subnet_size(&family->host_veth) >> LINK_BITS;
    uint64_t addresses = subnet_size(&family->namespace_veth);

    addresses = addresses > 2 ? addresses - 2 : 0;
    if (addresses < links)
        links = addresses;
    return links < POOL_SLOTS_MAX ? (uint32_t)links : POOL_SLOTS_MAX;
}

void layout_describe(const struct layout *layout, uint32_t slot,
                     struct drafter_network_slot *ret_slot)
{
    const struct layout_family *v4 = &layout->family[LAYOUT_V4], *v6 = &layout->family[LAYOUT_V6];
    const uint8_t *mac = layout->guest_mac;
    struct slot_addresses addresses;

    memset(ret_slot, 0, sizeof(*ret_slot));
    layout_name(layout, slot, ret_slot->name);
    layout_netns(layout, slot, ret_slot->netns);
    memcpy(ret_slot->tap, layout->tap, sizeof(ret_slot->tap));
    snprintf(ret_slot->mac, sizeof(ret_slot->mac), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
             mac[2], mac[3], mac[4], mac[5]);
    layout_slot(layout, slot, LAYOUT_V4, &addresses);
    address_text(&addresses.unique, ret_slot->address);
    address_cidr(&v4->guest, ret_slot->guest);
    address_text(&v4->gateway, ret_slot->gateway);
    layout_slot(layout, slot, LAYOUT_V6, &addresses);
    address_text(&addresses.unique, ret_slot->address6);
    address_cidr(&v6->guest, ret_slot->guest6);
    address_text(&v6->gateway, ret_slot->gateway6);
}

static bool valid_string(const char *string, bool may_be_empty)
{
    const char *end = memchr(string, '\0', IFNAMSIZ);

    for (const char *at = string; end && at < end; at++)
        if (*at <= ' ' || *at > '~' || *at == '/' || *at == '"')
            return false;
    return end && (may_be_empty || end > string);
}

static bool valid_address(const struct address *address, int family, bool may_be_none)
{
    if (!address->family)
        return may_be_none;
    return address->family == family && address->length <= (family == AF_INET6 ? 128 : 32);
}

static bool valid_family(const struct layout_family *family, int af)
{
    if (!family->enabled)
        return true;
    return valid_address(&family->host_veth, af, false) &&
           valid_address(&family->namespace_veth, af, false) &&
           valid_address(&family->blocked, af, true) &&
           valid_address(&family->gateway, af, false) && valid_address(&family->guest, af, false);
}

bool layout_valid(const struct layout *layout)
{
    char name[NAME_ROOM];

    if (!valid_string(layout->prefix, false) || !valid_string(layout->tap, false) ||
        !valid_string(layout->host_interface, true) || layout->slots == 0 ||
        layout->slots > POOL_SLOTS_MAX || !layout->family[LAYOUT_V4].enabled ||
        !valid_family(&layout->family[LAYOUT_V4], AF_INET) ||
        !valid_family(&layout->family[LAYOUT_V6], AF_INET6))
        return false;
    if (layout->slots > layout_capacity(&layout->family[LAYOUT_V4]) ||
        (layout->family[LAYOUT_V6].enabled &&
         layout->slots > layout_capacity(&layout->family[LAYOUT_V6])))
        return false;
    return snprintf(name, sizeof(name), "%s%u%s", layout->prefix, layout->slots - 1,
                    LAYOUT_OUTER_SUFFIX) < IFNAMSIZ;
}

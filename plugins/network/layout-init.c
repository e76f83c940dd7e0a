/* SPDX-License-Identifier: BSD-2-Clause */
/* From options to a layout: every mistake that can be seen without looking at the host. */
#include "layout.h"

#include <stdio.h>
#include <string.h>

/* An operator's words for the options of one family. */
struct names {
    const char *host_veth, *namespace_veth, *blocked, *gateway, *ip, *netmask;
    int family;
};

static const struct names names[LAYOUT_FAMILIES] = {
    {"host-veth-cidr", "namespace-veth-cidr", "blocked-subnet-cidr", "namespace-interface-gateway",
     "namespace-interface-ip", "namespace-interface-netmask", AF_INET},
    {"host-veth-cidr6", "namespace-veth-cidr6", "blocked-subnet-cidr6",
     "namespace-interface-gateway6", "namespace-interface-ip6", "namespace-interface-netmask6",
     AF_INET6},
};

static int parse(const char *option, const char *text, int family, bool with_length,
                 struct address *ret_address, struct drafter_error *err)
{
    if (text && address_parse(text, family, with_length, ret_address) == 0)
        return 0;
    return drafter_error_set(err, EINVAL, "%s \"%s\" is not an IPv%d %s such as %s", option,
                             text ? text : "", family == AF_INET6 ? 6 : 4,
                             with_length ? "subnet" : "address",
                             family == AF_INET6 ? with_length ? "fd00::/64" : "fd00::1"
                             : with_length      ? "10.0.0.0/16"
                                                : "10.0.0.1");
}

static int check_apart(const char *one_name, const struct address *one, const char *other_name,
                       const struct address *other, struct drafter_error *err)
{
    char a[ADDRESS_TEXT_MAX], b[ADDRESS_TEXT_MAX];

    if (!address_overlap(one, other))
        return 0;
    return drafter_error_set(err, EINVAL, "%s %s and %s %s overlap", one_name, address_cidr(one, a),
                             other_name, address_cidr(other, b));
}

static int check_unicast(const char *name, const struct address *subnet, struct drafter_error *err)
{
    char text[ADDRESS_TEXT_MAX];

    if (address_unicast(subnet))
        return 0;
    return drafter_error_set(err, EINVAL, "%s %s has addresses that no link can have", name,
                             address_cidr(subnet, text));
}

static int check_assignable(const char *name, const struct address *address,
                            struct drafter_error *err)
{
    char text[ADDRESS_TEXT_MAX];

    if (address_assignable(address))
        return 0;
    return drafter_error_set(err, EINVAL, "%s %s is no address of a host in a subnet of /%u", name,
                             address_text(address, text), address->length);
}

static int check_guest(const struct names *name, const struct layout_family *family,
                       struct drafter_error *err)
{
    char gateway[ADDRESS_TEXT_MAX], guest[ADDRESS_TEXT_MAX];
    int ret;

    address_text(&family->gateway, gateway);
    address_text(&family->guest, guest);
    if (address_equal(&family->gateway, &family->guest))
        return drafter_error_set(err, EINVAL, "%s and %s are both %s", name->gateway, name->ip,
                                 guest);
    if (!address_overlap(&family->gateway, &family->guest))
        return drafter_error_set(err, EINVAL, "%s %s and %s %s are in different subnets of /%u (%s)",
                                 name->gateway, gateway, name->ip, guest, family->guest.length,
                                 name->netmask);
    ret = check_assignable(name->gateway, &family->gateway, err);
    return ret < 0 ? ret : check_assignable(name->ip, &family->guest, err);
}

/* No two of the subnets overlap, and each is of addresses that can be used. */
static int check_subnets(const struct names *name, const struct layout_family *family,
                         struct drafter_error *err)
{
    const struct {
        const char *name;
        const struct address *subnet;
    } all[] = {{name->host_veth, &family->host_veth},
               {name->namespace_veth, &family->namespace_veth},
               {"the guest's subnet", &family->guest}};
    size_t count = sizeof(all) / sizeof(*all);
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < count; i++) {
        ret = check_unicast(all[i].name, all[i].subnet, err);
        for (size_t other = i + 1; ret == 0 && other < count; other++)
            ret = check_apart(all[i].name, all[i].subnet, all[other].name, all[other].subnet, err);
    }
    return ret;
}

static int init_family(const struct names *name, const struct pool_addresses *config,
                       struct layout_family *family, struct drafter_error *err)
{
    int ret, af = name->family;

    family->enabled = 1;
    family->own = config->outside == POOL_OUTSIDE_OWN;
    if ((ret = parse(name->host_veth, config->host_veth_cidr, af, true, &family->host_veth, err)) <
            0 ||
        (ret = parse(name->namespace_veth, config->namespace_veth_cidr, af, true,
                     &family->namespace_veth, err)) < 0 ||
        (ret = parse(name->gateway, config->gateway, af, false, &family->gateway, err)) < 0 ||
        (ret = parse(name->ip, config->ip, af, false, &family->guest, err)) < 0)
        return ret;
    if (config->blocked_subnet_cidr && *config->blocked_subnet_cidr &&
        (ret = parse(name->blocked, config->blocked_subnet_cidr, af, true, &family->blocked, err)) <
            0)
        return ret;
    family->gateway.length = family->guest.length = (uint8_t)config->netmask;
    ret = check_guest(name, family, err);
    return ret < 0 ? ret : check_subnets(name, family, err);
}

/* Which subnet is too small for so many slots, and what would do. */
static int too_small(const struct names *name, const struct layout_family *family, uint64_t wanted,
                     struct drafter_error *err)
{
    unsigned bits = name->family == AF_INET6 ? 128 : 32, links = 0, addresses = 0;
    const struct address *subnet = &family->host_veth;
    const char *option = name->host_veth;
    char text[ADDRESS_TEXT_MAX];
    unsigned length;

    while (UINT64_C(1) << links < wanted)
        links++;
    while (UINT64_C(1) << addresses < wanted + 2)
        addresses++;
    length = bits - links - 2;
    if (subnet->length <= length) {
        subnet = &family->namespace_veth;
        option = name->namespace_veth;
        length = bits - addresses;
    }
    return drafter_error_set(err, EINVAL, "%s %s is too small for %llu slots, which need a /%u",
                             option, address_cidr(subnet, text), (unsigned long long)wanted, length);
}

static int init_slots(struct layout *layout, uint64_t wanted, struct drafter_error *err)
{
    uint32_t slots = POOL_SLOTS_MAX;

    for (size_t i = 0; i < LAYOUT_FAMILIES; i++) {
        const struct layout_family *family = &layout->family[i];
        uint32_t capacity = family->enabled ? layout_capacity(family) : slots;

        if (capacity < (wanted ? wanted : 1))
            return too_small(&names[i], family, wanted ? wanted : 1, err);
        if (capacity < slots)
            slots = capacity;
    }
    layout->slots = wanted ? (uint32_t)wanted : slots;
    return 0;
}

static int copy_name(const char *option, const char *text, char name[IFNAMSIZ],
                     struct drafter_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789_.-";
    size_t length = text ? strlen(text) : 0;

    if (length >= IFNAMSIZ)
        return drafter_error_set(err, EINVAL,
                                 "%s \"%s\" has %zu characters, names of interfaces have at most %d",
                                 option, text, length, IFNAMSIZ - 1);
    if (length == 0 || strspn(text, letters) != length || *text == '.' || *text == '-')
        return drafter_error_set(err, EINVAL, "%s \"%s\" is no name for an interface", option,
                                 text ? text : "");
    memset(name, 0, IFNAMSIZ);
    memcpy(name, text, length);
    return 0;
}

/* The prefix has to leave room for a number and the endings of the links' names. */
static int check_prefix(const struct layout *layout, struct drafter_error *err)
{
    char last = layout->prefix[strlen(layout->prefix) - 1];
    char longest[64];
    int length;

    /* Or slot 10 of "ark" would be slot 0 of "ark1". */
    if (last >= '0' && last <= '9')
        return drafter_error_set(err, EINVAL, "namespace-prefix \"%s\" ends with a digit",
                                 layout->prefix);
    length = snprintf(longest, sizeof(longest), "%s%u%s", layout->prefix, layout->slots - 1,
                      LAYOUT_OUTER_SUFFIX);
    if (length < IFNAMSIZ)
        return 0;
    return drafter_error_set(err, EINVAL,
                             "namespace-prefix \"%s\" makes interface names as long as \"%s\", "
                             "%d characters where %d are possible",
                             layout->prefix, longest, length, IFNAMSIZ - 1);
}

static int parse_mac(const char *text, uint8_t mac[6], struct drafter_error *err)
{
    unsigned byte[6];
    int end = 0;

    if (!text ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
               &byte[5], &end) != 6 ||
        text[end] || (byte[0] & 1) ||
        !(byte[0] | byte[1] | byte[2] | byte[3] | byte[4] | byte[5]))
        return drafter_error_set(
            err, EINVAL, "namespace-interface-mac \"%s\" is no unicast MAC such as %s",
            text ? text : "", "02:0e:d9:fd:68:3d");
    for (size_t i = 0; i < 6; i++)
        mac[i] = (uint8_t)byte[i];
    return 0;
}

/* Any number but 0 that others hardly have: FNV-1a of the name. */
static uint32_t group_of(const char *name)
{
    uint32_t hash = UINT32_C(2166136261);

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT32_C(16777619);
    return (hash & 0x3fffffff) | 0x40000000;
}

int layout_init(struct layout *layout, const struct pool_config *config, struct drafter_error *err)
{
    int ret;

    memset(layout, 0, sizeof(*layout));
    if ((ret = copy_name("namespace-prefix", config->prefix, layout->prefix, err)) < 0 ||
        (ret = copy_name("namespace-interface", config->tap, layout->tap, err)) < 0 ||
        (ret = parse_mac(config->mac, layout->guest_mac, err)) < 0 ||
        (ret = init_family(&names[LAYOUT_V4], &config->v4, &layout->family[LAYOUT_V4], err)) < 0)
        return ret;
    if (config->host_interface && *config->host_interface &&
        (ret = copy_name("host-interface", config->host_interface, layout->host_interface, err)) <
            0)
        return ret;
    if (config->ipv6 && (ret = init_family(&names[LAYOUT_V6], &config->v6,
                                           &layout->family[LAYOUT_V6], err)) < 0)
        return ret;
    /* Its own, so that nobody's ARP entry for the gateway changes when a VM moves. */
    memcpy(layout->tap_mac, layout->guest_mac, sizeof(layout->tap_mac));
    layout->tap_mac[5] ^= 1;
    layout->allow_incoming = config->allow_incoming;
    layout->group = group_of(layout->prefix);
    ret = init_slots(layout, config->slots, err);
    return ret < 0 ? ret : check_prefix(layout, err);
}

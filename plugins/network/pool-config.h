/* SPDX-License-Identifier: BSD-2-Clause */
/* The options that all plugins with namespaces have in common. */
#ifndef NETWORK_POOL_CONFIG_H
#define NETWORK_POOL_CONFIG_H

#include <drafter/network.h>

/* What the guest's side and the world's side of a slot look like, in one family. */
struct pool_addresses {
    const char *host_veth_cidr, *namespace_veth_cidr, *blocked_subnet_cidr;
    const char *gateway, *ip;
    uint64_t netmask;
    int outside; /* enum pool_outside */
};

enum pool_outside {
    POOL_OUTSIDE_HOST = 0, /* VMs leave with the host's address */
    POOL_OUTSIDE_OWN = 1,  /* each leaves with its slot's, for which the host answers */
};

struct pool_config {
    const char *state_directory, *prefix, *host_interface, *tap, *mac;
    uint64_t slots;
    bool allow_incoming, ipv6;
    struct pool_addresses v4, v6;
};

extern const char *const pool_outside_choices[];

#define POOL_OPTION_(type_, member_, key_, kind_, default_, help_)                                 \
    {                                                                                              \
        .key = key_, .type = DRAFTER_OPTION_##kind_, .offset = offsetof(type_, member_),           \
        .default_value = default_, .help = help_                                                   \
    }
#define POOL_NUMBER_(type_, member_, key_, default_, minimum_, maximum_, help_)                    \
    {                                                                                              \
        .key = key_, .type = DRAFTER_OPTION_UINT, .offset = offsetof(type_, member_),              \
        .default_value = default_, .minimum = minimum_, .maximum = maximum_, .help = help_         \
    }
#define POOL_OUTSIDE_(type_, member_, key_, help_)                                                 \
    {                                                                                              \
        .key = key_, .type = DRAFTER_OPTION_ENUM, .offset = offsetof(type_, member_),              \
        .default_value = "host", .choices = pool_outside_choices, .help = help_                    \
    }

#define POOL_SLOTS_MAX 65536

/* Entries for a plugin's option table; `pool_` is the struct pool_config in its `type_`. */
#define POOL_OPTIONS(type_, pool_)                                                                 \
    POOL_OPTION_(type_, pool_.host_interface, "host-interface", STRING, NULL,                      \
                 "interface towards the world; without it that of the default route"),             \
        POOL_OPTION_(type_, pool_.v4.host_veth_cidr, "host-veth-cidr", STRING, "10.0.8.0/22",      \
                     "addresses of the links between host and namespaces, four for each"),         \
        POOL_OPTION_(type_, pool_.v4.namespace_veth_cidr, "namespace-veth-cidr", STRING,           \
                     "10.0.15.0/24", "unique addresses of the slots"),                             \
        POOL_OPTION_(type_, pool_.v4.blocked_subnet_cidr, "blocked-subnet-cidr", STRING,           \
                     "10.0.15.0/24", "subnet that VMs neither reach nor are reached from; empty "  \
                                     "for none"),                                                  \
        POOL_OPTION_(type_, pool_.tap, "namespace-interface", STRING, "tap0",                      \
                     "name of the tap in each namespace"),                                         \
        POOL_OPTION_(type_, pool_.v4.gateway, "namespace-interface-gateway", STRING, "172.16.0.1", \
                     "address of the tap, the guest's gateway"),                                   \
        POOL_NUMBER_(type_, pool_.v4.netmask, "namespace-interface-netmask", "30", 1, 30,          \
                     "length of the prefix that guest and gateway share"),                         \
        POOL_OPTION_(type_, pool_.v4.ip, "namespace-interface-ip", STRING, "172.16.0.2",           \
                     "address of every guest"),                                                    \
        POOL_OPTION_(type_, pool_.mac, "namespace-interface-mac", STRING, "02:0e:d9:fd:68:3d",     \
                     "MAC of every guest"),                                                        \
        POOL_OPTION_(type_, pool_.prefix, "namespace-prefix", STRING, "ark",                       \
                     "what the names of the namespaces begin with; also the pool's name"),         \
        POOL_OPTION_(type_, pool_.allow_incoming, "allow-incoming-traffic", BOOL, "yes",           \
                     "whether connections to VMs can be opened from outside"),                     \
        POOL_NUMBER_(type_, pool_.slots, "slots", "0", 0, POOL_SLOTS_MAX,                          \
                     "number of slots, 0 for as many as the subnets hold"),                        \
        POOL_OUTSIDE_(type_, pool_.v4.outside, "outside-address",                                  \
                      "address that VMs leave with: the host's, or their slots' own"),             \
        POOL_OPTION_(type_, pool_.ipv6, "ipv6", BOOL, "no", "whether slots have IPv6 too"),        \
        POOL_OPTION_(type_, pool_.v6.host_veth_cidr, "host-veth-cidr6", STRING,                    \
                     "fd64:7261:6674:8::/64", "as host-veth-cidr"),                                \
        POOL_OPTION_(type_, pool_.v6.namespace_veth_cidr, "namespace-veth-cidr6", STRING,          \
                     "fd64:7261:6674:f::/64", "as namespace-veth-cidr"),                           \
        POOL_OPTION_(type_, pool_.v6.blocked_subnet_cidr, "blocked-subnet-cidr6", STRING,          \
                     "fd64:7261:6674:f::/64", "as blocked-subnet-cidr"),                           \
        POOL_OPTION_(type_, pool_.v6.gateway, "namespace-interface-gateway6", STRING,              \
                     "fd64:7261:6674::1", "as namespace-interface-gateway"),                       \
        POOL_NUMBER_(type_, pool_.v6.netmask, "namespace-interface-netmask6", "64", 1, 126,        \
                     "as namespace-interface-netmask"),                                            \
        POOL_OPTION_(type_, pool_.v6.ip, "namespace-interface-ip6", STRING, "fd64:7261:6674::2",   \
                     "as namespace-interface-ip"),                                                 \
        POOL_OUTSIDE_(type_, pool_.v6.outside, "outside-address6", "as outside-address"),          \
        POOL_OPTION_(type_, pool_.state_directory, "state-directory", PATH,                        \
                     "/run/drafter/network", "where pools keep what they made and who has it")

#endif

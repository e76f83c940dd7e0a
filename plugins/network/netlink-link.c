/* SPDX-License-Identifier: BSD-2-Clause */
/* The requests: each function puts one into the batch. */
#include "netlink-internal.h"

#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdio.h>

/* Behind that of the loopback interface; each link adds its number. */
#define LOOPBACK_METRIC 4096

static struct nl_msg *start(int type, int flags, const void *header, size_t length)
{
    struct nl_msg *message = nlmsg_alloc_simple(type, flags);

    if (message && nlmsg_append(message, (void *)header, length, NLMSG_ALIGNTO) < 0) {
        nlmsg_free(message);
        return NULL;
    }
    return message;
}

static struct nl_msg *start_link(int type, int flags, unsigned ifindex, unsigned up)
{
    struct ifinfomsg header = {.ifi_index = (int)ifindex, .ifi_flags = up, .ifi_change = up};

    return start(type, flags, &header, sizeof(header));
}

/* Ends a message of which an attribute may not have fitted. */
static struct nl_msg *finish(struct nl_msg *message, int failed)
{
    if (message && failed) {
        nlmsg_free(message);
        return NULL;
    }
    return message;
}

static int put_peer(struct nl_msg *message, const char *outer, const uint8_t *mac, int host_fd,
                    uint32_t group)
{
    struct ifinfomsg header = {0};
    struct nlattr *peer = nla_nest_start(message, VETH_INFO_PEER);

    if (!peer || nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) < 0 ||
        nla_put_string(message, IFLA_IFNAME, outer) < 0 ||
        nla_put(message, IFLA_ADDRESS, 6, mac) < 0 ||
        nla_put_u32(message, IFLA_NET_NS_FD, (uint32_t)host_fd) < 0 ||
        nla_put_u32(message, IFLA_GROUP, group) < 0)
        return -ENOMEM;
    return nla_nest_end(message, peer);
}

void netlink_veth(struct netlink *netlink, const char *inner, const char *outer,
                  const struct slot_macs *macs, int host_fd, uint32_t group)
{
    struct nl_msg *message = start_link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
    struct nlattr *info = NULL, *data = NULL;
    char what[48];
    int failed = 1;

    if (message && nla_put_string(message, IFLA_IFNAME, inner) == 0 &&
        nla_put(message, IFLA_ADDRESS, 6, macs->inner) == 0 &&
        (info = nla_nest_start(message, IFLA_LINKINFO)) &&
        nla_put_string(message, IFLA_INFO_KIND, "veth") == 0 &&
        (data = nla_nest_start(message, IFLA_INFO_DATA)) &&
        put_peer(message, outer, macs->outer, host_fd, group) == 0) {
        nla_nest_end(message, data);
        nla_nest_end(message, info);
        failed = 0;
    }
    snprintf(what, sizeof(what), "add link %s", outer);
    netlink_add(netlink, what, finish(message, failed));
}

/* IFLA_AF_SPEC { family { container { type: value } } } */
static int put_family(struct nl_msg *message, int family, int container, int type, uint32_t value)
{
    struct nlattr *spec = nla_nest_start(message, IFLA_AF_SPEC), *of = NULL, *in = NULL;

    if (!spec || !(of = nla_nest_start(message, family)))
        return -ENOMEM;
    if (container) {
        in = nla_nest_start(message, container);
        if (!in || nla_put_u32(message, type, value) < 0)
            return -ENOMEM;
        nla_nest_end(message, in);
    } else if (nla_put_u8(message, type, (uint8_t)value) < 0) {
        return -ENOMEM;
    }
    nla_nest_end(message, of);
    nla_nest_end(message, spec);
    return 0;
}

void netlink_link_quiet6(struct netlink *netlink, unsigned ifindex)
{
    struct nl_msg *message = start_link(RTM_NEWLINK, 0, ifindex, 0);
    int failed = message && put_family(message, AF_INET6, 0, IFLA_INET6_ADDR_GEN_MODE,
                                       IN6_ADDR_GEN_MODE_NONE) < 0;

    netlink_add(netlink, "set address generation", finish(message, failed));
}

void netlink_link_up(struct netlink *netlink, unsigned ifindex, const uint8_t *mac)
{
    struct nl_msg *message = start_link(RTM_NEWLINK, 0, ifindex, IFF_UP);
    int failed = message && ((mac && nla_put(message, IFLA_ADDRESS, 6, mac) < 0) ||
                             put_family(message, AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_FORWARDING,
                                        1) < 0);

    netlink_add(netlink, "set link up", finish(message, failed));
}

void netlink_link_localnet(struct netlink *netlink, unsigned ifindex, bool on)
{
    struct nl_msg *message = start_link(RTM_NEWLINK, 0, ifindex, 0);
    int failed = message && put_family(message, AF_INET, IFLA_INET_CONF,
                                       IPV4_DEVCONF_ROUTE_LOCALNET, on) < 0;

    netlink_add(netlink, "set route_localnet", finish(message, failed));
}

static size_t address_size(const struct address *address)
{
    return address->family == AF_INET6 ? 16 : 4;
}

static int put_address(struct nl_msg *message, int type, const struct address *address)
{
    return nla_put(message, type, (int)address_size(address), address->bytes);
}

void netlink_address(struct netlink *netlink, unsigned ifindex, const struct address *address)
{
    struct ifaddrmsg header = {.ifa_family = address->family,
                               .ifa_prefixlen = address->length,
                               .ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0,
                               .ifa_index = ifindex};
    struct nl_msg *message =
        start(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
    int failed = message && (put_address(message, IFA_LOCAL, address) < 0 ||
                             put_address(message, IFA_ADDRESS, address) < 0);
    char text[ADDRESS_TEXT_MAX], what[48];

    snprintf(what, sizeof(what), "add address %.33s", address_cidr(address, text));
    netlink_add(netlink, what, finish(message, failed));
}

void netlink_route(struct netlink *netlink, unsigned ifindex, const struct address *destination,
                   const struct address *gateway)
{
    struct rtmsg header = {.rtm_family = gateway->family,
                           .rtm_dst_len = destination ? destination->length : 0,
                           .rtm_table = RT_TABLE_MAIN,
                           .rtm_protocol = RTPROT_STATIC,
                           .rtm_scope = RT_SCOPE_UNIVERSE,
                           .rtm_type = RTN_UNICAST};
    struct nl_msg *message =
        start(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
    int failed = message && ((destination && put_address(message, RTA_DST, destination) < 0) ||
                             put_address(message, RTA_GATEWAY, gateway) < 0 ||
                             nla_put_u32(message, RTA_OIF, ifindex) < 0);
    char text[ADDRESS_TEXT_MAX], what[48];

    snprintf(what, sizeof(what), "add route %.33s",
             destination ? address_cidr(destination, text) : "default");
    netlink_add(netlink, what, finish(message, failed));
}

void netlink_link_localnet6(struct netlink *netlink, unsigned ifindex, bool on)
{
    static const struct address loopback = {{[15] = 1}, AF_INET6, 128, {0}};
    struct rtmsg header = {.rtm_family = AF_INET6,
                           .rtm_dst_len = 128,
                           .rtm_table = RT_TABLE_LOCAL,
                           .rtm_protocol = RTPROT_STATIC,
                           .rtm_type = RTN_LOCAL};
    struct nl_msg *message = start(on ? RTM_NEWROUTE : RTM_DELROUTE,
                                   on ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof(header));
    /* A route replaces one of the same metric, whatever link that is of. */
    int failed = message && (put_address(message, RTA_DST, &loopback) < 0 ||
                             nla_put_u32(message, RTA_OIF, ifindex) < 0 ||
                             nla_put_u32(message, RTA_PRIORITY, LOOPBACK_METRIC + ifindex) < 0);

    netlink_add(netlink, "set local route of ::1", finish(message, failed));
}

void netlink_neighbour(struct netlink *netlink, unsigned ifindex, const struct address *address,
                       const uint8_t *mac)
{
    struct ndmsg header = {.ndm_family = address->family,
                           .ndm_ifindex = (int)ifindex,
                           .ndm_state = NUD_PERMANENT};
    struct nl_msg *message =
        start(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
    int failed = message && (put_address(message, NDA_DST, address) < 0 ||
                             nla_put(message, NDA_LLADDR, 6, mac) < 0);
    char text[ADDRESS_TEXT_MAX], what[48];

    snprintf(what, sizeof(what), "add neighbour %.33s", address_text(address, text));
    netlink_add(netlink, what, finish(message, failed));
}

void netlink_proxy(struct netlink *netlink, unsigned ifindex, const struct address *address,
                   bool on)
{
    struct ndmsg header = {.ndm_family = address->family,
                           .ndm_ifindex = (int)ifindex,
                           .ndm_state = NUD_PERMANENT,
                           .ndm_flags = NTF_PROXY};
    struct nl_msg *message = start(on ? RTM_NEWNEIGH : RTM_DELNEIGH,
                                   on ? NLM_F_CREATE | NLM_F_REPLACE : 0, &header, sizeof(header));
    int failed = message && put_address(message, NDA_DST, address) < 0;
    char text[ADDRESS_TEXT_MAX], what[48];

    snprintf(what, sizeof(what), "answer for %.33s", address_text(address, text));
    netlink_add(netlink, what, finish(message, failed));
}

void netlink_delete_group(struct netlink *netlink, uint32_t group)
{
    struct nl_msg *message = start_link(RTM_DELLINK, 0, 0, 0);
    int failed = message && nla_put_u32(message, IFLA_GROUP, group) < 0;

    netlink_add(netlink, "remove links", finish(message, failed));
}

void netlink_move_group(struct netlink *netlink, unsigned ifindex, uint32_t group)
{
    struct nl_msg *message = start_link(RTM_NEWLINK, 0, ifindex, 0);
    int failed = message && nla_put_u32(message, IFLA_GROUP, group) < 0;

    netlink_add(netlink, "set group", finish(message, failed));
}

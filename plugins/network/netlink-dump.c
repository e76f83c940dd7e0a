/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel has: links, addresses, the default route. */
#include "netlink.h"

#include <linux/rtnetlink.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>

/* `parse` may see the same thing more than once. */
struct dump {
    int (*parse)(struct dump *dump, struct nlmsghdr *header);
    void *context;
    int result;
};

struct link_dump {
    struct dump dump;
    netlink_link_fn *each;
};

struct address_dump {
    struct dump dump;
    netlink_address_fn *each;
};

struct route_dump {
    struct dump dump;
    uint32_t metric;
    unsigned ifindex;
};

static int on_message(struct nl_msg *message, void *opaque)
{
    struct dump *dump = opaque;

    if (dump->result == 0)
        dump->result = dump->parse(dump, nlmsg_hdr(message));
    return NL_OK;
}

/* A list that changed while the kernel wrote it may lack something; what stays is in one of so many. */
#define ATTEMPTS 16

static int run(struct netlink *netlink, int type, const void *header, size_t length,
               struct dump *dump, struct drafter_error *err)
{
    struct nl_cb *callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    int ret = -NLE_DUMP_INTR;

    if (!callbacks)
        return drafter_error_set(err, ENOMEM, "netlink: no memory");
    nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_message, dump);
    nl_socket_disable_seq_check(netlink->socket);
    for (int i = 0; i < ATTEMPTS && ret == -NLE_DUMP_INTR; i++) {
        ret = nl_send_simple(netlink->socket, type, NLM_F_DUMP, (void *)header, length);
        if (ret >= 0)
            ret = nl_recvmsgs(netlink->socket, callbacks);
    }
    nl_cb_put(callbacks);
    if (ret < 0 && ret != -NLE_DUMP_INTR)
        return drafter_error_set(err, EIO, "netlink: list: %s", nl_geterror(ret));
    return dump->result;
}

static int parse_link(struct dump *dump, struct nlmsghdr *header)
{
    struct link_dump *links = (struct link_dump *)dump;
    const struct ifinfomsg *info = nlmsg_data(header);
    struct nlattr *name, *group;
    struct netlink_link link = {0};

    if (header->nlmsg_type != RTM_NEWLINK || !nlmsg_valid_hdr(header, sizeof(*info)))
        return 0;
    name = nlmsg_find_attr(header, sizeof(*info), IFLA_IFNAME);
    group = nlmsg_find_attr(header, sizeof(*info), IFLA_GROUP);
    link.ifindex = (unsigned)info->ifi_index;
    link.group = group ? nla_get_u32(group) : 0;
    if (name)
        nla_strlcpy(link.name, name, sizeof(link.name));
    return links->each(dump->context, &link);
}

int netlink_links(struct netlink *netlink, netlink_link_fn *each, void *context,
                  struct drafter_error *err)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct link_dump dump = {{parse_link, context, 0}, each};

    return run(netlink, RTM_GETLINK, &header, sizeof(header), &dump.dump, err);
}

static int parse_address(struct dump *dump, struct nlmsghdr *header)
{
    struct address_dump *addresses = (struct address_dump *)dump;
    const struct ifaddrmsg *info = nlmsg_data(header);
    struct address address = {0};
    struct nlattr *value;

    if (header->nlmsg_type != RTM_NEWADDR || !nlmsg_valid_hdr(header, sizeof(*info)))
        return 0;
    value = nlmsg_find_attr(header, sizeof(*info), IFA_LOCAL);
    if (!value)
        value = nlmsg_find_attr(header, sizeof(*info), IFA_ADDRESS);
    if (!value || (info->ifa_family != AF_INET && info->ifa_family != AF_INET6) ||
        nla_len(value) != (info->ifa_family == AF_INET6 ? 16 : 4))
        return 0;
    address.family = info->ifa_family;
    address.length = info->ifa_prefixlen;
    memcpy(address.bytes, nla_data(value), (size_t)nla_len(value));
    return addresses->each(dump->context, info->ifa_index, &address);
}

int netlink_addresses(struct netlink *netlink, netlink_address_fn *each, void *context,
                      struct drafter_error *err)
{
    struct ifaddrmsg header = {.ifa_family = AF_UNSPEC};
    struct address_dump dump = {{parse_address, context, 0}, each};

    return run(netlink, RTM_GETADDR, &header, sizeof(header), &dump.dump, err);
}

static int parse_route(struct dump *dump, struct nlmsghdr *header)
{
    struct route_dump *routes = (struct route_dump *)dump;
    const struct rtmsg *info = nlmsg_data(header);
    struct nlattr *link, *priority;
    uint32_t metric;

    if (header->nlmsg_type != RTM_NEWROUTE || !nlmsg_valid_hdr(header, sizeof(*info)) ||
        info->rtm_dst_len != 0 || info->rtm_table != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST)
        return 0;
    link = nlmsg_find_attr(header, sizeof(*info), RTA_OIF);
    priority = nlmsg_find_attr(header, sizeof(*info), RTA_PRIORITY);
    metric = priority ? nla_get_u32(priority) : 0;
    if (link && (!routes->ifindex || metric < routes->metric)) {
        routes->ifindex = nla_get_u32(link);
        routes->metric = metric;
    }
    return 0;
}

int netlink_default_link(struct netlink *netlink, unsigned *ret_ifindex, struct drafter_error *err)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    struct route_dump dump = {{parse_route, NULL, 0}, 0, 0};
    int ret = 0;

    for (size_t i = 0; i < 2 && ret == 0 && !dump.ifindex; i++) {
        struct rtmsg header = {.rtm_family = families[i]};

        ret = run(netlink, RTM_GETROUTE, &header, sizeof(header), &dump.dump, err);
    }
    if (ret == 0)
        *ret_ifindex = dump.ifindex;
    return ret;
}

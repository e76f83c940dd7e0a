/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a guest is.  When slots keep their addresses outside, the host answers ARP and neighbour
 * solicitations for those whose guests it has, and tells at once when one arrives: everybody in the
 * broadcast domain who knew the address under another host's MAC sends here from then on.
 */
#include "pool.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct arp_packet {
    struct ether_header ether;
    struct ether_arp arp;
} __attribute__((packed));

struct advertisement {
    struct ether_header ether;
    struct ip6_hdr ip;
    struct nd_neighbor_advert advert;
    struct nd_opt_hdr option;
    uint8_t mac[6];
} __attribute__((packed));

struct announcer {
    int fd;
    unsigned ifindex;
    uint8_t mac[6];
};

static int send_packet(const struct announcer *announcer, const void *packet, size_t length,
                       struct drafter_error *err)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_ifindex = (int)announcer->ifindex,
                             .sll_halen = 6};

    memcpy(to.sll_addr, packet, 6);
    if (sendto(announcer->fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        return drafter_error_errno(err, errno, "announce");
    return 0;
}

/* RFC 5227, section 3: as a request and as a reply, for hosts differ in which they learn from. */
static int send_arp(const struct announcer *announcer, const struct address *address,
                    struct drafter_error *err)
{
    struct arp_packet packet;
    int ret = 0;

    memset(&packet, 0, sizeof(packet));
    memset(packet.ether.ether_dhost, 0xff, 6);
    memcpy(packet.ether.ether_shost, announcer->mac, 6);
    packet.ether.ether_type = htons(ETHERTYPE_ARP);
    packet.arp.arp_hrd = htons(ARPHRD_ETHER);
    packet.arp.arp_pro = htons(ETHERTYPE_IP);
    packet.arp.arp_hln = 6;
    packet.arp.arp_pln = 4;
    memcpy(packet.arp.arp_sha, announcer->mac, 6);
    memcpy(packet.arp.arp_spa, address->bytes, 4);
    memcpy(packet.arp.arp_tpa, address->bytes, 4);
    for (uint16_t operation = ARPOP_REQUEST; ret == 0 && operation <= ARPOP_REPLY; operation++) {
        packet.arp.arp_op = htons(operation);
        ret = send_packet(announcer, &packet, sizeof(packet), err);
    }
    return ret;
}

static uint32_t sum_words(const void *bytes, size_t length, uint32_t sum)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    return sum;
}

/* RFC 4443, section 2.3. */
static uint16_t icmp6_checksum(const struct advertisement *packet, size_t length)
{
    uint32_t sum = (uint32_t)length + IPPROTO_ICMPV6;

    sum = sum_words(&packet->ip.ip6_src, 32, sum);
    sum = sum_words((const char *)packet + offsetof(struct advertisement, advert), length, sum);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* RFC 4861, section 7.2.6: to all nodes, override set, solicited not. */
static int send_advertisement(const struct announcer *announcer, const struct address *address,
                              struct drafter_error *err)
{
    static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    struct advertisement packet;
    size_t length = sizeof(packet) - offsetof(struct advertisement, advert);

    memset(&packet, 0, sizeof(packet));
    memcpy(packet.ether.ether_dhost, all_nodes_mac, 6);
    memcpy(packet.ether.ether_shost, announcer->mac, 6);
    packet.ether.ether_type = htons(ETHERTYPE_IPV6);
    packet.ip.ip6_flow = htonl(UINT32_C(6) << 28);
    packet.ip.ip6_plen = htons((uint16_t)length);
    packet.ip.ip6_nxt = IPPROTO_ICMPV6;
    packet.ip.ip6_hlim = 255;
    memcpy(&packet.ip.ip6_src, address->bytes, 16);
    inet_pton(AF_INET6, "ff02::1", &packet.ip.ip6_dst);
    packet.advert.nd_na_type = ND_NEIGHBOR_ADVERT;
    packet.advert.nd_na_flags_reserved = ND_NA_FLAG_ROUTER | ND_NA_FLAG_OVERRIDE;
    memcpy(&packet.advert.nd_na_target, address->bytes, 16);
    packet.option.nd_opt_type = ND_OPT_TARGET_LINKADDR;
    packet.option.nd_opt_len = 1;
    memcpy(packet.mac, announcer->mac, 6);
    packet.advert.nd_na_cksum = icmp6_checksum(&packet, length);
    return send_packet(announcer, &packet, sizeof(packet), err);
}

static int open_announcer(struct announcer *announcer, const char *interface,
                          struct drafter_error *err)
{
    struct ifreq request = {0};
    int ret;

    announcer->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (announcer->fd < 0)
        return drafter_error_errno(err, errno, "announce: packet socket");
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    if (ioctl(announcer->fd, SIOCGIFINDEX, &request) == 0) {
        announcer->ifindex = (unsigned)request.ifr_ifindex;
        if (ioctl(announcer->fd, SIOCGIFHWADDR, &request) == 0) {
            memcpy(announcer->mac, request.ifr_hwaddr.sa_data, 6);
            return 0;
        }
    }
    ret = drafter_error_errno(err, errno, "announce on %s", interface);
    close(announcer->fd);
    return ret;
}

static int tell(const struct announcer *announcer, const struct layout *layout, uint32_t slot,
                struct drafter_error *err)
{
    struct slot_addresses addresses;
    int ret = 0;

    if (layout->family[LAYOUT_V4].own) {
        layout_slot(layout, slot, LAYOUT_V4, &addresses);
        ret = send_arp(announcer, &addresses.unique, err);
    }
    if (ret == 0 && layout->family[LAYOUT_V6].enabled && layout->family[LAYOUT_V6].own) {
        layout_slot(layout, slot, LAYOUT_V6, &addresses);
        ret = send_advertisement(announcer, &addresses.unique, err);
    }
    return ret;
}

/* Begins or ends to answer.  Removing what is not there is no failure. */
static int answer(const struct layout *layout, uint32_t slot, unsigned ifindex, bool on,
                  struct drafter_error *err)
{
    struct drafter_error error = {0};
    struct netlink netlink;
    int ret = netlink_open(&netlink, err);

    if (ret < 0)
        return ret;
    for (int family = 0; family < LAYOUT_FAMILIES; family++) {
        struct slot_addresses addresses;

        layout_slot(layout, slot, family, &addresses);
        if (layout->family[family].enabled && layout->family[family].own)
            netlink_proxy(&netlink, ifindex, &addresses.unique, on);
    }
    ret = netlink_flush(&netlink, &error);
    netlink_close(&netlink);
    if (ret == 0 || (!on && (ret == -ENOENT || ret == -ENODEV)))
        return 0;
    if (err)
        *err = error;
    return ret;
}

static bool keeps_address(const struct layout *layout)
{
    return layout->family[LAYOUT_V4].own ||
           (layout->family[LAYOUT_V6].enabled && layout->family[LAYOUT_V6].own);
}

static bool holds(const struct pool *pool, const struct drafter_network_slot *slot,
                  uint32_t *ret_slot)
{
    return pool->table.file && layout_find(&pool_header(pool)->layout, slot->name, ret_slot) &&
           pool_bit(pool->slots, *ret_slot);
}

int pool_announce(void *instance, const struct drafter_network_slot *slot,
                  struct drafter_error *err)
{
    struct pool *pool = instance;
    struct drafter_error error = {0};
    struct announcer announcer = {.fd = -1};
    const struct layout *layout;
    uint32_t number;
    int ret;

    if (!holds(pool, slot, &number))
        return drafter_error_set(err, ENOENT, "slot %s is not claimed here", slot->name);
    layout = &pool_header(pool)->layout;
    if (!keeps_address(layout))
        return 0;
    ret = open_announcer(&announcer, layout->host_interface, &error);
    if (ret == 0) {
        pool->table.file->slots[number].flags |= SLOT_ANNOUNCED;
        ret = answer(layout, number, announcer.ifindex, true, &error);
        if (ret == 0)
            ret = tell(&announcer, layout, number, &error);
        close(announcer.fd);
    }
    if (ret < 0 && err)
        *err = error;
    return ret;
}

int pool_silence(struct pool *pool, uint32_t slot, struct drafter_error *err)
{
    const struct layout *layout = &pool_header(pool)->layout;
    unsigned ifindex = if_nametoindex(layout->host_interface);
    int ret = ifindex ? answer(layout, slot, ifindex, false, err) : 0;

    if (ret == 0)
        pool->table.file->slots[slot].flags &= ~SLOT_ANNOUNCED;
    return ret;
}

int pool_withdraw(void *instance, const struct drafter_network_slot *slot,
                  struct drafter_error *err)
{
    struct pool *pool = instance;
    uint32_t number;

    if (!holds(pool, slot, &number))
        return drafter_error_set(err, ENOENT, "slot %s is not claimed here", slot->name);
    if (!(pool->table.file->slots[number].flags & SLOT_ANNOUNCED))
        return 0;
    return pool_silence(pool, number, err);
}

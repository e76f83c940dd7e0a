/* SPDX-License-Identifier: BSD-2-Clause */
#include "forward.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

const char *forward_protocol_name(uint8_t protocol)
{
    return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

const char *forward_text(const struct drafter_network_forward *forward,
                         char buffer[FORWARD_TEXT_MAX])
{
    bool v6 = strchr(forward->host_address, ':') != NULL;

    snprintf(buffer, FORWARD_TEXT_MAX, "%s %s%s%s:%u", forward_protocol_name(forward->protocol),
             v6 ? "[" : "", forward->host_address, v6 ? "]" : "", forward->host_port);
    return buffer;
}

static bool ends_within(const char *string, size_t size)
{
    return memchr(string, '\0', size) != NULL;
}

static int parse_address(const char *text, struct forward_host *host)
{
    if (inet_pton(AF_INET, text, &host->address.v4) == 1) {
        uint32_t address = ntohl(host->address.v4.s_addr);

        host->family = AF_INET;
        host->wildcard = address == INADDR_ANY;
        host->loopback = address >> 24 == IN_LOOPBACKNET;
        return IN_MULTICAST(address) || address == INADDR_BROADCAST ? -EINVAL : 0;
    }
    if (inet_pton(AF_INET6, text, &host->address.v6) == 1) {
        host->family = AF_INET6;
        host->wildcard = IN6_IS_ADDR_UNSPECIFIED(&host->address.v6);
        host->loopback = IN6_IS_ADDR_LOOPBACK(&host->address.v6);
        return IN6_IS_ADDR_MULTICAST(&host->address.v6) ? -EINVAL : 0;
    }
    return -EINVAL;
}

int forward_parse(const char *subject, const struct drafter_network_forward *forward,
                  struct forward_host *ret_host, struct drafter_error *err)
{
    struct forward_host host = {.protocol = forward->protocol, .port = forward->host_port};
    char text[FORWARD_TEXT_MAX];

    if (!ends_within(forward->slot, sizeof(forward->slot)) ||
        !ends_within(forward->host_address, sizeof(forward->host_address)) ||
        !ends_within(forward->owner, sizeof(forward->owner)))
        return drafter_error_set(err, EINVAL, "%s: a forward with a string that does not end",
                                 subject);
    if (forward->protocol != IPPROTO_TCP && forward->protocol != IPPROTO_UDP)
        return drafter_error_set(err, EINVAL, "%s: a forward of protocol %u; tcp and udp can be",
                                 subject, forward->protocol);
    if (parse_address(forward->host_address, &host) < 0)
        return drafter_error_set(err, EINVAL,
                                 "%s: a forward of \"%s\", which is no unicast IP address", subject,
                                 forward->host_address);
    if (forward->host_port == 0 || forward->guest_port == 0)
        return drafter_error_set(err, EINVAL, "%s: forward of %s: port 0", subject,
                                 forward_text(forward, text));
    if (!*forward->slot || !*forward->owner)
        return drafter_error_set(err, EINVAL, "%s: forward of %s without %s", subject,
                                 forward_text(forward, text), *forward->slot ? "owner" : "slot");
    *ret_host = host;
    return 0;
}

static bool same_address(const struct forward_host *one, const struct forward_host *other)
{
    if (one->family == AF_INET)
        return one->address.v4.s_addr == other->address.v4.s_addr;
    return IN6_ARE_ADDR_EQUAL(&one->address.v6, &other->address.v6);
}

static bool same_service(const struct forward_host *one, const struct forward_host *other)
{
    return one->family == other->family && one->protocol == other->protocol &&
           one->port == other->port;
}

bool forward_meets(const struct forward_host *one, const struct forward_host *other)
{
    return same_service(one, other) &&
           (one->wildcard || other->wildcard || same_address(one, other));
}

bool forward_same(const struct forward_host *one, const struct forward_host *other)
{
    return same_service(one, other) && same_address(one, other);
}

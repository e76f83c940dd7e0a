/* SPDX-License-Identifier: BSD-2-Clause */
/* What a forward means, for every network plugin: is it well-formed, and do two of them meet? */
#ifndef NETWORK_FORWARD_H
#define NETWORK_FORWARD_H

#include <drafter/network.h>
#include <netinet/in.h>

/* The host's side of a forward, parsed. */
struct forward_host {
    int family; /* AF_INET or AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
    } address;
    uint8_t protocol;
    uint16_t port;
    bool wildcard, loopback;
};

/* "tcp" or "udp". */
const char *forward_protocol_name(uint8_t protocol);

/* EINVAL: a field is out of range; `subject` begins the message. */
int forward_parse(const char *subject, const struct drafter_network_forward *forward,
                  struct forward_host *ret_host, struct drafter_error *err);

/* Whether a packet can match both. */
bool forward_meets(const struct forward_host *one, const struct forward_host *other);

/* Whether both mean the same address, or both are wildcards. */
bool forward_same(const struct forward_host *one, const struct forward_host *other);

/* "tcp 127.0.0.1:3333", "udp [::]:53" for messages, in `buffer`. */
#define FORWARD_TEXT_MAX 96
const char *forward_text(const struct drafter_network_forward *forward,
                         char buffer[FORWARD_TEXT_MAX]);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses of the tcp transport: their syntax, and name resolution that ends in time. */
#ifndef TCP_ADDRESS_H
#define TCP_ADDRESS_H

#include <drafter/common.h>
#include <netdb.h>
#include <sys/socket.h>

#define TCP_HOST_MAX 255

/* The two halves of an address; an empty host means all addresses (listen) or this host (connect). */
struct tcp_address {
    char host[TCP_HOST_MAX + 1];
    char port[6];
    uint16_t port_number;
    bool bracketed; /* the host was written in [ ], so it is a numeric IPv6 address */
};

/* Takes `host:port`, `:port`, `port` and `[v6]:port` apart; looks nothing up. */
int tcp_address_parse(const char *address, struct tcp_address *ret_address,
                      struct drafter_error *err);

/* Whether the address is the loopback; in doubt it is not.  An empty host is this one, or all of its
 * addresses when it is listened at. */
bool tcp_address_is_local(const struct tcp_address *address, bool listening);

/*
 * Finds the socket addresses by `deadline` (drafter_now_ns(), 0: the resolver's own limit).  The
 * caller gives the result to freeaddrinfo.
 */
int tcp_address_resolve(const struct tcp_address *address, bool passive, uint64_t deadline,
                        struct addrinfo **ret_list, struct drafter_error *err);

/* "192.0.2.1:1337", "[2001:db8::1]:1337"; IPv4 in an IPv6 socket is shown as IPv4. */
void tcp_address_format(const struct sockaddr *address, socklen_t length, char *buffer, size_t size);

#endif

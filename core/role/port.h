/* SPDX-License-Identifier: BSD-2-Clause */
/* Ports of this host: what they are called, who has them, and keeping them from others. */
#ifndef ROLE_PORT_H
#define ROLE_PORT_H

#include <drafter/common.h>

/*
 * Takes "HOST:PORT" apart: HOST numeric, in brackets for IPv6, a name that the host can resolve (its IPv4
 * address is preferred), or nothing, which means 0.0.0.0.  The address is written in its numeric form.
 */
int port_parse(const char *text, char *address, size_t size, uint16_t *ret_port,
               struct drafter_error *err);

/*
 * Binds a socket of IPPROTO_TCP or IPPROTO_UDP to a port and does nothing more with it: nobody else can
 * bind it while the socket is open.  -EADDRINUSE names the process that has it, as far as the caller may
 * know; -EADDRNOTAVAIL: the host has no such address.
 */
int port_hold(int protocol, const char *address, uint16_t port, int *ret_fd,
              struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef NETWORK_NETLINK_INTERNAL_H
#define NETWORK_NETLINK_INTERNAL_H

#include "netlink.h"

/* Puts a request into the batch and frees it; NULL: it could not be built, netlink_flush will tell. */
void netlink_add(struct netlink *netlink, const char *what, struct nl_msg *message);

#endif

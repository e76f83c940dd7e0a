/* SPDX-License-Identifier: BSD-2-Clause */
/* What a node does with transports that prove nothing and hide nothing. */
#ifndef TRUST_PLAIN_H
#define TRUST_PLAIN_H

#include "plugin/transport.h"

/* [drafter] plain-transport, in the order of its choices. */
enum trust_plain {
    TRUST_PLAIN_ALLOW,
    TRUST_PLAIN_WARN,
    TRUST_PLAIN_FORBID,
};

/*
 * Warns of, or refuses (-EPERM), streams that may leave this host and whose peers are not known, be it only
 * because the transport does not insist.  `addresses`: one or several, separated by blanks.
 */
int trust_check_plain(struct instance *transport, const char *addresses, bool listening,
                      enum trust_plain policy, struct drafter_error *err);

#endif

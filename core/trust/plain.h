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
 * Whether streams at one address may leave this host with peers that are not known, be it only because the
 * transport does not insist: 0 when they do not or may, 1 with a warning in `err`, or -EPERM.
 */
int trust_judge_plain(struct instance *transport, const char *address, bool listening,
                      enum trust_plain policy, struct drafter_error *err);

/*
 * Does so for one or several addresses, separated by blanks, and logs the warnings: 0, or -EPERM.
 */
int trust_check_plain(struct instance *transport, const char *addresses, bool listening,
                      enum trust_plain policy, struct drafter_error *err);

#endif

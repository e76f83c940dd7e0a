/* SPDX-License-Identifier: BSD-2-Clause */
#include "trust/plain.h"

#include "util/log.h"

int trust_check_plain(struct instance *transport, const char *address, bool listening,
                      enum trust_plain policy, struct drafter_error *err)
{
    const char *name = transport->plugin->descriptor.name;
    const char *what = listening ? "whoever reaches it can take the VM's memory"
                                 : "whoever is on the way sees and changes the VM's memory";

    if (policy == TRUST_PLAIN_ALLOW || transport_knows_peers(transport) ||
        !transport_leaves_host(transport, address, listening))
        return 0;
    if (policy == TRUST_PLAIN_FORBID)
        return drafter_error_set(err, EPERM,
                                 "%s over plain %s: %s; plain-transport = forbid, so use a transport "
                                 "that encrypts",
                                 address, name, what);
    log_warning("trust", "%s over plain %s: %s; use a transport that encrypts", address, name, what);
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "trust/plain.h"

#include "util/log.h"
#include "util/words.h"

int trust_judge_plain(struct instance *transport, const char *address, bool listening,
                      enum trust_plain policy, struct drafter_error *err)
{
    const char *name = transport->plugin->descriptor.name;
    const char *what = listening ? "whoever reaches it can take the VM's memory"
                                 : "whoever is on the way sees and changes the VM's memory";
    bool knows = transport_knows_peers(transport);
    const char *kind = knows ? "" : "plain ";
    const char *remedy = knows ? "let it require that peers prove who they are"
                               : "use a transport that encrypts";

    if (policy == TRUST_PLAIN_ALLOW || !transport_leaves_host(transport, address, listening) ||
        (knows && !(listening && transport_admits_unknown(transport))))
        return 0;
    if (policy == TRUST_PLAIN_FORBID)
        return drafter_error_set(err, EPERM, "%s over %s%s: %s; plain-transport = forbid, so %s", address,
                                 kind, name, what, remedy);
    drafter_error_set(err, EPERM, "%s over %s%s: %s; %s", address, kind, name, what, remedy);
    return 1;
}

int trust_check_plain(struct instance *transport, const char *addresses, bool listening,
                      enum trust_plain policy, struct drafter_error *err)
{
    char address[256];
    int rc = 0;

    for (size_t i = 0; rc >= 0 && words_get(addresses, i, address, sizeof(address)); i++) {
        struct drafter_error warning = {0};

        rc = trust_judge_plain(transport, address, listening, policy, &warning);
        if (rc > 0)
            log_warning("trust", "%s", warning.message);
        else if (rc < 0)
            drafter_error_set(err, -rc, "%s", warning.message);
    }
    return rc < 0 ? rc : 0;
}

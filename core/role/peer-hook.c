/* SPDX-License-Identifier: BSD-2-Clause */
/* The operator's program that hears what becomes of the VM: PROGRAM EVENT VM. */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"

#define OUTPUT_MAX 4096

int peer_hook(const struct peer *peer, const char *event, struct drafter_error *err)
{
    const char *const argv[] = {peer->options.hook, event, peer->node->options.name, NULL};
    cleanup_free char *output = NULL;
    int rc;

    if (!peer->options.hook)
        return 0;
    rc = proc_run(argv, (unsigned)(peer->options.hook_timeout / 1000000), OUTPUT_MAX, &output, err);
    return rc ? drafter_error_wrap(err, "%s %s", peer->options.hook, event) : 0;
}

void peer_tell_hook(const struct peer *peer, const char *event)
{
    struct drafter_error error = {0};

    if (peer_hook(peer, event, &error))
        log_warning("peer", "VM %s: %s", peer->node->options.name, error.message);
}

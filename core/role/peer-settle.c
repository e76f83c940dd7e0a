/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An arrival that its drafter did not live to see the end of.
 *
 * ARRIVING is in the ledger before the first file is made.  A process that finds it there knows two things: the files
 * are nobody's VM, and the guest never ran here, as INCOMPLETE would have come first.  The source may have sent COMMIT
 * and wait for an answer.  So that epoch is refused, durably, and the source is told; whoever is unsure asks.  A role
 * without a VMM never writes INCOMPLETE: a record of that is a peer's, whose guest may have run, whoever finds it.
 */
#include "role/peer.h"

#include "util/log.h"

#include <sodium.h>
#include <string.h>

int peer_begin_arriving(struct peer *peer, const struct offer *offer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;
    uint64_t epoch = offer->live ? offer->epoch + 1 : record->epoch;

    peer->before = *record;
    return ledger_write(&peer->ledger, LEDGER_ARRIVING, epoch, peer->options.connect, offer->token, err);
}

/* What was in the ledger before is not known: a refusal is what an end without the VM leaves. */
int peer_adopt_arriving(struct peer *peer)
{
    peer->before = peer->ledger.record;
    if (peer->before.state == LEDGER_ARRIVING)
        peer->before.state = LEDGER_REFUSED;
    return 0;
}

void peer_end_arriving(struct peer *peer)
{
    struct drafter_error error = {0};
    const struct ledger_record *before = &peer->before;

    if (peer->ledger.record.state == LEDGER_ARRIVING &&
        ledger_write(&peer->ledger, before->state, before->epoch, before->peer, before->session, &error))
        log_warning("peer", "%s", error.message);
}

int peer_settle(struct peer *peer, const struct destination_options *options,
                struct drafter_error *err)
{
    struct drafter_error unheard = {0};
    struct ledger_record record;
    int rc = peer_open_ledger(peer, err);

    if (rc)
        return rc;
    peer_custom_discard(peer);
    record = peer->ledger.record;
    if (record.state != LEDGER_ARRIVING && record.state != LEDGER_REFUSED)
        return 0;
    if (sodium_is_zero(record.session, sizeof(record.session)) || !record.epoch)
        return 0;
    peer->leftovers = true;
    if (record.state == LEDGER_ARRIVING)
        rc = ledger_write(&peer->ledger, LEDGER_REFUSED, record.epoch, record.peer, record.session, err);
    if (rc)
        return rc;
    log_info("peer", "VM %s never ran here in epoch %llu: the source is told so", record.vm,
             (unsigned long long)record.epoch);
    if (destination_refuse(options, &record, &unheard))
        log_warning("peer", "the source could not be told: %s", unheard.message);
    return 0;
}

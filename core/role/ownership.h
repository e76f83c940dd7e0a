/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a ledger means for who may start the VM, in words; and the one way to overrule it.
 *
 * A forced take-over makes a node the owner in the next epoch although the other side did not agree.
 * Nothing can stop a node that nobody reaches, so it is for a person who knows that the other side does not
 * run the VM any more; the higher epoch stops it at the latest when it comes back to ask for pages.
 */
#ifndef ROLE_OWNERSHIP_H
#define ROLE_OWNERSHIP_H

#include "migrate/ledger.h"

/* 0 when the VM may be started from its files; else says why not, and names the owner. */
int ownership_check_start(const struct ledger_record *record, const char *path,
                          struct drafter_error *err);

/*
 * 0 when `record` may be taken over by force: -EPERM and the reason otherwise.  Only files that are the VM as
 * it was handed over can be: the newest pages of others were in the memory of a process that is gone.
 */
int ownership_check_take_over(const struct ledger_record *record, struct drafter_error *err);

/* Makes it ours in the next epoch, durably.  `epoch` is the one that the caller saw: -ESTALE if it changed. */
int ownership_take_over(struct ledger *ledger, uint64_t epoch, struct drafter_error *err);

#endif

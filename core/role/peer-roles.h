/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runner: runs a VM from files and saves it there.  Mounter: takes devices, shows them and hands them on, without a VM.
 * Terminator: takes a VM and puts it into files instead of running it.
 */
#ifndef ROLE_PEER_ROLES_H
#define ROLE_PEER_ROLES_H

#include "role/node.h"

extern const struct drafter_option runner_option_table[];
extern const struct drafter_option mounter_option_table[];
extern const struct drafter_option terminator_option_table[];

int runner_run(struct node *node, struct drafter_error *err);
int mounter_run(struct node *node, struct drafter_error *err);
int terminator_run(struct node *node, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VM is called that a command line describes and does not name. */
#ifndef ROLE_NAME_H
#define ROLE_NAME_H

#include "config/config.h"

/*
 * Without a file and a name: sets [drafter] name to one that belongs to the VM's files, so that VMs of
 * different files are different ones, whose ledgers are apart, and those of the same files are the same
 * one.  `kind` is what the name begins with.
 */
int role_default_name(struct config *config, const char *kind, struct drafter_error *err);

#endif

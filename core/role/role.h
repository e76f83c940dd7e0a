/* SPDX-License-Identifier: BSD-2-Clause */
/* What the program can be: a role composes devices, a VM and peers. */
#ifndef ROLE_ROLE_H
#define ROLE_ROLE_H

#include "config/flags.h"

struct options;

/* NULL-terminated. */
extern const char *const role_names[];

/* Fails, with the role that may have been meant. */
int role_unknown(const char *name, struct drafter_error *err);

/* "peer, registry or snapshotter", in `buffer`. */
const char *role_list(char *buffer, size_t size);

/* Runs a role to its end; NULL: the one that the configuration names. */
int role_run(const char *role, const struct options *options, struct drafter_error *err);

/*
 * The configuration of a role: its file, if the command line has one, with `flags` (NULL-terminated) over
 * it.  The caller frees it.
 */
int role_config(const char *role, const struct options *options, char *const *flags,
                struct config **ret_config, struct drafter_error *err);

/* Shows the flags of a role, which must exist, and those of its default VMM plugin. */
void role_show_flags(const char *role, config_flag_fn *show, void *opaque);

/* Prints the flags of a role, which must exist. */
void role_print_help(const char *role);

#endif

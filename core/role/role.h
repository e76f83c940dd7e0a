/* SPDX-License-Identifier: BSD-2-Clause */
/* What the program can be: a role composes devices, a VM and peers. */
#ifndef ROLE_ROLE_H
#define ROLE_ROLE_H

#include <drafter/common.h>

struct options;

/* NULL-terminated. */
extern const char *const role_names[];

/* Runs a role to its end; NULL: the one that the configuration names. */
int role_run(const char *role, const struct options *options, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* A registry: hands copies of a package to any number of peers at once. */
#ifndef ROLE_REGISTRY_H
#define ROLE_REGISTRY_H

#include "role/node.h"

struct registry_options {
    const char *listen, *transport;
};

extern const struct drafter_option registry_option_table[];

int registry_run(struct node *node, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* The sections that the core itself reads and their option tables, for `check`, `roles` and tests.
 */
#ifndef ROLE_TABLES_H
#define ROLE_TABLES_H

#include "config/flags.h"
#include <drafter/plugin.h>

struct role_table {
    const char *section; /* "peer" of [peer], "device" of [device:NAME]; NULL ends the table */
    const char *summary;
    const struct drafter_option *options;
    size_t size; /* of the struct that the options fill */
    bool is_role;
    bool has_vm;                     /* it has [device:NAME] sections */
    const struct config_flag *flags; /* of its command line beside the keys; NULL: none */
    enum config_flag_model bare;     /* what a command line means that has no flag of either model */
};

extern const struct role_table role_tables[];

/* NULL when there is none. */
const struct role_table *role_table_find(const char *section);

#endif

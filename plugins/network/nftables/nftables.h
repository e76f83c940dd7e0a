/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef NFTABLES_H
#define NFTABLES_H

#include "../pool.h"

#include <stdio.h>

struct nftables_config {
    struct pool_config pool;
};

/* Commands for nft; the last argument is of the type that its comment says. */

/* const struct rules_forwards *: the pool's table in place of the one that was there. */
void nftables_write_host(FILE *out, const struct layout *layout, const void *argument);

/* const struct rules_forwards *: these and no other forwards, into the table. */
void nftables_write_forwards(FILE *out, const struct layout *layout, const void *argument);

/* NULL: the table is gone, and it is no failure when it was not there. */
void nftables_write_remove(FILE *out, const struct layout *layout, const void *argument);

/* const uint32_t *: the table in the namespace of that slot. */
void nftables_write_slot(FILE *out, const struct layout *layout, const void *argument);

#endif

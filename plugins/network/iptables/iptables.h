/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef IPTABLES_H
#define IPTABLES_H

#include "../pool.h"

#include <stdio.h>

enum iptables_backend { BACKEND_SYSTEM, BACKEND_NFT, BACKEND_LEGACY };

struct iptables_config {
    struct pool_config pool;
    int backend; /* enum iptables_backend */
};

/* restore.c: the programs of one family, run in the thread's namespace. */

/*
 * Feeds `text` to iptables-restore --noflush, which inherits `guard`, if that is not -1; `what` begins
 * the message of a failure.
 */
int iptables_restore(const struct iptables_config *config, enum layout_family_index family,
                     int guard, const char *what, const char *text, struct drafter_error *err);

/* All rules, as iptables-save writes them; the caller frees. */
int iptables_save(const struct iptables_config *config, enum layout_family_index family,
                  char **ret_text, struct drafter_error *err);

/* rules.c: what to feed. */

/* The pool's chains and jumps in place of those that `saved` has. */
void iptables_write_host(FILE *out, const struct layout *layout, enum layout_family_index family,
                         const char *saved, const struct rules_forwards *forwards);
void iptables_write_forwards(FILE *out, const struct layout *layout,
                             enum layout_family_index family,
                             const struct rules_forwards *forwards);

/* Removes what `saved` has of the pool; false when that is nothing. */
bool iptables_write_remove(FILE *out, const struct layout *layout, const char *saved);

/* The rules in a slot's namespace. */
void iptables_write_slot(FILE *out, const struct layout *layout, enum layout_family_index family,
                         uint32_t slot);

#endif

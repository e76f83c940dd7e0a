/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into network plugins; contracts as in drafter/network.h, defaults filled in. */
#ifndef PLUGIN_NETWORK_H
#define PLUGIN_NETWORK_H

#include "plugin/plugin.h"
#include <drafter/network.h>

int network_claim(struct instance *network, const char *name, const char *owner,
                  struct drafter_network_slot *ret_slot, struct drafter_error *err);
/* See the plugin's adopt. */
bool network_adoptable(const struct instance *network);
int network_adopt(struct instance *network, const char *owner, struct drafter_network_slot *ret_slot,
                  struct drafter_error *err);
int network_announce(struct instance *network, const struct drafter_network_slot *slot,
                     struct drafter_error *err);
int network_withdraw(struct instance *network, const struct drafter_network_slot *slot,
                     struct drafter_error *err);
void network_release(struct instance *network, const struct drafter_network_slot *slot);

int network_pool_open(struct instance *network, const struct drafter_network_hooks *hooks,
                      struct drafter_error *err);
int network_pool_close(struct instance *network, struct drafter_error *err);
int network_list(struct instance *network, drafter_network_slot_fn *each, void *context,
                 struct drafter_error *err);
int network_reclaim(struct instance *network, size_t *ret_count, struct drafter_error *err);

int network_forward_add(struct instance *network, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err);
int network_forward_remove(struct instance *network, const struct drafter_network_forward *forwards,
                           size_t count, struct drafter_error *err);
int network_forward_list(struct instance *network, drafter_network_forward_fn *each, void *context,
                         struct drafter_error *err);

#endif

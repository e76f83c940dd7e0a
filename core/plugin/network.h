/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into network plugins; contracts as in drafter/network.h, defaults filled in. */
#ifndef PLUGIN_NETWORK_H
#define PLUGIN_NETWORK_H

#include "plugin/plugin.h"
#include <drafter/network.h>

int network_claim(struct instance *network, const char *name, const char *owner,
                  struct drafter_network_slot *ret_slot, struct drafter_error *err);
int network_announce(struct instance *network, const struct drafter_network_slot *slot,
                     struct drafter_error *err);
void network_release(struct instance *network, const struct drafter_network_slot *slot);

#endif

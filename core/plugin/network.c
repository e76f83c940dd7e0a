/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/network.h"

#include "plugin/adapter.h"

static const struct drafter_network_ops *ops_of(const struct instance *network)
{
    return network->plugin->ops;
}

int network_claim(struct instance *network, const char *name, const char *owner,
                  struct drafter_network_slot *ret_slot, struct drafter_error *err)
{
    struct drafter_network_slot slot = {0};
    int ret;
    adapter_scope(network);

    ret = ops_of(network)->claim(network->data, name, owner, &slot, err);
    ret = adapter_result(network, "claim", ret, err);
    if (ret < 0)
        return ret;
    adapter_terminate(slot.netns, sizeof(slot.netns));
    adapter_terminate(slot.tap, sizeof(slot.tap));
    adapter_terminate(slot.mac, sizeof(slot.mac));
    adapter_terminate(slot.address, sizeof(slot.address));
    adapter_terminate(slot.name, sizeof(slot.name));
    *ret_slot = slot;
    return 0;
}

int network_announce(struct instance *network, const struct drafter_network_slot *slot,
                     struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->announce)
        return 0;
    return adapter_result(network, "announce", ops->announce(network->data, slot, err), err);
}

void network_release(struct instance *network, const struct drafter_network_slot *slot)
{
    adapter_scope(network);

    ops_of(network)->release(network->data, slot);
}

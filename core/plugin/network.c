/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/network.h"

#include "plugin/adapter.h"

static const struct drafter_network_ops *ops_of(const struct instance *network)
{
    return network->plugin->ops;
}

/* No plugin is trusted with the ends of strings. */
static void take_slot(struct drafter_network_slot *slot, struct drafter_network_slot *ret_slot)
{
    adapter_terminate(slot->netns, sizeof(slot->netns));
    adapter_terminate(slot->tap, sizeof(slot->tap));
    adapter_terminate(slot->mac, sizeof(slot->mac));
    adapter_terminate(slot->address, sizeof(slot->address));
    adapter_terminate(slot->name, sizeof(slot->name));
    adapter_terminate(slot->address6, sizeof(slot->address6));
    adapter_terminate(slot->guest, sizeof(slot->guest));
    adapter_terminate(slot->gateway, sizeof(slot->gateway));
    adapter_terminate(slot->guest6, sizeof(slot->guest6));
    adapter_terminate(slot->gateway6, sizeof(slot->gateway6));
    *ret_slot = *slot;
}

int network_claim(struct instance *network, const char *name, const char *owner,
                  struct drafter_network_slot *ret_slot, struct drafter_error *err)
{
    struct drafter_network_slot slot = {0};
    int ret;
    adapter_scope(network);

    ret = ops_of(network)->claim(network->data, name, owner, &slot, err);
    ret = adapter_result(network, "claim", ret, err);
    if (ret == 0)
        take_slot(&slot, ret_slot);
    return ret;
}

bool network_adoptable(const struct instance *network)
{
    return ops_of(network)->adopt != NULL;
}

int network_adopt(struct instance *network, const char *owner, struct drafter_network_slot *ret_slot,
                  struct drafter_error *err)
{
    struct drafter_network_slot slot = {0};
    int ret;
    adapter_scope(network);

    if (!network_adoptable(network))
        return drafter_error_set(err, ENOTSUP, "its plugin cannot take a slot over");
    ret = adapter_result(network, "adopt", ops_of(network)->adopt(network->data, owner, &slot, err), err);
    if (ret == 0)
        take_slot(&slot, ret_slot);
    return ret;
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

int network_withdraw(struct instance *network, const struct drafter_network_slot *slot,
                     struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->withdraw)
        return 0;
    return adapter_result(network, "withdraw", ops->withdraw(network->data, slot, err), err);
}

void network_release(struct instance *network, const struct drafter_network_slot *slot)
{
    adapter_scope(network);

    ops_of(network)->release(network->data, slot);
}

int network_pool_open(struct instance *network, const struct drafter_network_hooks *hooks,
                      struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->pool_open)
        return 0;
    return adapter_result(network, "pool_open", ops->pool_open(network->data, hooks, err), err);
}

int network_pool_close(struct instance *network, struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->pool_close)
        return 0;
    return adapter_result(network, "pool_close", ops->pool_close(network->data, err), err);
}

static int refuse(const struct instance *network, const char *what, struct drafter_error *err)
{
    return drafter_error_set(err, ENOTSUP, "network plugin %s cannot %s",
                             network->plugin->descriptor.name, what);
}

int network_list(struct instance *network, drafter_network_slot_fn *each, void *context,
                 struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->list)
        return refuse(network, "list slots", err);
    return adapter_result(network, "list", ops->list(network->data, each, context, err), err);
}

int network_reclaim(struct instance *network, size_t *ret_count, struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    size_t count = 0;
    int ret;
    adapter_scope(network);

    ret = ops->reclaim ? ops->reclaim(network->data, &count, err) : 0;
    ret = adapter_result(network, "reclaim", ret, err);
    if (ret == 0)
        *ret_count = count;
    return ret;
}

int network_forward_add(struct instance *network, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->forward_add || !ops->forward_remove)
        return refuse(network, "forward ports", err);
    return adapter_result(network, "forward_add",
                          ops->forward_add(network->data, forwards, count, err), err);
}

int network_forward_remove(struct instance *network, const struct drafter_network_forward *forwards,
                           size_t count, struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->forward_remove)
        return refuse(network, "forward ports", err);
    return adapter_result(network, "forward_remove",
                          ops->forward_remove(network->data, forwards, count, err), err);
}

int network_forward_list(struct instance *network, drafter_network_forward_fn *each, void *context,
                         struct drafter_error *err)
{
    const struct drafter_network_ops *ops = ops_of(network);
    adapter_scope(network);

    if (!ops->forward_list)
        return refuse(network, "list forwards", err);
    return adapter_result(network, "forward_list", ops->forward_list(network->data, each, context, err),
                          err);
}

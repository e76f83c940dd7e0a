/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/kinds.h"

#include "plugin/plugin.h"
#include <drafter/device.h>
#include <drafter/network.h>
#include <drafter/storage.h>
#include <drafter/transport.h>
#include <drafter/vmm.h>
#include <string.h>

#define OP(kind_, name_, mandatory_)                                                               \
    {                                                                                              \
        #name_, offsetof(struct drafter_##kind_##_ops, name_), mandatory_                          \
    }
#define MUST(kind_, name_) OP(kind_, name_, true)
#define MAY(kind_, name_) OP(kind_, name_, false)
#define OPS_END                                                                                    \
    {                                                                                              \
        NULL, 0, false                                                                             \
    }

static const struct plugin_op transport_ops[] = {
    MUST(transport, connect),
    MUST(transport, listen),
    MUST(transport, accept),
    MUST(transport, listener_address),
    MUST(transport, listener_shutdown),
    MUST(transport, listener_close),
    MUST(transport, readv),
    MUST(transport, writev),
    MUST(transport, set_timeout),
    MUST(transport, shutdown),
    MUST(transport, close),
    MUST(transport, peer_name),
    MAY(transport, unsent),
    OPS_END,
};

static const struct plugin_op storage_ops[] = {
    MUST(storage, open),
    MUST(storage, size),
    MUST(storage, pread),
    MUST(storage, pwrite),
    MUST(storage, flush),
    MAY(storage, zero),
    MAY(storage, trim),
    MAY(storage, extent),
    MAY(storage, layer),
    MAY(storage, check),
    MAY(storage, verify),
    MAY(storage, digest),
    MAY(storage, settled),
    OPS_END,
};

static const struct plugin_op network_ops[] = {
    MUST(network, claim),
    MAY(network, announce),
    MUST(network, release),
    MAY(network, pool_open),
    MAY(network, pool_close),
    MAY(network, list),
    MAY(network, reclaim),
    MAY(network, forward_add),
    MAY(network, forward_remove),
    MAY(network, forward_list),
    MAY(network, withdraw),
    MAY(network, adopt),
    OPS_END,
};

static const struct plugin_op device_ops[] = {
    MUST(device, start),
    MUST(device, expose),
    MUST(device, sync),
    MUST(device, dirty),
    MUST(device, read),
    MUST(device, invalidate),
    MAY(device, hint),
    MAY(device, populate),
    MUST(device, withdraw),
    MUST(device, stop),
    MAY(device, reclaim),
    MAY(device, adopt),
    MAY(device, serve),
    MAY(device, clean),
    OPS_END,
};

static const struct plugin_op vmm_ops[] = {
    MUST(vmm, facts),
    MUST(vmm, start),
    MUST(vmm, describe),
    MUST(vmm, pause),
    MUST(vmm, save),
    MUST(vmm, load),
    MUST(vmm, resume),
    MAY(vmm, channel),
    MUST(vmm, pid),
    MUST(vmm, stop),
    MAY(vmm, adopt),
    MAY(vmm, launch),
    MAY(vmm, foresee),
    MAY(vmm, gather),
    OPS_END,
};

/* Transports may not serialize: a reader that waits would lock out the writer and shutdown(). */
static const struct plugin_kind kinds[] = {
    {DRAFTER_KIND_TRANSPORT, "transport", sizeof(struct drafter_transport_ops), false,
     transport_ops},
    {DRAFTER_KIND_STORAGE, "storage", sizeof(struct drafter_storage_ops), true, storage_ops},
    {DRAFTER_KIND_NETWORK, "network", sizeof(struct drafter_network_ops), true, network_ops},
    {DRAFTER_KIND_DEVICE, "device", sizeof(struct drafter_device_ops), true, device_ops},
    {DRAFTER_KIND_VMM, "vmm", sizeof(struct drafter_vmm_ops), true, vmm_ops},
};

const struct plugin_kind *plugin_kind_at(size_t index)
{
    return index < sizeof(kinds) / sizeof(*kinds) ? &kinds[index] : NULL;
}

const struct plugin_kind *plugin_kind_get(enum drafter_kind kind)
{
    const struct plugin_kind *entry;

    for (size_t i = 0; (entry = plugin_kind_at(i)); i++)
        if (entry->kind == kind)
            return entry;
    return NULL;
}

const char *plugin_kind_name(enum drafter_kind kind)
{
    const struct plugin_kind *entry = plugin_kind_get(kind);

    return entry ? entry->name : "unknown";
}

int plugin_kind_parse(const char *name, enum drafter_kind *ret_kind)
{
    const struct plugin_kind *entry;

    for (size_t i = 0; (entry = plugin_kind_at(i)); i++) {
        if (strcmp(entry->name, name) == 0) {
            *ret_kind = entry->kind;
            return 0;
        }
    }
    return -EINVAL;
}

bool plugin_op_present(const void *ops, const struct plugin_op *op)
{
    void (*function)(void);

    memcpy(&function, (const char *)ops + op->offset, sizeof(function));
    return function != NULL;
}

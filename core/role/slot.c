/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/slot.h"

#include "util/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* NAME@PID: a VM that moves within a host is there twice for a moment, by one name. */
static void name_owner(const struct node *node, char owner[DRAFTER_NAME_MAX + 1])
{
    char process[16];
    int length = snprintf(process, sizeof(process), "@%d", (int)getpid());

    snprintf(owner, DRAFTER_NAME_MAX + 1, "%.*s%s", DRAFTER_NAME_MAX - length, node->options.name,
             process);
}

int slot_open(struct slot *slot, struct node *node, const char *network, const char *netns,
              struct drafter_error *err)
{
    if (slot->network || (!network && !netns))
        return 0;
    return node_instance(node, DRAFTER_KIND_NETWORK, network ? network : DEFAULT_NETWORK, &slot->network,
                         err);
}

bool slot_adoptable(const struct slot *slot)
{
    return !slot->network || network_adoptable(slot->network);
}

int slot_adopt(struct slot *slot, struct node *node, const char *network, const char *netns,
               struct drafter_error *err)
{
    struct drafter_error error = {0};
    char owner[DRAFTER_NAME_MAX + 1];
    int rc = slot_open(slot, node, network, netns, err);

    if (rc || !slot->network)
        return rc;
    name_owner(node, owner);
    if (network_adopt(slot->network, owner, &slot->claimed, &error))
        log_error("network", "VM %s goes on without its slot: %s", node->options.name, error.message);
    else
        slot->taken = true;
    return 0;
}

int slot_claim(struct slot *slot, struct node *node, const char *network, const char *netns,
               struct drafter_error *err)
{
    char owner[DRAFTER_NAME_MAX + 1];
    int rc = slot_open(slot, node, network, netns, err);

    if (rc || !slot->network)
        return rc;
    name_owner(node, owner);
    rc = network_claim(slot->network, netns, owner, &slot->claimed, err);
    if (rc)
        return rc;
    slot->taken = true;
    log_event("slot", "\"vm\":\"%s\",\"slot\":\"%s\",\"address\":\"%s\",\"address6\":\"%s\"",
              node->options.name, slot->claimed.name, slot->claimed.address,
              slot->claimed.address6);
    return 0;
}

void slot_announce(const struct slot *slot)
{
    struct drafter_error error = {0};

    if (slot->taken && network_announce(slot->network, &slot->claimed, &error))
        log_warning("network", "%s: %s", slot->claimed.name, error.message);
}

void slot_withdraw(const struct slot *slot)
{
    struct drafter_error error = {0};

    if (slot->taken && network_withdraw(slot->network, &slot->claimed, &error))
        log_warning("network", "%s: %s", slot->claimed.name, error.message);
}

void slot_release(struct slot *slot)
{
    if (slot->taken)
        network_release(slot->network, &slot->claimed);
    slot->taken = false;
}

static const char *text_of(const struct slot *slot, const char *text)
{
    return slot->taken && *text ? text : NULL;
}

void slot_place(const struct slot *slot, const char **ret_netns, const char **ret_tap,
                const char **ret_mac)
{
    *ret_netns = text_of(slot, slot->claimed.netns);
    *ret_tap = text_of(slot, slot->claimed.tap);
    *ret_mac = text_of(slot, slot->claimed.mac);
}

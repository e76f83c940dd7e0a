/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * No network: the reference for the contract in drafter/network.h and the mock of the tests.  A slot is
 * an entry in a list that ends with the instance.  The list keeps what every network plugin must keep:
 * a slot has one owner, and an owner has one slot.  There is no pool to make: slots that nobody claimed
 * are not there, and a forward may name any slot.
 */
#include "null.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS_MAX 65536

struct null_slot {
    struct null_slot *next;
    char name[64], owner[DRAFTER_NAME_MAX + 1];
};

static int null_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct null *null = calloc(1, sizeof(*null));

    (void)context;
    if (!null)
        return drafter_error_set(err, ENOMEM, "null: no memory");
    null->config = config;
    *ret_instance = null;
    return 0;
}

static void null_destroy(void *instance)
{
    struct null *null = instance;

    while (null && null->first) {
        struct null_slot *slot = null->first;

        null->first = slot->next;
        free(slot);
    }
    if (null)
        null_forward_release(null);
    free(null);
}

static const struct null_slot *find_name(const struct null *null, const char *name)
{
    const struct null_slot *slot = null->first;

    while (slot && strcmp(slot->name, name) != 0)
        slot = slot->next;
    return slot;
}

static const struct null_slot *find_owner(const struct null *null, const char *owner)
{
    const struct null_slot *slot = null->first;

    while (slot && strcmp(slot->owner, owner) != 0)
        slot = slot->next;
    return slot;
}

/* The lowest number that names no slot; there is one, because fewer than `slots` are taken. */
static void free_name(const struct null *null, char *name, size_t size)
{
    for (uint64_t i = 0; i < SLOTS_MAX; i++) {
        snprintf(name, size, "%llu", (unsigned long long)i);
        if (!find_name(null, name))
            return;
    }
}

static int check_claim(struct null *null, const char *name, const char *owner,
                       struct drafter_error *err)
{
    const struct null_slot *slot = find_owner(null, owner);

    if (++null->claims == null->config->fail_claim_at)
        return drafter_error_set(err, EIO, "null: claim %llu fails as configured",
                                 (unsigned long long)null->claims);
    if (!*owner || strlen(owner) > DRAFTER_NAME_MAX)
        return drafter_error_set(err, EINVAL, "null: an owner has 1 to %d characters",
                                 DRAFTER_NAME_MAX);
    if (slot)
        return drafter_error_set(err, EBUSY, "null: %s has slot %s already", owner, slot->name);
    if (null->taken >= null->config->slots)
        return drafter_error_set(err, EBUSY, "null: all %llu slots are taken",
                                 (unsigned long long)null->config->slots);
    if (!name)
        return 0;
    if (!*name || strlen(name) >= sizeof(slot->name))
        return drafter_error_set(err, EINVAL, "null: a slot name has 1 to %zu characters",
                                 sizeof(slot->name) - 1);
    slot = find_name(null, name);
    if (slot)
        return drafter_error_set(err, EBUSY, "null: slot %s belongs to %s", name, slot->owner);
    return 0;
}

static int null_claim(void *instance, const char *name, const char *owner,
                      struct drafter_network_slot *ret_slot, struct drafter_error *err)
{
    struct null *null = instance;
    struct null_slot *slot, **end = &null->first;
    int ret;

    ret = check_claim(null, name, owner, err);
    if (ret < 0)
        return ret;
    slot = calloc(1, sizeof(*slot));
    if (!slot)
        return drafter_error_set(err, ENOMEM, "null: no memory");
    if (name)
        snprintf(slot->name, sizeof(slot->name), "%s", name);
    else
        free_name(null, slot->name, sizeof(slot->name));
    snprintf(slot->owner, sizeof(slot->owner), "%s", owner);
    while (*end)
        end = &(*end)->next;
    *end = slot;
    null->taken++;
    memset(ret_slot, 0, sizeof(*ret_slot));
    memcpy(ret_slot->name, slot->name, sizeof(slot->name));
    return 0;
}

static void null_release(void *instance, const struct drafter_network_slot *slot)
{
    struct null *null = instance;

    for (struct null_slot **link = &null->first; *link; link = &(*link)->next) {
        if (strcmp((*link)->name, slot->name) == 0) {
            struct null_slot *found = *link;

            *link = found->next;
            null->taken--;
            free(found);
            return;
        }
    }
}

static int null_list(void *instance, drafter_network_slot_fn *each, void *context,
                     struct drafter_error *err)
{
    struct drafter_network_status status;
    const struct null *null = instance;
    int ret = 0;

    (void)err;
    for (const struct null_slot *slot = null->first; slot && ret >= 0; slot = slot->next) {
        memset(&status, 0, sizeof(status));
        memcpy(status.slot.name, slot->name, sizeof(slot->name));
        memcpy(status.owner, slot->owner, sizeof(slot->owner));
        status.pid = getpid();
        ret = each(context, &status);
    }
    return ret < 0 ? ret : 0;
}

static const struct drafter_option null_options[] = {
    {.key = "slots", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct null_config, slots),
     .default_value = "1024", .minimum = 1, .maximum = SLOTS_MAX,
     .help = "how many slots can be taken at a time"},
    {.key = "fail-claim-at", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct null_config, fail_claim_at), .default_value = "0",
     .help = "number of the claim that fails with EIO, 0 for none"},
    DRAFTER_OPTION_END,
};

static const struct drafter_network_ops null_ops = {
    .claim = null_claim,
    .release = null_release,
    .list = null_list,
    .forward_add = null_forward_add,
    .forward_remove = null_forward_remove,
    .forward_list = null_forward_list,
};

static const struct drafter_plugin null_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_NETWORK, struct drafter_network_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "null",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "no network",
    .options = null_options,
    .config_size = sizeof(struct null_config),
    .create = null_create,
    .destroy = null_destroy,
    .ops = &null_ops,
};
DRAFTER_PLUGIN_ENTRY(null_plugin)

/* SPDX-License-Identifier: BSD-2-Clause */
/* Who has which slot: claim, release, list, reclaim. */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT "slots"

static struct table_slot *slot_at(const struct pool *pool, uint32_t slot)
{
    return &pool->table.file->slots[slot];
}

/* The caller has table_lock, and the slot's lock. */
static void clear_slot(struct pool *pool, uint32_t slot)
{
    __atomic_store_n(&slot_at(pool, slot)->pid, 0, __ATOMIC_RELEASE);
    slot_at(pool, slot)->owner_hash = 0;
    memset(pool->table.file->owners[slot], 0, sizeof(pool->table.file->owners[slot]));
}

static void copy_owner(const struct pool *pool, uint32_t slot, char owner[64])
{
    memcpy(owner, pool->table.file->owners[slot], 64);
    owner[63] = '\0';
}

/* A dead owner of that name lost its slot; a live one keeps it and gets no other. */
static int check_owner(struct pool *pool, const char *owner, uint32_t hash,
                       struct drafter_error *err)
{
    uint32_t slots = pool_header(pool)->layout.slots;
    char other[64], name[IFNAMSIZ];

    for (uint32_t slot = 0; slot < slots; slot++) {
        const struct table_slot *at = slot_at(pool, slot);

        if (at->owner_hash != hash || !at->pid)
            continue;
        copy_owner(pool, slot, other);
        if (strcmp(other, owner) != 0 || !pool_slot_live(pool, slot))
            continue;
        layout_name(&pool->layout, slot, name);
        return drafter_error_set(err, EBUSY, "%s has slot %s already, in process %d", owner, name,
                                 at->pid);
    }
    return 0;
}

/* Takes the slot's lock if it is free, or its owner is dead. */
static bool try_slot(struct pool *pool, uint32_t slot)
{
    return slot_at(pool, slot)->state == SLOT_READY && !pool_bit(pool->slots, slot) &&
           table_take(&pool->table, TABLE_LOCK_SLOT, slot);
}

static int pick_named(struct pool *pool, const char *name, uint32_t *ret_slot,
                      struct drafter_error *err)
{
    const struct layout *layout = &pool_header(pool)->layout;
    char owner[64];

    if (!layout_find(layout, name, ret_slot))
        return drafter_error_set(err, ENOENT, "no slot %s: there are %s0 to %s%u", name,
                                 layout->prefix, layout->prefix, layout->slots - 1);
    if (try_slot(pool, *ret_slot))
        return 0;
    if (slot_at(pool, *ret_slot)->state != SLOT_READY)
        return drafter_error_set(err, ENOENT, "slot %s was never finished", name);
    copy_owner(pool, *ret_slot, owner);
    return drafter_error_set(err, EBUSY, "slot %s belongs to %s, in process %d", name, owner,
                             slot_at(pool, *ret_slot)->pid);
}

/* Slots that nobody claimed first; those of the dead only when there are no others. */
static int pick_any(struct pool *pool, uint32_t *ret_slot, struct drafter_error *err)
{
    uint32_t slots = pool_header(pool)->layout.slots;

    for (int stale = 0; stale < 2; stale++) {
        for (uint32_t slot = 0; slot < slots; slot++) {
            if ((slot_at(pool, slot)->pid != 0) == stale && try_slot(pool, slot)) {
                *ret_slot = slot;
                return 0;
            }
        }
    }
    return drafter_error_set(err, EBUSY, "all %u slots of the pool \"%s\" are taken", slots,
                             pool->layout.prefix);
}

static void fill_slot(struct pool *pool, uint32_t slot, const char *owner, uint32_t hash)
{
    struct table_slot *at = slot_at(pool, slot);

    clear_slot(pool, slot);
    memcpy(pool->table.file->owners[slot], owner, strlen(owner));
    at->owner_hash = hash;
    __atomic_store_n(&at->pid, (int32_t)getpid(), __ATOMIC_RELEASE);
    pool_set_bit(pool->slots, slot, true);
}

static int claim_locked(struct pool *pool, const char *name, const char *owner,
                        uint32_t *ret_slot, struct drafter_error *err)
{
    uint32_t hash = table_hash(owner);
    int ret;

    if ((ret = pool_usable(pool, err)) < 0 || (ret = check_owner(pool, owner, hash, err)) < 0)
        return ret;
    ret = name ? pick_named(pool, name, ret_slot, err) : pick_any(pool, ret_slot, err);
    if (ret == 0)
        fill_slot(pool, *ret_slot, owner, hash);
    return ret;
}

/* The locks of our slots live as long as anybody has the open file. */
static void keep_slots(const struct pool *pool)
{
    int r = pool->keeper ? pool->keeper->put(pool->keeper->opaque, KEPT, pool->table.slots_fd) : 0;

    if (r < 0)
        drafter_log(DRAFTER_LOG_WARNING, pool->backend->name,
                    "a slot will not outlive its drafter (error %d)", -r);
}

/* The slot that a dead process had; -ENOENT: none. */
static int find_mine(const struct pool *pool, uint32_t *ret_slot)
{
    for (uint32_t slot = 0; slot < pool_header(pool)->layout.slots; slot++)
        if (slot_at(pool, slot)->pid && table_mine(&pool->table, slot)) {
            *ret_slot = slot;
            return 0;
        }
    return -ENOENT;
}

int pool_adopt(void *instance, const char *owner, struct drafter_network_slot *ret_slot,
               struct drafter_error *err)
{
    struct pool *pool = instance;
    uint32_t slot = 0;
    int fd, ret;

    if (!pool->keeper || pool->keeper->take(pool->keeper->opaque, KEPT, &fd) < 0)
        return drafter_error_set(err, ENOENT, "no slot was kept");
    if ((ret = pool_attach(pool, err)) < 0 || (ret = table_lock(&pool->table, err)) < 0) {
        close(fd);
        return ret;
    }
    if (!table_inherit(&pool->table, fd)) {
        close(fd);
        ret = drafter_error_set(err, ENOENT, "the pool \"%s\" was made anew since", pool->layout.prefix);
    } else if ((ret = find_mine(pool, &slot)) < 0) {
        drafter_error_set(err, ENOENT, "the slot that was kept has been given back");
    } else {
        fill_slot(pool, slot, owner, table_hash(owner));
        layout_describe(&pool_header(pool)->layout, slot, ret_slot);
    }
    table_unlock(&pool->table);
    return ret;
}

int pool_claim(void *instance, const char *name, const char *owner,
               struct drafter_network_slot *ret_slot, struct drafter_error *err)
{
    struct drafter_error error = {0};
    struct pool *pool = instance;
    uint32_t slot = 0;
    int ret;

    if (!owner || !*owner || strlen(owner) > DRAFTER_NAME_MAX)
        return drafter_error_set(err, EINVAL, "an owner has 1 to %d characters", DRAFTER_NAME_MAX);
    if ((ret = pool_attach(pool, err)) < 0 || (ret = table_lock(&pool->table, err)) < 0)
        return ret;
    ret = claim_locked(pool, name, owner, &slot, err);
    table_unlock(&pool->table);
    if (ret < 0)
        return ret;
    /* A dead owner's host may still answer for the address; the slot is ours by now. */
    if ((slot_at(pool, slot)->flags & SLOT_ANNOUNCED) && pool_silence(pool, slot, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, pool->backend->name, "%s", error.message);
    layout_describe(&pool_header(pool)->layout, slot, ret_slot);
    keep_slots(pool);
    return 0;
}

static void release_slot(struct pool *pool, uint32_t slot)
{
    struct drafter_error error = {0};

    if ((slot_at(pool, slot)->flags & SLOT_ANNOUNCED) && pool_silence(pool, slot, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, pool->backend->name, "%s", error.message);
    /* Without table_lock: the record is ours as long as we have its lock. */
    clear_slot(pool, slot);
    pool_set_bit(pool->slots, slot, false);
    table_drop(&pool->table, TABLE_LOCK_SLOT, slot);
}

void pool_release(void *instance, const struct drafter_network_slot *slot)
{
    struct pool *pool = instance;
    uint32_t number;

    if (pool->table.file && layout_find(&pool_header(pool)->layout, slot->name, &number) &&
        pool_bit(pool->slots, number))
        release_slot(pool, number);
}

void pool_release_all(struct pool *pool)
{
    for (uint32_t slot = 0; slot < POOL_SLOTS_MAX; slot++)
        if (pool_bit(pool->slots, slot))
            release_slot(pool, slot);
}

static void describe_status(const struct pool *pool, uint32_t slot,
                            struct drafter_network_status *status)
{
    const struct layout *layout = &pool_header(pool)->layout;
    struct slot_addresses addresses;

    memset(status, 0, sizeof(*status));
    layout_describe(layout, slot, &status->slot);
    layout_outer(layout, slot, status->host_interface);
    layout_slot(layout, slot, LAYOUT_V4, &addresses);
    address_text(&addresses.outer, status->host_address);
    layout_slot(layout, slot, LAYOUT_V6, &addresses);
    address_text(&addresses.outer, status->host_address6);
    status->pid = slot_at(pool, slot)->pid;
    if (!status->pid)
        return;
    copy_owner(pool, slot, status->owner);
    status->stale = !pool_slot_live(pool, slot);
    status->announced = slot_at(pool, slot)->flags & SLOT_ANNOUNCED;
}

int pool_list(void *instance, drafter_network_slot_fn *each, void *context,
              struct drafter_error *err)
{
    struct drafter_network_status status;
    struct pool *pool = instance;
    int ret = pool_attach(pool, err);

    if (ret < 0)
        return ret;
    for (uint32_t slot = 0; ret >= 0 && slot < pool_header(pool)->layout.slots; slot++) {
        if ((ret = table_lock(&pool->table, err)) < 0)
            return ret;
        describe_status(pool, slot, &status);
        table_unlock(&pool->table);
        if (slot_at(pool, slot)->state == SLOT_READY)
            ret = each(context, &status);
    }
    return ret < 0 ? ret : 0;
}

int pool_reclaim(void *instance, size_t *ret_count, struct drafter_error *err)
{
    struct pool *pool = instance;
    size_t count = 0, forwards = 0;
    int ret = pool_attach(pool, err);

    if (ret < 0)
        return ret;
    for (uint32_t slot = 0; slot < pool_header(pool)->layout.slots; slot++) {
        bool taken;

        if (!slot_at(pool, slot)->pid || pool_bit(pool->slots, slot))
            continue;
        if ((ret = table_lock(&pool->table, err)) < 0)
            return ret;
        taken = slot_at(pool, slot)->pid && table_take(&pool->table, TABLE_LOCK_SLOT, slot);
        table_unlock(&pool->table);
        if (taken) {
            release_slot(pool, slot);
            count++;
        }
    }
    ret = pool_forward_reclaim(pool, &forwards, err);
    if (ret == 0)
        *ret_count = count + forwards;
    return ret;
}

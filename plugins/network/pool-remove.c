/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Removal, of all that the records say may be there, from a whole pool down to one slot half made.
 * Killed in between and begun again it comes to the same end: a record goes after what it is of.
 *
 * Links are moved into a group of their own and removed as a group, which takes the kernel one grace
 * period for all of them instead of one for each.
 */
#include "pool.h"

#include "namespace.h"

#include <stdlib.h>
#include <string.h>

struct removal {
    struct pool *pool;
    bool keep_live, here; /* here: in the host's namespace that the pool was made in */
    uint8_t *doomed;      /* of each slot */
    bool all;             /* no slot stays */
    size_t links;
    struct netlink netlink, mover;
    struct drafter_error first;
};

/* Goes on past a failure; the first is told in the end. */
static void note(struct removal *removal, const struct drafter_error *error)
{
    if (error->code && !removal->first.code)
        removal->first = *error;
}

static void tell_holders(const struct pool *pool, uint32_t slot)
{
    const struct table_file *file = pool->table.file;
    char name[IFNAMSIZ];

    layout_name(&file->header.layout, slot, name);
    drafter_log(DRAFTER_LOG_WARNING, pool->backend->name,
                "slot %s is removed while %s, process %d, has it", name, file->owners[slot],
                file->slots[slot].pid);
}

static void choose(struct removal *removal)
{
    struct pool *pool = removal->pool;
    const struct table_file *file = pool->table.file;
    struct drafter_error error;
    char name[IFNAMSIZ];

    removal->all = true;
    for (uint32_t slot = 0; slot < file->header.layout.slots; slot++) {
        bool live = pool_slot_live(pool, slot);

        if (file->slots[slot].state == SLOT_NONE)
            continue;
        if (removal->keep_live && live && file->slots[slot].state == SLOT_READY) {
            removal->all = false;
            continue;
        }
        if (live)
            tell_holders(pool, slot);
        removal->doomed[slot] = 1;
        memset(&error, 0, sizeof(error));
        layout_name(&file->header.layout, slot, name);
        if (pool->hooks.before_remove &&
            pool->hooks.before_remove(pool->hooks.context, name, &error) < 0)
            drafter_log(DRAFTER_LOG_WARNING, pool->backend->name, "hook before removing %s: %s",
                        name, error.message);
    }
    for (uint32_t i = 0; removal->keep_live && i < TABLE_FORWARDS_MAX; i++)
        if (pool_forward_live(pool, i))
            removal->all = false;
}

static void flush_mover(struct removal *removal)
{
    struct drafter_error error = {0};

    /* A link may go by itself meanwhile, with its namespace. */
    if (netlink_flush(&removal->mover, &error) < 0 && error.code != ENODEV)
        note(removal, &error);
}

static int move_link(void *context, const struct netlink_link *link)
{
    struct removal *removal = context;
    const struct layout *layout = &pool_header(removal->pool)->layout;
    size_t length = strlen(link->name), end = strlen(LAYOUT_OUTER_SUFFIX);
    char head[IFNAMSIZ] = "";
    uint32_t slot;

    if (link->group == layout_trash_group(layout))
        removal->links++;
    if (link->group != layout->group || length <= end)
        return 0;
    memcpy(head, link->name, length - end);
    if (!layout_find(layout, head, &slot) || !removal->doomed[slot])
        return 0;
    netlink_move_group(&removal->mover, link->ifindex, layout_trash_group(layout));
    removal->links++;
    if (removal->mover.count == NETLINK_BATCH)
        flush_mover(removal);
    return 0;
}

static void remove_links(struct removal *removal)
{
    struct drafter_error error = {0};

    if (netlink_links(&removal->netlink, move_link, removal, &error) < 0)
        note(removal, &error);
    flush_mover(removal);
    if (!removal->links)
        return;
    memset(&error, 0, sizeof(error));
    netlink_delete_group(&removal->netlink, layout_trash_group(&pool_header(removal->pool)->layout));
    if (netlink_flush(&removal->netlink, &error) < 0 && error.code != ENODEV)
        note(removal, &error);
}

static void remove_slots(struct removal *removal)
{
    struct table_file *file = removal->pool->table.file;
    struct drafter_error error;
    char path[128];

    for (uint32_t slot = 0; slot < file->header.layout.slots; slot++) {
        if (!removal->doomed[slot])
            continue;
        memset(&error, 0, sizeof(error));
        if (removal->here && (file->slots[slot].flags & SLOT_ANNOUNCED))
            pool_silence(removal->pool, slot, &error);
        note(removal, &error);
        memset(&error, 0, sizeof(error));
        layout_netns(&file->header.layout, slot, path);
        if (namespace_remove(path, &error) < 0) {
            note(removal, &error);
            continue;
        }
        memset(&file->slots[slot], 0, sizeof(file->slots[slot]));
        memset(file->owners[slot], 0, sizeof(file->owners[slot]));
    }
}

/* What goes when no slot is left: rules, settings, at last the records. */
static void remove_rest(struct removal *removal)
{
    struct drafter_error error = {0};
    struct pool *pool = removal->pool;

    if (removal->here && pool->backend->host_remove(pool->plugin_config, &pool_header(pool)->layout,
                                                    pool->table.fd, &error) < 0)
        note(removal, &error);
    memset(&error, 0, sizeof(error));
    if (!removal->here)
        drafter_log(DRAFTER_LOG_WARNING, pool->backend->name,
                    "pool \"%s\" was made in another network namespace: its rules stay there",
                    pool->layout.prefix);
    if (host_leave(pool, removal->here, !removal->first.code, &error) < 0)
        note(removal, &error);
}

/* A slot that is free when it is chosen must not be claimed before it is gone. */
static int end_claims(const struct removal *removal, struct drafter_error *err)
{
    struct pool *pool = removal->pool;
    int ret = table_lock(&pool->table, err);

    if (ret < 0 && removal->keep_live)
        return ret;
    /* When slots stay, the maker goes on to make the others. */
    __atomic_store_n(&pool_header(pool)->state, removal->keep_live ? TABLE_MAKING : TABLE_CLOSING,
                     __ATOMIC_RELEASE);
    if (ret == 0)
        table_unlock(&pool->table);
    return 0;
}

static void run(struct removal *removal)
{
    struct pool *pool = removal->pool;
    struct drafter_error error = {0};

    if (end_claims(removal, &error) < 0) {
        note(removal, &error);
        return;
    }
    choose(removal);
    if (removal->all)
        __atomic_store_n(&pool_header(pool)->state, TABLE_CLOSING, __ATOMIC_RELEASE);
    if (removal->here)
        remove_links(removal);
    remove_slots(removal);
    if (removal->all)
        remove_rest(removal);
}

int pool_remove(struct pool *pool, bool keep_live, struct drafter_error *err)
{
    struct removal removal = {.pool = pool, .keep_live = keep_live};
    struct drafter_error error = {0};
    uint64_t netns[2] = {0, 0};

    removal.doomed = calloc(POOL_SLOTS_MAX, 1);
    if (!removal.doomed)
        note(&removal, &(struct drafter_error){ENOMEM, "pool: no memory"});
    else if (host_identity(netns, &error) < 0 || netlink_open(&removal.netlink, &error) < 0 ||
             netlink_open(&removal.mover, &error) < 0)
        note(&removal, &error);
    else {
        removal.here = memcmp(netns, pool_header(pool)->netns, sizeof(netns)) == 0;
        run(&removal);
    }
    netlink_close(&removal.netlink);
    netlink_close(&removal.mover);
    free(removal.doomed);
    if (removal.first.code && err)
        *err = removal.first;
    return -removal.first.code;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Forwards: a record for each, then the rules from all records.  A record that is there without its
 * rule is a dead process's, or is about to be removed by the call that made it.
 */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct table_forward *record_at(const struct pool *pool, uint32_t number)
{
    return &pool->table.file->forwards[number];
}

/* A record is another process's writing: it is parsed again, and what makes no sense is no forward. */
static bool parse_record(const struct pool *pool, uint32_t number, struct rules_forward *ret)
{
    const struct layout *layout = &pool_header(pool)->layout;
    const struct table_forward *record = record_at(pool, number);
    struct slot_addresses addresses;
    uint32_t slot;

    if (!record->used || forward_parse("", &record->forward, &ret->host, NULL) < 0 ||
        !layout_find(layout, record->forward.slot, &slot))
        return false;
    layout_slot(layout, slot, ret->host.family == AF_INET6 ? LAYOUT_V6 : LAYOUT_V4, &addresses);
    ret->target = addresses.unique;
    ret->port = record->forward.guest_port;
    return ret->target.family != 0;
}

int pool_forward_collect(const struct pool *pool, struct rules_forwards *ret_forwards,
                         struct drafter_error *err)
{
    struct rules_forwards forwards = {calloc(TABLE_FORWARDS_MAX, sizeof(*forwards.items)), 0};

    if (!forwards.items)
        return drafter_error_set(err, ENOMEM, "forwards: no memory");
    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++)
        if (pool_forward_live(pool, i) && parse_record(pool, i, &forwards.items[forwards.count]))
            forwards.count++;
    *ret_forwards = forwards;
    return 0;
}

/* Whether packets of the host's loopback interface go to a slot. */
static bool needs_localnet(const struct pool *pool, const char *slot, int family)
{
    struct rules_forward forward;

    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++)
        if (parse_record(pool, i, &forward) && forward.host.family == family &&
            (forward.host.loopback || forward.host.wildcard) &&
            strcmp(record_at(pool, i)->forward.slot, slot) == 0)
            return true;
    return false;
}

static int set_localnet(struct pool *pool, uint32_t slot, int family, bool on,
                        struct drafter_error *err)
{
    struct netlink netlink;
    char name[IFNAMSIZ];
    unsigned ifindex;
    int ret;

    layout_outer(&pool_header(pool)->layout, slot, name);
    ifindex = if_nametoindex(name);
    if (!ifindex)
        return on ? drafter_error_errno(err, errno, "%s", name) : 0;
    ret = netlink_open(&netlink, err);
    if (ret < 0)
        return ret;
    if (family == AF_INET6)
        netlink_link_localnet6(&netlink, ifindex, on);
    else
        netlink_link_localnet(&netlink, ifindex, on);
    ret = netlink_flush(&netlink, err);
    netlink_close(&netlink);
    return ret;
}

static int sync_family(struct pool *pool, const char *name, int family, uint32_t flag,
                       struct drafter_error *err)
{
    struct table_slot *record;
    uint32_t slot;
    bool wanted;
    int ret;

    if (!layout_find(&pool_header(pool)->layout, name, &slot))
        return 0;
    record = &pool->table.file->slots[slot];
    wanted = needs_localnet(pool, name, family);
    if (wanted == !!(record->flags & flag))
        return 0;
    ret = set_localnet(pool, slot, family, wanted, err);
    if (ret == 0 && wanted)
        record->flags |= flag;
    else if (ret == 0)
        record->flags &= ~flag;
    return ret;
}

static int sync_localnet(struct pool *pool, const char *name, struct drafter_error *err)
{
    int ret = sync_family(pool, name, AF_INET, SLOT_LOCALNET, err);

    return ret < 0 ? ret : sync_family(pool, name, AF_INET6, SLOT_LOCALNET6, err);
}

/* The caller has TABLE_LOCK_RULES. */
static int apply(struct pool *pool, struct drafter_error *err)
{
    struct rules_forwards forwards = {NULL, 0};
    int ret = table_lock(&pool->table, err);

    if (ret < 0)
        return ret;
    ret = pool_forward_collect(pool, &forwards, err);
    table_unlock(&pool->table);
    if (ret == 0 && pool_header(pool)->state == TABLE_OPEN)
        ret = pool->backend->host_forwards(pool->plugin_config, &pool_header(pool)->layout,
                                           &forwards, pool->table.fd, err);
    free(forwards.items);
    return ret;
}

static int settle(struct pool *pool, bool rules, struct drafter_error *err)
{
    int ret = 0;

    for (uint32_t i = 0; ret == 0 && i < TABLE_FORWARDS_MAX; i++)
        if (pool_forward_live(pool, i))
            ret = sync_localnet(pool, record_at(pool, i)->forward.slot, err);
    if (ret < 0)
        return ret;
    __atomic_store_n(&pool_header(pool)->state, TABLE_OPEN, __ATOMIC_RELEASE);
    return rules ? apply(pool, err) : 0;
}

int pool_forward_settle(struct pool *pool, bool rules, struct drafter_error *err)
{
    int ret = table_wait(&pool->table, TABLE_LOCK_RULES, err);

    if (ret < 0)
        return ret;
    ret = settle(pool, rules, err);
    table_drop(&pool->table, TABLE_LOCK_RULES, 0);
    return ret;
}

/*
 * Removes the rules of records of ours, then the records.  A record whose rule could not be removed is a
 * dead process's from now on, so that the next reclaim tries again.
 */
static int withdraw(struct pool *pool, const uint32_t *numbers, size_t count,
                    struct drafter_error *err)
{
    int ret = 0, other;

    for (size_t i = 0; i < count; i++) {
        pool_set_bit(pool->forwards, numbers[i], false);
        table_drop(&pool->table, TABLE_LOCK_FORWARD, numbers[i]);
    }
    if (count && (ret = apply(pool, err)) < 0)
        return ret;
    for (size_t i = 0; i < count; i++) {
        char slot[64];

        memcpy(slot, record_at(pool, numbers[i])->forward.slot, sizeof(slot));
        slot[63] = '\0';
        memset(record_at(pool, numbers[i]), 0, sizeof(struct table_forward));
        other = sync_localnet(pool, slot, ret == 0 ? err : NULL);
        ret = ret < 0 ? ret : other;
    }
    return ret;
}

/* Finds a place for a forward that meets no other; records of dead processes give way. */
static int place(struct pool *pool, const struct forward_host *host, uint32_t *ret_number,
                 struct drafter_error *err)
{
    uint32_t free_number = TABLE_FORWARDS_MAX;
    struct rules_forward other;
    char text[FORWARD_TEXT_MAX];

    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++) {
        const struct table_forward *record = record_at(pool, i);

        if (!pool_forward_live(pool, i)) {
            if (free_number == TABLE_FORWARDS_MAX)
                free_number = i;
            continue;
        }
        if (parse_record(pool, i, &other) && forward_meets(host, &other.host))
            return drafter_error_set(err, EADDRINUSE,
                                     "%s is forwarded to slot %s by %s, process %d",
                                     forward_text(&record->forward, text), record->forward.slot,
                                     record->forward.owner, record->pid);
    }
    if (free_number == TABLE_FORWARDS_MAX)
        return drafter_error_set(err, ENOSPC, "a pool has at most %u forwards", TABLE_FORWARDS_MAX);
    *ret_number = free_number;
    return 0;
}

static int check(struct pool *pool, const struct drafter_network_forward *forward,
                 struct forward_host *ret_host, struct drafter_error *err)
{
    const struct layout *layout = &pool_header(pool)->layout;
    char text[FORWARD_TEXT_MAX];
    uint32_t slot;
    int ret = forward_parse(pool->backend->name, forward, ret_host, err);

    if (ret < 0)
        return ret;
    forward_text(forward, text);
    if (strcmp(pool_header(pool)->backend, pool->backend->name) != 0)
        return drafter_error_set(err, EINVAL,
                                 "%s cannot be forwarded by %s: the pool \"%s\" was made by the "
                                 "plugin %s",
                                 text, pool->backend->name, layout->prefix,
                                 pool_header(pool)->backend);
    if (!layout_find(layout, forward->slot, &slot))
        return drafter_error_set(err, ENOENT, "%s cannot be forwarded to slot %s: there are %s0 to %s%u",
                                 text, forward->slot, layout->prefix, layout->prefix,
                                 layout->slots - 1);
    if (!layout->allow_incoming)
        return drafter_error_set(err, EPERM,
                                 "%s cannot be forwarded: the pool \"%s\" was made with "
                                 "allow-incoming-traffic = no",
                                 text, layout->prefix);
    if (ret_host->family == AF_INET6 && !layout->family[LAYOUT_V6].enabled)
        return drafter_error_set(err, EAFNOSUPPORT,
                                 "%s cannot be forwarded: the pool \"%s\" was made with ipv6 = no",
                                 text, layout->prefix);
    return 0;
}

/* Writes one record; the caller has table_lock. */
static int add_record(struct pool *pool, const struct drafter_network_forward *forward,
                      uint32_t *ret_number, struct drafter_error *err)
{
    struct table_forward *record;
    struct forward_host host;
    int ret;

    if ((ret = pool_usable(pool, err)) < 0 || (ret = check(pool, forward, &host, err)) < 0 ||
        (ret = place(pool, &host, ret_number, err)) < 0)
        return ret;
    if (!table_take(&pool->table, TABLE_LOCK_FORWARD, *ret_number))
        return drafter_error_set(err, EBUSY, "%s: a forward changed hands", pool->table.path);
    record = record_at(pool, *ret_number);
    memset(record, 0, sizeof(*record));
    record->forward = *forward;
    record->pid = (int32_t)getpid();
    record->used = 1;
    pool_set_bit(pool->forwards, *ret_number, true);
    return 0;
}

static int add_records(struct pool *pool, const struct drafter_network_forward *forwards,
                       size_t count, uint32_t *numbers, size_t *added, struct drafter_error *err)
{
    int ret = table_lock(&pool->table, err);

    if (ret < 0)
        return ret;
    for (*added = 0; ret == 0 && *added < count; *added += ret == 0)
        ret = add_record(pool, &forwards[*added], &numbers[*added], err);
    table_unlock(&pool->table);
    return ret;
}

static int add_all(struct pool *pool, const struct drafter_network_forward *forwards, size_t count,
                   uint32_t *numbers, struct drafter_error *err)
{
    size_t added = 0;
    int ret = add_records(pool, forwards, count, numbers, &added, err);

    for (size_t i = 0; ret == 0 && i < count; i++)
        ret = sync_localnet(pool, forwards[i].slot, err);
    if (ret == 0)
        ret = apply(pool, err);
    if (ret == 0)
        return 0;
    withdraw(pool, numbers, added, NULL); /* of two families one may have its rules */
    return ret;
}

int pool_forward_add(void *instance, const struct drafter_network_forward *forwards, size_t count,
                     struct drafter_error *err)
{
    struct pool *pool = instance;
    uint32_t *numbers;
    int ret;

    if (count > TABLE_FORWARDS_MAX)
        return drafter_error_set(err, ENOSPC, "a pool has at most %u forwards", TABLE_FORWARDS_MAX);
    if ((ret = pool_attach(pool, err)) < 0)
        return ret;
    numbers = calloc(count ? count : 1, sizeof(*numbers));
    if (!numbers)
        return drafter_error_set(err, ENOMEM, "forwards: no memory");
    ret = table_wait(&pool->table, TABLE_LOCK_RULES, err);
    if (ret == 0) {
        ret = add_all(pool, forwards, count, numbers, err);
        table_drop(&pool->table, TABLE_LOCK_RULES, 0);
    }
    free(numbers);
    return ret;
}

/* Removes records of ours that `matches` takes, then their rules. */
struct removal {
    const struct drafter_network_forward *forwards; /* NULL: all of this instance */
    size_t count;
    bool dead; /* instead: those of dead processes */
};

static bool matches(const struct pool *pool, uint32_t number, const struct removal *removal)
{
    const struct table_forward *record = record_at(pool, number);
    struct forward_host host, wanted;

    if (!record->used)
        return false;
    if (removal->dead)
        return !pool_forward_live(pool, number);
    if (!pool_bit(pool->forwards, number))
        return false;
    if (!removal->forwards)
        return true;
    for (size_t i = 0; i < removal->count; i++)
        if (forward_parse("", &removal->forwards[i], &wanted, NULL) == 0 &&
            forward_parse("", &record->forward, &host, NULL) == 0 && forward_same(&wanted, &host))
            return true;
    return false;
}

static int remove_matching(struct pool *pool, const struct removal *removal, size_t *ret_count,
                           struct drafter_error *err)
{
    uint32_t numbers[TABLE_FORWARDS_MAX];
    size_t count = 0;
    int ret = table_wait(&pool->table, TABLE_LOCK_RULES, err);

    if (ret < 0)
        return ret;
    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++)
        if (matches(pool, i, removal))
            numbers[count++] = i;
    ret = withdraw(pool, numbers, count, err);
    table_drop(&pool->table, TABLE_LOCK_RULES, 0);
    *ret_count = count;
    return ret;
}

int pool_forward_remove(void *instance, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err)
{
    struct removal removal = {.forwards = forwards, .count = count};
    struct pool *pool = instance;
    size_t removed;

    if (!pool->table.file || pool_header(pool)->state == TABLE_GONE || count == 0)
        return 0;
    return remove_matching(pool, &removal, &removed, err);
}

int pool_forward_remove_all(struct pool *pool, struct drafter_error *err)
{
    struct removal removal = {0};
    size_t removed;

    for (size_t i = 0; i < TABLE_FORWARDS_MAX / 64; i++)
        if (pool->forwards[i] && pool_header(pool)->state != TABLE_GONE)
            return remove_matching(pool, &removal, &removed, err);
    return 0;
}

int pool_forward_reclaim(struct pool *pool, size_t *ret_count, struct drafter_error *err)
{
    struct removal removal = {.dead = true};

    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++)
        if (matches(pool, i, &removal))
            return remove_matching(pool, &removal, ret_count, err);
    *ret_count = 0;
    return 0;
}

int pool_forward_list(void *instance, drafter_network_forward_fn *each, void *context,
                      struct drafter_error *err)
{
    struct drafter_network_forward forward;
    struct pool *pool = instance;
    int ret = pool_attach(pool, err);

    if (ret < 0)
        return ret;
    for (uint32_t i = 0; ret >= 0 && i < TABLE_FORWARDS_MAX; i++) {
        struct rules_forward parsed;
        bool live;
        int pid;

        if ((ret = table_lock(&pool->table, err)) < 0)
            return ret;
        live = pool_forward_live(pool, i) && parse_record(pool, i, &parsed);
        forward = record_at(pool, i)->forward;
        pid = record_at(pool, i)->pid;
        table_unlock(&pool->table);
        if (live)
            ret = each(context, &forward, pid);
    }
    return ret < 0 ? ret : 0;
}

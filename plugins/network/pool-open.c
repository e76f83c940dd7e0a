/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a pool at its maker. */
#include "pool.h"

#include "namespace.h"
#include "sysctl.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ATTEMPTS 300 /* another maker may be removing the file right now, */
#define PAUSE_NS 10000000 /* or be dead, and a program of its about to end */

/* Whether the process that has the pool is gone, so that its lock will go too. */
static bool maker_ended(const struct pool *pool)
{
    int64_t maker = pool_header(pool)->maker;

    return maker <= 0 || (kill((pid_t)maker, 0) < 0 && errno == ESRCH);
}

/* Opens the table and becomes its maker. */
static int become_maker(struct pool *pool, struct drafter_error *err)
{
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    int ret;

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        table_close(&pool->table);
        ret = table_open(&pool->table, pool->config->state_directory, pool->layout.prefix, true,
                         err);
        if (ret < 0)
            return ret;
        if (table_take(&pool->table, TABLE_LOCK_MAKER, 0)) {
            if (table_current(&pool->table))
                return 0;
        } else if (!maker_ended(pool)) {
            return drafter_error_set(err, EBUSY, "process %lld has the pool \"%s\"",
                                     (long long)pool_header(pool)->maker, pool->layout.prefix);
        }
        nanosleep(&pause, NULL);
    }
    return drafter_error_set(err, EBUSY, "the pool \"%s\" is taken again and again", pool->layout.prefix);
}

/* Who still uses what an earlier maker made. */
static int check_live(struct pool *pool, const char *why, struct drafter_error *err)
{
    const struct table_file *file = pool->table.file;
    char name[IFNAMSIZ];

    for (uint32_t slot = 0; slot < file->header.layout.slots; slot++) {
        if (!pool_slot_live(pool, slot))
            continue;
        layout_name(&file->header.layout, slot, name);
        return drafter_error_set(err, EBUSY, "%s has slot %s of the pool, which %s", file->owners[slot],
                                 name, why);
    }
    for (uint32_t i = 0; i < TABLE_FORWARDS_MAX; i++)
        if (pool_forward_live(pool, i))
            return drafter_error_set(err, EBUSY, "%s has a forward of the pool, which %s",
                                     file->forwards[i].forward.owner, why);
    return 0;
}

/* Removes what an earlier maker left.  What is in use stays, if it can. */
static int settle(struct pool *pool, const struct layout *layout, const char *boot,
                  const uint64_t netns[2], struct drafter_error *err)
{
    const struct table_header *header = pool_header(pool);
    const char *why = NULL;
    int ret;

    if (header->state == TABLE_EMPTY)
        return 0;
    if (strcmp(header->boot, boot) != 0) {
        table_clear(&pool->table);
        return 0;
    }
    if (strcmp(header->backend, pool->backend->name) != 0)
        return drafter_error_set(err, EBUSY,
                                 "the pool \"%s\" was left by the plugin %s, which has to remove it",
                                 layout->prefix, header->backend);
    if (memcmp(&header->layout, layout, sizeof(*layout)) != 0)
        why = "was made with another configuration";
    else if (memcmp(header->netns, netns, sizeof(header->netns)) != 0)
        why = "was made in another network namespace";
    if (why && (ret = check_live(pool, why, err)) < 0)
        return ret;
    drafter_log(DRAFTER_LOG_INFO, pool->backend->name, "pool \"%s\" was left behind: removing it",
                layout->prefix);
    return pool_remove(pool, !why, err);
}

static int begin(struct pool *pool, const struct layout *layout, const char *boot,
                 const uint64_t netns[2], struct drafter_error *err)
{
    struct table_header *header = pool_header(pool);
    int ret = host_check(layout, pool->table.file, err);

    if (ret < 0)
        return ret;
    if ((ret = table_lock(&pool->table, err)) < 0)
        return ret;
    header->layout = *layout;
    memset(header->boot, 0, sizeof(header->boot));
    memcpy(header->boot, boot, strlen(boot));
    memcpy(header->netns, netns, sizeof(header->netns));
    memset(header->backend, 0, sizeof(header->backend));
    memcpy(header->backend, pool->backend->name, strlen(pool->backend->name));
    __atomic_store_n(&header->state, TABLE_MAKING, __ATOMIC_RELEASE);
    table_unlock(&pool->table);
    return 0;
}

static int apply_rules(struct pool *pool, bool *ret_forwards, struct drafter_error *err)
{
    struct rules_forwards forwards = {NULL, 0};
    int ret = table_wait(&pool->table, TABLE_LOCK_RULES, err);

    if (ret < 0)
        return ret;
    ret = pool_forward_collect(pool, &forwards, err);
    if (ret == 0)
        ret = pool->backend->host_apply(pool->plugin_config, &pool_header(pool)->layout, &forwards,
                                        pool->table.fd, err);
    table_drop(&pool->table, TABLE_LOCK_RULES, 0);
    free(forwards.items);
    *ret_forwards = forwards.count > 0;
    return ret;
}

static int make_all(struct pool *pool, struct drafter_error *err)
{
    bool forwards = false;
    int ret;

    if ((ret = namespace_prepare(err)) < 0 || (ret = host_prepare(pool, err)) < 0 ||
        (ret = apply_rules(pool, &forwards, err)) < 0 || (ret = pool_make(pool, err)) < 0)
        return ret;
    return pool_forward_settle(pool, forwards, err);
}

static int open_as_maker(struct pool *pool, struct drafter_error *err)
{
    struct layout layout = pool->layout;
    uint64_t netns[2];
    char boot[48];
    int ret;

    sysctl_boot_id(boot, sizeof(boot));
    if ((ret = host_identity(netns, err)) < 0 || (ret = host_resolve(&layout, err)) < 0 ||
        (ret = settle(pool, &layout, boot, netns, err)) < 0)
        return ret;
    if (pool_header(pool)->state == TABLE_GONE && (ret = become_maker(pool, err)) < 0)
        return ret;
    pool_header(pool)->maker = getpid();
    if ((ret = begin(pool, &layout, boot, netns, err)) < 0)
        return ret;
    ret = make_all(pool, err);
    if (ret < 0)
        pool_remove(pool, true, NULL);
    return ret;
}

int pool_open(void *instance, const struct drafter_network_hooks *hooks, struct drafter_error *err)
{
    static const struct drafter_network_hooks none = {NULL, NULL, NULL};
    struct pool *pool = instance;
    int ret;

    if (pool->maker)
        return drafter_error_set(err, EINVAL, "the pool \"%s\" is open already", pool->layout.prefix);
    if (pool->table.file)
        pool_release_all(pool);
    ret = become_maker(pool, err);
    if (ret < 0)
        return ret;
    pool->hooks = hooks ? *hooks : none;
    ret = open_as_maker(pool, err);
    if (ret == 0) {
        pool->maker = true;
        return 0;
    }
    /* A file that says nothing was made is of no use to anybody. */
    if (pool->table.file && pool_header(pool)->state == TABLE_EMPTY)
        table_unlink(&pool->table);
    table_close(&pool->table);
    return ret;
}

int pool_close(void *instance, struct drafter_error *err)
{
    struct pool *pool = instance;
    int ret;

    if (!pool->maker)
        return 0;
    ret = pool_remove(pool, false, err);
    pool->maker = false;
    memset(pool->slots, 0, sizeof(pool->slots));
    memset(pool->forwards, 0, sizeof(pool->forwards));
    table_close(&pool->table);
    return ret;
}

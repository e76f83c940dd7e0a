/* SPDX-License-Identifier: BSD-2-Clause */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

int pool_create(const struct drafter_context *context, const struct rules_backend *backend,
                const struct pool_config *pool_config, const void *config, void **ret_instance,
                struct drafter_error *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    int ret;

    if (!pool)
        return drafter_error_set(err, ENOMEM, "%s: no memory", backend->name);
    pool->config = pool_config;
    pool->plugin_config = config;
    pool->backend = backend;
    pool->keeper = context->keeper;
    pool->table = (struct table)TABLE_INIT;
    ret = layout_init(&pool->layout, pool_config, err);
    if (ret < 0) {
        free(pool);
        return ret;
    }
    *ret_instance = pool;
    return 0;
}

void pool_destroy(void *instance)
{
    struct drafter_error error = {0};
    struct pool *pool = instance;

    if (!pool)
        return;
    if (pool->table.file) {
        if (pool_forward_remove_all(pool, &error) < 0)
            drafter_log(DRAFTER_LOG_WARNING, pool->backend->name, "%s", error.message);
        pool_release_all(pool);
    }
    memset(&error, 0, sizeof(error));
    if (pool_close(pool, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, pool->backend->name, "%s", error.message);
    table_close(&pool->table);
    free(pool);
}

int pool_attach(struct pool *pool, struct drafter_error *err)
{
    if (pool->table.file && pool_header(pool)->state != TABLE_GONE)
        return 0;
    /* What was held in the old pool went with it. */
    memset(pool->slots, 0, sizeof(pool->slots));
    memset(pool->forwards, 0, sizeof(pool->forwards));
    table_close(&pool->table);
    return table_open(&pool->table, pool->config->state_directory, pool->layout.prefix, false, err);
}

int pool_usable(const struct pool *pool, struct drafter_error *err)
{
    const struct table_header *header = pool_header(pool);
    const char *name = pool->layout.prefix;

    switch (header->state) {
    case TABLE_OPEN:
        return 0;
    case TABLE_CLOSING:
        return drafter_error_set(err, ESHUTDOWN, "the pool \"%s\" is being removed", name);
    case TABLE_MAKING:
        if (pool->maker || table_taken(&pool->table, TABLE_LOCK_MAKER, 0))
            return drafter_error_set(err, EBUSY, "the pool \"%s\" is still being made", name);
        return drafter_error_set(err, ENOENT, "the pool \"%s\" was never finished: make it again",
                                 name);
    default:
        return drafter_error_set(err, ENOENT, "there is no pool \"%s\" in %s: nobody made one",
                                 name, pool->config->state_directory);
    }
}

const struct drafter_network_ops pool_ops = {
    .claim = pool_claim,
    .announce = pool_announce,
    .release = pool_release,
    .pool_open = pool_open,
    .pool_close = pool_close,
    .list = pool_list,
    .reclaim = pool_reclaim,
    .forward_add = pool_forward_add,
    .forward_remove = pool_forward_remove,
    .forward_list = pool_forward_list,
    .withdraw = pool_withdraw,
    .adopt = pool_adopt,
};

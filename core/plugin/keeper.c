/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/keeper.h"

#include "holder/holder.h"
#include "holder/message.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* Ids hold paths: one that is too long is told by its hash. */
static int full_name(const struct instance *instance, const char *name, char *full)
{
    const char *kind = plugin_kind_name(instance->plugin->descriptor.kind);
    int length = snprintf(full, HOLDER_NAME_MAX, "%s/%s/%s", kind, instance->id, name);

    if (strlen(name) > DRAFTER_NAME_MAX)
        return -ENAMETOOLONG;
    if (length >= HOLDER_NAME_MAX)
        snprintf(full, HOLDER_NAME_MAX, "%s/#%016llx/%s", kind,
                 (unsigned long long)XXH3_64bits(instance->id, strlen(instance->id)), name);
    return 0;
}

static int keeper_put(void *opaque, const char *name, int fd)
{
    struct instance *instance = opaque;
    char full[HOLDER_NAME_MAX];
    int result = full_name(instance, name, full);

    return result < 0 ? result : holder_put(instance->holder, full, fd);
}

static int keeper_take(void *opaque, const char *name, int *ret_fd)
{
    struct instance *instance = opaque;
    char full[HOLDER_NAME_MAX];
    int result = full_name(instance, name, full);

    return result < 0 ? result : holder_take(instance->holder, full, ret_fd);
}

static int keeper_memory(void *opaque, const char *name, size_t size, void **ret_memory,
                         bool *ret_found)
{
    struct instance *instance = opaque;
    char full[HOLDER_NAME_MAX];
    int result = full_name(instance, name, full);

    return result < 0 ? result
                      : holder_memory(instance->holder, full, size, ret_memory, ret_found);
}

static int keeper_spawn(void *opaque, const struct drafter_spawn *spawn, pid_t *ret_pid,
                        int *ret_pidfd, struct drafter_error *err)
{
    struct instance *instance = opaque;

    return holder_spawn(instance->holder, spawn, ret_pid, ret_pidfd, err);
}

static int keeper_status(void *opaque, pid_t pid, int *ret_status)
{
    struct instance *instance = opaque;

    return holder_status(instance->holder, pid, ret_status);
}

void keeper_init(struct instance *instance)
{
    instance->keeper = (struct drafter_keeper){
        .struct_size = sizeof(instance->keeper),
        .opaque = instance,
        .put = keeper_put,
        .take = keeper_take,
        .memory = keeper_memory,
        .spawn = keeper_spawn,
        .status = keeper_status,
    };
}

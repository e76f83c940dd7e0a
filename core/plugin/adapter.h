/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the adapters share.  A plugin may be written by anybody: its answers are brought into the
 * form that the contract promises before the core sees them.
 */
#ifndef PLUGIN_ADAPTER_H
#define PLUGIN_ADAPTER_H

#include "plugin/plugin.h"

/* Holds the lock of a serializing instance; NULL for others. */
static inline pthread_mutex_t *adapter_enter_(struct instance *instance)
{
    if (instance->plugin->descriptor.thread_model != DRAFTER_THREADS_SERIALIZE_INSTANCE)
        return NULL;
    pthread_mutex_lock(&instance->lock);
    return &instance->lock;
}

static inline void adapter_leave_(pthread_mutex_t **mutex)
{
    if (*mutex)
        pthread_mutex_unlock(*mutex);
}

/* For the rest of the block at most one thread is in a plugin that asked for that. */
#define adapter_scope(instance)                                                                    \
    __attribute__((cleanup(adapter_leave_), unused)) pthread_mutex_t *adapter_scope_ =             \
        adapter_enter_(instance)

/* 0 or a negative errno out of whatever a data operation returned. */
static inline int adapter_errno(int ret)
{
    return ret > 0 ? -EIO : ret;
}

/*
 * As adapter_errno for control operations; a failure that the plugin left without a sentence gets
 * one that names the plugin and the operation.
 */
int adapter_result(const struct instance *instance, const char *operation, int ret,
                   struct drafter_error *err);

/* Ends whatever string a plugin wrote to `buffer`. */
static inline void adapter_terminate(char *buffer, size_t size)
{
    if (size > 0)
        buffer[size - 1] = '\0';
}

/* -EINVAL when the range is not within `size`. */
static inline int adapter_check_range(uint64_t length, uint64_t offset, uint64_t size)
{
    return offset > size || length > size - offset ? -EINVAL : 0;
}

#endif

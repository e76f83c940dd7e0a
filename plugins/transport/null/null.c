/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams inside one process, for tests and as the smallest complete transport: connect and listen of
 * one instance meet by address.  Instances share nothing, so two roles that are to meet use the same.
 */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct null_config {
    uint64_t buffer_size, backlog;
};

struct null_instance {
    const struct null_config *config;
    struct null_hub hub;
    struct null_end *ends; /* protected by the hub's lock */
};

static const struct drafter_option null_options[] = {
    {.key = "buffer-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct null_config, buffer_size), .default_value = "256k", .minimum = 1,
     .maximum = UINT64_C(1) << 30,
     .help = "bytes on their way in each direction before writers wait"},
    {.key = "backlog", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct null_config, backlog),
     .default_value = "128", .minimum = 1, .maximum = 65536,
     .help = "streams that may wait to be accepted before connects wait"},
    DRAFTER_OPTION_END,
};

static int null_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct null_instance *instance = calloc(1, sizeof(*instance));

    (void)context;
    if (!instance)
        return drafter_error_set(err, ENOMEM, "null: out of memory");
    instance->config = config;
    null_hub_init(&instance->hub);
    *ret_instance = instance;
    return 0;
}

static void null_own(struct null_instance *instance, struct null_end *end)
{
    pthread_mutex_lock(&instance->hub.lock);
    end->owner = instance;
    end->previous = NULL;
    end->next = instance->ends;
    if (end->next)
        end->next->previous = end;
    instance->ends = end;
    pthread_mutex_unlock(&instance->hub.lock);
}

static void null_close(void *connection)
{
    struct null_end *end = connection;
    struct null_instance *instance;

    if (!end)
        return;
    instance = end->owner;
    pthread_mutex_lock(&instance->hub.lock);
    if (end->previous)
        end->previous->next = end->next;
    else
        instance->ends = end->next;
    if (end->next)
        end->next->previous = end->previous;
    pthread_mutex_unlock(&instance->hub.lock);
    null_end_free(end);
}

static void null_destroy(void *instance_)
{
    struct null_instance *instance = instance_;

    if (!instance)
        return;
    while (instance->ends)
        null_close(instance->ends);
    null_hub_release(&instance->hub);
    free(instance);
}

static int null_connect(void *instance_, const char *address, unsigned timeout_ms,
                        void **ret_connection, struct drafter_error *err)
{
    struct null_instance *instance = instance_;
    struct null_end *ends[2];
    int rc;

    if (null_pair_new(instance->config->buffer_size, ends) < 0)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    rc = null_hub_connect(&instance->hub, address, (unsigned)instance->config->backlog, timeout_ms,
                          ends[0], ends[1], err);
    if (rc < 0) {
        null_end_free(ends[0]);
        null_end_free(ends[1]);
        return rc;
    }
    null_own(instance, ends[0]);
    *ret_connection = ends[0];
    return 0;
}

static int null_listen(void *instance_, const char *address, void **ret_listener,
                       struct drafter_error *err)
{
    struct null_instance *instance = instance_;
    struct null_listener *listener;
    int rc = null_hub_listen(&instance->hub, address, &listener, err);

    if (rc == 0)
        *ret_listener = listener;
    return rc;
}

static int null_accept(void *instance_, void *listener, void **ret_connection,
                       struct drafter_error *err)
{
    struct null_instance *instance = instance_;
    struct null_end *end;
    int rc = null_listener_accept(listener, &end, err);

    if (rc < 0)
        return rc;
    null_own(instance, end);
    *ret_connection = end;
    return 0;
}

static int null_listener_address(void *listener_, char *buffer, size_t size)
{
    struct null_listener *listener = listener_;

    if (strlen(listener->address) >= size)
        return -ENAMETOOLONG;
    snprintf(buffer, size, "%s", listener->address);
    return 0;
}

static void null_shutdown_listener(void *listener)
{
    null_listener_shutdown(listener);
}

static void null_close_listener(void *listener)
{
    if (listener)
        null_listener_free(listener);
}

static ssize_t null_readv(void *connection, const struct iovec *vector, int count)
{
    return null_end_read(connection, vector, count);
}

static ssize_t null_writev(void *connection, const struct iovec *vector, int count)
{
    return null_end_write(connection, vector, count);
}

static int null_set_timeout(void *connection, unsigned timeout_ms)
{
    null_end_set_timeout(connection, timeout_ms);
    return 0;
}

static void null_shutdown(void *connection)
{
    null_end_shutdown(connection);
}

static int null_peer_name(void *connection, char *buffer, size_t size)
{
    struct null_end *end = connection;

    snprintf(buffer, size, "%s", end->name);
    return 0;
}

static ssize_t null_unsent(void *connection)
{
    return null_end_unsent(connection);
}

static bool null_leaves_host(void *instance, const char *address, bool listening)
{
    (void)instance, (void)address, (void)listening;
    return false;
}

static const struct drafter_transport_ops null_ops = {
    .connect = null_connect,
    .listen = null_listen,
    .accept = null_accept,
    .listener_address = null_listener_address,
    .listener_shutdown = null_shutdown_listener,
    .listener_close = null_close_listener,
    .readv = null_readv,
    .writev = null_writev,
    .set_timeout = null_set_timeout,
    .shutdown = null_shutdown,
    .close = null_close,
    .peer_name = null_peer_name,
    .unsent = null_unsent,
    .leaves_host = null_leaves_host,
};

static const struct drafter_plugin null_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "null",
    .version = "0.1.0",
    .license = "BSD-2-Clause",
    .summary = "streams inside one process",
    .options = null_options,
    .config_size = sizeof(struct null_config),
    .create = null_create,
    .destroy = null_destroy,
    .ops = &null_ops,
};
DRAFTER_PLUGIN_ENTRY(null_plugin)

/* SPDX-License-Identifier: BSD-2-Clause */
/* A complete transport but for one thing: it asks to be serialized, which no transport may. */
#include <drafter/transport.h>

static int nothing(void)
{
    return -ENOSYS;
}

/* Never called: the loader must refuse the plugin. */
#define NOTHING(member_)                                                                           \
    .member_ = (__typeof__(((struct drafter_transport_ops *)0)->member_))(void (*)(void))nothing

static const struct drafter_transport_ops serial_ops = {
    NOTHING(connect),          NOTHING(listen), NOTHING(accept), NOTHING(listener_address),
    NOTHING(listener_shutdown), NOTHING(listener_close), NOTHING(readv), NOTHING(writev),
    NOTHING(set_timeout),      NOTHING(shutdown), NOTHING(close), NOTHING(peer_name),
};

static int serial_create(const struct drafter_context *context, const void *config,
                         void **ret_instance, struct drafter_error *err)
{
    (void)context;
    (void)config;
    (void)ret_instance;
    return drafter_error_set(err, ENOSYS, "never created");
}

static void serial_destroy(void *instance)
{
    (void)instance;
}

static const struct drafter_plugin serial_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "serial",
    .version = "1.2",
    .license = "BSD-2-Clause",
    .summary = "a fixture of the tests",
    .create = serial_create,
    .destroy = serial_destroy,
    .ops = &serial_ops,
};
DRAFTER_PLUGIN_ENTRY(serial_plugin)

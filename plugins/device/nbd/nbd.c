/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as NBD: block devices of the kernel (/dev/nbdN), or a server alone, for clients that speak NBD
 * themselves.
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const attach_choices[] = {"kernel", "none", NULL};

static const struct drafter_option nbd_options[] = {
    {.key = "attach",
     .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct server_config, attach),
     .default_value = "kernel",
     .choices = attach_choices,
     .help = "kernel: block devices /dev/nbdN; none: only an NBD server, for a VMM that speaks NBD"},
    {.key = "listen",
     .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct server_config, listen),
     .help = "serve NBD clients, too: the path of a UNIX socket, or HOST:PORT; read-only, unless "
             "nothing is attached"},
    {.key = "connections",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct server_config, connections),
     .default_value = "1",
     .minimum = 1,
     .maximum = SERVER_CONNECTIONS_MAX,
     .help = "connections of the kernel per device"},
    {.key = "threads",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct server_config, threads),
     .default_value = "32",
     .minimum = 1,
     .maximum = 1024,
     .help = "reads of missing blocks that may wait at the same time; a quarter more threads, at "
             "least 4, serve what else may wait"},
    {.key = "clients",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct server_config, clients),
     .default_value = "16",
     .minimum = 1,
     .maximum = 1024,
     .help = "clients over sockets at the same time"},
    {.key = "timeout",
     .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct server_config, timeout_ns),
     .default_value = "10s",
     .minimum = UINT64_C(1000000000),
     .maximum = UINT64_C(3600000000000),
     .help = "after so long without an answer the kernel sends a request again"},
    {.key = "reconnect",
     .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct server_config, reconnect_ns),
     .default_value = "30s",
     .minimum = UINT64_C(1000000000),
     .maximum = UINT64_C(86400000000000),
     .help = "how long requests wait for a successor when this process dies, before they fail"},
    DRAFTER_OPTION_END,
};

static bool is_attached(const struct export *export)
{
    return export->node.fd >= 0;
}

static int nbd_create(const struct drafter_context *context, const void *config,
                      void **ret_instance, struct drafter_error *err)
{
    struct server *server = calloc(1, sizeof(*server));

    if (!server)
        return drafter_error_set(err, ENOMEM, "no memory");
    server->config = config;
    server->id = context->id;
    server->keeper = context->keeper;
    server->stop_fd = -1;
    pthread_mutex_init(&server->lock, NULL);
    *ret_instance = server;
    return 0;
}

static void nbd_stop(void *instance)
{
    struct server *server = instance;

    if (!server->served.directory)
        return;
    listen_stop(server);
    pool_stop(&server->pool);
    keep_end(server);
    served_leave(&server->served);
    server->adopting = false;
}

static void nbd_destroy(void *instance)
{
    struct server *server = instance;

    if (!server)
        return;
    nbd_stop(server);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static int nbd_probe(const void *config, struct drafter_probe *ret_probe)
{
    const struct server_config *chosen = config;
    struct drafter_error error = {0};

    ret_probe->usable = (chosen && chosen->attach == ATTACH_NONE) || netlink_probe(&error) == 0;
    if (ret_probe->usable)
        return 0;
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), "the kernel's NBD client is not there");
    snprintf(ret_probe->remedy, sizeof(ret_probe->remedy),
             "load the kernel module: modprobe nbd; or choose another device plugin");
    return 0;
}

static int nbd_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct server *server = instance;
    bool kernel = server->config->attach == ATTACH_KERNEL;
    int result = served_take(&server->served, server->id, directory, err);

    if (result < 0)
        return result;
    if (kernel)
        result = netlink_probe(err);
    if (result == 0 && kernel)
        result = keep_begin(server, err);
    if (result == 0)
        result = pool_start(&server->pool, (unsigned)server->config->threads, err);
    if (result == 0)
        result = listen_start(server, err);
    if (result < 0)
        nbd_stop(server); /* takes half a start, too */
    return result;
}

static bool is_known(struct server *server, const char *name)
{
    bool found = false;

    pthread_mutex_lock(&server->lock);
    for (struct export *export = server->exports; export && !found; export = export->next)
        found = strcmp(export->name, name) == 0;
    pthread_mutex_unlock(&server->lock);
    return found;
}

static void enter_list(struct export *export)
{
    struct server *server = export->server;

    pthread_mutex_lock(&server->lock);
    export->next = server->exports;
    server->exports = export;
    pthread_mutex_unlock(&server->lock);
}

static void leave_list(struct export *export)
{
    struct server *server = export->server;

    pthread_mutex_lock(&server->lock);
    for (struct export **at = &server->exports; *at; at = &(*at)->next) {
        if (*at != export)
            continue;
        *at = export->next;
        break;
    }
    pthread_mutex_unlock(&server->lock);
}

static int tell_path(const struct export *export, char *path, size_t path_size)
{
    const char *directory = export->server->served.directory;
    int length = is_attached(export) ? snprintf(path, path_size, "%s/%s", directory, export->name)
                                     : snprintf(path, path_size, "nbd+unix:///%s?socket=%s/nbd.sock",
                                                export->name, directory);

    return (size_t)length < path_size ? 0 : -ENAMETOOLONG;
}

static void nbd_withdraw(void *exposure)
{
    struct export *export = exposure;
    struct server *server = export->server;

    leave_list(export);
    listen_drop(server, export);
    export_close(export);
    attach_end(export);
    export_release(export);
}

static int nbd_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                      size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct server *server = instance;
    struct export *export;
    int result;

    if (!server->served.directory)
        return drafter_error_set(err, EINVAL, "%s: not started", server->id);
    result = node_check_size(spec, err);
    if (result < 0)
        return result;
    if (is_known(server, spec->name))
        return drafter_error_set(err, EEXIST, "%s: is exposed already", spec->name);
    export = malloc(sizeof(*export));
    if (!export)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    export_init(export, server, spec);
    if (server->adopting)
        result = attach_adopt(export, err);
    else if (server->config->attach == ATTACH_KERNEL)
        result = attach_begin(export, err);
    if (result == 0 && tell_path(export, path, path_size) < 0)
        result = drafter_error_set(err, ENAMETOOLONG, "%s: the path of the device is too long",
                                   spec->name);
    if (result < 0) {
        attach_end(export);
        export_release(export);
        return result;
    }
    enter_list(export);
    *ret_exposure = export;
    return 0;
}

/* The kernel takes a page whose write failed for clean, and knows one error only: ours says which. */
static int nbd_sync(void *exposure, struct drafter_error *err)
{
    struct export *export = exposure;
    int result = is_attached(export) ? node_sync(&export->node, err) : 0;
    int written = atomic_exchange(&export->write_error, 0);

    return result < 0 && written
               ? drafter_error_errno(err, written, "%s: cannot write back", export->name)
               : result;
}

static int nbd_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct export *export = exposure;

    return is_attached(export) ? node_dirty(&export->node, bitmap, pages, err) : 0;
}

static int nbd_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct export *export = exposure;

    if (offset > export->bytes || length > export->bytes - offset)
        return -EINVAL;
    if (is_attached(export))
        return node_read(&export->node, buffer, length, offset);
    return length ? export->backend.read(export->backend.opaque, buffer, length, offset) : 0;
}

static int nbd_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct export *export = exposure;

    return is_attached(export) ? node_invalidate(&export->node, offset, length) : 0;
}

static void nbd_hint(void *exposure, enum drafter_device_hint hint)
{
    struct export *export = exposure;

    if (is_attached(export))
        node_set_queue(&export->node, "read_ahead_kb",
                       hint == DRAFTER_DEVICE_COMPLETE ? NODE_READAHEAD_COMPLETE_KIB : 0);
}

static int nbd_populate(void *exposure, uint64_t offset, uint64_t length)
{
    struct export *export = exposure;

    return is_attached(export) ? node_populate(&export->node, offset, length) : 0;
}

static int nbd_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    return served_reclaim(instance, directory, attach_release, err);
}

static int nbd_adopt(void *instance, const char *directory, struct drafter_error *err)
{
    struct server *server = instance;
    int result;

    if (server->served.directory || server->config->attach == ATTACH_NONE)
        return drafter_error_set(err, server->served.directory ? EALREADY : ENOENT,
                                 "%s: has nothing to take over", server->id);
    result = served_take(&server->served, server->id, directory, err);
    if (result == 0)
        result = keep_find(server, err);
    if (result == 0)
        result = pool_start(&server->pool, (unsigned)server->config->threads, err);
    server->adopting = result == 0;
    if (result < 0)
        nbd_stop(server);
    return result;
}

/* Nobody changes the list before this returns. */
static int nbd_serve(void *instance, struct drafter_error *err)
{
    struct server *server = instance;
    int result = 0;

    if (!server->adopting)
        return drafter_error_set(err, EINVAL, "%s: nothing was adopted", server->id);
    server->adopting = false;
    for (struct export *export = server->exports; export && result == 0; export = export->next)
        result = attach_resume(export, err);
    return result < 0 ? result : listen_start(server, err);
}

static const struct drafter_device_ops nbd_ops = {
    .start = nbd_start,
    .expose = nbd_expose,
    .sync = nbd_sync,
    .dirty = nbd_dirty,
    .read = nbd_read,
    .invalidate = nbd_invalidate,
    .hint = nbd_hint,
    .populate = nbd_populate,
    .withdraw = nbd_withdraw,
    .stop = nbd_stop,
    .reclaim = nbd_reclaim,
    .adopt = nbd_adopt,
    .serve = nbd_serve,
};

static const struct drafter_plugin nbd_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_DEVICE, struct drafter_device_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "nbd",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "shows devices as block devices of the kernel's NBD client, or serves NBD alone",
    .options = nbd_options,
    .config_size = sizeof(struct server_config),
    .create = nbd_create,
    .destroy = nbd_destroy,
    .probe = nbd_probe,
    .ops = &nbd_ops,
};
DRAFTER_PLUGIN_ENTRY(nbd_plugin)

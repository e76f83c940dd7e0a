/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/registry.h"

#include "role/attend.h"
#include "role/devices.h"
#include "role/parts.h"
#include "role/serve.h"
#include "role/supervise.h"
#include "trust/plain.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vm/vm.h"

#include <string.h>

struct registry {
    struct node *node;
    struct registry_options options;
    struct devices devices;
    struct parts parts;
    struct package package;
    struct supervisor supervisor;
    struct server *server;
    unsigned clients, pulled, failed; /* atomic: now, and so far */
};

const struct drafter_option registry_option_table[] = {
    {.key = "listen", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct registry_options, listen), .default_value = ":1600",
     .help = "address at which peers get the package"},
    {.key = "transport", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct registry_options, transport), .default_value = DEFAULT_TRANSPORT,
     .help = "id of a [transport:ID] section, or a transport plugin"},
    DRAFTER_OPTION_END,
};

/* What a peer's host must be is in the package; the peer refuses before anything moves. */
static int read_package(struct registry *registry, struct drafter_error *err)
{
    struct node_device *config = devices_find(&registry->devices, VM_DEVICE_CONFIG);
    cleanup_free char *data = malloc(PACKAGE_CONFIG_MAX);
    size_t length;
    int rc;

    if (!config)
        return drafter_error_set(err, EINVAL, "the package has no [device:config]");
    if (!data)
        return drafter_error_set(err, ENOMEM, "out of memory");
    length = config->block.size < PACKAGE_CONFIG_MAX ? (size_t)config->block.size
                                                     : PACKAGE_CONFIG_MAX;
    rc = block_device_read(&config->block, data, length, 0);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot read the config device");
    return package_decode(data, length, &registry->package, err);
}

static int begin(void *opaque, const struct hello *hello, struct stream *control,
                 struct source **ret_source, struct drafter_error *err)
{
    struct registry *registry = opaque;
    cleanup_free struct source_options *options = calloc(1, sizeof(*options));
    const char *name = registry->node->options.name;
    int rc;

    if (!options)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (*hello->vm && strcmp(hello->vm, name))
        return drafter_error_set(err, ENOENT, "package %s is not here, package %s is", hello->vm,
                                 name);
    rc = trust_check(control->identity, TRUST_PULL, name, err);
    if (rc)
        return rc;
    for (unsigned i = 0; i < registry->devices.count; i++)
        options->devices[options->device_count++].block = &registry->devices.list[i].block;
    options->offer.facts = registry->package.facts;
    snprintf(options->offer.vm, sizeof(options->offer.vm), "%s", name);
    snprintf(options->offer.software, sizeof(options->offer.software), "drafter " PACKAGE_VERSION);
    rc = source_new(options, control, ret_source, err);
    if (!rc)
        __atomic_add_fetch(&registry->clients, 1, __ATOMIC_RELAXED);
    if (!rc)
        log_event("pulling", "\"package\":\"%s\",\"peer\":\"%s\"", name, control->peer);
    return rc;
}

static void end(void *opaque, enum source_outcome outcome, const struct drafter_error *error)
{
    struct registry *registry = opaque;
    bool moved = outcome == SOURCE_OUTCOME_MOVED;

    __atomic_sub_fetch(&registry->clients, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(moved ? &registry->pulled : &registry->failed, 1, __ATOMIC_RELAXED);
    if (moved)
        log_event("pulled", "\"package\":\"%s\"", registry->node->options.name);
    else
        log_warning("registry", "a peer did not get all of it: %s", error->message);
}

/* Devices may have addresses of their own: all of them lead to the whole package. */
static int read_devices(struct registry *registry, struct drafter_error *err)
{
    const struct config_section *section = config_section(registry->node->config, "registry", "");
    const char *listen = section ? config_value(section, "listen") : NULL;
    int rc = devices_read(registry->node, &registry->devices, err);

    if (!rc)
        rc = parts_read(&registry->parts, &registry->devices, NULL, listen, NULL, err);
    if (!rc && registry->parts.connect)
        rc = drafter_error_set(err, EINVAL, "a registry takes no devices from others: leave connect out");
    if (!rc && registry->parts.apart)
        registry->options.listen = registry->parts.listen;
    return rc;
}

static void status(void *opaque, json_t *answer)
{
    struct registry *registry = opaque;
    json_t *devices = json_array();
    char addresses[1024];

    server_addresses(registry->server, addresses, sizeof(addresses));
    for (unsigned i = 0; i < registry->devices.count; i++)
        json_array_append_new(devices, json_pack("{s:s, s:I}", "name", registry->devices.list[i].name, "size",
                                                 (json_int_t)registry->devices.list[i].block.size));
    json_object_set_new(answer, "listen", json_string(addresses));
    json_object_set_new(answer, "devices", devices);
    json_object_set_new(answer, "clients", json_integer(__atomic_load_n(&registry->clients, __ATOMIC_RELAXED)));
    json_object_set_new(answer, "pulled", json_integer(__atomic_load_n(&registry->pulled, __ATOMIC_RELAXED)));
    json_object_set_new(answer, "failed", json_integer(__atomic_load_n(&registry->failed, __ATOMIC_RELAXED)));
}

static int run(struct registry *registry, struct drafter_error *err)
{
    const struct server_ops ops = {.begin = begin, .end = end, .opaque = registry};
    struct attendant attendant = {.node = registry->node, .status = status, .opaque = registry};
    struct instance *transport;
    int rc = node_instance(registry->node, DRAFTER_KIND_TRANSPORT, registry->options.transport,
                           &transport, err);

    if (!rc)
        rc = read_devices(registry, err);
    if (!rc)
        rc = devices_open_local(registry->node, &registry->devices, true, err);
    if (!rc)
        rc = read_package(registry, err);
    if (!rc)
        rc = trust_check_plain(transport, registry->options.listen, true,
                               (enum trust_plain)registry->node->options.plain_transport, err);
    if (!rc)
        rc = server_start(transport, registry->options.listen, &ops, &registry->server, err);
    if (rc)
        return rc;
    attendant_start(&attendant);
    while (supervisor_wait(&registry->supervisor, -1) != WAKEUP_SIGNAL)
        ;
    attendant_stop(&attendant);
    server_stop(registry->server, "the registry is ending");
    return 0;
}

int registry_run(struct node *node, struct drafter_error *err)
{
    cleanup_free struct registry *registry = calloc(1, sizeof(*registry));
    int rc;

    if (!registry)
        return drafter_error_set(err, ENOMEM, "out of memory");
    registry->node = node;
    rc = config_apply(config_section(node->config, "registry", ""), registry_option_table, NULL,
                      &registry->options, sizeof(registry->options), err);
    if (rc)
        return rc;
    rc = supervisor_init(&registry->supervisor, err);
    if (!rc)
        rc = run(registry, err);
    devices_release(&registry->devices);
    parts_release(&registry->parts);
    supervisor_release(&registry->supervisor);
    return rc;
}

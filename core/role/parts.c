/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/parts.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "util/words.h"
#include "vm/vm.h"

#include <string.h>

static bool given(const char *text)
{
    return text && *text;
}

static bool has_file(const struct node_device *device)
{
    return given(device->options.base) || given(device->options.storage);
}

/* The rows of the table in drafter(8). */
static int check_device(const struct node_device *device, struct drafter_error *err)
{
    const struct device_options *options = &device->options;

    if (given(options->connect) || has_file(device))
        return 0;
    if (given(options->listen))
        return drafter_error_set(err, EINVAL,
                                 "device %s is not supported: it is to be taken at %s, but it comes from "
                                 "nowhere: it needs an address (connect) or a file (base)",
                                 device->name, options->listen);
    return drafter_error_set(err, EINVAL,
                             "device %s is not supported: it has neither an address (connect) nor a "
                             "file (base)", device->name);
}

/* A running VM needs all of itself at one place. */
static int check_alike(const struct devices *devices, struct drafter_error *err)
{
    const struct node_device *first = NULL;

    for (unsigned i = 0; i < devices->count; i++) {
        const struct node_device *device = &devices->list[i];

        if (device->options.shared)
            continue;
        if (!first)
            first = device;
        if (given(first->options.connect) != given(device->options.connect))
            return drafter_error_set(err, EINVAL,
                                     "device %s comes from a peer and device %s does not: a VM arrives as a "
                                     "whole; say shared = yes of what both hosts have",
                                     given(first->options.connect) ? first->name : device->name,
                                     given(first->options.connect) ? device->name : first->name);
        if (given(first->options.listen) != given(device->options.listen))
            return drafter_error_set(err, EINVAL,
                                     "device %s can be taken by peers and device %s cannot: a VM leaves as "
                                     "a whole; say shared = yes of what both hosts have",
                                     given(first->options.listen) ? first->name : device->name,
                                     given(first->options.listen) ? device->name : first->name);
    }
    return 0;
}

/* Appends an address that is not in the list yet. */
static int add_address(char **list, const char *address, struct drafter_error *err)
{
    char *longer;

    if (!given(address) || words_contain(*list, address))
        return 0;
    if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? " " : "", address) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    free(*list);
    *list = longer;
    return 0;
}

static int give_file(struct parts *parts, struct node_device *device, unsigned index,
                     struct drafter_error *err)
{
    if (has_file(device) || device->options.shared)
        return 0;
    if (!parts->cache)
        return drafter_error_set(err, EINVAL, "device %s needs a base", device->name);
    if (asprintf(&parts->files[index], "%s/%s", parts->cache, device->name) < 0) {
        parts->files[index] = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    device->options.base = parts->files[index];
    return io_make_directories(parts->cache, 0700, err);
}

/* Memory that is saved without the disks that belong to it, or the other way round, is no VM. */
static int check_files(const struct parts *parts, const struct devices *devices,
                       struct drafter_error *err)
{
    static const char *const constant[] = {VM_DEVICE_KERNEL, VM_DEVICE_INITRAMFS, VM_DEVICE_CONFIG};
    const char *kept = NULL, *passing = NULL;

    for (unsigned i = 0; i < devices->count; i++) {
        const char *name = devices->list[i].name;
        bool changes = !devices->list[i].options.shared;

        for (size_t j = 0; j < sizeof(constant) / sizeof(*constant); j++)
            changes &= strcmp(name, constant[j]) != 0;
        if (changes && parts->files[i])
            passing = name;
        else if (changes)
            kept = name;
    }
    if (kept && passing)
        return drafter_error_set(err, EINVAL,
                                 "device %s has a file to stay in and device %s has none: what is left of a "
                                 "VM would be half of it", kept, passing);
    return 0;
}

static int read_devices(struct parts *parts, struct devices *devices, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < devices->count; i++)
        rc = check_device(&devices->list[i], err);
    if (!rc)
        rc = check_alike(devices, err);
    for (unsigned i = 0; !rc && i < devices->count; i++) {
        struct node_device *device = &devices->list[i];

        rc = add_address(&parts->connect, device->options.connect, err);
        if (!rc)
            rc = add_address(&parts->listen, device->options.listen, err);
        if (!rc)
            rc = give_file(parts, device, i, err);
    }
    return rc ? rc : check_files(parts, devices, err);
}

int parts_read(struct parts *parts, struct devices *devices, const char *connect,
               const char *listen, const char *cache, struct drafter_error *err)
{
    for (unsigned i = 0; i < devices->count; i++)
        parts->apart |= given(devices->list[i].options.connect) ||
                        given(devices->list[i].options.listen);
    if (!parts->apart)
        return 0;
    if (given(connect) || given(listen))
        return drafter_error_set(err, EINVAL, "an address of the VM and addresses of its devices "
                                 "exclude each other");
    parts->cache = cache ? strdup(cache) : NULL;
    if (cache && !parts->cache)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return read_devices(parts, devices, err);
}

bool parts_are_passing(const struct parts *parts)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (parts->files[i])
            return true;
    return false;
}

void parts_discard(struct parts *parts)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (parts->files[i] && unlink(parts->files[i]) && errno != ENOENT)
            log_warning("drafter", "%s: %s", parts->files[i], strerror(errno));
    if (parts_are_passing(parts))
        rmdir(parts->cache); /* others may use it */
}

void parts_release(struct parts *parts)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        free(parts->files[i]);
    free(parts->connect);
    free(parts->listen);
    free(parts->cache);
    memset(parts, 0, sizeof(*parts));
}

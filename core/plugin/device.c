/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device adapter.  sync() and read() of an exposure reach back into the core through the
 * backend, from other threads; that is no second call into the plugin, so a serializing one may
 * have it.
 */
#include "plugin/device.h"

#include "plugin/adapter.h"
#include "util/cleanup.h"

#include <string.h>

static const struct drafter_device_ops *ops_of(const struct instance *device)
{
    return device->plugin->ops;
}

int device_start(struct instance *device, const char *directory, struct drafter_error *err)
{
    adapter_scope(device);

    return adapter_result(device, "start", ops_of(device)->start(device->data, directory, err),
                          err);
}

int device_reclaim(struct instance *device, const char *directory, struct drafter_error *err)
{
    const struct drafter_device_ops *ops = ops_of(device);
    adapter_scope(device);

    if (!ops->reclaim)
        return 0;
    return adapter_result(device, "reclaim", ops->reclaim(device->data, directory, err), err);
}

bool device_adoptable(const struct instance *device)
{
    return ops_of(device)->adopt && ops_of(device)->serve;
}

int device_adopt(struct instance *device, const char *directory, struct drafter_error *err)
{
    adapter_scope(device);

    if (!device_adoptable(device))
        return drafter_error_set(err, ENOTSUP, "device plugin %s cannot take over a service",
                                 device->plugin->descriptor.name);
    return adapter_result(device, "adopt", ops_of(device)->adopt(device->data, directory, err), err);
}

int device_serve(struct instance *device, struct drafter_error *err)
{
    adapter_scope(device);

    return adapter_result(device, "serve", ops_of(device)->serve(device->data, err), err);
}

void device_stop(struct instance *device)
{
    adapter_scope(device);

    ops_of(device)->stop(device->data);
}

static int check_spec(const struct drafter_device_spec *spec, struct drafter_error *err)
{
    size_t length = strnlen(spec->name, DRAFTER_NAME_MAX + 1);

    if (length == 0 || length > DRAFTER_NAME_MAX || strchr(spec->name, '/') || spec->name[0] == '.')
        return drafter_error_set(err, EINVAL,
                                 "'%.*s' is no device name: one path component of at "
                                 "most %d characters that does not begin with a dot",
                                 DRAFTER_NAME_MAX, spec->name, DRAFTER_NAME_MAX);
    if (spec->size == 0 || spec->size > INT64_MAX)
        return drafter_error_set(err, EINVAL, "device %s: %llu is no device size", spec->name,
                                 (unsigned long long)spec->size);
    if (!spec->backend.read || !spec->backend.write || !spec->backend.flush || !spec->backend.trim)
        return drafter_error_set(err, EINVAL, "device %s: incomplete backend", spec->name);
    return 0;
}

int device_expose(struct instance *device, const struct drafter_device_spec *spec,
                  struct exposure **ret_exposure, struct drafter_error *err)
{
    cleanup_free struct exposure *exposure = calloc(1, sizeof(*exposure));
    int ret;

    if (!exposure)
        return drafter_error_errno(err, ENOMEM, "device %s", spec->name);
    ret = check_spec(spec, err);
    if (ret < 0)
        return ret;
    exposure->device = device;
    {
        adapter_scope(device);

        ret = ops_of(device)->expose(device->data, spec, exposure->path, sizeof(exposure->path),
                                     &exposure->data, err);
    }
    ret = adapter_result(device, "expose", ret, err);
    if (ret < 0)
        return ret;
    adapter_terminate(exposure->path, sizeof(exposure->path));
    *ret_exposure = steal(&exposure);
    return 0;
}

void device_withdraw(struct exposure *exposure)
{
    if (!exposure)
        return;
    {
        adapter_scope(exposure->device);

        ops_of(exposure->device)->withdraw(exposure->data);
    }
    free(exposure);
}

int exposure_sync(struct exposure *exposure, struct drafter_error *err)
{
    adapter_scope(exposure->device);

    return adapter_result(exposure->device, "sync",
                          ops_of(exposure->device)->sync(exposure->data, err), err);
}

int exposure_dirty(struct exposure *exposure, uint64_t *bitmap, uint64_t pages,
                   struct drafter_error *err)
{
    adapter_scope(exposure->device);

    return adapter_result(exposure->device, "dirty",
                          ops_of(exposure->device)->dirty(exposure->data, bitmap, pages, err), err);
}

int exposure_read(struct exposure *exposure, void *buffer, size_t length, uint64_t offset)
{
    adapter_scope(exposure->device);

    if (adapter_check_range(length, offset, INT64_MAX) < 0)
        return -EINVAL;
    return adapter_errno(ops_of(exposure->device)->read(exposure->data, buffer, length, offset));
}

int exposure_invalidate(struct exposure *exposure, uint64_t offset, uint64_t length)
{
    adapter_scope(exposure->device);

    if (adapter_check_range(length, offset, INT64_MAX) < 0)
        return -EINVAL;
    return adapter_errno(ops_of(exposure->device)->invalidate(exposure->data, offset, length));
}

void exposure_hint(struct exposure *exposure, enum drafter_device_hint hint)
{
    const struct drafter_device_ops *ops = ops_of(exposure->device);
    adapter_scope(exposure->device);

    if (ops->hint)
        ops->hint(exposure->data, hint);
}

int exposure_populate(struct exposure *exposure, uint64_t offset, uint64_t length)
{
    const struct drafter_device_ops *ops = ops_of(exposure->device);
    adapter_scope(exposure->device);

    if (adapter_check_range(length, offset, INT64_MAX) < 0)
        return -EINVAL;
    return ops->populate ? adapter_errno(ops->populate(exposure->data, offset, length)) : 0;
}

bool exposure_can_clean(const struct exposure *exposure)
{
    return ops_of(exposure->device)->clean;
}

int exposure_clean(struct exposure *exposure, uint64_t offset, uint64_t length)
{
    const struct drafter_device_ops *ops = ops_of(exposure->device);
    adapter_scope(exposure->device);

    if (adapter_check_range(length, offset, INT64_MAX) < 0)
        return -EINVAL;
    return ops->clean ? adapter_errno(ops->clean(exposure->data, offset, length)) : -ENOTSUP;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into device plugins; contracts as in drafter/device.h, defaults filled in. */
#ifndef PLUGIN_DEVICE_H
#define PLUGIN_DEVICE_H

#include "plugin/plugin.h"
#include <drafter/device.h>

struct exposure {
    struct instance *device;
    void *data;
    char path[512]; /* what the VMM opens */
};

int device_start(struct instance *device, const char *directory, struct drafter_error *err);
int device_reclaim(struct instance *device, const char *directory, struct drafter_error *err);
void device_stop(struct instance *device);
bool device_adoptable(const struct instance *device);
int device_adopt(struct instance *device, const char *directory, struct drafter_error *err);
int device_serve(struct instance *device, struct drafter_error *err);
int device_expose(struct instance *device, const struct drafter_device_spec *spec,
                  struct exposure **ret_exposure, struct drafter_error *err);
void device_withdraw(struct exposure *exposure); /* frees it; NULL is allowed */

int exposure_sync(struct exposure *exposure, struct drafter_error *err);
int exposure_dirty(struct exposure *exposure, uint64_t *bitmap, uint64_t pages,
                   struct drafter_error *err);
int exposure_read(struct exposure *exposure, void *buffer, size_t length, uint64_t offset);
int exposure_invalidate(struct exposure *exposure, uint64_t offset, uint64_t length);
void exposure_hint(struct exposure *exposure, enum drafter_device_hint hint);
int exposure_populate(struct exposure *exposure, uint64_t offset, uint64_t length);
bool exposure_can_clean(const struct exposure *exposure);
int exposure_clean(struct exposure *exposure, uint64_t offset, uint64_t length);

#endif

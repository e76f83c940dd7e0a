/* SPDX-License-Identifier: BSD-2-Clause */
/* The directory in which a process shows devices: locked as long, so that others see that somebody is there. */
#ifndef DEVICE_SERVED_H
#define DEVICE_SERVED_H

#include <drafter/device.h>

/* Zeros: none. */
struct served {
    char *directory; /* absolute; NULL: none */
    int lock_fd;
};

/* -EALREADY when there is one, -EBUSY when another process serves it; a failure changes nothing. */
int served_take(struct served *served, const char *id, const char *directory,
                struct drafter_error *err);
void served_leave(struct served *served);

/* For expose(): where the node of a device comes, which must be started, and the device one that nodes can show. */
int served_path(const struct served *served, const char *id, const struct drafter_device_spec *spec,
                char *path, size_t path_size, struct drafter_error *err);

/*
 * reclaim() of <drafter/device.h>: has `release` see to the kernel's devices, with the absolute path of a
 * directory that nobody serves, and then removes the nodes.
 */
int served_reclaim(void *instance, const char *directory,
                   int (*release)(void *instance, const char *directory, struct drafter_error *err),
                   struct drafter_error *err);

#endif

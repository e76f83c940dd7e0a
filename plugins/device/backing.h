/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device of bytes below a node, which has whole sectors and a page at least.  What lies beyond the device
 * reads as zeros and takes no writes, and trims of our own (see node.c) end here.
 */
#ifndef DEVICE_BACKING_H
#define DEVICE_BACKING_H

#include "node.h"

#include <stdatomic.h>

/* The first member of a plugin's exposure, so that what follows takes that one as it is. */
struct backing {
    struct drafter_device_backend backend;
    uint64_t bytes; /* of the device */
    uint64_t size;  /* as the VMM sees it: `bytes` rounded up */
    struct node node;
    atomic_int write_error; /* the first errno of a write since the last sync; the kernel says EIO */
};

void backing_init(struct backing *backing, const struct drafter_device_spec *spec);

/* How much of a range the device has. */
uint64_t backing_inside(const struct backing *backing, uint64_t length, uint64_t offset);

/* What the kernel asks for; `opaque` is the backing.  As in struct drafter_device_backend. */
int backing_read(void *opaque, void *buffer, size_t length, uint64_t offset);
int backing_write(void *opaque, const void *buffer, size_t length, uint64_t offset);
int backing_trim(void *opaque, uint64_t length, uint64_t offset);

/* The operations of <drafter/device.h>; read_cached is its read. */
int backing_sync(void *exposure, struct drafter_error *err);
int backing_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err);
int backing_read_cached(void *exposure, void *buffer, size_t length, uint64_t offset);
int backing_invalidate(void *exposure, uint64_t offset, uint64_t length);
void backing_hint(void *exposure, enum drafter_device_hint hint);
int backing_populate(void *exposure, uint64_t offset, uint64_t length);

#endif

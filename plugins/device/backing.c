/* SPDX-License-Identifier: BSD-2-Clause */
#include "backing.h"

#include <string.h>

void backing_init(struct backing *backing, const struct drafter_device_spec *spec)
{
    *backing = (struct backing){.bytes = spec->size, .size = node_round(spec->size)};
    memcpy(&backing->backend, &spec->backend,
           spec->backend.struct_size && spec->backend.struct_size < sizeof(backing->backend)
               ? spec->backend.struct_size
               : sizeof(backing->backend));
    node_init(&backing->node);
    backing->node.readonly = spec->flags & DRAFTER_DEVICE_READONLY;
}

uint64_t backing_inside(const struct backing *backing, uint64_t length, uint64_t offset)
{
    if (offset >= backing->bytes)
        return 0;
    return length < backing->bytes - offset ? length : backing->bytes - offset;
}

int backing_read(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    struct backing *backing = opaque;
    size_t have = (size_t)backing_inside(backing, length, offset);

    memset((char *)buffer + have, 0, length - have);
    return have ? backing->backend.read(backing->backend.opaque, buffer, have, offset) : 0;
}

int backing_write(void *opaque, const void *buffer, size_t length, uint64_t offset)
{
    struct backing *backing = opaque;
    size_t have = (size_t)backing_inside(backing, length, offset);
    int none = 0, result = 0;

    if (have)
        result = backing->backend.write(backing->backend.opaque, buffer, have, offset);
    if (result < 0)
        atomic_compare_exchange_strong(&backing->write_error, &none, -result);
    return result;
}

int backing_trim(void *opaque, uint64_t length, uint64_t offset)
{
    struct backing *backing = opaque;
    uint64_t have = backing_inside(backing, length, offset);

    if (!have || !backing->backend.trim || node_swallows(&backing->node, length, offset))
        return 0;
    return backing->backend.trim(backing->backend.opaque, have, offset);
}

/* The kernel takes a page whose write failed for clean, and knows one error only: ours says which. */
int backing_sync(void *exposure, struct drafter_error *err)
{
    struct backing *backing = exposure;
    int result = node_sync(&backing->node, err), written = atomic_exchange(&backing->write_error, 0);

    return result < 0 && written
               ? drafter_error_errno(err, written, "%s: cannot write back", backing->node.path)
               : result;
}

int backing_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct backing *backing = exposure;

    return node_dirty(&backing->node, bitmap, pages, err);
}

int backing_read_cached(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct backing *backing = exposure;

    if (offset > backing->bytes || length > backing->bytes - offset)
        return -EINVAL;
    return node_read(&backing->node, buffer, length, offset);
}

int backing_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct backing *backing = exposure;

    return node_invalidate(&backing->node, offset, length);
}

void backing_hint(void *exposure, enum drafter_device_hint hint)
{
    struct backing *backing = exposure;

    node_set_queue(&backing->node, "read_ahead_kb",
                   hint == DRAFTER_DEVICE_COMPLETE ? NODE_READAHEAD_COMPLETE_KIB : 0);
}

int backing_populate(void *exposure, uint64_t offset, uint64_t length)
{
    struct backing *backing = exposure;

    return node_populate(&backing->node, offset, length);
}

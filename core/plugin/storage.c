/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The storage adapter.  Checks every range against size() here, so that no plugin has to be trusted
 * with it, and repeats a failed flush for ever: the kernel may have dropped the pages.
 */
#include "plugin/storage.h"

#include "plugin/adapter.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define FLUSH_FAILED "flush-failed"

static const struct drafter_storage_ops *ops_of(const struct instance *storage)
{
    return storage->plugin->ops;
}

/* A failed flush stays one for the process that goes on with the VM. */
static void keep_flush_error(struct instance *storage)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    if (fd < 0)
        return;
    storage->keeper.put(storage->keeper.opaque, FLUSH_FAILED, fd);
    close(fd);
}

static void inherit_flush_error(struct instance *storage)
{
    int fd;

    if (storage->keeper.take(storage->keeper.opaque, FLUSH_FAILED, &fd) < 0)
        return;
    storage->flush_error = -EIO;
    close(fd);
}

int storage_open(struct instance *storage, uint64_t size, unsigned flags, struct drafter_error *err)
{
    int rc;
    adapter_scope(storage);

    inherit_flush_error(storage);
    rc = adapter_result(storage, "open", ops_of(storage)->open(storage->data, size, flags, err), err);
    storage->opened |= rc == 0;
    return rc;
}

uint64_t storage_size(struct instance *storage)
{
    adapter_scope(storage);

    return ops_of(storage)->size(storage->data);
}

int storage_read(struct instance *storage, void *buffer, size_t length, uint64_t offset)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    return adapter_errno(ops->pread(storage->data, buffer, length, offset));
}

int storage_write(struct instance *storage, const void *buffer, size_t length, uint64_t offset)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    return adapter_errno(ops->pwrite(storage->data, buffer, length, offset));
}

int storage_flush(struct instance *storage)
{
    int failed = storage->flush_error;
    adapter_scope(storage);

    if (failed < 0)
        return failed;
    failed = adapter_errno(ops_of(storage)->flush(storage->data));
    if (failed < 0) {
        storage->flush_error = failed;
        keep_flush_error(storage);
        return failed;
    }
    return storage->flush_error; /* the kernel tells one of two that flush at a time, and drops the pages of both */
}

bool storage_flush_failed(const struct instance *storage)
{
    return storage->flush_error < 0;
}

/* For plugins that cannot do better; the zeros live in the program's read-only data. */
static int write_zeros(struct instance *storage, uint64_t length, uint64_t offset)
{
    static const char zeros[65536];
    const struct drafter_storage_ops *ops = ops_of(storage);

    while (length > 0) {
        size_t part = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);
        int ret = adapter_errno(ops->pwrite(storage->data, zeros, part, offset));

        if (ret < 0)
            return ret;
        offset += part;
        length -= part;
    }
    return 0;
}

int storage_zero(struct instance *storage, uint64_t length, uint64_t offset)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    if (!ops->zero)
        return write_zeros(storage, length, offset);
    return adapter_errno(ops->zero(storage->data, length, offset));
}

int storage_trim(struct instance *storage, uint64_t length, uint64_t offset)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    return ops->trim ? adapter_errno(ops->trim(storage->data, length, offset)) : 0;
}

/* A stretch of no length would make callers loop, a longer one than asked for overrun. */
static int check_stretch(int ret, uint64_t length, uint64_t *stretch)
{
    if (ret < 0)
        return ret;
    if (*stretch == 0 && length > 0)
        return -EIO;
    if (*stretch > length)
        *stretch = length;
    return 0;
}

int storage_extent(struct instance *storage, uint64_t offset, uint64_t length,
                   enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    enum drafter_extent_kind kind = DRAFTER_EXTENT_DATA;
    uint64_t stretch = length;
    int ret = 0;
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    if (ops->extent)
        ret = adapter_errno(ops->extent(storage->data, offset, length, &kind, &stretch));
    ret = check_stretch(ret, length, &stretch);
    if (ret < 0)
        return ret;
    *ret_kind = kind == DRAFTER_EXTENT_ZERO ? DRAFTER_EXTENT_ZERO : DRAFTER_EXTENT_DATA;
    *ret_length = stretch;
    return 0;
}

int storage_layer(struct instance *storage, uint64_t offset, uint64_t length, bool *ret_own,
                  uint64_t *ret_length)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    uint64_t stretch = length;
    bool own = true;
    int ret = 0;
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    if (ops->layer)
        ret = adapter_errno(ops->layer(storage->data, offset, length, &own, &stretch));
    ret = check_stretch(ret, length, &stretch);
    if (ret < 0)
        return ret;
    *ret_own = own;
    *ret_length = stretch;
    return 0;
}

int storage_check(struct instance *storage, void (*report)(void *, const char *), void *opaque,
                  struct drafter_error *err)
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    int defects;
    adapter_scope(storage);

    if (!ops->check)
        return 0;
    defects = ops->check(storage->data, report, opaque, err);
    return defects < 0 ? adapter_result(storage, "check", defects, err) : defects;
}

int storage_verify(struct instance *storage, void (*report)(void *, const char *), void *opaque,
                   struct drafter_error *err)
{
    int defects;

    if (!ops_of(storage)->verify)
        return storage_check(storage, report, opaque, err);
    adapter_scope(storage);
    defects = ops_of(storage)->verify(storage->data, report, opaque, err);
    return defects < 0 ? adapter_result(storage, "verify", defects, err) : defects;
}

int storage_digest(struct instance *storage, uint64_t offset, uint64_t length, uint8_t hash[16])
{
    const struct drafter_storage_ops *ops = ops_of(storage);
    adapter_scope(storage);

    if (adapter_check_range(length, offset, ops->size(storage->data)) < 0)
        return -EINVAL;
    return ops->digest ? adapter_errno(ops->digest(storage->data, offset, length, hash)) : -ENOENT;
}

void storage_settled(struct instance *storage)
{
    adapter_scope(storage);

    if (ops_of(storage)->settled)
        ops_of(storage)->settled(storage->data);
}

/*
 * What a layer sees of the storage below: the adapter itself, as a table.  So the defaults, the
 * range checks and the lock of a serializing plugin hold for layers as they do for the core.
 */
static int next_open(void *next, uint64_t size, unsigned flags, struct drafter_error *err)
{
    const struct instance *storage = next;

    return storage->opened ? 0 : storage_open(next, size, flags, err);
}

static uint64_t next_size(void *next)
{
    return storage_size(next);
}

static int next_pread(void *next, void *buffer, size_t length, uint64_t offset)
{
    return storage_read(next, buffer, length, offset);
}

static int next_pwrite(void *next, const void *buffer, size_t length, uint64_t offset)
{
    return storage_write(next, buffer, length, offset);
}

static int next_flush(void *next)
{
    return storage_flush(next);
}

static int next_zero(void *next, uint64_t length, uint64_t offset)
{
    return storage_zero(next, length, offset);
}

static int next_trim(void *next, uint64_t length, uint64_t offset)
{
    return storage_trim(next, length, offset);
}

static int next_extent(void *next, uint64_t offset, uint64_t length,
                       enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    return storage_extent(next, offset, length, ret_kind, ret_length);
}

static int next_layer(void *next, uint64_t offset, uint64_t length, bool *ret_own,
                      uint64_t *ret_length)
{
    /* Here "all own" would be wrong: a storage that is no layer is the base. */
    if (!ops_of(next)->layer)
        return -ENOTSUP;
    return storage_layer(next, offset, length, ret_own, ret_length);
}

static int next_check(void *next, void (*report)(void *, const char *), void *opaque,
                      struct drafter_error *err)
{
    return storage_check(next, report, opaque, err);
}

static int next_verify(void *next, void (*report)(void *opaque, const char *line), void *opaque,
                       struct drafter_error *err)
{
    return storage_verify(next, report, opaque, err);
}

static int next_digest(void *next, uint64_t offset, uint64_t length, uint8_t hash[16])
{
    return storage_digest(next, offset, length, hash);
}

static void next_settled(void *next)
{
    storage_settled(next);
}

const struct drafter_storage_ops *drafter_next_storage(void *next, void **ret_instance)
{
    static const struct drafter_storage_ops ops = {
        .open = next_open,
        .size = next_size,
        .pread = next_pread,
        .pwrite = next_pwrite,
        .flush = next_flush,
        .zero = next_zero,
        .trim = next_trim,
        .extent = next_extent,
        .layer = next_layer,
        .check = next_check,
        .verify = next_verify,
        .digest = next_digest,
        .settled = next_settled,
    };
    const struct instance *storage = next;

    if (!storage || storage->plugin->descriptor.kind != DRAFTER_KIND_STORAGE)
        return NULL;
    *ret_instance = next;
    return &ops;
}

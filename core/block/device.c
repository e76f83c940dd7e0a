/* SPDX-License-Identifier: BSD-2-Clause */
#include "block/device.h"

#include "util/io.h"
#include "util/log.h"

#include <string.h>

#define READ_ATTEMPTS 3 /* of what storage has damaged and the source sends again */
#define BLOCK_SIZE_MAX ((uint32_t)(BLOCK_RUN_MAX * DRAFTER_PAGE_SIZE))

int block_device_init(struct block_device *device, const char *name, struct instance *storage,
                      uint32_t block_size, struct drafter_error *err)
{
    uint64_t size = storage_size(storage);

    memset(device, 0, sizeof(*device));
    if (!size || strlen(name) > DRAFTER_NAME_MAX)
        return drafter_error_set(err, EINVAL, "its storage is empty");
    memcpy(device->name, name, strlen(name) + 1);
    device->size = size;
    block_size = (block_size + DRAFTER_PAGE_SIZE - 1) & ~(uint32_t)(DRAFTER_PAGE_SIZE - 1);
    device->block_size = block_size < DRAFTER_PAGE_SIZE ? (uint32_t)DRAFTER_PAGE_SIZE
                         : block_size > BLOCK_SIZE_MAX  ? BLOCK_SIZE_MAX
                                                        : block_size;
    device->storage = storage;
    device->authority = true;
    if (block_map_init(&device->map, (size + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT))
        return drafter_error_set(err, ENOMEM, "device %s: no memory for its block map", name);
    return 0;
}

void block_device_release(struct block_device *device)
{
    block_device_withdraw(device);
    binlog_close(device->binlog);
    block_map_release(&device->map);
}

static bool is_remote(const struct block_device *device)
{
    return __atomic_load_n(&device->map.remote, __ATOMIC_ACQUIRE);
}

static uint64_t first_page(uint64_t offset)
{
    return offset >> DRAFTER_PAGE_SHIFT;
}

static uint64_t end_page(uint64_t offset, uint64_t length)
{
    return (offset + length + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;
}

static int check_range(const struct block_device *device, uint64_t length, uint64_t offset)
{
    return offset > device->size || length > device->size - offset ? -EINVAL : 0;
}

static int backend_read(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    return block_device_read(opaque, buffer, length, offset);
}

static int backend_write(void *opaque, const void *buffer, size_t length, uint64_t offset)
{
    return block_device_write(opaque, buffer, length, offset);
}

static int backend_flush(void *opaque)
{
    return block_device_flush(opaque);
}

static int backend_trim(void *opaque, uint64_t length, uint64_t offset)
{
    return block_device_trim(opaque, length, offset);
}

static bool backend_present(void *opaque, uint64_t length, uint64_t offset)
{
    struct block_device *device = opaque;

    return !check_range(device, length, offset) &&
           block_map_present(&device->map, first_page(offset),
                             end_page(offset, length) - first_page(offset));
}

int block_device_expose(struct block_device *device, struct instance *exposer, unsigned flags,
                        struct drafter_error *err)
{
    const struct drafter_device_spec spec = {
        .struct_size = sizeof(spec),
        .name = device->name,
        .size = device->size,
        .flags = flags,
        .backend = {.struct_size = sizeof(spec.backend),
                    .opaque = device,
                    .read = backend_read,
                    .write = backend_write,
                    .flush = backend_flush,
                    .trim = backend_trim,
                    .present = backend_present},
    };

    if (device_expose(exposer, &spec, &device->exposure, err))
        return drafter_error_wrap(err, "device %s", device->name);
    return 0;
}

void block_device_withdraw(struct block_device *device)
{
    device_withdraw(device->exposure);
    device->exposure = NULL;
}

/* Remembers the first failure of storage: a device that lost a write must not migrate quietly. */
static int note(struct block_device *device, int rc)
{
    int none = 0;

    if (rc)
        __atomic_compare_exchange_n(&device->io_error, &none, -rc, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    return rc;
}

static void ask(void *opaque, uint64_t first, uint64_t count)
{
    struct block_device *device = opaque;

    device->need(device->need_opaque, device, first, count);
}

static int wait_for(struct block_device *device, uint64_t first, uint64_t end)
{
    return block_map_wait(&device->map, first, end - first, ask, device);
}

/* Which pages are not what was written there?  Whether the source was, or can be, asked for all of them. */
static bool lose_bad_pages(struct block_device *device, uint64_t first, uint64_t end)
{
    char page[1 << DRAFTER_PAGE_SHIFT];
    bool all = is_remote(device);

    for (uint64_t at = first; all && at < end; at++)
        if (storage_read(device->storage, page, block_device_run_length(device, at, 1),
                         at << DRAFTER_PAGE_SHIFT) == -EBADMSG)
            all = block_map_lose(&device->map, at);
    return all;
}

static int refuse_bad(const struct block_device *device, uint64_t offset)
{
    log_error("device", "device %s: what its storage holds at byte %llu is not what was written there: "
                        "the VM gets an I/O error", device->name, (unsigned long long)offset);
    return -EIO;
}

static int count(struct block_counters *counters, size_t length, int rc)
{
    __atomic_fetch_add(&counters->ops, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counters->bytes, length, __ATOMIC_RELAXED);
    if (rc)
        __atomic_fetch_add(&counters->errors, 1, __ATOMIC_RELAXED);
    return rc;
}

/* What succeeded is recorded, where that was asked for. */
static int record(struct block_device *device, enum binlog_kind kind, const void *data, uint64_t length,
                  uint64_t offset, int rc)
{
    if (!rc && device->binlog)
        binlog_add(device->binlog, kind, data, length, offset);
    return rc;
}

static int read_here(struct block_device *device, void *buffer, size_t length, uint64_t offset)
{
    int rc = check_range(device, length, offset);

    if (rc || !length)
        return rc;
    for (unsigned i = 0; i < READ_ATTEMPTS; i++) {
        if (is_remote(device))
            rc = wait_for(device, first_page(offset), end_page(offset, length));
        if (!rc)
            rc = storage_read(device->storage, buffer, length, offset);
        if (rc != -EBADMSG)
            return rc;
        if (!lose_bad_pages(device, first_page(offset), end_page(offset, length)))
            break;
        log_warning("device", "device %s: what its storage holds at byte %llu is not what was written "
                              "there: the source is asked again", device->name,
                    (unsigned long long)offset);
        rc = 0;
    }
    return refuse_bad(device, offset);
}

int block_device_read(struct block_device *device, void *buffer, size_t length, uint64_t offset)
{
    int rc = count(&device->reads, length, read_here(device, buffer, length, offset));

    return record(device, BINLOG_READ, buffer, length, offset, rc);
}

/* The pages at the ends of a write that it covers only partly must be here before it. */
static int wait_for_edges(struct block_device *device, size_t length, uint64_t offset)
{
    uint64_t end = offset + length;
    int rc = 0;

    if (offset % DRAFTER_PAGE_SIZE)
        rc = wait_for(device, first_page(offset), first_page(offset) + 1);
    if (!rc && end % DRAFTER_PAGE_SIZE && end != device->size)
        rc = wait_for(device, first_page(end), first_page(end) + 1);
    return rc;
}

/* One run of at most BLOCK_RUN_MAX pages while other copies of them may still arrive. */
static int write_claimed(struct block_device *device, const void *buffer, size_t length,
                         uint64_t offset)
{
    uint64_t first = first_page(offset), mask[BLOCK_MASK_WORDS];
    unsigned count = (unsigned)(end_page(offset, length) - first);
    int rc = wait_for_edges(device, length, offset);

    if (rc)
        return rc;
    block_map_claim_local(&device->map, first, count, mask);
    rc = buffer ? storage_write(device->storage, buffer, length, offset)
                : storage_zero(device->storage, length, offset);
    if (rc) /* before the claim ends: whoever has the page next must not take it for zeros */
        __atomic_store_n(&device->fresh, false, __ATOMIC_RELAXED);
    block_map_claim_end(&device->map, first, count, BLOCK_GENERATION_LOCAL, mask, NULL, rc == 0);
    return rc;
}

static int write_remote(struct block_device *device, const void *buffer, size_t length,
                        uint64_t offset)
{
    while (length) {
        uint64_t limit = (first_page(offset) + BLOCK_RUN_MAX) << DRAFTER_PAGE_SHIFT;
        size_t part = length < limit - offset ? length : (size_t)(limit - offset);
        int rc = write_claimed(device, buffer, part, offset);

        if (rc)
            return rc;
        buffer = buffer ? (const char *)buffer + part : NULL;
        offset += part;
        length -= part;
    }
    return 0;
}

static int write_here(struct block_device *device, const void *buffer, size_t length,
                      uint64_t offset)
{
    uint64_t first = first_page(offset), count = end_page(offset, length) - first;
    int rc = check_range(device, length, offset);

    if (rc || !length)
        return rc;
    if (!__atomic_load_n(&device->authority, __ATOMIC_ACQUIRE))
        return -EPERM;
    /*
     * Before the write: whoever finds the bit clear after reading storage read no half of this write.
     * After it: whoever takes the bit then reads the new bytes.
     */
    block_map_mark_dirty(&device->map, first, count);
    rc = is_remote(device) ? write_remote(device, buffer, length, offset)
                           : storage_write(device->storage, buffer, length, offset);
    block_map_mark_dirty(&device->map, first, count);
    if (rc)
        block_map_mark_unsaved(&device->map, first, count);
    return note(device, rc);
}

int block_device_write(struct block_device *device, const void *buffer, size_t length,
                       uint64_t offset)
{
    int rc = count(&device->writes, length, write_here(device, buffer, length, offset));

    return record(device, BINLOG_WRITE, buffer, length, offset, rc);
}

static int rescue_page(struct block_device *device, uint64_t page)
{
    char buffer[1 << DRAFTER_PAGE_SHIFT];
    size_t length = block_device_run_length(device, page, 1);
    int rc = block_device_fetch_seen(device, buffer, length, page << DRAFTER_PAGE_SHIFT);

    return rc ? rc : storage_write(device->storage, buffer, length, page << DRAFTER_PAGE_SHIFT);
}

int block_device_rescue(struct block_device *device)
{
    uint64_t page = bitmap_next_set(device->map.unsaved, 0, device->map.pages);

    if (page < device->map.pages) /* ahead of it: what fails from here on is remembered anew */
        __atomic_exchange_n(&device->io_error, 0, __ATOMIC_SEQ_CST);
    for (; page < device->map.pages;
         page = bitmap_next_set(device->map.unsaved, page + 1, device->map.pages)) {
        int rc = rescue_page(device, page);

        if (rc)
            return note(device, rc);
        block_map_clear_unsaved(&device->map, page);
        block_map_mark_dirty(&device->map, page, 1);
    }
    return 0;
}

int block_device_flush(struct block_device *device)
{
    int rc = device->unsettled && is_remote(device) ? wait_for(device, 0, device->map.pages) : 0;

    rc = count(&device->flushes, 0, rc ? rc : note(device, storage_flush(device->storage)));
    return record(device, BINLOG_FLUSH, NULL, 0, 0, rc);
}

int block_device_trim(struct block_device *device, uint64_t length, uint64_t offset)
{
    uint64_t begin, end;
    int rc = check_range(device, length, offset);

    if (rc)
        return rc;
    if (!__atomic_load_n(&device->authority, __ATOMIC_ACQUIRE))
        return -EPERM;
    begin = (offset + DRAFTER_PAGE_SIZE - 1) & ~(uint64_t)(DRAFTER_PAGE_SIZE - 1);
    end = (offset + length) & ~(uint64_t)(DRAFTER_PAGE_SIZE - 1);
    if (begin >= end)
        return 0;
    /* What still arrives there must not come back: whole pages become zeros of the VM's own. */
    rc = is_remote(device) ? write_remote(device, NULL, end - begin, begin)
                           : storage_trim(device->storage, end - begin, begin);
    block_map_mark_dirty(&device->map, first_page(begin), first_page(end - begin));
    return record(device, BINLOG_TRIM, NULL, end - begin, begin, rc);
}

size_t block_device_run_length(const struct block_device *device, uint64_t first, uint64_t count)
{
    uint64_t begin = first << DRAFTER_PAGE_SHIFT, length = count << DRAFTER_PAGE_SHIFT;

    return (size_t)(begin + length > device->size ? device->size - begin : length);
}

int block_device_fetch(struct block_device *device, void *buffer, size_t length, uint64_t offset)
{
    return storage_read(device->storage, buffer, length, offset);
}

int block_device_fetch_seen(struct block_device *device, void *buffer, size_t length,
                            uint64_t offset)
{
    if (!device->exposure)
        return storage_read(device->storage, buffer, length, offset);
    return exposure_read(device->exposure, buffer, length, offset);
}

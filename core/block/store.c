/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arrival of a device: content that a source sent is stored unless something newer is here.
 */
#include "block/device.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

uint64_t block_zero_page_hash(void)
{
    static const char zeros[1 << DRAFTER_PAGE_SHIFT];

    return XXH3_64bits(zeros, sizeof(zeros));
}

uint64_t block_page_hash(const void *page, size_t length)
{
    char padded[1 << DRAFTER_PAGE_SHIFT];

    if (length >= sizeof(padded))
        return XXH3_64bits(page, sizeof(padded));
    memcpy(padded, page, length);
    memset(padded + length, 0, sizeof(padded) - length);
    return XXH3_64bits(padded, sizeof(padded));
}

int block_device_begin_remote(struct block_device *device, block_need_fn *need, void *opaque)
{
    device->need = need;
    device->need_opaque = opaque;
    __atomic_store_n(&device->authority, false, __ATOMIC_RELEASE);
    return block_map_begin_remote(&device->map);
}

int block_device_begin_remote_in(struct block_device *device, block_need_fn *need, void *opaque,
                                 void *memory, bool found)
{
    device->need = need;
    device->need_opaque = opaque;
    __atomic_store_n(&device->authority, false, __ATOMIC_RELEASE);
    return block_map_begin_remote_in(&device->map, memory, found);
}

void block_device_take_authority(struct block_device *device)
{
    __atomic_store_n(&device->authority, true, __ATOMIC_RELEASE);
}

bool block_device_end_remote(struct block_device *device, uint64_t losses)
{
    if (!block_map_end_remote(&device->map, losses))
        return false;
    if (device->exposure)
        exposure_hint(device->exposure, DRAFTER_DEVICE_COMPLETE);
    return true;
}

/* Calls `write` for each run of set bits of the mask: (device, first page, pages, opaque). */
typedef int run_fn(struct block_device *device, uint64_t first, unsigned count, void *opaque);

static int for_each_run(struct block_device *device, uint64_t first, unsigned count,
                        const uint64_t *mask, run_fn *visit, void *opaque)
{
    uint64_t begin = bitmap_next_set(mask, 0, count);

    while (begin < count) {
        uint64_t end = bitmap_next_clear(mask, begin, count);
        int rc = visit(device, first + begin, (unsigned)(end - begin), opaque);

        if (rc)
            return rc;
        begin = bitmap_next_set(mask, end, count);
    }
    return 0;
}

/* A store that fails may have left anything: what is not held is not zeros any more. */
static void end_claim(struct block_device *device, uint64_t first, unsigned count,
                      uint32_t generation, const uint64_t mask[BLOCK_MASK_WORDS],
                      const uint64_t *hashes, int rc)
{
    if (rc)
        __atomic_store_n(&device->fresh, false, __ATOMIC_RELAXED);
    block_map_claim_end(&device->map, first, count, generation, mask, hashes, rc == 0);
}

struct run_data {
    const char *data; /* of the page `first` */
    uint64_t first;
};

static int write_run(struct block_device *device, uint64_t first, unsigned count, void *opaque)
{
    const struct run_data *run = opaque;

    return storage_write(device->storage,
                         run->data + ((first - run->first) << DRAFTER_PAGE_SHIFT),
                         block_device_run_length(device, first, count),
                         first << DRAFTER_PAGE_SHIFT);
}

static void hash_run(uint64_t *hashes, const char *data, size_t length)
{
    for (size_t offset = 0; offset < length; offset += DRAFTER_PAGE_SIZE)
        hashes[offset >> DRAFTER_PAGE_SHIFT] = block_page_hash(data + offset, length - offset);
}

int block_device_store(struct block_device *device, uint64_t first, unsigned count,
                       uint32_t generation, const void *data, size_t length)
{
    uint64_t mask[BLOCK_MASK_WORDS], hashes[BLOCK_RUN_MAX];
    struct run_data run = {data, first};
    int rc;

    if (!count || count > BLOCK_RUN_MAX || first >= device->map.pages ||
        count > device->map.pages - first || length != block_device_run_length(device, first, count))
        return -EINVAL;
    if (!block_map_claim(&device->map, first, count, generation, mask))
        return 0;
    hash_run(hashes, data, length);
    rc = for_each_run(device, first, count, mask, write_run, &run);
    end_claim(device, first, count, generation, mask, hashes, rc);
    return rc;
}

static int zero_run(struct block_device *device, uint64_t first, unsigned count, void *opaque)
{
    uint64_t page = first, end = first + count;

    (void)opaque;
    if (__atomic_load_n(&device->fresh, __ATOMIC_RELAXED)) /* pages that nobody stored yet read as zeros already */
        while (page < end && !device->map.held[page])
            page++;
    if (page == end)
        return 0;
    return storage_zero(device->storage, block_device_run_length(device, page, end - page),
                        page << DRAFTER_PAGE_SHIFT);
}

static int keep_run(struct block_device *device, uint64_t first, unsigned count, void *opaque)
{
    (void)device;
    (void)first;
    (void)count;
    (void)opaque;
    return 0;
}

/* Any number of pages whose content needs no bytes: `visit` makes it so, `hash` computes its hashes. */
static int store_known(struct block_device *device, uint64_t first, uint64_t count,
                       uint32_t generation, run_fn *visit,
                       int (*hash)(struct block_device *, uint64_t first, unsigned count,
                                   uint64_t *hashes))
{
    uint64_t mask[BLOCK_MASK_WORDS], hashes[BLOCK_RUN_MAX];

    if (first > device->map.pages || count > device->map.pages - first)
        return -EINVAL;
    while (count) {
        unsigned part = count < BLOCK_RUN_MAX ? (unsigned)count : BLOCK_RUN_MAX;

        if (block_map_claim(&device->map, first, part, generation, mask)) {
            int rc = for_each_run(device, first, part, mask, visit, NULL);

            if (!rc)
                rc = hash(device, first, part, hashes);
            end_claim(device, first, part, generation, mask, hashes, rc);
            if (rc && visit != keep_run)
                return rc; /* what cannot be read here stays missing, and is asked for */
        }
        first += part;
        count -= part;
    }
    return 0;
}

static int hash_zeros(struct block_device *device, uint64_t first, unsigned count, uint64_t *hashes)
{
    uint64_t zero = block_zero_page_hash();

    (void)device;
    (void)first;
    for (unsigned i = 0; i < count; i++)
        hashes[i] = zero;
    return 0;
}

int block_device_store_zero(struct block_device *device, uint64_t first, uint64_t count,
                            uint32_t generation)
{
    return store_known(device, first, count, generation, zero_run, hash_zeros);
}

static int hash_stored(struct block_device *device, uint64_t first, unsigned count, uint64_t *hashes)
{
    size_t length = block_device_run_length(device, first, count);
    char *data = malloc(length);
    int rc = data ? storage_read(device->storage, data, length, first << DRAFTER_PAGE_SHIFT)
                  : -ENOMEM;

    if (!rc)
        hash_run(hashes, data, length);
    free(data);
    return rc;
}

int block_device_store_have(struct block_device *device, uint64_t first, uint64_t count,
                            uint32_t generation)
{
    return store_known(device, first, count, generation, keep_run, hash_stored);
}

struct delta_run {
    int (*apply)(void *opaque, unsigned index, void *page);
    void *opaque;
    char *scratch;
    uint64_t *hashes;
    uint64_t first; /* of the whole run */
};

/* Reads what this side holds of claimed pages, changes them, writes them back. */
static int change_run(struct block_device *device, uint64_t first, unsigned count, void *opaque)
{
    const struct delta_run *run = opaque;
    unsigned index = (unsigned)(first - run->first);
    size_t length = block_device_run_length(device, first, count);
    int rc = storage_read(device->storage, run->scratch, length, first << DRAFTER_PAGE_SHIFT);

    for (unsigned i = 0; !rc && i < count; i++)
        rc = run->apply(run->opaque, index + i, run->scratch + ((size_t)i << DRAFTER_PAGE_SHIFT));
    if (rc)
        return rc;
    hash_run(run->hashes + index, run->scratch, length);
    return storage_write(device->storage, run->scratch, length, first << DRAFTER_PAGE_SHIFT);
}

/* Lets go of the claimed pages whose base is not here. */
static void drop_baseless(struct block_device *device, uint64_t first, unsigned count,
                          uint32_t base, uint64_t mask[BLOCK_MASK_WORDS])
{
    uint64_t dropped[BLOCK_MASK_WORDS] = {0};
    bool any = false;

    for (unsigned i = 0; i < count; i++) {
        if (!bitmap_test(mask, i) || device->map.held[first + i] == base)
            continue; /* ours to read while it is claimed */
        bitmap_clear(mask, i);
        bitmap_set(dropped, i);
        any = true;
    }
    if (any)
        block_map_claim_cancel(&device->map, first, count, dropped);
}

int block_device_store_deltas(struct block_device *device, uint64_t first, unsigned count,
                              uint32_t generation, uint32_t base,
                              int (*apply)(void *opaque, unsigned index, void *page), void *opaque,
                              void *scratch)
{
    uint64_t mask[BLOCK_MASK_WORDS], hashes[BLOCK_RUN_MAX];
    struct delta_run run = {apply, opaque, scratch, hashes, first};
    int rc;

    /* A short last page is never sent as a difference. */
    if (!count || count > BLOCK_RUN_MAX || first >= device->map.pages ||
        count > device->map.pages - first || (first + count) << DRAFTER_PAGE_SHIFT > device->size)
        return -EINVAL;
    if (!block_map_claim(&device->map, first, count, generation, mask))
        return 0;
    drop_baseless(device, first, count, base, mask);
    rc = for_each_run(device, first, count, mask, change_run, &run);
    end_claim(device, first, count, generation, mask, hashes, rc);
    return rc;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device: the storage that holds its bytes, the block map that knows which of them are here, and
 * the exposure through which a VMM uses them.
 *
 *     VMM -> exposure -> block_device_{read,write,flush,trim} -> storage
 *     migration -> block_device_store* -> storage              (at a destination)
 *     migration <- block_device_fetch  <- storage or exposure  (at a source)
 *
 * All calls may come from any thread.  No lock is held across storage I/O.
 */
#ifndef BLOCK_DEVICE_H
#define BLOCK_DEVICE_H

#include "block/binlog.h"
#include "block/map.h"
#include "plugin/device.h"
#include "plugin/storage.h"

struct block_device;

/* Asks the source for missing pages; must not block on them. */
typedef void block_need_fn(void *opaque, struct block_device *device, uint64_t first, uint64_t count);

/* All atomic. */
struct block_counters {
    uint64_t ops, bytes, errors;
};

struct block_device {
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t size;       /* bytes */
    uint32_t block_size; /* bytes that travel together, a multiple of the page size */
    struct instance *storage;
    struct exposure *exposure; /* NULL while nothing shows it */
    struct block_map map;
    bool fresh; /* atomic: where nothing is held storage has zeros, as before the arrival began */

    /* Set before the map becomes remote, constant while it is. */
    block_need_fn *need;
    void *need_opaque;
    bool unsettled; /* what is missing may be on no disk yet: it was written elsewhere and not flushed */

    bool authority; /* atomic: the VMM here may write; false from begin_remote to the hand-over */
    struct block_counters reads, writes, flushes; /* of the VMM */
    int io_error;   /* atomic: first errno that storage gave to the VMM, 0 */
    struct binlog *binlog; /* owned; what the VMM does is recorded there; NULL: it is not */
};

/*
 * `storage` is open; `block_size` is rounded up to whole pages and bounded.  Owns neither.  A binlog may be
 * set before the device is used.
 */
int block_device_init(struct block_device *device, const char *name, struct instance *storage,
                      uint32_t block_size, struct drafter_error *err);
void block_device_release(struct block_device *device);

static inline uint64_t block_device_pages(const struct block_device *device)
{
    return device->map.pages;
}

/* Shows the device to a VMM. */
int block_device_expose(struct block_device *device, struct instance *exposer, unsigned flags,
                        struct drafter_error *err);
void block_device_withdraw(struct block_device *device);

/*
 * What the exposure calls: 0 or a negative errno.  What storage finds to be damaged is asked for again while a
 * source has it, else -EIO.
 */
int block_device_read(struct block_device *device, void *buffer, size_t length, uint64_t offset);
int block_device_write(struct block_device *device, const void *buffer, size_t length,
                       uint64_t offset);
/*
 * A flush promises that all that the VMM ever wrote is on stable storage, wherever it ran then.  So while
 * pages of an unsettled device are missing it waits for them.
 */
int block_device_flush(struct block_device *device);
int block_device_trim(struct block_device *device, uint64_t length, uint64_t offset);

/*
 * The VMM is paused: writes again what storage refused before (a full disk).  The kernel takes pages
 * whose write-back failed for clean, so that only the VMM's cache has them.
 */
int block_device_rescue(struct block_device *device);

/* Arrival: every page is missing and the VMM may not write until block_device_take_authority. */
int block_device_begin_remote(struct block_device *device, block_need_fn *need, void *opaque);
/* The same with the map in memory that outlives the process; see block_map_begin_remote_in. */
int block_device_begin_remote_in(struct block_device *device, block_need_fn *need, void *opaque,
                                 void *memory, bool found);
void block_device_take_authority(struct block_device *device);
bool block_device_end_remote(struct block_device *device, uint64_t losses); /* see block_map_end_remote */

/*
 * Stores content of `generation` that came from the source: `count` (at most BLOCK_RUN_MAX) pages from
 * `first`, `length` bytes (the last page of a device may be short).  Older copies are dropped without
 * an error.
 */
int block_device_store(struct block_device *device, uint64_t first, unsigned count,
                       uint32_t generation, const void *data, size_t length);
int block_device_store_zero(struct block_device *device, uint64_t first, uint64_t count,
                            uint32_t generation);

/* The pages are already here with the content of `generation` (a shared base). */
int block_device_store_have(struct block_device *device, uint64_t first, uint64_t count,
                            uint32_t generation);

/*
 * Stores a run of pages that are given as differences to what this side holds of generation `base`:
 * `apply` turns the old page first + index into the new one in place.  `scratch` has room for the run.
 * Pages of which this side does not hold that base are left out and stay missing.
 */
int block_device_store_deltas(struct block_device *device, uint64_t first, unsigned count,
                              uint32_t generation, uint32_t base,
                              int (*apply)(void *opaque, unsigned index, void *page), void *opaque,
                              void *scratch);

/* What storage holds, without waiting for anything: cached pages of the VMM are not in it. */
int block_device_fetch(struct block_device *device, void *buffer, size_t length, uint64_t offset);

/* What a paused VMM saw last: dirty cached pages count. */
int block_device_fetch_seen(struct block_device *device, void *buffer, size_t length,
                            uint64_t offset);

/* Bytes of the page range, less than whole pages only at the end of the device. */
size_t block_device_run_length(const struct block_device *device, uint64_t first, uint64_t count);

/* XXH3-64 of one page as it counts for comparing both sides: short pages are padded with zeros. */
uint64_t block_page_hash(const void *page, size_t length);
uint64_t block_zero_page_hash(void);

#endif

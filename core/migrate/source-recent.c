/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where is the guest?  With many dirty pages the order in which they follow the VM decides how long it
 * waits at its new place, and a dirty page does not tell when it was written.
 *
 * So shortly before the pause one page of each region that is dirty is written back.  Those that are
 * dirty again in the pause tell the regions the guest wrote in last; where the region behind such a one
 * was not touched, the guest is most likely on its way into it.  Both go first.
 */
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>

#define REGION_PAGES 1024
/* As many pages are written back at most, and travel whole: some 2 ms at 1 Gbit/s. */
#define PROBES_MAX 64

static uint64_t region_pages(const struct source_device *device)
{
    uint64_t share = (device->block->map.pages + PROBES_MAX - 1) / PROBES_MAX;

    return share > REGION_PAGES ? share : REGION_PAGES;
}

static uint64_t region_end(const struct source_device *device, uint64_t first)
{
    uint64_t end = first + region_pages(device);

    return end < device->block->map.pages ? end : device->block->map.pages;
}

static int probe(struct source_device *device, const uint64_t *dirty)
{
    uint64_t pages = device->block->map.pages;

    for (uint64_t first = 0; first < pages; first = region_end(device, first)) {
        uint64_t page = bitmap_next_set(dirty, first, region_end(device, first));
        int rc;

        if (page >= region_end(device, first))
            continue;
        rc = exposure_clean(device->block->exposure, page << DRAFTER_PAGE_SHIFT, DRAFTER_PAGE_SIZE);
        if (rc)
            return rc;
        bitmap_set(device->probed, page);
    }
    return 0;
}

/* It only makes the order better: a failure is no failure. */
static int place_probes(struct source_device *device)
{
    uint64_t pages = device->block->map.pages;
    cleanup_free uint64_t *dirty = bitmap_new(pages);
    int rc;

    if (!device->probed)
        device->probed = bitmap_new(pages);
    if (!dirty || !device->probed)
        return -ENOMEM;
    bitmap_clear_range(device->probed, 0, pages);
    rc = exposure_dirty(device->block->exposure, dirty, pages, NULL);
    return rc ? rc : probe(device, dirty);
}

void source_place_probes(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        int rc = device->block->exposure && exposure_can_clean(device->block->exposure)
                     ? place_probes(device)
                     : 0;

        if (rc)
            log_debug("source", "device %s: where the guest writes is not known: %s",
                      device->block->name, strerror(-rc));
    }
}

static bool is_recent(const struct source_device *device, uint64_t first)
{
    uint64_t end = region_end(device, first), page = bitmap_next_set(device->probed, first, end);

    return page < end && bitmap_test(device->cached, page);
}

/* The next region that was asked about; after the last one comes the first, as loops begin anew. */
static uint64_t region_behind(const struct source_device *device, uint64_t next)
{
    uint64_t pages = device->block->map.pages, page = bitmap_next_set(device->probed, next, pages);

    if (page == pages)
        page = bitmap_next_set(device->probed, 0, pages);
    return page - page % region_pages(device);
}

static void mark(struct source *source, unsigned index)
{
    struct source_device *device = &source->devices[index];
    uint64_t pages = device->block->map.pages;

    for (uint64_t first = 0; first < pages; first = region_end(device, first)) {
        uint64_t next = region_end(device, first), behind;

        if (!is_recent(device, first))
            continue;
        behind = region_behind(device, next);
        if (is_recent(device, behind)) {
            schedule_prefer(&source->schedule, index, first, next - first, SCHEDULE_RECENT);
            continue;
        }
        schedule_prefer(&source->schedule, index, first, next - first, SCHEDULE_NEXT);
        schedule_prefer(&source->schedule, index, behind, region_end(device, behind) - behind,
                        SCHEDULE_NEXT);
    }
}

void source_prefer_recent(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++)
        if (source->devices[i].probed)
            mark(source, i);
}

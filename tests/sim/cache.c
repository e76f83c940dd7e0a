/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An exposure, as a device plugin: the page cache through which a VMM maps and writes a device.  It
 * does what the kernel does with a file of a user-space file system: a write makes a page dirty and
 * returns; dirty pages are written back at any time, also while the VMM is paused; a page whose
 * write-back failed counts as clean although only the cache has it.
 */
#include "fiber.h"
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define CACHES_MAX 8
#define BACKGROUND_NS (3 * MS)

static struct sim_cache caches[CACHES_MAX];
static uint8_t pages[CACHES_MAX][SIM_PAGES_MAX][1 << DRAFTER_PAGE_SHIFT];
static struct instance exposers[SIM_NODES];

void cache_reset(void)
{
    for (unsigned i = 0; i < CACHES_MAX; i++)
        caches[i].used = false;
}

void cache_drop(int node)
{
    for (unsigned i = 0; i < CACHES_MAX; i++)
        if (caches[i].used && caches[i].node == node)
            caches[i].used = false;
}

struct sim_cache *cache_of(int node, enum sim_device device)
{
    for (unsigned i = 0; i < CACHES_MAX; i++)
        if (caches[i].used && !caches[i].withdrawn && caches[i].node == node &&
            caches[i].device == (int)device)
            return &caches[i];
    return NULL;
}

static int fill(struct sim_cache *cache, uint64_t page)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT] = {0};
    int rc;

    cache->inside++;
    rc = cache->backend.read(cache->backend.opaque, data,
                             page_length((enum sim_device)cache->device, page),
                             page << DRAFTER_PAGE_SHIFT);
    cache->inside--;
    fiber_wake(cache);
    if (rc || cache->page[page].cached) /* somebody was quicker */
        return rc;
    memcpy(cache->page[page].data, data, sizeof(data));
    cache->page[page].cached = true;
    cache->page[page].dirty = cache->page[page].failed = false;
    return 0;
}

int cache_read(struct sim_cache *cache, uint64_t page, uint8_t *data)
{
    while (!cache->page[page].cached) {
        int rc = fill(cache, page);

        if (rc)
            return rc;
    }
    memcpy(data, cache->page[page].data, 1 << DRAFTER_PAGE_SHIFT);
    return 0;
}

int cache_write(struct sim_cache *cache, uint64_t page, const uint8_t *data, size_t from, size_t length)
{
    size_t whole = page_length((enum sim_device)cache->device, page);

    while (!cache->page[page].cached && (from || length < whole)) {
        int rc = fill(cache, page);

        if (rc)
            return rc;
    }
    memcpy(cache->page[page].data + from, data + from, length);
    if (!cache->page[page].dirty)
        fiber_wake(cache);
    cache->page[page].cached = cache->page[page].dirty = true;
    return 0;
}

/* The page as it is now; what is written to it meanwhile makes it dirty again. */
int cache_write_back(struct sim_cache *cache, uint64_t page)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];
    int rc;

    while (cache->page[page].writing)
        fiber_wait(cache, sim.now + MS);
    if (!cache->page[page].dirty)
        return 0;
    memcpy(data, cache->page[page].data, sizeof(data));
    cache->page[page].dirty = false;
    cache->page[page].writing = true;
    cache->inside++;
    rc = cache->backend.write(cache->backend.opaque, data,
                              page_length((enum sim_device)cache->device, page),
                              page << DRAFTER_PAGE_SHIFT);
    cache->inside--;
    cache->page[page].writing = false;
    cache->page[page].failed |= rc != 0;
    fiber_wake(cache);
    return rc;
}

int cache_write_back_all(struct sim_cache *cache)
{
    int failed = 0;

    for (uint64_t page = 0; page < cache->pages; page++) {
        int rc = 0;

        if (cache->page[page].dirty || cache->page[page].writing)
            rc = cache_write_back(cache, page);
        failed = failed ? failed : rc;
    }
    return failed;
}

static bool has_dirty(const struct sim_cache *cache)
{
    for (uint64_t page = 0; page < cache->pages; page++)
        if (cache->page[page].dirty)
            return true;
    return false;
}

/* The kernel's flusher. */
static void *background_main(void *opaque)
{
    struct sim_cache *cache = opaque;

    while (!cache->withdrawn) {
        if (!sim.swarm.writeback || !has_dirty(cache)) {
            fiber_wait(cache, FIBER_NEVER);
            continue;
        }
        fiber_wait(cache, sim.now + 1 + sim_below(BACKGROUND_NS * (1024 - sim.swarm.writeback) / 64 + 1));
        if (!cache->withdrawn && sim_chance(sim.swarm.writeback))
            cache_write_back(cache, sim_below(cache->pages));
    }
    cache->background = false;
    fiber_wake(cache);
    return NULL;
}

static int sim_start(void *instance, const char *directory, struct drafter_error *err)
{
    (void)instance, (void)directory, (void)err;
    return 0;
}

static int device_by_name(const char *name)
{
    for (int i = 0; i < SIM_DEVICES; i++)
        if (!strcmp(sim_devices[i].name, name))
            return i;
    sim_die("device %s is exposed, which is none", name);
}

static int sim_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                      size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    (void)instance, (void)err;
    for (unsigned i = 0; i < CACHES_MAX; i++) {
        struct sim_cache *cache = &caches[i];

        if (cache->used)
            continue;
        *cache = (struct sim_cache){.used = true,
                                    .node = fiber_node(),
                                    .size = spec->size,
                                    .pages = (spec->size + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT,
                                    .device = device_by_name(spec->name),
                                    .background = true,
                                    .backend = spec->backend};
        for (unsigned page = 0; page < SIM_PAGES_MAX; page++)
            cache->page[page].data = pages[i][page];
        snprintf(path, path_size, "/sim/%s", spec->name);
        fiber_start(fiber_node(), "write-back", true, background_main, cache);
        *ret_exposure = cache;
        return 0;
    }
    sim_die("more than %d devices are shown", CACHES_MAX);
}

static int sim_sync(void *exposure, struct drafter_error *err)
{
    int rc = cache_write_back_all(exposure);

    return rc ? drafter_error_errno(err, -rc, "write-back") : 0;
}

static int sim_dirty(void *exposure, uint64_t *bitmap, uint64_t count, struct drafter_error *err)
{
    const struct sim_cache *cache = exposure;

    (void)err;
    fiber_maybe_yield();
    for (uint64_t page = 0; page < count; page++)
        if (cache->page[page].dirty || cache->page[page].writing)
            bitmap_set(bitmap, page);
    return 0;
}

static int sim_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];

    for (size_t done = 0; done < length; done += sizeof(data)) {
        size_t part = length - done < sizeof(data) ? length - done : sizeof(data);
        int rc = cache_read(exposure, (offset + done) >> DRAFTER_PAGE_SHIFT, data);

        if (rc)
            return rc;
        memcpy((uint8_t *)buffer + done, data, part);
    }
    return 0;
}

static int sim_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct sim_cache *cache = exposure;

    (void)length;
    for (uint64_t page = offset >> DRAFTER_PAGE_SHIFT; page < cache->pages; page++)
        if (!cache->page[page].dirty && !cache->page[page].writing && !cache->page[page].failed)
            cache->page[page].cached = false;
    return 0;
}

static int sim_populate(void *exposure, uint64_t offset, uint64_t length)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];

    for (uint64_t at = offset; at < offset + length; at += sizeof(data)) {
        int rc = cache_read(exposure, at >> DRAFTER_PAGE_SHIFT, data);

        if (rc)
            return rc;
    }
    return 0;
}

static void sim_withdraw(void *exposure)
{
    struct sim_cache *cache = exposure;

    cache->withdrawn = true;
    fiber_wake(cache);
    while (cache->inside || cache->background)
        fiber_wait(cache, FIBER_NEVER);
    cache->used = false;
}

static void sim_stop(void *instance)
{
    (void)instance;
}

static const struct drafter_device_ops device_ops = {
    .start = sim_start,
    .expose = sim_expose,
    .sync = sim_sync,
    .dirty = sim_dirty,
    .read = sim_read,
    .invalidate = sim_invalidate,
    .populate = sim_populate,
    .withdraw = sim_withdraw,
    .stop = sim_stop,
};

static struct plugin device_plugin = {
    .descriptor = {.kind = DRAFTER_KIND_DEVICE, .thread_model = DRAFTER_THREADS_PARALLEL, .name = "sim"},
    .ops = (void *)&device_ops,
};

struct instance *cache_exposer(int node)
{
    exposers[node] = (struct instance){.plugin = &device_plugin, .id = (char *)"sim"};
    return &exposers[node];
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest: writes pages of memory and disk, reads some of them back, flushes its disk.  A page's
 * content says its version, so whatever is read or stored anywhere can be judged.  Its knowledge
 * (versions, what a flush acknowledged) is the world's and moves with it.
 *
 * A VMM is a fiber that runs the guest while it may; pausing waits until it stands still.
 */
#include "fiber.h"
#include "sim.h"

#include <string.h>

#define WORDS (DRAFTER_PAGE_SIZE / sizeof(uint64_t))
#define STAMP UINT64_C(0xd0c5000000000000)

const struct sim_device_spec sim_devices[SIM_DEVICES] = {
    [DEVICE_CONFIG] = {"config", 4096, 4096, false, false},
    [DEVICE_STATE] = {"state", 2 * 4096, 65536, false, false},
    [DEVICE_MEMORY] = {"memory", 24 * 4096, 16384, true, true},
    [DEVICE_DISK] = {"disk", 15 * 4096 + 1536, 8192, true, true},
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Pages */

size_t page_length(enum sim_device device, uint64_t page)
{
    uint64_t left = sim_devices[device].size - (page << DRAFTER_PAGE_SHIFT);

    return left < DRAFTER_PAGE_SIZE ? (size_t)left : DRAFTER_PAGE_SIZE;
}

uint64_t page_count(enum sim_device device)
{
    return (sim_devices[device].size + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;
}

static bool is_zero_version(enum sim_device device, uint64_t page, uint32_t version)
{
    unsigned of_8 = version ? 1 : 3;

    return mix((uint64_t)device << 56 ^ page << 32 ^ version) % 8 < of_8;
}

/* Most versions differ from the page's base in a few words, some in all, some are zeros. */
void page_fill(enum sim_device device, uint64_t page, uint32_t version, uint8_t *ret_data)
{
    static uint64_t base[SIM_DEVICES][SIM_PAGES_MAX][WORDS];
    uint64_t *words = base[device][page], id = (uint64_t)device << 56 | page << 40;
    uint64_t content[WORDS], seed = mix(id ^ version);

    if (!words[0])
        for (size_t i = 0; i < WORDS; i++)
            words[i] = mix(id + i + 1);
    if (is_zero_version(device, page, version)) {
        memset(ret_data, 0, page_length(device, page));
        return;
    }
    memcpy(content, words, sizeof(content));
    if (seed % 4 == 0)
        for (size_t i = 0; i < WORDS; i++)
            content[i] ^= seed;
    content[0] = STAMP | version;
    content[1] = id;
    for (unsigned i = 0; i < 4; i++)
        content[2 + (seed >> (9 * i)) % (WORDS - 2)] = seed + i;
    memcpy(ret_data, content, page_length(device, page));
}

bool page_is(enum sim_device device, uint64_t page, uint32_t version, const uint8_t *data)
{
    uint8_t expected[1 << DRAFTER_PAGE_SHIFT];

    page_fill(device, page, version, expected);
    return !memcmp(expected, data, page_length(device, page));
}

bool page_version(enum sim_device device, uint64_t page, const uint8_t *data, uint32_t *ret_version)
{
    static const uint8_t zeros[1 << DRAFTER_PAGE_SHIFT];
    uint64_t stamp;

    if (!memcmp(data, zeros, page_length(device, page))) {
        *ret_version = PAGE_ZEROS;
        return true;
    }
    memcpy(&stamp, data, sizeof(stamp));
    *ret_version = (uint32_t)stamp;
    return (stamp & ~(uint64_t)UINT32_MAX) == STAMP && page_is(device, page, *ret_version, data);
}

/* Life */

void guest_reset(void)
{
    memset(&sim.guest, 0, sizeof(sim.guest));
}

void vmm_end(int node, bool excused)
{
    struct sim_vmm *vmm = &sim.nodes[node].vmm;
    bool had_guest = vmm->state == VMM_RUNNING || vmm->state == VMM_PAUSED;

    if (had_guest && sim.guest.exists && (vmm->state == VMM_RUNNING || !sim.committed)) {
        sim.guest.exists = false;
        sim.guest.may_die |= excused;
        sim_trace("the guest ends with its VMM at node %d%s", node, excused ? "" : ", for no reason");
        if (!sim.guest.may_die)
            sim_fail("I1", "the guest at node %d died of something that is no reason", node);
    }
    vmm->state = VMM_DEAD;
    fiber_wake(vmm);
}

static void die_of(int node, enum sim_device device, uint64_t page, int rc)
{
    sim_trace("guest: %s page %llu: %s", sim_devices[device].name, (unsigned long long)page,
              strerror(-rc));
    /* A registry does not wait for a peer that lost its link: what is missing then never comes. */
    vmm_end(node, sim.swarm.registry && sim.seed % 16 != 0);
}

/* Reads through the cache and compares with what it wrote last. */
static int read_page(int node, enum sim_device device, uint64_t page)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];
    struct sim_cache *cache = cache_of(node, device);
    int rc = cache ? cache_read(cache, page, data) : -EIO;

    if (rc)
        return rc;
    sim.guest.reads++;
    check_guest_read(node, device, page, data);
    return 0;
}

/*
 * A store of a part of the page, or of all of it.  The version counts from the moment the cache has
 * it; a part store needs the page, so its old content is checked on the way.
 */
static int write_page(int node, enum sim_device device, uint64_t page)
{
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];
    struct sim_cache *cache = cache_of(node, device);
    uint32_t version = sim.guest.version[device][page] + 1;
    int rc = 0;

    if (!cache)
        return -EIO;
    if (sim_chance(sim.swarm.partial_write)) {
        rc = read_page(node, device, page);
        if (rc)
            return rc;
    }
    page_fill(device, page, version, data);
    if (cache->page[page].failed)
        return 0; /* the kernel let go of a page that cannot be stored: it is not asked again */
    rc = cache_write(cache, page, data, 0, page_length(device, page));
    if (!rc)
        sim.guest.version[device][page] = version;
    return rc;
}

/* What is acknowledged was written before the flush began. */
static void flush_disk(int node)
{
    struct sim_cache *cache = cache_of(node, DEVICE_DISK);
    uint32_t versions[SIM_PAGES_MAX];
    int rc;

    if (!cache)
        return;
    memcpy(versions, sim.guest.version[DEVICE_DISK], sizeof(versions));
    cache->inside++;
    rc = cache_write_back_all(cache);
    for (uint64_t page = 0; page < cache->pages; page++)
        if (cache->page[page].failed)
            rc = -EIO; /* the file remembers that a write-back failed */
    if (!rc)
        rc = cache->backend.flush(cache->backend.opaque);
    cache->inside--;
    fiber_wake(cache);
    if (rc)
        return;
    sim.guest.flushes++;
    memcpy(sim.guest.acked[DEVICE_DISK], versions, sizeof(versions));
    check_flush_ack(node, DEVICE_DISK, versions);
}

static int operate(int node, enum sim_device *ret_device, uint64_t *ret_page)
{
    static const enum sim_device devices[] = {DEVICE_MEMORY, DEVICE_MEMORY, DEVICE_DISK};
    enum sim_device device = devices[sim_below(3)];
    uint64_t page = sim_chance(700) ? sim_below(4) : sim_below(page_count(device)); /* some are hot */

    sim.guest.operations++;
    *ret_device = device;
    *ret_page = page;
    if (device == DEVICE_DISK && sim_chance(128)) {
        flush_disk(node);
        return 0;
    }
    return sim_chance(400) ? read_page(node, device, page) : write_page(node, device, page);
}

/* Between two instructions; false: the VMM ended. */
static bool stand_still(struct sim_vmm *vmm)
{
    while (vmm->pausing || vmm->state == VMM_PAUSED) {
        vmm->parked = true;
        fiber_wake(vmm);
        fiber_wait(vmm, FIBER_NEVER);
    }
    vmm->parked = false;
    return vmm->state == VMM_RUNNING;
}

/* In a long wait it writes ever more seldom, as time costs turns and the pages are few. */
static void think(void)
{
    uint64_t recent = sim.guest.operations - sim.guest.operations_before;

    fiber_sleep(20 * US + sim_below(sim.swarm.guest_rate * US * (1 + recent * recent / 4096)));
}

static void *guest_main(void *opaque)
{
    struct sim_node *node = opaque;
    struct sim_vmm *vmm = &node->vmm;

    while (stand_still(vmm)) {
        enum sim_device device;
        uint64_t page;
        int rc = operate(node->index, &device, &page);

        if (rc && vmm->state == VMM_RUNNING && device == DEVICE_MEMORY)
            die_of(node->index, device, page, rc); /* SIGBUS; of a disk it is only an error */
        if (vmm->state != VMM_DEAD)
            think();
    }
    vmm->guest_fibers--;
    return NULL;
}

static void run_guest(int node)
{
    struct sim_vmm *vmm = &sim.nodes[node].vmm;

    vmm->state = VMM_RUNNING;
    vmm->pausing = vmm->parked = false;
    sim.guest.operations_before = sim.guest.operations;
    if (!vmm->guest_fibers++)
        fiber_start(node, "guest", true, guest_main, &sim.nodes[node]);
    else
        vmm->guest_fibers--;
    fiber_wake(vmm);
    check_resume(node);
}

void guest_boot(int node)
{
    bool may_die = sim.guest.may_die;

    guest_reset();
    sim.guest.exists = true;
    sim.guest.may_die = may_die;
    run_guest(node);
}

int vmm_pause_guest(int node, struct drafter_error *err)
{
    struct sim_vmm *vmm = &sim.nodes[node].vmm;

    vmm->pausing = true;
    while (vmm->state == VMM_RUNNING && !vmm->parked)
        fiber_wait(vmm, FIBER_NEVER);
    vmm->pausing = false;
    if (vmm->state != VMM_RUNNING)
        return drafter_error_set(err, ESRCH, "the VMM is gone");
    vmm->state = VMM_PAUSED;
    memcpy(sim.guest.suspended, sim.guest.version, sizeof(sim.guest.version));
    return 0;
}

int vmm_resume_guest(int node, struct drafter_error *err)
{
    struct sim_vmm *vmm = &sim.nodes[node].vmm;

    if (vmm->state != VMM_PAUSED && vmm->state != VMM_LOADED && vmm->state != VMM_RUNNING)
        return drafter_error_set(err, ESRCH, "the VMM is gone");
    if (vmm->state != VMM_RUNNING)
        run_guest(node);
    return 0;
}

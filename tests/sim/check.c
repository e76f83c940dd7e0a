/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What must hold, whatever happens.  The numbers are those of the project's list of invariants:
 *
 *   I1   at most one VMM runs the guest, and at most one durable ledger says that its node owns it
 *   I2   RELINQUISHED is durable before COMMIT, ownership before a resume, REFUSED before it is said
 *   I3   what a flush acknowledged is on stable storage where it was acknowledged, and what was ever
 *        acknowledged is on some disk after every crash
 *   I4   everything at the destination is the source's at the suspend, less what the guest wrote since
 *   I5   no read returns, and no storage takes, a page that no guest ever wrote
 *   I6   a page never becomes older
 *   I7   the pause of a hand-over that fails before COMMIT ends within 2 s
 *   I8   no wait is endless, a silent link is noticed; world.c ends each move after a time that is long enough
 *   I9   after a reconnect only what is missing is sent
 *   I10  replayed and foreign connections change nothing: all others, with FAULT_IMPOSTOR and the like
 *   I11  memory is bounded
 *   I12  when a role is over nothing of it is left: memory, threads, connections
 *   I15  a mix-up is refused before the guest is paused: FAULT_VERSION, by I7 and the outcome
 *
 * I13 (publication of packages) and I14 (clones differ) concern parts that do not run here.
 */
#include "fiber.h"
#include "sim.h"

#include <string.h>

#define PAUSE_MAX_NS (2 * SECOND)
#define PAUSE_SLACK_NS (500 * MS) /* a VMM that needs time to go on, a disk that is slow */
#define SILENCE_MAX_NS (13 * SECOND) /* a greeting may take 10 s, a heartbeat is missed after 3 */
#define MEMORY_MAX ((size_t)96 << 20)

static struct ledger_record ledgers[SIM_NODES]; /* durable ones, as last seen */
static uint32_t stored[SIM_NODES][SIM_DEVICES][SIM_PAGES_MAX];
static struct {
    bool active;
    bool allowed[SIM_DEVICES][SIM_PAGES_MAX];
} resent;

void check_reset(void)
{
    memset(ledgers, 0, sizeof(ledgers));
    memset(stored, 0, sizeof(stored));
    memset(&resent, 0, sizeof(resent));
}

/* Between `least` and what the guest wrote last? */
static bool is_recent(enum sim_device device, uint64_t page, const uint8_t *data, uint32_t least)
{
    uint32_t version, newest = sim.guest.version[device][page];

    if (!page_version(device, page, data, &version))
        return false;
    if (version != PAGE_ZEROS)
        return version >= least && version <= newest;
    for (version = least; version <= newest; version++)
        if (page_is(device, page, version, data))
            return true;
    return false;
}

static bool owns(const struct ledger_record *record)
{
    return record->state == LEDGER_OWNED || record->state == LEDGER_INCOMPLETE ||
           record->state == LEDGER_SAVED;
}

void check_turn(void)
{
    int running = -1;

    for (int node = 0; node < SIM_NODES; node++) {
        if (sim.nodes[node].vmm.state == VMM_RUNNING) {
            if (running >= 0)
                sim_fail("I1", "the guest runs at nodes %d and %d", running, node);
            running = node;
        }
        if (memory_live(node) > MEMORY_MAX)
            sim_fail("I11", "node %d uses %zu bytes of memory", node, memory_live(node));
    }
    if (sim.events % 16 == 0 && net_is_stalled() && net_unnoticed(SILENCE_MAX_NS) >= 0)
        sim_fail("I8", "node %d has not noticed that nothing gets to it for %d s",
                 net_unnoticed(SILENCE_MAX_NS), (int)(SILENCE_MAX_NS / SECOND));
    if (!sim.paused_at || sim.committed || sim.nodes[sim.source].vmm.state != VMM_PAUSED ||
        sim.now <= sim.excused_until)
        return;
    if (sim.now - sim.paused_at > PAUSE_MAX_NS + PAUSE_SLACK_NS)
        sim_fail("I7", "node %d has paused its guest for %.1f s, and COMMIT was not sent", sim.source,
                 (double)(sim.now - sim.paused_at) / 1e9);
}

/* Ledgers */

static void trace_ledger(int node, const struct ledger_record *record)
{
    sim_trace("node %d: ledger: %s, epoch %llu", node, ledger_state_name(record->state),
              (unsigned long long)record->epoch);
}

static void check_complete(int node);

void check_ledger_change(int node)
{
    struct ledger_record record = {0};
    unsigned owners = 0;
    enum ledger_state before = ledgers[node].state;

    disk_ledger(node, true, &record);
    if (record.state == before && record.epoch == ledgers[node].epoch)
        return;
    ledgers[node] = record;
    trace_ledger(node, &record);
    for (int other = 0; other < SIM_NODES - sim.swarm.registry; other++)
        owners += owns(&ledgers[other]);
    if (owners > 1)
        sim_fail("I1", "the ledgers of %u nodes say that they own the VM", owners);
    if (record.state == LEDGER_OWNED && before == LEDGER_INCOMPLETE && node == sim.destination)
        check_complete(node);
    if (!fiber_self())
        return;
    if (record.state == LEDGER_RELINQUISHED)
        sim_step(STEP_S10);
    else if (record.state == LEDGER_INCOMPLETE)
        sim_step(STEP_S12);
    else if (record.state == LEDGER_OWNED && before == LEDGER_INCOMPLETE)
        sim_step(STEP_S17);
}

void check_resume(int node)
{
    const struct ledger_record *record = &ledgers[node];

    sim_trace("node %d: the guest runs", node);
    if (sim.paused_at && node == sim.source) {
        sim.outcomes.pauses++;
        sim.outcomes.pause_ns += sim.now - sim.paused_at;
    }
    sim.paused_at = 0;
    if (!owns(record) && !sim.ledger_failed)
        sim_fail("I2", "the guest runs at node %d, whose durable ledger says \"%s\"", node,
                 ledger_state_name(record->state));
    for (int other = 0; other < SIM_NODES - sim.swarm.registry; other++)
        if (other != node && owns(&ledgers[other]) && ledgers[other].epoch >= record->epoch)
            sim_fail("I1", "the guest runs at node %d in epoch %llu, node %d owns it in epoch %llu",
                     node, (unsigned long long)record->epoch, other,
                     (unsigned long long)ledgers[other].epoch);
    check_turn();
}

/* Frames */

static void check_commit(int node)
{
    if (sim.swarm.registry)
        return;
    if (ledgers[node].state != LEDGER_RELINQUISHED)
        sim_fail("I2", "node %d sends COMMIT, its durable ledger says \"%s\"", node,
                 ledger_state_name(ledgers[node].state));
    if (sim.nodes[node].vmm.state == VMM_RUNNING)
        sim_fail("I1", "node %d sends COMMIT while its guest runs", node);
}

static void allow(unsigned device, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; device < SIM_DEVICES && page < first + count; page++)
        if (page < SIM_PAGES_MAX)
            resent.allowed[device][page] = true;
}

/*
 * The destination came back and has said what it misses.  Ahead of the hand-over the guest goes on writing: that
 * may be sent, too.
 */
static void check_reconnected(void)
{
    memset(&resent, 0, sizeof(resent));
    resent.active = true;
    sim.outcomes.parted += !sim.committed;
    for (unsigned device = 0; device < SIM_DEVICES; device++)
        for (uint64_t page = 0; page < page_count((enum sim_device)device); page++)
            if (!node_page_present(sim.destination, device, page) ||
                (!sim.committed && node_page_dirty(sim.source, device, page)))
                allow(device, page, 1);
}

static void check_resent(const struct wire_header *header)
{
    uint64_t first = header->offset >> DRAFTER_PAGE_SHIFT;
    uint64_t length = header->type == WIRE_DATA ? header->length : header->argument;
    uint64_t count = header->type == WIRE_DELTA ? 1 : (length + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;

    if (!resent.active || header->device >= SIM_DEVICES)
        return;
    for (uint64_t page = first; page < first + count; page++)
        if (page < SIM_PAGES_MAX && !resent.allowed[header->device][page])
            sim_fail("I9", "page %llu of %s is sent again after a reconnect, and nobody missed it",
                     (unsigned long long)page, sim_devices[header->device].name);
}

static void on_source_frame(int node, const struct wire_header *header)
{
    switch (header->type) {
    case WIRE_PASS:
        if (sim.paused_at && !sim.committed)
            sim_step(STEP_S9);
        else if (header->generation >= 2 && !sim.committed)
            sim_step(STEP_S5);
        return;
    case WIRE_COMMIT:
        check_commit(node);
        if (!sim.committed && sim.paused_at)
            sim.outcomes.pause_max_ns = sim.now - sim.paused_at;
        sim.committed = true;
        sim_step(STEP_S11);
        return;
    case WIRE_DATA:
    case WIRE_ZERO:
    case WIRE_HAVE:
    case WIRE_DELTA:
        check_resent(header);
        sim_step(sim.committed && !sim.swarm.registry ? STEP_S16 : STEP_S4);
        return;
    case WIRE_RESUME:
        sim.resuming = true;
        return;
    case WIRE_HASHES:
        if (sim.swarm.registry)
            sim_step(STEP_R4);
        return;
    case WIRE_DONE:
        sim_step(STEP_S18);
        return;
    default:
        return;
    }
}

static void on_destination_frame(int node, const struct wire_header *header)
{
    switch (header->type) {
    case WIRE_HELLO:
        sim.resuming = false;
        sim_step(STEP_S1);
        return;
    case WIRE_HASHES:
        sim_step(STEP_S3);
        return;
    case WIRE_ACCEPT:
        if (sim.resuming)
            check_reconnected();
        sim_step(STEP_S3);
        return;
    case WIRE_NEED:
        if (resent.active)
            allow(header->device, header->offset >> DRAFTER_PAGE_SHIFT,
                  (header->argument + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT);
        if (sim.committed)
            sim_step(STEP_S16);
        return;
    case WIRE_REFUSED:
        if (ledgers[node].state != LEDGER_REFUSED)
            sim_fail("I2", "node %d sends REFUSED, its durable ledger says \"%s\"", node,
                     ledger_state_name(ledgers[node].state));
        return;
    case WIRE_COMPLETE:
        if (ledgers[node].state != LEDGER_OWNED)
            sim_fail("I2", "node %d sends COMPLETE, its durable ledger says \"%s\"", node,
                     ledger_state_name(ledgers[node].state));
        sim_step(STEP_S18);
        return;
    default:
        return;
    }
}

void check_frame(int node, const struct wire_header *header)
{
    if (sim.traced && header->type != WIRE_PING && header->type != WIRE_PONG)
        sim_trace("node %d sends %s, device %u, generation %u, offset %llu, argument %llu, %u bytes",
                  node, wire_type_name(header->type), header->device, header->generation,
                  (unsigned long long)header->offset, (unsigned long long)header->argument,
                  header->length);
    if (node == sim.source)
        on_source_frame(node, header);
    else if (node == sim.destination)
        on_destination_frame(node, header);
}

/* Content */

/* Whether it fails or not: what the source's guest writes may be sent. */
void check_storage_attempt(int node, int device, uint64_t offset, size_t length)
{
    if (resent.active && node == sim.source)
        allow((unsigned)device, offset >> DRAFTER_PAGE_SHIFT,
              (length + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT);
}

void check_storage_write(int node, int device, uint64_t offset, const uint8_t *data, size_t length)
{
    for (size_t done = 0; done < length; done += DRAFTER_PAGE_SIZE) {
        uint64_t page = (offset + done) >> DRAFTER_PAGE_SHIFT;
        uint32_t version, *before = &stored[node][device][page];

        if (!page_version((enum sim_device)device, page, data + done, &version)) {
            if (sim.torn[device][page]) /* half of a page may travel, but never be the last word */
                continue;
            sim_fail("I5", "node %d stores nonsense in page %llu of %s", node,
                     (unsigned long long)page, sim_devices[device].name);
            return;
        }
        if (version != PAGE_ZEROS && *before != PAGE_ZEROS && version < *before)
            sim_fail("I6", "node %d stores version %u of page %llu of %s over version %u", node,
                     version, (unsigned long long)page, sim_devices[device].name, *before);
        *before = version;
    }
}

void check_guest_read(int node, enum sim_device device, uint64_t page, const uint8_t *data)
{
    uint32_t version = 0;
    bool known;

    if (page_is(device, page, sim.guest.version[device][page], data))
        return;
    known = page_version(device, page, data, &version);
    sim_fail(known ? "I3" : "I5", "the guest at node %d reads %s of page %llu of %s instead of version %u",
             node, known ? "an old version" : "nonsense", (unsigned long long)page,
             sim_devices[device].name, sim.guest.version[device][page]);
}

void check_flush_ack(int node, enum sim_device device, const uint32_t *versions)
{
    for (uint64_t page = 0; page < page_count(device); page++)
        if ((!sim.swarm.registry || node_page_present(node, device, page)) &&
            !is_recent(device, page, disk_page(node, device, page, true), versions[page]))
            sim_fail("I3", "a flush at node %d is acknowledged, and page %llu of %s is not durable", node,
                     (unsigned long long)page, sim_devices[device].name);
}

/* A page that was being written when the power went is new in some sectors and old in others. */
static bool is_recent_by_sector(uint64_t page, const uint8_t *data, uint32_t least)
{
    size_t sectors = page_length(DEVICE_DISK, page) / 512;
    unsigned found = 0;

    for (uint32_t version = least; version <= sim.guest.version[DEVICE_DISK][page]; version++) {
        uint8_t expected[1 << DRAFTER_PAGE_SHIFT];

        page_fill(DEVICE_DISK, page, version, expected);
        for (size_t sector = 0; sector < sectors; sector++)
            if (!memcmp(expected + sector * 512, data + sector * 512, 512))
                found |= 1u << sector;
    }
    return found == (1u << sectors) - 1;
}

/* Every acknowledged write is on some disk. */
void check_disks(const char *when)
{
    for (uint64_t page = 0; page < page_count(DEVICE_DISK); page++) {
        bool found = false;

        for (int node = 0; node < SIM_NODES && !found; node++)
            found = disk_device_exists(node, DEVICE_DISK) &&
                    is_recent_by_sector(page, disk_page(node, DEVICE_DISK, page, false),
                                        sim.guest.acked[DEVICE_DISK][page]);
        if (!found)
            sim_fail("I3", "%s no disk has page %llu as it was flushed", when, (unsigned long long)page);
    }
}

static void check_complete(int node)
{
    for (unsigned device = 0; device < SIM_DEVICES; device++)
        for (uint64_t page = 0; page < page_count((enum sim_device)device); page++) {
            const uint8_t *data = disk_page(node, (enum sim_device)device, page, true);
            bool right;

            if ((sim.torn[device][page] || disk_lost_writes(node, (enum sim_device)device)) &&
                sim.guest.version[device][page] > sim.guest.suspended[device][page])
                continue; /* the guest's own write failed since, and it was told */
            if (device == DEVICE_STATE && !sim.swarm.registry)
                right = page_is(DEVICE_STATE, page, sim.state_version, data);
            else
                right = is_recent((enum sim_device)device, page, data,
                                  sim.guest.suspended[device][page]);
            if (!right)
                sim_fail("I4", "node %d owns all of the VM, and page %llu of %s is not the source's, or not "
                         "durable", node, (unsigned long long)page, sim_devices[device].name);
        }
}

/* Ends */

void check_session_begins(int node, const char *peer)
{
    sim.source = node;
    if (!strncmp(peer, "node ", 5) && !sim.swarm.registry)
        sim.destination = peer[5] - '0';
    sim.committed = sim.resuming = false;
    sim.paused_at = 0;
    resent.active = false;
}

void check_arrival_begins(int node)
{
    if (!sim.swarm.registry)
        return;
    if (node != sim.destination)
        return;
    memset(stored[node], 0, sizeof(stored[node])); /* the copy begins anew, and with it its guest */
    memset(sim.guest.version, 0, sizeof(sim.guest.version));
    memset(sim.guest.acked, 0, sizeof(sim.guest.acked));
    memset(sim.guest.suspended, 0, sizeof(sim.guest.suspended));
    sim.state_version = 0;
}

void check_source_end(int node, enum source_outcome outcome)
{
    enum vmm_state state = sim.nodes[node].vmm.state;

    resent.active = false;
    if (node_session(node))
        memcpy(sim.old_token, node_session(node), sizeof(sim.old_token));
    sim.outcomes.moved += outcome == SOURCE_OUTCOME_MOVED;
    sim.outcomes.kept += outcome == SOURCE_OUTCOME_KEPT;
    sim.outcomes.lost += outcome == SOURCE_OUTCOME_LOST;
    if (sim.swarm.registry)
        return;
    if (outcome == SOURCE_OUTCOME_KEPT && state != VMM_RUNNING && !sim.guest.may_die)
        sim_fail("I7", "node %d has kept the VM, and its guest does not run", node);
    if (outcome == SOURCE_OUTCOME_MOVED && owns(&ledgers[node]))
        sim_fail("I1", "the VM moved away from node %d, which still owns it", node);
    if (outcome == SOURCE_OUTCOME_KEPT)
        sim.committed = false;
    sim.paused_at = 0;
}

void check_arrival_end(int node, int outcome)
{
    sim.outcomes.partial += outcome == 2;
    if (outcome == 1 && sim.nodes[node].vmm.state == VMM_RUNNING)
        sim_fail("I1", "node %d says that it has nothing, and runs the guest", node);
}

void check_idle(int node)
{
    if (memory_live(node))
        sim_fail("I12", "node %d has done its work and left %zu bytes", node, memory_live(node));
    if (net_connections(node))
        sim_fail("I12", "node %d has done its work and left %u connections open", node,
                 net_connections(node));
    if (fiber_count(node))
        sim_fail("I12", "node %d has done its work and left %u threads", node, fiber_count(node));
}

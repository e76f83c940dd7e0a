/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node: what core/role/peer*.c and registry.c do around a migration, with the VMM and the operator
 * replaced.  The server that accepts peers is the real one.  The rules of who may start or receive a VM
 * (check_ownership, check_offer, journal) are those of core/role, restated here, because there they
 * are entangled with processes; a change there has to be made here, too.
 */
#include "fiber.h"
#include "sim.h"

#include "migrate/destination.h"
#include "role/ownership.h"
#include "role/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOOK_TIMEOUT_NS (10 * SECOND)
#define RELINK_TIMEOUT_MS 4000

struct role {
    struct sim_node *node;
    bool registry, stop, serving, vm_made;
    struct block_device blocks[SIM_DEVICES];
    unsigned opened;
    struct ledger ledger;
    bool ledger_open;
    struct server *server;
    struct source *source; /* its session, or NULL */
    void *session_memory;  /* its options, and the VM's operations behind them */
    unsigned leaving; /* sessions under way: a peer has one at most */
    bool moved, lost;
    struct destination *destination;
    bool arriving;
    int from;
};

static struct role *role_of(int node)
{
    return sim.nodes[node].role;
}

/* Devices */

static int open_device(struct role *role, enum sim_device device, struct drafter_error *err)
{
    bool filled = disk_device_exists(role->node->index, device);
    int rc = block_device_init(&role->blocks[device], sim_devices[device].name,
                               disk_storage(role->node->index, device),
                               sim_devices[device].block_size, err);

    if (rc)
        return rc;
    role->blocks[device].fresh = !filled;
    role->opened++;
    return 0;
}

static int expose(struct role *role, struct drafter_error *err)
{
    int rc = 0;

    role->vm_made = true;
    for (unsigned i = 0; !rc && i < SIM_DEVICES; i++)
        if (sim_devices[i].exposed)
            rc = block_device_expose(&role->blocks[i], cache_exposer(role->node->index), 0, err);
    return rc;
}

static void close_devices(struct role *role)
{
    struct sim_vmm *vmm = &role->node->vmm;

    vmm->state = VMM_NONE;
    fiber_wake(vmm);
    while (vmm->guest_fibers)
        fiber_sleep(50 * US);
    while (role->opened)
        block_device_release(&role->blocks[--role->opened]);
}

/* The state and config devices are read and written by the core itself. */
static int check_device(struct role *role, enum sim_device device, uint32_t version,
                        struct drafter_error *err)
{
    if (sim.copy_saved && role->node->index == SIM_NODES - 1)
        return drafter_error_set(err, ESTALE, "what the registry has is another VM than the guest's oracle knows");
    for (uint64_t page = 0; page < page_count(device); page++) {
        uint8_t data[1 << DRAFTER_PAGE_SHIFT];
        int rc = block_device_read(&role->blocks[device], data, page_length(device, page),
                                   page << DRAFTER_PAGE_SHIFT);

        if (rc)
            return drafter_error_errno(err, -rc, "cannot read device %s", sim_devices[device].name);
        if (!page_is(device, page, version, data))
            sim_fail("I5", "node %d reads a wrong page %llu of device %s", role->node->index,
                     (unsigned long long)page, sim_devices[device].name);
    }
    return 0;
}

/* The VMM */

static int vmm_call(int node, const char *what, struct drafter_error *err)
{
    fiber_sleep(sim_below(3 * MS));
    if (sim.nodes[node].vmm.state == VMM_DEAD)
        return drafter_error_set(err, ESRCH, "the VMM is gone");
    if (fault_takes(node, FAULT_VMM_ERROR, what)) {
        sim.guest.may_die |= !strcmp(what, "go on"); /* nobody asks again: the guest stays paused */
        return drafter_error_set(err, EIO, "the VMM refuses to %s", what);
    }
    return 0;
}

static int hook(int node, enum sim_step_number step, struct drafter_error *err)
{
    sim_step(step);
    if (!fault_takes(node, FAULT_HOOK, "a hook"))
        return 0;
    fiber_sleep(HOOK_TIMEOUT_NS);
    return drafter_error_set(err, ETIMEDOUT, "the agent is silent");
}

static int before_suspend(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;

    return hook(role->node->index, STEP_S6, err);
}

static int pause_vm(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    int rc = vmm_call(role->node->index, "pause", err);

    if (rc)
        return rc;
    rc = vmm_pause_guest(role->node->index, err);
    if (!rc)
        sim.paused_at = sim.now;
    sim_step(STEP_S7);
    return rc;
}

static int save_vm(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    uint8_t data[2 << DRAFTER_PAGE_SHIFT];
    int rc = vmm_call(role->node->index, "save", err);

    if (rc)
        return rc;
    sim.state_version++;
    for (uint64_t page = 0; page < page_count(DEVICE_STATE); page++)
        page_fill(DEVICE_STATE, page, sim.state_version, data + (page << DRAFTER_PAGE_SHIFT));
    rc = block_device_write(&role->blocks[DEVICE_STATE], data, sizeof(data), 0);
    sim_step(STEP_S8);
    return rc ? drafter_error_errno(err, -rc, "cannot write the state device") : 0;
}

static int resume_vm(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    int rc = vmm_call(role->node->index, "go on", err);

    return rc ? rc : vmm_resume_guest(role->node->index, err);
}

/* The source's side: peer-leave.c, registry.c */

static int begin(void *opaque, const struct hello *hello, struct stream *control,
                 struct source **ret_source, struct drafter_error *err)
{
    static const struct source_vm vm = {.before_suspend = before_suspend,
                                        .pause = pause_vm,
                                        .save = save_vm,
                                        .resume = resume_vm};
    struct role *role = opaque;
    struct source_options *options;
    struct source_vm *source_vm;
    int rc;

    (void)hello;
    for (unsigned i = 0; i < 25 && !role->registry && role->leaving; i++)
        fiber_sleep(20 * MS); /* await_last_session */
    if (!role->registry && (role->leaving || role->moved))
        return drafter_error_set(err, EBUSY, "the VM is being handed over to another peer");
    options = calloc(1, sizeof(*options) + sizeof(*source_vm));
    if (!options)
        return drafter_error_set(err, ENOMEM, "out of memory");
    source_vm = (struct source_vm *)(options + 1);
    *source_vm = vm;
    source_vm->opaque = role;
    for (unsigned i = 0; i < SIM_DEVICES; i++)
        options->devices[options->device_count++] = (struct source_device_options){
            .block = &role->blocks[i], .early = i == DEVICE_STATE && !role->registry};
    options->vm = role->registry ? NULL : source_vm;
    options->ledger = role->registry ? NULL : &role->ledger;
    options->converge = (struct converge){
        .downtime_limit_ns = MS, .max_passes = sim.swarm.max_passes, .postcopy = true};
    options->relink_timeout_ms = RELINK_TIMEOUT_MS;
    options->offer.epoch = role->registry ? 0 : role->ledger.record.epoch;
    snprintf(options->offer.vm, sizeof(options->offer.vm), SIM_VM);
    snprintf(options->offer.facts.name, sizeof(options->offer.facts.name), "sim");
    rc = source_new(options, control, ret_source, err);
    if (rc) {
        free(options);
        return rc;
    }
    if (role->registry)
        free(options); /* they were copied, and there are no operations */
    else
        role->session_memory = options;
    role->leaving++;
    role->source = *ret_source;
    check_session_begins(role->node->index, control->peer);
    return 0;
}

static void end(void *opaque, enum source_outcome outcome, const struct drafter_error *error)
{
    struct role *role = opaque;

    sim_trace("node %d: the session as source ends: %s%s%s", role->node->index,
              outcome == SOURCE_OUTCOME_MOVED  ? "moved"
              : outcome == SOURCE_OUTCOME_KEPT ? "kept"
                                               : "lost",
              error->code ? ": " : "", error->message);
    role->leaving--;
    if (!role->registry) {
        role->moved = outcome == SOURCE_OUTCOME_MOVED;
        role->lost = outcome == SOURCE_OUTCOME_LOST;
    }
    sim_step(STEP_S19);
    check_source_end(role->node->index, outcome);
    role->source = NULL;
    if (!role->registry)
        free(role->session_memory);
    fiber_wake(role);
}

static int serve(struct role *role, struct drafter_error *err)
{
    const struct server_ops ops = {.begin = begin, .end = end, .opaque = role};
    char address[2] = {(char)('0' + role->node->index), '\0'};

    return server_start(net_transport(role->node->index), address, &ops, &role->server, err);
}

/* As vm_suspend: afterwards storage is a package. */
static int suspend_to_files(struct role *role, struct drafter_error *err)
{
    int rc = pause_vm(role, err);

    sim.copy_saved |= sim.swarm.registry;
    if (!rc)
        rc = save_vm(role, err);
    for (unsigned i = 0; !rc && i < SIM_DEVICES; i++) {
        struct block_device *device = &role->blocks[i];

        if (device->exposure)
            rc = exposure_sync(device->exposure, err);
        if (!rc && ((rc = block_device_rescue(device)) || (rc = block_device_flush(device))))
            drafter_error_errno(err, -rc, "cannot write back");
    }
    return rc ? rc
              : ledger_write(&role->ledger, LEDGER_SAVED, role->ledger.record.epoch,
                             role->ledger.record.peer, NULL, err);
}

/* Until the VM left, its VMM died, or the operator wants an end. */
static void supervise(struct role *role)
{
    struct drafter_error error = {0};

    if (serve(role, &error)) {
        sim_trace("node %d cannot serve: %s", role->node->index, error.message);
        sim.guest.may_die = true; /* resources: the node ends, and saves its VM if it can */
        role->stop = true;
    }
    while (!role->stop && !role->moved && !role->lost && role->node->vmm.state != VMM_DEAD)
        fiber_wait(role, sim.now + 50 * MS);
    server_stop(role->server, "the node is ending");
    role->server = NULL;
    if (role->moved || role->lost || role->registry)
        return;
    if (role->node->vmm.state == VMM_RUNNING && suspend_to_files(role, &error)) {
        sim_trace("node %d: its VM cannot be saved: %s", role->node->index, error.message);
        sim.guest.may_die = true;
    }
}

/* The destination's side: peer-arrive.c */

static int check_offer(struct role *role, const struct offer *offer, struct drafter_error *err)
{
    const struct ledger_record *record = &role->ledger.record;

    if (offer->live && offer->epoch > record->epoch &&
        (record->state == LEDGER_OWNED || record->state == LEDGER_INCOMPLETE))
        return 0; /* void: taken over elsewhere by force */
    if (offer->live && (record->state == LEDGER_OWNED || record->state == LEDGER_INCOMPLETE ||
                        record->state == LEDGER_SAVED))
        return drafter_error_set(err, EEXIST, "the VM is owned here");
    if (offer->live && record->epoch > offer->epoch + (record->state == LEDGER_REFUSED))
        return drafter_error_set(err, ESTALE, "the offer is old");
    return 0;
}

static int prepare(void *opaque, const struct offer *offer, struct destination_device *ret_devices,
                   struct drafter_error *err)
{
    struct role *role = opaque;
    char directory[] = "/sim/0";
    int rc;

    check_arrival_begins(role->node->index);
    sim_step(STEP_S2);
    directory[5] = (char)('0' + role->node->index);
    rc = ledger_open(directory, SIM_VM, &role->ledger, err);
    role->ledger_open = rc == 0;
    if (!rc)
        rc = check_offer(role, offer, err);
    for (unsigned i = 0; !rc && i < offer->device_count; i++) {
        bool filled = disk_device_exists(role->node->index, (enum sim_device)i);

        rc = open_device(role, (enum sim_device)i, err);
        ret_devices[i].block = &role->blocks[i];
        ret_devices[i].reuse = filled && sim.swarm.reuse;
    }
    return rc;
}

static int start(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    uint8_t data[1 << DRAFTER_PAGE_SHIFT];
    struct sim_cache *disk;
    int rc = expose(role, err);

    if (!rc)
        rc = check_device(role, DEVICE_CONFIG, 0, err);
    if (!rc)
        rc = vmm_call(role->node->index, "start", err);
    if (rc)
        return rc;
    role->node->vmm.state = VMM_WAITING;
    disk = cache_of(role->node->index, DEVICE_DISK);
    if (disk && sim_chance(512)) /* a VMM looks for a partition table: that page must be dropped later */
        cache_read(disk, 0, data);
    return 0;
}

static int journal(void *opaque, enum ledger_state state, uint64_t epoch, const char *from,
                   const uint8_t session[16], struct drafter_error *err)
{
    struct role *role = opaque;
    uint64_t known = role->ledger.record.epoch;

    if (epoch <= known && state == LEDGER_INCOMPLETE)
        epoch = known + 1;
    if (state == LEDGER_OWNED)
        epoch = known;
    return ledger_write(&role->ledger, state, epoch, from, session, err);
}

static int load(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    int rc;

    for (unsigned i = 0; i < SIM_DEVICES; i++)
        if (role->blocks[i].exposure)
            exposure_invalidate(role->blocks[i].exposure, 0, 0);
    rc = check_device(role, DEVICE_STATE, sim.state_version, err);
    if (!rc)
        rc = vmm_call(role->node->index, "load", err);
    if (!rc)
        role->node->vmm.state = VMM_LOADED;
    sim_step(STEP_S13);
    return rc;
}

static int resume(void *opaque, struct drafter_error *err)
{
    struct role *role = opaque;
    int rc = vmm_call(role->node->index, "run", err);

    if (rc && sim_chance(512) && role->node->vmm.state == VMM_LOADED) {
        role->node->vmm.state = VMM_RUNNING; /* it says no, and runs all the same */
        check_resume(role->node->index);
    }
    if (!rc && sim.swarm.registry && role->node->index == SIM_NODES - 1)
        return 0; /* a second copy is a VM of its own, whose guest is not played */
    if (!rc && sim.swarm.registry)
        guest_boot(role->node->index);
    else if (!rc)
        rc = vmm_resume_guest(role->node->index, err);
    sim_step(STEP_S14);
    return rc;
}

static void stop_vmm(void *opaque)
{
    struct role *role = opaque;

    role->node->vmm.state = VMM_DEAD;
    fiber_wake(&role->node->vmm);
    while (role->node->vmm.guest_fibers)
        fiber_sleep(50 * US);
}

static void resumed(void *opaque)
{
    struct role *role = opaque;
    struct drafter_error error = {0};

    hook(role->node->index, STEP_S15, &error); /* real hooks run beside; here it only costs time */
}

static void discard(void *opaque)
{
    struct role *role = opaque;

    close_devices(role);
    disk_remove_devices(role->node->index);
}

static void arrive(struct role *role)
{
    char address[2] = {(char)('0' + role->from), '\0'};
    const struct destination_options options = {
        .transport = net_transport(role->node->index),
        .address = address,
        .vm_name = "",
        .role = "peer",
        .bulk_streams = sim.swarm.streams,
        .connect_timeout_ms = 3000,
        .relink_timeout_ms = RELINK_TIMEOUT_MS,
        .wait_for_all = sim.swarm.wait_for_all,
        .vm = {.opaque = role,
               .prepare = prepare,
               .start = start,
               .journal = journal,
               .load = load,
               .resume = resume,
               .stop = stop_vmm,
               .resumed = resumed,
               .discard = discard},
    };
    struct drafter_error error = {0};
    enum destination_outcome outcome;

    if (destination_new(&options, &role->destination, &error))
        return;
    role->arriving = true;
    outcome = destination_run(role->destination, &error);
    role->arriving = false;
    role->node->arriving = outcome != DESTINATION_OUTCOME_COMPLETE; /* till all of it is released */
    sim_trace("node %d: the arrival ends: %s%s%s", role->node->index,
              outcome == DESTINATION_OUTCOME_COMPLETE  ? "complete"
              : outcome == DESTINATION_OUTCOME_PARTIAL ? "partial"
                                                       : "nothing",
              error.code ? ": " : "", error.message);
    destination_free(role->destination);
    role->destination = NULL;
    check_arrival_end(role->node->index, outcome);
    if (outcome == DESTINATION_OUTCOME_COMPLETE)
        supervise(role);
}

/* Local start: peer.c */

static int start_local(struct role *role, struct drafter_error *err)
{
    char directory[] = "/sim/0";
    bool first;
    int rc;

    directory[5] = (char)('0' + role->node->index);
    rc = ledger_open(directory, SIM_VM, &role->ledger, err);
    role->ledger_open = rc == 0;
    if (!rc)
        rc = ownership_check_start(&role->ledger.record, role->ledger.path, err);
    for (unsigned i = 0; !rc && i < SIM_DEVICES; i++)
        rc = open_device(role, (enum sim_device)i, err);
    if (!rc)
        rc = expose(role, err);
    if (!rc)
        rc = vmm_call(role->node->index, "start", err);
    first = role->ledger.record.state == LEDGER_NONE;
    role->node->vmm.state = VMM_LOADED;
    if (!rc)
        rc = check_device(role, DEVICE_STATE, first ? 0 : sim.state_version, err);
    if (!rc)
        rc = ledger_write(&role->ledger, LEDGER_OWNED, role->ledger.record.epoch + first, "", NULL,
                          err);
    if (rc)
        return rc;
    if (first)
        guest_boot(role->node->index);
    else
        rc = vmm_resume_guest(role->node->index, err);
    return rc;
}

static int start_registry(struct role *role, struct drafter_error *err)
{
    int rc = 0;

    role->registry = true;
    for (unsigned i = 0; !rc && i < SIM_DEVICES; i++)
        rc = open_device(role, (enum sim_device)i, err);
    return rc;
}

/* Roles */

static void release(struct role *role)
{
    close_devices(role);
    if (role->ledger_open)
        ledger_close(&role->ledger);
    role->node->role = NULL;
    role->node->role_running = role->node->arriving = false;
    free(role);
}

static void *peer_main(void *opaque)
{
    struct role *role = opaque;
    struct drafter_error error = {0};

    if (!start_local(role, &error))
        supervise(role);
    else
        sim_trace("node %d cannot start the VM: %s", role->node->index, error.message);
    release(role);
    return NULL;
}

static void *arrival_main(void *opaque)
{
    struct role *role = opaque;

    arrive(role);
    release(role);
    return NULL;
}

static void *registry_main(void *opaque)
{
    struct role *role = opaque;
    struct drafter_error error = {0};

    if (!start_registry(role, &error))
        supervise(role);
    release(role);
    return NULL;
}

/* The role's memory is the node's, so that it goes with it. */
static void *create_role(void *opaque)
{
    struct sim_node *node = opaque;

    node->role = calloc(1, sizeof(*node->role));
    if (!node->role) {
        node->role_running = node->arriving = false;
        return NULL;
    }
    node->role->node = node;
    node->role->from = node->next_from;
    node->role->ledger.fd = -1;
    return node->next_main(node->role);
}

static void start_role(int index, int from, void *(*run)(void *))
{
    struct sim_node *node = &sim.nodes[index];

    node->up = node->role_running = true;
    node->lives++;
    node->vmm = (struct sim_vmm){.state = VMM_NONE};
    node->next_main = run;
    node->next_from = from;
    fiber_start(index, "role", true, create_role, node);
}

void node_install(int node)
{
    for (unsigned i = 0; i < SIM_DEVICES; i++) {
        disk_storage(node, (enum sim_device)i);
        for (uint64_t page = 0; page < page_count((enum sim_device)i); page++) {
            page_fill((enum sim_device)i, page, 0, disk_page(node, (enum sim_device)i, page, false));
            page_fill((enum sim_device)i, page, 0, disk_page(node, (enum sim_device)i, page, true));
        }
    }
}

void node_start_local(int node)
{
    start_role(node, -1, peer_main);
}

void node_start_registry(int node)
{
    start_role(node, -1, registry_main);
}

void node_start_arrival(int node, int source)
{
    start_role(node, source, arrival_main);
    sim.nodes[node].arriving = true;
}

void node_cancel(int node, const char *why)
{
    struct role *role = role_of(node);

    if (!role)
        return;
    if (role->destination && role->arriving)
        destination_cancel(role->destination, why);
    if (role->source)
        source_cancel(role->source, why);
}

void node_stop(int node)
{
    struct role *role = role_of(node);

    if (!role)
        return;
    role->stop = true;
    if (role->destination && role->arriving)
        destination_cancel(role->destination, "the operator wants an end");
    fiber_wake(role);
}

void node_kill(int index, bool power)
{
    struct sim_node *node = &sim.nodes[index];

    if (!node->up)
        return;
    vmm_end(index, true);
    fiber_kill_node(index);
    net_kill(index, power);
    cache_drop(index);
    disk_kill(index);
    if (power)
        disk_power_loss(index);
    memory_drop(index);
    node->role = NULL;
    node->role_running = node->up = node->arriving = false;
    fiber_freeze_node(index, 0);
    node->vmm = (struct sim_vmm){.state = VMM_NONE};
}

bool node_is_serving(int node)
{
    return role_of(node) && role_of(node)->leaving;
}

bool node_page_present(int node, unsigned device, uint64_t page)
{
    const struct role *role = role_of(node);

    if (!role || role->opened <= device || !role->blocks[device].map.remote)
        return true;
    return bitmap_test(role->blocks[device].map.present, page);
}

bool node_page_dirty(int node, unsigned device, uint64_t page)
{
    const struct role *role = role_of(node);

    return role && role->opened > device && bitmap_test(role->blocks[device].map.dirty, page);
}

bool node_arrives(int node)
{
    return sim.nodes[node].arriving;
}

const uint8_t *node_session(int node)
{
    return role_of(node) && role_of(node)->source ? source_token(role_of(node)->source) : NULL;
}

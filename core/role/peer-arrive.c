/* SPDX-License-Identifier: BSD-2-Clause */
/* Taking a VM over from a peer or a registry. */
#include "role/peer.h"

#include "trust/plain.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

/* The size of one step of bringing memory into the page cache. */
#define POPULATE_STEP (UINT64_C(1) << 20)
#define THRESHOLD_PATIENCE_NS UINT64_C(5000000000)

static int check_offer(struct peer *peer, const struct offer *offer, struct drafter_error *err)
{
    int rc;

    if (offer->total_size > peer->options.max_size)
        return drafter_error_set(err, EFBIG, "VM %s has %llu bytes, max-size allows %llu", offer->vm,
                                 (unsigned long long)offer->total_size,
                                 (unsigned long long)peer->options.max_size);
    peer->facts = offer->facts; /* what whoever takes it from here is told */
    peer->copies = peer->kind == PEER_MOUNTS && !offer->live;
    if (!peer->vmm)
        return 0;
    rc = vmm_facts(peer->vmm, &peer->facts, err);
    return rc ? rc : hello_compare_facts(&offer->facts, &peer->facts, err);
}

/*
 * Somebody else has taken the VM over by force, and what is here cannot be started anyway: it died, or half of it
 * never came.
 */
static bool is_void(const struct ledger_record *record, const struct offer *offer)
{
    return offer->live && offer->epoch > record->epoch &&
           (record->state == LEDGER_OWNED || record->state == LEDGER_INCOMPLETE);
}

/* This node must not run the VM already, nor hold a later epoch of it. */
static int check_ledger(struct peer *peer, const struct offer *offer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;

    if (is_void(record, offer)) {
        log_warning("peer", "VM %s, here in epoch %llu, was taken over elsewhere: epoch %llu is offered",
                    record->vm, (unsigned long long)record->epoch, (unsigned long long)offer->epoch);
        return 0;
    }
    if (offer->live && record->state == LEDGER_SAVED && peer->options.overwrite)
        log_warning("peer", "VM %s, saved here in epoch %llu, is replaced by the one that arrives",
                    record->vm, (unsigned long long)record->epoch);
    else if (offer->live && (record->state == LEDGER_OWNED || record->state == LEDGER_INCOMPLETE ||
                             record->state == LEDGER_SAVED))
        return drafter_error_set(err, EEXIST, "VM %s is owned here in epoch %llu (%s)", record->vm,
                                 (unsigned long long)record->epoch, peer->ledger.path);
    /* What was refused here never ran: its epoch may be given out again. */
    if (offer->live && record->epoch > offer->epoch + (record->state == LEDGER_REFUSED))
        return drafter_error_set(err, ESTALE,
                                 "VM %s is offered in epoch %llu, but this node knows epoch %llu: the "
                                 "offer is old",
                                 record->vm, (unsigned long long)offer->epoch,
                                 (unsigned long long)record->epoch);
    return 0;
}

static int open_offered(struct peer *peer, const struct hello_device *offered, bool overwrite,
                        struct destination_device *ret_device, struct drafter_error *err)
{
    struct node_device *device = devices_find(&peer->devices, offered->name);
    int rc;

    if (!device)
        return drafter_error_set(err, ENODEV, "device %s is offered, but there is no [device:%s] here",
                                 offered->name, offered->name);
    device->options.block_size = offered->block_size;
    device->goes_on = peer->adopt_arrival;
    rc = devices_open_arriving(peer->node, device, offered->size, overwrite, err);
    if (rc)
        return drafter_error_wrap(err, "device %s", offered->name);
    if (device->block.size != offered->size)
        return drafter_error_set(err, EINVAL, "device %s has %llu bytes here, %llu at the source",
                                 offered->name, (unsigned long long)device->block.size,
                                 (unsigned long long)offered->size);
    ret_device->block = &device->block;
    ret_device->reuse = device->filled && device->options.shared_base;
    return 0;
}

/* Shared devices do not travel: they are here, too.  All others must come from the source. */
static int open_shared(struct peer *peer, struct drafter_error *err)
{
    for (unsigned i = 0; i < peer->devices.count; i++) {
        struct node_device *device = &peer->devices.list[i];

        if (!device->opened && device->options.shared) {
            int rc = devices_open_one(peer->node, device, true, err);

            if (rc)
                return drafter_error_wrap(err, "device %s", device->name);
        }
        if (!device->opened)
            return drafter_error_set(err, ENODEV,
                                     "%s: the source has no device %s; remove the section",
                                     config_where(device->section, NULL), device->name);
    }
    /* Drives appear in the order of the sections, which both sides list alike. */
    memcpy(peer->arranged, peer->devices.blocks, sizeof(peer->arranged));
    peer->arranged_count = peer->devices.count;
    return 0;
}

/* A running VM is pushed; a copy of a package is what registries are for. */
static int check_trust(struct peer *peer, const struct offer *offer, struct drafter_error *err)
{
    return trust_check(destination_source_identity(peer->destination),
                       offer->live ? TRUST_PUSH : TRUST_REGISTRY, peer->node->options.name, err);
}

static int prepare(void *opaque, const struct offer *offer, struct destination_device *ret_devices,
                   struct drafter_error *err)
{
    struct peer *peer = opaque;
    bool adopt = peer->adopt_arrival, overwrite = peer->options.overwrite || adopt;
    int rc = adopt ? 0 : check_trust(peer, offer, err);

    if (!rc)
        rc = check_offer(peer, offer, err);
    if (!rc && !adopt)
        rc = check_ledger(peer, offer, err);
    overwrite |= peer->ledger.record.state == LEDGER_RELINQUISHED || peer->leftovers ||
                 is_void(&peer->ledger.record, offer);
    if (!rc)
        rc = adopt ? peer_adopt_arriving(peer) : peer_begin_arriving(peer, offer, err);
    for (unsigned i = 0; !rc && i < offer->device_count; i++)
        rc = open_offered(peer, &offer->devices[i], overwrite, &ret_devices[i], err);
    if (!rc)
        rc = open_shared(peer, err);
    if (!rc)
        rc = peer_make_vm(peer, err);
    if (rc && !adopt) {
        devices_discard(&peer->devices);
        peer_end_arriving(peer);
    }
    return rc;
}

static int map_memory(void *opaque, unsigned device, size_t size, void **ret_memory, bool *ret_found)
{
    struct peer *peer = opaque;
    const char *name = destination_device_name(peer->destination, device);

    return peer_map_memory(peer, name, size, ret_memory, ret_found);
}

/* From here on the VM may be ours: it waits for a successor of this process. */
static void ready(void *opaque)
{
    peer_step(opaque, PEER_STEP_ARRIVING);
}

/* The description is here if the dead process has read it; without it there are no hooks. */
static int read_config(struct peer *peer, struct drafter_error *err)
{
    struct block_device *config = vm_device(&peer->vm, VM_DEVICE_CONFIG);

    if (!config || !block_map_present(&config->map, 0, config->map.pages))
        return 0;
    return vm_read_config(&peer->vm, err);
}

static int adopt(void *opaque, struct destination_found *ret_found, struct drafter_error *err)
{
    struct peer *peer = opaque;
    const struct ledger_record *record = &peer->ledger.record;
    uint64_t started = drafter_now_ns();
    struct destination_found found = {0};
    int rc;

    found.owned = (record->state == LEDGER_INCOMPLETE || record->state == LEDGER_OWNED) &&
                  !memcmp(record->session, destination_token(peer->destination), WIRE_TOKEN_SIZE);
    found.whole = found.owned && record->state == LEDGER_OWNED;
    /* Ahead of the exposures: the guest may run, and what it writes must not be refused. */
    for (unsigned i = 0; found.owned && i < peer->arranged_count; i++)
        block_device_take_authority(peer->arranged[i]);
    rc = read_config(peer, err);
    if (!rc)
        rc = vm_adopt(&peer->vm, &found.phase, err);
    if (!rc && found.phase == DRAFTER_VMM_USELESS) { /* killed in the middle of a load: load again */
        vmm_stop(peer->vmm);
        rc = vm_prepare(&peer->vm, err);
        found.phase = DRAFTER_VMM_WAITING;
    }
    if (rc)
        return rc;
    peer->node->left = false;
    log_event("adopted", "\"vm\":\"%s\",\"was\":\"%s\",\"ms\":%.1f", peer->node->options.name,
              found.owned ? "taken over" : "arriving", (double)(drafter_now_ns() - started) / 1e6);
    *ret_found = found;
    return 0;
}

static int start(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    int rc = vm_expose(&peer->vm, err);

    if (!rc && peer->kind == PEER_MOUNTS)
        peer_tell_mounts(peer);
    if (!peer->vmm)
        return rc;
    if (!rc)
        rc = vm_read_config(&peer->vm, err);
    if (!rc)
        rc = hello_compare_facts(&peer->vm.package.facts, &peer->facts, err);
    if (!rc)
        rc = vm_prepare(&peer->vm, err);
    if (!rc)
        peer_tell_hook(peer, "devices-ready");
    return rc;
}

/*
 * A copy from a registry is a VM of its own: its epochs start here.  Where no guest ever runs nothing is ours for good
 * before all of it is here: it goes on to arrive, so that a start after a crash can refuse it.
 */
static int journal(void *opaque, enum ledger_state state, uint64_t epoch, const char *from,
                   const uint8_t session[16], struct drafter_error *err)
{
    struct peer *peer = opaque;
    const struct ledger_record *record =
        peer->ledger.record.state == LEDGER_ARRIVING ? &peer->before : &peer->ledger.record;
    uint64_t known = record->epoch - (record->state == LEDGER_REFUSED); /* that one may be given out again */
    bool given = state == LEDGER_INCOMPLETE && !peer->vmm;
    int rc = state == LEDGER_OWNED && !peer->vmm ? peer_custom_take(peer, err) : 0;

    if (rc)
        return rc;
    if (epoch <= known && state == LEDGER_INCOMPLETE)
        epoch = known + 1;
    if (state == LEDGER_OWNED) /* all of it is here now */
        epoch = peer->ledger.record.epoch;
    if (state == LEDGER_OWNED && peer->kind == PEER_BACKS_UP)
        return peer_finish_backup(peer, epoch, from, session, err);
    rc = ledger_write(&peer->ledger, given ? LEDGER_ARRIVING : state, epoch, from, session, err);
    if (!rc && given) /* what was before does not come back: the source waits for an answer */
        peer->before = peer->ledger.record;
    return rc;
}

static bool has_threshold(const struct node_device *device)
{
    return config_value(device->section, "resume-threshold") != NULL;
}

/* Nothing of such a device may be missing: then nothing is. */
static bool waits_for_all(const struct peer *peer)
{
    for (unsigned i = 0; i < peer->devices.count; i++)
        if (has_threshold(&peer->devices.list[i]) &&
            !peer->devices.list[i].options.resume_threshold)
            return true;
    return peer->options.disable_postcopy || !peer->vmm;
}

/* The guest stands still meanwhile: an end is better than the promise. */
static void await_threshold(const struct peer *peer, struct node_device *device)
{
    static const struct timespec moment = {0, 1000000};
    uint64_t deadline = drafter_now_ns() + THRESHOLD_PATIENCE_NS;

    while (block_map_missing(&device->block.map) * DRAFTER_PAGE_SIZE >
           device->options.resume_threshold) {
        if (drafter_now_ns() > deadline) {
            log_warning("peer", "VM %s resumes with more of device %s missing than its resume-threshold",
                        peer->node->options.name, device->name);
            return;
        }
        nanosleep(&moment, NULL);
    }
}

static int load(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;

    for (unsigned i = 0; i < peer->devices.count; i++)
        if (has_threshold(&peer->devices.list[i]) && peer->devices.list[i].opened)
            await_threshold(peer, &peer->devices.list[i]);
    for (unsigned i = 0; i < peer->arranged_count; i++)
        if (peer->arranged[i]->exposure) /* what was read before the hand-over is old */
            exposure_invalidate(peer->arranged[i]->exposure, 0, 0);
    return vm_load(&peer->vm, err);
}

static int resume(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    int rc = peer->vmm ? peer_custom_take(peer, err) : 0;

    return rc ? rc : vm_resume(&peer->vm, err);
}

static void stop(void *opaque)
{
    struct peer *peer = opaque;

    vm_stop(&peer->vm);
}

/*
 * Memory goes into the page cache, so that the guest's faults are cheap.  Not before all of it is here:
 * until then what the guest waits for has the processors and the storage to itself.
 */
static void populate(struct peer *peer)
{
    struct block_device *memory = vm_device(&peer->vm, VM_DEVICE_MEMORY);

    if (!memory || block_map_wait_all(&memory->map))
        return;
    for (uint64_t offset = 0; memory->exposure && offset < memory->size;
         offset += POPULATE_STEP) {
        uint64_t length = memory->size - offset < POPULATE_STEP ? memory->size - offset
                                                                : POPULATE_STEP;

        exposure_populate(memory->exposure, offset, length);
    }
}

static void *aftermath_main(void *opaque)
{
    struct peer *peer = opaque;
    struct drafter_error error = {0};

    if (vm_after_resume(&peer->vm, &error))
        log_warning("peer", "VM %s: the guest's after-resume hook: %s", peer->vm.name,
                    error.message);
    peer_tell_hook(peer, "after-resume");
    if (peer->options.connect)
        populate(peer);
    return NULL;
}

void peer_start_aftermath(struct peer *peer)
{
    peer->aftermath_running = !pthread_create(&peer->aftermath, NULL, aftermath_main, peer);
}

static void resumed(void *opaque)
{
    struct peer *peer = opaque;

    if (!peer->vmm)
        return;
    log_event("resumed", "\"vm\":\"%s\",\"from\":\"%s\",\"epoch\":%llu", peer->vm.name,
              peer->options.connect, (unsigned long long)peer->ledger.record.epoch);
    slot_announce(&peer->slot);
    peer_start_aftermath(peer);
    supervisor_notify(&peer->supervisor);
}

/* Nothing was handed over: as if we had never connected. */
static void discard(void *opaque)
{
    struct peer *peer = opaque;

    vm_release(&peer->vm);
    peer->vm_made = false;
    slot_release(&peer->slot);
    devices_discard(&peer->devices);
    peer_custom_discard(peer);
    peer_end_arriving(peer);
}

static void progress(void *opaque, const struct destination_progress *report)
{
    struct peer *peer = opaque;

    peer_note_arriving(peer, report);
    log_event("arriving", "\"vm\":\"%s\",\"state\":\"%s\",\"total\":%llu,\"missing\":%llu,"
              "\"received\":%llu",
              peer->node->options.name, destination_state_name(report->state),
              (unsigned long long)report->total_bytes, (unsigned long long)report->missing_bytes,
              (unsigned long long)report->received_bytes);
}

static void *arrival_main(void *opaque)
{
    struct peer *peer = opaque;

    peer->arrival_outcome = destination_run(peer->destination, &peer->arrival_error);
    pthread_mutex_lock(&peer->lock);
    peer->arrived = true;
    pthread_mutex_unlock(&peer->lock);
    supervisor_notify(&peer->supervisor);
    return NULL;
}

/* Until the arrival is over; an end that the operator wants comes before the hand-over or after it. */
static bool await_arrival(struct peer *peer)
{
    bool arrived = false, interrupted = false;

    while (!arrived) {
        bool ended = supervisor_wait(&peer->supervisor, -1) == WAKEUP_SIGNAL;

        peer_do_job(peer);
        if (ended || peer_wants_end(peer)) {
            interrupted = true;
            destination_cancel(peer->destination, "cancelled at the destination");
        }
        pthread_mutex_lock(&peer->lock);
        arrived = peer->arrived;
        pthread_mutex_unlock(&peer->lock);
    }
    return interrupted;
}

static int conclude(struct peer *peer, bool interrupted, struct drafter_error *err)
{
    int rc;

    *err = peer->arrival_error;
    switch (peer->arrival_outcome) {
    case DESTINATION_OUTCOME_COMPLETE:
        peer_step(peer, PEER_STEP_STARTING);
        log_event("arrived", "\"vm\":\"%s\"", peer->vm.name);
        devices_settled(&peer->devices);
        peer_tell_hook(peer, "arrived");
        peer->vm.running &= peer->kind != PEER_BACKS_UP;
        if (peer->kind == PEER_BACKS_UP && (rc = peer_end_backup(peer, err)))
            return rc;
        if (interrupted)
            return drafter_error_set(err, ECANCELED, "cancelled after the hand-over: the VM was saved");
        *err = (struct drafter_error){0};
        return 0;
    case DESTINATION_OUTCOME_FENCED:
        return drafter_error_set(err, ESTALE, "VM %s was taken away by force: %s", peer->vm.name,
                                 peer->arrival_error.message);
    case DESTINATION_OUTCOME_PARTIAL:
        return drafter_error_set(err, EINPROGRESS,
                                 "VM %s is ours but not all of it arrived: %s", peer->vm.name,
                                 peer->arrival_error.message);
    default:
        if (peer->adopt_arrival)
            return drafter_error_wrap(err, "the arrival was given up, start again to ask for the VM anew");
        return err->code ? -err->code : drafter_error_set(err, EIO, "the arrival failed");
    }
}

int peer_arrive(struct peer *peer, struct drafter_error *err)
{
    struct destination_options options = {
        .transport = peer->transport,
        .address = peer->options.connect,
        .vm_name = "",
        .role = "peer",
        .bulk_streams = (unsigned)peer->options.streams,
        .connect_timeout_ms = 10000,
        .relink_timeout_ms = (unsigned)(peer->options.relink_timeout / 1000000),
        .wait_for_all = waits_for_all(peer),
        .vm = {.opaque = peer,
               .prepare = prepare,
               .start = start,
               .journal = journal,
               .custom = peer_custom_write,
               .load = load,
               .resume = resume,
               .stop = stop,
               .resumed = resumed,
               .discard = discard,
               .ready = ready,
               .memory = map_memory,
               .adopt = adopt},
        .adopt = peer->adopt_arrival,
        .progress = progress,
        .progress_opaque = peer,
    };
    bool interrupted;
    int rc = trust_check_plain(peer->transport, peer->options.connect, false,
                               (enum trust_plain)peer->node->options.plain_transport, err);

    if (!rc && !peer->options.connect)
        rc = drafter_error_set(err, EINVAL, "the VM was arriving: [peer] needs connect to go on");
    if (!rc)
        rc = peer_keep_arrival(peer, err);
    options.kept = peer->arrival_kept;
    if (!rc && peer->backed_up)
        return peer_settle_backup(peer, &options, err);
    if (!rc)
        rc = peer->adopt_arrival ? peer_open_ledger(peer, err) : peer_settle(peer, &options, err);
    if (!rc)
        rc = destination_new(&options, &peer->destination, err);
    if (rc)
        return rc;
    if (pthread_create(&peer->arrival, NULL, arrival_main, peer)) {
        destination_free(peer->destination);
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    }
    interrupted = await_arrival(peer);
    pthread_join(peer->arrival, NULL);
    rc = conclude(peer, interrupted, err);
    destination_free(peer->destination);
    peer->destination = NULL;
    return rc;
}

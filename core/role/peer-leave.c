/* SPDX-License-Identifier: BSD-2-Clause */
/* Handing the VM on to a peer that asks for it. */
#include "role/peer.h"

#include "trust/plain.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

#define ADDRESS_PATIENCE_NS UINT64_C(5000000000)
/* Later than any pass, if it is not known which was the last: everything is sent once more. */
#define PASS_UNKNOWN (UINT32_MAX / 2)

static int before_suspend(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    struct drafter_error hook = {0};
    int rc = peer_hook(peer, "before-suspend", &hook);

    if (!rc)
        rc = vm_before_suspend(&peer->vm, &hook);
    if (rc && peer->options.hook_errors == PEER_HOOK_IGNORE) {
        log_warning("peer", "VM %s is handed over all the same: %s", peer->vm.name, hook.message);
        return 0;
    }
    return rc ? drafter_error_set(err, -rc, "%s", hook.message) : 0;
}

static void foresee(void *opaque)
{
    struct peer *peer = opaque;

    vm_foresee(&peer->vm);
}

static int pause_vm(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    int rc = vm_pause(&peer->vm, err);

    if (!rc)
        slot_withdraw(&peer->slot);
    return rc;
}

/* What storage refused once it may take now; else the VM stays, and the source says why. */
static int save(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    int rc = vm_save(&peer->vm, err);

    if (!rc)
        vm_rescue(&peer->vm);
    if (!rc)
        peer_tell_hook(peer, "after-suspend");
    return rc;
}

static int resume(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;
    struct drafter_error hook = {0};
    int rc = vm_resume(&peer->vm, err);

    if (!rc)
        slot_announce(&peer->slot);
    if (!rc && vm_after_resume(&peer->vm, &hook))
        log_warning("peer", "VM %s: the guest's after-resume hook: %s", peer->vm.name, hook.message);
    return rc;
}

static int gather(void *opaque, struct drafter_error *err)
{
    struct peer *peer = opaque;

    return peer->vmm ? vmm_gather(peer->vmm, err) : 0;
}

static int keep(void *opaque, const struct source_kept *kept, struct drafter_error *err)
{
    struct peer *peer = opaque;

    return peer_keep_leaving(peer, kept, err);
}

static void progress(void *opaque, const struct source_progress *report)
{
    struct peer *peer = opaque;

    peer_note_leaving(peer, report);
    log_event("leaving",
              "\"vm\":\"%s\",\"state\":\"%s\",\"pass\":%u,\"total\":%llu,\"left\":%llu,"
              "\"sent\":%llu,\"predicted_downtime_ms\":%.1f",
              peer->vm.name, source_state_name(report->state), report->pass,
              (unsigned long long)report->total_bytes, (unsigned long long)report->left_bytes,
              (unsigned long long)report->sent_bytes,
              report->predicted_downtime_ns == UINT64_MAX
                  ? -1.0
                  : (double)report->predicted_downtime_ns / 1e6);
}

/* A shared device does not: the other side has it, too. */
bool peer_migrates(const struct peer *peer, unsigned index)
{
    for (unsigned i = 0; i < peer->devices.count; i++)
        if (peer->arranged[index] == &peer->devices.list[i].block)
            return !peer->devices.list[i].options.shared;
    return false;
}

static void fill_options(struct peer *peer, struct source_options *options)
{
    memset(options, 0, sizeof(*options));
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        struct node_device *device = devices_find(&peer->devices, peer->arranged[i]->name);

        if (!peer_migrates(peer, i))
            continue;
        options->devices[options->device_count++] = (struct source_device_options){
            .block = &device->block,
            .limits = devices_limits(device),
            .any_order = device->options.any_order,
            .early = !strcmp(device->name, VM_DEVICE_STATE),
        };
    }
    options->vm = peer->copies ? NULL : &peer->source_vm;
    options->ledger = peer->copies ? NULL : &peer->ledger;
    options->converge = (struct converge){
        .downtime_limit_ns = peer->options.downtime_limit,
        .max_passes = (unsigned)peer->options.max_passes,
        .postcopy = true,
    };
    options->progress = progress;
    options->progress_opaque = peer;
    options->relink_timeout_ms = (unsigned)(peer->options.relink_timeout / 1000000);
    options->offer.epoch = peer->copies ? 0 : peer->ledger.record.epoch;
    options->offer.facts = peer->facts;
    snprintf(options->offer.vm, sizeof(options->offer.vm), "%s", peer->vm.name);
    snprintf(options->offer.software, sizeof(options->offer.software), "drafter " PACKAGE_VERSION);
}

/* A peer that has just refused may ask anew before the session that it refused is all over. */
static void await_last_session(struct peer *peer)
{
    static const struct timespec moment = {0, 20000000};

    for (unsigned i = 0; i < 25; i++) {
        bool leaving;

        pthread_mutex_lock(&peer->lock);
        leaving = peer->leaving;
        pthread_mutex_unlock(&peer->lock);
        if (!leaving)
            return;
        nanosleep(&moment, NULL);
    }
}

/* One hand-over at a time. */
static int begin(void *opaque, const struct hello *hello, struct stream *control,
                 struct source **ret_source, struct drafter_error *err)
{
    struct peer *peer = opaque;
    cleanup_free struct source_options *options = malloc(sizeof(*options));
    int rc;

    if (!options)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = trust_check(control->identity, TRUST_PULL, peer->vm.name, err);
    if (rc)
        return rc;
    if (*hello->vm && strcmp(hello->vm, peer->vm.name))
        return drafter_error_set(err, ENOENT, "VM %s is not here, VM %s is", hello->vm,
                                 peer->vm.name);
    await_last_session(peer);
    lock_scope(&peer->lock);
    if (peer->occupied)
        return drafter_error_set(err, EBUSY, "VM %s is held by its operator", peer->vm.name);
    if (peer->leaving || peer->moved)
        return drafter_error_set(err, EBUSY, "VM %s is being handed over to another peer",
                                 peer->vm.name);
    if (peer->copies && vm_write_back(&peer->vm, err)) /* what was written to what is shown */
        return -err->code;
    fill_options(peer, options);
    memcpy(options->peer_node, hello->node, sizeof(options->peer_node));
    rc = source_new(options, control, ret_source, err);
    peer->leaving = rc == 0;
    if (!rc)
        log_event("leaving", "\"vm\":\"%s\",\"peer\":\"%s\"", peer->vm.name, control->peer);
    return rc;
}

/* The next one may have another. */
static void end_copy(struct peer *peer, enum source_outcome outcome, const struct drafter_error *error)
{
    pthread_mutex_lock(&peer->lock);
    peer->leaving = false;
    pthread_mutex_unlock(&peer->lock);
    if (outcome == SOURCE_OUTCOME_MOVED)
        log_event("pulled", "\"vm\":\"%s\"", peer->vm.name);
    else
        log_warning("peer", "a peer did not get all of it: %s", error->message);
}

static void end(void *opaque, enum source_outcome outcome, const struct drafter_error *error)
{
    struct peer *peer = opaque;

    if (peer->copies) {
        end_copy(peer, outcome, error);
        return;
    }
    pthread_mutex_lock(&peer->lock);
    peer->leaving = false;
    peer->moved = outcome == SOURCE_OUTCOME_MOVED;
    peer->lost = outcome == SOURCE_OUTCOME_LOST;
    peer->leave_error = *error;
    pthread_mutex_unlock(&peer->lock);
    peer_note_end(peer, outcome);
    if (outcome == SOURCE_OUTCOME_MOVED)
        peer_step(peer, PEER_STEP_NOTHING); /* the files here are old, and so is the VMM */
    if (outcome == SOURCE_OUTCOME_MOVED)
        log_event("moved", "\"vm\":\"%s\"", peer->vm.name);
    else if (outcome == SOURCE_OUTCOME_KEPT)
        log_event("kept", "\"vm\":\"%s\",\"reason\":\"%s\"", peer->vm.name,
                  error->code ? "failed" : "cancelled");
    if (outcome != SOURCE_OUTCOME_LOST)
        peer_tell_hook(peer, outcome == SOURCE_OUTCOME_MOVED ? "moved" : "kept");
    if (outcome != SOURCE_OUTCOME_MOVED)
        log_warning("peer", "VM %s was not moved: %s", peer->vm.name, error->message);
    supervisor_notify(&peer->supervisor);
}

/*
 * Whoever comes back to a session that this node has overruled must not run the VM any more.  A session is
 * begun by those who may pull, so nobody else is told.
 */
static void stranger(void *opaque, const struct hello *hello, const char *identity,
                     uint64_t *ret_epoch, struct drafter_error *reason)
{
    struct peer *peer = opaque;
    const struct ledger_record *record = &peer->ledger.record;

    if (trust_check(identity, TRUST_PULL, peer->vm.name, reason))
        return;
    lock_scope(&peer->lock);
    if (peer->leaving || !hello->epoch || strcmp(hello->vm, peer->vm.name))
        return; /* a session that runs changes the ledger */
    if (hello->epoch >= record->epoch)
        return;
    *ret_epoch = record->epoch;
    drafter_error_set(reason, ESTALE,
                      "VM %s is here in epoch %llu: epoch %llu, in which you have it, is void",
                      record->vm, (unsigned long long)record->epoch,
                      (unsigned long long)hello->epoch);
}

/* The VM was handed over by a process that died before the other side had everything. */
static int recall_session(struct peer *peer, struct source **ret_source, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;
    cleanup_free struct source_options *options = malloc(sizeof(*options));
    struct source_kept kept;

    if (!options)
        return drafter_error_set(err, ENOMEM, "out of memory");
    peer->resume_leaving = false;
    fill_options(peer, options);
    options->offer.epoch = record->epoch - 1;
    if (!peer_find_leaving(peer, &kept))
        kept = (struct source_kept){.pass = PASS_UNKNOWN};
    return source_resume(options, record->session, &kept, ret_source, err);
}

static int check_migratable(const struct peer *peer, struct drafter_error *err)
{
    for (unsigned i = 0; i < peer->devices.count; i++)
        if (!peer->devices.list[i].options.make_migratable)
            return drafter_error_set(err, EINVAL,
                                     "%s: a device that is not migratable and listen exclude each "
                                     "other",
                                     config_where(peer->devices.list[i].section, "make-migratable"));
    return 0;
}

static int listen_within(struct peer *peer, uint64_t patience_ns, struct source *resumed,
                         struct drafter_error *err)
{
    static const struct timespec moment = {0, 50000000};
    const struct server_ops ops = {.begin = begin, .end = end, .stranger = stranger, .opaque = peer};
    uint64_t deadline = drafter_now_ns() + patience_ns;
    struct server *server = NULL;
    int rc;

    do {
        *err = (struct drafter_error){0};
        rc = server_start_resumed(peer->transport, peer->options.listen, &ops, resumed, &server, err);
    } while (rc == -EADDRINUSE && drafter_now_ns() < deadline && !nanosleep(&moment, NULL));
    pthread_mutex_lock(&peer->lock);
    peer->server = server;
    pthread_mutex_unlock(&peer->lock);
    return rc;
}

static int prepare(struct peer *peer, struct drafter_error *err)
{
    int rc = check_migratable(peer, err);

    peer->source_vm = (struct source_vm){.opaque = peer,
                                         .before_suspend = before_suspend,
                                         .foresee = foresee,
                                         .pause = pause_vm,
                                         .save = save,
                                         .resume = resume,
                                         .keep = keep,
                                         .gather = gather,
                                         .custom = peer_custom_read};
    if (!rc && !peer->transport)
        rc = node_instance(peer->node, DRAFTER_KIND_TRANSPORT, peer->options.transport,
                           &peer->transport, err);
    if (rc)
        return rc;
    return trust_check_plain(peer->transport, peer->options.listen, true,
                             (enum trust_plain)peer->node->options.plain_transport, err);
}

int peer_listen(struct peer *peer, struct drafter_error *err)
{
    int rc = prepare(peer, err);

    return rc ? rc : listen_within(peer, 0, NULL, err);
}

int peer_serve(struct peer *peer, struct drafter_error *err)
{
    bool arrived = peer->options.connect != NULL;
    struct source *resumed = NULL;
    int rc = prepare(peer, err);

    if (!rc && peer->resume_leaving)
        rc = recall_session(peer, &resumed, err);
    if (rc)
        return rc;
    peer->leaving = resumed != NULL;
    /* A VM that came from this host: the address is its source's until that has ended. */
    rc = listen_within(peer, arrived ? ADDRESS_PATIENCE_NS : 0, resumed, err);
    if (rc)
        source_free(resumed);
    if (rc && arrived) { /* the VM is here and runs: that is worth more */
        log_error("peer", "VM %s runs and cannot be taken over: %s", peer->vm.name, err->message);
        *err = (struct drafter_error){0};
        return 0;
    }
    return rc;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/peer.h"

#include "role/attend.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

/* ---- what is going on */

static void note_bytes(struct peer_watch *watch, uint64_t bytes)
{
    uint64_t now = drafter_now_ns();

    if (watch->reported_ns && now > watch->reported_ns && bytes >= watch->reported_bytes)
        watch->bytes_per_s = (uint64_t)((double)(bytes - watch->reported_bytes) * 1e9 /
                                        (double)(now - watch->reported_ns));
    watch->reported_ns = now;
    watch->reported_bytes = bytes;
}

void peer_note_leaving(struct peer *peer, const struct source_progress *report)
{
    lock_scope(&peer->lock);
    peer->watch.has_source = true;
    peer->watch.source = *report;
    note_bytes(&peer->watch, report->sent_bytes);
    pthread_cond_broadcast(&peer->watch.changed);
}

void peer_note_arriving(struct peer *peer, const struct destination_progress *report)
{
    lock_scope(&peer->lock);
    peer->watch.has_destination = true;
    peer->watch.destination = *report;
    note_bytes(&peer->watch, report->received_bytes);
}

void peer_note_end(struct peer *peer, enum source_outcome outcome)
{
    lock_scope(&peer->lock);
    peer->watch.outcome = outcome == SOURCE_OUTCOME_MOVED  ? PEER_OUTCOME_MOVED
                          : outcome == SOURCE_OUTCOME_LOST ? PEER_OUTCOME_LOST
                                                           : PEER_OUTCOME_KEPT;
    peer->watch.ends++;
    peer->watch.has_source = false;
    peer->watch.reported_ns = peer->watch.bytes_per_s = 0;
    pthread_cond_broadcast(&peer->watch.changed);
}

static const char *state_name(const struct peer *peer)
{
    if (peer->moved)
        return "moved";
    if (peer->lost)
        return "lost";
    if (peer->leaving)
        return "leaving";
    if (peer->options.connect && !peer->arrived)
        return "arriving";
    if (peer->watch.suspended)
        return "suspended";
    if (peer->watch.ending)
        return "ending";
    return peer->ledger_open && peer->vm_made ? "running" : "starting";
}

static json_t *time_left(uint64_t bytes, uint64_t bytes_per_s)
{
    return bytes_per_s ? json_real((double)bytes / (double)bytes_per_s) : json_null();
}

static json_t *leaving_json(const struct peer_watch *watch)
{
    const struct source_progress *source = &watch->source;
    bool known = source->predicted_downtime_ns != UINT64_MAX && source->predicted_downtime_ns;

    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s}", "phase",
                     source_state_name(source->state), "pass", (int)source->pass, "total_bytes",
                     (json_int_t)source->total_bytes, "left_bytes", (json_int_t)source->left_bytes,
                     "sent_bytes", (json_int_t)source->sent_bytes, "bytes_per_second",
                     (json_int_t)watch->bytes_per_s, "dirty_bytes_per_second",
                     (json_int_t)source->dirty_bytes_per_s, "predicted_downtime_ms",
                     known ? json_real((double)source->predicted_downtime_ns / 1e6) : json_null(),
                     "eta_seconds", time_left(source->left_bytes, watch->bytes_per_s), "convergence",
                     source->converging ? "converging" : "not converging");
}

static json_t *arriving_json(const struct peer_watch *watch)
{
    const struct destination_progress *destination = &watch->destination;

    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "phase",
                     destination_state_name(destination->state), "total_bytes",
                     (json_int_t)destination->total_bytes, "left_bytes",
                     (json_int_t)destination->missing_bytes, "received_bytes",
                     (json_int_t)destination->received_bytes, "bytes_per_second",
                     (json_int_t)watch->bytes_per_s, "eta_seconds",
                     time_left(destination->missing_bytes, watch->bytes_per_s));
}

static int status(struct peer *peer, json_t *answer)
{
    cleanup_free char *custom = peer_custom_path(peer);
    char addresses[1024] = "";

    lock_scope(&peer->lock);
    if (peer->server && !peer->watch.ending)
        server_addresses(peer->server, addresses, sizeof(addresses));
    attend_describe(peer->node, state_name(peer), answer);
    json_object_set_new(answer, "vmm", peer->vmm ? json_string(peer->options.vmm) : json_null());
    json_object_set_new(answer, "epoch",
                        json_integer(peer->ledger_open ? (json_int_t)peer->ledger.record.epoch : 0));
    json_object_set_new(answer, "listen", json_string(addresses));
    json_object_set_new(answer, "handover_data", json_string(custom));
    if (peer->watch.has_source && peer->leaving)
        json_object_set_new(answer, "migration", leaving_json(&peer->watch));
    else if (peer->watch.has_destination && !peer->arrived)
        json_object_set_new(answer, "migration", arriving_json(&peer->watch));
    return 0;
}

/* ---- jobs, in the main thread */

static int call_off(struct peer *peer, struct peer_job *job, struct drafter_error *err)
{
    pthread_mutex_lock(&peer->lock);
    job->leaving = peer->leaving;
    pthread_mutex_unlock(&peer->lock);
    if (job->leaving)
        server_cancel(peer->server, "cancelled by the operator");
    else if (peer->destination)
        destination_cancel(peer->destination, "cancelled by the operator");
    else
        return drafter_error_set(err, ENOENT, "VM %s is not on the move", peer->node->options.name);
    return 0;
}

/* The VM is ours alone until release_vm; refused while somebody takes it over. */
static int hold_vm(struct peer *peer, bool suspended, struct drafter_error *err)
{
    lock_scope(&peer->lock);
    if (peer->leaving || peer->moved || peer->lost)
        return drafter_error_set(err, EBUSY, "VM %s is being handed over", peer->vm.name);
    if (peer->watch.suspended != suspended)
        return drafter_error_set(err, EBUSY, "VM %s is %s", peer->vm.name,
                                 suspended ? "not suspended" : "suspended already");
    peer->occupied = true;
    return 0;
}

static void release_vm(struct peer *peer, bool suspended)
{
    lock_scope(&peer->lock);
    peer->occupied = peer->watch.suspended = suspended;
}

static void after_resume(struct peer *peer)
{
    struct drafter_error hook = {0};

    slot_announce(&peer->slot);
    if (vm_after_resume(&peer->vm, &hook))
        log_warning("peer", "VM %s: the guest's after-resume hook: %s", peer->vm.name, hook.message);
}

static int resume_vm(struct peer *peer, struct drafter_error *err)
{
    int rc = vm_resume(&peer->vm, err);

    if (!rc)
        after_resume(peer);
    return rc;
}

/* The ledger may say that it is saved. */
static int run_on(struct peer *peer, struct drafter_error *err)
{
    int rc = peer_claim(peer, err);

    return rc ? rc : resume_vm(peer, err);
}

static int suspend(struct peer *peer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;
    int (*go_on)(struct peer *peer, struct drafter_error *err);
    struct drafter_error error = {0};
    int rc = peer->vmm ? hold_vm(peer, false, err)
                       : drafter_error_set(err, EINVAL, "%s has no VM here that could be suspended", peer->vm.name);

    if (rc)
        return rc;
    rc = vm_suspend(&peer->vm, err);
    go_on = rc ? resume_vm : run_on; /* a disk that did not take the state may not take a record either */
    if (!rc && !parts_are_passing(&peer->parts))
        rc = ledger_write(&peer->ledger, LEDGER_SAVED, record->epoch, record->peer, NULL, err);
    if (rc && go_on(peer, &error))
        log_error("peer", "VM %s does not run on: %s", peer->vm.name, error.message);
    release_vm(peer, !peer->vm.running);
    if (!rc)
        log_event("suspended", "\"vm\":\"%s\"", peer->vm.name);
    return rc;
}

static int resume(struct peer *peer, struct drafter_error *err)
{
    int rc = hold_vm(peer, true, err);

    if (rc)
        return rc;
    rc = run_on(peer, err);
    release_vm(peer, rc != 0);
    if (!rc)
        log_event("resumed", "\"vm\":\"%s\",\"from\":\"suspend\"", peer->vm.name);
    return rc;
}

static int snapshot(struct peer *peer, const json_t *request, json_t *answer,
                    struct drafter_error *err)
{
    const char *directory = json_string_value(json_object_get(request, "directory"));
    struct drafter_error error = {0};
    uint64_t paused = drafter_now_ns();
    int rc;

    if (!directory || *directory != '/')
        return drafter_error_set(err, EINVAL, "snapshot needs the absolute path of a directory");
    rc = hold_vm(peer, false, err);
    if (rc)
        return rc;
    rc = vm_suspend(&peer->vm, err);
    if (!rc)
        rc = peer_copy_devices(peer, directory, err);
    if (resume_vm(peer, &error)) {
        log_error("peer", "VM %s does not run on: %s", peer->vm.name, error.message);
        rc = rc ? rc : (*err = error, -error.code);
    }
    release_vm(peer, !peer->vm.running); /* it can be resumed, then */
    json_object_set_new(answer, "paused_ms", json_real((double)(drafter_now_ns() - paused) / 1e6));
    return rc;
}

static int stop_listening(struct peer *peer, struct drafter_error *err)
{
    struct server *server = peer->server;
    int rc = hold_vm(peer, peer->watch.suspended, err);

    if (rc)
        return rc;
    pthread_mutex_lock(&peer->lock);
    peer->server = NULL;
    pthread_mutex_unlock(&peer->lock);
    server_stop(server, "the VM is not to be taken over any more");
    release_vm(peer, peer->watch.suspended);
    return 0;
}

static int migratable(struct peer *peer, const json_t *request, json_t *answer,
                      struct drafter_error *err)
{
    const char *address = json_string_value(json_object_get(request, "address"));
    char addresses[1024] = "", *copy;
    int rc = 0;

    if (json_is_true(json_object_get(request, "off")))
        return stop_listening(peer, err);
    if (peer->server && address)
        return drafter_error_set(err, EEXIST, "VM %s can be taken over already", peer->vm.name);
    if (!peer->server && !address && !peer->options.listen)
        return drafter_error_set(err, EINVAL, "an address is needed, at which it can be taken over");
    if (!peer->server && address) {
        copy = strdup(address);
        if (!copy)
            return drafter_error_set(err, ENOMEM, "out of memory");
        free(peer->late_listen);
        peer->options.listen = peer->late_listen = copy;
    }
    if (!peer->server)
        rc = peer_listen(peer, err);
    if (rc)
        return rc;
    server_addresses(peer->server, addresses, sizeof(addresses));
    json_object_set_new(answer, "listen", json_string(addresses));
    return 0;
}

static int stop(struct peer *peer, struct drafter_error *err)
{
    (void)err;
    lock_scope(&peer->lock);
    peer->watch.wants_end = true;
    return 0;
}

static int do_job(struct peer *peer, struct peer_job *job)
{
    struct drafter_error *err = &job->error;
    bool here = peer->vm_made && !peer->destination;

    if (!strcmp(job->command, "cancel"))
        return call_off(peer, job, err);
    if (!strcmp(job->command, "stop"))
        return stop(peer, err);
    if (!here)
        return drafter_error_set(err, EBUSY, "VM %s is not all here yet", peer->node->options.name);
    if (!strcmp(job->command, "migratable"))
        return migratable(peer, job->request, job->answer, err);
    if (!strcmp(job->command, "suspend"))
        return suspend(peer, err);
    if (!strcmp(job->command, "resume"))
        return resume(peer, err);
    if (!strcmp(job->command, "snapshot"))
        return snapshot(peer, job->request, job->answer, err);
    return drafter_error_set(err, EINVAL, "a peer knows no command \"%.64s\"", job->command);
}

static void finish_job(struct peer *peer)
{
    lock_scope(&peer->lock);
    peer->watch.job->done = true;
    peer->watch.job = NULL;
    pthread_cond_broadcast(&peer->watch.changed);
}

static struct peer_job *next_job(struct peer *peer)
{
    lock_scope(&peer->lock);
    return peer->watch.job;
}

void peer_do_job(struct peer *peer)
{
    struct peer_job *job = next_job(peer);

    if (!job)
        return;
    if (do_job(peer, job) && !job->error.code)
        job->error.code = EIO;
    finish_job(peer);
}

bool peer_wants_end(struct peer *peer)
{
    lock_scope(&peer->lock);
    return peer->watch.wants_end;
}

void peer_control_ending(struct peer *peer)
{
    struct peer_job *job;

    pthread_mutex_lock(&peer->lock);
    peer->watch.ending = true;
    peer->watch.wants_end = false;
    job = peer->watch.job;
    pthread_cond_broadcast(&peer->watch.changed);
    pthread_mutex_unlock(&peer->lock);
    if (job) {
        drafter_error_set(&job->error, ESHUTDOWN, "the node is ending");
        finish_job(peer);
    }
}

void peer_control_going_on(struct peer *peer)
{
    lock_scope(&peer->lock);
    peer->watch.ending = false;
}

/* ---- requests, in threads of their own */

static int post(struct peer *peer, struct peer_job *job, struct drafter_error *err)
{
    lock_scope(&peer->lock);
    if (peer->watch.job)
        return drafter_error_set(err, EBUSY, "another request is being done");
    if (peer->watch.ending)
        return drafter_error_set(err, ESHUTDOWN, "the node is ending");
    peer->watch.job = job;
    supervisor_notify(&peer->supervisor);
    while (!job->done)
        pthread_cond_wait(&peer->watch.changed, &peer->lock);
    *err = job->error;
    return -err->code;
}

/* Under the lock: until something changes, or it is time to look again.  False: whoever asks has hung up. */
static bool await_change(struct peer *peer, const struct control_asker *asker)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec++;
    pthread_cond_clockwait(&peer->watch.changed, &peer->lock, CLOCK_MONOTONIC, &deadline);
    return !control_asker_left(asker);
}

/* Until the hand-over that is under way, or the next one, has ended. */
static int await_move(struct peer *peer, const struct control_asker *asker, json_t *answer)
{
    static const char *const names[] = {"none", "moved", "kept", "lost"};
    unsigned long before;

    lock_scope(&peer->lock);
    before = peer->watch.ends;
    while (peer->watch.ends == before && !peer->watch.ending && await_change(peer, asker))
        ;
    json_object_set_new(answer, "outcome",
                        json_string(peer->watch.ends == before ? "none" : names[peer->watch.outcome]));
    if (peer->watch.ends != before && peer->leave_error.code)
        json_object_set_new(answer, "reason", json_string(peer->leave_error.message));
    return 0;
}

/* Under the lock. */
static bool is_handed_over(const struct peer_watch *watch)
{
    return watch->has_source &&
           (watch->source.state == SOURCE_COMMITTED || watch->source.state == SOURCE_SERVING);
}

/* Whether it came in time: until the hand-over has ended, or it is told that the peer has the VM. */
static int await_kept(struct peer *peer, unsigned long before, struct drafter_error *err)
{
    lock_scope(&peer->lock);
    while (peer->watch.ends == before && !peer->watch.ending && !is_handed_over(&peer->watch))
        pthread_cond_wait(&peer->watch.changed, &peer->lock);
    if (peer->watch.ends != before && peer->watch.outcome == PEER_OUTCOME_KEPT)
        return 0;
    return drafter_error_set(err, EBUSY, "it is too late: VM %s was handed over", peer->vm.name);
}

static int cancel(struct peer *peer, struct peer_job *job, struct drafter_error *err)
{
    unsigned long before;
    int rc;

    pthread_mutex_lock(&peer->lock);
    before = peer->watch.ends;
    pthread_mutex_unlock(&peer->lock);
    rc = post(peer, job, err);
    return !rc && job->leaving ? await_kept(peer, before, err) : rc;
}

static int request(void *opaque, const struct control_asker *asker, const char *command, const json_t *words,
                   json_t *answer, struct drafter_error *err)
{
    struct peer *peer = opaque;
    struct peer_job job = {.command = command, .request = words, .answer = answer};

    if (!strcmp(command, "status"))
        return status(peer, answer);
    if (!strcmp(command, "wait"))
        return await_move(peer, asker, answer);
    if (!strcmp(command, "cancel"))
        return cancel(peer, &job, err);
    return post(peer, &job, err);
}

void peer_control_start(struct peer *peer)
{
    const struct control_ops ops = {.request = request, .opaque = peer};

    peer->control = attend_start(peer->node, &ops);
}

void peer_control_stop(struct peer *peer)
{
    peer_control_ending(peer);
    control_stop(peer->control);
    peer->control = NULL;
    free(peer->late_listen);
    peer->late_listen = NULL;
}

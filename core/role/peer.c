/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/peer.h"

#include "role/ownership.h"
#include "util/cleanup.h"
#include "util/flusher.h"
#include "util/io.h"
#include "util/log.h"

#include <string.h>
#include <time.h>
#include <sys/mman.h>

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct peer_options, field_),   \
     .default_value = default_, .help = help_}

static const char *const hook_error_choices[] = {"abort", "ignore", NULL}; /* enum peer_hook_errors */

const struct drafter_option peer_option_table[] = {
    OPTION("connect", STRING, connect, NULL, "address to take the VM over from; without it, local "
                                             "files are started"),
    OPTION("listen", STRING, listen, NULL, "address at which the VM can be taken over"),
    OPTION("hook", PATH, hook, NULL,
           "program to run when something becomes of the VM, with the event and the VM as arguments"),
    OPTION("handover-data", PATH, handover_data, NULL,
           "file that goes along with the VM, and into which it comes; without it NAME.handover in the state "
           "directory"),
    OPTION("metrics", STRING, metrics, NULL,
           "ADDRESS:PORT at which http://ADDRESS:PORT/metrics has figures; without it nowhere"),
    OPTION("cache-base-dir", PATH, cache_base_dir, NULL,
           "where devices are received that have no file; without it the state directory"),
    OPTION("transport", STRING, transport, DEFAULT_TRANSPORT,
           "id of a [transport:ID] section, or a transport plugin"),
    OPTION("vmm", STRING, vmm, DEFAULT_VMM, "id of a [vmm:ID] section, or a VMM plugin"),
    OPTION("exposure", STRING, exposure, DEFAULT_EXPOSURE,
           "id of an [exposure:ID] section, or a device plugin"),
    SLOT_OPTIONS(struct peer_options),
    OPTION("disable-postcopy-migration", BOOL, disable_postcopy, "no",
           "resume only when everything is here"),
    OPTION("overwrite", BOOL, overwrite, "no", "receive into files that hold something"),
    OPTION("resume-timeout", DURATION, resume_timeout, "1m",
           "how long the VMM may take to start, and the guest to answer"),
    OPTION("rescue-timeout", DURATION, rescue_timeout, "1m",
           "how long saving the guest may take when something failed after its resume"),
    OPTION("hook-timeout", DURATION, hook_timeout, "10s", "how long a hook in the guest may take"),
    {.key = "hook-errors", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct peer_options, hook_errors), .default_value = "abort",
     .choices = hook_error_choices,
     .help = "abort: a VM whose hook fails is not handed over; ignore: it is, with a warning"},
    {.key = "concurrency", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct peer_options, concurrency), .default_value = "1024", .minimum = 1,
     .maximum = 1 << 20, .help = "accepted for the original's sake; streams need no workers per block"},
    {.key = "streams", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct peer_options, streams), .default_value = "2", .minimum = 1,
     .maximum = WIRE_STREAMS_MAX - 2, .help = "bulk streams of an arrival"},
    {.key = "max-passes", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct peer_options, max_passes), .default_value = "30", .minimum = 1,
     .maximum = 1 << 20, .help = "passes after which the VM is suspended whatever is left"},
    OPTION("downtime-limit", DURATION, downtime_limit, "300ms",
           "suspend when sending the rest is predicted to take no longer"),
    OPTION("relink-timeout", DURATION, relink_timeout, "10s",
           "how long to look for a lost source before the guest runs here"),
    {.key = "max-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct peer_options, max_size), .default_value = "1T", .minimum = 4096,
     .help = "the most that all devices of an arriving VM may have together"},
    PEER_PACKAGE_OPTIONS,
    DRAFTER_OPTION_END,
};

static int open_plugins(struct peer *peer, struct drafter_error *err)
{
    struct node *node = peer->node;
    int rc = 0;

    if (peer->kind == PEER_RUNS)
        rc = node_instance(node, DRAFTER_KIND_VMM, peer->options.vmm, &peer->vmm, err);
    if (!rc && !node->left && peer->vmm && vmm_adoptable(peer->vmm)) /* it starts while the rest is loaded */
        rc = holder_start(node->holder, node->directory, node->lock, err);
    if (!rc && peer->kind != PEER_BACKS_UP)
        rc = node_instance(node, DRAFTER_KIND_DEVICE, peer->options.exposure, &peer->exposer, err);
    if (!rc && (peer->options.connect || peer->options.listen))
        rc = node_instance(node, DRAFTER_KIND_TRANSPORT, peer->options.transport, &peer->transport,
                           err);
    return rc;
}

/* Nothing starts: so nothing else removes what a killed node may have left. */
static void sweep(struct peer *peer)
{
    const char *directory = peer->node->directory;
    struct drafter_error err = {0};

    if (vm_sweep(directory, peer->exposer, &err) || io_remove_tree(directory, &err))
        log_warning("peer", "%s", err.message);
}

/* From now on the files change, and are a VM again only when it is saved. */
int peer_claim(struct peer *peer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;

    return ledger_write(&peer->ledger, LEDGER_OWNED, record->epoch + (record->state == LEDGER_NONE),
                        "", NULL, err);
}

/*
 * Starts the VMM, then compares the host: a VMM that runs knows what it is and needs no second
 * process to be asked.  Where it did not start, the wrong host is the better explanation.
 */
static int prepare(struct peer *peer, struct drafter_error *err)
{
    struct drafter_error mismatch = {0};
    int rc = vm_prepare(&peer->vm, err), unfit = vm_check_host(&peer->vm, &mismatch);

    if (unfit)
        *err = mismatch;
    return unfit ? unfit : rc;
}

int peer_make_vm(struct peer *peer, struct drafter_error *err)
{
    int (*take)(struct slot *slot, struct node *node, const char *network, const char *netns,
                struct drafter_error *err) = peer->node->left ? slot_adopt : slot_claim;
    int rc = take(&peer->slot, peer->node, peer->options.network, peer->options.netns, err);

    if (!rc)
        rc = vm_init(&peer->vm, peer->node->options.name, peer->node->directory, peer->vmm,
                     peer->exposer, peer->arranged, peer->arranged_count, err);
    peer->vm_made = rc == 0;
    peer->vm.hook_timeout_ms = (unsigned)(peer->options.hook_timeout / 1000000);
    peer->vm.assumed_memory = peer->options.memory_size;
    peer->vm.assumed_cpus = (unsigned)peer->options.cpu_count;
    peer->vm.start_timeout_ms = (unsigned)(peer->options.resume_timeout / 1000000);
    slot_place(&peer->slot, &peer->vm.netns, &peer->vm.tap, &peer->vm.mac);
    return rc;
}

int peer_open_local(struct peer *peer, struct drafter_error *err)
{
    int rc = devices_open_local(peer->node, &peer->devices, false, err);

    if (rc)
        return rc;
    memcpy(peer->arranged, peer->devices.blocks, sizeof(peer->arranged));
    peer->arranged_count = peer->devices.count;
    return peer_make_vm(peer, err);
}

static int start_local(struct peer *peer, struct drafter_error *err)
{
    uint64_t started = drafter_now_ns();
    int rc = peer_open_ledger(peer, err);

    if (!rc && (rc = ownership_check_start(&peer->ledger.record, peer->ledger.path, err)))
        sweep(peer);
    if (!rc)
        rc = peer_open_local(peer, err);
    if (!rc)
        rc = vm_read_config(&peer->vm, err);
    if (!rc) {
        vm_launch(&peer->vm);
        rc = vm_expose(&peer->vm, err);
    }
    if (!rc)
        rc = prepare(peer, err);
    if (!rc)
        peer_tell_hook(peer, "devices-ready");
    if (!rc)
        rc = vm_load(&peer->vm, err);
    if (!rc)
        peer_step(peer, PEER_STEP_STARTING);
    if (!rc)
        rc = peer_claim(peer, err);
    if (!rc)
        rc = vm_resume(&peer->vm, err);
    if (rc)
        return rc;
    peer->facts = peer->vm.package.facts;
    log_event("resumed", "\"vm\":\"%s\",\"from\":\"files\",\"ms\":%.1f", peer->node->options.name,
              (double)(drafter_now_ns() - started) / 1e6);
    slot_announce(&peer->slot);
    peer_start_aftermath(peer);
    return 0;
}

static int report_lost(struct peer *peer, struct drafter_error *err)
{
    return drafter_error_set(err, EINPROGRESS, "the VM was handed over, but not all of it: %s",
                             peer->leave_error.message);
}

/* Runs until the VM left, ended, or the operator wants an end. */
static int supervise(struct peer *peer, struct drafter_error *err)
{
    supervisor_watch(&peer->supervisor, peer->vm.process ? vm_pid(&peer->vm) : 0);
    for (;;) {
        enum wakeup wakeup = supervisor_wait(&peer->supervisor, -1);
        bool moved, lost;

        pthread_mutex_lock(&peer->lock);
        moved = peer->moved;
        lost = peer->lost;
        pthread_mutex_unlock(&peer->lock);
        if (moved)
            return 0;
        if (lost)
            return report_lost(peer, err);
        if (wakeup == WAKEUP_PROCESS)
            return drafter_error_set(err, ESRCH, "VM %s: its VMM ended", peer->node->options.name);
        peer_do_job(peer);
        if (wakeup == WAKEUP_SIGNAL || peer_wants_end(peer))
            return 0;
        if (wakeup == WAKEUP_REEXEC)
            peer_reexec(peer);
    }
}

/* A VM without files to stay in is forgotten, its memory, its disks and who had it. */
static int forget(struct peer *peer, struct drafter_error *err)
{
    log_event("discarded", "\"vm\":\"%s\"", peer->node->options.name);
    vm_stop(&peer->vm);
    if (unlink(peer->ledger.path))
        return drafter_error_errno(err, errno, "%s", peer->ledger.path);
    return 0;
}

/*
 * Suspends the VM; only then its files may be started again.  Where part of it went to other files, what it
 * ran from is no VM any more, unless all of that is as it was before.
 */
static int save(struct peer *peer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;
    bool startable = true;
    int rc;

    if (parts_are_passing(&peer->parts))
        return forget(peer, err);
    rc = vm_suspend(&peer->vm, err);
    if (!rc && peer_saves_elsewhere(peer))
        rc = peer_save_outputs(peer, &startable, err);
    if (rc || record->state != LEDGER_OWNED || !startable)
        return rc;
    return ledger_write(&peer->ledger, LEDGER_SAVED, record->epoch, record->peer, NULL, err);
}

/*
 * A node that failed saves what its guest has become since the resume.  What is in the way of that may pass,
 * so it is tried until rescue-timeout; the guest is asked once, and not for longer than that.
 */
static int rescue(struct peer *peer, struct drafter_error *err)
{
    static const struct timespec pause = {.tv_nsec = 200000000};
    uint64_t timeout_ms = peer->options.rescue_timeout / 1000000;
    uint64_t deadline = drafter_now_ns() + peer->options.rescue_timeout;
    int rc;

    if (peer->vm.hook_timeout_ms > timeout_ms)
        peer->vm.hook_timeout_ms = (unsigned)timeout_ms;
    while ((rc = save(peer, err)) && drafter_now_ns() < deadline &&
           !(peer->vm.process && vmm_pid(peer->vmm) < 0)) {
        log_warning("peer", "VM %s is not saved yet: %s", peer->node->options.name, err->message);
        *err = (struct drafter_error){0};
        nanosleep(&pause, NULL);
    }
    return rc;
}

/* A VM that cannot be saved (a full disk, say) is worth more running than gone. */
static bool goes_on(struct peer *peer, const struct drafter_error *why)
{
    struct drafter_error error = {0};

    if (peer->vm.process && vm_pid(&peer->vm) < 0) /* nothing is left to run on */
        return false;
    if (vm_resume(&peer->vm, &error)) {
        log_error("peer", "VM %s does not run on either: %s", peer->node->options.name,
                  error.message);
        return false;
    }
    log_error("peer", "VM %s could not be saved and runs on: %s; mend that and ask again",
              peer->node->options.name, why->message);
    return true;
}

/* Is there a guest of ours whose state may be newer than its files?  Also one that could not be let run on. */
static bool has_guest(const struct peer *peer)
{
    return peer->vm.running || (peer->vm.loaded && peer->ledger.record.state == LEDGER_OWNED);
}

static int leave_or_save(struct peer *peer, int rc, bool *ret_runs_on, struct drafter_error *err)
{
    uint64_t started = drafter_now_ns();
    struct drafter_error error = {0};
    bool gone, lost;

    peer_control_ending(peer);
    supervisor_busy(&peer->supervisor, peer->node->options.name, "ending a hand-over to a peer");
    server_stop(peer->server, "the node is ending");
    pthread_mutex_lock(&peer->lock);
    peer->server = NULL;
    pthread_mutex_unlock(&peer->lock);
    supervisor_busy(&peer->supervisor, peer->node->options.name, "saving the VM");
    pthread_mutex_lock(&peer->lock);
    lost = peer->lost;
    gone = peer->moved || lost;
    pthread_mutex_unlock(&peer->lock);
    /* The peer may never have got all of it: what is here is the only copy of the rest. */
    if (lost && !peer_saves_elsewhere(peer) &&
        (vm_write_back(&peer->vm, &error) || ledger_mark_whole(&peer->ledger, &error)))
        log_error("peer", "the VM's last state could not be written back: %s", error.message);
    if (lost && !rc) /* the operator's signal came first */
        return report_lost(peer, err);
    if (gone || !has_guest(peer) || (rc && err->code == ESRCH))
        return rc;
    if (rc ? rescue(peer, &error) : save(peer, &error)) {
        *ret_runs_on = !rc && goes_on(peer, &error);
        if (*ret_runs_on)
            return 0;
        if (!rc)
            *err = error;
        else
            log_error("peer", "the VM could not be saved: %s", error.message);
        return rc ? rc : -error.code;
    }
    if (!parts_are_passing(&peer->parts))
        log_event(rc ? "rescued" : "suspended", "\"vm\":\"%s\",\"ms\":%.1f",
                  peer->node->options.name, (double)(drafter_now_ns() - started) / 1e6);
    return rc;
}

/* Saves the VM unless it moved; or it could not be saved and runs on. */
static int leave(struct peer *peer, int rc, bool *ret_runs_on, struct drafter_error *err)
{
    *ret_runs_on = false;
    rc = leave_or_save(peer, rc, ret_runs_on, err);
    supervisor_done(&peer->supervisor);
    return rc;
}

static void release(struct peer *peer)
{
    peer_control_stop(peer);
    peer_metrics_stop(peer);
    if (peer->node->left) /* the holder has it, and this process ends */
        return;
    peer_step(peer, PEER_STEP_NOTHING);
    if (peer->vm_made) {
        if (peer->vm.started)
            vm_stop(&peer->vm); /* ends whoever reads devices or waits for the guest */
    }
    if (peer->aftermath_running)
        pthread_join(peer->aftermath, NULL);
    if (peer->vm_made)
        vm_release(&peer->vm);
    slot_release(&peer->slot);
    if (peer->moved)
        devices_drop_private(&peer->devices);
    devices_release(&peer->devices);
    if (peer->ledger_open)
        ledger_close(&peer->ledger);
    parts_discard(&peer->parts);
    parts_release(&peer->parts);
    peer_release_backup(peer);
    holder_end(peer->node->holder);
    if (peer->kept)
        munmap(peer->kept, sizeof(*peer->kept));
    pthread_mutex_destroy(&peer->lock);
    pthread_cond_destroy(&peer->watch.changed);
    supervisor_release(&peer->supervisor);
}

static int start(struct peer *peer, struct drafter_error *err)
{
    int rc = peer_keep(peer, err);

    if (rc)
        return rc;
    if (peer->options.connect)
        return peer_arrive(peer, err);
    return peer->kind == PEER_MOUNTS ? peer_mount_local(peer, err) : start_local(peer, err);
}

/* Devices may have addresses of their own, which become the VM's. */
static int read_devices(struct peer *peer, struct drafter_error *err)
{
    const struct node_options *node = &peer->node->options;
    struct peer_options *options = &peer->options;
    cleanup_free char *cache = NULL;
    int rc = devices_read(peer->node, &peer->devices, err);

    if (!rc && peer->kind == PEER_BACKS_UP)
        rc = peer_begin_backup(peer, err);
    if (!rc && !peer->devices.count)
        rc = drafter_error_set(err, EINVAL,
                               "no device has an address to take it from or a file: there is nothing to run");
    if (rc)
        return rc;
    if (asprintf(&cache, "%s/%s%s", options->cache_base_dir ? options->cache_base_dir : node->state_directory,
                 node->name, options->cache_base_dir ? "" : ".cache") < 0) {
        cache = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    rc = parts_read(&peer->parts, &peer->devices, options->connect, options->listen, cache, err);
    if (!rc && peer->parts.apart) {
        options->connect = peer->parts.connect;
        options->listen = peer->parts.listen;
    }
    return rc;
}

/* Goes on with what a process that died left, or begins. */
static int begin(struct peer *peer, struct drafter_error *err)
{
    bool adopted = false;
    int rc = read_devices(peer, err);

    if (!rc)
        rc = open_plugins(peer, err);
    if (!rc && peer->node->left)
        rc = peer_adopt(peer, &adopted, err);
    if (rc || adopted)
        return rc;
    return start(peer, err);
}

static int run(struct peer *peer, struct drafter_error *err)
{
    bool runs_on;
    int rc = begin(peer, err);

    if (rc)
        return has_guest(peer) && !peer->node->left ? leave(peer, rc, &runs_on, err) : rc;
    if (peer->kind == PEER_BACKS_UP)
        return 0;
    do {
        peer_control_going_on(peer);
        rc = peer->options.listen && !peer->server ? peer_serve(peer, err) : 0;
        if (!rc)
            rc = supervise(peer, err);
        rc = leave(peer, rc, &runs_on, err);
    } while (runs_on);
    return rc;
}

int peer_run_as(struct node *node, enum peer_kind kind, const char *role,
                const struct drafter_option *table, struct drafter_error *err)
{
    cleanup_free struct peer *peer = calloc(1, sizeof(*peer));
    int rc;

    if (!peer)
        return drafter_error_set(err, ENOMEM, "out of memory");
    peer->node = node;
    peer->kind = kind;
    peer->ledger.fd = -1;
    pthread_mutex_init(&peer->lock, NULL);
    pthread_cond_init(&peer->watch.changed, NULL);
    rc = config_apply(config_section(node->config, role, ""), table, NULL, &peer->options,
                      sizeof(peer->options), err);
    if (rc)
        return rc;
    flusher_setup();
    rc = supervisor_init(&peer->supervisor, err);
    if (!rc)
        peer_control_start(peer);
    if (!rc)
        rc = peer_metrics_start(peer, err);
    if (!rc)
        rc = run(peer, err);
    release(peer);
    return rc;
}

int peer_run(struct node *node, struct drafter_error *err)
{
    return peer_run_as(node, PEER_RUNS, "peer", peer_option_table, err);
}

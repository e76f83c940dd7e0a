/* SPDX-License-Identifier: BSD-2-Clause */
/* A peer: runs one VM that it starts from files or takes over, and hands it on. */
#ifndef ROLE_PEER_H
#define ROLE_PEER_H

#include "migrate/destination.h"
#include "role/devices.h"
#include "role/parts.h"
#include "role/peer-control.h"
#include "role/serve.h"
#include "role/slot.h"
#include "role/supervise.h"
#include "vm/vm.h"

/* [peer] */
enum peer_hook_errors { PEER_HOOK_ABORT, PEER_HOOK_IGNORE };

struct peer_options {
    int hook_errors;
    const char *connect, *listen, *transport, *vmm, *exposure, *network, *netns, *cache_base_dir,
        *metrics, *hook, *handover_data;
    bool disable_postcopy, overwrite;
    uint64_t resume_timeout, rescue_timeout, hook_timeout, concurrency, streams, max_passes;
    uint64_t downtime_limit, max_size, relink_timeout, memory_size, cpu_count;
};

/* What a package of the original does not say. */
#define PEER_PACKAGE_OPTIONS                                                                       \
    {.key = "memory-size", .type = DRAFTER_OPTION_SIZE,                                            \
     .offset = offsetof(struct peer_options, memory_size), .minimum = DRAFTER_PAGE_SIZE,           \
     .maximum = INT64_MAX,                                                                         \
     .help = "memory of a VM whose package does not say it, as the original's do not"},            \
    {                                                                                              \
        .key = "cpu-count", .type = DRAFTER_OPTION_UINT,                                           \
        .offset = offsetof(struct peer_options, cpu_count), .default_value = "1", .minimum = 1,    \
        .maximum = 256, .help = "processors of such a VM"                                          \
    }

/* What is done with a VM that is here. */
enum peer_kind {
    PEER_RUNS,    /* it runs */
    PEER_MOUNTS,  /* its devices are shown, it does not run */
    PEER_BACKS_UP, /* it is put into files, which get their names when all of it is in them */
};

struct peer {
    struct node *node;
    enum peer_kind kind;
    char *partial[DEVICES_MAX];
    char *finals[DEVICES_MAX]; /* a backup's: the names that its files get, NULL once they have them */
    bool backed_up;            /* a terminator that was killed had everything: only its end is missing */
    bool copies; /* what is mounted is nobody's VM: any number may have a copy */
    struct peer_options options;
    struct devices devices;
    struct parts parts;
    struct block_device *arranged[DEVICES_MAX]; /* as the VM has them */
    unsigned arranged_count;
    struct instance *transport, *vmm, *exposer;
    struct ledger ledger;
    struct vm vm;
    struct slot slot;
    struct drafter_vmm_facts facts;
    struct supervisor supervisor;
    struct server *server;
    struct source_vm source_vm;
    bool vm_made, ledger_open;
    struct ledger_record before; /* what an arrival that fails goes back to */
    bool leftovers;              /* files of an arrival whose drafter died are there */
    struct peer_kept *kept; /* or NULL: this VM cannot outlive its drafter */
    struct destination_kept *arrival_kept; /* or NULL */
    bool adopt_arrival;     /* a process that died began it */
    void *leaving_memory;   /* or NULL; until the process ends */
    bool resume_leaving; /* the VM was handed over by a process that died; the ledger knows to whom */

    struct destination *destination;
    pthread_t arrival, aftermath;
    bool aftermath_running;
    enum destination_outcome arrival_outcome;
    struct drafter_error arrival_error;

    pthread_mutex_t lock;
    /* Under `lock`: */
    bool arrived, leaving, moved, lost;
    bool occupied; /* the operator has it suspended or is at it: nobody takes it over */
    struct drafter_error leave_error;
    struct peer_watch watch;

    struct control *control;
    struct metrics *metrics;
    char *late_listen; /* an address that came by the control socket; the main thread's */
    bool custom_taken; /* hand-over data that came with the VM is in its place */
};

/* How far the VM is, for whoever goes on after us.  It outlives the process; layout 1. */
enum peer_step {
    PEER_STEP_NOTHING = 0,  /* no VM that would be worth anything */
    PEER_STEP_STARTING = 1, /* loaded, of which all is here: it may be told to run */
    PEER_STEP_ARRIVING = 2, /* its VMM waits for it, or it runs and the rest of it arrives */
};
struct peer_kept {
    uint32_t layout;
    uint32_t step; /* atomic; enum peer_step */
};
#define PEER_KEPT_LAYOUT 1u

extern const struct drafter_option peer_option_table[];

int peer_run(struct node *node, struct drafter_error *err);

/* As another role, whose section has options of `table` for struct peer_options. */
int peer_run_as(struct node *node, enum peer_kind kind, const char *role,
                const struct drafter_option *table, struct drafter_error *err);

/* peer-devices.c: devices without a VM.  Backups: names their files while they are no backup, and in the end. */
int peer_begin_backup(struct peer *peer, struct drafter_error *err);
int peer_finish_backup(struct peer *peer, uint64_t epoch, const char *from, const uint8_t session[16],
                       struct drafter_error *err);
/* What a terminator that was killed had not done any more. */
int peer_settle_backup(struct peer *peer, const struct destination_options *options,
                       struct drafter_error *err);
int peer_end_backup(struct peer *peer, struct drafter_error *err);
void peer_release_backup(struct peer *peer);
int peer_mount_local(struct peer *peer, struct drafter_error *err);
void peer_tell_mounts(struct peer *peer);

/* peer-arrive.c: taking a VM over.  peer-leave.c: handing it on. */
int peer_arrive(struct peer *peer, struct drafter_error *err);
int peer_serve(struct peer *peer, struct drafter_error *err);
/* As peer_serve, at once or not at all. */
int peer_listen(struct peer *peer, struct drafter_error *err);

/* vm_init, in a slot of the network if the VM is to have one. */
int peer_make_vm(struct peer *peer, struct drafter_error *err);

/*
 * peer-adopt.c.  peer_keep starts a holder where the plugins can use one.  peer_adopt goes on with the VM
 * of a process that died; *ret_adopted false: it had none that is worth anything, start anew.  After a
 * failure everything is left as it was (node->left).
 */
int peer_keep(struct peer *peer, struct drafter_error *err);
int peer_adopt(struct peer *peer, bool *ret_adopted, struct drafter_error *err);
void peer_step(struct peer *peer, enum peer_step step);
/* Gives way to another binary, which adopts the VM; returns when that failed. */
void peer_reexec(struct peer *peer);

/* What an arrival leaves to a successor: whom it comes from, and which pages are here. */
int peer_keep_arrival(struct peer *peer, struct drafter_error *err);
int peer_map_memory(struct peer *peer, const char *device, size_t size, void **ret_memory,
                    bool *ret_found);

/* What a hand-over leaves to a successor of this process; false: it left nothing. */
int peer_keep_leaving(struct peer *peer, const struct source_kept *kept, struct drafter_error *err);
bool peer_find_leaving(struct peer *peer, struct source_kept *ret_kept);
bool peer_migrates(const struct peer *peer, unsigned index); /* index into `arranged` */

/* peer.c: the VM as files and plugins have it; a ledger that is open. */
int peer_open_ledger(struct peer *peer, struct drafter_error *err);
int peer_open_local(struct peer *peer, struct drafter_error *err);
int peer_claim(struct peer *peer, struct drafter_error *err);

/*
 * peer-snapshot.c: devices that are saved to files of their own.  *ret_alone: nothing of what the VM runs from
 * was changed.
 */
bool peer_saves_elsewhere(const struct peer *peer);
int peer_save_outputs(struct peer *peer, bool *ret_alone, struct drafter_error *err);

/* peer-settle.c: an arrival is in the ledger from its first file on; one that was cut short is refused. */
int peer_begin_arriving(struct peer *peer, const struct offer *offer, struct drafter_error *err);
int peer_adopt_arriving(struct peer *peer); /* a process that died has written it */
void peer_end_arriving(struct peer *peer);
int peer_settle(struct peer *peer, const struct destination_options *options,
                struct drafter_error *err);

/*
 * peer-custom.c: what goes along with the VM, in a file that the operator writes where it leaves and reads where it
 * arrives.  The first two are for source_vm and destination_vm; the path is the caller's to free, NULL without memory.
 */
int peer_custom_read(void *opaque, void *buffer, size_t size, size_t *ret_length,
                     struct drafter_error *err);
int peer_custom_write(void *opaque, const void *data, size_t length, struct drafter_error *err);
int peer_custom_take(struct peer *peer, struct drafter_error *err); /* what came is this node's from now on */
void peer_custom_discard(const struct peer *peer);                  /* what came with a VM that did not */
char *peer_custom_path(const struct peer *peer);

/* peer-hook.c: runs [peer] hook, if there is one; peer_tell_hook only logs what fails. */
int peer_hook(const struct peer *peer, const char *event, struct drafter_error *err);
void peer_tell_hook(const struct peer *peer, const char *event);

/* peer-metrics.c: the endpoint of [peer] metrics, if there is to be one. */
int peer_metrics_start(struct peer *peer, struct drafter_error *err);
void peer_metrics_stop(struct peer *peer);

/* Guest hook and page cache after a resume, in a thread of its own. */
void peer_start_aftermath(struct peer *peer);

#endif

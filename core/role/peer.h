/* SPDX-License-Identifier: BSD-2-Clause */
/* A peer: runs one VM that it starts from files or takes over, and hands it on. */
#ifndef ROLE_PEER_H
#define ROLE_PEER_H

#include "migrate/destination.h"
#include "role/devices.h"
#include "role/serve.h"
#include "role/slot.h"
#include "role/supervise.h"
#include "vm/vm.h"

/* [peer] */
struct peer_options {
    const char *connect, *listen, *transport, *vmm, *exposure, *network, *netns;
    bool disable_postcopy, overwrite;
    uint64_t resume_timeout, rescue_timeout, hook_timeout, concurrency, streams, max_passes;
    uint64_t downtime_limit, max_size, relink_timeout;
};

struct peer {
    struct node *node;
    struct peer_options options;
    struct devices devices;
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

    struct destination *destination;
    pthread_t arrival, aftermath;
    bool aftermath_running;
    enum destination_outcome arrival_outcome;
    struct drafter_error arrival_error;

    pthread_mutex_t lock;
    /* Under `lock`: */
    bool arrived, leaving, moved, lost;
    struct drafter_error leave_error;
};

extern const struct drafter_option peer_option_table[];

int peer_run(struct node *node, struct drafter_error *err);

/* peer-arrive.c: taking a VM over.  peer-leave.c: handing it on. */
int peer_arrive(struct peer *peer, struct drafter_error *err);
int peer_serve(struct peer *peer, struct drafter_error *err);

/* vm_init, in a slot of the network if the VM is to have one. */
int peer_make_vm(struct peer *peer, struct drafter_error *err);

/* Guest hook and page cache after a resume, in a thread of its own. */
void peer_start_aftermath(struct peer *peer);

#endif

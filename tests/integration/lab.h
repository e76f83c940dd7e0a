/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two nodes in one process, over null plugins: a VM that is a thread which writes versioned pages, an
 * oracle that knows what every page must hold, and the real source, destination and server between
 * them.  No root, no VMM, no files but the ledgers and, for tls, a key and whom it trusts.
 */
#ifndef INTEGRATION_LAB_H
#define INTEGRATION_LAB_H

#include "migrate/destination.h"
#include "role/serve.h"
#include <check.h>

#define LAB_DEVICES 3 /* state, memory, disk */
#define LAB_STATE 0
#define LAB_MEMORY 1
#define LAB_DISK 2
#define LAB_MEMORY_SIZE (UINT64_C(8) << 20)
#define LAB_DISK_SIZE ((UINT64_C(1) << 20) + 512)
#define LAB_STATE_SIZE (UINT64_C(64) << 10)
#define LAB_PAGES ((LAB_MEMORY_SIZE + LAB_DISK_SIZE) / 4096 + 1)

/* What goes wrong at a node, by the number of the call, from 1; 0 never. */
struct lab_faults {
    bool hook, pause, save, prepare, start, load, resume, journal, custom, keep_custom;
    bool unreadable; /* since the VM is paused lab_bad_file is there, until somebody removes it */
    const char *memory_fault, *memory_fault_at; /* option of the null storage and its value */
    bool cut_at_hook, cut_at_save, cut_at_load, cut_at_resume; /* the link breaks */
};

struct lab_vm; /* the guest: a thread and an oracle */

struct lab_node {
    struct lab *lab;
    const char *name;
    struct instance *storage[LAB_DEVICES];
    struct block_device blocks[LAB_DEVICES];
    bool open, owns, runs;
    struct ledger ledger;
    struct lab_faults faults;
    struct source_vm source_vm;
    enum source_outcome left;
    struct drafter_error left_error;
    unsigned ends; /* sessions that ended */
};

struct lab {
    char directory[64];
    struct instance *below, *transport; /* below: what tls lies over, or NULL */
    char address[80];                   /* of the server */
    char identity[DRAFTER_IDENTITY_SIZE]; /* of both nodes; "" where the transport knows none */
    struct lab_node nodes[2];
    struct lab_vm *vm;
    struct server *server;
    bool live; /* false: a registry's copies */
    struct stream *control; /* of the session under way, until it was cut */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t token[WIRE_TOKEN_SIZE]; /* of a session that somebody comes back to */
    unsigned answer;                /* type of the frame that one got */
    size_t custom_length;       /* bytes that go along with the VM */
    size_t custom_arrived;      /* as many as were there ahead of the record */
    uint64_t missing_at_resume; /* pages of memory that were not here when the guest ran again */
};

/* `below`: the transport that tls lies over, or NULL for the null transport alone. */
struct lab *lab_new(const char *below);
void lab_free(struct lab *lab);

/* Fills node 0's devices, starts the guest there. */
void lab_boot(struct lab *lab);

/* Moves the VM from one node to the other; the outcome as the destination sees it. */
enum destination_outcome lab_move(struct lab *lab, unsigned from, unsigned to, bool wait_for_all,
                                  struct drafter_error *err);

/*
 * Node 0's process died after the hand-over, and another one goes on with the session while the peer dials all the
 * time: the type of the first answer.
 */
unsigned lab_resume_session(struct lab *lab);

/* destination_confirm of what node 1 has recorded, to a node 0 that knows nothing of it, or has overruled it. */
int lab_confirm(struct lab *lab, bool overruled, struct drafter_error *err);

/*
 * Node 1's process died after COMMIT and before the load; another one goes on, while node 0 knows nothing of it, or has
 * overruled it.
 */
enum destination_outcome lab_adopt(struct lab *lab, bool overruled, struct drafter_error *err);

/* Every page of every device of the node holds what the guest wrote last, or was filled with. */
void lab_check_content(struct lab *lab, unsigned node);

/* The guest goes on writing at this node. */
void lab_check_runs(struct lab *lab, unsigned node);

/* Exactly one node may run the VM by its ledger, and it is this one. */
void lab_check_owner(struct lab *lab, unsigned node);

/* How fast the guest writes. */
void lab_set_rate(struct lab *lab, unsigned writes_per_ms);

/* For fail-reads-while. */
void lab_bad_file(const struct lab *lab, char ret_path[80]);

/* From now on the guest does what a real one did, by the binlogs tests/integration/workload/NAME-*.binlog. */
void lab_set_workload(struct lab *lab, const char *name);

#endif

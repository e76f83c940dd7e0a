/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM under test: its files, its life, and the heartbeats that its guest prints. */
#ifndef CONFORMANCE_VMM_H
#define CONFORMANCE_VMM_H

#include "conformance.h"
#include "plugin/vmm.h"

struct vmm_subject {
    const char *plugin;
    uint64_t memory_size;
    const char *boot_args;
    const char *overrides[12];
    bool process; /* the VM has one */
    const char *kernel; /* file of the test guest that it boots, or NULL */
};

struct vm {
    const struct vmm_subject *subject;
    struct instance *vmm;
    char directory[256], memory[288], serial[288], kernel[512];
    char machine_config[2048]; /* of vm_boot, or given before vm_restore */
    struct drafter_vmm_spec spec;
};

/* A VM that was not started, with a memory file of its own or that of another VM. */
struct vm *vm_new(const struct vmm_subject *subject, const struct vm *memory_of);
void vm_free(struct vm *vm);

/* Fail the test when the VM does not start. */
void vm_boot(struct vm *vm);
void vm_restore(struct vm *vm, const struct vm *saved);

void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);

/* The state in a file "state" of the VM's directory: an open descriptor at its start. */
int vm_save(struct vm *vm);
void vm_load(struct vm *vm, int state_fd);

/* Number of the last heartbeat; fails the test when they are not consecutive or the guest
 * complains. */
unsigned long vm_beats(const struct vm *vm);

/* The first heartbeat in this VM's log; waits for it. */
unsigned long vm_first_beat(const struct vm *vm);

/* Waits until the guest has printed `count` more beats. */
void vm_wait_beats(const struct vm *vm, unsigned long count);

/* Whether the guest has noticed bad memory; waits for at most `timeout_ms`. */
bool vm_complains(const struct vm *vm, unsigned timeout_ms);

void vmm_null_cases(Suite *suite, const struct vmm_subject *subject);
void vmm_qemu_cases(Suite *suite, const struct vmm_subject *subject);
void vmm_firecracker_cases(Suite *suite, const struct vmm_subject *subject);

#endif

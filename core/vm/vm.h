/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM: devices shown by an exposer, run by a VMM, with a guest agent.
 *
 *     vm_expose -> vm_boot                                  a snapshot is made
 *     [vm_launch ->] vm_expose -> vm_prepare -> vm_load -> vm_resume    a package is resumed
 *     vm_before_suspend -> vm_pause -> vm_save              it is suspended
 *     vm_adopt -> vm_resume                                 it outlived its drafter
 *
 * Without a VMM it is the devices of a VM alone: all of them are shown, and what is about the VMM does nothing.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "block/device.h"
#include "plugin/vmm.h"
#include "vm/package.h"

/* Devices that the VMM does not get as drives. */
#define VM_DEVICE_KERNEL "kernel"
#define VM_DEVICE_INITRAMFS "initramfs"
#define VM_DEVICE_STATE "state"
#define VM_DEVICE_MEMORY "memory"
#define VM_DEVICE_CONFIG "config"

struct vm {
    const char *name;
    char *directory; /* of the VMM's sockets and logs; "devices" below it shows the devices */
    struct instance *vmm, *exposer; /* borrowed; each may be NULL: devices without a VM, or nobody sees them */
    struct block_device **devices;
    unsigned device_count;
    struct package package;
    uint64_t assumed_memory; /* of a package that does not say it; 0: what its memory device tells */
    unsigned assumed_cpus;
    const char *netns, *tap, *mac;
    unsigned hook_timeout_ms, start_timeout_ms;
    char **paths; /* where vm_launch said that the devices will be, or NULL */
    bool exposing, started, running;
    bool process; /* once started: the VMM has one */
    bool loaded;  /* the VMM has the guest's state, running or paused: what can be saved is the VM's */
};

/* `devices` is borrowed, in the order in which drives appear. */
int vm_init(struct vm *vm, const char *name, const char *directory, struct instance *vmm,
            struct instance *exposer, struct block_device **devices, unsigned device_count,
            struct drafter_error *err);

/* Ends the VMM, for certain; its process while it has one, else -ESRCH. */
void vm_stop(struct vm *vm);
pid_t vm_pid(const struct vm *vm);

/* Stops the VMM, withdraws the devices, removes the directory. */
void vm_release(struct vm *vm);

struct block_device *vm_device(const struct vm *vm, const char *name); /* or NULL */

/* Ends what shows the devices of a VM whose node was killed. */
int vm_sweep(const char *directory, struct instance *exposer, struct drafter_error *err);

/*
 * In place of vm_expose and vm_prepare: takes over exposures and VMM of a process that died.  The
 * devices are those it had.
 */
int vm_adopt(struct vm *vm, enum drafter_vmm_phase *ret_phase, struct drafter_error *err);

/*
 * Begins vm_prepare ahead of vm_expose, so that the VMM's own start takes place meanwhile.  Not needed;
 * what fails here is left to vm_prepare.
 */
void vm_launch(struct vm *vm);

int vm_expose(struct vm *vm, struct drafter_error *err);

/*
 * Reads the package's description from the config device; waits for its pages.  The original's packages do
 * not say what saved them: it is taken to be this host's VMM, which refuses what it cannot load.
 */
int vm_read_config(struct vm *vm, struct drafter_error *err);

/* Refuses a host whose VMM is not the package's. */
int vm_check_host(struct vm *vm, struct drafter_error *err);

int vm_boot(struct vm *vm, struct drafter_error *err);    /* the guest runs */
int vm_prepare(struct vm *vm, struct drafter_error *err); /* the VMM waits for vm_load */
int vm_load(struct vm *vm, struct drafter_error *err);
int vm_resume(struct vm *vm, struct drafter_error *err);
void vm_foresee(struct vm *vm); /* a pause is near */
int vm_pause(struct vm *vm, struct drafter_error *err);
int vm_save(struct vm *vm, struct drafter_error *err); /* into the state device */

/* Guest hooks; nothing to do when the guest has no agent. */
int vm_before_suspend(struct vm *vm, struct drafter_error *err);
int vm_after_resume(struct vm *vm, struct drafter_error *err);

/* The VM is paused: writes again what storage refused before, where it takes it now. */
void vm_rescue(struct vm *vm);

/* Brings everything that the VMM wrote to stable storage. */
int vm_write_back(struct vm *vm, struct drafter_error *err);

/* Hook, pause, save, write back, flush: afterwards storage is a package that resumes. */
int vm_suspend(struct vm *vm, struct drafter_error *err);

#endif

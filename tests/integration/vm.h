/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest: a thread that writes pages whose content follows from (page, version). */
#ifndef INTEGRATION_VM_H
#define INTEGRATION_VM_H

#include "block/device.h"

struct lab_vm;

/* Fills the devices; the guest is paused. */
struct lab_vm *lab_vm_new(struct block_device *blocks);
void lab_vm_free(struct lab_vm *vm);

/* Goes on with these devices; checks each page before it writes it. */
void lab_vm_resume(struct lab_vm *vm, struct block_device *blocks);
void lab_vm_pause(struct lab_vm *vm); /* paused already is fine */
/* Writes this many random pages at once; the guest is running. */
void lab_vm_burst(struct lab_vm *vm, unsigned pages);
/* Does what the two binlogs say from now on, over and over, folded onto the size of these devices. */
void lab_vm_set_workload(struct lab_vm *vm, const char *memory, const char *disk);
void lab_vm_set_rate(struct lab_vm *vm, unsigned writes_per_ms);

/* The count of writes goes through the state device. */
int lab_vm_save(struct lab_vm *vm, struct block_device *state);
int lab_vm_load(struct lab_vm *vm, struct block_device *state);

/* Reads everything of a paused guest and compares. */
void lab_vm_verify(struct lab_vm *vm, struct block_device *blocks);

/* Waits a moment for further writes. */
bool lab_vm_progresses(struct lab_vm *vm);

#endif

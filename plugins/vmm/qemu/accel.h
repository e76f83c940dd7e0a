/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which accelerator a VM gets.
 *
 * A /dev/kvm that opens proves nothing: where KVM has no hardware below it, QEMU may fail to set up
 * a CPU, or interpret instruction by instruction code that the guest's kernel is made of.  So the
 * probe runs twenty million instructions in real mode, as every boot does, and expects them to take
 * no time.
 */
#ifndef QEMU_ACCEL_H
#define QEMU_ACCEL_H

#include <drafter/common.h>

struct accel_choice {
    bool kvm;
    char reason[256]; /* one line: why */
};

/* Runs the probe with this binary and CPU model.  Cannot fail: without proof it is not KVM. */
void accel_probe(const char *binary, const char *cpu, struct accel_choice *ret_choice);

/* A reading of the time stamp counter; two of them give its frequency. */
struct accel_tsc {
    uint64_t ticks, ns;
};
struct accel_tsc accel_tsc_read(void);

/* kHz from `since` to now; waits when that is too short to be exact. */
uint64_t accel_tsc_khz(const struct accel_tsc *since);

#endif

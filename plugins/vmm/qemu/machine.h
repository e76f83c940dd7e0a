/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a restore must repeat of the machine that was booted, and its description:
 *
 *     layout=1 machine=microvm accel=tcg cpu=max cpus=1 memory=268435456 nic=user tsc=2596138
 * drives=disk
 *
 * The alphabets of its values are small, so that none can add to QEMU's command line.
 */
#ifndef QEMU_MACHINE_H
#define QEMU_MACHINE_H

#include "vmm/common/board.h"
#include "vmm/common/description.h"

enum machine_nic { MACHINE_NIC_NONE, MACHINE_NIC_USER, MACHINE_NIC_TAP };

struct machine {
    struct board board;
    char type[64]; /* of QEMU: "microvm" */
    char accel[8]; /* "tcg" or "kvm" */
    char cpu[128]; /* model as QEMU takes it */
    uint64_t tsc_khz; /* of the host where the VM was booted */
    enum machine_nic nic;
};

/* What the spec says. */
int machine_from_spec(struct machine *machine, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err);

/* -ENOSPC when the buffer is too small. */
int machine_format(const struct machine *machine, char *buffer, size_t size);

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err);

/* Whether the alphabet and the value are fit for QEMU's -machine and -cpu. */
bool machine_type_valid(const char *type);
bool machine_cpu_valid(const char *cpu);

/* Whether devices attach to virtio-mmio slots instead of PCI. */
bool machine_has_mmio(const struct machine *machine);

#endif

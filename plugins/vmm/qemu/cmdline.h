/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's command line.  It is a function of the machine, so that a restored VM has the same devices
 * in the same places as the saved one:
 *
 *     slot 1  virtio-serial, with a port for each channel
 *     slot 2  virtio-net, when the machine has a network card
 *     slot 3  virtio-rng
 *     slot 4  the drives, in their order; on a microvm from its last slot downwards
 *
 * A slot is a virtio-mmio transport of a microvm, or a PCI address.  Whoever changes this raises
 * LAYOUT in machine.c.
 */
#ifndef QEMU_CMDLINE_H
#define QEMU_CMDLINE_H

#include "qemu.h"

struct cmdline {
    char **words; /* NULL-terminated */
    size_t count, capacity;
    int failed; /* -ENOMEM: one of the words is missing */
};

struct cmdline_input {
    const struct qemu_config *config;
    const struct drafter_vmm_spec *spec;
    const struct machine *machine;
    enum drafter_vmm_start how;
    uint64_t tsc_khz; /* of this host */
    int incoming_fd;  /* to restore: QEMU reads its state from it */
    int gate_fd;      /* QEMU waits for its end before it opens a device */
    int qmp_fd;       /* listening sockets */
    int channel_fds[QEMU_CHANNELS];
};

int cmdline_build(struct cmdline *cmdline, const struct cmdline_input *input,
                  struct drafter_error *err);
void cmdline_release(struct cmdline *cmdline);

/* Checks the options that become part of the command line. */
int cmdline_check_config(const struct qemu_config *config, struct drafter_error *err);

#endif

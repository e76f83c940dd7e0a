/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a restore must know of the VM that was booted, and its description:
 *
 *     layout=1 template=None cpus=1 memory=268435456 tap=tap0 drives=disk,oci
 */
#ifndef FIRECRACKER_MACHINE_H
#define FIRECRACKER_MACHINE_H

#include "vmm/common/board.h"
#include "vmm/common/description.h"

#define MACHINE_NO_TAP "none"

struct machine {
    struct board board;
    char template[32];
    char tap[16]; /* as the saved state knows it, or MACHINE_NO_TAP */
};

/* Whether it may be the name of a CPU template. */
bool machine_template_valid(const char *name);

int machine_from_spec(struct machine *machine, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err);

/* -ENOSPC when the buffer is too small. */
int machine_format(const struct machine *machine, char *buffer, size_t size);

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err);

/* Refuses a saved machine that is not the one that the spec asks for. */
int machine_check(const struct machine *saved, const struct machine *wanted,
                  struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a restore must know of the VM that was booted, and its textual form:
 *
 *     layout=1 template=None cpus=1 memory=268435456 tap=tap0 drives=disk,oci
 *
 * The text travels in packages made elsewhere, so it is parsed as hostile input: each key exactly
 * once, none unknown, values bounded and of a small alphabet.
 */
#ifndef FIRECRACKER_MACHINE_H
#define FIRECRACKER_MACHINE_H

#include <drafter/vmm.h>

#define MACHINE_DRIVES_MAX 16
#define MACHINE_TEXT_MAX 2048
#define MACHINE_NO_TAP "none"

struct machine {
    char template[32];
    char tap[16]; /* as the saved state knows it, or MACHINE_NO_TAP */
    uint64_t cpus, memory;
    size_t drive_count;
    char drives[MACHINE_DRIVES_MAX][DRAFTER_NAME_MAX + 1];
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

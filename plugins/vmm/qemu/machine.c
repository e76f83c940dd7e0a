/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LAYOUT 1 /* of slots and devices; raise it when cmdline.c attaches them in another way */

static const char *const nic_names[] = {"none", "user", "tap", NULL};
static const char *const accel_names[] = {"tcg", "kvm", NULL};

bool machine_type_valid(const char *type)
{
    static const char *const whole[] = {"microvm", "q35", "pc", NULL};

    for (size_t i = 0; whole[i]; i++) {
        if (strcmp(type, whole[i]) == 0)
            return true;
    }
    return (strncmp(type, "pc-q35-", 7) == 0 || strncmp(type, "pc-i440fx-", 10) == 0) &&
           description_is_word(type, "-.", 32);
}

bool machine_cpu_valid(const char *cpu)
{
    return description_is_word(cpu, "-_.,+=", sizeof(((struct machine *)0)->cpu) - 1);
}

static bool drive_name_valid(const char *name)
{
    return description_is_word(name, "-_.", DRAFTER_NAME_MAX);
}

bool machine_has_mmio(const struct machine *machine)
{
    return strcmp(machine->type, "microvm") == 0;
}

static const struct board_limits limits = {.cpus_max = 255,
                                           .memory_unit = 8192, /* QEMU rounds up to this */
                                           .memory_units = "a multiple of 8192",
                                           .is_drive_name = drive_name_valid};

int machine_from_spec(struct machine *machine, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err)
{
    return board_from_spec(&machine->board, &limits, spec, err);
}

/* ---- text */

int machine_format(const struct machine *machine, char *buffer, size_t size)
{
    int used = snprintf(buffer, size,
                        "layout=%d machine=%s accel=%s cpu=%s cpus=%" PRIu64 " memory=%" PRIu64
                        " nic=%s tsc=%" PRIu64 " drives=",
                        LAYOUT, machine->type, machine->accel, machine->cpu, machine->board.cpus,
                        machine->board.memory, nic_names[machine->nic], machine->tsc_khz);

    return board_format_drives(&machine->board, buffer, size, used);
}

enum key {
    KEY_LAYOUT,
    KEY_MACHINE,
    KEY_ACCEL,
    KEY_CPU,
    KEY_CPUS,
    KEY_MEMORY,
    KEY_NIC,
    KEY_TSC,
    KEY_DRIVES
};
static const char *const key_names[] = {"layout", "machine", "accel", "cpu",    "cpus",
                                        "memory", "nic",     "tsc",   "drives", NULL};

static int set_value(void *opaque, int key, char *value)
{
    struct machine *machine = opaque;
    uint64_t layout;
    int choice;

    switch ((enum key)key) {
    case KEY_LAYOUT:
        return description_number(value, LAYOUT, LAYOUT, &layout);
    case KEY_MACHINE:
        if (!machine_type_valid(value))
            return -EINVAL;
        snprintf(machine->type, sizeof(machine->type), "%s", value);
        return 0;
    case KEY_ACCEL:
        choice = description_choice(value, accel_names);
        if (choice >= 0)
            snprintf(machine->accel, sizeof(machine->accel), "%s", accel_names[choice]);
        return choice;
    case KEY_CPU:
        if (!machine_cpu_valid(value))
            return -EINVAL;
        snprintf(machine->cpu, sizeof(machine->cpu), "%s", value);
        return 0;
    case KEY_CPUS:
        return board_parse_cpus(&machine->board, &limits, value);
    case KEY_MEMORY:
        return board_parse_memory(&machine->board, &limits, value);
    case KEY_NIC:
        choice = description_choice(value, nic_names);
        if (choice >= 0)
            machine->nic = (enum machine_nic)choice;
        return choice;
    case KEY_TSC:
        return description_number(value, 0, 100000000, &machine->tsc_khz);
    case KEY_DRIVES:
        return board_parse_drives(&machine->board, &limits, value);
    }
    return -EINVAL;
}

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err)
{
    struct machine machine = {0};
    int result;

    if (!text || !*text)
        return drafter_error_set(err, EINVAL,
                                 "the package does not describe the saved machine: it is none of QEMU's");
    result = description_parse(text, key_names, set_value, &machine, err);
    if (result == 0)
        *ret_machine = machine;
    return result;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LAYOUT 1

bool machine_template_valid(const char *name)
{
    return description_is_word(name, "_", sizeof(((struct machine *)0)->template) - 1);
}

/* What the VM's directory holds besides drives. */
static bool drive_name_valid(const char *name)
{
    static const char *const taken[] = {"dev", "proc", "sys", "kernel", "initramfs", "memory", "state"};

    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        if (strcmp(name, taken[i]) == 0)
            return false;
    return description_is_word(name, "-_", DRAFTER_NAME_MAX);
}

static const struct board_limits limits = {.cpus_max = 32,
                                           .memory_unit = (uint64_t)1 << 20,
                                           .memory_units = "whole MiB",
                                           .is_drive_name = drive_name_valid};

int machine_from_spec(struct machine *machine, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err)
{
    int result = board_from_spec(&machine->board, &limits, spec, err);

    if (result < 0)
        return result;
    if (spec->tap && !description_is_word(spec->tap, "-_.", sizeof(machine->tap) - 1))
        return drafter_error_set(err, EINVAL, "\"%.64s\" cannot be the name of a tap", spec->tap);
    snprintf(machine->tap, sizeof(machine->tap), "%s", spec->tap ? spec->tap : MACHINE_NO_TAP);
    return 0;
}

/* ---- text */

int machine_format(const struct machine *machine, char *buffer, size_t size)
{
    int used = snprintf(buffer, size,
                        "layout=%d template=%s cpus=%" PRIu64 " memory=%" PRIu64 " tap=%s drives=",
                        LAYOUT, machine->template, machine->board.cpus, machine->board.memory,
                        machine->tap);

    return board_format_drives(&machine->board, buffer, size, used);
}

static const char *const key_names[] = {"layout", "template", "cpus",   "memory",
                                        "tap",    "drives",   NULL};

static int set_value(void *opaque, int key, char *value)
{
    struct machine *machine = opaque;
    uint64_t layout;

    switch (key) {
    case 0:
        return description_number(value, LAYOUT, LAYOUT, &layout);
    case 1:
        return description_word(value, "_", machine->template, sizeof(machine->template));
    case 2:
        return board_parse_cpus(&machine->board, &limits, value);
    case 3:
        return board_parse_memory(&machine->board, &limits, value);
    case 4:
        return description_word(value, "-_.", machine->tap, sizeof(machine->tap));
    default:
        return board_parse_drives(&machine->board, &limits, value);
    }
}

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err)
{
    struct machine machine = {0};
    int result;

    if (!text || strlen(text) >= DESCRIPTION_MAX)
        return drafter_error_set(err, EINVAL,
                                 "no description of the saved machine, or a monstrous one");
    result = description_parse(text, key_names, set_value, &machine, err);
    if (result == 0)
        *ret_machine = machine;
    return result;
}

int machine_check(const struct machine *saved, const struct machine *wanted,
                  struct drafter_error *err)
{
    int result = board_check(&saved->board, &wanted->board, err);

    if (result < 0)
        return result;
    if (strcmp(saved->tap, MACHINE_NO_TAP) != 0 && strcmp(wanted->tap, MACHINE_NO_TAP) == 0)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM had a tap interface and needs one again");
    return 0;
}

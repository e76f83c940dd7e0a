/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYOUT 1 /* of slots and devices; raise it when cmdline.c attaches them in another way */
#define CPUS_MAX 255
#define MEMORY_UNIT 8192 /* QEMU rounds up to this */

static const char *const nic_names[] = {"none", "user", "tap", NULL};
static const char *const accel_names[] = {"tcg", "kvm", NULL};

static bool of_alphabet(const char *text, const char *also, size_t max)
{
    size_t length = strlen(text);

    if (!length || length > max)
        return false;
    for (; *text; text++) {
        if (!isascii((unsigned char)*text) ||
            (!isalnum((unsigned char)*text) && !strchr(also, *text)))
            return false;
    }
    return true;
}

bool machine_type_valid(const char *type)
{
    static const char *const whole[] = {"microvm", "q35", "pc", NULL};

    for (size_t i = 0; whole[i]; i++) {
        if (strcmp(type, whole[i]) == 0)
            return true;
    }
    return (strncmp(type, "pc-q35-", 7) == 0 || strncmp(type, "pc-i440fx-", 10) == 0) &&
           of_alphabet(type, "-.", 32);
}

bool machine_cpu_valid(const char *cpu)
{
    return of_alphabet(cpu, "-_.,+=", sizeof(((struct machine *)0)->cpu) - 1);
}

static bool drive_name_valid(const char *name)
{
    return of_alphabet(name, "-_.", DRAFTER_NAME_MAX);
}

bool machine_has_mmio(const struct machine *machine)
{
    return strcmp(machine->type, "microvm") == 0;
}

/* ---- from the spec */

static int add_drive(struct machine *machine, const char *name, struct drafter_error *err)
{
    if (machine->drive_count == MACHINE_DRIVES_MAX)
        return drafter_error_set(err, E2BIG, "more than %d drives", MACHINE_DRIVES_MAX);
    if (!drive_name_valid(name))
        return drafter_error_set(err, EINVAL, "\"%.64s\" cannot be the name of a drive", name);
    for (size_t i = 0; i < machine->drive_count; i++) {
        if (strcmp(machine->drives[i], name) == 0)
            return drafter_error_set(err, EINVAL, "two drives are called \"%s\"", name);
    }
    snprintf(machine->drives[machine->drive_count++], sizeof(machine->drives[0]), "%s", name);
    return 0;
}

int machine_from_spec(struct machine *machine, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err)
{
    if (spec->cpu_count < 1 || spec->cpu_count > CPUS_MAX)
        return drafter_error_set(err, EINVAL, "%u CPUs: it must be 1 to %d", spec->cpu_count,
                                 CPUS_MAX);
    if (!spec->memory_size || spec->memory_size % MEMORY_UNIT)
        return drafter_error_set(err, EINVAL,
                                 "%" PRIu64 " bytes of memory: it must be a multiple of %d",
                                 spec->memory_size, MEMORY_UNIT);
    machine->cpus = spec->cpu_count;
    machine->memory = spec->memory_size;
    machine->drive_count = 0;
    for (size_t i = 0; i < spec->device_count; i++) {
        int result = spec->devices[i].drive ? add_drive(machine, spec->devices[i].name, err) : 0;

        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- text */

int machine_format(const struct machine *machine, char *buffer, size_t size)
{
    int used = snprintf(buffer, size,
                        "layout=%d machine=%s accel=%s cpu=%s cpus=%" PRIu64 " memory=%" PRIu64
                        " nic=%s tsc=%" PRIu64 " drives=",
                        LAYOUT, machine->type, machine->accel, machine->cpu, machine->cpus,
                        machine->memory, nic_names[machine->nic], machine->tsc_khz);

    for (size_t i = 0; i < machine->drive_count && used >= 0 && (size_t)used < size; i++)
        used +=
            snprintf(buffer + used, size - (size_t)used, "%s%s", i ? "," : "", machine->drives[i]);
    return used < 0 || (size_t)used >= size ? -ENOSPC : 0;
}

static int parse_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret_number)
{
    char *end;
    unsigned long long number;

    if (!isdigit((unsigned char)*text) || strlen(text) > 19)
        return -EINVAL;
    number = strtoull(text, &end, 10);
    if (*end || number < minimum || number > maximum)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

static int parse_choice(const char *text, const char *const *choices)
{
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0)
            return i;
    }
    return -EINVAL;
}

static int parse_drives(char *text, struct machine *machine, struct drafter_error *err)
{
    char *rest = text;

    while (rest && *text) {
        char *name = strsep(&rest, ",");
        int result = add_drive(machine, name, err);

        if (result < 0)
            return result;
    }
    return 0;
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

static int parse_value(enum key key, char *value, struct machine *machine,
                       struct drafter_error *err)
{
    uint64_t layout;
    int choice;

    switch (key) {
    case KEY_LAYOUT:
        return parse_number(value, LAYOUT, LAYOUT, &layout);
    case KEY_MACHINE:
        if (!machine_type_valid(value))
            return -EINVAL;
        snprintf(machine->type, sizeof(machine->type), "%s", value);
        return 0;
    case KEY_ACCEL:
        choice = parse_choice(value, accel_names);
        if (choice >= 0)
            snprintf(machine->accel, sizeof(machine->accel), "%s", accel_names[choice]);
        return choice;
    case KEY_CPU:
        if (!machine_cpu_valid(value))
            return -EINVAL;
        snprintf(machine->cpu, sizeof(machine->cpu), "%s", value);
        return 0;
    case KEY_CPUS:
        return parse_number(value, 1, CPUS_MAX, &machine->cpus);
    case KEY_MEMORY:
        return parse_number(value, MEMORY_UNIT, (uint64_t)1 << 48, &machine->memory);
    case KEY_NIC:
        choice = parse_choice(value, nic_names);
        if (choice >= 0)
            machine->nic = (enum machine_nic)choice;
        return choice;
    case KEY_TSC:
        return parse_number(value, 0, 100000000, &machine->tsc_khz);
    case KEY_DRIVES:
        return parse_drives(value, machine, err);
    }
    return -EINVAL;
}

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err)
{
    struct machine machine = {0};
    char copy[MACHINE_TEXT_MAX], *rest = copy;
    unsigned seen = 0;

    if (!text || !*text)
        return drafter_error_set(err, EINVAL,
                                 "the package does not describe the saved machine: it is none of QEMU's");
    if (strlen(text) >= sizeof(copy))
        return drafter_error_set(err, EINVAL, "a monstrous description of the saved machine");
    memcpy(copy, text, strlen(text) + 1);
    while (rest) {
        char *value = strsep(&rest, " "), *name = strsep(&value, "=");
        int key = parse_choice(name, key_names);

        if (key < 0 || !value || seen & 1u << key)
            return drafter_error_set(err, EINVAL, "saved machine: \"%.32s\" is unknown or repeated",
                                     name);
        seen |= 1u << key;
        if (parse_value((enum key)key, value, &machine, NULL) < 0)
            return drafter_error_set(err, EINVAL, "saved machine: %s cannot be \"%.64s\"",
                                     key_names[key], value);
    }
    for (int key = 0; key_names[key]; key++) {
        if (!(seen & 1u << key))
            return drafter_error_set(err, EINVAL, "saved machine: %s is missing", key_names[key]);
    }
    *ret_machine = machine;
    return 0;
}

int machine_check(const struct machine *saved, const struct machine *wanted,
                  struct drafter_error *err)
{
    if (saved->cpus != wanted->cpus)
        return drafter_error_set(err, EINVAL, "the saved VM has %" PRIu64 " CPUs, not %" PRIu64,
                                 saved->cpus, wanted->cpus);
    if (saved->memory != wanted->memory)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM has %" PRIu64 " bytes of memory, not %" PRIu64,
                                 saved->memory, wanted->memory);
    if (saved->drive_count != wanted->drive_count)
        return drafter_error_set(err, EINVAL, "the saved VM has %zu drives, not %zu",
                                 saved->drive_count, wanted->drive_count);
    for (size_t i = 0; i < saved->drive_count; i++) {
        if (strcmp(saved->drives[i], wanted->drives[i]) != 0)
            return drafter_error_set(err, EINVAL, "drive %zu of the saved VM is \"%s\", not \"%s\"",
                                     i + 1, saved->drives[i], wanted->drives[i]);
    }
    return 0;
}

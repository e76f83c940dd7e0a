/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYOUT 1
#define CPUS_MAX 32
#define MEMORY_UNIT ((uint64_t)1 << 20)

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

bool machine_template_valid(const char *name)
{
    return of_alphabet(name, "_", sizeof(((struct machine *)0)->template) - 1);
}

/* What the VM's directory holds besides drives. */
static bool drive_name_valid(const char *name)
{
    static const char *const taken[] = {"dev", "proc", "sys", "kernel", "initramfs", "memory", "state"};

    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        if (strcmp(name, taken[i]) == 0)
            return false;
    return of_alphabet(name, "-_", DRAFTER_NAME_MAX);
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
        return drafter_error_set(err, EINVAL, "%" PRIu64 " bytes of memory: it must be whole MiB",
                                 spec->memory_size);
    if (spec->tap && !of_alphabet(spec->tap, "-_.", sizeof(machine->tap) - 1))
        return drafter_error_set(err, EINVAL, "\"%.64s\" cannot be the name of a tap", spec->tap);
    snprintf(machine->tap, sizeof(machine->tap), "%s", spec->tap ? spec->tap : MACHINE_NO_TAP);
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
                        "layout=%d template=%s cpus=%" PRIu64 " memory=%" PRIu64 " tap=%s drives=",
                        LAYOUT, machine->template, machine->cpus, machine->memory, machine->tap);

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

static int parse_word(const char *text, const char *also, char *word, size_t size)
{
    if (!of_alphabet(text, also, size - 1))
        return -EINVAL;
    snprintf(word, size, "%s", text);
    return 0;
}

static int parse_drives(char *text, struct machine *machine)
{
    char *rest = text;
    int result = 0;

    while (result == 0 && rest && *text)
        result = add_drive(machine, strsep(&rest, ","), NULL);
    return result;
}

static const char *const key_names[] = {"layout", "template", "cpus", "memory", "tap", "drives"};
#define KEYS (sizeof(key_names) / sizeof(key_names[0]))

static int parse_value(size_t key, char *value, struct machine *machine)
{
    uint64_t layout;

    switch (key) {
    case 0:
        return parse_number(value, LAYOUT, LAYOUT, &layout);
    case 1:
        return parse_word(value, "_", machine->template, sizeof(machine->template));
    case 2:
        return parse_number(value, 1, CPUS_MAX, &machine->cpus);
    case 3:
        return parse_number(value, MEMORY_UNIT, (uint64_t)1 << 48, &machine->memory);
    case 4:
        return parse_word(value, "-_.", machine->tap, sizeof(machine->tap));
    default:
        return parse_drives(value, machine);
    }
}

static size_t key_of(const char *name)
{
    size_t key = 0;

    while (key < KEYS && strcmp(name, key_names[key]) != 0)
        key++;
    return key;
}

int machine_parse(const char *text, struct machine *ret_machine, struct drafter_error *err)
{
    struct machine machine = {.cpus = 0};
    char copy[MACHINE_TEXT_MAX], *rest = copy;
    unsigned seen = 0;

    if (!text || strlen(text) >= sizeof(copy))
        return drafter_error_set(err, EINVAL,
                                 "no description of the saved machine, or a monstrous one");
    memcpy(copy, text, strlen(text) + 1);
    while (rest) {
        char *value = strsep(&rest, " "), *name = strsep(&value, "=");
        size_t key = key_of(name);

        if (key == KEYS || !value || seen & 1u << key)
            return drafter_error_set(err, EINVAL, "saved machine: \"%.32s\" is unknown or repeated",
                                     name);
        seen |= 1u << key;
        if (parse_value(key, value, &machine) < 0)
            return drafter_error_set(err, EINVAL, "saved machine: %s cannot be \"%.64s\"",
                                     key_names[key], value);
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (!(seen & 1u << key))
            return drafter_error_set(err, EINVAL, "saved machine: %s is missing", key_names[key]);
    }
    *ret_machine = machine;
    return 0;
}

int machine_check(const struct machine *saved, const struct machine *wanted,
                  struct drafter_error *err)
{
    bool tap = strcmp(wanted->tap, MACHINE_NO_TAP) != 0;

    if (saved->cpus != wanted->cpus)
        return drafter_error_set(err, EINVAL, "the saved VM has %" PRIu64 " CPUs, not %" PRIu64,
                                 saved->cpus, wanted->cpus);
    if (saved->memory != wanted->memory)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM has %" PRIu64 " bytes of memory, not %" PRIu64,
                                 saved->memory, wanted->memory);
    if (strcmp(saved->tap, MACHINE_NO_TAP) != 0 && !tap)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM had a tap interface and needs one again");
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

/* SPDX-License-Identifier: BSD-2-Clause */
#include "board.h"
#include "description.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_MAX ((uint64_t)1 << 48)

static int add_drive(struct board *board, const struct board_limits *limits, const char *name,
                     struct drafter_error *err)
{
    if (board->drive_count == BOARD_DRIVES_MAX)
        return drafter_error_set(err, E2BIG, "more than %d drives", BOARD_DRIVES_MAX);
    if (!limits->is_drive_name(name))
        return drafter_error_set(err, EINVAL, "\"%.64s\" cannot be the name of a drive", name);
    for (size_t i = 0; i < board->drive_count; i++) {
        if (strcmp(board->drives[i], name) == 0)
            return drafter_error_set(err, EINVAL, "two drives are called \"%s\"", name);
    }
    snprintf(board->drives[board->drive_count++], sizeof(board->drives[0]), "%s", name);
    return 0;
}

int board_from_spec(struct board *board, const struct board_limits *limits,
                    const struct drafter_vmm_spec *spec, struct drafter_error *err)
{
    int result = 0;

    if (spec->cpu_count < 1 || spec->cpu_count > limits->cpus_max)
        return drafter_error_set(err, EINVAL, "%u CPUs: it must be 1 to %u", spec->cpu_count,
                                 limits->cpus_max);
    if (!spec->memory_size || spec->memory_size % limits->memory_unit)
        return drafter_error_set(err, EINVAL, "%" PRIu64 " bytes of memory: it must be %s",
                                 spec->memory_size, limits->memory_units);
    *board = (struct board){.cpus = spec->cpu_count, .memory = spec->memory_size};
    for (size_t i = 0; i < spec->device_count && result == 0; i++)
        if (spec->devices[i].drive)
            result = add_drive(board, limits, spec->devices[i].name, err);
    return result;
}

int board_check(const struct board *saved, const struct board *wanted, struct drafter_error *err)
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

int board_parse_cpus(struct board *board, const struct board_limits *limits, const char *value)
{
    return description_number(value, 1, limits->cpus_max, &board->cpus);
}

int board_parse_memory(struct board *board, const struct board_limits *limits, const char *value)
{
    return description_number(value, limits->memory_unit, MEMORY_MAX, &board->memory);
}

int board_parse_drives(struct board *board, const struct board_limits *limits, char *value)
{
    char *rest = value;
    int result = 0;

    while (result == 0 && rest && *value)
        result = add_drive(board, limits, strsep(&rest, ","), NULL);
    return result;
}

int board_format_drives(const struct board *board, char *buffer, size_t size, int used)
{
    for (size_t i = 0; i < board->drive_count && used >= 0 && (size_t)used < size; i++)
        used += snprintf(buffer + used, size - (size_t)used, "%s%s", i ? "," : "", board->drives[i]);
    return used < 0 || (size_t)used >= size ? -ENOSPC : 0;
}

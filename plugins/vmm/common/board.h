/* SPDX-License-Identifier: BSD-2-Clause */
/* What every machine has, whichever VMM runs it: CPUs, memory and drives. */
#ifndef VMM_BOARD_H
#define VMM_BOARD_H

#include <drafter/vmm.h>

#define BOARD_DRIVES_MAX 16

struct board {
    uint64_t cpus, memory;
    size_t drive_count;
    char drives[BOARD_DRIVES_MAX][DRAFTER_NAME_MAX + 1];
};

/* What a VMM can do. */
struct board_limits {
    unsigned cpus_max;
    uint64_t memory_unit;     /* memory comes in no smaller part */
    const char *memory_units; /* as in "it must be ..." */
    bool (*is_drive_name)(const char *name);
};

int board_from_spec(struct board *board, const struct board_limits *limits,
                    const struct drafter_vmm_spec *spec, struct drafter_error *err);

/* Refuses a saved machine that is not the one that the spec asks for. */
int board_check(const struct board *saved, const struct board *wanted, struct drafter_error *err);

/* Values of a description (description.h): 0 or a negative errno. */
int board_parse_cpus(struct board *board, const struct board_limits *limits, const char *value);
int board_parse_memory(struct board *board, const struct board_limits *limits, const char *value);
int board_parse_drives(struct board *board, const struct board_limits *limits, char *value);
/* Puts the drives behind the `used` bytes that are in the buffer; -ENOSPC: it is too small. */
int board_format_drives(const struct board *board, char *buffer, size_t size, int used);

#endif

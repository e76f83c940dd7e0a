/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two loaders leave in memory: a memory map and a command line. */
#include "boot.h"

#include <stddef.h>

#define E820_RAM 1
#define PVH_MAGIC 0x336ec578
#define CMDLINE_MAX 2048

struct pvh_start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp, memmap;
    uint32_t memmap_entries, reserved;
};

struct pvh_memmap_entry {
    uint64_t addr, size;
    uint32_t type, reserved;
};

struct e820_entry {
    uint64_t addr, size;
    uint32_t type;
} __attribute__((packed));

/* Offsets in Linux's boot_params, from Documentation/x86/zero-page. */
enum { EXT_CMD_LINE_PTR = 0x0c8, E820_ENTRIES = 0x1e8, CMD_LINE_PTR = 0x228, E820_TABLE = 0x2d0 };

static uint32_t read32(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static const char *command_line(const void *info, int kind)
{
    if (kind == BOOT_PVH) {
        const struct pvh_start_info *start = info;

        return start->magic == PVH_MAGIC ? (const char *)start->cmdline : NULL;
    }
    const uint8_t *zero_page = info;
    uint64_t at = read32(zero_page + CMD_LINE_PTR);

    at |= (uint64_t)read32(zero_page + EXT_CMD_LINE_PTR) << 32;
    return (const char *)at;
}

/* If the word at text is "name=...", returns what follows the '=', else NULL. */
static const char *value_of(const char *text, const char *name)
{
    while (*name)
        if (*text++ != *name++)
            return NULL;
    return *text == '=' ? text + 1 : NULL;
}

static void parse_number(const char *text, uint64_t *ret_number)
{
    uint64_t number = 0;

    if (*text < '0' || *text > '9')
        return;
    while (*text >= '0' && *text <= '9')
        number = number * 10 + (uint64_t)(*text++ - '0');
    *ret_number = number;
}

static void parse_word(const char *word, struct boot_options *options)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {
        {"fill", &options->fill_mib},   {"dirty", &options->dirty_mib},
        {"ram", &options->ram_mib},     {"key", &options->key},
        {"rate", &options->rate},       {"heartbeat_us", &options->heartbeat_us},
        {"tsc_khz", &options->tsc_khz},
    };
    const char *value;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if ((value = value_of(word, numbers[i].name)))
            parse_number(value, numbers[i].value);
    if ((value = value_of(word, "check")))
        options->check = *value == '1';
    if ((value = value_of(word, "write")))
        options->write_full = *value == 'f';
}

void boot_options(const void *info, int kind, struct boot_options *options)
{
    const char *line = command_line(info, kind);
    int at_word = 1;

    /* VMMs add words of their own (root=, virtio_mmio.device=): what is not ours is skipped. */
    for (int i = 0; line && i < CMDLINE_MAX && line[i]; i++) {
        if (at_word)
            parse_word(line + i, options);
        at_word = line[i] == ' ';
    }
}

static uint64_t end_if_ours(uint64_t addr, uint64_t size, uint32_t type)
{
    if (type != E820_RAM || addr > FILL_START || addr + size <= FILL_START)
        return 0;
    uint64_t end = addr + size, mapped = (uint64_t)MAPPED_GIB << 30;

    return end < mapped ? end : mapped;
}

uint64_t boot_ram_end(const void *info, int kind)
{
    uint64_t end = 0;

    if (kind == BOOT_PVH) {
        const struct pvh_start_info *start = info;
        const struct pvh_memmap_entry *map = (const void *)start->memmap;

        if (start->magic != PVH_MAGIC || start->version < 1)
            return 0;
        for (uint32_t i = 0; i < start->memmap_entries && !end; i++)
            end = end_if_ours(map[i].addr, map[i].size, map[i].type);
        return end;
    }
    const uint8_t *zero_page = info;
    const struct e820_entry *map = (const void *)(zero_page + E820_TABLE);

    for (int i = 0; i < zero_page[E820_ENTRIES] && !end; i++)
        end = end_if_ours(map[i].addr, map[i].size, map[i].type);
    return end;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTGUEST_BOOT_H
#define TESTGUEST_BOOT_H

#define BOOT_PVH 1   /* info is a Xen hvm_start_info */
#define BOOT_LINUX 2 /* info is a Linux boot_params (zero page) */

/* RAM above this is not used: 4 GiB cover the one block that both VMMs put below their MMIO hole.
 */
#define MAPPED_GIB 4

#ifndef __ASSEMBLER__
#include <stdint.h>

/* The guest's own image, stack and page tables end below this address; the pages under test begin
 * here. */
#define FILL_START 0x200000ULL

struct boot_options {
    uint64_t fill_mib, dirty_mib, ram_mib; /* ram_mib 0: no bound */
    uint64_t key, rate, heartbeat_us, tsc_khz;
    int check, write_full;
};

/* Reads the command line that the loader left into options, which holds defaults for what is not
 * given. */
void boot_options(const void *info, int kind, struct boot_options *options);

/* First address past the RAM block that holds FILL_START, as the loader's memory map has it. */
uint64_t boot_ram_end(const void *info, int kind);
#endif

#endif

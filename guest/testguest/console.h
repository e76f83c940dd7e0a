/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTGUEST_CONSOLE_H
#define TESTGUEST_CONSOLE_H

#include <stdint.h>

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* patience: TSC ticks that one line may take before the rest of it is dropped. */
void console_init(uint64_t patience);

/* Text is collected and sent by console_end_line() as one line. */
void console_text(const char *text);
void console_decimal(uint64_t number);
void console_hex(uint64_t number);
void console_end_line(void);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Unsigned LEB128 numbers (DWARF 5, 7.6). */
#ifndef UTIL_LEB128_H
#define UTIL_LEB128_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* Writes at most 10 bytes; returns how many. */
static inline size_t leb128_put(unsigned char *at, uint64_t value)
{
    size_t length = 0;

    for (; value >= 0x80; value >>= 7)
        at[length++] = (unsigned char)(value | 0x80);
    at[length++] = (unsigned char)value;
    return length;
}

/* Reads a number of at most `bits` bits, a multiple of 7; -EPROTO when it is longer or cut off. */
static inline int leb128_get(const unsigned char **at, const unsigned char *end, unsigned bits,
                             uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < bits; shift += 7) {
        if (*at == end)
            return -EPROTO;
        value |= (uint64_t)(**at & 0x7f) << shift;
        if (!(*(*at)++ & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return -EPROTO;
}

#endif

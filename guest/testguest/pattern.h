/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Content of a page as a function of (key, page number, version).
 *
 * Word 0 is the stamp: the version in its upper half and a hash of (key, page, version) in its
 * lower half. The other 511 words are the body, which compresses by nothing; it is made in sectors
 * of 512 bytes, so that one can be written or verified without the ones before it. With
 * write=sparse a new version changes only the stamp, and the body stays that of version 0; with
 * write=full all words change.
 */
#ifndef TESTGUEST_PATTERN_H
#define TESTGUEST_PATTERN_H

#include <stdint.h>

#define PAGE_SIZE 4096
#define PAGE_WORDS 512
#define SECTOR_WORDS 64
#define PAGE_SECTORS (PAGE_WORDS / SECTOR_WORDS)

static inline uint64_t pattern_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    return x ^ x >> 32;
}

static inline uint64_t pattern_stamp(uint64_t key, uint64_t page, uint64_t version)
{
    uint64_t hash =
        pattern_mix(key + page * 0x9e3779b97f4a7c15ULL + version * 0xbf58476d1ce4e5b9ULL);

    return version << 32 | (uint32_t)hash;
}

/* State from which a sector's words are drawn; sectors are numbered through all pages. */
static inline uint64_t pattern_sector(uint64_t key, uint64_t sector, uint64_t version)
{
    return pattern_mix(~key + sector * 0x94d049bb133111ebULL + version * 0x2545f4914f6cdd1dULL);
}

static inline uint64_t pattern_next(uint64_t state)
{
    return state * 0x5851f42d4c957f2dULL + 0x14057b7ef767814fULL;
}

/* The low bits of a linear congruential state have short periods: fold the high ones in. */
static inline uint64_t pattern_word(uint64_t state)
{
    return state ^ state >> 32;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Bitmaps in 64-bit words, least significant bit first: the layout that devices and the wire use. */
#ifndef UTIL_BITMAP_H
#define UTIL_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORD_BITS 64

static inline size_t bitmap_words(uint64_t bits)
{
    return (size_t)((bits + BITMAP_WORD_BITS - 1) / BITMAP_WORD_BITS);
}

static inline bool bitmap_test(const uint64_t *map, uint64_t bit)
{
    return map[bit / BITMAP_WORD_BITS] >> (bit % BITMAP_WORD_BITS) & 1;
}

static inline void bitmap_set(uint64_t *map, uint64_t bit)
{
    map[bit / BITMAP_WORD_BITS] |= UINT64_C(1) << (bit % BITMAP_WORD_BITS);
}

static inline void bitmap_clear(uint64_t *map, uint64_t bit)
{
    map[bit / BITMAP_WORD_BITS] &= ~(UINT64_C(1) << (bit % BITMAP_WORD_BITS));
}

/* The same while other threads change other bits of the word. */
static inline void bitmap_set_atomic(uint64_t *map, uint64_t bit)
{
    __atomic_fetch_or(&map[bit / BITMAP_WORD_BITS], UINT64_C(1) << (bit % BITMAP_WORD_BITS),
                      __ATOMIC_ACQ_REL);
}

/* Whether the bit was set. */
static inline bool bitmap_take_atomic(uint64_t *map, uint64_t bit)
{
    uint64_t mask = UINT64_C(1) << (bit % BITMAP_WORD_BITS);

    return __atomic_fetch_and(&map[bit / BITMAP_WORD_BITS], ~mask, __ATOMIC_ACQ_REL) & mask;
}

static inline bool bitmap_test_atomic(const uint64_t *map, uint64_t bit)
{
    return __atomic_load_n(&map[bit / BITMAP_WORD_BITS], __ATOMIC_ACQUIRE) >> (bit % BITMAP_WORD_BITS) & 1;
}

/* A zeroed map for `bits` bits, or NULL; the caller frees it. */
uint64_t *bitmap_new(uint64_t bits);

void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count);
void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count);
uint64_t bitmap_count(const uint64_t *map, uint64_t bits);

/* The first bit at or after `from` that is set (clear), or `bits` when there is none. */
uint64_t bitmap_next_set(const uint64_t *map, uint64_t from, uint64_t bits);
uint64_t bitmap_next_clear(const uint64_t *map, uint64_t from, uint64_t bits);

#endif

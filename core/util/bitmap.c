/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/bitmap.h"
#include <stdlib.h>

/* The bits from `first` of a word on; first < 64. */
static uint64_t bits_from(unsigned first)
{
    return ~UINT64_C(0) << first;
}

/* The bits below `end` of a word; end <= 64. */
static uint64_t bits_below(unsigned end)
{
    return end == BITMAP_WORD_BITS ? ~UINT64_C(0) : (UINT64_C(1) << end) - 1;
}

uint64_t *bitmap_new(uint64_t bits)
{
    if (bits > UINT64_MAX - BITMAP_WORD_BITS)
        return NULL;
    return calloc(bits ? bitmap_words(bits) : 1, sizeof(uint64_t));
}

/* Takes the part of a range that lies in one word: its mask; the range shrinks by it. */
static uint64_t take_word(uint64_t *first, uint64_t *count, size_t *ret_word)
{
    unsigned start = (unsigned)(*first % BITMAP_WORD_BITS);
    uint64_t room = BITMAP_WORD_BITS - start;
    uint64_t taken = *count < room ? *count : room;

    *ret_word = (size_t)(*first / BITMAP_WORD_BITS);
    *first += taken;
    *count -= taken;
    return bits_from(start) & bits_below(start + (unsigned)taken);
}

void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count)
{
    while (count) {
        size_t word;
        uint64_t mask = take_word(&first, &count, &word);

        map[word] |= mask;
    }
}

void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count)
{
    while (count) {
        size_t word;
        uint64_t mask = take_word(&first, &count, &word);

        map[word] &= ~mask;
    }
}

uint64_t bitmap_count(const uint64_t *map, uint64_t bits)
{
    uint64_t whole = bits / BITMAP_WORD_BITS, total = 0;
    unsigned rest = (unsigned)(bits % BITMAP_WORD_BITS);

    for (uint64_t i = 0; i < whole; i++)
        total += (uint64_t)__builtin_popcountll(map[i]);
    if (rest)
        total += (uint64_t)__builtin_popcountll(map[whole] & bits_below(rest));
    return total;
}

/* The first bit at or after `from` whose value differs from those of `flip`. */
static uint64_t next(const uint64_t *map, uint64_t from, uint64_t bits, uint64_t flip)
{
    uint64_t word = from / BITMAP_WORD_BITS;
    uint64_t mask = bits_from((unsigned)(from % BITMAP_WORD_BITS));

    if (from >= bits)
        return bits;
    for (; word < bitmap_words(bits); word++, mask = ~UINT64_C(0)) {
        uint64_t found = (map[word] ^ flip) & mask;

        if (found) {
            uint64_t bit = word * BITMAP_WORD_BITS + (unsigned)__builtin_ctzll(found);

            return bit < bits ? bit : bits;
        }
    }
    return bits;
}

uint64_t bitmap_next_set(const uint64_t *map, uint64_t from, uint64_t bits)
{
    return next(map, from, bits, 0);
}

uint64_t bitmap_next_clear(const uint64_t *map, uint64_t from, uint64_t bits)
{
    return next(map, from, bits, ~UINT64_C(0));
}

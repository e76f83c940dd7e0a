/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A checksum per page of the overlay: what was written is what is read, or the read fails.
 *
 * In memory a word per page: a checksum, or that none is known, or how many writes of the page are under way.
 * A write that was alone on its page leaves a checksum; writes that overlap leave none, for nobody knows which
 * of them the page is now.  A reader that finds a mismatch looks again while nothing writes.
 *
 * On disk a block per map sector, behind the slots of the state file.  Pages are rewritten in place and no
 * checksum could be right for both halves of a torn write, so a block counts only while its sector is cold:
 *
 *   cold      the block holds the checksums of all pages that the sector's map on disk has; a little later
 *             both copies of the map say the same, so that a bit that flips in one of them does not matter
 *   warming   a page got its first content; the next flush writes the map, with a mark that it is warm
 *   warm      the map on disk says so; after a crash the sector's checksums are unknown
 *   cooling   as warm, but the block is written and nothing was changed since
 *
 * A page that the map on disk has may be rewritten only in a warm sector, so that mark is made durable first: for
 * all sectors of a GiB at once.  Sectors in which nothing is written any more cool down with later flushes, all
 * of them with an orderly end.  Not to be able to cool down is no failure.
 */
#ifndef COW_SUMS_H
#define COW_SUMS_H

#include "cow-map.h"

enum cow_heat { COW_COLD, COW_WARMING, COW_WARM, COW_COOLING };

struct cow_sums {
    _Atomic uint32_t *words; /* a page each; NULL: an overlay of version 1, which has none */
    size_t size;             /* bytes of the mapping */
    _Atomic uint8_t *heat;   /* enum cow_heat of each sector */
};

/* Everything unknown and cold. */
int cow_sums_init(struct cow_sums *sums, const struct cow_geometry *geometry);
void cow_sums_release(struct cow_sums *sums);

/* The checksum of a page: never 0. */
uint32_t cow_sum(const void *page, size_t length);

/* Around each write of pages.  `sum` 0: unknown.  Returns what was known before, 0: nothing. */
uint32_t cow_sums_begin(struct cow_sums *sums, uint64_t page);
void cow_sums_end(struct cow_sums *sums, uint64_t page, uint32_t sum);

/* Whether no other write overlapped the one that began. */
bool cow_sums_alone(const struct cow_sums *sums, uint64_t page);

/* The checksum of a page that nobody writes, 0: unknown. */
uint32_t cow_sums_get(const struct cow_sums *sums, uint64_t page);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Checksums on disk: which of them count, and when they are written; see cow-sums.h. */
#include "cow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 64 /* map sectors that become warm together: 960 MiB */

static enum cow_heat heat_of(const struct cow *cow, uint32_t sector)
{
    return (enum cow_heat)atomic_load(&cow->sums.heat[sector]);
}

/* Whether it was `from` and is `to` now. */
static bool change(struct cow *cow, uint32_t sector, enum cow_heat from, enum cow_heat to)
{
    uint8_t expected = (uint8_t)from;

    return atomic_compare_exchange_strong(&cow->sums.heat[sector], &expected, (uint8_t)to);
}

static bool has_pages(const uint64_t words[COW_SECTOR_WORDS])
{
    uint64_t any = 0;

    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++)
        any |= words[i];
    return any != 0;
}

/* The one that commits: writes the map as the disk has it, with the mark, for all cold sectors of the group. */
static int warm_group(struct cow *cow, uint32_t sector)
{
    uint32_t first = sector / GROUP * GROUP, end = first + GROUP;
    int r = 0;

    if (end > cow->map.sectors)
        end = cow->map.sectors;
    for (uint32_t i = first; r == 0 && i < end; i++) {
        const uint64_t *words = &cow->map.staged[(size_t)i * COW_SECTOR_WORDS];

        if (heat_of(cow, i) <= COW_WARMING && (i == sector || has_pages(words)))
            r = cow_commit_sector(cow, i, true);
    }
    if (r == 0 && COW_PLANT != 5)
        r = cow->io->sync(cow->state);
    for (uint32_t i = first; r == 0 && i < end; i++) {
        const uint64_t *words = &cow->map.staged[(size_t)i * COW_SECTOR_WORDS];

        if (i == sector || has_pages(words))
            if (!change(cow, i, COW_COLD, COW_WARM))
                change(cow, i, COW_WARMING, COW_WARM);
    }
    return r;
}

int cow_heat_rewrite(struct cow *cow, uint32_t sector)
{
    for (;;) {
        enum cow_heat heat = heat_of(cow, sector);
        int r = 0;

        if (heat == COW_WARM || (heat == COW_COOLING && change(cow, sector, COW_COOLING, COW_WARM)))
            return 0;
        if (heat != COW_COOLING)
            r = cow_commit_exclusive(cow, warm_group, sector);
        if (r < 0)
            return r;
    }
}

void cow_heat_first(struct cow *cow, uint32_t sector)
{
    for (;;) {
        enum cow_heat heat = heat_of(cow, sector);

        if (heat == COW_WARM || heat == COW_WARMING)
            return;
        if (change(cow, sector, heat, heat == COW_COLD ? COW_WARMING : COW_WARM))
            return;
    }
}

bool cow_heat_mark(const struct cow *cow, uint32_t sector)
{
    return cow->sums.words && heat_of(cow, sector) != COW_COLD;
}

void cow_heat_committed(struct cow *cow, uint32_t sector)
{
    if (cow->sums.words)
        change(cow, sector, COW_WARMING, COW_WARM);
}

/* Writes a sector's block.  What is being written, or not known, is unknown on disk as well. */
static int write_block(struct cow *cow, uint32_t sector, uint8_t *block)
{
    uint32_t sums[COW_SECTOR_PAGES];

    for (uint32_t i = 0; i < COW_SECTOR_PAGES; i++)
        sums[i] = cow_sums_get(&cow->sums, (uint64_t)sector * COW_SECTOR_PAGES + i);
    cow_block_encode(&cow->geometry, sector, sums, block);
    return cow->io->pwrite(cow->state, block, COW_BLOCK, cow_geometry_block(&cow->geometry, sector));
}

/* Whether a sector that matters is on disk in one copy only. */
static bool is_single(const struct cow *cow, uint32_t sector)
{
    return !cow->map.copies[sector].both &&
           has_pages(&cow->map.staged[(size_t)sector * COW_SECTOR_WORDS]);
}

/* Makes the older copy of the map say what the newer one says, which a sync has made durable. */
static int repeat(struct cow *cow, uint32_t sector)
{
    int r;

    if (!is_single(cow, sector))
        return 0;
    cow->wrote_map = true;
    r = cow_commit_sector(cow, sector, false);
    cow->map.copies[sector].both = r == 0;
    return r;
}

static int cool(struct cow *cow, uint32_t sector, uint8_t *block)
{
    /* Both copies of a sector must not be written between two syncs. */
    if (cow->map.staging[sector / 64] >> (sector % 64) & 1)
        return 0;
    switch (heat_of(cow, sector)) {
    case COW_COOLING: /* the commits in between have synced the data and the block */
        if (!change(cow, sector, COW_COOLING, COW_COLD))
            return 0;
        cow->wrote_map = true;
        return cow_commit_sector(cow, sector, false);
    case COW_WARM:
        /* Who writes from here on takes it back; what is written before is in the block, or unknown there. */
        if (!change(cow, sector, COW_WARM, COW_COOLING))
            return 0;
        if (COW_PLANT == 6 && change(cow, sector, COW_COOLING, COW_COLD))
            return write_block(cow, sector, block) < 0 ? -EIO : cow_commit_sector(cow, sector, false);
        cow->wrote_map = true;
        if (write_block(cow, sector, block) < 0) /* a full disk, say: it stays warm */
            change(cow, sector, COW_COOLING, COW_WARM);
        return 0;
    case COW_COLD:
        return repeat(cow, sector);
    case COW_WARMING:
        break;
    }
    return 0;
}

/* One step of cooling for all sectors; durable with the next sync. */
static int cool_all(struct cow *cow)
{
    uint8_t *block = malloc(COW_BLOCK);
    int r = 0;

    if (!block)
        return 0;
    for (uint32_t sector = 0; r == 0 && sector < cow->map.sectors; sector++)
        r = cool(cow, sector, block);
    free(block);
    return r;
}

int cow_heat_flushed(struct cow *cow)
{
    if (!cow->sums.words || ++cow->commits % COW_COOL_EVERY != 0)
        return 0;
    return cool_all(cow);
}

static int cool_down(struct cow *cow, uint32_t unused)
{
    int r;

    (void)unused;
    memset(cow->map.staging, 0, (cow->map.sectors + 63) / 64 * sizeof *cow->map.staging);
    r = cow->io->sync(cow->overlay);
    /* The block; the mark; the other copy. */
    for (unsigned step = 0; r == 0 && step < 3; step++) {
        r = cool_all(cow);
        if (r == 0)
            r = cow->io->sync(cow->state);
    }
    return r;
}

int cow_heat_end(struct cow *cow)
{
    if (!cow->sums.words)
        return 0;
    for (uint32_t sector = 0; sector < cow->map.sectors; sector++)
        if (heat_of(cow, sector) != COW_COLD || is_single(cow, sector))
            return cow_commit_exclusive(cow, cool_down, 0);
    return 0;
}

/* Takes over what is known of the pages that the map on disk has. */
static void take_block(struct cow *cow, uint32_t sector, const uint32_t sums[COW_SECTOR_PAGES],
                       const uint64_t words[COW_SECTOR_WORDS])
{
    for (uint32_t i = 0; i < COW_SECTOR_PAGES; i++)
        if (sums[i] && words[i / 64] >> (i % 64) & 1)
            atomic_store_explicit(&cow->sums.words[(uint64_t)sector * COW_SECTOR_PAGES + i], sums[i],
                                  memory_order_relaxed);
}

int cow_heat_load(struct cow *cow, uint32_t sector, const uint64_t words[COW_SECTOR_WORDS], bool warm,
                  bool ahead)
{
    uint32_t sums[COW_SECTOR_PAGES];
    uint8_t block[COW_BLOCK];
    int r;

    if (!cow->sums.words)
        return 0;
    atomic_store(&cow->sums.heat[sector], warm ? COW_WARM : ahead ? COW_WARMING : COW_COLD);
    if (warm || !has_pages(words))
        return 0;
    r = cow->io->pread(cow->state, block, sizeof block, cow_geometry_block(&cow->geometry, sector));
    if (r == 0)
        r = cow_block_decode(&cow->geometry, sector, block, sums);
    if (r == 0)
        take_block(cow, sector, sums, words);
    else if (r == -EILSEQ) /* the data may well be right */
        drafter_log(DRAFTER_LOG_WARNING, "cow",
                    "%s: the checksums of map sector %" PRIu32 " are damaged: its pages are not verified",
                    cow->config->state, sector);
    return r == -EILSEQ ? 0 : r;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The map in memory; see cow-map.h. */
#include "cow-map.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGES_PER_WORD 64

static uint64_t word_mask(uint64_t first, uint64_t end)
{
    uint64_t low = UINT64_MAX << (first % PAGES_PER_WORD);
    uint64_t word_end = (first / PAGES_PER_WORD + 1) * PAGES_PER_WORD;

    return end < word_end ? low & ~(UINT64_MAX << (end % PAGES_PER_WORD)) : low;
}

int cow_map_init(struct cow_map *map, const struct cow_geometry *geometry)
{
    size_t words = (size_t)geometry->sectors * COW_SECTOR_WORDS;
    size_t marks = ((size_t)geometry->sectors + 63) / 64;

    *map = (struct cow_map){.pages = geometry->pages, .sectors = geometry->sectors};
    map->words = calloc(words, sizeof *map->words);
    map->changed = calloc(marks, sizeof *map->changed);
    map->staged = calloc(words, sizeof *map->staged);
    map->staging = calloc(marks, sizeof *map->staging);
    map->copies = calloc(geometry->sectors, sizeof *map->copies);
    if (map->words && map->changed && map->staged && map->staging && map->copies)
        return 0;
    cow_map_release(map);
    return -ENOMEM;
}

void cow_map_release(struct cow_map *map)
{
    if (map->kept_size)
        munmap((void *)map->words, map->kept_size);
    else
        free(map->words);
    free(map->changed);
    free(map->staged);
    free(map->staging);
    free(map->copies);
    *map = (struct cow_map){0};
}

bool cow_map_run(const struct cow_map *map, uint64_t first, uint64_t end, uint64_t *ret_end)
{
    bool own = cow_map_test(map, first);
    uint64_t page = first;

    while (page < end) {
        uint64_t word = atomic_load_explicit(&map->words[page / PAGES_PER_WORD],
                                             memory_order_acquire);
        uint64_t differs = (own ? ~word : word) & word_mask(page, UINT64_MAX);

        page = page / PAGES_PER_WORD * PAGES_PER_WORD;
        if (differs) {
            page += (unsigned)__builtin_ctzll(differs);
            break;
        }
        page += PAGES_PER_WORD;
    }
    /* A bit that was set since the first look must not make an empty run. */
    if (page <= first)
        page = first + 1;
    *ret_end = page < end ? page : end;
    return own;
}

void cow_map_set(struct cow_map *map, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t index = first / PAGES_PER_WORD;
        uint64_t mask = word_mask(first, end);

        if (~atomic_load_explicit(&map->words[index], memory_order_relaxed) & mask) {
            uint64_t sector = index / COW_SECTOR_WORDS;

            /* The mark after the bits: see cow_map_stage. */
            atomic_fetch_or(&map->words[index], mask);
            atomic_fetch_or(&map->changed[sector / 64], UINT64_C(1) << (sector % 64));
        }
        first = (index + 1) * PAGES_PER_WORD;
    }
}

static void map_stage_sector(struct cow_map *map, uint64_t sector)
{
    uint64_t first = sector * COW_SECTOR_WORDS;

    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++)
        map->staged[first + i] = atomic_load(&map->words[first + i]);
}

void cow_map_stage(struct cow_map *map)
{
    for (uint64_t mark = 0; mark * 64 < map->sectors; mark++) {
        /* The mark is taken before the bits are read. */
        uint64_t marks = atomic_exchange(&map->changed[mark], 0);

        map->staging[mark] = marks;
        for (; marks; marks &= marks - 1)
            map_stage_sector(map, mark * 64 + (unsigned)__builtin_ctzll(marks));
    }
}

bool cow_map_changed(const struct cow_map *map)
{
    for (uint64_t mark = 0; mark * 64 < map->sectors; mark++) {
        if (atomic_load(&map->changed[mark]))
            return true;
    }
    return false;
}

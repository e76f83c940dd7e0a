/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 258 /* none; heat 0-255; two preferences, or 1-256 pages of a block */

int schedule_add_device(struct schedule *schedule, uint64_t pages, unsigned block_pages,
                        const uint8_t *heat)
{
    struct schedule_device *device = &schedule->devices[schedule->count];
    uint64_t blocks = (pages + block_pages - 1) / block_pages;

    if (schedule->count == WIRE_DEVICES_MAX || blocks > UINT32_MAX)
        return -EFBIG;
    device->todo = bitmap_new(pages);
    device->blocks = calloc(blocks ? blocks : 1, sizeof(*device->blocks));
    device->preference = calloc(blocks ? blocks : 1, sizeof(*device->preference));
    if (!device->todo || !device->blocks || !device->preference) {
        free(device->todo);
        free(device->preference);
        free(device->blocks);
        return -ENOMEM;
    }
    device->pages = pages;
    device->block_pages = block_pages;
    device->heat = heat;
    schedule->count++;
    return 0;
}

void schedule_release(struct schedule *schedule)
{
    for (unsigned i = 0; i < schedule->count; i++) {
        free(schedule->devices[i].todo);
        free(schedule->devices[i].preference);
        free(schedule->devices[i].blocks);
    }
    memset(schedule, 0, sizeof(*schedule));
}

void schedule_add_pages(struct schedule *schedule, unsigned index, const uint64_t *bitmap)
{
    struct schedule_device *device = &schedule->devices[index];

    for (size_t word = 0; word < bitmap_words(device->pages); word++)
        device->todo[word] |= bitmap[word];
    device->todo_count = bitmap_count(device->todo, device->pages);
}

void schedule_add_all(struct schedule *schedule, unsigned index)
{
    struct schedule_device *device = &schedule->devices[index];

    bitmap_set_range(device->todo, 0, device->pages);
    device->todo_count = device->pages;
}

void schedule_clear(struct schedule *schedule)
{
    for (unsigned i = 0; i < schedule->count; i++) {
        struct schedule_device *device = &schedule->devices[i];

        memset(device->todo, 0, bitmap_words(device->pages) * sizeof(*device->todo));
        device->todo_count = 0;
    }
    schedule->urgent_count = 0;
}

static uint64_t block_end(const struct schedule_device *device, uint64_t block)
{
    uint64_t end = (block + 1) * device->block_pages;

    return end < device->pages ? end : device->pages;
}

/* 0 when nothing of the block is to be sent, else 1 + its place in the order. */
static unsigned sort_key(const struct schedule_device *device, uint64_t block,
                         enum schedule_order order)
{
    unsigned key = 0, todo = 0;

    for (uint64_t page = bitmap_next_set(device->todo, block * device->block_pages,
                                         block_end(device, block));
         page < block_end(device, block);
         page = bitmap_next_set(device->todo, page + 1, block_end(device, block))) {
        todo++;
        if (device->heat && device->heat[page] > key)
            key = device->heat[page];
    }
    if (!todo)
        return 0;
    if (order != SCHEDULE_SMALLEST_FIRST)
        return 1 + key;
    return device->preference[block] ? device->preference[block] : SCHEDULE_RECENT + todo;
}

static void sort_device(struct schedule_device *device, enum schedule_order order)
{
    uint64_t counts[KEYS + 1] = {0}, blocks = (device->pages + device->block_pages - 1) /
                                              device->block_pages;

    for (uint64_t block = 0; block < blocks; block++)
        counts[sort_key(device, block, order)]++;
    counts[0] = 0;
    for (unsigned key = 1; key <= KEYS; key++)
        counts[key] += counts[key - 1];
    device->block_count = counts[KEYS];
    for (uint64_t block = 0; block < blocks; block++) {
        unsigned key = sort_key(device, block, order);

        if (key)
            device->blocks[counts[key - 1]++] = (uint32_t)block;
    }
    device->next = 0;
}

void schedule_sort(struct schedule *schedule, enum schedule_order order)
{
    for (unsigned i = 0; i < schedule->count; i++)
        sort_device(&schedule->devices[i], order);
    schedule->first = 0;
}

void schedule_prefer(struct schedule *schedule, unsigned index, uint64_t first, uint64_t count,
                     enum schedule_preference preference)
{
    struct schedule_device *device = &schedule->devices[index];

    for (uint64_t block = first / device->block_pages;
         block <= (first + count - 1) / device->block_pages; block++)
        if (!device->preference[block] || device->preference[block] > preference)
            device->preference[block] = (uint8_t)preference;
}

void schedule_urge(struct schedule *schedule, unsigned index, uint64_t page)
{
    struct schedule_device *device = &schedule->devices[index];
    unsigned slot;

    if (schedule->urgent_count == SCHEDULE_URGENT_MAX) {
        schedule->urgent_head = (schedule->urgent_head + 1) % SCHEDULE_URGENT_MAX;
        schedule->urgent_count--;
    }
    slot = (schedule->urgent_head + schedule->urgent_count++) % SCHEDULE_URGENT_MAX;
    schedule->urgent[slot].device = (uint16_t)index;
    schedule->urgent[slot].block = (uint32_t)(page / device->block_pages);
}

/* The first run of a block that is still to be sent. */
static bool take_from_block(struct schedule *schedule, unsigned index, uint64_t block,
                            struct schedule_run *ret_run)
{
    struct schedule_device *device = &schedule->devices[index];
    uint64_t end = block_end(device, block);
    uint64_t first = bitmap_next_set(device->todo, block * device->block_pages, end);
    uint64_t stop;

    if (first >= end)
        return false;
    stop = bitmap_next_clear(device->todo, first, end);
    bitmap_clear_range(device->todo, first, stop - first);
    device->todo_count -= stop - first;
    *ret_run = (struct schedule_run){index, first, (unsigned)(stop - first)};
    return true;
}

static bool take_urgent(struct schedule *schedule, struct schedule_run *ret_run)
{
    while (schedule->urgent_count) {
        unsigned slot = (schedule->urgent_head + schedule->urgent_count - 1) % SCHEDULE_URGENT_MAX;

        if (take_from_block(schedule, schedule->urgent[slot].device, schedule->urgent[slot].block,
                            ret_run))
            return true;
        schedule->urgent_count--;
    }
    return false;
}

bool schedule_take(struct schedule *schedule, struct schedule_run *ret_run)
{
    if (take_urgent(schedule, ret_run))
        return true;
    for (; schedule->first < schedule->count; schedule->first++) {
        struct schedule_device *device = &schedule->devices[schedule->first];

        for (; device->next < device->block_count; device->next++)
            if (take_from_block(schedule, schedule->first, device->blocks[device->next], ret_run))
                return true;
    }
    return false;
}

void schedule_extend(struct schedule *schedule, struct schedule_run *run, const uint64_t *within,
                     unsigned count)
{
    struct schedule_device *device = &schedule->devices[run->device];
    uint64_t end = run->first + run->count;

    for (; run->count < count && end < device->pages && bitmap_test(device->todo, end) &&
           bitmap_test(within, end);
         end++) {
        bitmap_clear(device->todo, end);
        device->todo_count--;
        run->count++;
    }
}

uint64_t schedule_remove(struct schedule *schedule, unsigned index, uint64_t first, uint64_t count)
{
    struct schedule_device *device = &schedule->devices[index];
    uint64_t removed = 0, end = first + count;

    for (uint64_t page = bitmap_next_set(device->todo, first, end); page < end;
         page = bitmap_next_set(device->todo, page + 1, end)) {
        bitmap_clear(device->todo, page);
        removed++;
    }
    device->todo_count -= removed;
    return removed;
}

uint64_t schedule_left(const struct schedule *schedule)
{
    uint64_t left = 0;

    for (unsigned i = 0; i < schedule->count; i++)
        left += schedule->devices[i].todo_count;
    return left;
}

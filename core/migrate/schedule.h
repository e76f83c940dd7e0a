/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What to send next: per device a set of pages still to be sent and an order of its blocks, by counting
 * sort, so that choosing costs O(1) a block.  Pure: no I/O, no lock, no clock.
 */
#ifndef MIGRATE_SCHEDULE_H
#define MIGRATE_SCHEDULE_H

#include "migrate/wire.h"
#include "util/bitmap.h"

enum schedule_order {
    SCHEDULE_COLDEST_FIRST,  /* pre-copy: what is written least is least likely sent in vain */
    SCHEDULE_SMALLEST_FIRST, /* post-copy: lone dirty pages are stacks, page tables, counters; they
                                cost little and stop the guest first */
};

/* What the guest probably wants first, ahead of the order. */
enum schedule_preference { SCHEDULE_ANY, SCHEDULE_NEXT, SCHEDULE_RECENT };

struct schedule_device {
    uint64_t pages, todo_count;
    uint64_t *todo;
    unsigned block_pages;
    const uint8_t *heat; /* borrowed; NULL: all cold */
    uint8_t *preference; /* enum schedule_preference per block; SMALLEST_FIRST looks at it */
    uint32_t *blocks;    /* in the order of sending */
    uint64_t block_count, next;
};

#define SCHEDULE_URGENT_MAX 256

struct schedule {
    struct schedule_device devices[WIRE_DEVICES_MAX];
    unsigned count;
    unsigned first; /* device that sending is at */
    struct { uint16_t device; uint32_t block; } urgent[SCHEDULE_URGENT_MAX]; /* ring, newest last */
    unsigned urgent_head, urgent_count;
};

/* A run of pages inside one block. */
struct schedule_run {
    unsigned device;
    uint64_t first;
    unsigned count;
};

int schedule_add_device(struct schedule *schedule, uint64_t pages, unsigned block_pages,
                        const uint8_t *heat);
void schedule_release(struct schedule *schedule);

/* Adds pages to be sent; schedule_sort must follow before the next take. */
void schedule_add_pages(struct schedule *schedule, unsigned device, const uint64_t *bitmap);
void schedule_add_all(struct schedule *schedule, unsigned device);

/* Nothing is to be sent. */
void schedule_clear(struct schedule *schedule);

/* Orders all that is to be sent anew; devices keep their listed order. */
void schedule_sort(struct schedule *schedule, enum schedule_order order);

/* Blocks that hold pages of the range come first from the next sort on, a better preference stays. */
void schedule_prefer(struct schedule *schedule, unsigned device, uint64_t first, uint64_t count,
                     enum schedule_preference preference);

/* Moves the block of a page to the front: the guest waits near it.  The oldest wish gives way. */
void schedule_urge(struct schedule *schedule, unsigned device, uint64_t page);

/* The next run, which then no longer is to be sent; false: nothing is left. */
bool schedule_take(struct schedule *schedule, struct schedule_run *ret_run);

/* Adds the pages behind the run that are to be sent and set in `within`, up to `count` in all. */
void schedule_extend(struct schedule *schedule, struct schedule_run *run, const uint64_t *within,
                     unsigned count);

/* The pages of the range need not be sent by order any more; returns how many it took out. */
uint64_t schedule_remove(struct schedule *schedule, unsigned device, uint64_t first, uint64_t count);

uint64_t schedule_left(const struct schedule *schedule); /* pages */

#endif

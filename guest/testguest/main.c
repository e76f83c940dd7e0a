/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that proves its own continuity and the identity of its memory.
 *
 * One loop does a slice of each job (fill, sweep, check) and looks at the clock in between, so that
 * a heartbeat is late by a fraction of a millisecond, also where every instruction is emulated. The
 * unit of work is a sector, an eighth of a page. The version that each sector must have follows
 * from two numbers: sweep `sweeps` has rewritten the sectors below `cursor`, so those are one
 * version ahead of the rest of the dirty set, and everything outside the dirty set is at version 0.
 * Hence a page that comes back stale, torn, swapped with another or zeroed after a snapshot or a
 * migration does not match. The sweep looks at a page before it overwrites it: else it would hide
 * exactly what is looked for.
 */
#include "boot.h"
#include "console.h"
#include "pattern.h"

enum { SPARSE_BATCH = 16 }; /* pages dirtied between two looks at the clock */
enum { BAD_LINES_PER_BEAT = 8, BEATS_PER_CHK = 1000 };

struct guest {
    struct boot_options options;
    uint64_t pages, dirty; /* numbers of pages; those under test are [0, pages) */
    uint64_t filled;       /* sectors */
    uint64_t sweeps, cursor;
    uint64_t check_dirty, check_rest; /* next sector to verify in the dirty set and outside of it */
    uint64_t verified, bad;           /* pages; sectors that were found bad */
    uint64_t slice, period;           /* TSC ticks, as are the next three */
    uint64_t next_beat, page_interval, next_page; /* interval 0: as fast as possible */
    uint64_t beats;                               /* sequence number of the last heartbeat */
    unsigned bad_lines;                           /* since the last heartbeat */
};

static struct guest guest;

static uint64_t *sector_at(uint64_t sector)
{
    return (uint64_t *)FILL_START + sector * SECTOR_WORDS;
}

static uint64_t expected_version(const struct guest *g, uint64_t sector)
{
    if (sector >= g->dirty * PAGE_SECTORS)
        return 0;
    return g->sweeps + (sector < g->cursor);
}

static uint64_t body_state(const struct guest *g, uint64_t sector, uint64_t version)
{
    if (!g->options.write_full)
        version = 0;
    return pattern_sector(g->options.key, sector, version);
}

static uint64_t stamp(const struct guest *g, uint64_t sector, uint64_t version)
{
    return pattern_stamp(g->options.key, sector / PAGE_SECTORS, version);
}

static void write_sector(const struct guest *g, uint64_t sector, uint64_t version)
{
    uint64_t *words = sector_at(sector), state = body_state(g, sector, version);

    for (unsigned i = 0; i < SECTOR_WORDS; i++) {
        words[i] = pattern_word(state);
        state = pattern_next(state);
    }
    if (sector % PAGE_SECTORS == 0)
        words[0] = stamp(g, sector, version);
}

static void report_bad(struct guest *g, uint64_t sector, uint64_t want, uint64_t got)
{
    g->bad++;
    if (g->bad_lines++ >= BAD_LINES_PER_BEAT)
        return;
    console_text("BAD page=");
    console_decimal(sector / PAGE_SECTORS);
    console_text(" want=");
    console_hex(want);
    console_text(" got=");
    console_hex(got);
    console_end_line();
}

/* Compares the first n words of a sector with what they must be; reports the first that differs. */
static void verify(struct guest *g, uint64_t sector, unsigned n)
{
    const volatile uint64_t *words = sector_at(sector);
    uint64_t version = expected_version(g, sector), state = body_state(g, sector, version);

    for (unsigned i = 0; i < n; i++) {
        uint64_t want = pattern_word(state), got = words[i];

        if (!i && sector % PAGE_SECTORS == 0)
            want = stamp(g, sector, version);
        if (got != want) {
            report_bad(g, sector, want, got);
            return;
        }
        state = pattern_next(state);
    }
}

/* Returns 1 when all is filled. */
static int fill_step(struct guest *g, uint64_t now)
{
    while (g->filled < g->pages * PAGE_SECTORS) {
        write_sector(g, g->filled++, 0);
        if (read_tsc() - now > g->slice)
            return 0;
    }
    console_text("READY pages=");
    console_decimal(g->pages);
    console_text(" dirty=");
    console_decimal(g->dirty);
    console_end_line();
    g->next_page = now;
    return 1;
}

/* Moves the cursor over one page (sparse) or one sector (full). */
static void dirty_one(struct guest *g)
{
    uint64_t sector = g->cursor;

    if (g->options.write_full) {
        verify(g, sector, sector % PAGE_SECTORS ? 1 : 2);
        write_sector(g, sector, g->sweeps + 1);
        g->cursor++;
    } else {
        uint64_t *words = sector_at(sector), want = stamp(g, sector, g->sweeps), got = words[0];

        if (got != want)
            report_bad(g, sector, want, got);
        words[0] = stamp(g, sector, g->sweeps + 1);
        g->cursor += PAGE_SECTORS;
    }
    if (g->cursor == g->dirty * PAGE_SECTORS) {
        g->cursor = 0;
        g->sweeps++;
    }
}

/* One page, or a batch of them when there is no rate to keep. */
static void dirty_batch(struct guest *g)
{
    int n = g->options.write_full ? PAGE_SECTORS : g->page_interval ? 1 : SPARSE_BATCH;

    while (n-- > 0)
        dirty_one(g);
}

static void dirty_step(struct guest *g, uint64_t now)
{
    /* After a pause, or a TSC that went back, the rate goes on; what was missed is not made up for.
     */
    if ((int64_t)(now - g->next_page) > (int64_t)g->period * 4 ||
        (int64_t)(g->next_page - now) > (int64_t)(g->page_interval + g->period))
        g->next_page = now;
    for (uint64_t t = now; t - now <= g->slice; t = read_tsc()) {
        if (g->page_interval && (int64_t)(t - g->next_page) < 0)
            return;
        dirty_batch(g);
        g->next_page += g->page_interval;
    }
}

static void check_sector(struct guest *g, uint64_t *next, uint64_t first, uint64_t end)
{
    if (first == end)
        return;
    verify(g, *next, SECTOR_WORDS);
    if (++*next % PAGE_SECTORS == 0)
        g->verified++;
    if (*next == end)
        *next = first;
}

static void check_step(struct guest *g, uint64_t now)
{
    /* A storm leaves little time for checks, so that the sweep stays the main load. */
    int storm = g->dirty && !g->page_interval;
    uint64_t slice = storm ? g->slice / 4 : g->slice;

    for (uint64_t t = now; t - now <= slice; t = read_tsc()) {
        check_sector(g, &g->check_dirty, 0, g->dirty * PAGE_SECTORS);
        check_sector(g, &g->check_rest, g->dirty * PAGE_SECTORS, g->pages * PAGE_SECTORS);
    }
}

static void heartbeat(struct guest *g, uint64_t now)
{
    console_text("HB ");
    console_decimal(++g->beats);
    console_text(" ");
    console_decimal(g->sweeps);
    console_text(" ");
    console_decimal(now);
    console_end_line();
    g->bad_lines = 0;
    if (g->beats % BEATS_PER_CHK)
        return;
    console_text("CHK ok=");
    console_decimal(g->verified);
    console_text(" bad=");
    console_decimal(g->bad);
    console_end_line();
}

static void heartbeat_step(struct guest *g, uint64_t now)
{
    int64_t late = (int64_t)(now - g->next_beat);

    if (late < -(int64_t)g->period) {
        g->next_beat = now + g->period; /* the TSC went back: another host */
        return;
    }
    if (late < 0)
        return;
    heartbeat(g, now);
    g->next_beat += g->period;
    if (late > (int64_t)g->period)
        g->next_beat = now + g->period; /* was paused: no burst to catch up */
}

static void set_up(struct guest *g, const void *info, int kind)
{
    struct boot_options *o = &g->options;

    *o = (struct boot_options){
        .fill_mib = 16,
        .key = 1,
        .heartbeat_us = 3000,
        .tsc_khz = 2000000,
    };
    boot_options(info, kind, o);
    uint64_t end = boot_ram_end(info, kind);

    if (o->ram_mib && o->ram_mib < end >> 20)
        end = o->ram_mib << 20;
    uint64_t room = end > FILL_START ? (end - FILL_START) / PAGE_SIZE : 0;

    g->pages = o->fill_mib * 256 < room ? o->fill_mib * 256 : room;
    g->dirty = o->dirty_mib * 256 < g->pages ? o->dirty_mib * 256 : g->pages;
    g->check_rest = g->dirty * PAGE_SECTORS;
    g->slice = o->tsc_khz / 5;
    g->period = o->heartbeat_us * o->tsc_khz / 1000;
    if (!g->period)
        g->period = 1;
    g->page_interval = o->rate ? o->tsc_khz * 1000 / o->rate : 0;
    console_init(o->tsc_khz); /* one millisecond */
    g->next_beat = read_tsc();
}

void guest_main(const void *info, int kind);

void guest_main(const void *info, int kind)
{
    struct guest *g = &guest;

    set_up(g, info, kind);
    for (int ready = 0;;) {
        uint64_t now = read_tsc();

        heartbeat_step(g, now);
        if (!ready) {
            ready = fill_step(g, now);
            continue;
        }
        if (g->dirty)
            dirty_step(g, now);
        if (g->options.check)
            check_step(g, read_tsc());
        else
            __asm__ volatile("pause");
    }
}

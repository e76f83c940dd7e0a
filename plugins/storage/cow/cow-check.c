/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fsck: looks at both files, changes nothing, needs no base.  A defect is what makes content unknown or
 * wrong; what an interrupted run leaves behind harmlessly is a note and not counted.
 */
#include "cow.h"

#include <inttypes.h>
#include <stdio.h>

#define NOTES_MAX 32 /* lines about one kind of remark */

struct check {
    struct cow *cow;
    void (*report)(void *opaque, const char *line);
    void *opaque;
    int defects;
    unsigned torn;
    uint64_t orphans; /* bytes of data in the overlay that no bit of the map covers */
    bool verify;      /* read the data */
    uint64_t own, known, bad; /* pages that the map has, with a checksum, that do not have it */
};

static void check_line(struct check *check, const char *format, ...) DRAFTER_PRINTF(2, 3);
static void check_line(struct check *check, const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    check->report(check->opaque, line);
}

#define check_defect(check, ...) (check_line(check, __VA_ARGS__), (void)(check)->defects++)

static bool copy_torn(const struct check *check, uint32_t sector, const uint8_t *copy)
{
    struct cow_sector content;
    int r = cow_sector_decode(&check->cow->geometry, sector, copy, &content);

    return r < 0 && r != -ENODATA;
}

/* Data in the overlay under the pages of one run without bits. */
static void check_hole(struct check *check, uint64_t first, uint64_t end)
{
    uint64_t at = first << DRAFTER_PAGE_SHIFT, stop = end << DRAFTER_PAGE_SHIFT, data, hole;
    const struct cow_io *io = check->cow->io;

    while (at < stop && io->seek(check->cow->overlay, at, true, &data) == 0 && data < stop) {
        if (data < at || io->seek(check->cow->overlay, data, false, &hole) < 0 || hole <= data)
            return;
        check->orphans += (hole < stop ? hole : stop) - data;
        at = hole;
    }
}

static void check_pages(struct check *check, uint32_t sector, const uint64_t *words)
{
    uint64_t base = (uint64_t)sector * COW_SECTOR_PAGES, pages = check->cow->geometry.pages;
    uint64_t end = pages - base < COW_SECTOR_PAGES ? pages - base : COW_SECTOR_PAGES, start = 0;
    bool beyond = false;

    for (uint64_t i = 0; i < COW_SECTOR_PAGES; i++) {
        bool set = words[i / 64] >> (i % 64) & 1;

        if (i >= end) {
            beyond |= set;
            continue;
        }
        if (set && start < i)
            check_hole(check, base + start, base + i);
        if (set)
            start = i + 1;
    }
    if (start < end)
        check_hole(check, base + start, base + end);
    if (beyond)
        check_defect(check, "%s: map sector %" PRIu32 " has pages beyond the device",
                     check->cow->config->state, sector);
}

static void check_page(struct check *check, uint64_t page, uint32_t sum)
{
    struct cow *cow = check->cow;
    uint64_t at = page << DRAFTER_PAGE_SHIFT, left = cow->geometry.device_size - at;
    size_t length = left < DRAFTER_PAGE_SIZE ? (size_t)left : DRAFTER_PAGE_SIZE;
    uint8_t content[DRAFTER_PAGE_SIZE];
    int r = cow->io->pread(cow->overlay, content, length, at);

    if ((r == 0 && cow_sum(content, length) == sum) || check->bad++ >= NOTES_MAX)
        return;
    check_line(check, "%s: the page at byte %" PRIu64 " %s", cow->config->overlay, at,
               r < 0 ? "cannot be read" : "is not what was written");
}

/* The checksums of a sector's pages, and the pages. */
static void check_sums(struct check *check, uint32_t number, const struct cow_sector *sector)
{
    struct cow *cow = check->cow;
    uint32_t sums[COW_SECTOR_PAGES] = {0};
    uint64_t first = (uint64_t)number * COW_SECTOR_PAGES, own = 0;
    uint8_t block[COW_BLOCK];

    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++)
        own += (unsigned)__builtin_popcountll(sector->words[i]);
    check->own += own;
    if (cow->geometry.plain || sector->warm || own == 0)
        return;
    if (cow->io->pread(cow->state, block, sizeof block, cow_geometry_block(&cow->geometry, number)) < 0 ||
        cow_block_decode(&cow->geometry, number, block, sums) < 0) {
        check_line(check, "note: %s: the checksums of map sector %" PRIu32 " are damaged: its pages are not "
                          "verified", cow->config->state, number);
        return;
    }
    for (uint32_t i = 0; i < COW_SECTOR_PAGES && first + i < cow->geometry.pages; i++) {
        if (!sums[i] || !(sector->words[i / 64] >> (i % 64) & 1))
            continue;
        check->known++;
        if (check->verify)
            check_page(check, first + i, sums[i]);
    }
}

static void check_sector(struct check *check, uint32_t sector, const uint8_t *a, const uint8_t *b)
{
    struct cow_sector content;
    const char *state = check->cow->config->state;
    bool torn_a = copy_torn(check, sector, a), torn_b = copy_torn(check, sector, b);

    if (cow_sector_choose(&check->cow->geometry, sector, a, b, &content) < 0) {
        check_defect(check, "%s: both copies of map sector %" PRIu32 " are damaged", state, sector);
        return;
    }
    if ((torn_a || torn_b) && check->torn++ < NOTES_MAX)
        check_line(check, "note: %s: copy %c of map sector %" PRIu32 " is torn; the other is used",
                   state, torn_a ? 'A' : 'B', sector);
    check_pages(check, sector, content.words);
    check_sums(check, sector, &content);
}

static void check_sectors(struct check *check)
{
    struct cow *cow = check->cow;

    for (uint32_t sector = 0; sector < cow->geometry.sectors; sector++) {
        uint8_t a[COW_SECTOR], b[COW_SECTOR];
        int r = cow_read_sectors(cow, sector, 1, a, b);

        if (r < 0) {
            check_defect(check, "%s: map sector %" PRIu32 " cannot be read (error %d)",
                         cow->config->state, sector, -r);
            return; /* the file ends, or the disk is at fault: not a line per sector */
        }
        check_sector(check, sector, a, b);
    }
    if (check->bad)
        check_defect(check, "%s: %" PRIu64 " of %" PRIu64 " pages are not what was written",
                     cow->config->overlay, check->bad, check->known);
    if (check->verify)
        check_line(check, "note: %s: %" PRIu64 " pages of data, %" PRIu64 " of them have a checksum%s",
                   cow->config->overlay, check->own, check->known,
                   cow->geometry.plain ? " (version 1 has none)" : "");
    if (check->orphans)
        check_line(check, "note: %s: %" PRIu64 " bytes of writes that were never flushed",
                   cow->config->overlay, check->orphans);
}

static void check_overlay(struct check *check)
{
    struct cow *cow = check->cow;
    uint64_t size = 0, trailer = cow_geometry_trailer(&cow->geometry);
    uint8_t sector[COW_SECTOR];
    int r = cow->io->size(cow->overlay, &size);

    if (r == 0 && size != trailer + COW_SECTOR)
        check_defect(check, "%s: has %" PRIu64 " bytes instead of %" PRIu64, cow->config->overlay,
                     size, trailer + COW_SECTOR);
    if (r == 0)
        r = cow->io->pread(cow->overlay, sector, sizeof sector, trailer);
    if (r == 0)
        r = cow_trailer_decode(sector, &cow->geometry);
    if (r < 0)
        check_defect(check, "%s: not the overlay that %s describes", cow->config->overlay,
                     cow->config->state);
}

static void check_pair(struct check *check)
{
    struct cow *cow = check->cow;
    uint64_t size = 0;
    int r = cow_read_header(cow, &cow->geometry);

    if (r < 0) {
        check_defect(check, "%s: %s", cow->config->state,
                     r == -ENODATA   ? "is empty"
                     : r == -ENOTSUP ? "made by another version"
                                     : "both copies of the header are damaged");
        return;
    }
    if (cow->io->size(cow->state, &size) < 0 || size != cow_geometry_state_size(&cow->geometry))
        check_defect(check, "%s: has %" PRIu64 " bytes instead of %" PRIu64, cow->config->state, size,
                     cow_geometry_state_size(&cow->geometry));
    check_overlay(check);
    check_sectors(check);
}

static int check_files(struct check check, struct drafter_error *err)
{
    struct cow *cow = check.cow;
    int r;

    if (cow->opened)
        return drafter_error_set(err, EALREADY, "%s: is open", cow->config->state);
    r = cow->io->open(cow->io_host, cow->config->state, 0, &cow->state);
    if (r < 0)
        r = drafter_error_errno(err, -r, "%s: cannot open", cow->config->state);
    if (r == 0) {
        r = cow->io->open(cow->io_host, cow->config->overlay, 0, &cow->overlay);
        if (r < 0)
            r = drafter_error_errno(err, -r, "%s: cannot open", cow->config->overlay);
    }
    if (r == 0 && cow_read_header(cow, &cow->geometry) == -EPROTO)
        r = drafter_error_set(err, EPROTO, "%s: not a state file of a cow layer", cow->config->state);
    if (r == 0) {
        check_pair(&check);
        r = check.defects;
    }
    cow_close(cow);
    return r;
}

int cow_check(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
              struct drafter_error *err)
{
    return check_files((struct check){.cow = instance, .report = report, .opaque = opaque}, err);
}

int cow_verify(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
               struct drafter_error *err)
{
    return check_files(
        (struct check){.cow = instance, .report = report, .opaque = opaque, .verify = true}, err);
}

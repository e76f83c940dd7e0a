/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes the pair of overlay and state file.
 *
 * Each step is durable before the next: the overlay with its trailer; the state file under a temporary
 * name, slot A as the map is, slot B as zeros, so that it never grows; its name.  So a state file is
 * absent (or empty) or complete, and anything else under its name belongs to somebody else.
 */
#include "cow.h"

#include <endian.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int import_block(struct cow *cow, uint64_t block, struct drafter_error *err)
{
    uint64_t pages = cow->config->import_block_size >> DRAFTER_PAGE_SHIFT;
    uint64_t first = block * pages, end = first + pages;

    if (first >= cow->map.pages)
        return drafter_error_set(err, ERANGE, "%s: block %" PRIu64 " is beyond the device",
                                 cow->config->import, block);
    cow_map_set(&cow->map, first, end < cow->map.pages ? end : cow->map.pages);
    return 0;
}

/* The list of the Go version: block numbers as 32-bit little-endian words, nothing else. */
static int import_list(struct cow *cow, struct drafter_error *err)
{
    uint32_t words[1024];
    uint64_t size = 0;
    void *file;
    int r = cow_open_file(cow, cow->config->import, 0, &file, err);

    if (r < 0)
        return r;
    r = cow->io->size(file, &size);
    if (r == 0 && size % sizeof words[0] != 0)
        r = drafter_error_set(err, EPROTO, "%s: not a list of block numbers", cow->config->import);
    for (uint64_t at = 0; r == 0 && at < size; at += sizeof words) {
        size_t n = size - at < sizeof words ? (size_t)(size - at) : sizeof words;

        r = cow->io->pread(file, words, n, at);
        if (r < 0)
            r = drafter_error_errno(err, -r, "%s: cannot read", cow->config->import);
        for (size_t i = 0; r == 0 && i < n / sizeof words[0]; i++)
            r = import_block(cow, le32toh(words[i]), err);
    }
    cow->io->close(file);
    return r;
}

/* Writes slot A as the map is in memory and slot B as zeros: the file has its full size from now on. */
static int write_slots(struct cow *cow)
{
    uint8_t *batch = calloc(COW_BATCH, COW_SECTOR);
    int r = batch ? 0 : -ENOMEM;

    for (uint32_t first = 0; r == 0 && first < cow->map.sectors; first += COW_BATCH) {
        uint32_t left = cow->map.sectors - first, count = left < COW_BATCH ? left : COW_BATCH;
        size_t length = (size_t)count * COW_SECTOR;

        memset(batch, 0, length);
        r = cow->io->pwrite(cow->state, batch, length, cow_geometry_slot(&cow->geometry, first, 1));
        for (uint32_t i = 0; i < count; i++) {
            struct cow_sector sector = {.sequence = 1, .warm = cow->config->import != NULL};

            memcpy(sector.words, &cow->map.staged[(size_t)(first + i) * COW_SECTOR_WORDS],
                   sizeof sector.words);
            cow_sector_encode(&cow->geometry, first + i, &sector, batch + (size_t)i * COW_SECTOR);
            cow->map.copies[first + i] = (struct cow_copy){.sequence = 1, .slot = 0};
            atomic_store(&cow->sums.heat[first + i], sector.warm ? COW_WARM : COW_COLD);
        }
        if (r == 0)
            r = cow->io->pwrite(cow->state, batch, length,
                                cow_geometry_slot(&cow->geometry, first, 0));
    }
    free(batch);
    return r;
}

static int write_state(struct cow *cow)
{
    uint8_t header[COW_SECTOR];
    int r = cow->io->truncate(cow->state, 0); /* what an earlier try left */

    if (r == 0)
        r = cow->io->truncate(cow->state, cow_geometry_state_size(&cow->geometry));
    cow_header_encode(&cow->geometry, header);
    if (r == 0)
        r = cow->io->pwrite(cow->state, header, sizeof header, 0);
    if (r == 0)
        r = cow->io->pwrite(cow->state, header, sizeof header, COW_HEADER_COPY);
    if (r == 0)
        r = write_slots(cow);
    return r == 0 ? cow->io->sync(cow->state) : r;
}

/* The lock is the inode's: it stays when the file gets its name. */
static int create_state(struct cow *cow, struct drafter_error *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s.new", cow->config->state);
    int r = n < 0 || (size_t)n >= sizeof path ? -ENAMETOOLONG : 0;

    if (r == 0)
        r = cow->io->open(cow->io_host, path, COW_IO_WRITE | COW_IO_CREATE, &cow->state);
    if (r < 0)
        return drafter_error_errno(err, -r, "%s.new: cannot open", cow->config->state);
    r = write_state(cow);
    if (r == 0)
        r = cow->io->rename(cow->io_host, path, cow->config->state);
    if (r < 0) {
        cow->io->remove(cow->io_host, path);
        return drafter_error_errno(err, -r, "%s: cannot make the map", cow->config->state);
    }
    r = cow->io->sync_parent(cow->io_host, cow->config->state);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot sync its directory", cow->config->state)
                 : 0;
}

static int write_overlay(struct cow *cow)
{
    uint64_t trailer = cow_geometry_trailer(&cow->geometry);
    uint8_t sector[COW_SECTOR];
    int r = cow->io->truncate(cow->overlay, trailer + COW_SECTOR);

    cow_trailer_encode(&cow->geometry, sector);
    if (r == 0)
        r = cow->io->pwrite(cow->overlay, sector, sizeof sector, trailer);
    if (r == 0)
        r = cow->io->sync(cow->overlay);
    if (r == 0)
        r = cow->io->sync_parent(cow->io_host, cow->config->overlay);
    return r;
}

/* An overlay without a map may only be empty, or the one whose list is imported. */
static int check_new_overlay(struct cow *cow, struct drafter_error *err)
{
    uint64_t size, data = 0;
    int r = cow->io->size(cow->overlay, &size);

    if (r < 0)
        return drafter_error_errno(err, -r, "%s: cannot stat", cow->config->overlay);
    if (cow->config->import || size == 0)
        return 0;
    if (cow->io->seek(cow->overlay, 0, true, &data) < 0)
        data = 0;
    if (data < size && data < cow_geometry_trailer(&cow->geometry))
        return drafter_error_set(err, EEXIST,
                                 "%s: holds data, but %s has no map of it: not the pair it was",
                                 cow->config->overlay, cow->config->state);
    return 0;
}

int cow_create_pair(struct cow *cow, uint64_t size, struct drafter_error *err)
{
    uint64_t base = cow->base->size(cow->base_instance);
    uint8_t id[16];
    bool found;
    int r;

    if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
        return drafter_error_errno(err, EIO, "cow: no random numbers");
    if (cow_geometry_init(&cow->geometry, size > base ? size : base, base, id) < 0)
        return drafter_error_set(err, EINVAL, "%s: a device cannot have %" PRIu64 " bytes",
                                 cow->config->overlay, size > base ? size : base);
    r = cow_open_file(cow, cow->config->overlay, COW_IO_WRITE | COW_IO_CREATE, &cow->overlay, err);
    if (r == 0)
        r = check_new_overlay(cow, err);
    if (r == 0 && cow_init_map(cow) < 0)
        r = drafter_error_set(err, ENOMEM, "cow: no memory for the map");
    if (r == 0)
        r = cow_keep_map(cow, &found, err);
    if (r == 0 && cow->config->import)
        r = import_list(cow, err);
    if (r < 0)
        return r;
    cow_map_stage(&cow->map);
    r = write_overlay(cow);
    if (r < 0)
        return drafter_error_errno(err, -r, "%s: cannot make the overlay", cow->config->overlay);
    return create_state(cow, err);
}

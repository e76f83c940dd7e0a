/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes and opens the pair of overlay and state file.
 *
 * A pair is made in this order, each step durable before the next: overlay with its trailer, map
 * sectors in slot A (slot B as zeros, so that the file never grows), header.  A state file without a
 * header was therefore never in use and is made anew, unless its overlay holds data: then something
 * else went wrong, and it is refused.
 */
#include "cow.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BATCH 128 /* map sectors per transfer: 64 KiB */

static int open_file(struct cow *cow, const char *path, unsigned flags, void **ret_file,
                     struct drafter_error *err)
{
    int r = cow->io->open(cow->io_host, path, flags, ret_file);

    if (r == -EBUSY)
        return drafter_error_set(err, EBUSY, "%s: in use by another process or instance", path);
    if (r == -EINVAL)
        return drafter_error_set(err, EINVAL, "%s: not a regular file", path);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot open", path) : 0;
}

void cow_close(struct cow *cow)
{
    if (cow->overlay)
        cow->io->close(cow->overlay);
    if (cow->state)
        cow->io->close(cow->state);
    cow->overlay = cow->state = NULL;
    cow->opened = false;
    cow_map_release(&cow->map);
}

int cow_read_header(struct cow *cow, struct cow_geometry *ret_geometry)
{
    uint8_t sector[COW_SECTOR];
    uint64_t size;
    int r = cow->io->size(cow->state, &size), second;

    if (r < 0)
        return r;
    if (size == 0)
        return -ENODATA;
    if (size < COW_MAP_OFFSET)
        return -EPROTO;
    r = cow->io->pread(cow->state, sector, sizeof sector, 0);
    if (r == 0)
        r = cow_header_decode(sector, ret_geometry);
    if (r == 0)
        return 0;
    second = cow->io->pread(cow->state, sector, sizeof sector, COW_HEADER_COPY);
    if (second == 0)
        second = cow_header_decode(sector, ret_geometry);
    return second == 0 || r == -ENODATA ? second : r;
}

int cow_read_sectors(struct cow *cow, uint32_t first, uint32_t count, uint8_t *a, uint8_t *b)
{
    size_t length = (size_t)count * COW_SECTOR;
    int r = cow->io->pread(cow->state, a, length, cow_geometry_slot(&cow->geometry, first, 0));

    if (r < 0)
        return r;
    return cow->io->pread(cow->state, b, length, cow_geometry_slot(&cow->geometry, first, 1));
}

static int load_sector(struct cow *cow, uint32_t sector, const uint8_t *a, const uint8_t *b,
                       struct drafter_error *err)
{
    uint64_t words[COW_SECTOR_WORDS];
    struct cow_copy *copy = &cow->map.copies[sector];
    int slot = cow_sector_choose(&cow->geometry, sector, a, b, &copy->sequence, words);

    if (slot < 0)
        return drafter_error_set(err, EILSEQ,
                                 "%s: both copies of map sector %" PRIu32 " are damaged: which of the "
                                 "pages from %" PRIu64 " on are in the overlay is not known",
                                 cow->config->state, sector, (uint64_t)sector * COW_SECTOR_PAGES);
    copy->slot = (unsigned)slot;
    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++) {
        if (words[i])
            atomic_store_explicit(&cow->map.words[(size_t)sector * COW_SECTOR_WORDS + i], words[i],
                                  memory_order_relaxed);
    }
    return 0;
}

static int load_map(struct cow *cow, struct drafter_error *err)
{
    uint8_t *a = malloc((size_t)2 * BATCH * COW_SECTOR), *b = a + (size_t)BATCH * COW_SECTOR;
    int r = a ? 0 : drafter_error_set(err, ENOMEM, "cow: no memory");

    for (uint32_t first = 0; r == 0 && first < cow->map.sectors; first += BATCH) {
        uint32_t left = cow->map.sectors - first, count = left < BATCH ? left : BATCH;

        r = cow_read_sectors(cow, first, count, a, b);
        if (r < 0)
            r = drafter_error_errno(err, -r, "%s: cannot read the map", cow->config->state);
        for (uint32_t i = 0; r == 0 && i < count; i++)
            r = load_sector(cow, first + i, a + (size_t)i * COW_SECTOR, b + (size_t)i * COW_SECTOR,
                            err);
    }
    free(a);
    return r;
}

static int check_sizes(struct cow *cow, uint64_t size, unsigned flags, struct drafter_error *err)
{
    const struct cow_geometry *geometry = &cow->geometry;
    uint64_t base = cow->base->size(cow->base_instance), file_size;
    bool fits = flags & DRAFTER_STORAGE_CREATE ? size <= geometry->device_size
                                               : size == 0 || size == geometry->device_size;
    int r;

    if (geometry->base_size != base)
        return drafter_error_set(err, ESTALE,
                                 "%s: made for a base of %" PRIu64 " bytes, this base has %" PRIu64,
                                 cow->config->state, geometry->base_size, base);
    if (!fits)
        return drafter_error_set(err, ESTALE,
                                 "%s: made for a device of %" PRIu64 " bytes, not %" PRIu64,
                                 cow->config->state, geometry->device_size, size);
    r = cow->io->size(cow->state, &file_size);
    if (r == 0 && file_size < cow_geometry_state_size(geometry))
        return drafter_error_set(err, EILSEQ, "%s: cut off: %" PRIu64 " of %" PRIu64 " bytes",
                                 cow->config->state, file_size, cow_geometry_state_size(geometry));
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot stat", cow->config->state) : 0;
}

static int check_trailer(struct cow *cow, struct drafter_error *err)
{
    uint8_t sector[COW_SECTOR];
    int r = cow->io->pread(cow->overlay, sector, sizeof sector, cow_geometry_trailer(&cow->geometry));

    if (r == 0)
        r = cow_trailer_decode(sector, &cow->geometry);
    if (r == 0)
        return 0;
    if (r == -ENODATA || r == -EPROTO || r == -EILSEQ)
        return drafter_error_set(err, ESTALE, "%s: not the overlay that %s describes",
                                 cow->config->overlay, cow->config->state);
    return drafter_error_errno(err, -r, "%s: cannot read", cow->config->overlay);
}

/*
 * What a killed process wrote may still be in the page cache only.  The slots must not move on from
 * copies that the disk does not have.
 */
static int sync_both(struct cow *cow, struct drafter_error *err)
{
    int r = cow->io->sync(cow->overlay);

    if (r == 0)
        r = cow->io->sync(cow->state);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot sync", cow->config->overlay) : 0;
}

static int open_pair(struct cow *cow, uint64_t size, unsigned flags, struct drafter_error *err)
{
    unsigned mode = cow->readonly ? 0 : COW_IO_WRITE;
    int r = check_sizes(cow, size, flags, err);

    if (r == 0)
        r = open_file(cow, cow->config->overlay, mode, &cow->overlay, err);
    if (r == 0)
        r = check_trailer(cow, err);
    if (r == 0 && !cow->readonly)
        r = sync_both(cow, err);
    if (r == 0 && cow_map_init(&cow->map, &cow->geometry) < 0)
        r = drafter_error_set(err, ENOMEM, "cow: no memory for the map of %" PRIu64 " pages",
                              cow->geometry.pages);
    return r == 0 ? load_map(cow, err) : r;
}

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
    int r = open_file(cow, cow->config->import, 0, &file, err);

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
    uint8_t *batch = calloc(BATCH, COW_SECTOR);
    int r = batch ? 0 : -ENOMEM;

    for (uint32_t first = 0; r == 0 && first < cow->map.sectors; first += BATCH) {
        uint32_t left = cow->map.sectors - first, count = left < BATCH ? left : BATCH;
        size_t length = (size_t)count * COW_SECTOR;

        memset(batch, 0, length);
        r = cow->io->pwrite(cow->state, batch, length, cow_geometry_slot(&cow->geometry, first, 1));
        for (uint32_t i = 0; i < count; i++) {
            cow_sector_encode(&cow->geometry, first + i, 1,
                              &cow->map.staged[(size_t)(first + i) * COW_SECTOR_WORDS],
                              batch + (size_t)i * COW_SECTOR);
            cow->map.copies[first + i] = (struct cow_copy){.sequence = 1, .slot = 0};
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
    int r = cow->io->truncate(cow->state, 0);

    if (r == 0)
        r = cow->io->truncate(cow->state, cow_geometry_state_size(&cow->geometry));
    if (r == 0)
        r = write_slots(cow);
    if (r == 0)
        r = cow->io->sync(cow->state);
    if (r == 0)
        r = cow->io->sync_parent(cow->io_host, cow->config->state);
    cow_header_encode(&cow->geometry, header);
    if (r == 0)
        r = cow->io->pwrite(cow->state, header, sizeof header, 0);
    if (r == 0)
        r = cow->io->pwrite(cow->state, header, sizeof header, COW_HEADER_COPY);
    if (r == 0)
        r = cow->io->sync(cow->state);
    return r;
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

static int create_pair(struct cow *cow, uint64_t size, struct drafter_error *err)
{
    uint64_t base = cow->base->size(cow->base_instance);
    uint8_t id[16];
    int r;

    if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
        return drafter_error_errno(err, EIO, "cow: no random numbers");
    if (cow_geometry_init(&cow->geometry, size > base ? size : base, base, id) < 0)
        return drafter_error_set(err, EINVAL, "%s: a device cannot have %" PRIu64 " bytes",
                                 cow->config->overlay, size > base ? size : base);
    r = open_file(cow, cow->config->overlay, COW_IO_WRITE | COW_IO_CREATE, &cow->overlay, err);
    if (r == 0)
        r = check_new_overlay(cow, err);
    if (r == 0 && cow_map_init(&cow->map, &cow->geometry) < 0)
        r = drafter_error_set(err, ENOMEM, "cow: no memory for the map");
    if (r == 0 && cow->config->import)
        r = import_list(cow, err);
    if (r < 0)
        return r;
    cow_map_stage(&cow->map);
    r = write_overlay(cow);
    if (r < 0)
        return drafter_error_errno(err, -r, "%s: cannot make the overlay", cow->config->overlay);
    r = write_state(cow);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot make the map", cow->config->state) : 0;
}

static int open_state(struct cow *cow, uint64_t size, unsigned flags, struct drafter_error *err)
{
    bool create = flags & DRAFTER_STORAGE_CREATE && !cow->readonly;
    unsigned mode = (cow->readonly ? 0 : COW_IO_WRITE) | (create ? COW_IO_CREATE : 0);
    int r = open_file(cow, cow->config->state, mode, &cow->state, err);

    if (r < 0)
        return r;
    r = cow_read_header(cow, &cow->geometry);
    switch (r) {
    case 0:
        return open_pair(cow, size, flags, err);
    case -ENODATA:
        if (create)
            return create_pair(cow, size, err);
        return drafter_error_set(err, ENOENT, "%s: has no map", cow->config->state);
    case -EPROTO:
        return drafter_error_set(err, EPROTO, "%s: not a state file of a cow layer",
                                 cow->config->state);
    case -ENOTSUP:
        return drafter_error_set(err, ENOTSUP, "%s: made by another version", cow->config->state);
    case -EILSEQ:
        return drafter_error_set(err, EILSEQ, "%s: both copies of the header are damaged",
                                 cow->config->state);
    default:
        return drafter_error_errno(err, -r, "%s: cannot read the header", cow->config->state);
    }
}

int cow_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct cow *cow = instance;
    int r;

    if (cow->opened)
        return drafter_error_set(err, EALREADY, "%s: is open", cow->config->state);
    cow->readonly = flags & DRAFTER_STORAGE_READONLY;
    r = open_state(cow, size, flags, err);
    if (r < 0) {
        cow_close(cow);
        return r;
    }
    cow->opened = true;
    return 0;
}

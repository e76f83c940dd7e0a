/* SPDX-License-Identifier: BSD-2-Clause */
/* Opens the pair of overlay and state file, after checking that they are one. */
#include "cow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_error(const char *path, int r, struct drafter_error *err)
{
    if (r == -EBUSY)
        return drafter_error_set(err, EBUSY, "%s: in use by another process or instance", path);
    return drafter_error_errno(err, -r, "%s: cannot open", path);
}

int cow_open_file(struct cow *cow, const char *path, unsigned flags, void **ret_file,
                  struct drafter_error *err)
{
    int r = cow->io->open(cow->io_host, path, flags, ret_file);

    return r < 0 ? open_error(path, r, err) : 0;
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
    cow_sums_release(&cow->sums);
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
    if (second == 0)
        return 0;
    return r == -ENODATA || r == -EPROTO ? (second == -ENODATA ? -EPROTO : second) : r;
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
    struct cow_sector content, other;
    struct cow_copy *copy = &cow->map.copies[sector];
    int slot = cow_sector_choose(&cow->geometry, sector, a, b, &content), r;
    bool ahead = false;

    if (slot < 0)
        return drafter_error_set(err, EILSEQ,
                                 "%s: both copies of map sector %" PRIu32 " are damaged: which of the "
                                 "pages from %" PRIu64 " on are in the overlay is not known",
                                 cow->config->state, sector, (uint64_t)sector * COW_SECTOR_PAGES);
    copy->slot = (unsigned)slot;
    copy->sequence = content.sequence;
    copy->both = cow_sector_decode(&cow->geometry, sector, slot == 0 ? b : a, &other) == 0 &&
                 other.warm == content.warm &&
                 memcmp(other.words, content.words, sizeof other.words) == 0;
    memcpy(&cow->map.staged[(size_t)sector * COW_SECTOR_WORDS], content.words, sizeof content.words);
    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++) {
        _Atomic uint64_t *word = &cow->map.words[(size_t)sector * COW_SECTOR_WORDS + i];
        uint64_t set = content.words[i], before = set ? atomic_fetch_or(word, set) : atomic_load(word);

        ahead |= (before & ~set) != 0; /* of a drafter that died before it flushed */
    }
    if (ahead)
        atomic_fetch_or(&cow->map.changed[sector / 64], UINT64_C(1) << (sector % 64));
    r = cow_heat_load(cow, sector, content.words, content.warm, ahead);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot read the checksums", cow->config->state) : 0;
}

/* The map and, unless the overlay is of a version without them, checksums. */
int cow_init_map(struct cow *cow)
{
    static const uint8_t zeros[DRAFTER_PAGE_SIZE];
    int r = cow_map_init(&cow->map, &cow->geometry);

    if (r == 0 && !cow->geometry.plain)
        r = cow_sums_init(&cow->sums, &cow->geometry);
    cow->zero_sum = cow_sum(zeros, sizeof zeros);
    return r;
}

int cow_keep_map(struct cow *cow, bool *ret_found, struct drafter_error *err)
{
    size_t size = (size_t)cow->geometry.sectors * COW_SECTOR_WORDS * sizeof(uint64_t);
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t id[2];
    void *memory;
    int r;

    *ret_found = false;
    if (!cow->keeper || cow->readonly)
        return 0;
    memcpy(id, cow->geometry.id, sizeof id);
    snprintf(name, sizeof name, "map-%016" PRIx64 "%016" PRIx64, id[0], id[1]);
    r = cow->keeper->memory(cow->keeper->opaque, name, size, &memory, ret_found);
    if (r < 0)
        return drafter_error_errno(err, -r, "%s: cannot keep the map", cow->config->state);
    free(cow->map.words);
    cow->map.words = memory;
    cow->map.kept_size = size;
    return 0;
}

static int load_map(struct cow *cow, struct drafter_error *err)
{
    uint8_t *a = malloc((size_t)2 * COW_BATCH * COW_SECTOR), *b = a + (size_t)COW_BATCH * COW_SECTOR;
    int r = a ? 0 : drafter_error_set(err, ENOMEM, "cow: no memory");

    for (uint32_t first = 0; r == 0 && first < cow->map.sectors; first += COW_BATCH) {
        uint32_t left = cow->map.sectors - first, count = left < COW_BATCH ? left : COW_BATCH;

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
 * copies that the disk does not have.  With the killed process's map in hand the power never failed: then
 * the data of those copies was synced before they were written, and a VM waits for us.
 */
static int sync_pair(struct cow *cow, bool adopted, struct drafter_error *err)
{
    int r = adopted ? 0 : cow->io->sync(cow->overlay);

    if (r == 0)
        r = cow->io->sync(cow->state);
    return r < 0 ? drafter_error_errno(err, -r, "%s: cannot sync", cow->config->overlay) : 0;
}

static int open_pair(struct cow *cow, uint64_t size, unsigned flags, struct drafter_error *err)
{
    unsigned mode = cow->readonly ? 0 : COW_IO_WRITE;
    int r = check_sizes(cow, size, flags, err);
    bool adopted = false;

    if (r == 0)
        r = cow_open_file(cow, cow->config->overlay, mode, &cow->overlay, err);
    if (r == 0)
        r = check_trailer(cow, err);
    if (r == 0 && cow_init_map(cow) < 0)
        r = drafter_error_set(err, ENOMEM, "cow: no memory for the map of %" PRIu64 " pages",
                              cow->geometry.pages);
    if (r == 0)
        r = cow_keep_map(cow, &adopted, err);
    if (r == 0 && !cow->readonly)
        r = sync_pair(cow, adopted, err);
    return r == 0 ? load_map(cow, err) : r;
}

static int open_state(struct cow *cow, uint64_t size, unsigned flags, struct drafter_error *err)
{
    bool create = flags & DRAFTER_STORAGE_CREATE && !cow->readonly;
    unsigned mode = cow->readonly ? 0 : COW_IO_WRITE;
    int r = cow->io->open(cow->io_host, cow->config->state, mode, &cow->state);

    if (r == 0)
        r = cow_read_header(cow, &cow->geometry);
    else if (r != -ENOENT || !create)
        return open_error(cow->config->state, r, err);
    switch (r) {
    case 0:
        return open_pair(cow, size, flags, err);
    case -ENOENT:
    case -ENODATA:
        if (!create)
            return drafter_error_set(err, ENOENT, "%s: is empty", cow->config->state);
        cow_close(cow);
        return cow_create_pair(cow, size, err);
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
    r = cow->base->open(cow->base_instance, 0, DRAFTER_STORAGE_READONLY, err);
    if (r < 0)
        return r;
    cow->readonly = flags & DRAFTER_STORAGE_READONLY;
    r = open_state(cow, size, flags, err);
    if (r < 0) {
        cow_close(cow);
        return r;
    }
    cow->opened = true;
    return 0;
}

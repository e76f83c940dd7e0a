/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The map of a copy-on-write layer: one bit per page, set once the page's content is in the overlay,
 * never cleared; and its form on disk.  No I/O here.
 *
 * State file, little endian:
 *
 *        0  header, and the same again at 4096
 *     8192  slot A: the map in sectors of 512 bytes
 *        B  slot B: the same number of sectors, from the next multiple of 4096
 *        C  checksums of pages: 16 KiB for each map sector (cow-sums.h)
 *
 * Each map sector stands alone: number, sequence, 480 bytes of bitmap, flags, checksum.  An update goes to
 * the slot that does not hold the newest valid copy, so that a torn update leaves the one before it.
 * The newest valid copy counts.  A sector without any valid copy is an error, never zeros.
 *
 * The checksum is XXH3-64 seeded with the overlay's id: sectors of another state file do not verify.
 * The same id is in a trailer behind the last page of the overlay, so a map is never used with an
 * overlay it does not belong to.
 */
#ifndef COW_MAP_H
#define COW_MAP_H

#include <drafter/common.h>
#include <stdatomic.h>

#define COW_SECTOR 512
#define COW_SECTOR_WORDS 60
#define COW_SECTOR_PAGES (COW_SECTOR_WORDS * 64)
#define COW_BLOCK 16384 /* checksums of a sector's pages, and their own */
#define COW_HEADER_COPY 4096 /* offset of the header's second copy */
#define COW_MAP_OFFSET 8192
#define COW_DEVICE_MAX (UINT64_C(1) << 46) /* 64 TiB: bounds the memory that a header can claim */

struct cow_geometry {
    uint64_t device_size, base_size;
    uint64_t pages;
    uint32_t sectors;
    bool plain; /* version 1: no checksums */
    uint8_t id[16];
};

/* Derives pages and sectors; -EFBIG for a device beyond COW_DEVICE_MAX, -EINVAL for an empty one. */
int cow_geometry_init(struct cow_geometry *geometry, uint64_t device_size, uint64_t base_size,
                      const uint8_t id[16]);
uint64_t cow_geometry_state_size(const struct cow_geometry *geometry);
uint64_t cow_geometry_slot(const struct cow_geometry *geometry, uint32_t sector, unsigned slot);
uint64_t cow_geometry_block(const struct cow_geometry *geometry, uint32_t sector);
uint64_t cow_geometry_trailer(const struct cow_geometry *geometry); /* its offset in the overlay */

/*
 * Decoding: 0, -ENODATA for zeros (never written), -EPROTO for anything else's bytes, -EILSEQ for a
 * wrong checksum, -ENOTSUP for another version or page size.
 */
void cow_header_encode(const struct cow_geometry *geometry, uint8_t out[COW_SECTOR]);
int cow_header_decode(const uint8_t in[COW_SECTOR], struct cow_geometry *ret_geometry);
void cow_trailer_encode(const struct cow_geometry *geometry, uint8_t out[COW_SECTOR]);
int cow_trailer_decode(const uint8_t in[COW_SECTOR], const struct cow_geometry *geometry);

struct cow_sector {
    uint64_t sequence;
    bool warm; /* its checksums do not count */
    uint64_t words[COW_SECTOR_WORDS];
};

void cow_sector_encode(const struct cow_geometry *geometry, uint32_t number,
                       const struct cow_sector *sector, uint8_t out[COW_SECTOR]);
int cow_sector_decode(const struct cow_geometry *geometry, uint32_t number,
                      const uint8_t in[COW_SECTOR], struct cow_sector *ret_sector);

/*
 * Of both copies of a sector the newest valid one: its slot, or the error of the copy that went wrong
 * when neither is valid.
 */
int cow_sector_choose(const struct cow_geometry *geometry, uint32_t number,
                      const uint8_t a[COW_SECTOR], const uint8_t b[COW_SECTOR],
                      struct cow_sector *ret_sector);

/* Checksums of a sector's pages; decoding answers 0 or -EILSEQ. */
void cow_block_encode(const struct cow_geometry *geometry, uint32_t sector,
                      const uint32_t sums[COW_SECTOR_PAGES], uint8_t out[COW_BLOCK]);
int cow_block_decode(const struct cow_geometry *geometry, uint32_t sector, const uint8_t in[COW_BLOCK],
                     uint32_t ret_sums[COW_SECTOR_PAGES]);

/* Where the newest durable copy of a sector is.  Written by the one flush that runs. */
struct cow_copy {
    uint64_t sequence;
    unsigned slot;
    bool both; /* the other slot says the same: damage to either does not matter */
};

struct cow_map {
    uint64_t pages;
    uint32_t sectors;
    _Atomic uint64_t *words;   /* bit per page: in the overlay */
    size_t kept_size;          /* bytes of `words` as a mapping; 0: it is from the heap */
    _Atomic uint64_t *changed; /* bit per sector: has bits that are not on disk */
    uint64_t *staged;          /* what the running flush writes; sectors * COW_SECTOR_WORDS */
    uint64_t *staging;         /* bit per sector: in `staged` */
    struct cow_copy *copies;
};

int cow_map_init(struct cow_map *map, const struct cow_geometry *geometry);
void cow_map_release(struct cow_map *map);

static inline bool cow_map_test(const struct cow_map *map, uint64_t page)
{
    return atomic_load_explicit(&map->words[page / 64], memory_order_acquire) >> (page % 64) & 1;
}

/* Whether `first` is set, and in *ret_end how far (at most to `end`) the same holds. */
bool cow_map_run(const struct cow_map *map, uint64_t first, uint64_t end, uint64_t *ret_end);

/* Marks [first, end) after their content was written to the overlay. */
void cow_map_set(struct cow_map *map, uint64_t first, uint64_t end);

/*
 * Copies every changed sector to `staged` and takes its changed mark.  A bit that is set meanwhile is
 * either in the copy or still marked as changed afterwards.
 */
void cow_map_stage(struct cow_map *map);

bool cow_map_changed(const struct cow_map *map);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* The state file and the trailer of the overlay on disk; see cow-map.h. */
#include "cow-map.h"

#include <endian.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define FORMAT_VERSION 2
#define FORMAT_PLAIN 1 /* the version before checksums of pages */
#define HEADER_MAGIC "DRFTCOWM"
#define TRAILER_MAGIC "DRFTCOWD"
#define FLAG_WARM 1u
#define SECTOR_MAGIC UINT32_C(0x50414d43) /* "CMAP" */

struct disk_header {
    char magic[8];
    uint32_t version, page_size;
    uint64_t device_size, base_size;
    uint8_t id[16];
    uint32_t sectors, reserved;
    uint8_t zeros[448];
    uint64_t checksum;
};

struct disk_sector {
    uint32_t magic, number;
    uint64_t sequence;
    uint64_t words[COW_SECTOR_WORDS];
    uint64_t flags;
    uint64_t checksum;
};

_Static_assert(sizeof(struct disk_header) == COW_SECTOR, "header is one sector");
_Static_assert(sizeof(struct disk_sector) == COW_SECTOR, "map sector is one sector");

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t checksum(const void *sector, const uint8_t id[16])
{
    uint64_t seed;

    memcpy(&seed, id, sizeof seed);
    return XXH3_64bits_withSeed(sector, COW_SECTOR - sizeof seed, le64toh(seed));
}

static bool all_zero(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, COW_SECTOR - 1) == 0;
}

int cow_geometry_init(struct cow_geometry *geometry, uint64_t device_size, uint64_t base_size,
                      const uint8_t id[16])
{
    if (device_size == 0 || base_size > device_size)
        return -EINVAL;
    if (device_size > COW_DEVICE_MAX)
        return -EFBIG;
    geometry->plain = false;
    geometry->device_size = device_size;
    geometry->base_size = base_size;
    geometry->pages = (device_size + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;
    geometry->sectors = (uint32_t)((geometry->pages + COW_SECTOR_PAGES - 1) / COW_SECTOR_PAGES);
    memcpy(geometry->id, id, sizeof geometry->id);
    return 0;
}

uint64_t cow_geometry_slot(const struct cow_geometry *geometry, uint32_t sector, unsigned slot)
{
    /* Slots share no 4 KiB block, the unit in which the kernel writes the file back. */
    uint64_t slot_size = round_up((uint64_t)geometry->sectors * COW_SECTOR, DRAFTER_PAGE_SIZE);

    return COW_MAP_OFFSET + slot * slot_size + (uint64_t)sector * COW_SECTOR;
}

uint64_t cow_geometry_state_size(const struct cow_geometry *geometry)
{
    return cow_geometry_block(geometry, geometry->plain ? 0 : geometry->sectors);
}

uint64_t cow_geometry_block(const struct cow_geometry *geometry, uint32_t sector)
{
    return cow_geometry_slot(geometry, 0, 2) + (uint64_t)sector * COW_BLOCK;
}

uint64_t cow_geometry_trailer(const struct cow_geometry *geometry)
{
    return geometry->pages << DRAFTER_PAGE_SHIFT;
}

static void header_encode(const struct cow_geometry *geometry, const char *magic,
                          uint8_t out[COW_SECTOR])
{
    struct disk_header header = {
        .version = htole32(geometry->plain ? FORMAT_PLAIN : FORMAT_VERSION),
        .page_size = htole32((uint32_t)DRAFTER_PAGE_SIZE),
        .device_size = htole64(geometry->device_size),
        .base_size = htole64(geometry->base_size),
        .sectors = htole32(geometry->sectors),
    };

    memcpy(header.magic, magic, sizeof header.magic);
    memcpy(header.id, geometry->id, sizeof header.id);
    header.checksum = htole64(checksum(&header, geometry->id));
    memcpy(out, &header, sizeof header);
}

static int header_decode(const uint8_t in[COW_SECTOR], const char *magic,
                         struct cow_geometry *ret_geometry)
{
    struct disk_header header;
    struct cow_geometry geometry;

    memcpy(&header, in, sizeof header);
    if (all_zero(in))
        return -ENODATA;
    if (memcmp(header.magic, magic, sizeof header.magic) != 0)
        return -EPROTO;
    if (le64toh(header.checksum) != checksum(&header, header.id))
        return -EILSEQ;
    if ((le32toh(header.version) != FORMAT_VERSION && le32toh(header.version) != FORMAT_PLAIN) ||
        le32toh(header.page_size) != DRAFTER_PAGE_SIZE)
        return -ENOTSUP;
    if (cow_geometry_init(&geometry, le64toh(header.device_size), le64toh(header.base_size),
                          header.id) < 0 ||
        geometry.sectors != le32toh(header.sectors))
        return -EILSEQ;
    geometry.plain = le32toh(header.version) == FORMAT_PLAIN;
    *ret_geometry = geometry;
    return 0;
}

void cow_header_encode(const struct cow_geometry *geometry, uint8_t out[COW_SECTOR])
{
    header_encode(geometry, HEADER_MAGIC, out);
}

int cow_header_decode(const uint8_t in[COW_SECTOR], struct cow_geometry *ret_geometry)
{
    return header_decode(in, HEADER_MAGIC, ret_geometry);
}

void cow_trailer_encode(const struct cow_geometry *geometry, uint8_t out[COW_SECTOR])
{
    header_encode(geometry, TRAILER_MAGIC, out);
}

int cow_trailer_decode(const uint8_t in[COW_SECTOR], const struct cow_geometry *geometry)
{
    struct cow_geometry found;
    int r = header_decode(in, TRAILER_MAGIC, &found);

    if (r < 0)
        return r;
    return memcmp(found.id, geometry->id, sizeof found.id) == 0 ? 0 : -EPROTO;
}

void cow_sector_encode(const struct cow_geometry *geometry, uint32_t number,
                       const struct cow_sector *sector, uint8_t out[COW_SECTOR])
{
    struct disk_sector disk = {
        .magic = htole32(SECTOR_MAGIC),
        .number = htole32(number),
        .sequence = htole64(sector->sequence),
        .flags = htole64(sector->warm ? FLAG_WARM : 0),
    };

    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++)
        disk.words[i] = htole64(sector->words[i]);
    disk.checksum = htole64(checksum(&disk, geometry->id));
    memcpy(out, &disk, sizeof disk);
}

int cow_sector_decode(const struct cow_geometry *geometry, uint32_t number,
                      const uint8_t in[COW_SECTOR], struct cow_sector *ret_sector)
{
    struct disk_sector disk;

    memcpy(&disk, in, sizeof disk);
    if (all_zero(in))
        return -ENODATA;
    if (le32toh(disk.magic) != SECTOR_MAGIC || le32toh(disk.number) != number)
        return -EPROTO;
    if (le64toh(disk.checksum) != checksum(&disk, geometry->id))
        return -EILSEQ;
    ret_sector->sequence = le64toh(disk.sequence);
    ret_sector->warm = le64toh(disk.flags) & FLAG_WARM;
    for (unsigned i = 0; i < COW_SECTOR_WORDS; i++)
        ret_sector->words[i] = le64toh(disk.words[i]);
    return 0;
}

int cow_sector_choose(const struct cow_geometry *geometry, uint32_t number,
                      const uint8_t a[COW_SECTOR], const uint8_t b[COW_SECTOR],
                      struct cow_sector *ret_sector)
{
    struct cow_sector other;
    int r_a = cow_sector_decode(geometry, number, a, ret_sector);
    int r_b = cow_sector_decode(geometry, number, b, &other);

    if (r_a < 0 && r_b < 0)
        return r_a == -ENODATA ? r_b : r_a;
    if (r_b == 0 && (r_a < 0 || other.sequence > ret_sector->sequence)) {
        *ret_sector = other;
        return 1;
    }
    return 0;
}

/* The pages' checksums, the sector's number, zeros, and a checksum of all that. */
static uint64_t block_checksum(const struct cow_geometry *geometry, const uint8_t *block)
{
    uint64_t seed;

    memcpy(&seed, geometry->id, sizeof seed);
    return XXH3_64bits_withSeed(block, COW_BLOCK - sizeof seed, le64toh(seed));
}

void cow_block_encode(const struct cow_geometry *geometry, uint32_t sector,
                      const uint32_t sums[COW_SECTOR_PAGES], uint8_t out[COW_BLOCK])
{
    uint32_t words[COW_BLOCK / sizeof(uint32_t)] = {0};
    uint64_t sum;

    for (unsigned i = 0; i < COW_SECTOR_PAGES; i++)
        words[i] = htole32(sums[i]);
    words[COW_SECTOR_PAGES] = htole32(sector);
    memcpy(out, words, sizeof words);
    sum = htole64(block_checksum(geometry, out));
    memcpy(out + COW_BLOCK - sizeof sum, &sum, sizeof sum);
}

int cow_block_decode(const struct cow_geometry *geometry, uint32_t sector, const uint8_t in[COW_BLOCK],
                     uint32_t ret_sums[COW_SECTOR_PAGES])
{
    uint32_t words[COW_SECTOR_PAGES + 1];
    uint64_t sum;

    memcpy(words, in, sizeof words);
    memcpy(&sum, in + COW_BLOCK - sizeof sum, sizeof sum);
    if (le64toh(sum) != block_checksum(geometry, in) || le32toh(words[COW_SECTOR_PAGES]) != sector)
        return -EILSEQ;
    for (unsigned i = 0; i < COW_SECTOR_PAGES; i++)
        ret_sums[i] = le32toh(words[i]);
    return 0;
}

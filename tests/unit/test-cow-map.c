/* SPDX-License-Identifier: BSD-2-Clause */
/* The map of the cow plugin in memory and on disk. */
#include "unit.h"

#include "../../plugins/storage/cow/cow-map.h"

static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static struct cow_geometry geometry_of(uint64_t pages)
{
    struct cow_geometry geometry;

    ck_assert_int_eq(cow_geometry_init(&geometry, pages * 4096, 4096, id), 0);
    return geometry;
}

START_TEST(geometry_counts_the_short_last_page)
{
    struct cow_geometry geometry;

    ck_assert_int_eq(cow_geometry_init(&geometry, 3840 * 4096 + 1, 0, id), 0);
    ck_assert_uint_eq(geometry.pages, 3841);
    ck_assert_uint_eq(geometry.sectors, 2);
    ck_assert_int_eq(cow_geometry_init(&geometry, 0, 0, id), -EINVAL);
    ck_assert_int_eq(cow_geometry_init(&geometry, 4096, 4097, id), -EINVAL);
    ck_assert_int_eq(cow_geometry_init(&geometry, COW_DEVICE_MAX + 1, 0, id), -EFBIG);
}
END_TEST

START_TEST(slots_share_no_block)
{
    struct cow_geometry geometry = geometry_of(9 * 3840);

    ck_assert_uint_eq(cow_geometry_slot(&geometry, 0, 0), 8192);
    ck_assert_uint_eq(cow_geometry_slot(&geometry, 8, 0), 8192 + 4096);
    ck_assert_uint_eq(cow_geometry_slot(&geometry, 0, 1), 8192 + 8192);
    ck_assert_uint_eq(cow_geometry_block(&geometry, 1), 8192 + 2 * 8192 + 16384);
    ck_assert_uint_eq(cow_geometry_state_size(&geometry), 8192 + 2 * 8192 + 9 * 16384);
    geometry.plain = true;
    ck_assert_uint_eq(cow_geometry_state_size(&geometry), 8192 + 2 * 8192);
}
END_TEST

START_TEST(a_header_survives_the_disk)
{
    struct cow_geometry geometry = geometry_of(100), found;
    uint8_t sector[COW_SECTOR], zeros[COW_SECTOR] = {0};

    cow_header_encode(&geometry, sector);
    ck_assert_int_eq(cow_header_decode(sector, &found), 0);
    ck_assert_uint_eq(found.device_size, geometry.device_size);
    ck_assert_uint_eq(found.base_size, geometry.base_size);
    ck_assert_mem_eq(found.id, id, 16);
    ck_assert(!found.plain);
    geometry.plain = true;
    cow_header_encode(&geometry, sector);
    ck_assert_int_eq(cow_header_decode(sector, &found), 0);
    ck_assert(found.plain);
    ck_assert_int_eq(cow_header_decode(zeros, &found), -ENODATA);
    ck_assert_int_eq(cow_trailer_decode(sector, &geometry), -EPROTO);
}
END_TEST

START_TEST(every_flipped_bit_of_a_header_is_found)
{
    struct cow_geometry geometry = geometry_of(100), found;
    uint8_t sector[COW_SECTOR];

    cow_header_encode(&geometry, sector);
    for (unsigned bit = 0; bit < COW_SECTOR * 8; bit++) {
        sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (cow_header_decode(sector, &found) == 0)
            ck_abort_msg("bit %u is not covered", bit);
        sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(a_sector_is_known_by_number_and_overlay)
{
    struct cow_geometry geometry = geometry_of(100), other = geometry;
    struct cow_sector content = {77, true, {[0] = 5, [59] = UINT64_C(1) << 63}}, found;
    uint8_t sector[COW_SECTOR];

    cow_sector_encode(&geometry, 3, &content, sector);
    ck_assert_int_eq(cow_sector_decode(&geometry, 3, sector, &found), 0);
    ck_assert_uint_eq(found.sequence, 77);
    ck_assert(found.warm);
    ck_assert_mem_eq(found.words, content.words, sizeof content.words);
    ck_assert_int_eq(cow_sector_decode(&geometry, 4, sector, &found), -EPROTO);
    other.id[0]++;
    ck_assert_int_eq(cow_sector_decode(&other, 3, sector, &found), -EILSEQ);
}
END_TEST

START_TEST(a_flipped_bit_among_checksums_is_found)
{
    struct cow_geometry geometry = geometry_of(COW_SECTOR_PAGES);
    uint32_t sums[COW_SECTOR_PAGES] = {[0] = 1, [COW_SECTOR_PAGES - 1] = 7}, found[COW_SECTOR_PAGES];
    uint8_t block[COW_BLOCK];

    cow_block_encode(&geometry, 5, sums, block);
    ck_assert_int_eq(cow_block_decode(&geometry, 5, block, found), 0);
    ck_assert_mem_eq(found, sums, sizeof sums);
    ck_assert_int_eq(cow_block_decode(&geometry, 4, block, found), -EILSEQ);
    for (unsigned bit = 0; bit < COW_BLOCK * 8; bit += 61) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(cow_block_decode(&geometry, 5, block, found), -EILSEQ);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(the_newest_valid_copy_counts)
{
    struct cow_geometry geometry = geometry_of(100);
    struct cow_sector old = {8, false, {1}}, new = {9, false, {3}}, found;
    uint8_t a[COW_SECTOR], b[COW_SECTOR], zeros[COW_SECTOR] = {0};

    cow_sector_encode(&geometry, 0, &old, a);
    cow_sector_encode(&geometry, 0, &new, b);
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, a, b, &found), 1);
    ck_assert_uint_eq(found.sequence, 9);
    ck_assert_uint_eq(found.words[0], 3);
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, b, a, &found), 0);
    ck_assert_uint_eq(found.words[0], 3);
    b[200] ^= 1;
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, a, b, &found), 0);
    ck_assert_uint_eq(found.words[0], 1);
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, zeros, a, &found), 1);
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, zeros, b, &found), -EILSEQ);
    ck_assert_int_eq(cow_sector_choose(&geometry, 0, zeros, zeros, &found), -ENODATA);
}
END_TEST

START_TEST(runs_end_where_pages_differ)
{
    struct cow_geometry geometry = geometry_of(1000);
    struct cow_map map;
    uint64_t end;

    ck_assert_int_eq(cow_map_init(&map, &geometry), 0);
    cow_map_set(&map, 60, 200);
    ck_assert(!cow_map_run(&map, 0, 1000, &end));
    ck_assert_uint_eq(end, 60);
    ck_assert(cow_map_run(&map, 60, 1000, &end));
    ck_assert_uint_eq(end, 200);
    ck_assert(cow_map_run(&map, 61, 70, &end));
    ck_assert_uint_eq(end, 70);
    ck_assert(!cow_map_run(&map, 200, 1000, &end));
    ck_assert_uint_eq(end, 1000);
    cow_map_release(&map);
}
END_TEST

START_TEST(staging_takes_each_change_once)
{
    struct cow_geometry geometry = geometry_of(3 * COW_SECTOR_PAGES);
    struct cow_map map;

    ck_assert_int_eq(cow_map_init(&map, &geometry), 0);
    ck_assert(!cow_map_changed(&map));
    cow_map_set(&map, COW_SECTOR_PAGES - 1, COW_SECTOR_PAGES + 1);
    cow_map_stage(&map);
    ck_assert_uint_eq(map.staging[0], 3);
    ck_assert_uint_eq(map.staged[COW_SECTOR_WORDS - 1], UINT64_C(1) << 63);
    ck_assert_uint_eq(map.staged[COW_SECTOR_WORDS], 1);
    cow_map_set(&map, COW_SECTOR_PAGES, COW_SECTOR_PAGES + 1); /* nothing new */
    ck_assert(!cow_map_changed(&map));
    cow_map_stage(&map);
    ck_assert_uint_eq(map.staging[0], 0);
    cow_map_release(&map);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, geometry_counts_the_short_last_page);
    tcase_add_test(tests, slots_share_no_block);
    tcase_add_test(tests, a_header_survives_the_disk);
    tcase_add_test(tests, every_flipped_bit_of_a_header_is_found);
    tcase_add_test(tests, a_sector_is_known_by_number_and_overlay);
    tcase_add_test(tests, a_flipped_bit_among_checksums_is_found);
    tcase_add_test(tests, the_newest_valid_copy_counts);
    tcase_add_test(tests, runs_end_where_pages_differ);
    tcase_add_test(tests, staging_takes_each_change_once);
}

int main(void)
{
    return unit_run("cow-map", add_tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/bitmap.h"
#include "unit.h"

enum { BITS = 200 };

START_TEST(a_new_map_is_clear)
{
    cleanup_free uint64_t *map = bitmap_new(BITS);

    ck_assert_ptr_nonnull(map);
    ck_assert_uint_eq(bitmap_count(map, BITS), 0);
    ck_assert_uint_eq(bitmap_next_set(map, 0, BITS), BITS);
    ck_assert_uint_eq(bitmap_next_clear(map, 0, BITS), 0);
}
END_TEST

START_TEST(a_size_that_overflows_is_refused)
{
    ck_assert_ptr_null(bitmap_new(UINT64_MAX));
}
END_TEST

START_TEST(an_empty_map_can_be_asked)
{
    cleanup_free uint64_t *map = bitmap_new(0);

    ck_assert_ptr_nonnull(map);
    ck_assert_uint_eq(bitmap_count(map, 0), 0);
    ck_assert_uint_eq(bitmap_next_set(map, 0, 0), 0);
    ck_assert_uint_eq(bitmap_next_clear(map, 0, 0), 0);
}
END_TEST

START_TEST(the_first_bit_is_the_least_significant)
{
    cleanup_free uint64_t *map = bitmap_new(BITS);

    bitmap_set(map, 0);
    bitmap_set(map, 65);
    ck_assert_uint_eq(map[0], 1);
    ck_assert_uint_eq(map[1], 2);
}
END_TEST

/* Every range against a bit by bit account: this covers ranges within, up to and across words. */
START_TEST(a_range_touches_exactly_its_bits)
{
    for (uint64_t first = 0; first < BITS; first += 7) {
        for (uint64_t count = 0; first + count <= BITS; count += 3) {
            cleanup_free uint64_t *set = bitmap_new(BITS), *clear = bitmap_new(BITS);

            memset(clear, 0xff, bitmap_words(BITS) * sizeof(*clear));
            bitmap_set_range(set, first, count);
            bitmap_clear_range(clear, first, count);
            for (uint64_t bit = 0; bit < BITS; bit++) {
                bool inside = bit >= first && bit < first + count;

                ck_assert_int_eq(bitmap_test(set, bit), inside);
                ck_assert_int_eq(bitmap_test(clear, bit), !inside);
            }
            ck_assert_uint_eq(bitmap_count(set, BITS), count);
        }
    }
}
END_TEST

START_TEST(counting_stops_at_the_last_bit)
{
    cleanup_free uint64_t *map = bitmap_new(BITS);

    memset(map, 0xff, bitmap_words(BITS) * sizeof(*map));
    ck_assert_uint_eq(bitmap_count(map, 64), 64);
    ck_assert_uint_eq(bitmap_count(map, 65), 65);
    ck_assert_uint_eq(bitmap_count(map, 1), 1);
}
END_TEST

START_TEST(searching_finds_each_bit_in_turn)
{
    static const uint64_t bits[] = {0, 1, 63, 64, 127, 130, 199};
    cleanup_free uint64_t *map = bitmap_new(BITS);
    uint64_t at = 0;

    for (size_t i = 0; i < 7; i++)
        bitmap_set(map, bits[i]);
    for (size_t i = 0; i < 7; i++) {
        at = bitmap_next_set(map, at, BITS);
        ck_assert_uint_eq(at, bits[i]);
        at++;
    }
    ck_assert_uint_eq(bitmap_next_set(map, at, BITS), BITS);
}
END_TEST

START_TEST(searching_ignores_what_lies_behind_the_end)
{
    cleanup_free uint64_t *map = bitmap_new(BITS);

    bitmap_set(map, 150);
    ck_assert_uint_eq(bitmap_next_set(map, 0, 150), 150);
    ck_assert_uint_eq(bitmap_next_set(map, 300, BITS), BITS);
    bitmap_set_range(map, 0, 130);
    ck_assert_uint_eq(bitmap_next_clear(map, 0, 130), 130);
    ck_assert_uint_eq(bitmap_next_clear(map, 0, 129), 129);
    ck_assert_uint_eq(bitmap_next_clear(map, 5, BITS), 130);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_new_map_is_clear);
    tcase_add_test(tests, a_size_that_overflows_is_refused);
    tcase_add_test(tests, an_empty_map_can_be_asked);
    tcase_add_test(tests, the_first_bit_is_the_least_significant);
    tcase_add_test(tests, a_range_touches_exactly_its_bits);
    tcase_add_test(tests, counting_stops_at_the_last_bit);
    tcase_add_test(tests, searching_finds_each_bit_in_turn);
    tcase_add_test(tests, searching_ignores_what_lies_behind_the_end);
}

int main(void)
{
    return unit_run("bitmap", add_tests);
}

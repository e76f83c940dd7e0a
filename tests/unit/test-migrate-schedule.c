/* SPDX-License-Identifier: BSD-2-Clause */
/* What is sent next. */
#include "unit.h"

#include "migrate/schedule.h"

#define BLOCK 4

static struct schedule schedule;
static uint8_t heat[64];

static void setup(void)
{
    memset(&schedule, 0, sizeof(schedule));
    memset(heat, 0, sizeof(heat));
    ck_assert_int_eq(schedule_add_device(&schedule, 22, BLOCK, heat), 0); /* the last block has 2 */
}

static void teardown(void)
{
    schedule_release(&schedule);
}

static void add(unsigned device, uint64_t pages)
{
    schedule_add_pages(&schedule, device, &pages);
}

static void expect_run(unsigned device, uint64_t first, unsigned count)
{
    struct schedule_run run;

    ck_assert(schedule_take(&schedule, &run));
    ck_assert_uint_eq(run.device, device);
    ck_assert_uint_eq(run.first, first);
    ck_assert_uint_eq(run.count, count);
}

static void expect_end(void)
{
    struct schedule_run run;

    ck_assert(!schedule_take(&schedule, &run));
    ck_assert_uint_eq(schedule_left(&schedule), 0);
}

START_TEST(everything_is_sent_once_in_blocks)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    ck_assert_uint_eq(schedule_left(&schedule), 22);
    for (uint64_t first = 0; first < 20; first += BLOCK)
        expect_run(0, first, BLOCK);
    ck_assert_uint_eq(schedule_left(&schedule), 2);
    expect_run(0, 20, 2);
    expect_end();
}
END_TEST

START_TEST(a_run_is_extended_by_what_follows_and_may)
{
    const uint64_t within = 0x1f0; /* pages 4-8 */
    struct schedule_run run;

    schedule_add_all(&schedule, 0);
    schedule_remove(&schedule, 0, 8, 1);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    ck_assert(schedule_take(&schedule, &run));
    schedule_extend(&schedule, &run, &within, 7);
    ck_assert_uint_eq(run.count, 7); /* no more than wanted */
    schedule_extend(&schedule, &run, &within, 20);
    ck_assert_uint_eq(run.count, 8); /* page 8 is sent already */
    ck_assert_uint_eq(schedule_left(&schedule), 22 - 9);
    expect_run(0, 9, 3);
    expect_run(0, 12, BLOCK);
    expect_run(0, 16, BLOCK);
    expect_run(0, 20, 2);
    expect_end();
}
END_TEST

START_TEST(a_run_is_extended_no_further_than_allowed_pages)
{
    const uint64_t within = 0x30; /* pages 4 and 5 */
    struct schedule_run run;

    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    ck_assert(schedule_take(&schedule, &run));
    schedule_extend(&schedule, &run, &within, 20);
    ck_assert_uint_eq(run.count, 6);
    expect_run(0, 6, 2);
}
END_TEST

START_TEST(runs_end_where_nothing_is_to_be_sent)
{
    add(0, 0x1b); /* pages 0 1 3 4 */
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 0, 2);
    expect_run(0, 3, 1);
    expect_run(0, 4, 1);
    expect_end();
}
END_TEST

START_TEST(the_coldest_block_is_first)
{
    heat[2] = 200; /* the hottest page of a block counts */
    heat[9] = 1;
    heat[14] = 255;
    add(0, 0xffff);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 4, 4);
    expect_run(0, 8, 4);
    expect_run(0, 0, 4);
    expect_run(0, 12, 4);
    expect_end();
}
END_TEST

START_TEST(heat_of_pages_that_are_not_sent_does_not_count)
{
    heat[0] = 9;
    heat[5] = 1;
    add(0, 0x22); /* pages 1 and 5 */
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 1, 1);
    expect_run(0, 5, 1);
}
END_TEST

START_TEST(the_block_with_the_fewest_pages_is_first)
{
    heat[8] = 100;
    add(0, 0x177); /* 3 pages, 3 pages, 1 page */
    schedule_sort(&schedule, SCHEDULE_SMALLEST_FIRST);
    expect_run(0, 8, 1);
    expect_run(0, 0, 3);
    expect_run(0, 4, 3);
    expect_end();
}
END_TEST

START_TEST(preferred_blocks_are_first_after_a_pause)
{
    schedule_add_all(&schedule, 0);
    schedule_prefer(&schedule, 0, 14, 3, SCHEDULE_RECENT); /* in blocks 3 and 4 */
    schedule_prefer(&schedule, 0, 8, 1, SCHEDULE_NEXT);
    schedule_prefer(&schedule, 0, 8, 1, SCHEDULE_RECENT); /* no better than it is */
    schedule_sort(&schedule, SCHEDULE_SMALLEST_FIRST);
    expect_run(0, 8, BLOCK);
    expect_run(0, 12, BLOCK);
    expect_run(0, 16, BLOCK);
    expect_run(0, 20, 2); /* the smallest of the others */
    expect_run(0, 0, BLOCK);
}
END_TEST

START_TEST(devices_keep_their_order)
{
    ck_assert_int_eq(schedule_add_device(&schedule, 10, 2, NULL), 0);
    heat[0] = 99;
    add(0, 1);
    add(1, 2);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 0, 1);
    expect_run(1, 1, 1);
    expect_end();
}
END_TEST

START_TEST(an_urgent_block_is_next)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    schedule_urge(&schedule, 0, 13);
    expect_run(0, 12, 4);
    expect_run(0, 0, 4);
}
END_TEST

START_TEST(the_newest_wish_is_first)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    schedule_urge(&schedule, 0, 13);
    schedule_urge(&schedule, 0, 21);
    expect_run(0, 20, 2);
    expect_run(0, 12, 4);
}
END_TEST

START_TEST(all_runs_of_an_urgent_block_are_next)
{
    add(0, 0xd00f); /* pages 0-3, 12, 14, 15 */
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    schedule_urge(&schedule, 0, 12);
    expect_run(0, 12, 1);
    expect_run(0, 14, 2);
    expect_run(0, 0, 4);
    expect_end();
}
END_TEST

START_TEST(a_wish_for_what_was_sent_is_void)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 0, 4);
    schedule_urge(&schedule, 0, 1);
    expect_run(0, 4, 4);
}
END_TEST

START_TEST(too_many_wishes_push_out_the_oldest)
{
    uint64_t pages = SCHEDULE_URGENT_MAX + 2;
    struct schedule_run run;

    ck_assert_int_eq(schedule_add_device(&schedule, pages, 1, NULL), 0);
    schedule_add_all(&schedule, 1);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    for (uint64_t page = 0; page < pages; page++)
        schedule_urge(&schedule, 1, page);
    for (uint64_t page = pages; page-- > 2;)
        expect_run(1, page, 1);
    ck_assert(schedule_take(&schedule, &run));
    ck_assert_uint_eq(run.first, 0);
}
END_TEST

START_TEST(removed_pages_are_not_sent)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    ck_assert_uint_eq(schedule_remove(&schedule, 0, 1, 6), 6);
    ck_assert_uint_eq(schedule_remove(&schedule, 0, 0, 7), 1);
    ck_assert_uint_eq(schedule_left(&schedule), 15);
    expect_run(0, 7, 1);
    expect_run(0, 8, 4);
}
END_TEST

START_TEST(a_device_smaller_than_a_block_is_sent)
{
    ck_assert_int_eq(schedule_add_device(&schedule, 1, 256, NULL), 0);
    schedule_add_all(&schedule, 1);
    schedule_sort(&schedule, SCHEDULE_SMALLEST_FIRST);
    expect_run(1, 0, 1);
    expect_end();
}
END_TEST

START_TEST(full_blocks_of_the_largest_size_are_sorted)
{
    ck_assert_int_eq(schedule_add_device(&schedule, 512, 256, NULL), 0);
    schedule_add_all(&schedule, 1);
    schedule_remove(&schedule, 1, 0, 1);
    schedule_sort(&schedule, SCHEDULE_SMALLEST_FIRST);
    expect_run(1, 1, 255);
    expect_run(1, 256, 256);
    expect_end();
}
END_TEST

START_TEST(sorting_anew_starts_from_the_front)
{
    schedule_add_all(&schedule, 0);
    schedule_sort(&schedule, SCHEDULE_COLDEST_FIRST);
    expect_run(0, 0, 4);
    expect_run(0, 4, 4);
    add(0, 1);
    schedule_sort(&schedule, SCHEDULE_SMALLEST_FIRST);
    expect_run(0, 0, 1);
    expect_run(0, 20, 2);
}
END_TEST

START_TEST(too_many_devices_or_blocks_are_refused)
{
    ck_assert_int_eq(schedule_add_device(&schedule, UINT64_C(1) << 40, 1, NULL), -EFBIG);
    for (unsigned i = 1; i < WIRE_DEVICES_MAX; i++)
        ck_assert_int_eq(schedule_add_device(&schedule, 1, 1, NULL), 0);
    ck_assert_int_eq(schedule_add_device(&schedule, 1, 1, NULL), -EFBIG);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, everything_is_sent_once_in_blocks);
    tcase_add_test(tests, runs_end_where_nothing_is_to_be_sent);
    tcase_add_test(tests, a_run_is_extended_by_what_follows_and_may);
    tcase_add_test(tests, a_run_is_extended_no_further_than_allowed_pages);
    tcase_add_test(tests, the_coldest_block_is_first);
    tcase_add_test(tests, heat_of_pages_that_are_not_sent_does_not_count);
    tcase_add_test(tests, the_block_with_the_fewest_pages_is_first);
    tcase_add_test(tests, preferred_blocks_are_first_after_a_pause);
    tcase_add_test(tests, devices_keep_their_order);
    tcase_add_test(tests, an_urgent_block_is_next);
    tcase_add_test(tests, the_newest_wish_is_first);
    tcase_add_test(tests, all_runs_of_an_urgent_block_are_next);
    tcase_add_test(tests, a_wish_for_what_was_sent_is_void);
    tcase_add_test(tests, too_many_wishes_push_out_the_oldest);
    tcase_add_test(tests, removed_pages_are_not_sent);
    tcase_add_test(tests, a_device_smaller_than_a_block_is_sent);
    tcase_add_test(tests, full_blocks_of_the_largest_size_are_sorted);
    tcase_add_test(tests, sorting_anew_starts_from_the_front);
    tcase_add_test(tests, too_many_devices_or_blocks_are_refused);
}

int main(void)
{
    return unit_run("schedule", add_tests);
}

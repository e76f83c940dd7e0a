/* SPDX-License-Identifier: BSD-2-Clause */
/* When a VM is suspended. */
#include "unit.h"

#include "migrate/converge.h"

#define MS UINT64_C(1000000)

static struct converge converge;

static void setup(void)
{
    converge = (struct converge){.downtime_limit_ns = 100 * MS, .max_passes = 30, .postcopy = true};
}

/* A pass at 1 byte a microsecond that left so many bytes. */
static bool judge(uint64_t left)
{
    return converge_judge(&converge, &(struct converge_pass){.sent_bytes = 1000000,
                                                             .duration_ns = 1000 * MS,
                                                             .left_bytes = left});
}

START_TEST(it_suspends_when_the_rest_fits_the_downtime)
{
    ck_assert(!judge(100001));
    ck_assert_uint_eq(converge.predicted_ns, 100001000);
    ck_assert(judge(100000));
    ck_assert_uint_eq(converge.predicted_ns, 100 * MS);
}
END_TEST

START_TEST(nothing_left_is_sent_in_no_time)
{
    converge.downtime_limit_ns = 0;
    ck_assert(converge_judge(&converge, &(struct converge_pass){0}));
    ck_assert_uint_eq(converge.predicted_ns, 0);
}
END_TEST

START_TEST(an_unknown_rate_predicts_forever)
{
    ck_assert(!converge_judge(&converge, &(struct converge_pass){.left_bytes = 1}));
    ck_assert_uint_eq(converge.predicted_ns, UINT64_MAX);
    ck_assert(!converge_judge(&(struct converge){.max_passes = 30},
                              &(struct converge_pass){.left_bytes = 1, .duration_ns = 5}));
    ck_assert(!converge_judge(&(struct converge){.max_passes = 30},
                              &(struct converge_pass){.left_bytes = 1, .sent_bytes = 5}));
}
END_TEST

START_TEST(it_goes_on_while_passes_shrink)
{
    uint64_t left = 100000000;

    for (unsigned i = 0; i < 20; i++, left = left * 4 / 5)
        ck_assert_msg(!judge(left), "pass %u", i);
}
END_TEST

START_TEST(with_postcopy_it_suspends_when_passes_do_not_shrink)
{
    ck_assert(!judge(1000000));
    ck_assert(!judge(800000));
    ck_assert_uint_eq(converge.stalled, 0);
    for (unsigned i = 0; i < 3 && !judge(700000); i++)
        ;
    ck_assert(judge(700000));
    ck_assert_uint_gt(converge.stalled, 0);
}
END_TEST

START_TEST(a_first_pass_never_counts_as_stalled)
{
    ck_assert(!judge(UINT32_MAX));
    ck_assert_uint_eq(converge.stalled, 0);
}
END_TEST

START_TEST(without_postcopy_it_waits_for_the_limit_of_passes)
{
    converge.postcopy = false;
    converge.max_passes = 5;
    for (unsigned i = 1; i < 5; i++)
        ck_assert(!judge(1000000));
    ck_assert(judge(1000000));
}
END_TEST

START_TEST(a_shrinking_pass_ends_a_stall)
{
    converge.postcopy = false;
    judge(1000000);
    judge(1000000);
    ck_assert_uint_eq(converge.stalled, 1);
    judge(500000);
    ck_assert_uint_eq(converge.stalled, 0);
}
END_TEST

/* The original's rules for a device */

static struct converge_device device_of(uint64_t max_dirty, uint64_t min_cycles,
                                        uint64_t max_cycles)
{
    return (struct converge_device){.limits = {.set = true,
                                               .max_dirty_blocks = max_dirty,
                                               .min_cycles = min_cycles,
                                               .max_cycles = max_cycles}};
}

START_TEST(a_quiet_device_is_ready_after_more_than_min_cycles)
{
    struct converge_device device = device_of(200, 5, 20);

    for (unsigned i = 0; i < 5; i++)
        ck_assert(!converge_device_ready(&device, 199));
    ck_assert(converge_device_ready(&device, 199));
}
END_TEST

START_TEST(as_many_blocks_as_allowed_are_too_many)
{
    struct converge_device device = device_of(200, 0, 20);

    ck_assert(!converge_device_ready(&device, 200));
    ck_assert(converge_device_ready(&device, 199));
}
END_TEST

START_TEST(a_busy_pass_starts_the_count_anew)
{
    struct converge_device device = device_of(200, 1, 20);

    ck_assert(!converge_device_ready(&device, 0));
    ck_assert(!converge_device_ready(&device, 1000));
    ck_assert(!converge_device_ready(&device, 0));
    ck_assert(converge_device_ready(&device, 0));
}
END_TEST

START_TEST(a_busy_device_is_ready_after_max_cycles)
{
    struct converge_device device = device_of(200, 5, 4);

    for (unsigned i = 1; i < 4; i++)
        ck_assert(!converge_device_ready(&device, 1000));
    ck_assert(converge_device_ready(&device, 1000));
}
END_TEST

START_TEST(max_cycles_end_a_quiet_device_as_well)
{
    struct converge_device device = device_of(200, 50, 3);

    ck_assert(!converge_device_ready(&device, 0));
    ck_assert(!converge_device_ready(&device, 0));
    ck_assert(converge_device_ready(&device, 0));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, it_suspends_when_the_rest_fits_the_downtime);
    tcase_add_test(tests, nothing_left_is_sent_in_no_time);
    tcase_add_test(tests, an_unknown_rate_predicts_forever);
    tcase_add_test(tests, it_goes_on_while_passes_shrink);
    tcase_add_test(tests, with_postcopy_it_suspends_when_passes_do_not_shrink);
    tcase_add_test(tests, a_first_pass_never_counts_as_stalled);
    tcase_add_test(tests, without_postcopy_it_waits_for_the_limit_of_passes);
    tcase_add_test(tests, a_shrinking_pass_ends_a_stall);
    tcase_add_test(tests, a_quiet_device_is_ready_after_more_than_min_cycles);
    tcase_add_test(tests, as_many_blocks_as_allowed_are_too_many);
    tcase_add_test(tests, a_busy_pass_starts_the_count_anew);
    tcase_add_test(tests, a_busy_device_is_ready_after_max_cycles);
    tcase_add_test(tests, max_cycles_end_a_quiet_device_as_well);
}

int main(void)
{
    return unit_run("converge", add_tests);
}

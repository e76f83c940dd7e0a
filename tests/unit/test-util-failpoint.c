/* SPDX-License-Identifier: BSD-2-Clause */
/* Failpoints: inert unless armed, once only, and never a typing mistake that arms nothing. */
#include "unit.h"

#include "util/failpoint.h"

#include <stdlib.h>

static struct drafter_error err;

static int arm(const char *text)
{
    setenv("DRAFTER_FAILPOINT", text, 1);
    return failpoint_setup(&err);
}

START_TEST(without_the_variable_nothing_happens)
{
    unsetenv("DRAFTER_FAILPOINT");
    ck_assert_int_eq(failpoint_setup(&err), 0);
    for (unsigned step = 0; step < FAILPOINT_COUNT; step++)
        ck_assert_int_eq(failpoint((enum failpoint)step), 0);
    ck_assert_int_eq(arm(""), 0);
    ck_assert_uint_eq(failpoint_armed, FAILPOINT_COUNT);
}
END_TEST

START_TEST(an_armed_step_fails_once)
{
    ck_assert_int_eq(arm("S1:error"), 0);
    ck_assert_int_eq(failpoint(FAILPOINT_CONNECT), 0);
    ck_assert_int_eq(failpoint(FAILPOINT_RELINQUISHED), 0);
    ck_assert_int_eq(failpoint(FAILPOINT_HELLO), -EIO);
    ck_assert_int_eq(failpoint(FAILPOINT_HELLO), 0);
}
END_TEST

START_TEST(the_last_step_is_not_taken_for_the_first)
{
    ck_assert_int_eq(arm("S19:pause=1"), 0);
    ck_assert_uint_eq(failpoint_armed, FAILPOINT_CLEANUP);
    ck_assert_int_eq(failpoint(FAILPOINT_CLEANUP), 0);
}
END_TEST

START_TEST(mistakes_are_refused)
{
    static const char *const wrong[] = {"S20:kill", "S1",        "kill",       "S1:",
                                        "S1:die",   "S1:kill=3", "S1:pause=", "S1:pause=x",
                                        "S1:pause=600001", ":kill", "S:kill"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(arm(wrong[i]) == -EINVAL, "%s", wrong[i]);
    ck_assert_uint_eq(failpoint_armed, FAILPOINT_COUNT);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, without_the_variable_nothing_happens);
    tcase_add_test(tests, an_armed_step_fails_once);
    tcase_add_test(tests, the_last_step_is_not_taken_for_the_first);
    tcase_add_test(tests, mistakes_are_refused);
}

int main(void)
{
    return unit_run("failpoint", add_tests);
}

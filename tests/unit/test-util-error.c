/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

START_TEST(setting_records_and_returns_the_negative_code)
{
    struct drafter_error err = {0};

    ck_assert_int_eq(drafter_error_set(&err, ENOSPC, "%s: no room for %d", "disk", 3), -ENOSPC);
    ck_assert_int_eq(err.code, ENOSPC);
    ck_assert_str_eq(err.message, "disk: no room for 3");
}
END_TEST

START_TEST(a_failure_is_never_zero)
{
    struct drafter_error err = {0};

    ck_assert_int_eq(drafter_error_set(&err, 0, "x"), -EIO);
    ck_assert_int_eq(err.code, EIO);
    ck_assert_int_eq(drafter_error_set(&err, -ENOENT, "x"), -ENOENT);
    ck_assert_int_eq(err.code, ENOENT);
}
END_TEST

START_TEST(errno_text_follows_the_sentence)
{
    struct drafter_error err = {0};

    ck_assert_int_eq(drafter_error_errno(&err, ENOENT, "open %s", "a"), -ENOENT);
    ck_assert_str_eq(err.message, "open a: No such file or directory");
}
END_TEST

START_TEST(wrapping_puts_context_in_front)
{
    struct drafter_error err = {0};

    drafter_error_set(&err, EPROTO, "frame too long");
    ck_assert_int_eq(drafter_error_wrap(&err, "peer %s", "b"), -EPROTO);
    ck_assert_int_eq(err.code, EPROTO);
    ck_assert_str_eq(err.message, "peer b: frame too long");
}
END_TEST

START_TEST(nobody_need_listen)
{
    ck_assert_int_eq(drafter_error_set(NULL, EBUSY, "x"), -EBUSY);
    ck_assert_int_eq(drafter_error_errno(NULL, EBUSY, "x"), -EBUSY);
    ck_assert_int_lt(drafter_error_wrap(NULL, "x"), 0);
}
END_TEST

START_TEST(long_messages_are_cut_and_stay_terminated)
{
    struct drafter_error err = {0};
    char text[2 * DRAFTER_ERROR_MAX];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    drafter_error_set(&err, EIO, "%s", text);
    ck_assert_uint_eq(strlen(err.message), DRAFTER_ERROR_MAX - 1);
    drafter_error_wrap(&err, "outer");
    ck_assert_uint_eq(strlen(err.message), DRAFTER_ERROR_MAX - 1);
    ck_assert_int_eq(strncmp(err.message, "outer: aaa", 10), 0);
    drafter_error_wrap(&err, "%s", text);
    drafter_error_errno(&err, EIO, "%s", text);
    ck_assert_uint_eq(strlen(err.message), DRAFTER_ERROR_MAX - 1);
}
END_TEST

START_TEST(an_argument_may_be_the_message_itself)
{
    struct drafter_error err = {0};

    drafter_error_set(&err, EIO, "inner");
    drafter_error_set(&err, EINVAL, "outer (%s)", err.message);
    ck_assert_str_eq(err.message, "outer (inner)");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, setting_records_and_returns_the_negative_code);
    tcase_add_test(tests, a_failure_is_never_zero);
    tcase_add_test(tests, errno_text_follows_the_sentence);
    tcase_add_test(tests, wrapping_puts_context_in_front);
    tcase_add_test(tests, nobody_need_listen);
    tcase_add_test(tests, long_messages_are_cut_and_stay_terminated);
    tcase_add_test(tests, an_argument_may_be_the_message_itself);
}

int main(void)
{
    return unit_run("error", add_tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "options.h"
#include "unit.h"

static const char *const commands[] = {"check", "plugins", NULL};
static const char *const roles[] = {"peer", "registry", NULL};

static struct options options;
static struct drafter_error err;

/* Parses up to 8 words. */
static int parse(const char *program, const char *const *words)
{
    static char store[9][64];
    char *argv[10] = {NULL};
    int argc = 0;

    snprintf(store[0], sizeof(store[0]), "%s", program);
    argv[argc++] = store[0];
    for (; words && *words; words++, argc++) {
        snprintf(store[argc], sizeof(store[argc]), "%s", *words);
        argv[argc] = store[argc];
    }
    options_release(&options);
    return options_parse(argc, argv, commands, roles, &options, &err);
}

#define PARSE(...) parse("drafter", (const char *const[]){__VA_ARGS__, NULL})

static void release(void)
{
    options_release(&options);
}

START_TEST(values_follow_an_equals_sign_or_a_space)
{
    ck_assert_int_eq(PARSE("--config=a=b.ini", "--log-format", "json"), 0);
    ck_assert_str_eq(options.config, "a=b.ini");
    ck_assert_int_eq(options.log_format, LOG_FORMAT_JSON);
    ck_assert_ptr_null(options.command);
}
END_TEST

START_TEST(options_stand_before_or_after_the_command)
{
    ck_assert_int_eq(PARSE("--json", "check", "--config", "x", "--log-level=debug"), 0);
    ck_assert_str_eq(options.command, "check");
    ck_assert_str_eq(options.config, "x");
    ck_assert(options.json);
    ck_assert_int_eq(options.log_level, DRAFTER_LOG_DEBUG);
}
END_TEST

START_TEST(defaults_are_auto_and_info)
{
    ck_assert_int_eq(parse("drafter", NULL), 0);
    ck_assert_int_eq(options.log_format, LOG_FORMAT_AUTO);
    ck_assert_int_eq(options.log_level, DRAFTER_LOG_INFO);
    ck_assert(!options.json && !options.help && !options.version);
    ck_assert_int_eq(options.rest_count, 0);
    ck_assert_ptr_null(options.rest[0]);
}
END_TEST

START_TEST(quiet_help_and_version)
{
    ck_assert_int_eq(PARSE("-q", "-h", "--version"), 0);
    ck_assert_int_eq(options.log_level, DRAFTER_LOG_ERROR);
    ck_assert(options.help && options.version);
}
END_TEST

START_TEST(a_role_keeps_its_own_flags)
{
    ck_assert_int_eq(PARSE("peer", "-raddr", "a:1", "--quiet", "--laddr", ""), 0);
    ck_assert_str_eq(options.command, "peer");
    ck_assert_int_eq(options.rest_count, 4);
    ck_assert_str_eq(options.rest[0], "-raddr");
    ck_assert_str_eq(options.rest[3], "");
    ck_assert_ptr_null(options.rest[4]);
    ck_assert_int_eq(options.log_level, DRAFTER_LOG_ERROR);
}
END_TEST

START_TEST(a_link_is_its_role)
{
    static const char *const words[] = {"-laddr", ":1600", NULL};

    ck_assert_int_eq(parse("/usr/bin/drafter-registry", words), 0);
    ck_assert_str_eq(options.command, "registry");
    ck_assert_int_eq(options.rest_count, 2);
    ck_assert_int_eq(parse("/usr/bin/drafter-unknown", NULL), 0);
    ck_assert_ptr_null(options.command);
}
END_TEST

START_TEST(the_argument_of_a_command_is_kept)
{
    ck_assert_int_eq(PARSE("plugins", "tcp"), 0);
    ck_assert_int_eq(options.rest_count, 1);
    ck_assert_str_eq(options.rest[0], "tcp");
}
END_TEST

START_TEST(mistakes_name_the_nearest)
{
    static const char *const mistakes[][3] = {
        {"chekc", NULL, "\"check\""},          {"regsitry", NULL, "\"registry\""},
        {"--confg=x", NULL, "\"--config\""},   {"check", "--jsno", "\"--json\""},
        {"--log-level", "debig", "\"debug\""}, {"--log-format=jason", NULL, "\"json\""},
    };

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        ck_assert_int_eq(PARSE(mistakes[i][0], mistakes[i][1]), -EINVAL);
        ck_assert_msg(strstr(err.message, mistakes[i][2]) != NULL, "%s", err.message);
    }
    ck_assert_int_eq(PARSE("zzzzzzzzzzzz"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "--help"));
}
END_TEST

START_TEST(missing_and_surplus_values_are_refused)
{
    ck_assert_int_eq(PARSE("--config"), -EINVAL);
    ck_assert_int_eq(PARSE("--json=yes"), -EINVAL);
}
END_TEST

START_TEST(very_long_words_are_no_trouble)
{
    char word[64];

    memset(word, 'p', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    ck_assert_int_eq(PARSE(word), -EINVAL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, NULL, release);
    tcase_add_test(tests, values_follow_an_equals_sign_or_a_space);
    tcase_add_test(tests, options_stand_before_or_after_the_command);
    tcase_add_test(tests, defaults_are_auto_and_info);
    tcase_add_test(tests, quiet_help_and_version);
    tcase_add_test(tests, a_role_keeps_its_own_flags);
    tcase_add_test(tests, a_link_is_its_role);
    tcase_add_test(tests, the_argument_of_a_command_is_kept);
    tcase_add_test(tests, mistakes_name_the_nearest);
    tcase_add_test(tests, missing_and_surplus_values_are_refused);
    tcase_add_test(tests, very_long_words_are_no_trouble);
}

int main(void)
{
    return unit_run("options", add_tests);
}

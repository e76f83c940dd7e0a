/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

#include "util/words.h"

START_TEST(blanks_around_words_do_not_count)
{
    char word[8];

    ck_assert_uint_eq(words_count(NULL), 0);
    ck_assert_uint_eq(words_count(" \t"), 0);
    ck_assert_uint_eq(words_count("  a\tbc "), 2);
    ck_assert(words_get("  a\tbc ", 0, word, sizeof(word)));
    ck_assert_str_eq(word, "a");
    ck_assert(words_get("  a\tbc ", 1, word, sizeof(word)));
    ck_assert_str_eq(word, "bc");
}
END_TEST

START_TEST(a_word_that_is_not_there_or_does_not_fit_is_not_given)
{
    char word[3] = "x";

    ck_assert(!words_get("a bc", 2, word, sizeof(word)));
    ck_assert(!words_get("abc", 0, word, sizeof(word)));
    ck_assert(!words_get(NULL, 0, word, sizeof(word)));
    ck_assert_str_eq(word, "x");
}
END_TEST

START_TEST(a_part_of_a_word_is_not_in_the_list)
{
    ck_assert(words_contain("ab cd", "cd"));
    ck_assert(!words_contain("ab cd", "c"));
    ck_assert(!words_contain("ab cd", "ab cd"));
    ck_assert(!words_contain(NULL, "a"));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, blanks_around_words_do_not_count);
    tcase_add_test(tests, a_word_that_is_not_there_or_does_not_fit_is_not_given);
    tcase_add_test(tests, a_part_of_a_word_is_not_in_the_list);
}

int main(void)
{
    return unit_run("words", add_tests);
}

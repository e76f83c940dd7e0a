/* SPDX-License-Identifier: BSD-2-Clause */
/* Differences of pages. */
#include "unit.h"

#include "migrate/delta.h"

#define PAGE 4096

static unsigned char before[PAGE], after[PAGE], buffer[2 * PAGE], page[PAGE];
static unsigned random_state = 1;

static unsigned draw(unsigned below)
{
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 8) % below;
}

static void fill(void)
{
    for (unsigned i = 0; i < PAGE; i++)
        before[i] = after[i] = (unsigned char)draw(256);
}

static size_t round_trip(void)
{
    size_t length = delta_encode(before, after, buffer, sizeof(buffer));

    ck_assert_uint_le(length, sizeof(buffer));
    memcpy(page, before, PAGE);
    ck_assert_int_eq(delta_apply(page, buffer, length), 0);
    ck_assert_mem_eq(page, after, PAGE);
    return length;
}

START_TEST(equal_pages_differ_by_nothing)
{
    fill();
    ck_assert_uint_eq(round_trip(), 0);
}
END_TEST

START_TEST(one_byte_anywhere_is_a_short_difference)
{
    fill();
    for (unsigned i = 0; i < PAGE; i++) {
        after[i] ^= 0x5a;
        ck_assert_uint_le(round_trip(), 5);
        after[i] = before[i];
    }
}
END_TEST

START_TEST(any_two_changes_survive_whatever_lies_between)
{
    fill();
    for (unsigned gap = 1; gap < 40; gap++)
        for (unsigned at = 0; at < 20; at++) {
            after[at] ^= 1;
            after[at + gap] ^= 1;
            round_trip();
            memcpy(after, before, PAGE);
        }
}
END_TEST

START_TEST(sparse_and_dense_changes_survive)
{
    for (unsigned changes = 1; changes < 3000; changes = changes * 2 + 1) {
        fill();
        for (unsigned i = 0; i < changes; i++)
            after[draw(PAGE)] = (unsigned char)draw(256);
        round_trip();
    }
}
END_TEST

START_TEST(quite_different_pages_survive)
{
    fill();
    for (unsigned i = 0; i < PAGE; i++)
        after[i] = (unsigned char)~before[i];
    ck_assert_uint_ge(round_trip(), PAGE);
}
END_TEST

START_TEST(changes_at_the_end_survive)
{
    fill();
    for (unsigned i = PAGE - 20; i < PAGE; i += 3)
        after[i] ^= 1;
    round_trip();
}
END_TEST

START_TEST(a_difference_never_exceeds_its_capacity)
{
    fill();
    for (unsigned i = 0; i < PAGE; i += 64)
        after[i] ^= 1;
    for (size_t capacity = 0; capacity < 400; capacity++) {
        size_t length;

        memset(buffer, 0xee, sizeof(buffer));
        length = delta_encode(before, after, buffer, capacity);
        ck_assert(length == SIZE_MAX || length <= capacity);
        for (size_t i = capacity; i < 500; i++)
            ck_assert_uint_eq(buffer[i], 0xee);
    }
    ck_assert_uint_ne(delta_encode(before, after, buffer, 400), SIZE_MAX);
}
END_TEST

static void expect_malformed(const char *bytes, size_t length)
{
    char *copy = malloc(length);

    memcpy(copy, bytes, length);
    ck_assert_int_eq(delta_apply(page, copy, length), -EPROTO);
    free(copy);
}

START_TEST(malformed_differences_are_refused)
{
    expect_malformed("\x01", 1);                  /* no count */
    expect_malformed("\x01\x80", 2);              /* a number cut short */
    expect_malformed("\x01\x00", 2);              /* nothing changes */
    expect_malformed("\x01\x02x", 3);             /* a byte too few */
    expect_malformed("\x80\x20\x01x", 4);         /* begins behind the page */
    expect_malformed("\xff\x1f\x02xy", 5);        /* ends behind the page */
    expect_malformed("\x81\x20\x01x", 4);         /* skips beyond the page */
    expect_malformed("\x80\x80\x80\x00\x01x", 6); /* a number too long */
}
END_TEST

START_TEST(the_last_byte_of_a_page_can_change)
{
    memset(page, 0, PAGE);
    ck_assert_int_eq(delta_apply(page, "\xff\x1f\x01x", 4), 0);
    ck_assert_uint_eq(page[PAGE - 1], 'x');
    ck_assert_uint_eq(page[PAGE - 2], 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, equal_pages_differ_by_nothing);
    tcase_add_test(tests, one_byte_anywhere_is_a_short_difference);
    tcase_add_test(tests, any_two_changes_survive_whatever_lies_between);
    tcase_add_test(tests, sparse_and_dense_changes_survive);
    tcase_add_test(tests, quite_different_pages_survive);
    tcase_add_test(tests, changes_at_the_end_survive);
    tcase_add_test(tests, a_difference_never_exceeds_its_capacity);
    tcase_add_test(tests, malformed_differences_are_refused);
    tcase_add_test(tests, the_last_byte_of_a_page_can_change);
}

int main(void)
{
    return unit_run("delta", add_tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Sets of pages on the wire. */
#include "unit.h"

#include "migrate/pageset.h"
#include "util/bitmap.h"

#define PAGES 3000

static uint64_t set[PAGES / 64 + 1], got[PAGES / 64 + 1];

static void collect(void *opaque, uint64_t first, uint64_t count)
{
    ck_assert_ptr_eq(opaque, got);
    ck_assert_uint_ge(count, 1);
    ck_assert_uint_le(first + count, PAGES);
    bitmap_set_range(opaque, first, count);
}

static void fail_visit(void *opaque, uint64_t first, uint64_t count)
{
    (void)opaque;
    ck_abort_msg("visited %llu+%llu", (unsigned long long)first, (unsigned long long)count);
}

/* Through the wire in pieces of `capacity` bytes; returns how many pieces. */
static unsigned round_trip(size_t capacity)
{
    unsigned char buffer[8192];
    uint64_t cursor = 0;
    unsigned pieces = 0;

    memset(got, 0, sizeof(got));
    while (cursor < PAGES) {
        size_t used = pageset_encode(set, PAGES, &cursor, buffer, capacity);

        ck_assert_uint_le(used, capacity);
        ck_assert_int_eq(pageset_decode(buffer, used, PAGES, collect, got), 0);
        pieces++;
    }
    ck_assert_uint_eq(cursor, PAGES);
    ck_assert_mem_eq(set, got, sizeof(set));
    return pieces;
}

START_TEST(an_empty_set_is_no_bytes)
{
    unsigned char buffer[100];
    uint64_t cursor = 0;

    ck_assert_uint_eq(pageset_encode(set, PAGES, &cursor, buffer, sizeof(buffer)), 0);
    ck_assert_uint_eq(cursor, PAGES);
    ck_assert_int_eq(pageset_decode(buffer, 0, PAGES, fail_visit, NULL), 0);
}
END_TEST

START_TEST(a_full_set_is_short)
{
    unsigned char buffer[100];
    uint64_t cursor = 0;

    bitmap_set_range(set, 0, PAGES);
    ck_assert_uint_eq(pageset_encode(set, PAGES, &cursor, buffer, sizeof(buffer)), 3);
    ck_assert_uint_eq(round_trip(100), 1);
}
END_TEST

START_TEST(sparse_dense_and_odd_sets_survive)
{
    for (unsigned step = 1; step < 200; step += 7) {
        memset(set, 0, sizeof(set));
        for (uint64_t page = step % 5; page < PAGES; page += step)
            bitmap_set(set, page);
        bitmap_set(set, PAGES - 1);
        round_trip(8192);
    }
}
END_TEST

START_TEST(a_set_longer_than_the_buffer_goes_in_pieces)
{
    for (uint64_t page = 0; page < PAGES; page += 3)
        bitmap_set(set, page);
    ck_assert_uint_gt(round_trip(20), 100);
    ck_assert_uint_gt(round_trip(100), 10);
}
END_TEST

START_TEST(random_sets_survive)
{
    unsigned random = 1;

    for (unsigned i = 0; i < 200; i++) {
        memset(set, 0, sizeof(set));
        for (unsigned j = 0; j < i; j++) {
            random = random * 1103515245 + 12345;
            bitmap_set(set, (random >> 8) % PAGES);
        }
        round_trip(30 + i);
    }
}
END_TEST

static void expect_malformed(const char *bytes, size_t length)
{
    ck_assert_int_eq(pageset_decode(bytes, length, PAGES, fail_visit, NULL), -EPROTO);
}

START_TEST(malformed_sets_are_refused_before_any_visit)
{
    expect_malformed("\x01", 1);                                          /* no count */
    expect_malformed("\x01\x80", 2);                                      /* a number cut short */
    expect_malformed("\x01\x00", 2);                                      /* an empty run */
    expect_malformed("\x00\x01\x00\xb8\x17", 5);                          /* one page too many */
    expect_malformed("\xb8\x17\x01", 3);                                  /* skips to the end */
    expect_malformed("\xb9\x17\x01", 3);                                  /* and beyond it */
    expect_malformed("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", 11); /* 64 bits */
    expect_malformed("\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10);     /* 63 bits */
    expect_malformed("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x01", 11); /* too many zeros */
}
END_TEST

START_TEST(the_largest_valid_set_is_accepted)
{
    ck_assert_int_eq(pageset_decode("\x00\xb8\x17", 3, PAGES, collect, got), 0);
    ck_assert_uint_eq(bitmap_count(got, PAGES), PAGES);
    memset(got, 0, sizeof(got));
    ck_assert_int_eq(pageset_decode("\xb7\x17\x01", 3, PAGES, collect, got), 0);
    ck_assert(bitmap_test(got, PAGES - 1));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, an_empty_set_is_no_bytes);
    tcase_add_test(tests, a_full_set_is_short);
    tcase_add_test(tests, sparse_dense_and_odd_sets_survive);
    tcase_add_test(tests, a_set_longer_than_the_buffer_goes_in_pieces);
    tcase_add_test(tests, random_sets_survive);
    tcase_add_test(tests, malformed_sets_are_refused_before_any_visit);
    tcase_add_test(tests, the_largest_valid_set_is_accepted);
}

int main(void)
{
    return unit_run("pageset", add_tests);
}

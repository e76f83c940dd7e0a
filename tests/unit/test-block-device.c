/* SPDX-License-Identifier: BSD-2-Clause */
/* A device over storage in memory: reads, writes and what arrives meanwhile. */
#include "unit.h"

#include "block/device.h"

#include <pthread.h>

#define PAGE 4096
#define PAGES 600
#define SIZE ((uint64_t)PAGES * PAGE - 1000) /* the last page is short */

static struct instance *storage;
static struct block_device device;
static char page[PAGE], data[4 * PAGE];
static _Atomic unsigned needs;

static void make(const char *fault, const char *at)
{
    const char *overrides[] = {fault, at, NULL};
    struct drafter_error err = {0};

    ck_assert_msg(!instance_new(DRAFTER_KIND_STORAGE, NULL, "null", overrides, "unit", "/nowhere",
                                NULL, &storage, &err),
                  "%s", err.message);
    ck_assert_int_eq(storage_open(storage, SIZE, DRAFTER_STORAGE_CREATE, &err), 0);
    ck_assert_int_eq(block_device_init(&device, "disk", storage, 65536, &err), 0);
}

/* As a source that answers at once: page n is full of n's low byte. */
static void need(void *opaque, struct block_device *asked, uint64_t first, uint64_t count)
{
    char content[PAGE];

    (void)opaque;
    ck_assert_ptr_eq(asked, &device);
    needs++;
    for (uint64_t at = first; at < first + count; at++) {
        memset(content, (int)at, sizeof(content));
        ck_assert_int_eq(
            block_device_store(&device, at, 1, 1, content, block_device_run_length(&device, at, 1)),
            0);
    }
}

static void make_remote(void)
{
    make(NULL, NULL);
    device.fresh = true;
    ck_assert_int_eq(block_device_begin_remote(&device, need, NULL), 0);
}

static void teardown(void)
{
    block_device_release(&device);
    instance_free(storage);
}

static void setup(void)
{
    make(NULL, NULL);
}

static bool all(const char *bytes, size_t length, char value)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static uint64_t hash_of(char value)
{
    char bytes[PAGE];

    memset(bytes, value, sizeof(bytes));
    return block_page_hash(bytes, sizeof(bytes));
}

static int store_filled(uint64_t first, uint32_t generation, char value)
{
    memset(page, value, sizeof(page));
    return block_device_store(&device, first, 1, generation, page, PAGE);
}

static void expect_page(uint64_t at, char value)
{
    ck_assert_int_eq(block_device_fetch(&device, page, PAGE, at * PAGE), 0);
    ck_assert_msg(all(page, PAGE, value), "page %llu", (unsigned long long)at);
}

START_TEST(block_sizes_are_whole_pages_within_bounds)
{
    static const uint32_t sizes[][2] = {
        {0, 4096}, {1, 4096}, {4097, 8192}, {1 << 20, 1 << 20}, {1 << 24, 1 << 20}};

    for (size_t i = 0; i < 5; i++) {
        struct block_device other;

        ck_assert_int_eq(block_device_init(&other, "x", storage, sizes[i][0], NULL), 0);
        ck_assert_uint_eq(other.block_size, sizes[i][1]);
        block_device_release(&other);
    }
    ck_assert_uint_eq(block_device_pages(&device), PAGES);
}
END_TEST

START_TEST(ranges_beyond_the_end_are_refused)
{
    ck_assert_int_eq(block_device_read(&device, page, 2, SIZE - 1), -EINVAL);
    ck_assert_int_eq(block_device_write(&device, page, 2, SIZE - 1), -EINVAL);
    ck_assert_int_eq(block_device_trim(&device, 2, SIZE - 1), -EINVAL);
    ck_assert_int_eq(block_device_read(&device, page, 1, UINT64_MAX), -EINVAL);
    ck_assert_int_eq(block_device_read(&device, page, 0, SIZE), 0);
    ck_assert_int_eq(block_device_write(&device, page, 1, SIZE - 1), 0);
}
END_TEST

START_TEST(a_write_is_read_back_and_dirty)
{
    ck_assert_int_eq(block_device_write(&device, "abc", 3, PAGE - 1), 0);
    ck_assert_int_eq(block_device_read(&device, page, 3, PAGE - 1), 0);
    ck_assert_mem_eq(page, "abc", 3);
    ck_assert_uint_eq(block_map_count_dirty(&device.map), 2);
}
END_TEST

START_TEST(a_trim_touches_whole_pages_only)
{
    memset(data, 7, sizeof(data));
    block_device_write(&device, data, sizeof(data), 0);
    block_map_take_dirty(&device.map, (uint64_t[PAGES / 64 + 1]){0});
    ck_assert_int_eq(block_device_trim(&device, 2 * PAGE, 1), 0);
    ck_assert_uint_eq(block_map_count_dirty(&device.map), 1);
    expect_page(0, 7);
    expect_page(2, 7);
    ck_assert_int_eq(block_device_trim(&device, 100, 5), 0);
    expect_page(0, 7);
}
END_TEST

START_TEST(the_first_error_of_storage_is_remembered)
{
    teardown();
    make("fail-write-at", "2");
    ck_assert_int_eq(block_device_write(&device, page, 1, 0), 0);
    ck_assert_int_eq(device.io_error, 0);
    ck_assert_int_eq(block_device_write(&device, page, 1, 0), -EIO);
    ck_assert_int_eq(device.io_error, EIO);
}
END_TEST

START_TEST(a_failed_flush_is_remembered)
{
    teardown();
    make("fail-flush", "1");
    ck_assert_int_eq(block_device_flush(&device), -EIO);
    ck_assert_int_eq(device.io_error, EIO);
}
END_TEST

START_TEST(what_is_saved_only_in_part_is_not_forgotten)
{
    teardown();
    make("fail-write-at", "2");
    block_map_mark_unsaved(&device.map, 3, 2);
    device.io_error = ENOSPC;
    ck_assert_int_eq(block_device_rescue(&device), -EIO);
    ck_assert_int_eq(device.io_error, EIO);
    ck_assert_uint_eq(bitmap_count(device.map.unsaved, PAGES), 1);
    ck_assert_int_eq(block_device_rescue(&device), 0);
    ck_assert_int_eq(device.io_error, 0);
    ck_assert_uint_eq(bitmap_count(device.map.unsaved, PAGES), 0);
}
END_TEST

START_TEST(a_run_ends_with_the_device)
{
    ck_assert_uint_eq(block_device_run_length(&device, 0, 3), 3 * PAGE);
    ck_assert_uint_eq(block_device_run_length(&device, PAGES - 1, 1), PAGE - 1000);
    ck_assert_uint_eq(block_device_run_length(&device, PAGES - 2, 2), 2 * PAGE - 1000);
}
END_TEST

START_TEST(a_short_page_counts_as_padded_with_zeros)
{
    char padded[PAGE] = "abc";

    ck_assert_uint_eq(block_page_hash("abc", 3), block_page_hash(padded, PAGE));
    ck_assert_uint_eq(block_zero_page_hash(), block_page_hash("", 1));
    ck_assert_uint_ne(block_page_hash("abc", 3), block_page_hash("abd", 3));
}
END_TEST

/* Arrival */

START_TEST(a_read_of_missing_pages_asks_for_them)
{
    ck_assert_int_eq(block_device_read(&device, page, 2, 3 * PAGE - 1), 0);
    ck_assert_int_eq(page[0], 2);
    ck_assert_int_eq(page[1], 3);
    ck_assert_uint_eq(needs, 1);
    ck_assert_uint_eq(block_map_missing(&device.map), PAGES - 2);
}
END_TEST

START_TEST(without_authority_nothing_is_written)
{
    ck_assert_int_eq(block_device_write(&device, page, PAGE, 0), -EPERM);
    ck_assert_int_eq(block_device_trim(&device, PAGE, 0), -EPERM);
    ck_assert_uint_eq(block_map_count_dirty(&device.map), 0);
    block_device_take_authority(&device);
    ck_assert_int_eq(block_device_write(&device, page, PAGE, 0), 0);
}
END_TEST

START_TEST(a_write_of_whole_pages_needs_nothing)
{
    block_device_take_authority(&device);
    memset(data, 9, sizeof(data));
    ck_assert_int_eq(block_device_write(&device, data, 2 * PAGE, PAGE), 0);
    ck_assert_uint_eq(needs, 0);
    ck_assert(block_map_present(&device.map, 1, 2));
    ck_assert_int_eq(store_filled(1, 5, 1), 0);
    expect_page(1, 9);
}
END_TEST

START_TEST(a_partial_write_keeps_the_rest_of_its_pages)
{
    block_device_take_authority(&device);
    memset(data, 9, sizeof(data));
    ck_assert_int_eq(block_device_write(&device, data, 2 * PAGE, PAGE + 10), 0);
    ck_assert_int_eq(block_device_read(&device, data, 3 * PAGE, PAGE), 0);
    ck_assert(all(data, 10, 1));
    ck_assert(all(data + 10, 2 * PAGE, 9));
    ck_assert(all(data + 10 + 2 * PAGE, PAGE - 10, 3));
    ck_assert_uint_eq(needs, 2);
}
END_TEST

START_TEST(a_write_up_to_a_short_end_needs_nothing)
{
    block_device_take_authority(&device);
    ck_assert_int_eq(block_device_write(&device, page, PAGE - 1000, (PAGES - 1) * PAGE), 0);
    ck_assert_uint_eq(needs, 0);
}
END_TEST

START_TEST(a_write_longer_than_a_claim_is_whole)
{
    size_t length = (BLOCK_RUN_MAX + 20) * PAGE;
    cleanup_free char *much = malloc(length);

    block_device_take_authority(&device);
    memset(much, 5, length);
    ck_assert_int_eq(block_device_write(&device, much, length, 3 * PAGE + 1), 0);
    memset(much, 0, length);
    ck_assert_int_eq(block_device_read(&device, much, length, 3 * PAGE + 1), 0);
    ck_assert(all(much, length, 5));
    ck_assert_uint_eq(block_map_missing(&device.map), PAGES - BLOCK_RUN_MAX - 21);
}
END_TEST

START_TEST(what_was_trimmed_does_not_arrive_again)
{
    block_device_take_authority(&device);
    store_filled(3, 1, 8);
    ck_assert_int_eq(block_device_trim(&device, 2 * PAGE + 1, 3 * PAGE - 1), 0);
    ck_assert_uint_eq(needs, 0);
    ck_assert(block_map_present(&device.map, 3, 2));
    ck_assert(!block_map_present(&device.map, 2, 1));
    store_filled(4, 2, 8);
    expect_page(3, 0);
    expect_page(4, 0);
}
END_TEST

START_TEST(a_failed_link_is_an_error_to_the_reader)
{
    device.need = NULL;
    block_map_fail(&device.map, ENOTCONN);
    ck_assert_int_eq(block_device_read(&device, page, 1, 0), -ENOTCONN);
    block_device_take_authority(&device);
    ck_assert_int_eq(block_device_write(&device, page, 1, 1), -ENOTCONN);
    ck_assert_int_eq(block_device_write(&device, page, PAGE, 0), 0);
}
END_TEST

START_TEST(stored_content_has_to_fit)
{
    ck_assert_int_eq(block_device_store(&device, 0, 0, 1, page, 0), -EINVAL);
    ck_assert_int_eq(block_device_store(&device, 0, 1, 1, page, PAGE - 1), -EINVAL);
    ck_assert_int_eq(block_device_store(&device, PAGES - 1, 1, 1, page, PAGE), -EINVAL);
    ck_assert_int_eq(block_device_store(&device, PAGES, 1, 1, page, PAGE), -EINVAL);
    ck_assert_int_eq(block_device_store(&device, PAGES - 1, 2, 1, page, PAGE), -EINVAL);
    ck_assert_int_eq(
        block_device_store(&device, 0, BLOCK_RUN_MAX + 1, 1, page, (BLOCK_RUN_MAX + 1) * PAGE),
        -EINVAL);
    ck_assert_int_eq(block_device_store_zero(&device, 1, UINT64_MAX, 1), -EINVAL);
    ck_assert_int_eq(block_device_store_have(&device, PAGES, 1, 1), -EINVAL);
    ck_assert_int_eq(block_device_store(&device, PAGES - 1, 1, 1, page, PAGE - 1000), 0);
}
END_TEST

START_TEST(only_wanted_pages_of_a_run_are_stored)
{
    store_filled(1, 2, 8);
    memset(data, 4, sizeof(data));
    ck_assert_int_eq(block_device_store(&device, 0, 3, 1, data, 3 * PAGE), 0);
    expect_page(0, 4);
    expect_page(1, 8);
    expect_page(2, 4);
    ck_assert_uint_eq(device.map.hash[1], hash_of(8));
    ck_assert_uint_eq(device.map.hash[2], hash_of(4));
}
END_TEST

START_TEST(zeros_overwrite_what_was_stored)
{
    store_filled(300, 1, 8);
    block_map_announce(&device.map, 300, 1, 2);
    ck_assert_int_eq(block_device_store_zero(&device, 0, PAGES, 2), 0);
    expect_page(300, 0);
    ck_assert_uint_eq(block_map_missing(&device.map), 0);
    ck_assert_uint_eq(device.map.hash[0], block_zero_page_hash());
    ck_assert_uint_eq(device.map.hash[PAGES - 1], block_zero_page_hash());
}
END_TEST

START_TEST(zeros_overwrite_what_storage_held_before)
{
    memset(page, 6, PAGE);
    storage_write(storage, page, PAGE, 5 * PAGE);
    device.fresh = false;
    ck_assert_int_eq(block_device_store_zero(&device, 5, 1, 1), 0);
    expect_page(5, 0);
}
END_TEST

START_TEST(pages_that_are_here_are_hashed_as_they_are)
{
    memset(page, 6, PAGE);
    storage_write(storage, page, PAGE, 5 * PAGE);
    ck_assert_int_eq(block_device_store_have(&device, 5, 1, 1), 0);
    ck_assert_uint_eq(device.map.hash[5], hash_of(6));
    ck_assert(block_map_present(&device.map, 5, 1));
    expect_page(5, 6);
}
END_TEST

static int increment(void *opaque, unsigned index, void *bytes)
{
    (void)index;
    (void)opaque;
    for (unsigned i = 0; i < PAGE; i++)
        ((char *)bytes)[i]++;
    return 0;
}

static int refuse(void *opaque, unsigned index, void *bytes)
{
    (void)index;
    (void)opaque;
    (void)bytes;
    return -EPROTO;
}

static int store_deltas(uint64_t first, unsigned count, uint32_t generation, uint32_t base,
                        int (*apply)(void *, unsigned, void *))
{
    static char scratch[BLOCK_RUN_MAX * PAGE];

    return block_device_store_deltas(&device, first, count, generation, base, apply, NULL, scratch);
}

START_TEST(differences_to_several_bases_change_only_those_that_fit)
{
    store_filled(4, 1, 8);
    store_filled(5, 2, 8);
    store_filled(6, 1, 8);
    block_map_announce(&device.map, 4, 3, 3);
    ck_assert_int_eq(store_deltas(4, 3, 3, 1, increment), 0);
    expect_page(4, 9);
    expect_page(5, 8);
    expect_page(6, 9);
    ck_assert(block_map_present(&device.map, 4, 1));
    ck_assert(!block_map_present(&device.map, 5, 1));
    ck_assert(block_map_present(&device.map, 6, 1));
    ck_assert_int_eq(store_filled(5, 3, 7), 0); /* its claim was let go */
    expect_page(5, 7);
}
END_TEST

START_TEST(a_difference_changes_its_base)
{
    store_filled(5, 1, 8);
    block_map_announce(&device.map, 5, 1, 2);
    ck_assert_int_eq(store_deltas(5, 1, 2, 1, increment), 0);
    expect_page(5, 9);
    ck_assert_uint_eq(device.map.hash[5], hash_of(9));
    ck_assert(block_map_present(&device.map, 5, 1));
}
END_TEST

START_TEST(a_difference_to_another_base_is_stale)
{
    store_filled(5, 1, 8);
    block_map_announce(&device.map, 5, 1, 3);
    ck_assert_int_eq(store_deltas(5, 1, 3, 2, increment), 0);
    expect_page(5, 8);
    ck_assert(!block_map_present(&device.map, 5, 1));
    ck_assert_int_eq(store_filled(5, 3, 7), 0);
    expect_page(5, 7);
    ck_assert_int_eq(store_deltas(PAGES, 1, 3, 2, increment), -EINVAL);
}
END_TEST

START_TEST(a_difference_that_comes_late_is_dropped)
{
    store_filled(5, 2, 8);
    ck_assert_int_eq(store_deltas(5, 1, 2, 1, increment), 0);
    expect_page(5, 8);
}
END_TEST

START_TEST(a_malformed_difference_changes_nothing_and_its_base_no_longer_counts)
{
    store_filled(5, 1, 8);
    block_map_announce(&device.map, 5, 1, 2);
    ck_assert_int_eq(store_deltas(5, 1, 2, 1, refuse), -EPROTO);
    expect_page(5, 8);
    ck_assert(!block_map_present(&device.map, 5, 1));
    ck_assert_uint_eq(device.map.held[5], 0);
}
END_TEST

START_TEST(a_store_that_fails_leaves_the_page_missing)
{
    teardown();
    make("fail-write-at", "1");
    block_device_begin_remote(&device, need, NULL);
    ck_assert_int_eq(store_filled(5, 1, 8), -EIO);
    ck_assert(!block_map_present(&device.map, 5, 1));
    ck_assert_int_eq(store_filled(5, 1, 8), 0);
    expect_page(5, 8);
}
END_TEST

START_TEST(what_rots_is_asked_for_again)
{
    teardown();
    make("rot-at", "20480");
    block_device_begin_remote(&device, need, NULL);
    ck_assert_int_eq(store_filled(5, 1, 5), 0);
    needs = 0;
    ck_assert_int_eq(block_device_read(&device, page, PAGE, 5 * PAGE), 0);
    ck_assert(all(page, PAGE, 5));
    expect_page(5, 5);
    ck_assert_uint_eq(needs, 1);
    ck_assert(block_map_present(&device.map, 5, 1));
}
END_TEST

START_TEST(what_rots_and_is_nowhere_else_is_an_error)
{
    teardown();
    make("rot-at", "20480");
    block_device_begin_remote(&device, need, NULL);
    block_device_take_authority(&device);
    ck_assert_int_eq(block_device_write(&device, data, sizeof(data), 4 * PAGE), 0);
    needs = 0;
    ck_assert_int_eq(block_device_read(&device, data, PAGE, 5 * PAGE), -EIO);
    ck_assert_int_eq(block_device_read(&device, data, PAGE, 4 * PAGE), 0);
    block_device_store_zero(&device, 0, PAGES, 1);
    ck_assert(block_device_end_remote(&device, block_map_losses(&device.map)));
    ck_assert_int_eq(block_device_read(&device, data, PAGE, 5 * PAGE), -EIO);
    ck_assert_uint_eq(needs, 0);
}
END_TEST

/* The write failed in the middle: what is there now is no hole that need not be zeroed. */
START_TEST(zeros_replace_what_a_failed_write_left)
{
    teardown();
    make("fail-write-at", "2");
    device.fresh = true;
    block_device_begin_remote(&device, need, NULL);
    ck_assert_int_eq(store_filled(5, 1, 8), 0);
    block_device_take_authority(&device);
    memset(page, 9, sizeof(page));
    ck_assert_int_eq(block_device_write(&device, page, DRAFTER_PAGE_SIZE, 5 * DRAFTER_PAGE_SIZE), -EIO);
    block_map_announce(&device.map, 5, 1, 2);
    ck_assert_int_eq(block_device_store_zero(&device, 5, 1, 2), 0);
    expect_page(5, 0);
}
END_TEST

/* What was written elsewhere and is missing here may be in a cache that a crash takes. */
START_TEST(a_flush_waits_for_what_is_on_no_disk_yet)
{
    device.unsettled = true;
    block_map_fail(&device.map, EIO);
    ck_assert_int_eq(block_device_flush(&device), -EIO);
    device.unsettled = false;
    ck_assert_int_eq(block_device_flush(&device), 0);
    device.unsettled = true;
    block_device_store_zero(&device, 0, PAGES, 1);
    ck_assert_int_eq(block_device_flush(&device), 0);
}
END_TEST

START_TEST(after_the_arrival_the_device_is_local)
{
    block_device_store_zero(&device, 0, PAGES, 1);
    block_device_take_authority(&device);
    ck_assert(block_device_end_remote(&device, block_map_losses(&device.map)));
    ck_assert_int_eq(block_device_write(&device, "x", 1, 5), 0);
    ck_assert_int_eq(block_device_read(&device, page, 1, 5), 0);
    ck_assert_int_eq(page[0], 'x');
    ck_assert_uint_eq(needs, 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, block_sizes_are_whole_pages_within_bounds);
    tcase_add_test(tests, ranges_beyond_the_end_are_refused);
    tcase_add_test(tests, a_write_is_read_back_and_dirty);
    tcase_add_test(tests, a_trim_touches_whole_pages_only);
    tcase_add_test(tests, the_first_error_of_storage_is_remembered);
    tcase_add_test(tests, a_failed_flush_is_remembered);
    tcase_add_test(tests, what_is_saved_only_in_part_is_not_forgotten);
    tcase_add_test(tests, a_run_ends_with_the_device);
    tcase_add_test(tests, a_short_page_counts_as_padded_with_zeros);
}

static void add_remote_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, make_remote, teardown);
    tcase_add_test(tests, a_read_of_missing_pages_asks_for_them);
    tcase_add_test(tests, without_authority_nothing_is_written);
    tcase_add_test(tests, a_write_of_whole_pages_needs_nothing);
    tcase_add_test(tests, a_partial_write_keeps_the_rest_of_its_pages);
    tcase_add_test(tests, a_write_up_to_a_short_end_needs_nothing);
    tcase_add_test(tests, a_write_longer_than_a_claim_is_whole);
    tcase_add_test(tests, what_was_trimmed_does_not_arrive_again);
    tcase_add_test(tests, a_failed_link_is_an_error_to_the_reader);
    tcase_add_test(tests, stored_content_has_to_fit);
    tcase_add_test(tests, only_wanted_pages_of_a_run_are_stored);
    tcase_add_test(tests, zeros_overwrite_what_was_stored);
    tcase_add_test(tests, zeros_overwrite_what_storage_held_before);
    tcase_add_test(tests, pages_that_are_here_are_hashed_as_they_are);
    tcase_add_test(tests, differences_to_several_bases_change_only_those_that_fit);
    tcase_add_test(tests, a_difference_changes_its_base);
    tcase_add_test(tests, a_difference_to_another_base_is_stale);
    tcase_add_test(tests, a_difference_that_comes_late_is_dropped);
    tcase_add_test(tests, a_malformed_difference_changes_nothing_and_its_base_no_longer_counts);
    tcase_add_test(tests, a_store_that_fails_leaves_the_page_missing);
    tcase_add_test(tests, what_rots_is_asked_for_again);
    tcase_add_test(tests, what_rots_and_is_nowhere_else_is_an_error);
    tcase_add_test(tests, zeros_replace_what_a_failed_write_left);
    tcase_add_test(tests, a_flush_waits_for_what_is_on_no_disk_yet);
    tcase_add_test(tests, after_the_arrival_the_device_is_local);
}

int main(void)
{
    if (!getenv("DRAFTER_PLUGIN_PATH")) {
        printf("skipped: DRAFTER_PLUGIN_PATH names no plugins\n");
        return 77;
    }
    return unit_run("device", add_tests) | unit_run("arriving device", add_remote_tests);
}

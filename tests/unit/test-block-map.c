/* SPDX-License-Identifier: BSD-2-Clause */
/* The block map: in any order of arrival an older copy never replaces a newer one. */
#include "unit.h"

#include "block/map.h"

#include <pthread.h>
#include <time.h>

#define PAGES 200

static struct block_map map;

static void setup(void)
{
    ck_assert_int_eq(block_map_init(&map, PAGES), 0);
}

static void setup_remote(void)
{
    setup();
    ck_assert_int_eq(block_map_begin_remote(&map), 0);
}

static void teardown(void)
{
    block_map_release(&map);
}

/* Stores one page; false: it was dropped. */
static bool store(uint64_t page, uint32_t generation, uint64_t hash)
{
    uint64_t mask[BLOCK_MASK_WORDS];

    if (!block_map_claim(&map, page, 1, generation, mask))
        return false;
    block_map_claim_end(&map, page, 1, generation, mask, &hash, true);
    return true;
}

static void store_all(uint32_t generation)
{
    for (uint64_t page = 0; page < PAGES; page++)
        store(page, generation, 1);
}

static void write_locally(uint64_t page)
{
    uint64_t mask[BLOCK_MASK_WORDS];

    block_map_claim_local(&map, page, 1, mask);
    block_map_claim_end(&map, page, 1, BLOCK_GENERATION_LOCAL, mask, NULL, true);
}

static bool present(uint64_t page)
{
    return block_map_present(&map, page, 1);
}

static void pause_ms(unsigned ms)
{
    const struct timespec pause = {0, ms * 1000000l};

    nanosleep(&pause, NULL);
}

/* Dirty pages */

START_TEST(marks_at_word_borders_are_exact)
{
    for (uint64_t first = 60; first < 70; first++)
        for (uint64_t count = 0; count <= 130; count++) {
            uint64_t taken[PAGES / 64 + 1] = {0};

            block_map_mark_dirty(&map, first, count);
            ck_assert_uint_eq(block_map_count_dirty(&map), count);
            ck_assert_uint_eq(block_map_take_dirty(&map, taken), count);
            ck_assert_uint_eq(bitmap_next_set(taken, 0, PAGES), count ? first : PAGES);
            ck_assert_uint_eq(bitmap_next_clear(taken, first, PAGES), first + count);
            ck_assert_uint_eq(bitmap_count(taken, PAGES), count);
        }
}
END_TEST

START_TEST(taking_clears_adds_and_warms)
{
    uint64_t taken[PAGES / 64 + 1] = {1};

    block_map_mark_dirty(&map, 70, 1);
    ck_assert_uint_eq(block_map_take_dirty(&map, taken), 1);
    ck_assert(bitmap_test(taken, 0) && bitmap_test(taken, 70));
    ck_assert_uint_eq(block_map_count_dirty(&map), 0);
    block_map_mark_dirty(&map, 70, 1);
    block_map_take_dirty(&map, taken);
    ck_assert_uint_eq(map.heat[70], 2);
    ck_assert_uint_eq(map.heat[71], 0);
}
END_TEST

START_TEST(heat_does_not_wrap_around)
{
    uint64_t taken[PAGES / 64 + 1] = {0};

    for (unsigned i = 0; i < 300; i++) {
        block_map_mark_dirty(&map, 3, 1);
        block_map_take_dirty(&map, taken);
    }
    ck_assert_uint_eq(map.heat[3], 255);
}
END_TEST

START_TEST(a_local_device_has_everything)
{
    uint64_t missing[PAGES / 64 + 1] = {0};

    ck_assert(block_map_present(&map, 0, PAGES));
    ck_assert_uint_eq(block_map_missing(&map), 0);
    block_map_get_missing(&map, missing);
    ck_assert_uint_eq(bitmap_count(missing, PAGES), 0);
    ck_assert_int_eq(block_map_wait(&map, 0, PAGES, NULL, NULL), 0);
    block_map_forget_requests(&map);
}
END_TEST

/* Generations */

START_TEST(an_arriving_device_lacks_everything)
{
    uint64_t missing[PAGES / 64 + 1] = {0};

    ck_assert_uint_eq(block_map_missing(&map), PAGES);
    ck_assert(!present(0) && !present(PAGES - 1));
    block_map_get_missing(&map, missing);
    ck_assert_uint_eq(bitmap_count(missing, PAGES), PAGES);
}
END_TEST

START_TEST(a_stored_page_is_present)
{
    ck_assert(store(5, 1, 77));
    ck_assert(present(5) && !present(4) && !present(6));
    ck_assert_uint_eq(block_map_missing(&map), PAGES - 1);
    ck_assert_uint_eq(map.hash[5], 77);
    ck_assert_uint_eq(map.held[5], 1);
}
END_TEST

START_TEST(the_same_generation_is_stored_once)
{
    ck_assert(store(5, 1, 77));
    ck_assert(!store(5, 1, 78));
    ck_assert_uint_eq(map.hash[5], 77);
}
END_TEST

START_TEST(an_announced_page_is_missing_again)
{
    store(5, 1, 77);
    block_map_announce(&map, 5, 1, 2);
    ck_assert(!present(5));
    ck_assert_uint_eq(block_map_missing(&map), PAGES);
    ck_assert_uint_eq(map.held[5], 1);
    ck_assert(store(5, 2, 78));
    ck_assert(present(5));
}
END_TEST

START_TEST(an_old_announcement_changes_nothing)
{
    store(5, 3, 77);
    block_map_announce(&map, 5, 1, 3);
    block_map_announce(&map, 5, 1, 2);
    ck_assert(present(5));
}
END_TEST

START_TEST(content_older_than_announced_is_dropped)
{
    block_map_announce(&map, 5, 1, 2);
    ck_assert(!store(5, 1, 77));
    ck_assert(!present(5));
}
END_TEST

/* Every order of two announcements and two contents ends with the newest. */
START_TEST(every_order_of_arrival_ends_with_the_newest)
{
    static const struct {
        bool announce;
        uint32_t generation;
    } events[] = {{true, 1}, {false, 1}, {true, 2}, {false, 2}};
    uint64_t page = 0;

    for (unsigned order = 0; order < 256; order++) {
        unsigned seen = 0;
        bool newest = false;

        for (unsigned i = 0; i < 4; i++)
            seen |= 1u << (order >> 2 * i & 3);
        if (seen != 15)
            continue; /* no permutation */
        for (unsigned i = 0; i < 4; i++) {
            unsigned which = order >> 2 * i & 3;

            if (events[which].announce)
                block_map_announce(&map, page, 1, events[which].generation);
            else
                store(page, events[which].generation, 100 + events[which].generation);
            newest |= which == 3;
            ck_assert(!newest || map.hash[page] == 102);
        }
        ck_assert(present(page));
        ck_assert_uint_eq(map.hash[page], 102);
        ck_assert_uint_eq(map.held[page], 2);
        page++;
    }
    ck_assert_uint_eq(page, 24);
}
END_TEST

START_TEST(nothing_beats_a_local_write)
{
    write_locally(5);
    ck_assert(present(5));
    block_map_announce(&map, 5, 1, 9);
    ck_assert(present(5));
    ck_assert(!store(5, 9, 77));
    ck_assert_uint_eq(map.held[5], BLOCK_GENERATION_LOCAL);
}
END_TEST

START_TEST(a_local_write_before_arrival_leaves_nothing_to_compare)
{
    store(5, 1, 77);
    store(6, 1, 77);
    block_map_announce(&map, 5, 1, 2);
    write_locally(5);
    write_locally(6);
    ck_assert_uint_eq(map.hash[5], 0);
    ck_assert_uint_eq(map.hash[6], 77);
}
END_TEST

START_TEST(content_announced_anew_while_it_is_stored_is_stale)
{
    uint64_t mask[BLOCK_MASK_WORDS], hash = 77;

    ck_assert(block_map_claim(&map, 5, 1, 1, mask));
    block_map_announce(&map, 5, 1, 2);
    block_map_claim_end(&map, 5, 1, 1, mask, &hash, true);
    ck_assert(!present(5));
    ck_assert_uint_eq(map.held[5], 1);
    ck_assert(store(5, 2, 78));
}
END_TEST

START_TEST(a_claim_covers_only_what_is_wanted)
{
    uint64_t mask[BLOCK_MASK_WORDS];

    store(11, 1, 77);
    write_locally(13);
    ck_assert(block_map_claim(&map, 10, 5, 1, mask));
    ck_assert_uint_eq(mask[0], 0x15);
    block_map_claim_end(&map, 10, 5, 1, mask, NULL, true);
    ck_assert_uint_eq(map.hash[11], 77);
    ck_assert(block_map_present(&map, 10, 5));
    ck_assert(!block_map_claim(&map, 10, 5, 1, mask));
}
END_TEST

START_TEST(a_failed_store_leaves_nothing_that_counts)
{
    uint64_t mask[BLOCK_MASK_WORDS];

    store(5, 1, 77);
    ck_assert(block_map_claim(&map, 5, 1, 2, mask));
    block_map_claim_end(&map, 5, 1, 2, mask, NULL, false);
    ck_assert_uint_eq(map.held[5], 0);
    ck_assert(!present(5)); /* half of it may be the newer one */
    ck_assert(store(5, 2, 78));
}
END_TEST

START_TEST(a_cancelled_claim_changes_nothing)
{
    uint64_t mask[BLOCK_MASK_WORDS];

    store(5, 1, 77);
    ck_assert(block_map_claim(&map, 5, 1, 2, mask));
    block_map_claim_cancel(&map, 5, 1, mask);
    ck_assert_uint_eq(map.held[5], 1);
    ck_assert_uint_eq(map.hash[5], 77);
    ck_assert(present(5));
    ck_assert(store(5, 2, 78));
}
END_TEST

/* Threads */

struct waiter {
    pthread_t thread;
    uint64_t first, count;
    uint32_t generation;
    _Atomic bool done;
    bool result;
    int rc;
    unsigned needs;
    uint64_t asked;
};

static void need(void *opaque, uint64_t first, uint64_t count)
{
    struct waiter *waiter = opaque;

    ck_assert_uint_ge(first, waiter->first);
    waiter->needs++;
    waiter->asked += count;
}

static void *wait_main(void *opaque)
{
    struct waiter *waiter = opaque;

    waiter->rc = block_map_wait(&map, waiter->first, waiter->count, need, waiter);
    waiter->done = true;
    return NULL;
}

static void *claim_main(void *opaque)
{
    struct waiter *waiter = opaque;
    uint64_t mask[BLOCK_MASK_WORDS];

    if (waiter->generation == BLOCK_GENERATION_LOCAL) {
        block_map_claim_local(&map, waiter->first, 1, mask);
        waiter->result = true;
    } else {
        waiter->result = block_map_claim(&map, waiter->first, 1, waiter->generation, mask);
    }
    if (waiter->result)
        block_map_claim_end(&map, waiter->first, 1, waiter->generation, mask, NULL, true);
    waiter->done = true;
    return NULL;
}

static void start(struct waiter *waiter, void *(*body)(void *))
{
    ck_assert_int_eq(pthread_create(&waiter->thread, NULL, body, waiter), 0);
    pause_ms(20);
}

START_TEST(a_second_writer_waits_and_is_judged_anew)
{
    struct waiter waiter = {.first = 5, .count = 1, .generation = 1};
    uint64_t mask[BLOCK_MASK_WORDS];

    ck_assert(block_map_claim(&map, 5, 1, 1, mask));
    start(&waiter, claim_main);
    ck_assert(!waiter.done);
    block_map_claim_end(&map, 5, 1, 1, mask, NULL, true);
    pthread_join(waiter.thread, NULL);
    ck_assert(!waiter.result);
}
END_TEST

START_TEST(an_older_copy_does_not_wait_for_a_claim)
{
    struct waiter waiter = {.first = 5, .count = 1, .generation = 1};
    uint64_t mask[BLOCK_MASK_WORDS];

    block_map_announce(&map, 5, 1, 2);
    ck_assert(block_map_claim(&map, 5, 1, 2, mask));
    start(&waiter, claim_main);
    ck_assert(waiter.done);
    block_map_claim_end(&map, 5, 1, 2, mask, NULL, true);
    pthread_join(waiter.thread, NULL);
    ck_assert(!waiter.result);
}
END_TEST

START_TEST(a_local_write_waits_for_a_store_and_wins)
{
    struct waiter waiter = {.first = 5, .count = 1, .generation = BLOCK_GENERATION_LOCAL};
    uint64_t mask[BLOCK_MASK_WORDS];

    ck_assert(block_map_claim(&map, 5, 1, 1, mask));
    start(&waiter, claim_main);
    ck_assert(!waiter.done);
    block_map_claim_end(&map, 5, 1, 1, mask, NULL, true);
    pthread_join(waiter.thread, NULL);
    ck_assert_uint_eq(map.held[5], BLOCK_GENERATION_LOCAL);
}
END_TEST

START_TEST(a_store_that_waited_for_a_local_write_is_dropped)
{
    struct waiter waiter = {.first = 5, .count = 1, .generation = 3};
    uint64_t mask[BLOCK_MASK_WORDS];

    block_map_claim_local(&map, 5, 1, mask);
    start(&waiter, claim_main);
    ck_assert(!waiter.done);
    block_map_claim_end(&map, 5, 1, BLOCK_GENERATION_LOCAL, mask, NULL, true);
    pthread_join(waiter.thread, NULL);
    ck_assert(!waiter.result);
}
END_TEST

START_TEST(a_waiting_claim_is_freed_by_a_cancelled_one)
{
    struct waiter waiter = {.first = 5, .count = 1, .generation = 1};
    uint64_t mask[BLOCK_MASK_WORDS];

    ck_assert(block_map_claim(&map, 5, 1, 1, mask));
    start(&waiter, claim_main);
    block_map_claim_cancel(&map, 5, 1, mask);
    pthread_join(waiter.thread, NULL);
    ck_assert(waiter.result);
}
END_TEST

START_TEST(a_reader_waits_for_the_last_missing_page)
{
    struct waiter waiter = {.first = 10, .count = 3};

    store(11, 1, 1);
    start(&waiter, wait_main);
    store(10, 1, 1);
    pause_ms(10);
    ck_assert(!waiter.done);
    store(12, 1, 1);
    pthread_join(waiter.thread, NULL);
    ck_assert_int_eq(waiter.rc, 0);
    ck_assert_uint_eq(waiter.needs, 2); /* a run on each side of page 11 */
    ck_assert_uint_eq(waiter.asked, 2);
}
END_TEST

START_TEST(pages_are_asked_for_once)
{
    struct waiter one = {.first = 10, .count = 4}, two = {.first = 10, .count = 6};

    start(&one, wait_main);
    start(&two, wait_main);
    for (uint64_t page = 10; page < 16; page++)
        store(page, 1, 1);
    pthread_join(one.thread, NULL);
    pthread_join(two.thread, NULL);
    ck_assert_uint_eq(one.asked, 4);
    ck_assert_uint_eq(two.asked, 2);
}
END_TEST

START_TEST(forgotten_requests_are_asked_again)
{
    struct waiter waiter = {.first = 10, .count = 2};

    start(&waiter, wait_main);
    block_map_forget_requests(&map);
    pause_ms(20);
    store(10, 1, 1);
    store(11, 1, 1);
    pthread_join(waiter.thread, NULL);
    ck_assert_uint_eq(waiter.needs, 2);
}
END_TEST

START_TEST(a_page_announced_anew_is_asked_for_again)
{
    struct waiter waiter = {.first = 10, .count = 1};

    start(&waiter, wait_main);
    block_map_announce(&map, 10, 1, 2);
    block_map_fail(&map, 0); /* wakes the waiter */
    pause_ms(20);
    store(10, 2, 1);
    pthread_join(waiter.thread, NULL);
    ck_assert_uint_eq(waiter.needs, 2);
}
END_TEST

START_TEST(a_failure_frees_readers_until_it_is_lifted)
{
    struct waiter waiter = {.first = 10, .count = 1};

    start(&waiter, wait_main);
    block_map_fail(&map, EIO);
    pthread_join(waiter.thread, NULL);
    ck_assert_int_eq(waiter.rc, -EIO);
    block_map_fail(&map, 0);
    waiter.done = false;
    start(&waiter, wait_main);
    ck_assert(!waiter.done);
    store(10, 1, 1);
    pthread_join(waiter.thread, NULL);
    ck_assert_int_eq(waiter.rc, 0);
}
END_TEST

START_TEST(present_pages_are_read_though_the_map_failed)
{
    store(10, 1, 1);
    block_map_fail(&map, EIO);
    ck_assert_int_eq(block_map_wait(&map, 10, 1, NULL, NULL), 0);
}
END_TEST

static _Atomic bool asked, may_return;

static void need_slowly(void *opaque, uint64_t first, uint64_t count)
{
    need(opaque, first, count);
    asked = true;
    while (!may_return)
        pause_ms(1);
}

static void *wait_slowly_main(void *opaque)
{
    struct waiter *waiter = opaque;

    waiter->rc = block_map_wait(&map, waiter->first, waiter->count, need_slowly, waiter);
    return NULL;
}

static void *await_askers_main(void *opaque)
{
    struct waiter *waiter = opaque;

    block_map_await_askers(&map);
    waiter->done = true;
    return NULL;
}

/* What it asks may be freed then. */
START_TEST(whoever_asks_is_waited_for_when_the_map_fails)
{
    struct waiter reader = {.first = 10, .count = 1}, owner = {0};

    block_map_await_askers(&map);
    start(&reader, wait_slowly_main);
    while (!asked)
        pause_ms(1);
    block_map_fail(&map, EIO);
    start(&owner, await_askers_main);
    ck_assert(!owner.done);
    may_return = true;
    pthread_join(owner.thread, NULL);
    pthread_join(reader.thread, NULL);
    ck_assert_int_eq(reader.rc, -EIO);
}
END_TEST

START_TEST(an_arrival_does_not_end_while_a_page_is_missing_or_after_a_loss)
{
    uint64_t losses = block_map_losses(&map);

    ck_assert(!block_map_end_remote(&map, losses));
    store_all(1);
    ck_assert(block_map_lose(&map, 10));
    ck_assert(!block_map_end_remote(&map, losses));
    store(10, 1, 1); /* whoever looked before the loss has not seen this one */
    ck_assert(!block_map_end_remote(&map, losses));
    ck_assert(block_map_end_remote(&map, block_map_losses(&map)));
    ck_assert(present(PAGES - 1));
    ck_assert_uint_eq(block_map_missing(&map), 0);
}
END_TEST

static void *end_main(void *opaque)
{
    struct waiter *waiter = opaque;

    waiter->result = block_map_end_remote(&map, 0);
    waiter->done = true;
    return NULL;
}

START_TEST(the_end_of_the_arrival_waits_for_a_store)
{
    struct waiter waiter = {0};
    uint64_t mask[BLOCK_MASK_WORDS];

    store_all(1);
    ck_assert(block_map_claim(&map, 5, 1, 2, mask));
    start(&waiter, end_main);
    ck_assert(!waiter.done);
    block_map_claim_end(&map, 5, 1, 2, mask, NULL, true);
    pthread_join(waiter.thread, NULL);
    ck_assert(waiter.result);
}
END_TEST

START_TEST(what_comes_after_the_arrival_replaces_no_write)
{
    store_all(1);
    ck_assert(block_map_end_remote(&map, 0));
    ck_assert(!store(5, 2, 78));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, marks_at_word_borders_are_exact);
    tcase_add_test(tests, taking_clears_adds_and_warms);
    tcase_add_test(tests, heat_does_not_wrap_around);
    tcase_add_test(tests, a_local_device_has_everything);
}

/* A process is killed while page 7, which was announced anew, is being stored. */
START_TEST(a_successor_knows_what_arrived_and_distrusts_the_rest)
{
    void *memory = calloc(1, block_map_remote_size(PAGES));
    uint64_t mask[BLOCK_MASK_WORDS];
    struct block_map dead, heir;

    ck_assert_int_eq(block_map_init(&dead, PAGES) | block_map_init(&heir, PAGES), 0);
    ck_assert_int_eq(block_map_begin_remote_in(&dead, memory, false), 0);
    ck_assert(block_map_claim(&dead, 3, 1, 1, mask));
    block_map_claim_end(&dead, 3, 1, 1, mask, NULL, true);
    ck_assert(block_map_claim(&dead, 7, 1, 1, mask));
    block_map_claim_end(&dead, 7, 1, 1, mask, NULL, true);
    block_map_announce(&dead, 7, 1, 2);
    ck_assert(block_map_claim(&dead, 7, 1, 2, mask));

    ck_assert_int_eq(block_map_begin_remote_in(&heir, memory, true), 0);
    ck_assert(block_map_present(&heir, 3, 1));
    ck_assert(!block_map_present(&heir, 7, 1));
    ck_assert_uint_eq(block_map_missing(&heir), PAGES - 1);
    ck_assert_uint_eq(heir.held[3], 1);
    ck_assert_uint_eq(heir.held[7], 0); /* it may be half of either */
    ck_assert(!block_map_claim(&heir, 7, 1, 1, mask)); /* older than what was announced */
    ck_assert(block_map_claim(&heir, 7, 1, 2, mask)); /* the dead process's claim does not bind */
    block_map_release(&heir);
    block_map_release(&dead);
    free(memory);
}
END_TEST

static void add_remote_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup_remote, teardown);
    tcase_add_test(tests, an_arriving_device_lacks_everything);
    tcase_add_test(tests, a_stored_page_is_present);
    tcase_add_test(tests, the_same_generation_is_stored_once);
    tcase_add_test(tests, an_announced_page_is_missing_again);
    tcase_add_test(tests, an_old_announcement_changes_nothing);
    tcase_add_test(tests, content_older_than_announced_is_dropped);
    tcase_add_test(tests, every_order_of_arrival_ends_with_the_newest);
    tcase_add_test(tests, nothing_beats_a_local_write);
    tcase_add_test(tests, a_local_write_before_arrival_leaves_nothing_to_compare);
    tcase_add_test(tests, content_announced_anew_while_it_is_stored_is_stale);
    tcase_add_test(tests, a_claim_covers_only_what_is_wanted);
    tcase_add_test(tests, a_failed_store_leaves_nothing_that_counts);
    tcase_add_test(tests, a_cancelled_claim_changes_nothing);
    tcase_add_test(tests, a_second_writer_waits_and_is_judged_anew);
    tcase_add_test(tests, an_older_copy_does_not_wait_for_a_claim);
    tcase_add_test(tests, a_local_write_waits_for_a_store_and_wins);
    tcase_add_test(tests, a_store_that_waited_for_a_local_write_is_dropped);
    tcase_add_test(tests, a_waiting_claim_is_freed_by_a_cancelled_one);
    tcase_add_test(tests, a_reader_waits_for_the_last_missing_page);
    tcase_add_test(tests, pages_are_asked_for_once);
    tcase_add_test(tests, forgotten_requests_are_asked_again);
    tcase_add_test(tests, a_page_announced_anew_is_asked_for_again);
    tcase_add_test(tests, a_failure_frees_readers_until_it_is_lifted);
    tcase_add_test(tests, present_pages_are_read_though_the_map_failed);
    tcase_add_test(tests, whoever_asks_is_waited_for_when_the_map_fails);
    tcase_add_test(tests, the_end_of_the_arrival_waits_for_a_store);
    tcase_add_test(tests, what_comes_after_the_arrival_replaces_no_write);
    tcase_add_test(tests, an_arrival_does_not_end_while_a_page_is_missing_or_after_a_loss);
    tcase_add_test(tests, a_successor_knows_what_arrived_and_distrusts_the_rest);
}

int main(void)
{
    return unit_run("dirty pages", add_tests) | unit_run("arrival", add_remote_tests);
}

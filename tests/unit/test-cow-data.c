/* SPDX-License-Identifier: BSD-2-Clause */
/* The data path of the cow plugin over a base that counts, on files that fail when told to. */
#include "unit.h"

#include "../../plugins/storage/cow/cow.h"

#define PAGES 600
#define SIZE ((uint64_t)PAGES * DRAFTER_PAGE_SIZE)

static unsigned base_reads;
static int fail_sync, fail_write; /* negative errno for the next call */
static unsigned syncs;

static uint64_t base_size(void *instance)
{
    (void)instance;
    return SIZE;
}

static int base_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    (void)instance;
    (void)offset;
    base_reads++;
    memset(buffer, 0xba, length);
    return 0;
}

static int base_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    (void)instance, (void)size, (void)flags, (void)err;
    return 0;
}

static const struct drafter_storage_ops base_ops = {
    .open = base_open, .size = base_size, .pread = base_pread};

const struct drafter_storage_ops *drafter_next_storage(void *next, void **ret_instance)
{
    *ret_instance = next;
    return &base_ops;
}

static int failing_sync(void *file)
{
    int failure = fail_sync;

    syncs++;
    fail_sync = 0;
    return failure ? failure : cow_io_files.sync(file);
}

static int failing_pwrite(void *file, const void *buffer, size_t length, uint64_t offset)
{
    int failure = fail_write;

    fail_write = 0;
    return failure ? failure : cow_io_files.pwrite(file, buffer, length, offset);
}

static char *directory, *overlay, *state;
static struct cow_config config;
static struct cow_io io;
static struct cow *cow;

static void setup(void)
{
    struct drafter_context context = {.struct_size = sizeof context, .next = &base_reads};
    struct drafter_error err = {0};

    directory = unit_make_directory();
    overlay = unit_path(directory, "overlay");
    state = unit_path(directory, "state");
    config = (struct cow_config){.overlay = overlay, .state = state};
    io = cow_io_files;
    io.sync = failing_sync;
    io.pwrite = failing_pwrite;
    ck_assert_int_eq(cow_new(&context, &config, &io, NULL, &cow, &err), 0);
    ck_assert_msg(cow_open(cow, SIZE, DRAFTER_STORAGE_CREATE, &err) == 0, "%s", err.message);
    base_reads = syncs = 0;
}

static void teardown(void)
{
    cow_free(cow);
    free(overlay);
    free(state);
    unit_drop_directory(directory);
}

static uint8_t bytes[300 * 4096];

START_TEST(a_whole_page_reads_nothing_from_the_base)
{
    ck_assert_int_eq(cow_pwrite(cow, bytes, sizeof bytes, 4096), 0);
    ck_assert_int_eq(cow_zero(cow, 4096, SIZE - 4096), 0);
    ck_assert_uint_eq(base_reads, 0);
    ck_assert_uint_eq(atomic_load(&cow->base_copies), 0);
}
END_TEST

START_TEST(a_part_of_a_page_reads_it_once)
{
    ck_assert_int_eq(cow_pwrite(cow, bytes, 512, 4096), 0);
    ck_assert_int_eq(cow_pwrite(cow, bytes, 512, 4096 + 512), 0);
    ck_assert_uint_eq(base_reads, 1);
    ck_assert_int_eq(cow_pwrite(cow, bytes, 2 * 4096, 10 * 4096 + 512), 0); /* both ends */
    ck_assert_uint_eq(base_reads, 3);
}
END_TEST

START_TEST(a_failed_write_leaves_the_page_the_bases)
{
    uint8_t found[4096];

    fail_write = -ENOSPC;
    ck_assert_int_eq(cow_pwrite(cow, bytes, 4096, 0), -ENOSPC);
    fail_write = -EIO;
    ck_assert_int_eq(cow_pwrite(cow, bytes, 512, 0), -EIO);
    ck_assert(!cow_map_test(&cow->map, 0));
    ck_assert_int_eq(cow_pread(cow, found, 4096, 0), 0);
    ck_assert_uint_eq(found[0], 0xba);
    ck_assert_int_eq(cow_flush(cow), 0);
}
END_TEST

START_TEST(a_failed_sync_is_never_forgotten)
{
    ck_assert_int_eq(cow_pwrite(cow, bytes, 4096, 0), 0);
    fail_sync = -EIO;
    ck_assert_int_eq(cow_flush(cow), -EIO);
    ck_assert_int_eq(cow_flush(cow), -EIO);
    ck_assert_uint_eq(syncs, 1); /* the map was not written, and nothing was tried again */
}
END_TEST

START_TEST(a_flush_without_new_pages_leaves_the_map_alone)
{
    ck_assert_int_eq(cow_pwrite(cow, bytes, 4096, 0), 0);
    ck_assert_int_eq(cow_flush(cow), 0);
    ck_assert_uint_eq(syncs, 2);
    ck_assert_int_eq(cow_pwrite(cow, bytes, 4096, 0), 0);
    ck_assert_int_eq(cow_flush(cow), 0);
    ck_assert_uint_eq(syncs, 3);
}
END_TEST

static void *flush_thread(void *argument)
{
    (void)argument;
    return cow_flush(cow) == 0 ? NULL : cow;
}

START_TEST(flushes_that_wait_share_a_commit)
{
    pthread_t threads[16];

    /* As while a commit runs: all of them wait for the next one, which is one. */
    pthread_mutex_lock(&cow->commit.lock);
    cow->commit.running = true;
    cow->commit.started = 1;
    pthread_mutex_unlock(&cow->commit.lock);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, flush_thread, NULL), 0);
    usleep(50000);
    ck_assert_uint_eq(syncs, 0);
    pthread_mutex_lock(&cow->commit.lock);
    cow->commit.running = false;
    cow->commit.finished = 1;
    pthread_cond_broadcast(&cow->commit.done);
    pthread_mutex_unlock(&cow->commit.lock);
    for (int i = 0; i < 16; i++) {
        void *failed;

        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    ck_assert_uint_eq(syncs, 1);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_whole_page_reads_nothing_from_the_base);
    tcase_add_test(tests, a_part_of_a_page_reads_it_once);
    tcase_add_test(tests, a_failed_write_leaves_the_page_the_bases);
    tcase_add_test(tests, a_failed_sync_is_never_forgotten);
    tcase_add_test(tests, a_flush_without_new_pages_leaves_the_map_alone);
    tcase_add_test(tests, flushes_that_wait_share_a_commit);
}

int main(void)
{
    return unit_run("cow-data", add_tests);
}

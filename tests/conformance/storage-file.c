/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the file plugin promises, and what the null plugin can be made to do. */
#include "storage.h"

#include "util/io.h"
#include <sys/stat.h>
#include <unistd.h>

static struct instance *file_at(const char *path)
{
    return storage_make("file", (const char *const[]){"path", path, NULL}, NULL);
}

static void teardown(void)
{
    io_remove_tree(conformance_directory(), NULL);
    ck_assert_int_eq(io_make_directories(conformance_directory(), 0700, NULL), 0);
}

START_TEST(readers_share_and_a_writer_does_not)
{
    const char *path = conformance_path("disk");
    struct instance *a, *b, *writer;
    struct drafter_error err = {0};

    storage_write_file(path, 1, PAGE);
    a = storage_base(path);
    b = storage_base(path);
    writer = file_at(path);
    conformance_expect_error(storage_open(writer, 0, 0, &err), EBUSY, &err, "disk: in use");
    instance_free(a);
    instance_free(b);
    storage_must_open(writer, 0, 0);
    instance_free(writer);
}
END_TEST

START_TEST(a_longer_file_is_never_cut)
{
    const char *path = conformance_path("disk");
    struct instance *file = file_at(path);
    struct stat st;

    storage_write_file(path, 1, 5 * PAGE);
    storage_must_open(file, PAGE, DRAFTER_STORAGE_CREATE);
    ck_assert_uint_eq(storage_size(file), 5 * PAGE);
    instance_free(file);
    file = file_at(path);
    storage_must_open(file, 0, DRAFTER_STORAGE_CREATE);
    instance_free(file);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, 5 * PAGE);
}
END_TEST

START_TEST(a_new_file_takes_no_space)
{
    const char *path = conformance_path("disk");
    struct instance *file = file_at(path);
    enum drafter_extent_kind kind;
    uint64_t length;
    struct stat st;

    storage_must_open(file, 100 << 20, DRAFTER_STORAGE_CREATE);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_blocks, 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(storage_extent(file, PAGE, 10 * PAGE, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_ZERO);
    ck_assert_uint_eq(length, 10 * PAGE);
    instance_free(file);
}
END_TEST

START_TEST(a_missing_file_is_an_error_unless_created)
{
    struct instance *file = file_at(conformance_path("disk"));
    struct drafter_error err = {0};

    conformance_expect_error(storage_open(file, PAGE, 0, &err), ENOENT, &err, "disk: cannot open");
    ck_assert_int_ne(access(conformance_path("disk"), F_OK), 0);
    instance_free(file);
}
END_TEST

START_TEST(a_directory_is_refused)
{
    struct instance *file = file_at(conformance_directory());
    struct drafter_error err = {0};

    conformance_expect_error(storage_open(file, 0, DRAFTER_STORAGE_READONLY, &err), EINVAL, &err,
                             "neither a file nor a block device");
    instance_free(file);
}
END_TEST

START_TEST(null_fails_when_told_to)
{
    struct instance *null = storage_make(
        "null", (const char *const[]){"size", "64k", "fail-read-at", "2", "fail-write-at", "3",
                                      "fail-flush", "2", NULL}, NULL);
    uint8_t bytes[512] = {1};

    storage_must_open(null, 0, 0);
    ck_assert_int_eq(storage_read(null, bytes, 512, 0), 0);
    ck_assert_int_eq(storage_read(null, bytes, 512, 0), -EIO);
    ck_assert_int_eq(storage_read(null, bytes, 512, 0), 0);
    ck_assert_int_eq(storage_write(null, bytes, 512, 0), 0);
    ck_assert_int_eq(storage_zero(null, 512, 0), 0);
    ck_assert_int_eq(storage_write(null, bytes, 512, 0), -EIO);
    ck_assert_int_eq(storage_write(null, bytes, 512, 0), 0);
    ck_assert_int_eq(storage_flush(null), 0);
    ck_assert_int_eq(storage_flush(null), -EIO);
    ck_assert_int_eq(storage_flush(null), -EIO);
    instance_free(null);
}
END_TEST

START_TEST(null_takes_its_time)
{
    struct instance *null = storage_make(
        "null", (const char *const[]){"size", "64k", "latency", "20ms", NULL}, NULL);
    uint64_t start = conformance_now_ms();
    uint8_t bytes[512];

    storage_must_open(null, 0, 0);
    ck_assert_int_eq(storage_read(null, bytes, 512, 0), 0);
    ck_assert_uint_ge(conformance_now_ms() - start, 19);
    instance_free(null);
}
END_TEST

TCase *storage_file_case(void)
{
    TCase *tests = tcase_create("file");

    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, readers_share_and_a_writer_does_not);
    tcase_add_test(tests, a_longer_file_is_never_cut);
    tcase_add_test(tests, a_new_file_takes_no_space);
    tcase_add_test(tests, a_missing_file_is_an_error_unless_created);
    tcase_add_test(tests, a_directory_is_refused);
    if (conformance_available(DRAFTER_KIND_STORAGE, "null")) {
        tcase_add_test(tests, null_fails_when_told_to);
        tcase_add_test(tests, null_takes_its_time);
    }
    return tests;
}

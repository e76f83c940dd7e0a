/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include <pthread.h>
#include <sys/stat.h>

static char *directory;

static void make(void)
{
    directory = unit_make_directory();
}

static void drop(void)
{
    unit_drop_directory(directory);
}

static bool exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

static void touch(const char *path)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
}

START_TEST(whole_transfers_at_an_offset)
{
    cleanup_free char *path = unit_path(directory, "file");
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char buffer[8] = {0};

    ck_assert_int_eq(io_pwrite_full(fd, "abcdef", 6, 3), 0);
    ck_assert_int_eq(io_pread_full(fd, buffer, 6, 3), 0);
    ck_assert_str_eq(buffer, "abcdef");
    ck_assert_int_eq(io_pread_full(fd, buffer, 0, 100), 0);
}
END_TEST

START_TEST(a_short_file_is_no_data)
{
    cleanup_free char *path = unit_path(directory, "file");
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char buffer[8];

    ck_assert_int_eq(io_write_full(fd, "abcd", 4), 0);
    ck_assert_int_eq(io_pread_full(fd, buffer, 5, 0), -ENODATA);
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    ck_assert_int_eq(io_read_full(fd, buffer, 5), -ENODATA);
}
END_TEST

START_TEST(errors_are_negative_errno)
{
    char byte = 0;

    ck_assert_int_eq(io_pread_full(-1, &byte, 1, 0), -EBADF);
    ck_assert_int_eq(io_pwrite_full(-1, &byte, 1, 0), -EBADF);
    ck_assert_int_eq(io_read_full(-1, &byte, 1), -EBADF);
    ck_assert_int_eq(io_write_full(-1, &byte, 1), -EBADF);
}
END_TEST

/* A pipe takes and gives less at a time than is asked for. */
static void *write_much(void *fd)
{
    static char data[300000];

    data[299999] = 'z';
    ck_assert_int_eq(io_write_full(*(int *)fd, data, sizeof(data)), 0);
    return NULL;
}

START_TEST(partial_transfers_are_continued)
{
    static char data[300000];
    pthread_t thread;
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, write_much, &ends[1]), 0);
    ck_assert_int_eq(io_read_full(ends[0], data, sizeof(data)), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(data[299999], 'z');
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(one_byte_anywhere_is_not_zero)
{
    unsigned char data[100] = {0};

    for (size_t length = 0; length <= sizeof(data); length++) {
        ck_assert(io_is_zero(data, length));
        for (size_t at = 0; at < length; at++) {
            data[at] = 1;
            ck_assert(!io_is_zero(data, length));
            data[at] = 0;
        }
    }
}
END_TEST

START_TEST(reading_a_file_gives_its_bytes_and_a_terminator)
{
    cleanup_free char *path = unit_path(directory, "file"), *data = NULL;
    size_t length = 0;
    static char content[20000];

    memset(content, 'x', sizeof(content));
    ck_assert_int_eq(io_replace_file(path, content, sizeof(content), 0600, NULL), 0);
    ck_assert_int_eq(io_read_file(path, sizeof(content), &data, &length, NULL), 0);
    ck_assert_uint_eq(length, sizeof(content));
    ck_assert_int_eq(data[length], '\0');
    ck_assert_mem_eq(data, content, length);
}
END_TEST

START_TEST(a_file_beyond_the_limit_is_refused)
{
    cleanup_free char *path = unit_path(directory, "file"), *data = NULL;
    struct drafter_error err = {0};

    ck_assert_int_eq(io_replace_file(path, "abcdef", 6, 0600, NULL), 0);
    ck_assert_int_eq(io_read_file(path, 5, &data, NULL, &err), -EFBIG);
    ck_assert_ptr_null(data);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    ck_assert_int_eq(io_read_file(path, 6, &data, NULL, &err), 0);
    ck_assert_int_eq(io_read_file("/dev/zero", 1 << 16, &data, NULL, &err), -EFBIG);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    cleanup_free char *path = unit_path(directory, "none"), *data = NULL;
    struct drafter_error err = {0};

    ck_assert_int_eq(io_read_file(path, 5, &data, NULL, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, path));
}
END_TEST

START_TEST(replacing_keeps_mode_and_leaves_nothing_beside)
{
    cleanup_free char *path = unit_path(directory, "file"), *data = NULL;
    struct stat info;

    ck_assert_int_eq(io_replace_file(path, "old", 3, 0640, NULL), 0);
    ck_assert_int_eq(io_replace_file(path, "newer", 5, 0600, NULL), 0);
    ck_assert_int_eq(io_read_file(path, 100, &data, NULL, NULL), 0);
    ck_assert_str_eq(data, "newer");
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0640);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(a_failed_replacement_leaves_the_old_content)
{
    cleanup_free char *path = unit_path(directory, "taken");
    struct drafter_error err = {0};

    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_lt(io_replace_file(path, "x", 1, 0600, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(directories_are_made_as_needed)
{
    cleanup_free char *path = unit_path(directory, "a//b/c/"), *file = unit_path(directory, "f");
    cleanup_free char *below = unit_path(directory, "f/x");
    struct drafter_error err = {0};

    ck_assert_int_eq(io_make_directories(path, 0700, &err), 0);
    ck_assert_int_eq(io_make_directories(path, 0700, &err), 0);
    ck_assert(exists(path));
    touch(file);
    ck_assert_int_eq(io_make_directories(file, 0700, &err), -ENOTDIR);
    ck_assert_int_eq(io_make_directories(below, 0700, &err), -ENOTDIR);
}
END_TEST

START_TEST(removing_a_tree_does_not_follow_links)
{
    cleanup_free char *tree = unit_path(directory, "tree"), *deep = unit_path(tree, "a/b");
    cleanup_free char *file = unit_path(deep, "f"), *link = unit_path(deep, "link");
    cleanup_free char *precious = unit_path(directory, "precious");
    cleanup_free char *kept = unit_path(precious, "kept");
    struct drafter_error err = {0};

    ck_assert_int_eq(io_make_directories(deep, 0700, &err), 0);
    ck_assert_int_eq(io_make_directories(precious, 0700, &err), 0);
    touch(file);
    touch(kept);
    ck_assert_int_eq(symlink(precious, link), 0);
    ck_assert_int_eq(io_remove_tree(tree, &err), 0);
    ck_assert(!exists(tree));
    ck_assert(exists(kept));
    ck_assert_int_eq(io_remove_tree(tree, &err), 0);
    ck_assert_int_eq(symlink(precious, tree), 0);
    ck_assert_int_lt(io_remove_tree(tree, &err), 0);
    ck_assert(exists(kept));
}
END_TEST

START_TEST(removing_a_tree_leaves_no_descriptor)
{
    cleanup_free char *tree = unit_path(directory, "tree"), *deep = unit_path(tree, "a/b");
    int before = dup(0), after;

    close(before);
    ck_assert_int_eq(io_make_directories(deep, 0700, NULL), 0);
    ck_assert_int_eq(io_remove_tree(tree, NULL), 0);
    after = dup(0);
    close(after);
    ck_assert_int_eq(after, before);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, make, drop);
    tcase_add_test(tests, whole_transfers_at_an_offset);
    tcase_add_test(tests, a_short_file_is_no_data);
    tcase_add_test(tests, errors_are_negative_errno);
    tcase_add_test(tests, partial_transfers_are_continued);
    tcase_add_test(tests, one_byte_anywhere_is_not_zero);
    tcase_add_test(tests, reading_a_file_gives_its_bytes_and_a_terminator);
    tcase_add_test(tests, a_file_beyond_the_limit_is_refused);
    tcase_add_test(tests, a_missing_file_is_named);
    tcase_add_test(tests, replacing_keeps_mode_and_leaves_nothing_beside);
    tcase_add_test(tests, a_failed_replacement_leaves_the_old_content);
    tcase_add_test(tests, directories_are_made_as_needed);
    tcase_add_test(tests, removing_a_tree_does_not_follow_links);
    tcase_add_test(tests, removing_a_tree_leaves_no_descriptor);
}

int main(void)
{
    return unit_run("io", add_tests);
}

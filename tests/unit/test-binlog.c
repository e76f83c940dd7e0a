/* SPDX-License-Identifier: BSD-2-Clause */
#include "block/binlog.h"

#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define SIZE ((uint64_t)64 << 20)
#define THREADS 4
#define EACH 500

static char *directory, *path;
static char data[BINLOG_DATA_MAX], back[BINLOG_DATA_MAX];
static struct drafter_error err;

static void setup(void)
{
    directory = unit_make_directory();
    path = unit_path(directory, "log");
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 251);
}

static void teardown(void)
{
    free(path);
    unit_drop_directory(directory);
}

static struct binlog *create(uint64_t limit, bool with_data)
{
    struct binlog *log = NULL;

    ck_assert_msg(!binlog_create(path, "disk", SIZE, limit, with_data, &log, &err), "%s", err.message);
    return log;
}

static struct binlog_reader begin(void)
{
    struct binlog_reader reader;

    ck_assert_msg(!binlog_open(path, &reader, &err), "%s", err.message);
    ck_assert_str_eq(reader.device, "disk");
    ck_assert_uint_eq(reader.size, SIZE);
    return reader;
}

static void expect(struct binlog_reader *reader, enum binlog_kind kind, uint64_t offset, uint64_t length)
{
    struct binlog_record record;

    ck_assert_msg(binlog_next(reader, &record, back, &err) == 1, "%s", err.message);
    ck_assert_int_eq(record.kind, kind);
    ck_assert_uint_eq(record.offset, offset);
    ck_assert_uint_eq(record.length, length);
    if (record.data)
        ck_assert_mem_eq(back, data, length);
}

static int end(struct binlog_reader *reader)
{
    struct binlog_record record;
    int rc;

    while ((rc = binlog_next(reader, &record, back, &err)) == 1)
        ;
    binlog_reader_close(reader);
    return rc;
}

START_TEST(what_was_recorded_is_read_back)
{
    struct binlog *log = create(SIZE, true);
    struct binlog_reader reader;
    static const char zeros[4096];
    char *large = malloc(2 * sizeof(data) + 512);

    for (int i = 0; i < 3; i++)
        memcpy(large + i * sizeof(data), data, i < 2 ? sizeof(data) : 512);
    binlog_add(log, BINLOG_WRITE, data, 4096, 8192);
    binlog_add(log, BINLOG_WRITE, zeros, 4096, 0);
    binlog_add(log, BINLOG_READ, data, 512, SIZE - 512);
    binlog_add(log, BINLOG_TRIM, NULL, SIZE, 0);
    binlog_add(log, BINLOG_FLUSH, NULL, 0, 0);
    binlog_add(log, BINLOG_WRITE, large, 2 * sizeof(data) + 512, 4096);
    free(large);
    binlog_close(log);
    reader = begin();
    expect(&reader, BINLOG_WRITE, 8192, 4096);
    expect(&reader, BINLOG_ZERO, 0, 4096);
    expect(&reader, BINLOG_READ, SIZE - 512, 512);
    expect(&reader, BINLOG_TRIM, 0, SIZE);
    expect(&reader, BINLOG_FLUSH, 0, 0);
    expect(&reader, BINLOG_WRITE, 4096, BINLOG_DATA_MAX);
    expect(&reader, BINLOG_WRITE, 4096 + BINLOG_DATA_MAX, BINLOG_DATA_MAX);
    expect(&reader, BINLOG_WRITE, 4096 + 2 * BINLOG_DATA_MAX, 512);
    ck_assert_int_eq(end(&reader), 0);
    ck_assert(reader.complete);
}
END_TEST

static void *record_many(void *opaque)
{
    for (uint64_t i = 0; i < EACH; i++)
        binlog_add(opaque, i % 3 ? BINLOG_WRITE : BINLOG_READ, data, 512 + i % 64 * 512, i * 4096);
    return NULL;
}

START_TEST(threads_record_at_the_same_time)
{
    struct binlog *log = create(SIZE, true);
    struct binlog_reader reader;
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, record_many, log), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    binlog_close(log);
    reader = begin();
    ck_assert_msg(end(&reader) == 0, "%s", err.message);
    ck_assert_uint_eq(reader.count, THREADS * EACH + 1);
}
END_TEST

START_TEST(the_file_ends_at_its_limit)
{
    struct binlog *log = create(100000, true);
    struct binlog_reader reader;
    struct stat status;

    record_many(log);
    binlog_close(log);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert(status.st_size > 60000 && status.st_size <= 100000);
    ck_assert_int_eq(status.st_mode & 07777, 0600);
    reader = begin();
    ck_assert_int_eq(end(&reader), 0);
    ck_assert(!reader.complete && reader.count > 5);
    log = create(4096, false); /* small records, to the last that fits */
    record_many(log);
    binlog_close(log);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert(status.st_size > 4096 - 128 && status.st_size <= 4096);
}
END_TEST

START_TEST(a_full_disk_ends_the_recording_alone)
{
    struct rlimit limit = {50000, 50000};
    struct binlog *log = create(SIZE, true);
    struct binlog_reader reader;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    record_many(log);
    binlog_close(log);
    reader = begin();
    ck_assert_int_eq(end(&reader), -EBADMSG); /* of the last record a part was written */
    ck_assert_uint_gt(reader.count, 2);
}
END_TEST

START_TEST(without_data_a_record_is_small_and_its_data_can_be_made_up)
{
    struct binlog *log = create(SIZE, false);
    struct binlog_record record = {0};
    struct binlog_reader reader;

    binlog_add(log, BINLOG_WRITE, data, 65536, 0);
    binlog_close(log);
    reader = begin();
    ck_assert_uint_eq(reader.end, 128 + 2 * 48);
    ck_assert_int_eq(binlog_next(&reader, &record, back, &err), 1);
    ck_assert(!record.data);
    binlog_invent(&record, back);
    binlog_invent(&record, data);
    ck_assert_mem_eq(back, data, record.length);
    record.hash += 2;
    binlog_invent(&record, data);
    ck_assert_mem_ne(back, data, record.length);
    ck_assert_int_eq(end(&reader), 0);
}
END_TEST

START_TEST(any_changed_byte_is_found)
{
    struct binlog *log = create(SIZE, true);
    struct binlog_reader reader;
    uint64_t length;
    int fd;

    binlog_add(log, BINLOG_WRITE, data, 512, 0);
    binlog_close(log);
    reader = begin();
    length = reader.end;
    ck_assert_int_eq(end(&reader), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (uint64_t at = 0; at < length; at++) {
        char byte, other;

        ck_assert_int_eq(io_pread_full(fd, &byte, 1, at), 0);
        other = (char)(byte ^ 0x40);
        ck_assert_int_eq(io_pwrite_full(fd, &other, 1, at), 0);
        ck_assert(binlog_open(path, &reader, &err) || end(&reader));
        ck_assert_int_eq(io_pwrite_full(fd, &byte, 1, at), 0);
    }
    for (uint64_t shorter = length - 48; --shorter > 128 + 48;) {
        ck_assert_int_eq(ftruncate(fd, (off_t)shorter), 0);
        reader = begin();
        ck_assert_int_eq(end(&reader), -EBADMSG);
    }
    close(fd);
}
END_TEST

START_TEST(what_is_no_binlog_is_not_replaced)
{
    struct binlog *log;

    ck_assert_int_eq(io_replace_file(path, "precious", 8, 0600, NULL), 0);
    ck_assert_int_eq(binlog_create(path, "disk", SIZE, SIZE, true, &log, &err), -EEXIST);
    ck_assert_int_eq(binlog_create(directory, "disk", SIZE, SIZE, true, &log, &err), -EISDIR);
    ck_assert_int_eq(binlog_create("/dev/null", "disk", SIZE, SIZE, true, &log, &err), -EEXIST);
    unlink(path);
    binlog_close(create(SIZE, true));
    binlog_close(create(SIZE, true));
    binlog_close(NULL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_was_recorded_is_read_back);
    tcase_add_test(tests, threads_record_at_the_same_time);
    tcase_add_test(tests, the_file_ends_at_its_limit);
    tcase_add_test(tests, a_full_disk_ends_the_recording_alone);
    tcase_add_test(tests, without_data_a_record_is_small_and_its_data_can_be_made_up);
    tcase_add_test(tests, any_changed_byte_is_found);
    tcase_add_test(tests, what_is_no_binlog_is_not_replaced);
}

int main(void)
{
    return unit_run("binlog", add_tests);
}

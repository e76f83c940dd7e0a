/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the package plugin promises: the device as it was packed, checked piece by piece, and never written. */
#include "storage.h"

#include "pack/writer.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SIZE ((uint64_t)(6 << 20) + 1000)
#define HOLE_START (1 << 20)
#define HOLE_END (3 << 20)
#define FRAME PACK_FRAME_DEFAULT

static char package[600], source[600];
static uint8_t expected[SIZE];
static struct instance *storage;

static void pack(void)
{
    const struct pack_file files[] = {{"disk", source}, {"other", source}};
    const struct pack_write_options options = {.files = files, .count = 2, .path = package,
                                               .level = 3, .frame_size = FRAME, .threads = 2,
                                               .progress = PROGRESS_NONE};
    struct drafter_error err = {0};
    struct pack_written written;

    ck_assert_msg(!pack_write(&options, &written, &err), "%s", err.message);
}

static struct instance *make(const char *device, const char *cache)
{
    return storage_make("package", (const char *const[]){"path", package, "device", device, "cache-size",
                                                         cache, NULL}, NULL);
}

/* In all of the storage below. */
static struct instance *make_over(struct instance *below, const char *device)
{
    return storage_make("package", (const char *const[]){"device", device, NULL}, below);
}

static void setup(void)
{
    cleanup_close int fd = -1;

    snprintf(package, sizeof(package), "%s", conformance_path("package"));
    snprintf(source, sizeof(source), "%s", conformance_path("source"));
    conformance_fill(expected, SIZE, 5, 0);
    memset(expected + HOLE_START, 0, HOLE_END - HOLE_START);
    fd = open(source, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_eq(io_pwrite_full(fd, expected, SIZE, 0), 0);
    pack();
    storage = make("disk", "0"); /* one frame is kept, whatever is said */
    storage_must_open(storage, 0, DRAFTER_STORAGE_READONLY);
    ck_assert_uint_eq(storage_size(storage), SIZE);
}

static void teardown(void)
{
    instance_free(storage);
    io_remove_tree(conformance_directory(), NULL);
    ck_assert_int_eq(io_make_directories(conformance_directory(), 0700, NULL), 0);
}

static void read_some_of(struct instance *from, unsigned *seed, unsigned count)
{
    cleanup_free uint8_t *buffer = malloc(3 * FRAME);

    for (unsigned i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)rand_r(seed) % SIZE;
        size_t length = (size_t)rand_r(seed) % (i % 2 ? 5000 : 3 * FRAME);

        length = length > SIZE - offset ? (size_t)(SIZE - offset) : length;
        ck_assert_int_eq(storage_read(from, buffer, length, offset), 0);
        ck_assert_int_eq(memcmp(buffer, expected + offset, length), 0);
    }
}

static void read_some(unsigned *seed, unsigned count)
{
    read_some_of(storage, seed, count);
}

static void *read_main(void *seed)
{
    read_some(seed, 150);
    return NULL;
}

START_TEST(any_part_is_what_was_packed)
{
    pthread_t threads[4];
    unsigned seeds[4] = {1, 2, 3, 4}, seed = 9;

    read_some(&seed, 300);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_main, &seeds[i]), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_lt(storage_read(storage, &seed, 2, SIZE - 1), 0);
}
END_TEST

START_TEST(zeros_are_told_from_data)
{
    enum drafter_extent_kind kind;
    uint64_t length;

    ck_assert_int_eq(storage_extent(storage, 0, SIZE, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_DATA);
    ck_assert_int_eq(storage_extent(storage, HOLE_START + 512, SIZE - HOLE_START - 512, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_ZERO);
    ck_assert_uint_eq(length, HOLE_END - HOLE_START - 512);
}
END_TEST

START_TEST(nothing_is_written)
{
    struct instance *writer = make("disk", "1M");
    struct drafter_error err = {0};

    ck_assert_int_eq(storage_write(storage, expected, PAGE, 0), -EROFS);
    ck_assert_int_eq(storage_zero(storage, PAGE, 0), -EROFS);
    ck_assert_int_eq(storage_flush(storage), 0);
    ck_assert_int_eq(storage_open(writer, 0, 0, &err), -EROFS);
    ck_assert_int_eq(storage_open(writer, SIZE, DRAFTER_STORAGE_CREATE, &err), -EROFS);
    ck_assert_int_eq(storage_open(writer, SIZE + 1, DRAFTER_STORAGE_READONLY, &err), -EINVAL);
    instance_free(writer);
}
END_TEST

START_TEST(an_overlay_takes_what_changes)
{
    struct instance *cow = storage_cow(storage, "over");
    uint8_t page[PAGE], found[PAGE];

    conformance_fill(page, PAGE, 77, 0);
    storage_must_open(cow, SIZE, DRAFTER_STORAGE_CREATE);
    ck_assert_int_eq(storage_write(cow, page, PAGE, 5 * PAGE), 0);
    ck_assert_int_eq(storage_read(cow, found, PAGE, 5 * PAGE), 0);
    ck_assert_int_eq(memcmp(found, page, PAGE), 0);
    ck_assert_int_eq(storage_read(cow, found, PAGE, 6 * PAGE), 0);
    ck_assert_int_eq(memcmp(found, expected + 6 * PAGE, PAGE), 0);
    instance_free(cow);
}
END_TEST

/* Two frames: one that is damaged, and one that is not. */
START_TEST(damage_is_never_served)
{
    uint8_t found[PAGE];

    storage_damage(package, NULL, 16, 3000);
    ck_assert_int_eq(storage_read(storage, found, PAGE, 0), -EBADMSG);
    ck_assert_int_eq(storage_read(storage, found, PAGE, 0), -EBADMSG);
    ck_assert_int_eq(storage_read(storage, found, PAGE, 5 << 20), 0);
    ck_assert_int_eq(memcmp(found, expected + (5 << 20), PAGE), 0);
}
END_TEST

START_TEST(what_is_not_there_is_refused)
{
    static const char *const wrong[] = {"nothing", "", "../disk"};
    struct drafter_error err = {0};

    for (unsigned i = 0; i < 3; i++) {
        struct instance *other = make(wrong[i], "1M");

        ck_assert_int_eq(storage_open(other, 0, DRAFTER_STORAGE_READONLY, &err), -ENOENT);
        instance_free(other);
    }
}
END_TEST

/* A plain archive, as the original's earlier tools made them. */
START_TEST(a_plain_archive_is_read_in_place)
{
    uint8_t block[PACK_BLOCK], found[PAGE];
    cleanup_close int fd = open(package, O_RDWR | O_TRUNC | O_CLOEXEC);
    uint64_t second = PACK_BLOCK + pack_padded(1000);
    struct drafter_error err = {0};
    struct instance *plain;

    pack_tar_header("first", 1000, block);
    ck_assert_int_eq(io_pwrite_full(fd, block, sizeof(block), 0), 0);
    pack_tar_header("disk", SIZE, block);
    ck_assert_int_eq(io_pwrite_full(fd, block, sizeof(block), second), 0);
    ck_assert_int_eq(io_pwrite_full(fd, expected, SIZE, second + PACK_BLOCK), 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)(second + PACK_BLOCK + pack_padded(SIZE) + 1024)), 0);
    plain = make("disk", "1M");
    storage_must_open(plain, SIZE, DRAFTER_STORAGE_READONLY);
    ck_assert_int_eq(storage_read(plain, found, PAGE, 7 * PAGE), 0);
    ck_assert_int_eq(memcmp(found, expected + 7 * PAGE, PAGE), 0);
    instance_free(plain);
    ck_assert_int_eq(ftruncate(fd, (off_t)second + 4000), 0);
    plain = make("disk", "1M");
    ck_assert_int_eq(storage_open(plain, 0, DRAFTER_STORAGE_READONLY, &err), -EINVAL);
    instance_free(plain);
}
END_TEST

START_TEST(several_devices_are_read_from_one_storage_below)
{
    struct instance *below = storage_make("file", (const char *const[]){"path", package, NULL}, NULL);
    struct instance *disk = make_over(below, "disk"), *other = make_over(below, "other");
    struct instance *none = make_over(below, "none");
    struct drafter_error err = {0};
    uint8_t found[PAGE];
    unsigned seed = 5;

    ck_assert_int_eq(storage_open(disk, 0, 0, &err), -EROFS);
    storage_must_open(disk, SIZE, DRAFTER_STORAGE_READONLY);
    storage_must_open(other, 0, DRAFTER_STORAGE_READONLY);
    ck_assert_int_eq(storage_open(none, 0, DRAFTER_STORAGE_READONLY, &err), -ENOENT);
    read_some_of(disk, &seed, 50);
    read_some_of(other, &seed, 50);
    storage_damage(package, NULL, 16, 3000);
    ck_assert_int_eq(storage_read(disk, found, PAGE, 0), -EBADMSG);
    instance_free(disk);
    instance_free(other);
    instance_free(none);
    instance_free(below);
}
END_TEST

START_TEST(it_is_either_in_a_file_or_in_a_storage)
{
    const char *const both[] = {"path", package, "device", "disk", NULL};
    struct instance *below = storage_make("file", (const char *const[]){"path", package, NULL}, NULL), *made;
    struct drafter_error err = {0};

    ck_assert_int_eq(instance_new(DRAFTER_KIND_STORAGE, NULL, "package", both, "both",
                                  conformance_directory(), below, &made, &err), -EINVAL);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_STORAGE, NULL, "package", both + 2, "neither",
                                  conformance_directory(), NULL, &made, &err), -EINVAL);
    instance_free(below);
}
END_TEST

TCase *storage_package_case(void)
{
    TCase *tests = tcase_create("package");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, any_part_is_what_was_packed);
    tcase_add_test(tests, zeros_are_told_from_data);
    tcase_add_test(tests, nothing_is_written);
    tcase_add_test(tests, an_overlay_takes_what_changes);
    tcase_add_test(tests, damage_is_never_served);
    tcase_add_test(tests, what_is_not_there_is_refused);
    tcase_add_test(tests, a_plain_archive_is_read_in_place);
    if (conformance_available(DRAFTER_KIND_STORAGE, "file")) {
        tcase_add_test(tests, several_devices_are_read_from_one_storage_below);
        tcase_add_test(tests, it_is_either_in_a_file_or_in_a_storage);
    }
    return tests;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Packages: what goes in comes out, the same bytes each time, and what was changed is noticed. */
#include "unit.h"

#include "pack/extract.h"
#include "trust/keygen.h"

#include <sodium.h>
#include <sys/stat.h>
#include <zstd.h>

#define DISK_SIZE ((UINT32_C(5) << 20) + 777)
#define MEMORY_SIZE (UINT64_C(40) << 20)

static char *directory;
static struct drafter_error err;
static struct pack_written written;

static void fill(const char *name, uint64_t size, bool holes)
{
    cleanup_free char *path = unit_path(directory, name);
    cleanup_free uint8_t *data = malloc(1 << 20);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    for (uint64_t at = 0, i = 0; at < size; at += 1 << 20, i++) {
        uint64_t length = size - at < 1 << 20 ? size - at : 1 << 20;

        if (i >= 4 && i < 30) { /* zeros, written or not */
            memset(data, 0, length);
            if (holes)
                continue;
        } else {
            randombytes_buf_deterministic(data, length, (const uint8_t[randombytes_SEEDBYTES]){
                                                            (uint8_t)i});
            memset(data + length / 3, 'x', length / 3);
        }
        ck_assert_int_eq(io_pwrite_full(fd, data, length, at), 0);
    }
}

static void make(void)
{
    directory = unit_make_directory();
    ck_assert_int_ge(sodium_init(), 0);
    fill("disk", DISK_SIZE, true);
    fill("memory", MEMORY_SIZE, true);
}

static void drop(void)
{
    unit_drop_directory(directory);
}

/* Packs disk and memory, as PREFIXdisk and so on, as NAME. */
static int pack_as(const char *name, const char *prefix, unsigned threads, const char *reuse,
                   const char *sign)
{
    char disk[256], memory[256], path[256];
    const struct pack_file files[] = {{"disk", disk}, {"memory", memory}};
    const struct pack_write_options options = {.files = files,
                                               .count = 2,
                                               .path = path,
                                               .reuse = reuse,
                                               .sign = sign,
                                               .level = 3,
                                               .frame_size = PACK_FRAME_DEFAULT,
                                               .threads = threads,
                                               .progress = PROGRESS_NONE};

    snprintf(disk, sizeof(disk), "%s/%sdisk", directory, prefix);
    snprintf(memory, sizeof(memory), "%s/%smemory", directory, prefix);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    err = (struct drafter_error){0};
    return pack_write(&options, &written, &err);
}

static void assert_same(const char *one, const char *other)
{
    cleanup_free char *path = unit_path(directory, one), *second = unit_path(directory, other);
    cleanup_free char *data = NULL, *more = NULL;
    size_t length, size;

    ck_assert_int_eq(io_read_file(path, 1 << 30, &data, &length, NULL), 0);
    ck_assert_int_eq(io_read_file(second, 1 << 30, &more, &size, NULL), 0);
    ck_assert_uint_eq(length, size);
    ck_assert_int_eq(memcmp(data, more, size), 0);
}

/* Opens NAME and does what `what` does, with outputs new-memory and new-disk. */
static int with_package(const char *name, int (*what)(const struct pack_reader *,
                                                      const struct pack_extract_options *,
                                                      struct drafter_error *))
{
    cleanup_free char *path = unit_path(directory, name);
    cleanup_free char *memory = unit_path(directory, "new-memory");
    cleanup_free char *disk = unit_path(directory, "new-disk");
    const struct pack_file files[] = {{"memory", memory}, {"disk", disk}};
    const struct pack_extract_options options = {
        .files = files, .count = 2, .threads = 3, .progress = PROGRESS_NONE};
    struct pack_reader reader;
    int rc;

    err = (struct drafter_error){0};
    rc = pack_reader_open(path, &reader, &err);
    if (rc)
        return rc;
    rc = what(&reader, &options, &err);
    pack_reader_close(&reader);
    return rc;
}

static unsigned entries_like(const char *part)
{
    char command[512];
    FILE *list;
    unsigned count = 0;

    snprintf(command, sizeof(command), "ls %s | grep -c -e '%s'", directory, part);
    list = popen(command, "r"); /* lint: a test */
    ck_assert_int_eq(fscanf(list, "%u", &count), 1);
    pclose(list);
    return count;
}

START_TEST(what_goes_in_comes_out_in_any_order)
{
    cleanup_free char *path = unit_path(directory, "new-memory");
    struct stat status;

    ck_assert_msg(!pack_as("package", "", 2, NULL, NULL), "%s", err.message);
    ck_assert_msg(!with_package("package", pack_verify), "%s", err.message);
    ck_assert_msg(!with_package("package", pack_extract), "%s", err.message);
    assert_same("disk", "new-disk");
    assert_same("memory", "new-memory");
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_lt(status.st_blocks * 512, 20 << 20); /* 26 MiB of it are zeros */
    ck_assert_uint_eq(entries_like("part"), 0);
}
END_TEST

START_TEST(the_same_input_gives_the_same_bytes)
{
    fill("dense-disk", DISK_SIZE, false);
    fill("dense-memory", MEMORY_SIZE, false);
    ck_assert_int_eq(pack_as("one", "", 1, NULL, NULL), 0);
    ck_assert_int_eq(pack_as("four", "dense-", 4, NULL, NULL), 0);
    assert_same("one", "four");
}
END_TEST

START_TEST(what_did_not_change_is_taken_over)
{
    cleanup_free char *old = unit_path(directory, "old"), *disk = unit_path(directory, "disk");
    cleanup_close int fd = open(disk, O_WRONLY | O_CLOEXEC);

    ck_assert_int_eq(pack_as("old", "", 2, NULL, NULL), 0);
    ck_assert_int_eq(io_pwrite_full(fd, "changed", 7, 1 << 20), 0);
    ck_assert_int_eq(pack_as("new", "", 2, old, NULL), 0);
    ck_assert_uint_gt(written.reused, 10 << 20);
    ck_assert_int_eq(pack_as("anew", "", 2, NULL, NULL), 0);
    ck_assert_uint_eq(written.reused, 0);
    assert_same("new", "anew");
}
END_TEST

/* Flips bytes all over the package: each is noticed, by verify and by whoever takes devices out. */
START_TEST(what_was_changed_is_noticed)
{
    cleanup_free char *path = unit_path(directory, "package");
    cleanup_free char *key = unit_path(directory, "key"), *file = unit_path(directory, "key.key");
    char identity[DRAFTER_IDENTITY_SIZE];
    uint8_t footer[PACK_SEEK_FOOTER];
    cleanup_close int fd = -1;
    struct stat status;

    ck_assert_int_eq(keygen_write(key, identity, &err), 0);
    ck_assert_msg(!pack_as("package", "", 2, NULL, file), "%s", err.message);
    ck_assert_int_eq(with_package("package", pack_verify), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fstat(fd, &status), 0);
    ck_assert_int_eq(io_pread_full(fd, footer, sizeof(footer), (uint64_t)status.st_size - 9), 0);
    for (uint64_t i = 0; i < 60; i++) { /* half of them in the last KiBs: tables, manifest, signature */
        uint64_t size = (uint64_t)status.st_size;
        uint64_t at = i % 2 ? i * size / 60 : size - 1 - i * i * 3;
        uint8_t byte, changed;

        ck_assert_int_eq(io_pread_full(fd, &byte, 1, at), 0);
        changed = byte ^ (uint8_t)(1 << i % 8);
        ck_assert_int_eq(io_pwrite_full(fd, &changed, 1, at), 0);
        /* The seek table is for others; of it only the end matters to us. */
        if (with_package("package", pack_verify) == 0)
            ck_assert_uint_ge(at, size - 9 - 8 * pack_get32(footer) - 8);
        ck_assert_int_eq(io_pwrite_full(fd, &byte, 1, at), 0);
    }
    ck_assert_int_eq(with_package("package", pack_verify), 0);
    ck_assert_int_eq(ftruncate(fd, status.st_size - 1), 0);
    ck_assert_int_ne(with_package("package", pack_verify), 0);
}
END_TEST

START_TEST(a_damaged_package_leaves_no_output)
{
    cleanup_free char *path = unit_path(directory, "package");
    cleanup_close int fd = -1;

    ck_assert_int_eq(pack_as("package", "", 2, NULL, NULL), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(io_pwrite_full(fd, "damage", 6, 1 << 20), 0);
    ck_assert_int_eq(with_package("package", pack_extract), -EBADMSG);
    ck_assert_msg(strstr(err.message, "device disk is damaged"), "%s", err.message);
    ck_assert_uint_eq(entries_like("new-"), 0);
}
END_TEST

START_TEST(a_signature_names_its_key_and_is_of_this_manifest)
{
    cleanup_free char *path = unit_path(directory, "package");
    cleanup_free char *key = unit_path(directory, "key"), *file = unit_path(directory, "key.key");
    char identity[DRAFTER_IDENTITY_SIZE];
    struct pack_reader reader;

    ck_assert_int_eq(keygen_write(key, identity, &err), 0);
    ck_assert_int_eq(pack_as("package", "", 2, NULL, file), 0);
    ck_assert_int_eq(pack_reader_open(path, &reader, &err), 0);
    ck_assert_str_eq(reader.signer, identity);
    pack_reader_close(&reader);
    ck_assert_int_eq(io_replace_file(file, "no key", 6, 0600, NULL), 0);
    ck_assert_int_eq(pack_as("package", "", 2, NULL, file), -EINVAL);
    ck_assert_msg(strstr(err.message, "no Ed25519 key"), "%s", err.message);
}
END_TEST

START_TEST(a_package_that_cannot_be_made_leaves_the_old_one)
{
    cleanup_free char *path = unit_path(directory, "memory");

    ck_assert_int_eq(pack_as("package", "", 2, NULL, NULL), 0);
    ck_assert_int_eq(pack_as("copy", "", 2, NULL, NULL), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(pack_as("package", "", 2, NULL, NULL), -ENOENT);
    assert_same("package", "copy");
    ck_assert_uint_eq(entries_like("part"), 0);
}
END_TEST

START_TEST(a_frame_of_zeros_is_one_to_libzstd)
{
    static const uint32_t sizes[] = {1, 512, 131071, 131072, 131073, 5 << 20, PACK_ZERO_MAX};
    cleanup_free uint8_t *plain = malloc(PACK_ZERO_MAX);
    uint8_t frame[PACK_ZERO_FRAME_MAX];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        size_t length = pack_zero_frame(sizes[i], frame);

        memset(plain, 'x', PACK_ZERO_MAX);
        ck_assert_uint_eq(ZSTD_decompress(plain, PACK_ZERO_MAX, frame, length), sizes[i]);
        ck_assert(io_is_zero(plain, sizes[i]));
    }
}
END_TEST

START_TEST(sizes_beyond_octal_survive_a_tar_header)
{
    static const uint64_t sizes[] = {0, 1, 0777777, (UINT64_C(1) << 33) - 1, UINT64_C(1) << 33,
                                     UINT64_C(1) << 50};
    uint8_t block[PACK_BLOCK];
    struct pack_tar_entry entry;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        pack_tar_header("memory", sizes[i], block);
        ck_assert_int_eq(pack_tar_parse(block, &entry), 0);
        ck_assert_str_eq(entry.name, "memory");
        ck_assert_uint_eq(entry.size, sizes[i]);
        block[3] ^= 1;
        ck_assert_int_eq(pack_tar_parse(block, &entry), -EINVAL);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, make, drop);
    tcase_add_test(tests, what_goes_in_comes_out_in_any_order);
    tcase_add_test(tests, the_same_input_gives_the_same_bytes);
    tcase_add_test(tests, what_did_not_change_is_taken_over);
    tcase_add_test(tests, what_was_changed_is_noticed);
    tcase_add_test(tests, a_damaged_package_leaves_no_output);
    tcase_add_test(tests, a_signature_names_its_key_and_is_of_this_manifest);
    tcase_add_test(tests, a_package_that_cannot_be_made_leaves_the_old_one);
    tcase_add_test(tests, a_frame_of_zeros_is_one_to_libzstd);
    tcase_add_test(tests, sizes_beyond_octal_survive_a_tar_header);
}

int main(void)
{
    return unit_run("pack", add_tests);
}

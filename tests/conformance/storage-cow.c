/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the cow plugin promises: its two files belong together, and damage is never guessed over. */
#include "storage.h"

#include "util/io.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE ((uint64_t)(16 << 20)) /* two map sectors */
#define SLOT_A 8192
#define SLOT_B (SLOT_A + PAGE)

static struct instance *base;
static unsigned fds_before;

static void setup(void)
{
    char path[600];

    fds_before = conformance_open_fds();
    snprintf(path, sizeof path, "%s", conformance_path("base.file"));
    storage_write_file(path, 7, SIZE);
    base = storage_base(path);
}

static void teardown(void)
{
    instance_free(base);
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
    io_remove_tree(conformance_directory(), NULL);
    ck_assert_int_eq(io_make_directories(conformance_directory(), 0700, NULL), 0);
}

static struct instance *cow_open(const char *name)
{
    struct instance *cow = storage_cow(base, name);

    storage_must_open(cow, SIZE, DRAFTER_STORAGE_CREATE);
    return cow;
}

static void write_page(struct instance *cow, uint64_t page, uint64_t seed)
{
    uint8_t bytes[PAGE];

    conformance_fill(bytes, PAGE, seed, 0);
    ck_assert_int_eq(storage_write(cow, bytes, PAGE, page * PAGE), 0);
}

static bool page_is(struct instance *cow, uint64_t page, uint64_t seed)
{
    uint8_t bytes[PAGE];

    ck_assert_int_eq(storage_read(cow, bytes, PAGE, page * PAGE), 0);
    return conformance_matches(bytes, PAGE, seed, seed == 7 ? page * PAGE : 0);
}

/* A pair with page 1 written once and page 2 after that, each flushed; closed. */
static void make_pair(const char *name)
{
    struct instance *cow = cow_open(name);

    write_page(cow, 1, 1);
    ck_assert_int_eq(storage_flush(cow), 0);
    write_page(cow, 2, 2);
    ck_assert_int_eq(storage_flush(cow), 0);
    instance_free(cow);
}

static void expect_refused(const char *name, uint64_t size, int code, const char *fragment)
{
    struct instance *cow = storage_cow(base, name);
    struct drafter_error err = {0};

    conformance_expect_error(storage_open(cow, size, DRAFTER_STORAGE_CREATE, &err), code, &err,
                             fragment);
    instance_free(cow);
}

struct findings {
    unsigned lines, notes;
    char first[512];
};

static void take_line(void *opaque, const char *line)
{
    struct findings *findings = opaque;

    if (findings->lines++ == 0)
        snprintf(findings->first, sizeof findings->first, "%s", line);
    findings->notes += strncmp(line, "note:", 5) == 0;
}

static int check(const char *name, struct findings *findings)
{
    struct instance *cow = storage_cow(base, name);
    struct drafter_error err = {0};
    int defects;

    *findings = (struct findings){0};
    defects = storage_check(cow, take_line, findings, &err);
    ck_assert_msg(defects >= 0, "%s", err.message);
    ck_assert_uint_eq(findings->lines - findings->notes, (unsigned)defects);
    instance_free(cow);
    return defects;
}

START_TEST(refuses_the_overlay_of_another_state_file)
{
    char a[600], b[600];

    make_pair("a");
    make_pair("b");
    snprintf(a, sizeof a, "%s", conformance_path("a.overlay"));
    snprintf(b, sizeof b, "%s", conformance_path("b.overlay"));
    ck_assert_int_eq(rename(a, b), 0);
    expect_refused("b", SIZE, ESTALE, "not the overlay");
}
END_TEST

START_TEST(refuses_another_device_size)
{
    make_pair("a");
    expect_refused("a", SIZE + PAGE, ESTALE, "made for a device of 16777216 bytes");
}
END_TEST

START_TEST(refuses_another_base_size)
{
    char path[600];

    make_pair("a");
    instance_free(base);
    snprintf(path, sizeof path, "%s", conformance_path("base.file"));
    storage_write_file(path, 7, SIZE - PAGE);
    base = storage_base(path);
    expect_refused("a", SIZE, ESTALE, "made for a base of 16777216 bytes, this base has 16773120");
}
END_TEST

START_TEST(refuses_data_whose_map_is_lost)
{
    make_pair("a");
    ck_assert_int_eq(unlink(conformance_path("a.state")), 0);
    expect_refused("a", SIZE, EEXIST, "has no map of it");
}
END_TEST

START_TEST(never_takes_a_file_that_is_not_its_own)
{
    uint8_t zeros[512] = {0};
    struct stat st;

    storage_write_file(conformance_path("a.state"), 3, 64 << 10);
    expect_refused("a", SIZE, EPROTO, "not a state file");
    storage_damage(conformance_path("a.state"), zeros, 512, 0);
    storage_damage(conformance_path("a.state"), zeros, 512, 4096);
    expect_refused("a", SIZE, EPROTO, "not a state file");
    ck_assert_int_eq(stat(conformance_path("a.state"), &st), 0);
    ck_assert_int_eq(st.st_size, 64 << 10);
}
END_TEST

START_TEST(a_damaged_copy_of_the_map_costs_nothing)
{
    struct findings findings;
    struct instance *cow;

    make_pair("a"); /* an orderly end: both copies say the same */
    storage_damage(conformance_path("a.state"), NULL, 8, SLOT_A + 100);
    ck_assert_int_eq(check("a", &findings), 0);
    ck_assert_msg(strstr(findings.first, "copy A of map sector 0 is torn"), "%s", findings.first);
    cow = cow_open("a");
    ck_assert(page_is(cow, 1, 1));
    ck_assert(page_is(cow, 2, 2));
    instance_free(cow);
}
END_TEST

static void flip(const char *file, uint64_t offset)
{
    const char *path = conformance_path(file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(io_pread_full(fd, &byte, 1, offset), 0);
    byte ^= 0x10;
    ck_assert_int_eq(io_pwrite_full(fd, &byte, 1, offset), 0);
    close(fd);
}

static int read_page(struct instance *cow, uint64_t page)
{
    uint8_t bytes[PAGE];

    return storage_read(cow, bytes, PAGE, page * PAGE);
}

START_TEST(a_flipped_bit_at_rest_is_never_served)
{
    struct findings findings = {0};
    struct drafter_error err = {0};
    struct instance *cow;
    uint8_t half[512] = {1}, all[4 * PAGE];

    make_pair("a");
    flip("a.overlay", 2 * PAGE + 700);
    cow = storage_cow(base, "a");
    ck_assert_int_eq(storage_verify(cow, take_line, &findings, &err), 1);
    ck_assert_msg(strstr(findings.first, "the page at byte 8192 is not what was written"), "%s",
                  findings.first);
    storage_must_open(cow, SIZE, 0);
    ck_assert(page_is(cow, 1, 1));
    ck_assert_int_eq(read_page(cow, 2), -EBADMSG);
    ck_assert_int_eq(storage_read(cow, all, sizeof all, 0), -EBADMSG);
    ck_assert_int_eq(storage_read(cow, half, 512, 2 * PAGE), -EBADMSG);
    ck_assert_int_eq(storage_write(cow, half, 512, 2 * PAGE), -EBADMSG);
    write_page(cow, 2, 3);
    ck_assert(page_is(cow, 2, 3));
    instance_free(cow);
    ck_assert(page_is(cow = cow_open("a"), 2, 3));
    instance_free(cow);
}
END_TEST

START_TEST(a_bit_that_flips_in_use_is_never_served)
{
    struct instance *cow = cow_open("a");
    uint8_t half[512] = {1};

    write_page(cow, 2, 2);
    ck_assert_int_eq(storage_write(cow, half, 512, 3 * PAGE + 1024), 0); /* merged with the base */
    ck_assert_int_eq(storage_write(cow, half, 512, 3 * PAGE), 0);        /* and with itself */
    ck_assert_int_eq(storage_zero(cow, 2 * PAGE, 5 * PAGE), 0);
    for (uint64_t page = 2; page < 7; page++)
        ck_assert_int_eq(read_page(cow, page), 0);
    flip("a.overlay", 2 * PAGE);
    flip("a.overlay", 3 * PAGE + 4095);
    flip("a.overlay", 6 * PAGE);
    for (uint64_t page = 2; page < 7; page++)
        ck_assert_int_eq(read_page(cow, page), page == 2 || page == 3 || page == 6 ? -EBADMSG : 0);
    instance_free(cow);
}
END_TEST

START_TEST(damaged_checksums_leave_the_data_readable)
{
    struct findings findings;
    struct instance *cow;

    make_pair("a");
    flip("a.state", SLOT_B + 4096 + 5);
    ck_assert_int_eq(check("a", &findings), 0);
    ck_assert_msg(strstr(findings.first, "checksums of map sector 0 are damaged"), "%s", findings.first);
    cow = cow_open("a");
    ck_assert(page_is(cow, 2, 2));
    instance_free(cow);
}
END_TEST

START_TEST(names_a_sector_without_a_valid_copy)
{
    struct findings findings;

    make_pair("a");
    storage_damage(conformance_path("a.state"), NULL, 8, SLOT_A + 512 + 100);
    storage_damage(conformance_path("a.state"), NULL, 8, SLOT_B + 512 + 100);
    expect_refused("a", SIZE, EILSEQ, "map sector 1 are damaged");
    ck_assert_int_eq(check("a", &findings), 1);
    ck_assert_msg(strstr(findings.first, "both copies of map sector 1"), "%s", findings.first);
}
END_TEST

START_TEST(a_damaged_header_has_a_second_copy)
{
    struct instance *cow;

    make_pair("a");
    storage_damage(conformance_path("a.state"), NULL, 8, 20);
    cow = cow_open("a");
    ck_assert(page_is(cow, 2, 2));
    instance_free(cow);
    storage_damage(conformance_path("a.state"), NULL, 8, 4096 + 20);
    expect_refused("a", SIZE, EILSEQ, "both copies of the header");
}
END_TEST

START_TEST(a_cut_off_state_file_is_refused)
{
    make_pair("a");
    ck_assert_int_eq(truncate(conformance_path("a.state"), SLOT_B), 0);
    expect_refused("a", SIZE, EILSEQ, "cut off");
}
END_TEST

START_TEST(fsck_finds_a_good_pair_good)
{
    struct findings findings;

    make_pair("a");
    ck_assert_int_eq(check("a", &findings), 0);
    ck_assert_msg(findings.lines == 0, "%s", findings.first);
}
END_TEST

START_TEST(fsck_notes_what_was_never_flushed)
{
    struct findings findings;
    uint8_t page[1024];

    make_pair("a");
    conformance_fill(page, sizeof page, 1, 0);
    storage_damage(conformance_path("a.overlay"), page, sizeof page, 64 * PAGE);
    ck_assert_int_eq(check("a", &findings), 0);
    ck_assert_uint_eq(findings.notes, 1);
    ck_assert_msg(strstr(findings.first, "never flushed"), "%s", findings.first);
}
END_TEST

START_TEST(tells_its_own_pages_from_the_bases)
{
    struct instance *cow = cow_open("a");
    uint64_t length;
    bool own;

    write_page(cow, 5, 1);
    ck_assert_int_eq(storage_layer(cow, 0, SIZE, &own, &length), 0);
    ck_assert(!own);
    ck_assert_uint_eq(length, 5 * PAGE);
    ck_assert_int_eq(storage_layer(cow, 5 * PAGE, SIZE - 5 * PAGE, &own, &length), 0);
    ck_assert(own);
    ck_assert_uint_eq(length, PAGE);
    instance_free(cow);
}
END_TEST

START_TEST(a_layer_below_counts_as_above_the_base)
{
    struct instance *below, *above;
    uint64_t length;
    bool own;

    make_pair("below");
    below = storage_cow(base, "below");
    storage_must_open(below, SIZE, DRAFTER_STORAGE_READONLY);
    above = storage_cow(below, "above");
    storage_must_open(above, SIZE, DRAFTER_STORAGE_CREATE);
    ck_assert_int_eq(storage_layer(above, PAGE, SIZE - PAGE, &own, &length), 0);
    ck_assert(own);
    ck_assert_uint_eq(length, 2 * PAGE);
    ck_assert_int_eq(storage_layer(above, 3 * PAGE, SIZE - 3 * PAGE, &own, &length), 0);
    ck_assert(!own);
    instance_free(above);
    instance_free(below);
}
END_TEST

START_TEST(a_full_disk_leaves_the_page_as_it_was)
{
    struct rlimit limit, lower;
    struct instance *cow = cow_open("a");
    uint8_t bytes[PAGE] = {1};

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    lower = (struct rlimit){.rlim_cur = 100 * PAGE, .rlim_max = limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &lower), 0);
    ck_assert_int_eq(storage_write(cow, bytes, PAGE, 200 * PAGE), -EFBIG);
    ck_assert_int_eq(storage_write(cow, bytes, 512, 201 * PAGE), -EFBIG);
    ck_assert(page_is(cow, 200, 7));
    ck_assert(page_is(cow, 201, 7));
    ck_assert_int_eq(storage_write(cow, bytes, PAGE, 0), 0);
    ck_assert_int_eq(storage_flush(cow), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    instance_free(cow);
}
END_TEST

START_TEST(imports_a_block_list)
{
    const uint8_t list[8] = {0, 0, 0, 0, 3, 0, 0, 0}; /* blocks 0 and 3 of 64 KiB */
    char overlay[600], state[600], import[600];
    const char *options[] = {"overlay", overlay, "state",             state,
                             "import",  import,  "import-block-size", "64k", NULL};
    struct instance *cow;
    int fd;

    snprintf(overlay, sizeof overlay, "%s", conformance_path("a.overlay"));
    snprintf(state, sizeof state, "%s", conformance_path("a.state"));
    snprintf(import, sizeof import, "%s", conformance_path("old.state"));
    storage_write_file(overlay, 9, SIZE);
    fd = open(import, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(io_write_full(fd, list, sizeof list), 0);
    close(fd);
    for (int round = 0; round < 2; round++) {
        uint8_t bytes[PAGE];

        cow = storage_make("cow", options, base);
        storage_must_open(cow, SIZE, DRAFTER_STORAGE_CREATE);
        ck_assert_int_eq(storage_read(cow, bytes, PAGE, 15 * PAGE), 0);
        ck_assert(conformance_matches(bytes, PAGE, 9, 15 * PAGE));
        ck_assert(page_is(cow, 16, 7));
        ck_assert_int_eq(storage_read(cow, bytes, PAGE, 48 * PAGE), 0);
        ck_assert(conformance_matches(bytes, PAGE, 9, 48 * PAGE));
        ck_assert(page_is(cow, 64, 7));
        instance_free(cow);
    }
}
END_TEST

START_TEST(needs_a_base)
{
    struct drafter_error err = {0};
    int rc = conformance_refused(DRAFTER_KIND_STORAGE, "cow",
                                 (const char *const[]){"overlay", "o", "state", "s", NULL}, &err);

    conformance_expect_error(rc, EINVAL, &err, "needs a base");
}
END_TEST

START_TEST(zeros_do_not_show_the_base_again)
{
    struct instance *cow = cow_open("a");
    enum drafter_extent_kind kind;
    uint8_t bytes[4 * PAGE];
    uint64_t length;

    ck_assert_int_eq(storage_zero(cow, 4 * PAGE, 8 * PAGE), 0);
    ck_assert_int_eq(storage_flush(cow), 0);
    instance_free(cow);
    cow = cow_open("a");
    ck_assert_int_eq(storage_read(cow, bytes, sizeof bytes, 8 * PAGE), 0);
    ck_assert(io_is_zero(bytes, sizeof bytes));
    ck_assert_int_eq(storage_extent(cow, 8 * PAGE, 100 * PAGE, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_ZERO);
    ck_assert_uint_eq(length, 4 * PAGE);
    instance_free(cow);
}
END_TEST

TCase *storage_cow_case(void)
{
    TCase *tests = tcase_create("cow");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, refuses_the_overlay_of_another_state_file);
    tcase_add_test(tests, refuses_another_device_size);
    tcase_add_test(tests, refuses_another_base_size);
    tcase_add_test(tests, refuses_data_whose_map_is_lost);
    tcase_add_test(tests, never_takes_a_file_that_is_not_its_own);
    tcase_add_test(tests, a_damaged_copy_of_the_map_costs_nothing);
    tcase_add_test(tests, a_flipped_bit_at_rest_is_never_served);
    tcase_add_test(tests, a_bit_that_flips_in_use_is_never_served);
    tcase_add_test(tests, damaged_checksums_leave_the_data_readable);
    tcase_add_test(tests, names_a_sector_without_a_valid_copy);
    tcase_add_test(tests, a_damaged_header_has_a_second_copy);
    tcase_add_test(tests, a_cut_off_state_file_is_refused);
    tcase_add_test(tests, fsck_finds_a_good_pair_good);
    tcase_add_test(tests, fsck_notes_what_was_never_flushed);
    tcase_add_test(tests, tells_its_own_pages_from_the_bases);
    tcase_add_test(tests, a_layer_below_counts_as_above_the_base);
    tcase_add_test(tests, a_full_disk_leaves_the_page_as_it_was);
    tcase_add_test(tests, imports_a_block_list);
    tcase_add_test(tests, needs_a_base);
    tcase_add_test(tests, zeros_do_not_show_the_base_again);
    return tests;
}

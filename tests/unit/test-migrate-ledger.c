/* SPDX-License-Identifier: BSD-2-Clause */
/* The ledger: a record is whole or the one before it counts. */
#include "unit.h"

#include "migrate/ledger.h"

#include <sys/stat.h>
#include <sys/wait.h>

static char *directory, *path;
static struct ledger ledger;
static struct drafter_error err;
static const uint8_t session[16] = {1, 2, 3, 255};

static void setup(void)
{
    directory = unit_make_directory();
    path = unit_path(directory, "redis.ledger");
    ledger.fd = -1;
}

static void teardown(void)
{
    ledger_close(&ledger);
    free(path);
    unit_drop_directory(directory);
}

static int reopen(void)
{
    ledger_close(&ledger);
    return ledger_open(directory, "redis", &ledger, &err);
}

static void write_record(enum ledger_state state, uint64_t epoch)
{
    ck_assert_int_eq(ledger_write(&ledger, state, epoch, "10.0.0.1", session, &err), 0);
}

static void expect(enum ledger_state state, uint64_t epoch)
{
    ck_assert_int_eq(ledger.record.state, state);
    ck_assert_uint_eq(ledger.record.epoch, epoch);
}

/* Changes bytes of the file behind the ledger's back. */
static void damage(off_t offset, const void *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    ck_assert_int_eq(pwrite(fd, bytes, length, offset), length);
    close(fd);
}

START_TEST(a_new_ledger_knows_nothing)
{
    struct stat status;

    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_NONE, 0);
    ck_assert_str_eq(ledger.record.vm, "redis");
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_size, LEDGER_FILE_SIZE);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
}
END_TEST

START_TEST(records_survive_and_the_newest_counts)
{
    ck_assert_int_eq(reopen(), 0);
    for (uint64_t epoch = 1; epoch < 6; epoch++) {
        write_record(epoch % 2 ? LEDGER_OWNED : LEDGER_RELINQUISHED, epoch);
        expect(epoch % 2 ? LEDGER_OWNED : LEDGER_RELINQUISHED, epoch);
        ck_assert_int_eq(reopen(), 0);
        expect(epoch % 2 ? LEDGER_OWNED : LEDGER_RELINQUISHED, epoch);
    }
    ck_assert_str_eq(ledger.record.peer, "10.0.0.1");
    ck_assert_str_eq(ledger.record.vm, "redis");
    ck_assert_mem_eq(ledger.record.session, session, sizeof(session));
    ck_assert_uint_gt(ledger.record.time, 1600000000);
}
END_TEST

START_TEST(an_overlong_peer_is_cut)
{
    char peer[300];

    memset(peer, 'x', sizeof(peer));
    peer[299] = '\0';
    ck_assert_int_eq(reopen(), 0);
    ck_assert_int_eq(ledger_write(&ledger, LEDGER_OWNED, 1, peer, NULL, &err), 0);
    ck_assert_int_eq(reopen(), 0);
    ck_assert_uint_eq(strlen(ledger.record.peer), 127);
}
END_TEST

/* The newest write stops after each number of bytes: the old record or the new one, nothing else.
 */
START_TEST(a_torn_write_leaves_the_older_record)
{
    uint8_t old[LEDGER_SLOT_SIZE], slot[LEDGER_SLOT_SIZE];
    struct ledger_record record;
    uint64_t sequence;
    int fd;

    ck_assert_int_eq(reopen(), 0);
    for (uint64_t epoch = 1; epoch <= 4; epoch++)
        write_record(LEDGER_OWNED, epoch);
    sequence = ledger.sequence + 1;
    record = ledger.record;
    record.state = LEDGER_RELINQUISHED;
    record.epoch = 5;
    ledger_encode(&record, sequence, slot);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, old, sizeof(old), sequence % 2 ? 4096 : 0), sizeof(old));
    close(fd);
    ledger_close(&ledger);
    for (size_t length = 0; length <= LEDGER_SLOT_SIZE; length++) {
        damage(sequence % 2 ? 4096 : 0, old, sizeof(old));
        damage(sequence % 2 ? 4096 : 0, slot, length);
        ck_assert_msg(reopen() == 0, "%zu bytes: %s", length, err.message);
        if (length == LEDGER_SLOT_SIZE)
            expect(LEDGER_RELINQUISHED, 5);
        else
            ck_assert_uint_ge(ledger.record.epoch, 4);
        ck_assert(ledger.record.epoch == 5 || ledger.record.state == LEDGER_OWNED);
    }
}
END_TEST

START_TEST(the_first_record_may_be_torn)
{
    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_OWNED, 1);
    damage(4096 + 20, "XX", 2);
    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_NONE, 0);
}
END_TEST

START_TEST(writing_goes_on_after_a_torn_record)
{
    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_OWNED, 1);
    write_record(LEDGER_RELINQUISHED, 2);
    damage(20, "XX", 2);
    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_OWNED, 1);
    write_record(LEDGER_RELINQUISHED, 3);
    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_RELINQUISHED, 3);
}
END_TEST

START_TEST(two_damaged_records_are_refused)
{
    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_OWNED, 1);
    write_record(LEDGER_RELINQUISHED, 2);
    damage(20, "XX", 2);
    damage(4096 + 20, "XX", 2);
    ck_assert_int_eq(reopen(), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(err.message, "both records are damaged"));
}
END_TEST

START_TEST(every_flipped_bit_of_a_slot_is_found)
{
    const struct ledger_record record = {LEDGER_OWNED, 7, "redis", "peer", {9}, 5, true};
    struct ledger_record got;
    uint8_t slot[LEDGER_SLOT_SIZE];
    uint64_t sequence;

    ledger_encode(&record, 11, slot);
    ck_assert_int_eq(ledger_decode(slot, &got, &sequence), 0);
    ck_assert_uint_eq(sequence, 11);
    ck_assert_uint_eq(got.time, 5);
    for (unsigned bit = 0; bit < LEDGER_SLOT_SIZE * 8; bit++) {
        slot[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (!ledger_decode(slot, &got, &sequence))
            ck_abort_msg("bit %u is not covered", bit);
        slot[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(a_slot_in_the_place_of_the_other_does_not_count)
{
    const struct ledger_record record = {LEDGER_OWNED, 7, "redis", "peer", {9}, 5, true};
    uint8_t slot[LEDGER_SLOT_SIZE];

    ck_assert_int_eq(reopen(), 0);
    ledger_encode(&record, 11, slot);
    damage(0, slot, sizeof(slot)); /* odd ones belong to the second place */
    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_NONE, 0);
}
END_TEST

START_TEST(a_second_opener_is_refused)
{
    struct ledger second;

    ck_assert_int_eq(reopen(), 0);
    ck_assert_int_eq(ledger_open(directory, "redis", &second, &err), -EBUSY);
    ck_assert_ptr_nonnull(strstr(err.message, "another drafter"));
    ledger_close(&ledger);
    ck_assert_int_eq(ledger_open(directory, "redis", &second, &err), 0);
    ledger_close(&second);
}
END_TEST

START_TEST(names_that_would_leave_the_directory_are_refused)
{
    static const char *const names[] = {"", ".", "..", "a/b", ".x"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_int_eq(ledger_open(directory, names[i], &ledger, &err), -EINVAL);
}
END_TEST

START_TEST(a_symbolic_link_is_not_followed)
{
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert_int_lt(reopen(), 0);
}
END_TEST

START_TEST(a_failed_write_changes_nothing)
{
    int fd;

    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_OWNED, 1);
    fd = ledger.fd;
    ledger.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_lt(ledger_write(&ledger, LEDGER_RELINQUISHED, 2, "", NULL, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "relinquished epoch 2"));
    expect(LEDGER_OWNED, 1);
    close(ledger.fd);
    ledger.fd = fd;
}
END_TEST

START_TEST(looking_needs_no_lock_and_makes_no_file)
{
    struct ledger_record seen;
    bool busy = true;

    ck_assert_int_eq(ledger_peek(directory, "redis", &seen, &busy, &err), 0);
    ck_assert_int_eq(seen.state, LEDGER_NONE);
    ck_assert(!busy);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_OWNED, 7);
    ck_assert_int_eq(ledger_peek(directory, "redis", &seen, &busy, &err), 0);
    ck_assert(busy);
    ck_assert_int_eq(seen.state, LEDGER_OWNED);
    ck_assert_uint_eq(seen.epoch, 7);
    ledger_close(&ledger);
    ck_assert_int_eq(ledger_peek(directory, "redis", &seen, &busy, &err), 0);
    ck_assert(!busy);
}
END_TEST

START_TEST(only_what_was_marked_is_whole)
{
    ck_assert_int_eq(reopen(), 0);
    write_record(LEDGER_RELINQUISHED, 2);
    ck_assert(!ledger.record.whole);
    ck_assert_int_eq(ledger_mark_whole(&ledger, &err), 0);
    ck_assert_int_eq(reopen(), 0);
    expect(LEDGER_RELINQUISHED, 2);
    ck_assert(ledger.record.whole);
    ck_assert_str_eq(ledger.record.peer, "10.0.0.1");
    write_record(LEDGER_RELINQUISHED, 4);
    ck_assert(!ledger.record.whole);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_new_ledger_knows_nothing);
    tcase_add_test(tests, records_survive_and_the_newest_counts);
    tcase_add_test(tests, an_overlong_peer_is_cut);
    tcase_add_test(tests, a_torn_write_leaves_the_older_record);
    tcase_add_test(tests, the_first_record_may_be_torn);
    tcase_add_test(tests, writing_goes_on_after_a_torn_record);
    tcase_add_test(tests, two_damaged_records_are_refused);
    tcase_add_test(tests, every_flipped_bit_of_a_slot_is_found);
    tcase_add_test(tests, a_slot_in_the_place_of_the_other_does_not_count);
    tcase_add_test(tests, a_second_opener_is_refused);
    tcase_add_test(tests, names_that_would_leave_the_directory_are_refused);
    tcase_add_test(tests, a_symbolic_link_is_not_followed);
    tcase_add_test(tests, a_failed_write_changes_nothing);
    tcase_add_test(tests, looking_needs_no_lock_and_makes_no_file);
    tcase_add_test(tests, only_what_was_marked_is_whole);
}

int main(void)
{
    return unit_run("ledger", add_tests);
}

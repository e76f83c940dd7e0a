/* SPDX-License-Identifier: BSD-2-Clause */
/* The migration engine, whole, between two nodes of one process: over the null transport, and over tls. */
#include "lab.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct lab *lab;

/* A guest that writes in sequence meets the sender in the null storage all the time. */
#ifdef __SANITIZE_THREAD__
static const bool slow_where_races_are_suppressed = true;
#else
static const bool slow_where_races_are_suppressed = false;
#endif

static void setup_null(void)
{
    lab = lab_new(NULL);
}

static void setup_tls_tcp(void)
{
    lab = lab_new("tcp");
}

static void setup_tls_unix(void)
{
    lab = lab_new("unix");
}

static void teardown(void)
{
    lab_free(lab);
}

static void expect_moved(unsigned from, unsigned to, bool wait_for_all)
{
    struct drafter_error err = {0};

    ck_assert_msg(lab_move(lab, from, to, wait_for_all, &err) == DESTINATION_OUTCOME_COMPLETE, "%s",
                  err.message);
    ck_assert_int_eq(lab->nodes[from].left, SOURCE_OUTCOME_MOVED);
    lab_check_owner(lab, to);
    lab_check_runs(lab, to);
    lab_check_content(lab, to);
}

/* The move fails, and the VM goes on where it was as if nothing had happened. */
static void expect_kept(void)
{
    struct drafter_error err = {0};

    ck_assert_int_eq(lab_move(lab, 0, 1, false, &err), DESTINATION_OUTCOME_NOTHING);
    ck_assert_int_ne(err.code, 0);
    ck_assert_int_eq(lab->nodes[0].left, SOURCE_OUTCOME_KEPT);
    ck_assert(!lab->nodes[1].open);
    lab_check_owner(lab, 0);
    lab_check_runs(lab, 0);
    lab_check_content(lab, 0);
}

/* After a failure the same VM can still be moved. */
static void expect_moves_later(void)
{
    memset(&lab->nodes[0].faults, 0, sizeof(lab->nodes[0].faults));
    memset(&lab->nodes[1].faults, 0, sizeof(lab->nodes[1].faults));
    expect_moved(0, 1, false);
}

START_TEST(a_written_vm_moves_and_loses_nothing)
{
    lab_boot(lab);
    expect_moved(0, 1, false);
}
END_TEST

START_TEST(a_vm_moves_back_and_forth)
{
    lab_boot(lab);
    for (unsigned i = 0; i < 10; i++)
        expect_moved(i % 2, !(i % 2), i % 3 == 2);
}
END_TEST

START_TEST(a_workload_recorded_from_redis_moves_and_loses_nothing)
{
    lab_boot(lab);
    lab_set_workload(lab, "redis");
    lab_set_rate(lab, 20);
    expect_moved(0, 1, false);
    expect_moved(1, 0, true);
}
END_TEST

START_TEST(without_postcopy_everything_is_here_at_the_resume)
{
    lab_boot(lab);
    lab_set_rate(lab, 400);
    expect_moved(0, 1, true);
    ck_assert_uint_eq(lab->missing_at_resume, 0);
}
END_TEST

START_TEST(with_postcopy_a_vm_that_writes_much_runs_before_everything_is_here)
{
    lab->nodes[0].faults.memory_fault = "latency";
    lab->nodes[0].faults.memory_fault_at = "5ms";
    lab_boot(lab);
    lab_set_rate(lab, 400);
    expect_moved(0, 1, false);
    ck_assert_uint_gt(lab->missing_at_resume, 0);
}
END_TEST

START_TEST(a_registry_hands_out_copies_and_keeps_its_own)
{
    struct drafter_error err = {0};

    lab->live = false;
    lab->nodes[0].faults.memory_fault = "latency"; /* so that not all of it is there first */
    lab->nodes[0].faults.memory_fault_at = "5ms";
    lab_boot(lab);
    ck_assert_msg(lab_move(lab, 0, 1, false, &err) == DESTINATION_OUTCOME_COMPLETE, "%s",
                  err.message);
    ck_assert_uint_gt(lab->missing_at_resume, 0);
    lab_check_content(lab, 1);
    lab_check_content(lab, 0);
}
END_TEST

START_TEST(a_destination_that_refuses_the_offer_changes_nothing)
{
    lab->nodes[1].faults.prepare = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_vmm_that_does_not_start_changes_nothing)
{
    lab->nodes[1].faults.start = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_failing_guest_hook_keeps_the_vm)
{
    lab->nodes[0].faults.hook = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_failing_pause_keeps_the_vm)
{
    lab->nodes[0].faults.pause = true;
    lab_boot(lab);
    expect_kept();
}
END_TEST

START_TEST(a_failing_save_lets_the_vm_go_on)
{
    lab->nodes[0].faults.save = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_destination_that_cannot_load_gives_the_vm_back)
{
    lab->nodes[1].faults.load = true;
    lab_boot(lab);
    expect_kept();
    ck_assert_int_eq(lab->nodes[1].ledger.record.state, LEDGER_REFUSED);
    expect_moves_later();
}
END_TEST

START_TEST(a_destination_that_cannot_resume_gives_the_vm_back)
{
    lab->nodes[1].faults.resume = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_destination_that_cannot_journal_gives_the_vm_back)
{
    lab->nodes[1].faults.journal = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(what_goes_along_with_the_vm_is_there_before_it)
{
    const size_t lengths[] = {0, 1, WIRE_CUSTOM_MAX};

    lab_boot(lab);
    for (unsigned i = 0; i < 3; i++) {
        lab->custom_length = lengths[i];
        lab->custom_arrived = SIZE_MAX;
        expect_moved(i % 2, !(i % 2), true);
        ck_assert_uint_eq(lab->custom_arrived, lengths[i]);
    }
}
END_TEST

START_TEST(what_goes_along_survives_broken_links)
{
    lab->nodes[0].faults.cut_at_save = true;
    lab->custom_length = WIRE_CUSTOM_MAX;
    lab_boot(lab);
    expect_moved(0, 1, true);
    ck_assert_uint_eq(lab->custom_arrived, WIRE_CUSTOM_MAX);
}
END_TEST

START_TEST(a_vm_whose_data_cannot_be_read_is_kept)
{
    lab->nodes[0].faults.custom = true;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_destination_that_cannot_keep_the_data_gives_the_vm_back)
{
    lab->nodes[1].faults.keep_custom = true;
    lab->custom_length = 100;
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_read_error_at_the_source_keeps_the_vm)
{
    struct drafter_error err = {0};

    lab->nodes[0].faults.memory_fault = "fail-read-at";
    lab->nodes[0].faults.memory_fault_at = "100";
    lab_boot(lab);
    lab_set_rate(lab, 0); /* or the guest itself would meet the error */
    ck_assert_int_eq(lab_move(lab, 0, 1, false, &err), DESTINATION_OUTCOME_NOTHING);
    ck_assert_int_eq(lab->nodes[0].left, SOURCE_OUTCOME_KEPT);
    ck_assert_msg(strstr(err.message, "device memory"), "%s", err.message);
    lab_set_rate(lab, 100);
    lab_check_owner(lab, 0);
    lab_check_runs(lab, 0);
}
END_TEST

/* Standard error goes into a file of the lab. */
static void redirect_log(char ret_path[96])
{
    int fd;

    snprintf(ret_path, 96, "%s/log", lab->directory);
    fd = open(ret_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static void *mend_the_disk(void *path)
{
    for (int i = 0; i < 500 && access(path, F_OK); i++)
        usleep(10000);
    usleep(300000);
    return unlink(path) ? path : NULL;
}

START_TEST(pages_that_cannot_be_read_after_the_hand_over_keep_back_no_others)
{
    char bad[80], log[96], said[16384] = "";
    pthread_t mender;
    void *failed;
    FILE *file;

    redirect_log(log);
    lab_bad_file(lab, bad);
    lab->nodes[0].faults.memory_fault = "fail-reads-while";
    lab->nodes[0].faults.memory_fault_at = bad;
    lab->nodes[0].faults.unreadable = true;
    lab_boot(lab);
    lab_set_rate(lab, 400);
    ck_assert_int_eq(pthread_create(&mender, NULL, mend_the_disk, bad), 0);
    expect_moved(0, 1, false);
    pthread_join(mender, &failed);
    ck_assert_ptr_null(failed);
    file = fopen(log, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(said, 1, sizeof(said) - 1, file), 0);
    fclose(file);
    ck_assert_msg(strstr(said, "cannot be read") && !strstr(said, "link was lost"), "%s", said);
}
END_TEST

START_TEST(a_write_error_at_the_destination_keeps_the_vm)
{
    lab->nodes[1].faults.memory_fault = "fail-write-at";
    lab->nodes[1].faults.memory_fault_at = "20";
    lab_boot(lab);
    expect_kept();
    expect_moves_later();
}
END_TEST

START_TEST(a_link_cut_before_commit_is_found_again)
{
    lab->nodes[0].faults.cut_at_hook = _i == 0;
    lab->nodes[0].faults.cut_at_save = _i == 1;
    lab_boot(lab);
    expect_moved(0, 1, false);
}
END_TEST

START_TEST(a_link_cut_while_loading_is_found_again)
{
    lab->nodes[0].faults.memory_fault = "latency";
    lab->nodes[0].faults.memory_fault_at = "1ms";
    lab->nodes[1].faults.cut_at_load = true;
    lab_boot(lab);
    expect_moved(0, 1, _i);
}
END_TEST

START_TEST(a_link_cut_while_pages_are_missing_is_found_again)
{
    lab->nodes[0].faults.memory_fault = "latency";
    lab->nodes[0].faults.memory_fault_at = "5ms";
    lab->nodes[1].faults.cut_at_resume = true;
    lab_boot(lab);
    lab_set_rate(lab, 400);
    expect_moved(0, 1, false);
    ck_assert_uint_gt(lab->missing_at_resume, 0);
}
END_TEST

START_TEST(a_refusal_reaches_the_source_over_a_link_that_was_cut)
{
    lab->nodes[1].faults.cut_at_load = true;
    lab->nodes[1].faults.load = true;
    lab_boot(lab);
    expect_kept();
    ck_assert_int_eq(lab->nodes[1].ledger.record.state, LEDGER_REFUSED);
    expect_moves_later();
}
END_TEST

START_TEST(a_session_that_a_dead_process_had_is_there_before_the_first_peer)
{
    lab_boot(lab);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_uint_eq(lab_resume_session(lab), WIRE_RESUME);
}
END_TEST

static void record_whole(struct lab_node *node)
{
    struct drafter_error err = {0};

    memcpy(node->ledger.record.vm, "lab", 4);
    ck_assert_int_eq(ledger_write(&node->ledger, LEDGER_OWNED, 2, "A", lab->token, &err), 0);
}

START_TEST(a_source_that_has_let_go_says_so_after_a_restart)
{
    struct drafter_error err = {0};

    record_whole(&lab->nodes[1]);
    ck_assert_int_eq(lab_confirm(lab, false, &err), -ESTALE);
    ck_assert_int_eq(lab->nodes[1].ledger.record.state, LEDGER_OWNED);
}
END_TEST

START_TEST(what_was_taken_back_by_force_is_not_confirmed)
{
    const struct ledger_record *record = &lab->nodes[1].ledger.record;
    struct drafter_error err = {0};

    record_whole(&lab->nodes[1]);
    ck_assert_int_eq(lab_confirm(lab, true, &err), -EPERM);
    ck_assert_int_eq(record->state, LEDGER_RELINQUISHED);
    ck_assert_uint_eq(record->epoch, 5);
}
END_TEST

static void record_incomplete(struct lab_node *node)
{
    struct drafter_error err = {0};

    memcpy(node->ledger.record.vm, "lab", 4);
    ck_assert_int_eq(ledger_write(&node->ledger, LEDGER_INCOMPLETE, 2, "A", lab->token, &err), 0);
}

START_TEST(an_adopted_arrival_ends_when_its_source_has_let_go)
{
    struct drafter_error err = {0};

    record_incomplete(&lab->nodes[1]);
    ck_assert_int_eq(lab_adopt(lab, false, &err), DESTINATION_OUTCOME_NOTHING);
    ck_assert_int_eq(err.code, ENOENT);
    ck_assert_int_eq(lab->nodes[1].ledger.record.state, LEDGER_REFUSED);
}
END_TEST

START_TEST(an_adopted_arrival_ends_when_it_is_overruled)
{
    struct drafter_error err = {0};

    record_incomplete(&lab->nodes[1]);
    ck_assert_int_eq(lab_adopt(lab, true, &err), DESTINATION_OUTCOME_FENCED);
    ck_assert_int_eq(lab->nodes[1].ledger.record.state, LEDGER_RELINQUISHED);
    ck_assert_uint_eq(lab->nodes[1].ledger.record.epoch, 5);
}
END_TEST

static void add_all(Suite *suite, const char *name, void (*setup)(void))
{
    TCase *tests = tcase_create(name);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_written_vm_moves_and_loses_nothing);
    tcase_add_test(tests, a_vm_moves_back_and_forth);
    if (setup == setup_null && !slow_where_races_are_suppressed) /* it is not about transports */
        tcase_add_test(tests, a_workload_recorded_from_redis_moves_and_loses_nothing);
    tcase_add_test(tests, without_postcopy_everything_is_here_at_the_resume);
    tcase_add_test(tests, with_postcopy_a_vm_that_writes_much_runs_before_everything_is_here);
    tcase_add_test(tests, a_registry_hands_out_copies_and_keeps_its_own);
    tcase_add_test(tests, a_destination_that_refuses_the_offer_changes_nothing);
    tcase_add_test(tests, a_vmm_that_does_not_start_changes_nothing);
    tcase_add_test(tests, a_failing_guest_hook_keeps_the_vm);
    tcase_add_test(tests, a_failing_pause_keeps_the_vm);
    tcase_add_test(tests, a_failing_save_lets_the_vm_go_on);
    tcase_add_test(tests, a_destination_that_cannot_load_gives_the_vm_back);
    tcase_add_test(tests, a_destination_that_cannot_resume_gives_the_vm_back);
    tcase_add_test(tests, a_destination_that_cannot_journal_gives_the_vm_back);
    tcase_add_test(tests, what_goes_along_with_the_vm_is_there_before_it);
    tcase_add_test(tests, what_goes_along_survives_broken_links);
    tcase_add_test(tests, a_vm_whose_data_cannot_be_read_is_kept);
    tcase_add_test(tests, a_destination_that_cannot_keep_the_data_gives_the_vm_back);
    tcase_add_test(tests, a_read_error_at_the_source_keeps_the_vm);
    tcase_add_test(tests, pages_that_cannot_be_read_after_the_hand_over_keep_back_no_others);
    tcase_add_test(tests, a_write_error_at_the_destination_keeps_the_vm);
    tcase_add_loop_test(tests, a_link_cut_before_commit_is_found_again, 0, 2);
    tcase_add_loop_test(tests, a_link_cut_while_loading_is_found_again, 0, 2);
    tcase_add_test(tests, a_link_cut_while_pages_are_missing_is_found_again);
    tcase_add_test(tests, a_refusal_reaches_the_source_over_a_link_that_was_cut);
    tcase_add_test(tests, a_session_that_a_dead_process_had_is_there_before_the_first_peer);
    tcase_add_test(tests, a_source_that_has_let_go_says_so_after_a_restart);
    tcase_add_test(tests, an_adopted_arrival_ends_when_its_source_has_let_go);
    tcase_add_test(tests, an_adopted_arrival_ends_when_it_is_overruled);
    tcase_add_test(tests, what_was_taken_back_by_force_is_not_confirmed);
    suite_add_tcase(suite, tests);
}

static const struct {
    const char *name;
    void (*setup)(void);
} transports[] = {
    {"null", setup_null},
    {"tls over tcp", setup_tls_tcp},
    {"tls over unix", setup_tls_unix},
};

static int run(unsigned transport)
{
    Suite *suite = suite_create(transports[transport].name);
    SRunner *runner;
    int failed;

    add_all(suite, transports[transport].name, transports[transport].setup);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* All transports at once: most of the time is that of lost links, in which nothing runs. */
int main(void)
{
    unsigned count = sizeof(transports) / sizeof(transports[0]);
    int failed = 0, status;

    if (!getenv("DRAFTER_PLUGIN_PATH")) {
        printf("skipped: DRAFTER_PLUGIN_PATH names no plugins\n");
        return 77;
    }
    for (unsigned i = 0; i < count; i++) {
        pid_t child = fork();

        if (child == 0)
            exit(run(i));
        failed |= child < 0;
    }
    while (wait(&status) > 0)
        failed |= status;
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

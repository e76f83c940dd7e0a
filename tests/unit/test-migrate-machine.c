/* SPDX-License-Identifier: BSD-2-Clause */
/* The machines step by step; tests/model plays all interleavings of both. */
#include "unit.h"

#include "migrate/machine.h"

static struct source_machine source;
static struct destination_machine destination;

static void new_source(void)
{
    source_machine_init(&source, true);
}

static void new_destination(void)
{
    destination_machine_init(&destination, false);
}

static void expect_source(enum machine_event event, enum source_state state, unsigned actions)
{
    unsigned got = source_step(&source, event);

    ck_assert_str_eq(source_state_name(source.state), source_state_name(state));
    ck_assert_msg(got == actions, "actions %#x instead of %#x", got, actions);
}

static void expect_destination(enum machine_event event, enum destination_state state,
                               unsigned actions)
{
    unsigned got = destination_step(&destination, event);

    ck_assert_str_eq(destination_state_name(destination.state), destination_state_name(state));
    ck_assert_msg(got == actions, "actions %#x instead of %#x", got, actions);
}

static void commit(void)
{
    expect_source(EVENT_ACCEPT, SOURCE_COPYING, ACTION_BEGIN_PASS);
    expect_source(EVENT_READY, SOURCE_COPYING, 0);
    expect_source(EVENT_PASS_SENT, SOURCE_DRAINING, ACTION_DRAIN);
    expect_source(EVENT_ACK, SOURCE_DRAINING, ACTION_JUDGE);
    expect_source(EVENT_CONVERGED, SOURCE_SUSPENDING, ACTION_SUSPEND);
    expect_source(EVENT_SUSPENDED, SOURCE_RELINQUISHING, ACTION_JOURNAL);
    expect_source(EVENT_JOURNALED, SOURCE_COMMITTED, ACTION_COMMIT);
}

START_TEST(a_source_hands_over)
{
    commit();
    expect_source(EVENT_RESUMED, SOURCE_SERVING, 0);
    expect_source(EVENT_SENT, SOURCE_SERVING, 0);
    expect_source(EVENT_COMPLETE, SOURCE_DONE, ACTION_SEND_DONE | ACTION_END);
}
END_TEST

START_TEST(a_source_copies_until_it_converges_and_the_peer_is_ready)
{
    source_step(&source, EVENT_ACCEPT);
    source_step(&source, EVENT_PASS_SENT);
    expect_source(EVENT_NOT_CONVERGED, SOURCE_COPYING, ACTION_BEGIN_PASS);
    source_step(&source, EVENT_PASS_SENT);
    expect_source(EVENT_CONVERGED, SOURCE_COPYING, ACTION_BEGIN_PASS);
    source_step(&source, EVENT_PASS_SENT);
    source_step(&source, EVENT_READY);
    expect_source(EVENT_CONVERGED, SOURCE_SUSPENDING, ACTION_SUSPEND);
}
END_TEST

START_TEST(a_failure_before_the_suspend_leaves_the_guest_alone)
{
    source_step(&source, EVENT_ACCEPT);
    expect_source(EVENT_FAILED, SOURCE_FAILED, ACTION_SEND_ABORT | ACTION_END);
    new_source();
    source_machine_init(&source, false); /* a registry's peers start anew */
    expect_source(EVENT_LINK_LOST, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_link_that_breaks_before_the_suspend_is_waited_for)
{
    source_step(&source, EVENT_ACCEPT);
    expect_source(EVENT_LINK_LOST, SOURCE_PARTED, ACTION_WAIT_LINK);
    expect_source(EVENT_PASS_SENT, SOURCE_PARTED, 0);
    expect_source(EVENT_LINK_BACK, SOURCE_COPYING, ACTION_BEGIN_PASS);
    expect_source(EVENT_LINK_LOST, SOURCE_PARTED, ACTION_WAIT_LINK);
    expect_source(EVENT_LINK_GONE, SOURCE_FAILED, ACTION_END);
    new_source();
    expect_source(EVENT_LINK_LOST, SOURCE_PARTED, ACTION_WAIT_LINK);
    expect_source(EVENT_FAILED, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_link_that_breaks_in_the_pause_lets_the_guest_run_on_first)
{
    source.state = SOURCE_RELINQUISHING;
    source.suspended = true;
    expect_source(EVENT_LINK_LOST, SOURCE_TAKING_BACK, ACTION_TAKE_BACK);
    expect_source(EVENT_JOURNALED, SOURCE_TAKING_BACK, 0);
    expect_source(EVENT_TAKEN_BACK, SOURCE_PARTED, ACTION_WAIT_LINK);
    ck_assert(!source.suspended);
    expect_source(EVENT_LINK_BACK, SOURCE_COPYING, ACTION_BEGIN_PASS);
    source.suspended = true;
    expect_source(EVENT_LINK_LOST, SOURCE_TAKING_BACK, ACTION_TAKE_BACK);
    expect_source(EVENT_FAILED, SOURCE_TAKING_BACK, 0); /* cancelled: nobody is waited for */
    expect_source(EVENT_TAKEN_BACK, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_guest_that_cannot_run_on_ends_the_session)
{
    source.suspended = true;
    expect_source(EVENT_LINK_LOST, SOURCE_TAKING_BACK, ACTION_TAKE_BACK);
    expect_source(EVENT_TAKE_BACK_FAILED, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_link_may_break_only_so_often)
{
    unsigned breaks = 0;

    while (source.state != SOURCE_FAILED && breaks < 1000) {
        source_step(&source, EVENT_LINK_LOST);
        source_step(&source, EVENT_LINK_BACK);
        breaks++;
    }
    ck_assert_uint_eq(breaks, SOURCE_BREAKS_MAX + 1);
}
END_TEST

START_TEST(a_failure_after_the_suspend_takes_the_guest_back)
{
    source.state = SOURCE_RELINQUISHING;
    source.suspended = true;
    expect_source(EVENT_FAILED, SOURCE_TAKING_BACK, ACTION_SEND_ABORT | ACTION_TAKE_BACK);
    ck_assert_int_eq(source.state_before, SOURCE_RELINQUISHING);
    expect_source(EVENT_JOURNALED, SOURCE_TAKING_BACK, 0);
    expect_source(EVENT_TAKEN_BACK, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_committed_source_takes_back_only_after_a_refusal)
{
    commit();
    expect_source(EVENT_FAILED, SOURCE_COMMITTED, 0);
    expect_source(EVENT_LINK_LOST, SOURCE_COMMITTED, ACTION_WAIT_LINK);
    expect_source(EVENT_LINK_BACK, SOURCE_COMMITTED, ACTION_COMMIT);
    expect_source(EVENT_REFUSED, SOURCE_TAKING_BACK, ACTION_SEND_ABORT | ACTION_TAKE_BACK);
    expect_source(EVENT_LINK_BACK, SOURCE_TAKING_BACK, ACTION_SEND_ABORT);
    expect_source(EVENT_TAKEN_BACK, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_commit_that_never_left_is_taken_back)
{
    commit();
    expect_source(EVENT_COMMIT_UNSENT, SOURCE_TAKING_BACK, ACTION_SEND_ABORT | ACTION_TAKE_BACK);
    expect_source(EVENT_LINK_LOST, SOURCE_TAKING_BACK, 0);
    expect_source(EVENT_TAKEN_BACK, SOURCE_FAILED, ACTION_END);
}
END_TEST

START_TEST(a_refusal_after_the_resume_is_a_lie)
{
    commit();
    source_step(&source, EVENT_RESUMED);
    expect_source(EVENT_REFUSED, SOURCE_SERVING, 0);
    expect_source(EVENT_LINK_LOST, SOURCE_SERVING, ACTION_WAIT_LINK);
    expect_source(EVENT_LINK_BACK, SOURCE_SERVING, 0);
}
END_TEST

START_TEST(a_registry_serves_copies_and_keeps_its_own)
{
    source_machine_init(&source, false);
    source_step(&source, EVENT_ACCEPT);
    expect_source(EVENT_READY, SOURCE_COPYING, ACTION_COMMIT);
    expect_source(EVENT_READY, SOURCE_COPYING, 0);
    expect_source(EVENT_PASS_SENT, SOURCE_DRAINING, ACTION_DRAIN);
    expect_source(EVENT_ACK, SOURCE_SERVING, 0);
    expect_source(EVENT_FAILED, SOURCE_FAILED, ACTION_SEND_ABORT | ACTION_END);
}
END_TEST

START_TEST(a_peer_may_be_ready_before_its_streams_are_there)
{
    source_machine_init(&source, false);
    expect_source(EVENT_READY, SOURCE_OFFERED, 0);
    expect_source(EVENT_ACCEPT, SOURCE_COPYING, ACTION_BEGIN_PASS | ACTION_COMMIT);
    source_machine_init(&source, true);
    expect_source(EVENT_READY, SOURCE_OFFERED, 0);
    expect_source(EVENT_ACCEPT, SOURCE_COPYING, ACTION_BEGIN_PASS);
}
END_TEST

/* Destination */

static void own(void)
{
    expect_destination(EVENT_OFFER, DESTINATION_ARRIVING, ACTION_START);
    expect_destination(EVENT_READY, DESTINATION_ARRIVING, ACTION_SEND_READY);
    expect_destination(EVENT_COMMIT, DESTINATION_OWNING, ACTION_JOURNAL);
}

static void run_guest(void)
{
    own();
    expect_destination(EVENT_JOURNALED, DESTINATION_OWNING, ACTION_LOAD);
    expect_destination(EVENT_LOADED, DESTINATION_RESUMING, ACTION_RESUME);
    expect_destination(EVENT_RESUMED, DESTINATION_COMPLETING, ACTION_SEND_RESUMED);
}

START_TEST(a_destination_takes_over)
{
    run_guest();
    expect_destination(EVENT_COMMIT, DESTINATION_COMPLETING, ACTION_SEND_RESUMED);
    expect_destination(EVENT_DONE, DESTINATION_COMPLETING, 0); /* pages are missing still */
    expect_destination(EVENT_COMPLETE, DESTINATION_COMPLETING, ACTION_SEND_COMPLETE);
    expect_destination(EVENT_COMPLETE, DESTINATION_COMPLETING, 0);
    expect_destination(EVENT_DONE, DESTINATION_DONE, ACTION_END);
}
END_TEST

START_TEST(without_postcopy_it_loads_only_what_is_complete)
{
    destination_machine_init(&destination, true);
    own();
    expect_destination(EVENT_JOURNALED, DESTINATION_OWNING, 0);
    expect_destination(EVENT_COMPLETE, DESTINATION_OWNING, ACTION_LOAD);
    destination_step(&destination, EVENT_LOADED);
    expect_destination(EVENT_RESUMED, DESTINATION_COMPLETING,
                       ACTION_SEND_RESUMED | ACTION_SEND_COMPLETE);
}
END_TEST

START_TEST(without_postcopy_it_loads_only_what_is_owned)
{
    destination_machine_init(&destination, true);
    own();
    expect_destination(EVENT_COMPLETE, DESTINATION_OWNING, 0);
    expect_destination(EVENT_JOURNALED, DESTINATION_OWNING, ACTION_LOAD);
}
END_TEST

START_TEST(before_ready_a_failure_leaves_nothing)
{
    destination_step(&destination, EVENT_OFFER);
    expect_destination(EVENT_FAILED, DESTINATION_FAILED,
                       ACTION_SEND_ABORT | ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(before_ready_a_lost_link_is_looked_for)
{
    destination_step(&destination, EVENT_OFFER);
    expect_destination(EVENT_LINK_LOST, DESTINATION_ARRIVING, ACTION_WAIT_LINK);
    expect_destination(EVENT_LINK_BACK, DESTINATION_ARRIVING, 0);
    expect_destination(EVENT_LINK_LOST, DESTINATION_ARRIVING, ACTION_WAIT_LINK);
    expect_destination(EVENT_LINK_GONE, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(after_ready_an_abort_is_repeated_until_it_is_heard)
{
    destination_step(&destination, EVENT_OFFER);
    destination_step(&destination, EVENT_READY);
    expect_destination(EVENT_FAILED, DESTINATION_REFUSED, ACTION_SEND_ABORT);
    expect_destination(EVENT_FAILED, DESTINATION_REFUSED, 0);
    expect_destination(EVENT_COMMIT, DESTINATION_REFUSED, ACTION_SEND_ABORT);
    expect_destination(EVENT_LINK_LOST, DESTINATION_REFUSED, ACTION_WAIT_LINK);
    expect_destination(EVENT_LINK_BACK, DESTINATION_REFUSED, ACTION_SEND_ABORT);
    expect_destination(EVENT_ENDED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(after_ready_a_lost_link_is_waited_for)
{
    destination_step(&destination, EVENT_OFFER);
    destination_step(&destination, EVENT_READY);
    expect_destination(EVENT_LINK_LOST, DESTINATION_ARRIVING, ACTION_WAIT_LINK);
    expect_destination(EVENT_LINK_BACK, DESTINATION_ARRIVING, ACTION_SEND_READY);
    expect_destination(EVENT_COMMIT, DESTINATION_OWNING, ACTION_JOURNAL);
}
END_TEST

START_TEST(a_source_that_ends_before_commit_leaves_nothing)
{
    destination_step(&destination, EVENT_OFFER);
    destination_step(&destination, EVENT_READY);
    expect_destination(EVENT_ENDED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(after_commit_a_refusal_is_durable_before_it_is_said)
{
    own();
    expect_destination(EVENT_FAILED, DESTINATION_REFUSING, ACTION_JOURNAL_REFUSAL);
    expect_destination(EVENT_JOURNALED, DESTINATION_REFUSING, 0);
    expect_destination(EVENT_FAILED, DESTINATION_REFUSING, 0);
    expect_destination(EVENT_REFUSAL_JOURNALED, DESTINATION_REFUSED, ACTION_SEND_REFUSED);
    expect_destination(EVENT_COMMIT, DESTINATION_REFUSED, ACTION_SEND_REFUSED);
    expect_destination(EVENT_ENDED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(a_refusal_that_is_not_durable_is_not_said)
{
    own();
    expect_destination(EVENT_JOURNAL_FAILED, DESTINATION_REFUSING, ACTION_JOURNAL_REFUSAL);
    expect_destination(EVENT_JOURNAL_FAILED, DESTINATION_REFUSING, 0);
    expect_destination(EVENT_REFUSAL_FAILED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

START_TEST(once_the_guest_may_run_nothing_is_refused)
{
    own();
    destination_step(&destination, EVENT_JOURNALED);
    destination_step(&destination, EVENT_LOADED);
    expect_destination(EVENT_FAILED, DESTINATION_RESUMING, 0);
    expect_destination(EVENT_ENDED, DESTINATION_RESUMING, 0);
    expect_destination(EVENT_RESUMED, DESTINATION_COMPLETING, ACTION_SEND_RESUMED);
    expect_destination(EVENT_FAILED, DESTINATION_COMPLETING, 0);
    expect_destination(EVENT_LINK_LOST, DESTINATION_COMPLETING, ACTION_WAIT_LINK);
    expect_destination(EVENT_LINK_BACK, DESTINATION_COMPLETING, ACTION_SEND_RESUMED);
}
END_TEST

START_TEST(a_guest_that_did_not_resume_is_refused)
{
    own();
    destination_step(&destination, EVENT_JOURNALED);
    destination_step(&destination, EVENT_LOADED);
    expect_destination(EVENT_RESUME_FAILED, DESTINATION_REFUSING, ACTION_JOURNAL_REFUSAL);
}
END_TEST

START_TEST(what_cannot_become_complete_is_refused)
{
    destination_machine_init(&destination, true);
    own();
    destination_step(&destination, EVENT_JOURNALED);
    expect_destination(EVENT_LINK_LOST, DESTINATION_OWNING, ACTION_WAIT_LINK);
    expect_destination(EVENT_ENDED, DESTINATION_REFUSING, ACTION_JOURNAL_REFUSAL);
    expect_destination(EVENT_REFUSAL_JOURNALED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
}
END_TEST

/* Every event in every state: no action that the state does not allow. */

START_TEST(no_event_makes_a_source_careless)
{
    for (unsigned bits = 0; bits < 64; bits++)
        for (unsigned state = 0; state <= SOURCE_FAILED; state++)
            for (unsigned event = 0; event <= EVENT_REFUSAL_FAILED; event++) {
                unsigned actions;

                source = (struct source_machine){.state = state,
                                                 .live = bits & 1,
                                                 .ready = bits & 2,
                                                 .suspended = bits & 4,
                                                 .journaled = bits & 8,
                                                 .linked = bits & 16,
                                                 .complete = bits & 32};
                actions = source_step(&source, event);
                if (state >= SOURCE_DONE)
                    ck_assert(!actions && source.state == state);
                if (actions & ACTION_TAKE_BACK)
                    ck_assert(state < SOURCE_COMMITTED ||
                              (state == SOURCE_COMMITTED &&
                       (event == EVENT_REFUSED || event == EVENT_COMMIT_UNSENT)));
                if (actions & ACTION_COMMIT && (bits & 1))
                    ck_assert((state == SOURCE_RELINQUISHING && event == EVENT_JOURNALED) ||
                              (state == SOURCE_COMMITTED && event == EVENT_LINK_BACK));
                ck_assert(!(actions & ACTION_END) ==
                          (source.state < SOURCE_DONE || state >= SOURCE_DONE));
            }
}
END_TEST

START_TEST(a_later_epoch_ends_the_guest_and_deletes_nothing)
{
    destination.state = DESTINATION_COMPLETING;
    expect_destination(EVENT_FENCED, DESTINATION_FAILED, ACTION_FENCE | ACTION_END);
    ck_assert(destination.fenced);
    new_destination();
    destination.state = DESTINATION_ARRIVING;
    expect_destination(EVENT_FENCED, DESTINATION_FAILED, ACTION_DISCARD | ACTION_END);
    ck_assert(!destination.fenced);
}
END_TEST

START_TEST(no_event_makes_a_destination_careless)
{
    for (unsigned bits = 0; bits < 64; bits++)
        for (unsigned state = 0; state <= DESTINATION_FAILED; state++)
            for (unsigned event = 0; event <= EVENT_FENCED; event++) {
                unsigned actions;

                if (bits & 32 && state < DESTINATION_REFUSED)
                    continue;
                destination = (struct destination_machine){.state = state,
                                                           .wait_for_all = bits & 1,
                                                           .ready = bits & 2,
                                                           .journaled = bits & 4,
                                                           .complete = bits & 8,
                                                           .linked = bits & 16,
                                                           .refused = bits & 32};
                actions = destination_step(&destination, event);
                if (state >= DESTINATION_DONE)
                    ck_assert(!actions && destination.state == (enum destination_state)state);
                if (actions & ACTION_RESUME)
                    ck_assert(state == DESTINATION_OWNING && event == EVENT_LOADED);
                if (actions & ACTION_LOAD)
                    ck_assert(destination.journaled && (!(bits & 1) || destination.complete));
                if (actions & ACTION_SEND_REFUSED)
                    ck_assert(destination.refused);
                if (actions & ACTION_DISCARD)
                    ck_assert(state != DESTINATION_RESUMING && state != DESTINATION_COMPLETING);
                ck_assert(!(actions & ACTION_END) ==
                          (destination.state < DESTINATION_DONE || state >= DESTINATION_DONE));
            }
}
END_TEST

static void add_source_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, new_source, NULL);
    tcase_add_test(tests, a_source_hands_over);
    tcase_add_test(tests, a_source_copies_until_it_converges_and_the_peer_is_ready);
    tcase_add_test(tests, a_failure_before_the_suspend_leaves_the_guest_alone);
    tcase_add_test(tests, a_link_that_breaks_before_the_suspend_is_waited_for);
    tcase_add_test(tests, a_link_that_breaks_in_the_pause_lets_the_guest_run_on_first);
    tcase_add_test(tests, a_guest_that_cannot_run_on_ends_the_session);
    tcase_add_test(tests, a_link_may_break_only_so_often);
    tcase_add_test(tests, a_failure_after_the_suspend_takes_the_guest_back);
    tcase_add_test(tests, a_committed_source_takes_back_only_after_a_refusal);
    tcase_add_test(tests, a_commit_that_never_left_is_taken_back);
    tcase_add_test(tests, a_refusal_after_the_resume_is_a_lie);
    tcase_add_test(tests, a_registry_serves_copies_and_keeps_its_own);
    tcase_add_test(tests, a_peer_may_be_ready_before_its_streams_are_there);
    tcase_add_test(tests, no_event_makes_a_source_careless);
}

static void add_destination_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, new_destination, NULL);
    tcase_add_test(tests, a_destination_takes_over);
    tcase_add_test(tests, without_postcopy_it_loads_only_what_is_complete);
    tcase_add_test(tests, without_postcopy_it_loads_only_what_is_owned);
    tcase_add_test(tests, before_ready_a_failure_leaves_nothing);
    tcase_add_test(tests, before_ready_a_lost_link_is_looked_for);
    tcase_add_test(tests, after_ready_an_abort_is_repeated_until_it_is_heard);
    tcase_add_test(tests, after_ready_a_lost_link_is_waited_for);
    tcase_add_test(tests, a_source_that_ends_before_commit_leaves_nothing);
    tcase_add_test(tests, after_commit_a_refusal_is_durable_before_it_is_said);
    tcase_add_test(tests, a_refusal_that_is_not_durable_is_not_said);
    tcase_add_test(tests, once_the_guest_may_run_nothing_is_refused);
    tcase_add_test(tests, a_guest_that_did_not_resume_is_refused);
    tcase_add_test(tests, a_later_epoch_ends_the_guest_and_deletes_nothing);
    tcase_add_test(tests, what_cannot_become_complete_is_refused);
    tcase_add_test(tests, no_event_makes_a_destination_careless);
}

int main(void)
{
    return unit_run("source", add_source_tests) | unit_run("destination", add_destination_tests);
}

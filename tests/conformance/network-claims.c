/* SPDX-License-Identifier: BSD-2-Clause */
/* Slots and forwards as records: one owner each, within a process and across processes. */
#include "network.h"

#include "network-lab.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLAIM_LIMIT_US 50
#define CLAIMS 200

static const char *const four[] = {"slots", "4", NULL};

/* A pool where one is needed: what claims are made from is then in `user`, another instance. */
static bool with_pool;
static struct instance *maker, *user;

static void setup(void)
{
    if (with_pool) {
        lab_setup();
        maker = network_make(four);
        network_open(maker);
    }
    user = network_make(four);
}

static void teardown(void)
{
    instance_free(user);
    instance_free(maker);
    maker = NULL;
}

static void expect_busy(struct instance *network, const char *name, const char *owner,
                        const char *fragment)
{
    struct drafter_network_slot slot;
    struct drafter_error err = {0};
    int rc = network_claim(network, name, owner, &slot, &err);

    conformance_expect_error(rc, EBUSY, &err, fragment);
}

START_TEST(a_slot_has_one_owner)
{
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");

    expect_busy(user, slot.name, "vm2", "vm1");
    network_release(user, &slot);
    network_take(user, slot.name, "vm2");
}
END_TEST

START_TEST(an_owner_has_one_slot)
{
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");

    expect_busy(user, NULL, "vm1", slot.name);
}
END_TEST

START_TEST(a_full_pool_says_so)
{
    char owner[16];

    for (int i = 0; i < 4; i++) {
        snprintf(owner, sizeof(owner), "vm%d", i);
        network_take(user, NULL, owner);
    }
    expect_busy(user, NULL, "late", "all 4 slots");
}
END_TEST

START_TEST(an_owner_needs_a_name)
{
    struct drafter_network_slot slot;

    ck_assert_int_eq(network_claim(user, NULL, "", &slot, NULL), -EINVAL);
}
END_TEST

struct seen {
    unsigned claimed, stale;
    char owner[64];
};

static int look(void *context, const struct drafter_network_status *status)
{
    struct seen *seen = context;

    if (status->owner[0]) {
        seen->claimed++;
        seen->stale += status->stale;
        snprintf(seen->owner, sizeof(seen->owner), "%s", status->owner);
        ck_assert_int_ne(status->pid, 0);
    }
    return 0;
}

static struct seen seen_by(struct instance *network)
{
    struct seen seen = {0};

    ck_assert_int_eq(network_list(network, look, &seen, NULL), 0);
    return seen;
}

START_TEST(a_list_names_owners)
{
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");

    ck_assert_str_eq(seen_by(user).owner, "vm1");
    ck_assert_uint_eq(seen_by(user).claimed, 1);
    network_release(user, &slot);
    ck_assert_uint_eq(seen_by(user).claimed, 0);
}
END_TEST

START_TEST(forwards_that_meet_are_refused)
{
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");
    struct drafter_network_forward first =
        network_forward(slot.name, IPPROTO_TCP, "127.0.0.1", 3333);
    struct drafter_network_forward second[] = {
        network_forward(slot.name, IPPROTO_UDP, "127.0.0.1", 3333),
        network_forward(slot.name, IPPROTO_TCP, "0.0.0.0", 3333)};
    struct drafter_error err = {0};

    ck_assert_int_eq(network_forward_add(user, &first, 1, NULL), 0);
    conformance_expect_error(network_forward_add(user, second, 2, &err), EADDRINUSE, &err, "test");
    memset(&err, 0, sizeof(err));
    ck_assert_msg(network_forward_add(user, second, 1, &err) == 0, "%s", err.message);
    ck_assert_int_eq(network_forward_remove(user, &first, 1, NULL), 0);
    ck_assert_int_eq(network_forward_add(user, second + 1, 1, NULL), 0);
}
END_TEST

/* Only where slots outlast an instance. */

START_TEST(instances_of_one_pool_share_slots)
{
    struct instance *other = network_make(four);
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");

    expect_busy(other, slot.name, "vm2", "vm1");
    expect_busy(other, NULL, "vm1", slot.name);
    ck_assert_str_eq(seen_by(other).owner, "vm1");
    instance_free(user);
    user = NULL;
    network_take(other, slot.name, "vm2");
    instance_free(other);
}
END_TEST

START_TEST(a_release_by_others_changes_nothing)
{
    struct instance *other = network_make(four);
    struct drafter_network_slot slot = network_take(user, NULL, "vm1");

    network_release(other, &slot);
    expect_busy(other, slot.name, "vm2", "vm1");
    instance_free(other);
}
END_TEST

/* A process that claims `name` and forwards to it, then waits to be killed. */
static pid_t claimant(const char *name, const char *owner)
{
    int ready[2];
    pid_t child;
    char byte;

    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct instance *network = network_make(four);
        struct drafter_network_forward forward =
            network_forward(name, IPPROTO_TCP, "127.0.0.1", 3333);

        network_take(network, name, owner);
        ck_assert_int_eq(network_forward_add(network, &forward, 1, NULL), 0);
        if (write(ready[1], "r", 1) == 1)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void end_process(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

START_TEST(a_killed_owner_loses_its_slot)
{
    pid_t child = claimant("ark1", "vm1");
    struct seen before, after;

    expect_busy(user, "ark1", "vm2", "vm1");
    before = seen_by(user);
    end_process(child);
    after = seen_by(user);
    ck_assert_uint_eq(before.stale, 0);
    ck_assert_uint_eq(after.stale, 1);
    network_take(user, "ark1", "vm2");
}
END_TEST

START_TEST(a_killed_owner_may_come_back)
{
    end_process(claimant("ark1", "vm1"));
    network_take(user, "ark2", "vm1");
}
END_TEST

START_TEST(reclaim_frees_what_the_dead_had)
{
    struct drafter_network_forward forward =
        network_forward("ark2", IPPROTO_TCP, "127.0.0.1", 3333);
    pid_t child = claimant("ark1", "vm1");
    size_t count = 7;

    ck_assert_int_eq(network_reclaim(user, &count, NULL), 0);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(network_forward_add(user, &forward, 1, NULL), -EADDRINUSE);
    end_process(child);
    ck_assert_int_eq(network_reclaim(user, &count, NULL), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(seen_by(user).claimed, 0);
    ck_assert_int_eq(network_forward_add(user, &forward, 1, NULL), 0);
}
END_TEST

START_TEST(unclaimed_slots_go_before_those_of_the_dead)
{
    struct drafter_network_slot slot;

    end_process(claimant("ark0", "vm1"));
    slot = network_take(user, NULL, "vm2");
    ck_assert_str_eq(slot.name, "ark1");
}
END_TEST

START_TEST(without_a_pool_nothing_is_claimed)
{
    static const char *const other[] = {"namespace-prefix", "none", NULL};
    struct instance *network = network_make(other);
    struct drafter_network_slot slot;
    struct drafter_error err = {0};

    conformance_expect_error(network_claim(network, NULL, "vm1", &slot, &err), ENOENT, &err,
                             "no pool \"none\"");
    conformance_expect_error(network_claim(user, "ark4", "vm1", &slot, &err), ENOENT, &err,
                             "ark0 to ark3");
    instance_free(network);
}
END_TEST

START_TEST(a_claim_is_quick)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < CLAIMS; i++) {
        uint64_t begin = drafter_now_ns(), took;
        struct drafter_network_slot slot = network_take(user, NULL, "vm1");

        took = drafter_now_ns() - begin;
        best = took < best ? took : best;
        network_release(user, &slot);
    }
    ck_assert_msg(best < CLAIM_LIMIT_US * 1000, "a claim takes %llu ns", (unsigned long long)best);
}
END_TEST

void network_add_claims(Suite *suite, bool pool)
{
    TCase *tests = tcase_create("claims");

    with_pool = pool;
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_slot_has_one_owner);
    tcase_add_test(tests, an_owner_has_one_slot);
    tcase_add_test(tests, a_full_pool_says_so);
    tcase_add_test(tests, an_owner_needs_a_name);
    tcase_add_test(tests, a_list_names_owners);
    tcase_add_test(tests, forwards_that_meet_are_refused);
    tcase_add_test(tests, a_claim_is_quick);
    if (pool) {
        tcase_add_test(tests, instances_of_one_pool_share_slots);
        tcase_add_test(tests, a_release_by_others_changes_nothing);
        tcase_add_test(tests, a_killed_owner_loses_its_slot);
        tcase_add_test(tests, a_killed_owner_may_come_back);
        tcase_add_test(tests, reclaim_frees_what_the_dead_had);
        tcase_add_test(tests, unclaimed_slots_go_before_those_of_the_dead);
        tcase_add_test(tests, without_a_pool_nothing_is_claimed);
    }
    suite_add_tcase(suite, tests);
}

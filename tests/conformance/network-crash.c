/* SPDX-License-Identifier: BSD-2-Clause */
/* Makers that are killed: the next one finds what they left. */
#include "network.h"

#include "network-lab.h"
#include "util/cleanup.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const few[] = {"slots", "6", "ipv6", "yes", NULL};

static void end_process(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

    nanosleep(&left, NULL);
}

static void open_and_close(void)
{
    struct instance *network = network_make(few);

    network_open(network);
    network_shut(network);
    instance_free(network);
}

static uint64_t time_of_one(void)
{
    uint64_t begin = drafter_now_ns();

    open_and_close();
    return drafter_now_ns() - begin;
}

/* Makes and removes pools, with a forward, until it is killed. */
static pid_t churn(void)
{
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    while (child == 0) {
        struct drafter_network_forward forward =
            network_forward("ark0", IPPROTO_TCP, "127.0.0.1", 3333);
        struct instance *network = network_make(few);

        network_open(network);
        network_forward_add(network, &forward, 1, NULL);
        network_shut(network);
        instance_free(network);
    }
    return child;
}

START_TEST(a_killed_maker_leaves_nothing_after_the_next_one)
{
    struct drafter_network_slot slot;
    struct instance *network;
    uint64_t cycle;
    char *before;

    lab_setup();
    lab_rules();
    before = lab_snapshot();
    cycle = time_of_one();
    srand(20240907);
    for (int i = 0; i < network_kills; i++) {
        pid_t child = churn();
        char *after;

        sleep_ns(cycle + (uint64_t)(rand() % 1000) * cycle / 1000);
        end_process(child);
        network = network_make(few);
        network_open(network);
        slot = network_take(network, "ark5", "vm1");
        if (i % 6 == 0) {
            lab_guest(&slot);
            ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, slot.address, LAB_PORT, NULL), 0);
        }
        network_release(network, &slot);
        network_shut(network);
        instance_free(network);
        after = lab_snapshot();
        lab_expect_same(before, after);
        free(after);
    }
    free(before);
}
END_TEST

/* A process that makes the pool and waits. */
static pid_t maker(const char *const *options)
{
    int ready[2];
    pid_t child;
    char byte;

    ck_assert_int_eq(pipe(ready), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        network_open(network_make(options));
        if (write(ready[1], "r", 1) == 1)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

START_TEST(a_vm_outlives_the_maker_of_its_pool)
{
    static const char *const other[] = {"slots", "5", "ipv6", "yes", NULL};
    struct drafter_network_forward forward =
        network_forward("ark1", IPPROTO_TCP, "192.0.2.1", 3333);
    struct instance *user, *again;
    struct drafter_network_slot slot;
    struct drafter_error err = {0};
    pid_t child;
    int fd;

    lab_setup();
    child = maker(few);
    user = network_make(few);
    slot = network_take(user, "ark1", "vm1");
    lab_guest(&slot);
    ck_assert_int_eq(network_forward_add(user, &forward, 1, NULL), 0);
    fd = lab_connect(lab_client(), "192.0.2.1", 3333);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(lab_exchange(fd, 1000), 0);
    end_process(child);
    ck_assert_int_eq(lab_exchange(fd, 1000), 0);

    again = network_make(other);
    conformance_expect_error(network_pool_open(again, NULL, &err), EBUSY, &err,
                             "vm1 has slot ark1 of the pool, which was made with another");
    instance_free(again);
    again = network_make(few);
    network_open(again);
    ck_assert_int_eq(lab_exchange(fd, 1000), 0);
    ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333, NULL), 0);
    ck_assert_int_eq(network_claim(again, "ark1", "vm2", &slot, NULL), -EBUSY);
    network_take(again, "ark0", "vm2");
    instance_free(user);
    instance_free(again);
}
END_TEST

START_TEST(a_forward_outlives_the_maker_of_its_pool)
{
    struct drafter_network_forward forward = network_forward("ark1", IPPROTO_TCP, "127.0.0.1", 3333);
    struct instance *user, *again;
    struct drafter_network_slot slot;
    pid_t child;

    lab_setup();
    child = maker(few);
    user = network_make(few);
    ck_assert_int_eq(network_forward_add(user, &forward, 1, NULL), 0);
    end_process(child);
    again = network_make(few);
    network_open(again);
    slot = network_take(again, "ark1", "vm1");
    lab_guest(&slot);
    ck_assert_int_eq(lab_reach(lab_host(), IPPROTO_TCP, "127.0.0.1", 3333, NULL), 0);
    instance_free(user);
    ck_assert_int_lt(lab_talk(lab_host(), IPPROTO_TCP, "127.0.0.1", 3333, NULL), 0);
    instance_free(again);
}
END_TEST

static int remove_it(void *context, const char *name, struct drafter_error *err)
{
    const struct drafter_network_forward forward = network_forward("ark1", IPPROTO_TCP, "192.0.2.1", 3333);

    (void)name;
    return network_forward_remove(context, &forward, 1, err);
}

START_TEST(a_forward_that_goes_while_the_pool_is_made_is_gone)
{
    struct drafter_network_forward forward = network_forward("ark1", IPPROTO_TCP, "192.0.2.1", 3333);
    struct instance *user, *again;
    struct drafter_network_hooks hooks = {.before_create = remove_it};
    struct drafter_network_slot slot;
    pid_t child;

    lab_setup();
    child = maker(few);
    hooks.context = user = network_make(few);
    ck_assert_int_eq(network_forward_add(user, &forward, 1, NULL), 0);
    end_process(child);
    again = network_make(few);
    ck_assert_int_eq(network_pool_open(again, &hooks, NULL), 0);
    slot = network_take(again, "ark1", "vm1");
    lab_guest(&slot);
    ck_assert_int_lt(lab_talk(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333, NULL), 0);
    instance_free(user);
    instance_free(again);
}
END_TEST

static int claim_it(void *context, const char *name, struct drafter_error *err)
{
    struct instance **other = context;
    struct drafter_network_slot slot;

    (void)err;
    if (*other)
        ck_assert_int_eq(network_claim(*other, name, "vm2", &slot, NULL), -EBUSY);
    return 0;
}

START_TEST(a_slot_that_the_next_maker_removes_is_not_claimed)
{
    struct instance *user, *other, *again;
    struct drafter_network_hooks hooks = {.context = &other, .before_remove = claim_it};
    pid_t child;

    lab_setup();
    child = maker(few);
    user = network_make(few);
    other = network_make(few);
    again = network_make(few);
    network_take(user, "ark1", "vm1"); /* so that the pool stays */
    end_process(child);
    ck_assert_int_eq(network_pool_open(again, &hooks, NULL), 0);
    network_take(other, "ark2", "vm2");
    instance_free(user);
    instance_free(steal(&other));
    instance_free(again);
}
END_TEST

void network_add_crash(Suite *suite)
{
    TCase *tests = tcase_create("crash");

    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_killed_maker_leaves_nothing_after_the_next_one);
    tcase_add_test(tests, a_vm_outlives_the_maker_of_its_pool);
    tcase_add_test(tests, a_forward_outlives_the_maker_of_its_pool);
    tcase_add_test(tests, a_forward_that_goes_while_the_pool_is_made_is_gone);
    tcase_add_test(tests, a_slot_that_the_next_maker_removes_is_not_claimed);
    suite_add_tcase(suite, tests);
}

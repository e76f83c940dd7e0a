/* SPDX-License-Identifier: BSD-2-Clause */
/* The null network, through its adapter: a slot has one owner, an owner has one slot. */
#include "unit-plugin.h"

#include "plugin/network.h"

#include <unistd.h>

static struct instance *make(const char *const *overrides)
{
    struct drafter_error err = {0};
    struct instance *network = NULL;

    ck_assert_msg(instance_new(DRAFTER_KIND_NETWORK, NULL, "null", overrides, "net", "/", NULL,
                               &network, &err) == 0,
                  "%s", err.message);
    return network;
}

START_TEST(a_slot_is_empty_but_for_its_name)
{
    struct instance *network = make(NULL);
    struct drafter_network_slot slot;

    memset(&slot, 'x', sizeof(slot));
    ck_assert_int_eq(network_claim(network, "blue", "vm1", &slot, NULL), 0);
    ck_assert_str_eq(slot.name, "blue");
    ck_assert_str_eq(slot.netns, "");
    ck_assert_str_eq(slot.tap, "");
    ck_assert_str_eq(slot.mac, "");
    ck_assert_str_eq(slot.address, "");
    ck_assert_int_eq(network_announce(network, &slot, NULL), 0);
    ck_assert_int_eq(network_withdraw(network, &slot, NULL), 0); /* a default of the adapter */
    network_release(network, &slot);
    instance_free(network);
}
END_TEST

START_TEST(a_slot_has_one_owner_until_it_is_released)
{
    struct instance *network = make(NULL);
    struct drafter_network_slot slot, other;
    struct drafter_error err = {0};

    ck_assert_int_eq(network_claim(network, "blue", "vm1", &slot, NULL), 0);
    ck_assert_int_eq(network_claim(network, "blue", "vm2", &other, &err), -EBUSY);
    ck_assert_str_eq(err.message, "null: slot blue belongs to vm1");
    ck_assert_int_eq(network_claim(network, "red", "vm1", &other, &err), -EBUSY);
    ck_assert_str_eq(err.message, "null: vm1 has slot blue already");
    network_release(network, &slot);
    ck_assert_int_eq(network_claim(network, "blue", "vm2", &other, NULL), 0);
    instance_free(network);
}
END_TEST

START_TEST(slots_without_a_name_get_free_numbers)
{
    static const char *const two[] = {"slots", "2", NULL};
    struct instance *network = make(two);
    struct drafter_network_slot first, second, third;

    ck_assert_int_eq(network_claim(network, NULL, "vm1", &first, NULL), 0);
    ck_assert_int_eq(network_claim(network, NULL, "vm2", &second, NULL), 0);
    ck_assert_str_eq(first.name, "0");
    ck_assert_str_eq(second.name, "1");
    ck_assert_int_eq(network_claim(network, NULL, "vm3", &third, NULL), -EBUSY);
    network_release(network, &first);
    ck_assert_int_eq(network_claim(network, NULL, "vm3", &third, NULL), 0);
    ck_assert_str_eq(third.name, "0");
    instance_free(network);
}
END_TEST

START_TEST(instances_do_not_share_slots)
{
    struct instance *one = make(NULL), *two = make(NULL);
    struct drafter_network_slot slot;

    ck_assert_int_eq(network_claim(one, "blue", "vm1", &slot, NULL), 0);
    ck_assert_int_eq(network_claim(two, "blue", "vm1", &slot, NULL), 0);
    instance_free(one);
    instance_free(two);
}
END_TEST

START_TEST(a_claim_can_be_made_to_fail)
{
    static const char *const second[] = {"fail-claim-at", "2", NULL};
    struct instance *network = make(second);
    struct drafter_network_slot slot;

    ck_assert_int_eq(network_claim(network, NULL, "vm1", &slot, NULL), 0);
    ck_assert_int_eq(network_claim(network, NULL, "vm2", &slot, NULL), -EIO);
    ck_assert_int_eq(network_claim(network, NULL, "vm2", &slot, NULL), 0);
    ck_assert_int_eq(network_claim(network, NULL, "", &slot, NULL), -EINVAL);
    instance_free(network);
}
END_TEST

static int collect_slot(void *context, const struct drafter_network_status *status)
{
    char *all = context;

    snprintf(all + strlen(all), 64 - strlen(all), "%s%s ", status->slot.name, status->owner);
    ck_assert_int_eq(status->pid, getpid());
    return 0;
}

START_TEST(claimed_slots_are_listed)
{
    struct instance *network = make(NULL);
    struct drafter_network_slot slot;
    char all[64] = "";

    ck_assert_int_eq(network_claim(network, NULL, "vm1", &slot, NULL), 0);
    ck_assert_int_eq(network_claim(network, NULL, "vm2", &slot, NULL), 0);
    ck_assert_int_eq(network_list(network, collect_slot, all, NULL), 0);
    ck_assert_str_eq(all, "0vm1 1vm2 ");
    instance_free(network);
}
END_TEST

static struct drafter_network_forward forward(const char *address, uint16_t port)
{
    struct drafter_network_forward made = {
        .slot = "0", .protocol = 6, .host_port = port, .guest_port = 6379, .owner = "vm1"};

    snprintf(made.host_address, sizeof(made.host_address), "%s", address);
    return made;
}

static int count_forward(void *context, const struct drafter_network_forward *found, int64_t pid)
{
    ck_assert_str_eq(found->owner, "vm1");
    ck_assert_int_eq(pid, getpid());
    ++*(unsigned *)context;
    return 0;
}

static unsigned forwards_of(struct instance *network)
{
    unsigned count = 0;

    ck_assert_int_eq(network_forward_list(network, count_forward, &count, NULL), 0);
    return count;
}

START_TEST(forwards_that_meet_are_refused_together)
{
    struct drafter_network_forward pair[] = {forward("127.0.0.1", 80), forward("::1", 80)};
    struct drafter_network_forward late[] = {forward("::1", 81), forward("0.0.0.0", 80)};
    struct instance *network = make(NULL);
    struct drafter_error err = {0};

    ck_assert_int_eq(network_forward_add(network, pair, 2, NULL), 0);
    ck_assert_int_eq(network_forward_add(network, late, 2, &err), -EADDRINUSE);
    ck_assert_str_eq(err.message, "null: tcp 127.0.0.1:80 is forwarded to slot 0 by vm1");
    ck_assert_uint_eq(forwards_of(network), 2);
    ck_assert_int_eq(network_forward_remove(network, pair, 1, NULL), 0);
    ck_assert_uint_eq(forwards_of(network), 1);
    ck_assert_int_eq(network_forward_add(network, late, 2, NULL), 0);
    instance_free(network);
}
END_TEST

START_TEST(forwards_that_make_no_sense_are_refused)
{
    struct drafter_network_forward bad[] = {forward("localhost", 80), forward("224.0.0.1", 80),
                                            forward("::1", 0), forward("::1", 80),
                                            forward("::1", 80), forward("::1", 80)};
    struct instance *network = make(NULL);

    bad[3].protocol = 1;
    bad[4].guest_port = 0;
    bad[5].owner[0] = '\0';
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_int_eq(network_forward_add(network, &bad[i], 1, NULL), -EINVAL);
    ck_assert_uint_eq(forwards_of(network), 0);
    instance_free(network);
}
END_TEST

START_TEST(a_network_without_a_pool_opens_and_closes_it)
{
    struct instance *network = make(NULL);
    size_t count = 7;

    ck_assert_int_eq(network_pool_open(network, NULL, NULL), 0);
    ck_assert_int_eq(network_reclaim(network, &count, NULL), 0);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(network_pool_close(network, NULL), 0);
    instance_free(network);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, claimed_slots_are_listed);
    tcase_add_test(tests, forwards_that_meet_are_refused_together);
    tcase_add_test(tests, forwards_that_make_no_sense_are_refused);
    tcase_add_test(tests, a_network_without_a_pool_opens_and_closes_it);
    tcase_add_test(tests, a_slot_is_empty_but_for_its_name);
    tcase_add_test(tests, a_slot_has_one_owner_until_it_is_released);
    tcase_add_test(tests, slots_without_a_name_get_free_numbers);
    tcase_add_test(tests, instances_do_not_share_slots);
    tcase_add_test(tests, a_claim_can_be_made_to_fail);
}

int main(void)
{
    return unit_run_over(DRAFTER_KIND_NETWORK, "null", "plugin-network", add_tests);
}

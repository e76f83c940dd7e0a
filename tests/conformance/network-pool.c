/* SPDX-License-Identifier: BSD-2-Clause */
/* Making and removing a pool: all or nothing, and nothing that is not ours. */
#include "network.h"

#include "network-lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const few[] = {"slots", "3", "ipv6", "yes", NULL};

static char *before;

static void setup(void)
{
    lab_setup();
    lab_rules();
    before = lab_snapshot();
}

static void expect_nothing_left(void)
{
    char *after = lab_snapshot();

    lab_expect_same(before, after);
    free(after);
}

START_TEST(a_pool_leaves_nothing)
{
    struct instance *network = network_make(few);

    network_open(network);
    network_shut(network);
    expect_nothing_left();
    network_open(network);
    instance_free(network);
    expect_nothing_left();
}
END_TEST

START_TEST(a_pool_leaves_nothing_under_traffic)
{
    struct instance *network = network_make(few);
    struct drafter_network_slot slot;
    struct drafter_network_forward forward =
        network_forward("ark0", IPPROTO_TCP, "0.0.0.0", 3333);
    int connection;

    network_open(network);
    slot = network_take(network, "ark0", "vm1");
    lab_guest(&slot);
    ck_assert_int_eq(network_forward_add(network, &forward, 1, NULL), 0);
    connection = lab_connect(lab_client(), "192.0.2.1", 3333);
    ck_assert_int_ge(connection, 0);
    ck_assert_int_eq(lab_exchange(connection, 1000), 0);
    network_shut(network);
    ck_assert_int_lt(lab_exchange(connection, 100), 0);
    expect_nothing_left();
    instance_free(network);
}
END_TEST

START_TEST(slots_are_what_the_options_say)
{
    struct instance *network = network_make(few);
    struct drafter_network_slot slot;

    network_open(network);
    slot = network_take(network, "ark2", "vm1");
    ck_assert_str_eq(slot.netns, "/run/netns/ark2");
    ck_assert_str_eq(slot.tap, "tap0");
    ck_assert_str_eq(slot.mac, "02:0e:d9:fd:68:3d");
    ck_assert_str_eq(slot.address, "10.0.15.3");
    ck_assert_str_eq(slot.address6, "fd64:7261:6674:f::3");
    ck_assert_str_eq(slot.guest, "172.16.0.2/30");
    ck_assert_str_eq(slot.gateway, "172.16.0.1");
    free(lab_output("ip netns exec ark2 ip link show tap0"));
    free(lab_output("ip link show ark2-veth1"));
    instance_free(network);
}
END_TEST

static int rules_of_host(void)
{
    char *rules = lab_output("nft -s list ruleset");
    int lines = 0;

    for (const char *at = rules; (at = strchr(at, '\n')); at++)
        lines++;
    free(rules);
    return lines;
}

START_TEST(rules_do_not_grow_with_slots)
{
    static const char *const many[] = {"slots", "40", "ipv6", "yes", NULL};
    struct instance *network = network_make(few);
    int small;

    network_open(network);
    small = rules_of_host();
    instance_free(network);
    network = network_make(many);
    network_open(network);
    ck_assert_int_eq(rules_of_host(), small);
    instance_free(network);
}
END_TEST

static struct instance *expect_refused(const char *const *options, int code, const char *message)
{
    struct instance *network = network_make(options);
    struct drafter_error err = {0};

    conformance_expect_error(network_pool_open(network, NULL, &err), code, &err, message);
    expect_nothing_left();
    return network;
}

START_TEST(a_missing_interface_is_named)
{
    static const char *const options[] = {"host-interface", "eth9", "slots", "1", NULL};

    instance_free(expect_refused(options, ENODEV, "host-interface eth9"));
}
END_TEST

START_TEST(without_a_default_route_the_interface_has_to_be_named)
{
    static const char *const named[] = {"host-interface", "eth0", "slots", "1", NULL};
    struct instance *network;

    lab_run("ip route del default");
    lab_run("ip -6 route del default");
    free(before);
    before = lab_snapshot();
    instance_free(expect_refused(few, ENODEV, "set host-interface"));
    network = network_make(named);
    network_open(network);
    instance_free(network);
}
END_TEST

START_TEST(what_is_in_the_way_is_named_and_stays)
{
    /* Those of the links of pool "ark", and of what of them is about to be removed. */
    static const char *const groups[] = {"ip link add other group 1919884867 type veth peer name another",
                                         "ip link add other group 309272131 type veth peer name another"};
    static const char *const lan[] = {"namespace-veth-cidr", "192.0.2.0/28", "slots", "1", NULL};

    instance_free(expect_refused(lan, EADDRINUSE, "overlaps 192.0.2.1/24 of interface eth0"));
    lab_run("ip netns add ark1");
    free(before);
    before = lab_snapshot();
    instance_free(expect_refused(few, EEXIST, "/run/netns/ark1"));
    lab_run("ip netns del ark1");
    lab_run("ip link add ark2-veth1 type veth peer name other");
    free(before);
    before = lab_snapshot();
    instance_free(expect_refused(few, EEXIST, "ark2-veth1"));
    lab_run("ip link del ark2-veth1");
    for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
        lab_run(groups[i]);
        free(before);
        before = lab_snapshot();
        instance_free(expect_refused(few, EEXIST, "interface other is in the group"));
        lab_run("ip link del other");
    }
}
END_TEST

START_TEST(a_pool_has_one_maker)
{
    struct instance *network = network_make(few), *other = network_make(few);
    struct drafter_error err = {0};

    network_open(network);
    conformance_expect_error(network_pool_open(other, NULL, &err), EBUSY, &err, "process");
    instance_free(other);
    network_take(network, "ark0", "vm1");
    instance_free(network);
    expect_nothing_left();
}
END_TEST

START_TEST(two_pools_live_side_by_side)
{
    static const char *const options[] = {"slots",          "2",
                                          "namespace-prefix", "oak",
                                          "host-veth-cidr", "10.2.0.0/24",
                                          "namespace-veth-cidr", "10.3.0.0/24",
                                          NULL};
    struct instance *network = network_make(few), *other = network_make(options);

    network_open(network);
    network_open(other);
    network_shut(network);
    network_take(other, "oak0", "vm1");
    free(lab_output("grep 1 /proc/sys/net/ipv4/ip_forward"));
    instance_free(other);
    instance_free(network);
    expect_nothing_left();
}
END_TEST

START_TEST(a_pool_leaves_one_whose_name_goes_on_alone)
{
    static const char *const options[] = {"slots",          "2",
                                          "namespace-prefix", "ark-b",
                                          "host-veth-cidr", "10.2.0.0/24",
                                          "namespace-veth-cidr", "10.3.0.0/24",
                                          NULL};
    static const char *const one[] = {"slots", "1", NULL};
    struct instance *network = network_make(one), *other = network_make(options);
    char *alone;

    network_open(other);
    alone = lab_snapshot();
    network_open(network);
    network_shut(network);
    free(before);
    before = alone;
    expect_nothing_left();
    instance_free(other);
    instance_free(network);
}
END_TEST

/* The alias of the loopback interface has that address, with 0 none. */
static void set_address(int fd, unsigned alias, uint32_t value)
{
    struct ifreq request = {0};
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;

    snprintf(request.ifr_name, sizeof(request.ifr_name), "lo:%u", alias);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(value);
    ck_assert_int_eq(ioctl(fd, SIOCSIFADDR, &request), 0);
}

#define ALIASES 250 /* more than the kernel lists at once */
#define ALIEN 0xcb007100

/* Changes of somebody else's, each of which makes what is being listed out of date. */
static void *come_and_go(void *opaque)
{
    const bool *ended = opaque;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    while (!__atomic_load_n(ended, __ATOMIC_RELAXED)) {
        set_address(fd, ALIASES, ALIEN + ALIASES);
        set_address(fd, ALIASES, 0);
    }
    close(fd);
    return NULL;
}

START_TEST(addresses_that_come_and_go_are_no_obstacle)
{
    static const char *const one[] = {"slots", "1", NULL};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct instance *network = network_make(one);
    bool ended = false;
    pthread_t thread;

    for (unsigned i = 0; i < ALIASES; i++)
        set_address(fd, i, ALIEN + i);
    free(before);
    before = lab_snapshot();
    ck_assert_int_eq(pthread_create(&thread, NULL, come_and_go, &ended), 0);
    for (int i = 0; i < 10; i++) {
        network_open(network);
        network_shut(network);
    }
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    instance_free(network);
    expect_nothing_left();
    close(fd);
}
END_TEST

struct hooked {
    char all[256];
    const char *fail;
};

static int before_create(void *context, const char *slot, struct drafter_error *err)
{
    struct hooked *hooked = context;
    size_t used = strlen(hooked->all);

    snprintf(hooked->all + used, sizeof(hooked->all) - used, "+%s", slot);
    if (hooked->fail && strcmp(hooked->fail, slot) == 0)
        return drafter_error_set(err, EPERM, "the hook says no");
    return 0;
}

static int before_remove(void *context, const char *slot, struct drafter_error *err)
{
    struct hooked *hooked = context;
    size_t used = strlen(hooked->all);
    char path[64];

    (void)err;
    snprintf(path, sizeof(path), "/run/netns/%s", slot);
    ck_assert_int_eq(access(path, F_OK), 0);
    snprintf(hooked->all + used, sizeof(hooked->all) - used, "-%s", slot);
    return 0;
}

START_TEST(hooks_are_called_before_each_namespace)
{
    struct hooked hooked = {"", NULL};
    struct drafter_network_hooks hooks = {&hooked, before_create, before_remove};
    struct instance *network = network_make(few);

    ck_assert_int_eq(network_pool_open(network, &hooks, NULL), 0);
    network_shut(network);
    ck_assert_str_eq(hooked.all, "+ark0+ark1+ark2-ark0-ark1-ark2");
    instance_free(network);
}
END_TEST

START_TEST(a_hook_that_fails_undoes_all)
{
    struct hooked hooked = {"", "ark1"};
    struct drafter_network_hooks hooks = {&hooked, before_create, NULL};
    struct instance *network = network_make(few);
    struct drafter_error err = {0};

    conformance_expect_error(network_pool_open(network, &hooks, &err), EPERM, &err,
                             "the hook says no");
    expect_nothing_left();
    instance_free(network);
}
END_TEST

static const char *const own[] = {"slots",           "2",
                                  "outside-address", "own",
                                  "namespace-veth-cidr", "192.0.2.128/25",
                                  "blocked-subnet-cidr", "",
                                  "ipv6",            "yes",
                                  "outside-address6", "own",
                                  "namespace-veth-cidr6", "2001:db8::8000/113",
                                  NULL};

START_TEST(an_announced_guest_is_found_and_a_withdrawn_is_not)
{
    struct instance *network = network_make(own);
    struct drafter_network_slot slot;
    struct drafter_error err = {0};

    network_open(network);
    slot = network_take(network, "ark0", "vm1");
    ck_assert_str_eq(slot.address, "192.0.2.129");
    lab_guest(&slot);
    ck_assert_int_lt(lab_talk(lab_client(), IPPROTO_UDP, slot.address, LAB_PORT, NULL), 0);
    ck_assert_msg(network_announce(network, &slot, &err) == 0, "%s", err.message);
    ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, slot.address, LAB_PORT, NULL), 0);
    ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, slot.address6, LAB_PORT, NULL), 0);
    ck_assert_int_eq(network_withdraw(network, &slot, NULL), 0);
    lab_enter(lab_client());
    lab_run("ip neigh flush dev eth0");
    lab_enter(lab_host());
    ck_assert_int_lt(lab_talk(lab_client(), IPPROTO_UDP, slot.address, LAB_PORT, NULL), 0);
    ck_assert_int_eq(network_announce(network, &slot, NULL), 0);
    network_release(network, &slot);
    free(lab_output("ip neigh show proxy"));
    instance_free(network);
    expect_nothing_left();
}
END_TEST

START_TEST(an_announcement_changes_what_others_believe)
{
    struct instance *network = network_make(own);
    struct drafter_network_slot slot;
    char command[256], *table;

    network_open(network);
    slot = network_take(network, "ark0", "vm1");
    lab_guest(&slot);
    lab_enter(lab_client());
    snprintf(command, sizeof(command), "ip neigh replace %s lladdr 02:00:00:00:00:99 dev eth0 nud stale",
             slot.address);
    lab_run(command);
    snprintf(command, sizeof(command), "ip neigh replace %s lladdr 02:00:00:00:00:99 dev eth0 nud stale",
             slot.address6);
    lab_run(command);
    lab_enter(lab_host());
    ck_assert_int_eq(network_announce(network, &slot, NULL), 0);
    lab_enter(lab_client());
    table = lab_output("ip neigh show");
    ck_assert_msg(!strstr(table, "02:00:00:00:00:99"), "%s", table);
    free(table);
    lab_enter(lab_host());
    instance_free(network);
}
END_TEST

void network_add_pool(Suite *suite)
{
    TCase *tests = tcase_create("pool");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, a_pool_leaves_nothing);
    tcase_add_test(tests, a_pool_leaves_nothing_under_traffic);
    tcase_add_test(tests, slots_are_what_the_options_say);
    tcase_add_test(tests, rules_do_not_grow_with_slots);
    tcase_add_test(tests, a_missing_interface_is_named);
    tcase_add_test(tests, without_a_default_route_the_interface_has_to_be_named);
    tcase_add_test(tests, what_is_in_the_way_is_named_and_stays);
    tcase_add_test(tests, a_pool_has_one_maker);
    tcase_add_test(tests, two_pools_live_side_by_side);
    tcase_add_test(tests, a_pool_leaves_one_whose_name_goes_on_alone);
    tcase_add_test(tests, addresses_that_come_and_go_are_no_obstacle);
    tcase_add_test(tests, hooks_are_called_before_each_namespace);
    tcase_add_test(tests, a_hook_that_fails_undoes_all);
    tcase_add_test(tests, an_announced_guest_is_found_and_a_withdrawn_is_not);
    tcase_add_test(tests, an_announcement_changes_what_others_believe);
    suite_add_tcase(suite, tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* What passes between guests, host and client, and what does not. */
#include "network.h"

#include "network-lab.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const char *const defaults[] = {"slots", "3", "ipv6", "yes", NULL};
static const char *const open_to_all[] = {"slots", "3", "ipv6", "yes", "blocked-subnet-cidr", "",
                                          "blocked-subnet-cidr6", "", NULL};
static const char *const closed[] = {"slots", "3", "ipv6", "yes", "allow-incoming-traffic", "no",
                                     NULL};

static struct instance *network;
static struct drafter_network_slot slots[2];
static int guests[2];

static void begin(const char *const *options)
{
    lab_setup();
    network = network_make(options);
    network_open(network);
    for (int i = 0; i < 2; i++) {
        slots[i] = network_take(network, NULL, i ? "vm2" : "vm1");
        guests[i] = lab_guest(&slots[i]);
    }
}

static void expect_passes(int from, uint8_t protocol, const char *address)
{
    int rc = lab_reach(from, protocol, address, LAB_PORT, NULL);

    ck_assert_msg(rc == 0, "protocol %u to %s: %s", protocol, address, strerror(-rc));
}

static void expect_blocked(int from, const char *address)
{
    ck_assert_msg(lab_talk(from, IPPROTO_UDP, address, LAB_PORT, NULL) < 0, "UDP reaches %s",
                  address);
}

START_TEST(guests_are_reached_at_their_slots_addresses)
{
    begin(defaults);
    for (int i = 0; i < 2; i++) {
        const int from[] = {lab_client(), lab_host()};

        expect_passes(from[i], IPPROTO_TCP, slots[i].address);
        expect_passes(from[i], IPPROTO_UDP, slots[i].address);
        expect_passes(from[i], IPPROTO_TCP, slots[i].address6);
        expect_passes(from[i], IPPROTO_UDP, slots[i].address6);
    }
    instance_free(network);
}
END_TEST

/* All that a namespace knows on a link is one neighbour, which it was told. */
static void expect_told(int netns, const char *family, const char *link)
{
    char command[64], *output, *first;

    snprintf(command, sizeof(command), "ip %s neigh show dev %s", family, link);
    lab_enter(netns);
    output = lab_output(command);
    lab_enter(lab_host());
    first = strchr(output, '\n');
    ck_assert_msg(first && !first[1] && strstr(output, "PERMANENT"), "%s: %s", command, output);
    free(output);
}

/* The machine has room for a thousand that have to be asked for, in all namespaces together. */
START_TEST(the_ends_of_a_link_do_not_ask_for_each_other)
{
    static const char *const families[] = {"-4", "-6"};
    char inner[32], outer[32];
    int netns;

    begin(defaults);
    expect_passes(lab_client(), IPPROTO_UDP, slots[0].address);
    expect_passes(lab_client(), IPPROTO_UDP, slots[0].address6);
    expect_passes(guests[0], IPPROTO_UDP, "192.0.2.2");
    expect_passes(guests[0], IPPROTO_UDP, "2001:db8::2");
    snprintf(inner, sizeof(inner), "%.8s-veth0", slots[0].name);
    snprintf(outer, sizeof(outer), "%.8s-veth1", slots[0].name);
    netns = open(slots[0].netns, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(netns, 0);
    for (int i = 0; i < 2; i++) {
        expect_told(lab_host(), families[i], outer);
        expect_told(netns, families[i], inner);
    }
    close(netns);
    instance_free(network);
}
END_TEST

START_TEST(guests_leave_under_the_hosts_address)
{
    char peer[64];

    begin(defaults);
    ck_assert_int_eq(lab_reach(guests[0], IPPROTO_TCP, "192.0.2.2", LAB_PORT, peer), 0);
    ck_assert_str_eq(peer, "192.0.2.1");
    ck_assert_int_eq(lab_reach(guests[0], IPPROTO_TCP, "2001:db8::2", LAB_PORT, peer), 0);
    ck_assert_str_eq(peer, "2001:db8::1");
    expect_passes(guests[1], IPPROTO_UDP, "192.0.2.2");
    expect_passes(guests[1], IPPROTO_UDP, "2001:db8::2");
    instance_free(network);
}
END_TEST

START_TEST(guests_leave_under_their_own_address)
{
    static const char *const own[] = {"slots", "2", "outside-address", "own", "ipv6", "yes",
                                      "outside-address6", "own", NULL};
    char peer[64];

    begin(own);
    ck_assert_int_eq(lab_reach(guests[1], IPPROTO_TCP, "192.0.2.2", LAB_PORT, peer), 0);
    ck_assert_str_eq(peer, slots[1].address);
    ck_assert_int_eq(lab_reach(guests[1], IPPROTO_TCP, "2001:db8::2", LAB_PORT, peer), 0);
    ck_assert_str_eq(peer, slots[1].address6);
    instance_free(network);
}
END_TEST

START_TEST(guests_do_not_reach_the_blocked_subnet)
{
    begin(defaults);
    expect_blocked(guests[0], slots[1].address);
    expect_blocked(guests[0], slots[1].address6);
    expect_blocked(guests[0], "10.0.8.5"); /* the other's end of its link */
    expect_passes(guests[0], IPPROTO_UDP, "192.0.2.2");
    instance_free(network);
}
END_TEST

START_TEST(the_blocked_subnet_does_not_reach_guests)
{
    static const char *const outside[] = {"slots", "2", "blocked-subnet-cidr", "192.0.2.0/24", NULL};

    begin(outside);
    expect_blocked(lab_client(), slots[0].address);
    expect_blocked(guests[0], "192.0.2.2");
    expect_passes(guests[0], IPPROTO_UDP, slots[1].address);
    instance_free(network);
}
END_TEST

START_TEST(guests_reach_each_other_when_nothing_is_blocked)
{
    begin(open_to_all);
    expect_passes(guests[0], IPPROTO_UDP, slots[1].address);
    expect_passes(guests[0], IPPROTO_TCP, slots[1].address6);
    instance_free(network);
}
END_TEST

START_TEST(incoming_connections_can_be_refused)
{
    struct drafter_network_forward forward =
        network_forward("ark0", IPPROTO_TCP, "192.0.2.1", 3333);

    begin(closed);
    expect_blocked(lab_client(), slots[0].address);
    expect_blocked(lab_client(), slots[0].address6);
    expect_blocked(lab_host(), slots[0].address);
    expect_passes(guests[0], IPPROTO_TCP, "192.0.2.2");
    expect_passes(guests[0], IPPROTO_UDP, "2001:db8::2");
    ck_assert_int_eq(network_forward_add(network, &forward, 1, NULL), -EPERM);
    instance_free(network);
}
END_TEST

START_TEST(a_forged_source_does_not_leave)
{
    char *counted;

    begin(defaults);
    lab_run("nft add table inet watch");
    lab_run("nft add chain inet watch seen { type filter hook prerouting priority -400 ; }");
    lab_run("nft add rule inet watch seen ip saddr { 172.16.0.2 , 198.51.100.7 } counter");
    lab_enter(guests[0]);
    lab_run("ip address add 198.51.100.7/32 dev eth0");
    lab_run("ip route replace default via 172.16.0.1 src 198.51.100.7");
    lab_enter(lab_host());
    expect_blocked(guests[0], "192.0.2.2");
    counted = lab_output("nft list table inet watch");
    ck_assert_msg(strstr(counted, "packets 0 bytes 0"), "%s", counted);
    free(counted);
    instance_free(network);
}
END_TEST

/* The host does not rely on what the namespace drops. */
START_TEST(a_forged_source_does_not_pass_the_host)
{
    int netns;
    char *counted;

    begin(defaults);
    netns = open(slots[0].netns, O_RDONLY | O_CLOEXEC);
    lab_run("nft add table inet watch");
    lab_run("nft add chain inet watch seen { type filter hook postrouting priority 400 ; }");
    lab_run("nft add rule inet watch seen ip saddr { 10.0.15.2 , 198.51.100.7 } counter");
    lab_enter(netns);
    lab_run("ip address add 198.51.100.7/32 dev lo");
    lab_run("ip address add 10.0.15.2/32 dev lo");
    for (int i = 0; i < 2; i++) {
        lab_run(i ? "ip route replace 192.0.2.2/32 via 10.0.8.2 src 10.0.15.2"
                  : "ip route replace 192.0.2.2/32 via 10.0.8.2 src 198.51.100.7");
        lab_enter(lab_host());
        expect_blocked(netns, "192.0.2.2");
        lab_enter(netns);
    }
    lab_enter(lab_host());
    counted = lab_output("nft list table inet watch");
    ck_assert_msg(strstr(counted, "packets 0 bytes 0"), "%s", counted);
    free(counted);
    close(netns);
    instance_free(network);
}
END_TEST

START_TEST(a_guest_learns_the_size_of_the_path)
{
    begin(defaults);
    lab_run("ip link set eth0 mtu 1300");
    ck_assert_int_eq(lab_path_mtu(guests[0], "192.0.2.2", 1300), 1300);
    ck_assert_int_eq(lab_path_mtu(guests[0], "2001:db8::2", 1300), 1300);
    instance_free(network);
}
END_TEST

void network_add_traffic(Suite *suite)
{
    TCase *tests = tcase_create("traffic");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, guests_are_reached_at_their_slots_addresses);
    tcase_add_test(tests, the_ends_of_a_link_do_not_ask_for_each_other);
    tcase_add_test(tests, guests_leave_under_the_hosts_address);
    tcase_add_test(tests, guests_leave_under_their_own_address);
    tcase_add_test(tests, guests_do_not_reach_the_blocked_subnet);
    tcase_add_test(tests, the_blocked_subnet_does_not_reach_guests);
    tcase_add_test(tests, guests_reach_each_other_when_nothing_is_blocked);
    tcase_add_test(tests, incoming_connections_can_be_refused);
    tcase_add_test(tests, a_forged_source_does_not_leave);
    tcase_add_test(tests, a_forged_source_does_not_pass_the_host);
    tcase_add_test(tests, a_guest_learns_the_size_of_the_path);
    suite_add_tcase(suite, tests);
}

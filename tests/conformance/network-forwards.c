/* SPDX-License-Identifier: BSD-2-Clause */
/* Forwards that carry packets: from everywhere, in every family and protocol. */
#include "network.h"

#include "network-lab.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const char *const options[] = {"slots", "2", "ipv6", "yes", "blocked-subnet-cidr", "",
                                      "blocked-subnet-cidr6", "", NULL};

static struct instance *network, *forwarder;
static struct drafter_network_slot slot;
static int guest;

static void setup(void)
{
    lab_setup();
    network = network_make(options);
    forwarder = network_make(options);
    network_open(network);
    slot = network_take(network, "ark1", "vm1");
    guest = lab_guest(&slot);
}

static void teardown(void)
{
    instance_free(forwarder);
    instance_free(network);
}

static struct drafter_network_forward add(uint8_t protocol, const char *address, uint16_t port)
{
    struct drafter_network_forward forward = network_forward("ark1", protocol, address, port);
    struct drafter_error err = {0};

    ck_assert_msg(network_forward_add(forwarder, &forward, 1, &err) == 0, "%s", err.message);
    return forward;
}

static void expect_passes(int from, uint8_t protocol, const char *address, uint16_t port)
{
    int rc = lab_reach(from, protocol, address, port, NULL);

    ck_assert_msg(rc == 0, "protocol %u to %s port %u: %s", protocol, address, port, strerror(-rc));
}

static void expect_closed(int from, uint8_t protocol, const char *address, uint16_t port)
{
    ck_assert_msg(lab_talk(from, protocol, address, port, NULL) < 0,
                  "protocol %u to %s port %u passes", protocol, address, port);
}

static const struct {
    const char *address, *local, *remote;
} hosts[] = {
    {"192.0.2.1", "192.0.2.1", "192.0.2.1"},
    {"2001:db8::1", "2001:db8::1", "2001:db8::1"},
    {"127.0.0.1", "127.0.0.1", NULL},
    {"0.0.0.0", "192.0.2.1", "192.0.2.1"},
    {"0.0.0.0", "127.0.0.1", NULL},
    {"::", "2001:db8::1", "2001:db8::1"},
    {"::1", "::1", NULL},
    {"::", "::1", NULL},
};

START_TEST(a_port_of_the_host_leads_to_the_guest)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};

    for (size_t i = 0; i < 2; i++) {
        struct drafter_network_forward forward = add(protocols[i], hosts[_i].address, 3333);

        expect_passes(lab_host(), protocols[i], hosts[_i].local, 3333);
        if (hosts[_i].remote)
            expect_passes(lab_client(), protocols[i], hosts[_i].remote, 3333);
        ck_assert_int_eq(network_forward_remove(forwarder, &forward, 1, NULL), 0);
        expect_closed(lab_host(), protocols[i], hosts[_i].local, 3333);
    }
}
END_TEST

START_TEST(a_guest_sees_who_comes_through_a_forward)
{
    char peer[64];

    add(IPPROTO_TCP, "192.0.2.1", 3333);
    ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333, peer), 0);
    ck_assert_str_eq(peer, "192.0.2.2");
}
END_TEST

START_TEST(guests_use_forwards_too)
{
    struct drafter_network_slot other = network_take(network, "ark0", "vm2");
    int second = lab_guest(&other);

    add(IPPROTO_TCP, "192.0.2.1", 3333);
    add(IPPROTO_TCP, "2001:db8::1", 3333);
    expect_passes(second, IPPROTO_TCP, "192.0.2.1", 3333);
    expect_passes(guest, IPPROTO_TCP, "192.0.2.1", 3333);
    expect_passes(second, IPPROTO_TCP, "2001:db8::1", 3333);
    expect_passes(guest, IPPROTO_TCP, "2001:db8::1", 3333);
}
END_TEST

START_TEST(a_forward_takes_no_other_port_or_address)
{
    add(IPPROTO_TCP, "192.0.2.1", LAB_PORT);
    expect_closed(lab_host(), IPPROTO_TCP, "192.0.2.1", LAB_PORT + 1);
    expect_closed(lab_host(), IPPROTO_TCP, "127.0.0.1", LAB_PORT);
    /* Its own port 7, which is somebody else's address, still leads there. */
    expect_passes(guest, IPPROTO_TCP, "192.0.2.2", LAB_PORT);
}
END_TEST

START_TEST(a_loopback_forward_opens_no_other_link)
{
    char *value;

    add(IPPROTO_TCP, "127.0.0.1", 3333);
    value = lab_output("cat /proc/sys/net/ipv4/conf/ark1-veth1/route_localnet");
    ck_assert_str_eq(value, "1\n");
    free(value);
    value = lab_output("cat /proc/sys/net/ipv4/conf/ark0-veth1/route_localnet "
                       "/proc/sys/net/ipv4/conf/all/route_localnet");
    ck_assert_str_eq(value, "0\n0\n");
    free(value);
    instance_free(forwarder);
    forwarder = NULL;
    value = lab_output("cat /proc/sys/net/ipv4/conf/ark1-veth1/route_localnet");
    ck_assert_str_eq(value, "0\n");
    free(value);
}
END_TEST

START_TEST(a_loopback_forward_lets_nobody_in)
{
    int netns = open(slot.netns, O_RDONLY | O_CLOEXEC);
    char *counted;

    lab_run("nft add table inet watch");
    lab_run("nft add chain inet watch seen { type filter hook input priority 400 ; }");
    lab_run("nft add rule inet watch seen iifname ark1-veth1 ip daddr 127.0.0.1 counter");
    add(IPPROTO_UDP, "127.0.0.1", 3333);
    lab_echo();
    expect_passes(lab_host(), IPPROTO_UDP, "127.0.0.1", LAB_PORT);
    /* From within the namespace: the guest's packets would not even come that far. */
    lab_enter(netns);
    lab_run("ip route add 127.0.0.0/8 via 10.0.8.6");
    lab_run("sysctl -q -w net.ipv4.conf.ark1-veth0.route_localnet=1");
    lab_enter(lab_host());
    expect_passes(netns, IPPROTO_UDP, "10.0.8.6", LAB_PORT);
    expect_closed(netns, IPPROTO_UDP, "127.0.0.1", LAB_PORT);
    counted = lab_output("nft list table inet watch");
    ck_assert_msg(strstr(counted, "packets 0 bytes 0"), "%s", counted);
    free(counted);
    close(netns);
}
END_TEST

/* A neighbour who sends to a loopback address of ours: the kernel would drop it, were it not translated first. */
START_TEST(a_loopback_forward_lets_no_neighbour_in)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};

    lab_enter(lab_client());
    lab_run("ip address del 127.0.0.1/8 dev lo");
    lab_run("ip route add 127.0.0.0/8 via 192.0.2.1");
    lab_run("sysctl -q -w net.ipv4.conf.eth0.route_localnet=1");
    lab_enter(lab_host());
    for (size_t i = 0; i < 2; i++) {
        add(protocols[i], "127.0.0.1", 3333);
        add(protocols[i], "0.0.0.0", 3334);
        expect_passes(lab_host(), protocols[i], "127.0.0.1", 3333);
        expect_passes(lab_client(), protocols[i], "192.0.2.1", 3334);
        expect_closed(lab_client(), protocols[i], "127.0.0.1", 3333);
        expect_closed(lab_client(), protocols[i], "127.0.0.1", 3334);
    }
}
END_TEST

START_TEST(guests_have_ports_of_the_same_loopback_address)
{
    struct drafter_network_slot other = network_take(network, "ark0", "vm2");
    struct drafter_network_forward first, second = network_forward("ark0", IPPROTO_TCP, "::1", 4444);

    lab_guest(&other);
    first = add(IPPROTO_TCP, "::1", 3333);
    ck_assert_int_eq(network_forward_add(forwarder, &second, 1, NULL), 0);
    expect_passes(lab_host(), IPPROTO_TCP, "::1", 3333);
    expect_passes(lab_host(), IPPROTO_TCP, "::1", 4444);
    ck_assert_int_eq(network_forward_remove(forwarder, &first, 1, NULL), 0);
    expect_closed(lab_host(), IPPROTO_TCP, "::1", 3333);
    expect_passes(lab_host(), IPPROTO_TCP, "::1", 4444);
}
END_TEST

START_TEST(forwards_go_with_their_instance)
{
    add(IPPROTO_TCP, "192.0.2.1", 3333);
    add(IPPROTO_UDP, "0.0.0.0", 3333);
    expect_passes(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333);
    instance_free(forwarder);
    forwarder = NULL;
    expect_closed(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333);
    expect_closed(lab_client(), IPPROTO_UDP, "192.0.2.1", 3333);
}
END_TEST

START_TEST(forwards_that_cannot_be_are_refused)
{
    struct drafter_network_forward forward =
        network_forward("ark2", IPPROTO_TCP, "192.0.2.1", 3333);
    struct drafter_error err = {0};

    conformance_expect_error(network_forward_add(forwarder, &forward, 1, &err), ENOENT, &err,
                             "ark0 to ark1");
    network_shut(network);
    ck_assert_int_eq(network_forward_add(forwarder, &forward, 1, &err), -ENOENT);
}
END_TEST

/* Where the other plugin is not built there is nobody to mistake. */
START_TEST(forwards_are_of_the_plugin_that_made_the_pool)
{
    const char *other = strcmp(network_plugin, "nftables") == 0 ? "iptables" : "nftables";
    struct drafter_network_forward forward =
        network_forward("ark1", IPPROTO_TCP, "192.0.2.1", 3333);
    char *before = lab_snapshot(), *after, said[96];
    struct drafter_error err = {0};

    instance_free(forwarder);
    forwarder = NULL;
    if (!conformance_available(DRAFTER_KIND_NETWORK, other))
        return;
    forwarder = conformance_instance(DRAFTER_KIND_NETWORK, other, NULL);
    snprintf(said, sizeof(said), "made by the plugin %s", network_plugin);
    conformance_expect_error(network_forward_add(forwarder, &forward, 1, &err), EINVAL, &err, said);
    after = lab_snapshot();
    lab_expect_same(before, after);
    free(before);
    free(after);
}
END_TEST

/* Without privileges no rule can be changed. */
START_TEST(a_forward_whose_rule_cannot_be_removed_is_removed_later)
{
    struct drafter_network_forward forward = add(IPPROTO_TCP, "192.0.2.1", 3333);
    size_t count = 0;
    int ret;

    ck_assert_int_eq(seteuid(65534), 0);
    ret = network_forward_remove(forwarder, &forward, 1, NULL);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_lt(ret, 0);
    ck_assert_int_eq(lab_reach(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333, NULL), 0);
    ck_assert_int_eq(network_reclaim(network, &count, NULL), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_lt(lab_talk(lab_client(), IPPROTO_TCP, "192.0.2.1", 3333, NULL), 0);
}
END_TEST

void network_add_forwards(Suite *suite)
{
    TCase *tests = tcase_create("forwards");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_port_of_the_host_leads_to_the_guest, 0,
                        (int)(sizeof(hosts) / sizeof(*hosts)));
    tcase_add_test(tests, a_guest_sees_who_comes_through_a_forward);
    tcase_add_test(tests, guests_use_forwards_too);
    tcase_add_test(tests, a_forward_takes_no_other_port_or_address);
    tcase_add_test(tests, a_loopback_forward_opens_no_other_link);
    tcase_add_test(tests, a_loopback_forward_lets_nobody_in);
    tcase_add_test(tests, a_loopback_forward_lets_no_neighbour_in);
    tcase_add_test(tests, guests_have_ports_of_the_same_loopback_address);
    tcase_add_test(tests, forwards_go_with_their_instance);
    tcase_add_test(tests, forwards_that_cannot_be_are_refused);
    tcase_add_test(tests, forwards_are_of_the_plugin_that_made_the_pool);
    tcase_add_test(tests, a_forward_whose_rule_cannot_be_removed_is_removed_later);
    suite_add_tcase(suite, tests);
}

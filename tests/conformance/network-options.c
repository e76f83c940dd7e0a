/* SPDX-License-Identifier: BSD-2-Clause */
/* Configurations that cannot be: one clear line each, before anything of the host is touched. */
#include "network.h"

#include <stdio.h>

static const struct {
    const char *options[7];
    const char *message;
} mistakes[] = {
    {{"host-veth-cidr", "10.0.8.0"}, "host-veth-cidr \"10.0.8.0\" is not an IPv4 subnet"},
    {{"host-veth-cidr", "10.0.8.0/33"}, "is not an IPv4 subnet"},
    {{"host-veth-cidr", "10.0.0.0/16"},
     "host-veth-cidr 10.0.0.0/16 and namespace-veth-cidr 10.0.15.0/24 overlap"},
    {{"host-veth-cidr", "172.16.0.0/16"}, "host-veth-cidr 172.16.0.0/16 and the guest's subnet"},
    {{"namespace-veth-cidr", "172.16.0.0/24"}, "namespace-veth-cidr 172.16.0.0/24 and the guest's"},
    {{"host-veth-cidr", "10.0.8.0/31"}, "host-veth-cidr 10.0.8.0/31 is too small for 1 slots"},
    {{"namespace-veth-cidr", "10.0.15.0/31"}, "namespace-veth-cidr 10.0.15.0/31 is too small"},
    {{"slots", "255"}, "namespace-veth-cidr 10.0.15.0/24 is too small for 255 slots, which need a "
                       "/23"},
    {{"slots", "300", "namespace-veth-cidr", "10.1.0.0/16"},
     "host-veth-cidr 10.0.8.0/22 is too small for 300 slots, which need a /21"},
    {{"namespace-interface-ip", "172.16.0.9"}, "are in different subnets of /30"},
    {{"namespace-interface-ip", "172.16.0.1"}, "are both 172.16.0.1"},
    {{"namespace-interface-ip", "172.16.0.3"}, "namespace-interface-ip 172.16.0.3 is no address"},
    {{"namespace-interface-gateway", "172.16.0.0"},
     "namespace-interface-gateway 172.16.0.0 is no address"},
    {{"namespace-interface-ip", "fd00::2"}, "is not an IPv4 address"},
    {{"host-veth-cidr", "224.0.0.0/22"}, "host-veth-cidr 224.0.0.0/22 has addresses that no link"},
    {{"host-veth-cidr", "240.0.0.0/22"}, "has addresses that no link can have"},
    {{"namespace-veth-cidr", "127.0.15.0/24"},
     "namespace-veth-cidr 127.0.15.0/24 has addresses that no link can have"},
    {{"host-veth-cidr", "0.0.0.0/8"}, "has addresses that no link can have"},
    {{"namespace-interface-ip", "127.0.0.2", "namespace-interface-gateway", "127.0.0.1"},
     "the guest's subnet 127.0.0.2/30 has addresses that no link can have"},
    {{"ipv6", "yes", "host-veth-cidr6", "ff00::/64"}, "has addresses that no link can have"},
    {{"ipv6", "yes", "namespace-veth-cidr6", "fe80::/64"}, "has addresses that no link can have"},
    {{"namespace-interface-mac", "02:0e:d9:fd:68"}, "namespace-interface-mac"},
    {{"namespace-interface-mac", "03:0e:d9:fd:68:3d"}, "no unicast MAC"},
    {{"namespace-interface-mac", "00:00:00:00:00:00"}, "no unicast MAC"},
    {{"namespace-interface", "a-tap-with-a-long-name"}, "has 22 characters"},
    {{"namespace-prefix", "drafter"},
     "namespace-prefix \"drafter\" makes interface names as long as \"drafter253-veth1\", 16 "
     "characters where 15 are possible"},
    {{"namespace-prefix", "ark1"}, "ends with a digit"},
    {{"namespace-prefix", "a/b"}, "is no name for an interface"},
    {{"namespace-prefix", ""}, "is no name for an interface"},
    {{"ipv6", "yes", "host-veth-cidr6", "fd64:7261:6674::/48"},
     "host-veth-cidr6 fd64:7261:6674::/48 and namespace-veth-cidr6 fd64:7261:6674:f::/64 overlap"},
    {{"ipv6", "yes", "namespace-veth-cidr6", "10.0.15.0/24"}, "is not an IPv6 subnet"},
    {{"ipv6", "yes", "namespace-veth-cidr6", "fd00::/120", "slots", "255"},
     "namespace-veth-cidr"},
};

START_TEST(a_mistake_is_told_in_one_line)
{
    struct instance *network = NULL;
    struct drafter_error err = {0};

    ck_assert_int_eq(network_try(mistakes[_i].options, &network, &err), -EINVAL);
    ck_assert_msg(strstr(err.message, mistakes[_i].message), "\"%s\" does not say \"%s\"",
                  err.message, mistakes[_i].message);
    ck_assert_ptr_null(strchr(err.message, '\n'));
}
END_TEST

static const char *const possible[][5] = {
    {"namespace-prefix", "draft", NULL},
    {"slots", "254", NULL},
    {"blocked-subnet-cidr", "", NULL},
    {"host-veth-cidr", "10.0.8.17/22", NULL},
    {"host-veth-cidr6", "not looked at without ipv6", NULL},
};

START_TEST(what_fits_is_taken)
{
    instance_free(network_make(possible[_i]));
}
END_TEST

void network_add_options(Suite *suite)
{
    TCase *tests = tcase_create("options");

    tcase_add_loop_test(tests, a_mistake_is_told_in_one_line, 0,
                        (int)(sizeof(mistakes) / sizeof(*mistakes)));
    tcase_add_loop_test(tests, what_fits_is_taken, 0,
                        (int)(sizeof(possible) / sizeof(*possible)));
    suite_add_tcase(suite, tests);
}

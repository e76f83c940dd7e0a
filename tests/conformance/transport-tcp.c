/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the tcp transport promises: its addresses, its socket options and its messages. */
#include "transport.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

static struct instance *tcp;
static unsigned fds_before;

static void begin(void)
{
    fds_before = conformance_open_fds();
    tcp = conformance_instance(DRAFTER_KIND_TRANSPORT, "tcp", NULL);
}

static void end(void)
{
    instance_free(tcp);
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
}

static bool have_ipv6(void)
{
    struct sockaddr_in6 local = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    cleanup_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && bind(fd, (struct sockaddr *)&local, sizeof(local)) == 0;
}

static bool localhost_has_ipv6(void)
{
    struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = SOCK_STREAM}, *list;

    if (!have_ipv6() || getaddrinfo("localhost", NULL, &hints, &list) != 0)
        return false;
    freeaddrinfo(list);
    return true;
}

/* Listens at `listen_at` and connects to `format` with its port; returns who connected. */
static void expect_path(const char *listen_at, const char *format, const char *peer_prefix)
{
    struct transport_listener *listener = stream_listen(tcp, listen_at);
    char address[256], where[256], peer[256];
    struct stream stream;
    const char *port;

    ck_assert_int_eq(transport_listener_address(listener, address, sizeof(address)), 0);
    port = strrchr(address, ':') + 1;
    ck_assert_str_ne(port, "0");
    snprintf(where, sizeof(where), "%s%s", format, port);
    stream = stream_open(tcp, listener, where);
    stream_check(&stream);
    ck_assert_int_eq(transport_peer_name(stream.far, peer, sizeof(peer)), 0);
    ck_assert_msg(strncmp(peer, peer_prefix, strlen(peer_prefix)) == 0, "%s connected to %s as %s",
                  where, address, peer);
    stream_close(&stream);
    transport_listener_close(listener);
}

START_TEST(ipv4_addresses_work)
{
    expect_path("127.0.0.1:0", "127.0.0.1:", "127.0.0.1:");
    expect_path(":0", "127.0.0.1:", "127.0.0.1:"); /* not ::ffff:127.0.0.1 */
    expect_path("0", "127.0.0.2:", "127.0.0.1:");
    expect_path("0.0.0.0:0", "127.0.0.1:", "127.0.0.1:");
}
END_TEST

START_TEST(ipv6_addresses_work)
{
    if (!have_ipv6()) {
        printf("IPv6 is not tested: this host has none\n");
        return;
    }
    expect_path("[::1]:0", "[::1]:", "[::1]:");
    expect_path(":0", "[::1]:", "[::1]:");
    expect_path("[::]:0", "[::1]:", "[::1]:");
}
END_TEST

START_TEST(names_and_bare_ports_work)
{
    expect_path("localhost:0", "localhost:", "");
    expect_path("localhost:0", "127.0.0.1:", "127.0.0.1:");
    if (localhost_has_ipv6())
        expect_path("localhost:0", "[::1]:", "[::1]:");
    expect_path(":0", "localhost:", "");
    expect_path("0", ":", "");
    expect_path("0", "", "");
    expect_path("127.0.0.1:0", "", "127.0.0.1:"); /* where nothing listens at ::1 */
}
END_TEST

static const struct {
    const char *address, *fragment;
} bad_addresses[] = {
    {"example", "port is missing"},
    {"127.0.0.1", "port is missing"},
    {"127.0.0.1:", "port must be a number"},
    {"127.0.0.1:http", "port must be a number"},
    {"127.0.0.1:65536", "port must be a number"},
    {"127.0.0.1:000001", "port must be a number"},
    {"127.0.0.1:-1", "port must be a number"},
    {"127.0.0.1:+1", "port must be a number"},
    {"127.0.0.1: 1", "port must be a number"},
    {"127.0.0.1:1 ", "port must be a number"},
    {"99999", "port must be a number"},
    {"::1:1337", "[address]:port"},
    {"::", "[address]:port"},
    {"[::1]", "[address]:port"},
    {"[::1", "[address]:port"},
    {"[::1]1337", "[address]:port"},
    {"[]:1337", "[address]:port"},
    {"[127.0.0.1]:1337", "is not an IPv6 address"},
    {"[fe80::zz]:1337", "is not an IPv6 address"},
    {"ho st:1337", "no such characters"},
    {"tcp//host:1337", "no such characters"},
    {"ho\nst:1337", "no such characters"},
};

START_TEST(malformed_addresses_are_refused)
{
    const char *address = bad_addresses[_i].address, *fragment = bad_addresses[_i].fragment;
    struct transport_listener *listener = NULL;
    struct drafter_error err = {0};

    conformance_expect_error(stream_refused(tcp, address, 1000, &err), EINVAL, &err, fragment);
    conformance_expect_error(transport_listen(tcp, address, &listener, &err), EINVAL, &err,
                             fragment);
}
END_TEST

START_TEST(long_host_names_are_refused)
{
    struct drafter_error err = {0};
    char address[4096];

    memset(address, 'a', sizeof(address));
    memcpy(address + sizeof(address) - 4, ":80", 4);
    conformance_expect_error(stream_refused(tcp, address, 1000, &err), EINVAL, &err, "too long");
}
END_TEST

START_TEST(port_zero_is_not_for_connecting)
{
    struct drafter_error err = {0};

    conformance_expect_error(stream_refused(tcp, "127.0.0.1:0", 1000, &err), EINVAL, &err,
                             "port 0 is for listening");
}
END_TEST

START_TEST(a_name_that_does_not_resolve_fails_in_time)
{
    struct drafter_error err = {0};
    uint64_t start = conformance_now_ms();
    int rc = stream_refused(tcp, "no-such-host.invalid:1337", 300, &err);

    ck_assert_uint_le(conformance_now_ms() - start, 300 + 5 * CONFORMANCE_LATE_MS);
    ck_assert_msg(rc == -EHOSTUNREACH || rc == -ETIMEDOUT, "%d", rc);
    ck_assert_msg(strstr(err.message, "the host name no-such-host.invalid did not resolve") ||
                      strstr(err.message, "the host name no-such-host.invalid does not resolve"),
                  "%s", err.message);
}
END_TEST

START_TEST(a_host_that_swallows_packets_times_out_on_time)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cleanup_close int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int filler[3];
    socklen_t length = sizeof(local);
    uint64_t best = UINT64_MAX;
    char address[64];

    ck_assert_int_eq(bind(deaf, (struct sockaddr *)&local, sizeof(local)), 0);
    ck_assert_int_eq(listen(deaf, 0), 0);
    ck_assert_int_eq(getsockname(deaf, (struct sockaddr *)&local, &length), 0);
    for (int i = 0; i < 3; i++) { /* a full queue drops every further SYN */
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(filler[i], (struct sockaddr *)&local, sizeof(local));
    }
    conformance_sleep_ms(20);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(local.sin_port));
    for (int i = 0; i < CONFORMANCE_ATTEMPTS && best > 200 + CONFORMANCE_LATE_MS; i++) {
        struct drafter_error err = {0};
        uint64_t start = drafter_now_ns(), took;

        conformance_expect_error(stream_refused(tcp, address, 200, &err), ETIMEDOUT, &err,
                                 "did not answer within 200 ms");
        took = (drafter_now_ns() - start + 500000) / 1000000;
        ck_assert_uint_ge(took, 200);
        best = took < best ? took : best;
    }
    ck_assert_uint_le(best, 200 + CONFORMANCE_LATE_MS);
    for (int i = 0; i < 3; i++)
        close(filler[i]);
}
END_TEST

START_TEST(a_taken_port_is_named)
{
    struct transport_listener *first = stream_listen(tcp, "127.0.0.1:0"), *second = NULL;
    struct drafter_error err = {0};
    char address[64], fragment[64];

    ck_assert_int_eq(transport_listener_address(first, address, sizeof(address)), 0);
    snprintf(fragment, sizeof(fragment), "port %s is taken", strrchr(address, ':') + 1);
    conformance_expect_error(transport_listen(tcp, address, &second, &err), EADDRINUSE, &err,
                             fragment);
    conformance_expect_error(transport_listen(tcp, strrchr(address, ':'), &second, &err), EADDRINUSE,
                             &err, fragment);
    transport_listener_close(first);
}
END_TEST

START_TEST(a_foreign_address_is_not_for_listening)
{
    struct transport_listener *listener = NULL;
    struct drafter_error err = {0};

    conformance_expect_error(transport_listen(tcp, "192.0.2.1:0", &listener, &err), EADDRNOTAVAIL,
                             &err, "this host does not have that address");
}
END_TEST

START_TEST(a_port_is_free_again_at_once)
{
    struct transport_listener *listener = stream_listen(tcp, "127.0.0.1:0");
    struct stream stream;
    char address[64];

    ck_assert_int_eq(transport_listener_address(listener, address, sizeof(address)), 0);
    stream = stream_open(tcp, listener, address);
    transport_close(stream.far); /* this side closes first and stays in TIME_WAIT */
    stream.far = NULL;
    stream_close(&stream);
    transport_listener_close(listener);
    transport_listener_close(stream_listen(tcp, address));
}
END_TEST

/* ---- socket options --------------------------------------------------------------------------- */

/* Checks an option of every connected TCP socket that this process has: two per stream. */
static void expect_option(int level, int name, int minimum, int maximum)
{
    unsigned found = 0;

    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof(peer), size = sizeof(int);
        int value = -1;

        if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0 || peer.ss_family != AF_INET)
            continue;
        ck_assert_int_eq(getsockopt(fd, level, name, &value, &size), 0);
        ck_assert_msg(value >= minimum && value <= maximum, "option %d.%d is %d", level, name,
                      value);
        found++;
    }
    ck_assert_uint_eq(found, 2);
}

static struct stream stream_with(struct instance *on, struct transport_listener **ret_listener)
{
    char address[64];

    *ret_listener = stream_listen(on, "127.0.0.1:0");
    ck_assert_int_eq(transport_listener_address(*ret_listener, address, sizeof(address)), 0);
    return stream_open(on, *ret_listener, address);
}

START_TEST(defaults_reach_both_ends)
{
    struct transport_listener *listener;
    struct stream stream = stream_with(tcp, &listener);

    expect_option(IPPROTO_TCP, TCP_NODELAY, 1, 1);
    expect_option(SOL_SOCKET, SO_KEEPALIVE, 1, 1);
    expect_option(IPPROTO_TCP, TCP_KEEPIDLE, 10, 10);
    expect_option(IPPROTO_TCP, TCP_KEEPINTVL, 5, 5);
    expect_option(IPPROTO_TCP, TCP_KEEPCNT, 3, 3);
    expect_option(IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 0);
    stream_close(&stream);
    transport_listener_close(listener);
}
END_TEST

START_TEST(options_reach_both_ends)
{
    static const char *const overrides[] = {
        "nodelay", "no", "keepalive-idle", "1500ms", "keepalive-interval", "7s",
        "keepalive-count", "9", "user-timeout", "1500us", "send-buffer", "40k",
        "receive-buffer", "48k", "unsent-limit", "16k", NULL};
    struct instance *tuned = conformance_instance(DRAFTER_KIND_TRANSPORT, "tcp", overrides);
    struct transport_listener *listener;
    struct stream stream = stream_with(tuned, &listener);

    expect_option(IPPROTO_TCP, TCP_NODELAY, 0, 0);
    expect_option(IPPROTO_TCP, TCP_KEEPIDLE, 2, 2);
    expect_option(IPPROTO_TCP, TCP_KEEPINTVL, 7, 7);
    expect_option(IPPROTO_TCP, TCP_KEEPCNT, 9, 9);
    expect_option(IPPROTO_TCP, TCP_USER_TIMEOUT, 2, 2);
    expect_option(SOL_SOCKET, SO_SNDBUF, 40 << 10, 80 << 10);
    expect_option(SOL_SOCKET, SO_RCVBUF, 48 << 10, 96 << 10);
    expect_option(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16 << 10, 16 << 10);
    stream_check(&stream);
    stream_close(&stream);
    transport_listener_close(listener);
    instance_free(tuned);
}
END_TEST

START_TEST(keepalive_can_be_switched_off)
{
    static const char *const overrides[] = {"keepalive", "no", NULL};
    struct instance *tuned = conformance_instance(DRAFTER_KIND_TRANSPORT, "tcp", overrides);
    struct transport_listener *listener;
    struct stream stream = stream_with(tuned, &listener);

    expect_option(SOL_SOCKET, SO_KEEPALIVE, 0, 0);
    stream_close(&stream);
    transport_listener_close(listener);
    instance_free(tuned);
}
END_TEST

START_TEST(an_unknown_congestion_control_is_named)
{
    static const char *const overrides[] = {"congestion", "no-such", NULL};
    struct instance *tuned = conformance_instance(DRAFTER_KIND_TRANSPORT, "tcp", overrides);
    struct drafter_error err = {0};
    struct transport_listener *listener = NULL;

    conformance_expect_error(stream_refused(tuned, "127.0.0.1:1", 1000, &err), ENOENT, &err,
                             "congestion = no-such");
    conformance_expect_error(transport_listen(tuned, "127.0.0.1:0", &listener, &err), ENOENT, &err,
                             "congestion = no-such");
    instance_free(tuned);
}
END_TEST

TCase *transport_tcp_case(void)
{
    TCase *tests = tcase_create("tcp");

    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, ipv4_addresses_work);
    tcase_add_test(tests, ipv6_addresses_work);
    tcase_add_test(tests, names_and_bare_ports_work);
    tcase_add_loop_test(tests, malformed_addresses_are_refused, 0,
                        sizeof(bad_addresses) / sizeof(*bad_addresses));
    tcase_add_test(tests, long_host_names_are_refused);
    tcase_add_test(tests, port_zero_is_not_for_connecting);
    tcase_add_test(tests, a_name_that_does_not_resolve_fails_in_time);
    tcase_add_test(tests, a_host_that_swallows_packets_times_out_on_time);
    tcase_add_test(tests, a_taken_port_is_named);
    tcase_add_test(tests, a_foreign_address_is_not_for_listening);
    tcase_add_test(tests, a_port_is_free_again_at_once);
    tcase_add_test(tests, defaults_reach_both_ends);
    tcase_add_test(tests, options_reach_both_ends);
    tcase_add_test(tests, keepalive_can_be_switched_off);
    tcase_add_test(tests, an_unknown_congestion_control_is_named);
    return tests;
}

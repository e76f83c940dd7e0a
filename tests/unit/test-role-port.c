/* SPDX-License-Identifier: BSD-2-Clause */
/* Ports of the host: their names, and that a held one is nobody else's. */
#include "unit.h"

#include "role/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static struct drafter_error err;

static const struct {
    const char *text, *address;
    uint16_t port;
} good[] = {
    {"127.0.0.1:3333", "127.0.0.1", 3333}, {"[::1]:1", "::1", 1},
    {"[::]:65535", "::", 65535},           {"0.0.0.0:53", "0.0.0.0", 53},
    {":80", "0.0.0.0", 80},                {"localhost:7", "127.0.0.1", 7},
    {"[2001:0db8::0001]:9", "2001:db8::1", 9},
};

START_TEST(addresses_with_ports_are_taken_apart)
{
    char address[64];
    uint16_t port;

    ck_assert_msg(port_parse(good[_i].text, address, sizeof(address), &port, &err) == 0, "%s",
                  err.message);
    ck_assert_str_eq(address, good[_i].address);
    ck_assert_uint_eq(port, good[_i].port);
}
END_TEST

static const struct {
    const char *text, *message;
} bad[] = {
    {"127.0.0.1", "\"127.0.0.1\" is no ADDRESS:PORT"},
    {"127.0.0.1:0", "\"127.0.0.1:0\" is no ADDRESS:PORT"},
    {"127.0.0.1:65536", "\"127.0.0.1:65536\" is no ADDRESS:PORT"},
    {"127.0.0.1:http", "\"127.0.0.1:http\" is no ADDRESS:PORT"},
    {"::1:80", "\"::1\" is no IPv6 address in brackets, like [::1]:3333"},
    {"[127.0.0.1]:80", "\"127.0.0.1\" is no IPv6 address"},
    {"no.such.host.invalid:80",
     "\"no.such.host.invalid\" is neither an address nor a name that can be resolved"},
};

START_TEST(what_is_no_address_is_refused)
{
    char address[64];
    uint16_t port;

    ck_assert_int_eq(port_parse(bad[_i].text, address, sizeof(address), &port, &err), -EINVAL);
    ck_assert_str_eq(err.message, bad[_i].message);
}
END_TEST

/* A socket at `address`; port 0: one that is free.  `listening` for TCP. */
static int open_socket(int protocol, const char *address, uint16_t *port, bool listening)
{
    bool v6 = strchr(address, ':') != NULL;
    struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
    struct sockaddr_in name4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
    struct sockaddr *name = v6 ? (struct sockaddr *)&name6 : (struct sockaddr *)&name4;
    socklen_t length = v6 ? sizeof(name6) : sizeof(name4);
    int fd = socket(v6 ? AF_INET6 : AF_INET,
                    (protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    const int one = 1;

    ck_assert_int_ge(fd, 0);
    inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&name6.sin6_addr : &name4.sin_addr);
    if (listening)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, name, length) != 0 || (listening && listen(fd, 1) != 0)) {
        close(fd);
        return -1;
    }
    getsockname(fd, name, &length);
    *port = ntohs(v6 ? name6.sin6_port : name4.sin_port);
    return fd;
}

static const struct {
    int protocol;
    const char *taken, *wanted, *message;
} meetings[] = {
    {IPPROTO_TCP, "127.0.0.1", "127.0.0.1", "127.0.0.1:%u is in use for TCP by %s (process %d)"},
    {IPPROTO_TCP, "0.0.0.0", "127.0.0.1", "127.0.0.1:%u is in use for TCP by %s (process %d)"},
    {IPPROTO_TCP, "127.0.0.1", "0.0.0.0", "0.0.0.0:%u is in use for TCP by %s (process %d)"},
    {IPPROTO_TCP, "::1", "::", "[::]:%u is in use for TCP by %s (process %d)"},
    {IPPROTO_TCP, "::", "127.0.0.1", "127.0.0.1:%u is in use for TCP by %s (process %d)"},
    {IPPROTO_UDP, "127.0.0.1", "0.0.0.0", "0.0.0.0:%u is in use for UDP by %s (process %d)"},
    {IPPROTO_UDP, "::1", "::1", "[::1]:%u is in use for UDP by %s (process %d)"},
};

START_TEST(a_port_that_is_taken_is_refused_with_its_owner)
{
    bool tcp = meetings[_i].protocol == IPPROTO_TCP;
    char expected[200], name[32] = "";
    cleanup_fclose FILE *comm = fopen("/proc/self/comm", "re");
    uint16_t port = 0;
    int fd = open_socket(meetings[_i].protocol, meetings[_i].taken, &port, tcp), held = -1;

    ck_assert_int_ge(fd, 0);
    ck_assert_ptr_nonnull(fgets(name, sizeof(name), comm));
    name[strcspn(name, "\n")] = '\0';
    ck_assert_int_eq(port_hold(meetings[_i].protocol, meetings[_i].wanted, port, &held, &err),
                     -EADDRINUSE);
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(expected, sizeof(expected), meetings[_i].message, (unsigned)port, name, (int)getpid());
    ck_assert_str_eq(err.message, expected);
    ck_assert_int_eq(held, -1);
    close(fd);
}
END_TEST

START_TEST(a_held_port_is_nobody_elses)
{
    static const int protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
    int protocol = protocols[_i], held, other;
    uint16_t port = 0, same;
    int fd = open_socket(protocol, "127.0.0.1", &port, false);

    close(fd);
    ck_assert_msg(port_hold(protocol, "127.0.0.1", port, &held, &err) == 0, "%s", err.message);
    same = port;
    ck_assert_int_eq(open_socket(protocol, "127.0.0.1", &same, protocol == IPPROTO_TCP), -1);
    ck_assert_int_eq(port_hold(protocol, "0.0.0.0", port, &other, &err), -EADDRINUSE);
    ck_assert_int_eq(port_hold(protocol, "::", port, &other, &err), 0); /* the other family */
    close(other);
    close(held);
    ck_assert_int_eq(port_hold(protocol, "0.0.0.0", port, &held, &err), 0);
    close(held);
}
END_TEST

/* A server that was stopped leaves connections behind that nobody owns. */
START_TEST(connections_that_ended_are_no_owners)
{
    uint16_t port = 0, any = 0;
    int listener = open_socket(IPPROTO_TCP, "127.0.0.1", &port, true), client, server, held;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client = open_socket(IPPROTO_TCP, "127.0.0.1", &any, false);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&name, sizeof(name)), 0);
    server = accept(listener, NULL, NULL);
    close(listener);
    close(server); /* first: this end waits */
    close(client);
    ck_assert_msg(port_hold(IPPROTO_TCP, "127.0.0.1", port, &held, &err) == 0, "%s", err.message);
    close(held);
}
END_TEST

START_TEST(an_address_that_the_host_lacks_is_refused)
{
    int held;

    ck_assert_int_eq(port_hold(IPPROTO_TCP, "192.0.2.77", 3333, &held, &err), -EADDRNOTAVAIL);
    ck_assert_str_eq(err.message, "192.0.2.77: this host has no such address");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, addresses_with_ports_are_taken_apart, 0, sizeof(good) / sizeof(*good));
    tcase_add_loop_test(tests, what_is_no_address_is_refused, 0, sizeof(bad) / sizeof(*bad));
    tcase_add_loop_test(tests, a_port_that_is_taken_is_refused_with_its_owner, 0,
                        sizeof(meetings) / sizeof(*meetings));
    tcase_add_loop_test(tests, a_held_port_is_nobody_elses, 0, 2);
    tcase_add_test(tests, connections_that_ended_are_no_owners);
    tcase_add_test(tests, an_address_that_the_host_lacks_is_refused);
}

int main(void)
{
    return unit_run("role-port", add_tests);
}

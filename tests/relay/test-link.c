/* SPDX-License-Identifier: BSD-2-Clause */
/* The relay as a link: bytes, delay, rate, queue, bound. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "tests.h"

START_TEST(test_forwards_both_ways)
{
    struct fixture fixture;
    struct pair pair;
    char word[8];

    fixture_start(&fixture, (enum family)_i, (char *[]){NULL});
    pair = fixture_connect(&fixture);
    send_all(pair.client, "ping", 4);
    ck_assert_uint_eq(receive(pair.server, word, 4, 5000), 4);
    send_all(pair.server, "pong", 4);
    ck_assert_uint_eq(receive(pair.client, word, 4, 5000), 4);
    ck_assert_mem_eq(word, "pong", 4);
    transfer(&pair, 1, 8 << 20);
    shutdown(pair.client, SHUT_WR);
    ck_assert_uint_eq(receive(pair.server, word, 1, 5000), 0);
    send_all(pair.server, "late", 4); /* half closed is not closed */
    ck_assert_uint_eq(receive(pair.client, word, 4, 5000), 4);
    pair_close(&pair);
    ck_assert_int_eq(fixture_stop(&fixture), 0);
}
END_TEST

START_TEST(test_many_connections)
{
    struct fixture fixture;
    struct pair pairs[8];

    fixture_start(&fixture, IPV4, (char *[]){"--rtt", "4", NULL});
    for (int i = 0; i < 8; i++)
        pairs[i] = fixture_connect(&fixture);
    transfer(pairs, 8, 1 << 20);
    ck_assert_double_eq(stat_number(&fixture, "", "open"), 8);
    ck_assert_double_eq(stat_number(&fixture, "up", "bytes_out"), 8 << 20);
    for (int i = 0; i < 8; i++)
        pair_close(&pairs[i]);
    fixture_stop(&fixture);
}
END_TEST

static double ping_ms(const struct pair *pair)
{
    double start = now_ms();
    char byte = 'x';

    send_all(pair->client, &byte, 1);
    ck_assert_uint_eq(receive(pair->server, &byte, 1, 5000), 1);
    send_all(pair->server, &byte, 1);
    ck_assert_uint_eq(receive(pair->client, &byte, 1, 5000), 1);
    return now_ms() - start;
}

START_TEST(test_rtt_is_exact)
{
    static const struct {
        char *text;
        double ms;
    } cases[] = {{"1", 1}, {"30", 30}, {"75", 75}};
    struct fixture fixture;
    struct pair pair;
    double ms, best = INFINITY;

    fixture_start(&fixture, IPV4, (char *[]){"--rtt", cases[_i].text, "--rate", "1g", NULL});
    pair = fixture_connect(&fixture);
    for (int i = 0; i < 11 || (i < 80 && best > cases[_i].ms + 0.5); i++) {
        ms = ping_ms(&pair);
        ck_assert_double_ge(ms, cases[_i].ms); /* never early */
        best = ms < best ? ms : best;
    }
    ck_assert_double_le(best, cases[_i].ms + 2); /* 0.5 when the machine is ours alone */
    pair_close(&pair);
    fixture_stop(&fixture);
}
END_TEST

/* How long a connection takes to get through a relay with an RTT of 40 ms, at best. */
static double connect_ms(struct fixture *fixture, double at_least, double at_most)
{
    double start, ms, best = INFINITY;
    struct pair pair;

    for (int i = 0; i < ATTEMPTS && best > at_most; i++) {
        start = now_ms();
        pair = fixture_connect(fixture);
        ms = now_ms() - start;
        ck_assert_double_ge(ms, at_least);
        best = ms < best ? ms : best;
        pair_close(&pair);
    }
    return best;
}

START_TEST(test_handshake_costs_round_trips)
{
    struct fixture fixture;

    /* SYN, SYN-ACK, ACK: the server has it after 1.5 RTT */
    fixture_start(&fixture, IPV4, (char *[]){"--rtt", "40", NULL});
    ck_assert_double_le(connect_ms(&fixture, 60, 70), 70);
    fixture_stop(&fixture);
    fixture_start(&fixture, IPV4, (char *[]){"--rtt", "40", "--no-handshake", NULL});
    ck_assert_double_le(connect_ms(&fixture, 0, 39), 39);
    fixture_stop(&fixture);
}
END_TEST

/* Time between two marks of the receiver, so that neither delay nor the first fill counts. */
START_TEST(test_rate_is_exact)
{
    static const struct {
        char *text;
        double bits;
        int connections;
        size_t size;
    } cases[] = {{"100m", 100e6, 1, 4 << 20}, {"1g", 1e9, 1, 48 << 20}, {"1g", 1e9, 3, 16 << 20}};
    struct fixture fixture;
    struct pair pairs[3];
    double ms, best = INFINITY,
               expected = (double)cases[_i].size * cases[_i].connections * 8 / cases[_i].bits * 1e3;

    fixture_start(&fixture, IPV4, (char *[]){"--rate", cases[_i].text, "--rtt", "10", NULL});
    for (int i = 0; i < cases[_i].connections; i++)
        pairs[i] = fixture_connect(&fixture);
    for (int i = 0; i < ATTEMPTS; i++) {
        ms = transfer(pairs, cases[_i].connections, cases[_i].size) - 5;
        ck_assert_msg(ms > expected * 0.97, "%.1f ms instead of %.1f", ms, expected);
        best = ms < best ? ms : best;
        if (best < expected * 1.03)
            break;
    }
    ck_assert_msg(best < expected * 1.10, "%.1f ms instead of %.1f", best, expected);
    for (int i = 0; i < cases[_i].connections; i++)
        pair_close(&pairs[i]);
    fixture_stop(&fixture);
}
END_TEST

static size_t fill(int fd, int ms)
{
    static char block[65536];
    size_t sent = 0;
    double end = now_ms() + ms;

    while (now_ms() < end) {
        ssize_t n = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        else
            usleep(200);
    }
    return sent;
}

START_TEST(test_buffer_is_bounded)
{
    struct fixture fixture;
    struct pair pair;
    double limit = 100e6 / 8 * (0.020 + 0.020);

    fixture_start(&fixture, IPV4, (char *[]){"--rate", "100m", "--rtt", "40", NULL});
    pair = fixture_connect(&fixture);
    fill(pair.client, 300); /* nobody reads at the other end */
    ck_assert_double_eq(stat_number(&fixture, "up", "limit"), limit);
    ck_assert_double_le(stat_number(&fixture, "up", "held_max"), limit);
    ck_assert_double_ge(stat_number(&fixture, "up", "held_max"), limit * 0.9);
    pair_close(&pair);
    fixture_stop(&fixture);
}
END_TEST

static void churn(const struct pair *pair)
{
    static char block[65536];

    send(pair->client, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
    recv(pair->server, block, sizeof block, MSG_DONTWAIT);
}

/* One bulk stream fills the queue of 20 ms: a small message on another connection waits behind it.
 */
START_TEST(test_connections_share_the_queue)
{
    struct fixture fixture;
    struct pair bulk, small;
    double start, ms = 0;
    char byte;

    fixture_start(&fixture, IPV4, (char *[]){"--rate", "100m", NULL});
    bulk = fixture_connect(&fixture);
    small = fixture_connect(&fixture);
    for (int i = 0; i < ATTEMPTS && (ms < 15 || ms > 30); i++) {
        for (start = now_ms(); now_ms() - start < 60;)
            churn(&bulk);
        start = now_ms();
        send_all(small.client, "x", 1);
        while (!readable_within(small.server, 0) && now_ms() - start < 1000)
            churn(&bulk);
        ms = now_ms() - start;
        receive(small.server, &byte, 1, 0);
    }
    ck_assert_msg(ms > 15 && ms < 30, "%.1f ms in the queue", ms);
    pair_close(&bulk);
    pair_close(&small);
    fixture_stop(&fixture);
}
END_TEST

/* A receiver that does not read must not block other connections. */
START_TEST(test_full_receiver_blocks_only_itself)
{
    struct fixture fixture;
    struct pair stuck, free_one;

    fixture_start(&fixture, IPV4, (char *[]){"--rate", "1g", "--rtt", "10", NULL});
    stuck = fixture_connect(&fixture);
    free_one = fixture_connect(&fixture);
    fill(stuck.client, 200);
    ck_assert_double_le(ping_ms(&free_one), 2000);
    ck_assert_double_le(transfer(&free_one, 1, 4 << 20), 5000);
    pair_close(&stuck);
    pair_close(&free_one);
    fixture_stop(&fixture);
}
END_TEST

TCase *link_tests(void)
{
    TCase *tests = tcase_create("link");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_forwards_both_ways, IPV4, LOCAL + 1);
    tcase_add_test(tests, test_many_connections);
    tcase_add_loop_test(tests, test_rtt_is_exact, 0, 3);
    tcase_add_test(tests, test_handshake_costs_round_trips);
    tcase_add_loop_test(tests, test_rate_is_exact, 0, 3);
    tcase_add_test(tests, test_buffer_is_bounded);
    tcase_add_test(tests, test_connections_share_the_queue);
    tcase_add_test(tests, test_full_receiver_blocks_only_itself);
    return tests;
}

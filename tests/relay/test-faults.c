/* SPDX-License-Identifier: BSD-2-Clause */
/* Each fault by what the two ends see of it. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "tests.h"

static struct fixture fixture;
static struct pair pair;
static unsigned char sent[100000], got[200000];

static void setup(void)
{
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (unsigned char)(i * 7 + i / 251);
    fixture_start(&fixture, IPV4, (char *[]){"--rtt", "4", NULL});
    pair = fixture_connect(&fixture);
}

static void teardown(void)
{
    pair_close(&pair);
    ck_assert_int_eq(fixture_stop(&fixture), 0);
}

static void expect_reset(int fd)
{
    char byte;

    ck_assert(readable_within(fd, 5000));
    ck_assert_int_lt(read(fd, &byte, 1), 0);
    ck_assert_int_eq(errno, ECONNRESET);
}

/* So many bytes come, and then nothing but perhaps the end. */
static void expect_exactly(int fd, size_t size)
{
    char byte;

    ck_assert_uint_eq(receive(fd, got, size, 5000), size);
    ck_assert(!readable_within(fd, 50) || recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0);
}

static void expect_end(int fd)
{
    char byte;

    ck_assert(readable_within(fd, 5000));
    ck_assert_int_eq(read(fd, &byte, 1), 0);
}

START_TEST(test_cut_resets_both_sides)
{
    struct pair other = fixture_connect(&fixture);

    command(&fixture, "cut conn=1", "ok");
    expect_reset(pair.client);
    expect_reset(pair.server);
    send_all(other.client, "x", 1);
    ck_assert_uint_eq(receive(other.server, got, 1, 5000), 1);
    command(&fixture, "cut", "ok");
    expect_reset(other.client);
    pair_close(&other);
}
END_TEST

START_TEST(test_cut_after_bytes_is_exact)
{
    command(&fixture, "cut conn=1 dir=up after-bytes=54321", "ok");
    send_all(pair.client, sent, sizeof sent);
    expect_exactly(pair.server, 54321);
    ck_assert_mem_eq(got, sent, 54321);
    expect_reset(pair.client);
}
END_TEST

START_TEST(test_trigger_after_ms)
{
    double start = now_ms();

    command(&fixture, "cut after-ms=120", "ok");
    ck_assert(readable_within(pair.client, 5000));
    ck_assert_double_ge(now_ms() - start, 119);
    ck_assert_double_le(now_ms() - start, 4000);
}
END_TEST

START_TEST(test_stall_and_resume_lose_nothing)
{
    struct pair late;

    command(&fixture, "stall", "ok");
    send_all(pair.client, sent, 1000);
    send_all(pair.server, sent, 1000);
    ck_assert(!readable_within(pair.server, 50));
    ck_assert(!readable_within(pair.client, 0));
    late = fixture_connect(&fixture);
    send_all(late.client, "x", 1);
    ck_assert(!readable_within(late.server, 30));
    command(&fixture, "resume", "ok");
    ck_assert_uint_eq(receive(late.server, got, 1, 5000), 1);
    ck_assert_uint_eq(receive(pair.server, got, 1000, 5000), 1000);
    ck_assert_mem_eq(got, sent, 1000);
    ck_assert_uint_eq(receive(pair.client, got, 1000, 5000), 1000);
    pair_close(&late);
}
END_TEST

START_TEST(test_stall_after_bytes_is_exact)
{
    command(&fixture, "stall conn=1 dir=down after-bytes=777", "ok");
    send_all(pair.server, sent, 5000);
    expect_exactly(pair.client, 777);
    send_all(pair.client, "x", 1);
    ck_assert_uint_eq(receive(pair.server, got, 1, 5000), 1);
    command(&fixture, "resume conn=1", "ok");
    expect_exactly(pair.client, 5000 - 777);
}
END_TEST

START_TEST(test_half_open_swallows_one_direction)
{
    command(&fixture, "half-open dir=both", "error");
    command(&fixture, "half-open conn=1 dir=up", "ok");
    for (int i = 0; i < 50; i++)
        send_all(pair.client, sent, sizeof sent); /* never pushed back: all is swallowed */
    ck_assert(!readable_within(pair.server, 30));
    send_all(pair.server, "x", 1);
    ck_assert_uint_eq(receive(pair.client, got, 1, 5000), 1);
    shutdown(pair.client, SHUT_WR);
    ck_assert(!readable_within(pair.server, 30));
}
END_TEST

START_TEST(test_refuse_resets_new_connections)
{
    int fd;

    command(&fixture, "refuse", "ok");
    fd = fixture_dial(&fixture);
    expect_reset(fd);
    close(fd);
    command(&fixture, "resume", "ok");
    struct pair again = fixture_connect(&fixture);

    pair_close(&again);
}
END_TEST

START_TEST(test_flip_one_bit)
{
    command(&fixture, "flip 70000 3 conn=1", "ok");
    send_all(pair.client, sent, sizeof sent);
    ck_assert_uint_eq(receive(pair.server, got, sizeof sent, 5000), sizeof sent);
    ck_assert_uint_eq(got[70000], sent[70000] ^ 8);
    got[70000] ^= 8;
    ck_assert_mem_eq(got, sent, sizeof sent);
    command(&fixture, "flip next 0 dir=down", "ok");
    send_all(pair.server, "ab", 2);
    ck_assert_uint_eq(receive(pair.client, got, 2, 5000), 2);
    ck_assert_mem_eq(got, "`b", 2);
    command(&fixture, "flip 5 7", "ok"); /* has passed: the next byte */
    send_all(pair.client, "a", 1);
    ck_assert_uint_eq(receive(pair.server, got, 1, 5000), 1);
    ck_assert_uint_eq(got[0], 'a' ^ 128);
}
END_TEST

START_TEST(test_truncate_ends_in_good_order)
{
    command(&fixture, "truncate conn=1 after-bytes=999", "ok");
    send_all(pair.client, sent, 5000);
    expect_exactly(pair.server, 999);
    expect_end(pair.server);
    send_all(pair.server, "x", 1); /* the other direction lives */
    ck_assert_uint_eq(receive(pair.client, got, 1, 5000), 1);
}
END_TEST

START_TEST(test_drop_bytes)
{
    command(&fixture, "drop 100 after-bytes=40000", "ok");
    send_all(pair.client, sent, sizeof sent);
    expect_exactly(pair.server, sizeof sent - 100);
    ck_assert_mem_eq(got, sent, 40000);
    ck_assert_mem_eq(got + 40000, sent + 40100, sizeof sent - 40100);
}
END_TEST

START_TEST(test_duplicate_bytes)
{
    command(&fixture, "duplicate 70000 after-bytes=1000", "ok");
    send_all(pair.client, sent, sizeof sent);
    expect_exactly(pair.server, sizeof sent + 70000);
    ck_assert_mem_eq(got, sent, 71000);
    ck_assert_mem_eq(got + 71000, sent + 1000, sizeof sent - 1000);
}
END_TEST

START_TEST(test_slow_and_back)
{
    double start = now_ms(), ms;

    command(&fixture, "slow 4m", "ok");
    send_all(pair.client, sent, 50000); /* 100 ms */
    ck_assert_uint_eq(receive(pair.server, got, 50000, 5000), 50000);
    ms = now_ms() - start;
    ck_assert_msg(ms > 97 && ms < 4000, "%.1f ms", ms);
    command(&fixture, "slow off", "ok");
    for (int i = 0; i < ATTEMPTS && ms > 90; i++) {
        start = now_ms();
        send_all(pair.client, sent, 50000);
        ck_assert_uint_eq(receive(pair.server, got, 50000, 5000), 50000);
        ms = now_ms() - start;
    }
    ck_assert_double_le(ms, 90);
}
END_TEST

START_TEST(test_delay_one_connection)
{
    struct pair other = fixture_connect(&fixture);
    double start, other_ms = 100;

    command(&fixture, "delay-connection 1 80", "ok");
    for (int i = 0; i < ATTEMPTS && other_ms > 75; i++) {
        start = now_ms();
        send_all(pair.client, "x", 1);
        send_all(other.client, "x", 1);
        ck_assert_uint_eq(receive(other.server, got, 1, 5000), 1);
        other_ms = now_ms() - start;
        ck_assert_uint_eq(receive(pair.server, got, 1, 5000), 1);
        ck_assert_double_ge(now_ms() - start, 82);
    }
    ck_assert_double_le(other_ms, 75);
    pair_close(&other);
}
END_TEST

START_TEST(test_jitter_keeps_order)
{
    struct pair one = pair;

    command(&fixture, "jitter 20", "ok");
    transfer(&one, 1, 1 << 20); /* checks every byte */
}
END_TEST

START_TEST(test_rtt_changes)
{
    double start;

    command(&fixture, "rtt 60", "ok");
    start = now_ms();
    send_all(pair.client, "x", 1);
    ck_assert_uint_eq(receive(pair.server, got, 1, 5000), 1);
    ck_assert_double_ge(now_ms() - start, 30);
    ck_assert_double_le(now_ms() - start, 4000);
}
END_TEST

START_TEST(test_commands_are_checked)
{
    static const char *const bad[] = {
        "",         "melt",     "cut conn=0",        "cut conn=x",    "cut now",
        "flip",     "flip 1",   "flip 1 8",          "flip x 1",      "slow",
        "slow 1q",  "rtt -1",   "cut dir=left",      "cut after-ms=", "cut when=now",
        "drop 1 2", "rtt 1e99", "delay-connection 1"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        command(&fixture, bad[i], "error: ");
    command(&fixture, "stats", "{\"uptime_ms\":");
    ck_assert_double_eq(stat_number(&fixture, "", "faults_fired"), 0);
    send_all(pair.client, "x", 1);
    ck_assert_uint_eq(receive(pair.server, got, 1, 5000), 1);
}
END_TEST

START_TEST(test_refused_target_resets_the_client)
{
    int fd;

    close(fixture.target);
    fd = fixture_dial(&fixture);
    expect_reset(fd);
    close(fd);
    fixture.target = -1;
}
END_TEST

START_TEST(test_quit)
{
    struct fixture other;

    fixture_start(&other, LOCAL, (char *[]){"--fault", "cut after-ms=100000", NULL});
    command(&other, "quit", "ok");
    ck_assert_int_eq(fixture_stop(&other), 0);
}
END_TEST

TCase *fault_tests(void)
{
    TCase *tests = tcase_create("faults");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_cut_resets_both_sides);
    tcase_add_test(tests, test_cut_after_bytes_is_exact);
    tcase_add_test(tests, test_trigger_after_ms);
    tcase_add_test(tests, test_stall_and_resume_lose_nothing);
    tcase_add_test(tests, test_stall_after_bytes_is_exact);
    tcase_add_test(tests, test_half_open_swallows_one_direction);
    tcase_add_test(tests, test_refuse_resets_new_connections);
    tcase_add_test(tests, test_flip_one_bit);
    tcase_add_test(tests, test_truncate_ends_in_good_order);
    tcase_add_test(tests, test_drop_bytes);
    tcase_add_test(tests, test_duplicate_bytes);
    tcase_add_test(tests, test_slow_and_back);
    tcase_add_test(tests, test_delay_one_connection);
    tcase_add_test(tests, test_jitter_keeps_order);
    tcase_add_test(tests, test_rtt_changes);
    tcase_add_test(tests, test_commands_are_checked);
    tcase_add_test(tests, test_refused_target_resets_the_client);
    tcase_add_test(tests, test_quit);
    return tests;
}

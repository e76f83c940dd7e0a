/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's end of the guest channels, against guests of every kind. */
#include "unit.h"

#include "vm/agent.h"

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

static int host, guest;
static pthread_t thread;
static char call[64], request[1024];
static struct drafter_error err;

static void setup(void)
{
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    host = pair[0];
    guest = pair[1];
}

static void teardown(void)
{
    close(host);
    if (guest >= 0)
        close(guest);
}

static void say(const char *text)
{
    ck_assert_int_eq(io_write_full(guest, text, strlen(text)), 0);
}

/* Reads the request line; leaves the id of its call. */
static void hear(void)
{
    size_t used = 0;
    char *id, *end;

    while (used < sizeof(request) - 1 && (used < 3 || request[used - 1] != '\n'))
        if (read(guest, request + used, 1) == 1)
            used++;
    request[used] = '\0';
    id = strstr(request, "\"call\":\"");
    ck_assert_ptr_nonnull(id);
    id += strlen("\"call\":\"");
    end = strchr(id, '"');
    snprintf(call, sizeof(call), "%.*s", (int)(end - id), id);
}

static void answer(const char *error)
{
    char text[512];

    snprintf(text, sizeof(text), "{\"response\":{\"call\":\"%s\",\"value\":null,\"err\":\"%s\"}}\n",
             call, error);
    say(text);
}

static void start(void *(*body)(void *), void *opaque)
{
    ck_assert_int_eq(pthread_create(&thread, NULL, body, opaque), 0);
}

static int ask(unsigned timeout_ms)
{
    int rc = agent_call(host, "BeforeSuspend", NULL, timeout_ms, &err);

    pthread_join(thread, NULL);
    return rc;
}

static void expect_text(const char *text)
{
    ck_assert_msg(strstr(err.message, text), "\"%s\" does not say \"%s\"", err.message, text);
}

static void *polite(void *opaque)
{
    hear();
    answer(opaque ? opaque : "");
    return NULL;
}

START_TEST(an_answer_ends_the_call)
{
    start(polite, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
    ck_assert_ptr_nonnull(strstr(request, "\"function\":\"BeforeSuspend\",\"args\":[]},\"response\":null}\n"));
    ck_assert_int_eq(request[0], '\n');
}
END_TEST

static int64_t wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

START_TEST(a_seed_goes_with_the_time_of_the_call)
{
    int64_t begin = wall();
    const char *now;

    start(polite, NULL);
    ck_assert_int_eq(agent_call(host, "AfterResume", "c0ffee", 5000, &err), 0);
    pthread_join(thread, NULL);
    ck_assert_ptr_nonnull(strstr(request, ",\"seed\":\"c0ffee\"},\"response\":null}\n"));
    now = strstr(request, "\"args\":[],\"now\":");
    ck_assert_ptr_nonnull(now);
    now += strlen("\"args\":[],\"now\":");
    ck_assert_int_ge(strtoll(now, NULL, 10), begin);
    ck_assert_int_le(strtoll(now, NULL, 10), wall());
}
END_TEST

START_TEST(the_guests_error_is_told)
{
    start(polite, "disk on fire");
    ck_assert_int_eq(ask(5000), -EREMOTEIO);
    expect_text("BeforeSuspend: the guest's agent says: disk on fire");
}
END_TEST

static void *noisy(void *opaque)
{
    (void)opaque;
    say("half a line of a dead host\n\n{\"x\":[}\nnull\n[1]\n\xff\xfe\n");
    say("{\"response\":{\"call\":\"other\",\"err\":\"not yours\"}}\n{\"response\":5}\n");
    hear();
    say("{\"response\":{}}\n");
    answer("");
    return NULL;
}

START_TEST(what_is_no_answer_is_skipped)
{
    start(noisy, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
}
END_TEST

static void *hesitant(void *opaque)
{
    const struct timespec pause = {0, 5000000};
    char text[200];

    (void)opaque;
    hear();
    snprintf(text, sizeof(text), "{\"response\":{\"call\":\"%s\",\"err\":\"\"}}\n", call);
    for (size_t i = 0; text[i]; i++) {
        ck_assert_int_eq(write(guest, text + i, 1), 1);
        if (i % 10 == 0)
            nanosleep(&pause, NULL);
    }
    return NULL;
}

START_TEST(an_answer_in_pieces_is_whole)
{
    start(hesitant, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
}
END_TEST

static void *crowded(void *opaque)
{
    char text[512];

    (void)opaque;
    hear();
    snprintf(text, sizeof(text),
             "{\"a\":\"}{\\\"\"} {\"request\":null,\"response\":{\"call\":\"%s\",\"value\":[{}],"
             "\"err\":\"\"}}{\"b\":1}",
             call);
    say(text);
    return NULL;
}

START_TEST(objects_need_no_lines)
{
    start(crowded, NULL);
    ck_assert_msg(ask(2000) == 0, "%s", err.message);
}
END_TEST

static void *calling(void *opaque)
{
    char text[256] = "", first[64];
    size_t used = 0;

    (void)opaque;
    hear();
    snprintf(first, sizeof(first), "%s", call);
    say("{\"request\":{\"call\":\"g-1\",\"function\":\"Reboot\",\"args\":[]},\"response\":null}\n");
    while (used < sizeof(text) - 1 && (!used || text[used - 1] != '\n'))
        if (read(guest, text + used, 1) == 1)
            used++;
    ck_assert_msg(strstr(text, "\"call\":\"g-1\"") && strstr(text, "can not call non function"), "%s",
                  text);
    snprintf(call, sizeof(call), "%s", first);
    answer("");
    return NULL;
}

START_TEST(a_call_of_the_guest_is_refused)
{
    start(calling, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
}
END_TEST

/* What the original's agent (panrpc of April 2025) wrote when it was called; the id is ours. */
static void *recorded(void *opaque)
{
    static const char before[] = "{\"request\":null,\"response\":{\"call\":\"";
    static const char after[] = "\",\"value\":null,\"err\":\"exit status 3\"}}\n";

    (void)opaque;
    hear();
    say(before);
    say(call);
    say(after);
    return NULL;
}

START_TEST(the_originals_agent_is_understood)
{
    start(recorded, NULL);
    ck_assert_int_eq(ask(5000), -EREMOTEIO);
    expect_text("says: exit status 3");
}
END_TEST

static void *nested(void *opaque)
{
    (void)opaque;
    hear();
    say("{\"a\":");
    for (int i = 0; i < 30000; i++)
        say("[");
    say("\n");
    answer("");
    return NULL;
}

START_TEST(nesting_without_end_is_noise)
{
    start(nested, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
}
END_TEST

static void *silent(void *opaque)
{
    (void)opaque;
    hear();
    return NULL;
}

START_TEST(silence_ends_with_the_timeout)
{
    uint64_t before = drafter_now_ns(), took;

    start(silent, NULL);
    ck_assert_int_eq(ask(50), -ETIMEDOUT);
    took = drafter_now_ns() - before;
    expect_text("does not answer");
    ck_assert_uint_ge(took, 50000000);
    ck_assert_uint_lt(took, 2000000000);
}
END_TEST

static void *chatty(void *opaque)
{
    const struct timespec pause = {0, 2000000};

    (void)opaque;
    for (unsigned i = 0; i < 200; i++) {
        if (send(guest, "{\"hello\":1}\n", 12, MSG_NOSIGNAL) < 0)
            break;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

START_TEST(chatter_does_not_extend_the_timeout)
{
    uint64_t before = drafter_now_ns();
    int rc;

    start(chatty, NULL);
    rc = agent_call(host, "BeforeSuspend", NULL, 60, &err);
    ck_assert_int_eq(rc, -ETIMEDOUT);
    ck_assert_uint_lt(drafter_now_ns() - before, 350000000);
    pthread_join(thread, NULL);
}
END_TEST

static void *flooding(void *opaque)
{
    char block[65536];

    memset(block, *(char *)opaque, sizeof(block));
    while (send(guest, block, sizeof(block), MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void expect_flood_refused(char *filling)
{
    start(flooding, filling);
    ck_assert_int_eq(agent_call(host, "BeforeSuspend", NULL, 20000, &err), -EPROTO);
    expect_text("floods");
    shutdown(host, SHUT_RDWR);
    pthread_join(thread, NULL);
}

START_TEST(a_flood_of_lines_is_refused)
{
    char filling = '\n';

    expect_flood_refused(&filling);
}
END_TEST

START_TEST(a_flood_without_lines_is_refused)
{
    char filling = 'x';

    expect_flood_refused(&filling);
}
END_TEST

static void *overlong(void *opaque)
{
    char block[1 << 16];

    (void)opaque;
    memset(block, 'x', sizeof(block));
    hear();
    ck_assert_int_eq(io_write_full(guest, block, sizeof(block)), 0);
    say("\n");
    answer("");
    return NULL;
}

START_TEST(after_an_overlong_line_the_next_one_counts)
{
    start(overlong, NULL);
    ck_assert_msg(ask(5000) == 0, "%s", err.message);
}
END_TEST

static void *leaving(void *opaque)
{
    (void)opaque;
    hear();
    close(guest);
    guest = -1;
    return NULL;
}

START_TEST(a_closed_channel_ends_the_call)
{
    start(leaving, NULL);
    ck_assert_int_eq(ask(5000), -ECONNRESET);
    expect_text("closed");
}
END_TEST

START_TEST(a_guest_is_alive_once_it_says_anything)
{
    say("x");
    ck_assert_int_eq(liveness_wait(host, 5000, &err), 0);
}
END_TEST

START_TEST(a_silent_or_closed_liveness_channel_is_told)
{
    ck_assert_int_eq(liveness_wait(host, 30, &err), -ETIMEDOUT);
    close(guest);
    guest = -1;
    ck_assert_int_eq(liveness_wait(host, 5000, &err), -ECONNRESET);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, an_answer_ends_the_call);
    tcase_add_test(tests, a_seed_goes_with_the_time_of_the_call);
    tcase_add_test(tests, the_guests_error_is_told);
    tcase_add_test(tests, what_is_no_answer_is_skipped);
    tcase_add_test(tests, an_answer_in_pieces_is_whole);
    tcase_add_test(tests, objects_need_no_lines);
    tcase_add_test(tests, a_call_of_the_guest_is_refused);
    tcase_add_test(tests, the_originals_agent_is_understood);
    tcase_add_test(tests, nesting_without_end_is_noise);
    tcase_add_test(tests, silence_ends_with_the_timeout);
    tcase_add_test(tests, chatter_does_not_extend_the_timeout);
    tcase_add_test(tests, a_flood_of_lines_is_refused);
    tcase_add_test(tests, a_flood_without_lines_is_refused);
    tcase_add_test(tests, after_an_overlong_line_the_next_one_counts);
    tcase_add_test(tests, a_closed_channel_ends_the_call);
    tcase_add_test(tests, a_guest_is_alive_once_it_says_anything);
    tcase_add_test(tests, a_silent_or_closed_liveness_channel_is_told);
}

int main(void)
{
    return unit_run("agent", add_tests);
}

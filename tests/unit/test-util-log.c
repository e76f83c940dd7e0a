/* SPDX-License-Identifier: BSD-2-Clause */
/* Each test sends standard error into a datagram socket: one write is one datagram is one record. */
#include "util/log.h"
#include "util/repeat.h"
#include "unit.h"
#include <jansson.h>
#include <pty.h>
#include <sys/socket.h>

static int records = -1;
static char text[16384];

static void capture(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    records = ends[0];
}

/* The next record, or NULL when there is none. */
static const char *next_record(void)
{
    ssize_t length = recv(records, text, sizeof(text) - 1, MSG_DONTWAIT);

    if (length < 0)
        return NULL;
    text[length] = '\0';
    return text;
}

static json_t *next_json(void)
{
    const char *record = next_record();
    json_error_t error;
    json_t *json;

    ck_assert_ptr_nonnull(record);
    ck_assert_int_eq(record[strlen(record) - 1], '\n');
    ck_assert_ptr_eq(strchr(record, '\n'), record + strlen(record) - 1);
    json = json_loads(record, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(json != NULL, "%s in %s", error.text, record);
    return json;
}

static const char *field(json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

START_TEST(a_pipe_gets_json)
{
    json_t *json;

    log_setup(LOG_FORMAT_AUTO, DRAFTER_LOG_INFO);
    drafter_log(DRAFTER_LOG_WARNING, "tcp", "peer %s went away", "b");
    json = next_json();
    ck_assert_str_eq(field(json, "level"), "warning");
    ck_assert_str_eq(field(json, "subject"), "tcp");
    ck_assert_str_eq(field(json, "message"), "peer b went away");
    ck_assert_uint_eq(strlen(field(json, "time")), strlen("2000-01-01T00:00:00.000000Z"));
    json_decref(json);
    ck_assert_ptr_null(next_record());
}
END_TEST

START_TEST(every_byte_survives_as_valid_json)
{
    char bytes[256];
    json_t *json;

    for (int i = 1; i < 256; i++)
        bytes[i - 1] = (char)i;
    bytes[255] = '\0';
    log_setup(LOG_FORMAT_JSON, DRAFTER_LOG_INFO);
    log_info("x", "%s", bytes);
    json = next_json();
    ck_assert_int_eq(strncmp(field(json, "message"), "\001\002\003", 3), 0);
    ck_assert_ptr_nonnull(strstr(field(json, "message"), "!\"#"));
    ck_assert_ptr_nonnull(strstr(field(json, "message"), "[\\]"));
    json_decref(json);
}
END_TEST

START_TEST(utf8_passes_and_what_is_not_is_replaced)
{
    static const char *const invalid[] = {
        "\xc3",         "\xc3(",         "\x80",         "\xc0\xaf",         "\xe0\x80\xaf",
        "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80", "\xe2\x82"};
    json_t *json;

    log_setup(LOG_FORMAT_JSON, DRAFTER_LOG_INFO);
    log_info("x", "%s", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    json = next_json();
    ck_assert_str_eq(field(json, "message"), "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    json_decref(json);
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
        log_info("x", "%s", invalid[i]);
        json = next_json();
        ck_assert_int_eq(strncmp(field(json, "message"), "\xef\xbf\xbd", 3), 0);
        json_decref(json);
    }
}
END_TEST

START_TEST(a_message_too_long_is_cut_and_stays_json)
{
    static char message[20000];
    json_t *json;

    log_setup(LOG_FORMAT_JSON, DRAFTER_LOG_INFO);
    for (int c = 1; c < 128; c += 63) {
        memset(message, c, sizeof(message) - 1);
        log_info(message, "%s", message);
        json = next_json();
        json_decref(json);
    }
}
END_TEST

START_TEST(records_below_the_level_are_not_written)
{
    log_setup(LOG_FORMAT_HUMAN, DRAFTER_LOG_WARNING);
    log_debug("x", "debug");
    log_info("x", "info");
    log_event("started", "\"a\":1");
    ck_assert_ptr_null(next_record());
    log_warning("x", "warning");
    ck_assert_ptr_nonnull(next_record());
    log_error("x", "error");
    ck_assert_ptr_nonnull(next_record());
}
END_TEST

START_TEST(people_see_one_plain_line)
{
    const char *record;

    log_setup(LOG_FORMAT_HUMAN, DRAFTER_LOG_INFO);
    log_error("tcp", "bad \033[2J name\nline \"two\"");
    record = next_record();
    ck_assert_ptr_nonnull(strstr(record, " error tcp: bad \\x1b[2J name\\nline \"two\"\n"));
    ck_assert_ptr_null(strchr(record, '\033'));
    log_event("started", "\"vm\":\"a\"");
    ck_assert_ptr_nonnull(strstr(next_record(), " info started: \"vm\":\"a\"\n"));
}
END_TEST

START_TEST(an_event_is_json_with_its_fields_at_every_level)
{
    json_t *json;

    log_setup(LOG_FORMAT_JSON, DRAFTER_LOG_ERROR);
    log_event("resumed", "\"vm\":\"%s\",\"ms\":%.1f", "redis", 12.5);
    json = next_json();
    ck_assert_str_eq(field(json, "event"), "resumed");
    ck_assert_str_eq(field(json, "vm"), "redis");
    ck_assert(json_real_value(json_object_get(json, "ms")) == 12.5);
    json_decref(json);
    log_event("bare", "%s", "");
    json = next_json();
    ck_assert_str_eq(field(json, "event"), "bare");
    json_decref(json);
}
END_TEST

START_TEST(logging_keeps_errno)
{
    log_setup(LOG_FORMAT_JSON, DRAFTER_LOG_INFO);
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_info("x", "nobody reads this");
    ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

/* Logs one line to a terminal and returns what came out. */
static void log_to_terminal(void)
{
    int master, slave;
    ssize_t length;

    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(dup2(slave, STDERR_FILENO), STDERR_FILENO);
    log_setup(LOG_FORMAT_AUTO, DRAFTER_LOG_INFO);
    log_error("x", "y");
    length = read(master, text, sizeof(text) - 1);
    ck_assert_int_gt(length, 0);
    text[length] = '\0';
    close(slave);
    close(master);
}

START_TEST(a_terminal_gets_colour_unless_told_not_to)
{
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    log_to_terminal();
    ck_assert_ptr_nonnull(strstr(text, "\033[31merror\033[0m x: y"));
    setenv("NO_COLOR", "1", 1);
    log_to_terminal();
    ck_assert_ptr_nonnull(strstr(text, " error x: y"));
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    log_to_terminal();
    ck_assert_ptr_nonnull(strstr(text, " error x: y"));
}
END_TEST

START_TEST(the_clock_runs_forward_in_nanoseconds)
{
    uint64_t before = drafter_now_ns(), passed;

    usleep(20000);
    passed = drafter_now_ns() - before;
    ck_assert_uint_ge(passed, 20000000);
    ck_assert_uint_lt(passed, 20000000000);
}
END_TEST

START_TEST(what_repeats_itself_is_told_once_a_minute_with_how_often)
{
    static const uint64_t second = 1000000000;
    struct repeat repeat = REPEAT_INIT;
    unsigned more = 7;

    ck_assert(repeat_tell(&repeat, "a", second, &more));
    ck_assert_uint_eq(more, 0);
    for (uint64_t i = 1; i < 60; i++)
        ck_assert(!repeat_tell(&repeat, "a", (1 + i) * second, &more));
    ck_assert(repeat_tell(&repeat, "a", 61 * second, &more));
    ck_assert_uint_eq(more, 59);
    ck_assert(!repeat_tell(&repeat, "a", 62 * second, &more));
    ck_assert(repeat_tell(&repeat, "b", 62 * second, &more)); /* another one, at once */
    ck_assert_uint_eq(more, 0);
    ck_assert(repeat_tell(&repeat, "b", 122 * second, &more));
    ck_assert_uint_eq(more, 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, capture, NULL);
    tcase_add_test(tests, a_pipe_gets_json);
    tcase_add_test(tests, every_byte_survives_as_valid_json);
    tcase_add_test(tests, utf8_passes_and_what_is_not_is_replaced);
    tcase_add_test(tests, a_message_too_long_is_cut_and_stays_json);
    tcase_add_test(tests, records_below_the_level_are_not_written);
    tcase_add_test(tests, people_see_one_plain_line);
    tcase_add_test(tests, an_event_is_json_with_its_fields_at_every_level);
    tcase_add_test(tests, logging_keeps_errno);
    tcase_add_test(tests, a_terminal_gets_colour_unless_told_not_to);
    tcase_add_test(tests, what_repeats_itself_is_told_once_a_minute_with_how_often);
    tcase_add_test(tests, the_clock_runs_forward_in_nanoseconds);
}

int main(void)
{
    return unit_run("log", add_tests);
}

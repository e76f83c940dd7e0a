/* SPDX-License-Identifier: BSD-2-Clause */
#include "../agent/message.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse(const char *text, struct message *message)
{
    return message_parse(text, strlen(text), message);
}

START_TEST(request_as_the_original_writes_it)
{
    struct message m;

    ck_assert_int_eq(
        parse("{\"request\":{\"call\":\"9f-1\",\"function\":\"BeforeSuspend\",\"args\":[]},"
              "\"response\":null}",
              &m),
        0);
    ck_assert_int_eq(m.kind, MESSAGE_REQUEST);
    ck_assert(message_span_is(m.call, "9f-1"));
    ck_assert(message_span_is(m.function, "BeforeSuspend"));
    ck_assert_uint_eq(m.arg_count, 0);
    ck_assert_uint_eq(m.arg.length, 0);
}
END_TEST

START_TEST(response_has_value_and_error)
{
    struct message m;

    ck_assert_int_eq(
        parse("{\"response\":{\"call\":\"1\",\"value\":{\"a\":[1,2]},\"err\":\"no\"}}", &m), 0);
    ck_assert_int_eq(m.kind, MESSAGE_RESPONSE);
    ck_assert(message_span_is(m.value, "{\"a\":[1,2]}"));
    ck_assert(message_span_is(m.err, "no"));
}
END_TEST

START_TEST(first_argument_and_count)
{
    struct message m;
    int64_t number;

    ck_assert_int_eq(parse("{ \"request\" : { \"args\" : [ 1792540800123456789 , {\"x\":[]} ],"
                           "\"call\":\"c\",\"function\":\"F\"} }",
                           &m),
                     0);
    ck_assert_uint_eq(m.arg_count, 2);
    ck_assert(message_span_int64(m.arg, &number));
    ck_assert(number == 1792540800123456789);
}
END_TEST

START_TEST(integers)
{
    static const char *const bad[] = {"", "-", "1.0", "1e3", "9223372036854775808", "\"1\"", "1x"};
    struct message_span span = {"-9223372036854775808", 20};
    int64_t number;

    ck_assert(message_span_int64(span, &number));
    ck_assert(number == INT64_MIN);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!message_span_int64((struct message_span){bad[i], strlen(bad[i])}, &number),
                      "%s", bad[i]);
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{",
        "{}x",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\":01}",
        "{\"a\":tru}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"",
        "{\"a\":\"\t\"}",
        "{\"request\":[]}",
        "{\"request\":{}}",
        "{\"request\":{\"call\":\"1\"}}",
        "{\"request\":{\"call\":1,\"function\":\"F\"}}",
        "{\"response\":{\"value\":1}}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":-}",
    };
    struct message m = {.kind = MESSAGE_RESPONSE};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(parse(bad[i], &m) == -EBADMSG, "%s", bad[i]);
    ck_assert_int_eq(m.kind, MESSAGE_RESPONSE);
}
END_TEST

START_TEST(neither_request_nor_response)
{
    struct message m;

    ck_assert_int_eq(parse("{}", &m), 0);
    ck_assert_int_eq(m.kind, MESSAGE_OTHER);
    ck_assert_int_eq(parse("{\"request\":null,\"response\":null,\"x\":-1.5e+3}", &m), 0);
    ck_assert_int_eq(m.kind, MESSAGE_OTHER);
}
END_TEST

START_TEST(nesting_is_bounded)
{
    char text[100] = "{\"a\":";
    struct message m;
    size_t at = strlen(text);

    for (int i = 0; i < MESSAGE_DEPTH_MAX; i++)
        text[at++] = '[';
    for (int i = 0; i < MESSAGE_DEPTH_MAX; i++)
        text[at++] = ']';
    text[at++] = '}';
    ck_assert_int_eq(message_parse(text, at, &m), -E2BIG);
    memmove(text + 5, text + 6, at - 6);
    memmove(text + at - 3, text + at - 2, 1);
    ck_assert_int_eq(message_parse(text, at - 2, &m), 0);
}
END_TEST

/* Feeds text in pieces of this size and returns how many messages came; the last is left in the
 * reader. */
static int feed(struct message_reader *reader, const char *text, size_t piece)
{
    size_t length = strlen(text), at = 0;
    int messages = 0;

    while (at < length) {
        size_t n = length - at < piece ? length - at : piece, used;

        messages += message_reader_feed(reader, text + at, n, &used);
        ck_assert_uint_gt(used, 0);
        at += used;
    }
    return messages;
}

START_TEST(reader_cuts_and_resynchronises)
{
    static struct message_reader reader;
    const char *text = "garbage {\"a\":1}\n\r\n\n{\"b\":\"}{\\\"\"} {\"c\":[{}]}{\"d\":1}\n"
                       "{\"cut\":{\"of\n]]}}\n{\"last\":1}\n";

    for (size_t piece = 1; piece < 90; piece++) {
        ck_assert_int_eq(feed(&reader, text, piece), 4);
        memset(&reader, 0, sizeof(reader));
    }
    ck_assert_int_eq(feed(&reader, "{\"last\":1}", 100), 1);
    ck_assert_uint_eq(reader.length, 10);
    ck_assert(memcmp(reader.buffer, "{\"last\":1}", 10) == 0);
}
END_TEST

START_TEST(reader_drops_what_is_too_large)
{
    static struct message_reader reader;
    size_t size = MESSAGE_SIZE_MAX + 100;
    char *text = malloc(size + 20);

    memset(text, 'x', size);
    memcpy(text, "{\"a\":\"", 6);
    snprintf(text + size, 20, "\"}\n{\"b\":1}\n");
    ck_assert_int_eq(feed(&reader, text, 4096), 1);
    ck_assert(memcmp(reader.buffer, "{\"b\":1}", 7) == 0);
    free(text);
}
END_TEST

START_TEST(response_is_what_the_original_expects)
{
    struct message_span call = {"a\\u0041", 7};
    char out[200];
    const char *want = "{\"request\":null,\"response\":{\"call\":\"a\\u0041\",\"value\":null,"
                       "\"err\":\"exit \\\"3\\\"\\u000a\xc3\xa4\\ufffd\"}}\n";
    size_t n = message_response(out, sizeof(out), call, "null", "exit \"3\"\n\xc3\xa4\xff");

    ck_assert_uint_eq(n, strlen(want));
    ck_assert_str_eq(out, want);
    ck_assert_uint_eq(message_response(out, 20, call, "null", ""), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("message");
    TCase *tests = tcase_create("all");
    SRunner *runner = srunner_create(suite);

    tcase_add_test(tests, request_as_the_original_writes_it);
    tcase_add_test(tests, response_has_value_and_error);
    tcase_add_test(tests, first_argument_and_count);
    tcase_add_test(tests, integers);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, neither_request_nor_response);
    tcase_add_test(tests, nesting_is_bounded);
    tcase_add_test(tests, reader_cuts_and_resynchronises);
    tcase_add_test(tests, reader_drops_what_is_too_large);
    tcase_add_test(tests, response_is_what_the_original_expects);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed ? 1 : 0;
}

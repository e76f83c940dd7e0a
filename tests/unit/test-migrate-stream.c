/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames on a connection that fails, over the null transport. */
#include "unit-plugin.h"

#include "migrate/stream.h"
#include <pthread.h>

static struct instance *transport;
static struct transport_listener *listener;
static struct transport_connection *far;
static struct stream *stream;

static void *accept_one(void *opaque)
{
    (void)opaque;
    ck_assert_int_eq(transport_accept(listener, &far, NULL), 0);
    return NULL;
}

static void setup(void)
{
    struct transport_connection *near;
    struct drafter_error err = {0};
    pthread_t thread;

    ck_assert_msg(!instance_new(DRAFTER_KIND_TRANSPORT, NULL, "null", NULL, "wire", "/tmp", NULL,
                                &transport, &err),
                  "%s", err.message);
    ck_assert_int_eq(transport_listen(transport, "unit", &listener, &err), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, accept_one, NULL), 0);
    ck_assert_int_eq(transport_connect(transport, "unit", 5000, &near, &err), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(stream_new(near, &stream), 0);
}

static void teardown(void)
{
    stream_free(stream);
    transport_close(far);
    transport_listener_close(listener);
    instance_free(transport);
}

/* Whoever waited for its turn would write into the middle of another's frame. */
START_TEST(nothing_follows_a_frame_that_was_cut_off)
{
    const struct wire_header header = {.type = WIRE_DATA, .length = WIRE_DATA_MAX};
    cleanup_free char *payload = calloc(1, WIRE_DATA_MAX);
    char byte;

    ck_assert_int_eq(transport_set_timeout(stream->connection, 20), 0);
    ck_assert_int_eq(stream_send(stream, header, payload), -ETIMEDOUT);
    for (unsigned i = 0; i < 2 * WIRE_HEADER_SIZE; i++) /* there is room again */
        ck_assert_int_eq(transport_read_full(far, &byte, 1), 0);
    ck_assert_int_eq(stream_send_signal(stream, WIRE_PING, 0), -ETIMEDOUT);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, nothing_follows_a_frame_that_was_cut_off);
}

int main(void)
{
    return unit_run_over(DRAFTER_KIND_TRANSPORT, "null", "migrate-stream", add_tests);
}

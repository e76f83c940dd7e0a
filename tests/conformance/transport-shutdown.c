/* SPDX-License-Identifier: BSD-2-Clause */
/* Shutdown from any thread at any time, of streams and of listeners. */
#include "transport-subjects.h"

struct waiting {
    struct transport_connection *connection;
    ssize_t result;
    uint64_t ended_ms;
};

static void *wait_reading(void *argument)
{
    struct waiting *waiting = argument;
    char byte;

    waiting->result = read_some(waiting->connection, &byte, 1);
    waiting->ended_ms = conformance_now_ms();
    return NULL;
}

static void *wait_writing(void *argument)
{
    static const unsigned char buffer[16384];
    struct waiting *waiting = argument;

    do
        waiting->result = write_some(waiting->connection, buffer, sizeof(buffer));
    while (waiting->result > 0);
    waiting->ended_ms = conformance_now_ms();
    return NULL;
}

static void expect_cancelled(const struct waiting *waiting, uint64_t since_ms)
{
    ck_assert_msg(waiting->result == -ECANCELED, "%zd instead of -ECANCELED", waiting->result);
    ck_assert_uint_lt(waiting->ended_ms - since_ms, 2000);
}

TRANSPORT_TEST(shutdown_wakes_a_reader_and_a_writer, SMALL)
{
    struct stream stream = open_here();
    struct waiting reading = {.connection = stream.near}, writing = {.connection = stream.near};
    pthread_t reader, writer;
    uint64_t start;

    ck_assert_int_eq(transport_set_timeout(stream.near, 0), 0);
    reader = conformance_thread(wait_reading, &reading);
    writer = conformance_thread(wait_writing, &writing);
    conformance_sleep_ms(50);
    start = conformance_now_ms();
    transport_shutdown(stream.near);
    conformance_join(reader);
    conformance_join(writer);
    expect_cancelled(&reading, start);
    expect_cancelled(&writing, start);
    stream_close(&stream);
}

TRANSPORT_TEST(shutdown_before_a_call_cancels_it, NULL)
{
    struct stream stream = open_here();
    char byte;

    ck_assert_int_eq(write_some(stream.far, "unread", 6), 6);
    ck_assert_int_eq(transport_set_timeout(stream.near, 0), 0);
    transport_shutdown(stream.near);
    transport_shutdown(stream.near);
    ck_assert_int_eq(read_some(stream.near, &byte, 1), -ECANCELED);
    ck_assert_int_eq(write_some(stream.near, "?", 1), -ECANCELED);
    ck_assert_int_eq(read_some(stream.near, &byte, 1), -ECANCELED);
    stream_close(&stream);
}

TRANSPORT_TEST(the_peer_of_a_shutdown_reads_what_was_sent_and_the_end, NULL)
{
    struct stream stream = open_here();
    char buffer[8];

    ck_assert_int_eq(write_some(stream.near, "bye", 3), 3);
    transport_shutdown(stream.near);
    ck_assert_int_eq(transport_read_full(stream.far, buffer, 3), 0);
    ck_assert_int_eq(read_some(stream.far, buffer, sizeof(buffer)), 0);
    stream_close(&stream);
}

static void *shut_down_soon(void *argument)
{
    struct transport_connection *connection = argument;

    transport_shutdown(connection);
    return NULL;
}

/* The shutdown comes at any point of a read that begins or waits, and of a write. */
TRANSPORT_TEST(shutdown_is_never_missed, NULL)
{
    for (int round = 0; round < 60; round++) {
        struct stream stream = open_here();
        struct waiting reading = {.connection = stream.near};
        struct waiting writing = {.connection = stream.near};
        pthread_t threads[4];

        ck_assert_int_eq(transport_set_timeout(stream.near, 0), 0);
        threads[0] = conformance_thread(wait_reading, &reading);
        threads[1] = conformance_thread(shut_down_soon, stream.near);
        threads[2] = conformance_thread(wait_writing, &writing);
        threads[3] = conformance_thread(shut_down_soon, stream.near);
        for (int i = 0; i < 4; i++)
            conformance_join(threads[i]);
        ck_assert_int_eq(reading.result, -ECANCELED);
        ck_assert_int_eq(writing.result, -ECANCELED);
        stream_close(&stream);
    }
}

static void *shut_listener_down(void *argument)
{
    struct transport_listener *which = argument;

    transport_listener_shutdown(which);
    return NULL;
}

TRANSPORT_TEST(listener_shutdown_wakes_every_accept, NULL)
{
    struct accepting accepting[2] = {{.listener = listener}, {.listener = listener}};
    pthread_t threads[2];
    uint64_t start;

    for (int i = 0; i < 2; i++)
        threads[i] = conformance_thread(accept_one, &accepting[i]);
    conformance_sleep_ms(50);
    start = conformance_now_ms();
    transport_listener_shutdown(listener);
    transport_listener_shutdown(listener);
    for (int i = 0; i < 2; i++) {
        conformance_join(threads[i]);
        ck_assert_int_eq(accepting[i].rc, -ECANCELED);
    }
    ck_assert_uint_lt(conformance_now_ms() - start, 2000);
    accept_one(&accepting[0]); /* and those that come later */
    ck_assert_int_eq(accepting[0].rc, -ECANCELED);
}

TRANSPORT_TEST(listener_shutdown_is_never_missed, NULL)
{
    for (int round = 0; round < 40; round++) {
        struct accepting accepting = {.listener = listener};
        pthread_t acceptor, stopper;
        char wanted[512];

        acceptor = conformance_thread(accept_one, &accepting);
        stopper = conformance_thread(shut_listener_down, listener);
        conformance_join(acceptor);
        conformance_join(stopper);
        ck_assert_int_eq(accepting.rc, -ECANCELED);
        transport_listener_close(listener);
        format_address(wanted, sizeof(wanted), subjects[loop_index]->address);
        listener = stream_listen(instance, wanted);
    }
}

TRANSPORT_TEST(a_listener_that_was_shut_down_takes_no_more_streams, NULL)
{
    struct drafter_error err = {0};

    transport_listener_shutdown(listener);
    conformance_expect_error(stream_refused(instance, address, 1000, &err), ECONNREFUSED, &err,
                             "nothing listens at ");
}

void transport_add_shutdown(TCase *tests)
{
    ADD(tests, shutdown_wakes_a_reader_and_a_writer);
    ADD(tests, shutdown_before_a_call_cancels_it);
    ADD(tests, the_peer_of_a_shutdown_reads_what_was_sent_and_the_end);
    ADD(tests, shutdown_is_never_missed);
    ADD(tests, listener_shutdown_wakes_every_accept);
    ADD(tests, listener_shutdown_is_never_missed);
    ADD(tests, a_listener_that_was_shut_down_takes_no_more_streams);
}

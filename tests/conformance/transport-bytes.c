/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes, waiting and back-pressure. */
#include "transport-subjects.h"

#include <signal.h>
#include <stdatomic.h>

/* ---- bytes ------------------------------------------------------------------------------------ */

#define VOLUME (3u << 20)

struct flow {
    struct transport_connection *connection;
    uint64_t seed;
};

static void *send_volume(void *argument)
{
    struct flow *flow = argument;
    unsigned char buffer[70001];
    uint64_t offset = 0;
    size_t size = 1;

    while (offset < VOLUME) {
        size_t length = size < VOLUME - offset ? size : VOLUME - offset;
        struct iovec vector[3];

        conformance_fill(buffer, length, flow->seed, offset);
        vector[0] = (struct iovec){.iov_base = buffer, .iov_len = length / 3};
        vector[1] = (struct iovec){.iov_base = buffer, .iov_len = 0};
        vector[2] = (struct iovec){.iov_base = buffer + length / 3, .iov_len = length - length / 3};
        ck_assert_int_eq(transport_writev_full(flow->connection, vector, 3), 0);
        offset += length;
        size = (size * 7 + 3) % sizeof(buffer) + 1;
    }
    return NULL;
}

static void *receive_volume(void *argument)
{
    struct flow *flow = argument;
    unsigned char buffer[50021];
    uint64_t offset = 0;
    size_t size = 1;

    while (offset < VOLUME) {
        size_t length = size < VOLUME - offset ? size : VOLUME - offset;
        ssize_t got = read_some(flow->connection, buffer, length);

        ck_assert_msg(got > 0, "read: %zd", got);
        ck_assert_msg(conformance_matches(buffer, (size_t)got, flow->seed, offset),
                      "wrong bytes after offset %llu", (unsigned long long)offset);
        offset += (uint64_t)got;
        size = (size * 5 + 1) % sizeof(buffer) + 1;
    }
    return NULL;
}

TRANSPORT_TEST(bytes_arrive_in_order_both_ways_at_once, NULL)
{
    struct stream stream = open_here();
    struct flow there = {.seed = 11}, back = {.seed = 12}, there_end, back_end;
    pthread_t threads[4];

    there.connection = back_end.connection = stream.near;
    back.connection = there_end.connection = stream.far;
    there_end.seed = there.seed;
    back_end.seed = back.seed;
    threads[0] = conformance_thread(send_volume, &there);
    threads[1] = conformance_thread(receive_volume, &there_end);
    threads[2] = conformance_thread(send_volume, &back);
    threads[3] = conformance_thread(receive_volume, &back_end);
    for (int i = 0; i < 4; i++)
        conformance_join(threads[i]);
    stream_close(&stream);
}

#define PIECES 3000

struct vector_flow {
    struct transport_connection *connection;
    unsigned char *bytes;
    size_t total;
};

static size_t piece_length(size_t index)
{
    return index % 11 == 0 ? 0 : index % 257;
}

static void *send_pieces(void *argument)
{
    struct vector_flow *flow = argument;
    cleanup_free struct iovec *vector = calloc(PIECES, sizeof(*vector));
    size_t offset = 0;

    for (size_t i = 0; i < PIECES; i++) {
        vector[i] = (struct iovec){.iov_base = flow->bytes + offset, .iov_len = piece_length(i)};
        offset += piece_length(i);
    }
    ck_assert_int_eq(transport_writev_full(flow->connection, vector, PIECES), 0);
    return NULL;
}

TRANSPORT_TEST(a_vector_of_thousands_of_pieces_goes_through, NULL)
{
    struct stream stream = open_here();
    struct vector_flow flow = {.connection = stream.near};
    cleanup_free unsigned char *received = NULL;
    pthread_t thread;

    for (size_t i = 0; i < PIECES; i++)
        flow.total += piece_length(i);
    flow.bytes = malloc(flow.total);
    received = malloc(flow.total);
    conformance_fill(flow.bytes, flow.total, 3, 0);
    thread = conformance_thread(send_pieces, &flow);
    ck_assert_int_eq(transport_read_full(stream.far, received, flow.total), 0);
    conformance_join(thread);
    ck_assert_int_eq(memcmp(received, flow.bytes, flow.total), 0);
    free(flow.bytes);
    stream_close(&stream);
}

/* The adapter cuts long vectors; a plugin called without it must cope as well. */
TRANSPORT_TEST(a_vector_beyond_the_limit_of_the_system_is_no_error, NULL)
{
    struct stream stream = open_here();
    cleanup_free struct iovec *vector = calloc(PIECES, sizeof(*vector));
    cleanup_free char *bytes = calloc(PIECES, 1);

    for (size_t i = 0; i < PIECES; i++)
        vector[i] = (struct iovec){.iov_base = bytes + i, .iov_len = i < 2000 ? 0 : 1};
    ck_assert_int_eq(stream_ops(instance)->writev(stream.near->data, vector, PIECES), 1000);
    ck_assert_int_eq(transport_read_full(stream.far, bytes, 1000), 0);
    for (size_t i = 0; i < PIECES; i++)
        vector[i].iov_len = 1;
    ck_assert_int_gt(stream_ops(instance)->writev(stream.near->data, vector, PIECES), 0);
    ck_assert_int_gt(stream_ops(instance)->readv(stream.far->data, vector, PIECES), 0);
    stream_close(&stream);
}

TRANSPORT_TEST(readv_fills_the_pieces_in_order, NULL)
{
    struct stream stream = open_here();
    char first[3] = "", second[8] = "";
    struct iovec vector[3] = {{.iov_base = first, .iov_len = 2},
                              {.iov_base = first, .iov_len = 0},
                              {.iov_base = second, .iov_len = 7}};

    ck_assert_int_eq(write_some(stream.near, "abcdef", 6), 6);
    conformance_sleep_ms(20);
    ck_assert_int_eq(transport_readv(stream.far, vector, 3), 6);
    ck_assert_str_eq(first, "ab");
    ck_assert_str_eq(second, "cdef");
    stream_close(&stream);
}

TRANSPORT_TEST(the_end_comes_after_the_last_byte_and_stays, NULL)
{
    struct stream stream = open_here();
    char buffer[16];

    ck_assert_int_eq(write_some(stream.near, "last", 4), 4);
    transport_close(stream.near);
    stream.near = NULL;
    ck_assert_int_eq(transport_read_full(stream.far, buffer, 4), 0);
    ck_assert_int_eq(read_some(stream.far, buffer, sizeof(buffer)), 0);
    ck_assert_int_eq(read_some(stream.far, buffer, sizeof(buffer)), 0);
    ck_assert_int_eq(transport_read_full(stream.far, buffer, 1), -ECONNRESET);
    stream_close(&stream);
}

TRANSPORT_TEST(writing_to_a_peer_that_left_fails_without_a_signal, NULL)
{
    struct stream stream = open_here();
    ssize_t done = 0;

    signal(SIGPIPE, SIG_DFL);
    transport_close(stream.far);
    stream.far = NULL;
    for (int i = 0; i < 100 && done >= 0; i++) {
        done = write_some(stream.near, "?", 1);
        conformance_sleep_ms(1);
    }
    ck_assert_msg(done == -EPIPE || done == -ECONNRESET, "%zd", done);
    stream_close(&stream);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

#define WAIT_MS 120

/* Writes until the timeout of the connection passes; the bytes that went in. */
static size_t write_until_full(struct transport_connection *connection)
{
    static const unsigned char buffer[16384];
    size_t total = 0;

    for (;;) {
        ssize_t done = write_some(connection, buffer, sizeof(buffer));

        if (done == -ETIMEDOUT)
            return total;
        ck_assert_msg(done > 0, "write: %zd", done);
        total += (size_t)done;
        ck_assert_msg(total < 64u << 20, "nothing holds a writer back");
    }
}

/* Times waits that should end after WAIT_MS: never early, and at least one of them in time. */
static void expect_timeouts(ssize_t (*wait)(struct transport_connection *),
                            struct transport_connection *connection)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < CONFORMANCE_ATTEMPTS && best > WAIT_MS + CONFORMANCE_LATE_MS; i++) {
        uint64_t start = drafter_now_ns(), took;

        ck_assert_int_eq(wait(connection), -ETIMEDOUT);
        took = (drafter_now_ns() - start + 500000) / 1000000;
        ck_assert_msg(took >= WAIT_MS, "it ended after %u ms", (unsigned)took);
        best = took < best ? took : best;
    }
    ck_assert_msg(best <= WAIT_MS + CONFORMANCE_LATE_MS, "it took %u ms", (unsigned)best);
}

static ssize_t wait_to_read(struct transport_connection *connection)
{
    char byte;

    return read_some(connection, &byte, 1);
}

static ssize_t wait_to_write(struct transport_connection *connection)
{
    return write_some(connection, "?", 1);
}

TRANSPORT_TEST(a_read_times_out_on_time_and_the_stream_goes_on, NULL)
{
    struct stream stream = open_here();

    ck_assert_int_eq(transport_set_timeout(stream.far, WAIT_MS), 0);
    expect_timeouts(wait_to_read, stream.far);
    ck_assert_int_eq(transport_set_timeout(stream.far, 0), 0);
    stream_check(&stream);
    stream_close(&stream);
}

TRANSPORT_TEST(a_write_times_out_on_time_and_the_buffers_are_bounded, SMALL)
{
    struct stream stream = open_here();
    size_t total;

    ck_assert_int_eq(transport_set_timeout(stream.near, WAIT_MS), 0);
    total = write_until_full(stream.near);
    ck_assert_msg(total < 2u << 20, "%zu bytes fit in small buffers", total);
    expect_timeouts(wait_to_write, stream.near);
    stream_close(&stream);
}

TRANSPORT_TEST(unread_bytes_are_bounded_with_default_buffers, NULL)
{
    struct stream stream = open_here();

    ck_assert_int_eq(transport_set_timeout(stream.near, 100), 0);
    write_until_full(stream.near); /* asserts the bound */
    stream_close(&stream);
}

static atomic_uint signals_caught;

static void caught(int number)
{
    (void)number;
    atomic_fetch_add(&signals_caught, 1);
}

static atomic_bool poking;

static void *poke(void *argument)
{
    while (atomic_load(&poking)) {
        pthread_kill(*(pthread_t *)argument, SIGUSR1);
        conformance_sleep_ms(7);
    }
    return NULL;
}

TRANSPORT_TEST(signals_neither_end_nor_prolong_a_wait, NULL)
{
    struct sigaction action = {.sa_handler = caught};
    struct stream stream = open_here();
    pthread_t self = pthread_self(), thread;

    sigaction(SIGUSR1, &action, NULL);
    ck_assert_int_eq(transport_set_timeout(stream.far, WAIT_MS), 0);
    atomic_store(&poking, true);
    thread = conformance_thread(poke, &self);
    while (atomic_load(&signals_caught) == 0)
        conformance_sleep_ms(1);
    expect_timeouts(wait_to_read, stream.far);
    atomic_store(&poking, false);
    conformance_join(thread);
    ck_assert_uint_gt(atomic_load(&signals_caught), 1);
    stream_close(&stream);
}

TRANSPORT_TEST(unsent_counts_what_the_peer_has_not_taken, SMALL)
{
    struct stream stream = open_here();
    unsigned char buffer[4096];
    ssize_t unsent = transport_unsent(stream.near);

    if (unsent == -ENOTSUP) {
        stream_close(&stream);
        return;
    }
    ck_assert_int_eq(unsent, 0);
    ck_assert_int_eq(transport_set_timeout(stream.near, 50), 0);
    write_until_full(stream.near);
    ck_assert_int_gt(transport_unsent(stream.near), 0);
    ck_assert_int_eq(transport_set_timeout(stream.far, 200), 0);
    while (read_some(stream.far, buffer, sizeof(buffer)) > 0)
        ;
    for (int i = 0; i < 200 && transport_unsent(stream.near) > 0; i++)
        conformance_sleep_ms(10);
    ck_assert_int_eq(transport_unsent(stream.near), 0);
    stream_close(&stream);
}

void transport_add_bytes(TCase *tests)
{
    ADD(tests, bytes_arrive_in_order_both_ways_at_once);
    ADD(tests, a_vector_of_thousands_of_pieces_goes_through);
    ADD(tests, a_vector_beyond_the_limit_of_the_system_is_no_error);
    ADD(tests, readv_fills_the_pieces_in_order);
    ADD(tests, the_end_comes_after_the_last_byte_and_stays);
    ADD(tests, writing_to_a_peer_that_left_fails_without_a_signal);
}

void transport_add_waiting(TCase *tests)
{
    ADD(tests, a_read_times_out_on_time_and_the_stream_goes_on);
    ADD(tests, a_write_times_out_on_time_and_the_buffers_are_bounded);
    ADD(tests, unread_bytes_are_bounded_with_default_buffers);
    ADD(tests, signals_neither_end_nor_prolong_a_wait);
    ADD(tests, unsent_counts_what_the_peer_has_not_taken);
}

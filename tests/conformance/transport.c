/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of drafter/transport.h, over every transport that was built.  Each test runs once per
 * subject in a process of its own; the fixture counts descriptors before and after, so that every test
 * is a leak test too.
 */
#include "transport.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

struct subject {
    const char *plugin;
    const char *address;         /* to listen at; %s stands for the scratch directory */
    const char *nothing;         /* an address at which nothing listens */
    const char *const *small;    /* options that make the buffers small, or NULL */
};

static const char *const tcp_small[] = {"send-buffer", "64k", "receive-buffer", "64k", NULL};
static const char *const unix_small[] = {"send-buffer", "64k", NULL};
static const char *const null_small[] = {"buffer-size", "64k", NULL};

static const struct subject all_subjects[] = {
    {"null", "here", "nowhere", null_small},
    {"tcp", "127.0.0.1:0", "127.0.0.1:1", tcp_small},
    {"unix", "%s/socket", "%s/nobody", unix_small},
};
#define ALL_SUBJECTS (sizeof(all_subjects) / sizeof(*all_subjects))

static const struct subject *subjects[ALL_SUBJECTS]; /* those that were built */
static unsigned subject_count;

/* ---- fixture and helpers ---------------------------------------------------------------------- */

static struct instance *instance;
static struct transport_listener *listener;
static char address[512];
static unsigned fds_before;
static bool was_open[256]; /* descriptors, before the instance was made */
static unsigned loop_index; /* of the test that runs */

static void format_address(char *buffer, size_t size, const char *format)
{
    if (strncmp(format, "%s", 2) == 0)
        snprintf(buffer, size, "%s%s", conformance_directory(), format + 2);
    else
        snprintf(buffer, size, "%s", format);
}

struct transport_listener *stream_listen(struct instance *on, const char *at)
{
    struct transport_listener *made = NULL;
    struct drafter_error err = {0};
    int rc = transport_listen(on, at, &made, &err);

    ck_assert_msg(rc == 0, "%s: %s", at, err.message);
    return made;
}

struct accepting {
    struct transport_listener *listener;
    struct transport_connection *connection;
    struct drafter_error err;
    int rc;
};

static void *accept_one(void *argument)
{
    struct accepting *accepting = argument;

    accepting->rc =
        transport_accept(accepting->listener, &accepting->connection, &accepting->err);
    return NULL;
}

struct stream stream_open(struct instance *on, struct transport_listener *at, const char *where)
{
    struct accepting accepting = {.listener = at};
    pthread_t thread = conformance_thread(accept_one, &accepting);
    struct stream stream = {0};
    struct drafter_error err = {0};
    int rc = transport_connect(on, where, 5000, &stream.near, &err);

    ck_assert_msg(rc == 0, "%s: %s", where, err.message);
    conformance_join(thread);
    ck_assert_msg(accepting.rc == 0, "accept: %s", accepting.err.message);
    stream.far = accepting.connection;
    ck_assert_int_eq(transport_set_timeout(stream.near, 10000), 0);
    ck_assert_int_eq(transport_set_timeout(stream.far, 10000), 0);
    return stream;
}

void stream_close(struct stream *stream)
{
    transport_close(stream->near);
    transport_close(stream->far);
    *stream = (struct stream){0};
}

static void pass_bytes(struct transport_connection *from, struct transport_connection *to,
                       uint64_t seed)
{
    unsigned char sent[1000], received[1000];
    struct iovec vector = {.iov_base = sent, .iov_len = sizeof(sent)};

    conformance_fill(sent, sizeof(sent), seed, 0);
    ck_assert_int_eq(transport_writev_full(from, &vector, 1), 0);
    ck_assert_int_eq(transport_read_full(to, received, sizeof(received)), 0);
    ck_assert(conformance_matches(received, sizeof(received), seed, 0));
}

void stream_check(struct stream *stream)
{
    pass_bytes(stream->near, stream->far, 1);
    pass_bytes(stream->far, stream->near, 2);
}

int stream_refused(struct instance *on, const char *where, unsigned timeout_ms,
                   struct drafter_error *err)
{
    struct transport_connection *connection = NULL;
    int rc = transport_connect(on, where, timeout_ms, &connection, err);

    ck_assert_msg(rc < 0, "%s: connected where nothing should listen", where);
    return rc;
}

static ssize_t read_some(struct transport_connection *connection, void *buffer, size_t length)
{
    struct iovec vector = {.iov_base = buffer, .iov_len = length};

    return transport_readv(connection, &vector, 1);
}

static ssize_t write_some(struct transport_connection *connection, const void *buffer, size_t length)
{
    struct iovec vector = {.iov_base = (void *)buffer, .iov_len = length};

    return transport_writev(connection, &vector, 1);
}

static struct stream open_here(void)
{
    return stream_open(instance, listener, address);
}

static void begin(const char *const *overrides)
{
    char wanted[512];

    format_address(wanted, sizeof(wanted), subjects[loop_index]->address);
    for (int fd = 0; fd < 256; fd++)
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    fds_before = conformance_open_fds();
    instance = conformance_instance(DRAFTER_KIND_TRANSPORT, subjects[loop_index]->plugin, overrides);
    listener = stream_listen(instance, wanted);
    ck_assert_int_eq(transport_listener_address(listener, address, sizeof(address)), 0);
}

static void end(void)
{
    if (listener) {
        transport_listener_shutdown(listener);
        transport_listener_close(listener);
    }
    listener = NULL;
    instance_free(instance);
    instance = NULL;
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
}

/* A test over all subjects, with the instance and the listener of the fixture. */
#define TRANSPORT_TEST(name, overrides)                                                            \
    static void name##_body(void);                                                                 \
    START_TEST(name)                                                                               \
    {                                                                                              \
        loop_index = (unsigned)_i;                                                                 \
        begin(overrides);                                                                          \
        name##_body();                                                                             \
        end();                                                                                     \
    }                                                                                              \
    END_TEST                                                                                       \
    static void name##_body(void)

#define SMALL (subjects[loop_index]->small)

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

/* ---- shutdown --------------------------------------------------------------------------------- */

struct waiting {
    struct transport_connection *connection;
    ssize_t result;
    uint64_t ended_ms;
};

static void *wait_reading(void *argument)
{
    struct waiting *waiting = argument;

    waiting->result = wait_to_read(waiting->connection);
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

/* ---- addresses and names ---------------------------------------------------------------------- */

TRANSPORT_TEST(connecting_to_nothing_fails_and_says_where, NULL)
{
    struct drafter_error err = {0};
    uint64_t start = conformance_now_ms();
    char nothing[512];
    int rc;

    format_address(nothing, sizeof(nothing), subjects[loop_index]->nothing);
    rc = stream_refused(instance, nothing, 1000, &err);
    ck_assert_uint_le(conformance_now_ms() - start, 1000 + CONFORMANCE_LATE_MS);
    ck_assert_msg(rc == -ECONNREFUSED || rc == -ENOENT, "%d", rc);
    ck_assert_msg(strstr(err.message, nothing), "%s", err.message);
    ck_assert_msg(strstr(err.message, "nothing listens at "), "%s", err.message);
}

TRANSPORT_TEST(an_address_in_use_is_refused_and_freed_by_close, NULL)
{
    struct transport_listener *second = NULL;
    struct drafter_error err = {0};

    conformance_expect_error(transport_listen(instance, address, &second, &err), EADDRINUSE, &err,
                             address);
    transport_listener_close(listener);
    listener = stream_listen(instance, address);
}

TRANSPORT_TEST(empty_addresses_are_refused, NULL)
{
    struct transport_listener *second = NULL;
    struct drafter_error err = {0};

    ck_assert_int_lt(stream_refused(instance, "", 1000, &err), 0);
    ck_assert_str_ne(err.message, "");
    err = (struct drafter_error){0};
    ck_assert_int_eq(transport_listen(instance, "", &second, &err), -EINVAL);
    ck_assert_str_ne(err.message, "");
}

TRANSPORT_TEST(both_ends_name_their_peer, NULL)
{
    struct stream stream = open_here();
    char name[512] = "", small[4] = {'x', 'x', 'x', 'x'};

    ck_assert_int_eq(transport_peer_name(stream.near, name, sizeof(name)), 0);
    ck_assert_msg(strstr(name, address), "\"%s\" does not name %s", name, address);
    ck_assert_int_eq(transport_peer_name(stream.far, name, sizeof(name)), 0);
    ck_assert_str_ne(name, "");
    transport_peer_name(stream.far, small, sizeof(small) - 1);
    ck_assert_int_eq(small[3], 'x');
    ck_assert_ptr_nonnull(memchr(small, '\0', sizeof(small) - 1));
    stream_close(&stream);
}

TRANSPORT_TEST(a_listener_address_that_does_not_fit_is_an_error, NULL)
{
    char small[3] = {'x', 'x', 'x'};

    ck_assert_int_lt(transport_listener_address(listener, small, 2), 0);
    ck_assert_int_eq(small[2], 'x');
}

/* ---- several of them -------------------------------------------------------------------------- */

#define MANY 150 /* beyond the backlog of null: accepting must make room */

TRANSPORT_TEST(many_connections_stay_apart, NULL)
{
    static struct stream streams[MANY];

    for (unsigned i = 0; i < MANY; i++)
        streams[i] = open_here();
    for (unsigned i = 0; i < MANY; i++) {
        unsigned sent = i, back = i + MANY;

        ck_assert_int_eq(write_some(streams[i].near, &sent, sizeof(sent)), sizeof(sent));
        ck_assert_int_eq(write_some(streams[i].far, &back, sizeof(back)), sizeof(back));
    }
    for (unsigned i = MANY; i-- > 0;) {
        unsigned received;

        ck_assert_int_eq(transport_read_full(streams[i].far, &received, sizeof(received)), 0);
        ck_assert_uint_eq(received, i);
        ck_assert_int_eq(transport_read_full(streams[i].near, &received, sizeof(received)), 0);
        ck_assert_uint_eq(received, i + MANY);
    }
    for (unsigned i = 0; i < MANY; i += 2)
        stream_close(&streams[i]);
    for (unsigned i = 1; i < MANY; i += 2) {
        stream_check(&streams[i]);
        stream_close(&streams[i]);
    }
}

TRANSPORT_TEST(streams_wait_until_they_are_accepted, NULL)
{
    struct transport_connection *near[20], *far[20];
    struct drafter_error err = {0};

    for (unsigned i = 0; i < 20; i++)
        ck_assert_msg(transport_connect(instance, address, 2000, &near[i], &err) == 0, "%s",
                      err.message);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(transport_accept(listener, &far[i], &err), 0);
    for (unsigned i = 0; i < 20; i++) {
        transport_close(near[i]);
        transport_close(far[i]);
    }
}

TRANSPORT_TEST(two_instances_work_at_once, NULL)
{
    const char *plugin = subjects[loop_index]->plugin;
    struct instance *other = conformance_instance(DRAFTER_KIND_TRANSPORT, plugin, NULL);
    struct transport_listener *other_listener;
    char wanted[512], other_address[512];
    struct stream first, second;

    format_address(wanted, sizeof(wanted), subjects[loop_index]->address);
    if (strstr(wanted, conformance_directory()))
        snprintf(wanted, sizeof(wanted), "%s", conformance_path("socket-2"));
    other_listener = stream_listen(other, wanted);
    ck_assert_int_eq(transport_listener_address(other_listener, other_address,
                                                sizeof(other_address)), 0);
    first = open_here();
    second = stream_open(other, other_listener, other_address);
    stream_check(&first);
    transport_listener_close(other_listener);
    stream_check(&second);
    stream_close(&second);
    instance_free(other);
    stream_check(&first);
    stream_close(&first);
}

TRANSPORT_TEST(descriptors_are_closed_on_exec, NULL)
{
    struct stream stream = open_here();

    for (int fd = 0; fd < 256; fd++)
        ck_assert_msg(was_open[fd] || fcntl(fd, F_GETFD) < 0 || fcntl(fd, F_GETFD) & FD_CLOEXEC,
                      "descriptor %d is inherited", fd);
    stream_close(&stream);
}

/* Connections outlive their listener. */
TRANSPORT_TEST(closing_a_listener_keeps_its_streams, NULL)
{
    struct stream stream = open_here();

    transport_listener_shutdown(listener);
    transport_listener_close(listener);
    listener = NULL;
    stream_check(&stream);
    stream_close(&stream);
}

/* ---- life ------------------------------------------------------------------------------------- */

/* What destroy finds: 0 nothing, 1 a listener, 2 a stream not accepted, 3 streams on both ends. */
static void destroy_in_phase(int phase)
{
    const struct subject *subject = subjects[loop_index];
    struct instance *doomed = conformance_instance(DRAFTER_KIND_TRANSPORT, subject->plugin, NULL);
    const struct drafter_transport_ops *ops = stream_ops(doomed);
    void *doomed_listener, *near, *far;
    struct drafter_error err = {0};
    char wanted[512];

    format_address(wanted, sizeof(wanted), subject->address);
    if (phase >= 1) {
        ck_assert_int_eq(ops->listen(doomed->data, wanted, &doomed_listener, &err), 0);
        ck_assert_int_eq(ops->listener_address(doomed_listener, wanted, sizeof(wanted)), 0);
    }
    if (phase >= 2)
        ck_assert_int_eq(ops->connect(doomed->data, wanted, 1000, &near, &err), 0);
    if (phase >= 3)
        ck_assert_int_eq(ops->accept(doomed->data, doomed_listener, &far, &err), 0);
    instance_free(doomed);
}

START_TEST(destroy_ends_whatever_is_open)
{
    unsigned before = conformance_open_fds();

    loop_index = (unsigned)_i;
    for (int phase = 0; phase <= 3; phase++) {
        destroy_in_phase(phase);
        ck_assert_msg(conformance_open_fds() == before, "phase %d leaks descriptors", phase);
    }
}
END_TEST

START_TEST(unknown_options_are_refused)
{
    const char *const overrides[] = {"no-such-option", "1", NULL};
    struct drafter_error err = {0};

    conformance_refused(DRAFTER_KIND_TRANSPORT, subjects[_i]->plugin, overrides, &err);
    ck_assert_msg(strstr(err.message, "no-such-option"), "%s", err.message);
}
END_TEST

START_TEST(every_option_is_documented)
{
    struct instance *made =
        conformance_instance(DRAFTER_KIND_TRANSPORT, subjects[_i]->plugin, NULL);
    const struct drafter_option *option = made->plugin->descriptor.options;

    for (; option && option->key; option++)
        ck_assert_msg(option->help && *option->help, "%s has no help", option->key);
    instance_free(made);
}
END_TEST

/* ---- all together ----------------------------------------------------------------------------- */

static TCase *new_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);

    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return tests;
}

#define ADD(tests, name) tcase_add_loop_test(tests, name, 0, (int)subject_count)

static void add_bytes(TCase *tests)
{
    ADD(tests, bytes_arrive_in_order_both_ways_at_once);
    ADD(tests, a_vector_of_thousands_of_pieces_goes_through);
    ADD(tests, a_vector_beyond_the_limit_of_the_system_is_no_error);
    ADD(tests, readv_fills_the_pieces_in_order);
    ADD(tests, the_end_comes_after_the_last_byte_and_stays);
    ADD(tests, writing_to_a_peer_that_left_fails_without_a_signal);
}

static void add_waiting(TCase *tests)
{
    ADD(tests, a_read_times_out_on_time_and_the_stream_goes_on);
    ADD(tests, a_write_times_out_on_time_and_the_buffers_are_bounded);
    ADD(tests, unread_bytes_are_bounded_with_default_buffers);
    ADD(tests, signals_neither_end_nor_prolong_a_wait);
    ADD(tests, unsent_counts_what_the_peer_has_not_taken);
}

static void add_shutdown(TCase *tests)
{
    ADD(tests, shutdown_wakes_a_reader_and_a_writer);
    ADD(tests, shutdown_before_a_call_cancels_it);
    ADD(tests, the_peer_of_a_shutdown_reads_what_was_sent_and_the_end);
    ADD(tests, shutdown_is_never_missed);
    ADD(tests, listener_shutdown_wakes_every_accept);
    ADD(tests, listener_shutdown_is_never_missed);
    ADD(tests, a_listener_that_was_shut_down_takes_no_more_streams);
}

static void add_names(TCase *tests)
{
    ADD(tests, connecting_to_nothing_fails_and_says_where);
    ADD(tests, an_address_in_use_is_refused_and_freed_by_close);
    ADD(tests, empty_addresses_are_refused);
    ADD(tests, both_ends_name_their_peer);
    ADD(tests, a_listener_address_that_does_not_fit_is_an_error);
}

static void add_several(TCase *tests)
{
    ADD(tests, many_connections_stay_apart);
    ADD(tests, streams_wait_until_they_are_accepted);
    ADD(tests, two_instances_work_at_once);
    ADD(tests, descriptors_are_closed_on_exec);
    ADD(tests, closing_a_listener_keeps_its_streams);
    ADD(tests, destroy_ends_whatever_is_open);
    ADD(tests, unknown_options_are_refused);
    ADD(tests, every_option_is_documented);
}

int main(void)
{
    Suite *suite = suite_create("transport");

    for (size_t i = 0; i < ALL_SUBJECTS; i++)
        if (conformance_available(DRAFTER_KIND_TRANSPORT, all_subjects[i].plugin))
            subjects[subject_count++] = &all_subjects[i];
    add_bytes(new_case(suite, "bytes"));
    add_waiting(new_case(suite, "waiting"));
    add_shutdown(new_case(suite, "shutdown"));
    add_names(new_case(suite, "names"));
    add_several(new_case(suite, "several"));
    for (unsigned i = 0; i < subject_count; i++) {
        if (strcmp(subjects[i]->plugin, "tcp") == 0)
            suite_add_tcase(suite, transport_tcp_case());
        if (strcmp(subjects[i]->plugin, "unix") == 0)
            suite_add_tcase(suite, transport_unix_case());
    }
    return conformance_run(suite, subject_count);
}

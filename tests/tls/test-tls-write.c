/* SPDX-License-Identifier: BSD-2-Clause */
/* What is written over a transport that fails in the middle: no two records ever have the same number. */
#include "../unit/unit.h"
#include "connection.h"

#include <errno.h>

#define WIRE_SIZE (4 * TLS_BATCH_SIZE)

static struct {
    uint8_t *bytes; /* that the transport below took */
    size_t length;
    size_t takes; /* so many more, then it fails */
    int failure;  /* with this */
} wire;
static struct tls_instance instance;
static struct tls_connection *connection;
static uint8_t data[TLS_BATCH * TLS_PLAINTEXT_MAX];

static ssize_t wire_writev(void *below, const struct iovec *vector, int count)
{
    size_t part = vector->iov_len < wire.takes ? vector->iov_len : wire.takes;

    (void)below, (void)count;
    if (!part) {
        wire.takes = WIRE_SIZE; /* the next time it goes on as if nothing had been */
        return wire.failure;
    }
    ck_assert_uint_le(wire.length + part, WIRE_SIZE);
    memcpy(wire.bytes + wire.length, vector->iov_base, part);
    wire.length += part;
    wire.takes -= part;
    return (ssize_t)part;
}

static int wire_set_timeout(void *below, unsigned timeout_ms)
{
    (void)below, (void)timeout_ms;
    return 0;
}

static void wire_close(void *below)
{
    (void)below;
}

static void setup(void)
{
    static const struct drafter_transport_ops ops = {
        .writev = wire_writev, .set_timeout = wire_set_timeout, .shutdown = wire_close, .close = wire_close};
    static const struct tls_config config = {.rekey_after = UINT64_C(1) << 40};
    static const uint8_t secret[TLS_HASH_SIZE] = {1};

    ck_assert_int_ge(sodium_init(), 0);
    wire.bytes = malloc(WIRE_SIZE);
    wire.length = 0;
    ck_assert_ptr_nonnull(wire.bytes);
    instance = (struct tls_instance){.config = &config, .next = &ops};
    pthread_mutex_init(&instance.lock, NULL);
    tls_vault_init(&instance.vault);
    connection = tls_connection_new(&instance, &wire);
    ck_assert_ptr_nonnull(connection);
    ck_assert_int_eq(tls_connection_reserve(connection), 0);
    tls_keys_set(&connection->secrets->send, secret);
    randombytes_buf(data, sizeof(data));
}

static void teardown(void)
{
    tls_close(connection);
    tls_vault_release(&instance.vault);
    pthread_mutex_destroy(&instance.lock);
    free(wire.bytes);
}

static ssize_t write_data(size_t from)
{
    return tls_writev(connection, &(struct iovec){data + from, sizeof(data) - from}, 1);
}

/* In the middle of the third record. */
static void fail_with(int failure)
{
    wire.takes = 2 * TLS_SEALED_SIZE(TLS_PLAINTEXT_MAX) + 1000;
    wire.failure = failure;
}

/* It may have taken more than it says: other bytes under the numbers of those would give both away. */
START_TEST(after_a_failure_nothing_is_sealed_any_more)
{
    size_t before;

    fail_with(-EIO);
    ck_assert_int_eq(write_data(0), -EIO);
    before = wire.length;
    ck_assert_int_eq(write_data(100), -EPIPE);
    ck_assert_uint_eq(wire.length, before);
}
END_TEST

START_TEST(after_a_timeout_it_goes_on_where_it_was)
{
    struct tls_keys keys = connection->secrets->send;
    struct tls_opened opened;
    size_t done = 0, taken = 0;
    uint8_t *content = malloc(sizeof(data) + TLS_PLAINTEXT_MAX);

    ck_assert_ptr_nonnull(content);
    fail_with(-ETIMEDOUT);
    while (done < sizeof(data)) {
        ssize_t rc = write_data(done);

        ck_assert_int_gt(rc, 0);
        done += (size_t)rc;
    }
    for (size_t at = 0; at < wire.length;) {
        size_t length = TLS_RECORD_HEADER + ((size_t)wire.bytes[at + 3] << 8 | wire.bytes[at + 4]);

        ck_assert_int_eq(tls_open(&keys, wire.bytes + at, length, &opened), TLS_OK);
        ck_assert_uint_le(taken + opened.length, sizeof(data));
        tls_take(&keys, &opened, content + taken, opened.length);
        taken += opened.length;
        at += length;
    }
    ck_assert_uint_eq(taken, sizeof(data));
    ck_assert_int_eq(memcmp(content, data, sizeof(data)), 0);
    free(content);
}
END_TEST

/* The rest of a record that was begun has gone with its old content: other bytes in its place would be lost. */
START_TEST(after_a_timeout_other_bytes_are_refused)
{
    size_t done;

    fail_with(-ETIMEDOUT);
    done = (size_t)write_data(0);
    ck_assert_uint_eq(done, 2 * TLS_PLAINTEXT_MAX);
    data[done + 100] ^= 1;
    ck_assert_int_eq(write_data(done), -EIO);
    ck_assert_int_eq(write_data(done), -EPIPE);
}
END_TEST

/* To whoever wrote it, it failed: a peer that gets it all the same would act upon what is taken back here. */
START_TEST(what_timed_out_does_not_arrive_with_the_end)
{
    struct iovec commit = {data, 48};

    wire.takes = 10;
    wire.failure = -ETIMEDOUT;
    ck_assert_int_eq(tls_writev(connection, &commit, 1), -ETIMEDOUT);
    ck_assert_uint_eq(wire.length, 10);
    tls_shutdown(connection);
    ck_assert_uint_eq(wire.length, 10);
}
END_TEST

START_TEST(what_is_written_whole_ends_with_close_notify)
{
    struct iovec whole = {data, 48};
    size_t before;

    wire.takes = WIRE_SIZE;
    ck_assert_int_eq(tls_writev(connection, &whole, 1), 48);
    before = wire.length;
    tls_shutdown(connection);
    ck_assert_uint_eq(wire.length, before + TLS_SEALED_SIZE(2));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, after_a_failure_nothing_is_sealed_any_more);
    tcase_add_test(tests, after_a_timeout_other_bytes_are_refused);
    tcase_add_test(tests, after_a_timeout_it_goes_on_where_it_was);
    tcase_add_test(tests, what_timed_out_does_not_arrive_with_the_end);
    tcase_add_test(tests, what_is_written_whole_ends_with_close_notify);
}

int main(void)
{
    return unit_run("tls-write", add_tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The transport adapter and what a layer gets of it, over the null transport. */
#include "unit-plugin.h"

#include "plugin/transport.h"
#include <pthread.h>

struct wire {
    struct instance *transport;
    const struct drafter_transport_ops *ops; /* as a layer sees it */
    void *next, *listener, *near, *far;
};

static void *accept_one(void *opaque)
{
    struct wire *wire = opaque;

    ck_assert_int_eq(wire->ops->accept(wire->next, wire->listener, &wire->far, NULL), 0);
    return NULL;
}

static void open_wire(struct wire *wire)
{
    struct drafter_error err = {0};
    pthread_t thread;

    memset(wire, 0, sizeof(*wire));
    ck_assert_msg(instance_new(DRAFTER_KIND_TRANSPORT, NULL, "null", NULL, "wire", "/tmp", NULL,
                               &wire->transport, &err) == 0,
                  "%s", err.message);
    wire->ops = drafter_next_transport(wire->transport, &wire->next);
    ck_assert_ptr_nonnull(wire->ops);
    ck_assert_int_eq(wire->ops->listen(wire->next, "unit", &wire->listener, &err), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, accept_one, wire), 0);
    ck_assert_msg(wire->ops->connect(wire->next, "unit", 5000, &wire->near, &err) == 0, "%s",
                  err.message);
    pthread_join(thread, NULL);
}

static void close_wire(struct wire *wire)
{
    wire->ops->close(wire->near);
    wire->ops->close(wire->far);
    wire->ops->listener_shutdown(wire->listener);
    wire->ops->listener_close(wire->listener);
    instance_free(wire->transport);
}

START_TEST(a_layer_carries_bytes_both_ways)
{
    struct wire wire;
    char buffer[64] = "";
    struct iovec out = {"hello", 5}, in = {buffer, sizeof(buffer)};

    open_wire(&wire);
    ck_assert_int_eq(wire.ops->writev(wire.near, &out, 1), 5);
    ck_assert_int_eq(wire.ops->readv(wire.far, &in, 1), 5);
    ck_assert_str_eq(buffer, "hello");
    ck_assert_int_eq(wire.ops->writev(wire.far, &out, 1), 5);
    ck_assert_int_eq(wire.ops->readv(wire.near, &in, 1), 5);
    ck_assert_int_eq(wire.ops->peer_name(wire.near, buffer, sizeof(buffer)), 0);
    ck_assert_int_eq(wire.ops->listener_address(wire.listener, buffer, sizeof(buffer)), 0);
    ck_assert_str_eq(buffer, "unit");
    close_wire(&wire);
}
END_TEST

#define PIECES 3000 /* more than one writev takes */

struct writer {
    void *connection;
    int ret;
};

static void *write_pieces(void *opaque)
{
    struct writer *writer = opaque;
    cleanup_free struct iovec *vector = calloc(PIECES, sizeof(*vector));

    for (int i = 0; i < PIECES; i++) /* every third is empty */
        vector[i] = (struct iovec){"abcdefghij", i % 3 ? (size_t)(i % 10) : 0};
    writer->ret = transport_writev_full(writer->connection, vector, PIECES);
    return NULL;
}

START_TEST(whole_transfers_survive_short_ones)
{
    struct writer writer = {0};
    struct wire wire;
    char buffer[16];
    pthread_t thread;

    open_wire(&wire);
    writer.connection = wire.near; /* a layer's connection is the adapter's */
    ck_assert_int_eq(pthread_create(&thread, NULL, write_pieces, &writer), 0);
    for (int i = 0; i < PIECES; i++) {
        size_t length = i % 3 ? (size_t)(i % 10) : 0;

        ck_assert_int_eq(transport_read_full(wire.far, buffer, length), 0);
        ck_assert_int_eq(memcmp(buffer, "abcdefghij", length), 0);
    }
    pthread_join(thread, NULL);
    ck_assert_int_eq(writer.ret, 0);
    close_wire(&wire);
}
END_TEST

START_TEST(an_early_end_is_a_reset)
{
    struct wire wire;
    struct iovec out = {"abc", 3};
    char buffer[4];

    open_wire(&wire);
    ck_assert_int_eq(transport_writev_full(wire.near, &out, 1), 0);
    transport_shutdown(wire.near);
    ck_assert_int_eq(transport_read_full(wire.far, buffer, 4), -ECONNRESET);
    close_wire(&wire);
}
END_TEST

START_TEST(a_time_limit_holds)
{
    struct wire wire;
    char byte;

    open_wire(&wire);
    ck_assert_int_eq(wire.ops->set_timeout(wire.far, 20), 0);
    ck_assert_int_eq(transport_read_full(wire.far, &byte, 1), -ETIMEDOUT);
    close_wire(&wire);
}
END_TEST

START_TEST(a_failed_connect_has_a_sentence)
{
    struct transport_connection *connection = NULL;
    struct drafter_error err = {0};
    struct wire wire;

    open_wire(&wire);
    ck_assert_int_lt(transport_connect(wire.transport, "nobody", 20, &connection, &err), 0);
    ck_assert_ptr_null(connection);
    ck_assert(err.code && *err.message);
    transport_close(NULL);
    close_wire(&wire);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_layer_carries_bytes_both_ways);
    tcase_add_test(tests, whole_transfers_survive_short_ones);
    tcase_add_test(tests, an_early_end_is_a_reset);
    tcase_add_test(tests, a_time_limit_holds);
    tcase_add_test(tests, a_failed_connect_has_a_sentence);
}

int main(void)
{
    return unit_run_over(DRAFTER_KIND_TRANSPORT, "null", "plugin-transport", add_tests);
}

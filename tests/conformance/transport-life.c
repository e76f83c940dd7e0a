/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses, names, several instances and streams, and the end of instances. */
#include "transport-subjects.h"

#include <fcntl.h>
#include <stdio.h>

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
    struct instance *other = subject_instance(subjects[loop_index], NULL);
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
    subject_free(other);
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
    struct instance *doomed = subject_instance(subject, NULL);
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
    subject_free(doomed);
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
    struct instance *made = subject_instance(subjects[_i], NULL);
    const struct drafter_option *option = made->plugin->descriptor.options;

    for (; option && option->key; option++)
        ck_assert_msg(option->help && *option->help, "%s has no help", option->key);
    subject_free(made);
}
END_TEST

void transport_add_names(TCase *tests)
{
    ADD(tests, connecting_to_nothing_fails_and_says_where);
    ADD(tests, an_address_in_use_is_refused_and_freed_by_close);
    ADD(tests, empty_addresses_are_refused);
    ADD(tests, both_ends_name_their_peer);
    ADD(tests, a_listener_address_that_does_not_fit_is_an_error);
}

void transport_add_several(TCase *tests)
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

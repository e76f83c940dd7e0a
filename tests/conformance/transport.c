/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of drafter/transport.h, over every transport that was built: subjects and fixture.  The
 * tests are in transport-*.c.  Each runs once per subject in a process of its own; the fixture counts
 * descriptors before and after, so that every test is a leak test too.
 */
#include "transport-subjects.h"

#include "trust/keygen.h"
#include "trust/trust.h"
#include <fcntl.h>
#include <stdio.h>

static const char *const tcp_small[] = {"send-buffer", "64k", "receive-buffer", "64k", NULL};
static const char *const unix_small[] = {"send-buffer", "64k", NULL};
static const char *const null_small[] = {"buffer-size", "64k", NULL};

static const struct subject all_subjects[] = {
    {"null", NULL, "here", "nowhere", null_small},
    {"tcp", NULL, "127.0.0.1:0", "127.0.0.1:1", tcp_small},
    {"unix", NULL, "%s/socket", "%s/nobody", unix_small},
    {"tls", "null", "here", "nowhere", null_small},
    {"tls", "tcp", "127.0.0.1:0", "127.0.0.1:1", tcp_small},
    {"tls", "unix", "%s/socket", "%s/nobody", unix_small},
};
#define ALL_SUBJECTS (sizeof(all_subjects) / sizeof(*all_subjects))

const struct subject *subjects[ALL_SUBJECTS];
unsigned subject_count;

/* ---- fixture and helpers ---------------------------------------------------------------------- */

struct instance *instance;
struct transport_listener *listener;
char address[512];
static unsigned fds_before;
bool was_open[256]; /* descriptors, before the instance was made */
unsigned loop_index;

void format_address(char *buffer, size_t size, const char *format)
{
    if (strncmp(format, "%s", 2) == 0)
        snprintf(buffer, size, "%s%s", conformance_directory(), format + 2);
    else
        snprintf(buffer, size, "%s", format);
}

/* The key of layers that need one; they trust themselves. */
static const char *layer_key(void)
{
    static char path[512];
    char identity[DRAFTER_IDENTITY_SIZE];
    const struct trust_key self = {.name = "self", .identity = identity, .may = "", .vms = "*"};
    struct drafter_error err = {0};

    if (path[0])
        return path;
    snprintf(path, sizeof(path), "%s/self", conformance_directory());
    trust_use(conformance_path("trust.ini"));
    if (keygen_write(path, identity, &err) || trust_add(trust_path(), &self, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    strncat(path, ".key", sizeof(path) - strlen(path) - 1);
    return path;
}

struct instance *subject_instance(const struct subject *subject, const char *const *overrides)
{
    struct instance *below, *made = NULL;
    struct drafter_error err = {0};
    int rc;

    if (!subject->below)
        return conformance_instance(DRAFTER_KIND_TRANSPORT, subject->plugin, overrides);
    below = conformance_instance(DRAFTER_KIND_TRANSPORT, subject->below, overrides);
    rc = instance_new(DRAFTER_KIND_TRANSPORT, NULL, subject->plugin,
                      (const char *const[]){"key", layer_key(), NULL}, subject->plugin,
                      conformance_directory(), below, &made, &err);
    ck_assert_msg(rc == 0, "%s over %s: %s", subject->plugin, subject->below, err.message);
    return made;
}

void subject_free(struct instance *made)
{
    struct instance *below = made ? made->next : NULL;

    instance_free(made);
    instance_free(below);
}

struct transport_listener *stream_listen(struct instance *on, const char *at)
{
    struct transport_listener *made = NULL;
    struct drafter_error err = {0};
    int rc = transport_listen(on, at, &made, &err);

    ck_assert_msg(rc == 0, "%s: %s", at, err.message);
    return made;
}

void *accept_one(void *argument)
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

ssize_t read_some(struct transport_connection *connection, void *buffer, size_t length)
{
    struct iovec vector = {.iov_base = buffer, .iov_len = length};

    return transport_readv(connection, &vector, 1);
}

ssize_t write_some(struct transport_connection *connection, const void *buffer, size_t length)
{
    struct iovec vector = {.iov_base = (void *)buffer, .iov_len = length};

    return transport_writev(connection, &vector, 1);
}

struct stream open_here(void)
{
    return stream_open(instance, listener, address);
}

void transport_begin(const char *const *overrides)
{
    char wanted[512];

    format_address(wanted, sizeof(wanted), subjects[loop_index]->address);
    for (int fd = 0; fd < 256; fd++)
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    fds_before = conformance_open_fds();
    instance = subject_instance(subjects[loop_index], overrides);
    listener = stream_listen(instance, wanted);
    ck_assert_int_eq(transport_listener_address(listener, address, sizeof(address)), 0);
}

void transport_end(void)
{
    if (listener) {
        transport_listener_shutdown(listener);
        transport_listener_close(listener);
    }
    listener = NULL;
    subject_free(instance);
    instance = NULL;
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
}

/* ---- all together ----------------------------------------------------------------------------- */

static TCase *new_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);

    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("transport");

    for (size_t i = 0; i < ALL_SUBJECTS; i++)
        if (conformance_available(DRAFTER_KIND_TRANSPORT, all_subjects[i].plugin) &&
            (!all_subjects[i].below ||
             conformance_available(DRAFTER_KIND_TRANSPORT, all_subjects[i].below)))
            subjects[subject_count++] = &all_subjects[i];
    layer_key(); /* before the tests, which are processes of their own */
    transport_add_bytes(new_case(suite, "bytes"));
    transport_add_waiting(new_case(suite, "waiting"));
    transport_add_shutdown(new_case(suite, "shutdown"));
    transport_add_names(new_case(suite, "names"));
    transport_add_several(new_case(suite, "several"));
    for (unsigned i = 0; i < subject_count; i++) {
        if (strcmp(subjects[i]->plugin, "tcp") == 0)
            suite_add_tcase(suite, transport_tcp_case());
        if (strcmp(subjects[i]->plugin, "unix") == 0)
            suite_add_tcase(suite, transport_unix_case());
    }
    return conformance_run(suite, subject_count);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the unix transport promises: how it treats paths, permissions and abstract names. */
#include "transport.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct instance *transport;
static unsigned fds_before;
static char path[512];

static void begin(void)
{
    fds_before = conformance_open_fds();
    transport = conformance_instance(DRAFTER_KIND_TRANSPORT, "unix", NULL);
    snprintf(path, sizeof(path), "%s", conformance_path("u"));
    unlink(path);
}

static void end(void)
{
    instance_free(transport);
    unlink(path);
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
}

/* A socket bound to `path` by somebody else; it listens with `backlog` unless that is negative. */
static int foreign_socket(int type, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (backlog >= 0)
        ck_assert_int_eq(listen(fd, backlog), 0);
    return fd;
}

static ino_t inode_of(const char *file)
{
    struct stat info = {0};

    return lstat(file, &info) == 0 ? info.st_ino : 0;
}

static void expect_listening_refused(int code, const char *fragment)
{
    struct transport_listener *listener = NULL;
    struct drafter_error err = {0};
    ino_t before = inode_of(path);

    conformance_expect_error(transport_listen(transport, path, &listener, &err), code, &err,
                             fragment);
    ck_assert_msg(inode_of(path) == before, "what was there is gone");
}

static void expect_working(struct instance *on, const char *address)
{
    struct transport_listener *listener = stream_listen(on, address);
    struct stream stream = stream_open(on, listener, address);

    stream_check(&stream);
    stream_close(&stream);
    transport_listener_close(listener);
}

START_TEST(a_stale_socket_is_replaced)
{
    close(foreign_socket(SOCK_STREAM, 1));
    ck_assert_uint_ne(inode_of(path), 0);
    expect_working(transport, path);
}
END_TEST

START_TEST(a_socket_that_answers_is_left_alone)
{
    int fd = foreign_socket(SOCK_STREAM, 4);

    expect_listening_refused(EADDRINUSE, "another process listens at ");
    close(fd);
}
END_TEST

START_TEST(a_busy_socket_is_left_alone)
{
    int fd = foreign_socket(SOCK_STREAM, 0), filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, path, strlen(path) + 1);
    ck_assert_int_eq(connect(filler, (struct sockaddr *)&address, sizeof(address)), 0);
    expect_listening_refused(EADDRINUSE, "another process listens at ");
    close(filler);
    close(fd);
}
END_TEST

START_TEST(a_socket_of_another_type_is_left_alone)
{
    int fd = foreign_socket(SOCK_DGRAM, -1);

    expect_listening_refused(EADDRINUSE, "another process listens at ");
    close(fd);
}
END_TEST

START_TEST(what_is_not_a_socket_is_left_alone)
{
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    expect_listening_refused(EEXIST, "is not a socket");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    expect_listening_refused(EEXIST, "is not a socket");
    rmdir(path);
    ck_assert_int_eq(symlink("/nowhere", path), 0);
    expect_listening_refused(EEXIST, "is not a socket");
}
END_TEST

START_TEST(long_paths_are_refused)
{
    struct transport_listener *listener = NULL;
    struct drafter_error err = {0};
    char address[2000];

    memset(address, 'x', sizeof(address) - 1);
    address[0] = '/';
    address[sizeof(address) - 1] = '\0';
    conformance_expect_error(transport_listen(transport, address, &listener, &err), ENAMETOOLONG,
                             &err, "at most 107");
    address[108] = '\0';
    conformance_expect_error(stream_refused(transport, address, 1000, &err), ENAMETOOLONG, &err,
                             "at most 107");
    address[0] = '@';
    address[107] = '\0'; /* the longest that fits */
    expect_working(transport, address);
}
END_TEST

START_TEST(a_missing_directory_is_named)
{
    struct transport_listener *listener = NULL;
    struct drafter_error err = {0};

    conformance_expect_error(
        transport_listen(transport, conformance_path("none/u"), &listener, &err), ENOENT, &err,
        "/none");
}
END_TEST

static void expect_mode(const char *mode, mode_t expected)
{
    const char *const overrides[] = {"mode", mode, NULL};
    struct instance *made = conformance_instance(DRAFTER_KIND_TRANSPORT, "unix", overrides);
    struct transport_listener *listener = stream_listen(made, path);
    struct stat info;

    ck_assert_int_eq(lstat(path, &info), 0);
    ck_assert_msg((info.st_mode & 07777) == expected, "mode %s made %o", mode,
                  info.st_mode & 07777);
    transport_listener_close(listener);
    instance_free(made);
}

START_TEST(the_mode_is_exact_whatever_the_umask)
{
    umask(077);
    expect_mode("0600", 0600);
    expect_mode("660", 0660);
    expect_mode("0666", 0666);
    umask(0);
    expect_mode("0600", 0600);
    expect_mode("0", 0);
}
END_TEST

static const char *const bad_modes[] = {"", "rw", "0777", "0608", "-1", "00600", "1666"};

START_TEST(bad_modes_are_refused)
{
    const char *const overrides[] = {"mode", bad_modes[_i], NULL};
    struct drafter_error err = {0};

    conformance_refused(DRAFTER_KIND_TRANSPORT, "unix", overrides, &err);
    ck_assert_msg(strstr(err.message, "mode"), "%s", err.message);
}
END_TEST

START_TEST(closing_removes_the_socket)
{
    struct transport_listener *listener = stream_listen(transport, path);

    ck_assert_uint_ne(inode_of(path), 0);
    transport_listener_shutdown(listener);
    transport_listener_close(listener);
    ck_assert_uint_eq(inode_of(path), 0);
}
END_TEST

START_TEST(closing_leaves_the_socket_of_a_successor)
{
    struct transport_listener *listener = stream_listen(transport, path), *successor;
    ino_t inode;

    transport_listener_shutdown(listener); /* nobody answers any more */
    successor = stream_listen(transport, path);
    inode = inode_of(path);
    transport_listener_close(listener);
    ck_assert_uint_eq(inode_of(path), inode);
    transport_listener_close(successor);
    ck_assert_uint_eq(inode_of(path), 0);
}
END_TEST

struct starter {
    pthread_barrier_t *barrier;
    struct transport_listener *listener;
};

static void *start_listening(void *argument)
{
    struct starter *starter = argument;
    struct drafter_error err = {0};

    pthread_barrier_wait(starter->barrier);
    if (transport_listen(transport, path, &starter->listener, &err) < 0)
        starter->listener = NULL;
    return NULL;
}

START_TEST(of_many_starters_on_a_stale_socket_one_wins)
{
    for (int round = 0; round < 20; round++) {
        struct starter starters[4];
        pthread_t threads[4];
        pthread_barrier_t barrier;
        unsigned winners = 0;

        close(foreign_socket(SOCK_STREAM, 1));
        pthread_barrier_init(&barrier, NULL, 4);
        for (int i = 0; i < 4; i++) {
            starters[i] = (struct starter){.barrier = &barrier};
            threads[i] = conformance_thread(start_listening, &starters[i]);
        }
        for (int i = 0; i < 4; i++) {
            conformance_join(threads[i]);
            winners += starters[i].listener != NULL;
        }
        ck_assert_uint_eq(winners, 1);
        ck_assert_uint_ne(inode_of(path), 0);
        for (int i = 0; i < 4; i++)
            if (starters[i].listener)
                transport_listener_close(starters[i].listener);
        pthread_barrier_destroy(&barrier);
    }
}
END_TEST

START_TEST(abstract_names_work_and_leave_nothing)
{
    char name[64];

    snprintf(name, sizeof(name), "@conformance-%ld", (long)getpid());
    expect_working(transport, name);
    expect_working(transport, name);
    ck_assert_uint_eq(inode_of(name), 0);
}
END_TEST

/* As another user: 0 when the listener lets us in, 1 when the stream ends at once. */
static int connect_as_nobody(const char *name)
{
    struct transport_connection *connection;
    struct drafter_error err = {0};
    char byte;

    if (setgid(65534) < 0 || setuid(65534) < 0)
        return 2;
    if (transport_connect(transport, name, 1000, &connection, &err) < 0)
        return 3;
    return transport_read_full(connection, &byte, 1) == 0 ? 0 : 1;
}

static int knock(const char *mode)
{
    const char *const overrides[] = {"mode", mode, NULL};
    struct instance *made = conformance_instance(DRAFTER_KIND_TRANSPORT, "unix", overrides);
    struct transport_listener *listener;
    struct transport_connection *connection = NULL;
    struct drafter_error err = {0};
    struct iovec vector = {.iov_base = "!", .iov_len = 1};
    char name[64];
    int status = -1;
    pid_t child;

    snprintf(name, sizeof(name), "@conformance-%ld", (long)getpid());
    listener = stream_listen(made, name);
    child = fork();
    if (child == 0)
        _exit(connect_as_nobody(name));
    if (strcmp(mode, "0600") == 0) { /* this accept must pass the child over */
        struct stream stream;

        conformance_sleep_ms(50);
        stream = stream_open(made, listener, name);
        stream_check(&stream);
        stream_close(&stream);
    } else {
        ck_assert_int_eq(transport_accept(listener, &connection, &err), 0);
        ck_assert_int_eq(transport_writev_full(connection, &vector, 1), 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    transport_close(connection);
    transport_listener_close(listener);
    instance_free(made);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(the_mode_guards_abstract_names_too)
{
    if (geteuid() != 0) {
        printf("permissions of abstract names are not tested: that needs root\n");
        return;
    }
    ck_assert_int_eq(knock("0600"), 1);
    ck_assert_int_eq(knock("0666"), 0);
}
END_TEST

START_TEST(connecting_to_a_full_queue_times_out_on_time)
{
    int fd = foreign_socket(SOCK_STREAM, 0);
    struct transport_connection *filler;
    struct drafter_error err = {0};
    uint64_t best = UINT64_MAX;

    ck_assert_int_eq(transport_connect(transport, path, 1000, &filler, &err), 0);
    for (int i = 0; i < CONFORMANCE_ATTEMPTS && best > 150 + CONFORMANCE_LATE_MS; i++) {
        uint64_t start = drafter_now_ns(), took;

        conformance_expect_error(stream_refused(transport, path, 150, &err), ETIMEDOUT, &err,
                                 "within 150 ms");
        took = (drafter_now_ns() - start + 500000) / 1000000;
        ck_assert_uint_ge(took, 150);
        best = took < best ? took : best;
    }
    ck_assert_uint_le(best, 150 + CONFORMANCE_LATE_MS);
    transport_close(filler);
    close(fd);
}
END_TEST

START_TEST(a_stale_socket_does_not_answer_connects)
{
    struct drafter_error err = {0};

    close(foreign_socket(SOCK_STREAM, 1));
    conformance_expect_error(stream_refused(transport, path, 1000, &err), ECONNREFUSED, &err,
                             "nothing listens at ");
}
END_TEST

START_TEST(peers_are_named_by_process_and_user)
{
    struct transport_listener *listener = stream_listen(transport, path);
    struct stream stream = stream_open(transport, listener, path);
    char name[512], expected[700];

    snprintf(expected, sizeof(expected), "%s (pid %ld, uid %ld)", path, (long)getpid(),
             (long)getuid());
    ck_assert_int_eq(transport_peer_name(stream.near, name, sizeof(name)), 0);
    ck_assert_str_eq(name, expected);
    ck_assert_int_eq(transport_peer_name(stream.far, name, sizeof(name)), 0);
    ck_assert_str_eq(name, expected);
    stream_close(&stream);
    transport_listener_close(listener);
}
END_TEST

START_TEST(the_send_buffer_is_set_at_both_ends)
{
    static const char *const overrides[] = {"send-buffer", "40k", NULL};
    struct instance *tuned = conformance_instance(DRAFTER_KIND_TRANSPORT, "unix", overrides);
    struct transport_listener *listener = stream_listen(tuned, path);
    struct stream stream = stream_open(tuned, listener, path);
    unsigned found = 0;

    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof(peer), size = sizeof(int);
        int value = 0;

        if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.ss_family == AF_UNIX &&
            getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, &size) == 0 && value == 80 << 10)
            found++;
    }
    ck_assert_uint_eq(found, 2);
    stream_close(&stream);
    transport_listener_close(listener);
    instance_free(tuned);
}
END_TEST

TCase *transport_unix_case(void)
{
    TCase *tests = tcase_create("unix");

    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, a_stale_socket_is_replaced);
    tcase_add_test(tests, a_socket_that_answers_is_left_alone);
    tcase_add_test(tests, a_busy_socket_is_left_alone);
    tcase_add_test(tests, a_socket_of_another_type_is_left_alone);
    tcase_add_test(tests, what_is_not_a_socket_is_left_alone);
    tcase_add_test(tests, long_paths_are_refused);
    tcase_add_test(tests, a_missing_directory_is_named);
    tcase_add_test(tests, the_mode_is_exact_whatever_the_umask);
    tcase_add_loop_test(tests, bad_modes_are_refused, 0, sizeof(bad_modes) / sizeof(*bad_modes));
    tcase_add_test(tests, closing_removes_the_socket);
    tcase_add_test(tests, closing_leaves_the_socket_of_a_successor);
    tcase_add_test(tests, of_many_starters_on_a_stale_socket_one_wins);
    tcase_add_test(tests, abstract_names_work_and_leave_nothing);
    tcase_add_test(tests, the_mode_guards_abstract_names_too);
    tcase_add_test(tests, connecting_to_a_full_queue_times_out_on_time);
    tcase_add_test(tests, a_stale_socket_does_not_answer_connects);
    tcase_add_test(tests, the_send_buffer_is_set_at_both_ends);
    tcase_add_test(tests, peers_are_named_by_process_and_user);
    return tests;
}

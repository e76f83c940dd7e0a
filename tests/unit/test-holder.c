/* SPDX-License-Identifier: BSD-2-Clause */
/* The holder's program, spoken to as its drafter does. */
#include "unit.h"

#include "holder/packet.h"
#include "util/proc.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

static char *directory;
static int control = -1, listener = -1;
static pid_t holder;
static struct holder_packet packet;

static struct sockaddr_un address(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/" HOLDER_SOCKET, directory);
    return address;
}

static void setup(void)
{
    struct sockaddr_un at;
    char *program = unit_path(getenv("abs_top_builddir"), "core/drafter-holder"), numbers[3][12];
    int ends[2], place;

    directory = unit_make_directory();
    at = address();
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    place = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(numbers[0], sizeof(numbers[0]), "%d", listener);
    snprintf(numbers[1], sizeof(numbers[1]), "%d", ends[1]);
    snprintf(numbers[2], sizeof(numbers[2]), "%d", place);
    ck_assert_int_eq(proc_spawn(&(struct proc_spec){.argv = (const char *const[]){program, numbers[0], numbers[1],
                                                                                  numbers[2], directory, NULL},
                                                    .stdin_fd = -1,
                                                    .stdout_fd = -1,
                                                    .stderr_fd = 2,
                                                    .keep_fds = (const int[]){listener, ends[1], place, -1},
                                                    .die_with_parent = true},
                                &holder, NULL), 0);
    close(ends[1]);
    close(place);
    free(program);
    control = ends[0];
}

static void teardown(void)
{
    int status;

    ck_assert_int_eq(packet_send(control, &(struct holder_message){.op = HOLDER_END}, NULL, NULL), 0);
    ck_assert_int_eq(packet_receive(control, &packet), 0);
    ck_assert_int_eq(proc_wait(holder, 5000, &status), 0);
    close(control);
    close(listener);
    unit_drop_directory(directory);
}

/* `words`: each ends with a NUL; the result, and of a success the process. */
static int spawn(const char *words, size_t length, pid_t *ret_pid)
{
    struct holder_message header = {.op = HOLDER_SPAWN, .length = (uint32_t)length};

    ck_assert_int_eq(packet_send(control, &header, words, NULL), 0);
    ck_assert_int_eq(packet_receive(control, &packet), 0);
    *ret_pid = packet.header.pid;
    packet_close_fds(&packet);
    return packet.header.result;
}

static void adopt(void)
{
    struct sockaddr_un at = address();

    control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(control, (struct sockaddr *)&at, sizeof(at)), 0);
    ck_assert_int_eq(packet_send(control, &(struct holder_message){.op = HOLDER_ADOPT}, NULL, NULL), 0);
    do {
        ck_assert_int_eq(packet_receive(control, &packet), 0);
        packet_close_fds(&packet);
    } while (packet.header.op == HOLDER_ENTRY);
    ck_assert_int_eq(packet.header.result, 0);
}

#define MISSING "\0/nowhere/program"
#define SLEEP "\0sleep\0" "60"

START_TEST(a_program_that_did_not_start_is_no_child)
{
    int pipe_ends[2];
    struct pollfd held = {.events = POLLIN};
    pid_t pid;

    ck_assert_int_lt(spawn(MISSING, sizeof(MISSING), &pid), 0);
    ck_assert_int_eq(spawn(SLEEP, sizeof(SLEEP), &pid), 0);
    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(packet_send(control, &(struct holder_message){.op = HOLDER_PUT, .fd_count = 1, .name = "pipe"},
                                 NULL, &pipe_ends[1]), 0);
    close(pipe_ends[1]);
    ck_assert_int_eq(packet_send(control, &(struct holder_message){.op = HOLDER_WORTH, .value = 1}, NULL, NULL), 0);
    close(control); /* as a drafter that was killed */
    held.fd = pipe_ends[0];
    ck_assert_int_eq(poll(&held, 1, 200), 0);
    adopt();
    close(pipe_ends[0]);
}
END_TEST

START_TEST(each_answer_is_about_the_program_that_was_asked_for)
{
    pid_t first, second, third;

    ck_assert_int_eq(spawn(SLEEP, sizeof(SLEEP), &first), 0);
    ck_assert_int_eq(spawn(SLEEP, sizeof(SLEEP), &second), 0);
    kill(first, SIGKILL);
    do {
        struct holder_message status = {.op = HOLDER_STATUS, .pid = first};

        ck_assert_int_eq(packet_send(control, &status, NULL, NULL), 0);
        ck_assert_int_eq(packet_receive(control, &packet), 0);
    } while (packet.header.result == -EAGAIN);
    ck_assert_int_eq(spawn(SLEEP, sizeof(SLEEP), &third), 0);
    ck_assert_int_ne(third, second);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_program_that_did_not_start_is_no_child);
    tcase_add_test(tests, each_answer_is_about_the_program_that_was_asked_for);
}

int main(void)
{
    if (!getenv("abs_top_builddir")) {
        printf("skipped: abs_top_builddir names no build tree\n");
        return 77;
    }
    return unit_run("holder", add_tests);
}

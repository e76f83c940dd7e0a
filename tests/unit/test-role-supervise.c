/* SPDX-License-Identifier: BSD-2-Clause */
/* What a role hears of signals: one at a time while it waits, and the log while it ends. */
#include "unit.h"

#include "role/supervise.h"

#include <signal.h>
#include <sys/wait.h>

static struct supervisor supervisor;
static struct drafter_error err;
static int said;

static void setup(void)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    said = ends[0];
    ck_assert_int_eq(supervisor_init(&supervisor, &err), 0);
}

static void teardown(void)
{
    supervisor_release(&supervisor);
    close(said);
}

/* Waits for a line of the log. */
static const char *next_line(void)
{
    static char text[1024];
    ssize_t length = read(said, text, sizeof(text) - 1);

    ck_assert_int_gt(length, 0);
    text[length] = '\0';
    return text;
}

START_TEST(a_signal_ends_the_wait)
{
    kill(getpid(), SIGTERM);
    ck_assert_int_eq(supervisor_wait(&supervisor, -1), WAKEUP_SIGNAL);
    ck_assert_int_eq(supervisor_wait(&supervisor, 0), WAKEUP_TIMEOUT);
    kill(getpid(), SIGUSR2);
    ck_assert_int_eq(supervisor_wait(&supervisor, -1), WAKEUP_REEXEC);
}
END_TEST

START_TEST(a_second_signal_is_told_what_takes_time)
{
    const char *line;

    supervisor_busy(&supervisor, "redis", "ending a hand-over");
    kill(getpid(), SIGTERM);
    ck_assert_ptr_nonnull(strstr(next_line(), "SIGTERM: ending already: redis: ending a hand-over"));
    supervisor_busy(&supervisor, "redis", "saving the VM");
    kill(getpid(), SIGINT);
    line = next_line();
    ck_assert_msg(strstr(line, "SIGINT: ending already: redis: saving the VM") != NULL, "%s", line);
    supervisor_done(&supervisor);
    ck_assert_int_eq(supervisor_wait(&supervisor, 0), WAKEUP_TIMEOUT);
}
END_TEST

START_TEST(a_signal_after_the_work_counts_again)
{
    for (int i = 0; i < 3; i++) {
        supervisor_busy(&supervisor, "redis", "saving the VM");
        supervisor_done(&supervisor);
        supervisor_done(&supervisor);
        kill(getpid(), SIGTERM);
        ck_assert_int_eq(supervisor_wait(&supervisor, -1), WAKEUP_SIGNAL);
    }
}
END_TEST

START_TEST(a_process_that_ended_before_the_wait_is_heard_of)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    supervisor_watch(&supervisor, pid);
    ck_assert_int_eq(supervisor_wait(&supervisor, 0), WAKEUP_PROCESS);
    supervisor_watch(&supervisor, 0);
    ck_assert_int_eq(supervisor_wait(&supervisor, 0), WAKEUP_TIMEOUT);
    supervisor_watch(&supervisor, -ESRCH);
    ck_assert_int_eq(supervisor_wait(&supervisor, 0), WAKEUP_PROCESS);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_signal_ends_the_wait);
    tcase_add_test(tests, a_second_signal_is_told_what_takes_time);
    tcase_add_test(tests, a_process_that_ended_before_the_wait_is_heard_of);
    tcase_add_test(tests, a_signal_after_the_work_counts_again);
}

int main(void)
{
    return unit_run("supervise", add_tests);
}

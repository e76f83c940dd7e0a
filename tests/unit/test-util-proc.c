/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/proc.h"
#include "unit.h"
#include <signal.h>
#include <sys/wait.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct proc_spec quiet(const char *const *argv)
{
    return (struct proc_spec){.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
}

static int wait_exit(pid_t pid)
{
    int status = -1;

    ck_assert_int_eq(proc_wait(pid, 10000, &status), 0);
    return status;
}

/* The lowest free descriptor, to find leaks with. */
static int lowest_free(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

START_TEST(a_program_is_found_in_path_and_its_status_reported)
{
    struct proc_spec spec = quiet(ARGV("sh", "-c", "exit 7"));
    pid_t pid = -1;

    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_exit(pid)), 7);
}
END_TEST

START_TEST(a_program_that_is_not_there_is_an_error_here)
{
    struct drafter_error err = {0};
    struct proc_spec spec = quiet(ARGV("drafter-no-such-program"));
    int before = lowest_free();
    pid_t pid = -1;

    ck_assert_int_eq(proc_spawn(&spec, &pid, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "not found in PATH"));
    spec.argv = ARGV("/nonexistent/program");
    ck_assert_int_eq(proc_spawn(&spec, &pid, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "/nonexistent/program: cannot execute"));
    ck_assert_int_eq(pid, -1);
    ck_assert_int_eq(lowest_free(), before);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(a_file_that_is_no_program_is_an_error_here)
{
    struct drafter_error err = {0};
    struct proc_spec spec = quiet(ARGV("/dev/null"));
    pid_t pid;

    ck_assert_int_eq(proc_spawn(&spec, &pid, &err), -EACCES);
}
END_TEST

START_TEST(arguments_reach_the_program_unchanged)
{
    cleanup_free char *output = NULL;

    ck_assert_int_eq(proc_run(ARGV("printf", "%s|", "a b", "$HOME;`id`", "", "*"), 10000, 100,
                              &output, NULL),
                     0);
    ck_assert_str_eq(output, "a b|$HOME;`id`||*|");
}
END_TEST

START_TEST(output_beyond_the_limit_is_dropped)
{
    cleanup_free char *output = NULL;

    ck_assert_int_eq(proc_run(ARGV("head", "-c", "200000", "/dev/zero"), 10000, 10, NULL, NULL), 0);
    ck_assert_int_eq(proc_run(ARGV("printf", "abcdef"), 10000, 3, &output, NULL), 0);
    ck_assert_str_eq(output, "abc");
}
END_TEST

START_TEST(a_failing_program_is_reported_with_its_first_line)
{
    struct drafter_error err = {0};

    ck_assert_int_eq(proc_run(ARGV("sh", "-c", "echo no such table >&2; echo more >&2; exit 3"),
                              10000, 10, NULL, &err),
                     -EIO);
    ck_assert_str_eq(err.message, "sh: exit status 3: no such table");
    ck_assert_int_eq(proc_run(ARGV("sh", "-c", "kill -9 $$"), 10000, 10, NULL, &err), -EIO);
    ck_assert_str_eq(err.message, "sh: killed by signal 9");
    ck_assert_int_eq(proc_run(ARGV("false"), 10000, 10, NULL, &err), -EIO);
    ck_assert_str_eq(err.message, "false: exit status 1");
}
END_TEST

START_TEST(a_program_that_takes_too_long_is_killed)
{
    struct drafter_error err = {0};
    int before = lowest_free();
    uint64_t start = drafter_now_ns();

    ck_assert_int_eq(proc_run(ARGV("sleep", "60"), 50, 10, NULL, &err), -ETIMEDOUT);
    ck_assert_str_eq(err.message, "sleep: did not end in time");
    ck_assert_uint_lt(drafter_now_ns() - start, 10000000000);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(lowest_free(), before);
}
END_TEST

START_TEST(waiting_ends_at_the_timeout_and_stopping_reaps)
{
    struct proc_spec spec = quiet(ARGV("sleep", "60"));
    pid_t pid = -1;

    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(proc_wait(pid, 0, NULL), -ETIMEDOUT);
    ck_assert_int_eq(proc_wait(pid, 20, NULL), -ETIMEDOUT);
    proc_stop(pid, 5000);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1);
    ck_assert_int_eq(proc_wait(pid, 1000, NULL), -ECHILD);
}
END_TEST

START_TEST(a_program_deaf_to_sigterm_is_killed)
{
    cleanup_close int read_end = -1;
    struct proc_spec spec = quiet(ARGV("sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"));
    int ends[2];
    pid_t pid;
    char byte;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    read_end = ends[0];
    spec.stdout_fd = ends[1];
    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    close(ends[1]);
    ck_assert_int_eq(read(read_end, &byte, 1), 1);
    proc_stop(pid, 50);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(stopping_nothing_harms_nobody)
{
    proc_stop(0, 10);
    proc_stop(-1, 10);
}
END_TEST

START_TEST(only_the_named_descriptors_are_inherited)
{
    cleanup_close int kept = open("/dev/null", O_RDWR | O_CLOEXEC);
    cleanup_close int leaky = open("/dev/null", O_RDWR); /* lint: not close-on-exec on purpose */
    const int keep[] = {kept, -1};
    char script[128];
    struct proc_spec spec = quiet(ARGV("sh", "-c", script));
    pid_t pid;

    snprintf(script, sizeof(script), "test -e /proc/$$/fd/%d && test ! -e /proc/$$/fd/%d", kept,
             leaky);
    spec.keep_fds = keep;
    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(wait_exit(pid), 0);
}
END_TEST

START_TEST(standard_descriptors_may_be_crossed)
{
    cleanup_free char *directory = unit_make_directory();
    cleanup_free char *one = unit_path(directory, "1"), *two = unit_path(directory, "2");
    cleanup_free char *text = NULL;
    struct proc_spec spec = quiet(ARGV("sh", "-c", "echo out; echo err >&2"));
    int saved[2] = {fcntl(1, F_DUPFD_CLOEXEC, 10), fcntl(2, F_DUPFD_CLOEXEC, 10)};
    int result;
    pid_t pid;

    dup2(open(one, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 1);
    dup2(open(two, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 2);
    spec.stdout_fd = 2;
    spec.stderr_fd = 1;
    result = proc_spawn(&spec, &pid, NULL);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(wait_exit(pid), 0);
    ck_assert_int_eq(io_read_file(one, 100, &text, NULL, NULL), 0);
    ck_assert_str_eq(text, "err\n");
    unit_drop_directory(steal(&directory));
}
END_TEST

START_TEST(closed_standard_descriptors_do_no_harm)
{
    struct proc_spec spec = quiet(ARGV("sh", "-c", "exit 4"));
    int saved = fcntl(2, F_DUPFD_CLOEXEC, 10), result, status = 0;
    pid_t pid = -1;

    close(0);
    close(1);
    close(2);
    result = proc_spawn(&spec, &pid, NULL);
    if (result == 0)
        result = proc_wait(pid, 10000, &status);
    dup2(saved, 2);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(WEXITSTATUS(status), 4);
}
END_TEST

START_TEST(the_program_starts_with_default_signals)
{
    cleanup_free char *output = NULL;
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    ck_assert_int_eq(proc_run(ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"), 10000, 200,
                              &output, NULL),
                     0);
    ck_assert_ptr_nonnull(strstr(output, "SigBlk:\t0000000000000000\n"));
    /* Without bits 31 and 32: glibc keeps these signals to itself. */
    ck_assert_uint_eq(strtoull(strstr(output, "SigIgn:") + 7, NULL, 16) & ~UINT64_C(0x180000000), 0);
}
END_TEST

START_TEST(credentials_of_the_environment_are_kept_back)
{
    struct proc_spec spec = quiet(ARGV("sh", "-c", "test -n \"$HOME_OF_TEST\" && test -z \"$AWS_SESSION_TOKEN\""));
    pid_t pid = -1;

    ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", "secret", 1), 0);
    ck_assert_int_eq(setenv("HOME_OF_TEST", "here", 1), 0);
    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_exit(pid)), 1);
    spec.without_secrets = true;
    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_exit(pid)), 0);
    ck_assert_str_eq(getenv("AWS_SESSION_TOKEN"), "secret");
}
END_TEST

START_TEST(a_process_group_of_its_own)
{
    struct proc_spec spec = quiet(ARGV("sleep", "60"));
    pid_t pid;

    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(getpgid(pid), getpgid(0));
    proc_stop(pid, 5000);
    spec.new_process_group = true;
    ck_assert_int_eq(proc_spawn(&spec, &pid, NULL), 0);
    ck_assert_int_eq(getpgid(pid), pid);
    proc_stop(pid, 5000);
}
END_TEST

/* The grandchild holds the pipe: its end tells that the grandchild died with its parent. */
START_TEST(a_child_may_die_with_its_parent)
{
    int ends[2];
    pid_t middle;
    char byte;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    middle = fork();
    if (middle == 0) {
        struct proc_spec spec = quiet(ARGV("sleep", "60"));
        pid_t pid;

        spec.stdout_fd = ends[1];
        spec.die_with_parent = true;
        _exit(proc_spawn(&spec, &pid, NULL) < 0);
    }
    close(ends[1]);
    ck_assert_int_eq(WEXITSTATUS(wait_exit(middle)), 0);
    ck_assert_int_eq(read(ends[0], &byte, 1), 0);
    close(ends[0]);
}
END_TEST

START_TEST(a_missing_network_namespace_is_named)
{
    struct drafter_error err = {0};
    struct proc_spec spec = quiet(ARGV("true"));
    pid_t pid;

    spec.netns = "/nonexistent/netns";
    ck_assert_int_eq(proc_spawn(&spec, &pid, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "network namespace /nonexistent/netns"));
}
END_TEST

START_TEST(what_is_no_network_namespace_is_refused)
{
    struct drafter_error err = {0};
    struct proc_spec spec = quiet(ARGV("true"));
    pid_t pid;

    spec.netns = "/dev/null";
    ck_assert_int_lt(proc_spawn(&spec, &pid, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "cannot enter its network namespace"));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_program_is_found_in_path_and_its_status_reported);
    tcase_add_test(tests, a_program_that_is_not_there_is_an_error_here);
    tcase_add_test(tests, a_file_that_is_no_program_is_an_error_here);
    tcase_add_test(tests, arguments_reach_the_program_unchanged);
    tcase_add_test(tests, output_beyond_the_limit_is_dropped);
    tcase_add_test(tests, a_failing_program_is_reported_with_its_first_line);
    tcase_add_test(tests, a_program_that_takes_too_long_is_killed);
    tcase_add_test(tests, waiting_ends_at_the_timeout_and_stopping_reaps);
    tcase_add_test(tests, a_program_deaf_to_sigterm_is_killed);
    tcase_add_test(tests, stopping_nothing_harms_nobody);
    tcase_add_test(tests, only_the_named_descriptors_are_inherited);
    tcase_add_test(tests, standard_descriptors_may_be_crossed);
    tcase_add_test(tests, closed_standard_descriptors_do_no_harm);
    tcase_add_test(tests, the_program_starts_with_default_signals);
    tcase_add_test(tests, credentials_of_the_environment_are_kept_back);
    tcase_add_test(tests, a_process_group_of_its_own);
    tcase_add_test(tests, a_child_may_die_with_its_parent);
    tcase_add_test(tests, a_missing_network_namespace_is_named);
    tcase_add_test(tests, what_is_no_network_namespace_is_refused);
}

int main(void)
{
    return unit_run("proc", add_tests);
}

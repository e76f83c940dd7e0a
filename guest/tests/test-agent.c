/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs the real drafter-agent on a pseudo terminal, which stands in for a virtio-serial port, and
 * plays the host. The agent's path is in AGENT or the first argument.
 */
#define _GNU_SOURCE 1
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const char *agent_path;
static int host; /* master side: what a virtio-serial port's host end would be */
static int keep; /* slave side, held so that the port does not hang up before the agent opens it */
static pid_t agent;
static char scratch[] = "/tmp/drafter-agent-test.XXXXXX";

static void set_up(void)
{
    char port[128], before[128];

    memcpy(strrchr(scratch, '.'), ".XXXXXX", sizeof(".XXXXXX"));
    ck_assert_int_ge(mkstemp(scratch), 0);
    host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(host, 0);
    ck_assert_int_eq(grantpt(host) | unlockpt(host), 0);
    snprintf(port, sizeof(port), "%s", ptsname(host));
    keep = open(port, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios raw;

    tcgetattr(keep, &raw);
    cfmakeraw(&raw);
    tcsetattr(keep, TCSANOW, &raw);
    snprintf(before, sizeof(before), "echo ran >>%s; echo to stdout", scratch);
    agent = fork();
    if (agent == 0) {
        execl(agent_path, agent_path, "-port", port, "--before-suspend-cmd", before,
              "-after-resume-cmd", "sleep 0.1; exit 3", "-hook-timeout=5s", (char *)NULL);
        _exit(127);
    }
}

static void tear_down(void)
{
    int status;

    kill(agent, SIGTERM);
    ck_assert_int_eq(waitpid(agent, &status, 0), agent);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "agent ended with status %x",
                  status);
    close(host);
    close(keep);
    unlink(scratch);
}

static void send_text(const char *text)
{
    ck_assert_int_eq(write(host, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect(const char *want)
{
    char line[1024];
    size_t at = 0;

    while (at < sizeof(line) - 1 && (!at || line[at - 1] != '\n')) {
        struct pollfd p = {.fd = host, .events = POLLIN};

        ck_assert_msg(poll(&p, 1, 3000) == 1, "no answer, wanted %s", want);
        ck_assert_int_eq(read(host, line + at, 1), 1);
        at++;
    }
    line[at] = '\0';
    ck_assert_str_eq(line, want);
}

static void call(const char *id, const char *function, const char *args)
{
    char text[512];

    snprintf(
        text, sizeof(text),
        "{\"request\":{\"call\":\"%s\",\"function\":\"%s\",\"args\":[%s]},\"response\":null}\n", id,
        function, args);
    send_text(text);
}

START_TEST(hooks_run_and_their_status_is_told)
{
    char text[64] = "";

    call("one", "BeforeSuspend", "");
    expect("{\"request\":null,\"response\":{\"call\":\"one\",\"value\":null,\"err\":\"\"}}\n");
    FILE *file = fopen(scratch, "r");

    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    ck_assert_str_eq(text, "ran\n");
    fclose(file);
    call("two", "AfterResume", "");
    expect("{\"request\":null,\"response\":{\"call\":\"two\",\"value\":null,\"err\":\"exit status "
           "3\"}}\n");
}
END_TEST

/* What a host of the original wrote (panrpc of April 2025), and what the original's agent answered. */
START_TEST(an_original_host_is_answered_as_it_was)
{
    send_text("{\"request\":{\"call\":\"1ebb707e-7d85-4eeb-a366-9545fd318fc2\",\"function\":"
              "\"BeforeSuspend\",\"args\":[]},\"response\":null}\n");
    expect("{\"request\":null,\"response\":{\"call\":\"1ebb707e-7d85-4eeb-a366-9545fd318fc2\","
           "\"value\":null,\"err\":\"\"}}\n");
    send_text("{\"request\":{\"call\":\"e67643df-3514-49e8-99ce-ae171a8ceec5\",\"function\":"
              "\"AfterResume\",\"args\":[]},\"response\":null}\n");
    expect("{\"request\":null,\"response\":{\"call\":\"e67643df-3514-49e8-99ce-ae171a8ceec5\","
           "\"value\":null,\"err\":\"exit status 3\"}}\n");
}
END_TEST

START_TEST(a_time_that_cannot_be_is_not_set)
{
    send_text("{\"request\":{\"call\":\"t\",\"function\":\"AfterResume\",\"args\":[],"
              "\"now\":99999999999999999999,\"seed\":\"xyz\"},\"response\":null}\n");
    expect("{\"request\":null,\"response\":{\"call\":\"t\",\"value\":null,\"err\":"
           "\"exit status 3\"}}\n");
}
END_TEST

START_TEST(ping_and_unknown_functions)
{
    call("1", "Ping", "");
    expect("{\"request\":null,\"response\":{\"call\":\"1\",\"value\":\"pong\",\"err\":\"\"}}\n");
    call("2", "GuestService.Nothing", "1,[2]");
    expect("{\"request\":null,\"response\":{\"call\":\"2\",\"value\":null,"
           "\"err\":\"can not call non function\"}}\n");
}
END_TEST

START_TEST(garbage_is_survived)
{
    char noise[3000];
    unsigned state = 1;

    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (char)(state = state * 1103515245 + 12345, state >> 16);
        ck_assert_int_eq(write(host, noise, sizeof(noise)), sizeof(noise));
    }
    send_text("\n{\"request\":{\"call\":\"x\",\"function\":\n\n{}\n{\"request\":7}\n[[[[[\n");
    call("z", "Ping", "");
    expect("{\"request\":null,\"response\":{\"call\":\"z\",\"value\":\"pong\",\"err\":\"\"}}\n");
}
END_TEST

int main(int argc, char **argv)
{
    agent_path = argc > 1 ? argv[1] : getenv("AGENT");
    if (!agent_path || access(agent_path, X_OK) != 0) {
        printf("SKIP: no agent to test: set AGENT to the path of drafter-agent\n");
        return 77;
    }
    Suite *suite = suite_create("agent");
    TCase *tests = tcase_create("all");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, hooks_run_and_their_status_is_told);
    tcase_add_test(tests, an_original_host_is_answered_as_it_was);
    tcase_add_test(tests, a_time_that_cannot_be_is_not_set);
    tcase_add_test(tests, ping_and_unknown_functions);
    tcase_add_test(tests, garbage_is_survived);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);

    srunner_free(runner);
    return failed ? 1 : 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* libdrafter over programs that are not drafter: scripts that say and do what drafter might. */
#include <drafter/embed.h>

#include "control/control.h"
#include "unit.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SOON 10000
#define EVENT(name_, more_) "echo '{\"level\":\"info\",\"event\":\"" name_ "\"" more_ "}' >&2;"
#define ERROR(text_) "echo '{\"level\":\"error\",\"message\":\"" text_ "\"}' >&2;"

static struct drafter_error err;

/* What callbacks saw; each test is a process of its own. */
static struct {
    pthread_mutex_t lock;
    unsigned count, ends;
    int exit_status, waited;
    struct drafter_event last;
    struct drafter_node *node;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER, .exit_status = -2};

static void on_event(void *opaque, const struct drafter_event *event)
{
    ck_assert_ptr_eq(opaque, &seen);
    lock_scope(&seen.lock);
    ck_assert_uint_eq(event->number, ++seen.count);
    seen.last = *event;
}

static void on_end(void *opaque, int exit_status)
{
    ck_assert_ptr_eq(opaque, &seen);
    lock_scope(&seen.lock);
    seen.ends++;
    seen.exit_status = exit_status;
}

/* sh takes --log-format=json and what follows as $0 and so on when -c comes first: hence a script with arguments. */
static char *write_script(const char *directory, const char *text)
{
    char *path = unit_path(directory, "script");
    FILE *file = fopen(path, "w");

    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    chmod(path, 0700);
    return path;
}

static struct drafter_node *start(const char *text)
{
    static const char *const arguments[] = {"peer", NULL};
    char *directory = unit_make_directory();
    cleanup_free char *script = write_script(directory, text);
    struct drafter_node_options options = {.struct_size = sizeof(options),
                                           .program = script,
                                           .arguments = arguments,
                                           .event = on_event,
                                           .ended = on_end,
                                           .opaque = &seen};
    struct drafter_node *node = NULL;
    int rc;

    seen.count = seen.ends = 0;
    rc = drafter_node_start(&options, &node, &err);
    ck_assert_msg(rc == 0, "%s", err.message);
    drafter_node_await(node, "started", 0, SOON, NULL, NULL); /* the script was read, or has ended */
    unit_drop_directory(directory);
    return node;
}

static unsigned count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static int ends_with(const char *text)
{
    struct drafter_node *node = start(text);
    int rc = drafter_node_wait(node, SOON, &err);

    drafter_node_free(node);
    return rc;
}

START_TEST(events_are_told_in_order_and_awaited_even_when_they_came_before)
{
    struct drafter_node *node;
    struct drafter_event event;
    char text[8];

    node = start(EVENT("one", ",\"vm\":\"a\"") EVENT("one", ",\"vm\":\"b\"") EVENT("started", "") "read x");
    ck_assert_int_eq(drafter_node_await(node, "one", 0, 0, &event, &err), 0);
    ck_assert_uint_eq(event.number, 2);
    ck_assert_int_eq(drafter_json_text(event.text, "vm", text, sizeof(text)), 0);
    ck_assert_str_eq(text, "b");
    ck_assert_int_eq(drafter_node_await(node, "one", 1, 0, NULL, &err), 0);
    /* read fails, the script ends with 1 */
    ck_assert_int_eq(drafter_node_await(node, "one", 2, SOON, &event, &err), -EIO);
    ck_assert_int_eq(drafter_node_wait(node, 0, &err), -EIO);
    drafter_node_free(node);
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_uint_eq(seen.ends, 1);
    ck_assert_int_eq(seen.exit_status, 1);
}
END_TEST

START_TEST(an_event_that_does_not_come_is_a_timeout_or_the_end)
{
    struct drafter_node *node = start(EVENT("started", "") "exec sleep 60");

    ck_assert_int_eq(drafter_node_await(node, "never", 0, 10, NULL, &err), -ETIMEDOUT);
    ck_assert_int_eq(drafter_node_wait(node, 10, &err), -ETIMEDOUT);
    ck_assert_int_eq(drafter_node_exit_status(node), -1);
    ck_assert_int_eq(drafter_node_stop(node, SOON, &err), -EIO);
    ck_assert_ptr_nonnull(strstr(err.message, "signal 15"));
    ck_assert_int_eq(drafter_node_exit_status(node), 128 + SIGTERM);
    ck_assert_int_eq(drafter_node_stop(node, 0, &err), -EIO);
    drafter_node_free(node);
    node = start("exit 0");
    ck_assert_int_eq(drafter_node_await(node, "never", 0, SOON, NULL, &err), -ESHUTDOWN);
    ck_assert_int_eq(drafter_node_stop(node, SOON, &err), 0);
    drafter_node_free(node);
}
END_TEST

START_TEST(an_end_is_an_error_by_its_status_with_the_last_error_line)
{
    static const int codes[] = {0, EIO, EINVAL, ENOENT, EACCES, EBUSY, ECONNABORTED, ECANCELED, EINPROGRESS, EIO};
    char text[256];

    for (int status = 0; status < 10; status++) {
        snprintf(text, sizeof(text), ERROR("first") ERROR("node.ini:%d: no") EVENT("x", "") "echo y >&2; exit %d",
                 status, status);
        ck_assert_int_eq(ends_with(text), -codes[status]);
        snprintf(text, sizeof(text), "status %d: node.ini:%d: no", status, status);
        ck_assert(!status || strstr(err.message, text));
    }
    ck_assert_int_eq(ends_with("echo 'cannot open libjansson' >&2; exit 127"), -EIO);
    ck_assert_ptr_nonnull(strstr(err.message, "status 127: cannot open libjansson"));
}
END_TEST

START_TEST(what_cannot_be_started_is_an_error_and_leaves_nothing)
{
    const char *const arguments[] = {"x", NULL};
    struct drafter_node_options options = {.struct_size = sizeof(options), .program = "/nonexistent/drafter"};
    unsigned before = count_descriptors();
    struct drafter_node *node = NULL;

    ck_assert_int_eq(drafter_node_start(&options, &node, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "needs a configuration or arguments"));
    options.config = "[drafter]\n";
    ck_assert_int_eq(drafter_node_start(&options, &node, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "/nonexistent/drafter"));
    options.config = NULL;
    options.arguments = arguments;
    options.program = "/dev/null";
    ck_assert_int_eq(drafter_node_start(&options, &node, NULL), -EACCES);
    options.struct_size = 8;
    ck_assert_int_eq(drafter_node_start(&options, &node, &err), -EINVAL);
    ck_assert_ptr_null(node);
    ck_assert_uint_eq(count_descriptors(), before);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(other_text_is_text_and_does_not_hide_events)
{
    struct drafter_node *node;
    struct drafter_event event;

    node = start("printf 'a\\000b\\377\\n\\n[1]\\n\"x\"\\n{\"event\":7}\\n{\"event\":\"cut\\n' >&2;"
                 "printf '%5000s\\n' | tr ' ' '[' >&2;"
                 "printf '{\"event\":\"%100s\"}\\n' x >&2; printf last >&2; exit 3");
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "status 3: last"));
    ck_assert_int_eq(drafter_node_await(node, "", 0, 0, &event, &err), -ENOENT);
    drafter_node_free(node);
    ck_assert_uint_eq(seen.count, 9);
    ck_assert_str_eq(seen.last.text, "last");
    ck_assert(!seen.last.json);
    node = start("printf 'a\\000b\\377' >&2; exit 2");
    drafter_node_free(node);
    ck_assert_str_eq(seen.last.text, "a?b\377");
}
END_TEST

START_TEST(lines_without_end_and_names_without_number_take_no_memory)
{
    struct drafter_node *node;
    struct drafter_event event;

    node = start("head -c 3000000 /dev/zero | tr '\\000' x >&2; echo >&2;"
                 "i=0; while [ $i -lt 500 ]; do echo \"{\\\"event\\\":\\\"e$i\\\"}\" >&2; i=$((i + 1)); done;"
                 "exit 0");
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), 0);
    ck_assert_int_eq(drafter_node_await(node, "e499", 0, 0, &event, &err), 0);
    ck_assert_uint_eq(event.number, 501);
    ck_assert_int_eq(drafter_node_await(node, "e436", 0, 0, NULL, &err), 0);
    ck_assert_int_eq(drafter_node_await(node, "e435", 0, 0, NULL, &err), -ESHUTDOWN);
    drafter_node_free(node);
    node = start("head -c 3000000 /dev/zero | tr '\\000' x >&2; exit 0");
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), 0);
    drafter_node_free(node);
    ck_assert_uint_eq(strlen(seen.last.text), DRAFTER_EVENT_MAX - 1);
}
END_TEST

START_TEST(what_does_not_end_is_not_killed_until_that_is_asked_for)
{
    struct drafter_node *node = start("trap '' TERM;" EVENT("started", "") "while :; do sleep 0.05; done");

    ck_assert_int_eq(drafter_node_stop(node, 100, &err), -ETIMEDOUT);
    ck_assert_int_eq(kill(drafter_node_pid(node), 0), 0);
    ck_assert_int_eq(drafter_node_kill(node, &err), 0);
    ck_assert_int_eq(drafter_node_exit_status(node), 128 + SIGKILL);
    ck_assert_int_eq(drafter_node_kill(node, &err), 0);
    drafter_node_free(node);
}
END_TEST

START_TEST(an_end_is_seen_though_others_hold_the_log)
{
    struct drafter_node *node;
    struct drafter_event event;
    double pid = 0;

    node = start("sleep 60 & echo \"{\\\"event\\\":\\\"left\\\",\\\"pid\\\":$!}\" >&2; exit 0");
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), 0);
    ck_assert_int_eq(drafter_node_await(node, "left", 0, 0, &event, &err), 0);
    ck_assert_int_eq(drafter_json_number(event.text, "pid", &pid), 0);
    ck_assert_int_eq(kill((pid_t)pid, SIGKILL), 0);
    drafter_node_free(node);
}
END_TEST

static void wait_in_callback(void *opaque, const struct drafter_event *event)
{
    (void)event;
    (void)opaque;
    lock_scope(&seen.lock);
    while (!seen.node)
        pthread_mutex_unlock(&seen.lock), usleep(1000), pthread_mutex_lock(&seen.lock);
    seen.waited = drafter_node_wait(seen.node, SOON, NULL);
}

START_TEST(a_callback_that_waits_fails_at_once)
{
    const char *const arguments[] = {"-c", "exit 0", NULL};
    struct drafter_node_options options = {.struct_size = sizeof(options),
                                           .program = "sh", /* which says that it knows no --log-format */
                                           .arguments = arguments,
                                           .event = wait_in_callback};
    struct drafter_node *node = NULL;

    ck_assert_int_eq(drafter_node_start(&options, &node, &err), 0);
    pthread_mutex_lock(&seen.lock);
    seen.node = node;
    pthread_mutex_unlock(&seen.lock);
    ck_assert_int_lt(drafter_node_wait(node, SOON, &err), 0);
    drafter_node_free(node);
    ck_assert_int_eq(seen.waited, -EDEADLK);
}
END_TEST

START_TEST(a_configuration_given_as_text_is_a_file_to_the_program)
{
    char *directory = unit_make_directory();
    cleanup_free char *script = write_script(directory, "cat \"$3\" >&2; ls /proc/self/fd | wc -l >&2; exit 0");
    struct drafter_node_options options = {.struct_size = sizeof(options),
                                           .program = script,
                                           .config = "{\"event\":\"config\"}\n",
                                           .event = on_event,
                                           .opaque = &seen};
    struct drafter_node *node = NULL;

    ck_assert_int_eq(drafter_node_start(&options, &node, &err), 0);
    ck_assert_int_eq(drafter_node_await(node, "config", 0, SOON, NULL, &err), 0);
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), 0);
    drafter_node_free(node);
    ck_assert_str_eq(seen.last.text, "5"); /* 0, 1, 2, the text, and the one of ls */
    unit_drop_directory(directory);
}
END_TEST

START_TEST(the_host_keeps_its_signals_and_descriptors)
{
    unsigned before = count_descriptors();
    struct drafter_node *node;
    struct sigaction action;
    bool open[64];
    sigset_t mask;

    for (int fd = 3; fd < 64; fd++)
        open[fd] = fcntl(fd, F_GETFD) >= 0;
    node = start(EVENT("started", "") "exec sleep 60");
    ck_assert_int_eq(getpgid(drafter_node_pid(node)), drafter_node_pid(node));
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    ck_assert_int_eq(sigismember(&mask, SIGCHLD) || sigismember(&mask, SIGTERM), 0);
    sigaction(SIGCHLD, NULL, &action);
    ck_assert(action.sa_handler == SIG_DFL);
    for (int fd = 3; fd < 64; fd++)
        ck_assert(open[fd] || fcntl(fd, F_GETFD) < 0 || fcntl(fd, F_GETFD) & FD_CLOEXEC);
    drafter_node_stop(node, SOON, NULL);
    drafter_node_free(node);
    ck_assert_uint_eq(count_descriptors(), before);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(an_end_is_seen_where_the_host_reaps_all_children)
{
    struct drafter_node *node;

    signal(SIGCHLD, SIG_IGN);
    node = start(ERROR("no disk") "exit 2");
    ck_assert_int_eq(drafter_node_wait(node, SOON, &err), -ECHILD);
    ck_assert_ptr_nonnull(strstr(err.message, "no disk"));
    ck_assert_int_eq(drafter_node_exit_status(node), -1);
    drafter_node_free(node);
    drafter_node_free(NULL);
}
END_TEST

START_TEST(a_node_that_is_let_go_of_runs_on)
{
    struct drafter_node *node = start(EVENT("started", "") "trap '' PIPE; sleep 0.2; echo x >&2; exit 9");
    pid_t pid = drafter_node_pid(node);
    int status;

    drafter_node_free(node);
    ck_assert_uint_eq(seen.ends, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 9);
}
END_TEST

/* ---- a control socket */

struct door {
    const char *outcome;
    bool open;
};

static int answer(void *opaque, const struct control_asker *asker, const char *command, const json_t *request,
                  json_t *reply, struct drafter_error *error)
{
    struct door *door = opaque;

    (void)asker;
    if (!strcmp(command, "wait") && door->outcome)
        return json_object_set_new(reply, "outcome", json_string(door->outcome));
    if (!strcmp(command, "wait"))
        return usleep(500000);
    if (!strcmp(command, "migratable")) {
        door->open = json_string_value(json_object_get(request, "address")) != NULL;
        return json_object_set_new(reply, "listen", json_string("there"));
    }
    if (!strcmp(command, "status"))
        return json_object_set_new(reply, "migration", json_pack("{s:i}", "left", 7));
    return drafter_error_set(error, EBUSY, "not now");
}

static struct drafter_node *start_asked(const char *directory, const char *then)
{
    char text[1024];

    snprintf(text, sizeof(text), EVENT("control", ",\"vm\":\"vm\",\"directory\":\"%s\"") EVENT("started", "") "%s",
             directory, then);
    return start(text);
}

START_TEST(a_node_is_asked_at_the_socket_that_it_names)
{
    struct door door = {NULL, false};
    const struct control_ops ops = {answer, &door};
    char *directory = unit_make_directory();
    struct drafter_node *node = start_asked(directory, "exec sleep 60");
    struct control *control;
    cleanup_free char *reply = NULL;
    double left = 0;

    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, SOON, NULL, &err), -ENOENT);
    ck_assert_int_eq(control_start(directory, "vm", &ops, &control, &err), 0);
    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, SOON, &reply, &err), 0);
    ck_assert_int_eq(drafter_json_number(reply, "migration.left", &left), 0);
    ck_assert_int_eq((int)left, 7);
    ck_assert_int_eq(drafter_node_ask(node, "status", "x", SOON, NULL, &err), -EINVAL);
    ck_assert_int_eq(drafter_node_ask(node, "snapshot", NULL, SOON, NULL, &err), -EINVAL);
    ck_assert_int_eq(drafter_node_ask(node, "\377", NULL, SOON, NULL, &err), -EINVAL);
    ck_assert_int_eq(drafter_node_ask(node, "suspend", NULL, SOON, NULL, &err), -EBUSY);
    ck_assert_str_eq(err.message, "not now");
    ck_assert_int_eq(drafter_node_migrate(node, "here", 50, &err), -ETIMEDOUT);
    ck_assert(door.open);
    drafter_node_stop(node, SOON, NULL);
    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, SOON, NULL, &err), -EIO);
    drafter_node_free(node);
    control_stop(control);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_move_ends_as_the_node_says)
{
    static const struct {
        const char *outcome;
        int rc;
    } ends[] = {{"moved", 0}, {"kept", -ECANCELED}, {"lost", -EINPROGRESS}, {"none", -ECANCELED}};
    struct door door = {NULL, false};
    const struct control_ops ops = {answer, &door};
    char *directory = unit_make_directory();
    struct drafter_node *node = start_asked(directory, "exec sleep 60");
    struct control *control;

    ck_assert_int_eq(control_start(directory, "vm", &ops, &control, &err), 0);
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        door.outcome = ends[i].outcome;
        ck_assert_int_eq(drafter_node_migrate(node, NULL, SOON, &err), ends[i].rc);
    }
    drafter_node_kill(node, NULL);
    drafter_node_free(node);
    control_stop(control);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_node_without_a_socket_cannot_be_asked)
{
    struct drafter_node *node = start(EVENT("started", "") "exec sleep 60");

    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, 10, NULL, &err), -ETIMEDOUT);
    ck_assert_ptr_nonnull(strstr(err.message, "no control socket"));
    drafter_node_stop(node, SOON, NULL);
    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, SOON, NULL, &err), -EIO);
    drafter_node_free(node);
    node = start(EVENT("control", ",\"vm\":7") EVENT("started", "") "exec sleep 60");
    ck_assert_int_eq(drafter_node_ask(node, "status", NULL, SOON, NULL, &err), -EPROTO);
    drafter_node_kill(node, NULL);
    drafter_node_free(node);
}
END_TEST

START_TEST(values_are_found_in_json)
{
    static const char json[] = "{\"a\":{\"b\":\"text\",\"c\":1.5},\"d\":[1]}";
    char text[5], small[4];
    double number = 0;

    ck_assert_int_eq(drafter_json_text(json, "a.b", text, sizeof(text)), 0);
    ck_assert_str_eq(text, "text");
    ck_assert_int_eq(drafter_json_text(json, "a.b", small, sizeof(small)), -ENOSPC);
    ck_assert_int_eq(drafter_json_text(json, "a.c", text, sizeof(text)), -ENOENT);
    ck_assert_int_eq(drafter_json_text(json, "a.b.c", text, sizeof(text)), -ENOENT);
    ck_assert_int_eq(drafter_json_text("{", "a", text, sizeof(text)), -EINVAL);
    ck_assert_int_eq(drafter_json_number(json, "a.c", &number), 0);
    ck_assert_double_eq(number, 1.5);
    ck_assert_int_eq(drafter_json_number(json, "d", &number), -ENOENT);
    ck_assert_int_eq(drafter_json_number(json, "", &number), -ENOENT);
    ck_assert_int_eq(drafter_json_number(NULL, "d", &number), -EINVAL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, events_are_told_in_order_and_awaited_even_when_they_came_before);
    tcase_add_test(tests, an_event_that_does_not_come_is_a_timeout_or_the_end);
    tcase_add_test(tests, an_end_is_an_error_by_its_status_with_the_last_error_line);
    tcase_add_test(tests, what_cannot_be_started_is_an_error_and_leaves_nothing);
    tcase_add_test(tests, other_text_is_text_and_does_not_hide_events);
    tcase_add_test(tests, lines_without_end_and_names_without_number_take_no_memory);
    tcase_add_test(tests, what_does_not_end_is_not_killed_until_that_is_asked_for);
    tcase_add_test(tests, an_end_is_seen_though_others_hold_the_log);
    tcase_add_test(tests, a_callback_that_waits_fails_at_once);
    tcase_add_test(tests, a_configuration_given_as_text_is_a_file_to_the_program);
    tcase_add_test(tests, the_host_keeps_its_signals_and_descriptors);
    tcase_add_test(tests, an_end_is_seen_where_the_host_reaps_all_children);
    tcase_add_test(tests, a_node_that_is_let_go_of_runs_on);
    tcase_add_test(tests, a_node_is_asked_at_the_socket_that_it_names);
    tcase_add_test(tests, a_move_ends_as_the_node_says);
    tcase_add_test(tests, a_node_without_a_socket_cannot_be_asked);
    tcase_add_test(tests, values_are_found_in_json);
}

int main(void)
{
    return unit_run("embed", add_tests);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between fork and exec the child of a process with threads may only make async-signal-safe calls, so
 * everything that allocates or looks something up (PATH, the namespace, /dev/null) happens before the
 * fork, in struct launch.  The child tells a failure through a close-on-exec pipe: the pipe ends
 * without a word exactly when exec succeeded.
 */
#include "util/proc.h"
#include "util/cleanup.h"
#include "util/io.h"
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum step { STEP_DESCRIPTORS, STEP_NETNS, STEP_GROUP, STEP_EXEC };

static const char *const step_texts[] = {
    "cannot arrange its descriptors",
    "cannot enter its network namespace",
    "cannot start a process group",
    "cannot execute",
};

/* What the child says through the pipe when it fails. */
struct failure {
    int step, code;
};

struct launch {
    const struct proc_spec *spec;
    const char *program; /* path to execute */
    char *const *environment;
    int null_fd, netns_fd, report_fd;
    pid_t parent;
};

/* ---- the child: async-signal-safe calls only */

static void child_fail(const struct launch *launch, enum step step)
{
    struct failure failure = {.step = step, .code = errno};
    ssize_t written = write(launch->report_fd, &failure, sizeof(failure));

    (void)written;
    _exit(127);
}

/* Sources are lifted above 2 first, so that no dup2 overwrites one that is still to be used. */
static void child_descriptors(const struct launch *launch)
{
    const int wanted[3] = {launch->spec->stdin_fd, launch->spec->stdout_fd,
                           launch->spec->stderr_fd};
    int source[3];

    for (int i = 0; i < 3; i++) {
        source[i] = fcntl(wanted[i] < 0 ? launch->null_fd : wanted[i], F_DUPFD_CLOEXEC, 3);
        if (source[i] < 0)
            child_fail(launch, STEP_DESCRIPTORS);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(source[i], i) < 0)
            child_fail(launch, STEP_DESCRIPTORS);
    }
    /* Libraries may hold descriptors that are not close-on-exec.  Kernels before 5.11: they leak. */
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    for (const int *keep = launch->spec->keep_fds; keep && *keep >= 0; keep++) {
        if (*keep > 2 && fcntl(*keep, F_SETFD, 0) < 0)
            child_fail(launch, STEP_DESCRIPTORS);
    }
}

/* Signals blocked or ignored here (SIGPIPE) are not meant for the program. */
static void child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_run(const struct launch *launch) __attribute__((noreturn));

static void child_run(const struct launch *launch)
{
    if (launch->spec->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != launch->parent)
            _exit(127); /* it died before the line above */
    }
    if (launch->spec->new_process_group && setpgid(0, 0) < 0)
        child_fail(launch, STEP_GROUP);
    if (launch->netns_fd >= 0 && setns(launch->netns_fd, CLONE_NEWNET) < 0)
        child_fail(launch, STEP_NETNS);
    child_descriptors(launch);
    child_signals();
    execve(launch->program, (char *const *)launch->spec->argv, launch->environment);
    child_fail(launch, STEP_EXEC);
    _exit(127);
}

/* ---- the parent */

int proc_find(const char *name, char **ret_path, struct drafter_error *err)
{
    const char *path = getenv("PATH");

    if (strchr(name, '/')) {
        *ret_path = strdup(name);
        return *ret_path ? 0 : drafter_error_errno(err, ENOMEM, "%s", name);
    }
    for (path = path ? path : "/usr/bin:/bin"; *path; path += *path == ':') {
        int length = (int)strcspn(path, ":");
        cleanup_free char *file = NULL;

        if (asprintf(&file, "%.*s/%s", length, path, name) < 0) {
            file = NULL;
            return drafter_error_errno(err, ENOMEM, "%s", name);
        }
        if (length && access(file, X_OK) == 0) {
            *ret_path = steal(&file);
            return 0;
        }
        path += length;
    }
    return drafter_error_set(err, ENOENT, "%s: not found in PATH", name);
}

/* A pipe whose ends are above 2, so that they survive the child's standard descriptors. */
static int report_pipe(int ends[2], struct drafter_error *err)
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return drafter_error_errno(err, errno, "cannot make a pipe");
    for (int i = 0; i < 2; i++) {
        int high;

        if (ends[i] > 2)
            continue;
        high = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
        close(ends[i]);
        ends[i] = high;
    }
    if (ends[0] >= 0 && ends[1] >= 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            close(ends[i]);
        ends[i] = -1;
    }
    return drafter_error_errno(err, EMFILE, "cannot make a pipe");
}

/*
 * Signals stay blocked over the fork: no handler of ours may run in the child.  vfork(2) because a copy
 * of our page tables takes milliseconds when much is mapped; the child borrows our memory until it
 * execs, and only this thread waits for that.
 */
static pid_t fork_quietly(const struct launch *launch)
{
    sigset_t all, saved;
    pid_t pid;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pid = vfork();
    if (pid == 0)
        child_run(launch);
    code = errno;
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    errno = code;
    return pid;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Opens what the child will need; the caller closes. */
static int open_needs(const struct proc_spec *spec, int *null_fd, int *netns_fd,
                      struct drafter_error *err)
{
    *null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (*null_fd < 0)
        return drafter_error_errno(err, errno, "/dev/null");
    if (!spec->netns)
        return 0;
    *netns_fd = open(spec->netns, O_RDONLY | O_CLOEXEC);
    if (*netns_fd < 0)
        return drafter_error_errno(err, errno, "network namespace %s", spec->netns);
    return 0;
}

/* The environment's entries that are no credentials; the caller frees the array alone. */
static char **without_secrets(void)
{
    size_t count = 0, kept = 0;
    char **environment;

    while (environ && environ[count])
        count++;
    environment = calloc(count + 1, sizeof(*environment));
    for (size_t i = 0; environment && i < count; i++)
        if (strncmp(environ[i], "AWS_", 4) != 0)
            environment[kept++] = environ[i];
    return environment;
}

int proc_spawn(const struct proc_spec *spec, pid_t *ret_pid, struct drafter_error *err)
{
    cleanup_free char *program = NULL;
    cleanup_free char **environment = NULL;
    cleanup_close int null_fd = -1, netns_fd = -1, report_fd = -1;
    struct launch launch = {.spec = spec, .parent = getpid()};
    struct failure failure;
    int ends[2], result;
    pid_t pid;

    result = proc_find(spec->argv[0], &program, err);
    if (result == 0 && spec->without_secrets && !(environment = without_secrets()))
        result = drafter_error_errno(err, ENOMEM, "%s", spec->argv[0]);
    if (result == 0)
        result = open_needs(spec, &null_fd, &netns_fd, err);
    if (result == 0)
        result = report_pipe(ends, err);
    if (result < 0)
        return result;
    report_fd = ends[0];
    launch.program = program;
    launch.environment = environment ? environment : environ;
    launch.null_fd = null_fd;
    launch.netns_fd = netns_fd;
    launch.report_fd = ends[1];
    pid = fork_quietly(&launch);
    result = errno;
    close(ends[1]);
    if (pid < 0)
        return drafter_error_errno(err, result, "%s: cannot fork", spec->argv[0]);
    if (io_read_full(report_fd, &failure, sizeof(failure)) == 0) {
        reap(pid);
        return drafter_error_errno(err, failure.code, "%s: %s", spec->argv[0],
                                   step_texts[failure.step]);
    }
    *ret_pid = pid;
    return 0;
}

/* Milliseconds from now to `deadline` (drafter_now_ns), rounded up; 0 when it has passed. */
static int left_ms(uint64_t deadline)
{
    uint64_t now = drafter_now_ns(), left;

    if (now >= deadline)
        return 0;
    left = (deadline - now + 999999) / 1000000;
    return left > 1000000 ? 1000000 : (int)left;
}

static uint64_t deadline_after(unsigned timeout_ms)
{
    return drafter_now_ns() + (uint64_t)timeout_ms * 1000000;
}

int proc_wait(pid_t pid, unsigned timeout_ms, int *ret_status)
{
    uint64_t deadline = deadline_after(timeout_ms);
    cleanup_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    for (;;) {
        int status, left = left_ms(deadline);
        pid_t ended = waitpid(pid, &status, WNOHANG);
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        if (ended == pid) {
            if (ret_status)
                *ret_status = status;
            return 0;
        }
        if (ended < 0 && errno != EINTR)
            return -errno;
        if (left == 0)
            return -ETIMEDOUT;
        /* Without pidfd (kernels before 5.3) look again every few milliseconds. */
        poll(&wait, fd >= 0, fd >= 0 || left < 5 ? left : 5);
    }
}

void proc_stop(pid_t pid, unsigned grace_ms)
{
    if (pid <= 0)
        return; /* kill(0) and kill(-1) would reach far more than a child */
    kill(pid, SIGTERM);
    if (proc_wait(pid, grace_ms, NULL) != -ETIMEDOUT)
        return;
    kill(pid, SIGKILL);
    reap(pid);
}

/* Collects what a program says, at most `limit` bytes; the rest is read and dropped. */
struct capture {
    int fd;
    size_t limit, length;
    char *data;
};

/* Returns false at the end of the stream. */
static bool capture_read(struct capture *capture)
{
    char scrap[4096];
    size_t room = capture->limit - capture->length;
    ssize_t got = read(capture->fd, scrap, sizeof(scrap));

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (got <= 0)
        return false;
    if ((size_t)got < room)
        room = (size_t)got;
    memcpy(capture->data + capture->length, scrap, room);
    capture->length += room;
    return true;
}

static int capture_all(struct capture captures[2], uint64_t deadline)
{
    struct pollfd polls[2] = {{.fd = captures[0].fd, .events = POLLIN},
                              {.fd = captures[1].fd, .events = POLLIN}};

    while (polls[0].fd >= 0 || polls[1].fd >= 0) {
        int left = left_ms(deadline);

        if (left == 0)
            return -ETIMEDOUT;
        if (poll(polls, 2, left) < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < 2; i++) {
            if (polls[i].fd >= 0 && polls[i].revents && !capture_read(&captures[i]))
                polls[i].fd = -1;
        }
    }
    return 0;
}

/* Runs to the end or the deadline; the child is gone afterwards. */
static int run_captured(const char *const *argv, uint64_t deadline, struct capture captures[2],
                        int *ret_status, struct drafter_error *err)
{
    int output[2], errors[2], result;
    pid_t pid = -1;

    if (pipe2(output, O_CLOEXEC) < 0)
        return drafter_error_errno(err, errno, "%s: cannot make a pipe", argv[0]);
    if (pipe2(errors, O_CLOEXEC) < 0) {
        result = drafter_error_errno(err, errno, "%s: cannot make a pipe", argv[0]);
        close(output[0]);
        close(output[1]);
        return result;
    }
    result = proc_spawn(&(struct proc_spec){.argv = argv,
                                            .stdin_fd = -1,
                                            .stdout_fd = output[1],
                                            .stderr_fd = errors[1],
                                            .die_with_parent = true},
                        &pid, err);
    close(output[1]);
    close(errors[1]);
    if (result == 0) {
        captures[0].fd = output[0];
        captures[1].fd = errors[0];
        result = capture_all(captures, deadline);
        if (result == 0)
            result = proc_wait(pid, (unsigned)left_ms(deadline), ret_status);
        if (result < 0) {
            kill(pid, SIGKILL);
            reap(pid);
            if (result == -ETIMEDOUT)
                drafter_error_set(err, ETIMEDOUT, "%s: did not end in time", argv[0]);
            else
                drafter_error_errno(err, -result, "%s", argv[0]);
        }
    }
    close(output[0]);
    close(errors[0]);
    return result;
}

int proc_run(const char *const *argv, unsigned timeout_ms, size_t limit, char **ret_output,
             struct drafter_error *err)
{
    cleanup_free char *output = malloc(limit + 1);
    char errors[256];
    struct capture captures[2] = {{.fd = -1, .limit = limit, .data = output},
                                  {.fd = -1, .limit = sizeof(errors) - 1, .data = errors}};
    const char *colon;
    int status = 0, result;

    if (!output)
        return drafter_error_errno(err, ENOMEM, "%s", argv[0]);
    result = run_captured(argv, deadline_after(timeout_ms), captures, &status, err);
    if (result < 0)
        return result;
    output[captures[0].length] = '\0';
    errors[captures[1].length] = '\0';
    errors[strcspn(errors, "\n")] = '\0';
    colon = *errors ? ": " : "";
    if (WIFSIGNALED(status))
        return drafter_error_set(err, EIO, "%s: killed by signal %d%s%s", argv[0],
                                 WTERMSIG(status), colon, errors);
    if (WEXITSTATUS(status))
        return drafter_error_set(err, EIO, "%s: exit status %d%s%s", argv[0], WEXITSTATUS(status),
                                 colon, errors);
    if (ret_output)
        *ret_output = steal(&output);
    return 0;
}

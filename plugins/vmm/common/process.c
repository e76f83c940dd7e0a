/* SPDX-License-Identifier: BSD-2-Clause */
#include "process.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define LOG_MAX ((uint64_t)256 << 10)
#define HOLDER_PATIENCE_MS 2000

/* ---- the watcher */

static void keep_output(struct process *process, const char *text, size_t length)
{
    lock_scope(&process->lock);
    size_t size = sizeof(process->tail), excess;

    if (length > size) {
        text += length - size;
        length = size;
    }
    excess = process->tail_used + length > size ? process->tail_used + length - size : 0;
    memmove(process->tail, process->tail + excess, process->tail_used - excess);
    process->tail_used -= excess;
    memcpy(process->tail + process->tail_used, text, length);
    process->tail_used += length;
}

/* Reads all that is there; false at the end of the stream. */
static bool drain_output(struct process *process)
{
    char text[2048];

    for (;;) {
        ssize_t got = read(process->output_fd, text, sizeof(text));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN;
        if (got == 0)
            return false;
        keep_output(process, text, (size_t)got);
        if (process->logged < LOG_MAX && write(process->log_fd, text, (size_t)got) > 0)
            process->logged += (uint64_t)got;
    }
}

/* The holder learns of the end when we do; it may need a moment to say how it was. */
static void reap(struct process *process, pid_t pid, int *ret_status)
{
    static const struct timespec moment = {.tv_nsec = 1000000};

    if (!process->keeper) {
        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
            ;
        return;
    }
    for (unsigned i = 0; i < HOLDER_PATIENCE_MS; i++) {
        if (process->keeper->status(process->keeper->opaque, pid, ret_status) != -EAGAIN)
            return;
        nanosleep(&moment, NULL);
    }
}

static void watch(struct process *process, pid_t pid)
{
    struct pollfd waits[2] = {{.fd = process->pidfd, .events = POLLIN},
                              {.fd = process->output_fd, .events = POLLIN}};
    int status = 0;

    while (!waits[0].revents) {
        if (poll(waits, 2, -1) < 0)
            continue;
        if (waits[1].revents && !drain_output(process))
            waits[1].fd = -1;
    }
    drain_output(process);
    reap(process, pid, &status);
    lock_scope(&process->lock);
    process->status = status;
    process->phase = PROCESS_ENDED;
    pthread_cond_broadcast(&process->changed);
}

/* Opens the log and the pipe whose other end becomes the process's error output. */
static int open_output(struct process *process, int *ret_write_fd, struct drafter_error *err)
{
    const char *path = process->spec->log_path;
    int ends[2];

    process->log_fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (process->log_fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return drafter_error_errno(err, errno, "pipe");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    process->output_fd = ends[0];
    *ret_write_fd = ends[1];
    return 0;
}

/* While no drafter reads it, a chatty VMM must not block: its words are lost then. */
static int keep(struct process *process, int write_fd, struct drafter_error *err)
{
    const struct drafter_keeper *keeper = process->keeper;
    int result = keeper->put(keeper->opaque, "process", process->pidfd);

    if (result == 0)
        result = keeper->put(keeper->opaque, "output", process->output_fd);
    if (!process->spec->inherit_stdout)
        fcntl(write_fd, F_SETFL, O_NONBLOCK);
    return result < 0 ? drafter_error_errno(err, -result, "cannot keep the process") : 0;
}

static int output_of(const struct process_spec *spec, int write_fd)
{
    if (spec->inherit_stdout)
        return 1;
    return spec->stdout_fd > 0 ? spec->stdout_fd : write_fd;
}

/* -ENOTSUP without a holder. */
static int spawn_held(struct process *process, int write_fd, pid_t *ret_pid,
                      struct drafter_error *err)
{
    const struct process_spec *spec = process->spec;
    const struct drafter_spawn program = {.struct_size = sizeof(program),
                                          .argv = spec->argv,
                                          .stdin_fd = spec->inherit_stdin ? 0 : -1,
                                          .stdout_fd = output_of(spec, write_fd),
                                          .stderr_fd = write_fd,
                                          .keep_fds = spec->keep_fds,
                                          .netns = spec->netns};
    int result;

    if (!spec->keeper)
        return -ENOTSUP;
    result = spec->keeper->spawn(spec->keeper->opaque, &program, ret_pid, &process->pidfd, err);
    if (result < 0)
        return result;
    process->keeper = spec->keeper;
    result = keep(process, write_fd, err);
    if (result < 0) /* it runs, and nobody is going to stop it; the holder reaps it */
        syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    return result;
}

/* The one place that makes a VMM process. */
static int spawn(struct process *process, pid_t *ret_pid, struct drafter_error *err)
{
    const struct process_spec *spec = process->spec;
    cleanup_close int write_fd = -1;
    pid_t pid;
    int result = open_output(process, &write_fd, err);

    if (result == 0)
        result = spawn_held(process, write_fd, ret_pid, err);
    if (result != -ENOTSUP)
        return result;
    result = proc_spawn(&(struct proc_spec){.argv = spec->argv,
                                            .stdin_fd = spec->inherit_stdin ? 0 : -1,
                                            .stdout_fd = output_of(spec, write_fd),
                                            .stderr_fd = write_fd,
                                            .keep_fds = spec->keep_fds,
                                            .netns = spec->netns,
                                            .new_process_group = !spec->inherit_stdin,
                                            .die_with_parent = true,
                                            .without_secrets = true},
                        &pid, err);
    if (result < 0)
        return result;
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process->pidfd < 0) {
        result = drafter_error_errno(err, errno, "pidfd_open");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return result;
    }
    *ret_pid = pid;
    return 0;
}

/* The process that was there before. */
static int find(struct process *process, pid_t *ret_pid, struct drafter_error *err)
{
    const struct drafter_keeper *keeper = process->spec->keeper;
    int result = keeper->take(keeper->opaque, "process", &process->pidfd);

    if (result == 0)
        result = keeper->take(keeper->opaque, "output", &process->output_fd);
    if (result < 0)
        return drafter_error_errno(err, -result, "no %s was left", process->spec->name);
    process->keeper = keeper;
    process->log_fd =
        open(process->spec->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (process->log_fd < 0)
        return drafter_error_errno(err, errno, "%s", process->spec->log_path);
    *ret_pid = process->adopted;
    return 0;
}

static void *watcher_main(void *opaque)
{
    struct process *process = opaque;
    struct drafter_error failure = {0};
    pid_t pid = -ESRCH;
    int result = process->adopted ? find(process, &pid, &failure) : spawn(process, &pid, &failure);

    pthread_mutex_lock(&process->lock);
    process->pid = pid;
    process->failure = failure;
    process->phase = result < 0 ? PROCESS_ENDED : PROCESS_RUNNING;
    pthread_cond_broadcast(&process->changed);
    pthread_mutex_unlock(&process->lock);
    if (result == 0)
        watch(process, pid);
    return NULL;
}

/* ---- the control thread */

static void release(struct process *process)
{
    int fds[] = {process->pidfd, process->output_fd, process->log_fd};

    pthread_join(process->watcher, NULL);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    pthread_cond_destroy(&process->changed);
    pthread_mutex_destroy(&process->lock);
    *process = (struct process){.started = false};
}

/* Signals are for the program's own threads. */
static int create_watcher(struct process *process)
{
    sigset_t all, saved;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    code = pthread_create(&process->watcher, NULL, watcher_main, process);
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return code;
}

static int begin(struct process *process, const struct process_spec *spec, pid_t adopted,
                 struct drafter_error *err)
{
    pthread_condattr_t attributes;
    int code;

    *process = (struct process){.spec = spec,
                                .name = spec->name,
                                .adopted = adopted,
                                .pidfd = -1,
                                .output_fd = -1,
                                .log_fd = -1,
                                .phase = PROCESS_STARTING};
    pthread_mutex_init(&process->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&process->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    code = create_watcher(process);
    if (code)
        return drafter_error_errno(err, code, "cannot start a thread");
    process->started = true;
    pthread_mutex_lock(&process->lock);
    while (process->phase == PROCESS_STARTING)
        pthread_cond_wait(&process->changed, &process->lock);
    code = process->failure.code;
    if (code)
        drafter_error_set(err, code, "%s", process->failure.message);
    pthread_mutex_unlock(&process->lock);
    process->spec = NULL;
    if (code)
        release(process);
    return -code;
}

int process_start(struct process *process, const struct process_spec *spec,
                  struct drafter_error *err)
{
    return begin(process, spec, 0, err);
}

int process_adopt(struct process *process, const struct process_spec *spec, pid_t pid,
                  struct drafter_error *err)
{
    return begin(process, spec, pid, err);
}

pid_t process_pid(struct process *process)
{
    if (!process->started)
        return -ESRCH;
    lock_scope(&process->lock);
    return process->phase == PROCESS_RUNNING ? process->pid : -ESRCH;
}

static void wait_end(struct process *process, unsigned timeout_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (process->phase != PROCESS_ENDED) {
        if (pthread_cond_timedwait(&process->changed, &process->lock, &until))
            return;
    }
}

/* The end of the output, at whole lines when possible, fit for one line of a message. */
static void last_words(const struct process *process, char *words, size_t size)
{
    size_t start = process->tail_used > size - 1 ? process->tail_used - (size - 1) : 0;
    size_t length = process->tail_used - start;
    const char *text = process->tail + start;
    const char *line = start ? memchr(text, '\n', length) : NULL;

    if (line && (size_t)(line + 1 - text) < length) {
        length -= (size_t)(line + 1 - text);
        text = line + 1;
    }
    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    for (size_t i = 0; i < length; i++)
        words[i] = isprint((unsigned char)text[i]) ? text[i] : text[i] == '\n' ? ';' : ' ';
    words[length] = '\0';
}

int process_explain(struct process *process, unsigned timeout_ms, struct drafter_error *err)
{
    char words[320];

    if (!process->started)
        return -err->code;
    lock_scope(&process->lock);
    wait_end(process, timeout_ms);
    if (process->phase != PROCESS_ENDED)
        return -err->code;
    last_words(process, words, sizeof(words));
    if (WIFSIGNALED(process->status))
        return drafter_error_set(err, ECHILD, "%s was ended by signal %d%s%s",
                                 process->name, WTERMSIG(process->status), *words ? ": " : "", words);
    return drafter_error_set(err, ECHILD, "%s ended with status %d%s%s",
                             process->name, WEXITSTATUS(process->status), *words ? ": " : "", words);
}

void process_stop(struct process *process)
{
    if (!process->started)
        return;
    syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    release(process);
}

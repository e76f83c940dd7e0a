/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE 1
#include "hook.h"

#include "../common/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Between fork and exec: async-signal-safe calls only. */
static void child(const char *shell, const char *command)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execlp(shell, shell, "-c", command, (char *)NULL);
    _exit(127);
}

/* Returns 0 when the child has ended, -ETIMEDOUT when it has not by the deadline (0: none). */
static int wait_for(pid_t pid, int64_t deadline, int *ret_status)
{
    sigset_t sigchld;

    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    for (;;) {
        pid_t ended = waitpid(pid, ret_status, WNOHANG);

        if (ended == pid)
            return 0;
        if (ended < 0 && errno != EINTR)
            return -errno;
        int64_t left = deadline ? deadline - channel_now_ms() : 1000;

        if (left <= 0)
            return -ETIMEDOUT;
        struct timespec wait = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};

        sigtimedwait(&sigchld, NULL, &wait);
    }
}

int hook_run(const char *shell, const char *command, int64_t timeout_ms, char *ret_reason,
             size_t size)
{
    int64_t deadline = timeout_ms ? channel_now_ms() + timeout_ms : 0;
    pid_t pid = fork();
    int status = 0;

    if (pid < 0) {
        snprintf(ret_reason, size, "cannot start the hook: %s", strerror(errno));
        return -1;
    }
    if (pid == 0)
        child(shell, command);
    setpgid(pid, pid); /* as the child does: whoever comes first */
    if (wait_for(pid, deadline, &status) != 0) {
        kill(-pid, SIGKILL);
        waitpid(pid, &status, 0);
        snprintf(ret_reason, size, "timed out after %lld ms", (long long)timeout_ms);
        return -1;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status))
        snprintf(ret_reason, size, "exit status %d", WEXITSTATUS(status));
    else
        snprintf(ret_reason, size, "signal: %s",
                 WTERMSIG(status) == SIGKILL ? "killed" : strsignal(WTERMSIG(status)));
    return -1;
}

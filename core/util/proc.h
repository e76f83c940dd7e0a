/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting other programs: argument vectors only, never a shell. */
#ifndef UTIL_PROC_H
#define UTIL_PROC_H

#include <drafter/common.h>

struct proc_spec {
    const char *const *argv; /* argv[0] is looked up in PATH unless it has a slash */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null, inherit by 0, 1, 2 */
    const int *keep_fds;     /* further descriptors the child inherits, same numbers; -1 ends it */
    const char *netns;       /* network namespace path or NULL */
    bool new_process_group;  /* so that Ctrl-C on the terminal does not reach it */
    bool die_with_parent;    /* PR_SET_PDEATHSIG SIGKILL */
    bool without_secrets;    /* its environment lacks AWS_*: what runs a guest needs no credentials */
};

/* The file that a program's name means: looked up in PATH unless it has a slash.  The caller frees it. */
int proc_find(const char *name, char **ret_path, struct drafter_error *err);

/* Starts a program; a failing exec is reported here, not as an exit status. */
int proc_spawn(const struct proc_spec *spec, pid_t *ret_pid, struct drafter_error *err);

/*
 * Waits at most timeout_ms for the end of a child and reaps it: 0 and the wait status, or -ETIMEDOUT.
 */
int proc_wait(pid_t pid, unsigned timeout_ms, int *ret_status);

/* SIGTERM, then after grace_ms SIGKILL; reaps. */
void proc_stop(pid_t pid, unsigned grace_ms);

/*
 * Runs a program to its end and keeps at most `limit` bytes of its output (NUL-terminated, caller
 * frees).  A non-zero exit is -EIO with the first line of its error output.
 */
int proc_run(const char *const *argv, unsigned timeout_ms, size_t limit, char **ret_output,
             struct drafter_error *err);

#endif

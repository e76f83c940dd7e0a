/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process of a VMM: started, watched and reaped by one thread of its own.
 *
 * The thread has two reasons.  PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the
 * process, and the caller's thread may come and go.  And someone must read what it prints, so
 * that a chatty one can neither fill the disk nor block: the first part goes to a log file, the end
 * is kept for error messages.
 *
 * Where there is a holder the VMM is its child, not ours: a later process adopts it.
 */
#ifndef VMM_PROCESS_H
#define VMM_PROCESS_H

#include <drafter/plugin.h>
#include <pthread.h>

struct process_spec {
    const char *name; /* of the program, in messages: "QEMU" */
    const char *const *argv;
    const int *keep_fds;  /* ends with -1 */
    const char *netns;    /* or NULL */
    const char *log_path; /* truncated at the start */
    bool inherit_stdin;   /* the guest's serial port reads from ours */
    bool inherit_stdout;  /* and writes to it */
    int stdout_fd;        /* above 0: where the output goes; else it is read as the errors are */
    const struct drafter_keeper *keeper; /* or NULL; valid until process_stop */
};

struct process {
    const struct process_spec *spec; /* only until process_start or process_adopt returns */
    const char *name;                /* a string of the plugin's */
    pid_t adopted;                   /* to be taken over instead of started; 0 */
    pthread_t watcher;
    bool started; /* watcher and fields below exist; only the control thread looks */
    int pidfd, output_fd, log_fd;
    uint64_t logged;
    const struct drafter_keeper *keeper; /* whose child it is; NULL: ours */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum { PROCESS_STARTING, PROCESS_RUNNING, PROCESS_ENDED } phase; /* lock */
    pid_t pid;                                                       /* lock */
    int status;                                                      /* lock; wait status */
    struct drafter_error failure;                                    /* lock; of the start */
    char tail[1024];                                                 /* lock; end of the output */
    size_t tail_used;                                                /* lock */
};

int process_start(struct process *process, const struct process_spec *spec,
                  struct drafter_error *err);

/* Takes over the process `pid` of a dead drafter's process_start; of `spec`, name, keeper and log_path. */
int process_adopt(struct process *process, const struct process_spec *spec, pid_t pid,
                  struct drafter_error *err);

/* The process id, or -ESRCH when it has ended or never was. */
pid_t process_pid(struct process *process);

/*
 * If the process has ended, or does within timeout_ms, puts how and its last words in place of the
 * error and returns -ECHILD; otherwise returns -err->code.
 */
int process_explain(struct process *process, unsigned timeout_ms, struct drafter_error *err);

/* Kills and reaps; nothing happens when there is no process. */
void process_stop(struct process *process);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* A node's process: how it is started, and what belongs to its handle. */
#include "embed/internal.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGUMENTS_MAX 4096
#define PIPE_SIZE (1 << 20) /* room for what is logged while a callback is busy */
#define GRACE_MS 5000

/* The program's first words, in front of the caller's. */
struct command {
    const char **words;
    char config[32]; /* where the child finds the text of its configuration */
    int config_fd;
};

static void command_release(struct command *command)
{
    free(command->words);
    if (command->config_fd >= 0)
        close(command->config_fd);
}

/* In memory, so that nothing is left of it, and above the standard descriptors, for the child has its own there. */
static int keep_config(struct command *command, const char *text, struct drafter_error *err)
{
    cleanup_close int fd = memfd_create("drafter-config", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : io_write_full(fd, text, strlen(text));

    if (!rc && (command->config_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        rc = -errno;
    if (rc)
        return drafter_error_errno(err, -rc, "cannot keep the configuration");
    snprintf(command->config, sizeof(command->config), "/proc/self/fd/%d", command->config_fd);
    return 0;
}

static int command_make(struct command *command, const struct drafter_node_options *options,
                        struct drafter_error *err)
{
    const char *const *arguments = options->arguments;
    size_t count = 0, used = 0;
    int rc = options->config ? keep_config(command, options->config, err) : 0;

    while (arguments && arguments[count] && count <= ARGUMENTS_MAX)
        count++;
    if (!rc && count > ARGUMENTS_MAX)
        rc = drafter_error_set(err, E2BIG, "too many arguments");
    if (!rc && !count && !options->config)
        rc = drafter_error_set(err, EINVAL, "a node needs a configuration or arguments");
    if (!rc && !(command->words = calloc(count + 6, sizeof(*command->words))))
        rc = drafter_error_set(err, ENOMEM, "out of memory");
    if (rc)
        return rc;
    command->words[used++] = options->program ? options->program : "drafter";
    command->words[used++] = "--log-format=json";
    if (options->config) {
        command->words[used++] = "--config";
        command->words[used++] = command->config;
    }
    if (count)
        memcpy(command->words + used, arguments, count * sizeof(*arguments));
    return 0;
}

/* Starts the process; its log comes through a pipe of which only our end does not block. */
static int spawn(struct drafter_node *node, const struct command *command, struct drafter_error *err)
{
    const int keep[] = {command->config_fd, -1};
    cleanup_close int log = -1;
    struct proc_spec spec = {.argv = command->words,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .keep_fds = keep,
                             .new_process_group = true};
    int ends[2], rc;

    if (pipe2(ends, O_CLOEXEC))
        return drafter_error_errno(err, errno, "cannot make a pipe");
    node->log = ends[0];
    spec.stderr_fd = log = ends[1];
    fcntl(log, F_SETPIPE_SZ, PIPE_SIZE); /* as much as we may */
    if (fcntl(node->log, F_SETFL, O_NONBLOCK))
        return drafter_error_errno(err, errno, "cannot set up a pipe");
    rc = proc_spawn(&spec, &node->pid, err);
    if (rc)
        return rc;
    node->pidfd = (int)syscall(SYS_pidfd_open, node->pid, 0);
    /* ESRCH: it has ended, and was reaped by somebody else already. */
    return node->pidfd < 0 && errno != ESRCH ? drafter_error_errno(err, errno, "pidfd_open") : 0;
}

/* The caller's signal handlers are not to run in a thread of ours. */
static int start_watcher(struct drafter_node *node, struct drafter_error *err)
{
    void *reader = watch_new(node);
    sigset_t all, saved;
    int rc = reader ? 0 : ENOMEM;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    if (!rc)
        rc = pthread_create(&node->watcher, NULL, watch_main, reader);
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    if (!rc)
        return 0;
    free(reader);
    return drafter_error_errno(err, rc, "cannot start a thread");
}

static void release(struct drafter_node *node)
{
    const int descriptors[] = {node->pidfd, node->log, node->over};

    for (size_t i = 0; i < sizeof(descriptors) / sizeof(*descriptors); i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    for (size_t i = 0; i < RECORDS_MAX; i++)
        free(node->records[i].event);
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->lock);
    free(node);
}

static int node_new(struct drafter_node **ret_node, struct drafter_error *err)
{
    struct drafter_node *node = calloc(1, sizeof(*node));
    pthread_condattr_t attributes;

    if (!node)
        return drafter_error_set(err, ENOMEM, "out of memory");
    pthread_mutex_init(&node->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    node->pidfd = node->log = -1;
    node->exit_status = -1;
    node->over = eventfd(0, EFD_CLOEXEC);
    if (node->over < 0) {
        int code = errno;

        release(node);
        return drafter_error_errno(err, code, "eventfd");
    }
    *ret_node = node;
    return 0;
}

/* What a caller who was built with a smaller structure does not know is 0. */
static int read_options(const struct drafter_node_options *options,
                        struct drafter_node_options *ret_options, struct drafter_error *err)
{
    const size_t first = offsetof(struct drafter_node_options, opaque) + sizeof(options->opaque);

    if (options->struct_size < first)
        return drafter_error_set(err, EINVAL, "struct_size is not that of the options");
    *ret_options = (struct drafter_node_options){0};
    memcpy(ret_options, options,
           options->struct_size < sizeof(*options) ? options->struct_size : sizeof(*options));
    return 0;
}

static int start(struct drafter_node *node, struct drafter_error *err)
{
    struct command command = {.config_fd = -1};
    int rc = command_make(&command, &node->options, err);

    if (!rc)
        rc = spawn(node, &command, err);
    if (!rc)
        rc = start_watcher(node, err);
    if (rc && node->pid > 0)
        proc_stop(node->pid, GRACE_MS);
    command_release(&command);
    node->options.program = node->options.config = NULL; /* they were borrowed */
    node->options.arguments = NULL;
    return rc;
}

int drafter_node_start(const struct drafter_node_options *options, struct drafter_node **ret_node,
                       struct drafter_error *err)
{
    struct drafter_node *node = NULL;
    int rc = node_new(&node, err);

    if (rc)
        return rc;
    rc = read_options(options, &node->options, err);
    if (!rc)
        rc = start(node, err);
    if (rc) {
        release(node);
        return rc;
    }
    *ret_node = node;
    return 0;
}

void drafter_node_free(struct drafter_node *node)
{
    const uint64_t one = 1;

    if (!node)
        return;
    /* Room for it there is: nobody else writes it. */
    if (write(node->over, &one, sizeof(one)) == sizeof(one))
        pthread_join(node->watcher, NULL);
    release(node);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The command `reexec`: asks the drafter of a running VM to go on as another binary. */
#include "command.h"
#include "config/config.h"
#include "holder/holder.h"
#include "role/node.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <signal.h>
#include <time.h>

#define TIMEOUT_NS UINT64_C(10000000000)

static int ask(const char *directory, struct drafter_error *err)
{
    int before, now, rc;
    pid_t pid;

    rc = holder_who(directory, &pid, &before, err);
    if (rc)
        return drafter_error_wrap(err, "no VM whose drafter could be replaced");
    if (pid <= 0)
        return drafter_error_set(err, ENOENT, "%s: its drafter died; start it again", directory);
    if (kill(pid, SIGUSR2))
        return drafter_error_errno(err, errno, "process %d", (int)pid);
    for (uint64_t end = drafter_now_ns() + TIMEOUT_NS; drafter_now_ns() < end;) {
        static const struct timespec moment = {.tv_nsec = 5000000};

        rc = holder_who(directory, &pid, &now, err);
        if (rc)
            return rc;
        if (now != before)
            return 0;
        nanosleep(&moment, NULL);
    }
    return drafter_error_set(err, ETIMEDOUT, "process %d did not; its log says why", (int)pid);
}

int command_reexec(const char *config_path, struct drafter_error *err)
{
    cleanup_free char *directory = NULL;
    struct config *config;
    struct node node;
    int rc = config_load(config_path, &config, err);

    if (!rc)
        rc = node_look(config, &node, err);
    if (rc)
        return rc;
    if (asprintf(&directory, "%s/%s", node.options.run_directory, node.options.name) < 0) {
        directory = NULL;
        rc = drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (!rc)
        rc = ask(directory, err);
    node_close(&node);
    return rc;
}

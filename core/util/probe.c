/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/probe.h"

#include "util/cleanup.h"

#include <string.h>
#include <sys/wait.h>

static const struct probe probes[] = {
    {"kvm", "runs guests at the speed of the hardware", probe_kvm},
    {"fuse-mount", "shows devices to a VMM as files", probe_fuse},
    {"nbd", "shows devices to a VMM as /dev/nbdN", probe_nbd},
    {"loop", "shows devices to a VMM as /dev/loopN", probe_loop},
    {"tun", "connects a guest to the network", probe_tun},
    {"netns", "gives each VM a network of its own", probe_netns},
    {"userfaultfd", "resolves page faults of a guest in user space", probe_userfaultfd},
    {"cachestat", "finds dirty pages of a guest without copying them", probe_cachestat},
    {"io_uring", "reads and writes storage with fewer system calls", probe_io_uring},
    {"vhost-vsock", "talks to the agent in a guest", probe_vhost_vsock},
    {"space", "takes overlays and state of VMs", probe_space},
};
#define PROBE_COUNT (sizeof(probes) / sizeof(*probes))

/* Results so far; `lock` protects all of it and is held while a probe runs, so that each runs once.
 */
static struct {
    pthread_mutex_t lock;
    bool known[PROBE_COUNT];
    struct probe_result results[PROBE_COUNT];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

const struct probe *probe_at(size_t index)
{
    return index < PROBE_COUNT ? &probes[index] : NULL;
}

const struct probe *probe_find(const char *name)
{
    for (size_t i = 0; i < PROBE_COUNT; i++)
        if (strcmp(probes[i].name, name) == 0)
            return &probes[i];
    return NULL;
}

void probe_run(const struct probe *probe, struct probe_result *ret_result)
{
    size_t index = (size_t)(probe - probes);
    lock_scope(&cache.lock);

    if (!cache.known[index]) {
        probe->run(&cache.results[index]);
        cache.known[index] = true;
    }
    *ret_result = cache.results[index];
}

void probe_yes(struct probe_result *result, const char *format, ...)
{
    va_list arguments;

    *result = (struct probe_result){.available = true};
    va_start(arguments, format);
    vsnprintf(result->reason, sizeof(result->reason), format, arguments);
    va_end(arguments);
}

void probe_no(struct probe_result *result, const char *remedy, const char *format, ...)
{
    va_list arguments;

    *result = (struct probe_result){.available = false};
    snprintf(result->remedy, sizeof(result->remedy), "%s", remedy);
    va_start(arguments, format);
    vsnprintf(result->reason, sizeof(result->reason), format, arguments);
    va_end(arguments);
}

int probe_in_child(int (*try)(void))
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return -errno;
    if (pid == 0)
        _exit(-try());
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EFAULT;
}

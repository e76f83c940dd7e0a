/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firecracker as the VMM, with its jailer or without.
 *
 *     start.c     from a spec to a process that answers    jail.c     the directory it works in
 *     snapshot.c  save and load                            machine.c  what a restore must repeat
 *     vsock.c     agent and liveness                       api.c      its API
 *     facts.c     what peers compare; fork or release      adopt.c    one that outlived its drafter
 *     pager.c     pages for memory that is Firecracker's own
 *
 * This file holds the operations on a running VM, and the descriptor.
 */
#include "firecracker.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "vmm/common/socket.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t firecracker_deadline(const struct firecracker *vmm)
{
    return drafter_now_ns() + vmm->config->timeout;
}

int firecracker_explain(struct firecracker *vmm, int result, const char *what,
                        struct drafter_error *err)
{
    if (result == -EPIPE)
        process_explain(&vmm->process, 2000, err);
    return drafter_error_wrap(err, "%s", what);
}

static int refuse(const struct firecracker *vmm, const char *what, struct drafter_error *err)
{
    static const char *const phases[] = {
        [FIRECRACKER_STOPPED] = "there is no VM",
        [FIRECRACKER_LAUNCHED] = "the VM was not started yet",
        [FIRECRACKER_RUNNING] = "the VM runs",
        [FIRECRACKER_PAUSED] = "the VM is paused",
        [FIRECRACKER_SAVED] = "the VM is paused",
        [FIRECRACKER_INCOMING] = "the VM has no state yet",
        [FIRECRACKER_BROKEN] = "a load of the VM's state failed",
    };

    return drafter_error_set(err, EINVAL, "cannot %s: %s", what, phases[vmm->phase]);
}

int firecracker_set_state(struct firecracker *vmm, const char *state, struct drafter_error *err)
{
    return api_patch(&vmm->api, "/vm", json_pack("{s:s}", "state", state),
                     firecracker_deadline(vmm), err);
}

/*
 * Firecracker may yet do what it did not do in time.  It reads its connections in the order that they were
 * made, so that this state is what it comes to in the end; one that was hung up it might not read.
 */
void firecracker_leave_word(struct firecracker *vmm, const char *state)
{
    struct drafter_error error = {0};
    char text[256];
    int fd, result = socket_connect(vmm->jail.root, API_SOCKET, &fd, &error);

    snprintf(text, sizeof(text),
             "PATCH /vm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n{\"state\":\"%s\"}",
             strlen("{\"state\":\"\"}") + strlen(state), state);
    if (result == 0) {
        if (vmm->word_fd >= 0)
            close(vmm->word_fd);
        vmm->word_fd = fd;
        result = io_write_full(fd, text, strlen(text));
    }
    if (result < 0)
        drafter_log(DRAFTER_LOG_ERROR, vmm->id, "the VM may not become \"%s\" again: %s", state,
                    strerror(-result));
}

static int firecracker_pause(void *instance, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    int result;

    if (vmm->phase == FIRECRACKER_PAUSED || vmm->phase == FIRECRACKER_SAVED)
        return 0;
    if (vmm->phase != FIRECRACKER_RUNNING)
        return refuse(vmm, "pause", err);
    vsock_close(vmm); /* a snapshot must find no connection */
    result = firecracker_set_state(vmm, "Paused", err);
    if (result == -ETIMEDOUT)
        firecracker_leave_word(vmm, "Resumed");
    if (result < 0) {
        vsock_open(vmm, NULL);
        return firecracker_explain(vmm, result, "pause", err);
    }
    vmm->phase = FIRECRACKER_PAUSED;
    return 0;
}

static void drop_saved(struct firecracker *vmm)
{
    if (vmm->saved_fd >= 0)
        close(vmm->saved_fd);
    vmm->saved_fd = -1;
}

/* The guest may run for a moment yet, in which nothing may connect, and then differs from what was saved. */
static void stay_paused(struct firecracker *vmm, bool late)
{
    vsock_close(vmm);
    if (!late)
        return;
    firecracker_leave_word(vmm, "Paused");
    drop_saved(vmm);
    vmm->phase = FIRECRACKER_PAUSED;
}

static int firecracker_resume(void *instance, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    int result;

    if (vmm->phase == FIRECRACKER_RUNNING)
        return 0;
    if (vmm->phase != FIRECRACKER_PAUSED && vmm->phase != FIRECRACKER_SAVED)
        return refuse(vmm, "resume", err);
    result = vsock_open(vmm, err);
    if (result == 0)
        result = firecracker_set_state(vmm, "Resumed", err);
    if (result < 0) {
        stay_paused(vmm, result == -ETIMEDOUT);
        return firecracker_explain(vmm, result, "resume", err);
    }
    drop_saved(vmm);
    vmm->phase = FIRECRACKER_RUNNING;
    pager_prefetch(&vmm->pager);
    return 0;
}

static int firecracker_describe(void *instance, char *buffer, size_t size)
{
    const struct firecracker *vmm = instance;

    return vmm->phase == FIRECRACKER_STOPPED ? -EINVAL
                                             : machine_format(&vmm->machine, buffer, size);
}

static pid_t firecracker_pid(void *instance)
{
    struct firecracker *vmm = instance;

    return process_pid(&vmm->process);
}

/* ---- the instance */

static void firecracker_destroy(void *instance)
{
    struct firecracker *vmm = instance;

    if (!vmm)
        return;
    firecracker_stop(vmm);
    free(vmm->program);
    free(vmm->jailer);
    free(vmm->scratch);
    free(vmm->id);
    free(vmm);
}

static int check_config(const struct firecracker_config *config, struct drafter_error *err)
{
    const char *node = config->numa_node;

    if (!machine_template_valid(config->cpu_template))
        return drafter_error_set(err, EINVAL, "cpu-template = %.64s: there can be no such template",
                                 config->cpu_template);
    if (node && (!*node || strlen(node) > 4 || node[strspn(node, "0123456789")]))
        return drafter_error_set(err, EINVAL, "numa-node = %.64s: it must be a number", node);
    if (config->agent_port == config->liveness_port)
        return drafter_error_set(err, EINVAL, "agent-vsock-port and liveness-vsock-port are the same");
    if (node && !config->jailer)
        return drafter_error_set(err, EINVAL, "numa-node needs a jailer-bin");
    return 0;
}

static int firecracker_create(const struct drafter_context *context, const void *config,
                              void **ret_instance, struct drafter_error *err)
{
    int result = check_config(config, err);
    struct firecracker *vmm;

    if (result < 0)
        return result;
    vmm = calloc(1, sizeof(*vmm));
    if (!vmm)
        return drafter_error_errno(err, ENOMEM, "firecracker");
    vmm->config = config;
    vmm->keeper = context->keeper;
    pager_init(&vmm->pager);
    vmm->listeners[0] = vmm->listeners[1] = vmm->saved_fd = vmm->word_fd = -1;
    vmm->id = strdup(context->id);
    vmm->scratch = strdup(context->directory);
    if (!vmm->id || !vmm->scratch) {
        firecracker_destroy(vmm);
        return drafter_error_errno(err, ENOMEM, "firecracker");
    }
    *ret_instance = vmm;
    return 0;
}

static int firecracker_probe(const void *config, struct drafter_probe *ret_probe)
{
    struct firecracker vmm = {.config = config};
    struct drafter_error error = {0};
    int result = firecracker_version(&vmm, &error);

    free(vmm.program);
    free(vmm.jailer);
    *ret_probe = (struct drafter_probe){.usable = result == 0 && access("/dev/kvm", R_OK | W_OK) == 0};
    if (ret_probe->usable)
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "Firecracker %s", vmm.version);
    else if (result == 0)
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "/dev/kvm: %s", strerror(errno));
    else
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "%.255s", error.message);
    if (!ret_probe->usable)
        snprintf(ret_probe->remedy, sizeof(ret_probe->remedy), "%s",
                 result == 0 ? "load KVM's modules, and be root or in group kvm"
                             : "install Firecracker, or set firecracker-bin and jailer-bin");
    return 0;
}

static const char *const cgroup_choices[] = {"1", "2", NULL};

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_##type_, .default_value = (default_),                \
        .offset = offsetof(struct firecracker_config, field_), .help = (help_)                     \
    }
#define CHOICE(key_, field_, default_, choices_, help_)                                            \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_ENUM, .default_value = (default_),                   \
        .offset = offsetof(struct firecracker_config, field_), .choices = (choices_),              \
        .help = (help_)                                                                            \
    }
#define NUMBER(key_, field_, default_, minimum_, maximum_, help_)                                  \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_UINT, .default_value = (default_),                   \
        .offset = offsetof(struct firecracker_config, field_), .minimum = (minimum_),              \
        .maximum = (maximum_), .help = (help_)                                                     \
    }

static const struct drafter_option firecracker_options[] = {
    OPTION("firecracker-bin", STRING, binary, "firecracker",
           "Firecracker's program; looked up in PATH when it has no slash"),
    OPTION("jailer-bin", STRING, jailer, NULL,
           "Firecracker's jailer, looked up likewise; without it Firecracker runs as drafter does"),
    NUMBER("uid", uid, "0", 0, UINT32_MAX - 1, "User that the jailer changes to"),
    NUMBER("gid", gid, "0", 0, UINT32_MAX - 1, "Group that the jailer changes to"),
    OPTION("chroot-base-dir", PATH, chroot_base, "/srv/jailer", "Directory of the jails"),
    CHOICE("cgroup-version", cgroup_version, "2", cgroup_choices, "Which cgroups the jailer uses"),
    OPTION("numa-node", STRING, numa_node, NULL,
           "NUMA node whose memory and processors the jailer binds the VM to; without it none"),
    OPTION("cpu-template", STRING, cpu_template, "None",
           "CPU template of a VM that boots, such as T2 on Intel or T2A on AMD"),
    OPTION("io-engine-sync", BOOL, io_engine_sync, "no",
           "Firecracker does the I/O of drives in system calls that wait, not by io_uring"),
    OPTION("map-private", BOOL, map_private, "no",
           "What the guest changes in memory reaches the memory device only when the VM moves or is saved"),
    OPTION("vsock", BOOL, vsock, "yes", "The guest has a vsock, for agent and liveness"),
    NUMBER("agent-vsock-port", agent_port, "26", 1, UINT32_MAX - 1, "vsock port that the agent dials"),
    NUMBER("liveness-vsock-port", liveness_port, "25", 1, UINT32_MAX - 1,
           "vsock port that the liveness program dials"),
    OPTION("serial", STRING, serial, "serial.log",
           "Where the guest's serial port goes: none, stdio, or a file or FIFO, relative to the VM's "
           "directory"),
    OPTION("enable-output", BOOL, enable_output, "no",
           "The serial port is drafter's standard output, in place of what serial says"),
    OPTION("enable-input", BOOL, enable_input, "no",
           "Drafter's standard input is the serial port's"),
    {.key = "timeout",
     .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct firecracker_config, timeout),
     .default_value = "30s",
     .minimum = 1000000,
     .maximum = UINT64_C(3600000000000),
     .help = "Longest time that one operation may take"},
    DRAFTER_OPTION_END,
};

static const struct drafter_vmm_ops firecracker_ops = {
    .facts = firecracker_facts,
    .start = firecracker_start,
    .describe = firecracker_describe,
    .pause = firecracker_pause,
    .save = firecracker_save,
    .load = firecracker_load,
    .resume = firecracker_resume,
    .channel = firecracker_channel,
    .pid = firecracker_pid,
    .stop = firecracker_stop,
    .adopt = firecracker_adopt,
    .launch = firecracker_launch,
    .gather = firecracker_gather,
};

static const struct drafter_plugin firecracker_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_VMM, struct drafter_vmm_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "firecracker",
    .version = "0.1",
    .license = "BSD-2-Clause",
    .summary = "VMs in Firecracker, with its jailer or without",
    .options = firecracker_options,
    .config_size = sizeof(struct firecracker_config),
    .create = firecracker_create,
    .destroy = firecracker_destroy,
    .probe = firecracker_probe,
    .ops = &firecracker_ops,
};
DRAFTER_PLUGIN_ENTRY(firecracker_plugin)

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU as the VMM.  The guest's memory is a shared mapping of the memory device, so a snapshot is
 * only what QEMU's migration stream says of CPUs and devices (x-ignore-shared): some 40 KiB.
 *
 *     start.c    from a spec to a process that answers     cmdline.c  its command line
 *     machine.c  what a restore must repeat                qmp.c      the control protocol
 *     accel.c    KVM or not                                facts.c    what peers compare
 *     transfer.c pause, save, load, resume                 adopt.c    a QEMU that outlived its drafter
 *
 * This file holds the instance, and the descriptor.  ../common has what other VMMs
 * need too: the process, sockets, the saved stream, the host's CPU.
 */
#include "qemu.h"
#include "../original.h"
#include "cmdline.h"
#include "vmm/common/socket.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct qemu_channel qemu_channels[QEMU_CHANNELS] = {
    {"agent", "agent.sock", "org.drafter.agent"},
    {"liveness", "liveness.sock", "org.drafter.liveness"},
};

uint64_t qemu_deadline(const struct qemu_vmm *vmm)
{
    return drafter_now_ns() + vmm->config->timeout;
}

static int qemu_describe(void *instance, char *buffer, size_t size)
{
    const struct qemu_vmm *vmm = instance;

    return vmm->phase == QEMU_STOPPED ? -EINVAL : machine_format(&vmm->machine, buffer, size);
}

static int qemu_channel(void *instance, const char *name, int *ret_fd, struct drafter_error *err)
{
    const struct qemu_vmm *vmm = instance;

    if (vmm->phase == QEMU_STOPPED)
        return qemu_refuse(vmm, "connect", err);
    for (size_t i = 0; i < QEMU_CHANNELS; i++) {
        if (strcmp(name, qemu_channels[i].name) == 0)
            return socket_connect(vmm->directory, qemu_channels[i].socket, ret_fd, err);
    }
    return drafter_error_set(err, ENOTSUP, "the guest has no channel \"%s\"", name);
}

static pid_t qemu_pid(void *instance)
{
    struct qemu_vmm *vmm = instance;

    return process_pid(&vmm->process);
}

static void qemu_destroy(void *instance)
{
    struct qemu_vmm *vmm = instance;

    if (!vmm)
        return;
    qemu_stop(vmm);
    free(vmm->id);
    free(vmm);
}

static int qemu_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    int result = cmdline_check_config(config, err);
    struct qemu_vmm *vmm;

    if (result < 0)
        return result;
    vmm = calloc(1, sizeof(*vmm));
    if (vmm)
        vmm->id = strdup(context->id);
    if (!vmm || !vmm->id) {
        free(vmm);
        return drafter_error_errno(err, ENOMEM, "qemu");
    }
    vmm->config = config;
    vmm->keeper = context->keeper;
    vmm->created = accel_tsc_read();
    vmm->qmp.fd = -1;
    vmm->state_fd = vmm->gate_fd = vmm->control_fd = vmm->incoming_fd = -1;
    *ret_instance = vmm;
    return 0;
}

static int qemu_probe(const void *config, struct drafter_probe *ret_probe)
{
    struct qemu_vmm vmm = {.config = config, .id = (char *)(uintptr_t) "qemu"};
    struct drafter_error error = {0};
    bool kvm = false;

    *ret_probe = (struct drafter_probe){.usable = qemu_version(&vmm, &error) == 0};
    if (!ret_probe->usable) {
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "%.255s", error.message);
        snprintf(ret_probe->remedy, sizeof(ret_probe->remedy),
                 "install qemu-system-x86, or set binary");
        return 0;
    }
    qemu_accelerator(&vmm, &kvm, NULL);
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), "QEMU %s, %.180s", vmm.version,
             *vmm.accel.reason ? vmm.accel.reason
             : kvm             ? "KVM as configured"
                               : "TCG as configured");
    return 0;
}

static const char *const accelerator_choices[] = {"auto", "kvm", "tcg", NULL};
static const char *const net_choices[] = {"user", "tap", "none", NULL};
static const char *const reset_choices[] = {"reboot", "exit", NULL};

#define QEMU_OPTION(key_, type_, field_, default_, help_)                                          \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_##type_, .default_value = (default_),                \
        .offset = offsetof(struct qemu_config, field_), .help = (help_)                            \
    }
#define QEMU_CHOICE(key_, field_, default_, choices_, help_)                                       \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_ENUM, .default_value = (default_),                   \
        .offset = offsetof(struct qemu_config, field_), .choices = (choices_), .help = (help_)     \
    }

static const struct drafter_option qemu_options[] = {
    QEMU_OPTION("binary", STRING, binary, "qemu-system-x86_64",
                "QEMU's program; looked up in PATH when it has no slash"),
    QEMU_OPTION("machine", STRING, machine, "microvm",
                "Machine type: microvm, q35, pc, or a version of the latter two; a restored VM "
                "keeps its own"),
    QEMU_CHOICE("accelerator", accelerator, "auto", accelerator_choices,
                "kvm, tcg (emulation), or auto, which runs a short program under KVM and times it"),
    QEMU_OPTION(
        "cpu", STRING, cpu, NULL,
        "CPU model; without it max under tcg and host under kvm; a restored VM keeps its own"),
    QEMU_CHOICE(
        "net", net, "user", net_choices,
        "Network card when the network plugin gives no tap: user (QEMU's own NAT) or none; tap "
        "insists on a tap"),
    QEMU_OPTION(
        "forward", STRING, forward, NULL,
        "Ports that user networking forwards, PROTOCOL:HOST:PORT-:GUESTPORT, separated by commas"),
    QEMU_OPTION("restrict", BOOL, restrict_net, "no",
                "User networking lets the guest reach nothing but forwarded ports"),
    QEMU_OPTION(
        "serial", STRING, serial, "serial.log",
        "Serial port: none, stdio (output only), unix:PATH, or a file, relative to the VM's "
        "directory"),
    QEMU_CHOICE("on-reset", on_reset, "reboot", reset_choices, "What a reset of the guest does"),
    QEMU_OPTION("memory-prealloc", BOOL, memory_prealloc, "no",
                "Touch all memory at the start, which fetches all of it"),
    QEMU_OPTION("sandbox", BOOL, sandbox, "yes", "Confine QEMU's system calls"),
    {.key = "tb-size",
     .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct qemu_config, tb_size),
     .default_value = "256M",
     .minimum = (uint64_t)1 << 20,
     .maximum = (uint64_t)2 << 30,
     .unit = "bytes",
     .help = "Most memory that tcg uses for translated code"},
    {.key = "timeout",
     .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct qemu_config, timeout),
     .default_value = "30s",
     .minimum = 1000000,
     .maximum = UINT64_C(3600000000000),
     .help = "Longest time that one operation may take"},
    QEMU_OPTION(
        "extra-args", STRING, extra_args, NULL,
        "More arguments for QEMU, split at white space; unsupported, and not part of a snapshot"),
    QEMU_OPTION("enable-output", BOOL, enable_output, "no",
                "The serial port is drafter's standard output, in place of what serial says"),
    QEMU_OPTION("enable-input", BOOL, enable_input, "no",
                "Drafter's standard input is the serial port's, in place of what serial says"),
    VMM_ORIGINAL_OPTIONS,
    DRAFTER_OPTION_END,
};

static const struct drafter_vmm_ops qemu_ops = {
    .facts = qemu_facts,
    .start = qemu_start,
    .describe = qemu_describe,
    .pause = qemu_pause,
    .save = qemu_save,
    .load = qemu_load,
    .resume = qemu_resume,
    .channel = qemu_channel,
    .pid = qemu_pid,
    .stop = qemu_stop,
    .adopt = qemu_adopt,
    .launch = qemu_launch,
    .foresee = qemu_foresee,
};

static const struct drafter_plugin qemu_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_VMM, struct drafter_vmm_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "qemu",
    .version = "0.1",
    .license = "BSD-2-Clause",
    .summary = "VMs in QEMU, with KVM or without",
    .options = qemu_options,
    .config_size = sizeof(struct qemu_config),
    .create = qemu_create,
    .destroy = qemu_destroy,
    .probe = qemu_probe,
    .ops = &qemu_ops,
};
DRAFTER_PLUGIN_ENTRY(qemu_plugin)

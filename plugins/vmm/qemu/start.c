/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdline.h"
#include "qemu.h"
#include "util/cleanup.h"
#include "vmm/common/socket.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONTROL_SOCKET "qmp.sock"
#define TSC_DRIFT_PPM 500 /* beyond what NTP corrects */

/* ---- the machine */

static int boot_machine(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                        struct machine *machine, struct drafter_error *err)
{
    bool kvm;
    int result = qemu_accelerator(vmm, &kvm, err);

    if (result < 0)
        return result;
    snprintf(machine->type, sizeof(machine->type), "%s", vmm->config->machine);
    snprintf(machine->accel, sizeof(machine->accel), "%s", kvm ? "kvm" : "tcg");
    snprintf(machine->cpu, sizeof(machine->cpu), "%s", qemu_cpu(vmm->config, kvm));
    machine->tsc_khz = accel_tsc_khz(&vmm->created);
    if (spec->tap)
        machine->nic = MACHINE_NIC_TAP;
    else if (vmm->config->net == NET_USER)
        machine->nic = MACHINE_NIC_USER;
    else if (vmm->config->net == NET_TAP)
        return drafter_error_set(err, EINVAL, "net = tap: there is no tap interface");
    return machine_from_spec(machine, spec, err);
}

/* The counter of a VM does not change its pace when the host below it does. */
static void check_clock(const struct qemu_vmm *vmm, const struct machine *machine)
{
    uint64_t here = accel_tsc_khz(&vmm->created), there = machine->tsc_khz;
    uint64_t difference = here > there ? here - there : there - here;

    if (there && difference * 1000000 / there > TSC_DRIFT_PPM)
        drafter_log(DRAFTER_LOG_WARNING, vmm->id,
                    "the VM was booted at a TSC of %" PRIu64 " kHz, this host's has %" PRIu64
                    " kHz: its clock will drift",
                    there, here);
}

static int saved_machine(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                         struct machine *machine, struct drafter_error *err)
{
    static const char *const forced[] = {NULL, "kvm", "tcg"};
    const char *accel = forced[vmm->config->accelerator];
    struct machine wanted = {0};
    int result = machine_from_spec(&wanted, spec, err);

    if (result == 0)
        result = machine_parse(spec->machine_config, machine, err);
    if (result == 0)
        result = board_check(&machine->board, &wanted.board, err);
    if (result < 0)
        return result;
    if (accel && strcmp(machine->accel, accel) != 0)
        return drafter_error_set(err, EINVAL, "the saved VM ran under %s, here it would under %s",
                                 machine->accel, accel);
    if (machine->nic == MACHINE_NIC_TAP && !spec->tap)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM had a tap interface and needs one again");
    if (machine->nic == MACHINE_NIC_USER && !spec->tap && vmm->config->net != NET_USER)
        return drafter_error_set(err, EINVAL,
                                 "the saved VM has a network card: it needs net = user");
    return 0;
}

static int choose_machine(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                          enum drafter_vmm_start how, struct drafter_error *err)
{
    struct machine machine = {0};
    int result = how == DRAFTER_VMM_BOOT ? boot_machine(vmm, spec, &machine, err)
                                         : saved_machine(vmm, spec, &machine, err);

    if (result == 0)
        vmm->machine = machine;
    return result;
}

/* ---- the process */

/* QEMU's ends. */
struct sockets {
    int qmp, channels[QEMU_CHANNELS], gate, incoming;
};
#define SOCKETS_NONE                                                                               \
    {                                                                                              \
        .qmp = -1, .channels = {-1, -1}, .gate = -1, .incoming = -1                                \
    }

static void close_sockets(struct sockets *sockets)
{
    int fds[] = {sockets->qmp, sockets->gate, sockets->incoming};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    for (size_t i = 0; i < QEMU_CHANNELS; i++) {
        if (sockets->channels[i] >= 0)
            close(sockets->channels[i]);
    }
}

static int open_sockets(const char *directory, struct sockets *sockets, struct drafter_error *err)
{
    int result = socket_listen(directory, CONTROL_SOCKET, 1, &sockets->qmp, err);

    for (size_t i = 0; i < QEMU_CHANNELS && result == 0; i++)
        result = socket_listen(directory, qemu_channels[i].socket, 1, &sockets->channels[i], err);
    return result;
}

const char *qemu_log_path(const char *directory, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s/qemu.log", directory);
    return buffer;
}

static bool has_output(const struct qemu_config *config)
{
    return qemu_has_terminal(config) ? config->enable_output : strcmp(config->serial, "stdio") == 0;
}

static int spawn(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                 enum drafter_vmm_start how, const struct sockets *sockets,
                 struct drafter_error *err)
{
    struct cmdline cmdline = {0};
    struct cmdline_input input = {.config = vmm->config,
                                  .spec = spec,
                                  .machine = &vmm->machine,
                                  .how = how,
                                  .tsc_khz = vmm->machine.tsc_khz,
                                  .qmp_fd = sockets->qmp,
                                  .incoming_fd = sockets->incoming,
                                  .gate_fd = sockets->gate};
    int keep_fds[QEMU_CHANNELS + 4] = {sockets->qmp, sockets->gate};
    char log_path[PATH_MAX];
    int result;

    for (size_t i = 0; i < QEMU_CHANNELS; i++)
        keep_fds[i + 2] = input.channel_fds[i] = sockets->channels[i];
    keep_fds[QEMU_CHANNELS + 2] = sockets->incoming; /* -1 ends the list already */
    keep_fds[QEMU_CHANNELS + 3] = -1;
    result = cmdline_build(&cmdline, &input, err);
    if (result == 0)
        result = process_start(
            &vmm->process,
            &(struct process_spec){.name = "QEMU",
                                   .argv = (const char *const *)cmdline.words,
                                   .keep_fds = keep_fds,
                                   .netns = spec->netns,
                                   .log_path = qemu_log_path(spec->directory, log_path,
                                                             sizeof(log_path)),
                                   .keeper = vmm->keeper,
                                   .inherit_stdin = vmm->config->enable_input,
                                   .inherit_stdout = has_output(vmm->config)},
            err);
    cmdline_release(&cmdline);
    return result;
}

/*
 * All is said before QEMU listens, and the answers come in one go with its greeting.  RAM is a shared
 * file and no part of the stream.  A `cont` is begun for when the state was loaded.
 */
static int set_up_control(struct qemu_vmm *vmm, enum drafter_vmm_start how, uint64_t deadline,
                          struct drafter_error *err)
{
    struct qmp *qmp = &vmm->qmp;
    int fd = vmm->control_fd, result;
    uint64_t id;

    vmm->control_fd = -1;
    result = qmp_open(qmp, fd, deadline, err);
    if (result == 0)
        result = qmp_send(qmp, "migrate-set-capabilities",
                          json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability",
                                    "x-ignore-shared", "state", 1),
                          -1, deadline, err);
    id = qmp->last_id;
    if (result == 0 && how == DRAFTER_VMM_RESTORE) {
        result = qmp_begin(qmp, "cont", NULL, deadline, err);
        vmm->cont_begun = true;
    }
    if (result == 0)
        result = qmp_greet(qmp, deadline, err);
    if (result == 0 && !*vmm->version) /* spares a process that only says it */
        snprintf(vmm->version, sizeof(vmm->version), "%s", qmp->version);
    return result < 0 ? result : qmp_receive(qmp, id, deadline, NULL, err);
}

/* The way that the state will take into QEMU, which waits at its end. */
static int open_incoming(struct qemu_vmm *vmm, struct sockets *sockets, struct drafter_error *err)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return drafter_error_errno(err, errno, "cannot make a socket");
    vmm->incoming_fd = ends[0];
    sockets->incoming = ends[1];
    return 0;
}

/* QEMU reads an empty configuration file from the gate before it opens anything that `spec` names. */
static int spawn_at_gate(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                         enum drafter_vmm_start how, struct sockets *sockets,
                         struct drafter_error *err)
{
    int ends[2], result;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return drafter_error_errno(err, errno, "cannot make a pipe");
    sockets->gate = ends[0];
    vmm->gate_fd = ends[1];
    result = open_sockets(spec->directory, sockets, err);
    if (result == 0 && how == DRAFTER_VMM_RESTORE)
        result = open_incoming(vmm, sockets, err);
    /* Connected before QEMU runs: the greeting is awaited, not looked for. */
    if (result == 0)
        result = socket_connect(spec->directory, CONTROL_SOCKET, &vmm->control_fd, err);
    return result < 0 ? result : spawn(vmm, spec, how, sockets, err);
}

/* Lets QEMU go on and waits until it answers. */
static int open_gate(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                     enum drafter_vmm_start how, struct drafter_error *err)
{
    uint64_t timeout_ms = spec->timeout_ms ? spec->timeout_ms : vmm->config->timeout / 1000000;
    int result;

    close(vmm->gate_fd);
    vmm->gate_fd = -1;
    result = set_up_control(vmm, how, drafter_now_ns() + timeout_ms * 1000000, err);
    return result < 0 ? result : qemu_keep(vmm, err);
}

static int check_spec(const struct drafter_vmm_spec *spec, struct drafter_error *err)
{
    if (!spec->memory || !spec->kernel || !spec->directory || !spec->name)
        return drafter_error_set(err, EINVAL,
                                 "a VM needs a name, a directory, memory and a kernel");
    if (strlen(spec->directory) > PATH_MAX - 64)
        return drafter_error_set(err, ENAMETOOLONG, "the VM's directory");
    return 0;
}

int qemu_launch(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
                struct drafter_error *err)
{
    struct sockets sockets = SOCKETS_NONE;
    struct qemu_vmm *vmm = instance;
    int result = check_spec(spec, err);

    if (vmm->phase != QEMU_STOPPED)
        return drafter_error_set(err, EBUSY, "the VM was started already");
    if (result == 0)
        result = choose_machine(vmm, spec, how, err);
    if (result < 0)
        return result;
    vmm->directory = strdup(spec->directory);
    if (!vmm->directory)
        return drafter_error_errno(err, ENOMEM, "VM");
    result = spawn_at_gate(vmm, spec, how, &sockets, err);
    close_sockets(&sockets); /* now an end of QEMU ends the connections */
    if (result < 0)
        qemu_stop(vmm);
    else
        vmm->phase = QEMU_LAUNCHED;
    return result;
}

int qemu_start(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
               struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    int result = vmm->phase == QEMU_LAUNCHED ? 0 : qemu_launch(vmm, spec, how, err);

    if (result < 0)
        return result;
    result = open_gate(vmm, spec, how, err);
    if (result == -EPIPE)
        result = process_explain(&vmm->process, 2000, err);
    if (result < 0) {
        qemu_stop(vmm);
        return result;
    }
    vmm->phase = how == DRAFTER_VMM_BOOT ? QEMU_RUNNING : QEMU_INCOMING;
    if (how == DRAFTER_VMM_RESTORE)
        check_clock(vmm, &vmm->machine);
    return 0;
}

/* ---- the end */

static void remove_file(const char *directory, const char *name)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path))
        unlink(path);
}

static void close_own(struct qemu_vmm *vmm)
{
    int *const fds[] = {&vmm->gate_fd, &vmm->control_fd, &vmm->incoming_fd, &vmm->state_fd};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    vmm->cont_begun = false;
}

void qemu_stop(void *instance)
{
    struct qemu_vmm *vmm = instance;

    process_stop(&vmm->process);
    qmp_close(&vmm->qmp);
    close_own(vmm);
    qemu_forget(vmm);
    if (vmm->directory) {
        remove_file(vmm->directory, CONTROL_SOCKET);
        for (size_t i = 0; i < QEMU_CHANNELS; i++)
            remove_file(vmm->directory, qemu_channels[i].socket);
        if (strncmp(vmm->config->serial, "unix:", 5) == 0)
            unlink(vmm->config->serial + 5);
    }
    free(vmm->directory);
    vmm->directory = NULL;
    vmm->phase = QEMU_STOPPED;
}

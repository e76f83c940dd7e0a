/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef QEMU_QEMU_H
#define QEMU_QEMU_H

#include "accel.h"
#include "machine.h"
#include "qmp.h"
#include "vmm/common/process.h"

enum qemu_accelerator { ACCELERATOR_AUTO, ACCELERATOR_KVM, ACCELERATOR_TCG };
enum qemu_net { NET_USER, NET_TAP, NET_NONE };
enum qemu_reset { ON_RESET_REBOOT, ON_RESET_EXIT };

struct qemu_config {
    const char *binary, *machine, *cpu, *forward, *serial, *extra_args;
    int accelerator, net, on_reset;
    bool restrict_net, sandbox, memory_prealloc, enable_output, enable_input;
    uint64_t tb_size, timeout;
};

/* Whether the serial port is on standard input and output. */
static inline bool qemu_has_terminal(const struct qemu_config *config)
{
    return config->enable_output || config->enable_input;
}

/* Services of the guest, each a virtio serial port of this number and a socket. */
struct qemu_channel {
    const char *name, *socket, *port;
};
#define QEMU_CHANNELS 2
extern const struct qemu_channel qemu_channels[QEMU_CHANNELS];

enum qemu_phase {
    QEMU_STOPPED,
    QEMU_LAUNCHED, /* waits at its gate for start() */
    QEMU_RUNNING,
    QEMU_PAUSED,
    QEMU_SAVING,   /* paused, and QEMU writes the state into state_fd */
    QEMU_SAVED,    /* paused, and state_fd holds the state */
    QEMU_INCOMING, /* waits for load() */
    QEMU_BROKEN,   /* a load failed: only stop() is left */
};

/* What a later process must know of a QEMU that outlives this one.  Layout 1. */
struct qemu_kept {
    uint32_t layout;
    int32_t pid; /* 0: there is none */
    char version[64];
    char machine[DESCRIPTION_MAX];
};
#define QEMU_KEPT_LAYOUT 1u

struct qemu_vmm {
    const struct qemu_config *config;
    const struct drafter_keeper *keeper; /* or NULL */
    struct qemu_kept *kept;              /* or NULL */
    char *id;
    struct accel_tsc created;
    char version[64];          /* "" until asked for */
    struct accel_choice accel; /* reason "" until probed */

    enum qemu_phase phase;
    struct machine machine;
    char *directory; /* of the VM */
    struct process process;
    struct qmp qmp;
    int gate_fd, control_fd; /* while launched, else -1: QEMU goes on when the gate is closed */
    int incoming_fd; /* while QEMU waits for its state: where load() writes it; else -1 */
    int state_fd;    /* memory file for the state, of which QEMU knows; or -1 */
    bool cont_begun; /* all but the last byte of `cont` was said */
};

/* Deadline of one control operation that starts now. */
uint64_t qemu_deadline(const struct qemu_vmm *vmm);

/* facts.c: what the host has; answers are kept. */
int qemu_version(struct qemu_vmm *vmm, struct drafter_error *err);
int qemu_accelerator(struct qemu_vmm *vmm, bool *ret_kvm, struct drafter_error *err);
const char *qemu_cpu(const struct qemu_config *config, bool kvm);
int qemu_facts(void *instance, struct drafter_vmm_facts *ret_facts, struct drafter_error *err);

/* start.c: the way from a spec to a process that answers. */
int qemu_launch(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
                struct drafter_error *err);
int qemu_start(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
               struct drafter_error *err);
void qemu_stop(void *instance);
const char *qemu_log_path(const char *directory, char *buffer, size_t size);

/* transfer.c */
int qemu_foresee(void *instance, struct drafter_error *err);
int qemu_pause(void *instance, struct drafter_error *err);
int qemu_save(void *instance, int fd, struct drafter_error *err);
int qemu_load(void *instance, int fd, struct drafter_error *err);
int qemu_resume(void *instance, struct drafter_error *err);
int qemu_refuse(const struct qemu_vmm *vmm, const char *what, struct drafter_error *err);

/* adopt.c: a QEMU that outlived its drafter. */
int qemu_keep(struct qemu_vmm *vmm, struct drafter_error *err);
void qemu_forget(struct qemu_vmm *vmm);
int qemu_adopt(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_phase *ret_phase,
               struct drafter_error *err);

#endif

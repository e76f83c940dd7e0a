/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FIRECRACKER_FIRECRACKER_H
#define FIRECRACKER_FIRECRACKER_H

#include "api.h"
#include "jail.h"
#include "machine.h"
#include "pager.h"
#include "vmm/common/process.h"

#define API_SOCKET "firecracker.sock"
#define VSOCK_SOCKET "vsock.sock"

struct firecracker_config {
    const char *binary, *jailer, *chroot_base, *numa_node, *cpu_template, *serial;
    uint64_t uid, gid, agent_port, liveness_port, timeout;
    int cgroup_version;
    bool io_engine_sync, map_private, vsock, enable_output, enable_input;
};

enum firecracker_kind {
    KIND_UNKNOWN,
    KIND_FORK,  /* has snapshots of types Msync and MsyncAndState, maps memory shared */
    KIND_STOCK, /* a release of Firecracker itself */
};

enum firecracker_phase {
    FIRECRACKER_STOPPED,
    FIRECRACKER_LAUNCHED, /* the process runs, the rest of start() is to come */
    FIRECRACKER_RUNNING,
    FIRECRACKER_PAUSED,
    FIRECRACKER_SAVED,    /* paused, and saved_fd holds the state */
    FIRECRACKER_INCOMING, /* waits for load() */
    FIRECRACKER_BROKEN,   /* a load failed: only stop() is left */
};

/* Where the guest's memory is. */
enum firecracker_memory {
    MEMORY_OWN,     /* Firecracker's alone, and the memory device has an old version of all of it */
    MEMORY_SHARED,  /* a shared mapping of the memory device */
    MEMORY_TRACKED, /* its own; Firecracker knows what the memory device does not have */
};

/* What a later process must know of a Firecracker that outlives this one.  Layout 1. */
struct firecracker_kept {
    uint32_t layout;
    int32_t pid; /* 0: there is none */
    int32_t kind;
    int32_t memory; /* atomic */
    char version[64];
    char machine[DESCRIPTION_MAX];
};
#define FIRECRACKER_KEPT_LAYOUT 1u

#define FIRECRACKER_CHANNELS 2

struct firecracker {
    const struct firecracker_config *config;
    const struct drafter_keeper *keeper; /* or NULL */
    struct firecracker_kept *kept;       /* or NULL */
    char *id;
    char *scratch; /* a directory for probes */
    char *program, *jailer; /* paths; NULL until looked up; jailer NULL also without */
    char version[64]; /* "" until asked for */
    enum firecracker_kind kind;

    enum firecracker_phase phase;
    enum firecracker_memory memory;
    struct machine machine;
    char tap[16]; /* of this host, "": none */
    char *directory, *memory_path; /* of the VM */
    struct jail jail;
    struct process process;
    struct api api;
    struct pager pager;
    int listeners[FIRECRACKER_CHANNELS]; /* or -1 */
    int saved_fd; /* memory file with the stream of the last save, or -1 */
    int word_fd;  /* a connection that firecracker_leave_word() left, or -1 */
};

/* Deadline of one control operation that starts now. */
uint64_t firecracker_deadline(const struct firecracker *vmm);

/* Adds what a process that ended had to say. */
int firecracker_explain(struct firecracker *vmm, int result, const char *what,
                        struct drafter_error *err);

/* facts.c: what the host has; answers are kept. */
int firecracker_version(struct firecracker *vmm, struct drafter_error *err);
int firecracker_learn_kind(struct firecracker *vmm, struct api *api, struct drafter_error *err);
int firecracker_facts(void *instance, struct drafter_vmm_facts *ret_facts,
                      struct drafter_error *err);

/* start.c: the way from a spec to a process that answers. */
int firecracker_start(void *instance, const struct drafter_vmm_spec *spec,
                      enum drafter_vmm_start how, struct drafter_error *err);
int firecracker_launch(void *instance, const struct drafter_vmm_spec *spec,
                       enum drafter_vmm_start how, struct drafter_error *err);
void firecracker_stop(void *instance);
void firecracker_identify(const char *name, char *id, size_t size); /* in its alphabet */
const char *firecracker_log_path(const char *directory, char *buffer, size_t size);
int firecracker_name_jail(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                          struct drafter_error *err);

/* snapshot.c */
int firecracker_save(void *instance, int fd, struct drafter_error *err);
int firecracker_load(void *instance, int fd, struct drafter_error *err);
int firecracker_gather(void *instance, struct drafter_error *err);
int firecracker_set_state(struct firecracker *vmm, const char *state, struct drafter_error *err);
void firecracker_leave_word(struct firecracker *vmm, const char *state);

/* vsock.c: what the guest dials. */
int vsock_open(struct firecracker *vmm, struct drafter_error *err);
void vsock_close(struct firecracker *vmm);
int firecracker_channel(void *instance, const char *name, int *ret_fd, struct drafter_error *err);

/* Whether Firecracker notes which pages of memory of its own the guest changes. */
static inline bool firecracker_tracks(const struct firecracker *vmm)
{
    return vmm->kind == KIND_STOCK || vmm->config->map_private;
}

/* adopt.c: a Firecracker that outlived its drafter. */
int firecracker_keep(struct firecracker *vmm, struct drafter_error *err);
void firecracker_keep_memory(struct firecracker *vmm, enum firecracker_memory memory);
void firecracker_forget(struct firecracker *vmm);
int firecracker_adopt(void *instance, const struct drafter_vmm_spec *spec,
                      enum drafter_vmm_phase *ret_phase, struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMM plugins run one virtual machine per instance in a process of its own.
 *
 *     start(BOOT) -> running -> pause -> save -> ... -> stop            a snapshot is taken
 *     [launch ->] start(RESTORE) -> load -> resume -> running                       a snapshot is resumed
 *     running [-> foresee] -> pause -> save -> stop                     it moves away
 *     running [-> foresee] -> pause -> save -> resume                   the move failed: it stays
 *
 * Guest memory is the file `memory`, which the VMM maps shared (or see gather()); saving writes only CPU and
 * device state.  Control operations come from one thread at a time and may block up to their timeout.
 */
#ifndef DRAFTER_VMM_H
#define DRAFTER_VMM_H

#include <drafter/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What two hosts must agree on before a VM moves between them.  Strings are NUL-terminated, printable
 * ASCII; they are compared byte for byte.
 */
struct drafter_vmm_facts {
    char name[32];        /* "qemu" */
    char version[64];     /* "7.2.22" */
    char machine[64];     /* "microvm" */
    char accelerator[16]; /* "tcg", "kvm" */
    char cpu_model[128];  /* what the guest was told, e.g. "max" or "host:AMD EPYC 9654" */
    uint64_t cpu_features; /* hash of the CPU features that the guest can see */
};

struct drafter_vmm_device {
    const char *name; /* "kernel", "disk", ... */
    const char *path; /* what to open */
    bool drive;       /* attach as a block device; drives appear in listed order */
    bool readonly;
};

enum drafter_vmm_start {
    DRAFTER_VMM_BOOT = 0,    /* boot the kernel; the guest runs when start returns */
    DRAFTER_VMM_RESTORE = 1, /* make ready for load(); the guest does not run */
};

/* Since 1.1: how far an adopted VM is. */
enum drafter_vmm_phase {
    DRAFTER_VMM_WAITING = 0, /* for load() */
    DRAFTER_VMM_PAUSED = 1,  /* resume() lets it run */
    DRAFTER_VMM_RUNNING = 2,
    DRAFTER_VMM_USELESS = 3, /* in the middle of a load, or worse: stop() is all that is left */
};

struct drafter_vmm_spec {
    uint32_t struct_size;
    const char *name;      /* of the VM; for process names and messages */
    const char *directory; /* private, exists: sockets and logs go there */
    uint64_t memory_size;  /* bytes */
    unsigned cpu_count;
    const char *boot_args; /* kernel command line without what the VMM itself must add */
    const char *memory;    /* path of the memory device; size memory_size or more */
    const char *kernel;    /* path; also needed to restore where the VMM says so */
    const char *initramfs; /* path or NULL */
    const struct drafter_vmm_device *devices; /* the drives */
    size_t device_count;
    /*
     * Restore: what describe() gave when the VM was first started.  "" for a package of the original, which
     * does not have it: a plugin that runs its VMM takes what is above and its options, any other refuses.
     */
    const char *machine_config;
    const char *netns;          /* run in this network namespace, path; or NULL */
    const char *tap;            /* tap interface in it, or NULL: the plugin's own networking */
    const char *mac;            /* of the guest, or NULL: the plugin's default */
    unsigned timeout_ms;        /* for the VMM to become ready */
};

struct drafter_vmm_ops {
    /* What this host's VMM is; looks at the host, runs the VMM's own probes.  Mandatory. */
    int (*facts)(void *instance, struct drafter_vmm_facts *ret_facts, struct drafter_error *err);

    /* Starts the process.  Everything in `spec` is copied.  Mandatory. */
    int (*start)(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
                 struct drafter_error *err);

    /*
     * A short printable description (key=value words, no secrets, no paths) of what a later restore
     * must repeat, such as the machine and the order of devices.  Mandatory.
     */
    int (*describe)(void *instance, char *buffer, size_t size);

    /* Stops the virtual CPUs and drains device I/O.  Paused already is success.  Mandatory. */
    int (*pause)(void *instance, struct drafter_error *err);

    /*
     * Writes CPU and device state of a paused VM to `fd`, a pipe or file, in a format that load()
     * delimits by itself (trailing zeros must not harm).  Returns when all was written.  Mandatory.
     */
    int (*save)(void *instance, int fd, struct drafter_error *err);

    /* Reads CPU and device state from `fd`; the guest does not run yet.  Mandatory. */
    int (*load)(void *instance, int fd, struct drafter_error *err);

    /* Lets the guest run (on).  Running already is success.  Mandatory. */
    int (*resume)(void *instance, struct drafter_error *err);

    /*
     * Opens a byte stream to the guest service `name` ("agent", "liveness"): a new descriptor that the
     * caller closes.  -ENOTSUP without such a channel.  Since 1.2 -EAGAIN: the guest has to open it and
     * has not yet; ask again.  Optional: no channel.
     */
    int (*channel)(void *instance, const char *name, int *ret_fd, struct drafter_error *err);

    /* The process, for watching (pidfd_open) and messages; -ESRCH when there is none.  Mandatory. */
    pid_t (*pid)(void *instance);

    /* Kills the process if it still runs and reaps it.  Mandatory. */
    void (*stop)(void *instance);

    /*
     * Since 1.1.  In place of start(): takes over the process that a dead drafter started through the
     * keeper (see struct drafter_keeper) and finds out how far it is.  -ENOENT: there is none.
     * Default: a VM cannot be adopted and ends with its drafter.
     */
    int (*adopt)(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_phase *ret_phase,
                 struct drafter_error *err);

    /*
     * Since 1.1.  Begins what start() does while the devices cannot be opened yet: they will be at the
     * paths of `spec` when start() follows with the same arguments.  stop() undoes it.  Default: all
     * is left to start().
     */
    int (*launch)(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
                  struct drafter_error *err);

    /*
     * Since 1.2.  The VM runs and is about to be paused and saved: makes ready what shortens the pause.
     * The pause may come late or never, and foresee() again before it.  Default: nothing.
     */
    int (*foresee)(void *instance, struct drafter_error *err);

    /*
     * Since 1.3.  For a VMM that does not map the file `memory` shared: writes what the guest has changed
     * in memory since the last call to that file.  The guest runs on; it may stand still for a moment.  The
     * core asks ahead of each pass of a migration.  save() does the same, so that afterwards the file is
     * complete; what the guest reads first after load() must come from the file at that time, since it
     * may not be complete before.  Default: the mapping shows all changes.
     */
    int (*gather)(void *instance, struct drafter_error *err);
};

#ifdef __cplusplus
}
#endif

#endif

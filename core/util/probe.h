/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this host can do.  Each capability is found by using it, not by looking for a file or a
 * kernel version; nothing that outlasts the call is changed.
 */
#ifndef UTIL_PROBE_H
#define UTIL_PROBE_H

#include <drafter/common.h>

struct probe_result {
    bool available;
    char reason[192]; /* why not, or a remark */
    char remedy[192]; /* what the operator can do; "" when there is nothing to do */
};

struct probe {
    const char *name;    /* "kvm" */
    const char *purpose; /* what drafter would use it for */
    void (*run)(struct probe_result *result);
};

/* The probes in order, NULL behind the last; and by name, NULL for an unknown one. */
const struct probe *probe_at(size_t index);
const struct probe *probe_find(const char *name);

/* The result, found once per process.  Any thread. */
void probe_run(const struct probe *probe, struct probe_result *ret_result);

/* For probe functions: fill a result in one line. */
void probe_yes(struct probe_result *result, const char *format, ...) DRAFTER_PRINTF(2, 3);
void probe_no(struct probe_result *result, const char *remedy, const char *format, ...)
    DRAFTER_PRINTF(3, 4);

/*
 * Runs `try` in a child process, for what cannot be undone in this one (namespaces): it returns 0
 * or a negative errno of at most 255, makes async-signal-safe calls only and must not leave
 * anything.
 */
int probe_in_child(int (*try)(void));

/* probe-vm.c, probe-kernel.c */
void probe_kvm(struct probe_result *result);
void probe_vhost_vsock(struct probe_result *result);
void probe_fuse(struct probe_result *result);
void probe_nbd(struct probe_result *result);
void probe_loop(struct probe_result *result);
void probe_tun(struct probe_result *result);
void probe_netns(struct probe_result *result);
void probe_userfaultfd(struct probe_result *result);
void probe_cachestat(struct probe_result *result);
void probe_io_uring(struct probe_result *result);
void probe_space(struct probe_result *result);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The config device of a package: `config.json`, zero-padded.  The original's
 * `{"agentVSockPort": 26}` and, under "drafter", what a host must be to resume the VM.
 */
#ifndef VM_PACKAGE_H
#define VM_PACKAGE_H

#include "migrate/wire.h"
#include <drafter/vmm.h>

#define PACKAGE_CONFIG_MAX (1u << 16)

struct package_device {
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t size;
    char hash[65]; /* BLAKE2b-256 in hex as of the snapshot, "" when unknown */
};

struct package {
    uint32_t agent_port; /* 0: the guest has no agent */
    bool complete;       /* false: only agentVSockPort was there, as the original writes it */
    struct drafter_vmm_facts facts;
    uint64_t memory_size; /* bytes */
    unsigned cpu_count;
    char kernel[65];      /* release of the host's kernel that saved it, "" when unknown */
    char boot_args[2048];
    char machine_config[1024]; /* the VMM plugin's description */
    struct package_device devices[WIRE_DEVICES_MAX];
    unsigned device_count;
};

/* A fresh string that the caller frees; NULL when memory is short. */
char *package_encode(const struct package *package);

/* Reads what stands before the first NUL (all of it when there is none). */
int package_decode(const char *data, size_t length, struct package *ret_package,
                   struct drafter_error *err);

/* Fills in size and hash of a device from its file. */
int package_hash_file(const char *path, struct package_device *device, struct drafter_error *err);

/*
 * The size of a device in a package: whole MiB and at least one to spare, since state grows between
 * snapshots and a block device cannot.
 */
uint64_t package_padded_size(uint64_t size);

/*
 * For a package that does not say how much memory its VM has: that of a memory device of this size.  The
 * original's later versions added 1 MiB to a memory of whole and, as is usual, an even number of MiB.
 */
uint64_t package_guess_memory(uint64_t size);

#endif

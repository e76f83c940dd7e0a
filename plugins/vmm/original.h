/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options that the original's command lines have for its only VMM, for plugins that run another one: they are
 * accepted, and said to have no effect.
 */
#ifndef PLUGINS_VMM_ORIGINAL_H
#define PLUGINS_VMM_ORIGINAL_H

#include <drafter/plugin.h>

#define VMM_IGNORED(key_, help_)                                                                   \
    {                                                                                              \
        .key = (key_), .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_IGNORED,             \
        .help = (help_)                                                                            \
    }

#define VMM_ORIGINAL_OPTIONS                                                                       \
    VMM_IGNORED("firecracker-bin", "it names the program Firecracker, and the VM runs in another VMM"), \
        VMM_IGNORED("jailer-bin", "it names Firecracker's jailer, and the VM runs in another VMM"), \
        VMM_IGNORED("chroot-base-dir", "it says where Firecracker's jailer works; files of a running " \
                                       "VM are below run-directory"),                              \
        VMM_IGNORED("uid", "it says as whom Firecracker's jailer runs the VMM"),                   \
        VMM_IGNORED("gid", "it says as which group Firecracker's jailer runs the VMM"),            \
        VMM_IGNORED("numa-node", "it binds Firecracker to a NUMA node"),                           \
        VMM_IGNORED("cgroup-version", "it says which cgroups Firecracker's jailer uses"),          \
        VMM_IGNORED("cpu-template", "it chooses a CPU template of Firecracker"),                   \
        VMM_IGNORED("map-private", "it says how Firecracker maps memory"),                         \
        VMM_IGNORED("io-engine-sync", "it chooses how Firecracker reads drives"),                  \
        VMM_IGNORED("liveness-vsock-port", "it is the port of a vsock of Firecracker; the channel here " \
                                           "has a name")

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command lines of the original's tools.  Its earlier tools named each resource by flags of its own
 * (--state-path, --memory-laddr, ...), the later ones all of them by --devices; both are here.
 */
#ifndef ROLE_ORIGINAL_H
#define ROLE_ORIGINAL_H

#include "config/flags.h"

/* What the earlier tools called the files of a package and of a blueprint. */
#define ORIGINAL_PACKAGE "out/package/drafter.drft"
#define ORIGINAL_BLUEPRINT "out/blueprint/drafter.drft"

/* A flag that is a key of one device. */
#define ORIGINAL_PART(device_, suffix_, key_, default_, help_)                                     \
    {.name = device_ "-" suffix_, .kind = "device", .id = device_, .key = key_,                    \
     .model = CONFIG_FLAG_PARTS, .default_value = default_, .help = help_}

/* --state-path and so on, for tools whose devices are files. */
#define ORIGINAL_PART_PATHS(key_, help_)                                                           \
    ORIGINAL_PART("state", "path", key_, ORIGINAL_PACKAGE "state", help_),                         \
        ORIGINAL_PART("memory", "path", key_, ORIGINAL_PACKAGE "memory", help_),                   \
        ORIGINAL_PART("initramfs", "path", key_, ORIGINAL_PACKAGE "initramfs", help_),             \
        ORIGINAL_PART("kernel", "path", key_, ORIGINAL_PACKAGE "kernel", help_),                   \
        ORIGINAL_PART("disk", "path", key_, ORIGINAL_PACKAGE "disk", help_),                       \
        ORIGINAL_PART("config", "path", key_, ORIGINAL_PACKAGE "config", help_)

#define ORIGINAL_CONCURRENCY                                                                       \
    {                                                                                              \
        .name = "concurrency", .ignored = "streams need no workers for each block",                \
        .help = "workers of a migration"                                                           \
    }
#define ORIGINAL_VERBOSE                                                                           \
    {                                                                                              \
        .name = "verbose", .kind = "drafter", .key = "log-level", .form = CONFIG_FLAG_SWITCH,      \
        .value = "debug", .help = "log more"                                                       \
    }
/* Keys of the VMM plugin, where it has them. */
#define ORIGINAL_CONSOLE                                                                           \
    {.name = "enable-output", .kind = "vmm", .key = "enable-output", .form = CONFIG_FLAG_SWITCH,   \
     .default_value = "yes", .help = "whether the guest's console is standard output"},            \
    {                                                                                              \
        .name = "enable-input", .kind = "vmm", .key = "enable-input", .form = CONFIG_FLAG_SWITCH,  \
        .help = "whether standard input is the guest's console"                                    \
    }
#define ORIGINAL_NETNS(role_)                                                                      \
    {                                                                                              \
        .name = "netns", .kind = role_, .key = "netns", .default_value = "ark0",                   \
        .help = "slot of the network that the VM gets; empty for none"                             \
    }

extern const struct config_flag peer_flags[];
extern const struct config_flag registry_flags[];
extern const struct config_flag snapshotter_flags[];
extern const struct config_flag runner_flags[];
extern const struct config_flag mounter_flags[];
extern const struct config_flag terminator_flags[];

#endif

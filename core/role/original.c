/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/original.h"

#include <stddef.h>

#define MOCK_VMM "null"

#define MAP_PRIVATE                                                                                \
    {.name = "experimental-map-private", .kind = "vmm", .key = "map-private", .form = CONFIG_FLAG_SWITCH, \
     .help = "whether the VMM keeps what the guest changes in memory until the VM is saved"}, \
    {.name = "experimental-map-private-state-output", .kind = "device", .id = "state", \
     .key = "save-output", .help = "file that gets the saved state in place of its own"}, \
    {.name = "experimental-map-private-memory-output", .kind = "device", .id = "memory", \
     .key = "save-output", .help = "file that gets the saved memory in place of its own"}

#define WHOLE(name_, kind_, key_, default_, help_)                                                 \
    {                                                                                              \
        .name = name_, .kind = kind_, .key = key_, .model = CONFIG_FLAG_WHOLE,                     \
        .default_value = default_, .help = help_                                                   \
    }

/* Where things come from, and where they can be had, under either name. */
#define FROM(role_, help_)                                                                         \
    WHOLE("raddr", role_, "connect", "localhost:1337", help_),                                     \
        WHOLE("connect", role_, "connect", NULL, "the same as --raddr")
#define TO(role_, help_)                                                                           \
    WHOLE("laddr", role_, "listen", "localhost:1337", help_),                                      \
        WHOLE("listen", role_, "listen", NULL, "the same as --laddr")

#define DEVICES(default_)                                                                          \
    {                                                                                              \
        .name = "devices", .kind = "device", .key = "name", .form = CONFIG_FLAG_OBJECTS,           \
        .model = CONFIG_FLAG_WHOLE, .default_value = default_,                                     \
        .help = "devices, an object for each"                                                      \
    }

#define OVERWRITE(role_, help_)                                                                    \
    {                                                                                              \
        .name = "overwrite", .kind = role_, .key = "overwrite", .form = CONFIG_FLAG_SWITCH,        \
        .default_value = "yes", .help = help_                                                      \
    }

/* ---- peer */

#define PEER_DEVICE(name_, file_)                                                                  \
    "{\"name\":\"" name_ "\",\"base\":\"out/package/" file_ "\",\"overlay\":\"out/overlay/" file_  \
    "\",\"state\":\"out/state/" file_ "\",\"blockSize\":65536,\"expiry\":1000000000,"              \
    "\"maxDirtyBlocks\":200,\"minCycles\":5,\"maxCycles\":20,\"cycleThrottle\":500000000,"         \
    "\"makeMigratable\":true}"

static const char peer_devices[] = "[" PEER_DEVICE("state", "state.bin") "," PEER_DEVICE(
    "memory", "memory.bin") "," PEER_DEVICE("kernel", "vmlinux") "," PEER_DEVICE("disk",
                                                                                 "rootfs.ext4") ","
    PEER_DEVICE("config", "config.json") "," PEER_DEVICE("oci", "oci.ext4") "]";

#define PEER_PART(device_, number_)                                                                \
    ORIGINAL_PART(device_, "raddr", "connect", "localhost:150" number_,                            \
                  "address to take it from; empty: it is in its file"),                            \
        ORIGINAL_PART(device_, "path", "base", NULL,                                               \
                      "file that holds it, or that it is received into"),                          \
        ORIGINAL_PART(device_, "laddr", "listen", ":150" number_,                                  \
                      "address at which it can be taken; empty: nowhere"),                         \
        ORIGINAL_PART(device_, "resume-threshold", "resume-threshold", NULL,                       \
                      "bytes of it that may be missing when the guest resumes")

const struct config_flag peer_flags[] = {
    FROM("peer", "address to take the VM over from; empty: local files are started"),
    TO("peer", "address at which the VM can be taken over; empty: nowhere"),
    DEVICES(peer_devices),
    PEER_PART("state", "0"),
    PEER_PART("memory", "1"),
    PEER_PART("initramfs", "2"),
    PEER_PART("kernel", "3"),
    PEER_PART("disk", "4"),
    PEER_PART("config", "5"),
    ORIGINAL_NETNS("peer"),
    {.name = "cache-base-dir", .kind = "peer", .key = "cache-base-dir", .default_value = "out/cache",
     .help = "where devices are received that have no file; they are removed at the end"},
    ORIGINAL_CONSOLE,
    ORIGINAL_CONCURRENCY,
    {.name = "pull-workers", .ignored = "what the guest waits for is fetched first, whatever else is "
                                        "on its way"},
    OVERWRITE("peer", "receive into files that hold something"),
    {.name = "mock", .kind = "peer", .key = "vmm", .form = CONFIG_FLAG_SWITCH, .value = MOCK_VMM,
     .help = "a VM that is a byte pattern"},
    MAP_PRIVATE,
    ORIGINAL_VERBOSE,
    {0},
};

/* ---- registry */

#define INPUT(name_, file_) "{\"name\":\"" name_ "\",\"input\":\"out/package/" file_ "\",\"blockSize\":65536}"

const struct config_flag registry_flags[] = {
    WHOLE("laddr", "registry", "listen", ":1600", "address at which peers get the package"),
    DEVICES("[" INPUT("kernel", "vmlinux") "," INPUT("disk", "rootfs.ext4") "," INPUT(
        "state", "state.bin") "," INPUT("memory", "memory.bin") "," INPUT("config", "config.json") "]"),
    ORIGINAL_PART_PATHS("base", "file that holds it"),
    ORIGINAL_PART("state", "laddr", "listen", ":1600", "address at which it can be taken"),
    ORIGINAL_PART("memory", "laddr", "listen", ":1601", "address at which it can be taken"),
    ORIGINAL_PART("initramfs", "laddr", "listen", ":1602", "address at which it can be taken"),
    ORIGINAL_PART("kernel", "laddr", "listen", ":1603", "address at which it can be taken"),
    ORIGINAL_PART("disk", "laddr", "listen", ":1604", "address at which it can be taken"),
    ORIGINAL_PART("config", "laddr", "listen", ":1605", "address at which it can be taken"),
    ORIGINAL_CONCURRENCY,
    ORIGINAL_VERBOSE,
    {0},
};

/* ---- snapshotter */

#define SNAPSHOTTER_DEVICES                                                                        \
    "[{\"name\":\"kernel\",\"input\":\"out/blueprint/vmlinux\",\"output\":\"out/package/vmlinux\"}," \
    "{\"name\":\"disk\",\"input\":\"out/blueprint/rootfs.ext4\","                                  \
    "\"output\":\"out/package/rootfs.ext4\"},"                                                     \
    "{\"name\":\"state\",\"output\":\"out/package/state.bin\"},"                                   \
    "{\"name\":\"memory\",\"output\":\"out/package/memory.bin\"},"                                 \
    "{\"name\":\"config\",\"output\":\"out/package/config.json\"}]"

#define BOOT_ARGS                                                                                  \
    "console=ttyS0 panic=1 pci=off modules=ext4 rootfstype=ext4 root=/dev/vda i8042.noaux "        \
    "i8042.nomux i8042.nopnp i8042.dumbkbd rootflags=rw printk.devkmsg=on printk_ratelimit=0 "     \
    "printk_ratelimit_burst=0 clocksource=tsc nokaslr lapic=notscdeadline tsc=unstable"

#define MADE(device_)                                                                              \
    ORIGINAL_PART(device_, "output-path", "output", ORIGINAL_PACKAGE device_, "file to write")
#define COPIED(device_)                                                                            \
    ORIGINAL_PART(device_, "input-path", "input", ORIGINAL_BLUEPRINT device_,                      \
                  "file to start from"),                                                           \
        MADE(device_)

const struct config_flag snapshotter_flags[] = {
    DEVICES(SNAPSHOTTER_DEVICES),
    MADE("state"),
    MADE("memory"),
    COPIED("initramfs"),
    COPIED("kernel"),
    COPIED("disk"),
    MADE("config"),
    {.name = "memory-size", .kind = "snapshotter", .key = "memory-size", .unit = "M",
     .default_value = "1024", .help = "guest memory; a bare number is in MiB"},
    {.name = "boot-args", .kind = "snapshotter", .key = "boot-args", .default_value = BOOT_ARGS,
     .help = "kernel command line"},
    ORIGINAL_NETNS("snapshotter"),
    ORIGINAL_CONSOLE,
    {.name = "interface", .ignored = "the slot of the network says what its interface is called"},
    {.name = "mac", .ignored = "the slot of the network says which MAC its guest has"},
    {0},
};

/* ---- runner */

#define FILE_OF(name_, key_, path_) "{\"name\":\"" name_ "\",\"" key_ "\":\"out/" path_ "\"}"
#define FILES(key_, oci_)                                                                          \
    "[" FILE_OF("state", key_, "package/state.bin") "," FILE_OF("memory", key_,                    \
        "package/memory.bin") "," FILE_OF("kernel", key_, "package/vmlinux") "," FILE_OF("disk",   \
        key_, "package/rootfs.ext4") "," FILE_OF("config", key_, "package/config.json") "," FILE_OF( \
        "oci", key_, oci_) "]"

const struct config_flag runner_flags[] = {
    DEVICES(FILES("path", "blueprint/oci.ext4")),
    ORIGINAL_PART_PATHS("base", "file that holds it"),
    ORIGINAL_NETNS("runner"),
    ORIGINAL_CONSOLE,
    MAP_PRIVATE,
    ORIGINAL_VERBOSE,
    {0},
};

/* ---- mounter */

const struct config_flag mounter_flags[] = {
    FROM("mounter", "address to take the devices from; empty: they are in local files"),
    TO("mounter", "address at which they can be taken; empty: nowhere"),
    DEVICES(peer_devices),
    OVERWRITE("mounter", "receive into files that hold something"),
    ORIGINAL_CONCURRENCY,
    ORIGINAL_VERBOSE,
    {0},
};

/* ---- terminator */

const struct config_flag terminator_flags[] = {
    FROM("terminator", "address to take the VM from"),
    DEVICES(FILES("output", "package/oci.ext4")),
    OVERWRITE("terminator", "replace files that hold something"),
    ORIGINAL_VERBOSE,
    {0},
};

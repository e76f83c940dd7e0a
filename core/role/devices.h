/* SPDX-License-Identifier: BSD-2-Clause */
/* The [device:NAME] sections: a VM's devices and the storage stacks below them. */
#ifndef ROLE_DEVICES_H
#define ROLE_DEVICES_H

#include "block/device.h"
#include "migrate/converge.h"
#include "role/node.h"

#define DEVICES_MAX 64

/* [device:NAME]; the names are the original's, whatever their case and dashes. */
struct device_options {
    const char *base, *overlay, *state, *storage;
    const char *input, *output; /* snapshotter; input: registry */
    const char *connect, *listen; /* of this device alone */
    const char *path;           /* packager */
    const char *save_output;    /* gets the device when its VM is saved; what is below stays as it is */
    uint64_t block_size, expiry, max_dirty_blocks, min_cycles, max_cycles, cycle_throttle;
    uint64_t resume_threshold;
    const char *binlog;         /* file that records what the VM does with the device */
    uint64_t binlog_limit;
    bool binlog_data;
    bool make_migratable, shared, shared_base, any_order, s3_sync;
};

extern const struct drafter_option device_option_table[];

struct node_device {
    const char *name;
    struct device_options options;
    const struct config_section *section;
    struct block_device block;
    bool opened;
    bool arriving; /* files of it may have been made or emptied, and go when the arrival fails */
    bool filled;   /* arriving: storage held something before */
    bool goes_on;  /* arriving: an earlier process stored part of it */
    bool created;  /* its base file was made by us */
};

struct devices {
    struct node_device list[DEVICES_MAX];
    struct block_device *blocks[DEVICES_MAX];
    unsigned count;
};

/* Reads all [device:...] sections, in the file's order. */
int devices_read(struct node *node, struct devices *devices, struct drafter_error *err);

/* Opens what is there: base and overlays, for a local start or a registry (`readonly`). */
int devices_open_local(struct node *node, struct devices *devices, bool readonly,
                       struct drafter_error *err);

/* What a device with a base begins with; not opened. */
int devices_make_base(struct node *node, const struct node_device *device, bool readonly,
                      struct instance **ret_storage, struct drafter_error *err);

/* One device, as devices_open_local. */
int devices_open_one(struct node *node, struct node_device *device, bool readonly,
                     struct drafter_error *err);

/*
 * Makes a device that arrives: `size` bytes.  A base that exists is overwritten only with `overwrite`;
 * below an overlay it is kept and its content is offered for reuse.
 */
int devices_open_arriving(struct node *node, struct node_device *device, uint64_t size,
                          bool overwrite, struct drafter_error *err);

struct node_device *devices_find(struct devices *devices, const char *name);

/* The original's limits of a device, when its section has any. */
struct converge_limits devices_limits(const struct node_device *device);

/* They arrived and their VM is ours. */
void devices_settled(struct devices *devices);

/*
 * Devices with a save-output keep what the VM writes in files beside that, which a successor of this process
 * goes on with and a new start throws away.  Once the outputs are made or the VM has left nobody needs them.
 */
void devices_drop_private(struct devices *devices);

/* Removes the files that devices_open_arriving created, also where it failed half-way. */
void devices_discard(struct devices *devices);
void devices_release(struct devices *devices);

#endif

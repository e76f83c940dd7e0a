/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A block device of the kernel that a plugin serves, as a node in the VM's directory, and what the
 * kernel caches of it.  What the VMM writes to the node, or to a mapping of it, is in that cache until it
 * is written back, whether the device is memory or a disk.
 */
#ifndef DEVICE_NODE_H
#define DEVICE_NODE_H

#include <drafter/device.h>
#include <pthread.h>

#define NODE_READAHEAD_COMPLETE_KIB 256 /* once all blocks are here */

struct node {
    int fd; /* our own descriptor; -1: there is no device */
    bool readonly;
    bool bound; /* the node is a bind mount, for the directory allows no nodes */
    uint64_t size;
    unsigned major, minor;
    char *path;

    pthread_mutex_t lock; /* protects what follows */
    uint64_t swallow_begin, swallow_end;
};

void node_init(struct node *node);

/* The size that a node shows of a device: whole sectors, and a page at least. */
uint64_t node_round(uint64_t bytes);
/* -EINVAL for a device that is too large for that. */
int node_check_size(const struct drafter_device_spec *spec, struct drafter_error *err);

/*
 * Makes DIRECTORY/NAME for the device that the kernel calls `kernel_name` ("nbd0") and opens it.  Opening
 * reads from the device: somebody has to serve it.
 */
int node_make(struct node *node, const char *kernel_name, const char *directory, const char *name,
              bool readonly, struct drafter_error *err);
/* As node_make, for a node that a dead process made, with the descriptor that it left. */
int node_adopt(struct node *node, int fd, const char *directory, const char *name, bool readonly,
               struct drafter_error *err);
void node_remove(struct node *node);

/* Removes all nodes that a dead process left in a directory. */
void node_sweep(const char *directory);

/* The operations of the same names in <drafter/device.h>. */
int node_sync(struct node *node, struct drafter_error *err);
int node_dirty(struct node *node, uint64_t *bitmap, uint64_t pages, struct drafter_error *err);
int node_read(struct node *node, void *buffer, size_t length, uint64_t offset);
int node_invalidate(struct node *node, uint64_t offset, uint64_t length);
int node_populate(struct node *node, uint64_t offset, uint64_t length);

/* A number below /sys/block/NAME/queue; what is not permitted stays as it is. */
void node_set_queue(const struct node *node, const char *knob, unsigned value);

/* Whether a trim that came from the kernel is one of node_invalidate's own, which trims nothing. */
bool node_swallows(struct node *node, uint64_t length, uint64_t offset);

#endif

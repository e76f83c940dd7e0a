/* SPDX-License-Identifier: BSD-2-Clause */
/* One device of the kernel's ublk driver, its queues and the commands for it. */
#ifndef UBLK_DISK_H
#define UBLK_DISK_H

#include "../node.h"

#include <liburing.h>
#include <linux/ublk_cmd.h>
#include <stdatomic.h>

#define UBLK_CONTROL "/dev/ublk-control"
#define QUEUES_MAX 32
#define QUEUE_DEPTH 64
#define IO_BYTES ((size_t)512 << 10) /* of one request */
#define SECTOR_SHIFT 9

struct disk;

struct queue {
    struct disk *disk;
    unsigned index;
    struct io_uring ring;
    bool has_ring, running;
    pthread_t thread;
    const struct ublksrv_io_desc *requests; /* the kernel writes them, one for each tag */
    char *buffers;                          /* IO_BYTES for each tag */
};

struct disk {
    const char *id, *directory; /* the instance's */
    struct drafter_device_backend backend;
    uint64_t bytes; /* of the device */
    uint64_t size;  /* as the VMM sees it: `bytes` rounded up; what is beyond reads as zeros */
    struct node node;
    int control_fd, fd; /* of the driver, and of /dev/ublkcN */
    bool added;
    uint32_t number;
    struct queue queues[QUEUES_MAX];
    unsigned queue_count;
    atomic_bool settling;   /* the kernel looks for partitions: a missing block is an error */
    atomic_bool withdrawn;  /* nothing calls the backend any more */
    atomic_bool stopped;    /* by the driver: no more requests come */
    atomic_int write_error; /* the first errno of a write since the last sync; the kernel says EIO */
};

/* control.c: each returns a negative errno. */
int control_add(struct disk *disk, unsigned queues);
int control_start(struct disk *disk);
int control_stop(int control_fd, uint32_t number);
int control_delete(int control_fd, uint32_t number);
/* Deletes what dead processes left of a directory. */
int control_reclaim(const char *directory, struct drafter_error *err);
/* A command for the driver, which needs entries of 128 bytes, or for a queue. */
void control_prepare(struct io_uring_sqe *entry, int fd, unsigned operation, const void *command,
                     size_t length);

/* queue.c */
int queue_begin(struct queue *queue);
/* The driver was told to stop the device, so that its thread ends. */
void queue_end(struct queue *queue);

#endif

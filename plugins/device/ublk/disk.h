/* SPDX-License-Identifier: BSD-2-Clause */
/* One device of the kernel's ublk driver, its queues and the commands for it. */
#ifndef UBLK_DISK_H
#define UBLK_DISK_H

#include "../backing.h"

#include <liburing.h>
#include <linux/ublk_cmd.h>

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
    struct backing backing;     /* first: see there */
    const char *id, *directory; /* the instance's */
    int control_fd, fd; /* of the driver, and of /dev/ublkcN */
    bool added;
    uint32_t number;
    struct queue queues[QUEUES_MAX];
    unsigned queue_count;
    atomic_bool settling;  /* the kernel looks for partitions: a missing block is an error */
    atomic_bool withdrawn; /* nothing calls the backend any more */
    atomic_bool stopped;   /* by the driver: no more requests come */
};
_Static_assert(offsetof(struct disk, backing) == 0, "a disk is a backing");

/* control.c: each returns a negative errno. */
int control_add(struct disk *disk, unsigned queues);
int control_start(struct disk *disk);
int control_stop(int control_fd, uint32_t number);
int control_delete(int control_fd, uint32_t number);
/* Deletes the devices that dead processes left of a directory; for served_reclaim. */
int control_release(void *instance, const char *directory, struct drafter_error *err);
/* A command for the driver, which needs entries of 128 bytes, or for a queue. */
void control_prepare(struct io_uring_sqe *entry, int fd, unsigned operation, const void *command,
                     size_t length);

/* queue.c */
int queue_begin(struct queue *queue);
/* The driver was told to stop the device, so that its thread ends. */
void queue_end(struct queue *queue);

#endif

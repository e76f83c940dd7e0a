/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One queue of a device: a thread that takes requests from the driver and answers them.
 *
 * The driver takes a tag's answer, and its next request, only from the thread that fetched first.  It
 * copies what is written into the tag's buffer before it hands the request over, and what was read from
 * there with the answer.
 */
#include "disk.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define QUEUE_STACK_SIZE ((size_t)256 << 10)
#define BUFFERS_SIZE (QUEUE_DEPTH * IO_BYTES)

static const char zeros[64 << 10];

static int disk_read(struct disk *disk, char *buffer, size_t length, uint64_t offset)
{
    const struct drafter_device_backend *backend = &disk->backing.backend;
    uint64_t have = backing_inside(&disk->backing, length, offset);

    if (have && atomic_load(&disk->settling) && backend->present &&
        !backend->present(backend->opaque, have, offset))
        return -EIO;
    return backing_read(&disk->backing, buffer, length, offset);
}

static int disk_flush(struct disk *disk)
{
    const struct drafter_device_backend *backend = &disk->backing.backend;

    return backend->flush ? backend->flush(backend->opaque) : 0;
}

/* A trim need not leave zeros behind, so that zeros are written. */
static int disk_zero(struct disk *disk, uint64_t length, uint64_t offset)
{
    int result = 0;

    while (length > 0 && result == 0) {
        size_t part = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);

        result = backing_write(&disk->backing, zeros, part, offset);
        offset += part;
        length -= part;
    }
    return result;
}

/* Why a request cannot be served, or 0. */
static int check(const struct disk *disk, const struct ublksrv_io_desc *request, unsigned operation)
{
    uint64_t sectors = disk->backing.size >> SECTOR_SHIFT;

    if (atomic_load(&disk->withdrawn))
        return -ESHUTDOWN;
    if (operation == UBLK_IO_OP_FLUSH)
        return 0;
    if (request->start_sector > sectors || request->nr_sectors > sectors - request->start_sector)
        return -EINVAL;
    if ((operation == UBLK_IO_OP_READ || operation == UBLK_IO_OP_WRITE) &&
        request->nr_sectors > IO_BYTES >> SECTOR_SHIFT)
        return -EOVERFLOW;
    return operation != UBLK_IO_OP_READ && disk->backing.node.readonly ? -EROFS : 0;
}

/* What the driver wants to know: the bytes that were served, or a negative errno. */
static int serve(struct disk *disk, const struct ublksrv_io_desc *request, char *buffer)
{
    uint64_t length = (uint64_t)request->nr_sectors << SECTOR_SHIFT,
             offset = request->start_sector << SECTOR_SHIFT;
    unsigned operation = request->op_flags & 0xff;
    int result = check(disk, request, operation);

    if (result < 0)
        return result;
    switch (operation) {
    case UBLK_IO_OP_READ:
        result = disk_read(disk, buffer, (size_t)length, offset);
        return result < 0 ? result : (int)length;
    case UBLK_IO_OP_WRITE:
        result = backing_write(&disk->backing, buffer, (size_t)length, offset);
        break;
    case UBLK_IO_OP_FLUSH:
        return disk_flush(disk);
    case UBLK_IO_OP_DISCARD:
        result = backing_trim(&disk->backing, length, offset);
        break;
    case UBLK_IO_OP_WRITE_ZEROES:
        result = disk_zero(disk, length, offset);
        break;
    default:
        return -EOPNOTSUPP;
    }
    /* The flags are where they are defined, not shifted as ublksrv_get_flags() has them. */
    if (result == 0 && request->op_flags & UBLK_IO_F_FUA)
        result = disk_flush(disk);
    if (result < 0)
        return result;
    return operation == UBLK_IO_OP_WRITE ? (int)length : 0;
}

static void ask(struct queue *queue, unsigned operation, unsigned tag, int result)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&queue->ring); /* there is one for each tag */
    struct ublksrv_io_cmd command = {
        .q_id = (uint16_t)queue->index,
        .tag = (uint16_t)tag,
        .result = result,
        .addr = (uintptr_t)(queue->buffers + tag * IO_BYTES),
    };

    control_prepare(entry, queue->disk->fd, operation, &command, sizeof(command));
    io_uring_sqe_set_data64(entry, tag);
}

/* The tag of the next completion, or a negative errno: -ETIME after a second without one. */
static int next(struct queue *queue)
{
    struct __kernel_timespec limit = {.tv_sec = 1};
    struct io_uring_cqe *done = NULL;
    int result;

    do
        result = io_uring_submit_and_wait_timeout(&queue->ring, &done, 1, &limit, NULL);
    while (result == -EINTR || result == -EAGAIN || result == -EBUSY);
    if (!done)
        return result < 0 ? result : -ETIME;
    result = done->res == UBLK_IO_RES_OK ? (int)done->user_data
             : done->res < 0             ? done->res
                                         : -EPROTO;
    io_uring_cqe_seen(&queue->ring, done);
    return result;
}

static void answer(struct queue *queue, unsigned tag)
{
    struct ublksrv_io_desc request = queue->requests[tag]; /* what was checked stays so */

    ask(queue, UBLK_IO_COMMIT_AND_FETCH_REQ, tag,
        serve(queue->disk, &request, queue->buffers + tag * IO_BYTES));
}

/*
 * Until the driver has given back all tags, because the device was stopped; it does not give back those
 * of a device that was stopped before it had all.
 */
static void *run(void *opaque)
{
    struct queue *queue = opaque;
    unsigned live = QUEUE_DEPTH;
    int tag;

    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* needs a capability; goes without, too */
    for (unsigned i = 0; i < QUEUE_DEPTH; i++)
        ask(queue, UBLK_IO_FETCH_REQ, i, -1);
    while (live > 0) {
        tag = next(queue);
        if (tag >= 0)
            answer(queue, (unsigned)tag);
        else if (tag == UBLK_IO_RES_ABORT)
            live--;
        else if (tag != -ETIME || atomic_load(&queue->disk->stopped))
            break;
    }
    if (live > 0)
        drafter_log(DRAFTER_LOG_WARNING, queue->disk->id, "/dev/ublkb%u: queue %u ends early: %s",
                    queue->disk->number, queue->index, strerror(-tag));
    return NULL;
}

static size_t requests_size(unsigned depth)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (depth * sizeof(struct ublksrv_io_desc) + page - 1) / page * page;
}

static void *map(int fd, size_t size, int protection, int flags, off_t offset)
{
    void *memory = mmap(NULL, size, protection, flags, fd, offset);

    return memory == MAP_FAILED ? NULL : memory;
}

static int start_thread(struct queue *queue)
{
    pthread_attr_t attributes;
    sigset_t all, old;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, QUEUE_STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&queue->thread, &attributes, run, queue);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    queue->running = error == 0;
    return -error;
}

int queue_begin(struct queue *queue)
{
    off_t offset = UBLKSRV_CMD_BUF_OFFSET +
                   (off_t)queue->index * (off_t)requests_size(UBLK_MAX_QUEUE_DEPTH);
    int result = io_uring_queue_init(QUEUE_DEPTH, &queue->ring, IORING_SETUP_SQE128);

    if (result < 0)
        return result;
    queue->has_ring = true;
    queue->buffers = map(-1, BUFFERS_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
    if (!queue->buffers)
        return -errno;
    queue->requests = map(queue->disk->fd, requests_size(QUEUE_DEPTH), PROT_READ,
                          MAP_SHARED | MAP_POPULATE, offset);
    if (!queue->requests)
        return -errno;
    return start_thread(queue);
}

void queue_end(struct queue *queue)
{
    if (queue->running)
        pthread_join(queue->thread, NULL);
    if (queue->has_ring)
        io_uring_queue_exit(&queue->ring);
    if (queue->requests)
        munmap((void *)queue->requests, requests_size(QUEUE_DEPTH));
    if (queue->buffers)
        munmap(queue->buffers, BUFFERS_SIZE);
    *queue = (struct queue){0};
}

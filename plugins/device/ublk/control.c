/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands for the driver.
 *
 * To delete a device waits until nobody has it open, a VMM that lives on as well; so that wait ends.
 * A device carries a number of the server's own: it tells whose directory it belongs to, and so those of
 * dead processes are found.
 */
#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_S 30
#define DELETE_PATIENCE_S 5
#define NO_DEVICE UINT32_MAX
#define CLASS "/sys/class/ublk-char"

void control_prepare(struct io_uring_sqe *entry, int fd, unsigned operation, const void *command,
                     size_t length)
{
    io_uring_prep_rw(IORING_OP_URING_CMD, entry, fd, NULL, 0, 0);
    entry->cmd_op = operation;
    memcpy(entry->cmd, command, length);
}

static int await(struct io_uring *ring, unsigned seconds)
{
    struct __kernel_timespec limit = {.tv_sec = seconds};
    struct io_uring_cqe *done = NULL;
    int result;

    do
        result = io_uring_wait_cqe_timeout(ring, &done, seconds ? &limit : NULL);
    while (result == -EINTR);
    if (result < 0)
        return result == -ETIME ? -ETIMEDOUT : result;
    result = done->res;
    io_uring_cqe_seen(ring, done);
    return result;
}

/* `seconds` 0: as long as it takes. */
static int control(int fd, unsigned operation, const struct ublksrv_ctrl_cmd *command,
                   unsigned seconds)
{
    struct io_uring ring;
    int result = io_uring_queue_init(4, &ring, IORING_SETUP_SQE128);

    if (result < 0)
        return result;
    control_prepare(io_uring_get_sqe(&ring), fd, operation, command, sizeof(*command));
    result = io_uring_submit(&ring);
    if (result >= 0)
        result = await(&ring, seconds);
    io_uring_queue_exit(&ring);
    return result;
}

static struct ublksrv_ctrl_cmd command_for(uint32_t number)
{
    return (struct ublksrv_ctrl_cmd){.dev_id = number, .queue_id = UINT16_MAX};
}

/* FNV-1a */
static uint64_t tag_of(const char *directory)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (const char *at = directory; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    return hash;
}

static int set_parameters(struct disk *disk)
{
    struct ublksrv_ctrl_cmd command = command_for(disk->number);
    struct ublk_params parameters = {
        .len = sizeof(parameters),
        .types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
        .basic = {.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA |
                           (disk->backing.node.readonly ? UBLK_ATTR_READ_ONLY : 0),
                  .logical_bs_shift = SECTOR_SHIFT,
                  .physical_bs_shift = 12,
                  .io_opt_shift = 12,
                  .io_min_shift = 12,
                  .max_sectors = IO_BYTES >> SECTOR_SHIFT,
                  .dev_sectors = disk->backing.size >> SECTOR_SHIFT},
        .discard = {.discard_granularity = DRAFTER_PAGE_SIZE,
                    .max_discard_sectors = UINT32_MAX >> SECTOR_SHIFT,
                    .max_write_zeroes_sectors = UINT32_MAX >> SECTOR_SHIFT,
                    .max_discard_segments = 1},
    };

    command.addr = (uintptr_t)&parameters;
    command.len = sizeof(parameters);
    return control(disk->control_fd, UBLK_CMD_SET_PARAMS, &command, PATIENCE_S);
}

/* The driver gives no more queues than there are processors. */
int control_add(struct disk *disk, unsigned queues)
{
    struct ublksrv_ctrl_cmd command = command_for(NO_DEVICE);
    struct ublksrv_ctrl_dev_info device = {.nr_hw_queues = (uint16_t)queues,
                                           .queue_depth = QUEUE_DEPTH,
                                           .max_io_buf_bytes = IO_BYTES,
                                           .dev_id = NO_DEVICE,
                                           .ublksrv_flags = tag_of(disk->directory)};
    int result;

    command.addr = (uintptr_t)&device;
    command.len = sizeof(device);
    result = control(disk->control_fd, UBLK_CMD_ADD_DEV, &command, PATIENCE_S);
    if (result < 0)
        return result;
    disk->added = true;
    disk->number = device.dev_id;
    disk->queue_count = device.nr_hw_queues;
    if (device.nr_hw_queues == 0 || device.nr_hw_queues > queues ||
        device.queue_depth != QUEUE_DEPTH || device.max_io_buf_bytes > IO_BYTES) {
        disk->queue_count = 0;
        return -EPROTO;
    }
    return set_parameters(disk);
}

int control_start(struct disk *disk)
{
    struct ublksrv_ctrl_cmd command = command_for(disk->number);

    command.data[0] = (uint64_t)getpid();
    return control(disk->control_fd, UBLK_CMD_START_DEV, &command, PATIENCE_S);
}

int control_stop(int control_fd, uint32_t number)
{
    struct ublksrv_ctrl_cmd command = command_for(number);

    return control(control_fd, UBLK_CMD_STOP_DEV, &command, 0);
}

int control_delete(int control_fd, uint32_t number)
{
    struct ublksrv_ctrl_cmd command = command_for(number);

    return control(control_fd, UBLK_CMD_DEL_DEV, &command, DELETE_PATIENCE_S);
}

static bool is_of(int control_fd, uint32_t number, uint64_t tag)
{
    struct ublksrv_ctrl_cmd command = command_for(number);
    struct ublksrv_ctrl_dev_info device = {0};

    command.addr = (uintptr_t)&device;
    command.len = sizeof(device);
    return control(control_fd, UBLK_CMD_GET_DEV_INFO, &command, PATIENCE_S) == 0 &&
           device.ublksrv_flags == tag;
}

static int release(int control_fd, uint32_t number, struct drafter_error *err)
{
    int result;

    control_stop(control_fd, number); /* the driver may have done it when the process died */
    result = control_delete(control_fd, number);
    if (result < 0)
        return drafter_error_errno(err, -result,
                                   "/dev/ublkb%u, which a dead process left, does not go", number);
    drafter_log(DRAFTER_LOG_INFO, "ublk", "/dev/ublkb%u, which a dead process left, was released",
                number);
    return 0;
}

int control_release(void *instance, const char *directory, struct drafter_error *err)
{
    int control_fd = open(UBLK_CONTROL, O_RDWR | O_CLOEXEC), result = 0;
    DIR *devices = control_fd >= 0 ? opendir(CLASS) : NULL;
    uint64_t tag = tag_of(directory);
    struct dirent *entry;
    unsigned number;

    (void)instance;
    while (devices && result == 0 && (entry = readdir(devices)))
        if (sscanf(entry->d_name, "ublkc%u", &number) == 1 && is_of(control_fd, number, tag))
            result = release(control_fd, number, err);
    if (devices)
        closedir(devices);
    if (control_fd >= 0)
        close(control_fd);
    return result;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as block devices of the kernel's ublk driver (/dev/ublkbN), which hands their requests to this
 * process over io_uring.
 */
#include "../served.h"
#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct config {
    uint64_t queues;
};

struct ublk {
    const struct config *config;
    const char *id;
    struct served served; /* none: not started */
    int control_fd;
};

static const struct drafter_option ublk_options[] = {
    {.key = "queues",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct config, queues),
     .default_value = "1",
     .minimum = 1,
     .maximum = QUEUES_MAX,
     .help = "queues of each device, a thread each; no more than there are processors"},
    DRAFTER_OPTION_END,
};

static int ublk_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct ublk *ublk = calloc(1, sizeof(*ublk));

    if (!ublk)
        return drafter_error_set(err, ENOMEM, "no memory");
    *ublk = (struct ublk){.config = config, .id = context->id, .control_fd = -1};
    *ret_instance = ublk;
    return 0;
}

static void ublk_stop(void *instance)
{
    struct ublk *ublk = instance;

    if (ublk->control_fd >= 0)
        close(ublk->control_fd);
    ublk->control_fd = -1;
    served_leave(&ublk->served);
}

static void ublk_destroy(void *instance)
{
    if (instance)
        ublk_stop(instance);
    free(instance);
}

static int ublk_probe(const void *config, struct drafter_probe *ret_probe)
{
    int fd = open(UBLK_CONTROL, O_RDWR | O_CLOEXEC);

    (void)config;
    ret_probe->usable = fd >= 0;
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), UBLK_CONTROL ": %s", strerror(errno));
    snprintf(ret_probe->remedy, sizeof(ret_probe->remedy),
             "run as root, and load the kernel module (Linux 6.0): modprobe ublk_drv");
    return 0;
}

static int ublk_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct ublk *ublk = instance;
    int result = served_take(&ublk->served, ublk->id, directory, err);

    if (result < 0)
        return result;
    ublk->control_fd = open(UBLK_CONTROL, O_RDWR | O_CLOEXEC);
    if (ublk->control_fd >= 0)
        return 0;
    result = drafter_error_errno(err, errno, UBLK_CONTROL " (modprobe ublk_drv; needs Linux 6.0)");
    ublk_stop(ublk);
    return result;
}

static struct disk *disk_new(const struct ublk *ublk, const struct drafter_device_spec *spec)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        return NULL;
    backing_init(&disk->backing, spec);
    disk->id = ublk->id;
    disk->directory = ublk->served.directory;
    disk->control_fd = ublk->control_fd;
    disk->fd = -1;
    return disk;
}

/* Stopping fails what is still to come; deleting needs all our own descriptors to be closed. */
static void ublk_withdraw(void *exposure)
{
    struct disk *disk = exposure;
    int result = 0;

    atomic_store(&disk->withdrawn, true);
    if (disk->added)
        control_stop(disk->control_fd, disk->number);
    atomic_store(&disk->stopped, true);
    for (unsigned i = 0; i < disk->queue_count; i++)
        queue_end(&disk->queues[i]);
    if (disk->fd >= 0)
        close(disk->fd);
    node_remove(&disk->backing.node);
    if (disk->added)
        result = control_delete(disk->control_fd, disk->number);
    if (result < 0)
        drafter_log(DRAFTER_LOG_WARNING, disk->id, "/dev/ublkb%u does not go: %s", disk->number,
                    strerror(-result));
    free(disk);
}

static int attach(struct disk *disk, unsigned queues)
{
    int result = control_add(disk, queues);
    char path[64];

    if (result < 0)
        return result;
    snprintf(path, sizeof(path), "/dev/ublkc%u", disk->number);
    disk->fd = open(path, O_RDWR | O_CLOEXEC);
    if (disk->fd < 0)
        return -errno;
    for (unsigned i = 0; i < disk->queue_count && result == 0; i++) {
        disk->queues[i].disk = disk;
        disk->queues[i].index = i;
        result = queue_begin(&disk->queues[i]);
    }
    return result < 0 ? result : control_start(disk);
}

static int show(struct disk *disk, const char *name, unsigned queues, struct drafter_error *err)
{
    struct node *node = &disk->backing.node;
    char kernel_name[32];
    int result;

    atomic_store(&disk->settling, true);
    result = attach(disk, queues);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: no ublk device for it", name);
    snprintf(kernel_name, sizeof(kernel_name), "ublkb%u", disk->number);
    result = node_make(node, kernel_name, disk->directory, name, node->readonly, err);
    atomic_store(&disk->settling, false);
    if (result < 0)
        return result;
    node_set_queue(node, "read_ahead_kb", 0);
    result = node_invalidate(node, 0, 0); /* what the kernel has read so far */
    return result < 0 ? drafter_error_errno(err, -result, "%s", node->path) : 0;
}

static int ublk_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct ublk *ublk = instance;
    struct disk *disk;
    int result;

    result = served_path(&ublk->served, ublk->id, spec, path, path_size, err);
    if (result < 0)
        return result;
    disk = disk_new(ublk, spec);
    if (!disk)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    result = show(disk, spec->name, (unsigned)ublk->config->queues, err);
    if (result < 0) {
        ublk_withdraw(disk);
        return result;
    }
    *ret_exposure = disk;
    return 0;
}

static int ublk_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    return served_reclaim(instance, directory, control_release, err);
}

static const struct drafter_device_ops ublk_ops = {
    .start = ublk_start,
    .expose = ublk_expose,
    .sync = backing_sync,
    .dirty = backing_dirty,
    .read = backing_read_cached,
    .invalidate = backing_invalidate,
    .hint = backing_hint,
    .populate = backing_populate,
    .withdraw = ublk_withdraw,
    .stop = ublk_stop,
    .reclaim = ublk_reclaim,
};

static const struct drafter_plugin ublk_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_DEVICE, struct drafter_device_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "ublk",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "shows devices as block devices of the kernel's ublk driver",
    .options = ublk_options,
    .config_size = sizeof(struct config),
    .create = ublk_create,
    .destroy = ublk_destroy,
    .probe = ublk_probe,
    .ops = &ublk_ops,
};
DRAFTER_PLUGIN_ENTRY(ublk_plugin)

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as block devices of the kernel's ublk driver (/dev/ublkbN), which hands their requests to this
 * process over io_uring.
 */
#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct config {
    uint64_t queues;
};

struct ublk {
    const struct config *config;
    const char *id;
    char *directory; /* NULL: not started */
    int lock_fd;     /* the directory, locked as long as we serve it */
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
    *ublk = (struct ublk){.config = config, .id = context->id, .lock_fd = -1, .control_fd = -1};
    *ret_instance = ublk;
    return 0;
}

static void ublk_stop(void *instance)
{
    struct ublk *ublk = instance;

    if (ublk->control_fd >= 0)
        close(ublk->control_fd);
    if (ublk->lock_fd >= 0)
        close(ublk->lock_fd);
    free(ublk->directory);
    ublk->directory = NULL;
    ublk->control_fd = ublk->lock_fd = -1;
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

/* The lock says to reclaim() that somebody serves the directory. */
static int open_all(struct ublk *ublk, struct drafter_error *err)
{
    ublk->lock_fd = open(ublk->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ublk->lock_fd < 0 || flock(ublk->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return drafter_error_errno(err, errno == EWOULDBLOCK ? EBUSY : errno,
                                   "%s: cannot be locked", ublk->directory);
    ublk->control_fd = open(UBLK_CONTROL, O_RDWR | O_CLOEXEC);
    if (ublk->control_fd < 0)
        return drafter_error_errno(err, errno, UBLK_CONTROL " (modprobe ublk_drv; needs Linux 6.0)");
    return 0;
}

static int ublk_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct ublk *ublk = instance;
    int result;

    if (ublk->directory)
        return drafter_error_set(err, EALREADY, "%s: already serves %s", ublk->id, ublk->directory);
    ublk->directory = realpath(directory, NULL);
    if (!ublk->directory)
        return drafter_error_errno(err, errno, "%s", directory);
    result = open_all(ublk, err);
    if (result < 0)
        ublk_stop(ublk);
    return result;
}

static int check_spec(const struct ublk *ublk, const struct drafter_device_spec *spec,
                      struct drafter_error *err)
{
    size_t length = spec->name ? strlen(spec->name) : 0;

    if (!ublk->directory)
        return drafter_error_set(err, EINVAL, "%s: not started", ublk->id);
    if (length == 0 || length > DRAFTER_NAME_MAX || strchr(spec->name, '/') ||
        strcmp(spec->name, ".") == 0 || strcmp(spec->name, "..") == 0)
        return drafter_error_set(err, EINVAL, "\"%s\" is no name for a device",
                                 spec->name ? spec->name : "");
    if (spec->size == 0 || spec->size > INT64_MAX - DRAFTER_PAGE_SIZE)
        return drafter_error_set(err, EINVAL, "%s: a device of %llu bytes cannot be exposed",
                                 spec->name, (unsigned long long)spec->size);
    if (!spec->backend.read || (!spec->backend.write && !(spec->flags & DRAFTER_DEVICE_READONLY)))
        return drafter_error_set(err, EINVAL, "%s: the backend lacks read or write", spec->name);
    return 0;
}

static struct disk *disk_new(const struct ublk *ublk, const struct drafter_device_spec *spec)
{
    uint64_t rounded = (spec->size + 511) & ~UINT64_C(511);
    struct disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        return NULL;
    disk->id = ublk->id;
    disk->directory = ublk->directory;
    disk->control_fd = ublk->control_fd;
    disk->fd = -1;
    disk->bytes = spec->size;
    disk->size = rounded < DRAFTER_PAGE_SIZE ? DRAFTER_PAGE_SIZE : rounded;
    memcpy(&disk->backend, &spec->backend,
           spec->backend.struct_size && spec->backend.struct_size < sizeof(disk->backend)
               ? spec->backend.struct_size
               : sizeof(disk->backend));
    node_init(&disk->node);
    disk->node.readonly = spec->flags & DRAFTER_DEVICE_READONLY;
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
    node_remove(&disk->node);
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
    char kernel_name[32];
    int result;

    atomic_store(&disk->settling, true);
    result = attach(disk, queues);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: no ublk device for it", name);
    snprintf(kernel_name, sizeof(kernel_name), "ublkb%u", disk->number);
    result = node_make(&disk->node, kernel_name, disk->directory, name, disk->node.readonly, err);
    atomic_store(&disk->settling, false);
    if (result < 0)
        return result;
    node_set_queue(&disk->node, "read_ahead_kb", 0);
    result = node_invalidate(&disk->node, 0, 0); /* what the kernel has read so far */
    return result < 0 ? drafter_error_errno(err, -result, "%s", disk->node.path) : 0;
}

static int ublk_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct ublk *ublk = instance;
    int result = check_spec(ublk, spec, err);
    struct disk *disk;

    if (result < 0)
        return result;
    if ((size_t)snprintf(path, path_size, "%s/%s", ublk->directory, spec->name) >= path_size)
        return drafter_error_set(err, ENAMETOOLONG, "%s: the path of the device is too long",
                                 spec->name);
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

/* The kernel takes a page whose write failed for clean, and knows one error only: ours says which. */
static int ublk_sync(void *exposure, struct drafter_error *err)
{
    struct disk *disk = exposure;
    int result = node_sync(&disk->node, err), written = atomic_exchange(&disk->write_error, 0);

    return result < 0 && written
               ? drafter_error_errno(err, written, "%s: cannot write back", disk->node.path)
               : result;
}

static int ublk_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct disk *disk = exposure;

    return node_dirty(&disk->node, bitmap, pages, err);
}

static int ublk_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct disk *disk = exposure;

    if (offset > disk->bytes || length > disk->bytes - offset)
        return -EINVAL;
    return node_read(&disk->node, buffer, length, offset);
}

static int ublk_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct disk *disk = exposure;

    return node_invalidate(&disk->node, offset, length);
}

static void ublk_hint(void *exposure, enum drafter_device_hint hint)
{
    struct disk *disk = exposure;

    node_set_queue(&disk->node, "read_ahead_kb",
                   hint == DRAFTER_DEVICE_COMPLETE ? NODE_READAHEAD_COMPLETE_KIB : 0);
}

static int ublk_populate(void *exposure, uint64_t offset, uint64_t length)
{
    struct disk *disk = exposure;

    return node_populate(&disk->node, offset, length);
}

static int ublk_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    char *full = realpath(directory, NULL);
    int fd, result;

    (void)instance;
    if (!full)
        return 0;
    fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
        result = drafter_error_set(err, EBUSY, "%s: another process serves it", full);
    else
        result = control_reclaim(full, err);
    if (result == 0)
        node_sweep(full);
    if (fd >= 0)
        close(fd);
    free(full);
    return result;
}

static const struct drafter_device_ops ublk_ops = {
    .start = ublk_start,
    .expose = ublk_expose,
    .sync = ublk_sync,
    .dirty = ublk_dirty,
    .read = ublk_read,
    .invalidate = ublk_invalidate,
    .hint = ublk_hint,
    .populate = ublk_populate,
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

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as loop devices: block nodes where the kernel has no NBD client.
 *
 * Below each loop device is a file of a FUSE file system of our own, as drafter-fuse(7) makes it, so that
 * every write passes through drafter: a loop device on the storage's own file would be faster, but what
 * is written to it nobody could migrate.  The loop device reads and writes that file with direct I/O,
 * which goes on with other requests while one waits, and caches nothing twice.
 */
#include "../backing.h"
#include "../fuse/service.h"
#include "../served.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOP_TRIES 64 /* others may take the device that we were told is free */
#define LOOP_FILES "/.files"

struct loop {
    const char *id;
    void *files;          /* instance of the FUSE service */
    char *hidden;         /* where it is mounted */
    struct served served; /* none: not started */
};

struct disk {
    struct backing backing; /* first: see there */
    struct loop *loop;
    void *file;           /* exposure of the FUSE service */
    char kernel_name[32]; /* "loop7" */
    atomic_bool shown;    /* before, nothing was written: the kernel flushes a file that it takes */
};
_Static_assert(offsetof(struct disk, backing) == 0, "a disk is a backing");

static const struct drafter_option loop_options[] = {
    {.key = "threads",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct service_config, threads),
     .default_value = "32",
     .minimum = 1,
     .maximum = 1024,
     .help = "reads of missing blocks that may wait at the same time; a quarter more threads, at "
             "least 4, serve everything else"},
    DRAFTER_OPTION_END,
};

/* The backend of the file: the backing, but for these. */

static int disk_flush(void *opaque)
{
    const struct disk *disk = opaque;
    const struct drafter_device_backend *backend = &disk->backing.backend;

    return backend->flush && atomic_load(&disk->shown) ? backend->flush(backend->opaque) : 0;
}

/* A discard and zeros come alike, as a hole; a trim of node_invalidate's own must change nothing. */
static int disk_punch(void *opaque, uint64_t length, uint64_t offset)
{
    struct backing *backing = opaque;
    uint64_t have = backing_inside(backing, length, offset);

    if (!have || !backing->backend.trim || node_swallows(&backing->node, length, offset))
        return 0;
    return data_punch(&backing->backend, have, offset);
}

static bool disk_present(void *opaque, uint64_t length, uint64_t offset)
{
    const struct backing *backing = opaque;
    uint64_t have = backing_inside(backing, length, offset);

    return !have || backing->backend.present(backing->backend.opaque, have, offset);
}

static int loop_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct drafter_context below = *context;
    struct loop *loop = calloc(1, sizeof(*loop));
    int result;

    if (!loop)
        return drafter_error_set(err, ENOMEM, "no memory");
    loop->id = context->id;
    below.keeper = NULL; /* nobody would take it over */
    result = fuse_create(&below, config, &loop->files, err);
    if (result < 0) {
        free(loop);
        return result;
    }
    ((struct service *)loop->files)->backend_punches = true;
    *ret_instance = loop;
    return 0;
}

static void loop_stop(void *instance)
{
    struct loop *loop = instance;

    if (loop->hidden) {
        fuse_ops.stop(loop->files);
        rmdir(loop->hidden);
    }
    free(loop->hidden);
    loop->hidden = NULL;
    served_leave(&loop->served);
}

static void loop_destroy(void *instance)
{
    struct loop *loop = instance;

    if (!loop)
        return;
    loop_stop(loop);
    fuse_destroy(loop->files);
    free(loop);
}

static int loop_probe(const void *config, struct drafter_probe *ret_probe)
{
    int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return fuse_probe(config, ret_probe);
    }
    ret_probe->usable = false;
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), "/dev/loop-control: %s", strerror(errno));
    snprintf(ret_probe->remedy, sizeof(ret_probe->remedy),
             "run as root, and load the kernel module: modprobe loop");
    return 0;
}

static int make_hidden(struct loop *loop, struct drafter_error *err)
{
    if (asprintf(&loop->hidden, "%s" LOOP_FILES, loop->served.directory) < 0) {
        loop->hidden = NULL;
        return drafter_error_set(err, ENOMEM, "no memory");
    }
    if (mkdir(loop->hidden, 0700) < 0 && errno != EEXIST)
        return drafter_error_errno(err, errno, "%s", loop->hidden);
    return fuse_ops.start(loop->files, loop->hidden, err);
}

static int loop_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct loop *loop = instance;
    int result = served_take(&loop->served, loop->id, directory, err);

    if (result < 0)
        return result;
    result = make_hidden(loop, err);
    if (result < 0)
        loop_stop(loop);
    return result;
}

/* Binds a file to a device; the descriptor keeps the device until somebody else has it open. */
static int configure(struct disk *disk, int control, int file)
{
    struct loop_config config = {
        .fd = (uint32_t)file,
        .block_size = 512,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO |
                             (disk->backing.node.readonly ? LO_FLAGS_READ_ONLY : 0)},
    };
    int number = ioctl(control, LOOP_CTL_GET_FREE), fd;
    char path[64];

    if (number < 0)
        return -errno;
    snprintf(disk->kernel_name, sizeof(disk->kernel_name), "loop%d", number);
    snprintf(path, sizeof(path), "/dev/loop%d", number);
    fd = open(path, (disk->backing.node.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
        return fd;
    number = -errno;
    close(fd);
    return number;
}

static int attach(struct disk *disk, const char *path, struct drafter_error *err)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file, fd = -EBUSY;

    if (control < 0)
        return drafter_error_errno(err, errno, "/dev/loop-control");
    file = open(path, (disk->backing.node.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (file < 0) {
        fd = drafter_error_errno(err, errno, "%s", path);
    } else {
        for (unsigned i = 0; i < LOOP_TRIES && fd == -EBUSY; i++)
            fd = configure(disk, control, file);
        if (fd < 0)
            drafter_error_errno(err, -fd, "%s: no loop device for it", path);
        close(file);
    }
    close(control);
    return fd;
}

static int show(struct disk *disk, const char *name, struct drafter_error *err)
{
    char path[PATH_MAX];
    int fd, result;

    snprintf(path, sizeof(path), "%s/%s", disk->loop->hidden, name);
    fd = attach(disk, path, err);
    if (fd < 0)
        return fd;
    result = node_make(&disk->backing.node, disk->kernel_name, disk->loop->served.directory, name,
                       disk->backing.node.readonly, err);
    if (result == 0)
        node_set_queue(&disk->backing.node, "read_ahead_kb", 0);
    atomic_store(&disk->shown, true);
    close(fd);
    return result;
}

static void loop_withdraw(void *exposure)
{
    struct disk *disk = exposure;

    if (disk->file)
        fuse_ops.withdraw(disk->file); /* from here on the device gives errors */
    if (disk->backing.node.fd >= 0)
        ioctl(disk->backing.node.fd, LOOP_CLR_FD, 0); /* now, or when the last user is gone */
    node_remove(&disk->backing.node);
    free(disk);
}

static struct disk *disk_new(struct loop *loop, const struct drafter_device_spec *spec)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        return NULL;
    backing_init(&disk->backing, spec);
    disk->loop = loop;
    return disk;
}

static int loop_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct drafter_device_spec file = *spec;
    struct loop *loop = instance;
    char unused[PATH_MAX];
    struct disk *disk;
    int result;

    result = served_path(&loop->served, loop->id, spec, path, path_size, err);
    if (result < 0)
        return result;
    disk = disk_new(loop, spec);
    if (!disk)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    file.size = disk->backing.size;
    file.flags = spec->flags & DRAFTER_DEVICE_READONLY; /* what is mapped is the loop device */
    file.backend = (struct drafter_device_backend){.struct_size = sizeof(file.backend),
                                                   .opaque = disk,
                                                   .read = backing_read,
                                                   .write = backing_write,
                                                   .flush = disk_flush,
                                                   .trim = disk_punch};
    if (disk->backing.backend.present)
        file.backend.present = disk_present;
    result = fuse_ops.expose(loop->files, &file, unused, sizeof(unused), &disk->file, err);
    if (result == 0)
        result = show(disk, spec->name, err);
    if (result < 0) {
        loop_withdraw(disk);
        return result;
    }
    *ret_exposure = disk;
    return 0;
}

/* Clears a loop device whose file lies in the directory. */
static void release(const char *kernel_name, const char *hidden)
{
    char path[PATH_MAX], file[PATH_MAX] = "";
    FILE *backing;
    int fd;

    snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", kernel_name);
    backing = fopen(path, "re");
    if (!backing)
        return;
    if (!fgets(file, sizeof(file), backing))
        file[0] = '\0';
    fclose(backing);
    if (strncmp(file, hidden, strlen(hidden)) != 0 || file[strlen(hidden)] != '/')
        return;
    snprintf(path, sizeof(path), "/dev/%s", kernel_name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (ioctl(fd, LOOP_CLR_FD, 0) == 0)
        drafter_log(DRAFTER_LOG_INFO, "loop", "%s, which a dead process left, was released", path);
    close(fd);
}

static int release_all(void *instance, const char *directory, struct drafter_error *err)
{
    struct loop *loop = instance;
    DIR *devices = opendir("/sys/block");
    struct dirent *entry;
    char hidden[PATH_MAX];
    int result;

    if ((size_t)snprintf(hidden, sizeof(hidden), "%s" LOOP_FILES, directory) >= sizeof(hidden))
        result = drafter_error_set(err, ENAMETOOLONG, "%s", directory);
    else
        result = 0;
    while (result == 0 && devices && (entry = readdir(devices)))
        if (strncmp(entry->d_name, "loop", 4) == 0)
            release(entry->d_name, hidden);
    if (devices)
        closedir(devices);
    if (result == 0)
        result = fuse_ops.reclaim(loop->files, hidden, err);
    if (result == 0)
        rmdir(hidden);
    return result;
}

static int loop_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    return served_reclaim(instance, directory, release_all, err);
}

static const struct drafter_device_ops loop_ops = {
    .start = loop_start,
    .expose = loop_expose,
    .sync = backing_sync,
    .dirty = backing_dirty,
    .read = backing_read_cached,
    .invalidate = backing_invalidate,
    .hint = backing_hint,
    .populate = backing_populate,
    .withdraw = loop_withdraw,
    .stop = loop_stop,
    .reclaim = loop_reclaim,
};

static const struct drafter_plugin loop_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_DEVICE, struct drafter_device_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "loop",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "shows devices as loop devices, over files of a FUSE file system",
    .options = loop_options,
    .config_size = sizeof(struct service_config),
    .create = loop_create,
    .destroy = loop_destroy,
    .probe = loop_probe,
    .ops = &loop_ops,
};
DRAFTER_PLUGIN_ENTRY(loop_plugin)

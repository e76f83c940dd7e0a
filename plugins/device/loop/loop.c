/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as loop devices: block nodes where the kernel has no NBD client.
 *
 * Below each loop device is a file of a FUSE file system of our own, as drafter-fuse(7) makes it, so that
 * every write passes through drafter: a loop device on the storage's own file would be faster, but what
 * is written to it nobody could migrate.  The loop device reads and writes that file with direct I/O,
 * which goes on with other requests while one waits, and caches nothing twice.
 */
#include "../fuse/service.h"
#include "../node.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOP_TRIES 64 /* others may take the device that we were told is free */
#define LOOP_FILES "/.files"

struct loop {
    const char *id;
    void *files;     /* instance of the FUSE service */
    char *directory; /* NULL: not started */
    char *hidden;    /* where it is mounted */
    int lock_fd;     /* the directory, locked as long as we serve it */
};

struct disk {
    struct loop *loop;
    void *file; /* exposure of the FUSE service */
    struct drafter_device_backend backend;
    uint64_t bytes; /* of the device */
    uint64_t size;  /* as the VMM sees it: `bytes` rounded up; what is beyond reads as zeros */
    struct node node;
    char kernel_name[32];   /* "loop7" */
    atomic_bool shown;      /* before, nothing was written: the kernel flushes a file that it takes */
    atomic_int write_error; /* the first errno of a write since the last sync; the kernel says EIO */
};

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

/* The backend of the file: the device's, but for what lies beyond it and for trims of our own. */

static uint64_t inside(const struct disk *disk, uint64_t length, uint64_t offset)
{
    if (offset >= disk->bytes)
        return 0;
    return length < disk->bytes - offset ? length : disk->bytes - offset;
}

static int disk_read(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    struct disk *disk = opaque;
    size_t have = (size_t)inside(disk, length, offset);

    memset((char *)buffer + have, 0, length - have);
    return have ? disk->backend.read(disk->backend.opaque, buffer, have, offset) : 0;
}

static int disk_write(void *opaque, const void *buffer, size_t length, uint64_t offset)
{
    struct disk *disk = opaque;
    size_t have = (size_t)inside(disk, length, offset);
    int none = 0, result = 0;

    if (have)
        result = disk->backend.write(disk->backend.opaque, buffer, have, offset);
    if (result < 0)
        atomic_compare_exchange_strong(&disk->write_error, &none, -result);
    return result;
}

static int disk_flush(void *opaque)
{
    struct disk *disk = opaque;

    if (!disk->backend.flush || !atomic_load(&disk->shown))
        return 0;
    return disk->backend.flush(disk->backend.opaque);
}

static int disk_trim(void *opaque, uint64_t length, uint64_t offset)
{
    struct disk *disk = opaque;
    uint64_t have = inside(disk, length, offset);

    if (!have || !disk->backend.trim || node_swallows(&disk->node, length, offset))
        return 0;
    return disk->backend.trim(disk->backend.opaque, have, offset);
}

static bool disk_present(void *opaque, uint64_t length, uint64_t offset)
{
    struct disk *disk = opaque;
    uint64_t have = inside(disk, length, offset);

    return !have || disk->backend.present(disk->backend.opaque, have, offset);
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
    loop->lock_fd = -1;
    below.keeper = NULL; /* nobody would take it over */
    result = fuse_create(&below, config, &loop->files, err);
    if (result < 0) {
        free(loop);
        return result;
    }
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
    if (loop->lock_fd >= 0)
        close(loop->lock_fd);
    loop->lock_fd = -1;
    free(loop->hidden);
    free(loop->directory);
    loop->hidden = loop->directory = NULL;
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
    if (asprintf(&loop->hidden, "%s" LOOP_FILES, loop->directory) < 0) {
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
    int result;

    if (loop->directory)
        return drafter_error_set(err, EALREADY, "%s: already serves %s", loop->id, loop->directory);
    loop->directory = realpath(directory, NULL);
    if (!loop->directory)
        return drafter_error_errno(err, errno, "%s", directory);
    loop->lock_fd = open(loop->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (loop->lock_fd < 0 || flock(loop->lock_fd, LOCK_EX | LOCK_NB) < 0)
        result = drafter_error_errno(err, errno == EWOULDBLOCK ? EBUSY : errno,
                                     "%s: cannot be locked", loop->directory);
    else
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
                             (disk->node.readonly ? LO_FLAGS_READ_ONLY : 0)},
    };
    int number = ioctl(control, LOOP_CTL_GET_FREE), fd;
    char path[64];

    if (number < 0)
        return -errno;
    snprintf(disk->kernel_name, sizeof(disk->kernel_name), "loop%d", number);
    snprintf(path, sizeof(path), "/dev/loop%d", number);
    fd = open(path, (disk->node.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
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
    file = open(path, (disk->node.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
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
    result = node_make(&disk->node, disk->kernel_name, disk->loop->directory, name,
                       disk->node.readonly, err);
    if (result == 0)
        node_set_queue(&disk->node, "read_ahead_kb", 0);
    atomic_store(&disk->shown, true);
    close(fd);
    return result;
}

static void loop_withdraw(void *exposure)
{
    struct disk *disk = exposure;

    if (disk->file)
        fuse_ops.withdraw(disk->file); /* from here on the device gives errors */
    if (disk->node.fd >= 0)
        ioctl(disk->node.fd, LOOP_CLR_FD, 0); /* now, or when the last user is gone */
    node_remove(&disk->node);
    free(disk);
}

static struct disk *disk_new(struct loop *loop, const struct drafter_device_spec *spec)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    uint64_t rounded = (spec->size + 511) & ~UINT64_C(511);

    if (!disk)
        return NULL;
    disk->loop = loop;
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

static int loop_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct drafter_device_spec file = *spec;
    struct loop *loop = instance;
    char unused[PATH_MAX];
    struct disk *disk;
    int result;

    if (!loop->directory)
        return drafter_error_set(err, EINVAL, "%s: not started", loop->id);
    if ((size_t)snprintf(path, path_size, "%s/%s", loop->directory, spec->name) >= path_size)
        return drafter_error_set(err, ENAMETOOLONG, "%s: the path of the device is too long",
                                 spec->name);
    disk = disk_new(loop, spec);
    if (!disk)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    file.size = disk->size;
    file.flags = spec->flags & DRAFTER_DEVICE_READONLY; /* what is mapped is the loop device */
    file.backend = (struct drafter_device_backend){.struct_size = sizeof(file.backend),
                                                   .opaque = disk,
                                                   .read = disk_read,
                                                   .write = disk_write,
                                                   .flush = disk_flush,
                                                   .trim = disk_trim,
                                                   .present = disk->backend.present ? disk_present
                                                                                    : NULL};
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

/* The kernel takes a page whose write failed for clean, and knows one error only: ours says which. */
static int loop_sync(void *exposure, struct drafter_error *err)
{
    struct disk *disk = exposure;
    int result = node_sync(&disk->node, err), written = atomic_exchange(&disk->write_error, 0);

    return result < 0 && written
               ? drafter_error_errno(err, written, "%s: cannot write back", disk->node.path)
               : result;
}

static int loop_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct disk *disk = exposure;

    return node_dirty(&disk->node, bitmap, pages, err);
}

static int loop_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct disk *disk = exposure;

    if (offset > disk->bytes || length > disk->bytes - offset)
        return -EINVAL;
    return node_read(&disk->node, buffer, length, offset);
}

static int loop_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct disk *disk = exposure;

    return node_invalidate(&disk->node, offset, length);
}

static void loop_hint(void *exposure, enum drafter_device_hint hint)
{
    struct disk *disk = exposure;

    node_set_queue(&disk->node, "read_ahead_kb",
                   hint == DRAFTER_DEVICE_COMPLETE ? NODE_READAHEAD_COMPLETE_KIB : 0);
}

static int loop_populate(void *exposure, uint64_t offset, uint64_t length)
{
    struct disk *disk = exposure;

    return node_populate(&disk->node, offset, length);
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

static int reclaim_all(struct loop *loop, const char *directory, struct drafter_error *err)
{
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
    if (result == 0) {
        rmdir(hidden);
        node_sweep(directory);
    }
    return result;
}

static int loop_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    char *full = realpath(directory, NULL);
    int fd, result;

    if (!full)
        return 0;
    fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
        result = drafter_error_set(err, EBUSY, "%s: another process serves it", full);
    else
        result = reclaim_all(instance, full, err);
    if (fd >= 0)
        close(fd);
    free(full);
    return result;
}

static const struct drafter_device_ops loop_ops = {
    .start = loop_start,
    .expose = loop_expose,
    .sync = loop_sync,
    .dirty = loop_dirty,
    .read = loop_read,
    .invalidate = loop_invalidate,
    .hint = loop_hint,
    .populate = loop_populate,
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

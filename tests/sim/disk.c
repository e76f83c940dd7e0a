/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks: files with a content that processes see and one that survives a power loss.  A write reaches
 * the second by a successful sync, or by luck, sector by sector.  A sync that failed forgets what it
 * was to write, as the kernel does: the next one succeeds without it.
 *
 * The ledger reaches its file through open, pread, pwrite, fdatasync and flock, which the linker sends
 * here (--wrap); devices reach theirs through a storage plugin.
 */
#include "fiber.h"
#include "sim.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FILE_MAX ((size_t)SIM_PAGES_MAX << DRAFTER_PAGE_SHIFT)
#define DESCRIPTORS 16
#define DESCRIPTOR_BASE (1 << 20) /* far from any that is real */

static struct {
    struct sim_file *file;
    int node;
} descriptors[DESCRIPTORS];

static uint8_t memory[SIM_NODES][SIM_FILES_MAX][2][FILE_MAX];
static uint8_t flags[SIM_NODES][SIM_FILES_MAX][FILE_MAX / SECTOR];
static struct instance storages[SIM_NODES][SIM_DEVICES];

int __real_open(const char *path, int how, ...);
int __real_close(int fd);
int __real_fstat(int fd, struct stat *ret_status);
ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __real_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int __wrap_open(const char *path, int how, ...);
int __wrap___open_2(const char *path, int how);
int __wrap_close(int fd);
int __wrap_fstat(int fd, struct stat *ret_status);
ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_flock(int fd, int operation);
int __wrap_io_make_directories(const char *path, mode_t mode, struct drafter_error *err);
int __wrap_io_sync_parent(const char *path);

/* Files */

struct sim_file *disk_file(int node, const char *path)
{
    for (unsigned i = 0; i < SIM_FILES_MAX; i++) {
        struct sim_file *file = &sim.files[node][i];

        if (file->path[0] && strcmp(file->path, path))
            continue;
        if (!file->path[0]) {
            *file = (struct sim_file){.node = node, .device = -1, .locked_by = -1};
            snprintf(file->path, sizeof(file->path), "%s", path);
            file->content = memory[node][i][0];
            file->durable = memory[node][i][1];
            file->unsynced = flags[node][i];
        }
        return file;
    }
    sim_die("a disk has more than %d files", SIM_FILES_MAX);
}

static void clear_file(struct sim_file *file)
{
    memset(file->content, 0, file->size);
    memset(file->durable, 0, file->size);
    memset(file->unsynced, 0, (file->size + SECTOR - 1) / SECTOR);
    file->exists = file->lost_writes = false;
    file->size = 0;
}

void disk_reset(void)
{
    for (unsigned node = 0; node < SIM_NODES; node++)
        for (unsigned i = 0; i < SIM_FILES_MAX; i++)
            if (sim.files[node][i].path[0])
                clear_file(&sim.files[node][i]);
    memset(sim.files, 0, sizeof(sim.files));
    memset(descriptors, 0, sizeof(descriptors));
}

static void grow(struct sim_file *file, size_t size)
{
    if (size > FILE_MAX)
        sim_die("%s: larger than a simulated file can be", file->path);
    if (size > file->size)
        file->size = size;
    file->exists = true;
}

static void wait_for_disk(void)
{
    fiber_maybe_yield();
    if (fiber_self() && sim_chance(sim.swarm.slow_disk))
        fiber_sleep(sim_below(2 * MS));
}

static int write_file(struct sim_file *file, const void *data, size_t length, size_t offset)
{
    bool fails;

    wait_for_disk();
    fails = fault_takes(file->node, FAULT_DISK_WRITE, file->path);
    if (fails && file->device >= 0) /* it got half-way */
        for (size_t at = offset; at < offset + length; at += DRAFTER_PAGE_SIZE)
            sim.torn[file->device][at >> DRAFTER_PAGE_SHIFT] = true;
    if (fails)
        length = length / 2 / SECTOR * SECTOR;
    memcpy(file->content + offset, data, length);
    for (size_t sector = offset / SECTOR; length && sector <= (offset + length - 1) / SECTOR; sector++)
        file->unsynced[sector] = 1;
    return fails ? -EIO : 0;
}

static int sync_file(struct sim_file *file)
{
    size_t sectors = (file->size + SECTOR - 1) / SECTOR;
    bool fails;

    wait_for_disk();
    fails = fault_takes(file->node, FAULT_DISK_SYNC, file->path);
    for (size_t sector = 0; sector < sectors; sector++) {
        if (!file->unsynced[sector])
            continue;
        file->unsynced[sector] = 0;
        if (fails && sim_chance(512))
            file->lost_writes = true;
        else
            memcpy(file->durable + sector * SECTOR, file->content + sector * SECTOR, SECTOR);
    }
    if (file->is_ledger)
        check_ledger_change(file->node);
    return fails ? -EIO : 0;
}

void disk_kill(int node)
{
    for (unsigned i = 0; i < DESCRIPTORS; i++) {
        if (!descriptors[i].file || descriptors[i].node != node)
            continue;
        descriptors[i].file->locked_by = -1;
        descriptors[i].file = NULL;
    }
    for (unsigned i = 0; i < SIM_DEVICES; i++)
        storages[node][i].flush_error = 0;
}

void disk_power_loss(int node)
{
    for (unsigned i = 0; i < SIM_FILES_MAX; i++) {
        struct sim_file *file = &sim.files[node][i];

        for (size_t sector = 0; sector < (file->size + SECTOR - 1) / SECTOR; sector++) {
            if (!file->unsynced[sector])
                continue;
            file->unsynced[sector] = 0;
            if (sim_chance(sim.swarm.disk_survives))
                memcpy(file->durable + sector * SECTOR, file->content + sector * SECTOR, SECTOR);
        }
        if (file->size)
            memcpy(file->content, file->durable, file->size);
        if (file->is_ledger)
            check_ledger_change(node);
    }
}

/* The ledger as ledger_open would find it. */
bool disk_ledger(int node, bool durable, struct ledger_record *ret_record)
{
    const struct sim_file *file = disk_file(node, SIM_VM ".ledger");
    const uint8_t *content = durable ? file->durable : file->content;
    uint64_t newest = 0;

    for (unsigned i = 0; file->size && i < 2; i++) {
        struct ledger_record record;
        uint64_t sequence;

        if (ledger_decode(content + i * LEDGER_FILE_SIZE / 2, &record, &sequence) ||
            sequence % 2 != i || sequence <= newest)
            continue;
        newest = sequence;
        *ret_record = record;
    }
    return newest != 0;
}

/* Descriptors */

static struct sim_file *file_of(int fd)
{
    int slot = fd - DESCRIPTOR_BASE;

    return slot >= 0 && slot < DESCRIPTORS ? descriptors[slot].file : NULL;
}

static int fail(int code)
{
    errno = code;
    return -1;
}

/* "/sim/NODE/NAME" */
int __wrap_open(const char *path, int how, ...)
{
    struct sim_file *file;

    if (strncmp(path, "/sim/", 5))
        return fail(ENOENT);
    if (fault_takes(fiber_node(), FAULT_RESOURCES, "a descriptor"))
        return fail(EMFILE);
    file = disk_file(path[5] - '0', path + 7);
    if (!file->exists && !(how & O_CREAT))
        return fail(ENOENT);
    file->exists = file->is_ledger = true;
    for (int i = 0; i < DESCRIPTORS; i++) {
        if (descriptors[i].file)
            continue;
        descriptors[i].file = file;
        descriptors[i].node = path[5] - '0';
        return DESCRIPTOR_BASE + i;
    }
    sim_die("more than %d descriptors are open", DESCRIPTORS);
}

int __wrap___open_2(const char *path, int how)
{
    return __wrap_open(path, how);
}

int __wrap_close(int fd)
{
    struct sim_file *file = file_of(fd);

    if (!file)
        return __real_close(fd);
    if (file->locked_by == fd)
        file->locked_by = -1;
    descriptors[fd - DESCRIPTOR_BASE].file = NULL;
    return 0;
}

int __wrap_fstat(int fd, struct stat *ret_status)
{
    struct sim_file *file = file_of(fd);

    if (!file)
        return __real_fstat(fd, ret_status);
    memset(ret_status, 0, sizeof(*ret_status));
    ret_status->st_mode = S_IFREG | 0600;
    ret_status->st_size = (off_t)file->size;
    return 0;
}

/* Fewer bytes than asked for, or none because of a signal. */
static ssize_t shorten(size_t length)
{
    if (!sim_chance(sim.swarm.short_io))
        return (ssize_t)length;
    return sim_chance(512) ? fail(EINTR) : (ssize_t)(1 + sim_below(length));
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
    struct sim_file *file = file_of(fd);
    ssize_t part;

    if (!file)
        return __real_pread(fd, buffer, length, offset);
    if (fault_takes(file->node, FAULT_DISK_READ, file->path))
        return fail(EIO);
    if ((size_t)offset >= file->size)
        return 0;
    if (length > file->size - (size_t)offset)
        length = file->size - (size_t)offset;
    part = shorten(length);
    if (part > 0)
        memcpy(buffer, file->content + offset, (size_t)part);
    return part;
}

/* A full disk stops only writes that need room: the ledger's was allocated when it was made. */
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset)
{
    struct sim_file *file = file_of(fd);
    ssize_t part;

    if (!file)
        return __real_pwrite(fd, buffer, length, offset);
    if ((size_t)offset + length > file->size && fault_takes(file->node, FAULT_DISK_FULL, file->path))
        return fail(ENOSPC);
    part = shorten(length);
    if (part <= 0)
        return part;
    grow(file, (size_t)offset + (size_t)part);
    return write_file(file, buffer, (size_t)part, (size_t)offset) ? fail(EIO) : part;
}

int __wrap_fdatasync(int fd)
{
    struct sim_file *file = file_of(fd);
    int rc;

    if (!file)
        return fail(EINVAL);
    if (plant_is("ledger-sync"))
        return 0;
    rc = sync_file(file);
    return rc ? fail(-rc) : 0;
}

int __wrap_fsync(int fd)
{
    return __wrap_fdatasync(fd);
}

int __wrap_flock(int fd, int operation)
{
    struct sim_file *file = file_of(fd);

    (void)operation;
    if (file->locked_by >= 0)
        return fail(EWOULDBLOCK);
    file->locked_by = fd;
    return 0;
}

int __wrap_io_make_directories(const char *path, mode_t mode, struct drafter_error *err)
{
    (void)path, (void)mode, (void)err;
    return 0;
}

int __wrap_io_sync_parent(const char *path)
{
    (void)path;
    return 0;
}

/* Storages */

static int storage_sim_open(void *data, uint64_t size, unsigned how, struct drafter_error *err)
{
    (void)data, (void)size, (void)how, (void)err;
    return 0;
}

static uint64_t storage_sim_size(void *data)
{
    const struct sim_file *file = data;

    return sim_devices[file->device].size;
}

static int storage_sim_read(void *data, void *buffer, size_t length, uint64_t offset)
{
    struct sim_file *file = data;

    wait_for_disk();
    if (fault_takes(file->node, FAULT_DISK_READ, file->path))
        return -EIO;
    memcpy(buffer, file->content + offset, length);
    return 0;
}

static int storage_sim_write(void *data, const void *buffer, size_t length, uint64_t offset)
{
    struct sim_file *file = data;
    int rc;

    check_storage_attempt(file->node, file->device, offset, length);
    if (fault_takes(file->node, FAULT_DISK_FULL, file->path))
        return -ENOSPC;
    grow(file, sim_devices[file->device].size);
    rc = write_file(file, buffer, length, offset);
    if (!rc)
        check_storage_write(file->node, file->device, offset, buffer, length);
    return rc;
}

static int storage_sim_flush(void *data)
{
    if (plant_is("flush-order"))
        return 0;
    return sync_file(data);
}

static const struct drafter_storage_ops storage_ops = {
    .open = storage_sim_open,
    .size = storage_sim_size,
    .pread = storage_sim_read,
    .pwrite = storage_sim_write,
    .flush = storage_sim_flush,
};

static struct plugin storage_plugin = {
    .descriptor = {.kind = DRAFTER_KIND_STORAGE, .thread_model = DRAFTER_THREADS_PARALLEL, .name = "sim"},
    .ops = (void *)&storage_ops,
};

/* Here nothing survives its process but the disk. */
static int keep_nothing(void *opaque, const char *name, int fd)
{
    (void)opaque, (void)name, (void)fd;
    return -ENOTSUP;
}

static int take_nothing(void *opaque, const char *name, int *ret_fd)
{
    (void)opaque, (void)name, (void)ret_fd;
    return -ENOENT;
}

struct instance *disk_storage(int node, enum sim_device device)
{
    struct instance *storage = &storages[node][device];
    struct sim_file *file = disk_file(node, sim_devices[device].name);

    file->device = (int)device;
    grow(file, sim_devices[device].size);
    *storage = (struct instance){.plugin = &storage_plugin,
                                 .data = file,
                                 .id = (char *)"sim",
                                 .keeper = {.put = keep_nothing, .take = take_nothing}};
    return storage;
}

uint8_t *disk_page(int node, enum sim_device device, uint64_t page, bool durable)
{
    struct sim_file *file = disk_file(node, sim_devices[device].name);

    return (durable ? file->durable : file->content) + (page << DRAFTER_PAGE_SHIFT);
}

bool disk_device_exists(int node, enum sim_device device)
{
    return disk_file(node, sim_devices[device].name)->exists;
}

bool disk_lost_writes(int node, enum sim_device device)
{
    return disk_file(node, sim_devices[device].name)->lost_writes;
}

void disk_remove_devices(int node)
{
    for (unsigned i = 0; i < SIM_DEVICES; i++)
        clear_file(disk_file(node, sim_devices[i].name));
}

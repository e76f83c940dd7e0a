/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dirty() asks cachestat(2), Linux 6.5; before, it writes everything back instead, so that nothing is
 * dirty: slower, but true.
 *
 * invalidate() has to drop pages that are mapped, must wait for reads that are on the way, and must lose
 * no write.  The kernel does just that when a device is discarded (BLKDISCARD) that somebody else has
 * claimed (O_EXCL), for then it takes care of that one's pages.  So the device is claimed, by us if by
 * nobody, and the trim that follows is not passed on.
 */
#include "node.h"

#include "pages.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NODE_POPULATE_STEP ((uint64_t)1 << 20)

void node_init(struct node *node)
{
    *node = (struct node){.fd = -1};
    pthread_mutex_init(&node->lock, NULL);
}

uint64_t node_round(uint64_t bytes)
{
    uint64_t rounded = (bytes + 511) & ~UINT64_C(511);

    return rounded < DRAFTER_PAGE_SIZE ? DRAFTER_PAGE_SIZE : rounded;
}

int node_check_size(const struct drafter_device_spec *spec, struct drafter_error *err)
{
    return spec->size > INT64_MAX - DRAFTER_PAGE_SIZE
               ? drafter_error_set(err, EINVAL, "%s: a device of %llu bytes cannot be exposed",
                                   spec->name, (unsigned long long)spec->size)
               : 0;
}

static int read_number(struct node *node, const char *kernel_name)
{
    char path[PATH_MAX];
    FILE *file;
    int found;

    snprintf(path, sizeof(path), "/sys/block/%s/dev", kernel_name);
    file = fopen(path, "re");
    if (!file)
        return -errno;
    found = fscanf(file, "%u:%u", &node->major, &node->minor);
    fclose(file);
    return found == 2 ? 0 : -ENODEV;
}

static int bind_node(const char *kernel_name, const char *path)
{
    char source[PATH_MAX];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), result = 0;

    if (fd < 0)
        return -errno;
    close(fd);
    snprintf(source, sizeof(source), "/dev/%s", kernel_name);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
        result = -errno;
        unlink(path);
    }
    return result;
}

static int make_path(struct node *node, const char *kernel_name, const char *directory)
{
    struct statvfs status;

    if (statvfs(directory, &status) < 0)
        return -errno;
    node->bound = status.f_flag & ST_NODEV;
    if (node->bound)
        return bind_node(kernel_name, node->path);
    return mknod(node->path, S_IFBLK | 0600, makedev(node->major, node->minor)) < 0 ? -errno : 0;
}

static int open_node(struct node *node)
{
    int flags = (node->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    uint64_t size;

    node->fd = open(node->path, flags);
    if (node->fd < 0)
        return -errno;
    if (ioctl(node->fd, BLKGETSIZE64, &size) < 0)
        return -errno;
    node->size = size;
    posix_fadvise(node->fd, 0, 0, POSIX_FADV_RANDOM);
    return 0;
}

int node_make(struct node *node, const char *kernel_name, const char *directory, const char *name,
              bool readonly, struct drafter_error *err)
{
    int result;

    node->readonly = readonly;
    if (asprintf(&node->path, "%s/%s", directory, name) < 0) {
        node->path = NULL;
        return drafter_error_set(err, ENOMEM, "%s: no memory", name);
    }
    result = read_number(node, kernel_name);
    if (result < 0)
        return drafter_error_errno(err, -result, "/sys/block/%s/dev", kernel_name);
    result = make_path(node, kernel_name, directory);
    if (result < 0) {
        free(node->path);
        node->path = NULL;
        return drafter_error_errno(err, -result, "%s/%s: cannot make the device node", directory,
                                   name);
    }
    result = open_node(node);
    return result < 0 ? drafter_error_errno(err, -result, "%s", node->path) : 0;
}

int node_adopt(struct node *node, int fd, const char *directory, const char *name, bool readonly,
               struct drafter_error *err)
{
    struct statvfs status;
    struct stat device;
    uint64_t size;

    node->fd = fd;
    node->readonly = readonly;
    if (asprintf(&node->path, "%s/%s", directory, name) < 0) {
        node->path = NULL;
        return drafter_error_set(err, ENOMEM, "%s: no memory", name);
    }
    if (fstat(fd, &device) < 0 || !S_ISBLK(device.st_mode) || ioctl(fd, BLKGETSIZE64, &size) < 0 ||
        statvfs(directory, &status) < 0)
        return drafter_error_set(err, ENODEV, "%s: what was left is no block device", node->path);
    node->size = size;
    node->major = major(device.st_rdev);
    node->minor = minor(device.st_rdev);
    node->bound = status.f_flag & ST_NODEV;
    return 0;
}

void node_remove(struct node *node)
{
    if (node->fd >= 0)
        close(node->fd);
    if (node->path) {
        if (node->bound)
            umount2(node->path, MNT_DETACH | UMOUNT_NOFOLLOW);
        unlink(node->path);
    }
    free(node->path);
    pthread_mutex_destroy(&node->lock);
    node_init(node);
}

void node_sweep(const char *directory)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;
    struct stat status;

    while (entries && (entry = readdir(entries))) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        if (fstatat(dirfd(entries), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISBLK(status.st_mode))
            continue;
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
        unlinkat(dirfd(entries), entry->d_name, 0);
    }
    if (entries)
        closedir(entries);
}

/* Not fsync(2), which would flush the device as well. */
int node_sync(struct node *node, struct drafter_error *err)
{
    const unsigned how =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

    if (!node->readonly && sync_file_range(node->fd, 0, 0, how) < 0)
        return drafter_error_errno(err, errno, "%s: cannot write back", node->path);
    return 0;
}

int node_dirty(struct node *node, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    uint64_t in_node = (node->size + DRAFTER_PAGE_SIZE - 1) / DRAFTER_PAGE_SIZE;
    int result;

    if (node->readonly)
        return 0;
    if (!pages_countable())
        return node_sync(node, err);
    result = pages_find_dirty(node->fd, bitmap, pages < in_node ? pages : in_node);
    return result < 0
               ? drafter_error_errno(err, -result, "%s: cannot find the dirty pages", node->path)
               : 0;
}

int node_read(struct node *node, void *buffer, size_t length, uint64_t offset)
{
    if (offset > node->size || length > node->size - offset)
        return -EINVAL;
    return pages_read(node->fd, buffer, length, offset);
}

static void swallow(struct node *node, uint64_t begin, uint64_t end)
{
    pthread_mutex_lock(&node->lock);
    node->swallow_begin = begin;
    node->swallow_end = end;
    pthread_mutex_unlock(&node->lock);
}

bool node_swallows(struct node *node, uint64_t length, uint64_t offset)
{
    bool ours;

    pthread_mutex_lock(&node->lock);
    ours = offset >= node->swallow_begin && offset < node->swallow_end &&
           length <= node->swallow_end - offset;
    pthread_mutex_unlock(&node->lock);
    return ours;
}

int node_invalidate(struct node *node, uint64_t offset, uint64_t length)
{
    uint64_t begin = offset / DRAFTER_PAGE_SIZE * DRAFTER_PAGE_SIZE, end = node->size, range[2];
    int claim, result = 0;

    if (offset >= node->size)
        return 0;
    if (length && length < node->size - offset)
        end = (offset + length + DRAFTER_PAGE_SIZE - 1) / DRAFTER_PAGE_SIZE * DRAFTER_PAGE_SIZE;
    if (end > node->size)
        end = node->size;
    if (node->readonly) /* cannot be discarded; nobody maps its pages to stay */
        return -posix_fadvise(node->fd, (off_t)begin, (off_t)(end - begin), POSIX_FADV_DONTNEED);
    claim = open(node->path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (claim < 0 && errno != EBUSY) /* busy: somebody else has claimed it, which will do */
        return -errno;
    range[0] = begin;
    range[1] = end - begin;
    swallow(node, begin, end);
    if (ioctl(node->fd, BLKDISCARD, range) < 0 && errno != EBUSY) /* busy: pages are dirty */
        result = -errno;
    swallow(node, 0, 0);
    if (claim >= 0)
        close(claim);
    return result;
}

/*
 * Starts reading a step and waits for the step before, by reading one byte of it, so that two are on the
 * way.  What is cached already, dirty or not, is left alone.
 */
int node_populate(struct node *node, uint64_t offset, uint64_t length)
{
    uint64_t end, ahead, step;
    char last;

    if (offset >= node->size)
        return 0;
    end = length > node->size - offset ? node->size : offset + length;
    offset -= offset % NODE_POPULATE_STEP;
    ahead = offset;
    while (offset < end) {
        for (; ahead < end && ahead < offset + 2 * NODE_POPULATE_STEP; ahead += step) {
            step = end - ahead < NODE_POPULATE_STEP ? end - ahead : NODE_POPULATE_STEP;
            readahead(node->fd, (off_t)ahead, step);
        }
        offset = end - offset < NODE_POPULATE_STEP ? end : offset + NODE_POPULATE_STEP;
        if (pread(node->fd, &last, 1, (off_t)offset - 1) < 0)
            return -errno;
    }
    return 0;
}

void node_set_queue(const struct node *node, const char *knob, unsigned value)
{
    char path[128], text[16];
    int fd, length = snprintf(text, sizeof(text), "%u", value);

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/%s", node->major, node->minor, knob);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) < 0)
        drafter_log(DRAFTER_LOG_DEBUG, node->path, "%s stays as it is: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

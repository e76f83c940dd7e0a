/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cow_io on real files.  The handle is the descriptor itself, so nothing is allocated.  The host is the
 * instance's keeper, or NULL.
 */
#include "cow-io.h"

#include <drafter/plugin.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_fd(void *file)
{
    return (int)(intptr_t)file - 1; /* descriptor 0 must not look like NULL */
}

/*
 * One writer or many readers: the lock belongs to the inode, whatever name it was opened by.  That of a
 * drafter that died is still held for us, with the descriptor that it belongs to.
 */
static int file_lock(const struct drafter_keeper *keeper, int *fd, unsigned flags)
{
    int r = flock(*fd, (flags & COW_IO_WRITE ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0 ? -errno : 0;
    char name[DRAFTER_NAME_MAX + 1];
    struct stat st;
    int kept;

    if (fstat(*fd, &st) < 0)
        return -errno;
    snprintf(name, sizeof name, "lock-%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    if (r == -EWOULDBLOCK && keeper && keeper->take(keeper->opaque, name, &kept) == 0) {
        close(*fd);
        *fd = kept;
        r = 0;
    }
    if (r == -EWOULDBLOCK)
        return -EBUSY;
    return r == 0 && keeper ? keeper->put(keeper->opaque, name, *fd) : r;
}

static int file_open(void *host, const char *path, unsigned flags, void **ret_file)
{
    int mode = flags & COW_IO_WRITE ? O_RDWR : O_RDONLY;
    int fd, r;

    if (flags & COW_IO_CREATE)
        mode |= O_CREAT;
    fd = open(path, mode | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = file_lock(host, &fd, flags);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_file = (void *)(intptr_t)(fd + 1);
    return 0;
}

static void file_close(void *file)
{
    flock(file_fd(file), LOCK_UN); /* the keeper's copy is the same open file */
    close(file_fd(file));
}

static int file_size(void *file, uint64_t *ret_size)
{
    struct stat st;

    if (fstat(file_fd(file), &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int file_pread(void *file, void *buffer, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t n = pread(file_fd(file), buffer, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        buffer = (char *)buffer + n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int file_pwrite(void *file, const void *buffer, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t n = pwrite(file_fd(file), buffer, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        buffer = (const char *)buffer + n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int file_sync(void *file)
{
    return fdatasync(file_fd(file)) < 0 ? -errno : 0;
}

static int file_truncate(void *file, uint64_t size)
{
    return ftruncate(file_fd(file), (off_t)size) < 0 ? -errno : 0;
}

static int file_punch(void *file, uint64_t length, uint64_t offset)
{
    int fd = file_fd(file);

    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                     (off_t)length) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int file_seek(void *file, uint64_t offset, bool data, uint64_t *ret_offset)
{
    off_t found = lseek(file_fd(file), (off_t)offset, data ? SEEK_DATA : SEEK_HOLE);

    if (found >= 0) {
        *ret_offset = (uint64_t)found;
        return 0;
    }
    if (errno == ENXIO) /* nothing of the kind up to the end */
        return file_size(file, ret_offset);
    return errno == EINVAL ? -EOPNOTSUPP : -errno;
}

static int file_rename(void *host, const char *from, const char *to)
{
    (void)host;
    return rename(from, to) < 0 ? -errno : 0;
}

static int file_remove(void *host, const char *path)
{
    (void)host;
    return unlink(path) < 0 ? -errno : 0;
}

static int file_sync_parent(void *host, const char *path)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX] = ".";
    int fd, r;

    (void)host;
    if (slash) {
        int n = snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);

        if (n < 0 || (size_t)n >= sizeof parent)
            return -ENAMETOOLONG;
    }
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

const struct cow_io cow_io_files = {
    .open = file_open,
    .close = file_close,
    .size = file_size,
    .pread = file_pread,
    .pwrite = file_pwrite,
    .sync = file_sync,
    .truncate = file_truncate,
    .punch = file_punch,
    .seek = file_seek,
    .rename = file_rename,
    .remove = file_remove,
    .sync_parent = file_sync_parent,
};

/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/io.h"
#include "util/cleanup.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_DEPTH_MAX = 64 }; /* io_remove_tree holds a descriptor per level */

int io_pread_full(int fd, void *buffer, size_t length, uint64_t offset)
{
    char *at = buffer;

    while (length) {
        ssize_t got = pread(fd, at, length, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        at += got;
        length -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int io_pwrite_full(int fd, const void *buffer, size_t length, uint64_t offset)
{
    const char *at = buffer;

    while (length) {
        ssize_t put = pwrite(fd, at, length, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        at += put;
        length -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

int io_read_full(int fd, void *buffer, size_t length)
{
    char *at = buffer;

    while (length) {
        ssize_t got = read(fd, at, length);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        at += got;
        length -= (size_t)got;
    }
    return 0;
}

int io_write_full(int fd, const void *buffer, size_t length)
{
    const char *at = buffer;

    while (length) {
        ssize_t put = write(fd, at, length);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        at += put;
        length -= (size_t)put;
    }
    return 0;
}

/* Zero bytes equal their neighbours: libc's memcmp does the work with vector instructions. */
bool io_is_zero(const void *buffer, size_t length)
{
    const unsigned char *bytes = buffer;
    size_t head = length < 16 ? length : 16;

    for (size_t i = 0; i < head; i++) {
        if (bytes[i])
            return false;
    }
    return length <= 16 || memcmp(bytes, bytes + 16, length - 16) == 0;
}

int io_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_length,
                 struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    cleanup_free char *data = NULL;
    size_t length = 0, size = 4096;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    for (;;) {
        char *larger;
        ssize_t got;

        if (size > limit)
            size = limit + 1; /* one more than allowed tells a file that is too long */
        larger = realloc(data, size + 1);
        if (!larger)
            return drafter_error_errno(err, ENOMEM, "%s", path);
        data = larger;
        got = read(fd, data + length, size - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return drafter_error_errno(err, errno, "%s", path);
        if (got == 0)
            break;
        length += (size_t)got;
        if (length > limit)
            return drafter_error_set(err, EFBIG, "%s: longer than %zu bytes", path, limit);
        if (length == size)
            size *= 2;
    }
    data[length] = '\0';
    *ret_data = steal(&data);
    if (ret_length)
        *ret_length = length;
    return 0;
}

/* Writes the new content of `path` beside it, durable; a file that is there keeps its owner and mode. */
static int write_beside(const char *path, int fd, const void *data, size_t length, unsigned mode)
{
    int result = io_write_full(fd, data, length);
    struct stat old, new;

    if (result == 0 && stat(path, &old) == 0 && fstat(fd, &new) == 0) {
        mode = old.st_mode & 07777;
        if ((old.st_uid != new.st_uid || old.st_gid != new.st_gid) && fchown(fd, old.st_uid, old.st_gid) < 0)
            result = -errno;
    }
    if (result == 0 && fchmod(fd, mode) < 0)
        result = -errno;
    if (result == 0 && fsync(fd) < 0)
        result = -errno;
    return result;
}

int io_replace_file(const char *path, const void *data, size_t length, unsigned mode,
                    struct drafter_error *err)
{
    cleanup_free char *temporary = NULL;
    cleanup_close int fd = -1;
    int result;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        temporary = NULL;
        return drafter_error_errno(err, ENOMEM, "%s", path);
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", temporary);
    result = write_beside(path, fd, data, length, mode);
    if (result == 0 && rename(temporary, path) < 0)
        result = -errno;
    if (result < 0) {
        unlink(temporary);
        return drafter_error_errno(err, -result, "%s", path);
    }
    result = io_sync_parent(path);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: its directory", path);
    return 0;
}

int io_make_directories(const char *path, unsigned mode, struct drafter_error *err)
{
    cleanup_free char *copy = strdup(path);
    struct stat info;

    if (!copy)
        return drafter_error_errno(err, ENOMEM, "%s", path);
    for (char *at = copy; *at;) {
        char saved;

        at += strspn(at, "/");
        at += strcspn(at, "/");
        saved = *at;
        *at = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return drafter_error_errno(err, errno, "%s", copy);
        *at = saved;
    }
    if (stat(path, &info) < 0)
        return drafter_error_errno(err, errno, "%s", path);
    if (!S_ISDIR(info.st_mode))
        return drafter_error_errno(err, ENOTDIR, "%s", path);
    return 0;
}

int io_make_parent(const char *path, unsigned mode, struct drafter_error *err)
{
    cleanup_free char *copy = strdup(path);
    char *slash = copy ? strrchr(copy, '/') : NULL;

    if (!copy)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (!slash || slash == copy)
        return 0;
    *slash = '\0';
    return io_make_directories(copy, mode, err);
}

int io_sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    cleanup_free char *parent = NULL;
    cleanup_close int fd = -1;

    if (!slash)
        parent = strdup(".");
    else
        parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!parent)
        return -ENOMEM;
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* EINVAL: this file system has no such thing as a directory to write out. */
    if (fsync(fd) < 0 && errno != EINVAL)
        return -errno;
    return 0;
}

static int remove_below(int fd, dev_t device, unsigned depth);

static int remove_entry(int fd, const char *name, dev_t device, unsigned depth)
{
    cleanup_close int child = -1;
    struct stat info;
    int result;

    if (fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISDIR(info.st_mode))
        return unlinkat(fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
    if (info.st_dev != device)
        return -EXDEV;
    if (depth == TREE_DEPTH_MAX)
        return -ELOOP;
    child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child < 0)
        return -errno;
    result = remove_below(child, device, depth + 1);
    if (result == 0 && unlinkat(fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        result = -errno;
    return result;
}

/* Goes on after a failure, so that as little as possible stays; returns the first one. */
static int remove_below(int fd, dev_t device, unsigned depth)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), result = 0;
    struct dirent *entry;
    DIR *directory;

    if (copy < 0)
        return -errno;
    directory = fdopendir(copy);
    if (!directory) {
        close(copy);
        return -ENOMEM;
    }
    while ((entry = readdir(directory))) {
        int one = 0;

        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            one = remove_entry(fd, entry->d_name, device, depth);
        if (result == 0)
            result = one;
    }
    closedir(directory);
    return result;
}

int io_remove_tree(const char *path, struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat info;
    int result;

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &info) < 0)
        return drafter_error_errno(err, errno, "%s", path);
    result = remove_below(fd, info.st_dev, 0);
    if (result == 0 && rmdir(path) < 0 && errno != ENOENT)
        result = -errno;
    if (result < 0)
        return drafter_error_errno(err, -result, "cannot remove %s", path);
    return 0;
}

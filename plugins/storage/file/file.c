/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storage in a file or on a block device.
 *
 * With `direct = yes` there are two descriptors of the file: one with O_DIRECT for requests that are
 * aligned for it, one without for the rest (the odd end of a file, an unaligned buffer).  The kernel
 * keeps both coherent, and neither path allocates.
 *
 * One writer or any number of readers: flock on the inode, so it holds whatever name was used.
 */
#include <drafter/storage.h>

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECT_ALIGN 4096

struct file_config {
    const char *path;
    bool readonly;
    bool direct;
};

struct file {
    const struct file_config *config;
    const struct drafter_keeper *keeper;
    int fd;        /* set by open; holds the lock, and so does its copy at the keeper */
    int direct_fd; /* set by open; -1 without O_DIRECT */
    uint64_t size; /* set by open */
    bool readonly; /* set by open */

    /* The kernel tells one caller of a failed sync, so that no other may be in between. */
    pthread_mutex_t flush_lock;
    int flush_error; /* under flush_lock: negative errno of the first failed flush */
};

static int file_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct file *file = calloc(1, sizeof *file);

    if (!file)
        return drafter_error_set(err, ENOMEM, "file: no memory");
    file->config = config;
    file->keeper = context->keeper;
    file->fd = file->direct_fd = -1;
    pthread_mutex_init(&file->flush_lock, NULL);
    *ret_instance = file;
    return 0;
}

static void file_close(struct file *file)
{
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    if (file->fd >= 0) {
        flock(file->fd, LOCK_UN); /* the keeper's copy is the same open file */
        close(file->fd);
    }
    file->fd = file->direct_fd = -1;
}

static void file_destroy(void *instance)
{
    struct file *file = instance;

    if (!file)
        return;
    file_close(file);
    pthread_mutex_destroy(&file->flush_lock);
    free(file);
}

/* The lock of a drafter that died is still held for us, with the descriptor that it belongs to. */
static bool file_inherit(struct file *file, const char *name)
{
    int kept;

    if (!file->keeper || file->keeper->take(file->keeper->opaque, name, &kept) < 0)
        return false;
    close(file->fd);
    file->fd = kept;
    return true;
}

static int file_lock(struct file *file, struct drafter_error *err)
{
    char name[DRAFTER_NAME_MAX + 1];
    struct stat st;
    int r = flock(file->fd, (file->readonly ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0 ? -errno : 0;

    if (fstat(file->fd, &st) < 0)
        return drafter_error_errno(err, errno, "%s: cannot stat", file->config->path);
    snprintf(name, sizeof name, "lock-%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    if (r == -EWOULDBLOCK && file_inherit(file, name))
        r = 0;
    if (r == 0 && file->keeper)
        r = file->keeper->put(file->keeper->opaque, name, file->fd);
    if (r == 0)
        return 0;
    if (r == -EWOULDBLOCK)
        return drafter_error_set(err, EBUSY, "%s: %s", file->config->path,
                                 file->readonly ? "another process or instance writes it"
                                                : "in use by another process or instance");
    return drafter_error_errno(err, -r, "%s: cannot lock", file->config->path);
}

static int file_measure(struct file *file, struct stat *st, struct drafter_error *err)
{
    if (fstat(file->fd, st) < 0)
        return drafter_error_errno(err, errno, "%s: cannot stat", file->config->path);
    if (S_ISREG(st->st_mode)) {
        file->size = (uint64_t)st->st_size;
        return 0;
    }
    if (!S_ISBLK(st->st_mode))
        return drafter_error_set(err, EINVAL, "%s: neither a file nor a block device",
                                 file->config->path);
    if (ioctl(file->fd, BLKGETSIZE64, &file->size) < 0)
        return drafter_error_errno(err, errno, "%s: cannot ask its size", file->config->path);
    return 0;
}

static int file_sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX] = ".";
    int fd, r;

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

/* Enlarges a file to `size`; afterwards its name and size survive a crash. */
static int file_enlarge(struct file *file, uint64_t size, bool regular, struct drafter_error *err)
{
    const char *path = file->config->path;
    int r;

    if (file->size >= size && file->size > 0)
        return 0;
    if (!regular)
        return drafter_error_set(err, EINVAL, "%s: has %" PRIu64 " bytes, %" PRIu64 " are needed",
                                 path, file->size, size);
    if (size > INT64_MAX || ftruncate(file->fd, (off_t)size) < 0)
        return drafter_error_errno(err, size > INT64_MAX ? EFBIG : errno,
                                   "%s: cannot enlarge to %" PRIu64 " bytes", path, size);
    if (fsync(file->fd) < 0)
        return drafter_error_errno(err, errno, "%s: cannot sync", path);
    r = file_sync_parent(path);
    if (r < 0)
        return drafter_error_errno(err, -r, "%s: cannot sync its directory", path);
    file->size = size;
    return 0;
}

static int file_fit(struct file *file, uint64_t size, bool create, struct drafter_error *err)
{
    struct stat st;
    int r = file_measure(file, &st, err);

    if (r == 0 && create)
        return file_enlarge(file, size, S_ISREG(st.st_mode), err);
    if (r == 0 && size != 0 && size != file->size)
        return drafter_error_set(err, EINVAL, "%s: has %" PRIu64 " bytes instead of %" PRIu64,
                                 file->config->path, file->size, size);
    return r;
}

static int file_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct file *file = instance;
    const char *path = file->config->path;
    bool create;
    int mode, r;

    if (file->fd >= 0)
        return drafter_error_set(err, EALREADY, "%s: is open", path);
    file->readonly = file->config->readonly || flags & DRAFTER_STORAGE_READONLY;
    create = flags & DRAFTER_STORAGE_CREATE && size > 0 && !file->readonly;
    mode = (file->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    file->fd = open(path, mode | (create ? O_CREAT : 0), 0600);
    if (file->fd < 0)
        return drafter_error_errno(err, errno, "%s: cannot open", path);
    r = file_lock(file, err);
    if (r == 0)
        r = file_fit(file, size, create, err);
    if (r == 0 && file->config->direct) {
        file->direct_fd = open(path, mode | O_DIRECT);
        if (file->direct_fd < 0)
            r = drafter_error_errno(err, errno, "%s: cannot open for direct I/O", path);
    }
    if (r < 0)
        file_close(file);
    return r;
}

static uint64_t file_size(void *instance)
{
    struct file *file = instance;

    return file->size;
}

static int file_bounds(const struct file *file, uint64_t length, uint64_t offset)
{
    return offset > file->size || length > file->size - offset ? -EINVAL : 0;
}

static int file_writable(const struct file *file, uint64_t length, uint64_t offset)
{
    return file->readonly ? -EROFS : file_bounds(file, length, offset);
}

static int file_pick(const struct file *file, const void *buffer, size_t length, uint64_t offset)
{
    bool aligned = ((uintptr_t)buffer | length | offset) % DIRECT_ALIGN == 0;

    return file->direct_fd >= 0 && aligned ? file->direct_fd : file->fd;
}

static int file_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct file *file = instance;
    int r = file_bounds(file, length, offset);

    while (r == 0 && length > 0) {
        ssize_t n = pread(file_pick(file, buffer, length, offset), buffer, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA; /* somebody made it shorter */
        buffer = (char *)buffer + n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return r;
}

static int file_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct file *file = instance;
    int r = file_writable(file, length, offset);

    while (r == 0 && length > 0) {
        ssize_t n = pwrite(file_pick(file, buffer, length, offset), buffer, length, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        buffer = (const char *)buffer + n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return r;
}

static int file_flush(void *instance)
{
    struct file *file = instance;
    int failed;

    if (file->readonly)
        return 0;
    pthread_mutex_lock(&file->flush_lock);
    if (!file->flush_error && fdatasync(file->fd) < 0) /* of both descriptors: it is the inode's */
        file->flush_error = -errno;
    failed = file->flush_error;
    pthread_mutex_unlock(&file->flush_lock);
    return failed;
}

static int file_punch(struct file *file, uint64_t length, uint64_t offset)
{
    while (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                     (off_t)length) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int file_zero(void *instance, uint64_t length, uint64_t offset)
{
    static const uint8_t zeros[65536] __attribute__((aligned(DIRECT_ALIGN)));
    struct file *file = instance;
    int r = file_writable(file, length, offset);

    if (r < 0 || length == 0)
        return r;
    r = file_punch(file, length, offset);
    if (r != -EOPNOTSUPP && r != -EINVAL) /* EINVAL: a block device, unaligned */
        return r;
    for (r = 0; r == 0 && length > 0;) {
        size_t n = length < sizeof zeros ? (size_t)length : sizeof zeros;

        r = file_pwrite(file, zeros, n, offset);
        offset += n;
        length -= n;
    }
    return r;
}

static int file_trim(void *instance, uint64_t length, uint64_t offset)
{
    struct file *file = instance;
    int r = file_writable(file, length, offset);

    if (r < 0 || length == 0)
        return r;
    r = file_punch(file, length, offset);
    return r == -EOPNOTSUPP || r == -EINVAL ? 0 : r;
}

static int file_extent(void *instance, uint64_t offset, uint64_t length,
                       enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    struct file *file = instance;
    off_t data, hole;

    if (length == 0 || file_bounds(file, length, offset) < 0)
        return -EINVAL;
    data = lseek(file->fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) /* a hole up to the end */
        data = (off_t)file->size;
    if (data > (off_t)offset) {
        *ret_kind = DRAFTER_EXTENT_ZERO;
        *ret_length = (uint64_t)data - offset < length ? (uint64_t)data - offset : length;
        return 0;
    }
    hole = data < 0 ? -1 : lseek(file->fd, (off_t)offset, SEEK_HOLE);
    *ret_kind = DRAFTER_EXTENT_DATA;
    *ret_length = length;
    if (hole > (off_t)offset && (uint64_t)hole - offset < length)
        *ret_length = (uint64_t)hole - offset;
    return 0;
}

static const struct drafter_option file_options[] = {
    {.key = "path", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct file_config, path), .help = "file or block device"},
    {.key = "readonly", .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct file_config, readonly), .default_value = "no",
     .help = "never write, whatever the device would allow"},
    {.key = "direct", .type = DRAFTER_OPTION_BOOL, .offset = offsetof(struct file_config, direct),
     .default_value = "no", .help = "go past the page cache (O_DIRECT) where a request is aligned"},
    DRAFTER_OPTION_END,
};

static const struct drafter_storage_ops file_ops = {
    .open = file_open,
    .size = file_size,
    .pread = file_pread,
    .pwrite = file_pwrite,
    .flush = file_flush,
    .zero = file_zero,
    .trim = file_trim,
    .extent = file_extent,
};

static const struct drafter_plugin file_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "file",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "storage in a file or on a block device",
    .options = file_options,
    .config_size = sizeof(struct file_config),
    .create = file_create,
    .destroy = file_destroy,
    .ops = &file_ops,
};
DRAFTER_PLUGIN_ENTRY(file_plugin)

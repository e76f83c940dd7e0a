/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bundle in an ext4 file system becomes a directory again, without mounting: a disk that a VM has
 * written to as well as one that was just made.  The file system is anybody's, so it is e2fsck's
 * first, on a copy, which also replays the journal of a VM that was suspended.  Every directory is
 * made anew and no name is taken twice, so no path leads through a link.
 */
#include "image/image.h"
#include "image/walk.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1u << 20)
#define MAGIC_OFFSET (1024 + 56)
#define CHECK_EVERY 256 /* files */

/* A file with several names, by its inode; and a directory, whose time comes last. */
struct named {
    ext2_ino_t ino;
    time_t mtime;
    char *path;
};

struct extraction {
    struct image_job *job;
    const char *bundle;
    struct owners *owners;
    void *linked; /* tree of struct named */
    struct named *directories;
    size_t directory_count, directory_capacity;
    uint64_t size, files;
    char *buffer;
};

bool image_is_ext4(const char *file)
{
    cleanup_close int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    uint8_t magic[2] = {0};

    return fd >= 0 && !fstat(fd, &status) && S_ISREG(status.st_mode) &&
           pread(fd, magic, sizeof(magic), MAGIC_OFFSET) == sizeof(magic) && magic[0] == 0x53 &&
           magic[1] == 0xef;
}

/* ---- what a file is */

static int take_capability(ext2_filsys fs, const struct walk_file *file, struct owner *owner,
                           struct drafter_error *err)
{
    struct ext2_xattr_handle *handle;
    void *value = NULL;
    size_t length = 0;
    errcode_t code = ext2fs_xattrs_open(fs, file->ino, &handle);

    if (code)
        return walk_error(code, file->path, err);
    code = ext2fs_xattrs_read(handle);
    if (!code)
        code = ext2fs_xattr_get(handle, "security.capability", &value, &length);
    if (!code && length <= OWNER_CAPABILITY_MAX) {
        memcpy(owner->capability, value, length);
        owner->capability_length = (uint8_t)length;
    }
    ext2fs_free_mem(&value);
    ext2fs_xattrs_close(&handle);
    return code && code != EXT2_ET_EA_KEY_NOT_FOUND ? walk_error(code, file->path, err) : 0;
}

/* What the file here cannot say for itself.  The mode that it gets here is returned. */
static int take_owner(struct extraction *extraction, ext2_filsys fs, const struct walk_file *file,
                      const struct ext2_inode *inode, mode_t *ret_mode, struct drafter_error *err)
{
    const size_t prefix = strlen(IMAGE_ROOTFS);
    const bool is_link = S_ISLNK(inode->i_mode);
    const mode_t mode = inode->i_mode & 07777u;
    const mode_t open_mode = mode | (S_ISDIR(inode->i_mode) ? 0700 : 0600);
    struct owner owner = {.uid = inode_uid(*inode), .gid = inode_gid(*inode), .mode = -1};
    int rc;

    *ret_mode = open_mode;
    if (strncmp(file->path, IMAGE_ROOTFS, prefix) != 0 ||
        (file->path[prefix] && file->path[prefix] != '/'))
        return 0;
    if (open_mode != mode && !is_link)
        owner.mode = (int)mode;
    rc = take_capability(fs, file, &owner, err);
    return rc ? rc : owners_add(extraction->owners, &owner, file->path + prefix, err);
}

/* ---- making it */

static int compare_inodes(const void *left, const void *right)
{
    const struct named *a = left, *b = right;

    return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static void free_named(void *opaque)
{
    struct named *named = opaque;

    free(named->path);
    free(named);
}

static int remember_link(struct extraction *extraction, ext2_ino_t ino, const char *path,
                         struct drafter_error *err)
{
    struct named *named = malloc(sizeof(*named));

    if (!named)
        return drafter_error_set(err, ENOMEM, "out of memory");
    *named = (struct named){.ino = ino, .path = strdup(path)};
    if (!named->path || !tsearch(named, &extraction->linked, compare_inodes)) {
        free_named(named);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static int remember_directory(struct extraction *extraction, const char *path, time_t mtime,
                              struct drafter_error *err)
{
    if (extraction->directory_count == extraction->directory_capacity) {
        size_t capacity = 2 * extraction->directory_capacity + 64;
        struct named *list = reallocarray(extraction->directories, capacity, sizeof(*list));

        if (!list)
            return drafter_error_set(err, ENOMEM, "out of memory");
        extraction->directories = list;
        extraction->directory_capacity = capacity;
    }
    extraction->directories[extraction->directory_count] =
        (struct named){.mtime = mtime, .path = strdup(path)};
    if (!extraction->directories[extraction->directory_count].path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    extraction->directory_count++;
    return 0;
}

static void set_mtime(const char *path, time_t mtime)
{
    const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};

    utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

/* Zeros become holes. */
static int copy_data(struct extraction *extraction, ext2_file_t from, int to, uint64_t size,
                     struct drafter_error *err)
{
    uint64_t offset = 0;
    unsigned got = 0;

    while (offset < size) {
        errcode_t code = ext2fs_file_read(from, extraction->buffer, CHUNK, &got);
        int rc = 0;

        if (code)
            return drafter_error_set(err, EIO, "%s", error_message(code));
        if (!got)
            break;
        if (!io_is_zero(extraction->buffer, got))
            rc = io_pwrite_full(to, extraction->buffer, got, (off_t)offset);
        if (rc)
            return drafter_error_errno(err, -rc, "cannot write");
        offset += got;
        if (image_check(extraction->job, err))
            return -ECANCELED;
    }
    return ftruncate(to, (off_t)size) ? drafter_error_errno(err, errno, "cannot write") : 0;
}

static int make_file(struct extraction *extraction, ext2_filsys fs, ext2_ino_t ino,
                     const char *path, mode_t mode, struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    ext2_file_t file;
    errcode_t code;
    __u64 size = 0;
    int rc;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    code = ext2fs_file_open(fs, ino, 0, &file);
    if (code)
        return walk_error(code, path, err);
    code = ext2fs_file_get_lsize(file, &size);
    if (__builtin_add_overflow(extraction->size, size, &extraction->size) ||
        extraction->size > extraction->job->options.max_size)
        rc = drafter_error_set(err, EFBIG, "what it holds is larger than --max-size");
    else if (code)
        rc = walk_error(code, path, err);
    else if ((rc = copy_data(extraction, file, fd, size, err)) != 0 && rc != -ECANCELED)
        drafter_error_wrap(err, "%s", path);
    ext2fs_file_close(file);
    return rc || !fchmod(fd, mode) ? rc : drafter_error_errno(err, errno, "%s", path);
}

static int make_link(ext2_filsys fs, ext2_ino_t ino, const struct ext2_inode *inode,
                     const char *path, struct drafter_error *err)
{
    char target[4096] = "";
    unsigned got = 0;
    ext2_file_t file;
    errcode_t code = 0;

    if (!inode->i_size || inode->i_size >= sizeof(target))
        return drafter_error_set(err, EINVAL, "%s: a link that cannot be", path);
    if (ext2fs_is_fast_symlink((struct ext2_inode *)inode)) {
        memcpy(target, inode->i_block, inode->i_size);
    } else {
        code = ext2fs_file_open(fs, ino, 0, &file);
        if (code)
            return walk_error(code, path, err);
        code = ext2fs_file_read(file, target, inode->i_size, &got);
        ext2fs_file_close(file);
    }
    if (code)
        return walk_error(code, path, err);
    return symlink(target, path) ? drafter_error_errno(err, errno, "%s", path) : 0;
}

static int make_other(ext2_filsys fs, const struct walk_file *file, const struct ext2_inode *inode,
                      const char *path, mode_t mode, struct drafter_error *err)
{
    if (S_ISLNK(inode->i_mode))
        return make_link(fs, file->ino, inode, path, err);
    if (S_ISFIFO(inode->i_mode))
        return mkfifo(path, mode) || chmod(path, mode) ? drafter_error_errno(err, errno, "%s", path) : 0;
    log_warning("image", "/%s is left out: it is a device or a socket", file->path);
    return 0;
}

static int make_again(struct extraction *extraction, const struct walk_file *file, const char *path,
                      struct drafter_error *err)
{
    const struct named wanted = {.ino = file->ino};
    struct named **first = tfind(&wanted, &extraction->linked, compare_inodes);

    if (!first)
        return 0; /* a device, or what was left out */
    return linkat(AT_FDCWD, (*first)->path, AT_FDCWD, path, 0)
               ? drafter_error_errno(err, errno, "%s", path)
               : 0;
}

static int make_entry(struct extraction *extraction, ext2_filsys fs, const struct walk_file *file,
                      const struct ext2_inode *inode, const char *path, struct drafter_error *err)
{
    mode_t mode = 0;
    int rc = take_owner(extraction, fs, file, inode, &mode, err);

    if (rc)
        return rc;
    if (file->again)
        return make_again(extraction, file, path, err);
    if (S_ISDIR(inode->i_mode)) {
        if (mkdir(path, 0700) || chmod(path, *file->path ? mode : 0700))
            return drafter_error_errno(err, errno, "%s", path);
        return remember_directory(extraction, path, (time_t)(int32_t)inode->i_mtime, err);
    }
    if (S_ISREG(inode->i_mode))
        rc = make_file(extraction, fs, file->ino, path, mode, err);
    else
        rc = make_other(fs, file, inode, path, mode, err);
    set_mtime(path, (time_t)(int32_t)inode->i_mtime);
    if (!rc && S_ISREG(inode->i_mode) && inode->i_links_count > 1)
        rc = remember_link(extraction, file->ino, path, err);
    return rc;
}

static int extract_file(void *opaque, ext2_filsys fs, const struct walk_file *file,
                        bool *ret_descend, struct drafter_error *err)
{
    struct extraction *extraction = opaque;
    cleanup_free char *path = NULL;
    struct ext2_inode inode;
    errcode_t code;

    if (!strcmp(file->path, "lost+found") || !strcmp(file->path, IMAGE_OWNERS))
        return 0;
    if (++extraction->files % CHECK_EVERY == 0 && image_check(extraction->job, err))
        return -ECANCELED;
    code = ext2fs_read_inode(fs, file->ino, &inode);
    if (code)
        return walk_error(code, file->path, err);
    path = image_path(extraction->bundle, file->path);
    if (!path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    *ret_descend = S_ISDIR(inode.i_mode);
    return make_entry(extraction, fs, file, &inode, path, err);
}

/* ---- all of it */

static void extraction_release(struct extraction *extraction)
{
    tdestroy(extraction->linked, free_named);
    for (size_t i = extraction->directory_count; i-- > 0;) {
        set_mtime(extraction->directories[i].path, extraction->directories[i].mtime);
        free(extraction->directories[i].path);
    }
    free(extraction->directories);
    free(extraction->buffer);
}

/* cp and e2fsck, on a copy beside the bundle. */
static int repaired_copy(struct image_job *job, const char *file, const char *copy,
                         struct drafter_error *err)
{
    const struct image_tool cp = {"cp", "coreutils", -1, -1, 0};
    const struct image_tool e2fsck = {"e2fsck", "e2fsprogs", -1, -1, 1};
    struct stat status;
    int rc;

    if (stat(file, &status))
        return drafter_error_errno(err, errno, "%s", file);
    if ((uint64_t)status.st_size > job->options.max_size)
        return drafter_error_set(err, EFBIG, "%s: larger than --max-size", file);
    rc = image_run(job, &cp, (const char *[]){"--sparse=always", "--", file, copy, NULL}, err);
    if (!rc && chmod(copy, 0600))
        rc = drafter_error_errno(err, errno, "%s", copy);
    return rc ? rc : image_run(job, &e2fsck, (const char *[]){"-fy", copy, NULL}, err);
}

int image_extract_ext4(struct image_job *job, const char *file, const char *bundle,
                       struct owners *owners, struct drafter_error *err)
{
    struct extraction extraction = {.job = job, .bundle = bundle, .owners = owners};
    cleanup_free char *copy = NULL;
    int rc;

    extraction.buffer = malloc(CHUNK);
    if (!extraction.buffer || asprintf(&copy, "%s.ext4", bundle) < 0) {
        copy = NULL;
        rc = drafter_error_set(err, ENOMEM, "out of memory");
    } else {
        rc = repaired_copy(job, file, copy, err);
    }
    if (!rc)
        rc = walk_ext4(copy, false, extract_file, &extraction, err);
    extraction_release(&extraction);
    owners_sort(owners);
    return rc;
}

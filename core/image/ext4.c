/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mke2fs copies owners and times from the directory that it reads.  Here files get those that they
 * are to have: their owners, and times that depend on nothing but the image.
 */
#include "image/image.h"

#include "util/cleanup.h"

#include <ext2fs/ext2fs.h>
#include <string.h>
#include <sys/stat.h>

#define ROOTFS_PREFIX IMAGE_ROOTFS "/"

/*
 * A file that is still to be looked at.  Its path is owned, and relative to the file system's root.
 */
struct pending {
    ext2_ino_t ino;
    char *path;
};

struct finish {
    ext2_filsys fs;
    const struct owners *owners;
    ext2fs_inode_bitmap done;
    struct pending *pending;
    size_t count, capacity;
    const char *directory; /* whose entries are being listed */
    struct drafter_error *err;
    int rc;
};

static int fail(struct finish *finish, errcode_t code, const char *path)
{
    return drafter_error_set(finish->err, EIO, "/%s in the new file system: %s", path,
                             error_message(code));
}

static int push(struct finish *finish, ext2_ino_t ino, const char *name, int length)
{
    const char *directory = finish->directory;
    char *path;

    if (finish->count == finish->capacity) {
        size_t capacity = finish->capacity ? 2 * finish->capacity : 256;
        struct pending *list = reallocarray(finish->pending, capacity, sizeof(*list));

        if (!list)
            return drafter_error_set(finish->err, ENOMEM, "out of memory");
        finish->pending = list;
        finish->capacity = capacity;
    }
    if (asprintf(&path, "%s%s%.*s", directory, *directory ? "/" : "", length, name) < 0)
        return drafter_error_set(finish->err, ENOMEM, "out of memory");
    finish->pending[finish->count++] = (struct pending){ino, path};
    return 0;
}

static int take_dirent(ext2_ino_t directory, int kind, struct ext2_dir_entry *entry, int offset,
                       int block_size, char *block, void *opaque)
{
    struct finish *finish = opaque;

    (void)directory, (void)offset, (void)block_size, (void)block;
    if (kind == DIRENT_OTHER_FILE)
        finish->rc = push(finish, entry->inode, entry->name, ext2fs_dirent_name_len(entry));
    return finish->rc ? DIRENT_ABORT : 0;
}

/* What the table says of a path of the file system; of the bundle's own files it says nothing. */
static const struct owner *owner_of(const struct finish *finish, const char *path)
{
    const size_t length = strlen(ROOTFS_PREFIX);

    if (!strcmp(path, IMAGE_ROOTFS))
        return owners_find(finish->owners, ".");
    return strncmp(path, ROOTFS_PREFIX, length) ? NULL : owners_find(finish->owners, path + length);
}

static void set_owner(struct ext2_inode_large *inode, uint32_t uid, uint32_t gid)
{
    inode->i_uid = (uint16_t)uid;
    inode->osd2.linux2.l_i_uid_high = (uint16_t)(uid >> 16);
    inode->i_gid = (uint16_t)gid;
    inode->osd2.linux2.l_i_gid_high = (uint16_t)(gid >> 16);
}

/* What belongs to whoever unpacked it is root's; root may have given files to others by hand. */
static void set_default_owner(struct ext2_inode_large *inode)
{
    struct ext2_inode *basic = (struct ext2_inode *)inode;

    if (inode_uid(*basic) == geteuid())
        set_owner(inode, 0, inode_gid(*basic) == getegid() ? 0 : inode_gid(*basic));
}

static void set_times(struct ext2_inode_large *inode)
{
    inode->i_ctime = inode->i_atime = inode->i_crtime = inode->i_mtime;
    inode->i_ctime_extra = inode->i_atime_extra = inode->i_crtime_extra = inode->i_mtime_extra = 0;
}

static errcode_t set_capability(struct finish *finish, ext2_ino_t ino, const struct owner *owner)
{
    struct ext2_xattr_handle *handle;
    errcode_t code = ext2fs_xattrs_open(finish->fs, ino, &handle);

    if (code)
        return code;
    code = ext2fs_xattrs_read(handle);
    if (!code)
        code = ext2fs_xattr_set(handle, "security.capability", owner->capability,
                                owner->capability_length);
    ext2fs_xattrs_close(&handle);
    return code;
}

static errcode_t change_inode(struct finish *finish, const struct pending *file, bool *ret_directory)
{
    /* As large as the file system's, which may be larger than what is known of it. */
    char buffer[1024] = {0};
    struct ext2_inode_large *inode = (struct ext2_inode_large *)buffer;
    struct ext2_inode *basic = (struct ext2_inode *)inode;
    const int size = EXT2_INODE_SIZE(finish->fs->super);
    const struct owner *owner = owner_of(finish, file->path);
    const bool again = ext2fs_test_inode_bitmap2(finish->done, file->ino);
    errcode_t code = 0;

    if (owner && owner->capability_length)
        code = set_capability(finish, file->ino, owner);
    if (!code)
        code = ext2fs_read_inode_full(finish->fs, file->ino, basic, size);
    if (code)
        return code;
    if (owner) {
        set_owner(inode, owner->uid, owner->gid);
        if (owner->mode >= 0)
            inode->i_mode = (uint16_t)((inode->i_mode & S_IFMT) | owner->mode);
    } else if (!again) {
        set_default_owner(inode);
    }
    /* All but this was made just now, the directory of the root file system, too. */
    if (strncmp(file->path, ROOTFS_PREFIX, strlen(ROOTFS_PREFIX)) != 0)
        inode->i_mtime = IMAGE_TIME;
    set_times(inode);
    *ret_directory = S_ISDIR(inode->i_mode) && !again;
    ext2fs_mark_inode_bitmap2(finish->done, file->ino);
    return ext2fs_write_inode_full(finish->fs, file->ino, basic, size);
}

static int finish_file(struct finish *finish, const struct pending *file)
{
    bool directory = false;
    errcode_t code = change_inode(finish, file, &directory);

    if (!code && directory) {
        finish->directory = file->path;
        code = ext2fs_dir_iterate2(finish->fs, file->ino, 0, NULL, take_dirent, finish);
    }
    if (finish->rc)
        return finish->rc;
    return code ? fail(finish, code, file->path) : 0;
}

static int finish_all(struct finish *finish)
{
    int rc;

    finish->directory = "";
    rc = push(finish, EXT2_ROOT_INO, "", 0);
    while (!rc && finish->count) {
        struct pending file = finish->pending[--finish->count];

        rc = finish_file(finish, &file);
        free(file.path);
    }
    while (finish->count)
        free(finish->pending[--finish->count].path);
    free(finish->pending);
    return rc;
}

int image_finish_ext4(int fd, const struct owners *owners, struct drafter_error *err)
{
    struct finish finish = {.owners = owners, .err = err};
    char path[32];
    errcode_t code;
    int rc;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    initialize_ext2_error_table();
    code = ext2fs_open(path, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &finish.fs);
    if (code)
        return fail(&finish, code, "");
    finish.fs->now = IMAGE_TIME;
    code = EXT2_INODE_SIZE(finish.fs->super) > 1024 ? EXT2_ET_UNEXPECTED_BLOCK_SIZE
                                                     : ext2fs_read_bitmaps(finish.fs);
    if (!code)
        code = ext2fs_allocate_inode_bitmap(finish.fs, "done", &finish.done);
    rc = code ? fail(&finish, code, "") : finish_all(&finish);
    if (finish.done)
        ext2fs_free_inode_bitmap(finish.done);
    code = ext2fs_close_free(&finish.fs);
    return !rc && code ? fail(&finish, code, "") : rc;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mke2fs copies owners and times from the directory that it reads.  Here files get those that they
 * are to have: their owners, and times that depend on nothing but the image.
 */
#include "image/image.h"

#include "image/walk.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOTFS_PREFIX IMAGE_ROOTFS "/"
#define INODE_MAX 1024

/* What the table says of a path of the file system; of the bundle's own files it says nothing. */
static const struct owner *owner_of(const struct owners *owners, const char *path)
{
    const size_t length = strlen(ROOTFS_PREFIX);

    if (!strcmp(path, IMAGE_ROOTFS))
        return owners_find(owners, ".");
    return strncmp(path, ROOTFS_PREFIX, length) ? NULL : owners_find(owners, path + length);
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

static errcode_t set_capability(ext2_filsys fs, ext2_ino_t ino, const struct owner *owner)
{
    struct ext2_xattr_handle *handle;
    errcode_t code = ext2fs_xattrs_open(fs, ino, &handle);

    if (code)
        return code;
    code = ext2fs_xattrs_read(handle);
    if (!code)
        code = ext2fs_xattr_set(handle, "security.capability", owner->capability,
                                owner->capability_length);
    ext2fs_xattrs_close(&handle);
    return code;
}

static void change_inode(struct ext2_inode_large *inode, const struct owner *owner,
                         const struct walk_file *file)
{
    if (owner) {
        set_owner(inode, owner->uid, owner->gid);
        if (owner->mode >= 0)
            inode->i_mode = (uint16_t)((inode->i_mode & S_IFMT) | owner->mode);
    } else if (!file->again) {
        set_default_owner(inode);
    }
    /* All but this was made just now, the directory of the root file system, too. */
    if (strncmp(file->path, ROOTFS_PREFIX, strlen(ROOTFS_PREFIX)) != 0)
        inode->i_mtime = IMAGE_TIME;
    set_times(inode);
}

static int finish_file(void *opaque, ext2_filsys fs, const struct walk_file *file,
                       bool *ret_descend, struct drafter_error *err)
{
    /* As large as the file system's, which may be larger than what is known of it. */
    union {
        struct ext2_inode basic;
        struct ext2_inode_large large;
        char bytes[INODE_MAX];
    } inode = {.bytes = {0}};
    const int size = EXT2_INODE_SIZE(fs->super);
    const struct owner *owner = owner_of(opaque, file->path);
    errcode_t code = size > INODE_MAX ? EXT2_ET_UNEXPECTED_BLOCK_SIZE : 0;

    fs->now = IMAGE_TIME;
    if (!code && owner && owner->capability_length)
        code = set_capability(fs, file->ino, owner);
    if (!code)
        code = ext2fs_read_inode_full(fs, file->ino, &inode.basic, size);
    if (code)
        return walk_error(code, file->path, err);
    change_inode(&inode.large, owner, file);
    *ret_descend = S_ISDIR(inode.basic.i_mode);
    code = ext2fs_write_inode_full(fs, file->ino, &inode.basic, size);
    return code ? walk_error(code, file->path, err) : 0;
}

int image_finish_ext4(int fd, const struct owners *owners, struct drafter_error *err)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return walk_ext4(path, true, finish_file, (void *)owners, err);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "image/walk.h"

#include "image/owners.h"

#include <stdlib.h>
#include <string.h>

/* A file that is still to be visited.  Its path is owned. */
struct pending {
    ext2_ino_t ino;
    char *path;
};

struct walk {
    ext2_filsys fs;
    ext2fs_inode_bitmap seen;
    struct pending *pending;
    size_t count, capacity;
    const char *directory; /* whose entries are being listed */
    struct drafter_error *err;
    int rc;
};

int walk_error(errcode_t code, const char *path, struct drafter_error *err)
{
    return drafter_error_set(err, EIO, "/%s in the file system: %s", path, error_message(code));
}

static int push(struct walk *walk, ext2_ino_t ino, const char *name, int length)
{
    const char *directory = walk->directory;
    char *path;

    if (walk->count == walk->capacity) {
        size_t capacity = walk->capacity ? 2 * walk->capacity : 256;
        struct pending *list = reallocarray(walk->pending, capacity, sizeof(*list));

        if (!list)
            return drafter_error_set(walk->err, ENOMEM, "out of memory");
        walk->pending = list;
        walk->capacity = capacity;
    }
    if (strlen(directory) + 1 + (size_t)length > OWNER_PATH_MAX)
        return drafter_error_set(walk->err, ENAMETOOLONG, "a path in the file system is too long");
    if (asprintf(&path, "%s%s%.*s", directory, *directory ? "/" : "", length, name) < 0)
        return drafter_error_set(walk->err, ENOMEM, "out of memory");
    walk->pending[walk->count++] = (struct pending){ino, path};
    return 0;
}

static bool leads_elsewhere(const char *name, int length)
{
    return !length || memchr(name, '/', (size_t)length) || memchr(name, '\0', (size_t)length) ||
           (*name == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

static int take_dirent(ext2_ino_t directory, int kind, struct ext2_dir_entry *entry, int offset,
                       int block_size, char *block, void *opaque)
{
    struct walk *walk = opaque;
    const int length = ext2fs_dirent_name_len(entry);

    (void)directory, (void)offset, (void)block_size, (void)block;
    if (kind != DIRENT_OTHER_FILE)
        return 0;
    if (leads_elsewhere(entry->name, length))
        walk->rc = drafter_error_set(walk->err, EINVAL, "/%s in the file system has a name that is "
                                     "no name", walk->directory);
    else
        walk->rc = push(walk, entry->inode, entry->name, length);
    return walk->rc ? DIRENT_ABORT : 0;
}

static int visit_one(struct walk *walk, const struct pending *pending, walk_visit_fn *visit,
                     void *opaque)
{
    const struct walk_file file = {pending->ino, pending->path,
                                   ext2fs_test_inode_bitmap2(walk->seen, pending->ino)};
    bool descend = false;
    errcode_t code = 0;
    int rc = visit(opaque, walk->fs, &file, &descend, walk->err);

    if (rc)
        return rc;
    ext2fs_mark_inode_bitmap2(walk->seen, file.ino);
    walk->directory = file.path;
    if (descend && !file.again)
        code = ext2fs_dir_iterate2(walk->fs, file.ino, 0, NULL, take_dirent, walk);
    if (walk->rc)
        return walk->rc;
    return code ? walk_error(code, file.path, walk->err) : 0;
}

static int visit_all(struct walk *walk, walk_visit_fn *visit, void *opaque)
{
    int rc;

    walk->directory = "";
    rc = push(walk, EXT2_ROOT_INO, "", 0);
    while (!rc && walk->count) {
        struct pending pending = walk->pending[--walk->count];

        rc = visit_one(walk, &pending, visit, opaque);
        free(pending.path);
    }
    while (walk->count)
        free(walk->pending[--walk->count].path);
    free(walk->pending);
    return rc;
}

int walk_ext4(const char *file, bool writable, walk_visit_fn *visit, void *opaque,
              struct drafter_error *err)
{
    struct walk walk = {.err = err};
    errcode_t code;
    int rc;

    initialize_ext2_error_table();
    code = ext2fs_open(file, EXT2_FLAG_64BITS | (writable ? EXT2_FLAG_RW : 0), 0, 0,
                       unix_io_manager, &walk.fs);
    if (code)
        return walk_error(code, "", err);
    code = ext2fs_read_bitmaps(walk.fs);
    if (!code)
        code = ext2fs_allocate_inode_bitmap(walk.fs, "seen", &walk.seen);
    rc = code ? walk_error(code, "", err) : visit_all(&walk, visit, opaque);
    if (walk.seen)
        ext2fs_free_inode_bitmap(walk.seen);
    code = ext2fs_close_free(&walk.fs);
    return !rc && code ? walk_error(code, "", err) : rc;
}

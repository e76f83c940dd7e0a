/* SPDX-License-Identifier: BSD-2-Clause */
/* Every file of an ext4 file system that is in a file, without mounting it. */
#ifndef IMAGE_WALK_H
#define IMAGE_WALK_H

#include <drafter/common.h>

#include <ext2fs/ext2fs.h>

/* A name of a file.  `again`: the inode had another one, and a directory is not descended into. */
struct walk_file {
    ext2_ino_t ino;
    const char *path; /* relative to the root, which is "" */
    bool again;
};
typedef int walk_visit_fn(void *opaque, ext2_filsys fs, const struct walk_file *file,
                          bool *ret_descend, struct drafter_error *err);

/* Says of a file what libext2fs says. */
int walk_error(errcode_t code, const char *path, struct drafter_error *err);

/*
 * Opens the file system, for writing or not, and visits the root and all that is below, directories
 * before what is in them.  A name that could lead elsewhere is refused.
 */
int walk_ext4(const char *file, bool writable, walk_visit_fn *visit, void *opaque,
              struct drafter_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a bundle's files cannot say for themselves where they were unpacked without root.  In a file
 * that is a line each,
 *
 *     UID GID MODE CAPABILITY PATH
 *
 * in the order of paths, which are relative to the root file system ("." is itself).  MODE is octal
 * and CAPABILITY the bytes of a file's security.capability in hexadecimal, or "-": as the file has
 * it.  Bytes of a path that are not printable, blanks and backslashes are \ooo.
 */
#ifndef IMAGE_OWNERS_H
#define IMAGE_OWNERS_H

#include <drafter/common.h>

#define OWNERS_MAX 1000000            /* files of an image */
#define OWNERS_BYTES_MAX (256u << 20) /* of all their paths together */
#define OWNER_CAPABILITY_MAX 24       /* struct vfs_ns_cap_data */
#define OWNER_PATH_MAX 4095

struct owner {
    char *path;
    uint32_t uid, gid;
    int mode;       /* -1: as the file has it */
    size_t order;   /* of being added: the last one counts */
    bool is_device; /* never in a file */
    bool is_found;  /* by image_open_tree */
    uint8_t capability_length;
    uint8_t capability[OWNER_CAPABILITY_MAX];
};

/* Begins as {0}. */
struct owners {
    struct owner *list;
    size_t count, capacity, bytes;
};

/* Copies `owner` and `path`, which is cleaned; one that leads outside is refused. */
int owners_add(struct owners *owners, const struct owner *owner, const char *path,
               struct drafter_error *err);

/* Sorts, and keeps the last of each path; after the last owners_add. */
void owners_sort(struct owners *owners);

/* Of sorted ones, or NULL. */
struct owner *owners_find(const struct owners *owners, const char *path);

/* Forgets those that were not found. */
void owners_prune(struct owners *owners);

void owners_release(struct owners *owners);

/* A file that is not there is an empty one. */
int owners_load(const char *path, struct owners *owners, struct drafter_error *err);
int owners_save(const char *path, const struct owners *owners, struct drafter_error *err);

#endif

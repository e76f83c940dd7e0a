/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter image`: an OCI image becomes a runtime bundle, and that an ext4 file system for a VM.
 * skopeo fetches, umoci unpacks and mke2fs fills the file system; nothing is mounted and nothing
 * needs root.  So files of the bundle belong to whoever unpacked it, and what the image says of
 * their owners is kept in a file beside them, which packing applies.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "image/owners.h"
#include "role/supervise.h"
#include "util/json.h"

#include <drafter/plugin.h>

/* Names in a bundle. */
#define IMAGE_CONFIG "config.json"
#define IMAGE_ROOTFS "rootfs"
#define IMAGE_OWNERS "owners"

/*
 * The time of everything that no image dates, so that the same input gives the same bytes:
 * 2025-01-01.
 */
#define IMAGE_TIME 1735689600

struct image_options {
    const char *arch, *hostname, *cache;
    uint64_t max_size, ready_port, size, free;
};
extern const struct drafter_option image_option_table[];

struct image_job {
    struct image_options options;
    struct supervisor supervisor;
};

/* A JSON object of at most 4 MiB; the caller's, also after a failure. */
int image_read_json(const char *path, json_t **ret_object, struct drafter_error *err);

/* -ECANCELED once the operator wants an end. */
int image_check(struct image_job *job, struct drafter_error *err);

/*
 * Runs an outside tool of this Debian package to its end.  keep_fd: a descriptor that it gets, too,
 * or -1.  None of its files gets larger than max_size.  A failure is reported with the last line of
 * what it said.
 */
struct image_tool {
    const char *name, *package;
    int stdout_fd, keep_fd;
    int good_status; /* up to which it has not failed */
};
int image_run(struct image_job *job, const struct image_tool *tool, const char *const *arguments,
              struct drafter_error *err);

/* A directory beside `path` for what is not finished; removed with all that is in it. */
int image_workplace(const char *path, char **ret_directory, struct drafter_error *err);
void image_workplace_release(char **directory);

/* "a/b"; NULL: no memory. */
char *image_path(const char *directory, const char *name);

/*
 * Makes all of a tree that was unpacked readable and writable for its owner, as modes of an image
 * need not be, and notes in `owners` (may be NULL) which modes that changed.  What `owners` has of
 * files that are not there is forgotten.
 */
int image_open_tree(const char *path, struct owners *owners, struct drafter_error *err);

/* What the layers of an OCI layout with one image hold: owners, and bytes when unpacked. */
int image_scan_layers(struct image_job *job, const char *layout, struct owners *owners,
                      uint64_t *ret_size, struct drafter_error *err);

/* Reads the configuration of a bundle from `from` and writes it for the guest OS to `to`. */
int image_convert_config(const struct image_options *options, const char *from, const char *to,
                         struct drafter_error *err);

/* Refuses what is no bundle, or one whose configuration cannot be run. */
int image_check_bundle(const char *bundle, struct drafter_error *err);

/* Refuses what is no configuration of a bundle with a root file system in rootfs. */
int image_check_config(const char *path, struct drafter_error *err);

/* Gives a new file system its owners and times. */
int image_finish_ext4(int fd, const struct owners *owners, struct drafter_error *err);

/* Whether a file is an ext4 file system.  Copies the bundle that is in one to a directory. */
bool image_is_ext4(const char *file);
int image_extract_ext4(struct image_job *job, const char *file, const char *bundle,
                       struct owners *owners, struct drafter_error *err);

/* The verbs.  `bundle` and `file` appear complete or not at all. */
int image_unpack(struct image_job *job, const char *image, const char *bundle,
                 struct drafter_error *err);
int image_pack(struct image_job *job, const char *bundle, const char *file, struct drafter_error *err);
int image_build(struct image_job *job, const char *image, const char *file, struct drafter_error *err);
int image_os(struct image_job *job, const char *directory, struct drafter_error *err);

#endif

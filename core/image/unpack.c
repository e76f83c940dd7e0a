/* SPDX-License-Identifier: BSD-2-Clause */
/* An image becomes a bundle: a directory that can be edited, and packed. */
#include "image/image.h"

#include "util/cleanup.h"
#include "util/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LAYOUT_TAG ":image"

/* Paths of one unpacking; all but the image are in the work place. */
struct unpacking {
    const char *image;
    char *place, *layout, *tagged, *unpacked, *rootfs, *raw_config;
    char *bundle, *bundle_rootfs, *config, *owners;
};

static void unpacking_release(struct unpacking *paths)
{
    image_workplace_release(&paths->place);
    free(paths->layout);
    free(paths->tagged);
    free(paths->unpacked);
    free(paths->rootfs);
    free(paths->raw_config);
    free(paths->bundle);
    free(paths->bundle_rootfs);
    free(paths->config);
    free(paths->owners);
}

static bool name_all(struct unpacking *paths)
{
    const char *place = paths->place;

    return (paths->layout = image_path(place, "layout")) &&
           (paths->tagged = image_path(place, "layout" LAYOUT_TAG)) &&
           (paths->unpacked = image_path(place, "unpacked")) &&
           (paths->rootfs = image_path(place, "unpacked/" IMAGE_ROOTFS)) &&
           (paths->raw_config = image_path(place, "runtime-config.json")) &&
           (paths->bundle = image_path(place, "bundle")) &&
           (paths->bundle_rootfs = image_path(place, "bundle/" IMAGE_ROOTFS)) &&
           (paths->config = image_path(place, "bundle/" IMAGE_CONFIG)) &&
           (paths->owners = image_path(place, "bundle/" IMAGE_OWNERS));
}

static int unpacking_init(struct unpacking *paths, const char *image, const char *bundle,
                          struct drafter_error *err)
{
    int rc;

    *paths = (struct unpacking){.image = image};
    if (strchr(bundle, ':'))
        return drafter_error_set(err, EINVAL,
                                 "%s: a colon in a path ends it for skopeo and umoci", bundle);
    rc = image_workplace(bundle, &paths->place, err);
    if (rc)
        return rc;
    if (!name_all(paths))
        return drafter_error_set(err, ENOMEM, "out of memory");
    return 0;
}

/* Whether a name is PATH:TAG of a layout. */
static bool is_tagged_path(const char *image)
{
    const char *colon = strrchr(image, ':');
    cleanup_free char *path = colon ? strndup(image, (size_t)(colon - image)) : NULL;
    struct stat status;

    return path && !stat(path, &status) && S_ISDIR(status.st_mode);
}

/*
 * A path is a layout, with or without a tag, or an archive of one; all else is a name as skopeo has
 * them.
 */
static int source_name(const char *image, char **ret_name, struct drafter_error *err)
{
    struct stat status;
    const char *kind = "";

    if (!stat(image, &status))
        kind = S_ISDIR(status.st_mode) ? "oci:" : "oci-archive:";
    else if (is_tagged_path(image))
        kind = "oci:";
    else if (!strchr(image, ':'))
        return drafter_error_errno(err, errno, "%s", image);
    if (asprintf(ret_name, "%s%s", kind, image) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return 0;
}

static int fetch(struct image_job *job, const struct unpacking *paths, struct drafter_error *err)
{
    const struct image_tool skopeo = {"skopeo", "skopeo", -1, -1, 0};
    const char *arch = job->options.arch;
    cleanup_free char *source = NULL, *target = NULL;
    int rc = source_name(paths->image, &source, err);

    if (rc)
        return rc;
    if (asprintf(&target, "oci:%s", paths->tagged) < 0) {
        target = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    log_info("image", "fetching %s", source);
    if (arch)
        return image_run(job, &skopeo,
                         (const char *[]){"--tmpdir", paths->place, "--override-arch", arch, "copy",
                                          "--quiet", source, target, NULL},
                         err);
    return image_run(job, &skopeo,
                     (const char *[]){"--tmpdir", paths->place, "copy", "--quiet", source, target,
                                      NULL},
                     err);
}

static int check_room(const struct unpacking *paths, uint64_t size, struct drafter_error *err)
{
    struct statvfs room;

    if (statvfs(paths->place, &room))
        return drafter_error_errno(err, errno, "%s", paths->place);
    if (size / room.f_frsize >= room.f_bavail)
        return drafter_error_set(err, ENOSPC, "%s: unpacked it is %llu bytes, and %llu are free",
                                 paths->image, (unsigned long long)size,
                                 (unsigned long long)room.f_bavail * room.f_frsize);
    return 0;
}

static int unpack_layers(struct image_job *job, const struct unpacking *paths,
                         struct owners *owners, struct drafter_error *err)
{
    const struct image_tool umoci = {"umoci", "umoci", -1, -1, 0};
    uint64_t size;
    int rc = image_scan_layers(job, paths->layout, owners, &size, err);

    if (rc)
        return rc == -ECANCELED ? rc : drafter_error_wrap(err, "%s", paths->image);
    rc = check_room(paths, size, err);
    if (rc)
        return rc;
    log_info("image", "unpacking %zu files, %llu bytes", owners->count, (unsigned long long)size);
    rc = image_run(job, &umoci,
                   (const char *[]){"--log", "error", "unpack", "--rootless", "--image", paths->tagged,
                                    paths->unpacked, NULL},
                   err);
    return rc ? rc : image_open_tree(paths->rootfs, owners, err);
}

/*
 * Without --rootless: what runs it is root, though what unpacked it need not be.  A bundle of its
 * own, because what umoci keeps for repacking would not know what is lost without root.
 */
static int make_bundle(struct image_job *job, const struct unpacking *paths,
                       const struct owners *owners, struct drafter_error *err)
{
    const struct image_tool umoci = {"umoci", "umoci", -1, -1, 0};
    int rc = image_run(job, &umoci,
                       (const char *[]){"raw", "runtime-config", "--image", paths->tagged, "--rootfs",
                                        paths->rootfs, paths->raw_config, NULL},
                       err);

    if (rc)
        return rc;
    if (mkdir(paths->bundle, 0700) || rename(paths->rootfs, paths->bundle_rootfs))
        return drafter_error_errno(err, errno, "%s", paths->bundle);
    rc = image_convert_config(&job->options, paths->raw_config, paths->config, err);
    return rc ? rc : owners_save(paths->owners, owners, err);
}

static int unpack_image(struct image_job *job, const struct unpacking *paths,
                        struct owners *owners, struct drafter_error *err)
{
    int rc = fetch(job, paths, err);

    if (!rc)
        rc = unpack_layers(job, paths, owners, err);
    return rc ? rc : make_bundle(job, paths, owners, err);
}

/* A disk, such as one that `pack` made, has a bundle already. */
static int unpack_disk(struct image_job *job, const struct unpacking *paths, struct owners *owners,
                       struct drafter_error *err)
{
    int rc = image_extract_ext4(job, paths->image, paths->bundle, owners, err);

    if (!rc)
        rc = image_check_bundle(paths->bundle, err);
    if (rc)
        return rc == -ECANCELED ? rc : drafter_error_wrap(err, "%s", paths->image);
    return owners_save(paths->owners, owners, err);
}

static int unpack_into(struct image_job *job, const struct unpacking *paths, const char *bundle,
                       struct drafter_error *err)
{
    struct owners owners = {0};
    int rc = image_is_ext4(paths->image) ? unpack_disk(job, paths, &owners, err)
                                         : unpack_image(job, paths, &owners, err);

    owners_release(&owners);
    if (!rc && renameat2(AT_FDCWD, paths->bundle, AT_FDCWD, bundle, RENAME_NOREPLACE))
        rc = drafter_error_errno(err, errno, "%s", bundle);
    return rc;
}

/* What the kernel takes, and every program that shows it. */
static bool is_hostname(const char *name)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";

    return *name && *name != '-' && strlen(name) <= 63 && !name[strspn(name, set)];
}

int image_unpack(struct image_job *job, const char *image, const char *bundle,
                 struct drafter_error *err)
{
    struct unpacking paths;
    struct stat status;
    int rc;

    if (!is_hostname(job->options.hostname))
        return drafter_error_set(err, EINVAL, "--hostname: \"%.64s\" cannot be one",
                                 job->options.hostname);
    if (!lstat(bundle, &status))
        return drafter_error_set(err, EEXIST, "%s exists; remove it first", bundle);
    rc = unpacking_init(&paths, image, bundle, err);
    if (!rc)
        rc = unpack_into(job, &paths, bundle, err);
    unpacking_release(&paths);
    return rc;
}

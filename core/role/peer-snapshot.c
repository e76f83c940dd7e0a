/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy of the VM in a directory, a file for each device, from which it can be started like from a package.  The
 * config comes last: killed in between, there is no package.
 */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define STEP ((size_t)1 << 20)

static int copy_content(struct block_device *block, int to)
{
    cleanup_free char *buffer = malloc(STEP);
    int rc = buffer ? 0 : -ENOMEM;

    if (!rc && ftruncate(to, (off_t)block->size))
        rc = -errno;
    for (uint64_t at = 0; !rc && at < block->size; at += STEP) {
        size_t length = block->size - at < STEP ? (size_t)(block->size - at) : STEP;

        rc = block_device_read(block, buffer, length, at);
        if (!rc && !io_is_zero(buffer, length))
            rc = io_pwrite_full(to, buffer, length, at);
    }
    return rc || !fsync(to) ? rc : -errno;
}

static int copy_to(struct block_device *block, const char *path, struct drafter_error *err)
{
    cleanup_free char *part = NULL;
    cleanup_close int to = -1;
    int rc;

    if (asprintf(&part, "%s.part", path) < 0) {
        part = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    to = open(part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return drafter_error_errno(err, errno, "%s", part);
    rc = copy_content(block, to);
    if (!rc && rename(part, path))
        rc = -errno;
    if (!rc)
        rc = io_sync_parent(path);
    if (rc)
        unlink(part);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot write it", path) : 0;
}

static int copy_device(struct block_device *block, const char *directory, struct drafter_error *err)
{
    cleanup_free char *path = NULL;

    if (asprintf(&path, "%s/%s", directory, block->name) < 0) {
        path = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return copy_to(block, path, err);
}

static int copy_all(struct peer *peer, const char *directory, bool config, struct drafter_error *err)
{
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        struct block_device *block = peer->arranged[i];
        int rc = 0;

        if (!strcmp(block->name, VM_DEVICE_CONFIG) == config)
            rc = copy_device(block, directory, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Has this process the file open, as that of a device? */
static bool is_in_use(const char *path)
{
    struct stat wanted, open_file;
    const struct dirent *entry;
    bool found = false;
    DIR *descriptors;

    if (stat(path, &wanted))
        return false;
    descriptors = opendir("/proc/self/fd");
    while (descriptors && !found && (entry = readdir(descriptors)))
        found = !fstatat(dirfd(descriptors), entry->d_name, &open_file, 0) &&
                open_file.st_ino == wanted.st_ino && open_file.st_dev == wanted.st_dev;
    if (descriptors)
        closedir(descriptors);
    return found || !descriptors;
}

/* A file that the VM runs from must not lose its name: what is written to it would end with the process. */
static int check_free(const struct peer *peer, const char *directory, struct drafter_error *err)
{
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        cleanup_free char *path = NULL;

        if (asprintf(&path, "%s/%s", directory, peer->arranged[i]->name) < 0) {
            path = NULL;
            return drafter_error_set(err, ENOMEM, "out of memory");
        }
        if (is_in_use(path))
            return drafter_error_set(err, EBUSY, "%s: the VM runs from this file", path);
    }
    return 0;
}

int peer_copy_devices(struct peer *peer, const char *directory, struct drafter_error *err)
{
    cleanup_free char *config = NULL;
    int rc = check_free(peer, directory, err);

    if (rc)
        return rc;
    if (asprintf(&config, "%s/%s", directory, VM_DEVICE_CONFIG) < 0) {
        config = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (unlink(config) && errno != ENOENT) /* what was there is none from here on */
        return drafter_error_errno(err, errno, "%s", config);
    rc = copy_all(peer, directory, false, err);
    return rc ? rc : copy_all(peer, directory, true, err);
}

/* ---- devices with a save-output */

bool peer_saves_elsewhere(const struct peer *peer)
{
    bool elsewhere = false;

    for (unsigned i = 0; i < peer->devices.count; i++)
        elsewhere |= peer->devices.list[i].options.save_output != NULL;
    return elsewhere;
}

/* Whether the files below are still what they were before the VM ran. */
static bool leaves_all_alone(const struct peer *peer)
{
    bool alone = !peer->options.connect;

    for (unsigned i = 0; i < peer->devices.count; i++) {
        const struct node_device *device = &peer->devices.list[i];

        alone &= device->options.save_output || device->options.shared ||
                 !strcmp(device->name, VM_DEVICE_KERNEL) || !strcmp(device->name, VM_DEVICE_CONFIG) ||
                 !strcmp(device->name, VM_DEVICE_INITRAMFS);
    }
    return alone;
}

int peer_save_outputs(struct peer *peer, bool *ret_alone, struct drafter_error *err)
{
    for (unsigned i = 0; i < peer->devices.count; i++) {
        struct node_device *device = &peer->devices.list[i];
        const char *output = device->options.save_output;
        int rc = output ? copy_to(&device->block, output, err) : 0;

        if (rc)
            return drafter_error_wrap(err, "device %s", device->name);
        if (output)
            log_event("output", "\"device\":\"%s\",\"file\":\"%s\"", device->name, output);
    }
    devices_drop_private(&peer->devices);
    *ret_alone = leaves_all_alone(peer);
    return 0;
}

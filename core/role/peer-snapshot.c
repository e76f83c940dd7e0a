/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy of the VM in a directory, a file for each device, from which it can be started like from a package.  The
 * config comes last: killed in between, there is no package.
 */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <string.h>

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

static int copy_device(struct block_device *block, const char *directory, struct drafter_error *err)
{
    cleanup_free char *path = NULL, *part = NULL;
    cleanup_close int to = -1;
    int rc;

    if (asprintf(&path, "%s/%s", directory, block->name) < 0 || asprintf(&part, "%s.part", path) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
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

int peer_copy_devices(struct peer *peer, const char *directory, struct drafter_error *err)
{
    cleanup_free char *config = NULL;
    int rc;

    if (asprintf(&config, "%s/%s", directory, VM_DEVICE_CONFIG) < 0) {
        config = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (unlink(config) && errno != ENOENT) /* what was there is none from here on */
        return drafter_error_errno(err, errno, "%s", config);
    rc = copy_all(peer, directory, false, err);
    return rc ? rc : copy_all(peer, directory, true, err);
}

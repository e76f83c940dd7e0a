/* SPDX-License-Identifier: BSD-2-Clause */
#include "served.h"

#include "node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

int served_take(struct served *served, const char *id, const char *directory,
                struct drafter_error *err)
{
    char *full;
    int fd, result;

    if (served->directory)
        return drafter_error_set(err, EALREADY, "%s: already serves %s", id, served->directory);
    full = realpath(directory, NULL);
    if (!full)
        return drafter_error_errno(err, errno, "%s", directory);
    fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *served = (struct served){.directory = full, .lock_fd = fd};
        return 0;
    }
    result = drafter_error_errno(err, errno == EWOULDBLOCK ? EBUSY : errno, "%s: cannot be locked",
                                 full);
    if (fd >= 0)
        close(fd);
    free(full);
    return result;
}

void served_leave(struct served *served)
{
    if (!served->directory)
        return;
    close(served->lock_fd);
    free(served->directory);
    served->directory = NULL;
}

int served_path(const struct served *served, const char *id, const struct drafter_device_spec *spec,
                char *path, size_t path_size, struct drafter_error *err)
{
    int result;

    if (!served->directory)
        return drafter_error_set(err, EINVAL, "%s: not started", id);
    result = node_check_size(spec, err);
    if (result < 0)
        return result;
    return (size_t)snprintf(path, path_size, "%s/%s", served->directory, spec->name) < path_size
               ? 0
               : drafter_error_set(err, ENAMETOOLONG, "%s: the path of the device is too long",
                                   spec->name);
}

int served_reclaim(void *instance, const char *directory,
                   int (*release)(void *instance, const char *directory, struct drafter_error *err),
                   struct drafter_error *err)
{
    char *full = realpath(directory, NULL);
    int fd, result;

    if (!full)
        return 0;
    fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
        result = drafter_error_set(err, EBUSY, "%s: another process serves it", full);
    else
        result = release(instance, full, err);
    if (result == 0)
        node_sweep(full);
    if (fd >= 0)
        close(fd);
    free(full);
    return result;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/source.h"

#include "util/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int pack_source_open(const char *path, struct pack_source *ret_source, struct drafter_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    int rc = 0;

    if (fd < 0 || fstat(fd, &status))
        rc = drafter_error_errno(err, errno, "%s: cannot open it", path);
    else if (!S_ISREG(status.st_mode))
        rc = drafter_error_set(err, EINVAL, "%s: it is no file", path);
    if (rc && fd >= 0)
        close(fd);
    if (!rc)
        *ret_source = (struct pack_source){.size = (uint64_t)status.st_size, .fd = fd};
    return rc;
}

void pack_source_close(struct pack_source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    *source = (struct pack_source){.fd = -1};
}

int pack_source_read(const struct pack_source *source, void *buffer, size_t length, uint64_t offset)
{
    if (source->fd >= 0)
        return io_pread_full(source->fd, buffer, length, offset);
    if (offset > source->size || length > source->size - offset)
        return -ENODATA;
    return source->pread(source->opaque, buffer, length, offset);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel caches of a mapped file.
 *
 * dirty() asks cachestat(2); see ../pages.c.
 *
 * Before Linux 6.16 a page under write-back is unmarked as soon as its copy is on the way to us,
 * and before 6.5 there is no cachestat.  There dirty() first writes everything back: slower, but
 * what is not reported as dirty is then truly with the backend.
 */
#include "../pages.h"
#include "service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_POPULATE_STEP ((uint64_t)SERVICE_TRANSFER_MAX)

int cache_sync(void *exposure, struct drafter_error *err)
{
    struct file *file = exposure;

    /* The kernel sends our own FSYNC after the data, and data_fsync answers it without a flush. */
    if (file->fd >= 0 && !(file->flags & DRAFTER_DEVICE_READONLY) && fsync(file->fd) < 0)
        return drafter_error_errno(err, errno, "%s: cannot write back", file->name);
    return 0;
}

int cache_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct file *file = exposure;
    uint64_t in_file = (file->size + DRAFTER_PAGE_SIZE - 1) / DRAFTER_PAGE_SIZE;
    int result;

    if (file->fd < 0 || (file->flags & DRAFTER_DEVICE_READONLY))
        return 0;
    if (!file->service->tracks_writeback)
        return cache_sync(exposure, err);
    result = pages_find_dirty(file->fd, bitmap, pages < in_file ? pages : in_file);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot find the dirty pages", file->name);
    return 0;
}

int cache_clean(void *exposure, uint64_t offset, uint64_t length)
{
    struct file *file = exposure;

    if (file->fd < 0 || file->flags & DRAFTER_DEVICE_READONLY || offset >= file->size)
        return 0;
    return sync_file_range(file->fd, (off_t)offset, (off_t)length,
                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                               SYNC_FILE_RANGE_WAIT_AFTER) < 0
               ? -errno
               : 0;
}

int cache_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct file *file = exposure;

    if (offset > file->size || length > file->size - offset)
        return -EINVAL;
    if (file->fd < 0)
        return length ? file->backend.read(file->backend.opaque, buffer, length, offset) : 0;
    return pages_read(file->fd, buffer, length, offset);
}

/* Also without MAPPED: a private mapping or an exec caches pages even then. */
int cache_invalidate(void *exposure, uint64_t offset, uint64_t length)
{
    struct file *file = exposure;
    int result;

    if (offset >= file->size)
        return 0;
    if (length > file->size - offset)
        length = 0; /* to the end */
    result = fuse_lowlevel_notify_inval_inode(file->service->session, file->ino, (off_t)offset,
                                              (off_t)length);
    return result == -ENOENT ? 0
                             : result; /* ENOENT: the kernel does not know the file (any more) */
}

/*
 * Readahead that was refused (see data.c) leaves empty pages in the cache, which a later readahead
 * passes over: drops what is clean and not mapped.  Asking mincore(2) for them would need a mapping
 * of our own, and a process that is killed while it maps a file that it serves itself never ends.
 */
static void cache_drop_refused(struct file *file, uint64_t offset)
{
    uint64_t step = offset / SERVICE_TRANSFER_MAX;

    if (atomic_fetch_and(&file->refused[step / 8], (unsigned char)~(1u << step % 8)) >> step % 8 &
        1)
        posix_fadvise(file->fd, (off_t)(step * SERVICE_TRANSFER_MAX), (off_t)SERVICE_TRANSFER_MAX,
                      POSIX_FADV_DONTNEED);
}

/*
 * Starts reading a step and waits for the step before, by reading one byte of it, so that two are
 * on the way.  Nothing is copied and what is cached already, dirty or not, is left alone.
 */
int cache_populate(void *exposure, uint64_t offset, uint64_t length)
{
    struct file *file = exposure;
    uint64_t end, ahead, step;
    char last;

    if (file->fd < 0 || offset >= file->size)
        return 0;
    end = length > file->size - offset ? file->size : offset + length;
    offset -= offset % CACHE_POPULATE_STEP;
    ahead = offset;
    while (offset < end) {
        for (; ahead < end && ahead < offset + 2 * CACHE_POPULATE_STEP; ahead += step) {
            step = end - ahead < CACHE_POPULATE_STEP ? end - ahead : CACHE_POPULATE_STEP;
            cache_drop_refused(file, ahead);
            readahead(file->bulk_fd, (off_t)ahead, step);
        }
        offset = end - offset < CACHE_POPULATE_STEP ? end : offset + CACHE_POPULATE_STEP;
        if (pread(file->fd, &last, 1, (off_t)offset - 1) < 0)
            return -errno;
    }
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel caches of a mapped file.
 *
 * dirty() asks cachestat(2).  Its cost is that of walking the cached pages, about 45 ns each,
 * whatever the size of the ranges; so it walks once, in ranges of 64 KiB, on several threads, and
 * looks closer only where a range is partly dirty, by halves.  Only counts come back, so a half
 * that was not asked is the difference; where write-back is going on a page can be counted twice,
 * and both are asked.
 *
 * Before Linux 6.16 a page under write-back is unmarked as soon as its copy is on the way to us,
 * and before 6.5 there is no cachestat.  There dirty() first writes everything back: slower, but
 * what is not reported as dirty is then truly with the backend.
 */
#include "service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define CACHE_STEP ((uint64_t)64 << 10)
#define CACHE_STRIPE ((uint64_t)16 << 20) /* what a thread takes at a time; whole bitmap words */
#define CACHE_THREADS_MAX 4
#define CACHE_POPULATE_STEP ((uint64_t)SERVICE_TRANSFER_MAX)

struct cache_range {
    uint64_t offset, length;
};

struct cache_counts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* One dirty() call, shared by its threads. */
struct cache_scan {
    int fd;
    uint64_t *bitmap; /* each stripe's words belong to the thread that took it */
    uint64_t end;
    atomic_uint_fast64_t next;
    atomic_int result;
};

int cache_count(int fd, uint64_t offset, uint64_t length, uint64_t *ret_dirty,
                uint64_t *ret_writeback)
{
    struct cache_range range = {.offset = offset, .length = length};
    struct cache_counts counts;

    if (syscall(SYS_cachestat, fd, &range, &counts, 0) < 0)
        return -errno;
    *ret_dirty = counts.dirty;
    *ret_writeback = counts.writeback;
    return 0;
}

static void cache_mark(uint64_t *bitmap, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        bitmap[page / 64] |= UINT64_C(1) << (page % 64);
}

/*
 * Marks the dirty pages of a range of `pages`, a power of two, in which `dirty` and `writeback`
 * were counted, not both zero.
 */
static int cache_drill(struct cache_scan *scan, uint64_t first, uint64_t pages, uint64_t dirty,
                       uint64_t writeback)
{
    uint64_t half = pages / 2, left_dirty = 0, left_writeback = 0;
    uint64_t right_dirty = 0, right_writeback = 0;
    int result;

    if (pages == 1 || (writeback == 0 && dirty >= pages)) {
        cache_mark(scan->bitmap, first, pages);
        return 0;
    }
    result = cache_count(scan->fd, first * DRAFTER_PAGE_SIZE, half * DRAFTER_PAGE_SIZE, &left_dirty,
                         &left_writeback);
    if (result < 0)
        return result;
    if (left_dirty || left_writeback)
        result = cache_drill(scan, first, half, left_dirty, left_writeback);
    if (result < 0)
        return result;
    if (writeback || left_writeback)
        result = cache_count(scan->fd, (first + half) * DRAFTER_PAGE_SIZE, half * DRAFTER_PAGE_SIZE,
                             &right_dirty, &right_writeback);
    else if (dirty > left_dirty)
        right_dirty = dirty - left_dirty;
    if (result == 0 && (right_dirty || right_writeback))
        result = cache_drill(scan, first + half, half, right_dirty, right_writeback);
    return result;
}

static int cache_scan_stripe(struct cache_scan *scan, uint64_t from, uint64_t to)
{
    uint64_t dirty = 0, writeback = 0;
    int result;

    for (uint64_t at = from; at < to; at += CACHE_STEP) {
        result = cache_count(scan->fd, at, CACHE_STEP, &dirty, &writeback);
        if (result == 0 && (dirty || writeback))
            result = cache_drill(scan, at / DRAFTER_PAGE_SIZE, CACHE_STEP / DRAFTER_PAGE_SIZE,
                                 dirty, writeback);
        if (result < 0)
            return result;
    }
    return 0;
}

static void *cache_scan_run(void *opaque)
{
    struct cache_scan *scan = opaque;
    uint64_t from;
    int result;

    while ((from = atomic_fetch_add(&scan->next, CACHE_STRIPE)) < scan->end) {
        uint64_t to = scan->end - from < CACHE_STRIPE ? scan->end : from + CACHE_STRIPE;

        result = cache_scan_stripe(scan, from, to);
        if (result < 0)
            atomic_store(&scan->result, result);
    }
    return NULL;
}

/* More threads than one where there are processors and work for them; a thread less is no failure.
 */
static int cache_scan_all(struct cache_scan *scan)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t helpers[CACHE_THREADS_MAX];
    unsigned count = 0;

    while (count + 1 < CACHE_THREADS_MAX && count + 1 < processors &&
           (count + 1) * 2 * CACHE_STRIPE <= scan->end &&
           pthread_create(&helpers[count], NULL, cache_scan_run, scan) == 0)
        count++;
    cache_scan_run(scan);
    while (count > 0)
        pthread_join(helpers[--count], NULL);
    return atomic_load(&scan->result);
}

int cache_sync(void *exposure, struct drafter_error *err)
{
    struct file *file = exposure;

    /* The kernel sends our own FSYNC after the data, and data_fsync answers it without a flush. */
    if (file->fd >= 0 && !(file->flags & DRAFTER_DEVICE_READONLY) && fsync(file->fd) < 0)
        return drafter_error_errno(err, errno, "%s: cannot write back", file->name);
    return 0;
}

/* The part of a step at the end is asked page by page: the bitmap may end there. */
static int cache_scan_bounded(struct file *file, uint64_t *bitmap, uint64_t pages)
{
    uint64_t step_pages = CACHE_STEP / DRAFTER_PAGE_SIZE;
    uint64_t whole = pages / step_pages * step_pages;
    struct cache_scan scan = {.fd = file->fd, .bitmap = bitmap, .end = whole * DRAFTER_PAGE_SIZE};
    uint64_t dirty = 0, writeback = 0;
    int result;

    result = cache_scan_all(&scan);
    for (uint64_t page = whole; result == 0 && page < pages; page++) {
        result =
            cache_count(file->fd, page * DRAFTER_PAGE_SIZE, DRAFTER_PAGE_SIZE, &dirty, &writeback);
        if (result == 0 && (dirty || writeback))
            cache_mark(bitmap, page, 1);
    }
    return result;
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
    result = cache_scan_bounded(file, bitmap, pages < in_file ? pages : in_file);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot find the dirty pages", file->name);
    return 0;
}

int cache_read(void *exposure, void *buffer, size_t length, uint64_t offset)
{
    struct file *file = exposure;
    ssize_t got;

    if (offset > file->size || length > file->size - offset)
        return -EINVAL;
    if (file->fd < 0)
        return length ? file->backend.read(file->backend.opaque, buffer, length, offset) : 0;
    while (length > 0) {
        got = pread(file->fd, buffer, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        buffer = (char *)buffer + got;
        length -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
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

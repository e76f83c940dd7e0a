/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Its cost is that of walking the cached pages, about 45 ns each, whatever the size of the ranges; so
 * they are walked once, in ranges of 64 KiB, on several threads, and looked at closer only where a range
 * is partly dirty, by halves.  Only counts come back, so a half that was not asked is the difference;
 * where write-back is going on a page can be counted twice, and both are asked.
 */
#include "pages.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define PAGES_STEP ((uint64_t)64 << 10)
#define PAGES_STRIPE ((uint64_t)16 << 20) /* what a thread takes at a time; whole bitmap words */
#define PAGES_THREADS_MAX 4

struct pages_range {
    uint64_t offset, length;
};

struct pages_counts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* One dirty() call, shared by its threads. */
struct pages_scan {
    int fd;
    uint64_t *bitmap; /* each stripe's words belong to the thread that took it */
    uint64_t end;
    atomic_uint_fast64_t next;
    atomic_int result;
};

int pages_count(int fd, uint64_t offset, uint64_t length, uint64_t *ret_dirty,
                uint64_t *ret_writeback)
{
    struct pages_range range = {.offset = offset, .length = length};
    struct pages_counts counts;

    if (syscall(SYS_cachestat, fd, &range, &counts, 0) < 0)
        return -errno;
    *ret_dirty = counts.dirty;
    *ret_writeback = counts.writeback;
    return 0;
}

static void pages_mark(uint64_t *bitmap, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        bitmap[page / 64] |= UINT64_C(1) << (page % 64);
}

/*
 * Marks the dirty pages of a range of `pages`, a power of two, in which `dirty` and `writeback`
 * were counted, not both zero.
 */
static int pages_drill(struct pages_scan *scan, uint64_t first, uint64_t pages, uint64_t dirty,
                       uint64_t writeback)
{
    uint64_t half = pages / 2, left_dirty = 0, left_writeback = 0;
    uint64_t right_dirty = 0, right_writeback = 0;
    int result;

    if (pages == 1 || (writeback == 0 && dirty >= pages)) {
        pages_mark(scan->bitmap, first, pages);
        return 0;
    }
    result = pages_count(scan->fd, first * DRAFTER_PAGE_SIZE, half * DRAFTER_PAGE_SIZE, &left_dirty,
                         &left_writeback);
    if (result < 0)
        return result;
    if (left_dirty || left_writeback)
        result = pages_drill(scan, first, half, left_dirty, left_writeback);
    if (result < 0)
        return result;
    if (writeback || left_writeback)
        result = pages_count(scan->fd, (first + half) * DRAFTER_PAGE_SIZE, half * DRAFTER_PAGE_SIZE,
                             &right_dirty, &right_writeback);
    else if (dirty > left_dirty)
        right_dirty = dirty - left_dirty;
    if (result == 0 && (right_dirty || right_writeback))
        result = pages_drill(scan, first + half, half, right_dirty, right_writeback);
    return result;
}

static int pages_scan_stripe(struct pages_scan *scan, uint64_t from, uint64_t to)
{
    uint64_t dirty = 0, writeback = 0;
    int result;

    for (uint64_t at = from; at < to; at += PAGES_STEP) {
        result = pages_count(scan->fd, at, PAGES_STEP, &dirty, &writeback);
        if (result == 0 && (dirty || writeback))
            result = pages_drill(scan, at / DRAFTER_PAGE_SIZE, PAGES_STEP / DRAFTER_PAGE_SIZE,
                                 dirty, writeback);
        if (result < 0)
            return result;
    }
    return 0;
}

static void *pages_scan_run(void *opaque)
{
    struct pages_scan *scan = opaque;
    uint64_t from;
    int result;

    while ((from = atomic_fetch_add(&scan->next, PAGES_STRIPE)) < scan->end) {
        uint64_t to = scan->end - from < PAGES_STRIPE ? scan->end : from + PAGES_STRIPE;

        result = pages_scan_stripe(scan, from, to);
        if (result < 0)
            atomic_store(&scan->result, result);
    }
    return NULL;
}

/* More threads than one where there are processors and work for them; a thread less is no failure.
 */
static int pages_scan_all(struct pages_scan *scan)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t helpers[PAGES_THREADS_MAX];
    unsigned count = 0;

    while (count + 1 < PAGES_THREADS_MAX && count + 1 < processors &&
           (count + 1) * 2 * PAGES_STRIPE <= scan->end &&
           pthread_create(&helpers[count], NULL, pages_scan_run, scan) == 0)
        count++;
    pages_scan_run(scan);
    while (count > 0)
        pthread_join(helpers[--count], NULL);
    return atomic_load(&scan->result);
}

bool pages_countable(void)
{
    uint64_t dirty, writeback;

    return pages_count(-1, 0, 4096, &dirty, &writeback) != -ENOSYS;
}

/* The part of a step at the end is asked page by page: the bitmap may end there. */
int pages_find_dirty(int fd, uint64_t *bitmap, uint64_t pages)
{
    uint64_t step_pages = PAGES_STEP / DRAFTER_PAGE_SIZE;
    uint64_t whole = pages / step_pages * step_pages;
    struct pages_scan scan = {.fd = fd, .bitmap = bitmap, .end = whole * DRAFTER_PAGE_SIZE};
    uint64_t dirty = 0, writeback = 0;
    int result;

    result = pages_scan_all(&scan);
    for (uint64_t page = whole; result == 0 && page < pages; page++) {
        result =
            pages_count(fd, page * DRAFTER_PAGE_SIZE, DRAFTER_PAGE_SIZE, &dirty, &writeback);
        if (result == 0 && (dirty || writeback))
            pages_mark(bitmap, page, 1);
    }
    return result;
}

int pages_read(int fd, void *buffer, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t got = pread(fd, buffer, length, (off_t)offset);

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

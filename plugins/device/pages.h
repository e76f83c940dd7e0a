/* SPDX-License-Identifier: BSD-2-Clause */
/* What the page cache has of a file or block device, and which of it is dirty, from cachestat(2). */
#ifndef DEVICE_PAGES_H
#define DEVICE_PAGES_H

#include <drafter/common.h>

/* Dirty pages and pages under write-back of a range; a negative errno when cachestat is missing. */
int pages_count(int fd, uint64_t offset, uint64_t length, uint64_t *ret_dirty,
                uint64_t *ret_writeback);

/* Whether the kernel has cachestat (Linux 6.5). */
bool pages_countable(void);

/* Sets the bit of each of the first `pages` that is dirty or under write-back; 0 or a negative errno. */
int pages_find_dirty(int fd, uint64_t *bitmap, uint64_t pages);

/* 0 or a negative errno; -ENODATA: it ends before. */
int pages_read(int fd, void *buffer, size_t length, uint64_t offset);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file operations of a copy-on-write layer, behind a table: the layer runs on real files, and the
 * crash tests run the same code on a simulated disk that forgets what was not synced.
 *
 * Every operation returns 0 or a negative errno, transfers everything or fails, and may be called by
 * any thread.
 */
#ifndef COW_IO_H
#define COW_IO_H

#include <drafter/common.h>

#define COW_IO_WRITE 0x1u  /* else read-only */
#define COW_IO_CREATE 0x2u /* make the file when it is missing */

struct cow_io {
    /* -EBUSY when another opener holds the file in a way that excludes this one. */
    int (*open)(void *host, const char *path, unsigned flags, void **ret_file);
    void (*close)(void *file);
    int (*size)(void *file, uint64_t *ret_size);
    int (*pread)(void *file, void *buffer, size_t length, uint64_t offset);
    int (*pwrite)(void *file, const void *buffer, size_t length, uint64_t offset);
    int (*sync)(void *file); /* fdatasync */
    int (*truncate)(void *file, uint64_t size);
    int (*punch)(void *file, uint64_t length, uint64_t offset); /* -EOPNOTSUPP: write zeros instead */
    /*
     * The first offset at or after `offset` that holds data, or is a hole; the size of the file when
     * there is none.  -EOPNOTSUPP where the file system cannot tell.
     */
    int (*seek)(void *file, uint64_t offset, bool data, uint64_t *ret_offset);
    int (*rename)(void *host, const char *from, const char *to);
    int (*remove)(void *host, const char *path);
    int (*sync_parent)(void *host, const char *path); /* makes the name durable */
};

extern const struct cow_io cow_io_files;

#endif

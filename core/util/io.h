/* SPDX-License-Identifier: BSD-2-Clause */
/* Whole reads and writes, directories and durable small files. */
#ifndef UTIL_IO_H
#define UTIL_IO_H

#include <drafter/common.h>

/* Transfer everything or fail with a negative errno; EINTR is retried.  A short file is -ENODATA. */
int io_pread_full(int fd, void *buffer, size_t length, uint64_t offset);
int io_pwrite_full(int fd, const void *buffer, size_t length, uint64_t offset);
int io_read_full(int fd, void *buffer, size_t length);
int io_write_full(int fd, const void *buffer, size_t length);

/* True when all `length` bytes are zero. */
bool io_is_zero(const void *buffer, size_t length);

/*
 * Reads a file of at most `limit` bytes into a fresh NUL-terminated buffer (the NUL is not counted);
 * the caller frees it.  -EFBIG beyond the limit.
 */
int io_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_length,
                 struct drafter_error *err);

/*
 * Replaces `path` by `data`: temporary file, fsync, rename, fsync of the directory.  Afterwards the
 * file is either the old or the new one, whatever fails.  `mode` is for one that is not there yet: else
 * it keeps its owner and mode.
 */
int io_replace_file(const char *path, const void *data, size_t length, unsigned mode,
                    struct drafter_error *err);

/* mkdir -p; existing is success. */
int io_make_directories(const char *path, unsigned mode, struct drafter_error *err);

/* Those that a file needs, as above. */
int io_make_parent(const char *path, unsigned mode, struct drafter_error *err);

/* fsyncs the directory that holds `path`, so that its name is durable. */
int io_sync_parent(const char *path);

/* rm -rf of a directory of ours; stays on its file system, never follows symbolic links. */
int io_remove_tree(const char *path, struct drafter_error *err);

#endif

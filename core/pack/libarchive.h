/* SPDX-License-Identifier: BSD-2-Clause */
/* What is used of libarchive, which is loaded late. */
#ifndef PACK_LIBARCHIVE_H
#define PACK_LIBARCHIVE_H

#include <archive.h>
#include <archive_entry.h>
#include <drafter/common.h>

#define LIBARCHIVE_CALLS(CALL)                                                                     \
    CALL(read_new)                                                                                 \
    CALL(read_free)                                                                                \
    CALL(read_support_filter_gzip)                                                                 \
    CALL(read_support_filter_zstd)                                                                 \
    CALL(read_support_format_tar)                                                                  \
    CALL(read_support_format_empty)                                                                \
    CALL(read_open_filename)                                                                       \
    CALL(read_next_header)                                                                         \
    CALL(read_data_block)                                                                          \
    CALL(read_data_skip)                                                                           \
    CALL(filter_bytes)                                                                             \
    CALL(error_string)                                                                             \
    CALL(entry_filetype)                                                                           \
    CALL(entry_pathname)                                                                           \
    CALL(entry_hardlink)                                                                           \
    CALL(entry_size)                                                                               \
    CALL(entry_uid)                                                                                \
    CALL(entry_gid)                                                                                \
    CALL(entry_xattr_reset)                                                                        \
    CALL(entry_xattr_next)

struct libarchive {
#define LIBARCHIVE_MEMBER(name) __typeof__(archive_##name) *name;
    LIBARCHIVE_CALLS(LIBARCHIVE_MEMBER)
#undef LIBARCHIVE_MEMBER
};

/*
 * Loads the library where that is still to be done, and opens a tar archive, plain or by gzip or zstd; with
 * `may_be_empty` also a file without a byte.  Any thread.  libarchive_free ends it, also after a failure.
 */
int libarchive_open(const char *path, bool may_be_empty, struct archive **ret_archive, struct drafter_error *err);

/* What the library found wrong with it: -EBADMSG. */
int libarchive_fault(struct archive *archive, const char *path, struct drafter_error *err);

/* After an archive was opened. */
const struct libarchive *libarchive(void);

/* NULL is allowed. */
void libarchive_free(struct archive *archive);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the bytes of a package are: a file, or whatever else can be read at random. */
#ifndef PACK_SOURCE_H
#define PACK_SOURCE_H

#include <drafter/common.h>

struct pack_source {
    uint64_t size;
    int fd; /* -1: `pread` reads */
    int (*pread)(void *opaque, void *buffer, size_t length, uint64_t offset);
    void *opaque;
};

/* A regular file. */
int pack_source_open(const char *path, struct pack_source *ret_source, struct drafter_error *err);

/* What is not a file is the caller's to close. */
void pack_source_close(struct pack_source *source);

/* All of the range or -errno; -ENODATA: it ends before. */
int pack_source_read(const struct pack_source *source, void *buffer, size_t length, uint64_t offset);

#endif

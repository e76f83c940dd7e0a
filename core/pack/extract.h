/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Takes devices out of packages.  Only the paths that the caller names are written, and each has its whole
 * device or what was there before; names in the archive never lead to a path.
 */
#ifndef PACK_EXTRACT_H
#define PACK_EXTRACT_H

#include "pack/reader.h"
#include "pack/writer.h"

struct pack_extract_options {
    const struct pack_file *files;
    unsigned count;
    unsigned threads; /* 0: one for each processor */
    enum progress_form progress;
    bool (*cancelled)(void *opaque);
    void *opaque;
};

/* Packages with a manifest; in any order. */
int pack_extract(const struct pack_reader *reader, const struct pack_extract_options *options,
                 struct drafter_error *err);

/* Reads all of it and compares it with its hashes, writing nothing; what is in `options->files` does not matter. */
int pack_verify(const struct pack_reader *reader, const struct pack_extract_options *options,
                struct drafter_error *err);

/* Any tar archive, compressed or not, in one pass from front to back: the original's packages. */
int pack_extract_archive(const char *path, const struct pack_extract_options *options,
                         struct drafter_error *err);

/* The names and sizes of its entries. */
int pack_list_archive(const char *path,
                      void (*visit)(void *opaque, const char *name, uint64_t size), void *opaque,
                      struct drafter_error *err);

#endif

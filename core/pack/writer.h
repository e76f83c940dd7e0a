/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes packages.  The same inputs give the same bytes, however many threads there are and whether
 * zeros are holes or not, as long as libzstd is the same.
 */
#ifndef PACK_WRITER_H
#define PACK_WRITER_H

#include "pack/manifest.h"
#include "util/progress.h"

struct pack_file {
    const char *name; /* of the device */
    const char *path; /* where it is, or is to be */
};

struct pack_write_options {
    const struct pack_file *files; /* in the order of the archive */
    unsigned count;
    const char *path;   /* of the package, which is replaced only when the new one is complete */
    const char *reuse;  /* an earlier package, whose frames are taken where nothing changed; or NULL */
    const char *sign;   /* key file, or NULL */
    int level;
    uint32_t frame_size;
    unsigned threads; /* 0: one for each processor */
    enum progress_form progress;
    json_t *vm; /* for the manifest; may be NULL */
    bool (*cancelled)(void *opaque); /* asked now and then */
    void *opaque;
};

struct pack_written {
    uint64_t plain, compressed; /* bytes */
    uint64_t reused;            /* plain bytes that were not compressed anew */
};

/* Afterwards there is the whole package or what was there before. */
int pack_write(const struct pack_write_options *options, struct pack_written *ret_written,
               struct drafter_error *err);

#endif

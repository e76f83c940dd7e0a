/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads packages at random.  Once open, everything here is constant: any thread may read, each with a
 * codec of its own.  Nothing that a file says is believed before it is compared with what is there.
 */
#ifndef PACK_READER_H
#define PACK_READER_H

#include "pack/manifest.h"
#include "pack/source.h"

#include <drafter/transport.h>

struct pack_reader {
    struct pack_source source;
    char *path; /* or what else it is called in messages */
    struct pack_manifest manifest;
    char *manifest_text;
    size_t manifest_length;
    char signer[DRAFTER_IDENTITY_SIZE]; /* whose signature it has, which is right; "": it has none */
};

/*
 * -ENOTSUP: a file, but no package with a manifest, an archive of another tool perhaps.  A signature that is
 * not right is an error here; whose it may be is for the caller.
 */
int pack_reader_open(const char *path, struct pack_reader *ret_reader, struct drafter_error *err);

/* The same from any source, which is the reader's when it returns 0. */
int pack_reader_open_source(const char *name, const struct pack_source *source,
                            struct pack_reader *ret_reader, struct drafter_error *err);
void pack_reader_close(struct pack_reader *reader);

/* Whether the archive says of a device what the manifest says: others go by that. */
int pack_header_check(const struct pack_reader *reader, const struct pack_device *device,
                      struct drafter_error *err);

/* The frames of a device. */
struct pack_table {
    uint8_t *entries;
    uint64_t *at, *plain; /* of each frame: its offset in the file, and that of its bytes in the device */
    uint32_t count;       /* both have one more: where the last one ends */
};

int pack_table_load(const struct pack_reader *reader, const struct pack_device *device,
                    struct pack_table *ret_table, struct drafter_error *err);
void pack_table_release(struct pack_table *table);

struct pack_frame pack_table_frame(const struct pack_table *table, uint32_t index);

/* The frame that holds the byte at `offset`, which is within the device. */
uint32_t pack_table_find(const struct pack_table *table, uint64_t offset);

/* What a thread needs to decompress. */
struct pack_codec;
struct pack_codec *pack_codec_new(uint32_t frame_size); /* NULL: no memory */
void pack_codec_free(struct pack_codec *codec);

/* Room for a compressed frame. */
void *pack_codec_buffer(struct pack_codec *codec);

/*
 * Decompresses a frame that was read and checks it: what it holds, and, with `authentic`, that it is the
 * very frame that was signed for.  -EBADMSG: it is damaged.
 */
int pack_frame_decompress(struct pack_codec *codec, const struct pack_frame *frame,
                          const void *compressed, bool authentic, void *buffer);

/* Reads a frame of a device into `buffer`, which has room for its bytes. */
int pack_frame_read(const struct pack_reader *reader, const struct pack_table *table, uint32_t index,
                    struct pack_codec *codec, void *buffer);

#endif

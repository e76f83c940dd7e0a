/* SPDX-License-Identifier: BSD-2-Clause */
/* A piece of a device on its way into a package: read, looked at and compressed by one thread. */
#ifndef PACK_COMPRESS_H
#define PACK_COMPRESS_H

#include "pack/pool.h"
#include "pack/reader.h"

#define PIECE_SIZE (UINT32_C(1) << 20) /* of each but the last of a device */
#define PIECE_FRAMES (PIECE_SIZE / PACK_FRAME_MIN)

/* The device of an earlier package. */
struct earlier {
    struct pack_reader *reader;
    struct pack_table table; /* count 0: there is none */
};

struct source_file {
    int fd;
    uint64_t size;
    const char *path;
    struct earlier *earlier; /* or NULL */
};

struct piece {
    const struct source_file *file;
    uint64_t offset;
    uint64_t length; /* with tar's padding; of zeros that need no look any number of whole pieces */
    bool hole;
    int error; /* negative errno */
    uint8_t *data, *compressed;
    unsigned count; /* of frames, when it is no hole */
    struct pack_frame frames[PIECE_FRAMES];
    uint32_t reused; /* plain bytes */
};

struct compressor {
    int level;
    uint32_t frame_size;
};

/* Pool operations on pieces; `opaque` is the compressor. */
void *compressor_worker_new(void *opaque);
void compressor_worker_free(void *worker);
void compressor_work(void *opaque, void *worker, void *item);

int piece_init(struct piece *piece, const struct compressor *compressor);
void piece_release(struct piece *piece);

#endif

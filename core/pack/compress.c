/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/compress.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <string.h>
#include <zstd.h>

void *compressor_worker_new(void *opaque)
{
    const struct compressor *compressor = opaque;
    ZSTD_CCtx *context = ZSTD_createCCtx();

    if (!context)
        return NULL;
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, compressor->level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    return context;
}

void compressor_worker_free(void *worker)
{
    ZSTD_freeCCtx(worker);
}

int piece_init(struct piece *piece, const struct compressor *compressor)
{
    size_t frames = PIECE_SIZE / compressor->frame_size;

    piece->data = malloc(PIECE_SIZE);
    piece->compressed = malloc(frames * ZSTD_compressBound(compressor->frame_size));
    return piece->data && piece->compressed ? 0 : -ENOMEM;
}

void piece_release(struct piece *piece)
{
    free(piece->data);
    free(piece->compressed);
}

/* Takes a frame from an earlier package, where that is undamaged. */
static bool reuse(const struct earlier *earlier, uint64_t offset, struct pack_frame *frame,
                  uint8_t *compressed)
{
    uint8_t hash[PACK_HASH_SIZE];
    struct pack_frame old;
    uint32_t index;

    if (!earlier || !earlier->table.count || offset >= earlier->table.plain[earlier->table.count])
        return false;
    index = pack_table_find(&earlier->table, offset);
    old = pack_table_frame(&earlier->table, index);
    if (earlier->table.plain[index] != offset || old.size != frame->size ||
        memcmp(old.content, frame->content, PACK_CONTENT_SIZE) != 0 ||
        old.compressed > ZSTD_COMPRESSBOUND(frame->size) ||
        pack_source_read(&earlier->reader->source, compressed, old.compressed,
                         earlier->table.at[index]))
        return false;
    pack_hash(compressed, old.compressed, hash);
    if (memcmp(hash, old.hash, sizeof(hash)) != 0)
        return false;
    *frame = old;
    return true;
}

static int compress(ZSTD_CCtx *context, struct piece *piece, uint32_t at, struct pack_frame *frame,
                    uint8_t *compressed)
{
    size_t got;

    if (io_is_zero(piece->data + at, frame->size))
        return 0;
    pack_content(piece->data + at, frame->size, frame->content);
    if (reuse(piece->file->earlier, piece->offset + at, frame, compressed)) {
        piece->reused += frame->size;
        return 0;
    }
    got = ZSTD_compress2(context, compressed, ZSTD_compressBound(frame->size), piece->data + at,
                         frame->size);
    if (ZSTD_isError(got))
        return -ENOMEM;
    frame->compressed = (uint32_t)got;
    pack_hash(compressed, got, frame->hash);
    return 0;
}

/* What is behind the end of the device is tar's padding. */
static int read_piece(struct piece *piece)
{
    uint64_t left = piece->file->size - piece->offset;
    size_t length = left < piece->length ? (size_t)left : (size_t)piece->length;

    memset(piece->data + length, 0, (size_t)piece->length - length);
    return io_pread_full(piece->file->fd, piece->data, length, piece->offset);
}

void compressor_work(void *opaque, void *worker, void *item)
{
    const struct compressor *compressor = opaque;
    struct piece *piece = item;
    uint8_t *compressed = piece->compressed;
    uint32_t length = (uint32_t)piece->length;

    piece->count = 0;
    piece->reused = 0;
    if (piece->hole)
        return;
    piece->error = read_piece(piece);
    for (uint32_t at = 0; !piece->error && at < length; at += compressor->frame_size) {
        struct pack_frame *frame = &piece->frames[piece->count++];

        *frame = (struct pack_frame){.size = length - at};
        if (frame->size > compressor->frame_size)
            frame->size = compressor->frame_size;
        piece->error = compress(worker, piece, at, frame, compressed);
        compressed += frame->compressed;
    }
}

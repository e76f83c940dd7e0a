/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/writer.h"

#include "pack/compress.h"
#include "pack/signature.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/output.h"

#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#define BUFFER_SIZE ((size_t)1 << 20)

struct bytes {
    uint8_t *data;
    size_t length, size;
};

struct writer {
    const struct pack_write_options *options;
    struct output output;
    struct source_file files[PACK_DEVICES_MAX];
    struct earlier earlier[PACK_DEVICES_MAX];
    struct pack_reader reuse; /* path NULL: none */
    struct pack_manifest manifest;
    struct compressor compressor;
    struct pool *pool;
    struct piece *pieces;
    unsigned piece_count;
    uint64_t given; /* pieces, of all devices */
    struct progress progress;
    struct pack_written written;

    uint8_t *buffer;
    size_t buffered;
    uint64_t offset;   /* in the output, of what comes next */
    struct bytes seek; /* the seek table's entries */
    uint32_t frames;   /* how many */
    struct bytes table[PACK_DEVICES_MAX];
    uint64_t zeros;    /* of the current device, not yet written */
};

static int append(struct bytes *bytes, const void *data, size_t length)
{
    if (bytes->size - bytes->length < length) {
        size_t size = bytes->size * 2 + length;
        uint8_t *larger = realloc(bytes->data, size);

        if (!larger)
            return -ENOMEM;
        bytes->data = larger;
        bytes->size = size;
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    return 0;
}

/* ---- output */

static int drain(struct writer *writer)
{
    int rc = io_write_full(writer->output.fd, writer->buffer, writer->buffered);

    writer->buffered = 0;
    return rc;
}

static int put(struct writer *writer, const void *data, size_t length)
{
    int rc = 0;

    if (length > BUFFER_SIZE - writer->buffered)
        rc = drain(writer);
    if (!rc && length > BUFFER_SIZE)
        rc = io_write_full(writer->output.fd, data, length);
    else if (!rc) {
        memcpy(writer->buffer + writer->buffered, data, length);
        writer->buffered += length;
    }
    writer->offset += length;
    return rc;
}

static int put_frame(struct writer *writer, const void *compressed, size_t length, uint32_t size)
{
    uint8_t entry[PACK_SEEK_ENTRY];
    int rc;

    if (writer->frames == PACK_FRAMES_MAX)
        return -EFBIG;
    pack_put32(entry, (uint32_t)length);
    pack_put32(entry + 4, size);
    rc = append(&writer->seek, entry, sizeof(entry));
    writer->frames++;
    return rc ? rc : put(writer, compressed, length);
}

/* Compresses what is no part of a device. */
static int put_plain(struct writer *writer, const void *data, size_t length, uint32_t *ret_compressed)
{
    size_t bound = ZSTD_compressBound(length), got;
    cleanup_free void *compressed = malloc(bound);

    if (!compressed)
        return -ENOMEM;
    got = ZSTD_compress(compressed, bound, data, length, writer->options->level);
    if (ZSTD_isError(got) || length > UINT32_MAX)
        return -EFBIG;
    if (ret_compressed)
        *ret_compressed = (uint32_t)got;
    return put_frame(writer, compressed, got, (uint32_t)length);
}

/* An entry of the archive in a frame of its own, with `tail` zeros behind it. */
static int put_entry(struct writer *writer, const char *name, const void *data, size_t length,
                     size_t tail, uint32_t *ret_compressed)
{
    size_t size = PACK_BLOCK + pack_padded(length) + tail;
    cleanup_free uint8_t *entry = calloc(1, size);

    if (!entry)
        return -ENOMEM;
    pack_tar_header(name, length, entry);
    if (length)
        memcpy(entry + PACK_BLOCK, data, length);
    return put_plain(writer, entry, size, ret_compressed);
}

/* ---- devices */

static int put_device_frame(struct writer *writer, unsigned device, const struct pack_frame *frame,
                            const void *compressed)
{
    uint8_t entry[PACK_FRAME_ENTRY];
    int rc;

    pack_frame_encode(frame, entry);
    rc = append(&writer->table[device], entry, sizeof(entry));
    writer->manifest.devices[device].frames++;
    return rc ? rc : put_frame(writer, compressed, frame->compressed, frame->size);
}

static int put_zeros(struct writer *writer, unsigned device)
{
    uint8_t compressed[PACK_ZERO_FRAME_MAX];
    int rc = 0;

    while (!rc && writer->zeros) {
        uint32_t size = writer->zeros < PACK_ZERO_MAX ? (uint32_t)writer->zeros : PACK_ZERO_MAX;
        struct pack_frame frame = {.size = size};

        frame.compressed = (uint32_t)pack_zero_frame(size, compressed);
        pack_hash(compressed, frame.compressed, frame.hash);
        rc = put_device_frame(writer, device, &frame, compressed);
        writer->zeros -= size;
    }
    return rc;
}

static int put_piece(struct writer *writer, unsigned device, const struct piece *piece)
{
    const uint8_t *compressed = piece->compressed;
    int rc = piece->error;

    if (piece->hole)
        writer->zeros += piece->length;
    for (unsigned i = 0; !rc && i < piece->count; i++) {
        const struct pack_frame *frame = &piece->frames[i];

        if (pack_frame_is_zero(frame)) {
            writer->zeros += frame->size;
            continue;
        }
        rc = put_zeros(writer, device);
        if (!rc)
            rc = put_device_frame(writer, device, frame, compressed);
        compressed += frame->compressed;
    }
    writer->written.reused += piece->reused;
    progress_advance(&writer->progress, piece->length);
    return rc;
}

/* How many whole pieces from here on are a hole; a file that cannot say has none. */
static uint64_t hole_at(const struct source_file *file, uint64_t offset)
{
    off_t data = lseek(file->fd, (off_t)offset, SEEK_DATA);

    if (data < 0 && errno == ENXIO)
        data = (off_t)file->size;
    return data > (off_t)offset ? ((uint64_t)data - offset) / PIECE_SIZE * PIECE_SIZE : 0;
}

static void give_piece(struct writer *writer, const struct source_file *file, uint64_t *offset,
                       uint64_t end)
{
    struct piece *piece = &writer->pieces[writer->given++ % writer->piece_count];
    uint64_t left = end - *offset, hole = hole_at(file, *offset);

    piece->file = file;
    piece->offset = *offset;
    piece->error = 0;
    piece->hole = hole > 0;
    piece->length = hole ? hole : left < PIECE_SIZE ? left : PIECE_SIZE;
    *offset += piece->length;
    pool_give(writer->pool, piece);
}

static bool is_cancelled(const struct pack_write_options *options)
{
    return options->cancelled && options->cancelled(options->opaque);
}

static int put_pieces(struct writer *writer, unsigned device)
{
    const struct source_file *file = &writer->files[device];
    uint64_t offset = 0, end = pack_padded(file->size);
    struct piece *piece;
    int rc = 0;

    do {
        while (!rc && offset < end && !pool_is_full(writer->pool))
            give_piece(writer, file, &offset, end);
        piece = pool_take(writer->pool);
        if (!rc && piece)
            rc = put_piece(writer, device, piece);
        if (!rc && is_cancelled(writer->options))
            rc = -ECANCELED;
    } while (piece);
    return rc ? rc : put_zeros(writer, device);
}

static int put_device(struct writer *writer, unsigned index, struct drafter_error *err)
{
    struct pack_device *device = &writer->manifest.devices[index];
    const struct source_file *file = &writer->files[index];
    uint8_t header[PACK_BLOCK];
    int rc;

    snprintf(device->name, sizeof(device->name), "%s", writer->options->files[index].name);
    device->size = file->size;
    device->offset = writer->offset;
    pack_tar_header(device->name, file->size, header);
    rc = put_plain(writer, header, sizeof(header), &device->header_size);
    if (!rc)
        rc = put_pieces(writer, index);
    if (rc == -ECANCELED)
        return drafter_error_set(err, ECANCELED, "cancelled: there is no new package");
    if (rc == -ENODATA)
        return drafter_error_set(err, EIO, "%s: it became shorter while it was read", file->path);
    return rc ? drafter_error_errno(err, -rc, "device %s (%s) to %s", device->name, file->path,
                                    writer->options->path) : 0;
}

/* ---- what comes after the devices */

static int put_tables(struct writer *writer)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < writer->manifest.device_count; i++) {
        struct pack_device *device = &writer->manifest.devices[i];
        char name[sizeof(PACK_FRAMES) + DRAFTER_NAME_MAX];

        snprintf(name, sizeof(name), PACK_FRAMES "%s", device->name);
        device->table = writer->offset;
        pack_hash(writer->table[i].data, writer->table[i].length, device->table_hash);
        rc = put_entry(writer, name, writer->table[i].data, writer->table[i].length, 0,
                       &device->table_size);
    }
    return rc;
}

static int put_end(struct writer *writer, const char *signature)
{
    static const uint8_t zeros[2 * PACK_BLOCK];
    uint8_t header[PACK_SEEK_HEADER], footer[PACK_SEEK_FOOTER];
    int rc;

    if (signature)
        rc = put_entry(writer, PACK_SIGNATURE, signature, strlen(signature), sizeof(zeros), NULL);
    else
        rc = put_plain(writer, zeros, sizeof(zeros), NULL);
    pack_seek_header(writer->frames, header);
    pack_seek_footer(writer->frames, footer);
    if (!rc)
        rc = put(writer, header, sizeof(header));
    if (!rc)
        rc = put(writer, writer->seek.data, writer->seek.length);
    if (!rc)
        rc = put(writer, footer, sizeof(footer));
    return rc ? rc : drain(writer);
}

static int put_tail(struct writer *writer, struct drafter_error *err)
{
    const struct pack_write_options *options = writer->options;
    cleanup_free char *manifest = NULL, *signature = NULL;
    int rc = put_tables(writer);

    if (!rc && !(manifest = pack_manifest_encode(&writer->manifest)))
        rc = -ENOMEM;
    if (!rc && options->sign) {
        rc = pack_sign(options->sign, manifest, strlen(manifest), &signature, err);
        if (rc)
            return rc;
    }
    if (!rc)
        rc = put_entry(writer, PACK_MANIFEST, manifest, strlen(manifest), 0, NULL);
    if (!rc)
        rc = put_end(writer, signature);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot write it", options->path) : 0;
}

/* ---- set-up */

static int open_source(struct writer *writer, unsigned index, struct drafter_error *err)
{
    const struct pack_file *named = &writer->options->files[index];
    struct source_file *file = &writer->files[index];
    struct stat status;
    off_t size;

    file->path = named->path;
    file->fd = open(named->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &status))
        return drafter_error_errno(err, errno, "device %s: %s", named->name, named->path);
    size = lseek(file->fd, 0, SEEK_END);
    if ((!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) || size < 0)
        return drafter_error_set(err, EINVAL, "device %s: %s is neither a file nor a block device",
                                 named->name, named->path);
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    file->size = (uint64_t)size;
    return 0;
}

static int check_names(const struct pack_write_options *options, struct drafter_error *err)
{
    if (!options->count || options->count > PACK_DEVICES_MAX)
        return drafter_error_set(err, EINVAL, "a package has 1 to %d devices", PACK_DEVICES_MAX);
    for (unsigned i = 0; i < options->count; i++) {
        if (!pack_name_valid(options->files[i].name))
            return drafter_error_set(err, EINVAL, "\"%.64s\" is no name for a device",
                                     options->files[i].name);
        for (unsigned j = 0; j < i; j++)
            if (!strcmp(options->files[i].name, options->files[j].name))
                return drafter_error_set(err, EINVAL, "device %s is given twice",
                                         options->files[i].name);
    }
    return 0;
}

/* The earlier package helps where it was made alike; it is an error only when it cannot be read. */
static int open_earlier(struct writer *writer, struct drafter_error *err)
{
    const struct pack_write_options *options = writer->options;
    int rc = pack_reader_open(options->reuse, &writer->reuse, err);
    const struct pack_manifest *old = &writer->reuse.manifest;

    if (rc)
        return rc;
    if (old->frame_size != options->frame_size || old->level != options->level ||
        strcmp(old->zstd, ZSTD_versionString()) != 0)
        return 0;
    for (unsigned i = 0; !rc && i < options->count; i++) {
        const struct pack_device *device = pack_manifest_find(old, options->files[i].name);

        writer->earlier[i].reader = &writer->reuse;
        writer->files[i].earlier = &writer->earlier[i];
        if (device)
            rc = pack_table_load(&writer->reuse, device, &writer->earlier[i].table, err);
    }
    return rc;
}

static int make_pool(struct writer *writer, struct drafter_error *err)
{
    const struct pool_ops ops = {.worker_new = compressor_worker_new,
                                 .worker_free = compressor_worker_free,
                                 .work = compressor_work,
                                 .opaque = &writer->compressor};
    unsigned threads = pool_threads(writer->options->threads);

    writer->compressor = (struct compressor){writer->options->level, writer->options->frame_size};
    writer->piece_count = 3 * threads + 1;
    writer->pieces = calloc(writer->piece_count, sizeof(*writer->pieces));
    writer->buffer = malloc(BUFFER_SIZE);
    if (!writer->pieces || !writer->buffer)
        return drafter_error_set(err, ENOMEM, "out of memory");
    for (unsigned i = 0; i < writer->piece_count; i++)
        if (piece_init(&writer->pieces[i], &writer->compressor))
            return drafter_error_set(err, ENOMEM, "out of memory");
    return pool_new(threads, writer->piece_count, &ops, &writer->pool, err);
}

static int prepare(struct writer *writer, struct drafter_error *err)
{
    const struct pack_write_options *options = writer->options;
    uint64_t total = 0;
    int rc = check_names(options, err);

    for (unsigned i = 0; !rc && i < options->count; i++) {
        rc = open_source(writer, i, err);
        total += pack_padded(writer->files[i].size);
    }
    if (!rc && options->reuse)
        rc = open_earlier(writer, err);
    if (rc)
        return rc;
    writer->written.plain = total;
    writer->manifest.frame_size = options->frame_size;
    writer->manifest.level = options->level;
    writer->manifest.vm = json_incref(options->vm);
    writer->manifest.device_count = options->count;
    snprintf(writer->manifest.zstd, sizeof(writer->manifest.zstd), "%s", ZSTD_versionString());
    progress_begin(&writer->progress, options->progress, "packing", total);
    rc = make_pool(writer, err);
    return rc ? rc : output_open(&writer->output, options->path, err);
}

static void release(struct writer *writer)
{
    pool_free(writer->pool);
    for (unsigned i = 0; writer->pieces && i < writer->piece_count; i++)
        piece_release(&writer->pieces[i]);
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++) {
        if (writer->files[i].fd >= 0)
            close(writer->files[i].fd);
        pack_table_release(&writer->earlier[i].table);
        free(writer->table[i].data);
    }
    pack_reader_close(&writer->reuse);
    pack_manifest_release(&writer->manifest);
    output_release(&writer->output);
    free(writer->pieces);
    free(writer->buffer);
    free(writer->seek.data);
}

static int write_all(struct writer *writer, struct drafter_error *err)
{
    int rc = prepare(writer, err);

    for (unsigned i = 0; !rc && i < writer->options->count; i++)
        rc = put_device(writer, i, err);
    if (!rc)
        rc = put_tail(writer, err);
    if (!rc)
        rc = output_sync(&writer->output, err);
    return rc ? rc : output_commit(&writer->output, err);
}

int pack_write(const struct pack_write_options *options, struct pack_written *ret_written,
               struct drafter_error *err)
{
    cleanup_free struct writer *writer = calloc(1, sizeof(*writer));
    int rc;

    if (!writer || sodium_init() < 0)
        return drafter_error_set(err, ENOMEM, "out of memory, or libsodium does not start");
    writer->options = options;
    writer->output.fd = writer->reuse.source.fd = writer->progress.signals = -1;
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++)
        writer->files[i].fd = -1;
    rc = write_all(writer, err);
    writer->written.compressed = writer->offset;
    progress_end(&writer->progress, !rc);
    release(writer);
    if (!rc)
        *ret_written = writer->written;
    return rc;
}

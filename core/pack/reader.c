/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/reader.h"

#include "pack/signature.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <inttypes.h>
#include <string.h>
#include <zstd.h>

/* Frame of the tail: where it is, and how long. */
struct place {
    uint64_t offset;
    uint32_t compressed, size;
};

static bool inside(const struct pack_reader *reader, uint64_t offset, uint64_t length)
{
    return offset <= reader->source.size && length <= reader->source.size - offset;
}

/* A whole frame, of which the size is known. */
static int read_frame(const struct pack_reader *reader, const struct place *place,
                      uint8_t **ret_data, struct drafter_error *err)
{
    cleanup_free uint8_t *compressed = NULL, *data = NULL;
    size_t got;
    int rc;

    if (!inside(reader, place->offset, place->compressed))
        return drafter_error_set(err, EBADMSG, "%s: it ends too early", reader->path);
    compressed = malloc(place->compressed ? place->compressed : 1);
    data = malloc(place->size ? place->size : 1);
    if (!compressed || !data)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = pack_source_read(&reader->source, compressed, place->compressed, place->offset);
    if (rc)
        return drafter_error_errno(err, -rc, "%s: cannot read it", reader->path);
    got = ZSTD_decompress(data, place->size, compressed, place->compressed);
    if (ZSTD_isError(got) || got != place->size)
        return drafter_error_set(err, EBADMSG, "%s: it is damaged, or was changed", reader->path);
    *ret_data = steal(&data);
    return 0;
}

/* The last two frames, by the seek table. */
static int find_tail(const struct pack_reader *reader, struct place ret_tail[2],
                     struct drafter_error *err)
{
    uint8_t footer[PACK_SEEK_FOOTER], entries[2 * (PACK_SEEK_ENTRY + 4)];
    uint32_t frames;
    uint64_t end;
    size_t size;

    if (reader->source.size < sizeof(footer) ||
        pack_source_read(&reader->source, footer, sizeof(footer), reader->source.size - sizeof(footer)) ||
        pack_seek_parse(footer, &frames, &size) || frames < 2 ||
        reader->source.size < PACK_SEEK_HEADER + PACK_SEEK_FOOTER + (uint64_t)frames * size)
        return drafter_error_set(err, ENOTSUP, "%s: it is no package with a manifest", reader->path);
    end = reader->source.size - PACK_SEEK_FOOTER;
    if (pack_source_read(&reader->source, entries, 2 * size, end - 2 * size))
        return drafter_error_set(err, EIO, "%s: cannot read its end", reader->path);
    end -= PACK_SEEK_HEADER + (uint64_t)frames * size;
    for (int i = 1; i >= 0; i--) {
        ret_tail[i].compressed = pack_get32(entries + (size_t)i * size);
        ret_tail[i].size = pack_get32(entries + (size_t)i * size + 4);
        if (ret_tail[i].compressed > end || ret_tail[i].size > PACK_MANIFEST_MAX)
            return drafter_error_set(err, ENOTSUP, "%s: it is no package with a manifest",
                                     reader->path);
        end -= ret_tail[i].compressed;
        ret_tail[i].offset = end;
    }
    return 0;
}

/* The content of an entry that has a frame of its own: NULL when it is another one. */
static const char *entry_in(const uint8_t *data, size_t length, const char *name, size_t *ret_length)
{
    struct pack_tar_entry entry;

    if (length < PACK_BLOCK || pack_tar_parse(data, &entry) || strcmp(entry.name, name) != 0 ||
        entry.size > length - PACK_BLOCK)
        return NULL;
    *ret_length = (size_t)entry.size;
    return (const char *)data + PACK_BLOCK;
}

static int take_manifest(struct pack_reader *reader, const uint8_t *data, size_t length,
                         struct drafter_error *err)
{
    size_t text_length;
    const char *text = entry_in(data, length, PACK_MANIFEST, &text_length);
    int rc;

    if (!text)
        return drafter_error_set(err, ENOTSUP, "%s: it is no package with a manifest", reader->path);
    reader->manifest_text = strndup(text, text_length);
    if (!reader->manifest_text)
        return drafter_error_set(err, ENOMEM, "out of memory");
    reader->manifest_length = strlen(reader->manifest_text);
    rc = pack_manifest_decode(reader->manifest_text, reader->manifest_length, &reader->manifest, err);
    return rc ? drafter_error_wrap(err, "%s", reader->path) : 0;
}

static int check_signature(struct pack_reader *reader, const uint8_t *data, size_t length,
                           struct drafter_error *err)
{
    size_t text_length;
    const char *text = entry_in(data, length, PACK_SIGNATURE, &text_length);
    int rc;

    if (!text && !io_is_zero(data, length))
        return drafter_error_set(err, EBADMSG, "%s: its end is not what it has to be", reader->path);
    if (!text)
        return 0;
    rc = pack_signature_check(text, text_length, reader->manifest_text, reader->manifest_length,
                              reader->signer, err);
    return rc ? drafter_error_wrap(err, "%s", reader->path) : 0;
}

static int read_tail(struct pack_reader *reader, struct drafter_error *err)
{
    cleanup_free uint8_t *manifest = NULL, *signature = NULL;
    struct place tail[2];
    int rc = find_tail(reader, tail, err);

    if (rc)
        return rc;
    rc = read_frame(reader, &tail[0], &manifest, err);
    if (!rc)
        rc = take_manifest(reader, manifest, tail[0].size, err);
    if (!rc)
        rc = read_frame(reader, &tail[1], &signature, err);
    return rc ? rc : check_signature(reader, signature, tail[1].size, err);
}

int pack_reader_open_source(const char *name, const struct pack_source *source,
                            struct pack_reader *ret_reader, struct drafter_error *err)
{
    struct pack_reader reader = {.source = *source, .path = strdup(name)};
    int rc = reader.path ? read_tail(&reader, err) : drafter_error_set(err, ENOMEM, "out of memory");

    if (rc) {
        reader.source.fd = -1; /* it stays the caller's */
        pack_reader_close(&reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

int pack_reader_open(const char *path, struct pack_reader *ret_reader, struct drafter_error *err)
{
    struct pack_source source;
    int rc = pack_source_open(path, &source, err);

    if (rc)
        return rc;
    rc = pack_reader_open_source(path, &source, ret_reader, err);
    if (rc)
        pack_source_close(&source);
    return rc;
}

void pack_reader_close(struct pack_reader *reader)
{
    pack_source_close(&reader->source);
    pack_manifest_release(&reader->manifest);
    free(reader->manifest_text);
    free(reader->path);
    memset(reader, 0, sizeof(*reader));
    reader->source.fd = -1;
}

int pack_header_check(const struct pack_reader *reader, const struct pack_device *device,
                      struct drafter_error *err)
{
    struct place place = {device->offset, device->header_size, PACK_BLOCK};
    cleanup_free uint8_t *block = NULL;
    struct pack_tar_entry entry;
    int rc = read_frame(reader, &place, &block, err);

    if (rc)
        return drafter_error_wrap(err, "device %s", device->name);
    if (pack_tar_parse(block, &entry) || strcmp(entry.name, device->name) != 0 ||
        entry.size != device->size)
        return drafter_error_set(err, EBADMSG, "%s: the archive and the manifest differ about %s",
                                 reader->path, device->name);
    return 0;
}

/* ---- tables */

struct pack_frame pack_table_frame(const struct pack_table *table, uint32_t index)
{
    struct pack_frame frame;

    pack_frame_decode(table->entries + (size_t)index * PACK_FRAME_ENTRY, &frame);
    return frame;
}

/* Every frame holds whole pieces, but for the last one, and is inside the file. */
static int place_frames(const struct pack_reader *reader, const struct pack_device *device,
                        struct pack_table *table)
{
    uint64_t at = device->offset + device->header_size, plain = 0;
    uint32_t piece = reader->manifest.frame_size;

    for (uint32_t i = 0; i < table->count; i++) {
        struct pack_frame frame = pack_table_frame(table, i);
        uint32_t most = pack_frame_is_zero(&frame) ? PACK_ZERO_MAX : piece;

        if (!frame.size || frame.size > most || frame.compressed > ZSTD_COMPRESSBOUND(most) ||
            (i + 1 < table->count && frame.size % piece) || !inside(reader, at, frame.compressed))
            return -EBADMSG;
        table->at[i] = at;
        table->plain[i] = plain;
        at += frame.compressed;
        plain += frame.size;
    }
    table->at[table->count] = at;
    table->plain[table->count] = plain;
    return plain == pack_padded(device->size) ? 0 : -EBADMSG;
}

static int fill_table(const struct pack_reader *reader, const struct pack_device *device,
                      struct pack_table *table, const uint8_t *data, size_t length)
{
    char name[sizeof(PACK_FRAMES) + DRAFTER_NAME_MAX];
    size_t content, count = device->frames;
    uint8_t hash[PACK_HASH_SIZE];
    const char *entries;

    snprintf(name, sizeof(name), PACK_FRAMES "%s", device->name);
    entries = entry_in(data, length, name, &content);
    if (!entries || content != count * PACK_FRAME_ENTRY)
        return -EBADMSG;
    pack_hash(entries, content, hash);
    if (memcmp(hash, device->table_hash, sizeof(hash)) != 0)
        return -EBADMSG;
    table->count = device->frames;
    table->entries = malloc(content ? content : 1);
    table->at = calloc(count + 1, sizeof(*table->at));
    table->plain = calloc(count + 1, sizeof(*table->plain));
    if (!table->entries || !table->at || !table->plain)
        return -ENOMEM;
    memcpy(table->entries, entries, content);
    return place_frames(reader, device, table);
}

int pack_table_load(const struct pack_reader *reader, const struct pack_device *device,
                    struct pack_table *ret_table, struct drafter_error *err)
{
    uint64_t length = PACK_BLOCK + pack_padded((uint64_t)device->frames * PACK_FRAME_ENTRY);
    struct place place = {device->table, device->table_size, (uint32_t)length};
    struct pack_table table = {0};
    cleanup_free uint8_t *data = NULL;
    int rc;

    if (device->frames > reader->source.size / 8) /* no frame is that short */
        return drafter_error_set(err, EBADMSG, "%s: device %s: too many frames", reader->path,
                                 device->name);
    rc = read_frame(reader, &place, &data, err);
    if (rc)
        return drafter_error_wrap(err, "device %s", device->name);
    rc = fill_table(reader, device, &table, data, (size_t)length);
    if (rc) {
        pack_table_release(&table);
        return drafter_error_set(err, -rc, "%s: the table of device %s is damaged, or was changed",
                                 reader->path, device->name);
    }
    *ret_table = table;
    return 0;
}

void pack_table_release(struct pack_table *table)
{
    free(table->entries);
    free(table->at);
    free(table->plain);
    memset(table, 0, sizeof(*table));
}

uint32_t pack_table_find(const struct pack_table *table, uint64_t offset)
{
    uint32_t low = 0, high = table->count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (table->plain[middle] <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- frames */

struct pack_codec {
    ZSTD_DCtx *context;
    void *buffer;
};

struct pack_codec *pack_codec_new(uint32_t frame_size)
{
    struct pack_codec *codec = calloc(1, sizeof(*codec));

    if (!codec)
        return NULL;
    codec->context = ZSTD_createDCtx();
    codec->buffer = malloc(ZSTD_compressBound(frame_size));
    if (codec->context && codec->buffer) {
        /* forceIgnoreChecksum: what frames hold is checked by a hash of ours that is better */
        ZSTD_DCtx_setParameter(codec->context, ZSTD_d_experimentalParam3, 1);
        return codec;
    }
    pack_codec_free(codec);
    return NULL;
}

void pack_codec_free(struct pack_codec *codec)
{
    if (!codec)
        return;
    ZSTD_freeDCtx(codec->context);
    free(codec->buffer);
    free(codec);
}

void *pack_codec_buffer(struct pack_codec *codec)
{
    return codec->buffer;
}

int pack_frame_decompress(struct pack_codec *codec, const struct pack_frame *frame,
                          const void *compressed, bool authentic, void *buffer)
{
    uint8_t hash[PACK_HASH_SIZE], content[PACK_CONTENT_SIZE];
    size_t got;

    if (pack_frame_is_zero(frame)) {
        memset(buffer, 0, frame->size);
        return 0;
    }
    if (authentic) {
        pack_hash(compressed, frame->compressed, hash);
        if (memcmp(hash, frame->hash, sizeof(hash)) != 0)
            return -EBADMSG;
    }
    got = ZSTD_decompressDCtx(codec->context, buffer, frame->size, compressed, frame->compressed);
    if (ZSTD_isError(got) || got != frame->size)
        return -EBADMSG;
    pack_content(buffer, frame->size, content);
    return memcmp(content, frame->content, sizeof(content)) == 0 ? 0 : -EBADMSG;
}

int pack_frame_read(const struct pack_reader *reader, const struct pack_table *table, uint32_t index,
                    struct pack_codec *codec, void *buffer)
{
    struct pack_frame frame = pack_table_frame(table, index);
    int rc = 0;

    if (!pack_frame_is_zero(&frame))
        rc = pack_source_read(&reader->source, codec->buffer, frame.compressed, table->at[index]);
    if (rc)
        return rc == -ENODATA ? -EBADMSG : rc;
    return pack_frame_decompress(codec, &frame, codec->buffer, *reader->signer, buffer);
}

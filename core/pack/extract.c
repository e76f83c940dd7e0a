/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/extract.h"

#include "pack/pool.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/output.h"

#include <string.h>
#include <zstd.h>

#define BATCH_SIZE (UINT32_C(1) << 18) /* stays in the processor's cache */

/* Frames that one thread takes in one go: they are beside each other, in the file and in the device. */
struct batch {
    unsigned device;
    uint32_t first, count;
    uint8_t *compressed, *plain;
    int error; /* negative errno */
};

struct extraction {
    const struct pack_reader *reader;
    const struct pack_extract_options *options;
    const struct pack_device *devices[PACK_DEVICES_MAX];
    struct pack_table tables[PACK_DEVICES_MAX];
    struct output outputs[PACK_DEVICES_MAX];
    unsigned count;
    bool verify; /* without outputs */
    struct pool *pool;
    struct batch *batches;
    unsigned batch_count;
    uint64_t given;
    struct progress progress;
};

static void *worker_new(void *opaque)
{
    const struct extraction *extraction = opaque;

    return pack_codec_new(extraction->reader->manifest.frame_size);
}

static void worker_free(void *worker)
{
    pack_codec_free(worker);
}

/* A frame of zeros is made without libzstd and must be that very frame. */
static int check_zeros(const struct extraction *extraction, const struct batch *batch)
{
    const struct pack_table *table = &extraction->tables[batch->device];
    struct pack_frame frame = pack_table_frame(table, batch->first);
    uint8_t want[PACK_ZERO_FRAME_MAX], got[PACK_ZERO_FRAME_MAX], hash[PACK_HASH_SIZE];
    size_t length = pack_zero_frame(frame.size, want);
    int rc;

    pack_hash(want, length, hash);
    if (frame.compressed != length || memcmp(hash, frame.hash, sizeof(hash)) != 0)
        return -EBADMSG;
    rc = pack_source_read(&extraction->reader->source, got, length, table->at[batch->first]);
    if (rc)
        return rc;
    return memcmp(got, want, length) == 0 ? 0 : -EBADMSG;
}

static int decompress(const struct extraction *extraction, struct batch *batch,
                      struct pack_codec *codec, size_t *ret_length)
{
    const struct pack_table *table = &extraction->tables[batch->device];
    uint64_t start = table->at[batch->first], end = table->at[batch->first + batch->count];
    bool authentic = extraction->verify || *extraction->reader->signer;
    const uint8_t *compressed = batch->compressed;
    uint8_t *plain = batch->plain;
    int rc = pack_source_read(&extraction->reader->source, batch->compressed, (size_t)(end - start), start);

    for (uint32_t i = batch->first; !rc && i < batch->first + batch->count; i++) {
        struct pack_frame frame = pack_table_frame(table, i);

        rc = pack_frame_decompress(codec, &frame, compressed, authentic, plain);
        compressed += frame.compressed;
        plain += frame.size;
    }
    *ret_length = (size_t)(plain - batch->plain);
    return rc == -ENODATA ? -EBADMSG : rc;
}

static void work(void *opaque, void *worker, void *item)
{
    const struct extraction *extraction = opaque;
    struct batch *batch = item;
    const struct pack_table *table = &extraction->tables[batch->device];
    struct pack_frame first = pack_table_frame(table, batch->first);
    uint64_t offset = table->plain[batch->first], left;
    size_t length;

    if (pack_frame_is_zero(&first)) { /* a hole in the output, which is new */
        batch->error = extraction->verify ? check_zeros(extraction, batch) : 0;
        return;
    }
    batch->error = decompress(extraction, batch, worker, &length);
    if (batch->error || extraction->verify)
        return;
    left = extraction->devices[batch->device]->size - offset;
    batch->error = io_pwrite_full(extraction->outputs[batch->device].fd, batch->plain,
                                  length < left ? length : (size_t)left, offset);
}

static void give_batch(struct extraction *extraction, unsigned device, uint32_t *next)
{
    struct batch *batch = &extraction->batches[extraction->given++ % extraction->batch_count];
    const struct pack_table *table = &extraction->tables[device];
    uint32_t length = 0;

    *batch = (struct batch){.device = device,
                            .first = *next,
                            .compressed = batch->compressed,
                            .plain = batch->plain};
    while (*next < table->count) {
        struct pack_frame frame = pack_table_frame(table, *next);
        bool zeros = pack_frame_is_zero(&frame);

        if (batch->count && (zeros || length + frame.size > BATCH_SIZE))
            break;
        length += frame.size;
        batch->count++;
        ++*next;
        if (zeros)
            break;
    }
    pool_give(extraction->pool, batch);
}

static int fail(const struct extraction *extraction, unsigned device, int rc,
                struct drafter_error *err)
{
    const char *name = extraction->devices[device]->name;

    if (rc == -EBADMSG)
        return drafter_error_set(err, EBADMSG, "%s: device %s is damaged, or was changed",
                                 extraction->reader->path, name);
    return drafter_error_errno(err, -rc, "device %s%s%s", name, extraction->verify ? "" : ": ",
                               extraction->verify ? "" : extraction->options->files[device].path);
}

static int extract_device(struct extraction *extraction, unsigned device, struct drafter_error *err)
{
    const struct pack_extract_options *options = extraction->options;
    const struct pack_table *table = &extraction->tables[device];
    uint32_t next = 0;
    struct batch *batch;
    int rc = 0;

    do {
        while (!rc && next < table->count && !pool_is_full(extraction->pool))
            give_batch(extraction, device, &next);
        batch = pool_take(extraction->pool);
        if (!batch || rc)
            continue;
        if (batch->error)
            rc = fail(extraction, device, batch->error, err);
        else if (options->cancelled && options->cancelled(options->opaque))
            rc = drafter_error_set(err, ECANCELED, "cancelled");
        progress_advance(&extraction->progress,
                         table->plain[batch->first + batch->count] - table->plain[batch->first]);
    } while (batch);
    return rc;
}

static int make_pool(struct extraction *extraction, struct drafter_error *err)
{
    const struct pool_ops ops = {
        .worker_new = worker_new, .worker_free = worker_free, .work = work, .opaque = extraction};
    unsigned threads = pool_threads(extraction->options->threads);
    uint32_t frame = extraction->reader->manifest.frame_size;
    uint32_t size = frame > BATCH_SIZE ? frame : BATCH_SIZE;

    extraction->batch_count = 3 * threads + 1;
    extraction->batches = calloc(extraction->batch_count, sizeof(*extraction->batches));
    for (unsigned i = 0; extraction->batches && i < extraction->batch_count; i++) {
        struct batch *batch = &extraction->batches[i];

        batch->plain = malloc(size);
        batch->compressed = malloc(size / frame * ZSTD_compressBound(frame));
        if (!batch->plain || !batch->compressed)
            return drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (!extraction->batches)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return pool_new(threads, extraction->batch_count, &ops, &extraction->pool, err);
}

/* The devices that are wanted, and where they go. */
static int choose(struct extraction *extraction, struct drafter_error *err)
{
    const struct pack_manifest *manifest = &extraction->reader->manifest;
    const struct pack_extract_options *options = extraction->options;

    extraction->count = extraction->verify ? manifest->device_count : options->count;
    if (extraction->count > PACK_DEVICES_MAX)
        return drafter_error_set(err, EINVAL, "more than %d devices", PACK_DEVICES_MAX);
    for (unsigned i = 0; i < extraction->count; i++) {
        extraction->devices[i] = extraction->verify
                                     ? &manifest->devices[i]
                                     : pack_manifest_find(manifest, options->files[i].name);
        if (!extraction->devices[i])
            return drafter_error_set(err, ENOENT, "%s has no device %s", extraction->reader->path,
                                     options->files[i].name);
    }
    return 0;
}

static int prepare(struct extraction *extraction, struct drafter_error *err)
{
    const struct pack_extract_options *options = extraction->options;
    uint64_t total = 0;
    int rc = choose(extraction, err);

    for (unsigned i = 0; !rc && i < extraction->count; i++) {
        rc = pack_table_load(extraction->reader, extraction->devices[i], &extraction->tables[i], err);
        if (!rc && extraction->verify)
            rc = pack_header_check(extraction->reader, extraction->devices[i], err);
        total += pack_padded(extraction->devices[i]->size);
    }
    for (unsigned i = 0; !rc && !extraction->verify && i < extraction->count; i++) {
        rc = output_open(&extraction->outputs[i], options->files[i].path, err);
        if (!rc && ftruncate(extraction->outputs[i].fd, (off_t)extraction->devices[i]->size))
            rc = drafter_error_errno(err, errno, "%s", options->files[i].path);
    }
    if (rc)
        return rc;
    progress_begin(&extraction->progress, options->progress,
                   extraction->verify ? "verifying" : "extracting", total);
    return make_pool(extraction, err);
}

/* All are durable before the first gets its name. */
static int commit(struct extraction *extraction, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < extraction->count; i++)
        rc = output_sync(&extraction->outputs[i], err);
    for (unsigned i = 0; !rc && i < extraction->count; i++)
        rc = output_commit(&extraction->outputs[i], err);
    return rc;
}

static void release(struct extraction *extraction)
{
    pool_free(extraction->pool);
    for (unsigned i = 0; extraction->batches && i < extraction->batch_count; i++) {
        free(extraction->batches[i].plain);
        free(extraction->batches[i].compressed);
    }
    free(extraction->batches);
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++) {
        pack_table_release(&extraction->tables[i]);
        output_release(&extraction->outputs[i]);
    }
}

static int run(const struct pack_reader *reader, const struct pack_extract_options *options,
               bool verify, struct drafter_error *err)
{
    cleanup_free struct extraction *extraction = calloc(1, sizeof(*extraction));
    int rc;

    if (!extraction)
        return drafter_error_set(err, ENOMEM, "out of memory");
    extraction->reader = reader;
    extraction->options = options;
    extraction->verify = verify;
    extraction->progress.signals = -1;
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++)
        extraction->outputs[i].fd = -1;
    rc = prepare(extraction, err);
    for (unsigned i = 0; !rc && i < extraction->count; i++)
        rc = extract_device(extraction, i, err);
    if (!rc && !verify)
        rc = commit(extraction, err);
    progress_end(&extraction->progress, !rc);
    release(extraction);
    return rc;
}

int pack_extract(const struct pack_reader *reader, const struct pack_extract_options *options,
                 struct drafter_error *err)
{
    return run(reader, options, false, err);
}

int pack_verify(const struct pack_reader *reader, const struct pack_extract_options *options,
                struct drafter_error *err)
{
    return run(reader, options, true, err);
}

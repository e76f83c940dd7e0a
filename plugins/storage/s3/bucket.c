/* SPDX-License-Identifier: BSD-2-Clause */
/* A device in a bucket: reads fetch blocks, writes stay in the cache until a flush commits them. */
#include "s3.h"

#include "util/cleanup.h"
#include <inttypes.h>

static int load_block(void *host, uint64_t block, void *content, size_t length)
{
    struct s3 *s3 = host;
    int rc;

    (void)length;
    rc = volume_get(&s3->volume, block, content);
    return rc == -ENOENT || rc == -EBADMSG || rc == -EACCES ? -EIO : rc;
}

static int begin_upload(void *host, uint64_t block, const void *content, size_t length,
                        void **ret_upload)
{
    struct s3 *s3 = host;
    struct volume_upload *upload = malloc(sizeof *upload);
    int rc = upload ? volume_prepare(&s3->volume, block, content, upload) : -ENOMEM;

    (void)length;
    if (rc)
        free(upload);
    else
        *ret_upload = upload;
    return rc;
}

static int finish_upload(void *host, void *upload)
{
    struct s3 *s3 = host;
    int rc = volume_send(&s3->volume, upload);

    free(upload);
    return rc;
}

static int make_device(struct s3 *s3, uint64_t size, struct drafter_error *err)
{
    err->code = 0;
    return volume_make(&s3->volume, size, (uint32_t)s3->config->block_size, err);
}

static int fit(struct s3 *s3, uint64_t size, bool create, struct drafter_error *err)
{
    struct volume *volume = &s3->volume;

    if (size == 0 || size == volume->size || (create && volume->size > size))
        return 0;
    if (create)
        return volume_enlarge(volume, size, err);
    return drafter_error_set(err, EINVAL, "s3: %sroot: the device has %" PRIu64 " bytes instead of %" PRIu64,
                             volume->prefix, volume->size, size);
}

/* Before the commit: a device of somebody else keeps its writer. */
static int check_copy(struct s3 *s3, struct drafter_error *err)
{
    const struct volume *volume = &s3->volume;

    if (volume->size == s3->size && volume->block_size == s3->config->block_size)
        return 0;
    return drafter_error_set(err, EINVAL, "s3: %sroot: the copy has %" PRIu64 " bytes in blocks of %u; "
                                          "remove it, or give this device another prefix",
                             volume->prefix, volume->size, volume->block_size);
}

int s3_open_volume(struct s3 *s3, uint64_t size, bool create, bool write, struct drafter_error *err)
{
    struct drafter_error error = {0};
    int rc = volume_load(&s3->volume, &error);

    if (rc == -ENOENT && create)
        rc = make_device(s3, size, &error);
    else if (rc == -ENOENT)
        drafter_error_set(&error, ENOENT, "s3: bucket %s has no device at prefix \"%s\"",
                          s3->config->bucket, s3->volume.prefix);
    if (!rc)
        rc = fit(s3, size, create, &error);
    if (!rc && s3->next)
        rc = check_copy(s3, &error);
    if (!rc && write)
        rc = volume_commit(&s3->volume, &error);
    if (rc && err)
        *err = error;
    return rc;
}

struct sweeping {
    struct pool_job job;
    struct s3 *s3;
};

static void sweep(struct pool_job *job)
{
    struct sweeping *sweeping = (struct sweeping *)job;
    struct s3 *s3 = sweeping->s3;
    struct drafter_error err = {0};
    unsigned deleted;
    int rc = volume_sweep(&s3->volume, &deleted, &err);

    if (deleted)
        drafter_log(DRAFTER_LOG_INFO, "s3", "%s: %u objects deleted that an upload had left",
                    s3->volume.prefix, deleted);
    if (rc && rc != -ECANCELED)
        drafter_log(DRAFTER_LOG_WARNING, "s3", "%s", err.message);
    free(sweeping);
}

void s3_sweep(struct s3 *s3)
{
    struct sweeping *sweeping = malloc(sizeof *sweeping);

    if (!sweeping)
        return;
    *sweeping = (struct sweeping){.job.run = sweep, .s3 = s3};
    pool_queue(s3->pool, &sweeping->job);
}

static int bucket_open(struct s3 *s3, uint64_t size, unsigned flags, struct drafter_error *err)
{
    bool create = flags & DRAFTER_STORAGE_CREATE && !s3->readonly;
    struct cache_source source = {.host = s3, .load = load_block};
    int rc = s3_open_volume(s3, size, create, !s3->readonly, err);

    if (rc)
        return rc;
    source.size = s3->size = s3->volume.size;
    if (!s3->readonly) {
        source.begin = begin_upload;
        source.finish = finish_upload;
    }
    s3->cache = cache_new(&source, s3->pool, s3->volume.block_size, s3->config->cache_size,
                          (unsigned)s3->config->readahead);
    if (!s3->cache)
        return drafter_error_set(err, ENOMEM, "s3: no memory");
    if (!s3->readonly)
        s3_sweep(s3);
    return 0;
}

static int bucket_read(struct s3 *s3, void *buffer, size_t length, uint64_t offset)
{
    return cache_read(s3->cache, buffer, length, offset);
}

static int bucket_write(struct s3 *s3, const void *buffer, size_t length, uint64_t offset)
{
    return length ? cache_write(s3->cache, buffer, length, offset) : 0;
}

/* Sends and commits what was written; what a failure costs is for the caller to say. */
static int commit(struct s3 *s3, struct drafter_error *err)
{
    int rc = cache_clean(s3->cache);

    return rc ? drafter_error_set(err, -rc, "blocks could not be sent") : volume_commit(&s3->volume, err);
}

static int bucket_flush(struct s3 *s3)
{
    struct drafter_error err = {0};
    int rc = commit(s3, &err);

    if (rc)
        drafter_log(DRAFTER_LOG_ERROR, "s3", "flush: %s", err.message);
    return rc;
}

static int bucket_zero(struct s3 *s3, uint64_t length, uint64_t offset)
{
    return length ? cache_write(s3->cache, NULL, length, offset) : 0;
}

/* Whole blocks cost an entry less in the index; the rest is not worth a fetch. */
static int bucket_trim(struct s3 *s3, uint64_t length, uint64_t offset)
{
    uint64_t block = s3->volume.block_size, end = offset + length;
    uint64_t from = (offset + block - 1) / block * block;
    uint64_t to = end == s3->size ? end : end / block * block;

    return from < to ? cache_write(s3->cache, NULL, to - from, from) : 0;
}

static int bucket_extent(struct s3 *s3, uint64_t offset, uint64_t length,
                         enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    uint64_t size = s3->volume.block_size, end = offset + length, at = offset / size;
    bool first = true, data = false;

    for (; at * size < end; at++) {
        struct volume_entry entry;
        /* In this order: a block leaves the cache when the index has it. */
        bool is_data = cache_has(s3->cache, at) || volume_find(&s3->volume, at, &entry) || entry.serial;

        if (!first && is_data != data)
            break;
        data = is_data;
        first = false;
    }
    *ret_kind = data ? DRAFTER_EXTENT_DATA : DRAFTER_EXTENT_ZERO;
    *ret_length = (at * size < end ? at * size : end) - offset;
    return 0;
}

/* An orderly end keeps what was not flushed. */
static void bucket_close(struct s3 *s3)
{
    struct drafter_error err = {0};

    if (s3->readonly || !s3->cache)
        return;
    http_set_deadline(s3->http, drafter_now_ns() + s3->config->drain);
    if (commit(s3, &err))
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s: writes since the last flush are lost: %s",
                    s3->volume.prefix, err.message);
}

const struct s3_form s3_bucket = {
    .open = bucket_open,
    .pread = bucket_read,
    .pwrite = bucket_write,
    .flush = bucket_flush,
    .zero = bucket_zero,
    .trim = bucket_trim,
    .extent = bucket_extent,
    .close = bucket_close,
};

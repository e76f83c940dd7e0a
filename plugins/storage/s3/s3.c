/* SPDX-License-Identifier: BSD-2-Clause */
/* The S3 storage plugin: options, life and descriptor.  Start at s3.h. */
#include "s3.h"

#include "credentials.h"
#include <curl/curl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static bool loopback(const char *endpoint)
{
    return strncmp(endpoint, "http://127.", 11) == 0 || strncmp(endpoint, "http://[::1]", 12) == 0 ||
           strncmp(endpoint, "http://localhost", 16) == 0;
}

static int check_config(const struct s3_config *config, const void *next, struct drafter_error *err)
{
    if (config->block_size & (config->block_size - 1))
        return drafter_error_set(err, EINVAL, "s3: block-size must be a power of two");
    if (next && (config->object || config->block_size % config->page_size))
        return drafter_error_set(err, EINVAL, "s3: a layer (next = ...) takes no object, and its "
                                              "block-size must be a multiple of page-size");
    if (strchr(config->bucket, '/') || !*config->bucket)
        return drafter_error_set(err, EINVAL, "s3: bucket = %s: not a name", config->bucket);
    if (strncmp(config->endpoint, "http://", 7) == 0 && !loopback(config->endpoint) &&
        !config->encryption_key)
        drafter_log(DRAFTER_LOG_WARNING, "s3",
                    "%s: what the VM holds travels in plain text; use https:// or encryption-key",
                    config->endpoint);
    return 0;
}

static int load_secrets(struct s3 *s3, struct drafter_error *err)
{
    const struct s3_config *config = s3->config;
    uint8_t key[CODEC_KEY];
    int rc = credentials_load(config->credentials, config->profile, &s3->credentials, err);

    if (!rc && config->encryption_key)
        rc = credentials_load_key(config->encryption_key, key, err);
    if (!rc)
        codec_init(&s3->codec, (int)config->compression, config->encryption_key ? key : NULL);
    sodium_memzero(key, sizeof key);
    return rc;
}

static int connect_service(struct s3 *s3, struct drafter_error *err)
{
    const struct s3_config *config = s3->config;
    struct http_settings settings = {.endpoint = config->endpoint, .region = config->region,
                                     .ca_file = config->ca_file, .credentials = &s3->credentials,
                                     .connections = (unsigned)config->connections,
                                     .timeout_ns = config->timeout};
    int rc = http_new(&settings, &s3->http, err);

    if (!rc && !(s3->pool = pool_new((unsigned)config->connections)))
        rc = drafter_error_set(err, ENOMEM, "s3: no thread can be started");
    if (!rc && !config->object) {
        rc = volume_init(&s3->volume, s3->http, &s3->codec, config->bucket, config->prefix, err);
        s3->volume.pool = s3->pool;
        s3->has_volume = true;
    }
    return rc;
}

static void s3_destroy(void *instance)
{
    struct s3 *s3 = instance;

    if (!s3)
        return;
    if (s3->opened)
        s3->form->close(s3);
    if (s3->http)
        http_cancel(s3->http); /* what still runs is reading ahead or sweeping */
    pool_free(s3->pool);
    cache_free(s3->cache);
    if (s3->has_volume)
        volume_release(&s3->volume);
    http_free(s3->http);
    codec_wipe(&s3->codec);
    sodium_memzero(&s3->credentials, sizeof s3->credentials);
    free(s3);
}

static int s3_create(const struct drafter_context *context, const void *config, void **ret_instance,
                     struct drafter_error *err)
{
    struct s3 *s3;
    int rc = check_config(config, context->next, err);

    if (rc)
        return rc;
    if (sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT))
        return drafter_error_set(err, ENOSYS, "s3: libsodium or libcurl cannot be initialised");
    s3 = calloc(1, sizeof *s3);
    if (!s3)
        return drafter_error_set(err, ENOMEM, "s3: no memory");
    s3->config = config;
    s3->form = s3->config->object ? &s3_object : context->next ? &s3_layer : &s3_bucket;
    if (context->next && !(s3->next = drafter_next_storage(context->next, &s3->next_instance)))
        rc = drafter_error_set(err, EINVAL, "s3: what is below is not a storage");
    if (!rc)
        rc = load_secrets(s3, err);
    if (!rc)
        rc = connect_service(s3, err);
    if (rc)
        s3_destroy(s3);
    else
        *ret_instance = s3;
    return rc;
}

/* ---- operations ------------------------------------------------------------------------------- */

static int s3_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct s3 *s3 = instance;
    int rc;

    if (s3->opened)
        return drafter_error_set(err, EALREADY, "s3: is open");
    s3->readonly = s3->config->readonly || flags & DRAFTER_STORAGE_READONLY;
    rc = s3->form->open(s3, size, flags, err);
    s3->opened = rc == 0;
    return rc;
}

static uint64_t s3_size(void *instance)
{
    struct s3 *s3 = instance;

    return s3->size;
}

static int bounds(const struct s3 *s3, uint64_t length, uint64_t offset)
{
    return offset > s3->size || length > s3->size - offset ? -EINVAL : 0;
}

static int writable(const struct s3 *s3, uint64_t length, uint64_t offset)
{
    return s3->readonly ? -EROFS : bounds(s3, length, offset);
}

static int s3_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct s3 *s3 = instance;
    int rc = bounds(s3, length, offset);

    return rc ? rc : s3->form->pread(s3, buffer, length, offset);
}

static int s3_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct s3 *s3 = instance;
    int rc = writable(s3, length, offset);

    return rc ? rc : s3->form->pwrite(s3, buffer, length, offset);
}

static int s3_flush(void *instance)
{
    struct s3 *s3 = instance;
    int rc = atomic_load(&s3->flush_error), none = 0;

    if (rc || s3->readonly)
        return rc;
    rc = s3->form->flush(s3);
    if (rc)
        atomic_compare_exchange_strong(&s3->flush_error, &none, rc);
    return rc ? rc : atomic_load(&s3->flush_error);
}

static int s3_zero(void *instance, uint64_t length, uint64_t offset)
{
    struct s3 *s3 = instance;
    int rc = writable(s3, length, offset);

    return rc ? rc : s3->form->zero(s3, length, offset);
}

static int s3_trim(void *instance, uint64_t length, uint64_t offset)
{
    struct s3 *s3 = instance;
    int rc = writable(s3, length, offset);

    return rc ? rc : s3->form->trim(s3, length, offset);
}

static int s3_extent(void *instance, uint64_t offset, uint64_t length,
                     enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    struct s3 *s3 = instance;

    if (length == 0 || bounds(s3, length, offset))
        return -EINVAL;
    return s3->form->extent(s3, offset, length, ret_kind, ret_length);
}

/* A bucket is a base, whoever it is shared with; the layer is what it lies over. */
static int s3_own(void *instance, uint64_t offset, uint64_t length, bool *ret_own, uint64_t *ret_length)
{
    struct s3 *s3 = instance;

    if (length == 0 || bounds(s3, length, offset))
        return -EINVAL;
    if (s3->next)
        return s3->next->layer(s3->next_instance, offset, length, ret_own, ret_length);
    return -ENOTSUP;
}

static int s3_digest(void *instance, uint64_t offset, uint64_t length, uint8_t hash[16])
{
    struct s3 *s3 = instance;

    return s3->sync && bounds(s3, length, offset) == 0 ? s3_layer_digest(s3, offset, length, hash)
                                                       : -ENOENT;
}

static void s3_settled(void *instance)
{
    struct s3 *s3 = instance;

    if (s3->sync)
        s3_layer_settled(s3);
}

#define OPTION(key_, type_, field_, default_, help_)                                               \
    .key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct s3_config, field_),     \
    .default_value = default_, .help = help_

static const struct drafter_option s3_options[] = {
    {OPTION("endpoint", STRING, endpoint, NULL, "URL of the service, https://HOST[:PORT]"),
     .flags = DRAFTER_OPTION_REQUIRED},
    {OPTION("bucket", STRING, bucket, NULL, "bucket, which must exist"),
     .flags = DRAFTER_OPTION_REQUIRED},
    {OPTION("region", STRING, region, "us-east-1", "region that requests are signed for")},
    {OPTION("prefix", STRING, prefix, "", "what the names of the device's objects begin with, such as vm1/disk/")},
    {OPTION("object", STRING, object, NULL, "this one object instead of a device at a prefix")},
    {OPTION("part-size", SIZE, part_size, "16M",
            "object: what is sent in one request when it is made; more where it has too many parts"),
     .minimum = 5 << 20, .maximum = 1 << 30, .unit = "bytes"},
    {OPTION("replace", BOOL, replace, "no", "object: make it though there is one of that name")},
    {OPTION("credentials", PATH, credentials, NULL,
            "file in the format of ~/.aws/credentials that only its owner can read (default: the "
            "environment)")},
    {OPTION("profile", STRING, profile, "default", "section of the credentials file")},
    {OPTION("encryption-key", PATH, encryption_key, NULL,
            "file with 64 hexadecimal digits: blocks are encrypted before they leave")},
    {OPTION("ca-file", PATH, ca_file, NULL, "certificates of authorities that are trusted (default: the system's)")},
    {OPTION("compression", UINT, compression, "1", "level of zstd; 0 does not compress"), .maximum = 19},
    {OPTION("block-size", SIZE, block_size, "256k", "bytes of the device in one object"),
     .minimum = 4096, .maximum = 64 << 20, .unit = "bytes"},
    {OPTION("cache-size", SIZE, cache_size, "64M", "memory for blocks that were read or are to be sent"),
     .minimum = 1 << 20, .maximum = UINT64_C(1) << 40, .unit = "bytes"},
    {OPTION("readahead", UINT, readahead, "8", "blocks fetched ahead of a sequential reader"),
     .maximum = 1024},
    {OPTION("connections", UINT, connections, "8", "requests at a time"), .minimum = 1, .maximum = 256},
    {OPTION("timeout", DURATION, timeout, "60s", "for a request with all its retries"),
     .minimum = 1000000, .maximum = UINT64_C(86400000000000)},
    {OPTION("readonly", BOOL, readonly, "no", "never write, whatever the device would allow")},
    {OPTION("only-dirty", BOOL, only_dirty, "no",
            "layer: copy only what is written from now on, not what the device holds")},
    {OPTION("page-size", SIZE, page_size, "64k", "layer: unit in which writes are noticed"),
     .minimum = 4096, .maximum = 64 << 20, .unit = "bytes"},
    {OPTION("max-age", DURATION, max_age, "100ms", "layer: a block is sent when it was written so long ago")},
    {OPTION("min-changed", UINT, min_changed, "4", "layer: or when so many pages of it were written"),
     .minimum = 1},
    {OPTION("limit", UINT, limit, "256", "layer: blocks sent in one round"), .minimum = 1, .maximum = 65536},
    {OPTION("check-period", DURATION, check_period, "100ms", "layer: pause between rounds"),
     .minimum = 1000000, .maximum = UINT64_C(3600000000000)},
    {OPTION("drain", DURATION, drain, "30s", "how long an orderly end may take to send the rest")},
    DRAFTER_OPTION_END,
};

static const struct drafter_storage_ops s3_ops = {
    .open = s3_open,
    .size = s3_size,
    .pread = s3_pread,
    .pwrite = s3_pwrite,
    .flush = s3_flush,
    .zero = s3_zero,
    .trim = s3_trim,
    .extent = s3_extent,
    .layer = s3_own,
    .digest = s3_digest,
    .settled = s3_settled,
};

static const struct drafter_plugin s3_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "s3",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "storage in an S3 bucket, or a copy of one that is kept there",
    .options = s3_options,
    .config_size = sizeof(struct s3_config),
    .create = s3_create,
    .destroy = s3_destroy,
    .ops = &s3_ops,
};
DRAFTER_PLUGIN_ENTRY(s3_plugin)

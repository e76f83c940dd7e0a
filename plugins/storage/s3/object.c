/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One object as it is: a package, an image.  It is written once, from front to back, and read only from then on; it
 * must not change meanwhile.
 */
#include "s3.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int load_range(void *host, uint64_t block, void *content, size_t length)
{
    struct s3 *s3 = host;
    uint64_t first = block * s3->config->block_size;
    struct http_response response = {0};
    struct http_request request = {.method = "GET", .path = s3->path, .ranged = true, .first = first,
                                   .last = first + length - 1, .if_match = s3->etag, .limit = length};
    int rc = http_send(s3->http, &request, &response);

    if (!rc && response.length != length)
        rc = -EPROTO;
    if (!rc)
        memcpy(content, response.body, length);
    else
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s: bytes %" PRIu64 "-%" PRIu64 ": %s", s3->path,
                    request.first, request.last,
                    rc == -ESTALE ? "the object was replaced while it is in use" : response.message);
    http_response_release(&response);
    return rc ? -EIO : 0;
}

static int name_object(struct s3 *s3, struct drafter_error *err)
{
    char encoded[1200];
    int n;

    if (sign_encode(s3->config->object, 1, encoded, sizeof encoded) < 0 ||
        (n = snprintf(s3->path, sizeof s3->path, "/%s/%s", s3->config->bucket, encoded)) < 0 ||
        (size_t)n >= sizeof s3->path)
        return drafter_error_set(err, ENAMETOOLONG, "s3: object = %s: too long", s3->config->object);
    return 0;
}

static int find_object(struct s3 *s3, struct drafter_error *err)
{
    struct http_response response = {0};
    struct http_request request = {.method = "HEAD", .path = s3->path, .limit = 65536};
    int rc = http_send(s3->http, &request, &response);

    if (rc)
        drafter_error_set(err, -rc, "s3: object %s in bucket %s: %s", s3->config->object,
                          s3->config->bucket, response.message);
    else if (!*response.etag)
        rc = drafter_error_set(err, EPROTO, "s3: object %s: the server gives no ETag", s3->config->object);
    s3->size = response.total;
    memcpy(s3->etag, response.etag, sizeof s3->etag);
    http_response_release(&response);
    return rc;
}

static int make_object(struct s3 *s3, uint64_t size, struct drafter_error *err)
{
    const struct s3_config *config = s3->config;
    const struct multipart_settings settings = {
        .http = s3->http, .pool = s3->pool, .bucket = config->bucket, .object = config->object,
        .path = s3->path, .size = size, .part_size = config->part_size,
        .connections = (unsigned)config->connections, .drain_ns = config->drain, .replace = config->replace};
    int rc = multipart_begin(&settings, &s3->upload, err);

    s3->size = rc ? 0 : size;
    return rc;
}

static int object_open(struct s3 *s3, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct cache_source source = {.host = s3, .load = load_range};
    int rc = name_object(s3, err);

    if (!rc && !s3->readonly && flags & DRAFTER_STORAGE_CREATE && !(flags & DRAFTER_STORAGE_ARRIVING) && size)
        return make_object(s3, size, err);
    if (!rc && !s3->readonly)
        rc = drafter_error_set(err, EROFS, "s3: object = %s can only be read; put an overlay over it",
                               s3->config->object);
    if (!rc)
        rc = find_object(s3, err);
    if (!rc && size && size != s3->size)
        rc = drafter_error_set(err, EINVAL, "s3: object %s has %" PRIu64 " bytes instead of %" PRIu64,
                               s3->config->object, s3->size, size);
    if (rc)
        return rc;
    source.size = s3->size;
    s3->cache = cache_new(&source, s3->pool, (uint32_t)s3->config->block_size, s3->config->cache_size,
                          (unsigned)s3->config->readahead);
    return s3->cache ? 0 : drafter_error_set(err, ENOMEM, "s3: no memory");
}

static int object_read(struct s3 *s3, void *buffer, size_t length, uint64_t offset)
{
    return s3->cache ? cache_read(s3->cache, buffer, length, offset) : -EBUSY; /* it is being written */
}

static int object_write(struct s3 *s3, const void *buffer, size_t length, uint64_t offset)
{
    int rc = s3->upload ? multipart_write(s3->upload, buffer, length, offset) : -EROFS;

    if (rc == -ESPIPE)
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s: an object is written once, from front to back", s3->path);
    return rc;
}

static int object_zero(struct s3 *s3, uint64_t length, uint64_t offset)
{
    return object_write(s3, NULL, length, offset);
}

static int object_trim(struct s3 *s3, uint64_t length, uint64_t offset)
{
    (void)s3, (void)length, (void)offset;
    return 0;
}

/* It is there when all of it is. */
static int object_flush(struct s3 *s3)
{
    struct drafter_error err = {0};
    int rc;

    if (!s3->upload)
        return 0;
    rc = multipart_finish(s3->upload, &err);
    if (rc)
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s", err.message);
    multipart_free(s3->upload);
    s3->upload = NULL;
    return rc;
}

static int object_extent(struct s3 *s3, uint64_t offset, uint64_t length,
                         enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    (void)s3, (void)offset;
    *ret_kind = DRAFTER_EXTENT_DATA;
    *ret_length = length;
    return 0;
}

static void object_close(struct s3 *s3)
{
    multipart_free(s3->upload);
    s3->upload = NULL;
}

const struct s3_form s3_object = {
    .open = object_open,
    .pread = object_read,
    .pwrite = object_write,
    .flush = object_flush,
    .zero = object_zero,
    .trim = object_trim,
    .extent = object_extent,
    .close = object_close,
};

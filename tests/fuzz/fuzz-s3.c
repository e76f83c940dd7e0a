/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an S3 server answers, to somebody who loads a device, reads it, commits and sweeps.  The first
 * byte of each answer says how it is made: the bytes as they are, an object with those bytes as its
 * content (so that what is behind the checks is reached), or a failure.
 */
#include "volume.h"

#include "util/cleanup.h"
#include <sodium.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct http {
    const uint8_t *data;
    size_t left;
    unsigned requests;
};

/* The next piece of input: a kind, a length, that many bytes. */
static size_t take(struct http *http, uint8_t *kind, const uint8_t **ret_bytes)
{
    size_t length;

    *ret_bytes = (const uint8_t *)"";
    if (http->left < 3)
        return 0;
    *kind = http->data[0];
    length = (size_t)http->data[1] | (size_t)http->data[2] << 8;
    http->data += 3;
    http->left -= 3;
    length = length < http->left ? length : http->left;
    *ret_bytes = http->data;
    http->data += length;
    http->left -= length;
    return length;
}

static void answer_object(const uint8_t *bytes, size_t length, enum codec_kind kind,
                          struct http_response *response)
{
    struct codec codec;
    uint8_t hash[CODEC_HASH];

    codec_init(&codec, 0, NULL);
    codec_hash(bytes, length, hash);
    response->body = malloc(codec_bound(length) + 1);
    response->length = (size_t)codec_encode(&codec, kind, 0, bytes, length, hash, response->body);
    response->body[response->length] = '\0';
}

int http_send(struct http *http, const struct http_request *request, struct http_response *response)
{
    const uint8_t *bytes;
    uint8_t kind = 0;
    bool empty = http->left < 3;
    size_t length = take(http, &kind, &bytes);

    memset(response, 0, sizeof *response);
    if (++http->requests > 200 || (empty && strcmp(request->method, "GET") == 0))
        return -EIO;
    snprintf(response->etag, sizeof response->etag, "\"%u\"", kind >> 4);
    switch (kind & 7) {
    case 0:
        answer_object(bytes, length, CODEC_ROOT, response);
        return 0;
    case 1:
        answer_object(bytes, length, CODEC_INDEX, response);
        return 0;
    case 2:
        return -(kind & 8 ? ENOENT : ESTALE);
    case 3:
        return -(kind & 8 ? ENOSYS : EIO);
    default:
        response->body = malloc(length + 1);
        memcpy(response->body, bytes, length);
        response->body[length] = '\0';
        response->length = length;
        return 0;
    }
}

void http_response_release(struct http_response *response)
{
    free(response->body);
    response->body = NULL;
    response->length = 0;
}

static void use(struct volume *volume)
{
    uint64_t last = volume->blocks ? volume->blocks - 1 : 0;
    cleanup_free uint8_t *content = calloc(1, volume->block_size);
    struct volume_upload upload;
    struct drafter_error err = {0};
    unsigned deleted;

    if (!content || volume->blocks == 0)
        return;
    volume_get(volume, 0, content);
    volume_get(volume, last, content);
    content[0] = 1;
    if (volume_prepare(volume, last, content, &upload) == 0)
        volume_send(volume, &upload);
    volume_commit(volume, &err);
    volume_sweep(volume, &deleted, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http http = {.data = data, .left = size};
    struct volume volume;
    struct codec codec;
    struct drafter_error err = {0};

    if (sodium_init() < 0)
        return 0;
    codec_init(&codec, 1, NULL);
    if (volume_init(&volume, &http, &codec, "b", "p/", &err) == 0 && volume_load(&volume, &err) == 0 &&
        volume.part_count < 4096)
        use(&volume);
    volume_release(&volume);
    return 0;
}

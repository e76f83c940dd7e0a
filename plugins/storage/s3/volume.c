/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks and the index in memory; the root is in volume-root.c. */
#include "volume.h"

#include "util/cleanup.h"
#include <endian.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int volume_init(struct volume *volume, struct http *http, const struct codec *codec,
                const char *bucket, const char *prefix, struct drafter_error *err)
{
    char encoded[1200];
    int n;

    memset(volume, 0, sizeof *volume);
    volume->http = http;
    volume->codec = *codec;
    randombytes_buf(volume->writer, sizeof volume->writer);
    volume->session = randombytes_random() | 1;
    pthread_mutex_init(&volume->commit, NULL);
    pthread_mutex_init(&volume->lock, NULL);
    n = snprintf(volume->prefix, sizeof volume->prefix, "%s", prefix);
    if (n < 0 || (size_t)n >= sizeof volume->prefix ||
        sign_encode(prefix, 1, encoded, sizeof encoded) < 0 ||
        (n = snprintf(volume->bucket_path, sizeof volume->bucket_path, "/%s", bucket)) < 0 ||
        (size_t)n >= sizeof volume->bucket_path)
        return drafter_error_set(err, ENAMETOOLONG, "s3: bucket or prefix is too long");
    snprintf(volume->base, sizeof volume->base, "/%s/%s", bucket, encoded);
    return 0;
}

static void forget_parts(struct volume *volume)
{
    for (uint32_t i = 0; i < volume->part_count; i++)
        free(volume->parts[i]);
    free(volume->parts);
    free(volume->part_entries);
    volume->parts = NULL;
    volume->part_entries = NULL;
    volume->part_count = 0;
}

void volume_release(struct volume *volume)
{
    forget_parts(volume);
    free(volume->garbage);
    codec_wipe(&volume->codec);
    pthread_mutex_destroy(&volume->commit);
    pthread_mutex_destroy(&volume->lock);
}

int volume_path(const struct volume *volume, char kind, uint64_t place,
                const struct volume_entry *entry, char *path, size_t size)
{
    int n = entry ? snprintf(path, size, "%s%c/%016" PRIx64 "-%016" PRIx64, volume->base, kind, place,
                             entry->serial)
                  : snprintf(path, size, "%sroot", volume->base);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int volume_enlarge(struct volume *volume, uint64_t size, struct drafter_error *err)
{
    uint64_t blocks = (size + volume->block_size - 1) / volume->block_size;
    uint64_t count = (blocks + VOLUME_PART - 1) / VOLUME_PART;
    struct volume_part **parts;
    struct volume_entry *entries;

    if (size > INT64_MAX || count > UINT32_MAX / sizeof *entries)
        return drafter_error_set(err, EFBIG, "s3: %" PRIu64 " bytes are too many", size);
    parts = realloc(volume->parts, (count + 1) * sizeof *parts);
    if (parts)
        volume->parts = parts;
    entries = realloc(volume->part_entries, (count + 1) * sizeof *entries);
    if (entries)
        volume->part_entries = entries;
    if (!parts || !entries)
        return drafter_error_set(err, ENOMEM, "s3: no memory for the index");
    for (uint32_t i = volume->part_count; i < count; i++) {
        parts[i] = NULL;
        memset(&entries[i], 0, sizeof entries[i]);
    }
    volume->part_count = (uint32_t)count;
    volume->blocks = blocks;
    volume->size = size;
    return 0;
}

int volume_make(struct volume *volume, uint64_t size, uint32_t block_size, struct drafter_error *err)
{
    forget_parts(volume);
    volume->garbage_count = 0;
    volume->block_size = block_size;
    volume->committed = false;
    return volume_enlarge(volume, size, err);
}

size_t volume_length(const struct volume *volume, uint64_t block)
{
    uint64_t left = volume->size - block * volume->block_size;

    return left < volume->block_size ? (size_t)left : volume->block_size;
}

/* ---- objects ---------------------------------------------------------------------------------- */

static int get_object(struct volume *volume, enum codec_kind kind, uint64_t place,
                      const struct volume_entry *entry, void *content, size_t size)
{
    struct http_response response;
    char path[1600];
    struct http_request request = {.method = "GET", .path = path, .limit = codec_bound(size)};
    int64_t n;
    int rc = volume_path(volume, kind == CODEC_BLOCK ? 'b' : 'i', place, entry, path, sizeof path);

    if (rc)
        return rc;
    rc = http_send(volume->http, &request, &response);
    if (rc == 0) {
        n = codec_decode(&volume->codec, kind, place, entry->hash, response.body, response.length,
                         content, size);
        rc = n < 0 ? (int)n : 0;
        if (!rc) /* the device was shorter when its last block was put */
            memset((char *)content + n, 0, size - (size_t)n);
    }
    if (rc)
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s: %s", path,
                    rc == -EBADMSG  ? "its content is not what was put there"
                    : rc == -ENOENT ? "it is gone, though the index names it"
                                    : response.message);
    http_response_release(&response);
    return rc;
}

int volume_put(struct volume *volume, char kind, uint64_t place, const struct volume_entry *entry,
               const void *object, size_t length)
{
    struct http_response response;
    char path[1600];
    struct http_request request = {
        .method = "PUT", .path = path, .body = object, .length = length, .limit = 65536};
    int rc = volume_path(volume, kind, place, entry, path, sizeof path);

    if (rc)
        return rc;
    rc = http_send(volume->http, &request, &response);
    if (rc)
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s: cannot be written: %s%s%s", path, response.code,
                    *response.code ? ": " : "", response.message);
    http_response_release(&response);
    return rc;
}

/* ---- the index -------------------------------------------------------------------------------- */

/* The part's entries, read when they are first needed.  Under the lock. */
static int need_part(struct volume *volume, uint32_t number, struct volume_part **ret_part)
{
    struct volume_part *part = volume->parts[number];
    int rc = 0;

    if (!part) {
        part = calloc(1, sizeof *part);
        if (!part)
            return -ENOMEM;
        if (volume->part_entries[number].serial)
            rc = get_object(volume, CODEC_INDEX, number, &volume->part_entries[number], part->entries,
                            sizeof part->entries);
        if (rc) {
            free(part);
            return rc == -ENOENT ? -EIO : rc;
        }
        volume->parts[number] = part;
    }
    *ret_part = part;
    return 0;
}

int volume_find(struct volume *volume, uint64_t block, struct volume_entry *ret_entry)
{
    struct volume_part *part;
    int rc;

    lock_scope(&volume->lock);
    rc = need_part(volume, (uint32_t)(block / VOLUME_PART), &part);
    if (!rc)
        *ret_entry = part->entries[block % VOLUME_PART];
    return rc;
}

/* Under the lock. */
int volume_discard(struct volume *volume, char kind, uint64_t place, const struct volume_entry *entry)
{
    if (!entry->serial)
        return 0;
    if (volume->garbage_count == volume->garbage_room) {
        size_t room = volume->garbage_room ? 2 * volume->garbage_room : 64;
        void *more = realloc(volume->garbage, room * sizeof *volume->garbage);

        if (!more)
            return -ENOMEM; /* the next writer's sweep finds it */
        volume->garbage = more;
        volume->garbage_room = room;
    }
    volume->garbage[volume->garbage_count++] =
        (struct volume_object){.kind = kind, .place = place, .entry = *entry};
    return 0;
}

static int note(struct volume *volume, uint64_t block, const struct volume_entry *entry)
{
    struct volume_part *part;
    struct volume_entry *slot;
    int rc;

    lock_scope(&volume->lock);
    rc = need_part(volume, (uint32_t)(block / VOLUME_PART), &part);
    if (rc)
        return rc;
    slot = &part->entries[block % VOLUME_PART];
    volume_discard(volume, 'b', block * volume->block_size, slot);
    *slot = *entry;
    part->changed = true;
    return 0;
}

/* Replaced, but not by a root yet. */
static bool is_garbage(struct volume *volume, const struct volume_object *object)
{
    lock_scope(&volume->lock);
    for (size_t i = 0; i < volume->garbage_count; i++)
        if (volume->garbage[i].kind == object->kind &&
            volume->garbage[i].entry.serial == object->entry.serial)
            return true;
    return false;
}

static bool in_index(struct volume *volume, const struct volume_object *object)
{
    uint64_t block = object->place / volume->block_size;
    struct volume_entry entry;

    if (object->kind == 'i') {
        lock_scope(&volume->lock);
        return object->place < volume->part_count &&
               volume->part_entries[object->place].serial == object->entry.serial;
    }
    if (block >= volume->blocks)
        return false;
    /* What cannot be known is not called unused. */
    return volume_find(volume, block, &entry) || entry.serial == object->entry.serial;
}

bool volume_uses(struct volume *volume, const struct volume_object *object)
{
    lock_scope(&volume->commit); /* a commit has the garbage in its hands until the root is replaced */
    return in_index(volume, object) || is_garbage(volume, object);
}

/* ---- blocks ----------------------------------------------------------------------------------- */

int volume_fetch(struct volume *volume, uint64_t block, const struct volume_entry *entry, void *content)
{
    if (!entry->serial) {
        memset(content, 0, volume_length(volume, block));
        return 0;
    }
    return get_object(volume, CODEC_BLOCK, block * volume->block_size, entry, content,
                      volume_length(volume, block));
}

int volume_get(struct volume *volume, uint64_t block, void *content)
{
    struct volume_entry entry;
    int rc = volume_find(volume, block, &entry);

    return rc ? rc : volume_fetch(volume, block, &entry, content);
}

static void new_entry(struct volume *volume, const void *content, size_t length,
                      struct volume_entry *entry)
{
    codec_hash(content, length, entry->hash);
    entry->serial = (uint64_t)volume->session << 32 | randombytes_random();
}

int volume_prepare(struct volume *volume, uint64_t block, const void *content,
                   struct volume_upload *ret_upload)
{
    struct volume_upload upload = {.block = block};
    size_t length = volume_length(volume, block);
    struct volume_entry now;
    int64_t n;
    int rc = volume_find(volume, block, &now);

    if (rc)
        return rc;
    if (!sodium_is_zero(content, length))
        new_entry(volume, content, length, &upload.entry);
    upload.same = !now.serial == !upload.entry.serial &&
                  memcmp(now.hash, upload.entry.hash, CODEC_HASH) == 0;
    if (!upload.same && upload.entry.serial) {
        upload.object = malloc(codec_bound(length));
        if (!upload.object)
            return -ENOMEM;
        n = codec_encode(&volume->codec, CODEC_BLOCK, block * volume->block_size, content, length,
                         upload.entry.hash, upload.object);
        if (n < 0) {
            free(upload.object);
            return (int)n;
        }
        upload.length = (size_t)n;
    }
    *ret_upload = upload;
    return 0;
}

int volume_send(struct volume *volume, struct volume_upload *upload)
{
    int rc = 0;

    if (upload->object)
        rc = volume_put(volume, 'b', upload->block * volume->block_size, &upload->entry, upload->object,
                        upload->length);
    if (!rc && !upload->same)
        rc = note(volume, upload->block, &upload->entry);
    free(upload->object);
    upload->object = NULL;
    return rc;
}

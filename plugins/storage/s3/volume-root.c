/* SPDX-License-Identifier: BSD-2-Clause */
/* The root of a device in a bucket: reading it, and the commit that replaces it. */
#include "volume.h"

#include "util/cleanup.h"
#include <endian.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT_MAX (64u << 20) /* two million parts: 500 TiB in blocks of 256 KiB */
#define BLOCK_MIN 4096u
#define BLOCK_MAX (64u << 20)

/* The content of the root; an entry per part follows.  Little-endian. */
struct root {
    uint64_t size;
    uint32_t block_size, parts;
    uint64_t generation;
    uint8_t writer[VOLUME_WRITER];
};

/* A root as it was found. */
struct found {
    struct root root;
    uint8_t *content; /* the root and its entries; the caller frees it */
    uint8_t hash[CODEC_HASH];
    char etag[HTTP_ETAG_MAX];
};

static int parse_root(struct found *found, size_t length, struct drafter_error *err)
{
    struct root *root = &found->root;
    uint64_t blocks, parts;

    if (length < sizeof *root)
        return drafter_error_set(err, EBADMSG, "s3: the root of the device is too short");
    memcpy(root, found->content, sizeof *root);
    if (root->size > INT64_MAX || root->block_size < BLOCK_MIN || root->block_size > BLOCK_MAX ||
        root->block_size & (root->block_size - 1))
        return drafter_error_set(err, EBADMSG, "s3: the root of the device makes no sense");
    blocks = (root->size + root->block_size - 1) / root->block_size;
    parts = (blocks + VOLUME_PART - 1) / VOLUME_PART;
    if (parts != root->parts || length - sizeof *root != parts * sizeof(struct volume_entry))
        return drafter_error_set(err, EBADMSG, "s3: the root of the device has a wrong length");
    return 0;
}

static int decode_root(const struct volume *volume, const struct http_response *response,
                       struct found *found, struct drafter_error *err)
{
    size_t claimed = codec_claimed(response->body, response->length);
    int64_t n = -EBADMSG;

    if (claimed <= ROOT_MAX) {
        found->content = malloc(claimed + 1);
        if (!found->content)
            return drafter_error_set(err, ENOMEM, "s3: no memory for the root of the device");
        n = codec_decode(&volume->codec, CODEC_ROOT, 0, NULL, response->body, response->length,
                         found->content, claimed);
    }
    if (n < 0)
        return drafter_error_set(err, EBADMSG,
                                 "s3: %sroot: not the root of a device, damaged, or encrypted with "
                                 "another key",
                                 volume->prefix);
    codec_hash(found->content, (size_t)n, found->hash);
    snprintf(found->etag, sizeof found->etag, "%s", response->etag);
    return parse_root(found, (size_t)n, err);
}

static int get_root(struct volume *volume, struct found *found, struct drafter_error *err)
{
    struct http_response response = {0};
    char path[1600];
    struct http_request request = {.method = "GET", .path = path, .limit = ROOT_MAX};
    int rc = volume_path(volume, 'r', 0, NULL, path, sizeof path);

    memset(found, 0, sizeof *found);
    if (!rc)
        rc = http_send(volume->http, &request, &response);
    if (rc)
        drafter_error_set(err, -rc, "s3: %sroot: %s%s%s", volume->prefix, response.code,
                          *response.code ? ": " : "", response.message);
    else
        rc = decode_root(volume, &response, found, err);
    http_response_release(&response);
    return rc;
}

int volume_load(struct volume *volume, struct drafter_error *err)
{
    struct found found;
    int rc = get_root(volume, &found, err);

    if (!rc)
        rc = volume_make(volume, found.root.size, found.root.block_size, err);
    if (!rc) {
        memcpy(volume->etag, found.etag, sizeof volume->etag);
        volume->generation = found.root.generation;
        memcpy(volume->part_entries, found.content + sizeof found.root,
               found.root.parts * sizeof *volume->part_entries);
    }
    free(found.content);
    return rc;
}

/*
 * Looks at a root that is not as we left it.  *ret_done: it is the one we just wrote, unheard.  0
 * without: it is ours all the same, from an attempt that failed before it was heard; -ESTALE: it is not.
 */
static int compare_root(struct volume *volume, const uint8_t hash[CODEC_HASH], bool *ret_done)
{
    struct found found;
    int rc = get_root(volume, &found, NULL);

    *ret_done = false;
    if (rc == -ENOENT && !*volume->etag)
        return 0;
    if (rc == 0 && memcmp(found.root.writer, volume->writer, VOLUME_WRITER) == 0 &&
        found.root.generation == volume->generation + 1) {
        *ret_done = memcmp(found.hash, hash, CODEC_HASH) == 0;
        memcpy(volume->etag, found.etag, sizeof volume->etag);
    } else if (rc == 0 && strcmp(found.etag, volume->etag) != 0) {
        rc = -ESTALE;
    }
    free(found.content);
    return rc;
}

int volume_check_root(struct volume *volume)
{
    static const uint8_t nothing[CODEC_HASH];
    bool done;

    lock_scope(&volume->commit);
    return compare_root(volume, nothing, &done);
}

/* ---- commit ----------------------------------------------------------------------------------- */

static int put_part(struct volume *volume, uint32_t number, const struct volume_entry *entries,
                    struct volume_entry *ret_entry)
{
    size_t length = VOLUME_PART * sizeof *entries;
    cleanup_free uint8_t *object = malloc(codec_bound(length));
    int64_t n;

    if (!object)
        return -ENOMEM;
    codec_hash(entries, length, ret_entry->hash);
    ret_entry->serial = (uint64_t)volume->session << 32 | randombytes_random();
    n = codec_encode(&volume->codec, CODEC_INDEX, number, entries, length, ret_entry->hash, object);
    return n < 0 ? (int)n : volume_put(volume, 'i', number, ret_entry, object, (size_t)n);
}

/* A copy of the part if it changed; false otherwise. */
static bool take_part(struct volume *volume, uint32_t number, struct volume_entry *copy)
{
    struct volume_part *part;

    lock_scope(&volume->lock);
    part = volume->parts[number];
    if (!part || !part->changed)
        return false;
    part->changed = false;
    memcpy(copy, part->entries, sizeof part->entries);
    return true;
}

static void give_back_part(struct volume *volume, uint32_t number)
{
    lock_scope(&volume->lock);
    volume->parts[number]->changed = true;
}

/* Sends the parts that changed; `entries` gets what the new root will say. */
static int put_parts(struct volume *volume, struct volume_entry *entries)
{
    cleanup_free struct volume_entry *copy = malloc(VOLUME_PART * sizeof *copy);
    int rc = copy ? 0 : -ENOMEM;

    for (uint32_t i = 0; !rc && i < volume->part_count; i++) {
        if (!take_part(volume, i, copy))
            continue;
        rc = put_part(volume, i, copy, &entries[i]);
        if (rc)
            give_back_part(volume, i);
    }
    return rc;
}

struct encoded_root {
    uint8_t *object;
    size_t length;
    uint64_t size; /* of the device */
    uint8_t hash[CODEC_HASH];
};

static int encode_root(struct volume *volume, const struct volume_entry *entries,
                       struct encoded_root *ret_encoded)
{
    size_t length = sizeof(struct root) + volume->part_count * sizeof *entries;
    cleanup_free uint8_t *content = malloc(length);
    uint8_t *object = malloc(codec_bound(length));
    struct root root = {.size = volume->size, .block_size = volume->block_size,
                        .parts = volume->part_count, .generation = volume->generation + 1};
    int64_t n;

    memcpy(root.writer, volume->writer, sizeof root.writer);
    if (!content || !object) {
        free(object);
        return -ENOMEM;
    }
    memcpy(content, &root, sizeof root);
    memcpy(content + sizeof root, entries, volume->part_count * sizeof *entries);
    codec_hash(content, length, ret_encoded->hash);
    n = codec_encode(&volume->codec, CODEC_ROOT, 0, content, length, ret_encoded->hash, object);
    if (n < 0) {
        free(object);
        return (int)n;
    }
    ret_encoded->object = object;
    ret_encoded->length = (size_t)n;
    ret_encoded->size = root.size;
    return 0;
}

/* As the server wants it in If-Match. */
static const char *condition(const struct volume *volume, char text[HTTP_ETAG_MAX])
{
    size_t n = strlen(volume->etag);

    if (!volume->bare_etag || n < 2 || *volume->etag != '"')
        return volume->etag;
    snprintf(text, HTTP_ETAG_MAX, "%.*s", (int)n - 2, volume->etag + 1);
    return text;
}

static int put_root_once(struct volume *volume, const struct encoded_root *encoded,
                         struct http_response *response)
{
    char path[1600], etag[HTTP_ETAG_MAX];
    struct http_request request = {.method = "PUT", .path = path, .body = encoded->object,
                                   .length = encoded->length, .limit = 65536};
    int rc = volume_path(volume, 'r', 0, NULL, path, sizeof path);

    http_response_release(response);
    if (rc)
        return rc;
    if (!volume->unconditional) {
        request.if_absent = !*volume->etag;
        request.if_match = *volume->etag ? condition(volume, etag) : NULL;
    }
    rc = http_send(volume->http, &request, response);
    if (rc == 0)
        snprintf(volume->etag, sizeof volume->etag, "%s", response->etag);
    if (rc == -ENOSYS && !volume->unconditional) {
        drafter_log(DRAFTER_LOG_WARNING, "s3",
                    "the server knows no conditional PUT: two writers of one prefix are noticed, but "
                    "not in every case");
        volume->unconditional = true;
    }
    return rc;
}

/*
 * A condition did not hold, or the server knows none: what is there decides.  Where it is what the condition
 * named, the server compares in another way: radosgw (Ceph 16) sees If-Match of PUT only without quotes.
 */
static int put_root_again(struct volume *volume, const struct encoded_root *encoded,
                          struct http_response *response)
{
    for (int attempt = 0;; attempt++) {
        char etag[HTTP_ETAG_MAX];
        bool done;
        int rc;

        memcpy(etag, volume->etag, sizeof etag);
        rc = compare_root(volume, encoded->hash, &done);
        if (rc || done)
            return rc;
        if (*etag && strcmp(etag, volume->etag) == 0)
            volume->bare_etag = !volume->bare_etag;
        rc = put_root_once(volume, encoded, response);
        if ((rc != -ESTALE && rc != -ENOSYS) || attempt == 2)
            return rc;
    }
}

static int put_root(struct volume *volume, const struct encoded_root *encoded,
                    struct drafter_error *err)
{
    struct http_response response = {0};
    int rc = volume->unconditional ? -ESTALE : put_root_once(volume, encoded, &response);

    if (rc == -ESTALE || rc == -ENOSYS)
        rc = put_root_again(volume, encoded, &response);
    if (rc == -ESTALE)
        drafter_error_set(err, ESTALE, "s3: %sroot: another writer has taken this device over",
                          volume->prefix);
    else if (rc)
        drafter_error_set(err, -rc, "s3: %sroot: cannot be written: %s%s%s", volume->prefix,
                          response.code, *response.code ? ": " : "", response.message);
    http_response_release(&response);
    return rc;
}

/* What was replaced before this commit began, so that nothing since needs it. */
static struct volume_object *take_garbage(struct volume *volume, size_t *ret_count)
{
    lock_scope(&volume->lock);
    *ret_count = volume->garbage_count;
    volume->garbage_count = volume->garbage_room = 0;
    return steal(&volume->garbage);
}

static void give_back_garbage(struct volume *volume, const struct volume_object *garbage, size_t count)
{
    lock_scope(&volume->lock);
    for (size_t i = 0; i < count; i++)
        volume_discard(volume, garbage[i].kind, garbage[i].place, &garbage[i].entry);
}

/* `entries` gets what the root before had. */
static void switch_to(struct volume *volume, struct volume_entry *entries)
{
    lock_scope(&volume->lock);
    for (uint32_t i = 0; i < volume->part_count; i++) {
        struct volume_entry old = volume->part_entries[i];

        volume->part_entries[i] = entries[i];
        entries[i] = old;
    }
    volume->generation++;
}

/* Nothing needs it any more: blocks that were replaced, and parts of the index. */
static void delete_replaced(struct volume *volume, const struct volume_entry *old,
                            const struct volume_object *garbage, size_t count)
{
    cleanup_free struct volume_object *objects = malloc((count + volume->part_count + 1) * sizeof *objects);

    if (!objects)
        return; /* the next writer's sweep finds it */
    if (count)
        memcpy(objects, garbage, count * sizeof *objects);
    for (uint32_t i = 0; i < volume->part_count; i++)
        if (old[i].serial && old[i].serial != volume->part_entries[i].serial)
            objects[count++] = (struct volume_object){.kind = 'i', .place = i, .entry = old[i]};
    volume_delete_all(volume, objects, count);
}

/* A commit that failed: the parts that were sent in vain are sent again by the next one. */
static void take_back(struct volume *volume, const struct volume_entry *entries)
{
    lock_scope(&volume->lock);
    for (uint32_t i = 0; i < volume->part_count; i++) {
        if (entries[i].serial == volume->part_entries[i].serial)
            continue;
        volume_discard(volume, 'i', i, &entries[i]);
        volume->parts[i]->changed = true;
    }
}

/* Does the bucket have all that there is? */
static bool is_committed(struct volume *volume)
{
    lock_scope(&volume->lock);
    for (uint32_t i = 0; i < volume->part_count; i++)
        if (volume->parts[i] && volume->parts[i]->changed)
            return false;
    return volume->committed && volume->committed_size == volume->size;
}

int volume_commit(struct volume *volume, struct drafter_error *err)
{
    cleanup_free struct volume_entry *entries = NULL;
    cleanup_free struct volume_object *garbage = NULL;
    struct encoded_root encoded = {0};
    size_t count;
    int rc;

    lock_scope(&volume->commit);
    if (is_committed(volume))
        return 0;
    entries = malloc((volume->part_count + 1) * sizeof *entries);
    if (!entries)
        return drafter_error_set(err, ENOMEM, "s3: no memory");
    memcpy(entries, volume->part_entries, volume->part_count * sizeof *entries);
    garbage = take_garbage(volume, &count);
    rc = put_parts(volume, entries);
    if (rc)
        drafter_error_errno(err, -rc, "s3: %s: the index cannot be written", volume->prefix);
    if (!rc && (rc = encode_root(volume, entries, &encoded)))
        drafter_error_errno(err, -rc, "s3: %s: the root cannot be made", volume->prefix);
    if (!rc)
        rc = put_root(volume, &encoded, err);
    free(encoded.object);
    if (rc) {
        take_back(volume, entries);
        give_back_garbage(volume, garbage, count);
        return rc;
    }
    switch_to(volume, entries);
    volume->committed = true;
    volume->committed_size = encoded.size;
    delete_replaced(volume, entries, garbage, count);
    return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is in an image before any of it is unpacked: whom files belong to, and how large it gets.
 * The layout is one that skopeo made, with one image and every blob checked; what is in the blobs
 * is anybody's.
 */
#include "image/image.h"

#include "pack/libarchive.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"

#include <string.h>
#include <sys/stat.h>

#define JSON_MAX (4u << 20) /* bytes */
#define LAYERS_MAX 512
#define CHECK_EVERY 1024 /* entries */

struct scan {
    struct image_job *job;
    struct owners *owners;
    uint64_t size;
    const char *digest; /* of the layer */
};

int image_read_json(const char *path, json_t **ret_object, struct drafter_error *err)
{
    cleanup_free char *text = NULL;
    json_error_t error;
    size_t length;
    int rc = io_read_file(path, JSON_MAX, &text, &length, err);

    if (rc)
        return rc;
    *ret_object = json_loadb(text, length, 0, &error);
    if (!*ret_object)
        return drafter_error_set(err, EINVAL, "%s:%d: no JSON: %s", path, error.line, error.text);
    if (!json_is_object(*ret_object))
        return drafter_error_set(err, EINVAL, "%s: no object", path);
    return 0;
}

/* A digest becomes part of a path, so it must be nothing but one. */
static int blob_path(const char *layout, const char *digest, char **ret_path, struct drafter_error *err)
{
    const char *hex = digest && !strncmp(digest, "sha256:", 7) ? digest + 7 : "";

    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
        return drafter_error_set(err, EINVAL, "the image names a blob by no SHA-256 digest");
    if (asprintf(ret_path, "%s/blobs/sha256/%s", layout, hex) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return 0;
}

static const char *digest_of(const json_t *descriptor)
{
    return json_string_value(json_object_get(descriptor, "digest"));
}

static int read_manifest(const char *layout, json_t **ret_manifest, struct drafter_error *err)
{
    cleanup_free char *index_path = image_path(layout, "index.json"), *path = NULL;
    cleanup_json json_t *index = NULL;
    const json_t *manifests;
    int rc;

    if (!index_path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = image_read_json(index_path, &index, err);
    if (rc)
        return rc;
    manifests = json_object_get(index, "manifests");
    if (json_array_size(manifests) != 1)
        return drafter_error_set(err, EINVAL, "the image's index names %zu images",
                                 json_array_size(manifests));
    rc = blob_path(layout, digest_of(json_array_get(manifests, 0)), &path, err);
    return rc ? rc : image_read_json(path, ret_manifest, err);
}

static void take_capability(struct archive_entry *entry, struct owner *owner)
{
    const char *name;
    const void *value;
    size_t size;

    libarchive()->entry_xattr_reset(entry);
    while (libarchive()->entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        if (strcmp(name, "security.capability") != 0 || size > OWNER_CAPABILITY_MAX)
            continue;
        memcpy(owner->capability, value, size);
        owner->capability_length = (uint8_t)size;
    }
}

static int take_entry(struct scan *scan, struct archive_entry *entry, struct drafter_error *err)
{
    const char *path = libarchive()->entry_pathname(entry);
    const int64_t uid = libarchive()->entry_uid(entry), gid = libarchive()->entry_gid(entry);
    struct owner owner = {.uid = (uint32_t)uid, .gid = (uint32_t)gid, .mode = -1};
    const mode_t type = libarchive()->entry_filetype(entry);

    if (!path)
        return drafter_error_set(err, EINVAL, "an entry without a path");
    if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return drafter_error_set(err, EINVAL, "an owner that cannot be");
    owner.is_device = type == AE_IFCHR || type == AE_IFBLK;
    take_capability(entry, &owner);
    if (type == AE_IFREG && !libarchive()->entry_hardlink(entry) && libarchive()->entry_size(entry) > 0 &&
        __builtin_add_overflow(scan->size, (uint64_t)libarchive()->entry_size(entry), &scan->size))
        scan->size = UINT64_MAX;
    if (scan->size > scan->job->options.max_size)
        return drafter_error_set(err, EFBIG, "unpacked it is larger than --max-size, %llu bytes",
                                 (unsigned long long)scan->job->options.max_size);
    return owners_add(scan->owners, &owner, path, err);
}

static int scan_entries(struct scan *scan, struct archive *archive, struct drafter_error *err)
{
    for (unsigned count = 1;; count++) {
        struct archive_entry *entry;
        int rc = libarchive()->read_next_header(archive, &entry);

        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc < ARCHIVE_WARN)
            return drafter_error_set(err, EINVAL, "%s", libarchive()->error_string(archive)
                                                            ? libarchive()->error_string(archive)
                                                            : "no archive");
        rc = take_entry(scan, entry, err);
        if (!rc && count % CHECK_EVERY == 0)
            rc = image_check(scan->job, err);
        if (rc)
            return rc;
        /*
         * Some writers, umoci insert among them, pad neither the last file nor the archive.  That
         * fails here and ends there; umoci sees whether the file is all there.
         */
        libarchive()->read_data_skip(archive);
    }
}

static int scan_layer(struct scan *scan, const char *path, struct drafter_error *err)
{
    struct archive *archive = NULL;
    int rc = libarchive_open(path, true, &archive, err);

    if (!rc)
        rc = scan_entries(scan, archive, err);
    libarchive_free(archive);
    if (rc == -EBADMSG)
        return drafter_error_set(err, EINVAL, "layer %.19s is no tar archive", scan->digest);
    if (rc && rc != -ECANCELED)
        return drafter_error_wrap(err, "layer %.19s", scan->digest);
    return rc;
}

int image_scan_layers(struct image_job *job, const char *layout, struct owners *owners,
                      uint64_t *ret_size, struct drafter_error *err)
{
    struct scan scan = {.job = job, .owners = owners};
    cleanup_json json_t *manifest = NULL;
    const json_t *layers;
    int rc = read_manifest(layout, &manifest, err);

    if (rc)
        return rc;
    layers = json_object_get(manifest, "layers");
    if (!json_is_array(layers) || json_array_size(layers) > LAYERS_MAX)
        return drafter_error_set(err, EINVAL, "the image has no layers, or more than %d", LAYERS_MAX);
    for (size_t i = 0; !rc && i < json_array_size(layers); i++) {
        cleanup_free char *path = NULL;

        scan.digest = digest_of(json_array_get(layers, i));
        rc = blob_path(layout, scan.digest, &path, err);
        if (!rc)
            rc = scan_layer(&scan, path, err);
    }
    owners_sort(owners);
    if (!rc)
        *ret_size = scan.size;
    return rc;
}

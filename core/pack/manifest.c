/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/manifest.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <sodium.h>
#include <string.h>

#define FORMAT_VERSION 1

bool pack_name_valid(const char *name)
{
    size_t length = strlen(name);

    if (!length || length > DRAFTER_NAME_MAX || *name == '.')
        return false;
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at <= 0x20 || *at == 0x7f || *at == '/' || *at == '\\')
            return false;
    return true;
}

static json_t *encode_device(const struct pack_device *device)
{
    char hash[2 * PACK_HASH_SIZE + 1];

    sodium_bin2hex(hash, sizeof(hash), device->table_hash, PACK_HASH_SIZE);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "name", device->name, "size",
                     (json_int_t)device->size, "offset", (json_int_t)device->offset, "headerSize",
                     (json_int_t)device->header_size, "frames", (json_int_t)device->frames, "table",
                     (json_int_t)device->table, "tableSize", (json_int_t)device->table_size,
                     "tableBlake2b", hash);
}

char *pack_manifest_encode(const struct pack_manifest *manifest)
{
    cleanup_json json_t *object = NULL;
    json_t *devices = json_array();

    for (unsigned i = 0; devices && i < manifest->device_count; i++)
        json_array_append_new(devices, encode_device(&manifest->devices[i]));
    object = json_pack("{s:i, s:I, s:i, s:s, s:o}", "format", FORMAT_VERSION, "frameSize",
                       (json_int_t)manifest->frame_size, "level", manifest->level, "zstd",
                       manifest->zstd, "devices", devices);
    if (object && manifest->vm)
        json_object_set(object, "vm", manifest->vm);
    return object ? json_text(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

static int take(const json_t *object, const char *key, uint64_t minimum, uint64_t maximum,
                uint64_t *ret_value, struct drafter_error *err)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || (uint64_t)number < minimum ||
        (uint64_t)number > maximum)
        return drafter_error_set(err, EINVAL, "manifest: \"%s\" is missing or out of range", key);
    *ret_value = (uint64_t)number;
    return 0;
}

static int take32(const json_t *object, const char *key, uint32_t minimum, uint32_t maximum,
                  uint32_t *ret_value, struct drafter_error *err)
{
    uint64_t value;
    int rc = take(object, key, minimum, maximum, &value, err);

    if (!rc)
        *ret_value = (uint32_t)value;
    return rc;
}

/* A frame of data takes at least what an empty one does, so a table is never much larger than a file. */
static int decode_device(const json_t *object, struct pack_device *device, struct drafter_error *err)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    const char *hash = json_string_value(json_object_get(object, "tableBlake2b"));
    size_t length;

    if (!name || !pack_name_valid(name))
        return drafter_error_set(err, EINVAL, "manifest: a device has no name, or none that can be");
    if (!hash || sodium_hex2bin(device->table_hash, PACK_HASH_SIZE, hash, strlen(hash), NULL,
                                &length, NULL) || length != PACK_HASH_SIZE)
        return drafter_error_set(err, EINVAL, "manifest: device %s has no hash", name);
    memcpy(device->name, name, strlen(name) + 1);
    if (take(object, "size", 0, INT64_MAX / 2, &device->size, err) ||
        take(object, "offset", 0, INT64_MAX / 2, &device->offset, err) ||
        take(object, "table", 0, INT64_MAX / 2, &device->table, err) ||
        take32(object, "headerSize", 1, 2 * PACK_BLOCK, &device->header_size, err) ||
        take32(object, "tableSize", 1, UINT32_MAX, &device->table_size, err) ||
        take32(object, "frames", device->size > 0, PACK_FRAMES_MAX, &device->frames, err))
        return drafter_error_wrap(err, "device %s", name);
    return 0;
}

static int decode_devices(const json_t *array, struct pack_manifest *manifest,
                          struct drafter_error *err)
{
    if (!json_is_array(array) || json_array_size(array) > PACK_DEVICES_MAX)
        return drafter_error_set(err, EINVAL, "manifest: no devices, or more than %d",
                                 PACK_DEVICES_MAX);
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct pack_device *device = &manifest->devices[i];
        int rc = decode_device(json_array_get(array, i), device, err);

        if (rc)
            return rc;
        if (pack_manifest_find(manifest, device->name))
            return drafter_error_set(err, EINVAL, "manifest: two devices %s", device->name);
        manifest->device_count++;
    }
    return 0;
}

static int decode(json_t *object, struct pack_manifest *manifest, struct drafter_error *err)
{
    const char *zstd = json_string_value(json_object_get(object, "zstd"));
    uint64_t format;

    if (take(object, "format", 1, UINT32_MAX, &format, err))
        return -EINVAL;
    if (format != FORMAT_VERSION)
        return drafter_error_set(err, EINVAL, "manifest: format %llu, this drafter knows %d",
                                 (unsigned long long)format, FORMAT_VERSION);
    if (take32(object, "frameSize", PACK_FRAME_MIN, PACK_FRAME_MAX, &manifest->frame_size, err))
        return -EINVAL;
    if (manifest->frame_size & (manifest->frame_size - 1))
        return drafter_error_set(err, EINVAL, "manifest: frameSize is no power of two");
    manifest->level = (int)json_integer_value(json_object_get(object, "level"));
    snprintf(manifest->zstd, sizeof(manifest->zstd), "%s", zstd ? zstd : "");
    return decode_devices(json_object_get(object, "devices"), manifest, err);
}

int pack_manifest_decode(const char *text, size_t length, struct pack_manifest *ret_manifest,
                         struct drafter_error *err)
{
    cleanup_free struct pack_manifest *manifest = calloc(1, sizeof(*manifest));
    cleanup_json json_t *object = NULL;
    json_error_t error;
    int rc;

    if (!manifest)
        return drafter_error_set(err, ENOMEM, "out of memory");
    object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object))
        return drafter_error_set(err, EINVAL, "manifest: no JSON object: %s",
                                 object ? "wrong type" : error.text);
    rc = decode(object, manifest, err);
    if (rc)
        return rc;
    manifest->vm = json_incref(json_object_get(object, "vm"));
    *ret_manifest = *manifest;
    return 0;
}

void pack_manifest_release(struct pack_manifest *manifest)
{
    json_decref(manifest->vm);
    manifest->vm = NULL;
}

const struct pack_device *pack_manifest_find(const struct pack_manifest *manifest, const char *name)
{
    for (unsigned i = 0; i < manifest->device_count; i++)
        if (!strcmp(manifest->devices[i].name, name))
            return &manifest->devices[i];
    return NULL;
}
